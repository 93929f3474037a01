//! Which rule does this packet hit? A policy, compiled so that the answer takes tens to hundreds of
//! nanoseconds, whatever the number of its rules.
//!
//! Each rule becomes boxes (`boxed`, `boxes`): products of one source range, one destination range,
//! one range of source ports (or ICMP types), one of destination ports (or codes) and a protocol.
//! Boxes are apart by family, and in each by whether they say much of their source, of their destination, or
//! of neither (EffiCuts: B. Vamanan, G. Voskuilen, T. N. Vijaykumar, SIGCOMM 2010); each group is a
//! tree (`index`) that cuts one dimension at a time at the bits where its boxes differ, by a cost
//! that weighs what is left against copies (`build`). Boxes that span many children stay with the
//! node (HyperCuts, S. Singh and others, SIGCOMM 2003). A node is a quarter of a cache line and its
//! children lie side by side: one load a level. Its boxes lie in blocks of eight (`block`), dimension
//! by dimension, which are held against a packet at once and without a branch: which of them it
//! is cannot be foreseen, and a guess that fails costs more than all eight. Neighbors whose boxes
//! are one block's together share it. What was found in one tree bounds what is looked for in the
//! next.
//!
//! Published structures reach, on one core and ClassBench's rules, 1.2 to 4.6 million lookups a
//! second at 100,000 rules (TupleMerge, CutSplit, PartitionSort); `docs/performance.md` has what
//! this one does. Limits in time are part of the answer: a rule that does not hold at the packet's
//! own time is passed over in the lookup.

mod address;
mod block;
mod boxed;
mod boxes;
mod build;
mod index;

use block::{Block, LANES};
use index::{Addresses, Rule};

pub use address::Address;
pub use boxed::{ALL_PORTS, BoxParts, Boxed, Key, Range, kind};
pub use index::{Index, NO_BOX};

use std::net::IpAddr;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::engine::naive::Entry;
use crate::packet::{Packet, Payload};
use crate::rule::Action;
use crate::time::Instant;

/// What a compilation may take, beside time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The most boxes.
    pub boxes: usize,
    /// The most memory at any moment of the compilation, its result included, in bytes.
    pub bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { boxes: 4_000_000, bytes: 128 * 1024 * 1024 }
    }
}

/// A policy needs more than its budget: the naive evaluator has to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy needs more than {} boxes, {} bytes, or the time there was", budget.boxes, budget.bytes)]
pub struct OverBudget {
    /// What it had.
    pub budget: Budget,
}

/// How many packets one processor takes at a time, at least: less is not worth another's while.
const PIECE: usize = 1_024;

/// When a rule holds.
#[derive(Debug, Clone, Copy)]
struct Times {
    order: u32,
    starts_at: Option<Instant>,
    expires_at: Option<Instant>,
}

/// A compiled policy. Answers as [`crate::engine::naive::first_match`] does, for every packet.
#[derive(Debug, Clone)]
pub struct Classifier {
    v4: Index<u32>,
    v6: Index<u128>,
    /// Of rules with limits in time, in order.
    times: Vec<Times>,
}

impl Classifier {
    /// The most memory that rules take while they are compiled, in bytes: no more than the budget, and
    /// none if they need more boxes than it has, since nothing is compiled then. Costs O(entries).
    #[must_use]
    pub fn bytes_to_compile(rules: &[Entry<'_>], budget: Budget) -> usize {
        let counted = boxes::count_all(rules, budget, &|| true);
        counted.map_or(0, |(v4, v6)| {
            let most = most_bytes::<u32>(v4).saturating_add(most_bytes::<u128>(v6));
            most.min(budget.bytes)
        })
    }

    /// Compiles rules that are in order of evaluation. Costs O(boxes × depth); no lock, no waiting.
    ///
    /// # Errors
    /// Returns [`OverBudget`] if they need more than the budget. Boxes are counted before they are
    /// made, and what is made of them is bounded while it grows.
    pub fn compile(rules: &[Entry<'_>], budget: Budget) -> Result<Self, OverBudget> {
        Self::compile_while(rules, budget, &|| true)
    }

    /// The same, as long as `goes_on` says so: it is asked at every rule and every node.
    ///
    /// # Errors
    /// As [`Self::compile`], and where it says no.
    pub fn compile_while(
        rules: &[Entry<'_>],
        budget: Budget,
        goes_on: &dyn Fn() -> bool,
    ) -> Result<Self, OverBudget> {
        let over = OverBudget { budget };
        let boxes = boxes::of(rules, budget, goes_on).ok_or(over)?;
        let times = rules
            .iter()
            .zip(0_u32..)
            .filter(|(rule, _)| rule.spec.starts_at.is_some() || rule.spec.expires_at.is_some())
            .map(|(rule, order)| Times {
                order,
                starts_at: rule.spec.starts_at,
                expires_at: rule.spec.expires_at,
            })
            .collect();
        let boxes::Boxes { v4, v6 } = boxes;
        let waiting = size_of_val(v6.as_slice());
        let v4 = {
            let index = indexed(&v4, budget.bytes.saturating_sub(waiting), goes_on).ok_or(over)?;
            drop(v4);
            index
        };
        let v6 = indexed(&v6, budget.bytes.saturating_sub(v4.bytes()), goes_on).ok_or(over)?;
        let classifier = Self { v4, v6, times };
        if classifier.bytes() > budget.bytes { Err(over) } else { Ok(classifier) }
    }

    /// The index of the first rule that matches, of those that were compiled.
    #[must_use]
    pub fn first_match(&self, packet: &Packet) -> Option<usize> {
        if self.times.is_empty() {
            self.found(packet, |key| self.v4.find(key), |key| self.v6.find(key))
        } else {
            self.first_match_among(packet, |_| true)
        }
    }

    /// The same for many packets, in their order, on all processors.
    #[must_use]
    pub fn classify_many(&self, packets: &[Packet]) -> Vec<Option<usize>> {
        let pieces = packets.par_iter().with_min_len(PIECE);
        pieces.map(|packet| self.first_match(packet)).collect()
    }

    /// Whether rules that come later are not there in places, since one hides them altogether.
    #[must_use]
    pub(crate) fn hides_others(&self, rule: u32) -> bool {
        let hides = |hiding: &[u32]| hiding.binary_search(&rule).is_ok();
        hides(&self.v4.hiding) || hides(&self.v6.hiding)
    }

    /// The index of the first rule that matches, of those that are taken; none that is not may be
    /// one that [hides others](Self::hides_others).
    #[inline]
    pub(crate) fn first_match_among(
        &self,
        packet: &Packet,
        takes: impl Fn(u32) -> bool,
    ) -> Option<usize> {
        let is_taken = |order: u32, is_timed: bool| {
            takes(order) && (!is_timed || self.is_active(order, packet.at()))
        };
        self.found(
            packet,
            |key| self.v4.find_among(key, is_taken),
            |key| self.v6.find_among(key, is_taken),
        )
    }

    /// What is found of a packet's family.
    #[inline]
    fn found(
        &self,
        packet: &Packet,
        v4: impl Fn(&Key<u32>) -> u32,
        v6: impl Fn(&Key<u128>) -> u32,
    ) -> Option<usize> {
        let (first, second, kind) = match packet.payload() {
            Payload::Ports { source, destination } => (source, destination, kind::PORTS),
            Payload::Icmp { icmp_type, icmp_code } => {
                (u16::from(icmp_type), u16::from(icmp_code), kind::ICMP)
            }
            Payload::Opaque => (0, 0, kind::OPAQUE),
        };
        let protocol = packet.protocol().0;
        let found = match (packet.source(), packet.destination()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (source, destination) = (source.to_bits(), destination.to_bits());
                v4(&Key { source, destination, first, second, protocol, kind })
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let (source, destination) = (source.to_bits(), destination.to_bits());
                v6(&Key { source, destination, first, second, protocol, kind })
            }
            // A packet's addresses are of one family.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => NO_BOX,
        };
        (found != NO_BOX).then_some(found as usize)
    }

    /// The action on a packet, of the rules that were compiled, else the default.
    #[must_use]
    pub fn verdict(&self, rules: &[Entry<'_>], default: Action, packet: &Packet) -> Action {
        let rule = self.first_match(packet).and_then(|index| rules.get(index));
        rule.map_or(default, |rule| rule.spec.action)
    }

    fn is_active(&self, order: u32, at: Instant) -> bool {
        match self.times.binary_search_by_key(&order, |it| it.order) {
            Ok(found) => self.times.get(found).is_some_and(|times| {
                times.starts_at.is_none_or(|start| start <= at)
                    && times.expires_at.is_none_or(|end| at < end)
            }),
            // Without limits.
            Err(_) => true,
        }
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes() + size_of_val(self.times.as_slice())
    }

    /// For how many boxes it has room, with all copies.
    #[must_use]
    pub fn boxes(&self) -> usize {
        (self.v4.blocks.len() + self.v6.blocks.len()) * LANES
    }
}

impl<A: Address> Index<A> {
    /// Indexes boxes that are in order of their places.
    ///
    /// # Errors
    /// Where more than the budget would be needed.
    pub fn build(boxes: &[Boxed<A>], budget: Budget) -> Result<Self, OverBudget> {
        indexed(boxes, budget.bytes, &|| true).ok_or(OverBudget { budget })
    }

    /// As [`Index::find`] for many packets, in their order, on all processors.
    #[must_use]
    pub fn find_many(&self, keys: &[Key<A>]) -> Vec<u32> {
        keys.par_iter().with_min_len(PIECE).map(|key| self.find(key)).collect()
    }
}

/// What a lane of a block takes, in bytes: a place for one box.
const LANE: usize = size_of::<Block>() / LANES;

/// How many lanes a box may have, copies and empty ones of its block included.
const LANES_PER_BOX: usize = 4;

/// What each box takes while it is indexed, in bytes, its lanes apart: itself, what is kept of it in
/// the end, its number in the lists of nodes, its part of the nodes, and a range in lists that are
/// sorted.
const fn bytes_beside_lanes<A: Address>() -> usize {
    let kept = size_of::<Rule>() + if A::IS_WIDE { size_of::<Addresses<A>>() } else { 0 };
    size_of::<Boxed<A>>() + kept + size_of::<[u32; 12]>() + size_of::<Range<A>>()
}

/// The least that so many boxes take while they are indexed, in bytes.
const fn least_bytes<A: Address>(boxes: usize) -> usize {
    boxes.saturating_mul(bytes_beside_lanes::<A>() + LANE)
}

/// The most that so many boxes take while they are indexed, in bytes.
const fn most_bytes<A: Address>(boxes: usize) -> usize {
    boxes.saturating_mul(bytes_beside_lanes::<A>() + LANES_PER_BOX * LANE)
}

/// Indexes boxes within so many bytes, those of the boxes themselves included.
fn indexed<A: Address>(
    boxes: &[Boxed<A>],
    bytes: usize,
    goes_on: &dyn Fn() -> bool,
) -> Option<Index<A>> {
    if boxes.iter().any(|boxed| boxed.order() > Rule::MAX_ORDER) {
        return None;
    }
    let for_lanes = bytes.saturating_sub(boxes.len().saturating_mul(bytes_beside_lanes::<A>()));
    let ceiling = for_lanes / LANE;
    if ceiling < boxes.len() {
        return None;
    }
    let most = boxes.len().saturating_mul(LANES_PER_BOX).max(1_024).min(ceiling);
    build::index(boxes, most, ceiling, goes_on)
}

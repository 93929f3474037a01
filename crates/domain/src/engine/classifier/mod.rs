//! The classifier: a policy, compiled so that finding the rule that a packet hits takes tens to
//! hundreds of nanoseconds, whatever the number of rules.
//!
//! Each rule becomes cuboids (`cuboid`, `cuboids`): products of one source range, one destination range,
//! one range of source ports (or ICMP types), one of destination ports (or codes) and one of
//! protocols. A rule whose product is far larger than its lists becomes pieces of a hull (`hull`); a
//! packet in a piece is looked up in the lists themselves.
//!
//! Cuboids are grouped by family, and in each family by which addresses are specific: the source, the
//! destination, or neither (EffiCuts: B. Vamanan, G. Voskuilen, T. N. Vijaykumar, SIGCOMM 2010).
//! Rules with limits in time have groups of their own if they are many. Each group is a tree
//! (`index`) that cuts one dimension at a time at the bits where its cuboids differ. The cost of a cut
//! weighs the cuboids that are left against copies (`build`). Cuboids that span many children stay with
//! the node (HyperCuts, S. Singh and others, SIGCOMM 2003).
//!
//! A node is a quarter of a cache line and its children are adjacent: one load per level. Its cuboids
//! are in blocks of eight (`block`), dimension by dimension. All eight are compared with a packet
//! at once and without a branch. Which of them matches cannot be predicted, and a misprediction
//! costs more than all eight. Neighbors whose cuboids fit into one block share it. A match in one
//! tree bounds the search in the next. Long lists of cuboids that no cut divides have tables of bits
//! (`lists`: F. Baboescu, G. Varghese, SIGCOMM 2001).
//!
//! Published structures reach, on one core and ClassBench's rules, 1.2 to 4.6 million lookups a
//! second at 100,000 rules (TupleMerge, CutSplit, PartitionSort). `docs/performance.md` has the
//! figures of this one, for ordinary and for adversarial rules; decisions 21 and 36 have the reasons.
//! Limits in time are part of the answer: a lookup passes over a rule that is not active at the
//! packet's own time, which may be in the past.

mod address;
mod block;
mod build;
mod cuboid;
mod cuboids;
mod cut;
mod hull;
mod index;
mod lists;

use block::{Block, LANES};
use build::Source;
use cuboids::{Counts, Cuboids};
use index::{Addresses, Rule};
use lists::Lists;

pub use address::Address;
pub use cuboid::{ALL_PORTS, Cuboid, CuboidParts, Key, Range, kind};
pub use index::{Index, NO_CUBOID};

use std::net::IpAddr;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use crate::engine::naive::RuleRef;
use crate::engine::port_map::PortMap;
use crate::net::PortRange;
use crate::packet::{Packet, Payload};
use crate::rule::Action;

/// The limits of a compilation, except for time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// The most cuboids.
    pub cuboids: usize,
    /// The most memory at any moment of the compilation, its result included, in bytes.
    pub bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { cuboids: 4_000_000, bytes: 128 * 1024 * 1024 }
    }
}

/// The error of a policy that needs more than its budget. The naive evaluator must then answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the policy needs more than {} cuboids, {} bytes, or the time there was", budget.cuboids, budget.bytes)]
pub struct OverBudget {
    /// The budget that was exceeded.
    pub budget: Budget,
}

/// The least number of packets for a processor: fewer do not pay for the overhead of a task.
const PIECE: usize = 1_024;

/// A compiled policy. Answers as [`crate::engine::naive::first_match`] does, for every packet.
#[derive(Debug, Clone)]
pub struct Classifier {
    v4: Index<u32>,
    v6: Index<u128>,
}

impl Classifier {
    /// The most memory that rules take while they are compiled, in bytes. It never exceeds the
    /// budget. It is zero if the rules need more cuboids than the budget has, since nothing is
    /// compiled then. Costs O(entries).
    #[must_use]
    pub fn bytes_to_compile(rules: &[RuleRef<'_>], budget: Budget) -> usize {
        let counted = cuboids::count_all(rules, budget, &|| true);
        counted.map_or(0, |counts| {
            let most = most_bytes::<u32>(counts.v4)
                .saturating_add(most_bytes::<u128>(counts.v6))
                .saturating_add(counts.condition_bytes);
            most.min(budget.bytes)
        })
    }

    /// Compiles rules that are in order of evaluation. Costs O(cuboids × depth); no lock, no waiting.
    ///
    /// # Errors
    /// Returns [`OverBudget`] if they need more than the budget. Boxes are counted before they are
    /// made, and the memory of the index is bounded while it grows.
    pub fn compile(rules: &[RuleRef<'_>], budget: Budget) -> Result<Self, OverBudget> {
        Self::compile_while(rules, budget, &|| true)
    }

    /// Like [`Self::compile`], as long as `should_continue` returns true. It is called at every rule and
    /// every node.
    ///
    /// # Errors
    /// Returns [`OverBudget`] for the reasons of [`Self::compile`], and if `should_continue` returns false.
    pub fn compile_while(
        rules: &[RuleRef<'_>],
        budget: Budget,
        should_continue: &dyn Fn() -> bool,
    ) -> Result<Self, OverBudget> {
        let over = OverBudget { budget };
        let counts = cuboids::count_all(rules, budget, should_continue).ok_or(over)?;
        let bytes = budget.bytes.saturating_sub(counts.condition_bytes);
        let v4 = Index::of(&counts, rules, bytes, should_continue).ok_or(over)?;
        // The cuboids of one family are gone before those of the other are made.
        let left = bytes.saturating_sub(v4.bytes());
        let v6 = Index::of(&counts, rules, left, should_continue).ok_or(over)?;
        let classifier = Self { v4, v6 };
        if classifier.bytes() > budget.bytes { Err(over) } else { Ok(classifier) }
    }

    /// The index of the first rule that matches, among the compiled rules.
    #[must_use]
    pub fn first_match(&self, packet: &Packet) -> Option<usize> {
        let at = packet.at().micros();
        self.found(packet, |key| self.v4.find_at(key, at), |key| self.v6.find_at(key, at))
    }

    /// Like [`Self::first_match`] for many packets, in their order, on all processors.
    #[must_use]
    pub fn classify_many(&self, packets: &[Packet]) -> Vec<Option<usize>> {
        let pieces = packets.par_iter().with_min_len(PIECE);
        pieces.map(|packet| self.first_match(packet)).collect()
    }

    /// Whether later rules are left out of some nodes since this rule hides them completely.
    #[must_use]
    pub(crate) fn hides_others(&self, rule: u32) -> bool {
        let hides = |hiding: &[u32]| hiding.binary_search(&rule).is_ok();
        hides(&self.v4.hiding) || hides(&self.v6.hiding)
    }

    /// The index of the first rule that matches and that `takes` accepts. `takes` must accept every
    /// rule that [hides others](Self::hides_others).
    #[inline]
    pub(crate) fn first_match_among(
        &self,
        packet: &Packet,
        takes: impl Fn(u32) -> bool,
    ) -> Option<usize> {
        let at = packet.at().micros();
        self.found(
            packet,
            |key| self.v4.find_among(key, at, &takes),
            |key| self.v6.find_among(key, at, &takes),
        )
    }

    /// The index of the first rule that matches, at each source port that a packet may have, if
    /// `takes` accepts it as in [`Self::first_match_among`].
    #[must_use]
    pub(crate) fn first_match_by_port(
        &self,
        packet: &Packet,
        ports: PortRange,
        takes: impl Fn(u32) -> bool,
    ) -> PortMap<Option<usize>> {
        let at = packet.at().micros();
        let found = keyed(
            packet,
            |key| self.v4.find_among_by_port(key, at, ports, &takes),
            |key| self.v6.find_among_by_port(key, at, ports, &takes),
        );
        found.unwrap_or_else(|| PortMap::constant(ports, None))
    }

    /// The result of the index of a packet's family.
    #[inline]
    fn found(
        &self,
        packet: &Packet,
        v4: impl Fn(&Key<u32>) -> u32,
        v6: impl Fn(&Key<u128>) -> u32,
    ) -> Option<usize> {
        let found = keyed(packet, v4, v6)?;
        (found != NO_CUBOID).then_some(found as usize)
    }

    /// The action on a packet: that of the first of the compiled rules that matches, else the
    /// default.
    #[must_use]
    pub fn verdict(&self, rules: &[RuleRef<'_>], default: Action, packet: &Packet) -> Action {
        let rule = self.first_match(packet).and_then(|index| rules.get(index));
        rule.map_or(default, |rule| rule.spec.action)
    }

    /// How much memory it takes, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }

    /// The number of cuboids, copies included, for which it has room.
    #[must_use]
    pub fn cuboids(&self) -> usize {
        (self.v4.blocks.len() + self.v6.blocks.len()) * LANES
    }
}

impl<A: Address> Index<A> {
    /// Indexes cuboids that are in order of their places.
    ///
    /// # Errors
    /// Returns [`OverBudget`] if the index would need more than the budget.
    pub fn build(cuboids: &[Cuboid<A>], budget: Budget) -> Result<Self, OverBudget> {
        let source = Source { cuboids, conditions: Vec::new(), hulls: Vec::new() };
        indexed(source, budget.bytes, &|| true).ok_or(OverBudget { budget })
    }

    /// Indexes the rules of a family within so many bytes.
    fn of(
        counts: &Counts,
        rules: &[RuleRef<'_>],
        bytes: usize,
        should_continue: &dyn Fn() -> bool,
    ) -> Option<Self> {
        let Cuboids { cuboids, conditions, hulls } = counts.make(rules, should_continue)?;
        indexed(Source { cuboids: &cuboids, conditions, hulls }, bytes, should_continue)
    }

    /// Like [`Index::find`] for many packets, in their order, on all processors.
    #[must_use]
    pub fn find_many(&self, keys: &[Key<A>]) -> Vec<u32> {
        keys.par_iter().with_min_len(PIECE).map(|key| self.find(key)).collect()
    }
}

/// The result for the key of a packet, by its family.
#[inline]
fn keyed<T>(
    packet: &Packet,
    v4: impl Fn(&Key<u32>) -> T,
    v6: impl Fn(&Key<u128>) -> T,
) -> Option<T> {
    let (first, second, kind) = match packet.payload() {
        Payload::Ports { source, destination } => (source, destination, kind::PORTS),
        Payload::Icmp { icmp_type, icmp_code } => {
            (u16::from(icmp_type), u16::from(icmp_code), kind::ICMP)
        }
        Payload::Opaque => (0, 0, kind::OPAQUE),
    };
    let protocol = packet.protocol().0;
    match (packet.source(), packet.destination()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (source.to_bits(), destination.to_bits());
            Some(v4(&Key { source, destination, first, second, protocol, kind }))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (source, destination) = (source.to_bits(), destination.to_bits());
            Some(v6(&Key { source, destination, first, second, protocol, kind }))
        }
        // The addresses of a packet are always of one family.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => None,
    }
}

/// The size of a lane of a block, in bytes: the room for one cuboid.
const LANE: usize = size_of::<Block>() / LANES;

/// The most lanes for a cuboid, with copies and the empty lanes of its block.
const LANES_PER_BOX: usize = 4;

/// The size of a cuboid while it is indexed, in bytes, without its lanes:
///
/// - the cuboid itself, and the data that the index keeps of it;
/// - its numbers in the lists of nodes, and its share of the nodes;
/// - a range in the lists that are sorted;
/// - its share of the tables of long lists.
const fn bytes_beside_lanes<A: Address>() -> usize {
    let kept = size_of::<Rule>() + if A::IS_WIDE { size_of::<Addresses<A>>() } else { 0 };
    let while_indexed = size_of::<Cuboid<A>>() + size_of::<[u32; 12]>() + size_of::<Range<A>>();
    kept + while_indexed + Lists::<A>::most_bytes(1)
}

/// The least memory that so many cuboids take while they are indexed, in bytes.
const fn least_bytes<A: Address>(cuboids: usize) -> usize {
    cuboids.saturating_mul(bytes_beside_lanes::<A>() + LANE)
}

/// The most memory that so many cuboids take while they are indexed, in bytes.
const fn most_bytes<A: Address>(cuboids: usize) -> usize {
    cuboids.saturating_mul(bytes_beside_lanes::<A>() + LANES_PER_BOX * LANE)
}

/// Indexes cuboids within so many bytes, the memory of the cuboids themselves included.
fn indexed<A: Address>(
    source: Source<'_, A>,
    bytes: usize,
    should_continue: &dyn Fn() -> bool,
) -> Option<Index<A>> {
    let cuboids = source.cuboids;
    if cuboids.iter().any(|cuboid| cuboid.order() > Rule::MAX_ORDER) {
        return None;
    }
    let for_lanes = bytes.saturating_sub(cuboids.len().saturating_mul(bytes_beside_lanes::<A>()));
    let ceiling = for_lanes / LANE;
    if ceiling < cuboids.len() {
        return None;
    }
    let most = cuboids.len().saturating_mul(LANES_PER_BOX).max(1_024).min(ceiling);
    build::index(source, most, ceiling, should_continue)
}

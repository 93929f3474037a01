//! Which rule has a packet first, and which one has it next: by the classifier that inspections use.
//!
//! A classifier knows the first match alone, since it leaves out rules that others hide. So the rules
//! are also compiled in blocks: the next match is the first match in the rest of the rules, a few
//! blocks of two sizes.

use super::budget::Budget;
use super::intern::as_u32;
use super::report::Obstacle;
use super::space::Slot;
use crate::engine::classifier::{self, Classifier};
use crate::engine::naive::Entry;
use crate::ids::RuleId;
use crate::packet::Packet;
use crate::rule::RuleSpec;

/// How many small blocks there are, and how many of them one large block has.
const SMALL_BLOCKS: usize = 32;
const SMALL_IN_LARGE: usize = 8;

/// The active rules, compiled.
pub(super) struct Matcher<'a> {
    /// In order of evaluation.
    rules: Vec<(Slot, &'a RuleSpec)>,
    whole: Classifier,
    large: Blocks,
    small: Blocks,
}

/// Classifiers of blocks of the same number of rules.
struct Blocks {
    size: usize,
    blocks: Vec<Classifier>,
}

impl<'a> Matcher<'a> {
    /// Compiles rules; none if they are too complex for the memory that is left.
    ///
    /// # Errors
    /// Returns [`Obstacle::Time`] if the analysis is to end.
    pub(super) fn new(
        rules: Vec<(Slot, &'a RuleSpec)>,
        budget: &Budget<'_>,
    ) -> Result<Option<Self>, Obstacle> {
        let mut bytes = 0;
        let made = Self::made(rules, budget, &mut bytes);
        if made.is_none() {
            budget.give_back(bytes);
            if !budget.should_continue() {
                return Err(Obstacle::Time);
            }
        }
        Ok(made)
    }

    fn made(
        rules: Vec<(Slot, &'a RuleSpec)>,
        budget: &Budget<'_>,
        bytes: &mut usize,
    ) -> Option<Self> {
        // Ids only tell rules apart.
        let id = RuleId::new(1)?;
        let entries: Vec<Entry<'_>> = rules.iter().map(|(_, spec)| Entry { id, spec }).collect();
        let mut compile = |entries: &[Entry<'_>]| compiled(entries, budget, bytes);
        let whole = compile(&entries)?;
        let size = entries.len().div_ceil(SMALL_BLOCKS).max(4);
        let mut blocks = |size: usize| {
            let blocks = entries.chunks(size).map(&mut compile).collect::<Option<Vec<_>>>()?;
            Some(Blocks { size, blocks })
        };
        let (large, small) = (blocks(size * SMALL_IN_LARGE)?, blocks(size)?);
        Some(Self { rules, whole, large, small })
    }

    fn slot(&self, place: usize) -> Option<Slot> {
        self.rules.get(place).map(|it| it.0)
    }

    /// The first rule that has a packet.
    pub(super) fn first(&self, packet: &Packet) -> Option<Slot> {
        self.whole.first_match(packet).and_then(|place| self.slot(place))
    }

    /// The first rule after another one that has a packet. `first_of` searches some rules: those from
    /// after a slot up to another one.
    pub(super) fn next(
        &self,
        slot: Slot,
        packet: &Packet,
        first_of: impl FnOnce(std::ops::RangeInclusive<Slot>) -> Option<Slot>,
    ) -> Option<Slot> {
        // One by one to the end of a small block, then small blocks to the end of a large one.
        let mut place = self.rules.partition_point(|it| it.0 <= slot);
        let rest = place % self.small.size;
        if rest > 0 {
            place = (place - rest + self.small.size).min(self.rules.len());
            let last = self.slot(place.saturating_sub(1))?;
            if last > slot
                && let Some(found) = first_of(slot + 1..=last)
            {
                return Some(found);
            }
        }
        while place < self.rules.len() {
            let is_large = place.is_multiple_of(self.large.size);
            let of = if is_large { &self.large } else { &self.small };
            let block = of.blocks.get(place / of.size)?;
            if let Some(found) = block.first_match(packet) {
                return self.slot(place + found);
            }
            place += of.size;
        }
        None
    }
}

/// Compiles rules, and takes the memory of it.
fn compiled(entries: &[Entry<'_>], budget: &Budget<'_>, bytes: &mut usize) -> Option<Classifier> {
    let limit = classifier::Budget { bytes: budget.left() / 2, ..classifier::Budget::default() };
    let most = Classifier::bytes_to_compile(entries, limit);
    budget.take(most).ok()?;
    let made = Classifier::compile_while(entries, limit, &|| budget.should_continue()).ok();
    let kept = made.as_ref().map_or(0, Classifier::bytes);
    if kept <= most {
        budget.give_back(most - kept);
    } else {
        budget.give_back(most);
        budget.take(kept).ok()?;
    }
    *bytes += kept;
    made
}

/// The number of a place among all rules.
pub(super) fn slots<'a>(
    specs: &[&'a RuleSpec],
    is_active: impl Fn(Slot) -> bool,
) -> Vec<(Slot, &'a RuleSpec)> {
    let all = specs.iter().enumerate().map(|(slot, spec)| (as_u32(slot), *spec));
    all.filter(|it| is_active(it.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::request::AnalysisLimits;
    use crate::engine::naive;
    use crate::packet::PacketParts;
    use crate::testing::analysis_families as families;
    use crate::testing::random::Random;
    use crate::time::Instant;

    #[test]
    fn the_first_and_the_next_match_are_those_of_the_definition() {
        let limits = AnalysisLimits::usual(&|| true);
        let budget = Budget::new(&limits);
        let mut random = Random::new(1);
        let mut found = 0;
        for count in [1, 5, 40, 400] {
            let rules = families::random_boxes(count, 10.0, 1);
            let specs: Vec<&RuleSpec> = rules.iter().collect();
            // Some are not active.
            let active = slots(&specs, |slot| slot % 5 != 3);
            let matcher = Matcher::new(active.clone(), &budget).unwrap().unwrap();
            for _ in 0..200 {
                let slot = random.below(count);
                let spec = &rules[slot as usize];
                let packet = crate::packet::Packet::new(PacketParts {
                    source_address: first_address(&spec.sources[0]),
                    destination_address: first_address(&spec.destinations[0]),
                    protocol: crate::net::Protocol::TCP,
                    source_port: Some(spec.sources[0].port.map_or(1, |port| port.first())),
                    destination_port: Some(spec.destinations[0].port.map_or(1, |it| it.first())),
                    icmp_type: None,
                    icmp_code: None,
                    at: Instant::EPOCH,
                })
                .unwrap();
                let has = |it: &&(Slot, &RuleSpec)| naive::matches(it.1, &packet);
                let first = active.iter().find(has).map(|it| it.0);
                assert_eq!(matcher.first(&packet), first);
                let after = active.iter().filter(|it| it.0 > slot);
                let next = after.clone().find(has).map(|it| it.0);
                let first_of = |slots: std::ops::RangeInclusive<Slot>| {
                    after.clone().filter(|it| slots.contains(&it.0)).find(has).map(|it| it.0)
                };
                assert_eq!(matcher.next(slot, &packet, first_of), next);
                found += usize::from(next.is_some());
            }
        }
        assert!(found > 100, "{found}");
    }

    fn first_address(entry: &crate::rule::Endpoint) -> std::net::IpAddr {
        match entry.address {
            crate::net::AddressRange::V4 { first, .. } => {
                std::net::Ipv4Addr::from_bits(first).into()
            }
            other => panic!("{other:?}"),
        }
    }
}

//! Which rules let anybody reach a service, for each destination.
//!
//! The ranges of destinations that no rule divides are the leaves of a tree. Each rule belongs to the topmost
//! nodes that are all within its destinations. A walk through the tree adds the rules of a node and
//! takes them back again, so that [`Tally`] always has those of the current destinations. Rules with
//! wide sources are compared with it one by one. A node is settled as a whole if the rules below it
//! have too few sources to change the answer.

use std::collections::BTreeMap;

use super::budget::Meter;
use super::cell::Cell;
use super::context::Context;
use super::intern::as_u32;
use super::ranges::{Range, difference, meets, normalized};
use super::report::Obstacle;
use super::single::at_destination;
use super::space::Slot;
use super::tally::Tally;
use super::tree::Tree;
use super::ways_in::{Mode, Way, Ways};

/// The default action among the rules that let packets in: it comes after all of them.
pub(super) const DEFAULT: Slot = Slot::MAX;

/// The most kinds of ports that are compared with each other.
const MAX_FIELDS: usize = 64;

/// What is asked about a service.
pub(super) struct Question<'a> {
    pub(super) ways: &'a Ways,
    /// From how many addresses on anybody can reach it.
    pub(super) anybody: u128,
    /// Whether the default action lets packets in.
    pub(super) default_permits: bool,
}

/// The destinations that anybody can reach by a rule.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Reached {
    pub(super) destinations: Vec<Range>,
    /// Those that were found first. No rule with wide sources divides them.
    pub(super) first: Range,
    /// Whether the rule takes all ports, so that it decides its packets with whatever ports only others
    /// take that take all as well.
    pub(super) takes_all_ports: bool,
}

/// The destinations that anybody can reach, and the rules that let anybody in there, alone or
/// together.
#[derive(Debug, Default)]
pub(super) struct Exposing {
    pub(super) destinations: Vec<Range>,
    pub(super) rules: BTreeMap<Slot, Reached>,
    /// The source ports that only ways take that take all ports.
    pub(super) usual_ports: Vec<Range>,
    /// The source ports that one kind of other ways takes.
    pub(super) other_ports: Vec<Range>,
}

/// Finds the destinations of a service that anybody can reach.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn sweep(
    context: &Context<'_>,
    cell: &Cell,
    question: &Question<'_>,
    meter: &mut Meter<'_>,
) -> Result<Exposing, Obstacle> {
    let ways = question.ways;
    if !question.default_permits && ways.ways.iter().all(|way| !way.permits) {
        return Ok(Exposing::default());
    }
    let before = meter.bytes();
    meter.take(ways.sources.bytes() + Tally::bytes(&ways.sources, ways.numbered.len()))?;
    let tree = Tree::new(context, cell, ways, meter)?;
    let permits = ways.numbered.iter().map(|it| it.1).collect();
    let mut sweep = Sweep {
        question,
        tree: &tree,
        tally: Tally::new(&ways.sources, permits),
        wide: Vec::new(),
        odd: Vec::new(),
        others: 0,
        other_count: 0,
        odd_others: 0,
        path: Vec::new(),
        has_pure: has_pure(ways),
        found: Exposing::default(),
    };
    let walked = sweep.visit(1, 0, tree.leaves, meter);
    let mut found = sweep.found;
    for way in ways.ways.iter().filter(|way| way.fields.is_some()) {
        if let Some(reached) = found.rules.get_mut(&way.slot) {
            reached.takes_all_ports = false;
        }
    }
    [found.usual_ports, found.other_ports] = source_ports(ways);
    meter.give_back(meter.bytes().saturating_sub(before));
    walked.map(|()| found)
}

/// Whether some ports of a service are in no way that leaves out others: there, only ways that take
/// all ports count.
fn has_pure(ways: &Ways) -> bool {
    [0, 1].into_iter().any(|place| {
        let of = |fields: &super::ways_in::Fields| fields.get(place).cloned().unwrap_or_default();
        let all = normalized(ways.fields.iter().flat_map(of).collect());
        !difference(&of(&ways.all_fields), &all).is_empty()
    })
}

/// The source ports that only ways take that take all ports, and those that one kind of other ways takes.
fn source_ports(ways: &Ways) -> [Vec<Range>; 2] {
    let [all, _] = &ways.all_fields;
    let mut sets: Vec<&Vec<Range>> = ways.fields.iter().map(|[ports, _]| ports).collect();
    sets.sort_unstable();
    sets.dedup();
    let ranges = sets.into_iter().flatten();
    let mut ends: Vec<(u32, bool)> =
        ranges.flat_map(|range| [(range.0, true), (range.1, false)]).collect();
    ends.sort_unstable();
    let (mut taken, mut once): (Vec<Range>, Vec<Range>) = (Vec::new(), Vec::new());
    let (mut count, mut from) = (0_usize, 0);
    for (at, begins) in ends {
        if count > 0 {
            taken.push((from, at));
        }
        if count == 1 {
            once.push((from, at));
        }
        from = at;
        count = if begins { count + 1 } else { count.saturating_sub(1) };
    }
    [difference(all, &normalized(taken)), normalized(once)]
}

struct Sweep<'a> {
    question: &'a Question<'a>,
    tree: &'a Tree,
    tally: Tally<'a>,
    /// The ways with wide sources at the destinations at hand, in order.
    wide: Vec<u32>,
    /// The numbers of odd ways that take all ports.
    odd: Vec<u32>,
    /// How many addresses the ways with few sources have that leave out ports.
    others: u128,
    other_count: usize,
    /// How many odd ways leave out ports.
    odd_others: usize,
    /// The nodes from the root on.
    path: Vec<usize>,
    has_pure: bool,
    found: Exposing,
}

impl Sweep<'_> {
    /// Walks through the leaves of a node. The tree is at most 32 nodes high.
    fn visit(
        &mut self,
        node: usize,
        from: usize,
        to: usize,
        meter: &mut Meter<'_>,
    ) -> Result<(), Obstacle> {
        let ends = &self.tree.ends;
        let Some(first) = ends.get(from).copied().filter(|_| from + 1 < ends.len()) else {
            return Ok(());
        };
        let end = ends.get(to).or(ends.last()).copied().unwrap_or(first);
        meter.steps += 4;
        meter.check()?;
        let mark = self.tally.mark();
        let tree = self.tree;
        for (number, way) in tree.of(node, self.question.ways) {
            self.enter(number, way, &mut meter.steps);
            meter.check()?;
        }
        self.path.push(node);
        let below = tree.below.get(node).copied().unwrap_or_default();
        let mut answer = None;
        if !below.has_wide {
            answer = self.answer(below.narrow, !below.has_any, &mut meter.steps);
        }
        if answer.is_none() && !below.has_any {
            let listed = self.path.iter().flat_map(|node| tree.of(*node, self.question.ways));
            answer = Some(at_destination(self.question, listed.map(|it| it.1), meter)?);
        }
        if let Some(rules) = answer {
            self.settle(rules, (first, end));
        } else {
            let middle = usize::midpoint(from, to);
            self.visit(2 * node, from, middle, meter)?;
            self.visit(2 * node + 1, middle, to, meter)?;
        }
        self.path.pop();
        for (number, way) in tree.of(node, self.question.ways) {
            self.leave(number, way);
        }
        self.tally.back(mark, &mut meter.steps);
        Ok(())
    }

    fn enter(&mut self, number: u32, way: &Way, steps: &mut u64) {
        *steps += 1;
        match (way.mode, way.fields) {
            (Mode::Wide(_), _) => {
                let at = self.wide.partition_point(|it| *it < number);
                self.wide.insert(at, number);
                *steps += (self.wide.len() - at) as u64 / 8;
            }
            (mode, None) => {
                let spans = self.question.ways.sources.spans.get(way.source as usize);
                self.tally.add(spans.map_or(&[], Vec::as_slice), way.number, steps);
                if mode == Mode::Odd && !self.odd.contains(&way.number) {
                    self.odd.push(way.number);
                }
            }
            (mode, Some(_)) => {
                self.others += way.size;
                self.other_count += 1;
                self.odd_others += usize::from(mode == Mode::Odd);
            }
        }
    }

    fn leave(&mut self, number: u32, way: &Way) {
        match (way.mode, way.fields) {
            (Mode::Wide(_), _) => {
                if let Ok(at) = self.wide.binary_search(&number) {
                    self.wide.remove(at);
                }
            }
            // A number that is left here has no addresses any more.
            (Mode::Odd, None) => self.odd.retain(|it| *it != way.number),
            (_, None) => {}
            (mode, Some(_)) => {
                self.others -= way.size;
                self.other_count -= 1;
                self.odd_others -= usize::from(mode == Mode::Odd);
            }
        }
    }

    fn settle(&mut self, rules: Vec<Slot>, range: Range) {
        if rules.is_empty() {
            return;
        }
        let add = |ranges: &mut Vec<Range>| match ranges.last_mut() {
            Some(last) if last.1 == range.0 => last.1 = range.1,
            _ => ranges.push(range),
        };
        add(&mut self.found.destinations);
        for rule in rules {
            let own = self.found.rules.entry(rule).or_default();
            if own.destinations.is_empty() {
                own.first = range;
                own.takes_all_ports = true;
            }
            add(&mut own.destinations);
        }
    }

    /// The rules that let anybody reach the destinations at hand, alone or together. None if that is not
    /// certain: ways that are not added have so many addresses as `below`, and ways that leave out ports
    /// are only counted.
    fn answer(&self, below: u128, is_all: bool, steps: &mut u64) -> Option<Vec<Slot>> {
        let Question { ways, anybody, default_permits } = self.question;
        let has_others = self.other_count > 0
            || self.wide.iter().any(|it| self.way(*it).is_some_and(|way| way.fields.is_some()));
        if self.odd_others > 0 || has_others && !self.has_pure {
            return None;
        }
        let slack = below.saturating_add(self.others);
        let mut here = Here {
            tally: &self.tally,
            sizes: &ways.sources.region_sizes,
            closed: vec![self.tally.end(); ways.sources.region_sizes.len()],
            open: 0,
            let_in: 0,
            all: 0,
            reached: Vec::new(),
            by_fields: Vec::new(),
        };
        here.open = (1_u32 << here.sizes.len()) - 1;
        for number in &self.wide {
            *steps += 1;
            if here.open == 0 {
                break;
            }
            let Some(way) = self.way(*number) else { continue };
            let Mode::Wide(regions) = way.mode else { continue };
            match way.fields {
                None => here.close(regions, way),
                Some(fields) => here.close_some(regions, way, fields, ways)?,
            }
        }
        here.finish(*default_permits);
        // An odd way is among the others of the tally.
        for number in &self.odd {
            let Some((slot, _)) = ways.numbered.get(*number as usize) else { continue };
            let closed = here.closed.iter().enumerate().filter(|it| number < it.1);
            let size = closed.map(|(region, _)| self.tally.of(region, *number)).sum();
            here.reached.push((*slot, size));
        }
        here.reached.sort_unstable();
        let mut sizes: Vec<(Slot, u128)> = Vec::with_capacity(here.reached.len());
        for (slot, size) in &here.reached {
            match sizes.last_mut() {
                Some(last) if last.0 == *slot => last.1 += size,
                _ => sizes.push((*slot, *size)),
            }
        }
        let mut alone = Vec::new();
        for (slot, size) in &sizes {
            if *size >= anybody.saturating_add(slack) {
                alone.push(*slot);
            } else if size >= anybody {
                return None;
            }
        }
        if !alone.is_empty() || here.all.saturating_add(slack) < *anybody {
            return Some(alone);
        }
        if !is_all || has_others || here.all < *anybody {
            return (is_all && !has_others).then(Vec::new);
        }
        *steps += u64::from(self.tally.end());
        Some(self.together(sizes, &here.closed))
    }

    /// The rules that are enough together, those with most addresses first. Each address is let in by
    /// one of them.
    fn together(&self, wide: Vec<(Slot, u128)>, closed: &[u32]) -> Vec<Slot> {
        let numbered = &self.question.ways.numbered;
        let narrow = self.tally.let_in(closed);
        let narrow = narrow.filter(|it| !self.odd.contains(&as_u32(it.0)));
        let narrow =
            narrow.filter_map(|(number, size)| numbered.get(number).map(|it| (it.0, size)));
        let mut sizes: BTreeMap<Slot, u128> = BTreeMap::new();
        for (slot, size) in wide.into_iter().chain(narrow) {
            *sizes.entry(slot).or_default() += size;
        }
        let mut sizes: Vec<(Slot, u128)> = sizes.into_iter().filter(|it| it.1 > 0).collect();
        // Rules of the same size stay in order.
        sizes.sort_by_key(|it| std::cmp::Reverse(it.1));
        let mut sum = 0_u128;
        let mut rules = Vec::new();
        for (slot, size) in sizes {
            rules.push(slot);
            sum += size;
            if sum >= self.question.anybody {
                break;
            }
        }
        rules
    }

    fn way(&self, number: u32) -> Option<&Way> {
        self.question.ways.ways.get(number as usize)
    }
}

/// The sources of the destinations at hand, while rules with wide sources are compared with them.
struct Here<'a> {
    tally: &'a Tally<'a>,
    sizes: &'a [u128],
    /// For each region, the number of the rule that takes what is left of it.
    closed: Vec<u32>,
    /// The regions that are not closed, as bits.
    open: u32,
    /// The regions of which everything that rules before do not stop is let in.
    let_in: u32,
    /// How many addresses are let in, without those of regions that are open.
    all: u128,
    /// How many addresses each rule lets in.
    reached: Vec<(Slot, u128)>,
    /// The ports of ways that leave some out, and the regions in which these are closed.
    by_fields: Vec<(u32, u32)>,
}

impl Here<'_> {
    fn regions(of: u32) -> impl Iterator<Item = (usize, u32)> {
        (0_usize..32).map(|region| (region, 1_u32 << region)).filter(move |it| of & it.1 != 0)
    }

    /// How many addresses of a region are decided after a number, and how many before it are let in.
    fn rest(&self, region: usize, number: u32) -> (u128, u128) {
        let [decided, let_in] = self.tally.before(region, number);
        (self.sizes.get(region).copied().unwrap_or(0).saturating_sub(decided), let_in)
    }

    fn close(&mut self, regions: u32, way: &Way) {
        let mut size = 0;
        for (region, bit) in Self::regions(regions & self.open) {
            let (rest, before) = self.rest(region, way.number);
            let own = if way.permits { rest } else { 0 };
            size += own;
            if self.let_in & bit == 0 {
                self.all += before + own;
            }
            if let Some(closed) = self.closed.get_mut(region) {
                *closed = way.number;
            }
        }
        self.open &= !regions;
        if size > 0 {
            self.reached.push((way.slot, size));
        }
    }

    /// Like [`Self::close`], for a way that leaves out ports. None if ways before it may leave nothing to
    /// it, or not.
    fn close_some(&mut self, regions: u32, way: &Way, fields: u32, ways: &Ways) -> Option<()> {
        let known = self.by_fields.iter().position(|it| it.0 == fields);
        if known.is_none() && self.by_fields.len() >= MAX_FIELDS {
            return None;
        }
        let known = known.unwrap_or_else(|| {
            self.by_fields.push((fields, 0));
            self.by_fields.len() - 1
        });
        let closed = self.by_fields.get(known).map_or(0, |it| it.1);
        let new = regions & self.open & !closed;
        if way.permits && new != 0 {
            let own = ways.fields.get(fields as usize)?;
            let others = self.by_fields.iter().filter(|it| it.0 != fields && it.1 != 0);
            let others = others.filter_map(|it| ways.fields.get(it.0 as usize));
            let overlap = |its: &&super::ways_in::Fields| {
                own.iter().zip(its.iter()).all(|(own, its)| meets(own, its))
            };
            let others: Vec<&super::ways_in::Fields> = others.filter(overlap).collect();
            // Some ports that none of the others takes are enough.
            let has_own = [0, 1].into_iter().any(|place| {
                let all = others.iter().filter_map(|it| it.get(place)).flatten().copied();
                own.get(place)
                    .is_some_and(|own| !difference(own, &normalized(all.collect())).is_empty())
            });
            if !has_own {
                return None;
            }
            let mut size = 0;
            for (region, bit) in Self::regions(new) {
                let (rest, before) = self.rest(region, way.number);
                size += rest;
                if self.let_in & bit == 0 {
                    self.let_in |= bit;
                    self.all += before + rest;
                }
            }
            if size > 0 {
                self.reached.push((way.slot, size));
            }
        }
        if let Some(own) = self.by_fields.get_mut(known) {
            own.1 |= regions;
        }
        Some(())
    }

    /// What the default action does.
    fn finish(&mut self, permits: bool) {
        let end = self.tally.end();
        let mut size = 0;
        for (region, bit) in Self::regions(self.open) {
            let (rest, before) = self.rest(region, end);
            let own = if permits { rest } else { 0 };
            size += own;
            if self.let_in & bit == 0 {
                self.all += before + own;
            }
        }
        if size > 0 {
            self.reached.push((DEFAULT, size));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::analyse::divisions;
    use super::super::breadth::public;
    use super::super::budget::Budget;
    use super::super::packets::PacketSet;
    use super::super::request::{
        AnalysedPolicy, AnalysedRule, AnalysisLimits, EXPOSED_SERVICES, ExposedService,
    };
    use super::super::spell::cells;
    use super::super::ways_in::{count, ways_in};
    use super::*;
    use crate::net::{AddressRange, Family, PortRange, Protocol};
    use crate::rule::{Action, Endpoint, RuleParts, RuleSpec};
    use crate::testing::random::{Random, cases, seed};
    use crate::testing::rules::everything;
    use crate::time::Instant;

    /// A block or a range, often a wide one.
    fn address(random: &mut Random) -> AddressRange {
        match random.below(6) {
            0 => AddressRange::V4 { first: 0, last: u32::MAX },
            1 => AddressRange::V4 { first: 0, last: (random.below(8) << 29) | 0x1fff_ffff },
            2 => {
                let (a, b) = (random.below(256) << 24, random.below(256) << 24);
                AddressRange::V4 { first: a.min(b), last: a.max(b) | 0xff_ffff }
            }
            _ => {
                let bits = [2, 3, 5, 8, 12, 16][random.below(6) as usize];
                // Few different ones, so that they overlap.
                let first = random.below(16).wrapping_mul(0x1357_9bdf) & (u32::MAX << (32 - bits));
                AddressRange::V4 { first, last: first | (u32::MAX >> bits) }
            }
        }
    }

    fn rule(random: &mut Random) -> RuleSpec {
        let ports = |random: &mut Random| match random.below(8) {
            0 => Some(PortRange::single(53)),
            1 => PortRange::new(1024, 65_535).ok(),
            2 => PortRange::new(0, 1_100).ok(),
            _ => None,
        };
        let entries = |random: &mut Random, port: Option<PortRange>| -> Vec<Endpoint> {
            let count = 1 + random.below(12) / 8;
            (0..count).map(|_| Endpoint { address: address(random), port }).collect()
        };
        let port = ports(random);
        let own = [PortRange::single(22), PortRange::new(20, 25).unwrap()];
        let own = own.get(random.below(3) as usize).copied();
        let permits = random.below(2) == 0;
        RuleSpec::new(RuleParts {
            action: if permits { Action::Allow } else { Action::Deny },
            protocols: [Protocol::TCP].into_iter().collect(),
            sources: entries(random, port),
            destinations: entries(random, None),
            ports: own.into_iter().collect(),
            ..everything()
        })
        .unwrap()
    }

    #[test]
    fn settled_destinations_have_the_rules_that_expose_each_of_them() {
        let mut random = Random::new(seed());
        let (mut alone, mut together, mut nobody) = (0, 0, 0);
        for _ in 0..cases(300) {
            let rules: Vec<RuleSpec> = (0..random.below(40)).map(|_| rule(&mut random)).collect();
            let listed: Vec<AnalysedRule<'_>> = rules.iter().map(AnalysedRule::of).collect();
            let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
            let limits = AnalysisLimits::usual(&|| true);
            let budget = Budget::new(&limits);
            let at = Instant::parse("2026-11-24T12:00:00Z").unwrap();
            let context = Context::new(&policy, at, divisions(true), &budget).unwrap();
            let both = ExposedService {
                ports: PortRange::new(21, 22).unwrap(),
                ..EXPOSED_SERVICES[1].clone()
            };
            let services = [&EXPOSED_SERVICES[1], &EXPOSED_SERVICES[2], &both];
            let asked = PacketSet {
                family: Some(Family::V4),
                protocols: vec![Protocol::TCP],
                destination_ports: services.iter().map(|it| it.ports).collect(),
                ..PacketSet::everything()
            };
            let (_, _, cell) = cells(&context.space, &asked).remove(0);
            let public = public(&context, Family::V4);
            let all = count(&public, &context.space.family(Family::V4).ranks);
            let anybody = all / [2, 2, 10, 1][random.below(4) as usize];
            let default_permits = random.below(4) == 0;
            let (mut meter, all) = (budget.meter(u64::MAX), (&public[..], anybody));
            for ways in ways_in(&context, Family::V4, &services, &cell, all, &mut meter).unwrap() {
                let question = Question { ways: &ways, anybody, default_permits };
                let found = sweep(&context, &cell, &question, &mut meter).unwrap();
                let tree = Tree::new(&context, &cell, &ways, &mut meter).unwrap();
                for ends in tree.ends.windows(2) {
                    let is_there = |way: &&Way| {
                        let its = context.space.sets.get(way.destinations);
                        super::super::ranges::has(its, ends[0])
                    };
                    let here = ways.ways.iter().filter(is_there);
                    let mut expected = at_destination(&question, here, &mut meter).unwrap();
                    expected.sort_unstable();
                    let is_among =
                        |set: &[Range]| super::super::ranges::contains(set, &[(ends[0], ends[1])]);
                    let own = found.rules.iter().filter(|it| is_among(&it.1.destinations));
                    let own: Vec<Slot> = own.map(|it| *it.0).collect();
                    assert_eq!(own, expected, "{ends:?} {rules:#?}");
                    assert_eq!(is_among(&found.destinations), !expected.is_empty());
                    match own.len() {
                        0 => nobody += 1,
                        1 => alone += 1,
                        _ => together += 1,
                    }
                }
            }
        }
        assert!(nobody > 0 && alone > 0 && together > 0, "{nobody} {alone} {together}");
    }
}

//! Rules as the analyzer sees them: in each family, a few products of sets in ranks.
//!
//! The three kinds of packets of a family share one space of five dimensions. This is exact:
//!
//! - The kind of a packet follows from its protocol.
//! - Rules that match packets without ports take all of their ports, so no rule divides them.
//! - ICMP types and codes take the dimensions of the ports. The value 255 includes all higher
//!   numbers, so that all 256 values together are all ports.

use std::iter::once;

use super::bounds::{Bounds, DIMENSIONS, Point};
use super::budget::Budget;
use super::cell::Cell;
use super::intern::{FxHashMap, Interned, ListId, as_u32};
use super::near::Near;
use super::ranges::{Range, contains, has, intersection, meets, normalized};
use super::ranks::Ranks;
use super::report::Obstacle;
use super::sides::Sides;
use crate::net::{Family, Protocol};
use crate::rule::{Action, Criteria, Endpoint, RuleSpec, RuleState, Schedule};
use crate::time::Instant;
use crate::worlds::{Kind, RuleProduct, World, addresses};

/// The number of a rule in a [`Space`]: its place in order of evaluation.
pub(super) type Slot = u32;

/// The first value after all ports.
pub(super) const PORTS_END: u32 = 65_536;
/// A product of a source, a destination and protocols, in one family.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    pub(super) rule: Slot,
    pub(super) source: ListId,
    pub(super) destination: ListId,
    pub(super) protocols: ListId,
    pub(super) bounds: Bounds,
    /// Whether the part is all of its bounds.
    pub(super) is_whole: bool,
}

/// When a rule is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) starts_at: Option<Instant>,
    pub(super) expires_at: Option<Instant>,
}

impl Life {
    pub(super) fn is_active(&self, at: Instant) -> bool {
        self.starts_at.is_none_or(|start| start <= at) && self.expires_at.is_none_or(|end| at < end)
    }
}

/// A rule of a [`Space`].
#[derive(Debug, Clone)]
pub(super) struct SpaceRule {
    pub(super) action: Action,
    pub(super) life: Life,
    /// The numbers of its parts in each family: from the first to before the second.
    parts: [(u32, u32); 2],
}

/// All parts of one family, in order of their rules.
#[derive(Debug)]
pub(super) struct FamilySpace {
    pub(super) family: Family,
    pub(super) ranks: Ranks,
    pub(super) parts: Vec<Part>,
    pub(super) near: Near,
    /// The sets of protocols of each kind.
    kinds: [ListId; 3],
    /// Every protocol that exists in the family.
    pub(super) protocols: ListId,
    /// Every address.
    pub(super) addresses: ListId,
}

/// Rules in ranks. It depends on the rules alone and never changes.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) sets: Interned<Range>,
    pub(super) sides: Sides,
    pub(super) families: [FamilySpace; 2],
    pub(super) rules: Vec<SpaceRule>,
    /// Whether some rule starts or expires.
    pub(super) has_times: bool,
    /// Every port.
    pub(super) ports: ListId,
}

/// The family, the source, the destination and the protocols of each part of a rule.
pub(super) type Meaning = Vec<(u8, ListId, ListId, ListId)>;

/// Which place a family has in arrays.
pub(super) const fn place(family: Family) -> usize {
    match family {
        Family::V4 => 0,
        Family::V6 => 1,
    }
}

impl FamilySpace {
    /// The sets of protocols of each kind, in the order of [`Kind::ALL`].
    pub(super) const fn kinds(&self) -> [ListId; 3] {
        self.kinds
    }
}

impl Space {
    /// The space of rules in order of evaluation. Rules that are disabled have no parts. `divide`
    /// returns further ranges of addresses of a family that need ranks of their own.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn new<I: Iterator<Item = (u128, u128)>>(
        rules: &[&RuleSpec],
        divide: impl Fn(Family) -> I,
        budget: &Budget<'_>,
    ) -> Result<Self, Obstacle> {
        let entries: usize =
            rules.iter().map(|rule| rule.sources.len() + rule.destinations.len()).sum();
        // The ends of addresses, the ranges and the segments of sides, and the ends of groups.
        budget.take(entries.saturating_mul(120).saturating_add(rules.len().saturating_mul(300)))?;
        let mut sets = Interned::default();
        let ports = sets.id(&[(0, PORTS_END)]);
        let mut families = Family::ALL.map(|family| {
            let own = rules.iter().flat_map(|rule| rule.sources.iter().chain(&rule.destinations));
            let own = own.flat_map(|entry| addresses(family, entry));
            let ranks = Ranks::new(family, own.chain(divide(family)));
            let protocols = |kind| World { family, kind }.protocols();
            let kinds = Kind::ALL.map(|kind| sets.id(&protocol_ranges(family, protocols(kind))));
            let all = sets.id(&protocol_ranges(family, Kind::ALL.into_iter().flat_map(protocols)));
            let addresses = sets.id(&ranks.universe());
            let (parts, near) = (Vec::with_capacity(rules.len()), Near::default());
            FamilySpace { family, ranks, parts, near, kinds, protocols: all, addresses }
        });
        let mut maker = Maker { sets, sides: Sides::default(), listed: Default::default() };
        let mut made = Vec::with_capacity(rules.len());
        for (spec, slot) in rules.iter().zip(0_u32..) {
            if slot % 1_024 == 0 && !budget.should_continue() {
                return Err(Obstacle::Time);
            }
            let Schedule { enabled, starts_at, expires_at } = Schedule::of(spec);
            let product = RuleProduct::new(Criteria::of(spec));
            let parts = families.each_mut().map(|space| {
                let from = as_u32(space.parts.len());
                if enabled {
                    maker.add_parts(space, &product, slot);
                }
                (from, as_u32(space.parts.len()))
            });
            let life = Life { starts_at, expires_at };
            made.push(SpaceRule { action: spec.action, life, parts });
        }
        let Maker { sets, sides, listed: _ } = maker;
        for space in &mut families {
            space.near = Near::new(&space.parts, &sides, space.ranks.universe(), budget)?;
        }
        let has_times =
            made.iter().any(|rule| rule.life.starts_at.is_some() || rule.life.expires_at.is_some());
        Ok(Self { sets, sides, families, rules: made, has_times, ports })
    }

    /// The parts of a family.
    pub(super) fn family(&self, family: Family) -> &FamilySpace {
        let [v4, v6] = &self.families;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// All packets of a family.
    pub(super) fn everything(&self, family: Family) -> Cell {
        let space = self.family(family);
        let sets = [space.addresses, space.addresses, self.ports, self.ports, space.protocols];
        Cell::of_ranges(sets.map(|set| self.sets.get(set).to_vec()))
    }

    /// The numbers of the parts of a rule in a family.
    pub(super) fn part_numbers(&self, slot: Slot, family: Family) -> std::ops::Range<u32> {
        let parts = self.rules.get(slot as usize).and_then(|rule| rule.parts.get(place(family)));
        let (from, to) = parts.copied().unwrap_or((0, 0));
        from..to
    }

    /// The parts of a rule in a family.
    pub(super) fn parts(&self, slot: Slot, family: Family) -> &[Part] {
        let numbers = self.part_numbers(slot, family);
        let range = numbers.start as usize..numbers.end as usize;
        self.family(family).parts.get(range).unwrap_or_default()
    }

    /// Whether a rule matches no packet.
    pub(super) fn is_empty(&self, slot: Slot) -> bool {
        Family::ALL.into_iter().all(|family| self.parts(slot, family).is_empty())
    }

    /// The action of a rule.
    pub(super) fn action(&self, slot: Slot) -> Option<Action> {
        self.rules.get(slot as usize).map(|rule| rule.action)
    }

    /// Whether a rule is active at an instant.
    pub(super) fn is_active(&self, slot: Slot, at: Instant) -> bool {
        !self.has_times || self.rules.get(slot as usize).is_some_and(|rule| rule.life.is_active(at))
    }

    /// Whether a part has a packet.
    #[inline]
    pub(super) fn has(&self, part: &Part, point: &Point) -> bool {
        let [source, destination, first, second, protocol] = *point;
        part.bounds.has(point)
            && (part.is_whole
                || has(self.sets.get(part.protocols), protocol)
                    && self.sides.has(&self.sets, part.source, source, first)
                    && self.sides.has(&self.sets, part.destination, destination, second))
    }

    /// Whether two parts have a packet in common.
    #[inline]
    pub(super) fn meet(&self, a: &Part, b: &Part, steps: &mut u64) -> bool {
        *steps += 1;
        a.bounds.meets(&b.bounds)
            && (a.is_whole && b.is_whole
                || meets(self.sets.get(a.protocols), self.sets.get(b.protocols))
                    && self.sides.meet(&self.sets, a.source, b.source, steps)
                    && self.sides.meet(&self.sets, a.destination, b.destination, steps))
    }

    /// Whether a rule contains a part.
    pub(super) fn contains_part(&self, a: Slot, b: &Part, family: Family, steps: &mut u64) -> bool {
        // The protocols of the parts of a rule are disjoint.
        let mut left = None::<Vec<Range>>;
        for a in self.parts(a, family) {
            *steps += 1;
            if !a.bounds.contains_sides(&b.bounds) {
                continue;
            }
            if a.is_whole && a.bounds.contains(&b.bounds) {
                return true;
            }
            let all = left.as_deref().unwrap_or_else(|| self.sets.get(b.protocols));
            let own = self.sets.get(a.protocols);
            if !meets(own, all)
                || !self.sides.contain(&self.sets, a.source, b.source, steps)
                || !self.sides.contain(&self.sets, a.destination, b.destination, steps)
            {
                continue;
            }
            if contains(own, all) {
                return true;
            }
            left = Some(super::ranges::difference(all, own));
        }
        false
    }

    /// Whether a rule contains another.
    pub(super) fn contains_rule(&self, a: Slot, b: Slot, steps: &mut u64) -> bool {
        Family::ALL.into_iter().all(|family| {
            self.parts(b, family).iter().all(|b| self.contains_part(a, b, family, steps))
        })
    }

    /// What a rule matches, in canonical form: equal exactly if two rules match the same packets.
    pub(super) fn meaning(&self, slot: Slot) -> Meaning {
        let parts = |family: Family, number: u8| {
            self.parts(slot, family)
                .iter()
                .map(move |part| (number, part.source, part.destination, part.protocols))
        };
        parts(Family::V4, 4).chain(parts(Family::V6, 6)).collect()
    }

    /// The first of some parts, by number, that has a packet and whose rule is taken.
    pub(super) fn first_match(
        &self,
        family: Family,
        point: &Point,
        parts: std::ops::Range<u32>,
        takes: impl Fn(Slot) -> bool,
    ) -> Option<Slot> {
        let space = self.family(family);
        let mut found = None;
        let bounds = Bounds::of_point(point);
        let touched = space.near.at(point);
        space.near.each(&bounds, touched, parts, |number| {
            let part = space.parts.get(number as usize);
            found = part.filter(|part| self.has(part, point) && takes(part.rule)).map(|it| it.rule);
            found.is_none()
        });
        found
    }
}

/// Whether a rule takes part in an analysis: at its instant or later.
pub(super) fn takes_part(spec: &RuleSpec, at: Instant) -> bool {
    match spec.state(at) {
        RuleState::Active | RuleState::Scheduled => true,
        RuleState::Expired | RuleState::Disabled => false,
    }
}

/// Protocols of a family as a set of numbers.
///
/// The number of the protocol that does not exist in the family belongs to the protocol before it, so
/// that "any" is one range.
pub(super) fn protocol_ranges(
    family: Family,
    protocols: impl Iterator<Item = Protocol>,
) -> Vec<Range> {
    let existing = protocols.filter(|it| it.exists_in(family));
    let range = |protocol: Protocol| {
        let number = u32::from(protocol.0);
        let next = protocol.0.checked_add(1).map(Protocol);
        let has_gap = next.is_some_and(|next| !next.exists_in(family));
        (number, number + if has_gap { 2 } else { 1 })
    };
    normalized(existing.map(range).collect())
}

/// The protocols of a set of numbers of a family.
pub(super) fn protocols_of(family: Family, set: &[Range]) -> impl Iterator<Item = Protocol> + '_ {
    let numbers = set.iter().flat_map(|range| range.0..range.1);
    let protocols = numbers.filter_map(|number| u8::try_from(number).ok()).map(Protocol);
    protocols.filter(move |it| it.exists_in(family))
}

/// Ports, or ICMP types or codes, as a set of numbers.
pub(super) fn field_range(kind: Kind, (first, last): (u16, u16)) -> Range {
    let end = match kind {
        // All 256 values are everything.
        Kind::Icmp if last >= 255 => PORTS_END,
        Kind::Ports | Kind::Icmp | Kind::Opaque => u32::from(last) + 1,
    };
    (first.into(), end)
}

/// Makes the parts of rules.
struct Maker {
    sets: Interned<Range>,
    sides: Sides,
    /// The sets of listed protocols in each family.
    listed: [FxHashMap<Vec<Protocol>, ListId>; 2],
}

impl Maker {
    fn add_parts(&mut self, space: &mut FamilySpace, product: &RuleProduct<'_>, slot: Slot) {
        // Kinds with the same sides are one part.
        let mut parts: Vec<(ListId, ListId, Vec<Range>)> = Vec::with_capacity(1);
        let mut former: Option<(Kind, ListId, ListId)> = None;
        for (kind, all) in Kind::ALL.into_iter().zip(space.kinds) {
            let protocols = self.protocols(space.family, product, all);
            if protocols.is_empty() {
                continue;
            }
            let is_same = former.is_some_and(|(former, ..)| has_same_sides(product, former, kind));
            let sides = match former {
                Some((_, source, destination)) if is_same => Some((source, destination)),
                _ => self.sides(space, product, kind),
            };
            let Some((source, destination)) = sides else { continue };
            former = Some((kind, source, destination));
            match parts.iter_mut().find(|part| (part.0, part.1) == (source, destination)) {
                Some(part) => part.2.extend(protocols),
                None => parts.push((source, destination, protocols)),
            }
        }
        for (source, destination, protocols) in parts {
            let protocols = self.sets.id(&normalized(protocols));
            space.parts.push(self.part(slot, source, destination, protocols));
        }
    }

    /// The protocols of a rule among all protocols of a kind.
    fn protocols(&mut self, family: Family, product: &RuleProduct<'_>, all: ListId) -> Vec<Range> {
        let Some(listed) = product.listed_protocols() else { return self.sets.get(all).to_vec() };
        let known = self.listed.get(place(family)).and_then(|sets| sets.get(listed)).copied();
        let id = known.unwrap_or_else(|| {
            let id = self.sets.id(&protocol_ranges(family, listed.iter().copied()));
            if let Some(sets) = self.listed.get_mut(place(family)) {
                sets.insert(listed.to_vec(), id);
            }
            id
        });
        intersection(self.sets.get(id), self.sets.get(all))
    }

    /// The sides of a rule in packets of a kind; none if one of them is empty.
    fn sides(
        &mut self,
        space: &FamilySpace,
        product: &RuleProduct<'_>,
        kind: Kind,
    ) -> Option<(ListId, ListId)> {
        let mut entries: Vec<(ListId, Range)> = Vec::new();
        let mut former: Option<((u16, u16), ListId)> = None;
        for entry in product.sources() {
            let Some(field) = product.source_field(kind, entry) else { continue };
            let id = match former {
                Some((before, id)) if before == field => id,
                _ => self.sets.id(&[field_range(kind, field)]),
            };
            former = Some((field, id));
            entries.extend(ranks_of(space, entry).map(|range| (id, range)));
        }
        if entries.is_empty() {
            return None;
        }
        let source = self.sides.id(&mut self.sets, &mut entries);
        entries.clear();
        // The ports of the rule itself are a long list, and most destinations have them.
        let mut own: Option<ListId> = None;
        for entry in product.destinations() {
            let fields = product.destination_fields(kind, entry);
            let fields = fields.as_slice();
            if fields.is_empty() {
                continue;
            }
            let id = match own {
                Some(id) if entry.port.is_none() => id,
                _ => {
                    let ranges = fields.iter().map(|field| field_range(kind, *field)).collect();
                    let id = self.sets.id(&normalized(ranges));
                    if entry.port.is_none() {
                        own = Some(id);
                    }
                    id
                }
            };
            entries.extend(ranks_of(space, entry).map(|range| (id, range)));
        }
        if entries.is_empty() {
            return None;
        }
        Some((source, self.sides.id(&mut self.sets, &mut entries)))
    }

    fn part(&self, rule: Slot, source: ListId, destination: ListId, protocols: ListId) -> Part {
        let (sources, destinations) = (self.sides.groups(source), self.sides.groups(destination));
        let of = |group: &super::sides::Group, other: &super::sides::Group| {
            let sets: [ListId; DIMENSIONS] =
                [group.addresses, other.addresses, group.field, other.field, protocols];
            Bounds::of_sets(&self.sets, &sets)
        };
        // The bounds around the groups of each side; the other side does not matter to them.
        let first = sources.first().zip(destinations.first());
        let bounds = first.map(|(source, destination)| {
            let all = sources.iter().map(|it| of(it, destination));
            let all = all.chain(destinations.iter().map(|it| of(source, it)));
            all.fold(of(source, destination), |all, it| all.around(&it))
        });
        let bounds = bounds.unwrap_or(Bounds { first: [0; DIMENSIONS], end: [0; DIMENSIONS] });
        let is_single = |set: ListId| self.sets.get(set).len() == 1;
        let is_range = |groups: &[super::sides::Group]| matches!(groups, [only] if is_single(only.addresses) && is_single(only.field));
        let is_whole = is_single(protocols) && is_range(sources) && is_range(destinations);
        Part { rule, source, destination, protocols, bounds, is_whole }
    }
}

/// Whether the sides of a rule are the same in packets of two kinds: no entry names ports, and the
/// rule names neither ports nor ICMP fields.
fn has_same_sides(product: &RuleProduct<'_>, a: Kind, b: Kind) -> bool {
    let whole = (0, u16::MAX);
    [a, b].into_iter().all(|kind| {
        let mut sources = product.sources().iter();
        let mut destinations = product.destinations().iter();
        sources.all(|it| product.source_field(kind, it) == Some(whole))
            && destinations.all(|it| product.destination_fields(kind, it).as_slice() == [whole])
    })
}

fn ranks_of(space: &FamilySpace, entry: &Endpoint) -> impl Iterator<Item = Range> {
    addresses(space.family, entry).map(|(first, last)| space.ranks.range(first, last))
}

/// The ranges of addresses of rules, for [`Space::new`], if nothing else divides them.
pub(super) fn undivided(_: Family) -> impl Iterator<Item = (u128, u128)> {
    once((0, 0)).take(0)
}

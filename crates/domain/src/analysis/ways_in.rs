//! What the rules of a policy have of a service: the ways in, and the fences before them.
//!
//! Rules with many sources are few, and their sources are often the same: everything, or a half of
//! it. So public addresses are divided into a few regions, of which these sources consist.

use std::collections::BTreeMap;

use super::bounds::SECOND_FIELD;
use super::budget::Meter;
use super::cell::Cell;
use super::context::Context;
use super::intern::{FxHashMap, ListId, as_u32};
use super::ranges::{Range, contains, intersection, meets, normalized};
use super::ranks::Ranks;
use super::report::Obstacle;
use super::request::ExposedService;
use super::space::{FamilySpace, Slot};
use crate::net::Family;

/// The most regions of public addresses.
pub(super) const MAX_REGIONS: usize = 16;
/// A source with at least this part of the public addresses is wide.
const WIDE_PART: u128 = 16;
/// The most wide sources that are looked at for regions.
const MAX_WIDE_SOURCES: usize = 32;

/// How a way in takes part in the search.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its sources are these regions, as bits.
    Wide(u32),
    /// Its sources are few.
    Narrow,
    /// Its sources are no regions, but its rule could let in anybody.
    Odd,
}

/// The packets of a service that a rule matches: some sources to some destinations.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    pub(super) slot: Slot,
    pub(super) permits: bool,
    pub(super) mode: Mode,
    /// The number of its sources in [`Sources::spans`].
    pub(super) source: u32,
    /// How many public addresses these are.
    pub(super) size: u128,
    pub(super) destinations: ListId,
    /// The ports that it takes, as a number in [`Ways::fields`]; none if it takes all of them.
    pub(super) fields: Option<u32>,
    /// How many rules with narrow ways that take all ports come before its rule.
    pub(super) number: u32,
}

/// The source ports that a way takes, and the ports of the service.
pub(super) type Fields = [Vec<Range>; 2];

/// The public addresses as pieces that no source divides, in order.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) sizes: Vec<u128>,
    /// The region of each piece.
    pub(super) regions: Vec<u8>,
    /// How many addresses each region has.
    pub(super) region_sizes: Vec<u128>,
    /// The pieces of each source, as ranges of their numbers.
    pub(super) spans: Vec<Vec<Range>>,
    /// The ranks at which the pieces begin.
    firsts: Vec<u32>,
}

/// The ways of a service or of several ones, in order of evaluation.
pub(super) struct Ways {
    /// The numbers of the services. They have the same ways.
    pub(super) services: Vec<usize>,
    pub(super) ways: Vec<Way>,
    pub(super) sources: Sources,
    pub(super) fields: Vec<Fields>,
    /// The source ports and the ports of the service that there are.
    pub(super) all_fields: Fields,
    /// For each number of a way, its rule, and whether that permits.
    pub(super) numbered: Vec<(Slot, bool)>,
}

/// The packets of some services that a rule matches.
#[derive(Clone, Copy)]
struct Match {
    slot: Slot,
    permits: bool,
    source: ListId,
    destinations: ListId,
    source_field: ListId,
    field: ListId,
}

/// The public addresses, and how many of each source are public.
struct Public<'a> {
    ranges: &'a [Range],
    ranks: &'a Ranks,
    sizes: FxHashMap<ListId, u128>,
}

impl Public<'_> {
    fn size(&mut self, context: &Context<'_>, source: ListId) -> u128 {
        *self.sizes.entry(source).or_insert_with(|| {
            let ranges = intersection(context.space.sets.get(source), self.ranges);
            ranges.iter().map(|range| self.ranks.exact(*range)).sum()
        })
    }
}

/// How many public addresses there are.
pub(super) fn count(public: &[Range], ranks: &Ranks) -> u128 {
    public.iter().map(|range| ranks.exact(*range)).sum()
}

/// The ways of each service. Services with the same ways are together. The meter holds their memory.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn ways_in(
    context: &Context<'_>,
    family: Family,
    services: &[&ExposedService],
    cell: &Cell,
    (public, anybody): (&[Range], u128),
    meter: &mut Meter<'_>,
) -> Result<Vec<Ways>, Obstacle> {
    let space = &context.space;
    let family_space = space.family(family);
    let mut public =
        Public { ranges: public, ranks: &family_space.ranks, sizes: FxHashMap::default() };
    let matches = matches(context, family, cell, &mut public, meter)?;
    // How the ports of each service are related to a set of ports.
    let mut known: FxHashMap<ListId, Vec<Option<bool>>> = FxHashMap::default();
    let mut lists: Vec<Vec<u32>> = vec![Vec::new(); services.len()];
    let mut are_whole = vec![true; services.len()];
    meter.take(matches.len().saturating_mul(services.len() * size_of::<u32>()))?;
    for (number, it) in matches.iter().enumerate() {
        meter.steps += services.len() as u64;
        meter.check()?;
        let relations = known.entry(it.field).or_insert_with(|| {
            let its = space.sets.get(it.field);
            let relation = |service: &&ExposedService| {
                let ports = [ports(service)];
                meets(its, &ports).then(|| contains(its, &ports))
            };
            services.iter().map(relation).collect()
        });
        for ((relation, list), is_whole) in relations.iter().zip(&mut lists).zip(&mut are_whole) {
            if let Some(relation) = relation {
                list.push(as_u32(number));
                *is_whole &= relation;
            }
        }
    }
    let mut groups: BTreeMap<(Option<usize>, Vec<u32>), Vec<usize>> = BTreeMap::new();
    for (service, (list, is_whole)) in lists.into_iter().zip(are_whole).enumerate() {
        // Ports of one service that rules divide are no matter of another one.
        groups.entry(((!is_whole).then_some(service), list)).or_default().push(service);
    }
    let mut of_group = |((_, list), own): ((_, Vec<u32>), Vec<usize>)| {
        meter.take(list.len().saturating_mul(size_of::<Way>()))?;
        let ports = own.first().and_then(|it| services.get(*it)).map_or((0, 0), |it| ports(it));
        let matches = list.into_iter().filter_map(|it| matches.get(it as usize));
        let mut maker = Maker::new(context, family_space, ports);
        for it in matches {
            meter.steps += 1;
            meter.check()?;
            maker.add(it, &mut public);
        }
        Ok(maker.finish(own, &public, anybody))
    };
    groups.into_iter().map(&mut of_group).collect()
}

/// The ports of a service as a range of numbers.
pub(super) fn ports(service: &ExposedService) -> Range {
    (service.ports.first().into(), u32::from(service.ports.last()) + 1)
}

fn matches(
    context: &Context<'_>,
    family: Family,
    cell: &Cell,
    public: &mut Public<'_>,
    meter: &mut Meter<'_>,
) -> Result<Vec<Match>, Obstacle> {
    let space = &context.space;
    let bounds = cell.bounds();
    let mut matches = Vec::new();
    for slot in context.active() {
        meter.steps += 1;
        meter.check()?;
        let permits = context.action(Some(slot)).permits();
        for part in space.parts(slot, family) {
            if !part.bounds.meets(&bounds)
                || !meets(space.sets.get(part.protocols), cell.set(super::bounds::PROTOCOL))
            {
                continue;
            }
            let destinations = space.sides.groups(part.destination);
            for from in space.sides.groups(part.source) {
                meter.steps += 1;
                if public.size(context, from.addresses) == 0 {
                    continue;
                }
                meter.steps += destinations.len() as u64;
                meter.check()?;
                meter.take(destinations.len().saturating_mul(size_of::<Match>()))?;
                for to in destinations {
                    if meets(space.sets.get(to.field), cell.set(SECOND_FIELD)) {
                        matches.push(Match {
                            slot,
                            permits,
                            source: from.addresses,
                            destinations: to.addresses,
                            source_field: from.field,
                            field: to.field,
                        });
                    }
                }
            }
        }
    }
    Ok(matches)
}

struct Maker<'a> {
    context: &'a Context<'a>,
    family: &'a FamilySpace,
    all_fields: Fields,
    ways: Vec<Way>,
    sources: FxHashMap<ListId, u32>,
    listed: Vec<ListId>,
    field_numbers: FxHashMap<(ListId, ListId), Option<u32>>,
    fields: Vec<Fields>,
    known_fields: FxHashMap<Fields, u32>,
}

impl<'a> Maker<'a> {
    fn new(context: &'a Context<'_>, family: &'a FamilySpace, ports: Range) -> Self {
        let all = context.space.sets.get(context.space.ports).to_vec();
        Self {
            context,
            family,
            all_fields: [all, vec![ports]],
            ways: Vec::new(),
            sources: FxHashMap::default(),
            listed: Vec::new(),
            field_numbers: FxHashMap::default(),
            fields: Vec::new(),
            known_fields: FxHashMap::default(),
        }
    }

    fn add(&mut self, it: &Match, public: &mut Public<'_>) {
        let listed = &mut self.listed;
        let source = *self.sources.entry(it.source).or_insert_with(|| {
            listed.push(it.source);
            as_u32(listed.len() - 1)
        });
        let (fields, known, all) = (&mut self.fields, &mut self.known_fields, &self.all_fields);
        let sets = &self.context.space.sets;
        let number = *self.field_numbers.entry((it.source_field, it.field)).or_insert_with(|| {
            let [all_sources, all_ports] = all;
            let own = [
                intersection(sets.get(it.source_field), all_sources),
                intersection(sets.get(it.field), all_ports),
            ];
            if own == *all {
                return None;
            }
            let next = as_u32(fields.len());
            Some(*known.entry(own.clone()).or_insert_with(|| {
                fields.push(own);
                next
            }))
        });
        self.ways.push(Way {
            slot: it.slot,
            permits: it.permits,
            mode: Mode::Narrow,
            source,
            size: public.size(self.context, it.source),
            destinations: it.destinations,
            fields: number,
            number: 0,
        });
    }

    fn finish(self, services: Vec<usize>, public: &Public<'_>, anybody: u128) -> Ways {
        let Self { context, family, all_fields, mut ways, listed, fields, .. } = self;
        let own = |source: &ListId| intersection(context.space.sets.get(*source), public.ranges);
        let listed: Vec<Vec<Range>> = listed.iter().map(own).collect();
        let mut sources = Sources::new(&listed, public.ranges, &family.ranks);
        let wide = sources.divide(&ways, count(public.ranges, &family.ranks) / WIDE_PART);
        let mut numbered: Vec<(Slot, bool)> = Vec::new();
        for own in ways.chunk_by_mut(|a, b| a.slot == b.slot) {
            let all = all_sources(own);
            for way in own {
                way.mode = match wide.get(&way.source) {
                    Some(regions) => Mode::Wide(*regions),
                    None if way.permits && all >= anybody => Mode::Odd,
                    None => Mode::Narrow,
                };
                if matches!(way.mode, Mode::Narrow | Mode::Odd)
                    && way.fields.is_none()
                    && numbered.last().is_none_or(|last| last.0 != way.slot)
                {
                    numbered.push((way.slot, way.permits));
                }
            }
        }
        for way in &mut ways {
            way.number = as_u32(numbered.partition_point(|it| it.0 < way.slot));
        }
        Ways { services, ways, sources, fields, all_fields, numbered }
    }
}

/// How many addresses the ways of a rule have. Its sources to one destination are disjoint.
fn all_sources(ways: &[Way]) -> u128 {
    let mut sources: Vec<(u32, u128)> = ways.iter().map(|way| (way.source, way.size)).collect();
    sources.sort_unstable();
    sources.dedup();
    sources.into_iter().map(|it| it.1).sum()
}

impl Sources {
    fn new(listed: &[Vec<Range>], public: &[Range], ranks: &Ranks) -> Self {
        let all = listed.iter().map(Vec::as_slice).chain([public]);
        let mut ends: Vec<u32> = all.flatten().flat_map(|range| [range.0, range.1]).collect();
        ends.sort_unstable();
        ends.dedup();
        let mut firsts = Vec::with_capacity(ends.len());
        let mut sizes = Vec::with_capacity(ends.len());
        for (first, end) in ends.iter().zip(ends.iter().skip(1)) {
            if super::ranges::has(public, *first) {
                firsts.push(*first);
                sizes.push(ranks.exact((*first, *end)));
            }
        }
        let place = |rank: u32| as_u32(firsts.partition_point(|first| *first < rank));
        let spans = listed.iter().map(|ranges| {
            normalized(ranges.iter().map(|range| (place(range.0), place(range.1))).collect())
        });
        let spans = spans.collect();
        let (regions, all) = (vec![0; sizes.len()], sizes.iter().sum());
        Self { regions, region_sizes: vec![all], sizes, spans, firsts }
    }

    /// Divides the addresses into regions, so that the most usual wide sources consist of some of them.
    /// Returns the regions of these sources.
    fn divide(&mut self, ways: &[Way], wide: u128) -> FxHashMap<u32, u32> {
        let mut counts: BTreeMap<u32, usize> = BTreeMap::new();
        for way in ways.iter().filter(|way| way.size >= wide) {
            *counts.entry(way.source).or_default() += 1;
        }
        let mut order: Vec<(usize, u32)> =
            counts.into_iter().map(|(it, count)| (count, it)).collect();
        order.sort_by_key(|it| (std::cmp::Reverse(it.0), it.1));
        order.truncate(MAX_WIDE_SOURCES);
        let mut chosen: Vec<u32> = Vec::new();
        for (_, source) in order {
            let mut is_inside = vec![false; self.sizes.len()];
            for (from, to) in self.spans.get(source as usize).into_iter().flatten() {
                if let Some(own) = is_inside.get_mut(*from as usize..*to as usize) {
                    own.fill(true);
                }
            }
            let mut numbers: BTreeMap<(u8, bool), u8> = BTreeMap::new();
            let divided: Vec<u8> = self
                .regions
                .iter()
                .zip(&is_inside)
                .map(|(region, is_inside)| {
                    let next = u8::try_from(numbers.len()).unwrap_or(u8::MAX);
                    *numbers.entry((*region, *is_inside)).or_insert(next)
                })
                .collect();
            if numbers.len() <= MAX_REGIONS {
                self.regions = divided;
                chosen.push(source);
            }
        }
        let count = self.regions.iter().max().map_or(1, |last| usize::from(*last) + 1);
        self.region_sizes = vec![0; count];
        for (size, region) in self.sizes.iter().zip(&self.regions) {
            if let Some(all) = self.region_sizes.get_mut(usize::from(*region)) {
                *all += size;
            }
        }
        let of_source = |source: u32| {
            let spans = self.spans.get(source as usize).into_iter().flatten();
            let regions = spans.flat_map(|(from, to)| {
                self.regions.get(*from as usize..*to as usize).unwrap_or_default()
            });
            (source, regions.fold(0_u32, |all, region| all | 1 << region))
        };
        chosen.into_iter().map(of_source).collect()
    }

    /// The memory that the pieces take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let spans: usize = self.spans.iter().map(|it| 24 + it.len() * 8).sum();
        self.firsts.len() * (16 + 1 + 4) + spans
    }
}

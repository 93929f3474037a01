//! The conversion of rules to cuboids.
//!
//! A rule is a product of unions in each world of packets ([`crate::worlds`]). A small product is
//! multiplied out. A large one becomes pieces of a hull (`hull`), whose number is limited.

use super::address::Address;
use super::cuboid::{ALL_PORTS, Cuboid, CuboidParts, Range, kind};
use super::hull::{Hull, Side, merged};
use super::index::Condition;
use super::{Budget, least_bytes};
use crate::engine::naive::RuleRef;
use crate::net::Protocol;
use crate::rule::{Criteria, Endpoint, RuleSpec, Schedule};
use crate::worlds::{Fields, Kind, RuleProduct};

/// How large the product of a rule may become in a world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The most cuboids of a product that is multiplied out.
    exact: usize,
    /// The most pieces of a hull.
    pieces: usize,
}

/// The usual limits, and smaller ones for policies with very many large rules. More pieces hold
/// fewer packets that the rule rejects, but their memory costs time, too: decision 34 has the
/// figures.
const LIMITS: [Limit; 4] = [
    Limit { exact: 64, pieces: 512 },
    Limit { exact: 64, pieces: 64 },
    Limit { exact: 8, pieces: 8 },
    Limit { exact: 1, pieces: 1 },
];

/// What rules become, counted before anything is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    limit: Limit,
    /// The most cuboids of each family.
    pub(super) v4: usize,
    pub(super) v6: usize,
    /// The most memory for conditions and hulls, in bytes.
    pub(super) condition_bytes: usize,
}

/// The cuboids of a family in order of their rules, and what else their rules demand of packets.
#[derive(Debug)]
pub(super) struct Cuboids<A> {
    pub(super) cuboids: Vec<Cuboid<A>>,
    /// In order of their rules.
    pub(super) conditions: Vec<Condition>,
    pub(super) hulls: Vec<Hull<A>>,
}

/// Counts what rules become, with the largest limits that fit the budget; none if no limits do, or
/// `should_continue` returns false. `should_continue` is called at every rule. Disabled rules have no
/// cuboids.
pub(super) fn count_all(
    rules: &[RuleRef<'_>],
    budget: Budget,
    should_continue: &dyn Fn() -> bool,
) -> Option<Counts> {
    for limit in LIMITS {
        match count_within(rules, limit, budget, should_continue) {
            Counted::Fits(counts) => return Some(counts),
            Counted::IsTooMuch => {}
            Counted::IsStopped => return None,
        }
    }
    None
}

enum Counted {
    Fits(Counts),
    IsTooMuch,
    IsStopped,
}

fn count_within(
    rules: &[RuleRef<'_>],
    limit: Limit,
    budget: Budget,
    should_continue: &dyn Fn() -> bool,
) -> Counted {
    let mut counts = Counts { limit, v4: 0, v6: 0, condition_bytes: 0 };
    for rule in rules.iter().filter(|rule| rule.spec.enabled) {
        let (v4, v4_bytes) = count::<u32>(rule.spec, limit);
        let (v6, v6_bytes) = count::<u128>(rule.spec, limit);
        counts.v4 = counts.v4.saturating_add(v4);
        counts.v6 = counts.v6.saturating_add(v6);
        counts.condition_bytes =
            counts.condition_bytes.saturating_add(v4_bytes).saturating_add(v6_bytes);
        if counts.v4.saturating_add(counts.v6) > budget.cuboids
            || counts.least_bytes() > budget.bytes
        {
            return Counted::IsTooMuch;
        }
        if !should_continue() {
            return Counted::IsStopped;
        }
    }
    Counted::Fits(counts)
}

impl Counts {
    fn least_bytes(&self) -> usize {
        least_bytes::<u32>(self.v4)
            .saturating_add(least_bytes::<u128>(self.v6))
            .saturating_add(self.condition_bytes)
    }

    /// All cuboids of a family, of rules that are in order of evaluation; none if
    /// `should_continue`, which is called at every rule, returns false.
    pub(super) fn make<A: Address>(
        &self,
        rules: &[RuleRef<'_>],
        should_continue: &dyn Fn() -> bool,
    ) -> Option<Cuboids<A>> {
        let most = if A::IS_WIDE { self.v6 } else { self.v4 };
        let mut made = Cuboids {
            cuboids: Vec::with_capacity(most),
            conditions: Vec::new(),
            hulls: Vec::new(),
        };
        for (rule, order) in rules.iter().zip(0_u32..).filter(|(rule, _)| rule.spec.enabled) {
            made.add(rule.spec, order, self.limit);
            if !should_continue() {
                return None;
            }
        }
        made.conditions.shrink_to_fit();
        made.hulls.shrink_to_fit();
        Some(made)
    }
}

/// The most cuboids of a rule in a family, and the most memory for its conditions.
fn count<A: Address>(rule: &RuleSpec, limit: Limit) -> (usize, usize) {
    let Criteria { protocols, icmp_type: _, icmp_code: _, sources, destinations, ports } =
        Criteria::of(rule);
    let is_of_family = |entry: &&Endpoint| A::of(entry).is_some();
    let count_of = |entries: &[Endpoint]| -> (usize, usize) {
        let own = entries.iter().filter(is_of_family).filter(|it| it.port.is_some()).count();
        (entries.iter().filter(is_of_family).count(), own)
    };
    let ((sources, own_sources), (destinations, own_destinations)) =
        (count_of(sources), count_of(destinations));
    if sources == 0 || destinations == 0 {
        return (0, 0);
    }
    let fields = (destinations - own_destinations)
        .saturating_mul(ports.len().max(1))
        .saturating_add(own_destinations);
    // Whether a packet without ports can match.
    let is_free = own_sources < sources && own_destinations < destinations && ports.is_empty();
    let (ranges, worlds) = if protocols.is_empty() {
        let is_one = own_sources == 0 && own_destinations == 0 || !is_free;
        if is_one { (1, 1) } else { (3, 3) }
    } else {
        (protocols.len(), protocols.len().min(Kind::ALL.len()))
    };
    let product = ranges.saturating_mul(sources).saturating_mul(fields);
    let is_timed = is_timed(rule);
    if product <= limit.exact {
        return (product, if is_timed { 2 * size_of::<Condition>() } else { 0 });
    }
    let most = worlds.saturating_mul(limit.exact.max(limit.pieces));
    // The lists double while they grow.
    let bytes = 2 * (size_of::<Condition>() + size_of::<Hull<A>>())
        + protocols.len().max(1) * 2 * size_of::<Range<u16>>()
        + Side::<A>::most_bytes(sources, own_sources, 1)
        + Side::<A>::most_bytes(destinations, own_destinations, ports.len().max(1));
    (product.min(most), bytes)
}

fn is_timed(rule: &RuleSpec) -> bool {
    // The classifier is asked about enabled rules only.
    let Schedule { enabled: _, starts_at, expires_at } = Schedule::of(rule);
    starts_at.is_some() || expires_at.is_some()
}

/// The packets of one kind, or all packets, of the protocols of a rule.
struct World {
    /// The kind whose fields the entries have.
    kind: Kind,
    /// The protocols with their kinds, in order and apart.
    protocols: Vec<Range<u16>>,
}

impl World {
    /// The worlds of a rule in a family.
    fn all<A: Address>(product: &RuleProduct<'_>) -> Vec<Self> {
        let Some(listed) = product.listed_protocols() else {
            let is_unlimited = |kind: Kind| {
                let mut sources = product.sources().iter();
                let mut destinations = product.destinations().iter();
                sources.all(|it| product.source_field(kind, it) == Some(ALL_PORTS))
                    && destinations
                        .all(|it| product.destination_fields(kind, it) == Fields::One(ALL_PORTS))
            };
            if Kind::ALL.into_iter().all(is_unlimited) {
                return vec![Self { kind: Kind::Ports, protocols: vec![kind::ANY] }];
            }
            let world = |kind| Self { kind, protocols: vec![kind::all(number_of(kind))] };
            return Kind::ALL.into_iter().map(world).collect();
        };
        let mut worlds: Vec<Self> = Vec::with_capacity(1);
        for kind in Kind::ALL {
            let mut protocols: Vec<Range<u16>> = Vec::new();
            let is_here = |it: &&Protocol| Kind::of(**it) == kind && it.exists_in(A::FAMILY);
            for protocol in listed.iter().filter(is_here) {
                let number = kind::number(number_of(kind), protocol.0);
                match protocols.last_mut() {
                    Some(before) if before.1 + 1 == number => before.1 = number,
                    _ => protocols.push((number, number)),
                }
            }
            if !protocols.is_empty() {
                worlds.push(Self { kind, protocols });
            }
        }
        worlds
    }
}

const fn number_of(kind: Kind) -> u8 {
    match kind {
        Kind::Ports => kind::PORTS,
        Kind::Icmp => kind::ICMP,
        Kind::Opaque => kind::OPAQUE,
    }
}

/// Addresses, and the ports or ICMP fields that go with them.
#[derive(Debug, Clone, Copy)]
struct Part<'a, A> {
    addresses: Range<A>,
    fields: Fields<'a>,
}

impl<A: Address> Cuboids<A> {
    fn add(&mut self, rule: &RuleSpec, order: u32, limit: Limit) {
        let is_of_family = |entry: &Endpoint| A::of(entry).is_some();
        if !rule.sources.iter().any(is_of_family) || !rule.destinations.iter().any(is_of_family) {
            return;
        }
        let product = RuleProduct::new(Criteria::of(rule));
        let is_timed = is_timed(rule);
        let worlds = World::all::<A>(&product);
        let mut has_hull = false;
        for world in &worlds {
            has_hull |= self.add_world(&product, world, is_timed, order, limit);
        }
        if !has_hull && !is_timed {
            return;
        }
        let hull = has_hull.then(|| {
            self.hulls.push(hull_of(rule, &worlds));
            u32::try_from(self.hulls.len() - 1).unwrap_or(Condition::NO_HULL)
        });
        let Schedule { enabled: _, starts_at, expires_at } = Schedule::of(rule);
        self.conditions.push(Condition::new(order, hull, starts_at, expires_at));
    }

    /// Adds what a rule is in one world. Returns whether that is a hull.
    fn add_world(
        &mut self,
        product: &RuleProduct<'_>,
        world: &World,
        is_timed: bool,
        order: u32,
        limit: Limit,
    ) -> bool {
        let sources = product.sources().iter().filter_map(|entry| {
            let field = product.source_field(world.kind, entry)?;
            Some(Part { addresses: A::of(entry)?, fields: Fields::One(field) })
        });
        let destinations = product.destinations().iter().filter_map(|entry| {
            let fields = product.destination_fields(world.kind, entry);
            Some(Part { addresses: A::of(entry)?, fields })
        });
        let mut sources: Vec<Part<'_, A>> = sources.collect();
        let mut destinations: Vec<Part<'_, A>> =
            destinations.filter(|part| !part.fields.as_slice().is_empty()).collect();
        let size = |sources: &[Part<'_, A>], destinations: &[Part<'_, A>]| {
            let fields: usize = destinations.iter().map(|it| it.fields.as_slice().len()).sum();
            world.protocols.len().saturating_mul(sources.len()).saturating_mul(fields)
        };
        if size(&sources, &destinations) > limit.exact {
            join_equals(&mut sources);
            join_equals(&mut destinations);
        }
        let is_exact = size(&sources, &destinations) <= limit.exact;
        let mut push = |source, destination, first, second, protocols, is_conditional| {
            self.cuboids.push(Cuboid::new(&CuboidParts {
                source,
                destination,
                first,
                second,
                protocols,
                is_conditional,
                order,
            }));
        };
        if is_exact {
            for protocols in &world.protocols {
                for source in &sources {
                    for destination in &destinations {
                        for first in source.fields.as_slice() {
                            for second in destination.fields.as_slice() {
                                let (from, to) = (source.addresses, destination.addresses);
                                push(from, to, *first, *second, *protocols, is_timed);
                            }
                        }
                    }
                }
            }
            return false;
        }
        let (first, last) = (world.protocols.first(), world.protocols.last());
        let (Some((first, _)), Some((_, last))) = (first, last) else { return false };
        let protocols = (*first, *last);
        let (sources, destinations) = (islands(&sources), islands(&destinations));
        let (most_sources, most_destinations) =
            pieces(sources.len(), destinations.len(), limit.pieces);
        let destinations = clusters(&destinations, most_destinations);
        for source in clusters(&sources, most_sources) {
            for destination in &destinations {
                let (from, to) = (source.addresses, destination.addresses);
                push(from, to, source.fields, destination.fields, protocols, true);
            }
        }
        true
    }
}

/// Joins addresses that go with equal fields and touch each other.
fn join_equals<A: Address>(parts: &mut Vec<Part<'_, A>>) {
    // The fields of several ranges are the same list in all parts.
    parts.sort_unstable_by_key(|part| (part.fields.as_slice().first().copied(), part.addresses));
    parts.dedup_by(|part, before| {
        let touches = part.fields == before.fields
            && (part.addresses.0 <= before.addresses.1
                || part.addresses.0.wrapping_sub(before.addresses.1) == A::from(1));
        if touches {
            before.addresses.1 = before.addresses.1.max(part.addresses.1);
        }
        touches
    });
}

/// Addresses of several parts, and the range of all their fields.
#[derive(Debug, Clone, Copy)]
struct Island<A> {
    addresses: Range<A>,
    fields: Range<u16>,
}

impl<A: Address> Island<A> {
    /// Extends the island by another one that begins no earlier.
    fn join(&mut self, other: &Self) {
        self.addresses.1 = self.addresses.1.max(other.addresses.1);
        self.fields = (self.fields.0.min(other.fields.0), self.fields.1.max(other.fields.1));
    }
}

/// The addresses of parts in ranges that do not overlap, in order.
fn islands<A: Address>(parts: &[Part<'_, A>]) -> Vec<Island<A>> {
    let mut all: Vec<Island<A>> = parts
        .iter()
        .filter_map(|part| {
            let fields = part.fields.as_slice();
            let fields = (fields.first()?.0, fields.last()?.1);
            Some(Island { addresses: part.addresses, fields })
        })
        .collect();
    all.sort_unstable_by_key(|island| island.addresses);
    all.dedup_by(|island, before| {
        let overlaps = island.addresses.0 <= before.addresses.1;
        if overlaps {
            before.join(island);
        }
        overlaps
    });
    all
}

/// How many pieces each side gets. The smaller side gets one for each of its islands, if that is
/// possible: a packet that is from none of them then meets no piece at all.
fn pieces(sources: usize, destinations: usize, most: usize) -> (usize, usize) {
    let fewer = sources.min(destinations).max(1);
    let (small, large) = if fewer <= most { (fewer, most / fewer) } else { (most, 1) };
    if sources <= destinations { (small, large) } else { (large, small) }
}

/// Joins islands to so many clusters, which are divided by the widest gaps.
fn clusters<A: Address>(islands: &[Island<A>], most: usize) -> Vec<Island<A>> {
    let most = most.max(1);
    if islands.len() <= most {
        return islands.to_vec();
    }
    let mut gaps: Vec<(A, usize)> = islands
        .iter()
        .zip(islands.iter().skip(1))
        .zip(1..)
        .map(|((one, next), at)| (next.addresses.0.wrapping_sub(one.addresses.1), at))
        .collect();
    let narrow = gaps.len() + 1 - most;
    if narrow < gaps.len() {
        gaps.select_nth_unstable(narrow);
    }
    let mut starts: Vec<usize> = gaps.iter().skip(narrow).map(|(_, at)| *at).collect();
    starts.sort_unstable();
    let mut starts = starts.into_iter().peekable();
    let mut clusters: Vec<Island<A>> = Vec::with_capacity(most);
    for (at, island) in islands.iter().enumerate() {
        match clusters.last_mut() {
            Some(cluster) if starts.next_if_eq(&at).is_none() => cluster.join(island),
            _ => clusters.push(*island),
        }
    }
    clusters
}

fn hull_of<A: Address>(rule: &RuleSpec, worlds: &[World]) -> Hull<A> {
    let Criteria { protocols: _, icmp_type: _, icmp_code: _, sources, destinations, ports } =
        Criteria::of(rule);
    let side = |entries: &[Endpoint], ports: &[Range<u16>]| {
        let usual = entries.iter().filter(|it| it.port.is_none()).filter_map(A::of).collect();
        let own = entries.iter().filter_map(|it| Some((A::of(it)?, it.port?)));
        let own: Vec<_> = own.map(|(it, port)| (it, (port.first(), port.last()))).collect();
        Side::new(usual, ports, &own)
    };
    let ports: Vec<Range<u32>> =
        ports.iter().map(|it| (u32::from(it.first()), u32::from(it.last()))).collect();
    let narrow = |port: u32| u16::try_from(port).unwrap_or(u16::MAX);
    let ports: Vec<Range<u16>> =
        merged(ports).into_iter().map(|(first, last)| (narrow(first), narrow(last))).collect();
    let protocols = worlds.iter().flat_map(|world| world.protocols.iter().copied()).collect();
    Hull { protocols, sources: side(sources, &[]), destinations: side(destinations, &ports) }
}

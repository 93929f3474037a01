//! The bounds of rules in addresses, made from their contents alone.

use std::sync::OnceLock;

use super::report::RuleIndex;
use super::request::AnalysedPolicy;
use crate::engine::naive;
use crate::net::Family;
use crate::packet::Packet;
use crate::rule::{Endpoint, RuleSpec};
use crate::worlds::addresses;

/// The first and the last source, and the first and the last destination.
pub(super) type Extent<T> = [T; 4];

/// The bounds of a rule in a family that has no addresses there.
pub(super) const fn nothing<T: Copy>(one: T, zero: T) -> Extent<T> {
    [one, zero, one, zero]
}

/// The bounds of a rule in a family; none if it has no addresses there.
fn extent(spec: &RuleSpec, family: Family) -> Option<Extent<u128>> {
    let hull = |entries: &[Endpoint]| {
        entries
            .iter()
            .flat_map(|entry| addresses(family, entry))
            .reduce(|all, range| (all.0.min(range.0), all.1.max(range.1)))
    };
    let (sources, destinations) = (hull(&spec.sources)?, hull(&spec.destinations)?);
    Some([sources.0, sources.1, destinations.0, destinations.1])
}

fn extent_v4(spec: &RuleSpec) -> Extent<u32> {
    let narrow = |it: u128| u32::try_from(it).unwrap_or(u32::MAX);
    extent(spec, Family::V4).map_or_else(|| nothing(1, 0), |it| it.map(narrow))
}

fn extent_v6(spec: &RuleSpec) -> Extent<u128> {
    extent(spec, Family::V6).unwrap_or_else(|| nothing(1, 0))
}

fn meet<T: PartialOrd>(a: &Extent<T>, b: &Extent<T>) -> bool {
    (a[0] <= b[1]) & (b[0] <= a[1]) & (a[2] <= b[3]) & (b[2] <= a[3])
}

pub(super) fn is_nothing<T: PartialOrd>(extent: &Extent<T>) -> bool {
    extent[0] > extent[1]
}

/// The bounds of a rule in both families.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hull {
    pub(super) v4: Extent<u32>,
    pub(super) v6: Extent<u128>,
}

impl Hull {
    pub(super) fn of(spec: &RuleSpec) -> Self {
        Self { v4: extent_v4(spec), v6: extent_v6(spec) }
    }

    /// Whether two rules can have a packet in common.
    pub(super) fn meets(&self, other: &Self) -> bool {
        meets_in(&self.v4, &other.v4) || meets_in(&self.v6, &other.v6)
    }
}

fn meets_in<T: PartialOrd>(a: &Extent<T>, b: &Extent<T>) -> bool {
    !is_nothing(a) && !is_nothing(b) && meet(a, b)
}

/// The bounds of some rules.
#[derive(Debug, Default)]
pub(super) struct Hulls {
    v4: Vec<Extent<u32>>,
    v6: Vec<Extent<u128>>,
}

impl FromIterator<Hull> for Hulls {
    fn from_iter<I: IntoIterator<Item = Hull>>(hulls: I) -> Self {
        let mut all = Self::default();
        for hull in hulls {
            all.add(hull);
        }
        // Rules often have the same bounds as their neighbors.
        all.v4.sort_unstable();
        all.v4.dedup();
        all.v6.sort_unstable();
        all.v6.dedup();
        all
    }
}

impl Hulls {
    /// Adds the bounds of another rule.
    pub(super) fn add(&mut self, hull: Hull) {
        self.v4.extend(Some(hull.v4).filter(|it| !is_nothing(it)));
        self.v6.extend(Some(hull.v6).filter(|it| !is_nothing(it)));
    }

    /// Whether one of the rules can have a packet in common with a rule.
    pub(super) fn meet(&self, hull: &Hull) -> bool {
        let is_in_v4 = !is_nothing(&hull.v4) && self.v4.iter().any(|it| meet(it, &hull.v4));
        is_in_v4 || !is_nothing(&hull.v6) && self.v6.iter().any(|it| meet(it, &hull.v6))
    }
}

/// The bounds of all rules of a policy, by which the definition is asked about few rules only. They
/// owe nothing to the ranks that the analysis works with.
#[derive(Debug, Default)]
pub(super) struct Extents {
    v4: OnceLock<Vec<Extent<u32>>>,
    v6: OnceLock<Vec<Extent<u128>>>,
}

impl Extents {
    /// The first rule that matches a packet, by the definition.
    pub(super) fn first_match(
        &self,
        policy: &AnalysedPolicy<'_>,
        packet: &Packet,
    ) -> Option<RuleIndex> {
        let (source, destination) = (packet.source(), packet.destination());
        let matches = |index: &RuleIndex| {
            policy.spec(*index).is_some_and(|spec| naive::matches(spec, packet))
        };
        match (source, destination) {
            (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
                let specs = || policy.rules.iter().map(|rule| extent_v4(rule.spec));
                let extents = self.v4.get_or_init(|| specs().collect());
                candidates(extents, source.to_bits(), destination.to_bits()).find(matches)
            }
            (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
                let specs = || policy.rules.iter().map(|rule| extent_v6(rule.spec));
                let extents = self.v6.get_or_init(|| specs().collect());
                candidates(extents, source.to_bits(), destination.to_bits()).find(matches)
            }
            _ => None,
        }
    }
}

fn candidates<T: Copy + PartialOrd>(
    extents: &[Extent<T>],
    source: T,
    destination: T,
) -> impl Iterator<Item = RuleIndex> {
    let contains = move |extent: &Extent<T>| {
        let [from, to, first, last] = *extent;
        (from <= source) & (source <= to) & (first <= destination) & (destination <= last)
    };
    extents.iter().enumerate().filter(move |it| contains(it.1)).map(|it| it.0)
}

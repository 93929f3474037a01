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

/// The bounds of a rule in a family; none if it has no addresses there.
pub(super) fn extent(spec: &RuleSpec, family: Family) -> Option<Extent<u128>> {
    let hull = |entries: &[Endpoint]| {
        entries
            .iter()
            .flat_map(|entry| addresses(family, entry))
            .reduce(|all, range| (all.0.min(range.0), all.1.max(range.1)))
    };
    let (sources, destinations) = (hull(&spec.sources)?, hull(&spec.destinations)?);
    Some([sources.0, sources.1, destinations.0, destinations.1])
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
                let extents = self.v4.get_or_init(|| {
                    let narrow = |it: u128| u32::try_from(it).unwrap_or(u32::MAX);
                    extents(policy, Family::V4).map(|it| it.map(narrow)).collect()
                });
                candidates(extents, source.to_bits(), destination.to_bits()).find(matches)
            }
            (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
                let extents = self.v6.get_or_init(|| extents(policy, Family::V6).collect());
                candidates(extents, source.to_bits(), destination.to_bits()).find(matches)
            }
            _ => None,
        }
    }
}

/// The bounds of each rule; bounds that contain nothing for a rule without addresses of the family.
fn extents(policy: &AnalysedPolicy<'_>, family: Family) -> impl Iterator<Item = Extent<u128>> {
    policy.rules.iter().map(move |rule| extent(rule.spec, family).unwrap_or([1, 0, 1, 0]))
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

//! How much of a rule another one contains.

use super::intern::ListId;
use super::ranges::{Range, intersection, size};
use super::ranks::Ranks;
use super::space::{Part, Slot, Space};
use crate::net::Family;

/// The share of a rule that another one contains, from 0 to 1: of its pairs of addresses, ports and
/// protocols. If it has packets of both families, each family counts one half, since the IPv4
/// addresses would not count at all otherwise.
pub(super) fn share(space: &Space, of: Slot, in_rule: Slot) -> f64 {
    let shares: Vec<f64> = Family::ALL
        .into_iter()
        .filter_map(|family| {
            let all: f64 =
                space.parts(of, family).iter().map(|it| common(space, family, it, it)).sum();
            let pairs = space
                .parts(of, family)
                .iter()
                .flat_map(|own| space.parts(in_rule, family).iter().map(move |its| (own, its)));
            let both: f64 = pairs.map(|(own, its)| common(space, family, own, its)).sum();
            (all > 0.0).then_some((both / all).min(1.0))
        })
        .collect();
    if shares.is_empty() { 0.0 } else { shares.iter().sum::<f64>() / to_f64(shares.len() as u64) }
}

/// How many packets two parts have in common. Values of ports that packets cannot have count too,
/// in both parts alike.
pub(super) fn common(space: &Space, family: Family, a: &Part, b: &Part) -> f64 {
    if !a.bounds.meets(&b.bounds) {
        return 0.0;
    }
    let protocols = intersection(space.sets.get(a.protocols), space.sets.get(b.protocols));
    let ranks = &space.family(family).ranks;
    to_f64(size(&protocols))
        * common_side(space, ranks, a.source, b.source)
        * common_side(space, ranks, a.destination, b.destination)
}

/// How many pairs of addresses and ports two sides have in common.
fn common_side(space: &Space, ranks: &Ranks, a: ListId, b: ListId) -> f64 {
    let (a, b) = (space.sides.segments(a), space.sides.segments(b));
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut rest = long;
    let mut sum = 0.0;
    for own in short {
        let skipped = rest.partition_point(|it| it.end <= own.first);
        rest = rest.get(skipped..).unwrap_or_default();
        for it in rest.iter().take_while(|it| it.first < own.end) {
            let addresses: Range = (own.first.max(it.first), own.end.min(it.end));
            let ports = if own.field == it.field {
                size(space.sets.get(own.field))
            } else {
                size(&intersection(space.sets.get(own.field), space.sets.get(it.field)))
            };
            sum += ranks.size(&[addresses]) * to_f64(ports);
        }
    }
    sum
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "sizes are shown and compared as shares only")]
pub(super) const fn to_f64(count: u64) -> f64 {
    count as f64
}

//! How much of a rule another one contains.

use super::intern::ListId;
use super::ranges::{Range, intersection, size};
use super::ranks::Ranks;
use super::space::{Part, Slot, Space};
use crate::net::Family;

/// How many packets a rule has in each family; none for a family in which it has none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size([Option<f64>; 2]);

impl Size {
    pub(super) fn of(space: &Space, slot: Slot) -> Self {
        Self(Family::ALL.map(|family| {
            let parts = space.parts(slot, family);
            let all: f64 = parts.iter().map(|it| common(space, family, it, it)).sum();
            (all > 0.0).then_some(all)
        }))
    }

    /// The share of the rule that another one contains, from 0 to 1: of its pairs of addresses, ports
    /// and protocols. If it has packets of both families, each family counts one half, since the IPv4
    /// addresses would not count at all otherwise.
    pub(super) fn share(&self, space: &Space, own: Slot, other: Slot) -> f64 {
        let mut sum = 0.0;
        let mut families = 0.0;
        for (family, all) in Family::ALL.into_iter().zip(self.0) {
            let Some(all) = all else { continue };
            let its = space.parts(other, family);
            let both: f64 = space
                .parts(own, family)
                .iter()
                .flat_map(|own| its.iter().map(move |its| common(space, family, own, its)))
                .sum();
            families += 1.0;
            sum += (both / all).min(1.0);
        }
        if families > 0.0 { sum / families } else { 0.0 }
    }
}

/// See [`Size::share`].
pub(super) fn share(space: &Space, own: Slot, other: Slot) -> f64 {
    Size::of(space, own).share(space, own, other)
}

/// How many packets two parts have in common. Values of ports that packets cannot have count too,
/// in both parts alike.
fn common(space: &Space, family: Family, a: &Part, b: &Part) -> f64 {
    let Some(both) = a.bounds.intersection(&b.bounds) else { return 0.0 };
    let ranks = &space.family(family).ranks;
    if a.is_whole && b.is_whole {
        let [source, destination, first, second, protocol] = both.first;
        let [source_end, destination_end, first_end, second_end, protocol_end] = both.end;
        return ranks.size(&[(source, source_end)])
            * ranks.size(&[(destination, destination_end)])
            * f64::from(first_end - first)
            * f64::from(second_end - second)
            * f64::from(protocol_end - protocol);
    }
    let protocols = if a.protocols == b.protocols {
        size(space.sets.get(a.protocols))
    } else {
        size(&intersection(space.sets.get(a.protocols), space.sets.get(b.protocols)))
    };
    to_f64(protocols)
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

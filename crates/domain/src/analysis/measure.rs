//! How much of a rule another one contains, as people count it.
//!
//! The number of packets would say little: a protocol with ports has four billion of them between
//! two addresses, ICMP 65,536, and all others one. A rule that takes every ping would be nothing
//! next to one that takes a single port. So each class of traffic counts the same if the rule has
//! packets of it: tcp, udp, ICMP, and all other protocols together, in IPv4 and in IPv6.

use super::intern::ListId;
use super::ranges::{Range, has, intersection, size};
use super::ranks::Ranks;
use super::space::{PORTS_END, Part, Slot, Space};
use crate::net::{Family, Protocol};

/// How many ICMP types there are, and how many codes.
const ICMP_VALUES: u32 = 256;

/// The classes of traffic: tcp, udp, ICMP, and all other protocols.
const CLASSES: usize = 4;

/// A number for each class of traffic.
type ByClass = [f64; CLASSES];

/// How much a rule has of each class of traffic in each family: its pairs of addresses, each with the
/// share of all pairs of ports, or of all ICMP types and codes, and in the last class with the number
/// of protocols.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size([ByClass; 2]);

impl Size {
    pub(super) fn of(space: &Space, slot: Slot) -> Self {
        Self(Family::ALL.map(|family| {
            let mut all = ByClass::default();
            for part in space.parts(slot, family) {
                add_common(space, family, part, part, &mut all);
            }
            all
        }))
    }

    /// The share of the rule that another one contains, from 0 to 1: the mean of its shares of each
    /// class of traffic that the rule has.
    pub(super) fn share(&self, space: &Space, own: Slot, other: Slot) -> f64 {
        let mut sum = 0.0;
        let mut classes = 0.0;
        for (family, all) in Family::ALL.into_iter().zip(self.0) {
            let mut both = ByClass::default();
            for own in space.parts(own, family) {
                for its in space.parts(other, family) {
                    add_common(space, family, own, its, &mut both);
                }
            }
            for (all, both) in all.into_iter().zip(both).filter(|it| it.0 > 0.0) {
                classes += 1.0;
                sum += (both / all).min(1.0);
            }
        }
        if classes > 0.0 { sum / classes } else { 0.0 }
    }
}

/// See [`Size::share`].
pub(super) fn share(space: &Space, own: Slot, other: Slot) -> f64 {
    Size::of(space, own).share(space, own, other)
}

/// Adds what two parts have in common of each class of traffic.
fn add_common(space: &Space, family: Family, a: &Part, b: &Part, sums: &mut ByClass) {
    let Some(both) = a.bounds.intersection(&b.bounds) else { return };
    let is_whole = a.is_whole && b.is_whole;
    let [source, destination, first, second, protocol] = both.first;
    let [source_end, destination_end, first_end, second_end, protocol_end] = both.end;
    let protocols = if is_whole {
        by_class(family, &[(protocol, protocol_end)])
    } else if a.protocols == b.protocols {
        by_class(family, space.sets.get(a.protocols))
    } else {
        by_class(family, &intersection(space.sets.get(a.protocols), space.sets.get(b.protocols)))
    };
    let [.., icmp, _] = protocols;
    let ranks = &space.family(family).ranks;
    let [with_ports, with_types] = if is_whole {
        let addresses =
            ranks.size(&[(source, source_end)]) * ranks.size(&[(destination, destination_end)]);
        let fields = [(first, first_end), (second, second_end)];
        [share_of_ports, share_of_types].map(|share| {
            let shares = fields.map(|field| share(&[field]));
            shares.into_iter().fold(addresses, |all, share| all * share)
        })
    } else {
        let sides = |share: fn(&[Range]) -> f64| {
            common_side(space, ranks, share, a.source, b.source)
                * common_side(space, ranks, share, a.destination, b.destination)
        };
        [sides(share_of_ports), if icmp > 0.0 { sides(share_of_types) } else { 0.0 }]
    };
    // Rules that match protocols without ports or types take all values of the fields.
    let weights = [with_ports, with_ports, with_types, with_ports];
    for ((sum, protocols), weight) in sums.iter_mut().zip(protocols).zip(weights) {
        *sum += protocols * weight;
    }
}

/// How many pairs of an address and of ports two sides have in common. The ports count by their share
/// of all.
fn common_side(
    space: &Space,
    ranks: &Ranks,
    share: fn(&[Range]) -> f64,
    a: ListId,
    b: ListId,
) -> f64 {
    let (a, b) = (space.sides.segments(a), space.sides.segments(b));
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut rest = long;
    let mut sum = 0.0;
    for own in short {
        let skipped = rest.partition_point(|it| it.end <= own.first);
        rest = rest.get(skipped..).unwrap_or_default();
        for it in rest.iter().take_while(|it| it.first < own.end) {
            let addresses: Range = (own.first.max(it.first), own.end.min(it.end));
            let fields = if own.field == it.field {
                share(space.sets.get(own.field))
            } else {
                share(&intersection(space.sets.get(own.field), space.sets.get(it.field)))
            };
            sum += ranks.size(&[addresses]) * fields;
        }
    }
    sum
}

/// The share of all ports.
fn share_of_ports(set: &[Range]) -> f64 {
    to_f64(size(set)) / f64::from(PORTS_END)
}

/// The share of all ICMP types or codes. The last one includes all numbers after it.
fn share_of_types(set: &[Range]) -> f64 {
    let first_of_range = |range: &Range| (range.0, range.1.min(ICMP_VALUES));
    let ranges = set.iter().map(first_of_range).filter(|range| range.0 < range.1);
    to_f64(ranges.map(|range| u64::from(range.1 - range.0)).sum()) / f64::from(ICMP_VALUES)
}

/// How many protocols of each class a set has.
fn by_class(family: Family, set: &[Range]) -> ByClass {
    let (icmp, missing) = match family {
        Family::V4 => (Protocol::ICMP, Protocol::ICMPV6),
        Family::V6 => (Protocol::ICMPV6, Protocol::ICMP),
    };
    let count = |protocol: Protocol| u32::from(has(set, protocol.0.into()));
    let [tcp, udp, icmp] = [Protocol::TCP, Protocol::UDP, icmp].map(count);
    // The number of the protocol that the family does not have belongs to the protocol before it.
    let others = size(set).saturating_sub((tcp + udp + icmp + count(missing)).into());
    [f64::from(tcp), f64::from(udp), f64::from(icmp), to_f64(others)]
}

/// A count as a float.
#[expect(clippy::cast_precision_loss, reason = "sizes are shown and compared as shares only")]
pub(super) const fn to_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::super::request::AnalysisLimits;
    use super::super::space::undivided;
    use super::*;
    use crate::net::{AddressRange, PortRange};
    use crate::rule::{Endpoint, RuleParts, RuleSpec};
    use crate::testing::rules::everything;

    fn rule(source: &str, protocols: &[&str], change: impl Fn(&mut RuleParts)) -> RuleSpec {
        let address = AddressRange::parse(source).unwrap();
        let mut parts = everything();
        parts.sources = vec![Endpoint { address, port: None }];
        parts.protocols = protocols.iter().map(|it| Protocol::parse(it).unwrap()).collect();
        change(&mut parts);
        RuleSpec::new(parts).unwrap()
    }

    /// The share of the second rule that the first one contains.
    fn shared(first: &RuleSpec, second: &RuleSpec) -> f64 {
        let limits = AnalysisLimits::usual(&|| true);
        let budget = Budget::new(&limits);
        let space = Space::new(&[first, second], undivided, &budget).unwrap();
        assert!((share(&space, 1, 1) - 1.0).abs() < 1e-9);
        share(&space, 1, 0)
    }

    fn is_near(share: f64, expected: f64) {
        assert!((share - expected).abs() < 1e-9, "{share} is not {expected}");
    }

    #[test]
    fn each_icmp_type_and_code_is_one_of_256() {
        let typed = |icmp_type: u8, icmp_code: Option<u8>| {
            rule("10.0.0.0/8", &["icmp"], |parts| {
                parts.icmp_type = Some(icmp_type);
                parts.icmp_code = icmp_code;
            })
        };
        let all = rule("10.0.0.0/8", &["icmp"], |_| {});
        for icmp_type in [0, 8, 255] {
            is_near(shared(&typed(icmp_type, None), &all), 1.0 / 256.0);
            is_near(shared(&typed(icmp_type, Some(255)), &all), 1.0 / 65_536.0);
            is_near(shared(&typed(8, Some(icmp_type)), &typed(8, None)), 1.0 / 256.0);
        }
    }

    #[test]
    fn tcp_udp_icmp_and_all_other_protocols_count_the_same() {
        let of = |protocols: &[&str]| rule("10.0.0.0/8", protocols, |_| {});
        let any = of(&[]);
        for protocol in ["tcp", "udp", "icmp"] {
            is_near(shared(&of(&[protocol]), &any), 0.25);
        }
        // All protocols of IPv4 but tcp, udp and icmp.
        is_near(shared(&of(&["gre"]), &any), 0.25 / 252.0);
        is_near(shared(&of(&["gre"]), &of(&["gre", "esp", "tcp"])), 0.25);
        is_near(shared(&of(&["58", "gre"]), &of(&["gre"])), 1.0);
        let web = rule("10.0.0.0/8", &["tcp"], |it| it.ports = vec![PortRange::single(443)]);
        is_near(shared(&web, &of(&["tcp", "udp"])), 0.5 / 65_536.0);
        // A rule with ports has neither ICMP nor protocols without ports.
        let ported = rule("any", &[], |it| it.ports = vec![PortRange::single(443)]);
        is_near(shared(&rule("0.0.0.0/0", &["tcp"], |_| {}), &ported), 1.0 / 6.0);
    }

    #[test]
    fn each_family_counts_the_same() {
        let all = rule("any", &["tcp"], |_| {});
        is_near(shared(&rule("0.0.0.0/1", &["tcp"], |_| {}), &all), 0.25);
        is_near(shared(&rule("8000::/1", &["tcp"], |_| {}), &all), 0.25);
        is_near(shared(&rule("0.0.0.0/0", &["tcp"], |_| {}), &all), 0.5);
    }
}

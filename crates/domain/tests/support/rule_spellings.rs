//! Every rule, address and port, in every spelling that the API accepts. Other test crates include
//! this module by `#[path]`, too, so it depends only on fireflow-domain, proptest and its neighbor
//! `rule_strategies`. It is in a directory of its own, or cargo would take it for a test.

use std::net::{IpAddr, Ipv6Addr};

use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::rule::RuleSpec;
use fireflow_domain::time::Instant;
use proptest::prelude::*;
use proptest::sample::select;

use crate::rule_strategies::{World, specs};

const PROTOCOLS: [Protocol; 8] = [
    Protocol::TCP,
    Protocol::UDP,
    Protocol::ICMP,
    Protocol::ICMPV6,
    Protocol(47),
    Protocol(0),
    Protocol(89),
    Protocol(255),
];

/// Any rules.
pub(crate) fn any_specs() -> BoxedStrategy<RuleSpec> {
    let instants =
        any::<u32>().prop_map(|it| Instant::from_micros(i64::from(it) * 1_000_001).unwrap());
    specs(World {
        addresses: any_addresses(),
        ports: any_ports(),
        protocols: &PROTOCOLS,
        icmp: &[0, 8, 255],
        priorities: i32::MIN..i32::MAX,
        instants: Some(instants.boxed()),
    })
}

/// Any addresses: hosts, blocks of every length, ranges, `any`.
pub(crate) fn any_addresses() -> BoxedStrategy<AddressRange> {
    let v4 = (any::<u32>(), 0..=32_u8)
        .prop_map(|(address, length)| AddressRange::block(IpAddr::V4(address.into()), length));
    let v6 = (any::<u128>(), 0..=128_u8)
        .prop_map(|(address, length)| AddressRange::block(IpAddr::V6(address.into()), length));
    let v4_range = (any::<u32>(), any::<u32>())
        .prop_map(|(one, other)| AddressRange::V4 { first: one.min(other), last: one.max(other) });
    let v6_range = (any::<u128>(), any::<u128>())
        .prop_map(|(one, other)| AddressRange::V6 { first: one.min(other), last: one.max(other) });
    prop_oneof![Just(AddressRange::Any), v4, v6, v4_range, v6_range]
        // Within the block of mapped addresses there is no IPv6 range.
        .prop_filter("it can be written", |it| AddressRange::parse(&it.to_string()).is_ok())
        .boxed()
}

/// Any ports.
fn any_ports() -> BoxedStrategy<PortRange> {
    let ends = prop_oneof![
        (any::<u16>(), any::<u16>()),
        any::<u16>().prop_map(|port| (port, port)),
        select(&[(0, 0), (0, 65_535), (65_535, 65_535)][..]),
    ];
    ends.prop_map(|(one, other)| PortRange::new(one.min(other), one.max(other)).unwrap()).boxed()
}

/// All spellings of addresses that are accepted. The first is canonical.
pub(crate) fn address_spellings(address: AddressRange) -> Vec<String> {
    let canonical = address.to_string();
    let (first, last, bits): (IpAddr, IpAddr, u8) = match address {
        AddressRange::Any => return ["any", "ANY", "aNy"].map(str::to_owned).to_vec(),
        AddressRange::V4 { first, last } => (IpAddr::V4(first.into()), IpAddr::V4(last.into()), 32),
        AddressRange::V6 { first, last } => {
            (IpAddr::V6(first.into()), IpAddr::V6(last.into()), 128)
        }
    };
    let mut written = vec![(first.to_string(), last.to_string())];
    if let (IpAddr::V6(first), IpAddr::V6(last)) = (first, last) {
        let long = |it: Ipv6Addr| it.segments().map(|group| format!("{group:04x}")).join(":");
        let short = |it: Ipv6Addr| it.segments().map(|group| format!("{group:X}")).join(":");
        written.push((long(first), long(last)));
        written.push((short(first), short(last)));
    }
    let mut all = vec![canonical.clone()];
    for (first, last) in written {
        all.push(format!("{first}-{last}"));
        if let Some((_, length)) = canonical.split_once('/') {
            all.push(format!("{first}/{length}"));
        } else if first == last {
            all.push(format!("{first}/{bits}"));
            all.push(first);
        }
    }
    all
}

/// All spellings of ports. The first is canonical.
pub(crate) fn port_spellings(ports: PortRange) -> Vec<String> {
    vec![ports.to_string(), format!("{}-{}", ports.first(), ports.last())]
}

/// All spellings of a protocol. The first is canonical.
pub(crate) fn protocol_spellings(protocol: Protocol) -> Vec<String> {
    let word = protocol.to_string();
    let upper = word.to_ascii_uppercase();
    vec![word, protocol.0.to_string(), upper]
}

//! The small world of the classifier's tests: its rules, and every packet that these distinguish.

use std::net::IpAddr;

use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::RuleSpec;
use fireflow_domain::time::Instant;
use proptest::prelude::*;
use proptest::sample::select;

use super::rule_strategies::World;

pub(crate) const NOON: &str = "2026-11-24T12:00:00Z";
pub(crate) const PROTOCOLS: [Protocol; 5] =
    [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47)];
pub(crate) const PORTS: [u16; 5] = [0, 21, 22, 23, 65_535];
pub(crate) const ICMP: [u8; 3] = [0, 8, 255];
pub(crate) const ADDRESSES: [&str; 8] = [
    "0.0.0.0",
    "10.0.0.0",
    "10.0.0.1",
    "10.0.0.2",
    "255.255.255.255",
    "2001:db8::",
    "2001:db8::1",
    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
];

pub(crate) fn noon() -> Instant {
    Instant::parse(NOON).unwrap()
}

pub(crate) fn addresses() -> impl Strategy<Value = AddressRange> + Clone {
    select(
        &[
            "any",
            "0.0.0.0/0",
            "::/0",
            "10.0.0.0",
            "10.0.0.1",
            "10.0.0.0/31",
            "10.0.0.0/8",
            "10.0.0.1-10.0.0.2",
            "9.255.255.255-10.0.0.1",
            "255.255.255.255",
            "0.0.0.0/1",
            "2001:db8::",
            "2001:db8::1",
            "2001:db8::/127",
            "2001:db8::/32",
            "2001:db8::1-2001:db8::2",
            "8000::/1",
        ][..],
    )
    .prop_map(|text| AddressRange::parse(text).unwrap())
}

pub(crate) fn ports() -> impl Strategy<Value = PortRange> + Clone {
    select(&["0-65535", "21", "22", "21-22", "0", "22-65535", "23"][..])
        .prop_map(|text| PortRange::parse(text).unwrap())
}

/// An hour before noon, noon, or an hour after noon.
pub(crate) fn instants() -> impl Strategy<Value = Instant> + Clone {
    select(&["2026-11-24T11:00:00Z", NOON, "2026-11-24T13:00:00Z"][..])
        .prop_map(|text| Instant::parse(text).unwrap())
}

pub(crate) fn specs() -> impl Strategy<Value = RuleSpec> {
    super::rule_strategies::specs(World {
        addresses: addresses().boxed(),
        ports: ports().boxed(),
        protocols: &PROTOCOLS,
        icmp: &ICMP,
        priorities: 0..4,
        instants: Some(instants().boxed()),
    })
}

/// Every packet of the small world, with times before, at and after noon in rotation.
pub(crate) fn packets() -> Vec<Packet> {
    let mut packets = Vec::new();
    let addresses = ADDRESSES.map(|text| text.parse::<IpAddr>().unwrap());
    let times = ["2026-11-24T11:30:00Z", NOON, "2026-11-24T12:30:00Z"]
        .map(|text| Instant::parse(text).unwrap());
    for source_address in addresses {
        for destination_address in addresses {
            for protocol in PROTOCOLS {
                let both = |some: Vec<(Option<u16>, Option<u16>)>| some;
                let payloads = if protocol.is_icmp() || !protocol.has_ports() {
                    both(vec![(None, None)])
                } else {
                    let one = PORTS.into_iter();
                    one.flat_map(|a| PORTS.map(|b| (Some(a), Some(b)))).collect()
                };
                let icmp = if protocol.is_icmp() {
                    ICMP.into_iter().flat_map(|a| ICMP.map(|b| (Some(a), Some(b)))).collect()
                } else {
                    vec![(None, None)]
                };
                for (source_port, destination_port) in payloads {
                    for (icmp_type, icmp_code) in &icmp {
                        let at = times[packets.len() % times.len()];
                        packets.extend(
                            Packet::new(PacketParts {
                                source_address,
                                destination_address,
                                protocol,
                                source_port,
                                destination_port,
                                icmp_type: *icmp_type,
                                icmp_code: *icmp_code,
                                at,
                            })
                            .ok(),
                        );
                    }
                }
            }
        }
    }
    packets
}

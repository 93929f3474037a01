//! Sets of packets, read and written.

use fireflow_domain::analysis::{ByteRange, PacketSet};
use fireflow_domain::error::Violations;
use fireflow_domain::net::{AddressRange, Family, Protocol};
use fireflow_formats::analysis::{PacketSetView, packet_set, packet_set_of_words};
use serde_json::{Value, json};

use super::port;

fn read(value: Value) -> Result<PacketSet, Vec<String>> {
    let mut violations = Violations::new();
    let set = packet_set(value, "/packets", &mut violations);
    if violations.is_empty() {
        return Ok(set.unwrap());
    }
    assert_eq!(set, None);
    Err(violations.items().iter().map(ToString::to_string).collect())
}

fn ssh() -> PacketSet {
    PacketSet {
        protocols: vec![Protocol::TCP],
        sources: vec![AddressRange::parse("10.0.0.0/8").unwrap()],
        destination_ports: vec![port(22), port(2222)],
        ..PacketSet::default()
    }
}

#[test]
fn a_set_is_read_from_values_lists_and_words() {
    let expected = Ok(ssh());
    let lists = json!({
        "protocols": ["TCP"], "sources": ["10.0.0.0/8"], "destination_ports": ["22", 2222],
    });
    assert_eq!(read(lists), expected);
    let single = json!({"protocols": 6, "sources": "10.0.0.0/8", "destination_ports": [22, 2222]});
    assert_eq!(read(single.clone()), expected);
    let words = "protocols=tcp sources=10.0.0.0/8  destination_ports=22,2222";
    assert_eq!(packet_set_of_words(words).unwrap(), ssh());
    assert_eq!(packet_set_of_words(&single.to_string()).unwrap(), ssh());
    for everything in ["any", "{}", "sources=any"] {
        assert_eq!(packet_set_of_words(everything).unwrap(), PacketSet::everything());
    }
    let icmp = packet_set_of_words("family=ipv6 icmp_types=0-127,200 icmp_codes=0").unwrap();
    assert_eq!(icmp.family, Some(Family::V6));
    let types = [ByteRange::new(0, 127).unwrap(), ByteRange::single(200)];
    assert_eq!((icmp.icmp_types, icmp.icmp_codes), (types.to_vec(), vec![ByteRange::single(0)]));
}

#[test]
fn what_is_written_is_read_as_the_same_set() {
    let sets = [
        ssh(),
        PacketSet::everything(),
        PacketSet {
            family: Some(Family::V6),
            icmp_types: vec![ByteRange::new(1, 4).unwrap()],
            icmp_codes: vec![ByteRange::single(0)],
            source_ports: vec![port(1)],
            destinations: vec![AddressRange::parse("2001:db8::-2001:db8::5").unwrap()],
            ..PacketSet::default()
        },
    ];
    for set in sets {
        let written = serde_json::to_value(PacketSetView::from(&set)).unwrap();
        assert_eq!(read(written), Ok(set));
    }
    assert_eq!(PacketSetView::from(&ssh()).in_words(), "tcp from 10.0.0.0/8 to any port 22, 2222");
    assert_eq!(PacketSetView::default().in_words(), "any protocol from any to any");
}

#[test]
fn every_fault_of_a_set_is_named() {
    let faults = read(json!({
        "protocol": "tcp", "sources": [], "destinations": "10.0.0.1/8", "source_ports": "9-1",
        "icmp_types": "256", "family": "ipv5", "protocols": ["tcp", null],
    }))
    .unwrap_err();
    let expected = [
        ("#/packets/protocol", "did you mean `protocols`?"),
        ("#/packets/sources", "leave it out to hold every value"),
        ("#/packets/destinations", "host bits set"),
        ("#/packets/source_ports", "ends before it begins"),
        ("#/packets/icmp_types", "`256` is not a number from 0 to 255"),
        ("#/packets/family", "use ipv4 or ipv6"),
        ("#/packets/protocols", "entry 1: must be a string"),
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:?}");
    for (pointer, detail) in expected {
        let found = faults.iter().any(|it| it.starts_with(pointer) && it.contains(detail));
        assert!(found, "{pointer}: {faults:?}");
    }
    for (words, detail) in [
        ("tcp", "is not a member and its values"),
        ("sources=10.0.0.1 sources=10.0.0.2", "is given twice"),
        ("{", "EOF"),
    ] {
        let error = packet_set_of_words(words).unwrap_err().items()[0].to_string();
        assert!(error.contains(detail), "{error}");
    }
}

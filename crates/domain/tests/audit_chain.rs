//! Tests the hashes of the chains of the audit trail: their input, and that no part of an event can
//! change unless its hash changes. The expected values come from another program.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use fireflow_domain::audit_chain::{Chain, ChainedEvent, EventHash};
use fireflow_domain::ids::{FirewallId, PolicyId};

const GENESIS: &str = "01305b5c59a3a35bfcf2a38a05ef9dd6cabfcb6f8a501015c3c915d7ac94ad9cfa";
const FIRST: &str = "016bf49251fa13167c515953bf1b41843601f15dac81308a46c8720a56db8b6f8e";

fn firewall() -> Chain {
    Chain::Firewall(FirewallId::new(7).unwrap())
}

fn policy() -> Chain {
    Chain::Policy(PolicyId::new(7).unwrap())
}

fn first(predecessor: &EventHash) -> ChainedEvent<'_> {
    ChainedEvent {
        chain: firewall(),
        sequence: 1,
        predecessor,
        at: 1_764_244_800_000_000,
        subject: "ann",
        request_id: "r1",
        client_address: "192.0.2.1",
        reason: "CHG-1: new site",
        action: "create",
        resource: "firewall",
        resource_id: 7,
        firewall_id: 7,
        policy_id: None,
        tenant: Some("red"),
        former_tenant: None,
        before: None,
        after: Some(r#"{"name":"edge"}"#),
    }
}

#[test]
fn hashes_are_those_that_another_program_makes() {
    let genesis = EventHash::genesis(firewall(), true);
    assert_eq!(genesis.to_hex(), GENESIS);
    assert_eq!(
        EventHash::genesis(firewall(), false).to_hex(),
        "01153e2ee3d980b3c613d9f50b83cd4115706d236fbba8b67aa5473d12d51a3c7a"
    );
    let of_policy = EventHash::genesis(policy(), true);
    assert_eq!(
        of_policy.to_hex(),
        "01d4434fff459a135e35f0c618b55171e364e90f28e3686427f25b6b8b4161a9f1"
    );
    let created = EventHash::of(&first(&genesis));
    assert_eq!(created.to_hex(), FIRST);
    let moved = EventHash::of(&ChainedEvent {
        sequence: 2,
        at: 1_764_244_800_000_001,
        subject: "béa",
        request_id: "r2",
        client_address: "",
        reason: "",
        action: "update",
        tenant: Some("blue"),
        former_tenant: Some("red"),
        before: Some(r#"{"name":"edge"}"#),
        after: Some(r#"{"name":"edge","tenant":"blue"}"#),
        ..first(&created)
    });
    assert_eq!(
        moved.to_hex(),
        "01e4f6a67f3fed5f3b5ee37b3e3dffdca9a4502e5681281c9a3ac207391747c9d3"
    );
    let deleted = EventHash::of(&ChainedEvent {
        chain: policy(),
        at: -1,
        subject: "",
        request_id: "",
        client_address: "",
        reason: "",
        action: "delete",
        resource: "firewall_rule",
        resource_id: 9_007_199_254_740_991,
        firewall_id: 3,
        policy_id: Some(7),
        tenant: Some(""),
        before: Some(""),
        after: None,
        ..first(&of_policy)
    });
    assert_eq!(
        deleted.to_hex(),
        "016a5fc9a12d9470fd38a191661c705002b44f504eac5a7aea8ee5090f496dc8aa"
    );
}

#[test]
fn a_change_of_any_part_changes_the_hash() {
    let (genesis, other) =
        (EventHash::genesis(firewall(), true), EventHash::genesis(policy(), true));
    let event = first(&genesis);
    let changed = [
        ChainedEvent { chain: policy(), ..event },
        ChainedEvent { sequence: 2, ..event },
        ChainedEvent { predecessor: &other, ..event },
        ChainedEvent { at: event.at + 1, ..event },
        ChainedEvent { subject: "anna", ..event },
        ChainedEvent { request_id: "r", ..event },
        ChainedEvent { client_address: "192.0.2.2", ..event },
        ChainedEvent { reason: "", ..event },
        ChainedEvent { action: "restore", ..event },
        ChainedEvent { resource: "filtering_policy", ..event },
        ChainedEvent { resource_id: 8, ..event },
        ChainedEvent { firewall_id: 8, ..event },
        ChainedEvent { policy_id: Some(7), ..event },
        ChainedEvent { tenant: Some("blue"), ..event },
        ChainedEvent { tenant: None, ..event },
        ChainedEvent { former_tenant: Some(""), ..event },
        ChainedEvent { before: Some(""), ..event },
        ChainedEvent { after: None, ..event },
        // A value that moves from one field to the next changes the hash, too.
        ChainedEvent { subject: "an", request_id: "nr1", ..event },
        ChainedEvent { before: event.after, after: None, ..event },
    ];
    let mut hashes: Vec<String> =
        changed.iter().map(|event| EventHash::of(event).to_hex()).collect();
    hashes.push(EventHash::of(&event).to_hex());
    hashes.sort();
    hashes.dedup();
    assert_eq!(hashes.len(), changed.len() + 1);
}

#[test]
fn a_hash_is_read_as_it_is_spelled() {
    let hash = EventHash::parse(FIRST).unwrap();
    assert_eq!(hash.to_hex(), FIRST);
    assert_eq!(EventHash::from_bytes(hash.as_bytes()), Some(hash));
    assert!(hash.is_known());
    assert!(!EventHash::parse(&FIRST.replacen("01", "02", 1)).unwrap().is_known());
    for bad in ["", "01", FIRST.trim_start_matches("01"), &format!("{FIRST}0")] {
        assert_eq!(EventHash::parse(bad), None, "{bad}");
    }
    assert_eq!(EventHash::parse(&FIRST.replace("6b", "+b")), None);
    assert_eq!(EventHash::from_bytes(&[1; 32]), None);
}

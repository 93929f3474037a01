//! Tests that the generators of rules produce what they promise, and that neither spelling, order
//! nor repetition changes what a rule is.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

#[path = "support/rule_spellings.rs"]
mod rule_spellings;
#[path = "support/rule_strategies.rs"]
mod rule_strategies;

use std::collections::BTreeSet;

use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::rule::fingerprint::Fingerprint;
use fireflow_domain::rule::{Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::random::cases;
use fireflow_domain::text::Name;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use rule_spellings::{
    address_spellings, any_addresses, any_specs, port_spellings, protocol_spellings,
};
use rule_strategies::names;

/// The same rule in other spellings, its lists in another order and with repetitions.
fn respelled(spec: &RuleSpec, choice: Index) -> RuleParts {
    let mut step = choice.index(1 << 20);
    let mut pick = |all: Vec<String>| {
        step = step.wrapping_mul(31).wrapping_add(7);
        all[step % all.len()].clone()
    };
    let mut ends = |entries: &[Endpoint]| -> Vec<Endpoint> {
        let mut respelled: Vec<Endpoint> = entries
            .iter()
            .map(|Endpoint { address, port }| Endpoint {
                address: AddressRange::parse(&pick(address_spellings(*address))).unwrap(),
                port: port.map(|port| PortRange::parse(&pick(port_spellings(port))).unwrap()),
            })
            .collect();
        respelled.rotate_left(choice.index(entries.len()));
        respelled.push(respelled[0]);
        respelled
    };
    let mut parts = spec.clone().into_parts();
    parts.sources = ends(&parts.sources);
    parts.destinations = ends(&parts.destinations);
    parts.ports.reverse();
    parts.ports.extend(parts.ports.clone());
    let again = parts.protocols.iter().chain(parts.protocols.iter()).rev();
    parts.protocols =
        again.map(|it| Protocol::parse(&pick(protocol_spellings(*it))).unwrap()).collect();
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(500)))]

    #[test]
    fn every_spelling_of_an_address_is_the_same_address(address in any_addresses()) {
        for text in address_spellings(address) {
            let read = AddressRange::parse(&text).unwrap();
            prop_assert_eq!(read, address, "{}", text);
            prop_assert_eq!(&read.to_string(), &address_spellings(address)[0]);
        }
    }

    #[test]
    fn spelling_order_and_repetition_make_no_other_rule(spec in any_specs(), choice: Index) {
        let other = RuleSpec::new(respelled(&spec, choice)).unwrap();
        prop_assert_eq!(Fingerprint::of(&spec), Fingerprint::of(&other));
    }

    #[test]
    fn a_generated_name_is_accepted_and_stays_as_it_is(name in names()) {
        prop_assert_eq!(Name::parse(name.as_str()), Ok(name.clone()));
        prop_assert_eq!(Name::stored(name.as_str()), Ok(name));
    }
}

/// Generators that left something out would let a test pass that checks less than it says.
#[test]
fn generated_rules_have_every_plane_every_family_and_repeated_entries() {
    let mut runner = TestRunner::deterministic();
    let mut planes = BTreeSet::new();
    for _ in 0..3_000 {
        let name = names().new_tree(&mut runner).unwrap().current();
        planes.extend(name.as_str().chars().map(|it| u32::from(it) >> 16));
    }
    assert!(planes.iter().copied().eq(0..=16), "{planes:?}");
    let (mut repeats, mut families, mut icmp) = (0, BTreeSet::new(), 0);
    let (mut many, mut blocks) = (0, 0);
    for _ in 0..500 {
        let spec = any_specs().new_tree(&mut runner).unwrap().current();
        let distinct: BTreeSet<Endpoint> = spec.sources.iter().copied().collect();
        repeats += usize::from(distinct.len() < spec.sources.len());
        icmp += usize::from(spec.icmp_type.is_some());
        for Endpoint { address, port: _ } in &spec.sources {
            families.insert(match address {
                AddressRange::Any => "both",
                AddressRange::V4 { .. } => "IPv4",
                AddressRange::V6 { .. } => "IPv6",
            });
            blocks += usize::from(address.to_string().contains('/'));
        }
        many += usize::from(spec.protocols.len() > 4);
    }
    assert!(repeats > 50, "{repeats}");
    assert!(icmp > 20, "{icmp}");
    assert!(blocks > 200, "{blocks}");
    assert!(many > 10, "{many}");
    assert_eq!(families.len(), 3);
}

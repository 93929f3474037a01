//! Tests that a compilation never takes more memory than its budget, nor more than it announced.
//! The test is in a file of its own, since the allocator counts the memory of the whole process.

#![expect(clippy::unwrap_used, reason = "a test reports a failure by panicking")]

use std::net::IpAddr;

use fireflow_domain::engine::classifier::{Budget, Classifier};
use fireflow_domain::engine::naive::RuleRef;
use fireflow_domain::ids::RuleId;
use fireflow_domain::net::{AddressRange, PortRange};
use fireflow_domain::rule::{Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::adversarial::{self, Family};
use fireflow_domain::testing::rule_sets::rule_set;
use fireflow_domain::testing::rules::everything;
use fireflow_domain::time::Instant;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const MEBIBYTE: usize = 1024 * 1024;

/// Rules whose products of `side` by `side` ranges partly overlap, shifted from rule to rule.
fn products(rules: u16, side: u32, address: fn(u32) -> IpAddr) -> Vec<RuleSpec> {
    let entries = |from: u32| -> Vec<Endpoint> {
        let range = |at: u32| -> AddressRange {
            AddressRange::parse(&format!("{}-{}", address(at * 8), address(at * 8 + 5))).unwrap()
        };
        (from..from + side).map(|at| Endpoint { address: range(at), port: None }).collect()
    };
    (0..rules)
        .map(|index| {
            let parts = RuleParts {
                sources: entries(u32::from(index) * side / 2),
                destinations: entries(u32::from(index) * side / 3),
                ports: vec![PortRange::single(index), PortRange::single(index + 5_000)],
                ..everything()
            };
            RuleSpec::new(parts).unwrap()
        })
        .collect()
}

/// Rules whose products are a thousand million cuboids.
fn huge(rules: u32) -> Vec<RuleSpec> {
    let entries = |from: u32| -> Vec<Endpoint> {
        let address = |at: u32| AddressRange::host(v4(from + 2 * at));
        (0..1_000).map(|at| Endpoint { address: address(at), port: None }).collect()
    };
    (0..rules)
        .map(|index| {
            let parts = RuleParts {
                sources: entries(index * 700),
                destinations: entries(0x0100_0000 + index * 500),
                ports: (0..1_000).map(|port| PortRange::single(port * 3)).collect(),
                ..everything()
            };
            RuleSpec::new(parts).unwrap()
        })
        .collect()
}

/// Rules whose entries overlap each other, each with ports of its own.
fn own_ports(rules: u32) -> Vec<RuleSpec> {
    let entries = |address: fn(u32) -> IpAddr, from: u32| -> Vec<Endpoint> {
        (0..1_000)
            .map(|at| {
                let range = format!("{}-{}", address(from + at), address(from + 4_000 - at));
                let port = PortRange::single(u16::try_from(2 * at).unwrap());
                Endpoint { address: AddressRange::parse(&range).unwrap(), port: Some(port) }
            })
            .collect()
    };
    (0..rules)
        .map(|index| {
            let address = if index % 2 == 0 { v4 } else { v6 };
            let parts = RuleParts {
                sources: entries(address, index * 1_000),
                destinations: entries(address, index * 500),
                ..everything()
            };
            RuleSpec::new(parts).unwrap()
        })
        .collect()
}

fn v4(at: u32) -> IpAddr {
    IpAddr::V4((0x0a00_0000 + at).into())
}

fn v6(at: u32) -> IpAddr {
    IpAddr::V6(((0x2001_0db8_u128 << 96) + (u128::from(at) << 40)).into())
}

#[test]
fn a_compilation_takes_no_more_memory_than_it_was_given_at_any_moment() {
    let noon = Instant::parse("2026-11-24T12:00:00Z").unwrap();
    let sets = [
        ("products of IPv4", products(5, 50, v4)),
        ("products of IPv6", products(5, 50, v6)),
        ("wide rules", products(400, 4, v4)),
        ("a company's rules", rule_set(3, 3, 2_000, noon)),
        ("rules of 1,000 by 1,000 by 1,000", huge(50)),
        ("entries with ports of their own", own_ports(20)),
    ];
    let sets = sets.map(|(name, specs)| (name.to_owned(), specs));
    let families = Family::ALL
        .map(|family| (family.as_str().to_owned(), adversarial::rules(family, 4_000, 1, noon)));
    for (name, specs) in sets.iter().chain(&families) {
        let entries: Vec<RuleRef<'_>> = (1..)
            .zip(specs)
            .map(|(id, spec)| RuleRef { id: RuleId::new(id).unwrap(), spec })
            .collect();
        let mut was_compiled = false;
        for mebibytes in [1, 2, 3, 5, 10, 40] {
            let budget = Budget { bytes: mebibytes * MEBIBYTE, ..Budget::default() };
            let said = Classifier::bytes_to_compile(&entries, budget);
            let before = ALLOCATED.current_usage();
            ALLOCATED.reset_peak_usage();
            let compiled = Classifier::compile(&entries, budget);
            let took = ALLOCATED.peak_usage() - before;
            // Covers the first blocks, and the lists of a single rule.
            let reserve = MEBIBYTE / 2;
            assert!(said <= budget.bytes, "{name}, {mebibytes} MiB: {said}");
            assert!(took <= said + reserve, "{name}, {mebibytes} MiB: {took}, said {said}");
            was_compiled |= compiled.is_ok();
        }
        assert!(was_compiled, "{name}");
    }
    let specs = huge(50);
    let entries: Vec<RuleRef<'_>> = (1..)
        .zip(&specs)
        .map(|(id, spec)| RuleRef { id: RuleId::new(id).unwrap(), spec })
        .collect();
    let said = Classifier::bytes_to_compile(&entries, Budget::default());
    assert!(said < 50 * MEBIBYTE, "{said}");
}

//! Tests that the classifier gives the same answers as the naive evaluator. It is tested on all
//! packets of small worlds, and on the rules of generated companies. Public rule sets are tested in
//! `fireflow-formats`, which reads them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test reports a failure by panicking"
)]

#[path = "support/classifier_world.rs"]
mod classifier_world;
#[path = "support/rule_strategies.rs"]
mod rule_strategies;
#[path = "support/stored_rules.rs"]
mod stored_rules;

use std::net::IpAddr;
use std::sync::Arc;

use fireflow_domain::engine::classifier::{Budget, Classifier};
use fireflow_domain::engine::compact::{ChangedRule, CompactRule};
use fireflow_domain::engine::compiled::CompiledRules;
use fireflow_domain::engine::naive::{self, RuleRef};
use fireflow_domain::engine::{Evaluator, Limits};
use fireflow_domain::ids::{Revision, RuleId};
use fireflow_domain::net::{AddressRange, PortRange, Protocol, Protocols};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::{Endpoint, Rule, RuleParts, RuleSpec};
use fireflow_domain::store::Stamp;
use fireflow_domain::testing::random::cases;
use fireflow_domain::testing::rule_sets::rule_set;
use fireflow_domain::testing::rules::everything;
use fireflow_domain::text::Description;
use fireflow_domain::time::Instant;
use proptest::collection::vec;
use proptest::prelude::*;

use self::classifier_world::*;
use self::stored_rules::stored;

fn entries(specs: &[RuleSpec]) -> Vec<RuleRef<'_>> {
    let ids = (1..).filter_map(RuleId::new);
    let mut entries: Vec<RuleRef<'_>> =
        specs.iter().zip(ids).map(|(spec, id)| RuleRef { id, spec }).collect();
    naive::sort(&mut entries);
    entries
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(1_500)))]

    #[test]
    fn small_worlds_are_answered_as_the_definition_says(specs in vec(specs(), 0..40)) {
        thread_local! {
            static PACKETS: Vec<Packet> = packets();
        }
        let entries = entries(&specs);
        let classifier = Classifier::compile(&entries, Budget::default()).unwrap();
        PACKETS.with(|packets| {
            for packet in packets {
                let expected = naive::first_match(&entries, packet);
                prop_assert_eq!(classifier.first_match(packet), expected, "{:?}", packet);
            }
            Ok(())
        })?;
    }
}

/// A rule as the storage returns it.
fn kept(id: i64, spec: RuleSpec) -> Rule {
    stored(id, spec, noon())
}

/// One change: the rule that it affects, and the new content.
#[derive(Debug, Clone)]
enum Change {
    Insert(RuleSpec),
    Replace(usize, RuleSpec),
    Place(usize, i32),
    Delete(usize),
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        specs().prop_map(Change::Insert),
        (any::<usize>(), specs()).prop_map(|(rule, spec)| Change::Replace(rule, spec)),
        (any::<usize>(), 0..4_i32).prop_map(|(rule, priority)| Change::Place(rule, priority)),
        any::<usize>().prop_map(Change::Delete),
    ]
}

/// Applies changes and returns the changed rules, as the storage does.
fn change(rules: &mut Vec<Rule>, next: &mut i64, changes: Vec<Change>) -> Vec<Rule> {
    let mut changed: Vec<Rule> = Vec::new();
    for change in changes {
        let at = |rule: usize, rules: &[Rule]| rule.checked_rem(rules.len());
        let rule = match change {
            Change::Insert(spec) => {
                *next += 1;
                let rule = kept(*next, spec);
                rules.push(rule.clone());
                rule
            }
            Change::Replace(rule, spec) => {
                let Some(at) = at(rule, rules) else { continue };
                rules[at].spec = spec;
                rules[at].clone()
            }
            Change::Place(rule, priority) => {
                let Some(at) = at(rule, rules) else { continue };
                let parts = RuleParts { priority, ..rules[at].spec.clone().into_parts() };
                rules[at].spec = RuleSpec::new(parts).unwrap();
                rules[at].clone()
            }
            Change::Delete(rule) => {
                let Some(at) = at(rule, rules) else { continue };
                let deleted = Some(Stamp { at: noon(), by: String::new() });
                Rule { deleted, ..rules.remove(at) }
            }
        };
        changed.retain(|it| it.id != rule.id);
        changed.push(rule);
    }
    rules.sort_by_key(|rule| (rule.spec.priority, rule.id));
    changed
}

const LIMITS: Limits<'static> =
    Limits { budget: Budget { cuboids: 4_000_000, bytes: 1 << 29 }, should_continue: &|| true };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(400)))]

    /// Whatever is compiled at a moment, and in whatever order: the base, the later rules, both or
    /// neither, or a new base that was begun some changes ago.
    #[test]
    fn rules_that_change_are_answered_as_the_definition_says(
        specs in vec(specs(), 0..60),
        rounds in vec((vec(changes(), 1..4), steps()), 1..6),
        first in 0..13_usize,
    ) {
        let packets: Vec<Packet> = packets().into_iter().skip(first).step_by(13).collect();
        let mut next = 0;
        let mut rules = Vec::new();
        change(&mut rules, &mut next, specs.into_iter().map(Change::Insert).collect());
        let mut compiled = CompiledRules::uncompiled(compact(&rules, 0));
        let mut begun: Option<CompiledRules> = None;
        for ((round, steps), revision) in rounds.into_iter().zip(1..) {
            let changed = change(&mut rules, &mut next, round);
            let changed: Vec<ChangedRule> =
                changed.iter().map(|rule| ChangedRule::of(rule, Revision(revision))).collect();
            let count = rules.len() as u64;
            prop_assert!(compiled.changed(&changed, count + 1).is_none());
            compiled = compiled.changed(&changed, count).unwrap();
            for step in steps {
                match step {
                    Step::Compile => {
                        if let Some(compilation) = compiled.pending() {
                            compilation.run(LIMITS);
                            prop_assert!(!compilation.is_over_budget());
                        }
                    }
                    Step::Stop => {
                        if let Some(compilation) = compiled.pending() {
                            compilation.run(Limits { should_continue: &|| false, ..LIMITS });
                        }
                    }
                    Step::Begin => begun = Some(compiled.rebased()),
                    Step::End => {
                        if let Some(base) = begun.take() {
                            compiled = compiled.on(&base.compiled(LIMITS));
                        }
                    }
                }
                prop_assert_eq!(compiled.len(), rules.len());
                prop_assert!(compiled.iter().zip(&rules).all(|(own, rule)| own.is_of(rule)));
                for packet in &packets {
                    let expected = rules.iter().find(|rule| naive::matches(&rule.spec, packet));
                    let found = compiled.first_match(packet).map(|rule| rule.id());
                    prop_assert_eq!(found, expected.map(|rule| rule.id), "{:?}", packet);
                }
            }
        }
        let done = compiled.compiled(LIMITS);
        prop_assert!(done.pending().is_none());
    }
}

/// What happens to the rules between changes.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// The next layer is compiled.
    Compile,
    /// There is no time to compile the next layer.
    Stop,
    /// A new base is begun.
    Begin,
    /// The base that was begun is compiled, and used from now on.
    End,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Compile),
        1 => Just(Step::Stop),
        2 => Just(Step::Begin),
        2 => Just(Step::End),
    ];
    vec(step, 1..4)
}

/// Rules as they are evaluated, as they were read at a revision.
fn compact(rules: &[Rule], revision: i64) -> Vec<Arc<CompactRule>> {
    let compact = |rule: &Rule| CompactRule::new(rule.id, &rule.spec, Revision(revision));
    rules.iter().map(|rule| Arc::new(compact(rule))).collect()
}

/// Every change that shows in a verdict or an explanation shows in the form that is evaluated.
#[test]
fn rules_keep_all_that_is_compared_and_none_of_the_texts() {
    let rules: Vec<Rule> =
        (1..).zip(rule_set(3, 2, 200, noon())).map(|(id, it)| kept(id, it)).collect();
    let compiled = CompiledRules::uncompiled(compact(&rules, 7));
    let bytes = compiled.memory_bytes();
    let long: Vec<Rule> = rules
        .iter()
        .map(|rule| {
            let description = Description::parse(&"x".repeat(4_000)).unwrap();
            let parts = RuleParts { description, ..rule.spec.clone().into_parts() };
            Rule { spec: RuleSpec::new(parts).unwrap(), ..rule.clone() }
        })
        .collect();
    let described = CompiledRules::uncompiled(compact(&long, 7));
    assert_eq!(described.memory_bytes(), bytes, "no description is kept");
    assert!(bytes < 600 * rules.len(), "{bytes} bytes");
    for packet in packets().iter().step_by(41) {
        let entries: Vec<RuleRef<'_>> =
            rules.iter().map(|rule| RuleRef { id: rule.id, spec: &rule.spec }).collect();
        assert_eq!(compiled.explain(packet).0, naive::explain(&entries, packet));
    }
    let shown = |rule: &Arc<CompactRule>| {
        (rule.name().map(str::to_owned), rule.action(), rule.priority(), rule.is_timeless())
    };
    for (own, rule) in compiled.iter().zip(&rules) {
        let name = rule.spec.name.as_ref().map(|name| name.as_str().to_owned());
        let is_timeless = rule.spec.starts_at.is_none() && rule.spec.expires_at.is_none();
        assert_eq!(shown(own), (name, rule.spec.action, rule.spec.priority, is_timeless));
        assert_eq!(own.sources(), rule.spec.sources);
        assert_eq!(own.destinations(), rule.spec.destinations);
        assert_eq!(own.ports(), rule.spec.ports);
    }
}

#[test]
fn many_changes_ask_for_a_new_base_and_few_do_not() {
    let mut rules: Vec<Rule> =
        (1..).zip(rule_set(3, 1, 100, noon())).map(|(id, it)| kept(id, it)).collect();
    rules.sort_by_key(|rule| (rule.spec.priority, rule.id));
    let compiled = CompiledRules::new(compact(&rules, 1), LIMITS);
    assert!(!compiled.should_be_rebased());
    let changed = |count: usize| {
        let of = |rule: &Rule| ChangedRule::of(rule, Revision(2));
        let changes: Vec<ChangedRule> = rules.iter().rev().take(count).map(of).collect();
        compiled.changed(&changes, 100).unwrap()
    };
    // Each of them is gone from the base, and among the later ones.
    let seven = changed(7);
    assert!(seven.should_be_rebased());
    let rebased = seven.rebased().compiled(LIMITS);
    assert!(!seven.on(&rebased).should_be_rebased());
    assert_eq!(seven.on(&rebased).comparisons(), 0);
    let comparisons = seven.comparisons();
    assert!(comparisons > 0 && comparisons < compiled.rebased().comparisons());
    assert_eq!(compiled.comparisons(), 0);
}

/// A packet at the edge of entries of one rule or of two rules.
fn packet_of(entries: &[RuleRef<'_>], random: &mut impl FnMut(usize) -> usize) -> Option<Packet> {
    let rule = entries[random(entries.len())].spec;
    let other = if random(4) == 0 { entries[random(entries.len())].spec } else { rule };
    let source = &rule.sources[random(rule.sources.len())];
    let destination = &other.destinations[random(other.destinations.len())];
    let family_of = |range: AddressRange| match range {
        AddressRange::V6 { .. } => 6,
        AddressRange::V4 { .. } => 4,
        AddressRange::Any => 0,
    };
    let is_v6 = family_of(source.address) == 6 || family_of(destination.address) == 6;
    let mut address = |range: AddressRange| {
        let edge = random(3);
        match range {
            AddressRange::V4 { first, last } => {
                let middle = first + (last - first) / 2;
                IpAddr::V4([first, middle, last][edge].into())
            }
            AddressRange::V6 { first, last } => {
                let middle = first + (last - first) / 2;
                IpAddr::V6([first, middle, last][edge].into())
            }
            AddressRange::Any if is_v6 => IpAddr::V6((0x2001_0db8_u128 << 96).into()),
            AddressRange::Any => IpAddr::V4([9, 9, 9, 9].into()),
        }
    };
    let (source_address, destination_address) =
        (address(source.address), address(destination.address));
    let protocol =
        rule.protocols.get(random(rule.protocols.len().max(1))).copied().unwrap_or(Protocol::TCP);
    let port = |range: Option<&PortRange>| range.map_or(40_000, |range| range.last());
    let has_ports = protocol.has_ports();
    let destination_port = destination.port.as_ref().or(other.ports.first());
    Packet::new(PacketParts {
        source_address,
        destination_address,
        protocol,
        source_port: has_ports.then(|| port(source.port.as_ref())),
        destination_port: has_ports.then(|| port(destination_port)),
        icmp_type: rule.icmp_type,
        icmp_code: rule.icmp_code,
        at: noon(),
    })
    .ok()
}

/// Knuth's generator, which is good enough to choose rules.
fn random() -> impl FnMut(usize) -> usize {
    let mut state = 7_u64;
    move |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % below
    }
}

#[test]
fn companies_are_answered_as_the_definition_says() {
    let mut random = random();
    for (policy, rules, count) in [(0, 5, 2_000), (1, 100, 5_000), (2, 5_000, 3_000)] {
        let specs = rule_set(3, policy, rules, noon());
        let entries = entries(&specs);
        let classifier = Classifier::compile(&entries, Budget::default()).unwrap();
        let (mut asked, mut decided) = (0, 0);
        while asked < count {
            let Some(packet) = packet_of(&entries, &mut random) else { continue };
            let expected = naive::first_match(&entries, &packet);
            assert_eq!(classifier.first_match(&packet), expected, "{packet:?}");
            asked += 1;
            decided += usize::from(expected.is_some());
        }
        assert!(decided > count / 2, "{decided} of {count}");
    }
}

/// Rules whose products are a thousand million cuboids, each over other addresses.
fn huge(rules: u32) -> Vec<RuleSpec> {
    let many = |network: u32| -> Vec<Endpoint> {
        let address = |host: u32| AddressRange::host(IpAddr::V4((network + 2 * host).into()));
        (0..1_000).map(|host| Endpoint { address: address(host), port: None }).collect()
    };
    let rule = |nth: u32| {
        let parts = RuleParts {
            sources: many(0x0a00_0000 + nth * 700),
            destinations: many(0x0b00_0000 + nth * 500),
            ports: (0..1_000).map(|port| PortRange::single(port * 3)).collect(),
            ..everything()
        };
        RuleSpec::new(parts).unwrap()
    };
    (0..rules).map(rule).collect()
}

#[test]
fn a_rule_is_never_multiplied_out_if_its_product_is_huge() {
    let mut random = random();
    for (rules, most) in [(1, 4_096), (4, 16_384), (50, 1 << 18)] {
        let specs = huge(rules);
        let entries = entries(&specs);
        let classifier = Classifier::compile(&entries, Budget::default()).unwrap();
        assert!(classifier.cuboids() <= most, "{}", classifier.cuboids());
        let mut decided = 0;
        for _ in 0..400 {
            let Some(packet) = packet_of(&entries, &mut random) else { continue };
            let expected = naive::first_match(&entries, &packet);
            assert_eq!(classifier.first_match(&packet), expected, "{packet:?}");
            decided += usize::from(expected.is_some());
        }
        assert!(decided > 100, "{decided}");
    }
}

#[test]
fn a_policy_beyond_the_budget_is_refused_before_a_cuboid_is_made() {
    let specs = huge(50);
    let asked = std::cell::Cell::new(0);
    let should_continue = || {
        asked.set(asked.get() + 1);
        true
    };
    let few = Budget { cuboids: 49, bytes: usize::MAX };
    let over =
        Classifier::compile_while(&entries(&specs), few, &should_continue).map(drop).unwrap_err();
    assert!(over.to_string().contains("49 cuboids"), "{over}");
    assert!(asked.get() < 200, "{}", asked.get());
    // One hull of one piece for each rule is the least that rules can become.
    let enough = Budget { cuboids: 50, bytes: usize::MAX };
    let classifier = Classifier::compile(&entries(&specs), enough).unwrap();
    assert!(classifier.cuboids() >= 50);
    let small = Budget { cuboids: 4_000_000, bytes: 1_000 };
    Classifier::compile(&entries(&specs), small).map(drop).unwrap_err();
}

#[test]
fn many_rules_that_cannot_be_cut_apart_are_answered() {
    let parts = everything();
    // All except the last have expired from the start, so none hides another.
    let past = Instant::parse("2020-01-01T00:00:00Z").ok();
    let over = RuleSpec::new(RuleParts { expires_at: past, ..parts.clone() }).unwrap();
    let last = RuleSpec::new(RuleParts { priority: 2, ..parts }).unwrap();
    let mut specs = vec![over; 70_000];
    specs.push(last);
    let entries = entries(&specs);
    let classifier = Classifier::compile(&entries, Budget::default()).unwrap();
    for packet in packets().iter().take(20) {
        assert_eq!(classifier.first_match(packet), Some(70_000));
    }
}

#[test]
fn a_compilation_that_may_not_go_on_is_refused() {
    let specs = rule_set(3, 1, 100, noon());
    let entries = entries(&specs);
    for most in [0, 50, 210] {
        let asked = std::cell::Cell::new(0);
        let should_continue = || asked.replace(asked.get() + 1) < most;
        Classifier::compile_while(&entries, Budget::default(), &should_continue).unwrap_err();
        assert_eq!(asked.get(), most + 1);
    }
}

#[test]
fn rules_without_time_to_compile_are_answered_and_known_to_be() {
    let rules: Vec<Rule> =
        (1..).zip(rule_set(3, 1, 100, noon())).map(|(id, it)| kept(id, it)).collect();
    let stopped =
        CompiledRules::new(compact(&rules, 1), Limits { should_continue: &|| false, ..LIMITS });
    assert!(stopped.is_over_budget() && stopped.is_stopped());
    let small = Budget { cuboids: 1, bytes: 1 << 29 };
    let small = CompiledRules::new(compact(&rules, 1), Limits { budget: small, ..LIMITS });
    assert!(small.is_over_budget() && !small.is_stopped());
    let compiled = CompiledRules::new(compact(&rules, 1), LIMITS);
    assert!(!compiled.is_over_budget() && !compiled.is_stopped());
    for packet in packets().iter().step_by(97) {
        let expected = rules.iter().find(|rule| naive::matches(&rule.spec, packet));
        for rules in [&stopped, &small, &compiled] {
            let found = rules.first_match(packet).map(|rule| rule.id());
            assert_eq!(found, expected.map(|rule| rule.id));
        }
    }
    assert!(
        CompiledRules::new(Vec::new(), LIMITS).memory_bytes() > 0,
        "otherwise it would never be evicted from the cache"
    );
}

#[test]
fn ports_that_are_one_range_together_are_one_cuboid() {
    let specs = rule_set(1, 0, 1, noon());
    let ports: Vec<PortRange> = (0..1_000).map(PortRange::single).collect();
    let any = |count| vec![Endpoint { address: AddressRange::Any, port: None }; count];
    let parts = RuleParts {
        protocols: Protocols::from_iter([Protocol::TCP]),
        icmp_type: None,
        icmp_code: None,
        sources: any(50),
        destinations: any(50),
        ports,
        ..specs[0].clone().into_parts()
    };
    let specs = vec![RuleSpec::new(parts).unwrap()];
    let few = Budget { cuboids: 5_000, bytes: 1 << 29 };
    Classifier::compile(&entries(&specs), few).unwrap();
}

#[test]
fn an_evaluator_answers_as_the_definition_does_whichever_of_the_two_it_is() {
    let specs = rule_set(3, 1, 100, noon());
    let entries = entries(&specs);
    let small = Limits { budget: Budget { cuboids: 1, bytes: 1 << 29 }, ..LIMITS };
    let packets = packets();
    for (limits, name) in [(LIMITS, "classifier"), (small, "naive")] {
        let evaluator = Evaluator::compile(&entries, limits);
        assert_eq!(evaluator.name(), name);
        assert_eq!(evaluator.is_over_budget(), name == "naive");
        assert_eq!(evaluator.memory_bytes() > 0, name == "classifier");
        let many = evaluator.classify_many(&packets, &specs);
        assert_eq!(many.len(), packets.len());
        for (packet, found) in packets.iter().zip(many).step_by(97) {
            assert_eq!(found, naive::first_match(&entries, packet));
            let left_out = found.and_then(|it| u32::try_from(it).ok());
            let Some(place) = left_out.filter(|it| evaluator.can_pass_over(*it)) else { continue };
            let among = evaluator.first_match_among(packet, &specs, |it| it != place);
            let others = entries.iter().zip(0_u32..).filter(|(_, it)| *it != place);
            let expected = others
                .filter(|(entry, _)| naive::matches(entry.spec, packet))
                .map(|(_, it)| it as usize)
                .next();
            assert_eq!(among, expected);
        }
    }
}

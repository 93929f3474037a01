//! Tests that the rules of a policy take as much memory as the cache of policies counts. The test is
//! in a file of its own, since the allocator counts the memory of the whole process.

use std::sync::Arc;

use fireflow_domain::engine::Limits;
use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::engine::compact::CompactRule;
use fireflow_domain::engine::compiled::CompiledRules;
use fireflow_domain::ids::{Revision, RuleId};
use fireflow_domain::rule::{RuleParts, RuleSpec};
use fireflow_domain::testing::rule_sets::rule_set;
use fireflow_domain::text::Description;
use fireflow_domain::time::Instant;
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

const RULES: usize = 5_000;

#[test]
fn rules_take_as_much_memory_as_is_counted_and_their_texts_none() {
    let noon = Instant::parse("2026-11-24T12:00:00Z").unwrap();
    let specs = rule_set(3, 3, RULES, noon).into_iter().map(|spec| {
        let description = Description::parse(&"x".repeat(4_000)).unwrap();
        RuleSpec::new(RuleParts { description, ..spec.into_parts() }).unwrap()
    });
    let specs: Vec<RuleSpec> = specs.collect();
    let before = ALLOCATED.current_usage();
    let rules: Vec<Arc<CompactRule>> = (1..)
        .zip(&specs)
        .map(|(id, spec)| CompactRule::new(RuleId::new(id).unwrap(), spec, Revision(1)))
        .map(Arc::new)
        .collect();
    let compiled = CompiledRules::uncompiled(rules);
    let (allocated, counted) = (ALLOCATED.current_usage() - before, compiled.memory_bytes());
    assert!(counted >= allocated && counted < allocated * 3 / 2, "{counted} for {allocated} bytes");
    // What the compilation takes at any moment was announced.
    let limits = Limits { budget: Budget::default(), should_continue: &|| true };
    let compilation = compiled.pending().unwrap();
    let announced = compilation.bytes(limits.budget);
    let uncompiled = ALLOCATED.current_usage();
    ALLOCATED.reset_peak_usage();
    compilation.run(limits);
    let took = ALLOCATED.peak_usage() - uncompiled;
    assert!(took <= announced, "{took} bytes, {announced} were announced");
    assert!(compiled.pending().is_none() && !compiled.is_over_budget());
    let (allocated, counted) = (ALLOCATED.current_usage() - before, compiled.memory_bytes());
    assert!(counted * 10 >= allocated * 9, "{counted} for {allocated} bytes");
    assert!(counted < allocated * 3 / 2, "{counted} for {allocated} bytes");
    assert!(counted < 500 * RULES, "docs/performance.md has the size of a rule: {counted} bytes");
}

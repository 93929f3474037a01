//! Measures analyses and comparisons: the public rule sets if they are available, generated
//! companies, and the families that are made to hurt. Times are processor times of all threads.
//!
//! `FIREFLOW_BENCH_ONLY` is a part of the names of the sets to measure, and `FIREFLOW_BENCH_WHAT` has some of
//! the words `whole`, `pairs`, `again`, and `comparison`. `FIREFLOW_BENCH_RULE_SETS` is the folder of the public
//! sets.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement prints its figures, and reports a failure by panicking"
)]

use std::io::Read;
use std::path::PathBuf;
use std::time::{Duration, Instant as Moment};

use fireflow_domain::analysis::{
    AnalysedPolicy, AnalysedRule, AnalysisLimits, AnalysisOptions, ComparisonOptions, FindingKind,
    FindingKinds, Former, analyse, analyse_again, analyse_with_grounds, compare, same_rules,
};
use fireflow_domain::net::{AddressRange, PortRange, Protocol, Protocols};
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec};
use fireflow_domain::testing::analysis_families as families;
use fireflow_domain::testing::random::Random;
use fireflow_domain::testing::rule_sets::rule_set;
use fireflow_domain::testing::rules::everything;
use fireflow_domain::time::Instant;
use peak_alloc::PeakAlloc;

#[global_allocator]
static PEAK: PeakAlloc = PeakAlloc;

/// How long an analysis may take.
const DEADLINE: Duration = Duration::from_secs(60);

/// The rules of a public set, with actions by the number of the line; none if it is not available.
fn public(name: &str) -> Option<Vec<RuleSpec>> {
    let folder = std::env::var_os("FIREFLOW_BENCH_RULE_SETS").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/rulesets"),
        PathBuf::from,
    );
    let file = std::fs::File::open(folder.join(format!("{name}.rules.gz"))).ok()?;
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let lines = text.lines().filter(|line| !line.trim().is_empty()).enumerate();
    // A few rules name ports with a protocol that has none; the model refuses these.
    Some(lines.filter_map(|(number, line)| line_rule(number, line)).collect())
}

fn line_rule(number: usize, line: &str) -> Option<RuleSpec> {
    let fields: Vec<&str> = line.split('\t').map(str::trim).collect();
    let [source, destination, from, to, protocol, ..] = fields[..] else { return None };
    let block = |text: &str| {
        let (address, prefix) = text.trim_start_matches('@').split_once('/').unwrap();
        AddressRange::block(address.parse().unwrap(), prefix.parse().unwrap())
    };
    let ports = |text: &str| {
        let (first, last) = text.split_once(':').unwrap();
        let range = PortRange::new(first.trim().parse().unwrap(), last.trim().parse().unwrap());
        range.ok().filter(|range| *range != PortRange::ALL)
    };
    let (number_of, mask) = protocol.split_once('/')?;
    let hex = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let protocols: Vec<Protocol> =
        (hex(mask) != 0).then(|| Protocol(hex(number_of))).into_iter().collect();
    RuleSpec::new(RuleParts {
        action: if number.is_multiple_of(2) { Action::Allow } else { Action::Deny },
        protocols: Protocols::from_iter(protocols),
        sources: vec![Endpoint { address: block(source), port: ports(from) }],
        destinations: vec![Endpoint { address: block(destination), port: ports(to) }],
        ..everything()
    })
    .ok()
}

/// The processor time of all threads of this process.
fn processor_time() -> Duration {
    // The kernel adds up the time of a thread when it is switched.
    std::thread::yield_now();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let nanoseconds = tasks.filter_map(|task| {
        let text = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

fn timed<T>(run: impl FnOnce() -> T) -> (T, f64, f64) {
    let (start, wall) = (processor_time(), Moment::now());
    let result = run();
    let spent = processor_time() - start;
    (result, spent.as_secs_f64() * 1e3, wall.elapsed().as_secs_f64() * 1e3)
}

fn listed(rules: &[RuleSpec]) -> Vec<AnalysedRule<'_>> {
    rules.iter().map(AnalysedRule::of).collect()
}

fn noon() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

fn is_asked(name: &str) -> bool {
    std::env::var("FIREFLOW_BENCH_ONLY").map_or(true, |part| name.contains(&part))
}

fn is_wanted(what: &str) -> bool {
    std::env::var("FIREFLOW_BENCH_WHAT").map_or(true, |words| words.contains(what))
}

fn measure(name: &str, rules: Option<Vec<RuleSpec>>) {
    let Some(rules) = rules.filter(|_| is_asked(name) && is_wanted("whole")) else { return };
    let listed = listed(&rules);
    let policy = AnalysedPolicy { rules: &listed, default_action: Action::Deny };
    let start = Moment::now();
    let should_continue = || start.elapsed() < DEADLINE;
    let limits = AnalysisLimits::usual(&should_continue);
    // The kinds that need a search; those about single rules say little.
    let kinds = [
        FindingKind::Contradiction,
        FindingKind::Duplicate,
        FindingKind::Unreachable,
        FindingKind::Redundant,
        FindingKind::RestatesDefault,
        FindingKind::Exposed,
        FindingKind::Correlated,
        FindingKind::Generalises,
    ];
    let some: FindingKinds = kinds.into_iter().take(6).collect();
    let options = AnalysisOptions { kinds: some, ..AnalysisOptions::at(noon()) };
    PEAK.reset_peak_usage();
    let before = PEAK.current_usage();
    let (analysis, time, wall) = timed(|| analyse(&policy, &options, &limits));
    let peak = PEAK.peak_usage().saturating_sub(before);
    let skipped = if is_wanted("pairs") { 6 } else { 8 };
    let pairs: FindingKinds = kinds.into_iter().skip(skipped).collect();
    let options = AnalysisOptions { kinds: pairs, ..AnalysisOptions::at(noon()) };
    let (with_pairs, time_of_pairs, _) = timed(|| analyse(&policy, &options, &limits));
    let counts: Vec<String> = kinds
        .into_iter()
        .map(|kind| {
            let all = analysis.findings.iter().chain(&with_pairs.findings);
            all.filter(|it| it.kind == kind).count().to_string()
        })
        .collect();
    let undecided: Vec<String> = analysis
        .incomplete
        .iter()
        .map(|it| format!("{} {}: {}", it.what.as_str(), it.why.as_str(), it.rules.len()))
        .collect();
    println!(
        "| {name} | {} | {time:.0} | {wall:.0} | {time_of_pairs:.0} | {} | {} | {} |",
        rules.len(),
        peak >> 20,
        counts.join(" "),
        undecided.join(", "),
    );
}

/// Ten changes: rules removed, added, moved, and turned to the other action.
fn changed(rules: &[RuleSpec], random: &mut Random) -> Vec<RuleSpec> {
    let mut changed = rules.to_vec();
    for number in 0..10 {
        let at = random.below(u32::try_from(changed.len()).unwrap()) as usize;
        let other = random.below(u32::try_from(changed.len()).unwrap() - 1) as usize;
        match number % 4 {
            0 => {
                changed.remove(at);
            }
            1 => {
                let rule = random.pick(rules).unwrap().clone();
                changed.insert(at, rule);
            }
            2 => {
                let rule = changed.remove(at);
                changed.insert(other, rule);
            }
            _ => {
                let rule = changed.remove(at);
                let action = if rule.action.permits() { Action::Deny } else { Action::Allow };
                let parts = RuleParts { action, ..rule.into_parts() };
                changed.insert(at, RuleSpec::new(parts).unwrap());
            }
        }
    }
    changed
}

fn measure_comparison(name: &str, rules: Option<Vec<RuleSpec>>) {
    let Some(rules) = rules.filter(|_| is_asked(name) && is_wanted("comparison")) else { return };
    let mut random = Random::new(1);
    let mut times = Vec::new();
    for _ in 0..6 {
        let right = changed(&rules, &mut random);
        let (left, right) = (listed(&rules), listed(&right));
        let left = AnalysedPolicy { rules: &left, default_action: Action::Deny };
        let right = AnalysedPolicy { rules: &right, default_action: Action::Deny };
        let limits = AnalysisLimits::usual(&|| true);
        let options = ComparisonOptions::at(noon());
        let (comparison, time, _) = timed(|| compare(&left, &right, &options, &limits));
        let more = if comparison.more { "+" } else { "" };
        times.push(format!("{time:.1} ({}{more})", comparison.differences.len()));
    }
    println!("| {name} | {} | {} |", rules.len(), times.join(" | "));
}

/// Whether the addresses of two rules of a public set overlap: each has one source and one destination.
fn overlap(a: &RuleSpec, b: &RuleSpec) -> bool {
    let meets = |a: &[Endpoint], b: &[Endpoint]| match (a[0].address, b[0].address) {
        (AddressRange::V4 { first, last }, AddressRange::V4 { first: from, last: to }) => {
            first <= to && from <= last
        }
        _ => true,
    };
    meets(&a.sources, &b.sources) && meets(&a.destinations, &b.destinations)
}

/// Changes one rule: takes it away, adds it elsewhere, moves it, or turns its action.
fn with_change(rules: &[RuleSpec], at: usize, number: usize, random: &mut Random) -> Vec<RuleSpec> {
    let mut changed = rules.to_vec();
    let rule = changed.remove(at);
    let other = random.below(u32::try_from(rules.len()).unwrap()) as usize;
    match number % 4 {
        0 => {}
        1 => {
            changed.insert(at, rule.clone());
            changed.insert(other, rule);
        }
        2 => changed.insert(other.min(changed.len()), rule),
        _ => {
            let action = if rule.action.permits() { Action::Deny } else { Action::Allow };
            let parts = RuleParts { action, ..rule.into_parts() };
            changed.insert(at, RuleSpec::new(parts).unwrap());
        }
    }
    changed
}

/// Measures analyses after one change: of a rule that is drawn uniformly, and of one of the 1 % that
/// overlap most.
fn measure_again(name: &str, rules: Option<Vec<RuleSpec>>) {
    let Some(rules) = rules.filter(|_| is_asked(name) && is_wanted("again")) else { return };
    let mut random = Random::new(1);
    let before = listed(&rules);
    let before = AnalysedPolicy { rules: &before, default_action: Action::Deny };
    let limits = AnalysisLimits::usual(&|| true);
    let options = AnalysisOptions::at(noon());
    let ((analysis, grounds), whole, _) =
        timed(|| analyse_with_grounds(&before, &options, &limits));
    let probes: Vec<&RuleSpec> = (0..1_000).filter_map(|_| random.pick(&rules)).collect();
    let mut overlaps: Vec<(usize, usize)> = rules
        .iter()
        .enumerate()
        .map(|(at, rule)| (probes.iter().filter(|it| overlap(it, rule)).count(), at))
        .collect();
    overlaps.sort_unstable();
    overlaps.reverse();
    overlaps.truncate(rules.len().div_ceil(100));
    let count = u32::try_from(rules.len()).unwrap();
    let draws = 24;
    let uniform: Vec<usize> = (0..draws).map(|_| random.below(count) as usize).collect();
    let most: Vec<usize> = (0..draws).map(|_| random.pick(&overlaps).unwrap().1).collect();
    let mut columns = Vec::new();
    for places in [uniform, most] {
        let mut times: Vec<f64> = Vec::new();
        for (number, at) in places.into_iter().enumerate() {
            let changed = with_change(&rules, at, number, &mut random);
            let changed = listed(&changed);
            let after = AnalysedPolicy { rules: &changed, default_action: Action::Deny };
            let (_, time, _) = timed(|| {
                let same = same_rules(&before, &after);
                let former = Former {
                    default_action: Action::Deny,
                    same: &same,
                    options: &options,
                    analysis: &analysis,
                    grounds: &grounds,
                };
                analyse_again(&former, &after, &options, &limits)
            });
            times.push(time);
        }
        times.sort_by(f64::total_cmp);
        let at = |share: usize| times[(times.len() - 1) * share / 100];
        columns.push(format!("{:.0} / {:.0} / {:.0}", at(50), at(95), at(100)));
    }
    println!(
        "| {name} | {} | {} | {whole:.0} | {} | {} |",
        rules.len(),
        if analysis.is_complete() { "" } else { "incomplete" },
        grounds.memory_bytes() >> 20,
        columns.join(" | "),
    );
}

fn main() {
    let sizes = ["1k", "10k", "100k"];
    let names: Vec<String> = sizes
        .iter()
        .flat_map(|size| ["acl1", "fw1", "ipc1"].map(|name| format!("{name}_{size}")))
        .collect();
    println!(
        "| set | rules | ms | wall ms | pairs ms | MiB | contradiction duplicate unreachable redundant restates exposed correlated generalises | undecided |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for name in &names {
        measure(name, public(name));
    }
    for count in [1_000, 10_000, 100_000] {
        let name = format!("company_{count}");
        measure(&name, is_asked(&name).then(|| rule_set(1, 7, count, noon())));
    }
    measure("boxes_2000", Some(families::random_boxes(2_000, 10.0, 1)));
    measure("boxes_10000", Some(families::random_boxes(10_000, 10.0, 1)));
    measure("rectangles_2000", Some(families::rectangles(2_000, 10.0, 1)));
    measure("ladders_10000", Some(families::prefix_ladders(10_000, 1)));
    measure("grid_9261", Some(families::grid(21, 1)));
    measure("cliques_20", Some(families::cliques(20, 30, 1)));
    // More entries than a policy may have.
    measure("scatter_2000", Some(families::scatter(2_000, 1_000, 200, 1)));
    measure("scatter_500", Some(families::scatter(500, 1_000, 200, 1)));
    measure("giants_50", Some(families::giants(50, 1_000, 1)));
    measure("largest", families::largest_rule().map(|rule| vec![rule.clone(), rule]));
    println!(
        "\n| again after one change | rules | | whole ms | MiB of grounds | any: median / p95 / max ms | most overlaps |"
    );
    for name in &names {
        measure_again(&format!("again {name}"), public(name));
    }
    println!("\n| comparison after 10 changes | rules | ms (parts), six draws |");
    for name in &names {
        measure_comparison(&format!("compare {name}"), public(name));
    }
}

//! Measures the classifier on the adversarial families, on one core, compared with the definition
//! and with the plain set of the same size in the same run.
//!
//! `FIREFLOW_BENCH_SECONDS` is the duration of each measurement. `FIREFLOW_BENCH_ONLY` is a part of
//! the names of the families to measure.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement prints its figures, and reports a failure by panicking"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use fireflow_domain::engine::classifier::Budget;
use fireflow_domain::engine::naive::{self, RuleRef};
use fireflow_domain::engine::{Evaluator, Limits};
use fireflow_domain::ids::RuleId;
use fireflow_domain::packet::Packet;
use fireflow_domain::rule::RuleSpec;
use fireflow_domain::testing::adversarial::{self, Family};
use fireflow_domain::time::Instant as Time;

/// The number of measurements of each set, of which the median counts.
const ROUNDS: usize = 5;
const SIZES: [(u32, &str); 3] = [(1_000, "1k"), (10_000, "10k"), (100_000, "100k")];

fn time() -> Duration {
    let seconds = std::env::var("FIREFLOW_BENCH_SECONDS").ok().and_then(|it| it.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.2))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The processor time of this thread in nanoseconds, or the time of day if the system does not report
/// it. Other work on the machine then counts less.
fn clock(start: Instant) -> f64 {
    let reported = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = reported.and_then(|it| it.split_whitespace().next()?.parse().ok());
    nanos.unwrap_or_else(|| start.elapsed().as_secs_f64() * 1e9)
}

/// Nanoseconds a packet.
fn nanos(packets: &[Packet], step: usize, mut find: impl FnMut(&Packet) -> Option<usize>) -> f64 {
    let (start, limit) = (Instant::now(), time());
    let begun = clock(start);
    let (mut sum, mut count) = (0_usize, 0_usize);
    'all: loop {
        for some in packets.chunks(step) {
            for packet in some {
                sum = sum.wrapping_add(find(packet).unwrap_or(7));
            }
            count += some.len();
            if start.elapsed() > limit {
                break 'all;
            }
        }
    }
    black_box(sum);
    (clock(start) - begun) / count as f64
}

fn entries(specs: &[RuleSpec]) -> Vec<RuleRef<'_>> {
    let ids = (1..).filter_map(RuleId::new);
    specs.iter().zip(ids).map(|(spec, id)| RuleRef { id, spec }).collect()
}

struct Set {
    specs: Vec<RuleSpec>,
    packets: Vec<Packet>,
    evaluator: Evaluator,
    build: f64,
}

fn set(family: Family, size: u32, now: Time) -> Set {
    let specs = adversarial::rules(family, size, 1, now);
    let packets = adversarial::packets(&specs, 20_000, 2, now);
    let entries = entries(&specs);
    let start = Instant::now();
    let begun = clock(start);
    let should_continue = || start.elapsed() < Duration::from_secs(60);
    let budget = Budget { cuboids: 4_000_000, bytes: 512 << 20 };
    let evaluator =
        Evaluator::compile(&entries, Limits { budget, should_continue: &should_continue });
    let build = (clock(start) - begun) / 1e6;
    // The figures of a wrong lookup would be worthless.
    for packet in packets.iter().take(1_000) {
        let expected = naive::first_match(&entries, packet);
        assert_eq!(evaluator.first_match(packet, &specs), expected, "{family:?}: {packet:?}");
    }
    drop(entries);
    Set { specs, packets, evaluator, build }
}

fn measure(family: Family, size: u32, name: &str, now: Time) {
    let plain = set(family.plain(), size, now);
    let set = set(family, size, now);
    let entries = entries(&set.specs);
    // One rule is gone, as after a change.
    let gone = u32::try_from(set.specs.len() / 2).unwrap();
    let (mut scans, mut finds, mut changed, mut plains) = (vec![], vec![], vec![], vec![]);
    let look = |set: &Set| {
        nanos(&set.packets, 256, |packet| set.evaluator.first_match(packet, &set.specs))
    };
    for _ in 0..ROUNDS {
        scans.push(nanos(&set.packets, 1, |packet| naive::first_match(&entries, packet)));
        finds.push(look(&set));
        plains.push(look(&plain));
        changed.push(nanos(&set.packets, 256, |packet| {
            set.evaluator.first_match_among(packet, &set.specs, |place| place != gone)
        }));
    }
    let (scan, find, plain_find) = (median(scans), median(finds), median(plains));
    println!(
        "| {} {name} | {} | {scan:.0} | {find:.0} | {:.0} | {:.1} | {:.0} | {:.1} | {:.1} |",
        family.as_str(),
        set.evaluator.name(),
        median(changed),
        scan / find,
        plain_find,
        find / plain_find,
        set.build,
    );
    println!("|   | {:.1} MB |", set.evaluator.memory_bytes() as f64 / 1e6);
}

fn main() {
    let now = Time::parse("2026-11-24T12:00:00Z").unwrap();
    println!(
        "| rules | evaluator | definition, ns | classifier, ns | one rule gone, ns | ratio | plain, ns | to plain | build, ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for family in Family::ALL {
        for (size, name) in SIZES {
            let full = format!("{} {name}", family.as_str());
            if std::env::var("FIREFLOW_BENCH_ONLY").is_ok_and(|part| !full.contains(&part)) {
                continue;
            }
            measure(family, size, name, now);
        }
    }
}

//! Lookups a second on one core, against a plain scan over the same boxes in the same run: generated
//! sets of three families, for IPv4 and IPv6; and public ones, where they are.
//!
//! `FIREFLOW_BENCH_SECONDS` is how long each measurement takes.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement prints, and says what is wrong by panicking"
)]

#[path = "../tests/support/rule_set_files.rs"]
mod rule_set_files;

use std::hint::black_box;
use std::time::{Duration, Instant};

use fireflow_domain::engine::classifier::{Boxed, Budget, Index, Key, NO_BOX};
use fireflow_domain::testing::box_sets::{self, Family, Width};

/// How many times each is measured; the median counts.
const ROUNDS: usize = 5;
const SIZES: [(u32, &str); 3] = [(1_000, "1k"), (10_000, "10k"), (100_000, "100k")];

fn time() -> Duration {
    let seconds = std::env::var("FIREFLOW_BENCH_SECONDS").ok().and_then(|it| it.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.3))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Millions a second.
fn rate<A: Width>(packets: &[Key<A>], mut find: impl FnMut(&Key<A>) -> u32) -> f64 {
    let (start, limit) = (Instant::now(), time());
    let (mut sum, mut count) = (0_u64, 0_usize);
    'all: loop {
        for some in packets.chunks(256) {
            for packet in some {
                sum = sum.wrapping_add(u64::from(find(packet)));
            }
            count += some.len();
            if start.elapsed() > limit {
                break 'all;
            }
        }
    }
    black_box(sum);
    count as f64 / start.elapsed().as_secs_f64() / 1e6
}

fn scan<A: Width>(boxes: &[Boxed<A>], packet: &Key<A>) -> u32 {
    boxes.iter().find(|boxed| boxed.holds(packet)).map_or(NO_BOX, Boxed::order)
}

fn measure<A: Width>(name: &str, boxes: &[Boxed<A>], packets: &[Key<A>]) {
    let build: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(Index::build(boxes, Budget::default()).unwrap());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let index = Index::build(boxes, Budget::default()).unwrap();
    // Fast and wrong would be no figure.
    for packet in packets.iter().take(2_000) {
        assert_eq!(index.find(packet, |_| true), scan(boxes, packet), "{name}: {packet:?}");
    }
    let (mut scans, mut finds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        scans.push(rate(packets, |packet| scan(boxes, packet)));
        finds.push(rate(packets, |packet| index.find(packet, |_| true)));
    }
    let (scan, find) = (median(scans), median(finds));
    println!(
        "| {name} | {} | {scan:.3} | {find:.1} | {:.0} | {:.1} | {:.0} |",
        boxes.len(),
        find / scan,
        median(build),
        index.bytes() as f64 / boxes.len() as f64,
    );
}

fn generated<A: Width>(width: &str) {
    for family in Family::ALL {
        for (count, size) in SIZES {
            let boxes = box_sets::boxes::<A>(family, count, 1);
            let packets = box_sets::packets(&boxes, 50_000, 2);
            measure(&format!("{} {width} {size}", family.as_str()), &boxes, &packets);
        }
    }
}

fn main() {
    println!("| rules | boxes | scan, M/s | classifier, M/s | ratio | build, ms | bytes a box |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for name in rule_set_files::names() {
        let Some(boxes) = rule_set_files::boxes(&name) else { continue };
        let packets = rule_set_files::packets(&name, "trace");
        let packets: Vec<Key<u32>> = packets.into_iter().map(|(packet, _)| packet).collect();
        measure(&name, &boxes, &packets);
    }
    generated::<u32>("IPv4");
    generated::<u128>("IPv6");
}

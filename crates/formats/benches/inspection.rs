//! Measures lookups per second on one core, compared with a plain scan over the same cuboids in the
//! same run. The sets are generated: three families, for IPv4, IPv6 and both. The public sets are
//! measured, too, if they are available.
//!
//! `FIREFLOW_BENCH_SECONDS` is the duration of each measurement. `FIREFLOW_BENCH_ONLY` is a part of
//! the names of the sets to measure.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a measurement prints its figures, and reports a failure by panicking"
)]

#[path = "../tests/support/rule_set_files.rs"]
mod rule_set_files;

use std::hint::black_box;
use std::time::{Duration, Instant};

use fireflow_domain::engine::classifier::{Budget, Cuboid, Index, Key, NO_CUBOID};
use fireflow_domain::testing::cuboid_sets::{self, Family, Width};

/// The number of measurements of each set, of which the median counts.
const ROUNDS: usize = 5;
const BUDGET: Budget = Budget { cuboids: 4_000_000, bytes: 512 << 20 };
const SIZES: [(u32, &str); 3] = [(1_000, "1k"), (10_000, "10k"), (100_000, "100k")];

fn time() -> Duration {
    let seconds = std::env::var("FIREFLOW_BENCH_SECONDS").ok().and_then(|it| it.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(0.3))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Millions of lookups per second.
fn rate<P>(packets: &[P], mut find: impl FnMut(&P) -> u32) -> f64 {
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

fn scan<A: Width>(cuboids: &[Cuboid<A>], packet: &Key<A>) -> u32 {
    cuboids.iter().find(|cuboid| cuboid.holds(packet)).map_or(NO_CUBOID, Cuboid::order)
}

/// Measures one set, given the functions that build it, look up a packet and scan the cuboids.
fn compare<P: std::fmt::Debug, I>(
    name: &str,
    cuboids: usize,
    packets: &[P],
    build: impl Fn() -> I,
    bytes: impl Fn(&I) -> usize,
    find: impl Fn(&I, &P) -> u32,
    scan: impl Fn(&P) -> u32,
) {
    if std::env::var("FIREFLOW_BENCH_ONLY").is_ok_and(|part| !name.contains(&part)) {
        return;
    }
    let times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            black_box(build());
            start.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    let index = build();
    // The figures of a wrong lookup would be worthless.
    for packet in packets.iter().take(2_000) {
        assert_eq!(find(&index, packet), scan(packet), "{name}: {packet:?}");
    }
    let (mut scans, mut finds) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        scans.push(rate(packets, &scan));
        finds.push(rate(packets, |packet| find(&index, packet)));
    }
    let (scan, find) = (median(scans), median(finds));
    println!(
        "| {name} | {cuboids} | {scan:.3} | {find:.1} | {:.0} | {:.1} | {:.0} |",
        find / scan,
        median(times),
        bytes(&index) as f64 / cuboids as f64,
    );
}

fn measure<A: Width>(name: &str, cuboids: &[Cuboid<A>], packets: &[Key<A>]) {
    let build = || Index::build(cuboids, BUDGET).unwrap();
    let find = |index: &Index<A>, packet: &Key<A>| index.find(packet);
    compare(name, cuboids.len(), packets, build, Index::bytes, find, |packet| {
        scan(cuboids, packet)
    });
}

/// A packet of either family.
#[derive(Debug, Clone, Copy)]
enum Either {
    V4(Key<u32>),
    V6(Key<u128>),
}

/// Measures sets whose rules are half IPv4 and half IPv6. The packets alternate between the
/// families.
fn mixed() {
    for family in Family::ALL {
        for (count, size) in SIZES {
            let v4 = cuboid_sets::cuboids::<u32>(family, count / 2, 1);
            let v6 = cuboid_sets::cuboids::<u128>(family, count / 2, 3);
            let packets: Vec<Either> = cuboid_sets::packets(&v4, 25_000, 2)
                .into_iter()
                .zip(cuboid_sets::packets(&v6, 25_000, 4))
                .flat_map(|(v4, v6)| [Either::V4(v4), Either::V6(v6)])
                .collect();
            let build = || {
                let (v4, v6) = (Index::build(&v4, BUDGET), Index::build(&v6, BUDGET));
                (v4.unwrap(), v6.unwrap())
            };
            let bytes = |(v4, v6): &(Index<u32>, Index<u128>)| v4.bytes() + v6.bytes();
            let find = |(v4, v6): &(Index<u32>, Index<u128>), packet: &Either| match packet {
                Either::V4(key) => v4.find(key),
                Either::V6(key) => v6.find(key),
            };
            let held = |packet: &Either| match packet {
                Either::V4(key) => scan(&v4, key),
                Either::V6(key) => scan(&v6, key),
            };
            let name = format!("{} mixed {size}", family.as_str());
            compare(&name, v4.len() + v6.len(), &packets, build, bytes, find, held);
        }
    }
}

fn generated<A: Width>(width: &str) {
    for family in Family::ALL {
        for (count, size) in SIZES {
            let cuboids = cuboid_sets::cuboids::<A>(family, count, 1);
            let packets = cuboid_sets::packets(&cuboids, 50_000, 2);
            measure(&format!("{} {width} {size}", family.as_str()), &cuboids, &packets);
        }
    }
}

fn main() {
    println!(
        "| rules | cuboids | scan, M/s | classifier, M/s | ratio | build, ms | bytes a cuboid |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for set in rule_set_files::own().into_iter().chain(rule_set_files::public()) {
        let (name, cuboids) = (&set.name, set.cuboids());
        let Some(trace) = set.traces.first() else { continue };
        let packets = set.packets(trace);
        let packets: Vec<Key<u32>> = packets.into_iter().map(|(packet, _)| packet).collect();
        measure(name, &cuboids, &packets);
    }
    generated::<u32>("IPv4");
    generated::<u128>("IPv6");
    mixed();
}

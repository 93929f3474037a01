//! Rule sets that are hard for an analyzer: wide boxes, ladders of prefixes, grids, cliques, lists of
//! scattered hosts, and rules of a million pairs of entries. All are IPv4, and alternate between ALLOW
//! and DENY.

use super::random::Random;
use super::rules::everything;
use crate::net::{AddressRange, PortRange, Protocol, Protocols};
use crate::rule::{Action, Endpoint, RuleParts, RuleSpec};

/// The dimensions of a box: source, destination, source port, destination port.
const SIZES: [u64; 4] = [1 << 32, 1 << 32, 1 << 16, 1 << 16];

/// A range in each dimension, half-open.
type Box4 = [(u64, u64); 4];

const EVERYTHING: Box4 = [(0, SIZES[0]), (0, SIZES[1]), (0, SIZES[2]), (0, SIZES[3])];

fn entry((first, end): (u64, u64), ports: (u64, u64)) -> Endpoint {
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let port = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
    let is_every_port = ports == (0, SIZES[2]);
    Endpoint {
        address: AddressRange::V4 { first: number(first), last: number(end - 1) },
        port: (!is_every_port)
            .then(|| PortRange::new(port(ports.0), port(ports.1 - 1)).unwrap_or(PortRange::ALL)),
    }
}

/// The rule of a number, with these sides.
fn rule(number: usize, sources: Vec<Endpoint>, destinations: Vec<Endpoint>) -> Option<RuleSpec> {
    RuleSpec::new(RuleParts {
        action: if number.is_multiple_of(2) { Action::Allow } else { Action::Deny },
        priority: i32::try_from(number).unwrap_or(i32::MAX),
        protocols: Protocols::from_iter([Protocol::TCP]),
        sources,
        destinations,
        ..everything()
    })
    .ok()
}

fn boxes(boxes: &[Box4]) -> Vec<RuleSpec> {
    let rules = boxes.iter().enumerate().filter_map(|(number, [source, destination, from, to])| {
        rule(number, vec![entry(*source, *from)], vec![entry(*destination, *to)])
    });
    rules.collect()
}

/// A random number below a bound of up to 2^32.
fn below(random: &mut Random, bound: u64) -> u64 {
    match u32::try_from(bound) {
        Ok(bound) => random.below(bound).into(),
        Err(_) => random.next() >> 32,
    }
}

/// A range of roughly this share of a dimension.
fn range(random: &mut Random, size: u64, share: f64) -> (u64, u64) {
    let factor = 0.5 + f64::from(random.below(1_000)) / 1_000.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "the length is positive and below the size"
    )]
    let length = ((size as f64 * share * factor) as u64).clamp(1, size);
    let first = below(random, size - length + 1);
    (first, first + length)
}

fn shuffle(boxes: &mut [Box4], random: &mut Random) {
    for at in (1..boxes.len()).rev() {
        let bound = u32::try_from(at + 1).unwrap_or(u32::MAX);
        boxes.swap(at, random.below(bound) as usize);
    }
}

/// Random boxes, so wide that each packet is in about `depth` of them, then the middle of everything,
/// then everything.
#[must_use]
pub fn random_boxes(count: u32, depth: f64, seed: u64) -> Vec<RuleSpec> {
    let mut random = Random::new(seed);
    let share = (depth / f64::from(count)).powf(0.25);
    let mut all: Vec<Box4> =
        (0..count).map(|_| SIZES.map(|size| range(&mut random, size, share))).collect();
    all.push(SIZES.map(|size| (size / 4, size * 3 / 4)));
    all.push(EVERYTHING);
    boxes(&all)
}

/// Rectangles in two random dimensions of the four, with everything in the others.
#[must_use]
pub fn rectangles(count: u32, depth: f64, seed: u64) -> Vec<RuleSpec> {
    let mut random = Random::new(seed);
    let share = (depth * 6.0 / f64::from(count)).sqrt().min(1.0);
    let mut all: Vec<Box4> = Vec::new();
    for _ in 0..count {
        let one = random.below(4) as usize;
        let other = (one + 1 + random.below(3) as usize) % 4;
        let mut some = EVERYTHING;
        for ((dimension, own), size) in some.iter_mut().enumerate().zip(SIZES) {
            if dimension == one || dimension == other {
                *own = range(&mut random, size, share);
            }
        }
        all.push(some);
    }
    all.push(EVERYTHING);
    boxes(&all)
}

/// Prefixes of each length within each other, from the longest to the shortest, on both sides.
#[must_use]
pub fn prefix_ladders(count: u32, seed: u64) -> Vec<RuleSpec> {
    let mut random = Random::new(seed);
    let mut all: Vec<Box4> = Vec::new();
    while all.len() < count as usize {
        let (source, destination) = (random.next() >> 32, random.next() >> 32);
        for length in 0..32 {
            let block = |address: u64, bits: u32| {
                let size = 1_u64 << bits;
                let first = address & !(size - 1);
                (first, first + size)
            };
            let mut some = EVERYTHING;
            some[0] = block(source, length);
            some[1] = block(destination, 31 - length);
            all.push(some);
        }
    }
    all.truncate(count as usize);
    boxes(&all)
}

/// The cells of a grid in three dimensions that together are everything, shuffled, then everything.
#[must_use]
pub fn grid(side: u32, seed: u64) -> Vec<RuleSpec> {
    let mut random = Random::new(seed);
    let mut all: Vec<Box4> = Vec::new();
    let cell = |size: u64, at: u32| {
        (size * u64::from(at) / u64::from(side), size * u64::from(at + 1) / u64::from(side))
    };
    for x in 0..side {
        for y in 0..side {
            for z in 0..side {
                all.push([cell(SIZES[0], x), cell(SIZES[1], y), EVERYTHING[2], cell(SIZES[3], z)]);
            }
        }
    }
    shuffle(&mut all, &mut random);
    all.push(EVERYTHING);
    boxes(&all)
}

/// Rules of forbidden pairs: what they leave are the cliques of a random graph with four sides.
#[must_use]
pub fn cliques(side: u32, percent: u32, seed: u64) -> Vec<RuleSpec> {
    let mut random = Random::new(seed);
    let mut all: Vec<Box4> = Vec::new();
    let cell = |size: u64, at: u32| {
        (size * u64::from(at) / u64::from(side), size * u64::from(at + 1) / u64::from(side))
    };
    for one in 0..4_usize {
        for other in one + 1..4 {
            for x in 0..side {
                for y in 0..side {
                    if random.happens(percent) {
                        continue;
                    }
                    let mut some = EVERYTHING;
                    for ((dimension, own), size) in some.iter_mut().enumerate().zip(SIZES) {
                        if dimension == one {
                            *own = cell(size, x);
                        } else if dimension == other {
                            *own = cell(size, y);
                        }
                    }
                    all.push(some);
                }
            }
        }
    }
    shuffle(&mut all, &mut random);
    all.push(EVERYTHING);
    boxes(&all)
}

/// Rules of scattered hosts on both sides: each list is a random choice among all hosts, without any
/// order that ranges could use. Then a rule of everything.
#[must_use]
pub fn scatter(count: u32, hosts: u32, of_each: u32, seed: u64) -> Vec<RuleSpec> {
    let mut random = Random::new(seed);
    let mut side = || -> Vec<Endpoint> {
        (0..of_each)
            .map(|_| {
                // Every other address, so that hosts are no neighbors.
                let first = 0x0a00_0000 + u64::from(random.below(hosts)) * 2;
                entry((first, first + 1), EVERYTHING[2])
            })
            .collect()
    };
    let mut rules: Vec<RuleSpec> =
        (0..count).filter_map(|number| rule(number as usize, side(), side())).collect();
    let any = || vec![entry(EVERYTHING[0], EVERYTHING[2])];
    rules.extend(rule(count as usize, any(), any()));
    rules
}

/// Rules of many entries, each with a port of its own on both sides. With a thousand entries, each
/// rule is a million products.
#[must_use]
pub fn giants(count: u32, entries: u32, seed: u64) -> Vec<RuleSpec> {
    let mut random = Random::new(seed);
    let mut side = |base: u64| -> Vec<Endpoint> {
        (0..entries)
            .map(|number| {
                let first = base + u64::from(random.below(4_000));
                let port = u64::from(number % 60_000);
                entry((first, first + u64::from(random.below(32)) + 1), (port, port + 8))
            })
            .collect()
    };
    (0..count)
        .filter_map(|number| rule(number as usize, side(0x0a00_0000), side(0xac10_0000)))
        .collect()
}

/// A rule of as many sources, destinations and ports as a rule may have.
#[must_use]
pub fn largest_rule() -> Option<RuleSpec> {
    let hosts = |base: u64| -> Vec<Endpoint> {
        let entries = (0..1_000).map(|number| base + number * 2);
        entries.map(|first| entry((first, first + 1), EVERYTHING[2])).collect()
    };
    let rule = rule(0, hosts(0x0a00_0000), hosts(0xac10_0000))?;
    let ports = (0..1_000).map(|number| PortRange::single(number * 2)).collect();
    RuleSpec::new(RuleParts { ports, ..rule.into_parts() }).ok()
}

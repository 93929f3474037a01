//! Writes FireFlow's own rule sets, which tests read: `cargo run -p fireflow-formats --example
//! rule_sets`. The same seeds give the same files. `tests/rule_sets/README.md` describes them.
//!
//! The answers come from the definition of a verdict, a loop over the rules, and not from the
//! classifier.

use std::error::Error;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use fireflow_domain::engine::classifier::{Cuboid, Key};
use fireflow_domain::engine::naive::{self, RuleRef};
use fireflow_domain::ids::RuleId;
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::packet::{Packet, PacketParts};
use fireflow_domain::rule::{Endpoint, RuleSpec};
use fireflow_domain::testing::cuboid_sets::{self, Family};
use fireflow_domain::testing::random::Random;
use fireflow_domain::testing::rule_sets::rule_set;
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};
use fireflow_formats::analysis::PacketView;
use fireflow_formats::views::rule_json;
use flate2::Compression;
use flate2::write::GzEncoder;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const RULES: usize = 300;
const PACKETS: usize = 1_500;
/// Around it, rules expire and packets are sent.
const NOW: &str = "2026-11-01T00:00:00Z";

fn main() -> Result<()> {
    for (family, name) in Family::ALL.into_iter().zip(["acl", "fw", "ipc"]) {
        benchmark(family, name)?;
    }
    let is_v4 = |entry: &Endpoint| !matches!(entry.address, AddressRange::V6 { .. });
    let is_v6 = |entry: &Endpoint| !matches!(entry.address, AddressRange::V4 { .. });
    policy("ipv4", 4, &|rule| entries(rule).all(is_v4))?;
    policy("ipv6", 6, &|rule| entries(rule).all(is_v6))?;
    policy("mixed", 46, &|_| true)
}

fn write(name: &str, text: &str) -> Result<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/rule_sets");
    // Without a time in its header, so that the same text gives the same file.
    let mut file = GzEncoder::new(File::create(folder.join(name))?, Compression::best());
    file.write_all(text.as_bytes())?;
    file.finish()?;
    Ok(())
}

/// A set in the format of ClassBench, with a trace.
fn benchmark(family: Family, name: &str) -> Result<()> {
    let count = u32::try_from(RULES)?;
    let cuboids: Vec<Cuboid<u32>> = cuboid_sets::cuboids(family, count, 1);
    let rules: String = cuboids.iter().map(benchmark_rule).collect();
    write(&format!("{name}.rules.gz"), &rules)?;
    let mut trace = String::new();
    let mut random = Random::new(2);
    let all = cuboid_sets::packets(&cuboids, PACKETS, 3);
    for corner in &all {
        let mut key = *corner;
        let other = random.pick(&all).unwrap_or(corner);
        // A third is not at a corner in one dimension.
        match random.below(12) {
            0 => key.source = other.source ^ 1,
            1 => key.destination = other.destination ^ 1,
            2 => key.first = other.first ^ 1,
            3 => key.second = other.second ^ 1,
            _ => {}
        }
        let first = cuboids.iter().position(|cuboid| cuboid.holds(&key));
        let first = first.map_or("-1".to_owned(), |first| first.to_string());
        let Key { source, destination, first: from, second: to, protocol, .. } = key;
        trace.push_str(&format!("{source}\t{destination}\t{from}\t{to}\t{protocol}\t{first}\n"));
    }
    write(&format!("{name}.trace.gz"), &trace)
}

fn benchmark_rule(cuboid: &Cuboid<u32>) -> String {
    let (first, last) = (cuboid.corner(0), cuboid.corner(15));
    let block = |first: u32, last: u32| {
        format!("{}/{}", Ipv4Addr::from_bits(first), (first ^ last).leading_zeros())
    };
    // No generated rule names this protocol.
    let is_any = cuboid.holds(&Key { protocol: 200, ..first });
    let protocol =
        if is_any { "0x00/0x00".to_owned() } else { format!("0x{:02x}/0xFF", first.protocol) };
    format!(
        "@{}\t{}\t{} : {}\t{} : {}\t{protocol}\n",
        block(first.source, last.source),
        block(first.destination, last.destination),
        first.first,
        last.first,
        first.second,
        last.second,
    )
}

fn entries(rule: &RuleSpec) -> impl Iterator<Item = &Endpoint> {
    rule.sources.iter().chain(&rule.destinations)
}

/// A set in the form of the API, with packets and the positions of the rules that decide them.
fn policy(name: &str, seed: u64, has: &dyn Fn(&RuleSpec) -> bool) -> Result<()> {
    let now = Instant::parse(NOW)?;
    let all = rule_set(seed, 7, RULES * 8, now);
    let rules: Vec<RuleSpec> = all.into_iter().filter(|rule| has(rule)).take(RULES).collect();
    let mut text = String::new();
    for rule in &rules {
        text.push_str(&format!("{}\n", rule_json(rule)));
    }
    write(&format!("{name}.rules.ndjson.gz"), &text)?;
    let ids = (1..).filter_map(RuleId::new);
    let refs: Vec<RuleRef<'_>> =
        rules.iter().zip(ids).map(|(spec, id)| RuleRef { id, spec }).collect();
    let mut random = Random::new(seed);
    let (mut packets, mut answers, mut count) = (String::new(), String::new(), 0);
    while count < PACKETS {
        let Some(packet) = packet(&rules, &mut random, now) else { continue };
        packets.push_str(&format!("{}\n", serde_json::to_string(&PacketView::from(&packet))?));
        let first = naive::first_match(&refs, &packet);
        answers.push_str(&first.map_or("-1\n".to_owned(), |first| format!("{first}\n")));
        count += 1;
    }
    write(&format!("{name}.packets.ndjson.gz"), &packets)?;
    write(&format!("{name}.answers.gz"), &answers)
}

/// A packet at an end of a random rule's ranges, or next to it; none if no network carries it.
fn packet(rules: &[RuleSpec], random: &mut Random, now: Instant) -> Option<Packet> {
    let rule = random.pick(rules)?;
    let other = random.pick(rules)?;
    let (of_source, of_destination) = match random.below(10) {
        0 => (other, rule),
        1 => (rule, other),
        _ => (rule, rule),
    };
    let source = random.pick(&of_source.sources)?;
    let destination = random.pick(&of_destination.destinations)?;
    let protocols: Vec<Protocol> = rule.protocols.iter().copied().collect();
    let protocol = random.pick(&protocols).copied().unwrap_or(Protocol::TCP);
    let (from, to) = (source.port, destination.port.or_else(|| random.pick(&rule.ports).copied()));
    let mut port =
        |range: Option<PortRange>| protocol.has_ports().then(|| port_in(range, random)).flatten();
    let (source_port, destination_port) = (port(from), port(to));
    let is_v6 = random.happens(50);
    let minutes = i64::from(random.below(60 * 1_440)) - 30 * 1_440;
    let parts = PacketParts {
        source_address: address_in(source.address, is_v6, random),
        destination_address: address_in(destination.address, is_v6, random),
        protocol,
        source_port,
        destination_port,
        icmp_type: None,
        icmp_code: None,
        at: now.plus_micros(minutes * 60 * MICROS_PER_SECOND),
    };
    Packet::new(parts).ok()
}

fn port_in(range: Option<PortRange>, random: &mut Random) -> Option<u16> {
    let range = range.unwrap_or(PortRange::ALL);
    let end = if random.happens(50) { range.first() } else { range.last() };
    Some(if random.happens(15) { end ^ 1 } else { end })
}

fn address_in(range: AddressRange, is_v6: bool, random: &mut Random) -> IpAddr {
    let (is_first, beside) = (random.happens(50), random.happens(15));
    match range {
        AddressRange::V4 { first, last } => {
            let end = if is_first { first } else { last };
            Ipv4Addr::from_bits(end ^ u32::from(beside)).into()
        }
        AddressRange::V6 { first, last } => {
            let end = if is_first { first } else { last };
            Ipv6Addr::from_bits(end ^ u128::from(beside)).into()
        }
        AddressRange::Any if is_v6 => Ipv6Addr::from_bits(u128::from(random.next()) << 64).into(),
        AddressRange::Any => Ipv4Addr::from_bits(random.below(u32::MAX)).into(),
    }
}

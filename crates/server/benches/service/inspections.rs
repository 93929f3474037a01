//! Inspections over HTTP: one packet with few rules and with many, after a change, in a stream, and
//! with rule sets on which classifiers become slow.

use std::path::Path;
use std::time::{Duration, Instant};

use fireflow_domain::net::PortRange;
use fireflow_domain::packet::{Packet, Payload};
use fireflow_domain::rule::{Endpoint, RuleSpec};
use fireflow_domain::testing::adversarial::{self, Family};
use fireflow_domain::time::Instant as Stamp;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::{Connection, Load};
use crate::{ROUNDS, Server, compare};

const FEW: usize = 10;
const MANY: usize = 100_000;
/// The number of packets in a stream, and how many of them are distinct.
const STREAMED: usize = 2_000_000;
const DIFFERENT: usize = 100_000;
/// The number of changes, each followed by an inspection.
const CHANGES: usize = 25;

/// Pseudorandom numbers (D. E. Knuth's 64-bit linear congruential generator).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.0 >> 33) % bound
    }

    fn address(&mut self) -> String {
        let host = self.below(1 << 24);
        format!("10.{}.{}.{}", host >> 16, host >> 8 & 255, host & 255)
    }
}

/// A policy with a given number of rules: its path, and a matching packet for each rule.
struct Policy {
    path: String,
    packets: Vec<[String; 2]>,
}

impl Policy {
    async fn new(connection: &mut Connection, name: &str, rules: usize) -> Self {
        let policies = "/firewalls/1/filtering-policies/";
        let body = format!("{{\"name\": \"{name}\", \"default_action\": \"DENY\"}}");
        assert_eq!(connection.ask("POST", policies, &body).await.unwrap(), 201);
        let made: Value = serde_json::from_slice(connection.body()).unwrap();
        let path = format!("{policies}{}/", made["id"]);
        let mut chance = Chance(7);
        let packets: Vec<[String; 2]> =
            (0..rules).map(|_| [chance.address(), chance.address()]).collect();
        let rules: Vec<String> = packets
            .iter()
            .enumerate()
            .map(|(index, [source, destination])| {
                format!(
                    "{{\"action\": \"ALLOW\", \"priority\": {index}, \"protocols\": [\"tcp\"], \
                     \"sources\": [{{\"address\": \"{source}\"}}], \"destinations\": \
                     [{{\"address\": \"{destination}\", \"port\": 443}}]}}"
                )
            })
            .collect();
        let all = format!("[{}]", rules.join(","));
        assert_eq!(connection.ask("PUT", &format!("{path}rules/"), &all).await.unwrap(), 200);
        Self { path, packets }
    }

    /// The path of an inspection of the packet that matches the last rule.
    fn inspection(&self) -> String {
        let [source, destination] = self.packets.last().unwrap();
        format!(
            "{}inspections/?source_address={source}&source_port=40000&destination_address=\
             {destination}&destination_port=443",
            self.path
        )
    }
}

/// `floor` is a handler that does only the unavoidable work.
pub(crate) fn measure(database: &str, floor: (&str, &Server, Load), on: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (few, many) = runtime.block_on(async {
        let mut connection = Connection::open(on).await.unwrap();
        let few = Policy::new(&mut connection, "few", FEW).await;
        (few, Policy::new(&mut connection, "many", MANY).await)
    });
    compare(
        &format!("GET of one inspection on {database}"),
        &[
            floor,
            ("FireFlow, 10 rules", on, Load::get(&few.inspection())),
            ("FireFlow, 100,000 rules", on, Load::get(&many.inspection())),
        ],
    );
    runtime.block_on(behind_changes(on, &many));
    let mut rates: Vec<(f64, f64)> =
        (0..ROUNDS).map(|_| runtime.block_on(streamed(on, &many))).collect();
    rates.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (wall, cpu) = rates[rates.len() / 2];
    println!(
        "\nA stream of {STREAMED} packets on {database}, 100,000 rules: {:.2} M/s, {:.2} M for each \
         second of one core of the service",
        wall / 1e6,
        cpu / 1e6
    );
}

/// Measures inspections with adversarial families, each compared with the plain set of the same size.
pub(crate) fn adversarial(database: &str, on: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for plain in [Family::Plain, Family::PlainV6] {
        let families = Family::ALL.into_iter().filter(|family| family.plain() == plain);
        let loads: Vec<(&str, Load)> = runtime.block_on(async {
            let mut connection = Connection::open(on).await.unwrap();
            let mut loads = Vec::new();
            for family in families {
                loads.push((family.as_str(), of_family(&mut connection, family).await));
            }
            loads
        });
        let candidates: Vec<(&str, &Server, Load)> =
            loads.into_iter().map(|(name, load)| (name, on, load)).collect();
        compare(
            &format!("GET of one inspection on {database}, adversarial rule sets of {HARD} rules"),
            &candidates,
        );
    }
}

/// The number of rules of an adversarial set, and how many packets are asked for in turn.
const HARD: u32 = 10_000;
const ASKED: usize = 1_000;

#[expect(clippy::disallowed_methods, reason = "the service that is measured has the real time")]
fn now() -> Stamp {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Stamp::from_micros(i64::try_from(now.as_micros()).unwrap()).unwrap()
}

/// A policy with the rules of a family, and inspections of packets that meet them.
async fn of_family(connection: &mut Connection, family: Family) -> Load {
    let now = now();
    let rules = adversarial::rules(family, HARD, 1, now);
    let policies = "/firewalls/1/filtering-policies/";
    let body = json!({"name": family.as_str(), "default_action": "DENY"}).to_string();
    assert_eq!(connection.ask("POST", policies, &body).await.unwrap(), 201);
    let made: Value = serde_json::from_slice(connection.body()).unwrap();
    let path = format!("{policies}{}/", made["id"]);
    let all = Value::Array(rules.iter().map(body_of).collect()).to_string();
    // Some of the drawn rules are equal.
    let rules_path = format!("{path}rules/?duplicates=keep");
    let status = connection.ask("PUT", &rules_path, &all).await.unwrap();
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(connection.body()));
    let inspection = |packet: Packet| {
        let mut query = format!(
            "source_address={}&destination_address={}&protocol={}",
            packet.source(),
            packet.destination(),
            packet.protocol()
        );
        match packet.payload() {
            Payload::Ports { source, destination } => {
                query.push_str(&format!("&source_port={source}&destination_port={destination}"));
            }
            Payload::Icmp { icmp_type, icmp_code } => {
                query.push_str(&format!("&icmp_type={icmp_type}&icmp_code={icmp_code}"));
            }
            Payload::Opaque => {}
        }
        format!("{path}inspections/?{query}")
    };
    let packets = adversarial::packets(&rules, ASKED, 2, now);
    Load::get_each(packets.into_iter().map(inspection).collect())
}

/// A rule as the body of a request has it.
fn body_of(rule: &RuleSpec) -> Value {
    let texts = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<String>>();
    let entries = |entries: &[Endpoint]| -> Vec<Value> {
        let entry = |entry: &Endpoint| match entry.port {
            Some(port) => json!({"address": entry.address.to_string(), "port": port.to_string()}),
            None => json!({"address": entry.address.to_string()}),
        };
        entries.iter().map(entry).collect()
    };
    let ports = |ports: &[PortRange]| -> Vec<Value> {
        ports.iter().map(|it| json!({"from": it.first(), "to": it.last()})).collect()
    };
    json!({
        "action": rule.action.as_str(),
        "priority": rule.priority,
        "protocols": texts(&mut rule.protocols.iter().map(ToString::to_string)),
        "icmp_type": rule.icmp_type,
        "icmp_code": rule.icmp_code,
        "sources": entries(&rule.sources),
        "destinations": entries(&rule.destinations),
        "ports": ports(&rule.ports),
        "enabled": rule.enabled,
        "starts_at": rule.starts_at.map(|it| it.to_string()),
        "expires_at": rule.expires_at.map(|it| it.to_string()),
    })
}

/// Measures the first inspection after a change to one rule.
async fn behind_changes(on: &Server, many: &Policy) {
    let mut connection = Connection::open(on).await.unwrap();
    let list = format!("{}rules/?page_size={CHANGES}", many.path);
    assert_eq!(connection.ask("GET", &list, "").await.unwrap(), 200);
    let rules: Value = serde_json::from_slice(connection.body()).unwrap();
    let mut times = Vec::new();
    for rule in rules["items"].as_array().unwrap() {
        let path = format!("{}rules/{}/", many.path, rule["id"]);
        let changed = connection.ask("PATCH", &path, "{\"action\": \"REJECT\"}").await.unwrap();
        assert_eq!(changed, 200);
        let start = Instant::now();
        assert_eq!(connection.ask("GET", &many.inspection(), "").await.unwrap(), 200);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "\nThe first inspection after one rule's change, 100,000 rules, {CHANGES} changes: median \
         {:.1} ms, at most {:.1} ms",
        ms(times[times.len() / 2]),
        ms(times[times.len() - 1])
    );
}

/// Packets per second of wall time, and per second of the service's processor time.
async fn streamed(on: &Server, many: &Policy) -> (f64, f64) {
    let lines: String = many
        .packets
        .iter()
        .take(DIFFERENT)
        .map(|[source, destination]| {
            format!(
                "{{\"source_address\":\"{source}\",\"destination_address\":\"{destination}\",\
                 \"protocol\":\"tcp\",\"source_port\":40000,\"destination_port\":443}}\n"
            )
        })
        .collect();
    let rounds = STREAMED / DIFFERENT;
    let stream = TcpStream::connect(&on.address).await.unwrap();
    let (mut answers, mut packets) = stream.into_split();
    let head = format!(
        "POST {}inspections/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-ndjson\r\nContent-Length: {}\r\n\r\n",
        many.path,
        on.token,
        lines.len() * rounds
    );
    let (start, cpu) = (Instant::now(), cpu_seconds(on.child.id()));
    let send = async {
        packets.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..rounds {
            packets.write_all(lines.as_bytes()).await.unwrap();
        }
    };
    let receive = async {
        let mut piece = vec![0; 1 << 20];
        let mut count = 0;
        loop {
            let length = answers.read(&mut piece).await.unwrap();
            if length == 0 {
                return count;
            }
            count += piece[..length].iter().filter(|byte| **byte == b'{').count();
        }
    };
    let ((), objects) = tokio::join!(send, receive);
    // Each line has two objects: the verdict, and the rule inside it.
    assert_eq!(objects, 2 * STREAMED, "every packet meets a rule");
    let took = start.elapsed().as_secs_f64();
    let cpu = cpu_seconds(on.child.id()) - cpu;
    (STREAMED as f64 / took, STREAMED as f64 / cpu)
}

/// The processor time that a process has used so far, in seconds.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(Path::new("/proc").join(process.to_string()).join("stat"));
    let stat = stat.unwrap();
    let (_, behind_name) = stat.rsplit_once(')').unwrap();
    let ticks: u64 = behind_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    // Linux reports these times in ticks of 1/100 s.
    ticks as f64 / 100.0
}

//! Inspections over HTTP: one packet with few rules and with many, after a change, and in a stream.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
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

//! The attacks. Each is limited in requests and in time, and connects only to loopback.

use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::raw::{PATIENCE, Sent, Target, pour};
use super::{Attack, POLICIES, rules};
use crate::load::Connection;

/// The duration of an attack that does not end by itself.
const TIME: Duration = Duration::from_secs(12);
const MIB: usize = 1024 * 1024;
const NDJSON: &str = "application/x-ndjson";

pub(super) const ATTACKS: &[Attack] = &[
    Attack { name: "nobody", run: |_| sleep().boxed() },
    Attack { name: "unknown: 33 bodies of 64 MiB to a probe", run: bodies_to_a_probe },
    Attack { name: "unknown: 1,000 heads to a probe, no body", run: heads_to_a_probe },
    Attack { name: "unknown: 1,000 heads to a list, no body", run: heads_to_a_list },
    Attack { name: "unknown: 64 bodies of 10 MiB to a list", run: bodies_to_a_list },
    Attack { name: "unknown: 2,000 halves of heads", run: halves_of_heads },
    Attack { name: "probe: 40 PUTs of 59 MB", run: bodies_without_the_role },
    Attack { name: "viewer: 4 packets of 10 MiB of unknown members", run: unknown_members },
    Attack { name: "viewer: 4 lists of 10 MiB of faulty packets", run: faulty_packets },
    Attack { name: "viewer: 16 bodies of 10 MiB without their ends", run: bodies_without_ends },
    Attack { name: "viewer: 60 streams that nobody reads", run: streams_unread },
    Attack { name: "viewer: 120 pages that nobody reads", run: pages_unread },
    Attack { name: "viewer: 60 exports that nobody reads", run: exports_unread },
    Attack { name: "viewer: 4 x 100 pages over HTTP/2, unread", run: pages_unread_over_http2 },
    Attack { name: "viewer: queries of 60 KB, 16 at once", run: long_queries },
    Attack { name: "viewer: 16 expensive lists at once", run: expensive_lists },
    Attack { name: "viewer: expensive lists that nobody waits for", run: lists_left },
    Attack { name: "editor: 64 writers", run: writers },
    Attack { name: "editor: 4 PUTs of 20,000 rules at once", run: large_sets },
    Attack { name: "editor: PUT of 200,000 faulty rules", run: faulty_rules },
    Attack { name: "editor: batch of 10,000 faulty operations", run: faulty_operations },
    Attack { name: "editor: policies that are costly to compile", run: costly_policies },
];

/// A persistent connection of the attacker.
async fn attacker(target: &Target, token: &str) -> Connection {
    Connection::over(target.connect().await.unwrap(), token).unwrap()
}

async fn sleep() {
    tokio::time::sleep(Duration::from_secs(3)).await;
}

fn bodies_to_a_probe(target: Target) -> BoxFuture<'static, ()> {
    async move {
        withheld(&target, 33, &Sent::new("PUT", "/health/ready").declaring(64 * MIB)).await;
    }
    .boxed()
}

/// Sends all but the last byte of each body, and keeps the connections open for a while.
async fn withheld(target: &Target, count: usize, sent: &Sent<'_>) {
    let kept = (0..count).map(|_| async {
        let mut stream = sent.begin(target).await?;
        pour(&mut stream, sent.declared - 1).await;
        Some(stream)
    });
    let kept = join_all(kept).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    drop(kept);
}

async fn heads(target: &Target, path: &str) {
    let sent = Sent::new("PUT", path).declaring(64 * MIB);
    let kept = join_all((0..1_000).map(|_| sent.begin(target))).await;
    tokio::time::sleep(TIME).await;
    drop(kept);
}

fn heads_to_a_probe(target: Target) -> BoxFuture<'static, ()> {
    async move { heads(&target, "/health/ready").await }.boxed()
}

fn heads_to_a_list(target: Target) -> BoxFuture<'static, ()> {
    async move { heads(&target, "/firewalls/").await }.boxed()
}

fn bodies_to_a_list(target: Target) -> BoxFuture<'static, ()> {
    async move {
        withheld(&target, 64, &Sent::new("POST", "/firewalls/").declaring(10 * MIB)).await;
    }
    .boxed()
}

fn halves_of_heads(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let kept = (0..2_000).map(|_| async {
            let mut stream = target.connect().await.ok()?;
            let half =
                format!("GET /firewalls/ HTTP/1.1\r\nHost: x\r\nX-Half: {}", "x".repeat(8_000));
            stream.write_all(half.as_bytes()).await.ok()?;
            Some(stream)
        });
        let kept = join_all(kept).await;
        tokio::time::sleep(TIME).await;
        drop(kept);
    }
    .boxed()
}

fn bodies_without_the_role(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let path = format!("{POLICIES}1/rules/");
        withheld(&target, 40, &Sent::new("PUT", &path).by(&target.probe).declaring(59_000_000))
            .await;
    }
    .boxed()
}

fn inspections() -> String {
    format!("{POLICIES}1/inspections/")
}

/// Returns `{"0":0,"1":0,…}` with roughly the given number of bytes.
fn unknown(bytes: usize) -> String {
    let mut text = String::from("{");
    let mut index = 0_usize;
    while text.len() < bytes {
        text.push_str(&format!("\"{index}\":0,"));
        index += 1;
    }
    text.push_str("\"x\":0}");
    text
}

/// Sends the same request several times at once.
async fn at_once(target: &Target, count: usize, sent: &Sent<'_>, body: &str) {
    join_all((0..count).map(|_| sent.whole(target, body.as_bytes()))).await;
}

fn unknown_members(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let path = inspections();
        let sent = Sent::new("POST", &path).by(&target.viewer);
        at_once(&target, 4, &sent, &unknown(10 * MIB - 1_000)).await;
    }
    .boxed()
}

fn faulty_packets(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let path = inspections();
        let sent = Sent::new("POST", &path).by(&target.viewer);
        let body = format!("[{}{{}}]", "{\"sorce\":0},".repeat(800_000));
        at_once(&target, 4, &sent, &body).await;
    }
    .boxed()
}

fn bodies_without_ends(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let path = inspections();
        withheld(&target, 16, &Sent::new("POST", &path).by(&target.viewer).declaring(10 * MIB - 1))
            .await;
    }
    .boxed()
}

/// Sends packets for as long as the server accepts them, and reads no verdict.
fn streams_unread(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let path = inspections();
        let sent = Sent::new("POST", &path).by(&target.viewer).of(NDJSON).declaring(1_000 * MIB);
        let line = "{\"source_address\":\"10.0.0.1\",\"destination_address\":\"172.16.0.1\",\"protocol\":\"icmp\"}\n";
        let piece = line.repeat(700);
        let ends_at = Instant::now() + TIME;
        let streams = (0..60).map(|_| async {
            let mut stream = sent.begin(&target).await?;
            while Instant::now() < ends_at {
                let sent = tokio::time::timeout(Duration::from_secs(2), stream.write_all(piece.as_bytes())).await;
                if !matches!(sent, Ok(Ok(()))) {
                    break;
                }
            }
            Some(stream)
        });
        let kept = join_all(streams).await;
        tokio::time::sleep_until(ends_at.into()).await;
        drop(kept);
    }
    .boxed()
}

/// Sends requests and reads no answers.
async fn unread(target: &Target, count: usize, path: &str, accept: &str) {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\n\r\n",
        target.viewer
    );
    let kept = (0..count).map(|_| async {
        let mut stream = target.connect().await.ok()?;
        stream.write_all(request.as_bytes()).await.ok()?;
        Some(stream)
    });
    let kept = join_all(kept).await;
    tokio::time::sleep(TIME).await;
    drop(kept);
}

fn wide_page() -> String {
    format!("{POLICIES}3/rules/?page_size=1000")
}

fn pages_unread(target: Target) -> BoxFuture<'static, ()> {
    async move { unread(&target, 120, &wide_page(), "application/json").await }.boxed()
}

fn exports_unread(target: Target) -> BoxFuture<'static, ()> {
    async move { unread(&target, 60, &format!("{POLICIES}2/rules/"), NDJSON).await }.boxed()
}

fn pages_unread_over_http2(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let connections = (0..4).map(|_| async {
            let stream = target.connect().await.ok()?;
            let mut builder = h2::client::Builder::new();
            // The windows are as wide as the protocol allows, so the server may buffer every
            // answer.
            builder
                .initial_window_size(u32::MAX >> 1)
                .initial_connection_window_size(u32::MAX >> 1);
            let (client, connection) = builder.handshake::<_, bytes::Bytes>(stream).await.ok()?;
            let driven = tokio::spawn(async move {
                // The task reads from the socket; the bodies stay unread.
                let _ended = connection.await.is_ok();
            });
            let mut kept = Vec::new();
            for _ in 0..100 {
                let request = hyper::http::Request::get(format!("http://x{}", wide_page()))
                    .header("authorization", format!("Bearer {}", target.viewer))
                    .body(())
                    .ok()?;
                let Ok(mut ready) = client.clone().ready().await else { break };
                let Ok((response, _)) = ready.send_request(request, true) else { break };
                kept.push(response);
            }
            tokio::time::sleep(TIME).await;
            driven.abort();
            Some(kept)
        });
        join_all(connections).await;
    }
    .boxed()
}

fn long_queries(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let mut path = String::from("/firewalls/?a=1");
        let mut index = 0;
        while path.len() < 60_000 {
            path.push_str(&format!("&p{index}=1"));
            index += 1;
        }
        let filter = format!("/rules/?filter={}", "NOT%20".repeat(8_000));
        again_and_again(&target, 16, &[&path, &filter]).await;
    }
    .boxed()
}

fn expensive() -> Vec<String> {
    [
        "description%20:%20zz",
        "reference%20=%20%22*9x%22",
        "NOT%20description%20:%20y%20AND%20reference%20:%20q",
    ]
    .map(|filter| format!("/rules/?filter={filter}&page_size=1000&with_total=true"))
    .into()
}

/// Sends requests over several connections of one subject for as long as the attack lasts.
async fn again_and_again(target: &Target, count: usize, paths: &[&str]) {
    let ends_at = Instant::now() + TIME;
    let asking = (0..count).map(|_| async {
        let mut connection = attacker(target, &target.viewer).await;
        for path in paths.iter().cycle() {
            if Instant::now() > ends_at {
                break;
            }
            if connection.ask("GET", path, "").await.is_err() {
                connection = attacker(target, &target.viewer).await;
            }
        }
    });
    join_all(asking).await;
}

fn expensive_lists(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let paths = expensive();
        let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
        again_and_again(&target, 16, &paths).await;
    }
    .boxed()
}

fn lists_left(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let ends_at = Instant::now() + TIME;
        while Instant::now() < ends_at {
            let left = expensive().into_iter().map(|path| {
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\r\n",
                    target.viewer
                );
                let target = target.clone();
                async move {
                    let mut stream = target.connect().await.ok()?;
                    stream.write_all(request.as_bytes()).await.ok()?;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    Some(())
                }
            });
            join_all(left).await;
        }
    }
    .boxed()
}

fn writers(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let ends_at = Instant::now() + TIME;
        let stamp = std::process::id();
        let writing = (0..64).map(|writer| {
            let target = target.clone();
            async move {
                let mut connection = attacker(&target, &target.editor).await;
                let path = format!("{POLICIES}4/rules/");
                let mut index = 0_u64;
                while Instant::now() < ends_at {
                    index += 1;
                    let at = stamp.wrapping_mul(31).wrapping_add(u32::try_from(index).unwrap_or(0));
                    let [_, b, c, d] = at.to_be_bytes();
                    let body = json!({"action": "ALLOW", "sources": [{"address": format!("{}.{b}.{c}.{d}", 100 + writer)}], "destinations": [{"address": "any"}]});
                    if connection.ask("POST", &path, &body.to_string()).await.is_err() {
                        connection = attacker(&target, &target.editor).await;
                    }
                }
            }
        });
        join_all(writing).await;
    }
    .boxed()
}

fn large_sets(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let path = format!("{POLICIES}5/rules/");
        let sent = Sent::new("PUT", &path).by(&target.editor);
        // The rules have names, so that each set changes every rule of the previous set and deletes
        // none.
        let bodies = (0..4).map(|round| {
            let mut rules = rules(20_000, 1, 40);
            for (index, rule) in rules.as_array_mut().into_iter().flatten().enumerate() {
                rule["name"] = json!(format!("rule {index}"));
                rule["reference"] = json!(format!("round {round}"));
            }
            rules.to_string()
        });
        let (sent, target) = (&sent, &target);
        join_all(bodies.map(|body| async move { sent.whole(target, body.as_bytes()).await })).await;
    }
    .boxed()
}

fn faulty_rules(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let body = format!(
            "[{}{{}}]",
            "{\"action\":\"ALOW\",\"sorces\":[{\"adress\":1}]},".repeat(200_000)
        );
        let path = format!("{POLICIES}4/rules/");
        let sent = Sent::new("PUT", &path).by(&target.editor);
        at_once(&target, 2, &sent, &body).await;
    }
    .boxed()
}

fn faulty_operations(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let operation =
            "{\"op\":\"create\",\"rule\":{\"action\":\"ALOW\",\"sorces\":[1,2,3],\"nme\":7}},";
        let body = format!("{{\"operations\":[{}{{}}]}}", operation.repeat(10_000));
        let path = format!("{POLICIES}4/rules/batch/");
        let sent = Sent::new("POST", &path).by(&target.editor);
        at_once(&target, 8, &sent, &body).await;
    }
    .boxed()
}

/// Rules with large products of entries, which are changed and inspected in turns.
fn costly_policies(target: Target) -> BoxFuture<'static, ()> {
    async move {
        let ranges = |shift: usize| -> Vec<serde_json::Value> {
            (0..316)
                .map(|at| json!({"address": format!("2001:db8:{shift:x}:{at:x}::1-2001:db8:{shift:x}:{at:x}::ffff")}))
                .collect()
        };
        let (sources, destinations) = (ranges(1), ranges(2));
        let path = format!("{POLICIES}6/rules/");
        let ask = format!(
            "{POLICIES}6/inspections/?source_address=2001:db8:1:7::7&destination_address=2001:db8:2:7::7&protocol=icmpv6&icmp_type=128&icmp_code=0"
        );
        let ends_at = Instant::now() + TIME;
        let mut connection = attacker(&target, &target.editor).await;
        for round in 0_usize.. {
            if Instant::now() > ends_at {
                break;
            }
            let rules: Vec<serde_json::Value> = (0..39)
                .map(|index| {
                    let port = 1_000 + index * 7 + round;
                    json!({"name": format!("rule {index}"), "action": "ALLOW", "protocols": ["tcp"], "ports": [{"number": port}], "sources": sources, "destinations": destinations})
                })
                .collect();
            let body = json!(rules).to_string();
            for (method, path, body) in [("PUT", &path, body.as_str()), ("GET", &ask, "")] {
                let asked = connection.ask(method, path, body);
                if !matches!(tokio::time::timeout(PATIENCE, asked).await, Ok(Ok(_))) {
                    connection = attacker(&target, &target.editor).await;
                }
            }
        }
    }
    .boxed()
}

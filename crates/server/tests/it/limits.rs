//! The limits of a client, and the consequences of exceeding them.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use fireflow::listener::{self, ConnectionLimits};
use fireflow_domain::actor::Role;
use fireflow_domain::net::AddressRange;
use fireflow_storage::DatabaseKind;
use fireflow_storage::testing::TestDatabase;
use fireflow_web::{Cors, ForwardedHeader, Gate, Proxies, Rate, Rates};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::service::PATIENCE;
use crate::support::Api;

async fn database() -> TestDatabase {
    TestDatabase::new(DatabaseKind::Sqlite).await
}

/// Short timeouts for stalled connections. Active connections may exceed them on a busy machine.
fn short() -> ConnectionLimits {
    ConnectionLimits {
        head_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(800),
        ..patient()
    }
}

/// Timeouts that no active connection exceeds.
fn patient() -> ConnectionLimits {
    ConnectionLimits {
        max_connections: 64,
        max_head_bytes: 8 * 1024,
        head_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        answer_timeout: listener::ANSWER_TIMEOUT,
    }
}

/// Reads everything until the connection ends.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = stream.read_to_end(&mut bytes);
    // The connection may be closed or reset.
    let _ended = tokio::time::timeout(PATIENCE, read).await.unwrap().is_ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn send(address: SocketAddr, text: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    rest(&mut stream).await
}

const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: x\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_does_not_come_to_its_end_ends_the_connection() {
    let api = Api::on(database().await);
    let (address, _stop, _served) = api.listen(patient(), None).await;
    assert!(send(address, &format!("{LIVE}Connection: close\r\n\r\n")).await.contains("200 OK"));
    let (address, _stop, _served) = api.listen(short(), None).await;
    // Half a head, and then a head byte by byte: a single byte must not restart the timeout.
    let answer = send(address, LIVE).await;
    assert!(!answer.contains("200"), "{answer}");
    let mut slow = TcpStream::connect(address).await.unwrap();
    let start = std::time::Instant::now();
    let mut sent = 0;
    for byte in LIVE.bytes().cycle() {
        if slow.write_all(&[byte]).await.is_err() || start.elapsed() > PATIENCE {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(start.elapsed() < PATIENCE, "{sent} bytes were taken");
    // A connection that sends nothing.
    assert_eq!(send(address, "").await, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_waits_for_its_next_request_is_kept() {
    let api = Api::on(database().await);
    let head = Duration::from_secs(1);
    let limits = ConnectionLimits { head_timeout: head, ..patient() };
    let (address, _stop, _served) = api.listen(limits, None).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut bytes = [0; 4 * 1024];
    for _ in 0..3 {
        stream.write_all(format!("{LIVE}\r\n").as_bytes()).await.unwrap();
        let length = stream.read(&mut bytes).await.unwrap();
        assert!(bytes[..length].starts_with(b"HTTP/1.1 200 "));
        // Longer than the head timeout, but no byte of a head has arrived.
        tokio::time::sleep(head + head / 4).await;
    }
    // The timeout of the next head starts with its first byte.
    stream.write_all(LIVE.as_bytes()).await.unwrap();
    assert!(!rest(&mut stream).await.contains("200"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_is_refused() {
    let api = Api::on(database().await);
    let (address, _stop, _served) = api.listen(patient(), None).await;
    // Unread data makes the system reset the connection, and the reset may overtake the answer.
    let is_refused = |answer: &str| answer.is_empty() || answer.starts_with("HTTP/1.1 431 ");
    let large = format!("{LIVE}X-Large: {}\r\n\r\n", "x".repeat(9 * 1024));
    let answer = send(address, &large).await;
    assert!(is_refused(&answer), "{answer}");
    let path = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(9 * 1024));
    let answer = send(address, &path).await;
    assert!(is_refused(&answer), "{answer}");
    let of = |count: usize| (0..count).map(|index| format!("X-{index}: y\r\n")).collect::<String>();
    let answer = send(address, &format!("{LIVE}{}\r\n", of(101))).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let answer = send(address, &format!("{LIVE}{}Connection: close\r\n\r\n", of(90))).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Enough rules that their list exceeds the system's buffers for a slow client.
const RULES: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_without_progress_ends_in_either_direction() {
    let api = Api::on(database().await);
    let (address, _stop, _served) = api.listen(short(), None).await;
    // A body that never arrives.
    let half = format!(
        "POST /firewalls/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        api.token()
    );
    let answer = send(address, &half).await;
    assert!(!answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(api.get("/firewalls/").await.expect(200)["total"], 0);
    // An answer that nobody reads, larger than the system's buffers. The timeout leaves enough time
    // for the answer to begin.
    let limits = ConnectionLimits { idle_timeout: Duration::from_secs(3), ..patient() };
    let (address, _stop, _served) = api.listen(limits, None).await;
    let policy = api.policy().await;
    let rules: Vec<_> = (0..RULES)
        .map(|index| {
            json!({"action": "ALLOW", "destinations": [{"address": "any"}],
                "sources": [{"address": format!("10.1.{}.{}", index / 256, index % 256)}],
                "description": "x".repeat(60)})
        })
        .collect();
    api.put(&format!("{policy}rules/"), &json!(rules)).await.expect(200);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut unread = socket.connect(address).await.unwrap();
    let list = format!(
        "GET {policy}rules/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Accept: application/x-ndjson\r\n\r\n",
        api.token()
    );
    unread.write_all(list.as_bytes()).await.unwrap();
    // Only one list is read at a time here. Another list gets its turn once this one is aborted.
    let start = std::time::Instant::now();
    let mut first = [0];
    assert_eq!(unread.peek(&mut first).await.unwrap(), 1, "the answer has begun");
    let whole = loop {
        let whole = api.open(&format!("{policy}rules/"), "application/x-ndjson").await;
        if whole.status() == 200 {
            break whole;
        }
        assert!(start.elapsed() < PATIENCE, "an answer that nobody reads is never given up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut bytes = Vec::new();
    let read = unread.read_to_end(&mut bytes);
    let ended = tokio::time::timeout(PATIENCE, read).await.unwrap();
    let is_whole = ended.is_ok() && bytes.ends_with(b"0\r\n\r\n");
    assert!(!is_whole, "{} bytes waited for their reader", bytes.len());
    // A client that reads the list gets all of it.
    assert_eq!(whole.into_body().into_string().await.unwrap().lines().count(), RULES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let api = Api::on(database().await);
    let limits = ConnectionLimits { max_connections: 2, ..patient() };
    let (address, _stop, _served) = api.listen(limits, None).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(LIVE.as_bytes()).await.unwrap();
        held.push(stream);
    }
    let ask = format!("{LIVE}Connection: close\r\n\r\n");
    let waits = tokio::spawn(async move { send(address, &ask).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waits.is_finished());
    held.pop();
    assert!(waits.await.unwrap().contains("200 OK"));
}

fn rate(count: u32) -> Option<Rate> {
    Some(Rate { count: NonZeroU32::new(count).unwrap(), per: Duration::from_secs(3_600) })
}

#[tokio::test]
async fn a_subject_that_asks_too_often_is_told_when_to_come_back() {
    let api = Api::built(database().await, |app, _| {
        app.gate = Gate { rates: Rates::new(None, rate(3)), ..Gate::default() };
    });
    for left in [2, 1, 0] {
        // An answer with any status reports the remaining requests.
        let path = if left == 1 { "/firewalls/999/" } else { "/firewalls/" };
        let answer = api.get(path).await;
        assert_eq!(answer.header("ratelimit-policy"), "\"subject\";q=3;w=3600");
        let reset = 1_200 * (3 - left);
        assert_eq!(answer.header("ratelimit"), format!("\"subject\";r={left};t={reset}"));
    }
    let refused = api.get("/firewalls/").await;
    let seconds: u64 = refused.header("retry-after").parse().unwrap();
    assert!((1..=1_200).contains(&seconds), "{seconds}");
    assert_eq!(refused.header("ratelimit"), format!("\"subject\";r=0;t={seconds}"));
    refused.problem(429, "too_many_requests");
    // Other subjects are served, and so are probes.
    let bob = api.token_of("bob", &[Role::Viewer]);
    api.send("GET", "/firewalls/", &bob, &[], None).await.expect(200);
    let probe = api.raw("GET", "/health/live", &[], vec![]).await;
    assert!(!probe.headers.contains_key("ratelimit"));
    probe.expect(200);
    // Without a rate limit the headers are missing.
    let free = Api::on(database().await);
    assert!(!free.get("/firewalls/").await.headers.contains_key("ratelimit-policy"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_asks_too_often_is_refused_before_its_token_is_looked_at() {
    let api = Api::built(database().await, |app, _| {
        let trusted = vec![AddressRange::parse("127.0.0.0/8").unwrap()];
        app.gate = Gate {
            proxies: Proxies::new(trusted, ForwardedHeader::XForwardedFor),
            rates: Rates::new(rate(2), None),
            ..Gate::default()
        };
    });
    let (address, _stop, _served) = api.listen(short(), None).await;
    let ask = |client: &'static str, token: &'static str| async move {
        let head = format!(
            "GET /whoami/ HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 9.9.9.9, {client}\r\n\
             Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        let answer = send(address, &head).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(ask("192.0.2.1", "a.b.c").await, "401");
    assert_eq!(ask("192.0.2.1", "a.b.c").await, "401");
    assert_eq!(ask("192.0.2.1", "a.b.c").await, "429");
    assert_eq!(ask("192.0.2.2", "a.b.c").await, "401", "another client of the same proxy");
    // The addresses that the client itself added on the left are ignored.
    assert_eq!(ask("8.8.8.8, 192.0.2.1", "a.b.c").await, "429");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_trail_names_the_client_behind_a_trusted_proxy_alone() {
    for (trusted, expected) in [("127.0.0.0/8", "192.0.2.1"), ("10.0.0.0/8", "127.0.0.1")] {
        let api = Api::built(database().await, |app, _| {
            let trusted = vec![AddressRange::parse(trusted).unwrap()];
            let proxies = Proxies::new(trusted, ForwardedHeader::Forwarded);
            app.gate = Gate { proxies, ..Gate::default() };
        });
        let (address, _stop, _served) = api.listen(short(), None).await;
        let body = "{\"name\": \"edge\"}";
        let request = format!(
            "POST /firewalls/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Forwarded: for=203.0.113.7, for=192.0.2.1;proto=https\r\nX-Forwarded-For: 8.8.8.8\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            api.token(),
            body.len()
        );
        assert!(send(address, &request).await.starts_with("HTTP/1.1 201 "));
        let events = api.get("/audit-events/").await.expect(200);
        assert_eq!(events["items"][0]["client_address"], expected);
    }
}

#[tokio::test]
async fn an_overloaded_service_sheds_and_says_when_to_come_back() {
    let api = Api::overloaded().await;
    let refused = api.get("/firewalls/").await;
    assert_eq!(refused.header("retry-after"), "1");
    refused.problem(503, "unavailable");
    // A supervisor must not consider the overloaded service dead.
    api.raw("GET", "/health/live", &[], vec![]).await.expect(200);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let api = Api::built(database().await, |app, _| app.gate.is_tls = true);
    for (path, status) in [
        ("/firewalls/", 200),
        ("/nothing/", 404),
        ("/firewalls/?x=1", 422),
        ("/docs/openapi.json", 200),
        ("/docs/swagger-ui", 200),
        ("/health/live", 200),
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, status, "{path}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("strict-transport-security", "max-age=31536000"),
        ] {
            assert_eq!(answer.header(name), value, "{path}");
        }
        let policy = answer.header("content-security-policy");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"));
        assert!(!policy.contains("unsafe-eval"), "{policy}");
        let is_page = path == "/docs/swagger-ui";
        assert_eq!(policy.contains("script-src 'sha256-"), is_page, "{path}");
        assert!(!policy.contains("script-src 'unsafe"), "{policy}");
        let keeps = if path.starts_with("/docs") { "no-cache" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), keeps, "{path}");
    }
    let plain = Api::on(database().await).get("/firewalls/").await;
    assert!(plain.headers.get("strict-transport-security").is_none(), "without TLS here");
}

#[tokio::test]
async fn pages_of_other_origins_are_answered_only_where_they_are_named() {
    let off = Api::on(database().await);
    let console = [("origin", "https://console.example")];
    let preflight = [
        ("origin", "https://console.example"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization"),
    ];
    let answer = off.with("GET", "/firewalls/", &console, None).await;
    assert!(answer.headers.get("access-control-allow-origin").is_none());
    let answer = off.raw("OPTIONS", "/firewalls/", &preflight, vec![]).await;
    answer.problem(401, "unauthenticated");

    let api = Api::built(database().await, |app, _| {
        app.gate.cors = Cors::new(vec!["https://console.example".to_owned()]);
    });
    let answer = api.raw("OPTIONS", "/firewalls/", &preflight, vec![]).await;
    assert_eq!(answer.status, 204, "without a token, which browsers do not send");
    assert_eq!(answer.header("access-control-allow-origin"), "https://console.example");
    assert!(answer.header("access-control-allow-methods").contains("PUT"));
    assert!(answer.header("access-control-allow-headers").contains("Idempotency-Key"));
    assert!(answer.headers.get("access-control-allow-credentials").is_none());
    let answer = api.with("GET", "/firewalls/", &console, None).await;
    assert_eq!(answer.header("access-control-allow-origin"), "https://console.example");
    assert!(answer.header("access-control-expose-headers").contains("ETag"));
    assert_eq!(answer.header("vary"), "Origin");
    let errors = api.with("GET", "/nothing/", &console, None).await;
    assert_eq!(errors.header("access-control-allow-origin"), "https://console.example");
    // A request from another page is answered normally, but the browser hides the answer from that
    // page.
    let stranger = [("origin", "https://evil.example")];
    let answer = api.with("GET", "/firewalls/", &stranger, None).await;
    assert!(answer.headers.get("access-control-allow-origin").is_none());
    answer.expect(200);
    let preflight = [preflight[1], ("origin", "https://evil.example")];
    api.raw("OPTIONS", "/firewalls/", &preflight, vec![]).await.problem(401, "unauthenticated");
}

//! The order of the work for a request: anything that costs memory or time comes after
//! authentication and authorization.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use fireflow::listener::{self, ConnectionLimits};
use fireflow_domain::actor::Role;
use fireflow_storage::DatabaseKind;
use fireflow_storage::testing::TestDatabase;
use fireflow_web::{Gate, Rate, Rates};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::support::Api;

const LIMIT: Duration = Duration::from_secs(60);

async fn database() -> TestDatabase {
    TestDatabase::new(DatabaseKind::Sqlite).await
}

/// Limits that no test reaches by being slow.
pub(crate) fn patient() -> ConnectionLimits {
    ConnectionLimits {
        max_connections: 256,
        max_head_bytes: 8 * 1024,
        head_timeout: LIMIT,
        idle_timeout: 2 * LIMIT,
        answer_timeout: listener::ANSWER_TIMEOUT,
    }
}

/// A connection with some bytes already sent.
pub(crate) async fn begun(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

/// The first bytes that arrive on a connection.
pub(crate) async fn first(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 16 * 1024];
    let length = tokio::time::timeout(LIMIT, stream.read(&mut bytes)).await.unwrap().unwrap();
    String::from_utf8_lossy(&bytes[..length]).into_owned()
}

/// A request head with a token and a `Content-Length`.
fn head(method: &str, path: &str, token: &str, length: usize, more: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n{more}\r\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn open_paths_read_no_body_and_hold_nothing() {
    let api = Api::on(database().await);
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let permits = api.free_permits();
    let mut held = Vec::new();
    for (method, path) in [
        ("PUT", "/health/ready"),
        ("POST", "/health/live"),
        ("DELETE", "/docs/openapi.json"),
        ("PATCH", "/docs/swagger-ui"),
        ("OPTIONS", "/docs/nothing"),
    ] {
        let text =
            format!("{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 67108864\r\n\r\n{{");
        let mut stream = begun(address, &text).await;
        let answer = first(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{path}: {answer}");
        assert!(answer.contains("\r\nallow: GET, HEAD\r\n"), "{answer}");
        assert!(answer.contains("method_not_allowed"), "{answer}");
        held.push(stream);
    }
    assert_eq!((api.borrowed(), api.free_permits()), (0, permits));
    for path in ["/health/live", "/health/ready", "/docs/openapi.json"] {
        assert_eq!(api.raw("GET", path, &[], vec![]).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_whose_body_has_not_come_take_nobodys_place() {
    let api =
        Api::built(database().await, |_, limits| limits.in_flight = Arc::new(Semaphore::new(2)));
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let editor = api.token_of("ann", &[Role::Editor]);
    let mut held = Vec::new();
    // Many more requests than may be served at once, each without its last byte.
    for _ in 0..20 {
        let body = "{\"name\": \"edge\"";
        held.push(begun(address, &(head("POST", "/firewalls/", &editor, 16, "") + body)).await);
    }
    for _ in 0..20 {
        held.push(begun(address, &head("POST", "/firewalls/", "a.b.c", 64_000_000, "")).await);
    }
    // Each authorized request borrows some memory. Once all of them have borrowed it, all have
    // arrived.
    let start = std::time::Instant::now();
    while api.borrowed() < 20 * 64 * 1024 {
        assert!(start.elapsed() < LIMIT, "{}", api.borrowed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(api.free_permits(), 2);
    api.get("/firewalls/").await.expect(200);
    api.post("/firewalls/", &json!({"name": "core"})).await.expect(201);
    api.raw("GET", "/health/ready", &[], vec![]).await.expect(200);
    // The last byte of any of them is enough.
    held[0].write_all(b"}").await.unwrap();
    assert!(first(&mut held[0]).await.starts_with("HTTP/1.1 201 "));
    drop(held);
    api.nothing_is_borrowed().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_asked_for_a_body_before_all_else_is_known_to_be_right() {
    let api = Api::built(database().await, |app, _| {
        let rate = Rate { count: NonZeroU32::new(2).unwrap(), per: Duration::from_secs(3_600) };
        app.gate = Gate { rates: Rates::new(None, Some(rate)), ..Gate::default() };
    });
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let editor = api.token_of("ann", &[Role::Editor]);
    let often = api.token_of("bob", &[Role::Editor]);
    for _ in 0..2 {
        api.send("GET", "/whoami/", &often, &[], None).await.expect(200);
    }
    let probe = api.token_of("eve", &[Role::HealthCheck]);
    let firewalls = "/firewalls/";
    for (method, path, token, length, status) in [
        ("POST", firewalls, "a.b.c", 16, 401),
        ("POST", "/nothing/", "a.b.c", 16, 401),
        ("POST", "/nothing/", editor.as_str(), 16, 404),
        ("PUT", firewalls, &editor, 16, 405),
        ("POST", firewalls, &probe, 16, 403),
        ("POST", firewalls, &probe, 99_000_000, 403),
        ("POST", firewalls, &often, 16, 429),
        ("POST", firewalls, &editor, 99_000_000, 413),
        ("POST", "/firewalls/?nothing=1", &editor, 16, 422),
    ] {
        let text = head(method, path, token, length, "Expect: 100-continue\r\n");
        let answer = first(&mut begun(address, &text).await).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        assert_eq!(api.borrowed(), 0);
    }
    // A client without the role gets 403, even if it sends too many requests.
    for _ in 0..3 {
        let text = head("POST", firewalls, &probe, 16, "");
        assert!(first(&mut begun(address, &text).await).await.starts_with("HTTP/1.1 403 "));
    }
    let ann = api.token_of("ann 2", &[Role::Editor]);
    let text = head("POST", firewalls, &ann, 16, "Expect: 100-continue\r\n");
    let mut stream = begun(address, &text).await;
    assert_eq!(first(&mut stream).await, "HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{\"name\": \"edge\"}").await.unwrap();
    assert!(first(&mut stream).await.starts_with("HTTP/1.1 201 "));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operations_without_a_body_refuse_one() {
    let api = Api::on(database().await);
    let firewall = api.post("/firewalls/", &json!({"name": "edge"})).await.expect(201);
    let path = format!("/firewalls/{}/", firewall["id"]);
    let (address, _stop, _served) = api.listen(patient(), None).await;
    for (method, path) in [
        ("GET", path.clone()),
        ("DELETE", path.clone()),
        ("GET", "/whoami/".to_owned()),
        ("GET", "/metrics".to_owned()),
    ] {
        let text = head(method, &path, api.token(), 2, "") + "{}";
        let answer = first(&mut begun(address, &text).await).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{method} {path}: {answer}");
        assert!(answer.contains("does not accept a request body"), "{answer}");
    }
    api.get(&path).await.expect(200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_is_given_up_with_what_it_holds() {
    let api = Api::built(database().await, |_, limits| {
        limits.body_stall = Duration::from_millis(200);
    });
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let text = head("POST", "/firewalls/", api.token(), 1_000_000, "") + "{";
    let answer = first(&mut begun(address, &text).await).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("request_timeout"), "{answer}");
    api.nothing_is_borrowed().await;
    assert_eq!(api.get("/firewalls/").await.expect(200)["total"], 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_names_one_host() {
    let api = Api::on(database().await);
    let (address, _stop, _served) = api.listen(patient(), None).await;
    let live = "/health/live HTTP/1.1\r\nConnection: close\r\n";
    for (request, status) in [
        (format!("GET {live}Host: a\r\n\r\n"), 200),
        (format!("GET http://a:80{live}Host: A:80\r\n\r\n"), 200),
        (format!("GET {live}Host: a\r\nHost: a\r\n\r\n"), 400),
        (format!("GET {live}Host: a\r\nHost: b\r\n\r\n"), 400),
        (format!("GET http://a{live}Host: b\r\n\r\n"), 400),
        (format!("GET {live}\r\n"), 400),
        ("GET /health/live HTTP/1.0\r\n\r\n".to_owned(), 200),
    ] {
        let answer = first(&mut begun(address, &request).await).await;
        let version = if request.contains("HTTP/1.0") { "HTTP/1.0" } else { "HTTP/1.1" };
        assert!(answer.starts_with(&format!("{version} {status} ")), "{request}: {answer}");
        if status == 400 {
            assert!(answer.contains("malformed_request"), "{answer}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_only_open_give_way() {
    let api = Api::on(database().await);
    let limits = ConnectionLimits { max_connections: 4, ..patient() };
    let (address, _stop, _served) = api.listen(limits, None).await;
    let live = "GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";
    // Some connections have sent nothing yet; others wait for their next request.
    let mut idle = Vec::new();
    for index in 0..8 {
        let mut stream = begun(address, if index % 2 == 0 { "" } else { live }).await;
        if index % 2 == 1 {
            assert!(first(&mut stream).await.starts_with("HTTP/1.1 200 "));
        }
        idle.push(stream);
    }
    let mut stream = begun(address, live).await;
    assert!(first(&mut stream).await.starts_with("HTTP/1.1 200 "));
    // The connection that was idle for the longest time was closed, and the newest ones are still
    // open.
    assert_eq!(first(&mut idle[0]).await, "");
    stream.write_all(live.as_bytes()).await.unwrap();
    assert!(first(&mut stream).await.starts_with("HTTP/1.1 200 "));
}

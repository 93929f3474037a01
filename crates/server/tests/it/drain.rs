//! A service that gets a stop signal: under load, with open requests, and with unread answers.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fireflow::listener::{self, ConnectionLimits};
use fireflow_storage::DatabaseKind;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::cluster::wait_until;
use crate::service::{PATIENCE, Place, Service, binary};
use crate::support::Api;

/// Whether the service accepts new connections.
fn lets_in(service: &Service) -> bool {
    TcpStream::connect(&service.address).is_ok()
}

/// How many times the service is stopped under load. More stops take up to an hour.
const STOPS: &str = "FIREFLOW_TEST_STOPS";

/// The results of the load's workers.
#[derive(Default)]
struct Seen {
    acknowledged: Mutex<Vec<String>>,
    told_to_close: AtomicUsize,
}

/// Writes until the service refuses connections. Each write that was sent must be acknowledged.
/// Keeps one connection if `keeps` is set, or opens one for each write.
fn write_until_refused(service: &Service, name: &str, keeps: bool, seen: &Seen) {
    let mut open = None;
    for index in 0.. {
        let mut connection = match open.take().map_or_else(|| service.try_connect(), Ok) {
            Ok(connection) => connection,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
                return;
            }
        };
        let name = format!("{name}-{index}");
        let body = json!({"name": name}).to_string();
        let answer = match connection.exchange("POST", "/firewalls/", &body) {
            Ok(answer) => answer,
            Err(error) => panic!("{name} was sent, and not answered: {error}"),
        };
        assert_eq!(answer.status, 201, "{}", answer.text);
        seen.acknowledged.lock().unwrap().push(name);
        if answer.headers.get("connection").is_some_and(|it| it == "close") {
            seen.told_to_close.fetch_add(1, Ordering::SeqCst);
        } else if keeps {
            open = Some(connection);
        }
    }
}

#[cfg(unix)]
#[tokio::test]
async fn no_stop_under_load_loses_a_request() {
    const WORKERS: usize = 8;
    let stops = std::env::var(STOPS).map_or(5, |text| text.parse().unwrap());
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut all = 0;
    for stop in 0..stops {
        let mut service = Service::start(folder, &place.url);
        let seen = Seen::default();
        std::thread::scope(|scope| {
            let (seen, service) = (&seen, &service);
            for worker in 0..WORKERS {
                let name = format!("edge-{stop}-{worker}");
                scope.spawn(move || write_until_refused(service, &name, worker % 2 == 0, seen));
            }
            wait_until("the load runs", PATIENCE, || {
                // Each stop happens at a different moment.
                seen.acknowledged.lock().unwrap().len() > 2 * WORKERS + stop
            });
            service.signal("-TERM");
        });
        assert_eq!(service.ended().code(), Some(0));
        all += seen.acknowledged.lock().unwrap().len();
    }
    // All acknowledged firewalls exist, and none exists twice.
    let again = Service::start(folder, &place.url);
    let (_, list) = again.connect().ask("GET", "/firewalls/?page_size=1", "").unwrap();
    assert_eq!(list["total"], all);
}

#[cfg(unix)]
#[tokio::test]
async fn a_service_that_is_to_stop_says_so_while_it_still_serves() {
    const WORKERS: usize = 4;
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_HTTP__DRAIN_DELAY", "5s")
        .stderr(Stdio::null());
    let mut service = Service::spawn(folder, &mut command);
    let seen = Seen::default();
    std::thread::scope(|scope| {
        let (seen, service) = (&seen, &service);
        for worker in 0..WORKERS {
            let name = format!("edge-{worker}");
            scope.spawn(move || write_until_refused(service, &name, true, seen));
        }
        wait_until("the load runs", PATIENCE, || seen.acknowledged.lock().unwrap().len() > WORKERS);
        service.signal("-TERM");
        wait_until("that `ready` answers 503", PATIENCE, || {
            service.connect().ask("GET", "/health/ready", "").unwrap().0 == 503
        });
    });
    let told_to_close = seen.told_to_close.into_inner();
    assert!(told_to_close >= WORKERS, "{told_to_close} requests were served during the drain");
    assert_eq!(service.ended().code(), Some(0));
}

/// Reads from a connection until it ends.
async fn rest(stream: &mut tokio::net::TcpStream) -> String {
    let mut text = String::new();
    let read = stream.read_to_string(&mut text);
    tokio::time::timeout(PATIENCE, read).await.unwrap().unwrap();
    text
}

fn limits(max_connections: usize) -> ConnectionLimits {
    ConnectionLimits {
        max_connections,
        max_head_bytes: 8 * 1024,
        head_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        answer_timeout: listener::ANSWER_TIMEOUT,
    }
}

const LIVE: &[u8] = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_to_be_accepted_is_served_before_the_end() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    let (address, stop, served) = api.listen(limits(1), None).await;
    // Half a head occupies the only slot.
    let mut first = tokio::net::TcpStream::connect(address).await.unwrap();
    first.write_all(LIVE).await.unwrap();
    let mut answer = [0; 12];
    first.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    first.write_all(&LIVE[..10]).await.unwrap();
    // The other connections wait in the system's queue.
    let mut waiting = Vec::new();
    for _ in 0..20 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(LIVE).await.unwrap();
        waiting.push(stream);
    }
    stop.send(()).unwrap();
    first.write_all(&LIVE[10..]).await.unwrap();
    let answers = rest(&mut first).await;
    assert!(answers.contains("HTTP/1.1 200 OK") && answers.contains("connection: close"));
    for mut stream in waiting {
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.contains("connection: close"));
    }
    served.await.unwrap();
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_connection_ends_after_a_last_request_or_when_none_comes() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    let (address, stop, served) = api.listen(limits(8), None).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.write_all(LIVE).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        kept.push(stream);
    }
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    let (mut idle, mut used) = (kept.pop().unwrap(), kept.pop().unwrap());
    stop.send(()).unwrap();
    // A request that was already sent is answered, even if the service could consider its
    // connection idle.
    used.write_all(LIVE).await.unwrap();
    let answers = rest(&mut used).await;
    assert!(answers.contains("HTTP/1.1 200 OK"), "{answers}");
    assert!(!rest(&mut idle).await.contains("HTTP/1.1"), "the rest of its answer, and the end");
    assert_eq!(rest(&mut silent).await, "");
    served.await.unwrap();
}

/// An HTTP/2 client, and the task that drives its connection.
async fn http2(address: std::net::SocketAddr) -> (Http2, tokio::task::JoinHandle<()>) {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let (client, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    let driven = tokio::spawn(async move {
        connection.await.unwrap();
    });
    (client, driven)
}

type Http2 = hyper::client::conn::http2::SendRequest<http_body_util::Full<bytes::Bytes>>;

/// Whether the request failed because the connection shut down gracefully before processing it (RFC
/// 9113, section 6.8). The client then repeats it elsewhere.
fn is_orderly_end(error: &hyper::Error) -> bool {
    let source = std::error::Error::source(error);
    source
        .and_then(|source| source.downcast_ref::<h2::Error>())
        .filter(|error| error.is_go_away() && error.is_remote())
        .is_some_and(|error| error.reason() == Some(h2::Reason::NO_ERROR))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_http2_that_were_sent_are_answered() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    let (address, stop, served) = api.listen(limits(8), None).await;
    let (idle, idle_driven) = http2(address).await;
    let (client, driven) = http2(address).await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut load = Vec::new();
    for _ in 0..8 {
        let (mut client, answered) = (client.clone(), Arc::clone(&answered));
        let uri = format!("http://{address}/health/live");
        load.push(tokio::spawn(async move {
            while client.ready().await.is_ok() {
                let request = poem::http::Request::get(&uri).body(Default::default()).unwrap();
                match client.send_request(request).await {
                    Ok(answer) => assert_eq!(answer.status(), 200),
                    // The client learned of the shutdown first and did not send the request.
                    Err(error) if error.is_canceled() || error.is_closed() => break,
                    // The shutdown arrived while the request waited to be sent, so it was not sent
                    // either.
                    Err(error) if is_orderly_end(&error) => break,
                    Err(error) => panic!("sent, and not answered: {error:?}"),
                }
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    while answered.load(Ordering::SeqCst) < 50 {
        tokio::task::yield_now().await;
    }
    stop.send(()).unwrap();
    for worker in load {
        tokio::time::timeout(PATIENCE, worker).await.unwrap().unwrap();
    }
    driven.await.unwrap();
    tokio::time::timeout(PATIENCE, served).await.unwrap().unwrap();
    idle_driven.await.unwrap();
    drop(idle);
}

/// A service with the given stop timeout. The export of its policy's rules is larger than the
/// buffers that the system keeps for a client that does not read.
async fn with_a_long_list(place: &Place, stop_timeout: &str) -> Service {
    let folder = place.folder.path();
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_HTTP__STOP_TIMEOUT", stop_timeout)
        .stderr(Stdio::null());
    let service = Service::spawn(folder, &mut command);
    let mut connection = service.connect();
    connection.ask("POST", "/firewalls/", "{\"name\": \"edge\"}").unwrap();
    let policy = json!({"name": "in", "default_action": "DENY"}).to_string();
    connection.ask("POST", "/firewalls/1/filtering-policies/", &policy).unwrap();
    let rules: Vec<_> = (0..10_000)
        .map(|index| {
            json!({"action": "ALLOW", "destinations": [{"address": "any"}],
                "sources": [{"address": format!("10.0.{}.{}", index / 256, index % 256)}],
                "description": "x".repeat(60)})
        })
        .collect();
    let path = "/firewalls/1/filtering-policies/1/rules/";
    let (status, answer) = connection.ask("PUT", path, &json!(rules).to_string()).unwrap();
    assert_eq!(status, 200, "{answer}");
    service
}

#[cfg(unix)]
#[tokio::test]
async fn a_stop_takes_no_longer_than_promised_whatever_is_not_read() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let mut service = with_a_long_list(&place, "6s").await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4 * 1024).unwrap();
    let mut unread = socket.connect(service.address.parse().unwrap()).await.unwrap();
    let head = format!(
        "GET /firewalls/1/filtering-policies/1/rules/ HTTP/1.1\r\nHost: x\r\n\
         Authorization: Bearer {}\r\nAccept: text/csv\r\n\r\n",
        service.token
    );
    unread.write_all(head.as_bytes()).await.unwrap();
    let mut begun = [0; 12];
    unread.read_exact(&mut begun).await.unwrap();
    assert_eq!(&begun, b"HTTP/1.1 200");
    let start = Instant::now();
    service.signal("-TERM");
    assert_eq!(service.ended().code(), Some(0));
    // It would take twice as long if the export and the database's connection were waited for in
    // turn.
    assert!(start.elapsed() < Duration::from_secs(11), "{:?}", start.elapsed());
    // The next process can start.
    Service::start(place.folder.path(), &place.url);
}

#[cfg(unix)]
#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    for second in ["-TERM", "-INT"] {
        let folder = place.folder.path();
        let mut command = binary(folder);
        command
            .env("FIREFLOW_DATABASE_URL", &place.url)
            .env("FIREFLOW_HTTP__REQUEST_TIMEOUT", "59m")
            .env("FIREFLOW_HTTP__IDLE_TIMEOUT", "1h")
            .env("FIREFLOW_HTTP__STOP_TIMEOUT", "1h")
            .stderr(Stdio::null());
        let mut service = Service::spawn(folder, &mut command);
        let mut held = service.connect();
        held.begin("POST", "/firewalls/", 100).unwrap();
        service.signal("-TERM");
        wait_until("that nobody is let in", PATIENCE, || !lets_in(&service));
        assert!(service.child.try_wait().unwrap().is_none(), "a request is under way");
        service.signal(second);
        assert_eq!(service.ended().code(), Some(1));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_hang_up_has_files_read_again_and_ends_nothing() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let log = folder.join("log");
    let mut command = binary(folder);
    command.env("FIREFLOW_DATABASE_URL", &place.url).stderr(std::fs::File::create(&log).unwrap());
    let mut service = Service::spawn(folder, &mut command);
    for _ in 0..3 {
        service.signal("-HUP");
    }
    wait_until("word of it", PATIENCE, || {
        std::fs::read_to_string(&log).unwrap().contains("SIGHUP")
    });
    assert_eq!(service.connect().ask("GET", "/firewalls/", "").unwrap().0, 200);
    assert!(service.child.try_wait().unwrap().is_none());
    service.signal("-TERM");
    assert_eq!(service.ended().code(), Some(0));
}

#[cfg(unix)]
#[tokio::test]
async fn a_request_under_way_is_finished_when_the_service_stops() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_HTTP__STOP_TIMEOUT", "4m")
        .stderr(Stdio::null());
    let mut service = Service::spawn(folder, &mut command);
    let mut connection = service.connect();
    connection.ask("POST", "/firewalls/", "{\"name\": \"edge\"}").unwrap();
    let policy = json!({"name": "in", "default_action": "DENY"}).to_string();
    connection.ask("POST", "/firewalls/1/filtering-policies/", &policy).unwrap();
    let rules: Vec<_> = (0..1_000)
        .map(|index| {
            json!({"action": "ALLOW", "destinations": [{"address": "any"}],
                "sources": [{"address": format!("10.0.{}.{}", index / 256, index % 256)}]})
        })
        .collect();
    let body = json!(rules).to_string();
    // The service asks for the body, so the request has started. Then the service gets the stop
    // signal.
    let rules = "/firewalls/1/filtering-policies/1/rules/";
    connection.begin("PUT", rules, body.len()).unwrap();
    service.signal("-TERM");
    wait_until("that nobody is let in", PATIENCE, || !lets_in(&service));
    let answer = connection.finish(&body).unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["created"]), (200, &json!(1_000)));
    assert_eq!(answer.header("connection"), "close");
    assert_eq!(service.ended().code(), Some(0));
    let again = Service::start(folder, &place.url);
    let (_, policy) = again.connect().ask("GET", "/firewalls/1/filtering-policies/1/", "").unwrap();
    assert_eq!(policy["rule_count"], 1_000);
}

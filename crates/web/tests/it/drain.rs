//! A service that is told to stop under load, and one whose database goes away and comes back.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fireflow_storage::DatabaseKind;
use serde_json::json;

use crate::cluster::wait_until;
use crate::service::{Place, Service, binary};

const PATIENCE: Duration = Duration::from_secs(30);

fn signal(service: &Service, name: &str) {
    let id = service.child.id().to_string();
    assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
}

/// Whether the service lets new connections in.
fn lets_in(service: &Service) -> bool {
    TcpStream::connect(&service.address).is_ok()
}

#[cfg(unix)]
#[tokio::test]
async fn a_service_that_stops_under_load_loses_no_request() {
    const WORKERS: usize = 8;
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_HTTP__DRAIN_DELAY", "2s")
        .stderr(Stdio::null());
    let mut service = Service::spawn(folder, &mut command);
    let acknowledged = Mutex::new(Vec::new());
    let (answered, told_to_close) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let has_told_no = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut load = Vec::new();
        for worker in 0..WORKERS {
            let (service, acknowledged) = (&service, &acknowledged);
            let (answered, told_to_close) = (&answered, &told_to_close);
            load.push(scope.spawn(move || {
                let mut connection = service.connect();
                for index in 0.. {
                    let name = format!("edge-{worker}-{index}");
                    let body = json!({"name": name}).to_string();
                    let answer = match connection.exchange("POST", "/firewalls/", &body) {
                        Ok(answer) => answer,
                        Err(error) => panic!("{name} was sent, and not answered: {error}"),
                    };
                    assert_eq!(answer.status, 201, "{}", answer.text);
                    acknowledged.lock().unwrap().push(name);
                    answered.fetch_add(1, Ordering::SeqCst);
                    if answer.headers.get("connection").is_some_and(|it| it == "close") {
                        told_to_close.fetch_add(1, Ordering::SeqCst);
                        // Another process would take it; here there is one, until it lets nobody in.
                        if !lets_in(service) {
                            return;
                        }
                        match TcpStream::connect(&service.address) {
                            Ok(_) => connection = service.connect(),
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
                                return;
                            }
                        }
                    }
                    if told_to_close.load(Ordering::SeqCst) >= 4 * WORKERS {
                        return;
                    }
                }
            }));
        }
        wait_until("the load runs", PATIENCE, || answered.load(Ordering::SeqCst) > 100);
        signal(&service, "-TERM");
        // First of all it says so, while it still serves.
        let start = Instant::now();
        while !has_told_no.load(Ordering::SeqCst) && start.elapsed() < PATIENCE {
            let (status, _) = service.connect().ask("GET", "/health/ready", "").unwrap();
            has_told_no.store(status == 503, Ordering::SeqCst);
        }
        for worker in load {
            worker.join().unwrap();
        }
    });
    assert!(has_told_no.load(Ordering::SeqCst), "`ready` says yes");
    assert!(told_to_close.load(Ordering::SeqCst) >= WORKERS, "requests were served meanwhile");
    let start = Instant::now();
    let status = loop {
        if let Some(status) = service.child.try_wait().unwrap() {
            break status;
        }
        assert!(start.elapsed() < PATIENCE, "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    };
    assert_eq!(status.code(), Some(0));

    // All that it acknowledged is there, and nothing twice.
    let again = Service::start(folder, &place.url);
    let acknowledged = acknowledged.into_inner().unwrap();
    let (_, list) = again.connect().ask("GET", "/firewalls/?page_size=1", "").unwrap();
    assert_eq!(list["total"], acknowledged.len());
    let last = acknowledged.last().unwrap();
    let (_, list) = again.connect().ask("GET", &format!("/firewalls/?name={last}"), "").unwrap();
    assert_eq!(list["total"], 1);
}

#[cfg(unix)]
#[tokio::test]
async fn a_request_under_way_is_finished_when_the_service_stops() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut service = Service::start(folder, &place.url);
    let mut connection = service.connect();
    connection.ask("POST", "/firewalls/", "{\"name\": \"edge\"}").unwrap();
    let policy = json!({"name": "in", "default_action": "DENY"}).to_string();
    connection.ask("POST", "/firewalls/1/filtering-policies/", &policy).unwrap();
    let rules: Vec<_> = (0..30_000)
        .map(|index| {
            json!({"action": "ALLOW", "destinations": [{"address": "any"}],
                "sources": [{"address": format!("10.{}.{}.{}", index / 65_536, index / 256 % 256, index % 256)}]})
        })
        .collect();
    let body = json!(rules).to_string();
    // A large change takes a while; the signal comes in the middle of it.
    let put = std::thread::spawn(move || {
        connection.ask("PUT", "/firewalls/1/filtering-policies/1/rules/", &body).unwrap()
    });
    std::thread::sleep(Duration::from_millis(400));
    let was_under_way = !put.is_finished();
    signal(&service, "-TERM");
    let (status, answer) = put.join().unwrap();
    assert!(was_under_way, "the change was too quick for this test");
    assert_eq!((status, &answer["created"]), (200, &json!(30_000)));
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
    let again = Service::start(folder, &place.url);
    let (_, policy) = again.connect().ask("GET", "/firewalls/1/filtering-policies/1/", "").unwrap();
    assert_eq!(policy["rule_count"], 30_000);
}

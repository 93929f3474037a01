//! A service that is told to stop under load, and one whose database goes away and comes back.

use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use fireflow_storage::DatabaseKind;
use serde_json::json;

use crate::cluster::wait_until;
use crate::service::{PATIENCE, Place, Service, binary};

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
        service.signal("-TERM");
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
    assert_eq!(service.ended().code(), Some(0));

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
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_HTTP__REQUEST_TIMEOUT", "4m")
        .env("FIREFLOW_HTTP__IDLE_TIMEOUT", "5m")
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
    // The service asks for the body: it has begun with the request. Then it is told to stop.
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

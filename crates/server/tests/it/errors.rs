//! Defects, as a real error tracker receives them.

use std::sync::Arc;

use async_trait::async_trait;
use fireflow_domain::error::StoreError;
use fireflow_domain::store::{
    ReadKind, ReadUnit, Storage, StoreResult, Terms, WriteKind, WriteUnit,
};
use fireflow_storage::DatabaseKind;
use fireflow_storage::testing::TestDatabase;
use fireflow_telemetry::errors::Errors;
use fireflow_telemetry::metrics::Metrics;
use fireflow_telemetry::{Telemetry, install_panic_hook};
use sea_orm::ConnectionTrait;
use serde_json::{Value, json};

use crate::cluster::wait_until;
use crate::forwarder::{Behind, Forwarder};
use crate::receiver::Receiver;
use crate::service::{Connection, PATIENCE, Place, Service, binary};
use crate::support::{Api, backend, record_in};

/// A storage with a defect.
struct Broken {
    panics: bool,
}

#[async_trait]
impl Storage for Broken {
    async fn read(&self, _: ReadKind, _: &Terms) -> StoreResult<Box<dyn ReadUnit>> {
        assert!(!self.panics, "cannot think of \"secret-canary\" of ann@example.org at 192.0.2.7");
        Err(StoreError::Failed("row `secret-canary` of ann@example.org is broken".into()))
    }

    async fn write(&self, _: WriteKind, _: &Terms) -> StoreResult<Box<dyn WriteUnit>> {
        assert!(!self.panics, "cannot think of \"secret-canary\" of ann@example.org at 192.0.2.7");
        Err(StoreError::Failed("row `secret-canary` of ann@example.org is broken".into()))
    }

    async fn is_ready(&self) -> StoreResult<bool> {
        Ok(true)
    }
}

fn dsn(address: std::net::SocketAddr) -> String {
    format!("http://public-key@{address}/42")
}

/// A service with a broken storage that reports to a tracker.
async fn broken(receiver: &Receiver, panics: bool) -> (Api, Arc<Telemetry>) {
    let metrics = Metrics::new();
    let dsn = dsn(receiver.address).parse().unwrap();
    let errors = Errors::new(dsn, "staging", metrics.error_events.clone());
    let telemetry = Arc::new(Telemetry { metrics, traces: None, errors: Some(errors) });
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    let api = Api::built(db, |app, _| {
        record_in(app, &telemetry);
        backend(app).storage = Arc::new(Broken { panics });
    });
    (api, telemetry)
}

/// Checks the content of an event about a request, and that it contains nothing else.
fn check(event: &Value, kind: &str, request_id: &str, cause: &str) {
    assert_eq!(event["release"], concat!("fireflow@", env!("CARGO_PKG_VERSION")));
    assert_eq!(event["environment"], "staging");
    // Sentry reads an event without a level as an error.
    assert_eq!(event["level"], Value::Null);
    assert_eq!(event["transaction"], "/firewalls/{firewall_id}/");
    let exception = &event["exception"]["values"][0];
    assert_eq!((&exception["type"], &exception["value"]), (&json!(kind), &json!(cause)));
    let tags = &event["tags"];
    assert_eq!((&tags["request_id"], &tags["method"]), (&json!(request_id), &json!("GET")));
    assert_eq!(tags["trace_id"], "0af7651916cd43dd8448eb211c80319c");
    for member in ["user", "server_name", "request", "extra", "breadcrumbs"] {
        assert!(event[member].is_null() || event[member] == json!({"values": []}), "{event}");
    }
    let text = event.to_string();
    for canary in ["canary", "ann@", "192.0.2.7", "tester", "eyJ", "127.0.0.1", "query"] {
        assert!(!text.contains(canary), "{canary}: {text}");
    }
}

const TRACE: (&str, &str) =
    ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_defect_is_told_without_anything_personal() {
    let receiver = Receiver::start();
    let (api, telemetry) = broken(&receiver, false).await;
    let path = "/firewalls/77/?expand=filtering_policies";
    let answer = api.with("GET", path, &[TRACE], None).await;
    let request_id = answer.header("x-request-id").to_owned();
    answer.problem(500, "internal");
    let events = receiver.wait_for_events(1);
    let (received, event) = &events[0];
    assert_eq!(received.path, "/api/42/envelope/");
    let auth = received.headers["x-sentry-auth"].to_str().unwrap();
    assert!(auth.contains("sentry_key=public-key"), "{auth}");
    check(event, "internal", &request_id, "row `…` of [e-mail] is broken");
    // Refusals are not defects, so they are not reported.
    api.get("/firewalls/x/").await.problem(404, "not_found");
    api.raw("GET", "/firewalls/", &[], vec![]).await.problem(401, "unauthenticated");
    telemetry.end(PATIENCE);
    assert_eq!(receiver.events().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_told_once_with_its_place_and_request() {
    let receiver = Receiver::start();
    let (api, telemetry) = broken(&receiver, true).await;
    install_panic_hook(Arc::clone(&telemetry));
    // An additional hook, so that this test prints its own panics.
    let ours = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        eprintln!("{panic}");
        ours(panic);
    }));
    let answer = api.with("GET", "/firewalls/77/", &[TRACE], None).await;
    let request_id = answer.header("x-request-id").to_owned();
    answer.problem(500, "internal");
    // A panic outside a request.
    drop(std::thread::spawn(|| panic!("outside any request")).join());
    telemetry.end(PATIENCE);
    let events = receiver.events();
    let [(_, of_request), (_, elsewhere)] = &events[..] else { panic!("{events:?}") };
    check(of_request, "panic", &request_id, "cannot think of \"…\" of [e-mail] at [address]");
    let frame = &of_request["exception"]["values"][0]["stacktrace"]["frames"][0];
    assert!(frame["filename"].as_str().unwrap().ends_with("errors.rs"), "{frame}");
    assert!(frame["lineno"].as_u64().unwrap() > 0);
    assert_eq!(elsewhere["exception"]["values"][0]["value"], "outside any request");
    assert_eq!(elsewhere["tags"]["request_id"], Value::Null);
    let token = api.token_for(&[fireflow_domain::actor::Role::HealthCheck], None);
    let page = api.send("GET", "/metrics", &token, &[], None).await.text;
    for line in ["fireflow_panics_total 2", "fireflow_error_events_total 2"] {
        assert!(page.lines().any(|it| it == line), "{line}:\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_defect_in_every_request_is_told_now_and_then() {
    let receiver = Receiver::start();
    let (api, telemetry) = broken(&receiver, false).await;
    for _ in 0..200 {
        api.get("/firewalls/77/").await.problem(500, "internal");
    }
    telemetry.end(PATIENCE);
    let told = receiver.events().len();
    assert!((1..100).contains(&told), "{told}");
}

/// A place with a SQLite database in which reading firewall 1 is a defect.
async fn spoiled() -> Place {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    {
        let mut service = Service::start(folder, &place.url);
        service.connect().ask("POST", "/firewalls/", "{\"name\": \"edge\"}").unwrap();
        service.kill();
    }
    let url = format!("sqlite://{}", folder.join("fireflow.db").display());
    let database = sea_orm::Database::connect(url).await.unwrap();
    database.execute_unprepared("UPDATE firewall SET labels = 'spoiled'").await.unwrap();
    database.close().await.unwrap();
    place
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tracker_in_trouble_costs_no_request() {
    let place = spoiled().await;
    let folder = place.folder.path();
    let receiver = Receiver::start();
    let forwarder = Forwarder::new(receiver.address);
    let log = folder.join("log");
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_SENTRY_DSN", dsn(forwarder.address()))
        .env("FIREFLOW_LOG_FORMAT", "json")
        .stderr(std::fs::File::create(&log).unwrap());
    let service = Service::spawn(folder, &mut command);
    let mut connection = service.connect();
    for behind in [Behind::Nobody, Behind::Silence] {
        forwarder.point_at(behind);
        for _ in 0..200 {
            let (status, problem) = connection.ask("GET", "/firewalls/1/", "").unwrap();
            assert_eq!((status, &problem["code"]), (500, &json!("internal")));
        }
    }
    forwarder.point_at(Behind::Server(receiver.address));
    wait_until("events to arrive", PATIENCE, || {
        connection.ask("GET", "/firewalls/1/", "").unwrap();
        !receiver.events().is_empty()
    });
    let (_, event) = &receiver.events()[0];
    assert_eq!(event["environment"], "local");
    assert!(!std::fs::read_to_string(&log).unwrap().contains("public-key"));
}

/// The number of defects that should have been reported to the tracker.
fn told_of(connection: &mut Connection) -> u64 {
    let page = connection.exchange("GET", "/metrics", "").unwrap().text;
    let value = |line: &str| line.strip_prefix("fireflow_error_events_total ")?.parse().ok();
    page.lines().find_map(value).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn receivers_that_fall_silent_are_not_waited_for_at_the_end() {
    let place = spoiled().await;
    let folder = place.folder.path();
    let receiver = Receiver::start();
    let silence = Forwarder::new(receiver.address);
    silence.point_at(Behind::Silence);
    let log = folder.join("log");
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_SENTRY_DSN", dsn(silence.address()))
        .env("FIREFLOW_OTLP_ENDPOINT", format!("http://{}", silence.address()))
        .env("FIREFLOW_OTLP__SAMPLE_RATIO", "1")
        .env("FIREFLOW_LOG_FORMAT", "json")
        .stderr(std::fs::File::create(&log).unwrap());
    let mut service = Service::spawn(folder, &mut command);
    let mut connection = service.connect();
    // More events than the tracker's queue holds, at ten per second. The library then waits in turn
    // for space, for an answer, and for its thread.
    wait_until("more defects than wait in the queue", PATIENCE, || {
        let (status, _) = connection.ask("GET", "/firewalls/1/", "").unwrap();
        assert_eq!(status, 500);
        told_of(&mut connection) > 40
    });
    drop(connection);
    service.signal("-TERM");
    // If the service waited for the receivers, it would never end.
    assert_eq!(service.ended().code(), Some(0));
    let lines = std::fs::read_to_string(&log).unwrap();
    // Either message may come first, depending on what was left to send.
    let are_lost = ["the last spans were not sent", "the collector accepts no traces"];
    assert!(are_lost.iter().any(|it| lines.contains(it)), "{lines}");
    let is_told = |line: &str| line.contains("was not ready in time") && line.contains("defects");
    assert!(lines.lines().any(is_told), "{lines}");
}

//! Traces, as a real collector receives them.

use std::process::Command;
use std::time::{Duration, Instant};

use fireflow_storage::{DatabaseKind, db_test};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use crate::cluster::wait_until;
use crate::forwarder::{Behind, Forwarder};
use crate::receiver::{Receiver, attribute, hex};
use crate::service::{Place, Service, binary};
use crate::support::plain_rule;

const PATIENCE: Duration = Duration::from_secs(120);

fn traced(place: &Place, endpoint: &str) -> Command {
    let mut command = binary(place.folder.path());
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_OTLP_ENDPOINT", endpoint)
        .env("FIREFLOW_OTLP__SAMPLE_RATIO", "1")
        .env("FIREFLOW_OTLP__HEADERS", "x-api-key=canary-key")
        .env("FIREFLOW_LOG_FORMAT", "json")
        // Spans are sent shortly after they end.
        .env("OTEL_BSP_SCHEDULE_DELAY", "200");
    command
}

/// The trace id and span id from an answer.
fn trace_of(answer: &crate::support::Answer) -> (String, String) {
    let text = answer.header("traceresponse");
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, span, flags] = parts[..] else { panic!("{text}") };
    assert_eq!((version, flags), ("00", "01"));
    (trace.to_owned(), span.to_owned())
}

fn one<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<&Span> = spans.iter().filter(|span| span.name == name).collect();
    let names: Vec<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    let [span] = found[..] else { panic!("{} of {name} in {names:?}", found.len()) };
    span
}

async fn a_request_is_traced_down_to_its_statements(place: Place, protocol: &str) {
    let receiver = Receiver::start();
    let mut command = traced(&place, &format!("http://{}", receiver.address));
    command.env("FIREFLOW_OTLP__PROTOCOL", protocol);
    let service = Service::spawn(place.folder.path(), &mut command);
    let mut connection = service.connect();
    let body = json!({"name": "edge of ann"}).to_string();
    let answer = connection.exchange("POST", "/firewalls/", &body).unwrap();
    let (trace, span) = trace_of(&answer);
    let spans = receiver.trace(&trace);
    let server = one(&spans, "POST /firewalls/");
    assert_eq!(hex(&server.span_id), span);
    assert!(server.parent_span_id.is_empty());
    let of = |key: &str| attribute(&server.attributes, key);
    assert_eq!(of("http.request.method").as_deref(), Some("POST"));
    assert_eq!(of("http.route").as_deref(), Some("/firewalls/"));
    assert_eq!(of("http.response.status_code").as_deref(), Some("201"));
    assert_eq!(of("fireflow.request_id").as_deref(), Some(answer.header("x-request-id")));
    let use_case = one(&spans, "createFirewall");
    assert_eq!(use_case.parent_span_id, server.span_id);
    for name in ["BEGIN", "INSERT firewall", "INSERT audit_event", "UPDATE firewall", "COMMIT"] {
        let statement = one(&spans, name);
        assert_eq!(statement.parent_span_id, use_case.span_id, "{name}");
        assert!(
            statement.start_time_unix_nano >= server.start_time_unix_nano - 1_000_000,
            "{name}"
        );
        assert!(statement.end_time_unix_nano <= server.end_time_unix_nano, "{name}");
    }
    assert_eq!(spans.len(), 7, "{spans:#?}");
    let insert = one(&spans, "INSERT firewall");
    let of = |key: &str| attribute(&insert.attributes, key).unwrap();
    let system = if place.url.starts_with("sqlite") { "sqlite" } else { "postgresql" };
    assert_eq!(of("db.system.name"), system);
    assert_eq!(
        (of("db.operation.name"), of("db.collection.name")),
        ("INSERT".into(), "firewall".into())
    );
    assert!(of("db.query.text").starts_with("INSERT INTO \"firewall\" "));
    let (resource, _) = &receiver.spans()[0];
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("fireflow"));
    let environment = attribute(&resource.attributes, "deployment.environment.name");
    assert_eq!(environment.as_deref(), Some("local"));
    let received = &receiver.received()[0];
    assert_eq!(received.headers["x-api-key"], "canary-key");
    // Traces contain neither the client's identity nor the written data.
    for received in receiver.received() {
        let text = String::from_utf8_lossy(&received.body).into_owned();
        for canary in ["edge of ann", service.token.as_str(), "127.0.0.1", "test\u{0}"] {
            assert!(!text.contains(canary), "{canary}");
        }
    }
}

db_test! {
    async fn over_grpc_a_request_is_traced_down_to_its_statements(place: Place) {
        a_request_is_traced_down_to_its_statements(place, "grpc").await;
    }
}

db_test! {
    async fn over_http_a_request_is_traced_down_to_its_statements(place: Place) {
        a_request_is_traced_down_to_its_statements(place, "http").await;
    }
}

db_test! {
    async fn a_statement_that_holds_numbers_itself_is_told_without_them(place: Place) {
        let receiver = Receiver::start();
        let mut command = traced(&place, &format!("http://{}", receiver.address));
        let service = Service::spawn(place.folder.path(), &mut command);
        let mut connection = service.connect();
        let mut post = |path: &str, body: &Value| {
            let answer = connection.exchange("POST", path, &body.to_string()).unwrap();
            let trace = trace_of(&answer).0;
            (trace, answer.expect(201)["id"].to_string())
        };
        let (_, firewall) = post("/firewalls/", &json!({"name": "edge"}));
        let policies = format!("/firewalls/{firewall}/filtering-policies/");
        let (_, policy) = post(&policies, &json!({"name": "in", "default_action": "DENY"}));
        let rules = format!("{policies}{policy}/rules/");
        let rule = |name: &str| {
            let mut body = plain_rule();
            body["name"] = json!(name);
            body["sources"] = json!([{"address": format!("10.0.0.{}", name.len())}]);
            body
        };
        let mut last = String::new();
        for (name, priority) in [("a", 1), ("ab", 2)] {
            let mut body = rule(name);
            body["priority"] = json!(priority);
            (_, last) = post(&rules, &body);
        }
        // There is no priority between the two rules, so other rules are renumbered.
        let mut body = rule("abc");
        body.as_object_mut().unwrap().remove("priority");
        let (trace, _) = post(&format!("{rules}?before={last}"), &body);
        let spans = receiver.trace(&trace);
        let update = one(&spans, "UPDATE rule");
        let of = |key: &str| attribute(&update.attributes, key);
        assert_eq!(of("db.query.text").as_deref(), Some("UPDATE rule …"));
        assert_eq!(of("db.collection.name").as_deref(), Some("rule"));
    }
}

#[tokio::test]
async fn a_client_that_traces_decides_and_its_trace_is_gone_on_with() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let receiver = Receiver::start();
    let log = place.folder.path().join("log");
    let mut command = traced(&place, &format!("http://{}", receiver.address));
    command.env("FIREFLOW_OTLP__SAMPLE_RATIO", "0").stderr(std::fs::File::create(&log).unwrap());
    let service = Service::spawn(place.folder.path(), &mut command);
    let ask = |flags: &str, trace: &str| {
        let parent = format!("00-{trace}-b7ad6b7169203331-{flags}");
        let mut connection = service.connect();
        connection.exchange_with("GET", "/firewalls/", &[("traceparent", &parent)], "").unwrap()
    };
    let (dropped, kept) = ("0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c");
    let answer = ask("00", dropped);
    assert!(!answer.headers.contains_key("traceresponse"));
    let answer = ask("01", kept);
    assert_eq!(trace_of(&answer).0, kept);
    let spans = receiver.trace(kept);
    let server = one(&spans, "GET /firewalls/");
    assert_eq!(hex(&server.parent_span_id), "b7ad6b7169203331");
    one(&spans, "getFirewalls");
    // Without a trace of the client, the service samples nothing here.
    let mut connection = service.connect();
    for _ in 0..20 {
        connection.exchange("GET", "/firewalls/", "").unwrap();
    }
    ask("01", "2af7651916cd43dd8448eb211c80319c");
    receiver.trace("2af7651916cd43dd8448eb211c80319c");
    let others = receiver.spans().into_iter().filter(|(_, span)| {
        !hex(&span.trace_id).ends_with("af7651916cd43dd8448eb211c80319c")
            || hex(&span.trace_id) == dropped
    });
    assert_eq!(others.count(), 0);
    // The log names both traces, so the log and the trace can be matched.
    let lines = std::fs::read_to_string(&log).unwrap();
    for trace in [dropped, kept] {
        let is_of = |line: &&str| line.contains("fireflow::request") && line.contains(trace);
        assert_eq!(lines.lines().filter(is_of).count(), 1, "{trace}");
    }
}

/// The duration of a number of requests, and the resident memory of the process after them.
fn load(service: &Service, requests: usize) -> (Duration, u64) {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut connection = service.connect();
                for _ in 0..requests / 4 {
                    let (status, _) = connection.ask("GET", "/firewalls/", "").unwrap();
                    assert_eq!(status, 200);
                }
            });
        }
    });
    let took = start.elapsed();
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    (took, resident.trim().trim_end_matches(" kB").parse().unwrap())
}

fn a_collector_in_trouble_costs_neither_requests_nor_memory(place: &Place, protocol: &str) {
    let receiver = Receiver::start();
    let forwarder = Forwarder::new(receiver.address);
    forwarder.point_at(Behind::Nobody);
    let log = place.folder.path().join("log");
    let mut command = traced(place, &format!("http://{}", forwarder.address()));
    command
        .env("FIREFLOW_OTLP__PROTOCOL", protocol)
        .env("FIREFLOW_HTTP__RATE_LIMIT", "off")
        .env("FIREFLOW_HTTP__ADDRESS_RATE_LIMIT", "off")
        .stderr(std::fs::File::create(&log).unwrap());
    let service = Service::spawn(place.folder.path(), &mut command);
    // The collector is absent, then silent. Each time the load creates 20 times as many spans as
    // the queue holds.
    let (_, before) = load(&service, 2_000);
    let (_, absent) = load(&service, 8_000);
    forwarder.point_at(Behind::Silence);
    let (_, silent) = load(&service, 8_000);
    for after in [absent, silent] {
        assert!(after < before + 64 * 1024, "{before} kB became {after} kB");
    }
    // The collector returns late.
    forwarder.point_at(Behind::Server(receiver.address));
    wait_until("traces to arrive", PATIENCE, || {
        load(&service, 4);
        !receiver.spans().is_empty()
    });
    let lines = std::fs::read_to_string(&log).unwrap();
    let told = |text: &str| lines.lines().filter(|line| line.contains(text)).count();
    // The failure is logged once, however many batches failed.
    assert_eq!(told("the collector accepts no traces"), 1, "{protocol}");
    assert!(!lines.contains("canary-key"));
    wait_until("the recovery in the log", PATIENCE, || {
        std::fs::read_to_string(&log).unwrap().contains("the collector accepts traces again")
    });
}

#[tokio::test]
async fn over_grpc_a_collector_in_trouble_costs_neither_requests_nor_memory() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    a_collector_in_trouble_costs_neither_requests_nor_memory(&place, "grpc");
}

#[tokio::test]
async fn over_http_a_collector_in_trouble_costs_neither_requests_nor_memory() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    a_collector_in_trouble_costs_neither_requests_nor_memory(&place, "http");
}

#[tokio::test]
async fn the_last_spans_are_sent_when_the_service_stops() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let receiver = Receiver::start();
    let mut command = traced(&place, &format!("http://{}", receiver.address));
    command.env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    let mut service = Service::spawn(place.folder.path(), &mut command);
    let answer = service.connect().exchange("GET", "/firewalls/", "").unwrap();
    let kill = Command::new("kill").arg(service.child.id().to_string()).status().unwrap();
    assert!(kill.success());
    assert!(service.child.wait().unwrap().success());
    receiver.trace(&trace_of(&answer).0);
}

//! The log has one line for each request, as documented in `docs/logging.md`, and never contains
//! secrets.

use std::fs;
use std::path::Path;
use std::time::Duration;

use fireflow_storage::{DatabaseKind, db_test};
use serde_json::{Value, json};

use crate::receiver::Receiver;
use crate::service::{Place, Service, binary};

const PATIENCE: Duration = Duration::from_secs(120);

/// A service that logs JSON to a file.
fn logging(
    place: &Place,
    filter: &str,
    settings: &[(&str, &str)],
) -> (Service, std::path::PathBuf) {
    let folder = place.folder.path();
    let log = folder.join("log");
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_LOG", filter)
        .env("FIREFLOW_LOG_FORMAT", "json")
        .envs(settings.iter().copied())
        .stderr(fs::File::create(&log).unwrap());
    (Service::spawn(folder, &mut command), log)
}

fn lines(log: &Path, target: &str) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap();
    let lines = text.lines().map(|line| {
        serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"))
    });
    lines.filter(|line| line["target"] == target).collect()
}

/// The documented members of a line, from the table below a heading.
fn promised(heading: &str) -> Vec<String> {
    let page = include_str!("../../../../docs/logging.md");
    let section = page.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("no section {heading}"));
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

db_test! {
    async fn a_request_is_one_line_with_all_that_is_promised(place: Place) {
        let (service, log) = logging(&place, "info", &[]);
        let mut connection = service.connect();
        let answer = connection.exchange("POST", "/firewalls/", "{\"name\": \"edge\"}").unwrap();
        let (_, made) = connection.ask("GET", "/firewalls/1/", "").unwrap();
        assert_eq!(made["name"], "edge");
        connection.ask("GET", "/firewalls/1/?secret=hunter2", "").unwrap();
        let lines = lines(&log, "fireflow::request");
        let [created, read, refused] = &lines[..] else { panic!("{lines:?}") };
        let mut members: Vec<&String> = created.as_object().unwrap().keys().collect();
        let mut promised = promised("Requests");
        members.sort();
        promised.sort();
        // There is no trace id without a collector or a client that traces.
        promised.retain(|name| name != "trace_id");
        assert_eq!(members, promised.iter().collect::<Vec<_>>());
        assert_eq!(created["request_id"], answer.header("x-request-id"));
        for (member, value) in [
            ("level", json!("INFO")),
            ("message", json!("request")),
            ("method", json!("POST")),
            ("route", json!("/firewalls/")),
            ("path", json!("/firewalls/")),
            ("status", json!(201)),
            ("subject", json!("test")),
            ("client", json!("127.0.0.1")),
        ] {
            assert_eq!(created[member], value, "{member}");
        }
        // Three statements: the firewall's row, its event, and the head of its audit chain.
        assert_eq!(created["statements"], 3, "{created}");
        let database = created["database_us"].as_u64().unwrap();
        assert!(database > 0 && database <= created["elapsed_us"].as_u64().unwrap(), "{created}");
        assert_eq!((&read["route"], &read["path"]), (&json!("/firewalls/{firewall_id}/"), &json!("/firewalls/1/")));
        assert_eq!(read["statements"], 1);
        assert_eq!((&refused["status"], &refused["statements"]), (&json!(422), &json!(0)));
        assert_eq!(refused["path"], "/firewalls/1/", "never the query");
    }
}

#[tokio::test]
async fn a_request_that_its_client_gives_up_is_told_too() {
    use std::io::{Read, Write};
    let place = Place::new(DatabaseKind::Sqlite).await;
    let (service, log) = logging(&place, "info", &[]);
    let mut stream = std::net::TcpStream::connect(&service.address).unwrap();
    // A body that never arrives, although the service asks for it.
    let head = format!(
        "POST /firewalls/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 20\r\nExpect: 100-continue\r\n\r\n",
        service.token
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{").unwrap();
    drop(stream);
    crate::cluster::wait_until("its line", PATIENCE, || {
        lines(&log, "fireflow::request")
            .iter()
            .any(|line| line["status"] == 499 || line["status"] == 400)
    });
}

db_test! {
    async fn tokens_secrets_and_bodies_are_never_logged_however_much_is(place: Place) {
        let receiver = Receiver::start();
        let settings = [
            ("FIREFLOW_OTLP_ENDPOINT", format!("http://{}", receiver.address)),
            ("FIREFLOW_OTLP__SAMPLE_RATIO", "1".to_owned()),
            ("FIREFLOW_OTLP__HEADERS", "x-api-key=header-canary".to_owned()),
            ("FIREFLOW_SENTRY_DSN", format!("http://dsn-canary@{}/1", receiver.address)),
        ];
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        let (service, log) = logging(&place, "trace", &settings);
        let mut connection = service.connect();
        let body = json!({"name": "edge", "description": "body-canary-1"}).to_string();
        connection.ask("POST", "/firewalls/", &body).unwrap();
        connection.ask("POST", "/firewalls/", "{\"name\": \"body-canary-2\", oops").unwrap();
        let patch = json!({"description": "body-canary-3", "nonsense": "body-canary-4"});
        connection.ask("PATCH", "/firewalls/1/", &patch.to_string()).unwrap();
        connection.ask("GET", "/firewalls/?name=query-canary", "").unwrap();
        connection.ask("GET", "/firewalls/?nonsense=query-canary", "").unwrap();
        crate::cluster::wait_until("spans to arrive", PATIENCE, || !receiver.spans().is_empty());
        let secret = fs::read_to_string(place.folder.path().join(".fireflow/jwt-secret")).unwrap();
        let log = fs::read_to_string(log).unwrap();
        // The collector's client logs a lot at this level.
        assert!(log.contains("\"TRACE\""), "nothing much was logged");
        let signature = service.token.rsplit('.').next().unwrap().to_owned();
        let own = [service.token.as_str(), &signature, secret.trim()];
        let canaries = ["body-canary", "query-canary", "header-canary", "dsn-canary"];
        for canary in own.into_iter().chain(canaries) {
            let line = log.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{canary}");
        }
    }
}

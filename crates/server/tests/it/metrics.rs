//! The metrics page: its series, its formats, and the roles that may read it.

use std::sync::Arc;
use std::time::Duration;

use fireflow_auth::{TokenRules, watch};
use fireflow_domain::actor::Role;
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, Observer, db_test};
use fireflow_telemetry::Telemetry;
use fireflow_web::App;
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::cluster::wait_until;
use crate::service::{PATIENCE, Place, Service, binary};
use crate::signers::{Files, Signer, authenticator};
use crate::support::{Api, record_in, tcp};

/// A service with metrics.
async fn measured(db: TestDatabase) -> Api {
    measured_with(db, |_| {}).await
}

async fn measured_with(db: TestDatabase, change: impl FnOnce(&mut App)) -> Api {
    let telemetry = Arc::new(Telemetry::default());
    let observer: Arc<dyn Observer> = telemetry.clone();
    let db = db.reopened(|options| options.observer = Some(observer)).await;
    Api::built(db, |app, _| {
        record_in(app, &telemetry);
        change(app);
    })
}

const OPEN_METRICS: &str =
    "application/openmetrics-text; version=1.0.0,text/plain;version=0.0.4;q=0.5";

async fn page(api: &Api) -> String {
    let token = api.token_for(&[Role::HealthCheck], None);
    let accept = [("accept", OPEN_METRICS)];
    let answer = api.send("GET", "/metrics", &token, &accept, None).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    let media_type = answer.header("content-type");
    assert_eq!(media_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    answer.text
}

/// The value of a series with the given name and labels.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{page}"));
    line.split(' ').next().unwrap().parse().unwrap()
}

fn has(page: &str, start: &str) -> bool {
    page.lines().any(|line| line.starts_with(start))
}

db_test! {
    committed("requests have connections of their own")
    async fn requests_are_counted_by_template_method_and_status(db: TestDatabase) {
        let api = measured(db).await;
        let policy = api.policy().await;
        api.rule(&policy, &json!({"name": "web"})).await;
        for _ in 0..3 {
            api.get(&policy).await.expect(200);
        }
        api.get("/firewalls/999/").await.expect(404);
        for unknown in ["/nowhere/at/all", "//firewalls/", "/firewalls//", "/firewalls//rules/"] {
            api.get(unknown).await.expect(404);
        }
        api.raw("BREW", "/firewalls/", &[], vec![]).await;
        api.raw("GET", "/firewalls/", &[], vec![]).await.problem(401, "unauthenticated");
        api.send("GET", "/firewalls/", "no.token.atall", &[], None).await.problem(401, "unauthenticated");
        let page = page(&api).await;
        let template = "/firewalls/{firewall_id}/filtering-policies/{filtering_policy_id}/";
        let requests = |method: &str, route: &str, status: u16| {
            let labels = format!("method=\"{method}\",route=\"{route}\",status=\"{status}\"");
            value(&page, &format!("fireflow_http_requests_total{{{labels}}}"))
        };
        assert_eq!(requests("GET", template, 200), 3.0);
        assert_eq!(requests("POST", "/firewalls/", 201), 1.0);
        assert_eq!(requests("GET", "/firewalls/{firewall_id}/", 404), 1.0);
        assert_eq!(requests("GET", "unmatched", 404), 4.0);
        assert_eq!(requests("GET", "/firewalls/", 401), 2.0);
        assert_eq!(requests("other", "/firewalls/", 401), 1.0);
        let count = format!(
            "fireflow_http_request_duration_seconds_count{{method=\"GET\",route=\"{template}\"}}"
        );
        assert_eq!(value(&page, &count), 3.0);
        let last = format!(
            "fireflow_http_request_duration_seconds_bucket{{le=\"+Inf\",method=\"GET\",route=\"{template}\"}}"
        );
        assert_eq!(value(&page, &last), 3.0);
        // The request for the page itself.
        assert_eq!(value(&page, "fireflow_http_requests_in_flight"), 1.0);
        for (reason, count) in [("missing", 2.0), ("invalid", 1.0)] {
            let series = format!("fireflow_authentication_failures_total{{reason=\"{reason}\"}}");
            assert_eq!(value(&page, &series), count);
        }
        assert!(value(&page, "fireflow_token_cache_lookups_total{result=\"hit\"}") >= 5.0);
        // Values that clients invent get no series.
        for made_up in ["/999", "nowhere", "BREW"] {
            assert!(!page.contains(made_up), "{made_up}: {page}");
        }
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn the_database_and_inspections_are_counted(db: TestDatabase) {
        let api = measured(db).await;
        let policy = api.policy().await;
        api.rule(&policy, &json!({"sources": [{"address": "10.0.0.0/8"}]})).await;
        api.verdict(&policy, &tcp("10.0.0.1", "10.0.0.2", 1)).await;
        let packet = |source: &str| json!({
            "source_address": source, "destination_address": "10.0.0.2", "protocol": "tcp",
            "source_port": 1, "destination_port": 1,
        });
        let packets = json!([packet("10.0.0.1"), packet("192.0.2.1"), packet("192.0.2.2")]);
        api.post(&format!("{policy}inspections/"), &packets).await.expect(200);
        let page = page(&api).await;
        let statements = |operation: &str| {
            let labels = format!("operation=\"{operation}\"");
            let name = "fireflow_database_statement_duration_seconds_count";
            value(&page, &format!("{name}{{{labels}}}"))
        };
        assert!(statements("select") >= 5.0 && statements("insert") >= 5.0, "{page}");
        // One each for a firewall, a policy and a rule. The first inspection reads few rules, which
        // takes no transaction.
        assert_eq!((statements("begin"), statements("commit")), (3.0, 3.0));
        assert_eq!(value(&page, "fireflow_database_statement_failures_total{operation=\"select\"}"), 0.0);
        for (action, count) in [("ALLOW", 2.0), ("DENY", 2.0), ("REJECT", 0.0)] {
            let series = format!("fireflow_inspections_total{{action=\"{action}\"}}");
            assert_eq!(value(&page, &series), count, "{action}");
        }
        assert_eq!(value(&page, "fireflow_inspection_duration_seconds_count"), 2.0);
        assert_eq!(value(&page, "fireflow_ready"), 1.0);
        let (is_sqlite, pool) = match api.db.database.kind() {
            DatabaseKind::Sqlite => (true, "read"),
            DatabaseKind::Postgres => (false, "primary"),
        };
        assert_eq!(has(&page, "fireflow_database_connections_max{pool=\"list\"}"), is_sqlite);
        assert_eq!(value(&page, &format!("fireflow_database_connections_max{{pool=\"{pool}\"}}")), 8.0);
        let connections = ["idle", "in_use"].map(|state| {
            value(&page, &format!("fireflow_database_connections{{pool=\"{pool}\",state=\"{state}\"}}"))
        });
        assert!((1.0..=8.0).contains(&(connections[0] + connections[1])), "{connections:?}");
        assert!(has(&page, "fireflow_build_info{version=\""), "{page}");
        assert!(value(&page, "process_resident_memory_bytes") > 1e6);
        assert!(value(&page, "process_open_fds") > 3.0);
        assert!(page.ends_with("# EOF\n"));
    }
}

db_test! {
    async fn only_who_may_see_the_health_reads_them_in_the_form_they_ask_for(api: Api) {
        api.raw("GET", "/metrics", &[], vec![]).await.problem(401, "unauthenticated");
        for role in [Role::Viewer, Role::Editor] {
            let token = api.token_for(&[role], None);
            api.send("GET", "/metrics", &token, &[], None).await.problem(403, "forbidden");
        }
        let token = api.token_for(&[Role::HealthCheck], None);
        let answer = api.send("GET", "/metrics", &token, &[], None).await;
        assert_eq!(answer.header("content-type"), "text/plain; version=0.0.4; charset=utf-8");
        assert!(has(&answer.text, "# TYPE fireflow_http_requests_total counter"), "{}", answer.text);
        assert!(!answer.text.contains("# EOF"));
        api.send("GET", "/metrics?x=1", &token, &[], None).await.problem(422, "invalid");
    }
}

/// The names of all metrics on a page, without the suffixes of their series.
fn families(page: &str) -> Vec<String> {
    let names = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    names.map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

db_test! {
    committed("requests have connections of their own")
    async fn the_documentation_names_every_metric_and_no_other(db: TestDatabase) {
        // Key files have series if they are configured.
        let files = Files::new();
        let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
        trust.rules = TokenRules::default();
        let authenticator = authenticator(&trust);
        let watcher = tokio::spawn(watch(trust, authenticator.clone(), Duration::from_secs(60)));
        authenticator.reload_handle().reload_and_wait().await;
        let api = measured_with(db, |app| app.authenticator = authenticator).await;
        let metrics = include_str!("../../../../docs/observability.md");
        let mut documented: Vec<String> = metrics
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
            .filter(|name| name.starts_with("fireflow_") || name.starts_with("process_"))
            .map(|name| name.trim_end_matches("_total").to_owned())
            .collect();
        // A metric without a series is not on the page, so these requests create the missing
        // series.
        api.raw("GET", "/whoami/", &[], vec![]).await.problem(401, "unauthenticated");
        let policy = api.policy().await;
        api.verdict(&policy, &tcp("10.0.0.1", "10.0.0.2", 1)).await;
        let mut there = families(&page(&api).await);
        documented.sort();
        there.sort();
        assert_eq!(documented, there);
        watcher.abort();
    }
}

#[tokio::test]
async fn a_listener_of_their_own_serves_them_without_a_token_and_nothing_else() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let log = folder.join("log");
    let mut command = binary(folder);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_METRICS_LISTEN", "127.0.0.1:0")
        .env("FIREFLOW_LOG_FORMAT", "json")
        .stderr(std::fs::File::create(&log).unwrap());
    let service = Service::spawn(folder, &mut command);
    // The listener for metrics is logged shortly after the service itself.
    let mut line = serde_json::Value::Null;
    wait_until("the listener for metrics", PATIENCE, || {
        let lines = std::fs::read_to_string(&log).unwrap();
        let told = lines.lines().find(|line| line.contains("serving metrics"));
        line = told.map(|line| serde_json::from_str(line).unwrap()).unwrap_or_default();
        !line.is_null()
    });
    let address = line["address"].as_str().unwrap().to_owned();
    let mut connection = service.connect();
    connection.ask("GET", "/whoami/", "").unwrap();
    let get = |path: &str| {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let page = get("/metrics");
    assert!(page.starts_with("HTTP/1.1 200"), "{page}");
    let series = "fireflow_http_requests_total{method=\"GET\",route=\"/whoami/\",status=\"200\"}";
    assert_eq!(value(&page, series), 1.0);
    assert_eq!(value(&page, "fireflow_http_connections"), 1.0);
    for path in ["/", "/firewalls/", "/whoami/", "/docs/swagger-ui"] {
        assert!(get(path).starts_with("HTTP/1.1 404"), "{path}");
    }
}

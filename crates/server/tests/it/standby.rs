//! Connections to a database that fails: its name leads to a standby that accepts no writes, or its
//! connections are lost without notice.

use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, wait_until, wait_until_ok};
use crate::forwarder::{Behind, Forwarder};
use crate::service::Service;

/// A timeout far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// A service whose way to its cluster can change.
struct Served {
    cluster: Cluster,
    forwarder: Forwarder,
    service: Service,
    _folder: TempDir,
}

impl Served {
    fn start() -> Self {
        let cluster = Cluster::start();
        let forwarder = Forwarder::new(cluster.primary.address());
        let folder = tempfile::tempdir().unwrap();
        let url = format!("postgres://postgres@{}/postgres", forwarder.address());
        let service = Service::start(folder.path(), &url);
        Self { cluster, forwarder, service, _folder: folder }
    }
}

/// The status and body of a request, or `None` if the connection broke.
fn ask(service: &Service, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    service.connect().ask(method, path, &body).ok()
}

#[test]
fn a_service_on_a_standby_reads_and_is_not_ready_until_it_takes_writes_again() {
    let Served { mut cluster, forwarder, _folder, service } = Served::start();
    let status = |method: &str, path: &str, body: &Value| {
        ask(&service, method, path, body).map(|(status, _)| status)
    };
    let (ready, firewalls) = ("/health/ready", "/firewalls/");
    assert_eq!(status("POST", firewalls, &json!({"name": "edge"})), Some(201));
    assert_eq!(status("GET", ready, &Value::Null), Some(200));

    cluster.primary.kill();
    forwarder.point_at(Behind::Server(cluster.standby.address()));
    // The service notices the broken connections one by one, so some requests fail first.
    wait_until("what the standby has is read", PATIENCE, || {
        status("GET", "/firewalls/1/", &Value::Null) == Some(200)
    });
    // A readiness result is cached for a moment.
    wait_until("it is not ready", PATIENCE, || status("GET", ready, &Value::Null) == Some(503));
    for turn in 0..3 {
        let (status, problem) = ask(&service, "GET", ready, &Value::Null).unwrap();
        assert_eq!((status, &problem["code"]), (503, &json!("unavailable")), "{turn}: {problem}");
        let body = json!({"name": format!("core {turn}")});
        let (status, problem) = ask(&service, "POST", firewalls, &body).unwrap();
        assert_eq!((status, &problem["code"]), (503, &json!("unavailable")), "{turn}: {problem}");
        wait_until("it is read in the meantime", PATIENCE, || {
            ask(&service, "GET", firewalls, &Value::Null).is_some_and(|it| it.0 == 200)
        });
        let (_, health) = ask(&service, "GET", "/health/", &Value::Null).unwrap();
        assert_eq!(health["is_ready"], false, "{health}");
        assert_eq!(health["status"], "unavailable");
    }

    cluster.promote();
    wait_until("it is ready again", PATIENCE, || status("GET", ready, &Value::Null) == Some(200));
    wait_until("it writes again", PATIENCE, || {
        let written = status("POST", firewalls, &json!({"name": "branch"})).unwrap();
        assert!(written == 201 || written == 503, "{written}");
        written == 201
    });
    let (_, list) = ask(&service, "GET", firewalls, &Value::Null).unwrap();
    assert_eq!(list["total"], 2, "what was refused is not there: {list}");
}

/// The driver tests a connection that is given back without a limit of time, so that a connection that
/// is lost at this moment never comes back.
#[test]
fn connections_that_are_lost_while_they_are_tested_are_replaced() {
    let Served { cluster: _cluster, forwarder, _folder, service } = Served::start();
    let status = |method: &str, path: &str, body: &Value| {
        ask(&service, method, path, body).map(|(status, _)| status)
    };
    let edge = json!({"name": "edge"});
    assert_eq!(status("POST", "/firewalls/", &edge), Some(201));

    let lose_all = |method: &str, path: &str, body: &Value| {
        wait_until("every connection is lost", PATIENCE, || {
            status(method, path, body).is_some_and(|it| it == 503)
        });
    };
    forwarder.lose_tested(true);
    lose_all("GET", "/firewalls/1/", &Value::Null);
    // The name is taken.
    lose_all("POST", "/firewalls/", &edge);
    forwarder.lose_tested(false);

    for round in 0..40 {
        wait_until_ok("reads and writes succeed", PATIENCE, || {
            let name = json!({"name": format!("round {round}")});
            let read = status("GET", "/firewalls/1/", &Value::Null);
            let written = status("PATCH", "/firewalls/1/", &name);
            let both = (read, written);
            if both == (Some(200), Some(200)) { Ok(()) } else { Err(format!("{both:?}")) }
        });
    }
    wait_until("it is ready", PATIENCE, || {
        status("GET", "/health/ready", &Value::Null) == Some(200)
    });
}

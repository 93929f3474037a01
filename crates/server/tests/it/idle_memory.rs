//! The memory of a service at rest, and after a load.

use std::process::Stdio;

use fireflow_storage::DatabaseKind;
use serde_json::{Value, json};

use crate::cluster::wait_until;
use crate::service::{PATIENCE, Place, Service, binary};

/// The anonymous memory of a process in kB. It excludes the program's file, whose size differs
/// between builds.
fn own_memory(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Waits until a service takes at most `most` kB.
#[track_caller]
fn wait_for_rest(service: &Service, most: u64) {
    let mut now = 0;
    wait_until("memory that is given back", PATIENCE, || {
        now = own_memory(service);
        now <= most
    });
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn at_rest_a_service_takes_little_memory_and_after_load_it_gives_back() {
    /// In kB.
    const AT_REST: u64 = 14_000;
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut command = binary(folder);
    command.env("FIREFLOW_DATABASE_URL", &place.url).stderr(Stdio::null());
    let service = Service::spawn(folder, &mut command);
    // The memory that the start needed is released.
    wait_for_rest(&service, AT_REST);
    let mut connection = service.connect();
    let mut write = |path: &str, body: &Value| {
        let (status, answer) = connection.ask("POST", path, &body.to_string()).unwrap();
        assert_eq!(status, 201, "{answer}");
    };
    write("/firewalls/", &json!({"name": "edge"}));
    for name in ["a", "b", "c", "d"] {
        let policy = json!({"name": name, "default_action": "DENY"});
        write("/firewalls/1/filtering-policies/", &policy);
    }
    let rules: Vec<Value> = (0..5_000)
        .map(|index| {
            json!({"action": "ALLOW", "destinations": [{"address": "any"}],
                "sources": [{"address": format!("10.0.{}.{}", index / 256, index % 256)}],
                "description": "x".repeat(400)})
        })
        .collect();
    let body = json!(rules).to_string();
    let put = |policy: usize| {
        let path = format!("/firewalls/1/filtering-policies/{policy}/rules/");
        // One subject gets only a part of the memory for requests. A set beyond that part waits for
        // its turn or gets 503.
        wait_until("a set that is taken", PATIENCE, || {
            let (status, answer) = service.connect().ask("PUT", &path, &body).unwrap();
            assert!(status == 200 || status == 503, "{answer}");
            status == 200
        });
        own_memory(&service)
    };
    let most = std::thread::scope(|scope| {
        let all = [1, 2, 3, 4].map(|policy| scope.spawn(move || put(policy)));
        all.map(|one| one.join().unwrap()).into_iter().max().unwrap()
    });
    assert!(most > 2 * AT_REST, "{most} kB: no load to speak of");
    // The remaining memory belongs to the database connections: pages, and prepared statements
    // until they are evicted.
    wait_for_rest(&service, AT_REST + 24 * 1_024);
}

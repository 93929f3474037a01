//! A service with a limit on open files, and more clients than that limit.

use std::net::TcpStream;
use std::process::Stdio;

use fireflow_storage::DatabaseKind;
use serde_json::json;

use crate::cluster::wait_until;
use crate::service::{PATIENCE, Place, Service, binary_with_files, text};

/// Few connections to the database, so that a low limit is enough.
const CONNECTIONS: &str = "4";

#[cfg(target_os = "linux")]
#[tokio::test]
async fn at_the_limit_of_open_files_everybody_is_answered_in_turn() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let log = folder.join("log");
    let mut command = binary_with_files(folder, 160, 160);
    command
        .env("FIREFLOW_DATABASE_URL", &place.url)
        .env("FIREFLOW_DATABASE__MAX_CONNECTIONS", CONNECTIONS)
        .stderr(std::fs::File::create(&log).unwrap());
    let service = Service::spawn(folder, &mut command);
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("FIREFLOW_HTTP__MAX_CONNECTIONS is 8192"), "{told}");
    // More connections than the limit allows. Excess connections wait or are closed.
    let mut idle: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(&service.address).unwrap()).collect();
    let open_files = || {
        let files = std::fs::read_dir(format!("/proc/{}/fd", service.child.id())).unwrap();
        files.count()
    };
    let mut before = 0;
    wait_until("that all places are taken", PATIENCE, || {
        let now = open_files();
        assert!(now <= 160);
        std::mem::replace(&mut before, now) == now && now > 60
    });
    // Every new client gets a connection, because the service closes an idle one for it. Reads and
    // writes succeed with the configured number of database connections.
    for index in 0..20 {
        let mut first = service.connect();
        let body = json!({"name": format!("edge {index}")}).to_string();
        let (status, answer) = first.ask("POST", "/firewalls/", &body).unwrap();
        assert_eq!(status, 201, "{answer}");
        for path in ["/firewalls/", "/firewalls/1/", "/rules/"] {
            let (status, answer) = first.ask("GET", path, "").unwrap();
            assert_eq!(status, 200, "{answer}");
        }
        assert!(open_files() <= 160);
    }
    // A waiting client gets its turn when others have left.
    let mut last = service.connect();
    idle.clear();
    assert_eq!(last.ask("GET", "/firewalls/", "").unwrap().0, 200);
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(!told.contains("can be accepted"), "{told}");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_limit_of_open_files_is_raised_and_one_that_is_too_low_is_refused() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let start = |soft: u32, hard: u32| {
        let mut command = binary_with_files(folder, soft, hard);
        command
            .env("FIREFLOW_DATABASE_URL", &place.url)
            .env("FIREFLOW_DATABASE__MAX_CONNECTIONS", CONNECTIONS)
            .env("FIREFLOW_HTTP__MAX_CONNECTIONS", "100");
        command
    };
    let log = folder.join("log");
    let mut command = start(64, 1_000);
    command.stderr(std::fs::File::create(&log).unwrap());
    let mut service = Service::spawn(folder, &mut command);
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("1000"), "{line}");
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("the limit of open files") && !told.contains("is 100,"), "{told}");
    service.kill();
    let refused = start(80, 80).stdout(Stdio::null()).output().unwrap();
    assert_eq!(refused.status.code(), Some(2));
    let told = text(&refused.stderr);
    let why = "fireflow: this process may open 80 files, but needs at least ";
    assert!(told.lines().any(|line| line.starts_with(why)), "{told}");
}

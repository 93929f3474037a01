//! A SQLite file, and the processes that open it by any of its names; and changes to the file while
//! it is served.

#![cfg(unix)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use fireflow_domain::testing::unchecked::checks_nothing_without;
use fireflow_storage::{DatabaseKind, db_test};
use serde_json::{Value, json};

use crate::service::{Connection, Place, Service, binary, run, text};

/// Longer than anything here takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Every command that may change a database.
const COMMANDS: [&[&str]; 8] = [
    &["serve"],
    &["migrate", "up"],
    &["migrate", "status"],
    &["migrate", "down"],
    &["migrate", "reset"],
    &["purge", "--older-than", "0s"],
    &["demo"],
    &["restore", "--replace", "b.db"],
];

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < TIMEOUT, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn post(connection: &mut Connection, name: &str) -> (u16, Value) {
    connection.ask("POST", "/firewalls/", &json!({"name": name}).to_string()).unwrap()
}

fn ready(connection: &mut Connection) -> u16 {
    connection.ask("GET", "/health/ready", "").unwrap().0
}

fn total(connection: &mut Connection) -> u64 {
    connection.ask("GET", "/firewalls/", "").unwrap().1["total"].as_u64().unwrap()
}

fn said(output: &Output, status: i32) -> String {
    let said = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "{said}");
    said
}

fn command(folder: &Path, arguments: &[&str], file: &str, status: i32) -> String {
    let url = format!("sqlite://{file}");
    said(&run(folder, arguments, &[("FIREFLOW_DATABASE_URL", &url)]), status)
}

#[tokio::test]
async fn no_command_gets_a_served_file_by_any_name() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut service = Service::start(folder, &place.url);
    let mut connection = service.connect();
    assert_eq!(post(&mut connection, "kept").0, 201);
    command(folder, &["backup", "b.db"], "fireflow.db", 0);
    fs::hard_link(folder.join("fireflow.db"), folder.join("hard.db")).unwrap();
    symlink("fireflow.db", folder.join("soft.db")).unwrap();
    fs::create_dir(folder.join("sub")).unwrap();
    symlink("..", folder.join("sub/up")).unwrap();
    for arguments in COMMANDS {
        let told = command(folder, arguments, "hard.db", 2);
        assert!(told.contains("is in use by"), "{arguments:?}: {told}");
    }
    let absolute = folder.join("fireflow.db").display().to_string();
    for name in ["soft.db", "sub/../fireflow.db", "sub/up/soft.db", &absolute] {
        for arguments in [COMMANDS[0], COMMANDS[1], COMMANDS[7]] {
            let told = command(folder, arguments, name, 2);
            let holder = format!("process {} (fireflow serve)", service.child.id());
            assert!(told.contains(&holder), "{name}: {told}");
        }
    }
    // A backup works under every name by which SQLite finds the write-ahead log.
    for name in ["soft.db", "sub/up/fireflow.db"] {
        let told = command(folder, &["backup", "again.db"], name, 0);
        assert!(told.contains("1 firewalls"), "{told}");
        fs::remove_file(folder.join("again.db")).unwrap();
    }
    assert!(command(folder, &["backup", "again.db"], "hard.db", 2).contains("use that name"));
    assert!(!folder.join("again.db").exists() && !folder.join("hard.db-wal").exists());
    // None of this has disturbed the service.
    assert_eq!((post(&mut connection, "after").0, total(&mut connection)), (201, 2));
    assert_eq!(ready(&mut connection), 200);
    service.kill();
    command(folder, &["migrate", "status"], "soft.db", 0);
    // The target of a link is replaced, and the link stays.
    command(folder, &["restore", "--replace", "b.db"], "soft.db", 0);
    assert!(fs::symlink_metadata(folder.join("soft.db")).unwrap().is_symlink());
    assert!(folder.join("fireflow.db.replaced").is_file());
    let again = Service::start(folder, &place.url);
    assert_eq!(total(&mut again.connect()), 1);
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_its_log_was_removed_and_the_service_killed() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = binary(folder);
    command.env("FIREFLOW_DATABASE_URL", &place.url).stderr(log);
    let mut service = Service::spawn(folder, &mut command);
    let mut connection = service.connect();
    assert_eq!(post(&mut connection, "acknowledged").0, 201);
    fs::remove_file(folder.join("fireflow.db-wal")).unwrap();
    assert_eq!(post(&mut connection, "lost").0, 503);
    until("it is saved", || {
        let log = fs::read_to_string(folder.join("log")).unwrap();
        log.contains("all acknowledged writes are in the database now")
    });
    assert_eq!((ready(&mut connection), total(&mut connection)), (503, 1));
    service.kill();
    let again = Service::start(folder, &place.url);
    assert_eq!(total(&mut again.connect()), 1);
}

/// Runs in its own mount namespace, if the machine permits the test to create one (as root).
#[cfg(target_os = "linux")]
#[tokio::test]
async fn no_command_gets_a_served_file_that_is_mounted_elsewhere() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let may = Command::new("unshare").args(["--mount", "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        // The hard link of the test before is alike.
        return checks_nothing_without("the permission to mount");
    }
    let service = Service::start(folder, &place.url);
    let mut connection = service.connect();
    assert_eq!(post(&mut connection, "kept").0, 201);
    command(folder, &["backup", "b.db"], "fireflow.db", 0);
    fs::write(folder.join("bound.db"), "").unwrap();
    fs::create_dir(folder.join("mounted")).unwrap();
    let within = |arguments: &[&str], file: &str| {
        let fireflow = binary(folder);
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-c"])
            .arg("mount --bind fireflow.db bound.db && mount --bind . mounted && exec \"$@\"")
            .arg("sh")
            .arg(fireflow.get_program())
            .args(arguments)
            .current_dir(folder)
            .env("FIREFLOW_LISTEN", "127.0.0.1:0")
            .env("FIREFLOW_DATABASE_URL", format!("sqlite://{file}"))
            .stdin(Stdio::null());
        command.output().unwrap()
    };
    for file in ["bound.db", "mounted/fireflow.db"] {
        for arguments in COMMANDS {
            let told = said(&within(arguments, file), 2);
            assert!(told.contains("is in use by process"), "{file} {arguments:?}: {told}");
        }
    }
    assert!(said(&within(&["backup", "a.db"], "bound.db"), 2).contains("use that name"));
    let told = said(&within(&["backup", "a.db"], "mounted/fireflow.db"), 0);
    assert!(told.contains("1 firewalls"), "{told}");
    assert_eq!((post(&mut connection, "after").0, total(&mut connection)), (201, 2));
}

#[tokio::test]
async fn migrations_that_start_at_once_wait_for_each_other() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let start = || {
        let mut command = binary(folder);
        command.args(["migrate", "up"]).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let processes: Vec<_> = (0..6).map(|_| start()).collect();
    for process in processes {
        let output = process.wait_with_output().unwrap();
        said(&output, 0);
        let steps = text(&output.stdout);
        assert!(steps.lines().count() > 4, "{steps}");
        assert!(steps.lines().all(|step| step.starts_with("applied  ")), "{steps}");
    }
}

#[tokio::test]
async fn a_service_whose_file_is_replaced_says_so_and_acknowledges_nothing() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let (file, aside) = (folder.join("fireflow.db"), folder.join("aside.db"));
    let log = fs::File::create(folder.join("log")).unwrap();
    let mut command = binary(folder);
    command.env("FIREFLOW_DATABASE_URL", &place.url).stderr(log);
    let mut service = Service::spawn(folder, &mut command);
    let mut connection = service.connect();
    assert_eq!(post(&mut connection, "before").0, 201);
    self::command(folder, &["backup", "b.db"], "fireflow.db", 0);
    let logged = |part: &str| fs::read_to_string(folder.join("log")).unwrap().contains(part);

    // Replaced by a rename, as `mv` does.
    fs::hard_link(&file, &aside).unwrap();
    fs::rename(folder.join("b.db"), &file).unwrap();
    until("it is logged by itself", || logged("was replaced by another file while it was open"));
    assert_eq!((post(&mut connection, "lost").0, ready(&mut connection)), (503, 503));
    // The service does not continue with the new file, but only with its own.
    fs::remove_file(&file).unwrap();
    until("it is logged", || logged("was removed while it was open"));
    assert_eq!((post(&mut connection, "lost").0, ready(&mut connection)), (503, 503));
    fs::rename(&aside, &file).unwrap();
    until("it is back", || ready(&mut connection) == 200);
    assert!(logged("are back in place"));
    assert_eq!(post(&mut connection, "after").0, 201);
    // Only the acknowledged firewalls exist.
    service.kill();
    let again = Service::start(folder, &place.url);
    assert_eq!(total(&mut again.connect()), 2);
}

#[tokio::test]
async fn what_is_acknowledged_while_the_file_comes_and_goes_is_there_in_the_end() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut command = binary(folder);
    command.env("FIREFLOW_DATABASE_URL", &place.url).stderr(Stdio::null());
    command.env("FIREFLOW_HTTP__RATE_LIMIT", "off").env("FIREFLOW_HTTP__ADDRESS_RATE_LIMIT", "off");
    let mut service = Service::spawn(folder, &mut command);
    let (file, aside) = (folder.join("fireflow.db"), folder.join("aside.db"));
    let is_over = AtomicBool::new(false);
    let acknowledged: Mutex<BTreeSet<String>> = Mutex::default();
    let refused = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let mut connection = service.connect();
            let (is_over, acknowledged, refused) = (&is_over, &acknowledged, &refused);
            scope.spawn(move || {
                for number in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    let name = format!("w{writer} n{number}");
                    match post(&mut connection, &name) {
                        (201, _) => drop(acknowledged.lock().unwrap().insert(name)),
                        (503, _) => {
                            refused.store(true, Ordering::SeqCst);
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        (status, answer) => panic!("{status}: {answer}"),
                    }
                }
            });
        }
        for round in 0..10 {
            let before = acknowledged.lock().unwrap().len();
            until("writes go on", || acknowledged.lock().unwrap().len() > before);
            refused.store(false, Ordering::SeqCst);
            fs::rename(&file, &aside).unwrap();
            if round % 2 == 0 {
                fs::write(&file, "another").unwrap();
            }
            until("writes are refused", || refused.load(Ordering::SeqCst));
            fs::rename(&aside, &file).unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
    });
    service.kill();
    let again = Service::start(folder, &place.url);
    let mut connection = again.connect();
    let mut found = BTreeSet::new();
    for page in 1.. {
        let path = format!("/firewalls/?page_size=1000&page={page}");
        let (_, list) = connection.ask("GET", &path, "").unwrap();
        let items = list["items"].as_array().unwrap();
        if items.is_empty() {
            break;
        }
        found.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
    }
    let acknowledged = acknowledged.into_inner().unwrap();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    assert!(lost.is_empty(), "of {}: {lost:?}", acknowledged.len());
}

#[tokio::test]
async fn a_file_is_not_opened_without_the_log_that_has_its_newest_part() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let path = |name: &str| folder.join(name);
    {
        let service = Service::start(folder, &place.url);
        assert_eq!(post(&mut service.connect(), "acknowledged").0, 201);
        command(folder, &["backup", "b.db"], "fireflow.db", 0);
        // The service was killed, so the log is left.
    }
    // The file is replaced by hand, so the log would be applied to the new file.
    fs::rename(path("fireflow.db"), path("old.db")).unwrap();
    fs::copy(path("b.db"), path("fireflow.db")).unwrap();
    let told = command(folder, &["serve"], "fireflow.db", 2);
    assert!(told.contains("it was replaced, but the write-ahead log"), "{told}");
    // The file is removed, so SQLite would remove the log too.
    fs::remove_file(path("fireflow.db")).unwrap();
    let told = command(folder, &["migrate", "up"], "fireflow.db", 2);
    assert!(told.contains("it is missing, but its write-ahead log"), "{told}");
    assert!(!path("fireflow.db").exists() && path("fireflow.db-wal").exists());
    // Once the file is restored, all data is available.
    fs::rename(path("old.db"), path("fireflow.db")).unwrap();
    let again = Service::start(folder, &place.url);
    assert_eq!(total(&mut again.connect()), 1);
}

#[tokio::test]
async fn a_folder_that_does_not_exist_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let told = command(folder.path(), &["serve"], "/nonexistent/x.db", 2);
    assert!(told.contains("/nonexistent does not exist") && !told.contains(".lock"), "{told}");
    assert_eq!(told.trim().lines().count(), 1, "{told}");
}

db_test! {
    async fn the_demo_is_not_written_into_a_database_of_another_environment(place: Place) {
        let folder = place.folder.path();
        let production = [
            ("FIREFLOW_DATABASE_URL", place.url.as_str()),
            ("FIREFLOW_ENVIRONMENT", "production"),
            ("FIREFLOW_JWT_SECRET", "kX3vQ9-z0LrT7uWm2sYb5nHc8dPfGa4e"),
            ("FIREFLOW_JWT__ISSUER", "idp"),
            ("FIREFLOW_JWT__AUDIENCE", "fireflow"),
        ];
        said(&crate::service::run(folder, &["migrate", "up"], &production), 0);
        let local = [("FIREFLOW_DATABASE_URL", place.url.as_str())];
        let told = said(&crate::service::run(folder, &["demo"], &local), 2);
        assert!(told.contains("was created in the environment `production`"), "{told}");
        let service = Service::start(folder, &place.url);
        assert_eq!(total(&mut service.connect()), 0);
    }
}

fn left(folder: &Path, part: &str) -> bool {
    fs::read_dir(folder)
        .unwrap()
        .any(|entry| entry.unwrap().file_name().to_str().unwrap().contains(part))
}

#[tokio::test]
async fn a_signal_ends_a_copy_and_leaves_nothing() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    command(folder, &["migrate", "up"], "fireflow.db", 0);
    for signal in ["-TERM", "-INT", "-HUP"] {
        // A copy whose input never arrives, and a copy whose output is never read.
        for arguments in [["restore", "-"], ["backup", "-"]] {
            let mut command = binary(folder);
            command.args(arguments).stdin(Stdio::piped());
            let file = if arguments == ["restore", "-"] { "new.db" } else { "fireflow.db" };
            command.env("FIREFLOW_DATABASE_URL", format!("sqlite://{file}"));
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            if file == "new.db" {
                until("it has begun", || left(folder, ".incoming-"));
            } else {
                // The first byte has arrived, and the rest is more than a pipe holds.
                child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
            }
            let id = child.id().to_string();
            assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
            let mut told = String::new();
            child.stderr.as_mut().unwrap().read_to_string(&mut told).unwrap();
            assert_eq!(child.wait().unwrap().code(), Some(1), "{told}");
            assert!(told.contains("stopped by a signal"), "{told}");
            assert!(!left(folder, "ing-") && !left(folder, ".partial"));
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_killed_copy_left_goes_with_the_next() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut child = binary(folder)
        .args(["restore", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("it has begun", || left(folder, ".incoming-"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(left(folder, ".incoming-"), "nothing could clean up");
    said(&run(folder, &["restore", "-"], &[]), 1);
    assert!(!left(folder, ".incoming-"));
}

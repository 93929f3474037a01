//! Backups of a database under write load, and their restoration.

use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fireflow_storage::DatabaseKind;
use serde_json::{Value, json};

use crate::service::{Connection, Place, Service, binary, run, text};

/// The number of writers that add rules one by one. One more writer puts whole sets.
const ADDERS: usize = 3;
const RULES: &str = "/firewalls/1/filtering-policies/";
/// The number of rules in a whole set.
const SET: usize = 40;

fn rules_path(policy: usize) -> String {
    format!("{RULES}{policy}/rules/")
}

fn rule(name: &str, number: usize) -> Value {
    let address = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 0xff, number & 0xff);
    json!({
        "name": name, "action": "DENY", "priority": number,
        "sources": [{"address": address}], "destinations": [{"address": "any"}],
    })
}

fn ask(connection: &mut Connection, method: &str, path: &str, body: &Value, status: u16) -> Value {
    let (found, answer) = connection.ask(method, path, &body.to_string()).unwrap();
    assert_eq!(found, status, "{answer}");
    answer
}

/// The names of a policy's rules, in order, and the policy's `rule_count`.
fn names(connection: &mut Connection, policy: usize) -> (Vec<String>, u64) {
    let mut names = Vec::new();
    for page in 1.. {
        let path = format!("{}?page_size=1000&page={page}", rules_path(policy));
        let (_, list) = connection.ask("GET", &path, "").unwrap();
        let items = list["items"].as_array().unwrap();
        if items.is_empty() {
            break;
        }
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
    }
    let (_, policy) = connection.ask("GET", &format!("{RULES}{policy}/"), "").unwrap();
    (names, policy["rule_count"].as_u64().unwrap())
}

fn backup(folder: &Path, file: &str, status: i32) -> String {
    let output = run(folder, &["backup", file], &[]);
    let told = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "{told}");
    told
}

fn restore(folder: &Path, arguments: &[&str], status: i32) -> String {
    let output = run(folder, &[&["restore"], arguments].concat(), &[]);
    let told = text(&output.stderr) + &text(&output.stdout);
    assert_eq!(output.status.code(), Some(status), "{told}");
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_write_load_restores_to_one_consistent_state() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let service = Service::start(folder, &place.url);
    let mut connection = service.connect();
    ask(&mut connection, "POST", "/firewalls/", &json!({"name": "edge"}), 201);
    for policy in 0..=ADDERS {
        let body = json!({"name": format!("p{policy}"), "default_action": "DENY"});
        ask(&mut connection, "POST", RULES, &body, 201);
    }
    let set = |word: &str| -> Value {
        (0..SET).map(|number| rule(&format!("{word}{number}"), number)).collect()
    };
    ask(&mut connection, "PUT", &rules_path(ADDERS + 1), &set("even"), 200);

    let is_over = AtomicBool::new(false);
    let acknowledged: [AtomicUsize; ADDERS] = Default::default();
    let known = || acknowledged.each_ref().map(|it| it.load(Ordering::SeqCst));
    let backups = std::thread::scope(|scope| {
        for (index, count) in acknowledged.iter().enumerate() {
            let (mut connection, is_over) = (service.connect(), &is_over);
            scope.spawn(move || {
                while !is_over.load(Ordering::SeqCst) {
                    let number = count.load(Ordering::SeqCst);
                    let body = rule(&format!("r{number:06}"), number);
                    ask(&mut connection, "POST", &rules_path(index + 1), &body, 201);
                    count.store(number + 1, Ordering::SeqCst);
                }
            });
        }
        let (mut connection, is_over) = (service.connect(), &is_over);
        let set = &set;
        scope.spawn(move || {
            for word in ["odd", "even"].into_iter().cycle() {
                if is_over.load(Ordering::SeqCst) {
                    break;
                }
                ask(&mut connection, "PUT", &rules_path(ADDERS + 1), &set(word), 200);
            }
        });
        let mut backups = Vec::new();
        for number in 0..4 {
            // Writes happen before, between and after the copies.
            let target = known().map(|count| count + 20);
            while known().iter().zip(target).any(|(count, target)| *count < target) {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            let (file, before) = (format!("backup-{number}.db"), known());
            backup(folder, &file, 0);
            backups.push((file, before, known()));
        }
        is_over.store(true, Ordering::SeqCst);
        backups
    });
    drop(service);

    for (file, before, after) in backups {
        let restored = tempfile::tempdir().unwrap();
        let source = folder.join(&file);
        restore(restored.path(), &[source.to_str().unwrap()], 0);
        let service = Service::start(restored.path(), &place.url);
        let mut connection = service.connect();
        for index in 0..ADDERS {
            let (found, count) = names(&mut connection, index + 1);
            // One writer added the rules in order, so a state holds a prefix of them. It includes
            // all rules that were acknowledged before the backup. It has at most one rule more than
            // were acknowledged after it.
            let first: Vec<String> = (0..found.len()).map(|it| format!("r{it:06}")).collect();
            assert_eq!(found, first);
            assert_eq!(count, found.len() as u64);
            assert!(
                (before[index]..=after[index] + 1).contains(&found.len()),
                "{}..={} in {}",
                before[index],
                after[index],
                found.len()
            );
        }
        let (found, count) = names(&mut connection, ADDERS + 1);
        assert_eq!((found.len(), count), (SET, SET as u64));
        let word = found[0].trim_end_matches('0').to_owned();
        assert!(found.iter().all(|name| name.starts_with(&word)), "half a set: {found:?}");
        // The restored database accepts writes.
        ask(&mut connection, "POST", &rules_path(1), &rule("later", 1 << 20), 201);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_overwrites_nothing_and_a_restore_keeps_what_it_replaces() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    assert!(backup(folder, "b.db", 2).contains("fireflow.db does not exist"));
    {
        let service = Service::start(folder, &place.url);
        let mut connection = service.connect();
        ask(&mut connection, "POST", "/firewalls/", &json!({"name": "one"}), 201);
        assert!(backup(folder, "b.db", 0).contains("1 firewalls, 0 filtering policies, 0 rules"));
        assert!(backup(folder, "b.db", 2).contains("name a new file"));
        std::fs::write(folder.join("c.db.partial"), "").unwrap();
        assert!(backup(folder, "c.db", 2).contains("interrupted"));
        ask(&mut connection, "POST", "/firewalls/", &json!({"name": "two"}), 201);
        assert!(restore(folder, &["b.db", "--replace"], 2).contains("is in use by process"));
        // The service was killed, so the last writes are only in the write-ahead log.
    }
    assert!(folder.join("fireflow.db-wal").exists());
    assert!(restore(folder, &["no.db"], 2).contains("no.db does not exist"));
    assert!(restore(folder, &["b.db"], 2).contains("--replace"));
    restore(folder, &["b.db", "--replace"], 0);
    assert!(restore(folder, &["b.db", "--replace"], 2).contains("move it away"));

    let count = |name: &str| {
        let service = Service::start(folder, &format!("sqlite://{name}"));
        let (_, list) = service.connect().ask("GET", "/firewalls/", "").unwrap();
        list["total"].as_u64().unwrap()
    };
    assert_eq!(count("fireflow.db"), 1);
    assert_eq!(count("fireflow.db.replaced"), 2, "its log went with it");
    let left = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
    assert!(left.into_iter().all(|name| name != "b.db.partial" && name != "fireflow.db.partial"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backups_go_through_pipes() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let service = Service::start(folder, &place.url);
    let mut connection = service.connect();
    ask(&mut connection, "POST", "/firewalls/", &json!({"name": "one"}), 201);
    let copied = run(folder, &["backup", "-"], &[]);
    assert_eq!(copied.status.code(), Some(0));
    assert!(text(&copied.stderr).contains("the backup holds 1 firewalls"));
    drop(service);

    let restored = tempfile::tempdir().unwrap();
    for (input, status, told) in [
        (&copied.stdout[..copied.stdout.len() / 2], 1, "not a valid FireFlow database"),
        (&copied.stdout[..], 0, "restored 1 firewalls"),
        (&copied.stdout[..], 2, "--replace"),
    ] {
        let mut child = binary(restored.path())
            .args(["restore", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        assert!((text(&output.stdout) + &text(&output.stderr)).contains(told), "{output:?}");
    }
    for folder in [folder, restored.path()] {
        let mut names = std::fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name());
        assert!(names.all(|name| !name.to_str().unwrap().contains("ing-")), "a spool is left");
    }
}

#[test]
fn a_broken_backup_is_not_restored_and_postgresql_has_its_own_tools() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("text.db"), "no database, but longer than its header".repeat(20))
        .unwrap();
    std::fs::write(folder.join("empty.db"), "").unwrap();
    for file in ["text.db", "empty.db"] {
        assert!(
            restore(folder, &[file], 1)
                .contains(&format!("{file} is not a valid FireFlow database"))
        );
    }
    // A database's own file may lack the content of its log, however sound it looks.
    assert_eq!(run(folder, &["migrate", "up"], &[]).status.code(), Some(0));
    std::fs::rename(folder.join("fireflow.db"), folder.join("copied.db")).unwrap();
    assert!(restore(folder, &["copied.db"], 1).contains("copy it with `fireflow backup`"));
    let names = std::fs::read_dir(folder).unwrap();
    let names: Vec<_> = names.map(|it| it.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name != "fireflow.db"), "{names:?}");
    let postgres = [("FIREFLOW_DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/db")];
    for command in ["backup", "restore"] {
        let output = run(folder, &[command, "file"], &postgres);
        assert_eq!(output.status.code(), Some(2));
        let message = text(&output.stderr);
        assert!(message.contains("pg_dump") && !message.contains("hunter2"), "{message}");
    }
}

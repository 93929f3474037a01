//! `fireflow verify database --audit` with a running service, with a killed one, and with a trail
//! that was tampered with.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use fireflow_storage::{DatabaseKind, db_test};
use serde_json::{Value, json};

use crate::service::{Place, Service, binary, run, text};
use crate::support::Api;

fn verify(folder: &Path, url: &str, more: &[&str]) -> Output {
    let arguments = [&["verify", "database", "--audit"][..], more].concat();
    run(folder, &arguments, &[("FIREFLOW_DATABASE_URL", url)])
}

/// The audit heads in an output or a log.
fn heads(lines: &str) -> Vec<Value> {
    let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|line| line["message"] == "audit head").collect()
}

fn members(head: &Value) -> Value {
    let mut head = head.clone();
    for added_by_the_log in ["timestamp", "level"] {
        head.as_object_mut().unwrap().remove(added_by_the_log);
    }
    head
}

fn write(service: &Service) {
    let mut connection = service.connect();
    let (_, firewall) = connection.ask("POST", "/firewalls/", "{\"name\": \"edge\"}").unwrap();
    let policies = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
    let body = "{\"name\": \"in\", \"default_action\": \"DENY\"}";
    connection.ask("POST", &policies, body).unwrap();
    let rule = json!({
        "action": "ALLOW", "priority": 1, "sources": [{"address": "10.0.0.1"}],
        "destinations": [{"address": "any"}],
    });
    let (status, made) =
        connection.ask("POST", &format!("{policies}1/rules/"), &rule.to_string()).unwrap();
    assert_eq!(status, 201, "{made}");
}

db_test! {
    async fn the_heads_that_the_log_has_are_those_of_the_trail(place: Place) {
        let folder = place.folder.path();
        let log = folder.join("log");
        let mut command = binary(folder);
        command
            .env("FIREFLOW_DATABASE_URL", &place.url)
            .env("FIREFLOW_LOG_FORMAT", "json")
            .stderr(fs::File::create(&log).unwrap());
        let mut service = Service::spawn(folder, &mut command);
        write(&service);
        // While the database is served.
        let first = verify(folder, &place.url, &[]);
        assert_eq!(first.status.code(), Some(0), "{first:?}");
        let printed = text(&first.stdout);
        let last = "2 chains with 3 events, 0 events older than the chains, 0 faults";
        assert_eq!(printed.lines().last(), Some(last));
        assert_eq!(heads(&printed).len(), 2, "{printed}");
        let id = service.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(service.child.wait().unwrap().success());
        let logged = heads(&fs::read_to_string(&log).unwrap());
        let logged: Vec<Value> = logged.iter().map(members).collect();
        assert_eq!(logged, heads(&printed), "the last heads are logged at the end");
        // `--heads` accepts a whole log with lines of all kinds, and also the earlier output.
        fs::write(folder.join("printed"), &printed).unwrap();
        for file in ["log", "printed"] {
            let output = verify(folder, &place.url, &["--heads", file]);
            assert_eq!(output.status.code(), Some(0), "{output:?}");
            assert!(text(&output.stdout).contains(&format!("2 heads of {file} looked up")));
        }
        // A head that is not in the chain.
        let forged = printed.replacen("\"sequence\":2", "\"sequence\":3", 1);
        assert_ne!(forged, printed);
        fs::write(folder.join("forged"), forged).unwrap();
        let output = verify(folder, &place.url, &["--heads", "forged"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let printed = text(&output.stdout);
        assert!(printed.contains("broken: filtering_policy 1: the head 01"), "{printed}");
        assert!(text(&output.stderr).contains("the audit trail is broken: 1 fault"));
    }
}

db_test! {
    async fn a_process_that_was_killed_leaves_whole_chains(place: Place) {
        let folder = place.folder.path();
        let mut service = Service::start(folder, &place.url);
        write(&service);
        std::thread::scope(|scope| {
            let (done, enough) = std::sync::mpsc::channel();
            for writer in 0..6 {
                let (mut connection, done) = (service.connect(), done.clone());
                scope.spawn(move || {
                    for index in 0.. {
                        let rule = json!({
                            "action": "ALLOW", "priority": 1,
                            "sources": [{"address": format!("10.{writer}.{}.{}", index / 256, index % 256)}],
                            "destinations": [{"address": "any"}],
                        });
                        let path = "/firewalls/1/filtering-policies/1/rules/";
                        if connection.ask("POST", path, &rule.to_string()).is_err() {
                            break;
                        }
                        let _listening = done.send(()).is_ok();
                    }
                });
            }
            for _ in 0..100 {
                enough.recv().unwrap();
            }
            service.kill();
        });
        let output = verify(folder, &place.url, &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(heads(&text(&output.stdout)).len(), 2);
    }
}

db_test! {
    async fn what_is_wrong_is_named_with_its_event(api: Api) {
        let policy = api.policy().await;
        api.rule(&policy, &json!({})).await;
        let folder = tempfile::tempdir().unwrap();
        let lift = match api.db.database.kind() {
            DatabaseKind::Sqlite => "DROP TRIGGER audit_event_no_update",
            DatabaseKind::Postgres => "ALTER TABLE audit_event DISABLE TRIGGER USER",
        };
        api.db.execute(lift).await;
        api.db.execute("UPDATE audit_event SET subject = 'x' WHERE id = 2").await;
        let output = verify(folder.path(), &api.db.url, &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let printed = text(&output.stdout);
        let broken: Vec<&str> =
            printed.lines().filter(|line| line.starts_with("broken: ")).collect();
        let [guard, event] = &broken[..] else { panic!("{broken:?}") };
        assert!(guard.contains("the trigger audit_event_"), "{guard}");
        let expected = "broken: filtering_policy 1: event 2 (sequence 1): its hash differs from its \
                        content";
        assert_eq!(*event, expected);
        assert!(text(&output.stderr).contains("2 faults"));
    }
}

fn verify_rows(folder: &Path, url: &str, more: &[&str]) -> Output {
    let arguments = [&["verify", "database"][..], more].concat();
    run(folder, &arguments, &[("FIREFLOW_DATABASE_URL", url)])
}

db_test! {
    async fn what_is_derived_is_verified_and_repaired_beside_a_service_that_allows_it(api: Api) {
        let policy = api.policy().await;
        api.rule(&policy, &json!({"labels": {"site": "fra"}})).await;
        let folder = tempfile::tempdir().unwrap();
        let whole = verify_rows(folder.path(), &api.db.url, &[]);
        assert_eq!(whole.status.code(), Some(0), "{whole:?}");
        let last = "1 firewalls, 1 policies and 1 rules, 0 policies left out, 0 faults";
        assert_eq!(text(&whole.stdout).trim_end(), last);
        for spoiled in ["DELETE FROM rule_address", "UPDATE policy SET rule_count = 5"] {
            api.db.execute(spoiled).await;
        }
        let broken = verify_rows(folder.path(), &api.db.url, &[]);
        assert_eq!(broken.status.code(), Some(1), "{broken:?}");
        let lines = [
            "filtering_policy 1: rule_count is 5, but there are 1",
            "firewall_rule 1: rule_address lacks 4 rows and has 0 too many",
        ];
        let with = |word: &str| lines.map(|line| format!("{word}: {line}"));
        let printed = text(&broken.stdout);
        assert_eq!(printed.lines().take(2).collect::<Vec<_>>(), with("broken"));
        assert!(text(&broken.stderr).contains("2 faults"), "{broken:?}");
        let repaired = verify_rows(folder.path(), &api.db.url, &["--repair"]);
        match api.db.database.kind() {
            DatabaseKind::Sqlite => {
                assert_eq!(repaired.status.code(), Some(2), "{repaired:?}");
                assert!(text(&repaired.stderr).contains("is in use by"), "{repaired:?}");
            }
            DatabaseKind::Postgres => {
                assert_eq!(repaired.status.code(), Some(0), "{repaired:?}");
                let printed = text(&repaired.stdout);
                assert_eq!(printed.lines().take(2).collect::<Vec<_>>(), with("repaired"));
                assert!(printed.ends_with("0 faults, 2 repaired\n"), "{printed}");
                assert_eq!(verify_rows(folder.path(), &api.db.url, &[]).status.code(), Some(0));
                assert_eq!(api.get(&policy).await.expect(200)["rule_count"], 1);
            }
        }
    }
}

db_test! {
    async fn policies_that_a_version_cannot_read_are_listed(api: Api) {
        api.policy().await;
        let folder = tempfile::tempdir().unwrap();
        let own = env!("CARGO_PKG_VERSION");
        let ask = || verify_rows(folder.path(), &api.db.url, &["--features", own]);
        assert_eq!(ask().status.code(), Some(0));
        api.db.execute("UPDATE policy SET features = 8").await;
        let output = ask();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let line = "filtering_policy 1 \"in\" of firewall 1: bit 3";
        assert_eq!(text(&output.stdout).lines().next(), Some(line));
        // This version cannot check the derived rows of such a policy.
        let left_out = verify_rows(folder.path(), &api.db.url, &[]);
        assert_eq!(left_out.status.code(), Some(0), "{left_out:?}");
        assert!(text(&left_out.stdout).contains("left out: filtering_policy 1 uses bit 3"));
    }
}

#[tokio::test]
async fn a_sqlite_database_that_nobody_serves_is_repaired() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut service = Service::start(folder, &place.url);
    write(&service);
    service.kill();
    let output = verify_rows(folder, &place.url, &["--repair"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(text(&output.stdout).ends_with("0 faults, 0 repaired\n"), "{output:?}");
}

#[tokio::test]
async fn wrong_usage_of_verify_is_status_2() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let url = [("FIREFLOW_DATABASE_URL", place.url.as_str())];
    let missing = verify(folder, &place.url, &[]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing.stderr).contains("does not exist"), "{missing:?}");
    assert!(!folder.join("fireflow.db").exists(), "verifying makes no database");
    for more in [&[][..], &["--repair"][..], &["--features", "0.0.0"][..]] {
        let missing = verify_rows(folder, &place.url, more);
        assert_eq!(missing.status.code(), Some(2), "{more:?}: {missing:?}");
        assert!(text(&missing.stderr).contains("does not exist"), "{missing:?}");
        assert!(!folder.join("fireflow.db").exists(), "nor does repairing");
    }
    assert_eq!(run(folder, &["migrate", "up"], &url).status.code(), Some(0));
    fs::write(folder.join("torn"), "{\"target\":\"fireflow::audit\",\"message\":\"audit head\"}")
        .unwrap();
    for arguments in [
        &["verify"][..],
        &["verify", "database", "--heads", "torn"],
        &["verify", "database", "--audit", "--repair"],
        &["verify", "database", "--repair", "--features", "0.1.0"],
        &["verify", "database", "--features", "x"],
        &["verify", "database", "--features", "999.0.0"],
        &["verify", "database", "--audit", "--heads", "absent"],
        &["verify", "database", "--audit", "--heads", "torn"],
    ] {
        let output = run(folder, arguments, &url);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
    }
    assert_eq!(verify(folder, &place.url, &[]).status.code(), Some(0));
    let help = text(&run(folder, &["verify", "database", "--help"], &[]).stdout);
    assert!(help.contains("--heads <FILE>") && help.contains("Exit status"), "{help}");
}

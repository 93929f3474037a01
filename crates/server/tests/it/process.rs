//! The binary as its users run it: a separate process that serves over TCP and ends by signals.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::Mutex;

use fireflow_storage::{DatabaseKind, db_test};
use serde_json::{Value, json};

use crate::cluster::wait_until;
use crate::service::{PATIENCE, Place, Service, binary, run, text};
use crate::support::{plain_rule, tcp};

db_test! {
    async fn a_process_killed_in_the_middle_of_writes_loses_nothing_that_it_acknowledged(place: Place) {
        let folder = place.folder.path();
        let acknowledged: Mutex<BTreeMap<i64, String>> = Mutex::default();
        for round in 0..3 {
            let mut service = Service::start(folder, &place.url);
            std::thread::scope(|scope| {
                for writer in 0..8 {
                    let mut connection = service.connect();
                    let acknowledged = &acknowledged;
                    scope.spawn(move || {
                        for index in 0.. {
                            let name = format!("r{round} w{writer} i{index}");
                            let body = json!({"name": name}).to_string();
                            // The kill breaks the connection.
                            let Ok((status, made)) = connection.ask("POST", "/firewalls/", &body)
                            else {
                                break;
                            };
                            assert_eq!(status, 201, "{made}");
                            let id = made["id"].as_i64().unwrap();
                            acknowledged.lock().unwrap().insert(id, name);
                        }
                    });
                }
                // The kill comes in the middle of writes: some of this round are acknowledged,
                // others are under way.
                let is_known = |it: &str| it.starts_with(&format!("r{round} "));
                wait_until("the writes of this round", PATIENCE, || {
                    let acknowledged = acknowledged.lock().unwrap();
                    acknowledged.values().filter(|it| is_known(it)).count() > 24
                });
                service.kill();
            });
        }
        let acknowledged = acknowledged.into_inner().unwrap();
        let service = Service::start(folder, &place.url);
        let mut connection = service.connect();
        let mut found = BTreeMap::new();
        for page in 1.. {
            let path = format!("/firewalls/?page_size=1000&page={page}");
            let (_, list) = connection.ask("GET", &path, "").unwrap();
            let items = list["items"].as_array().unwrap();
            if items.is_empty() {
                break;
            }
            for item in items {
                found.insert(item["id"].as_i64().unwrap(), item["name"].as_str().unwrap().to_owned());
            }
        }
        for (id, name) in &acknowledged {
            assert_eq!(found.get(id), Some(name), "lost: {id}");
        }
    }
}

db_test! {
    async fn sixty_four_writers_at_once_see_no_error(place: Place) {
        let service = Service::start(place.folder.path(), &place.url);
        let mut connection = service.connect();
        let (_, firewall) = connection.ask("POST", "/firewalls/", "{\"name\": \"edge\"}").unwrap();
        let policies = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
        let body = "{\"name\": \"in\", \"default_action\": \"DENY\"}";
        let (_, policy) = connection.ask("POST", &policies, body).unwrap();
        let policy = format!("{policies}{}/", policy["id"]);
        let rules = format!("{policy}rules/");
        std::thread::scope(|scope| {
            for writer in 0..64 {
                let (mut connection, rules) = (service.connect(), &rules);
                scope.spawn(move || {
                    for index in 0..5 {
                        let body = json!({
                            "action": "ALLOW",
                            "priority": index,
                            "sources": [{"address": format!("10.0.{writer}.{index}")}],
                            "destinations": [{"address": "any"}],
                        });
                        let (status, answer) =
                            connection.ask("POST", rules, &body.to_string()).unwrap();
                        assert_eq!(status, 201, "{answer}");
                    }
                });
            }
        });
        let (_, after) = connection.ask("GET", &policy, "").unwrap();
        assert_eq!((&after["rule_count"], &after["revision"]), (&json!(320), &json!(321)));
    }
}

#[tokio::test]
async fn a_second_process_on_a_sqlite_file_is_told_who_has_it() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut first = Service::start(folder, &place.url);
    for command in [&["serve"][..], &["migrate", "up"], &["migrate", "reset"]] {
        let second = run(folder, command, &[("FIREFLOW_DATABASE_URL", &place.url)]);
        assert_eq!(second.status.code(), Some(2));
        let message = text(&second.stderr);
        let holder = format!("process {}", first.child.id());
        assert!(message.contains(&holder) && message.contains("PostgreSQL"), "{message}");
    }
    // However the first process ends, its lock ends with it.
    first.kill();
    let after = run(folder, &["migrate", "status"], &[("FIREFLOW_DATABASE_URL", &place.url)]);
    assert_eq!(after.status.code(), Some(0));
    assert!(text(&after.stdout).starts_with("applied  m2026"));
}

#[test]
fn wrong_usage_and_settings_are_one_line_and_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    for (arguments, environment, word) in [
        (&["srve"][..], &[][..], "srve"),
        (&[], &[("FIREFLOW_LISTEN", "8080")], "FIREFLOW_LISTEN"),
        (&[], &[("FIREFLOW_DATABASE_URL", "mysql://root:hunter2@db")], "FIREFLOW_DATABASE_URL"),
        (&[], &[("FIREFLOW_ENVIRONMENT", "production")], "FIREFLOW_JWT_SECRET"),
        (&[], &[("FIREFLOW_ENVIRONMENT", "")], "FIREFLOW_ENVIRONMENT: is empty"),
        (&["--config", "no.toml"], &[], "no.toml"),
        (&["jwt", "--roles", "root"], &[], "known are viewer, editor, admin, health_check"),
        (&["jwt", "--ttl", "forever"], &[], "`30s`"),
    ] {
        let output = run(folder, arguments, environment);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {environment:?}");
        let message = text(&output.stderr);
        assert!(message.contains(word), "{message}");
        assert!(!message.contains("hunter2"), "{message}");
    }
    // The request timeout also limits the attempts to connect.
    let away = [
        ("FIREFLOW_DATABASE_URL", "postgres://me:hunter2@127.0.0.1:1/db"),
        ("FIREFLOW_HTTP__REQUEST_TIMEOUT", "1s"),
    ];
    let output = run(folder, &["migrate", "status"], &away);
    assert_eq!(output.status.code(), Some(1), "the database is away: no wrong setting");
    let message = text(&output.stderr);
    assert!(message.contains("db at 127.0.0.1:1") && !message.contains("hunter2"), "{message}");
}

#[tokio::test]
async fn the_largest_and_the_smallest_numbers_are_served_with() {
    let most = [
        ("FIREFLOW_DATABASE__WRITE_GROUP", "1000000000"),
        ("FIREFLOW_DATABASE__ACQUIRE_TIMEOUT", "36600d"),
        ("FIREFLOW_JWT__MAX_LIFETIME", "36600d"),
        ("FIREFLOW_JWT__LEEWAY", "5m"),
        ("FIREFLOW_HTTP__MAX_BODY_BYTES", "1000000000"),
        ("FIREFLOW_HTTP__MAX_RULE_SET_BYTES", "1000000000"),
        ("FIREFLOW_HTTP__REQUEST_TIMEOUT", "36599d"),
        ("FIREFLOW_HTTP__LIST_TIMEOUT", "36600d"),
        ("FIREFLOW_HTTP__MAX_IN_FLIGHT", "1000000000"),
        ("FIREFLOW_HTTP__MAX_CONNECTIONS", "1000000000"),
        ("FIREFLOW_HTTP__MAX_HEAD_BYTES", "1048576"),
        ("FIREFLOW_HTTP__HEAD_TIMEOUT", "36600d"),
        ("FIREFLOW_HTTP__IDLE_TIMEOUT", "36600d"),
        ("FIREFLOW_HTTP__RATE_LIMIT", "4294967295/s"),
        ("FIREFLOW_HTTP__ADDRESS_RATE_LIMIT", "4294967295/h"),
        ("FIREFLOW_HTTP__STOP_TIMEOUT", "36600d"),
        ("FIREFLOW_INSPECTION__CACHE_BYTES", "1000000000"),
        ("FIREFLOW_INSPECTION__MAX_BOXES", "1000000000"),
        ("FIREFLOW_INSPECTION__MAX_BYTES", "1000000000"),
        ("FIREFLOW_INSPECTION__MAX_TIME", "36600d"),
        ("FIREFLOW_RETENTION__DELETED", "36600d"),
    ];
    let least = most.map(|(name, _)| {
        let value = match name {
            "FIREFLOW_HTTP__MAX_HEAD_BYTES" => "8192",
            "FIREFLOW_HTTP__IDLE_TIMEOUT" => "61s",
            "FIREFLOW_HTTP__REQUEST_TIMEOUT" | "FIREFLOW_HTTP__HEAD_TIMEOUT" => "60s",
            "FIREFLOW_DATABASE__ACQUIRE_TIMEOUT" | "FIREFLOW_HTTP__LIST_TIMEOUT" => "60s",
            "FIREFLOW_HTTP__RATE_LIMIT" | "FIREFLOW_HTTP__ADDRESS_RATE_LIMIT" => "9/h",
            "FIREFLOW_HTTP__MAX_BODY_BYTES" | "FIREFLOW_HTTP__MAX_RULE_SET_BYTES" => "999",
            "FIREFLOW_HTTP__MAX_CONNECTIONS" => "2",
            "FIREFLOW_INSPECTION__MAX_TIME" | "FIREFLOW_RETENTION__DELETED" => "1s",
            "FIREFLOW_HTTP__STOP_TIMEOUT" | "FIREFLOW_JWT__LEEWAY" => "1s",
            "FIREFLOW_JWT__MAX_LIFETIME" => "36600d",
            _ => "1",
        };
        (name, value)
    });
    for settings in [most, least] {
        let place = Place::new(DatabaseKind::Sqlite).await;
        let folder = place.folder.path();
        let mut command = binary(folder);
        command.env("FIREFLOW_DATABASE_URL", &place.url).envs(settings).stderr(Stdio::null());
        let mut service = Service::spawn(folder, &mut command);
        let mut connection = service.connect();
        for (method, path, body, expected) in [
            ("POST", "/firewalls/", json!({"name": "edge"}), 201),
            ("GET", "/firewalls/", Value::Null, 200),
            (
                "POST",
                "/firewalls/1/filtering-policies/",
                json!({"name": "in", "default_action": "DENY"}),
                201,
            ),
            ("POST", "/firewalls/1/filtering-policies/1/rules/", plain_rule(), 201),
            ("GET", "/firewalls/1/filtering-policies/1/rules/", Value::Null, 200),
        ] {
            let body = if body.is_null() { String::new() } else { body.to_string() };
            let (status, answer) = connection.ask(method, path, &body).unwrap();
            assert_eq!(status, expected, "{answer}");
        }
        let packet = tcp("10.0.0.1", "10.0.0.2", 443);
        let inspection = format!("/firewalls/1/filtering-policies/1/inspections/?{packet}");
        assert_eq!(connection.ask("GET", &inspection, "").unwrap().0, 200);
        drop(connection);
        service.signal("-TERM");
        assert_eq!(service.ended().code(), Some(0));
    }
    // More than 10,000 database connections are refused as a wrong setting.
    let folder = tempfile::tempdir().unwrap();
    let many = [("FIREFLOW_DATABASE__MAX_CONNECTIONS", "10001")];
    let refused = run(folder.path(), &["serve"], &many);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("from 1 to 10000"));
}

#[cfg(unix)]
#[test]
fn settings_that_are_not_text_are_never_as_if_they_were_not_set() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
    for (name, value) in [
        (odd(b"FIREFLOW_ENVIRONMENT"), odd(b"production\xff")),
        (odd(b"FIREFLOW_JWT__REVOKED_FILE"), odd(b"/etc/\xe9")),
        (odd(b"FIREFLOW_JWT_SECRET_FILE"), odd(b"/etc/\xe9")),
        (odd(b"FIREFLOW_ENVIRONMENT\xff"), odd(b"production")),
    ] {
        for arguments in [&["serve"][..], &["jwt"], &["migrate", "status"]] {
            let output = binary(folder).args(arguments).env(&name, &value).output().unwrap();
            assert_eq!(output.status.code(), Some(2), "{name:?} {arguments:?}");
            let message = text(&output.stderr);
            assert!(message.contains("not valid UTF-8"), "{message}");
            assert!(message.contains("FIREFLOW_"), "{message}");
        }
    }
    // A file that is not UTF-8, or a link to a missing file, is refused too.
    std::fs::write(folder.join("odd.toml"), b"environment = \"production\xff\"").unwrap();
    let output = run(folder, &["--config", "odd.toml", "jwt"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("odd.toml: is not valid UTF-8"));
    std::os::unix::fs::symlink("gone.toml", folder.join("fireflow.toml")).unwrap();
    assert_eq!(run(folder, &["jwt"], &[]).status.code(), Some(2));
    assert!(!folder.join(".fireflow").exists(), "no secret was made");
}

#[cfg(unix)]
#[test]
fn a_secret_that_is_a_link_to_nowhere_is_refused_by_every_command() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::create_dir(folder.join(".fireflow")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join(".fireflow/jwt-secret")).unwrap();
    for arguments in [&["serve"][..], &["jwt"]] {
        let output = run(folder, arguments, &[("FIREFLOW_LISTEN", "127.0.0.1:0")]);
        let message = text(&output.stderr);
        assert!(output.status.code().is_some_and(|code| code != 0), "{message}");
        assert!(message.contains("is a link to an unreachable file"), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_may_write_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let path = folder.join("secret");
    std::fs::write(&path, format!("# new\n{}\n", OUTSIDE[1].1)).unwrap();
    let settings = [("FIREFLOW_JWT_SECRET_FILE", path.to_str().unwrap())];
    for (mode, is_warned) in [(0o666, true), (0o602, true), (0o644, false), (0o400, false)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let output = run(folder, &["jwt"], &settings);
        let log = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{log}");
        assert_eq!(log.contains("can be written by everyone"), is_warned, "{mode:o}: {log}");
    }
}

#[test]
fn a_token_is_printed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let output = run(folder, &["jwt", "--user", "ann", "--roles", "viewer,editor"], &[]);
    let token = text(&output.stdout);
    assert_eq!(token.trim().split('.').count(), 3);
    assert_eq!(token.lines().count(), 1);
    let file = folder.canonicalize().unwrap().join(".fireflow/jwt-secret");
    let secret = std::fs::read(&file).unwrap();
    let notes = text(&output.stderr);
    assert!(!notes.contains(&text(&secret)));
    // A token of another folder's secret works nowhere: so it is said which secret it was.
    assert!(notes.contains(&format!("generated the secret {}", file.display())), "{notes}");
    let notes = text(&run(folder, &["jwt"], &[]).stderr);
    assert!(notes.contains(&format!("signed with the secret {}", file.display())), "{notes}");
    let given = [("FIREFLOW_JWT_SECRET", OUTSIDE[1].1)];
    let notes = text(&run(folder, &["jwt"], &given).stderr);
    assert!(notes.contains("secret of FIREFLOW_JWT_SECRET"), "{notes}");

    let outside = OUTSIDE;
    let output = run(folder, &["jwt"], &outside);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--user"));
    let all = ["jwt", "--user", "ann", "--roles", "viewer", "--ttl", "1h"];
    let output = run(folder, &all, &outside);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("a token was issued"));
    let long = ["jwt", "--user", "ann", "--roles", "viewer", "--ttl", "30d"];
    assert_eq!(run(folder, &long, &outside).status.code(), Some(2));
}

#[cfg(unix)]
#[tokio::test]
async fn a_service_ends_cleanly_when_it_is_told_to() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut service = Service::start(folder, &place.url);
    let address = service.address.clone();
    let listen = [("FIREFLOW_LISTEN", address.as_str())];
    assert_eq!(run(folder, &["healthcheck"], &listen).status.code(), Some(0));
    // From another machine the URL is enough, without the service's settings.
    let (good, bad) =
        (format!("http://{}", service.address), format!("https://{}", service.address));
    let outside = [("FIREFLOW_ENVIRONMENT", "production")];
    assert_eq!(run(folder, &["healthcheck", "--url", &good], &outside).status.code(), Some(0));
    assert_eq!(run(folder, &["healthcheck", "--url", &bad], &outside).status.code(), Some(2));
    let (status, _) = service.connect().ask("POST", "/firewalls/", "{\"name\": \"x\"}").unwrap();
    assert_eq!(status, 201);
    service.signal("-TERM");
    assert_eq!(service.ended().code(), Some(0));
    assert_eq!(run(folder, &["healthcheck"], &listen).status.code(), Some(1));
}

#[test]
fn help_lists_every_setting() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [
        &["--help", "settings"][..],
        &["serve", "--help", "settings"],
        &["help", "settings"],
        &["settings"],
    ] {
        let output = run(folder.path(), arguments, &[]);
        assert_eq!(output.status.code(), Some(0));
        let help = text(&output.stdout);
        for setting in fireflow::settings::SETTINGS {
            assert!(help.contains(setting.variable), "{}", setting.variable);
        }
    }
    for arguments in [&["--help"][..], &["serve", "--help"]] {
        let help = text(&run(folder.path(), arguments, &[]).stdout);
        assert!(help.lines().count() < 40, "it fits on a screen:\n{help}");
        for word in ["FIREFLOW_LISTEN", "FIREFLOW_DATABASE_URL", "--help settings"] {
            assert!(help.contains(word), "{word}");
        }
    }
    let serve = text(&run(folder.path(), &["serve", "--help"], &[]).stdout);
    assert!(serve.contains("--listen <ADDRESS:PORT>"), "{serve}");
    let refused = run(folder.path(), &["serve", "--listen", "8080"], &[]);
    assert_eq!(refused.status.code(), Some(2));
    let output = run(folder.path(), &["openapi"], &[]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["info"]["title"], "FireFlow");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "and leaves nothing behind");
}

/// The settings that a service outside `local` needs.
const OUTSIDE: [(&str, &str); 4] = [
    ("FIREFLOW_ENVIRONMENT", "production"),
    ("FIREFLOW_JWT_SECRET", "6f1c0f4b9a52e7d83c41b7a0f95e26d8c3b47a19e05f82d6417c9be8a3d05f72"),
    ("FIREFLOW_JWT__ISSUER", "idp"),
    ("FIREFLOW_JWT__AUDIENCE", "fireflow"),
];

#[test]
fn the_demo_is_made_once_and_only_in_local() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let refused = run(folder, &["demo"], &OUTSIDE);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("requires FIREFLOW_ENVIRONMENT=local"));
    let first = run(folder, &["demo"], &[]);
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    assert_eq!(text(&first.stderr), "", "its requests are not logged");
    let told = text(&first.stdout);
    assert_eq!(told.matches("\ncurl -s -H ").count(), 4);
    for answer in
        ["\"name\":\"web\"", "\"name\":\"dns\"", "\"name\":\"no-ssh\",\"action\":\"REJECT\""]
    {
        assert!(told.contains(answer), "{told}");
    }
    let again = run(folder, &["demo"], &[]);
    assert_eq!((again.status.code(), text(&again.stdout)), (Some(0), told));
}

#[tokio::test]
async fn what_was_deleted_is_purged_by_command_too() {
    let place = Place::new(DatabaseKind::Sqlite).await;
    let folder = place.folder.path();
    let mut service = Service::start(folder, &place.url);
    let mut connection = service.connect();
    for name in ["a", "b"] {
        let body = json!({"name": name}).to_string();
        assert_eq!(connection.ask("POST", "/firewalls/", &body).unwrap().0, 201);
    }
    assert_eq!(connection.ask("DELETE", "/firewalls/1/", "").unwrap().0, 204);
    let database = [("FIREFLOW_DATABASE_URL", place.url.as_str())];
    let in_use = run(folder, &["purge", "--older-than", "0s"], &database);
    assert_eq!(in_use.status.code(), Some(2), "the service has it, and purges itself");
    service.kill();
    for (age, told) in [
        ("90d", "removed 0 firewalls, 0 policies, 0 rules and 0 stored answers\n"),
        ("0s", "removed 1 firewalls, 0 policies, 0 rules and 0 stored answers\n"),
    ] {
        let output = run(folder, &["purge", "--older-than", age], &database);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), told.to_owned()));
    }
    assert_eq!(run(folder, &["purge", "--older-than", "old"], &database).status.code(), Some(2));
    let again = Service::start(folder, &place.url);
    let (_, list) = again.connect().ask("GET", "/firewalls/", "").unwrap();
    assert_eq!(list["total"], 1);
}

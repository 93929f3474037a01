//! Files of keys, secrets and revocations that change while the service runs. Removed entries are
//! withdrawn, unreadable content changes nothing for a while, and every state is visible.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fireflow_auth::{
    Authenticator, KeyFile, KeyFileState, KeyFileStatus, KeyFiles, ReloadHandle, watch,
};
use fireflow_domain::actor::Role;
use fireflow_storage::DatabaseKind;
use fireflow_storage::testing::TestDatabase;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::signers::{Files, Signer, accepts, authenticator, claims, cut, now, until, why, with};
use crate::support::Api;

/// Secrets as `openssl rand -hex 32` makes them.
const OLD: &str = "6f1c0f4b9a52e7d83c41b7a0f95e26d8c3b47a19e05f82d6417c9be8a3d05f72";
const NEW: &str = "b20e7d91c6a8f35402d9be1773c5f0a86d4e91b2087cf3a65ed10b94c72f8e3a";

fn signed(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

/// A watcher that reads the files on request.
struct Watching {
    authenticator: Authenticator,
    reload: ReloadHandle,
    task: JoinHandle<()>,
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watching {
    async fn new(files: KeyFiles) -> Self {
        let authenticator = authenticator(&files);
        let reload = authenticator.reload_handle();
        // A short interval, because a file must also stay unchanged for that long before it takes
        // effect.
        let every = Duration::from_millis(5);
        let task = tokio::spawn(watch(files, authenticator.clone(), every));
        reload.reload_and_wait().await;
        Self { authenticator, reload, task }
    }

    fn accepts(&self, token: &str) -> bool {
        accepts(&self.authenticator, token)
    }

    async fn read(&self) {
        self.reload.reload_and_wait().await;
    }

    fn status(&self, file: KeyFile) -> KeyFileStatus {
        self.authenticator.key_files().into_iter().find(|status| status.file == file).unwrap()
    }

    /// Reads until a file's fault contains a word.
    async fn until_fault(&self, file: KeyFile, word: &str) {
        until(word, || self.status(file).fault.is_some_and(|fault| fault.contains(word))).await;
    }

    async fn until_well(&self, file: KeyFile) {
        until("a file is well", || {
            let status = self.status(file);
            status.state == KeyFileState::Current && status.fault.is_none()
        })
        .await;
    }
}

fn with_secret_file(files: &Files, text: &str) -> KeyFiles {
    let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
    trust.public_keys = None;
    trust.secrets = Vec::new();
    trust.secret_file = Some(files.write("secret", text));
    trust
}

#[tokio::test]
async fn a_secret_that_its_file_leaves_out_opens_nothing_whatever_else_the_file_holds() {
    let files = Files::new();
    let (old, new) = (signed(OLD, &claims()), signed(NEW, &claims()));
    let spki: String = Signer::new(Algorithm::ES256, None)
        .public_pem()
        .lines()
        .filter(|line| !line.starts_with("--"))
        .collect();
    for (text, word, is_new_good) in [
        ("short\n".to_owned(), "line 1 is too short", false),
        (String::new(), "contains no secret", false),
        (" \n\n".to_owned(), "contains no secret", false),
        (format!("# {OLD}\n"), "contains no secret", false),
        (format!("short\n{NEW}\n"), "line 1 is too short", true),
        (format!("{NEW}\npassword password password password\n"), "line 2 can be guessed", true),
        (format!("{}\n", cut(OLD, 44)), "too short", false),
        (format!("{NEW}\n{spki}\n"), "in base64", false),
        (Signer::new(Algorithm::ES256, None).public_pem(), "in PEM", false),
        (json!({"keys": [{"kty": "oct", "k": OLD}]}).to_string(), "JSON", false),
    ] {
        let watching = Watching::new(with_secret_file(&files, &format!("{OLD}\n"))).await;
        assert!(watching.accepts(&old) && !watching.accepts(&new));
        files.write("secret", &text);
        watching.until_fault(KeyFile::Secrets, word).await;
        assert!(!watching.accepts(&old), "{text}");
        assert_eq!(watching.accepts(&new), is_new_good, "{text}");
        let status = watching.status(KeyFile::Secrets);
        assert_eq!(status.state, KeyFileState::Current, "nothing was kept");
        assert_eq!(status.entries, usize::from(is_new_good));
        assert!(!status.fault.unwrap().contains(OLD));
        files.write("secret", &format!("# both, while it is changed\n{NEW}\n{OLD}\n"));
        watching.until_well(KeyFile::Secrets).await;
        assert!(watching.accepts(&old) && watching.accepts(&new));
    }
}

#[tokio::test]
async fn a_page_that_holds_no_key_changes_nothing_and_is_seen() {
    let files = Files::new();
    let signer = Signer::new(Algorithm::ES256, Some("a"));
    let good = json!({"keys": [signer.jwk()]}).to_string();
    let token = signer.sign(&claims());
    let watching = Watching::new(files.trusting(&good)).await;
    let mut private = signer.jwk();
    private["d"] = json!("AAAA");
    for (page, word) in [
        ("<!DOCTYPE html><title>502 Bad Gateway</title>".to_owned(), "a page of HTML"),
        ("{}".to_owned(), "no `keys`"),
        (json!({"error": "realm does not exist"}).to_string(), "no `keys`"),
        (String::new(), "is empty"),
        ("\u{feff}".to_owned(), "is empty"),
        (json!({"keys": []}).to_string(), "`keys` is empty"),
        (json!({"keys": [private]}).to_string(), "private key"),
        (cut(&good, 9).to_owned(), "is not a JWKS"),
        ("[]".to_owned(), "no `keys`"),
        ("upstream timed out".to_owned(), "neither a JWKS nor PEM"),
        (cut(&signer.public_pem(), 60).to_owned(), "block 1 is truncated"),
        ("x".repeat(4 * 1024 * 1024 + 1), "larger than"),
    ] {
        files.write("keys", &page);
        watching.until_fault(KeyFile::PublicKeys, word).await;
        assert!(watching.accepts(&token), "{word}");
        let status = watching.status(KeyFile::PublicKeys);
        assert_eq!((status.state, status.entries), (KeyFileState::Kept, 1), "{word}");
        let failures = status.failures;
        watching.read().await;
        assert!(watching.status(KeyFile::PublicKeys).failures > failures, "each reading counts");
        // Valid content is accepted again, even with a byte order mark.
        files.write("keys", &format!("\u{feff}{good}"));
        watching.until_well(KeyFile::PublicKeys).await;
        assert!(watching.accepts(&token));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn what_cannot_be_read_keeps_the_keys_and_is_never_waited_for() {
    let files = Files::new();
    let mut trust = with_secret_file(&files, &format!("{OLD}\n"));
    let signer = Signer::new(Algorithm::EdDSA, None);
    trust.public_keys = Some(files.write("keys", &signer.public_pem()));
    let tokens = [signed(OLD, &claims()), signer.sign(&claims())];
    let watching = Watching::new(trust).await;
    let parts = [(KeyFile::Secrets, "secret"), (KeyFile::PublicKeys, "keys")];
    let nothing: fn(&Path) = |_| {};
    let folder: fn(&Path) = |path| std::fs::create_dir(path).unwrap();
    let circle: fn(&Path) = |path| std::os::unix::fs::symlink(path, path).unwrap();
    let pipe: fn(&Path) = |path| {
        let made = std::process::Command::new("mkfifo").arg(path).status().unwrap();
        assert!(made.success());
    };
    let faults = [
        (nothing, "No such file"),
        (folder, "not a regular file"),
        (circle, "symbolic links"),
        (pipe, "not a regular file"),
    ];
    for (file, name) in parts {
        let path = files.folder.path().join(name);
        let text = std::fs::read_to_string(&path).unwrap();
        for (make, word) in faults {
            std::fs::remove_file(&path).unwrap();
            make(&path);
            watching.until_fault(file, word).await;
            assert_eq!(watching.status(file).state, KeyFileState::Kept, "{word}");
            assert!(tokens.iter().all(|token| watching.accepts(token)), "{word}");
            if path.is_dir() {
                std::fs::remove_dir(&path).unwrap();
            }
            files.write(name, &text);
            watching.until_well(file).await;
        }
    }
}

#[tokio::test]
async fn keys_that_nothing_proves_for_too_long_are_withdrawn() {
    let files = Files::new();
    let signer = Signer::new(Algorithm::ES256, None);
    let mut trust = with_secret_file(&files, &format!("{OLD}\n"));
    trust.public_keys = Some(files.write("keys", &signer.public_pem()));
    trust.grace = Duration::from_millis(100);
    let (of_secret, of_key) = (signed(OLD, &claims()), signer.sign(&claims()));
    let watching = Watching::new(trust).await;
    // Replacing one useless page by another does not extend the time.
    let mut pages = ["{}", "<html>", "[]"].iter().cycle();
    until("the key is withdrawn", || {
        files.write("keys", pages.next().unwrap());
        !watching.accepts(&of_key)
    })
    .await;
    assert!(watching.accepts(&of_secret), "the other file is well");
    let withdrawn = || watching.status(KeyFile::PublicKeys);
    until("it is reported", || withdrawn().state == KeyFileState::Withdrawn).await;
    assert_eq!(withdrawn().entries, 0);
    std::fs::remove_file(files.folder.path().join("secret")).unwrap();
    until("the secret is withdrawn", || !watching.accepts(&of_secret)).await;
    // Both take effect again when their files are restored.
    files.write("keys", &signer.public_pem());
    files.write("secret", OLD);
    watching.until_well(KeyFile::PublicKeys).await;
    watching.until_well(KeyFile::Secrets).await;
    assert!(watching.accepts(&of_key) && watching.accepts(&of_secret));
}

#[tokio::test]
async fn a_set_with_a_broken_key_withdraws_what_it_leaves_out_and_says_so() {
    let files = Files::new();
    let [one, two] = ["1", "2"].map(|kid| Signer::new(Algorithm::ES256, Some(kid)));
    let both = format!("{}{}", one.public_pem(), two.public_pem());
    let watching = Watching::new(files.trusting(&both)).await;
    let [one_token, two_token] = [&one, &two].map(|it| it.sign(&claims()));
    assert!(watching.accepts(&one_token) && watching.accepts(&two_token));
    files.write("keys", cut(&both, 40));
    watching.until_fault(KeyFile::PublicKeys, "block 2 is truncated").await;
    assert!(watching.accepts(&one_token) && !watching.accepts(&two_token));
    let status = watching.status(KeyFile::PublicKeys);
    assert_eq!((status.state, status.entries), (KeyFileState::Current, 1));
}

#[tokio::test]
async fn revocations_are_never_fewer_than_what_was_proven() {
    let files = Files::new();
    let mut trust = with_secret_file(&files, &format!("{OLD}\n"));
    trust.revoked = Some(files.write("revoked", "# a stolen laptop\njti 7\n"));
    trust.grace = Duration::ZERO;
    let revoked = signed(OLD, &with("jti", json!("7")));
    let other = signed(OLD, &with("jti", json!("8")));
    let watching = Watching::new(trust).await;
    let is_safe = || !watching.accepts(&revoked) && watching.accepts(&other);
    assert!(is_safe());
    let path = files.folder.path().join("revoked");
    for (text, word) in [
        (Some(""), "is empty"),
        (Some(" \n"), "is empty"),
        (Some("jti\n"), "line 1"),
        (Some("<html>\n"), "line 1"),
        (None, "No such file"),
    ] {
        match text {
            Some(text) => drop(files.write("revoked", text)),
            None => std::fs::remove_file(&path).unwrap(),
        }
        watching.until_fault(KeyFile::Revocations, word).await;
        // This does not depend on how long it lasts.
        watching.read().await;
        watching.read().await;
        assert!(is_safe(), "{word}");
        files.write("revoked", "jti 7\n");
        watching.until_well(KeyFile::Revocations).await;
    }
    // A new entry applies even if another line is unreadable or missing.
    files.write("revoked", "jti 7\njti 8\nnonsense\n");
    until("both are refused", || !watching.accepts(&other)).await;
    assert!(!watching.accepts(&revoked));
    // Only a readable file without the entries removes them.
    files.write("revoked", "# none\n");
    until("both are taken", || watching.accepts(&other) && watching.accepts(&revoked)).await;
    watching.until_well(KeyFile::Revocations).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_withdrawn_under_load_opens_nothing_from_then_on() {
    let files = Files::new();
    let [old, new] = ["2025", "2026"].map(|kid| Signer::new(Algorithm::ES256, Some(kid)));
    let both = json!({"keys": [old.jwk(), new.jwk()]}).to_string();
    let trust = files.trusting(&both);
    let authenticator = authenticator(&trust);
    let [old_token, new_token] = [&old, &new].map(|it| it.sign(&claims()));
    let is_over = Arc::new(AtomicBool::new(false));
    let (checks, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut load = Vec::new();
    for _ in 0..4 {
        let (authenticator, old_token) = (authenticator.clone(), old_token.clone());
        let new_token = new_token.clone();
        let (is_over, checks, refused) =
            (Arc::clone(&is_over), Arc::clone(&checks), Arc::clone(&refused));
        load.push(std::thread::spawn(move || {
            let mut was_refused = false;
            while !is_over.load(Ordering::SeqCst) {
                let is_taken = accepts(&authenticator, &old_token);
                // Once a thread was refused, the token must never be accepted again, whatever was
                // cached or under way.
                assert!(!(was_refused && is_taken), "a withdrawn key opened again");
                if !is_taken && !was_refused {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                was_refused |= !is_taken;
                assert!(accepts(&authenticator, &new_token), "the other key opens all the time");
                checks.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let watcher = tokio::spawn(watch(trust, authenticator.clone(), Duration::from_millis(5)));
    until("the load runs", || checks.load(Ordering::SeqCst) > 2_000).await;
    assert_eq!(refused.load(Ordering::SeqCst), 0);
    // Unreadable content changes nothing.
    files.write("keys", "{\"keys\": [");
    let seen = checks.load(Ordering::SeqCst);
    until("it goes on", || checks.load(Ordering::SeqCst) > seen + 2_000).await;
    assert_eq!(refused.load(Ordering::SeqCst), 0);
    files.write("keys", &json!({"keys": [new.jwk()]}).to_string());
    until("all threads are refused", || refused.load(Ordering::SeqCst) == 4).await;
    is_over.store(true, Ordering::SeqCst);
    for thread in load {
        thread.join().unwrap();
    }
    watcher.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_and_revocations_change_without_a_restart() {
    let files = Files::new();
    let mut trust = with_secret_file(&files, OLD);
    trust.revoked = Some(files.write("revoked", ""));
    let authenticator = authenticator(&trust);
    let (old, new) = (signed(OLD, &with("jti", json!("7"))), signed(NEW, &claims()));
    let watcher = tokio::spawn(watch(trust, authenticator.clone(), Duration::from_millis(5)));
    assert!(accepts(&authenticator, &old) && !accepts(&authenticator, &new));

    files.write("secret", &format!("{NEW}\n{OLD}\n"));
    until("the new one opens too", || accepts(&authenticator, &new)).await;
    assert!(accepts(&authenticator, &old));
    // A line that cannot be parsed does not affect the other lines.
    files.write("revoked", "nonsense\njti 7\n");
    until("one token is refused", || !accepts(&authenticator, &old)).await;
    assert_eq!(why(&authenticator, &old), "the token was revoked");
    assert!(accepts(&authenticator, &new));
    files.write("revoked", &format!("jti 7\nsub ann {}\n", now()));
    until("all of a subject are refused", || !accepts(&authenticator, &new)).await;
    // A truncated line removes no revocation.
    files.write("revoked", "jti 7\nsub ann 2026-11\n");
    authenticator.reload_handle().reload_and_wait().await;
    assert!(!accepts(&authenticator, &new));
    files.write("revoked", "# nobody\n");
    until("and taken again", || accepts(&authenticator, &new)).await;
    watcher.abort();
}

#[tokio::test]
async fn files_are_read_at_once_when_that_is_asked_for() {
    let files = Files::new();
    let [old, new] = ["2025", "2026"].map(|kid| Signer::new(Algorithm::ES256, Some(kid)));
    let trust = files.trusting(&json!({"keys": [old.jwk()]}).to_string());
    let authenticator = authenticator(&trust);
    let [old_token, new_token] = [&old, &new].map(|it| it.sign(&claims()));
    let reload = authenticator.reload_handle();
    // Without a request, the watcher would read the files again a day later.
    let tomorrow = Duration::from_secs(86_400);
    let watcher = tokio::spawn(watch(trust, authenticator.clone(), tomorrow));
    reload.reload_and_wait().await;
    assert!(accepts(&authenticator, &old_token) && !accepts(&authenticator, &new_token));
    files.write("keys", &json!({"keys": [new.jwk()]}).to_string());
    reload.reload_and_wait().await;
    assert!(accepts(&authenticator, &new_token) && !accepts(&authenticator, &old_token));
    watcher.abort();
}

/// Probes and dashboards see the fault with the role that they have.
#[tokio::test]
async fn health_and_metrics_show_a_file_that_is_not_well() {
    let files = Files::new();
    let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
    trust.rules = fireflow_auth::TokenRules::default();
    trust.revoked = Some(files.write("revoked", "# none\n"));
    let watching = Watching::new(trust).await;
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    let api = Api::built(db, |app, _| app.authenticator = watching.authenticator.clone());
    let probe = api.token_for(&[Role::HealthCheck], None);
    let health = || async { api.send("GET", "/health/", &probe, &[], None).await.expect(200) };
    let page = || async {
        api.send("GET", "/metrics", &probe, &[("accept", "text/plain")], None).await.text
    };
    let of_keys = |state: &str, fault: Value| json!({"file": "public_keys", "state": state, "fault": fault, "entries": 1});
    let of_revocations =
        json!({"file": "revocations", "state": "current", "fault": null, "entries": 0});
    assert_eq!(
        health().await["key_files"],
        json!([of_keys("current", Value::Null), of_revocations])
    );
    let well = page().await;
    assert!(well.contains("fireflow_key_file_ok{file=\"public_keys\"} 1\n"), "{well}");
    assert!(well.contains("fireflow_key_file_failures_total{file=\"public_keys\"} 0\n"), "{well}");
    files.write("keys", "<html>");
    watching.until_fault(KeyFile::PublicKeys, "HTML").await;
    let shown = health().await;
    let fault = &shown["key_files"][0]["fault"];
    assert_eq!(shown["key_files"][0], of_keys("kept", fault.clone()));
    assert!(fault.as_str().unwrap().contains("HTML"), "{fault}");
    assert_eq!(shown["is_ready"], true, "requests are still served");
    let page = page().await;
    assert!(page.contains("fireflow_key_file_ok{file=\"public_keys\"} 0\n"), "{page}");
    assert!(page.contains("fireflow_key_file_ok{file=\"revocations\"} 1\n"), "{page}");
    assert!(page.contains("fireflow_key_file_entries{file=\"public_keys\"} 1\n"), "{page}");
    assert!(!page.contains("fireflow_key_file_failures_total{file=\"public_keys\"} 0\n"), "{page}");
}

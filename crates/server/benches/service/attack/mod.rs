//! All attacks that were tried, or could be tried, to make the service stop. Each runs against a
//! fresh process with default settings. The report shows the process's peak memory, the latencies
//! of `/health/live` and of a bystander's requests, and the bystander's statuses.
//!
//! `FIREFLOW_BENCH_OTHER` names another build of `fireflow` to attack instead of this one, so the
//! same program can measure the state before a change. `FIREFLOW_BENCH_ONLY` selects the attacks
//! whose names contain it.

mod attacks;
mod raw;
mod watch;

use std::path::PathBuf;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::load::Connection;
use crate::{Server, settled};
use attacks::ATTACKS;
use raw::Target;
use watch::{Seen, Watch};

/// The limits: peak resident bytes, and milliseconds.
const MAX_PEAK_BYTES: f64 = 400e6;
const MAX_LIVE_MS: f64 = 250.0;
const MAX_P99_MS: f64 = 250.0;
const MAX_MS: f64 = 1_000.0;
/// How much memory a process may hold a minute after an attack, as a multiple of its memory at
/// rest. Caches are not counted.
const MAX_KEPT: f64 = 1.2;
/// How long memory may take to shrink again.
const SETTLE: Duration = Duration::from_secs(60);
/// The number of rules in the large policy, whose lists are expensive and whose exports are long.
const LARGE: usize = 20_000;

/// Runs every attack on SQLite, and on PostgreSQL if a server is named.
pub(crate) fn attack() -> ExitCode {
    let only = std::env::var("FIREFLOW_BENCH_ONLY").unwrap_or_default();
    let postgres = std::env::var("FIREFLOW_BENCH_POSTGRES_URL").ok();
    let mut has_held = true;
    for (database, url) in [("SQLite", None), ("PostgreSQL", postgres.as_deref())] {
        if database == "PostgreSQL" && url.is_none() {
            println!("\nPostgreSQL: not measured, FIREFLOW_BENCH_POSTGRES_URL names no server");
            continue;
        }
        let place = Prepared::new(url);
        println!("\n{database}");
        println!(
            "  {:48} {:>7} {:>7} {:>7} {:>8} {:>8} {:>8} {:>6}  refused",
            "attack", "rest MB", "peak MB", "later", "live ms", "p99 ms", "max ms", "asked"
        );
        for attack in ATTACKS.iter().filter(|it| it.name.contains(&only)) {
            has_held &= place.attacked_by(attack);
        }
    }
    println!("\n{}", if has_held { "held" } else { "DID NOT HOLD" });
    if has_held { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One attack: the requests that it sends until it returns.
struct Attack {
    name: &'static str,
    run: fn(Target) -> futures_util::future::BoxFuture<'static, ()>,
}

/// A filled database, and the tokens of its clients.
struct Prepared {
    folder: tempfile::TempDir,
    url: String,
}

impl Prepared {
    fn new(postgres: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = match postgres {
            Some(url) => url.to_owned(),
            None => format!("sqlite://{}/fireflow.db", folder.path().display()),
        };
        let place = Self { folder, url };
        let settings = [
            ("FIREFLOW_HTTP__REQUEST_TIMEOUT", "300s"),
            ("FIREFLOW_HTTP__IDLE_TIMEOUT", "600s"),
            ("FIREFLOW_HTTP__RATE_LIMIT", "off"),
            ("FIREFLOW_HTTP__ADDRESS_RATE_LIMIT", "off"),
        ];
        let server = place.start(&settings);
        let token = place.token("filler", "admin");
        let runtime = runtime();
        runtime.block_on(async {
            let mut connection = connect(&server.address, &token).await;
            for (path, body) in [
                ("/firewalls/", json!({"name": "edge"})),
                (POLICIES, json!({"name": "small", "default_action": "DENY"})),
                (POLICIES, json!({"name": "large", "default_action": "DENY"})),
                (POLICIES, json!({"name": "wide", "default_action": "DENY"})),
                (POLICIES, json!({"name": "target", "default_action": "DENY"})),
                (POLICIES, json!({"name": "sets", "default_action": "DENY"})),
                (POLICIES, json!({"name": "costly", "default_action": "DENY"})),
            ] {
                let status = connection.ask("POST", path, &body.to_string()).await.unwrap();
                assert_eq!(status, 201, "{path}");
            }
            for (policy, rules) in
                [(1, rules(10, 1, 10)), (2, rules(LARGE, 1, 40)), (3, rules(1_000, 100, 3_900))]
            {
                let path = format!("{POLICIES}{policy}/rules/");
                let status = connection.ask("PUT", &path, &rules.to_string()).await.unwrap();
                let answer = String::from_utf8_lossy(connection.body());
                assert_eq!(status, 200, "{path}: {answer}");
            }
        });
        place
    }

    fn command(&self) -> Command {
        let program = std::env::var_os("FIREFLOW_BENCH_OTHER").map(PathBuf::from);
        let program = program.unwrap_or_else(|| std::env::current_exe().unwrap());
        let mut command = settled(Command::new(program), self.folder.path());
        // The limits keep their defaults, since the attacks test them.
        command
            .env_remove("FIREFLOW_HTTP__RATE_LIMIT")
            .env_remove("FIREFLOW_HTTP__ADDRESS_RATE_LIMIT")
            .env("FIREFLOW_DATABASE_URL", &self.url);
        command
    }

    fn start(&self, settings: &[(&str, &str)]) -> Server {
        let mut serve = self.command();
        serve.arg("serve").envs(settings.iter().copied());
        Server::start(&mut serve, String::new())
    }

    fn token(&self, user: &str, roles: &str) -> String {
        let mut jwt = self.command();
        let output = jwt.args(["jwt", "--user", user, "--roles", roles]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Runs one attack against a fresh process and returns whether all limits held.
    fn attacked_by(&self, attack: &Attack) -> bool {
        let server = self.start(&[]);
        let target = Target {
            address: server.address.clone(),
            viewer: self.token("mallory", "viewer"),
            editor: self.token("mallory", "editor"),
            probe: self.token("prober", "health_check"),
        };
        let bystander = self.token("alice", "viewer");
        let rest = at_rest(&server, &bystander);
        let watch = Watch::start(&server, &bystander);
        let run = attack.run;
        let token = self.token("prober", "health_check");
        // The attack has its own thread and runtime, so that its cost does not delay the watch.
        std::thread::spawn(move || runtime().block_on(run(target))).join().unwrap();
        let seen = watch.end();
        let start = Instant::now();
        let without_caches = || resident_bytes(&server.child) - cached_bytes(&server, &token);
        let mut later = without_caches();
        while later > rest * MAX_KEPT && start.elapsed() < SETTLE {
            std::thread::sleep(Duration::from_millis(500));
            later = without_caches();
        }
        report(attack.name, rest, &seen, later)
    }
}

/// The policies of the only firewall.
const POLICIES: &str = "/firewalls/1/filtering-policies/";

/// The given number of rules, each with `sources` sources and a description of `text` characters.
fn rules(count: usize, sources: usize, text: usize) -> Value {
    let rule = |index: usize| {
        let sources: Vec<Value> = (0..sources)
            .map(|source| {
                let (high, low) = (index / 256, index % 256);
                json!({"address": format!("10.{}.{low}.{}", (high + source * 3) % 256, source % 256)})
            })
            .collect();
        json!({
            "action": "ALLOW", "protocols": ["tcp"], "description": "x".repeat(text),
            "sources": sources,
            "destinations": [{"address": format!("172.{}.{}.{}", 16 + index / 65_536, index / 256 % 256, index % 256), "port": 443}],
        })
    };
    Value::Array((0..count).map(rule).collect())
}

/// The memory of a process that has answered a few requests and is idle.
fn at_rest(server: &Server, token: &str) -> f64 {
    runtime().block_on(async {
        let mut connection = connect(&server.address, token).await;
        for path in ["/firewalls/1/", watch::VERDICT] {
            for _ in 0..20 {
                assert_eq!(connection.ask("GET", path, "").await.unwrap(), 200, "{path}");
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    resident_bytes(&server.child)
}

async fn connect(address: &str, token: &str) -> Connection {
    Connection::open_to(address, token).await.unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// The size of the caches, as the metrics report it.
fn cached_bytes(server: &Server, token: &str) -> f64 {
    let page = runtime().block_on(async {
        let mut connection = connect(&server.address, token).await;
        let status = connection.ask("GET", "/metrics", "").await;
        assert!(matches!(status, Ok(200)), "the page of metrics: {status:?}");
        String::from_utf8_lossy(connection.body()).into_owned()
    });
    page.lines()
        .filter(|line| line.starts_with("fireflow_classifier_cache_bytes"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

/// The resident memory of a process, in bytes.
fn resident_bytes(child: &Child) -> f64 {
    watch::resident_bytes_of(child.id())
}

fn report(name: &str, rest: f64, seen: &Seen, later: f64) -> bool {
    let is_good = seen.peak_bytes < MAX_PEAK_BYTES
        && seen.live_ms < MAX_LIVE_MS
        && seen.p99_ms < MAX_P99_MS
        && seen.max_ms < MAX_MS
        && seen.refused.is_empty()
        && later <= rest * MAX_KEPT;
    println!(
        "  {name:48} {:7.0} {:7.0} {:7.0} {:8.0} {:8.0} {:8.0} {:6}  {}{}",
        rest / 1e6,
        seen.peak_bytes / 1e6,
        later / 1e6,
        seen.live_ms,
        seen.p99_ms,
        seen.max_ms,
        seen.asked,
        if seen.refused.is_empty() { "none".to_owned() } else { format!("{:?}", seen.refused) },
        if is_good { "" } else { "  MISSED" },
    );
    is_good
}

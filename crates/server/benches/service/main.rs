//! Measures the service over HTTP and compares it with handlers that do only the unavoidable work.
//! Both run in the same session and take turns. This process generates the load over persistent
//! connections; the servers are separate processes on the same processors.
//!
//! `FIREFLOW_BENCH_POSTGRES_URL` names a database that may be filled; without it, only SQLite is
//! measured. `FIREFLOW_BENCH_SECONDS` is the length of each measurement. `FIREFLOW_BENCH_OTHER` is
//! another build of `fireflow` to compare with this one.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a measurement prints, and panics if something is wrong"
)]

mod attack;
mod bare;
mod collector;
mod inspections;
mod load;
mod soak;

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use load::{Load, Outcome};

/// The number of rounds; the median is reported.
const ROUNDS: usize = 5;
/// The number of concurrent connections.
const CONNECTIONS: usize = 64;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if let Ok(bare) = std::env::var("FIREFLOW_BENCH_BARE") {
        return bare::serve(&bare);
    }
    match arguments.get(1).map(String::as_str) {
        Some("serve" | "jwt" | "migrate") => fireflow::cli::run(),
        Some("soak") => soak::soak(),
        Some("attack") => attack::attack(),
        Some("inspections") => {
            inspections_alone();
            ExitCode::SUCCESS
        }
        _ => {
            measure();
            ExitCode::SUCCESS
        }
    }
}

/// A server process, which is ended when this is dropped.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) token: String,
}

impl Server {
    /// The service, in its own folder.
    pub(crate) fn fireflow(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let token = String::from_utf8(command(folder).arg("jwt").output().unwrap().stdout).unwrap();
        let mut serve = command(folder);
        serve.arg("serve").envs(settings.iter().copied());
        Self::start(&mut serve, token.trim().to_owned())
    }

    /// Another build of the service, with its log turned off.
    fn other(program: &str, folder: &Path, like: &Self) -> Self {
        let mut serve = settled(Command::new(program), folder);
        serve.arg("serve").env("FIREFLOW_LOG", "off");
        Self::start(&mut serve, like.token.clone())
    }

    /// A handler that does only the unavoidable work; see [`bare`].
    fn bare(folder: &Path, what: &str, database: &str, like: &Self) -> Self {
        let mut serve = command(folder);
        serve.env("FIREFLOW_BENCH_BARE", what).env("FIREFLOW_DATABASE_URL", database);
        Self::start(&mut serve, like.token.clone())
    }

    fn start(command: &mut Command, token: String) -> Self {
        use std::io::BufRead;
        let log = std::fs::File::create("/dev/null").unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let out = std::io::BufReader::new(child.stdout.take().unwrap());
        let line = out.lines().next().unwrap_or_else(|| panic!("no server")).unwrap();
        let address = line.rsplit("http://").next().unwrap().to_owned();
        Self { child, address, token }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _killed = self.child.kill().is_ok();
        let _ended = self.child.wait().is_ok();
    }
}

fn command(folder: &Path) -> Command {
    settled(Command::new(std::env::current_exe().unwrap()), folder)
}

fn settled(mut command: Command, folder: &Path) -> Command {
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("FIREFLOW_")) {
            command.env_remove(name);
        }
    }
    command
        .env("FIREFLOW_LISTEN", "127.0.0.1:0")
        .env("FIREFLOW_LOG_FORMAT", "json")
        // The load comes from one subject at one address. The limits are out of reach, but the
        // requests are still counted.
        .env("FIREFLOW_HTTP__RATE_LIMIT", "1000000/s")
        .env("FIREFLOW_HTTP__ADDRESS_RATE_LIMIT", "1000000/s");
    command
}

fn seconds() -> Duration {
    let seconds = std::env::var("FIREFLOW_BENCH_SECONDS").ok().and_then(|it| it.parse().ok());
    Duration::from_secs_f64(seconds.unwrap_or(3.0))
}

/// Measures the candidates in turns, and prints the medians and their ratios to the first.
fn compare(title: &str, candidates: &[(&str, &Server, Load)]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut rates: Vec<Vec<Outcome>> = candidates.iter().map(|_| Vec::new()).collect();
    for round in 0..=ROUNDS {
        for ((_, server, load), rates) in candidates.iter().zip(&mut rates) {
            let outcome = runtime.block_on(load.run(server, CONNECTIONS, seconds()));
            // The first round warms up.
            if round > 0 {
                rates.push(outcome);
            }
        }
    }
    println!("\n{title}");
    let mut first = None;
    for ((name, ..), rates) in candidates.iter().zip(&mut rates) {
        rates.sort_by(|a, b| a.per_second.total_cmp(&b.per_second));
        let median = &rates[rates.len() / 2];
        let first = *first.get_or_insert(median.per_second);
        println!(
            "  {name:44} {:9.0} /s  {:5.2} x   p50 {:6.2} ms  p99 {:6.2} ms  ({:.0} to {:.0})",
            median.per_second,
            median.per_second / first,
            median.p50_ms,
            median.p99_ms,
            rates[0].per_second,
            rates[rates.len() - 1].per_second,
        );
    }
}

fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let here = place("on");
    let sqlite = format!("sqlite://{}/on.db", here.display());
    let on = Server::fireflow(&here, &[("FIREFLOW_DATABASE_URL", &sqlite)]);
    // All servers share one secret, so that one token works for each of them.
    let beside = |name: &str, settings: &[(&str, &str)]| {
        let folder = place(name);
        std::fs::create_dir(folder.join(".fireflow")).unwrap();
        let secret = ".fireflow/jwt-secret";
        std::fs::copy(here.join(secret), folder.join(secret)).unwrap();
        let other = settings.is_empty().then(|| std::env::var("FIREFLOW_BENCH_OTHER").ok());
        match other.flatten() {
            Some(other) => Server::other(&other, &folder, &on),
            None => Server::fireflow(&folder, settings),
        }
    };
    let off = beside("off", &[("FIREFLOW_LOG", "off")]);
    let bare = Server::bare(&here, "token", &sqlite, &on);
    compare(
        "GET without a database: what surrounds a request",
        &[
            (NO_DATABASE, &bare, Load::get("/whoami/")),
            ("FireFlow, all on", &on, Load::get("/whoami/")),
            ("FireFlow, all on but its log", &off, Load::get("/whoami/")),
        ],
    );
    drop(bare);
    seen_from_outside(&off, &on, &beside);
    drop(off);

    one_resource("SQLite", &here, &sqlite, &on);
    let bare = Server::bare(&here, "token", &sqlite, &on);
    inspections::measure("SQLite", (NO_DATABASE, &bare, Load::get("/whoami/")), &on);
    inspections::adversarial("SQLite", &on);
    drop((bare, on));
    if let Ok(url) = std::env::var("FIREFLOW_BENCH_POSTGRES_URL") {
        let on = Server::fireflow(&here, &[("FIREFLOW_DATABASE_URL", &url)]);
        fill(&on);
        one_resource("PostgreSQL", &here, &url, &on);
        let bare = Server::bare(&here, "select", &url, &on);
        inspections::measure("PostgreSQL", (ONE_SELECT, &bare, Load::get("/firewalls/1/")), &on);
    }

    for (title, path) in [
        ("POST of a firewall on SQLite, full durability", "/firewalls/"),
        ("POST of a rule on SQLite, full durability", "/firewalls/1/filtering-policies/1/rules/"),
    ] {
        let [own, shared] = ["1", "64"].map(|group| {
            let folder = place(&format!("group-{group}-{}", path.len()));
            let server = Server::fireflow(&folder, &[("FIREFLOW_DATABASE__WRITE_GROUP", group)]);
            fill(&server);
            server
        });
        compare(
            title,
            &[
                ("a commit of its own", &own, Load::post(path)),
                ("commits shared", &shared, Load::post(path)),
            ],
        );
    }
}

/// Measures inspections only.
fn inspections_alone() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let sqlite = format!("sqlite://{}/on.db", here.display());
    let on = Server::fireflow(here, &[("FIREFLOW_DATABASE_URL", &sqlite)]);
    fill(&on);
    let bare = Server::bare(here, "token", &sqlite, &on);
    inspections::measure("SQLite", (NO_DATABASE, &bare, Load::get("/whoami/")), &on);
    inspections::adversarial("SQLite", &on);
    drop((bare, on));
    if let Ok(url) = std::env::var("FIREFLOW_BENCH_POSTGRES_URL") {
        let on = Server::fireflow(here, &[("FIREFLOW_DATABASE_URL", &url)]);
        fill(&on);
        let bare = Server::bare(here, "select", &url, &on);
        inspections::measure("PostgreSQL", (ONE_SELECT, &bare, Load::get("/firewalls/1/")), &on);
    }
}

/// The bare handlers.
const NO_DATABASE: &str = "a bare poem handler that checks the token";
const ONE_SELECT: &str = "a bare poem handler: token, one select";

/// Measures the overhead of telemetry: the log, the metrics, traces to a collector that accepts
/// everything, and errors to a tracker.
fn seen_from_outside(
    off: &Server,
    logged: &Server,
    beside: &impl Fn(&str, &[(&str, &str)]) -> Server,
) {
    let collector = collector::start();
    let endpoint = format!("http://{collector}");
    let dsn = format!("http://key@{collector}/1");
    let told = |name: &str, ratio: &str| {
        beside(
            name,
            &[
                ("FIREFLOW_OTLP_ENDPOINT", &endpoint),
                ("FIREFLOW_OTLP__SAMPLE_RATIO", ratio),
                ("FIREFLOW_SENTRY_DSN", &dsn),
            ],
        )
    };
    let (sampled, all) = (told("sampled", "0.1"), told("all", "1"));
    let other = std::env::var_os("FIREFLOW_BENCH_OTHER").map(|_| beside("other", &[]));
    for server in [off, &sampled, &all].into_iter().chain(&other) {
        fill(server);
    }
    fill(logged);
    for (title, path) in [
        ("Telemetry overhead, GET without a database", "/whoami/"),
        ("Telemetry overhead, GET of one firewall on SQLite", "/firewalls/1/"),
    ] {
        let mut candidates = vec![
            ("metrics alone", off, Load::get(path)),
            ("metrics and log", logged, Load::get(path)),
            ("metrics, log, errors, traces of 1 in 10", &sampled, Load::get(path)),
            ("metrics, log, errors, traces of all", &all, Load::get(path)),
        ];
        candidates.extend(
            other.as_ref().map(|other| ("the other build, its log off", other, Load::get(path))),
        );
        compare(title, &candidates);
    }
}

/// A firewall and a policy.
fn fill(server: &Server) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (path, body) in [
        ("/firewalls/", "{\"name\": \"edge\", \"labels\": {\"site\": \"fra\"}}"),
        ("/firewalls/1/filtering-policies/", "{\"name\": \"in\", \"default_action\": \"DENY\"}"),
    ] {
        let status = runtime.block_on(load::once(server, "POST", path, body));
        assert_eq!(status, 201, "{path}");
    }
}

fn one_resource(database: &str, folder: &Path, url: &str, on: &Server) {
    // The SQLite file belongs to the service, so the other server reads a copy.
    let copy = format!("sqlite://{}/copy.db", folder.display());
    let url = if url.starts_with("sqlite:") {
        let backup = url.strip_prefix("sqlite://").unwrap();
        for end in ["", "-wal"] {
            std::fs::copy(format!("{backup}{end}"), folder.join(format!("copy.db{end}"))).unwrap();
        }
        copy.as_str()
    } else {
        url
    };
    let bare = Server::bare(folder, "select", url, on);
    compare(
        &format!("GET of one firewall on {database}"),
        &[
            (ONE_SELECT, &bare, Load::get("/firewalls/1/")),
            ("FireFlow, all on", on, Load::get("/firewalls/1/")),
        ],
    );
}

//! Benchmarks. Each prints its figures; `docs/performance.md` has the important ones.

use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::postgres::Server;
use crate::sh;

/// Runs the benchmark with this name.
pub(crate) fn bench(name: &str) -> Result<()> {
    match name {
        "analysis" => analysis(),
        "inspection" => inspection(),
        "inspections" => inspections(),
        "lists" => lists(),
        "service" => service(),
        "soak" => soak(),
        "attack" => attack(),
        other => bail!(
            "there is no measurement `{other}`; there are `analysis`, `attack`, `inspection`, `inspections`, `lists`, `service`, `soak`"
        ),
    }
}

/// Analyses and comparisons of public and generated rule sets.
fn analysis() -> Result<()> {
    let mut command = Command::new(sh::cargo_path());
    sh::run(command.args([
        "bench",
        "--quiet",
        "--package",
        "fireflow-domain",
        "--bench",
        "analysis",
    ]))
}

/// The classifier, compared with a plain scan; then on the adversarial families, compared with the
/// definition and with a plain set of the same size.
fn inspection() -> Result<()> {
    for (package, name) in [("fireflow-formats", "inspection"), ("fireflow-domain", "adversarial")]
    {
        let mut command = Command::new(sh::cargo_path());
        sh::run(command.args(["bench", "--quiet", "--package", package, "--bench", name]))?;
    }
    Ok(())
}

/// Inspections over HTTP: of one packet, after a change, and in a stream.
fn inspections() -> Result<()> {
    let server = Server::find_or_start(false)?;
    let mut command = service_bench();
    sh::run(command.args(["--", "inspections"]).env("FIREFLOW_BENCH_POSTGRES_URL", server.url()))
}

/// Lists on a million rules, on both databases.
fn lists() -> Result<()> {
    let server = Server::find_or_start(false)?;
    let folder = sh::empty_folder("bench/lists")?;
    let mut command = Command::new(sh::cargo_path());
    command.args(["bench", "--quiet", "--package", "fireflow-storage", "--bench", "lists"]);
    // Link-time optimization with a single codegen unit takes minutes. It changes little here,
    // because the database does most of the work.
    command.env("CARGO_PROFILE_BENCH_LTO", "false").env("CARGO_PROFILE_BENCH_CODEGEN_UNITS", "16");
    command.env("FIREFLOW_BENCH_SQLITE_URL", format!("sqlite://{}/lists.db", folder.display()));
    sh::run(command.env("FIREFLOW_BENCH_POSTGRES_URL", server.url()))
}

/// The duration of a soak test, unless `FIREFLOW_BENCH_SECONDS` sets another.
const SOAK: Duration = Duration::from_secs(600);

/// The command that builds and runs the benchmark of the service.
fn service_bench() -> Command {
    let mut command = Command::new(sh::cargo_path());
    command.args(["bench", "--quiet", "--package", "fireflow", "--bench", "service"]);
    command.env("CARGO_PROFILE_BENCH_LTO", "false").env("CARGO_PROFILE_BENCH_CODEGEN_UNITS", "16");
    command
}

/// The cost of the service over HTTP, compared with bare handlers.
fn service() -> Result<()> {
    let server = Server::find_or_start(false)?;
    sh::run(service_bench().env("FIREFLOW_BENCH_POSTGRES_URL", server.url()))
}

/// How much memory an attacker can make the service hold, and how that affects other clients.
fn attack() -> Result<()> {
    let server = Server::find_or_start(false)?;
    let mut command = service_bench();
    sh::run(command.args(["--", "attack"]).env("FIREFLOW_BENCH_POSTGRES_URL", server.url()))
}

/// A mixed load for ten minutes, while the database is restarted twice.
fn soak() -> Result<()> {
    // Built first, so that the build does not count towards the duration.
    sh::run(service_bench().arg("--no-run"))?;
    let server = Server::start_own()?;
    let time = std::env::var("FIREFLOW_BENCH_SECONDS").ok().and_then(|it| it.parse().ok());
    let time = time.map_or(SOAK, Duration::from_secs);
    let mut command = service_bench();
    command.args(["--", "soak"]).env("FIREFLOW_BENCH_SECONDS", time.as_secs().to_string());
    let mut load = command.env("FIREFLOW_BENCH_POSTGRES_URL", server.url()).spawn()?;
    for _ in 0..2 {
        std::thread::sleep(time / 3);
        sh::say("restarting the database");
        server.restart()?;
    }
    if load.wait()?.success() { Ok(()) } else { bail!("the soak did not hold") }
}

//! Measurements. Each prints its figures; `docs/performance.md` has those that count.

use std::process::Command;

use anyhow::{Result, bail};

use crate::postgres::Server;
use crate::sh;

/// Runs one by its name.
pub(crate) fn bench(name: &str) -> Result<()> {
    match name {
        "lists" => lists(),
        other => bail!("there is no measurement `{other}`; there is `lists`"),
    }
}

/// Lists on a million rules, on both databases.
fn lists() -> Result<()> {
    let server = Server::find_or_start(false)?;
    let folder = sh::empty_folder("bench/lists")?;
    let mut command = Command::new(sh::cargo_path());
    command.args(["bench", "--quiet", "--package", "fireflow-storage", "--bench", "lists"]);
    // The whole program as one unit takes minutes to build, and changes little here: the database
    // does the work.
    command.env("CARGO_PROFILE_BENCH_LTO", "false").env("CARGO_PROFILE_BENCH_CODEGEN_UNITS", "16");
    command.env("FIREFLOW_BENCH_SQLITE_URL", format!("sqlite://{}/lists.db", folder.display()));
    sh::run(command.env("FIREFLOW_BENCH_POSTGRES_URL", server.url()))
}

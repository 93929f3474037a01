//! Property-based testing of the running API from its own description, on both databases.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::postgres::Server;
use crate::sh;

/// Pinned, from the Python package index.
const VERSION: &str = "4.32.5";
const CASES_PER_OPERATION: &str = "40";

/// Runs it on both databases.
pub(crate) fn schemathesis(server: &Server, may_install: bool) -> Result<()> {
    let tool = tool(may_install)?;
    sh::cargo(&["build", "--quiet", "--bin", "fireflow"])?;
    let folder = std::env::current_dir()?.join("target/schemathesis");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    let checks = std::env::current_dir()?.join("xtask/schemathesis/checks.py");
    for (name, url) in [("sqlite", "sqlite://api.db"), ("postgres", server.url())] {
        sh::say(&format!("schemathesis on {name}"));
        let folder = folder.join(name);
        std::fs::create_dir_all(&folder)?;
        let service = Service::start(&folder, url)?;
        let token = sh::output(fireflow(&folder).arg("jwt"))?;
        sh::run(
            Command::new(&tool)
                .current_dir(&folder)
                .arg("run")
                .arg(format!("{}/docs/openapi.json", service.address))
                .args(["--header", &format!("Authorization: Bearer {}", token.trim())])
                .args(["--max-examples", CASES_PER_OPERATION, "--seed", "1", "--workers", "1"])
                // Stands in for the excluded check, and is stricter: see there.
                .env("SCHEMATHESIS_HOOKS", &checks)
                .args(["--exclude-checks", "positive_data_acceptance", "--no-color"]),
        )?;
    }
    Ok(())
}

/// The tool below `target/`, in a Python environment of its own.
fn tool(may_install: bool) -> Result<PathBuf> {
    let folder = PathBuf::from(format!("target/tools/schemathesis-{VERSION}"));
    let program = folder.join("bin/schemathesis");
    if !program.exists() {
        if !sh::answers("python3", "--version") || !has_venv() {
            if !may_install {
                bail!("schemathesis needs Python: install the packages python3 and python3-venv");
            }
            sh::apt_install(&["python3", "python3-venv"])?;
        }
        sh::say(&format!("installing schemathesis {VERSION} below target/, once"));
        sh::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        let package = format!("schemathesis=={VERSION}");
        let pip = folder.join("bin/pip");
        sh::run(Command::new(pip).args(["install", "--quiet", &package]))?;
    }
    Ok(program.canonicalize()?)
}

fn has_venv() -> bool {
    Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The binary in a folder of its own, with nothing of this environment's settings.
fn fireflow(folder: &Path) -> Command {
    let binary = std::env::current_dir().unwrap_or_default().join("target/debug/fireflow");
    let mut command = Command::new(binary);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIREFLOW_") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env("FIREFLOW_LOG", "warn").env("FIREFLOW_LISTEN", "127.0.0.1:0");
    command
}

/// A running service; ended when it is dropped.
struct Service {
    child: Child,
    address: String,
}

impl Service {
    fn start(folder: &Path, database_url: &str) -> Result<Self> {
        let mut child = fireflow(folder)
            .env("FIREFLOW_DATABASE_URL", database_url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("fireflow")?;
        let stdout = child.stdout.take().context("the service's output")?;
        let mut service = Self { child, address: String::new() };
        let line = BufReader::new(stdout).lines().next().context("the service did not start")??;
        let address = line.rsplit(' ').next().context("the service's address")?;
        service.address = address.to_owned();
        Ok(service)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            sh::say(&format!("the service was not ended: {error}"));
        }
    }
}

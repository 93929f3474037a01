//! Starts the service for a check.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::sh;

/// Builds the service, and creates an empty folder below `target/` for a check.
pub(crate) fn build_for(check: &str) -> Result<PathBuf> {
    sh::cargo(&["build", "--quiet", "--bin", "fireflow"])?;
    sh::empty_folder(check)
}

/// A command that runs the binary in this folder, without any settings from the environment.
pub(crate) fn fireflow(folder: &Path) -> Command {
    let binary = std::env::current_dir().unwrap_or_default().join("target/debug/fireflow");
    let mut command = Command::new(binary);
    sh::without_settings(&mut command);
    command.current_dir(folder).env("FIREFLOW_LOG", "warn").env("FIREFLOW_LISTEN", "127.0.0.1:0");
    command
}

/// A running service, which is stopped when this is dropped.
pub(crate) struct Service {
    child: Child,
    /// `http://127.0.0.1:…`
    pub(crate) address: String,
}

impl Service {
    pub(crate) fn start(folder: &Path, database_url: &str) -> Result<Self> {
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

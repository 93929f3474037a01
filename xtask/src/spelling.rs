//! Checks the spelling of every file with `typos`: American English, with exceptions in
//! `typos.toml`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::{python, sh};

/// The pinned wheel of the Python package index that contains the program.
const PACKAGES: [&str; 1] = ["typos==1.52.0"];
const TOOL: &str = "typos";

/// Checks the spelling. If the checker is missing, it is installed below `target/`.
pub(crate) fn check(may_install: bool) -> Result<()> {
    run(&python::programs(TOOL, &PACKAGES, may_install)?.join(TOOL))
}

/// Checks the spelling if the checker is installed. Otherwise explains how to install it.
pub(crate) fn check_if_installed() -> Result<()> {
    let tool = Path::new("target/tools").join(TOOL).join("bin").join(TOOL);
    if tool.exists() {
        run(&tool.canonicalize()?)
    } else {
        sh::say(
            "the spelling was not checked: `cargo xtask lint --install` installs typos below target/",
        );
        Ok(())
    }
}

fn run(tool: &Path) -> Result<()> {
    sh::run(Command::new(tool).args(["--format", "brief"]))
        .context("correct the spelling, or add an exception with its reason to typos.toml")
}

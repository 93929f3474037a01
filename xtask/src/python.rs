//! Python programs below `target/`, each in its own environment.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::sh;

/// The folder of an environment's programs, with pinned packages of the Python package index.
pub(crate) fn programs(name: &str, packages: &[&str], may_install: bool) -> Result<PathBuf> {
    let folder = PathBuf::from(format!("target/tools/{name}"));
    // Written last, so that an interrupted installation is repeated.
    let done = folder.join("packages.txt");
    let wanted = packages.join("\n");
    if !std::fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        if !sh::answers("python3", "--version") || !has_venv() {
            if !may_install {
                bail!("{name} needs Python: install the packages python3 and python3-venv");
            }
            sh::apt_install(&["python3", "python3-venv"])?;
        }
        sh::say(&format!("installing {} below target/, once", packages.join(", ")));
        sh::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        let pip = folder.join("bin/pip");
        sh::run(Command::new(pip).args(["install", "--quiet"]).args(packages))?;
        std::fs::write(done, wanted)?;
    }
    Ok(folder.join("bin").canonicalize()?)
}

fn has_venv() -> bool {
    Command::new("python3")
        .args(["-c", "import ensurepip, venv"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

//! Swagger UI in a headless Chromium: authorize, create, inspect. Pictures stay in `target/browser`.

use std::process::Command;

use anyhow::{Result, bail};

use crate::service::{self, Service, fireflow};
use crate::{python, sh};

const PACKAGES: [&str; 1] = ["playwright==1.65.2"];
const BROWSERS: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// Uses the page as a new user would.
pub(crate) fn browser(may_install: bool) -> Result<()> {
    let chromium = chromium(may_install)?;
    let programs = python::programs("browser", &PACKAGES, may_install)?;
    let folder = service::build_for("browser")?;
    let service = Service::start(&folder, "sqlite://api.db")?;
    let token = sh::output(fireflow(&folder).arg("jwt"))?;
    let mut command = Command::new(programs.join("python3"));
    command.arg("xtask/browser/browse.py").arg(&service.address).arg(chromium);
    sh::run(command.arg(&folder).env("FIREFLOW_TOKEN", token.trim()))
}

fn chromium(may_install: bool) -> Result<&'static str> {
    let find = || BROWSERS.into_iter().find(|name| sh::answers(name, "--version"));
    if let Some(found) = find() {
        return Ok(found);
    }
    if !may_install {
        bail!("the browser is missing: install the package chromium");
    }
    sh::apt_install(&["chromium"])?;
    match find() {
        Some(found) => Ok(found),
        None => bail!("chromium was installed, but does not start"),
    }
}

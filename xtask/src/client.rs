//! A client generated from the description by an established generator: type-checked, and driven
//! through the README's example, on both databases.

use std::process::Command;

use anyhow::Result;

use crate::postgres::Server;
use crate::service::{self, Service, fireflow};
use crate::{python, sh};

const PACKAGES: [&str; 3] = ["openapi-python-client==0.29.1", "ruff==0.17.6", "mypy==2.4.1"];

/// Generates, checks and runs it.
pub(crate) fn client(server: &Server, may_install: bool) -> Result<()> {
    let programs = python::programs("client", &PACKAGES, may_install)?;
    let folder = service::build_for("client")?;
    let root = std::env::current_dir()?;
    // The generator looks for its formatter there.
    let path = std::env::join_paths(
        [programs.clone()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(programs.join(program));
        sh::run(command.current_dir(&folder).env("PATH", &path).args(arguments))
    };
    let description = root.join("docs/openapi.json").display().to_string();
    run(
        "openapi-python-client",
        &[
            "generate",
            "--path",
            &description,
            "--output-path",
            "fireflow_client",
            "--meta",
            "none",
            "--fail-on-warning",
        ],
    )?;
    for file in ["drive.py", "mypy.ini"] {
        std::fs::copy(root.join("xtask/client").join(file), folder.join(file))?;
    }
    run("mypy", &["drive.py", "fireflow_client"])?;
    for (name, url) in [("sqlite", "sqlite://api.db"), ("postgres", server.url())] {
        sh::say(&format!("the generated client on {name}"));
        let own = folder.join(name);
        std::fs::create_dir_all(&own)?;
        for arguments in [&["migrate", "reset"][..], &["demo"]] {
            sh::output(fireflow(&own).env("FIREFLOW_DATABASE_URL", url).args(arguments))?;
        }
        let service = Service::start(&own, url)?;
        let token = sh::output(fireflow(&own).arg("jwt"))?;
        let mut driver = Command::new(programs.join("python3"));
        let driver = driver.current_dir(&folder).arg("drive.py").arg(&service.address);
        sh::run(driver.env("FIREFLOW_TOKEN", token.trim()))?;
    }
    Ok(())
}

//! Property-based testing of the running API from its own description, on both databases.

use std::process::Command;

use anyhow::Result;

use crate::postgres::Server;
use crate::service::{self, Service, fireflow};
use crate::{python, sh};

const PACKAGES: [&str; 1] = ["schemathesis==4.32.5"];
/// The default number of cases that are generated for each operation.
pub(crate) const CASES: &str = "40";

/// Runs the tests on both databases.
pub(crate) fn schemathesis(server: &Server, cases: &str, may_install: bool) -> Result<()> {
    let tool = python::programs("schemathesis", &PACKAGES, may_install)?.join("schemathesis");
    let folder = service::build_for("schemathesis")?;
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
                .args(["--max-examples", cases, "--seed", "1", "--workers", "1"])
                // The hooks contain a stricter form of the excluded check.
                .env("SCHEMATHESIS_HOOKS", &checks)
                .args(["--exclude-checks", "positive_data_acceptance", "--no-color"]),
        )?;
    }
    Ok(())
}

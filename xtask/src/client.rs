//! Generates a client from the OpenAPI description with an established generator, type-checks it,
//! and runs the README's example with it, on both databases.

use std::process::Command;

use anyhow::Result;

use crate::postgres::Server;
use crate::service::{self, Service, fireflow};
use crate::{python, sh};

const PACKAGES: [&str; 3] = ["openapi-python-client==0.29.1", "ruff==0.17.6", "mypy==2.4.1"];

/// The description without request bodies in NDJSON and CSV. The generator has no streams, and its
/// code for a choice between an array and text is not valid Python.
fn without_lines(description: &str) -> Result<String> {
    let mut description: serde_json::Value = serde_json::from_str(description)?;
    let paths = description.get_mut("paths").and_then(serde_json::Value::as_object_mut);
    for operations in paths.into_iter().flatten().filter_map(|(_, it)| it.as_object_mut()) {
        for (_, operation) in operations {
            let content = operation.pointer_mut("/requestBody/content");
            if let Some(content) = content.and_then(serde_json::Value::as_object_mut) {
                content.remove("application/x-ndjson");
                content.remove("text/csv");
            }
        }
    }
    Ok(description.to_string())
}

/// Generates, checks and runs the client.
pub(crate) fn client(server: &Server, may_install: bool) -> Result<()> {
    let programs = python::programs("client", &PACKAGES, may_install)?;
    let folder = service::build_for("client")?;
    let root = std::env::current_dir()?;
    // The generator looks for its formatter on the PATH.
    let path = std::env::join_paths(
        [programs.clone()]
            .into_iter()
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(programs.join(program));
        sh::run(command.current_dir(&folder).env("PATH", &path).args(arguments))
    };
    let description = std::fs::read_to_string(root.join("docs/openapi.json"))?;
    std::fs::write(folder.join("openapi.json"), without_lines(&description)?)?;
    run(
        "openapi-python-client",
        &[
            "generate",
            "--path",
            "openapi.json",
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

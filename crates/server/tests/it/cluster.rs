//! A PostgreSQL cluster whose standby has every commit before the client gets its acknowledgement.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::service::text;

/// Names the folder of PostgreSQL's programs; without it, they are searched for.
const VARIABLE: &str = "FIREFLOW_TEST_POSTGRES_BIN";
const NEEDED: [&str; 4] = ["initdb", "postgres", "pg_basebackup", "pg_ctl"];

/// Longer than a server takes to start or stop on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until a condition is true.
#[track_caller]
pub(crate) fn wait_until(what: &str, patience: Duration, mut is_so: impl FnMut() -> bool) {
    wait_until_ok(what, patience, || if is_so() { Ok(()) } else { Err(String::new()) });
}

/// Waits until nothing is missing. If the wait times out, the failure shows what was missing last.
#[track_caller]
pub(crate) fn wait_until_ok(
    what: &str,
    patience: Duration,
    mut look: impl FnMut() -> Result<(), String>,
) {
    let start = Instant::now();
    while let Err(missing) = look() {
        assert!(start.elapsed() < patience, "after {patience:?} not yet: {what} {missing}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// PostgreSQL's programs, run as a user who may run them.
#[derive(Debug, Clone)]
struct Programs {
    folder: PathBuf,
    is_root: bool,
}

impl Programs {
    fn find() -> Self {
        let folder = match std::env::var_os(VARIABLE) {
            Some(named) => Some(PathBuf::from(named)).filter(|it| has_all(it)),
            None => on_path().or_else(newest_of_debian),
        };
        let Some(folder) = folder else {
            panic!(
                "this test needs PostgreSQL's {}: install the package `postgresql`, or name their \
                 folder in {VARIABLE}",
                NEEDED.join(", ")
            )
        };
        let id = Command::new("id").arg("-u").output().unwrap();
        Self { folder, is_root: text(&id.stdout).trim() == "0" }
    }

    /// Runs a program as an unprivileged user if this process is root, because the server refuses
    /// to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.folder.join(program);
        let mut command = if self.is_root {
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }
}

fn has_all(folder: &Path) -> bool {
    NEEDED.into_iter().all(|program| folder.join(program).exists())
}

fn on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|folder| has_all(folder))
}

fn newest_of_debian() -> Option<PathBuf> {
    let versions = fs::read_dir("/usr/lib/postgresql").ok()?.filter_map(|entry| {
        let entry = entry.ok()?;
        let version: u32 = entry.file_name().to_str()?.parse().ok()?;
        Some((version, entry.path().join("bin")))
    });
    versions.filter(|(_, folder)| has_all(folder)).max().map(|(_, folder)| folder)
}

#[track_caller]
fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A primary and its synchronous standby. Both are stopped when this is dropped.
pub(crate) struct Cluster {
    pub(crate) primary: Server,
    pub(crate) standby: Server,
    programs: Programs,
    // The last field, so that the servers stop before their files are deleted.
    _folder: TempDir,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let programs = Programs::find();
        let folder = tempfile::tempdir().unwrap();
        if programs.is_root {
            succeed(Command::new("chown").arg("postgres:").arg(folder.path()));
        }
        let [first, second] = ["primary", "standby"].map(|name| folder.path().join(name));
        succeed(
            programs
                .command("initdb")
                .args(["-U", "postgres", "--auth=trust", "--no-sync", "-E", "UTF8"])
                .args(["--locale=C.UTF-8", "-D"])
                .arg(&first),
        );
        // These settings are not in a file, because the standby would get a copy of it. After its
        // promotion it would then wait for a standby of its own. Nothing is committed before the
        // standby is connected. Each commit waits until it is visible on the standby; otherwise the
        // first list could be read before the schema exists there.
        let settings = ["synchronous_standby_names=standby", "synchronous_commit=remote_apply"];
        let primary = Server::start(&programs, first, &settings);
        succeed(
            programs
                .command("pg_basebackup")
                .args(["-h", "127.0.0.1", "-U", "postgres", "-p", &primary.port.to_string()])
                .args(["-R", "-X", "stream", "-C", "-S", "standby"])
                .args(["-c", "fast", "--no-sync", "-D"])
                .arg(&second),
        );
        let standby = Server::start(&programs, second, &["cluster_name=standby"]);
        Self { primary, standby, programs, _folder: folder }
    }

    /// Promotes the standby to a primary.
    pub(crate) fn promote(&self) {
        let mut command = self.programs.command("pg_ctl");
        succeed(command.args(["-w", "-s", "promote", "-D"]).arg(&self.standby.data));
    }
}

/// A running server. It is a child of this process, so no other process can have its id.
pub(crate) struct Server {
    process: Child,
    port: u16,
    data: PathBuf,
}

impl Server {
    fn start(programs: &Programs, data: PathBuf, settings: &[&str]) -> Self {
        let log = data.with_extension("log");
        // Another process may take the free port before it is used.
        for _ in 0..5 {
            let port = free_port();
            let process = programs
                .command("postgres")
                .arg("-D")
                .arg(&data)
                .args(["-c", &format!("port={port}")])
                .args(settings.iter().flat_map(|setting| ["-c", setting]))
                .args(["-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
                .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
                // The shared memory is in files below the folder, so a killed server leaves nothing
                // outside it.
                .args(["-c", "dynamic_shared_memory_type=mmap"])
                .stdout(Stdio::null())
                .stderr(File::create(&log).unwrap())
                .spawn()
                .unwrap();
            let mut server = Self { process, port, data: data.clone() };
            let mut has_ended = false;
            wait_until("a PostgreSQL that takes connections", PATIENCE, || {
                has_ended = server.process.try_wait().unwrap().is_some();
                has_ended || server.is_ready()
            });
            if !has_ended {
                return server;
            }
        }
        panic!("PostgreSQL does not start: {}", fs::read_to_string(log).unwrap());
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// A line of the server's `postmaster.pid`, counted from 0.
    fn fact(&self, line: usize) -> Option<String> {
        let facts = fs::read_to_string(self.data.join("postmaster.pid")).ok()?;
        facts.lines().nth(line).map(|fact| fact.trim().to_owned())
    }

    fn is_ready(&self) -> bool {
        self.fact(0) == Some(self.process.id().to_string())
            && matches!(self.fact(7).as_deref(), Some("ready" | "standby"))
    }

    /// Kills the server without warning. Its child processes notice that and exit.
    pub(crate) fn kill(&mut self) {
        let _killed = self.process.kill().is_ok();
        let _ended = self.process.wait().is_ok();
        // Its segment in the system's shared memory would otherwise stay until the machine
        // restarts.
        if let Some(mark) =
            self.fact(6).and_then(|it| Some(it.split_whitespace().nth(1)?.to_owned()))
        {
            let _removed = Command::new("ipcrm").args(["-m", &mark]).output().is_ok();
        }
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.process.try_wait(), Ok(None))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.has_ended() {
            return;
        }
        let id = self.process.id().to_string();
        let _told = Command::new("kill").args(["-QUIT", &id]).output().is_ok();
        let start = Instant::now();
        while !self.has_ended() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        if !self.has_ended() {
            self.kill();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

//! The binary as a separate process that serves over TCP, for tests that need a real process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use fireflow_storage::DatabaseKind;
use fireflow_storage::testing::TestDatabase;
use poem::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::wait_until;
use crate::support::Answer;

/// Longer than any answer takes, so only a service that hangs exceeds it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn binary(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fireflow"));
    prepare(&mut command, folder);
    command
}

fn prepare(command: &mut Command, folder: &Path) {
    command.current_dir(folder);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("FIREFLOW_")) {
            command.env_remove(name);
        }
    }
    command.env("FIREFLOW_LISTEN", "127.0.0.1:0").stdin(Stdio::null());
    // Longer than anything takes on a busy machine. Tests of these timeouts set other values.
    command.envs([
        ("FIREFLOW_HTTP__REQUEST_TIMEOUT", "4m"),
        ("FIREFLOW_HTTP__LIST_TIMEOUT", "4m"),
        ("FIREFLOW_HTTP__HEAD_TIMEOUT", "4m"),
        ("FIREFLOW_HTTP__IDLE_TIMEOUT", "5m"),
        ("FIREFLOW_INSPECTION__MAX_TIME", "4m"),
    ]);
}

/// A [`binary`] with limits on its open files. It starts with `soft` and may raise that to `hard`.
pub(crate) fn binary_with_files(folder: &Path, soft: u32, hard: u32) -> Command {
    let mut command = Command::new("sh");
    let limit = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    command.args(["-c", &limit, env!("CARGO_BIN_EXE_fireflow")]);
    prepare(&mut command, folder);
    command
}

pub(crate) fn run(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    binary(folder).args(arguments).envs(environment.iter().copied()).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A running service, which is killed when this is dropped.
pub(crate) struct Service {
    pub(crate) child: Child,
    pub(crate) address: String,
    pub(crate) token: String,
}

impl Service {
    pub(crate) fn start(folder: &Path, database_url: &str) -> Self {
        let mut command = binary(folder);
        command.env("FIREFLOW_DATABASE_URL", database_url).stderr(Stdio::null());
        Self::spawn(folder, &mut command)
    }

    /// Starts a [`binary`] of the folder, with its own settings.
    pub(crate) fn spawn(folder: &Path, command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap_or_else(|| panic!("the service did not start")).unwrap();
        let address = line.rsplit("://").next().unwrap().to_owned();
        let token = text(&run(folder, &["jwt"], &[]).stdout).trim().to_owned();
        Self { child, address, token }
    }

    pub(crate) fn connect(&self) -> Connection {
        self.try_connect().unwrap()
    }

    /// Connects like [`Self::connect`], but returns the error if the service accepts no
    /// connections.
    pub(crate) fn try_connect(&self) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Ok(Connection { stream: BufReader::new(stream), token: self.token.clone() })
    }

    /// Sends the service a signal, such as `-TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Waits for the end of the service and returns its exit status.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let mut ended = None;
        wait_until("the end of the service", PATIENCE, || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        ended.unwrap()
    }

    /// Kills the service without warning.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _killed = self.child.kill().is_ok();
        let _ended = self.child.wait().is_ok();
    }
}

/// A persistent connection.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
    token: String,
}

impl Connection {
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<(u16, Value)> {
        let answer = self.exchange(method, path, body)?;
        let body = serde_json::from_str(&answer.text).unwrap_or(Value::Null);
        Ok((answer.status.as_u16(), body))
    }

    /// Sends a request like [`Self::ask`] and returns the answer with its headers.
    pub(crate) fn exchange(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<Answer> {
        self.exchange_with(method, path, &[], body)
    }

    /// Sends a request like [`Self::exchange`], with additional headers.
    pub(crate) fn exchange_with(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Answer> {
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\n{headers}Content-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }

    /// Sends the head of a request, and waits until the service asks for its body. The request is
    /// then under way.
    pub(crate) fn begin(&mut self, method: &str, path: &str, length: usize) -> std::io::Result<()> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n",
            self.token,
        );
        self.stream.get_mut().write_all(head.as_bytes())?;
        let mut answer = [0; 25];
        self.stream.read_exact(&mut answer)?;
        assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
        Ok(())
    }

    /// Sends the body of a request that was begun.
    pub(crate) fn finish(&mut self, body: &str) -> std::io::Result<Answer> {
        self.stream.get_mut().write_all(body.as_bytes())?;
        self.answer()
    }

    /// Reads an answer.
    fn answer(&mut self) -> std::io::Result<Answer> {
        let end = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or_else(end)?;
        let mut headers = HeaderMap::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line)? == 0 {
                return Err(end());
            }
            let Some((name, value)) = line.trim().split_once(':') else { break };
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            headers.append(name, HeaderValue::from_str(value.trim()).unwrap());
        }
        let length = headers.get("content-length").map_or("0", |it| it.to_str().unwrap());
        let mut body = vec![0; length.parse().unwrap()];
        self.stream.read_exact(&mut body)?;
        let status = StatusCode::from_u16(status).unwrap();
        Ok(Answer { status, headers, text: text(&body) })
    }
}

/// A folder for processes, and the URL of the test's database.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    // Keeps the schema's name reserved for as long as the test runs.
    _postgres: Option<TestDatabase>,
}

impl Place {
    pub(crate) async fn new(kind: DatabaseKind) -> Self {
        let folder = tempfile::tempdir().unwrap();
        match kind {
            DatabaseKind::Sqlite => {
                Self { folder, url: "sqlite://fireflow.db".to_owned(), _postgres: None }
            }
            DatabaseKind::Postgres => {
                let database = TestDatabase::empty(kind).await;
                Self { folder, url: database.url.clone(), _postgres: Some(database) }
            }
        }
    }
}

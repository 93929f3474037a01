//! A load generator over persistent connections that costs as little as possible: it writes
//! requests as bytes, and parses only the status and the length of each answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Server;

/// The requests that the load repeats, in turn.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    method: &'static str,
    paths: Vec<String>,
}

/// The measured result of a load.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
}

static NEXT: AtomicU64 = AtomicU64::new(0);

impl Load {
    pub(crate) fn get(path: &str) -> Self {
        Self::get_each(vec![path.to_owned()])
    }

    /// Each of some paths in turn.
    pub(crate) const fn get_each(paths: Vec<String>) -> Self {
        Self { method: "GET", paths }
    }

    /// Creates firewalls or rules, each with a unique name and content.
    pub(crate) fn post(path: &str) -> Self {
        Self { method: "POST", paths: vec![path.to_owned()] }
    }

    fn body(&self, path: &str) -> String {
        if self.method == "GET" {
            return String::new();
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        if path.ends_with("/rules/") {
            let [_, _, _, _, _, b, c, d] = number.to_be_bytes();
            return format!(
                "{{\"action\": \"ALLOW\", \"priority\": 10, \"protocols\": [\"tcp\"], \"sources\": \
                 [{{\"address\": \"10.{b}.{c}.{d}\"}}], \"destinations\": [{{\"address\": \
                 \"192.0.2.0/24\", \"port\": 443}}]}}"
            );
        }
        format!("{{\"name\": \"edge {number}\"}}")
    }

    /// Sends requests over the given number of connections for a while.
    pub(crate) async fn run(&self, server: &Server, connections: usize, time: Duration) -> Outcome {
        let start = Instant::now();
        let ends_at = start + time;
        let workers = (0..connections).map(|number| async move {
            let mut connection = Connection::open(server).await.unwrap();
            let mut times = Vec::new();
            let mut paths = self.paths.iter().cycle().skip(number);
            while Instant::now() < ends_at {
                let path = paths.next().unwrap();
                let asked_at = Instant::now();
                let status = connection.ask(self.method, path, &self.body(path)).await.unwrap();
                assert!((200..300).contains(&status), "{path} answers {status}");
                times.push(asked_at.elapsed());
            }
            times
        });
        let times = futures_util::future::join_all(workers).await;
        let elapsed = start.elapsed().as_secs_f64();
        let mut times: Vec<Duration> = times.into_iter().flatten().collect();
        times.sort_unstable();
        let at = |percent: usize| {
            let index = times.len() * percent / 100;
            times[index.min(times.len() - 1)].as_secs_f64() * 1e3
        };
        Outcome { per_second: times.len() as f64 / elapsed, p50_ms: at(50), p99_ms: at(99) }
    }
}

/// Sends one request over its own connection and returns the status.
pub(crate) async fn once(server: &Server, method: &str, path: &str, body: &str) -> u16 {
    Connection::open(server).await.unwrap().ask(method, path, body).await.unwrap()
}

/// A persistent connection.
pub(crate) struct Connection {
    stream: TcpStream,
    token: String,
    bytes: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(server: &Server) -> std::io::Result<Self> {
        Self::open_to(&server.address, &server.token).await
    }

    /// Connects to an address, with a token.
    pub(crate) async fn open_to(address: &str, token: &str) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(address).await?, token)
    }

    /// Wraps an open stream, with a token.
    pub(crate) fn over(stream: TcpStream, token: &str) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self { stream, token: token.to_owned(), bytes: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and returns its status. Afterwards [`Self::body`] holds the body.
    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        body: &str,
    ) -> std::io::Result<u16> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.token,
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await?;
        self.bytes.clear();
        let head = loop {
            if let Some(end) = self.bytes.windows(4).position(|it| it == b"\r\n\r\n") {
                break end + 4;
            }
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        };
        let text = String::from_utf8_lossy(&self.bytes[..head]).to_ascii_lowercase();
        let status = text.get(9..12).and_then(|it| it.parse().ok()).unwrap_or(0);
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .and_then(|length| length.trim().parse::<usize>().ok())
            .unwrap_or(0);
        while self.bytes.len() < head + length {
            if self.stream.read_buf(&mut self.bytes).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        self.bytes.drain(..head);
        Ok(status)
    }

    /// The body of the last answer.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes
    }
}

//! Requests as an attacker writes them: heads without bodies, unfinished bodies, and answers that
//! the attacker never reads.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// The attacked server, and the attacker's tokens.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) address: String,
    pub(super) viewer: String,
    pub(super) editor: String,
    /// A token with the role `health_check`.
    pub(super) probe: String,
}

impl Target {
    /// Opens a connection from the attacker's own address, so that rate limits of an address do not
    /// affect the bystander.
    pub(super) async fn connect(&self) -> std::io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((ATTACKER, 0).into())?;
        socket.connect(self.address.parse().map_err(std::io::Error::other)?).await
    }
}

/// The attacker's address.
const ATTACKER: std::net::Ipv4Addr = std::net::Ipv4Addr::new(127, 0, 0, 2);

/// How long the attacker waits for one request.
pub(super) const PATIENCE: Duration = Duration::from_secs(40);

/// One request over its own connection.
#[derive(Debug, Clone)]
pub(super) struct Sent<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) token: Option<&'a str>,
    pub(super) media_type: &'a str,
    pub(super) declared: usize,
}

impl<'a> Sent<'a> {
    pub(super) const fn new(method: &'a str, path: &'a str) -> Self {
        Self { method, path, token: None, media_type: "application/json", declared: 0 }
    }

    pub(super) const fn by(self, token: &'a str) -> Self {
        Self { token: Some(token), ..self }
    }

    pub(super) const fn declaring(self, declared: usize) -> Self {
        Self { declared, ..self }
    }

    pub(super) const fn of(self, media_type: &'a str) -> Self {
        Self { media_type, ..self }
    }

    fn head(&self) -> String {
        let Self { method, path, token, media_type, declared } = self;
        let token = token.map(|it| format!("Authorization: Bearer {it}\r\n")).unwrap_or_default();
        format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{token}Content-Type: {media_type}\r\n\
             Content-Length: {declared}\r\n\r\n"
        )
    }

    /// Opens a connection and sends the head.
    pub(super) async fn begin(&self, target: &Target) -> Option<TcpStream> {
        let mut stream = target.connect().await.ok()?;
        stream.write_all(self.head().as_bytes()).await.ok()?;
        Some(stream)
    }

    /// Sends the whole request and waits for the status. Returns `None` if the connection broke.
    pub(super) async fn whole(&self, target: &Target, body: &[u8]) -> Option<u16> {
        let mut stream = Self { declared: body.len(), ..self.clone() }.begin(target).await?;
        // The server may answer before the body ends; that answer is read too.
        let _all = tokio::time::timeout(PATIENCE, stream.write_all(body)).await.is_ok();
        status(&mut stream).await
    }
}

/// The status of the answer.
pub(super) async fn status(stream: &mut TcpStream) -> Option<u16> {
    let mut head = [0_u8; 12];
    let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut head)).await;
    read.ok()?.ok()?;
    std::str::from_utf8(head.get(9..12)?).ok()?.parse().ok()
}

/// Sends `bytes` bytes of a body, in pieces. Stops if the server no longer accepts any.
pub(super) async fn pour(stream: &mut TcpStream, bytes: usize) {
    let piece = vec![b' '; 64 * 1024];
    let mut left = bytes;
    while left > 0 {
        let part = piece.get(..left.min(piece.len())).unwrap_or_default();
        let sent = tokio::time::timeout(Duration::from_secs(5), stream.write_all(part)).await;
        if !matches!(sent, Ok(Ok(()))) {
            return;
        }
        left -= part.len();
    }
}

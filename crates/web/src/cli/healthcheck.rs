//! Asks a running service whether it is ready: for containers without a shell.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, bail};

use super::Failure;
use crate::settings::Settings;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Succeeds where `/health/ready` answers 200.
pub(super) fn healthcheck(settings: &Settings) -> Result<(), Failure> {
    Ok(ask(reachable(settings.listen), &settings.base_path)?)
}

/// The address to reach a listener at: an unspecified one listens on loopback too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn ask(address: SocketAddr, base_path: &str) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)
        .with_context(|| format!("{address} does not answer"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!(
        "GET {base_path}/health/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    // The first bytes are the status line.
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).context("no answer")?;
    if &head == b"HTTP/1.1 200" {
        return Ok(());
    }
    bail!("{address} is not ready: {}", String::from_utf8_lossy(&head));
}

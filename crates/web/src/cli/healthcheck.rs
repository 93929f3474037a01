//! Asks a running service whether it is ready: for containers without a shell.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use poem::http::Uri;

use super::Failure;
use crate::settings::Settings;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Succeeds where `/health/ready` answers 200.
pub(super) fn healthcheck(settings: &Settings) -> Result<(), Failure> {
    let address = reachable(settings.listen);
    Ok(ask(&[address], &address.to_string(), &settings.http.base_path)?)
}

/// The same of a service at a URL, whose name may stand for several addresses. Takes no settings:
/// it is asked from elsewhere.
pub(super) fn at(url: &str) -> Result<(), Failure> {
    let bad = || Failure::usage(anyhow!("--url takes `http://HOST:PORT`, perhaps with a path"));
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(bad());
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, authority.port_u16().unwrap_or(80))
        .to_socket_addrs()
        .with_context(|| format!("{host} cannot be looked up"))?
        .collect();
    Ok(ask(&addresses, authority.as_str(), uri.path().trim_end_matches('/'))?)
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

fn ask(addresses: &[SocketAddr], host: &str, base_path: &str) -> anyhow::Result<()> {
    let mut stream = connect(addresses).with_context(|| format!("{host} does not answer"))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let request = format!(
        "GET {base_path}/health/ready HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    // The first bytes are the status line.
    let mut head = [0_u8; 12];
    stream.read_exact(&mut head).context("no answer")?;
    if &head == b"HTTP/1.1 200" {
        return Ok(());
    }
    bail!("{host} is not ready: {}", String::from_utf8_lossy(&head));
}

/// The first of them that takes a connection.
fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(address, TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

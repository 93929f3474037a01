//! Asks a running service whether it is ready: for containers without a shell.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use poem::http::Uri;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, DEFAULT_VERSIONS, DigitallySignedStruct, SignatureScheme,
    StreamOwned,
};

use super::Failure;
use crate::settings::Settings;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Succeeds if `/health/ready` answers 200.
pub(super) fn healthcheck(settings: &Settings) -> Result<(), Failure> {
    let address = reachable(settings.listen);
    let stream = connect(&[address]).with_context(|| format!("{address} does not answer"))?;
    let (host, base_path) = (address.to_string(), &settings.http.base_path);
    let asked = if settings.tls.is_some() {
        ask(encrypted(stream)?, &host, base_path)
    } else {
        ask(stream, &host, base_path)
    };
    asked.map_err(Failure::Other)
}

/// Checks a service at a URL, whose host may resolve to several addresses. It reads no settings,
/// because the service runs elsewhere.
pub(super) fn at(url: &str) -> Result<(), Failure> {
    let bad = || Failure::usage(anyhow!("--url must be `http://HOST:PORT`, with an optional path"));
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(bad());
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let addresses: Vec<SocketAddr> = (host, authority.port_u16().unwrap_or(80))
        .to_socket_addrs()
        .with_context(|| format!("cannot resolve {host}"))?
        .collect();
    let stream = connect(&addresses).with_context(|| format!("{authority} does not answer"))?;
    Ok(ask(stream, authority.as_str(), uri.path().trim_end_matches('/'))?)
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

fn ask(mut stream: impl Read + Write, host: &str, base_path: &str) -> anyhow::Result<()> {
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

/// Adds TLS and accepts any certificate. The peer is a process on this machine, the request has no
/// secret, and the certificate may have changed a moment ago.
fn encrypted(stream: TcpStream) -> anyhow::Result<StreamOwned<ClientConnection, TcpStream>> {
    let provider = Arc::new(default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(DEFAULT_VERSIONS)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost")?;
    Ok(StreamOwned::new(ClientConnection::new(Arc::new(config), name)?, stream))
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _stapled: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Connects to the first address that accepts.
fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect_timeout(address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                stream.set_write_timeout(Some(TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

//! Asks a running service whether it is ready: for containers without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use poem::http::Uri;
use ureq::Agent;
use ureq::tls::TlsConfig;

use super::Failure;
use crate::settings::Settings;

const TIMEOUT: Duration = Duration::from_secs(3);

/// Succeeds if `/health/ready` answers 200.
pub(super) fn healthcheck(settings: &Settings) -> Result<(), Failure> {
    let address = reachable(settings.listen).to_string();
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    Ok(ask(scheme, &address, &settings.http.base_path)?)
}

/// Checks a service at a URL. It reads no settings, because the service runs elsewhere.
pub(super) fn at(url: &str) -> Result<(), Failure> {
    let bad = || Failure::usage(anyhow!("--url must be `http://HOST:PORT`, with an optional path"));
    let uri: Uri = url.parse().map_err(|_| bad())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(bad());
    };
    Ok(ask("http", authority.as_str(), uri.path().trim_end_matches('/'))?)
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

fn ask(scheme: &str, host: &str, base_path: &str) -> anyhow::Result<()> {
    // Any certificate is accepted. The peer is a process on this machine, the request has no secret,
    // and the certificate may have changed a moment ago.
    let any_certificate = TlsConfig::builder().disable_verification(true).build();
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .tls_config(any_certificate)
        // A proxy of the environment would answer for itself.
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .build()
        .into();
    let answer = agent.get(format!("{scheme}://{host}{base_path}/health/ready")).call();
    let status = answer.with_context(|| format!("{host} does not respond"))?.status();
    if status == 200 { Ok(()) } else { bail!("{host} is not ready: {status}") }
}

//! The settings of HTTP: what the service accepts, and its limits.

use std::num::NonZeroU32;
use std::time::Duration;

use fireflow_domain::net::AddressRange;
use fireflow_web::{ForwardedHeader, Rate};

use super::{Environment, SettingError, Values, error, parse_duration};
use crate::listener::TlsFiles;

/// The settings of HTTP.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The largest body of a whole rule set, in bytes.
    pub max_rule_set_bytes: usize,
    /// The longest time until an answer.
    pub request_timeout: Duration,
    /// The most requests at once.
    pub max_in_flight: usize,
    /// The most connections at once.
    pub max_connections: usize,
    /// The largest head of a request, in bytes.
    pub max_head_bytes: usize,
    /// How long a request's head, or a TLS handshake, may take.
    pub head_timeout: Duration,
    /// How long a connection may be without progress.
    pub idle_timeout: Duration,
    /// How many requests are accepted per subject; none for no limit.
    pub rate_limit: Option<Rate>,
    /// How many requests are accepted per client address, before tokens are checked; none for no
    /// limit.
    pub address_rate_limit: Option<Rate>,
    /// The proxies that are trusted to name the client.
    pub trusted_proxies: Vec<AddressRange>,
    /// The header in which they name the client.
    pub forwarded_header: ForwardedHeader,
    /// The origins whose pages may read answers in browsers.
    pub cors_origins: Vec<String>,
    /// The prefix of every path, without a slash at its end.
    pub base_path: String,
    /// How long requests are still accepted after the stop signal.
    pub drain_delay: Duration,
    /// How long the rest of the stop may take, including requests in progress.
    pub stop_timeout: Duration,
    /// The files of the certificate, if the service terminates TLS.
    pub tls: Option<TlsFiles>,
}

pub(super) fn read(
    values: &Values,
    environment: Environment,
) -> Result<HttpSettings, SettingError> {
    let seconds = Duration::from_secs;
    let duration = |text: &str| parse_duration(text);
    let request_timeout = values.read("http.request_timeout", || seconds(30), duration)?;
    let idle_timeout = values.read("http.idle_timeout", || seconds(75), duration)?;
    if idle_timeout <= request_timeout {
        let (named, why) = match values.get("http.idle_timeout") {
            Some(idle) => (
                Some(idle),
                "must be longer than FIREFLOW_HTTP__REQUEST_TIMEOUT: a client that waits for an \
                 answer sends nothing",
            ),
            None => (
                values.get("http.request_timeout"),
                "must be shorter than FIREFLOW_HTTP__IDLE_TIMEOUT (75s unless it is set): a \
                 client that waits for an answer sends nothing",
            ),
        };
        let name = named.map_or("FIREFLOW_HTTP__IDLE_TIMEOUT", |value| value.name.as_str());
        return Err(error(name, why));
    }
    let default_drain = if environment == Environment::Local { Duration::ZERO } else { seconds(3) };
    let per_second = |count: u32| {
        move || {
            Some(Rate { count: NonZeroU32::new(count).unwrap_or(NonZeroU32::MIN), per: seconds(1) })
        }
    };
    Ok(HttpSettings {
        max_body_bytes: values.size("http.max_body_bytes", 10 * 1024 * 1024)?,
        max_rule_set_bytes: values.size("http.max_rule_set_bytes", 64 * 1024 * 1024)?,
        request_timeout,
        max_in_flight: values.size("http.max_in_flight", 1_024)?,
        max_connections: values.size("http.max_connections", 8_192)?,
        max_head_bytes: values.read("http.max_head_bytes", || 64 * 1024, head_bytes)?,
        head_timeout: values.read("http.head_timeout", || seconds(10), duration)?,
        idle_timeout,
        rate_limit: values.read("http.rate_limit", per_second(1_000), rate)?,
        address_rate_limit: values.read("http.address_rate_limit", per_second(2_000), rate)?,
        trusted_proxies: values.read("http.trusted_proxies", Vec::new, blocks)?,
        forwarded_header: values.read(
            "http.forwarded_header",
            ForwardedHeader::default,
            |text| match text {
                "x-forwarded-for" => Ok(ForwardedHeader::XForwardedFor),
                "forwarded" => Ok(ForwardedHeader::Forwarded),
                _ => Err("must be `x-forwarded-for` or `forwarded`".to_owned()),
            },
        )?,
        cors_origins: values.read("http.cors_origins", Vec::new, origins)?,
        base_path: values.read("http.base_path", String::new, base_path)?,
        drain_delay: values.read("http.drain_delay", || default_drain, duration_or_none)?,
        stop_timeout: values.read("http.stop_timeout", || seconds(10), duration)?,
        tls: tls(values)?,
    })
}

/// A duration, or `0s`.
pub(super) fn duration_or_none(text: &str) -> Result<Duration, String> {
    if text == "0s" { Ok(Duration::ZERO) } else { parse_duration(text) }
}

fn head_bytes(text: &str) -> Result<usize, String> {
    // The framework refuses a smaller buffer.
    text.parse::<usize>()
        .ok()
        .filter(|bytes| (8 * 1024..=1024 * 1024).contains(bytes))
        .ok_or_else(|| "must be a number from 8192 to 1048576".to_owned())
}

/// `100/s`, `6000/m`, or `off`.
fn rate(text: &str) -> Result<Option<Rate>, String> {
    let takes =
        || "must be a number per second, minute or hour (`100/s`, `6000/m`), or `off`".to_owned();
    if text == "off" {
        return Ok(None);
    }
    let (count, unit) = text.split_once('/').ok_or_else(takes)?;
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err(takes()),
    };
    let is_plain = count.bytes().all(|byte| byte.is_ascii_digit());
    let count = count.parse::<NonZeroU32>().ok().filter(|_| is_plain).ok_or_else(takes)?;
    Ok(Some(Rate { count, per: Duration::from_secs(per) }))
}

/// Blocks of addresses, separated by commas.
fn blocks(text: &str) -> Result<Vec<AddressRange>, String> {
    let parse = |word: &str| match AddressRange::parse(word) {
        Ok(AddressRange::Any) => Err("`any` would trust every client to state its own \
                                      address"
            .to_owned()),
        Ok(range) => Ok(range),
        Err(fault) => Err(format!("must be blocks such as `10.0.0.0/8,fd00::/8`: {fault}")),
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(parse).collect()
}

/// Origins (RFC 6454), separated by commas.
fn origins(text: &str) -> Result<Vec<String>, String> {
    let parse = |word: &str| {
        let is_origin = word
            .strip_prefix("https://")
            .or_else(|| word.strip_prefix("http://"))
            .is_some_and(|rest| {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
                !rest.is_empty() && rest.bytes().all(is_plain)
            });
        if is_origin {
            Ok(word.to_ascii_lowercase())
        } else {
            Err("must be origins such as `https://console.example.org`, each as browsers send it; \
                 not `*`"
                .to_owned())
        }
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(parse).collect()
}

fn base_path(text: &str) -> Result<String, String> {
    let bare = text.trim_end_matches('/');
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-_.~".contains(&byte);
    let is_path = bare.is_empty()
        || (bare.starts_with('/') && !bare.contains("//") && bare.bytes().all(is_plain));
    if is_path { Ok(bare.to_owned()) } else { Err("must be a path such as `/fireflow`".to_owned()) }
}

fn tls(values: &Values) -> Result<Option<TlsFiles>, SettingError> {
    match (values.get("tls.certificate"), values.get("tls.key")) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => Ok(Some(TlsFiles {
            certificate: certificate.text.trim().into(),
            key: key.text.trim().into(),
        })),
        (Some(alone), None) => Err(error(&alone.name, "requires FIREFLOW_TLS__KEY")),
        (None, Some(alone)) => Err(error(&alone.name, "requires FIREFLOW_TLS__CERTIFICATE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_a_number_and_a_time() {
        let of = |text| rate(text).unwrap().map(|rate| (rate.count.get(), rate.per.as_secs()));
        assert_eq!(of("100/s"), Some((100, 1)));
        assert_eq!(of("6000/m"), Some((6_000, 60)));
        assert_eq!(of("off"), None);
        for bad in ["", "100", "0/s", "-1/s", "+1/s", "1/d", "1.5/s", "99999999999/s"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn proxies_and_origins_are_named_and_never_all() {
        assert_eq!(blocks("10.0.0.0/8, fd00::/8,").unwrap().len(), 2);
        for bad in ["any", "proxy", "10.0.0.1/8"] {
            assert!(blocks(bad).is_err(), "{bad}");
        }
        assert_eq!(origins("https://A.example:8443").unwrap(), ["https://a.example:8443"]);
        for bad in ["*", "https://", "a.example", "https://a.example/", "null"] {
            assert!(origins(bad).is_err(), "{bad}");
        }
    }
}

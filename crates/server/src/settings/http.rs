//! The settings of HTTP: what the service accepts, and its limits.

use std::num::NonZeroU32;
use std::time::Duration;

use fireflow_domain::net::AddressRange;
use fireflow_service::rates::Rate;
use fireflow_web::ForwardedHeader;

use super::parse::{duration_or_none, number, parse_duration};
use super::row::DefaultValue::{Nothing, Number, Text, Words};
use super::row::settings;
use super::values::Values;
use super::{SettingError, error};

settings! {
    /// The settings of HTTP.
    #[derive(Debug, Clone)]
    pub(crate) struct HttpSettings, rows HTTP: HttpRows;

    REQUESTS {
        /// the maximum size of a request body, in bytes
        max_body_bytes: usize = "http.max_body_bytes" {
            parse: number,
            default: Number(10 * 1024 * 1024),
        }

        /// the maximum body size of a whole rule set, in bytes
        max_rule_set_bytes: usize = "http.max_rule_set_bytes" {
            parse: number,
            default: Number(64 * 1024 * 1024),
        }

        /// the maximum time until the response
        request_timeout: Duration = "http.request_timeout" {
            parse: parse_duration,
            default: Text("30s"),
        }

        /// the maximum time that a page of a list may take in the database; a slower request is
        /// refused, and its filter must be narrowed
        list_timeout: Duration = "http.list_timeout" {
            parse: parse_duration,
            default: Text("5s"),
        }

        /// the maximum number of concurrent requests; more are refused with 503 and `Retry-After`
        max_in_flight: usize = "http.max_in_flight" {
            parse: number,
            default: Number(1_024),
        }
    }

    CONNECTIONS {
        /// the maximum number of concurrent connections; more wait to be accepted. If the process
        /// cannot open so many files, it accepts fewer and logs a warning
        max_connections: usize = "http.max_connections" {
            parse: number,
            default: Number(8_192),
        }

        /// the maximum size of a request's head (path and headers), in bytes; a cursor alone can
        /// have 32768
        max_head_bytes: usize = "http.max_head_bytes" {
            parse: head_bytes,
            default: Number(64 * 1024),
        }

        /// the maximum time for a request's head, a TLS handshake, or the next part of a body
        head_timeout: Duration = "http.head_timeout" {
            parse: parse_duration,
            default: Text("10s"),
        }

        /// how long a connection may stay open without progress in either direction; must be longer
        /// than the request timeout
        idle_timeout: Duration = "http.idle_timeout" {
            parse: parse_duration,
            default: Text("75s"),
        }

        /// how many requests FireFlow accepts per subject: `100/s`, `6000/m`, or `off`
        rate_limit: Option<Rate> = "http.rate_limit" {
            parse: rate,
            default: Text("1000/s"),
        }

        /// how many requests FireFlow accepts per client address (IPv6: per /64), before it checks
        /// the token; behind a proxy, also set FIREFLOW_HTTP__TRUSTED_PROXIES, or all clients count
        /// as one
        address_rate_limit: Option<Rate> = "http.address_rate_limit" {
            parse: rate,
            default: Text("2000/s"),
        }

        /// networks of proxies that are trusted to report the client's address:
        /// `10.0.0.0/8,fd00::/8`
        trusted_proxies: Vec<AddressRange> = "http.trusted_proxies" {
            parse: blocks,
            default: Nothing(Vec::new),
        }

        /// the header that contains the client's address: `x-forwarded-for` or `forwarded`; the
        /// other one is ignored
        forwarded_header: ForwardedHeader = "http.forwarded_header" {
            parse: forwarded_header,
            default: Text("x-forwarded-for"),
        }

        /// origins whose pages may read responses in browsers: `https://console.example.org`;
        /// without origins, CORS is off
        cors_origins: Vec<String> = "http.cors_origins" {
            parse: origins,
            default: Nothing(Vec::new),
        }

        /// how long requests are still accepted after the stop signal, while `/health/ready` is 503
        drain_delay: Duration = "http.drain_delay" {
            parse: duration_or_none,
            default: Words("0s in `local`, else 3s", |values| {
                if values.is_local() { Duration::ZERO } else { Duration::from_secs(3) }
            }),
        }

        /// how long the rest of the shutdown may take. Requests in progress have all of it except
        /// the last fifth (at most 2s), in which remaining traces and error reports are sent and
        /// the database connections are closed
        stop_timeout: Duration = "http.stop_timeout" {
            parse: parse_duration,
            default: Text("10s"),
        }
    }

    PATHS {
        /// a path prefix for routes, docs, links and `Location`
        base_path: String = "http.base_path" {
            parse: base_path,
            default: Text("/"),
        }
    }
}

pub(super) fn read(values: &Values) -> Result<HttpSettings, SettingError> {
    let http = HTTP.read(values)?;
    if http.idle_timeout > http.request_timeout {
        return Ok(http);
    }
    let [request, idle] = [HTTP.request_timeout.setting, HTTP.idle_timeout.setting];
    let why = "a client that waits for a response sends nothing";
    Err(if values.get(&HTTP.idle_timeout).is_some() {
        let why = format!("must be longer than {}: {why}", request.variable);
        error(values.name(&HTTP.idle_timeout), why)
    } else {
        let (name, usual) = (idle.variable, idle.default);
        let why = format!("must be shorter than {name} ({usual} unless it is set): {why}");
        error(values.name(&HTTP.request_timeout), why)
    })
}

fn forwarded_header(text: &str) -> Result<ForwardedHeader, String> {
    match text {
        "x-forwarded-for" => Ok(ForwardedHeader::XForwardedFor),
        "forwarded" => Ok(ForwardedHeader::Forwarded),
        _ => Err("must be `x-forwarded-for` or `forwarded`".to_owned()),
    }
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

//! The settings of telemetry.

use std::fmt;
use std::net::SocketAddr;

use fireflow_auth::Secret;
use fireflow_domain::spelling::nearest;
use fireflow_domain::text::excerpt;
use fireflow_telemetry::traces::{OtlpProtocol, OtlpSettings};
use poem::http::{HeaderName, HeaderValue, Uri};
use sentry::types::Dsn;

use super::row::DefaultValue::{Nothing, Text, Words};
use super::row::Mark::{Secret as IsSecret, Short};
use super::row::settings;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Pretty,
    /// For machines.
    Json,
}

settings! {
    /// The settings of metrics, traces, error reports and the log.
    #[derive(Clone)]
    pub(crate) struct TelemetrySettings, rows TELEMETRY: TelemetryRows;

    TELEMETRY_SECTION {
        /// the address and port of a listener that serves `/metrics` without a token: restrict it
        /// to your own network; `/metrics` of the service itself requires the role `health_check`
        metrics_listen: Option<SocketAddr> = "metrics_listen" {
            parse: address,
            default: Nothing(|| None),
        }

        /// the OTLP endpoint for traces: `http://collector:4317`, or `https://…`
        endpoint: Option<String> = "otlp.endpoint" [Short("FIREFLOW_OTLP_ENDPOINT")] {
            parse: |text| endpoint(text).map(Some),
            default: Nothing(|| None),
        }

        /// `grpc`, or `http` with the base URL as endpoint: `http://collector:4318`
        protocol: OtlpProtocol = "otlp.protocol" {
            parse: protocol,
            default: Text("grpc"),
        }

        /// the share of requests that is traced, from 0 to 1; a request that the client has sampled
        /// (`traceparent`) is always traced
        sample_ratio: f64 = "otlp.sample_ratio" {
            parse: ratio,
            default: Text("0.1"),
        }

        /// headers for the collector, such as an API key: `name=value,name=value`
        headers: Vec<(String, Secret)> = "otlp.headers" [IsSecret] {
            parse: headers,
            default: Nothing(Vec::new),
        }

        /// the DSN of the project that receives error reports, in Sentry or a compatible service:
        /// `https://KEY@HOST/PROJECT`
        sentry: Option<Dsn> = "sentry_dsn" [IsSecret] {
            parse: dsn,
            default: Nothing(|| None),
        }

        /// what to log, in tracing's filter syntax
        log: String = "log" {
            parse: log_filter,
            default: Text("info"),
        }

        /// `pretty` or `json`
        log_format: LogFormat = "log_format" {
            parse: log_format,
            default: Words("`pretty` on a terminal, else `json`", |values| {
                if values.is_terminal { LogFormat::Pretty } else { LogFormat::Json }
            }),
        }
    }
}

impl TelemetrySettings {
    /// The collector of traces. Without one, the other settings of OTLP are still checked, so that
    /// a mistake shows before one is set.
    pub(crate) fn otlp(&self) -> Option<OtlpSettings> {
        let Self { protocol, sample_ratio, headers, .. } = self;
        self.endpoint.clone().map(|endpoint| OtlpSettings {
            endpoint,
            protocol: *protocol,
            sample_ratio: *sample_ratio,
            headers: headers.clone(),
        })
    }
}

impl fmt::Debug for TelemetrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetrySettings")
            .field("metrics_listen", &self.metrics_listen)
            .field("otlp", &self.otlp())
            // A DSN contains a key.
            .field("sentry", &self.sentry.is_some())
            .field("log", &self.log)
            .field("log_format", &self.log_format)
            .finish()
    }
}

fn address(text: &str) -> Result<Option<SocketAddr>, String> {
    let takes = "must be an address and a port: `127.0.0.1:9464`, `[::]:9464`";
    text.parse().map(Some).map_err(|_| takes.to_owned())
}

fn protocol(text: &str) -> Result<OtlpProtocol, String> {
    match text {
        "grpc" => Ok(OtlpProtocol::Grpc),
        "http" => Ok(OtlpProtocol::Http),
        _ => Err("must be `grpc` or `http`".to_owned()),
    }
}

fn dsn(text: &str) -> Result<Option<Dsn>, String> {
    let takes = "must be a DSN such as `https://KEY@sentry.example.org/1`";
    text.parse::<Dsn>().map(Some).map_err(|_| takes.to_owned())
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err("must be `pretty` or `json`".to_owned()),
    }
}

fn endpoint(text: &str) -> Result<String, String> {
    let takes = || "must be a URL such as `http://collector:4317`, without a password".to_owned();
    let uri: Uri = text.parse().map_err(|_| takes())?;
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if is_http && !authority.is_empty() && !authority.contains('@') {
        Ok(text.to_owned())
    } else {
        Err(takes())
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    text.parse::<f64>()
        .ok()
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "must be a number from 0 to 1, such as `0.1`".to_owned())
}

/// Reads `name=value,name=value`. Values are secrets, so no message contains one.
fn headers(text: &str) -> Result<Vec<(String, Secret)>, String> {
    let pair = |pair: &str| {
        let takes = || "must be headers such as `api-key=…`, separated by commas".to_owned();
        let (name, value) = pair.split_once('=').ok_or_else(takes)?;
        let name: HeaderName = name.trim().parse().map_err(|_| takes())?;
        let value = value.trim();
        HeaderValue::from_str(value).map_err(|_| takes())?;
        Ok((name.to_string(), Secret::new(value)))
    };
    text.split(',').filter(|it| !it.trim().is_empty()).map(pair).collect()
}

/// Checks a filter of `tracing`. A single word that is no level would be taken for a target, and
/// nothing would be logged. Such a word is probably a misspelt level, so it is refused.
fn log_filter(text: &str) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    for directive in text.split(',').map(str::trim) {
        let is_word = directive.bytes().all(|byte| byte.is_ascii_alphabetic());
        let is_level = LEVELS.iter().any(|level| level.eq_ignore_ascii_case(directive));
        // A single word may be one of our own targets, of which everything is then logged.
        let is_ours = directive.starts_with("fireflow");
        if is_word && !directive.is_empty() && !is_level && !is_ours {
            let hint = match nearest(directive, LEVELS.into_iter()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("levels are {}", LEVELS.join(", ")),
            };
            let word = excerpt(directive);
            return Err(format!(
                "`{word}` is not a level; {hint} (To set the level of a target, write \
                 `{word}=debug`.)"
            ));
        }
    }
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|fault| format!("is not a valid filter for tracing: {fault}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_have_urls_ratios_and_headers() {
        for good in ["http://c:4317", "https://otlp.example.org", "http://[::1]:4318/base"] {
            assert!(endpoint(good).is_ok(), "{good}");
        }
        for bad in ["collector:4317", "grpc://c:4317", "http://", "http://me:pw@c", "c"] {
            let why = endpoint(bad).unwrap_err();
            assert!(!why.contains("pw"), "{why}");
        }
        assert_eq!(ratio("0.25"), Ok(0.25));
        for bad in ["-1", "1.1", "NaN", "inf", "all"] {
            assert!(ratio(bad).is_err(), "{bad}");
        }
        let read = headers("api-key=a=b, x=1,").unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(read[0], ("api-key".to_owned(), Secret::new("a=b")));
        assert!(!format!("{read:?}").contains("a=b"));
        for bad in ["api-key", "a b=c", "x=\u{1}"] {
            assert!(headers(bad).is_err(), "{bad}");
        }
    }
}

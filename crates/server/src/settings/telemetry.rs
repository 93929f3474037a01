//! The settings of telemetry.

use std::fmt;
use std::net::SocketAddr;

use fireflow_auth::Secret;
use fireflow_telemetry::traces::{OtlpProtocol, OtlpSettings};
use poem::http::{HeaderName, HeaderValue, Uri};
use sentry::types::Dsn;

use super::{SettingError, Values};

/// The settings of metrics, traces and error reports.
#[derive(Clone, Default)]
pub struct TelemetrySettings {
    /// The address at which metrics are served without a token.
    pub metrics_listen: Option<SocketAddr>,
    /// The collector of traces.
    pub otlp: Option<OtlpSettings>,
    /// The receiver of error reports.
    pub sentry: Option<Dsn>,
}

impl fmt::Debug for TelemetrySettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TelemetrySettings")
            .field("metrics_listen", &self.metrics_listen)
            .field("otlp", &self.otlp)
            // A DSN contains a key.
            .field("sentry", &self.sentry.is_some())
            .finish()
    }
}

/// The default share of requests that is traced.
const SAMPLE_RATIO: f64 = 0.1;

pub(super) fn read(values: &Values) -> Result<TelemetrySettings, SettingError> {
    let address = |text: &str| {
        let takes = "must be an address and a port: `127.0.0.1:9464`, `[::]:9464`";
        text.parse().map(Some).map_err(|_| takes.to_owned())
    };
    let protocol = |text: &str| match text {
        "grpc" => Ok(OtlpProtocol::Grpc),
        "http" => Ok(OtlpProtocol::Http),
        _ => Err("must be `grpc` or `http`".to_owned()),
    };
    let dsn = |text: &str| {
        let takes = "must be a DSN such as `https://KEY@sentry.example.org/1`";
        text.parse::<Dsn>().map(Some).map_err(|_| takes.to_owned())
    };
    // Checked even without an endpoint, so that a mistake shows before one is set.
    let protocol = values.read("otlp.protocol", || OtlpProtocol::Grpc, protocol)?;
    let sample_ratio = values.read("otlp.sample_ratio", || SAMPLE_RATIO, ratio)?;
    let headers = values.read("otlp.headers", Vec::new, headers)?;
    let endpoint = values.read("otlp.endpoint", || None, |text| endpoint(text).map(Some))?;
    Ok(TelemetrySettings {
        metrics_listen: values.read("metrics_listen", || None, address)?,
        otlp: endpoint.map(|endpoint| OtlpSettings { endpoint, protocol, sample_ratio, headers }),
        sentry: values.read("sentry_dsn", || None, dsn)?,
    })
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

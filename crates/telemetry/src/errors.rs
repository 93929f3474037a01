//! Reports defects to Sentry, or to any tracker that speaks its protocol: the fault, its location,
//! its request and its release. A report never contains the user, the client's address or the
//! request's data.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use sentry::protocol::{Event, Exception, Frame, Level, Stacktrace};
use sentry::transports::UreqHttpTransportOptions;
use sentry::types::Dsn;
use sentry::{Client, ClientOptions, Transport, TransportFactory, TransportOptions};

use super::scrub::scrubbed;
use prometheus_client::metrics::counter::Counter;

/// The most defects that are reported per second: repeating the same one for every request adds
/// nothing.
const MAX_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// The timeout for sending an event to the tracker.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends over HTTP with a timeout: the library's own agent would wait forever for a tracker that
/// stops answering.
struct Patient;

impl TransportFactory for Patient {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        let config = ureq::Agent::config_builder().timeout_global(Some(SEND_TIMEOUT)).build();
        let options = UreqHttpTransportOptions::from(options);
        Arc::new(options.with_agent(config.new_agent()).build())
    }
}

/// A fault that should not have occurred.
#[derive(Debug, Clone, Default)]
pub struct Defect {
    /// The kind of fault: `panic`, or the error code of the response.
    pub kind: &'static str,
    /// The cause as the code describes it. Data of users is removed before it is sent.
    pub cause: String,
    /// The file and line, if they are known.
    pub place: Option<(String, u32)>,
    /// The id of the request in which it occurred.
    pub request_id: Option<String>,
    /// That request's trace.
    pub trace_id: Option<String>,
    /// That request's method.
    pub method: Option<&'static str>,
    /// That request's path, as a template.
    pub route: Option<String>,
}

/// Sends defects to a tracker. They wait in a queue of fixed length for a dedicated thread. A
/// defect that does not fit in, or that the tracker rejects, is dropped.
pub struct Errors {
    client: Client,
    limit: DefaultDirectRateLimiter,
    reported: Counter,
}

impl std::fmt::Debug for Errors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Errors").finish_non_exhaustive()
    }
}

impl Errors {
    /// Sends to the project that a DSN names. The tracker need not be reachable yet.
    #[must_use]
    pub fn new(dsn: Dsn, environment: &str, reported: Counter) -> Self {
        let mut options = ClientOptions::default();
        options.dsn = Some(dsn);
        options.release = Some(concat!("fireflow@", env!("CARGO_PKG_VERSION")).into());
        options.environment = Some(environment.to_owned().into());
        // Sends only what this file sets: no host name, no headers, no variables.
        options.default_integrations = false;
        options.send_default_pii = false;
        options.auto_session_tracking = false;
        options.transport = Some(Arc::new(Patient));
        let client = Client::from(sentry::apply_defaults(options));
        Self { client, limit: RateLimiter::direct(Quota::per_second(MAX_PER_SECOND)), reported }
    }

    /// Reports a defect. Returns at once.
    pub fn report(&self, defect: &Defect) {
        if self.limit.check().is_err() {
            return;
        }
        self.client.capture_event(event(defect), None);
        self.reported.inc();
    }

    /// Sends the queued defects, within a time limit.
    pub(super) fn end(&self, limit: Duration) {
        if !self.client.close(Some(limit)) {
            tracing::warn!("the last error events were not sent");
        }
    }
}

fn event(defect: &Defect) -> Event<'static> {
    let stacktrace = defect.place.as_ref().map(|(file, line)| Stacktrace {
        frames: vec![Frame {
            filename: Some(file.clone()),
            lineno: Some(u64::from(*line)),
            in_app: Some(true),
            ..Frame::default()
        }],
        ..Stacktrace::default()
    });
    let exception = Exception {
        ty: defect.kind.to_owned(),
        value: Some(scrubbed(&defect.cause)),
        stacktrace,
        ..Exception::default()
    };
    let mut event = Event {
        level: Level::Error,
        transaction: defect.route.clone(),
        exception: vec![exception].into(),
        ..Event::default()
    };
    let tags = [
        ("request_id", defect.request_id.clone()),
        ("trace_id", defect.trace_id.clone()),
        ("method", defect.method.map(str::to_owned)),
    ];
    for (name, value) in tags {
        if let Some(value) = value {
            event.tags.insert(name.to_owned(), value);
        }
    }
    event
}

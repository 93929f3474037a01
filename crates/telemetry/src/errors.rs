//! Defects for Sentry, or whatever speaks its protocol: what went wrong, where, in which request and
//! release. Never who asked, from where, with what.

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

/// The most defects that are told in a second: the same one in every request says nothing new.
const MAX_PER_SECOND: NonZeroU32 = NonZeroU32::new(10).unwrap();
/// How long the tracker has for an event.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Sends over HTTP, to a tracker that answers in time: the library's own agent would wait for one
/// that has fallen silent for ever.
struct Patient;

impl TransportFactory for Patient {
    fn create_transport_with_options(&self, options: TransportOptions) -> Arc<dyn Transport> {
        let config = ureq::Agent::config_builder().timeout_global(Some(SEND_TIMEOUT)).build();
        let options = UreqHttpTransportOptions::from(options);
        Arc::new(options.with_agent(config.new_agent()).build())
    }
}

/// Something that should not have happened.
#[derive(Debug, Clone, Default)]
pub struct Defect {
    /// What kind of thing: `panic`, or the code of the answer.
    pub kind: &'static str,
    /// What the code says of it. What is in it of others is taken out before it is told.
    pub cause: String,
    /// The file and line, where they are known.
    pub place: Option<(String, u32)>,
    /// The request that it was in.
    pub request_id: Option<String>,
    /// That request's trace.
    pub trace_id: Option<String>,
    /// That request's method.
    pub method: Option<&'static str>,
    /// That request's path, as a template.
    pub route: Option<String>,
}

/// Where defects go. They wait in a queue of a fixed length for a thread of their own; what does not
/// fit in, or is not taken, is dropped.
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
    /// Sends to the project that a DSN names, which need not be there.
    #[must_use]
    pub fn new(dsn: Dsn, environment: &str, reported: Counter) -> Self {
        let mut options = ClientOptions::default();
        options.dsn = Some(dsn);
        options.release = Some(concat!("fireflow@", env!("CARGO_PKG_VERSION")).into());
        options.environment = Some(environment.to_owned().into());
        // Only what this file says: no name of the machine, no headers, no variables.
        options.default_integrations = false;
        options.send_default_pii = false;
        options.auto_session_tracking = false;
        options.transport = Some(Arc::new(Patient));
        let client = Client::from(sentry::apply_defaults(options));
        Self { client, limit: RateLimiter::direct(Quota::per_second(MAX_PER_SECOND)), reported }
    }

    /// Tells of a defect. Returns at once.
    pub fn report(&self, defect: &Defect) {
        if self.limit.check().is_err() {
            return;
        }
        self.client.capture_event(event(defect), None);
        self.reported.inc();
    }

    /// Sends what is left, within a limit.
    pub(super) fn end(&self, limit: Duration) {
        if !self.client.close(Some(limit)) {
            tracing::warn!("the last defects were not sent");
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

//! Observability of the service: metrics for Prometheus, traces for an OpenTelemetry collector,
//! defects for an error tracker. Telemetry must never cost a request its response: data that a
//! receiver does not accept is dropped.

pub mod errors;
pub mod lines;
pub mod metrics;
mod process;
pub mod request;
pub mod routes;
mod scrub;
pub mod traces;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use fireflow_service::monitor::{Monitor, UseCaseSpan};
use fireflow_storage::{Observed, Observer};
use futures_util::future::BoxFuture;

use errors::Errors;
use metrics::Metrics;
use traces::Traces;

/// The receivers of the service's telemetry.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Metrics, which are always counted.
    pub metrics: Metrics,
    /// Traces, if they are collected.
    pub traces: Option<Traces>,
    /// Defects, if they are tracked.
    pub errors: Option<Errors>,
}

impl Telemetry {
    /// Sends the remaining data and shuts down, blocking for at most `limit`. Each receiver has its
    /// own limit, but its library does not apply it to every wait: neither to the wait for room in
    /// its queue nor to the wait for a request in progress.
    pub fn end(self: &Arc<Self>, limit: Duration) {
        let (of_traces, of_errors) = (Arc::clone(self), Arc::clone(self));
        // A receiver that keeps its own limit still has time to log what was lost.
        let each = limit.saturating_sub(limit / 4);
        let late = late(
            limit,
            vec![
                ("traces", Box::new(move || of_traces.traces.iter().for_each(|it| it.end(each)))),
                ("defects", Box::new(move || of_errors.errors.iter().for_each(|it| it.end(each)))),
            ],
        );
        for signal in late {
            tracing::warn!(signal, "the receiver was not ready in time; unsent data is lost");
        }
    }
}

/// A task and its name.
type Named = (&'static str, Box<dyn FnOnce() + Send>);

/// Runs all tasks at the same time, and returns the names of those that did not end within the
/// limit. A late task continues in a thread that nobody waits for, and that ends with the process
/// at the latest. A thread of the runtime would delay the runtime's shutdown.
fn late(limit: Duration, all: Vec<Named>) -> Vec<&'static str> {
    let until = Instant::now() + limit;
    let (tell, told) = mpsc::channel();
    let mut open = Vec::with_capacity(all.len());
    for (name, run) in all {
        open.push(name);
        let tell = tell.clone();
        let thread = thread::Builder::new().name(format!("end-{name}")).spawn(move || {
            run();
            // If this is late, nobody is listening any more.
            let _told = tell.send(name).is_ok();
        });
        if let Err(error) = thread {
            tracing::warn!(%error, signal = name, "could not start a thread to shut it down");
        }
    }
    // Otherwise the loop would wait for a task that panicked.
    drop(tell);
    while !open.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let Ok(name) = told.recv_timeout(left) else { break };
        open.retain(|it| *it != name);
    }
    open
}

/// Each statement counts in the metrics and for the request that ran it.
impl Observer for Telemetry {
    fn observed(&self, it: &Observed<'_>) {
        self.metrics.statement(it);
        request::with_current(|request| {
            request.count_statement(it);
            if let (Some(traces), Some(parent)) = (&self.traces, request.parent_span()) {
                traces.statement(&parent, it);
            }
        });
    }
}

/// Work counts for the request that it is done for.
impl Monitor for Telemetry {
    fn begin_use_case(&self) -> Option<UseCaseSpan> {
        request::begin_use_case(self.traces.as_ref()?)
    }

    fn join_request(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        match request::current() {
            Some(request) => Box::pin(request::within(request, work)),
            None => work,
        }
    }

    fn compiled(&self, took: Duration, result: &'static str) {
        self.metrics.compiled(took, result);
    }
}

/// Reports panics to the log, the metrics and the error tracker, instead of as text on standard
/// error. If a request's code panics, the report includes the request's id.
pub fn install_panic_hook(telemetry: Arc<Telemetry>) {
    std::panic::set_hook(Box::new(move |panic| {
        telemetry.metrics.panics.inc();
        let message = panic.payload_as_str().unwrap_or("a panic without a message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let mut defect = errors::Defect {
            kind: "panic",
            cause: message.to_owned(),
            place: panic.location().map(|it| (it.file().to_owned(), it.line())),
            ..errors::Defect::default()
        };
        request::with_current(|request| request.panicked(&mut defect));
        tracing::error!(
            target: "fireflow::panic",
            request_id = defect.request_id, trace_id = defect.trace_id, place, message, "panic"
        );
        if let Some(errors) = &telemetry.errors {
            errors.report(&defect);
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_silent_at_the_end_is_left_and_the_rest_ends_meanwhile() {
        let (hold, held) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let start = Instant::now();
        let late = late(
            Duration::from_secs(3),
            vec![
                ("silent", Box::new(move || assert!(held.recv().is_err()))),
                ("ready", Box::new(move || tell.send("ended").unwrap())),
            ],
        );
        assert_eq!(late, ["silent"]);
        assert_eq!(told.recv(), Ok("ended"));
        assert!(start.elapsed() >= Duration::from_secs(3));
        drop(hold);
    }

    #[test]
    fn nobody_waits_for_what_has_ended() {
        let run = || -> Vec<Named> { vec![("a", Box::new(|| {})), ("b", Box::new(|| {}))] };
        let start = Instant::now();
        assert!(late(Duration::from_secs(600), run()).is_empty());
        let panics: Vec<Named> = vec![("a", Box::new(|| panic!("as it should")))];
        assert_eq!(late(Duration::from_secs(600), panics), ["a"]);
        assert!(start.elapsed() < Duration::from_secs(300));
    }
}

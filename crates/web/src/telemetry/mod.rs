//! What the service tells of itself: numbers for Prometheus, traces for an OpenTelemetry collector,
//! defects for an error tracker. Nothing of it may cost a request its answer: what a receiver does
//! not take is dropped.

pub mod errors;
pub mod lines;
pub mod metrics;
mod process;
pub mod request;
pub mod routes;
mod scrub;
pub mod traces;

use std::sync::Arc;

use fireflow_storage::{Observed, Observer};

use errors::Errors;
use metrics::Metrics;
use traces::Traces;

/// Where the service tells of itself.
#[derive(Debug, Default)]
pub struct Telemetry {
    /// Numbers, always counted.
    pub metrics: Metrics,
    /// Traces, where they are collected.
    pub traces: Option<Traces>,
    /// Defects, where they are tracked.
    pub errors: Option<Errors>,
}

impl Telemetry {
    /// Sends what is still to be sent, and ends; blocks for some seconds at most.
    pub fn end(&self) {
        if let Some(traces) = &self.traces {
            traces.end();
        }
        if let Some(errors) = &self.errors {
            errors.end();
        }
    }
}

/// Each statement counts for itself and for the request that it is of.
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

/// Has panics told to the log, the metrics and the error tracker, instead of as text on standard
/// error. Where a request's code panics, its id is told too.
pub fn tell_of_panics(telemetry: Arc<Telemetry>) {
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

//! The outermost layer. It gives each request an id, converts every error to a problem, and records
//! each request in the log, the metrics and the trace.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use fireflow_domain::error::ErrorChain;
use fireflow_domain::text::excerpt;
use fireflow_telemetry::errors::Defect;
use fireflow_telemetry::request::{self, RequestRecord};
use fireflow_telemetry::routes::{self, Route, Routes};
use fireflow_telemetry::traces::{TRACE_RESPONSE, Trace};
use poem::error::{
    MethodNotAllowedError, NotFoundError, ParsePathError, ReadBodyError, ResponseError,
};
use poem::http::{HeaderName, HeaderValue, StatusCode, Version, header};
use poem::{Endpoint, IntoResponse, Request, Response};

use super::cors::Cors;
use super::rate_headers;
use crate::app::App;
use crate::problem::{Code, Problem};

/// The headers of every answer (OWASP REST security cheat sheet).
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];
/// The headers of every answer that does not set them itself: pages load nothing, and answers are
/// not cached.
const DEFAULT_HEADERS: [(HeaderName, HeaderValue); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];
/// Roughly how many headers this layer adds.
const ADDED_HEADERS: usize = 10;
/// One year.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Serves one request. Never fails, because every error becomes an answer.
///
/// # Errors
/// Returns none.
pub async fn envelope<E: Endpoint>(
    app: Arc<App>,
    routes: Arc<Routes>,
    next: Arc<E>,
    mut request: Request,
) -> poem::Result<Response> {
    let under_way = UnderWay::begin(Arc::clone(&app), &routes, &request);
    let asked = Arc::clone(&under_way.asked);
    let origin = app.gate.cors.origin(&request);
    let keeps_connection = request.version() < Version::HTTP_2;
    request.extensions_mut().insert(Arc::clone(&asked));
    let rate = app.gate.rates.state();
    if let Some(rate) = &rate {
        request.extensions_mut().insert(Arc::clone(rate));
    }

    let preflight = if origin.is_some() { Cors::preflight(&request) } else { None };
    let answer = match preflight {
        Some(answer) => Ok(answer),
        None => request::within(Arc::clone(&asked), next.call(request))
            .await
            .map(IntoResponse::into_response),
    };
    let mut response = answer.unwrap_or_else(|error| {
        let problem = problem_of(error, &under_way.path, asked.route.as_deref(), &routes);
        tell_cause(&app, &asked, &problem);
        problem.response(&asked.id)
    });
    let headers = response.headers_mut();
    headers.reserve(ADDED_HEADERS);
    if let Ok(value) = HeaderValue::from_str(&asked.id) {
        headers.insert("x-request-id", value);
    }
    headers.extend(asked.trace.response_header().map(|value| (TRACE_RESPONSE, value)));
    headers.extend(SECURITY_HEADERS);
    for (name, value) in DEFAULT_HEADERS {
        headers.entry(name).or_insert(value);
    }
    if let Some(rate) = rate.as_ref().and_then(|rate| rate.get()) {
        rate_headers::write(*rate, headers);
    }
    app.gate.cors.allow(headers, origin);
    if app.gate.is_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    // A closed connection sends the client's next request to another process.
    if keeps_connection && app.is_stopping.load(Ordering::Relaxed) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    under_way.end(response.status().as_u16());
    Ok(response)
}

/// How many random numbers are fetched from the system at once, because each fetch is a system
/// call.
const RANDOM_AHEAD: usize = 64;

thread_local! {
    static RANDOM: RefCell<Vec<u128>> = const { RefCell::new(Vec::new()) };
}

/// 128 random bits, for a unique id.
fn random_number() -> u128 {
    RANDOM.with_borrow_mut(|ahead| {
        if ahead.is_empty() {
            let mut bytes = [0_u8; RANDOM_AHEAD * 16];
            // Without randomness, ids repeat, which only makes the log harder to read.
            let _filled = getrandom::fill(&mut bytes).is_ok();
            let (numbers, _) = bytes.as_chunks();
            ahead.extend(numbers.iter().map(|number| u128::from_ne_bytes(*number)));
        }
        ahead.pop().unwrap_or_default()
    })
}

/// The logged status of a request whose client disconnected before there was an answer (as in
/// nginx).
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// A request in progress. However it ends, it is counted, logged and traced.
struct UnderWay {
    app: Arc<App>,
    asked: Arc<RequestRecord>,
    path: String,
    start: Instant,
    status: u16,
}

impl UnderWay {
    fn begin(app: Arc<App>, routes: &Routes, request: &Request) -> Self {
        let path = request.uri().path().to_owned();
        let method = routes::method_name(request.method());
        let route = routes.find(&path).cloned();
        let number = random_number();
        let id = format!("{number:032x}");
        let trace = match &app.telemetry.traces {
            Some(traces) => {
                let template = route.as_ref().map(|route| &*route.template);
                traces.begin(
                    request.headers(),
                    method,
                    template,
                    u64::try_from(number >> 64).unwrap_or_default(),
                )
            }
            None => Trace::told(request.headers()),
        };
        let client = app.gate.proxies.client(request);
        let asked = Arc::new(RequestRecord::new(id, client, method, route, trace));
        app.telemetry.metrics.in_flight.inc();
        Self { app, asked, path, start: Instant::now(), status: CLIENT_CLOSED_REQUEST }
    }

    fn end(mut self, status: u16) {
        self.status = status;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self { app, asked, path, start, status } = self;
        let (elapsed, status) = (start.elapsed(), *status);
        let metrics = &app.telemetry.metrics;
        metrics.in_flight.dec();
        metrics.request(asked.method, asked.shared_template(), status, elapsed);
        if let Some(traces) = &app.telemetry.traces {
            traces.end_request(asked, status);
        }
        let (statements, database_us) = asked.at_database();
        tracing::info!(
            target: "fireflow::request",
            request_id = %asked.id, trace_id = asked.trace.id(), method = asked.method,
            route = asked.template(), path = %excerpt(path), status,
            elapsed_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX),
            statements, database_us,
            client = %asked.client.text(),
            subject = %asked.subject.get().map(|subject| excerpt(subject)).unwrap_or_default(),
            "request"
        );
    }
}

fn tell_cause(app: &App, asked: &RequestRecord, problem: &Problem) {
    let Some(source) = &problem.source else { return };
    let cause = ErrorChain(&**source).to_string();
    let code = problem.code.as_str();
    if problem.code.status() != StatusCode::INTERNAL_SERVER_ERROR {
        tracing::warn!(request_id = %asked.id, %cause, code, "trouble");
        return;
    }
    tracing::error!(request_id = %asked.id, %cause, "defect");
    // The panic hook has already reported a panic.
    if let Some(errors) = app.telemetry.errors.as_ref().filter(|_| !asked.has_panicked()) {
        let mut defect = Defect { kind: code, cause, ..Defect::default() };
        asked.describe(&mut defect);
        errors.report(&defect);
    }
}

/// Converts any error to a problem: ours unchanged, the framework's by type.
fn problem_of(error: poem::Error, path: &str, route: Option<&Route>, routes: &Routes) -> Problem {
    let error = match error.downcast::<Problem>() {
        Ok(problem) => return problem,
        Err(error) => error,
    };
    if error.is::<NotFoundError>() || error.is::<ParsePathError>() {
        let nothing = format!("nothing exists at `{}`", excerpt(path));
        let nearest = if route.is_none() { routes.nearest(path) } else { None };
        let detail = match nearest {
            Some(meant) => format!("{nothing}; did you mean `{}`?", excerpt(&meant)),
            None => nothing,
        };
        return Problem::new(Code::NotFound, detail);
    }
    if error.is::<MethodNotAllowedError>() {
        let methods = route.map_or("GET, HEAD", |route| &route.allow);
        return Problem::new(Code::MethodNotAllowed, format!("allowed methods: {methods}"))
            .with_header(header::ALLOW, methods);
    }
    if let Some(read) = error.downcast_ref::<ReadBodyError>() {
        let detail = format!("the body cannot be read: {read}");
        let code = match read.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::TooLarge,
            _ => Code::MalformedRequest,
        };
        return Problem::new(code, detail);
    }
    if error.status().is_client_error() {
        return Problem::new(Code::MalformedRequest, error.to_string());
    }
    Problem::internal(error.to_string())
}

/// Converts a panic to a defect, whose message appears only in the log.
#[must_use]
pub fn panic_answer(panic: &(dyn std::any::Any + Send)) -> Problem {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    Problem::internal(format!("panic: {message}"))
}

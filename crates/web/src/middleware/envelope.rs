//! The outermost layer: gives each request an id, turns every error into a problem, and writes one
//! line of log.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use fireflow_domain::error::ErrorChain;
use fireflow_domain::text::excerpt;
use poem::error::{
    MethodNotAllowedError, NotFoundError, ParsePathError, ReadBodyError, ResponseError,
};
use poem::http::{HeaderName, HeaderValue, StatusCode, Version, header};
use poem::{Endpoint, IntoResponse, Request, Response};

use super::client::ClientAddress;
use super::cors::Cors;
use crate::app::App;
use crate::problem::{Code, Problem};

/// What is known of a request before its token is checked, among its extensions; and who asked, told
/// from the inside out to the log line.
#[derive(Debug)]
pub struct Asked {
    /// The request's id.
    pub id: String,
    /// Where it comes from.
    pub client: ClientAddress,
    /// Whose token it is.
    pub subject: OnceLock<String>,
}

/// A new id: 128 random bits.
fn new_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness ids repeat, which harms nothing but the log.
    let _filled = getrandom::fill(&mut bytes).is_ok();
    format!("{:032x}", u128::from_be_bytes(bytes))
}

/// The headers that every answer has (OWASP REST security cheat sheet).
const SECURITY_HEADERS: [(HeaderName, HeaderValue); 4] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];
/// Those that an answer has unless it says otherwise itself: no page may load anything, nothing is
/// kept.
const DEFAULT_HEADERS: [(HeaderName, HeaderValue); 2] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'"),
    ),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
];
/// How many headers an answer gets here, about.
const ADDED_HEADERS: usize = 8;
/// A year.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Which methods a path has, for `Allow`.
pub type AllowTable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Serves one request in its envelope. Never fails: every error has become an answer.
///
/// # Errors
/// None.
pub async fn envelope<E: Endpoint>(
    app: Arc<App>,
    allow: AllowTable,
    next: Arc<E>,
    mut request: Request,
) -> poem::Result<Response> {
    let start = Instant::now();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let client = app.gate.proxies.client(&request);
    let asked = Arc::new(Asked { id: new_id(), client, subject: OnceLock::new() });
    let origin = app.gate.cors.origin(&request);
    let keeps_connection = request.version() < Version::HTTP_2;
    request.extensions_mut().insert(Arc::clone(&asked));

    let preflight = if origin.is_some() { Cors::preflight(&request) } else { None };
    let answer = match preflight {
        Some(answer) => Ok(answer),
        None => next.call(request).await.map(IntoResponse::into_response),
    };
    let mut response = answer.unwrap_or_else(|error| {
        let problem = problem_of(error, &path, &allow);
        log_cause(&asked.id, &problem);
        problem.response(&asked.id)
    });
    let headers = response.headers_mut();
    headers.reserve(ADDED_HEADERS);
    if let Ok(value) = HeaderValue::from_str(&asked.id) {
        headers.insert("x-request-id", value);
    }
    headers.extend(SECURITY_HEADERS);
    for (name, value) in DEFAULT_HEADERS {
        headers.entry(name).or_insert(value);
    }
    app.gate.cors.allow(headers, origin);
    if app.gate.is_tls {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, HSTS);
    }
    // Who asks again does so of another process.
    if keeps_connection && app.is_stopping.load(Ordering::Relaxed) {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    tracing::info!(
        target: "fireflow::request",
        request_id = %asked.id, %method, path = %excerpt(&path),
        status = response.status().as_u16(),
        elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX),
        client = %client.text(),
        subject = %asked.subject.get().map(|subject| excerpt(subject)).unwrap_or_default(),
        "request"
    );
    Ok(response)
}

fn log_cause(id: &str, problem: &Problem) {
    let Some(source) = &problem.source else { return };
    let cause = ErrorChain(&**source).to_string();
    if problem.code.status() == StatusCode::INTERNAL_SERVER_ERROR {
        tracing::error!(request_id = %id, %cause, "defect");
    } else {
        tracing::warn!(request_id = %id, %cause, code = problem.code.as_str(), "trouble");
    }
}

/// Any error as a problem: ours as it is, the framework's translated.
fn problem_of(error: poem::Error, path: &str, allow: &AllowTable) -> Problem {
    let error = match error.downcast::<Problem>() {
        Ok(problem) => return problem,
        Err(error) => error,
    };
    if error.is::<NotFoundError>() || error.is::<ParsePathError>() {
        let detail = format!("there is nothing at `{}`", excerpt(path));
        return Problem::new(Code::NotFound, detail);
    }
    if error.is::<MethodNotAllowedError>() {
        return match allow(path) {
            Some(methods) => Problem::new(Code::MethodNotAllowed, format!("it takes {methods}"))
                .with_header(header::ALLOW, methods),
            None => Problem::new(Code::MethodNotAllowed, "it takes other methods"),
        };
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

/// What a panic becomes: a defect, whose message only the log sees.
#[must_use]
pub fn panic_answer(panic: &(dyn std::any::Any + Send)) -> Problem {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned());
    Problem::internal(format!("panic: {message}"))
}

//! The outermost layer: gives each request an id, turns every error into a problem, and writes one
//! line of log.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Instant;

use fireflow_domain::error::ErrorChain;
use fireflow_domain::text::excerpt;
use poem::error::{
    MethodNotAllowedError, NotFoundError, ParsePathError, ReadBodyError, ResponseError,
};
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{Endpoint, IntoResponse, Request, Response};

use super::auth::client_address;
use crate::app::Context;
use crate::problem::{Code, Problem};

/// The request's id, among its extensions.
#[derive(Debug, Clone)]
pub struct RequestId(pub String);

/// A new id: 128 random bits.
fn new_id() -> String {
    let mut bytes = [0_u8; 16];
    // Without randomness ids repeat, which harms nothing but the log.
    let _filled = getrandom::fill(&mut bytes).is_ok();
    bytes.iter().fold(String::with_capacity(32), |mut text, byte| {
        // Writing to a string cannot fail.
        let _written = write!(text, "{byte:02x}").is_ok();
        text
    })
}

/// The headers that every answer has.
const SECURITY_HEADERS: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];

/// Which methods a path has, for `Allow`.
pub type AllowTable = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Serves one request in its envelope. Never fails: every error has become an answer.
///
/// # Errors
/// None.
pub async fn envelope<E: Endpoint>(
    allow: AllowTable,
    next: Arc<E>,
    mut request: Request,
) -> poem::Result<Response> {
    let start = Instant::now();
    let id = new_id();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let client = client_address(&request);
    request.extensions_mut().insert(RequestId(id.clone()));
    let who = Who::default();
    request.extensions_mut().insert(who.clone());

    let mut response = match next.call(request).await {
        Ok(answer) => answer.into_response(),
        Err(error) => {
            let problem = problem_of(error, &path, &allow);
            log_cause(&id, &problem);
            problem.response(&id)
        }
    };
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id) {
        headers.insert("x-request-id", value);
    }
    for (name, value) in SECURITY_HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let status = response.status().as_u16();
    let elapsed_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let subject = who.get();
    tracing::info!(
        target: "fireflow::request",
        request_id = %id, %method, path = %excerpt(&path), status, elapsed_us, %client, %subject,
        "request"
    );
    Ok(response)
}

/// Who asked, told from the inside out to the log line.
#[derive(Debug, Clone, Default)]
pub struct Who(Arc<std::sync::OnceLock<String>>);

impl Who {
    /// Notes who it is.
    pub fn note(&self, context: &Context) {
        self.0.get_or_init(|| context.caller.actor.subject.clone());
    }

    fn get(&self) -> String {
        self.0.get().map(|subject| excerpt(subject)).unwrap_or_default()
    }
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

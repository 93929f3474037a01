//! Limits of a request: its body, its time, and how many there are at once.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use poem::http::{Method, header};
use poem::{Body, Endpoint, IntoResponse, Request, Response};
use tokio::sync::Semaphore;

use super::envelope::panic_answer;
use super::{auth, slash};
use crate::app::{App, Context};
use crate::dto::body::is_ndjson;
use crate::idempotency::{self, Once};
use crate::problem::{Code, Problem};

/// What one request, and all together, may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest body, in bytes.
    pub max_body_bytes: usize,
    /// The largest body of a whole rule set, in bytes.
    pub max_rule_set_bytes: usize,
    /// The longest time to an answer.
    pub request_timeout: Duration,
    /// One permit per request that is served at the same time.
    pub in_flight: Arc<Semaphore>,
}

/// Serves a request within all limits: how many there are at once, how long each takes, who asks,
/// how large its body is. Dropping the request's future stops its query and undoes its transaction.
///
/// One layer does all of it: each layer of the framework moves the request, and what is to become of
/// it, once more.
///
/// # Errors
/// What the limits say, else those of the inner endpoint; a panic is a defect.
pub async fn guard<E: Endpoint>(
    app: Arc<App>,
    limits: Limits,
    next: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let served = AssertUnwindSafe(bounded(&app, &limits, &*next, request)).catch_unwind();
    match served.await {
        Ok(answer) => answer.map(IntoResponse::into_response),
        Err(panic) => Err(panic_answer(&*panic).into()),
    }
}

async fn bounded<E: Endpoint>(
    app: &Arc<App>,
    limits: &Limits,
    next: &E,
    mut request: Request,
) -> poem::Result<E::Output> {
    // A service that is busy is alive: who restarts it for being so makes matters worse.
    if request.uri().path().trim_end_matches('/') == "/health/live" {
        slash::normalise(&mut request);
        return next.call(request).await;
    }
    let Ok(_permit) = limits.in_flight.try_acquire() else {
        let detail = "too many requests are being served; try again";
        return Err(Problem::unavailable(Code::Unavailable, detail, 1).into());
    };
    let served = async {
        auth::authenticate(app, &mut request)?;
        slash::normalise(&mut request);
        read_body(limits, &mut request).await?;
        next.call(request).await
    };
    match tokio::time::timeout(limits.request_timeout, served).await {
        Ok(answer) => answer,
        Err(_) => {
            let detail = "the request took too long and was given up";
            Err(Problem::unavailable(Code::Timeout, detail, 1).into())
        }
    }
}

/// Notes a POST's key, if it has one, and what it stands for.
fn note_once(request: &mut Request, body: &[u8]) -> Result<(), Problem> {
    if request.method() != Method::POST {
        return Ok(());
    }
    let Some(key) = idempotency::key(request.headers())? else { return Ok(()) };
    let target = request.uri().path_and_query().map(|it| it.as_str().to_owned());
    let target = target.unwrap_or_default();
    let method = request.method().clone();
    let condition = idempotency::condition(request.headers());
    if let Some(context) = request.extensions_mut().get_mut::<Context>() {
        let who = &context.caller.actor.visibility;
        let fingerprint = idempotency::fingerprint(&method, &target, &condition, body, who);
        context.once = Some(Arc::new(Once { key, fingerprint }));
    }
    Ok(())
}

/// Reads the body up to the limit, whatever the headers say of its length, and refuses compressed
/// ones: a small one could unpack to any size.
///
/// # Errors
/// 413, 415 or 400.
async fn read_body(limits: &Limits, request: &mut Request) -> Result<(), Problem> {
    if let Some(encoding) = request.headers().get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let detail = "compressed bodies are not taken; leave `Content-Encoding` out";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    // Packets in lines are read while they are answered, and never all there.
    let is_inspection = request.uri().path().ends_with("/inspections");
    if is_inspection && request.method() == Method::POST && is_ndjson(request) {
        return Ok(());
    }
    // Only whole rule sets are put.
    let is_batch = request.uri().path().ends_with("/rules/batch");
    let max = if request.method() == Method::PUT || is_batch {
        limits.max_rule_set_bytes
    } else {
        limits.max_body_bytes
    };
    let too_large = || {
        let detail = format!("the body is limited to {max} bytes; send it in parts");
        Problem::new(Code::TooLarge, detail)
    };
    let declared = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok())
        .and_then(|length| length.parse::<usize>().ok());
    if declared.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let body = request.take_body();
    let bytes = match body.into_bytes_limit(max).await {
        Ok(bytes) => bytes,
        Err(poem::error::ReadBodyError::PayloadTooLarge) => return Err(too_large()),
        Err(error) => {
            let detail = "the body came to no good end";
            let problem = Problem::new(Code::MalformedRequest, detail);
            return Err(Problem { source: Some(error.into()), ..problem });
        }
    };
    note_once(request, &bytes)?;
    request.set_body(Body::from_bytes(bytes));
    Ok(())
}

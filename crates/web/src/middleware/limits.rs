//! The order of checks for a request: those that are cheap and need no authentication come first,
//! those that take memory and time come last.
//!
//! The order is host, rate of the address, token, role, rate of the subject, and then the body,
//! which the operation requests (see [`crate::upload`]).

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use fireflow_service::budget::{Reservation, Use};
use fireflow_service::error::ServiceError;
use fireflow_service::work::{Limits, Work, WorkGuard};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use hyper::body::Body as _;
use poem::http::{Method, Uri, header};
use poem::{Body, Endpoint, IntoResponse, Request, Response};

use super::envelope::panic_answer;
use super::open::{Open, START_PAGE};
use super::{auth, host, slash};
use crate::app::{App, Context};
use crate::operation::FindRow;
use crate::problem::{Code, Problem};

/// The largest answer that does not count towards the budget, in bytes. The connection's own
/// buffers are as large.
const UNCOUNTED_ANSWER_BYTES: u64 = 64 * 1024;

/// Serves a request within all limits. If the request's future is dropped, its query stops and its
/// transaction is rolled back.
///
/// This is a single layer because each layer of the framework moves the request and its future once
/// more.
///
/// # Errors
/// Returns the errors of the limits and of the inner endpoint. A panic becomes a defect.
pub async fn guard<E: Endpoint>(
    app: Arc<App>,
    row: FindRow,
    limits: Limits,
    next: Arc<E>,
    request: Request,
) -> poem::Result<Response> {
    let served = AssertUnwindSafe(bounded(&app, row, limits, &*next, request)).catch_unwind();
    match served.await {
        Ok(answer) => answer,
        Err(panic) => Err(panic_answer(&*panic).into()),
    }
}

async fn bounded<E: Endpoint>(
    app: &Arc<App>,
    row: FindRow,
    limits: Limits,
    next: &E,
    mut request: Request,
) -> poem::Result<Response> {
    host::check(&request)?;
    let timeout = limits.request_timeout;
    let answer = match Open::of(&request) {
        Some(asked) => {
            check_open(app, asked, &request)?;
            if asked == Open::StartPage {
                *request.uri_mut() = Uri::from_static(START_PAGE);
            }
            // A process at its limit is not ready for more requests. This answer needs no permit.
            if asked == Open::Ready && limits.in_flight.available_permits() == 0 {
                return Err(Problem::from(ServiceError::TooManyRequests).into());
            }
            slash::normalize(&mut request);
            tokio::time::timeout(timeout, respond(next, request)).await
        }
        None => {
            // Releases the request's resources, however the request ends.
            let work = WorkGuard(Arc::new(Work::new(limits)));
            slash::normalize(&mut request);
            auth::authenticate(app, row, &work.0, &mut request)?;
            tokio::time::timeout(timeout, counted(app, &work, next, request)).await
        }
    };
    answer.unwrap_or_else(|_| {
        let detail = "the request took too long and was abandoned";
        Err(Problem::unavailable(Code::Timeout, detail, 1).into())
    })
}

async fn respond<E: Endpoint>(next: &E, request: Request) -> poem::Result<Response> {
    next.call(request).await.map(IntoResponse::into_response)
}

/// Checks a request for an open path. Only GET and HEAD are allowed, no body is read, and no permit
/// is taken. Each address has a separate rate for these paths, which health checks never reach.
fn check_open(app: &App, open: Open, request: &Request) -> Result<(), Problem> {
    let client = auth::asked(request)?.client;
    let rates = &app.gate.rates;
    match open {
        Open::Live | Open::Ready => rates.check_probe(client.0)?,
        Open::Document | Open::StartPage => rates.check_document(client.0)?,
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let methods = "GET, HEAD";
    Err(Problem::new(Code::MethodNotAllowed, format!("allowed methods: {methods}"))
        .with_header(header::ALLOW, methods))
}

/// Serves a request with a valid token. A large answer counts towards the budget until it is sent.
/// So a client that reads no answers cannot fill the memory with them.
async fn counted<E: Endpoint>(
    app: &App,
    work: &WorkGuard,
    next: &E,
    request: Request,
) -> poem::Result<Response> {
    let context = request.extensions().get::<Context>();
    let subject = context.map(|context| context.caller.actor.subject.clone()).unwrap_or_default();
    // A request that changed nothing can be refused and retried. The answer to a change is always
    // sent, even beyond the budget.
    let operation = context.and_then(|context| context.operation);
    let can_be_refused = operation.is_some_and(|operation| !operation.writes());
    let answer = respond(next, request).await;
    work.0.release();
    let mut response = answer?;
    let body: BoxBody<Bytes, io::Error> = response.take_body().into();
    let length = body.size_hint().exact();
    let Some(length) = length.filter(|length| *length > UNCOUNTED_ANSWER_BYTES) else {
        response.set_body(Body::from(body));
        return Ok(response);
    };
    let memory = match app.backend.budget.try_reserve(&subject, Use::Answer, length) {
        Some(memory) => memory,
        None if can_be_refused => {
            return Err(Problem::from(app.backend.budget.refuse(Use::Answer)).into());
        }
        None => app.backend.budget.reserve_anyway(&subject, Use::Answer, length),
    };
    // The body is a single piece, so this does not copy it.
    let bytes = body.collect().await.map_err(Problem::internal)?.to_bytes();
    response.set_body(Body::from_bytes(Bytes::from_owner(Answer { bytes, _memory: memory })));
    Ok(response)
}

/// An answer that counts towards the budget as long as any of its bytes are in memory, including
/// the connection's buffers.
struct Answer {
    bytes: Bytes,
    _memory: Reservation,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

//! The order of work for a request: what is cheap and needs nobody's word comes first, what takes
//! memory and time comes last.
//!
//! Host, rate of the address, token, role, rate of the subject; only then the body, which the
//! operation asks for (see [`crate::upload`]).

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
use poem::http::{Method, header};
use poem::{Body, Endpoint, IntoResponse, Request, Response};

use super::envelope::panic_answer;
use super::open::Open;
use super::{auth, host, slash};
use crate::app::{App, Context};
use crate::problem::{Code, Problem};

/// Answers up to this many bytes are not counted: the connection's own buffers hold as much.
const UNCOUNTED_ANSWER_BYTES: u64 = 64 * 1024;

/// Serves a request within all limits. Dropping the request's future stops its query and undoes its
/// transaction.
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
    let served = AssertUnwindSafe(bounded(&app, limits, &*next, request)).catch_unwind();
    match served.await {
        Ok(answer) => answer,
        Err(panic) => Err(panic_answer(&*panic).into()),
    }
}

async fn bounded<E: Endpoint>(
    app: &Arc<App>,
    limits: Limits,
    next: &E,
    mut request: Request,
) -> poem::Result<Response> {
    host::check(&request)?;
    let timeout = limits.request_timeout;
    let answer = match Open::of(request.uri().path()) {
        Some(open) => {
            check_open(app, open, &request)?;
            // Who is full is not ready for more; to say so takes nobody's place.
            if open == Open::Ready && limits.in_flight.available_permits() == 0 {
                return Err(Problem::from(ServiceError::TooManyRequests).into());
            }
            slash::normalize(&mut request);
            tokio::time::timeout(timeout, respond(next, request)).await
        }
        None => {
            // What it takes it gives back here, however it ends.
            let work = WorkGuard(Arc::new(Work::new(limits)));
            slash::normalize(&mut request);
            auth::authenticate(app, &work.0, &mut request)?;
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

/// What is open to everybody is only read: nothing of a body is, no permit is taken, and each address
/// has a rate of its own for it, which nobody meets who only looks whether the service is well.
fn check_open(app: &App, open: Open, request: &Request) -> Result<(), Problem> {
    let client = auth::asked(request)?.client;
    let rates = &app.gate.rates;
    match open {
        Open::Live | Open::Ready => rates.check_probe(client.0)?,
        Open::Document => rates.check_document(client.0)?,
    }
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(());
    }
    let methods = "GET, HEAD";
    Err(Problem::new(Code::MethodNotAllowed, format!("allowed methods: {methods}"))
        .with_header(header::ALLOW, methods))
}

/// Serves a request whose token is good. A large answer is counted until it is sent: who reads none
/// of them cannot have any number of them made.
async fn counted<E: Endpoint>(
    app: &App,
    work: &WorkGuard,
    next: &E,
    request: Request,
) -> poem::Result<Response> {
    let context = request.extensions().get::<Context>();
    let subject = context.map(|context| context.caller.actor.subject.clone()).unwrap_or_default();
    // Asked again it answers the same. What was changed is answered, whatever that takes.
    let can_be_refused = matches!(*request.method(), Method::GET | Method::HEAD)
        || request.uri().path().ends_with("/inspections");
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
    // It is there in one piece: nothing is copied.
    let bytes = body.collect().await.map_err(Problem::internal)?.to_bytes();
    response.set_body(Body::from_bytes(Bytes::from_owner(Answer { bytes, _memory: memory })));
    Ok(response)
}

/// An answer that is counted as long as any of its bytes is kept, by the connection's buffers too.
struct Answer {
    bytes: Bytes,
    _memory: Reservation,
}

impl AsRef<[u8]> for Answer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

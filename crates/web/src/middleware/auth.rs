//! Authentication, which comes before any other check of a request.

use std::sync::Arc;

use fireflow_auth::{Identity, Refusal};
use fireflow_domain::actor::{Caller, Visibility};
use fireflow_domain::error::{Error, Violation};
use fireflow_domain::invisible::first_invisible;
use fireflow_service::idempotency::IdempotentRequest;
use fireflow_service::session::Session;
use fireflow_service::work::Work;
use fireflow_telemetry::request::RequestRecord;
use poem::Request;
use poem::http::{HeaderMap, Method};

use crate::app::{App, Context};
use crate::idempotency_key;
use crate::operation::FindRow;
use crate::problem::Problem;

/// The longest reason of a change, in characters.
const MAX_REASON_CHARS: usize = 1_000;

/// Returns the facts known about a request, such as its id and client address.
///
/// # Errors
/// Returns a defect if the outermost layer is missing.
pub fn asked(request: &Request) -> Result<Arc<RequestRecord>, Problem> {
    let asked = request.extensions().get::<Arc<RequestRecord>>().cloned();
    asked.ok_or_else(|| Problem::internal("a request without its envelope"))
}

/// Checks the token and attaches the caller to the request. Without a valid token, an answer must
/// not reveal what exists: it is neither 404, 405, 413 nor 422. `row` finds the row of an operation.
///
/// # Errors
/// Returns 401, 403 or 429.
pub fn authenticate(
    app: &Arc<App>,
    row: FindRow,
    work: &Arc<Work>,
    request: &mut Request,
) -> Result<(), Problem> {
    let asked = asked(request)?;
    let client = asked.client;
    app.gate.rates.check_address(client.0)?;
    let now = app.clock.now();
    let identity = crate::auth::authenticate(&app.authenticator, request.headers(), now);
    let identity = identity.map_err(|refusal| {
        app.telemetry.metrics.authentication_failure(refusal.reason());
        let is_unknown = refusal == Refusal::Invalid;
        let problem = Problem::from(refusal);
        match app.authenticator.local_secret() {
            Some(file) if is_unknown => {
                let detail = format!(
                    "the token is not valid: this service verifies tokens with the secret in \
                     `{file}`; run `fireflow jwt` in the folder that contains `.fireflow`"
                );
                Problem { detail, ..problem }
            }
            _ => problem,
        }
    })?;
    asked.subject.get_or_init(|| identity.actor.subject.clone());
    let Identity { actor, expires_at } = identity;
    let caller = Caller {
        actor,
        now,
        request_id: asked.id.clone(),
        client_address: client.text(),
        // A fault in this header is reported once the role has been checked.
        reason: change_reason(request.headers()).unwrap_or_default(),
    };
    let idempotent = idempotent(request, &caller.actor.visibility).map(Arc::new);
    let (backend, work) = (Arc::clone(&app.backend), Arc::clone(work));
    let deadline = std::time::Instant::now() + backend.request_timeout;
    let session = Session { backend, caller: Arc::new(caller), deadline, idempotent, work };
    let id = asked.route.as_ref().and_then(|route| route.operation(asked.method));
    let context =
        Context { app: Arc::clone(app), session, expires_at, operation: id.and_then(row) };
    request.extensions_mut().insert(context);
    Ok(())
}

/// The idempotency key of a POST, if it has a valid one, with the request that it identifies.
fn idempotent(request: &Request, who: &Visibility) -> Option<IdempotentRequest> {
    if request.method() != Method::POST {
        return None;
    }
    let key = idempotency_key::key(request.headers()).ok().flatten()?;
    let target = request.uri().path_and_query().map(|it| it.as_str()).unwrap_or_default();
    let condition = idempotency_key::condition(request.headers());
    Some(IdempotentRequest::new(key, request.method().as_str(), target, &condition, who))
}

/// Reads the reason for a change, for the audit trail: UTF-8 of limited length.
///
/// # Errors
/// Returns the fault of the header.
pub fn change_reason(headers: &HeaderMap) -> Result<String, Error> {
    const NAME: &str = "Change-Reason";
    let fault = |detail: String| Error::invalid(Violation::header(NAME, detail));
    let mut values = headers.get_all(NAME).iter();
    let Some(value) = values.next() else { return Ok(String::new()) };
    if values.next().is_some() {
        return Err(fault("is given more than once".to_owned()));
    }
    let text =
        std::str::from_utf8(value.as_bytes()).map_err(|_| fault("is not UTF-8".to_owned()))?.trim();
    let chars = text.chars().count();
    if chars > MAX_REASON_CHARS {
        return Err(fault(format!(
            "has {chars} characters; at most {MAX_REASON_CHARS} are allowed"
        )));
    }
    if text.chars().any(char::is_control) {
        return Err(fault("contains a control character; remove it".to_owned()));
    }
    if let Some((character, position)) = first_invisible(text) {
        let detail =
            format!("contains the invisible {character} at character {position}; remove it");
        return Err(fault(detail));
    }
    Ok(text.to_owned())
}

//! Who asks: checked before anything else of a request is looked at.

use std::sync::Arc;

use fireflow_domain::actor::Caller;
use fireflow_domain::error::{Error, Violation};
use fireflow_domain::invisible::first_invisible;
use poem::Request;
use poem::http::HeaderMap;

use crate::app::{App, Context};
use crate::auth::Identity;
use crate::problem::Problem;
use crate::telemetry::request::Asked;

/// The longest reason of a change, in characters.
const MAX_REASON_CHARS: usize = 1_000;

/// Whether a path is open to everybody: the description, and the probes.
fn is_open(path: &str) -> bool {
    let bare = path.trim_end_matches('/');
    bare == "/docs" || bare.starts_with("/docs/") || is_probe(path)
}

/// Whether a path is one that a machine asks again and again, to see whether the service is well.
fn is_probe(path: &str) -> bool {
    matches!(path.trim_end_matches('/'), "/health/live" | "/health/ready")
}

/// Checks the token, and hands on who asks. Without one nothing of what exists is told: neither
/// 404, 405, 413 nor 422.
///
/// # Errors
/// 401, 403, 422 or 429.
pub fn authenticate(app: &Arc<App>, request: &mut Request) -> Result<(), Problem> {
    // Without it the outermost layer was left out.
    let asked = request
        .extensions()
        .get::<Arc<Asked>>()
        .cloned()
        .ok_or_else(|| Problem::internal("a request without its envelope"))?;
    let client = asked.client;
    if !is_probe(request.uri().path()) {
        app.gate.rates.check_address(client.0)?;
    }
    if !is_open(request.uri().path()) {
        let now = app.clock.now();
        let identity = app.authenticator.authenticate(request.headers(), now);
        let identity = identity.map_err(|refusal| {
            app.telemetry.metrics.authentication_failure(refusal.reason());
            Problem::from(refusal)
        })?;
        asked.subject.get_or_init(|| identity.actor.subject.clone());
        app.gate.rates.check_subject(&identity.actor.subject)?;
        let reason = reason(request.headers()).map_err(Problem::from)?;
        let Identity { actor, expires_at } = identity;
        let caller = Caller {
            actor,
            now,
            request_id: asked.id.clone(),
            client_address: client.text(),
            reason,
        };
        let deadline = std::time::Instant::now() + app.request_timeout;
        let context = Context { app: Arc::clone(app), caller, expires_at, deadline, once: None };
        request.extensions_mut().insert(context);
    }
    Ok(())
}

/// Why something is changed, for the audit trail: UTF-8, bounded.
fn reason(headers: &HeaderMap) -> Result<String, Error> {
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
        return Err(fault("holds a control character; remove it".to_owned()));
    }
    if let Some((character, position)) = first_invisible(text) {
        let detail =
            format!("holds {character} at character {position}, which nobody sees; remove it");
        return Err(fault(detail));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::is_open;

    #[test]
    fn few_paths_are_open() {
        for open in ["/docs", "/docs/", "/docs/swagger-ui", "/health/live", "/health/ready/"] {
            assert!(is_open(open), "{open}");
        }
        for closed in
            ["/", "/health", "/health/", "/docsx", "/firewalls/", "/health/live/x", "//docs"]
        {
            assert!(!is_open(closed), "{closed}");
        }
    }
}

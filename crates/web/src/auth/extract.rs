//! The role that an operation requires, as its first argument.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use fireflow_auth::Refusal;
use fireflow_domain::actor::Role;
use fireflow_service::rates::RateCell;
use fireflow_telemetry::request::RequestRecord;
use poem::http::Method;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use crate::app::Context;
use crate::idempotency_key;
use crate::middleware::auth::change_reason;
use crate::problem::{Code, Problem};
use crate::upload::declares_body;

/// The role that an operation requires, as a type. It is the first argument of the operation, so
/// that a missing role is reported before path, query and body are read.
pub trait Needs: Send + Sync + 'static {
    /// The role.
    const ROLE: Option<Role>;
}

macro_rules! needs {
    ($($name:ident = $role:expr, $doc:literal;)+) => {
        $(
            #[doc = $doc]
            #[derive(Debug)]
            pub struct $name;

            impl Needs for $name {
                const ROLE: Option<Role> = $role;
            }
        )+
    };
}

needs! {
    Anyone = None, "Any role.";
    Viewer = Some(Role::Viewer), "Reads and inspects.";
    Editor = Some(Role::Editor), "Also writes, reads and restores deleted resources, and reads \
                                  the audit trail.";
    HealthCheck = Some(Role::HealthCheck), "Reads the detailed health.";
}

/// The name of the security scheme in the description.
pub const SCHEME: &str = "token";

/// A caller that has a role. The middleware has already checked the token. This checks the role and
/// then the subject's rate limit, before the rest of the request is read.
pub struct As<R> {
    context: Context,
    role: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for As<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("As").field(&self.context).finish()
    }
}

impl<R> Deref for As<R> {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

/// Reports faults in the headers of a change. The middleware has read these headers, and ignored
/// invalid ones.
fn check_headers(request: &Request) -> Result<(), Problem> {
    change_reason(request.headers())?;
    if request.method() == Method::POST {
        idempotency_key::key(request.headers())?;
    }
    Ok(())
}

impl<'a, R: Needs> ApiExtractor<'a> for As<R> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "A JSON Web Token (HS256, RS256, ES256 or EdDSA). For a local service, \
                     `fireflow jwt` prints one (in a checkout: `cargo xtask jwt`).",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        // Without a context, the middleware is missing, so access is denied.
        let context = request
            .extensions()
            .get::<Context>()
            .cloned()
            .ok_or_else(|| Problem::from(Refusal::Missing))?;
        // A caller without the role gets 403 rather than 429, but the request counts towards its
        // rate.
        let state = request.extensions().get::<RateCell>();
        let rate = context.app.gate.rates.check_subject(&context.caller.actor.subject, state);
        if let Some(role) = R::ROLE
            && !context.caller.actor.may(role)
        {
            return Err(Problem::forbidden(role).into());
        }
        rate.map_err(Problem::from)?;
        check_headers(request)?;
        let takes_body = request
            .extensions()
            .get::<Arc<RequestRecord>>()
            .and_then(|asked| asked.route.as_ref().map(|route| route.takes_body(asked.method)))
            .unwrap_or_default();
        // Operations with a body admit the request once the body has arrived.
        if !takes_body {
            if declares_body(request.headers()) {
                let detail = "this operation does not accept a request body; send the request \
                              without one";
                return Err(Problem::new(Code::MalformedRequest, detail).into());
            }
            context.work.admit().map_err(Problem::from)?;
        }
        Ok(Self { context, role: PhantomData })
    }
}

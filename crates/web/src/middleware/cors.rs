//! Pages of other origins that ask from browsers (the Fetch standard's CORS protocol): nobody's
//! unless they are named. The framework's own refuses every request of an origin that is not named,
//! the service's own pages included; here such a request is answered as any other, and the browser
//! shows its page nothing of it.

use poem::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use poem::{Request, Response};

const METHODS: &str = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Accept, If-Match, If-None-Match, \
                               Idempotency-Key, Change-Reason";
const ANSWER_HEADERS: &str = "ETag, Location, Link, X-Pagination, FireFlow-Left-Out, X-Request-Id, Retry-After, Allow, \
                              WWW-Authenticate, Idempotency-Replayed, RateLimit, RateLimit-Policy";
/// How long a browser remembers what it was told, in seconds.
const MAX_AGE: &str = "600";

/// Which origins are named.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// Names them, in lower case.
    #[must_use]
    pub const fn new(origins: Vec<String>) -> Self {
        Self { origins }
    }

    /// The origin of a request, where it is named.
    #[must_use]
    pub fn origin(&self, request: &Request) -> Option<HeaderValue> {
        let origin = request.headers().get(header::ORIGIN)?;
        let text = origin.to_str().ok()?.to_ascii_lowercase();
        self.origins.contains(&text).then(|| origin.clone())
    }

    /// What a browser asks before it sends a request of a page: answered without a token, which it
    /// does not send. Says only what is the same for everything.
    #[must_use]
    pub fn preflight(request: &Request) -> Option<Response> {
        let is_preflight = request.method() == Method::OPTIONS
            && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        is_preflight.then(|| {
            Response::builder()
                .status(StatusCode::NO_CONTENT)
                .header(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS)
                .header(header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS)
                .header(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE)
                .finish()
        })
    }

    /// Lets a page of the origin see the answer. A token is sent by the page itself, never by the
    /// browser, so that no credentials are allowed.
    pub fn allow(&self, headers: &mut HeaderMap, origin: Option<HeaderValue>) {
        if self.origins.is_empty() {
            return;
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(
                header::ACCESS_CONTROL_EXPOSE_HEADERS,
                HeaderValue::from_static(ANSWER_HEADERS),
            );
        }
    }
}

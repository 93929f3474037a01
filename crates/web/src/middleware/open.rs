//! Paths that are open to everybody, without a token.

use poem::Request;
use poem::http::{Method, header};

/// What is open to everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// The liveness probe: the process answers it however busy it is.
    Live,
    /// The readiness probe.
    Ready,
    /// The description of the API.
    Document,
    /// `/` in a browser: the page at [`START_PAGE`]. Other clients get what `/` is to them: an
    /// unknown path.
    StartPage,
}

impl Open {
    /// What a request asks for of this; none if it needs a token.
    #[must_use]
    pub fn of(request: &Request) -> Option<Self> {
        if is_for_start_page(request) {
            return Some(Self::StartPage);
        }
        Self::at(request.uri().path())
    }

    fn at(path: &str) -> Option<Self> {
        match path.strip_suffix('/').unwrap_or(path) {
            "/health/live" => Some(Self::Live),
            "/health/ready" => Some(Self::Ready),
            bare if bare == "/docs" || bare.starts_with("/docs/") => Some(Self::Document),
            _ => None,
        }
    }
}

/// The path of the start page.
pub const START_PAGE: &str = "/docs/start";

fn is_for_start_page(request: &Request) -> bool {
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    // Browsers name HTML first; others accept `*/*`.
    let takes_html = || {
        let mut accepted = request.headers().get_all(header::ACCEPT).iter();
        accepted.any(|value| value.to_str().is_ok_and(|value| value.contains("text/html")))
    };
    is_read && request.uri().path().trim_end_matches('/').is_empty() && takes_html()
}

#[cfg(test)]
mod tests {
    use super::Open;

    #[test]
    fn few_paths_are_open() {
        for open in ["/docs", "/docs/", "/docs/swagger-ui", "/health/live", "/health/ready/"] {
            assert!(Open::at(open).is_some(), "{open}");
        }
        for closed in
            ["/", "/health", "/health/", "/docsx", "/firewalls/", "/health/live/x", "//docs"]
        {
            assert!(Open::at(closed).is_none(), "{closed}");
        }
    }
}

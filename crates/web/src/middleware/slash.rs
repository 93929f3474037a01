//! Paths work with and without a slash at their end, without a redirect.

use poem::http::Uri;
use poem::http::uri::PathAndQuery;
use poem::{Endpoint, Request};
use std::sync::Arc;

/// Gives every path the form in which it is routed: without a slash at its end, as the framework
/// registers it.
///
/// # Errors
/// Those of the inner endpoint.
pub async fn normalise<E: Endpoint>(next: Arc<E>, mut request: Request) -> poem::Result<E::Output> {
    if let Some(uri) = routed(request.uri()) {
        *request.uri_mut() = uri;
    }
    next.call(request).await
}

fn routed(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if path.starts_with("/docs") {
        return None;
    }
    let bare = path.trim_end_matches('/');
    if bare.is_empty() || bare.len() == path.len() {
        return None;
    }
    let text = match uri.query() {
        Some(query) => format!("{bare}?{query}"),
        None => bare.to_owned(),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(text).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_take_the_form_of_their_route() {
        let path = |text: &str| {
            let uri: Uri = text.parse().unwrap();
            routed(&uri).unwrap_or(uri).to_string()
        };
        assert_eq!(path("/firewalls"), "/firewalls");
        assert_eq!(path("/firewalls/"), "/firewalls");
        assert_eq!(path("/firewalls/?page=2"), "/firewalls?page=2");
        assert_eq!(path("/firewalls?page=2"), "/firewalls?page=2");
        assert_eq!(path("/docs/swagger-ui"), "/docs/swagger-ui");
        assert_eq!(path("/"), "/");
    }
}

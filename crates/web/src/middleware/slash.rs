//! Paths work with and without a trailing slash, without a redirect.

use poem::Request;
use poem::http::Uri;
use poem::http::uri::PathAndQuery;

/// Removes the trailing slash of a path, because the framework registers routes without it.
pub fn normalize(request: &mut Request) {
    if let Some(uri) = routed(request.uri()) {
        *request.uri_mut() = uri;
    }
}

fn routed(uri: &Uri) -> Option<Uri> {
    let path = uri.path();
    if path.starts_with("/docs") {
        return None;
    }
    let bare = path.strip_suffix('/').filter(|bare| !bare.is_empty())?;
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
        assert_eq!(path("/firewalls//"), "/firewalls/");
    }
}

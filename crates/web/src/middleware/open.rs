//! Paths that are open to everybody, without a token.

/// A kind of open path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// The liveness probe: the process answers it however busy it is.
    Live,
    /// The readiness probe.
    Ready,
    /// The description of the API.
    Document,
}

impl Open {
    /// The kind of an open path; none if the path requires a token.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        match path.trim_end_matches('/') {
            "/health/live" => Some(Self::Live),
            "/health/ready" => Some(Self::Ready),
            bare if bare == "/docs" || bare.starts_with("/docs/") => Some(Self::Document),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Open;

    #[test]
    fn few_paths_are_open() {
        for open in ["/docs", "/docs/", "/docs/swagger-ui", "/health/live", "/health/ready/"] {
            assert!(Open::of(open).is_some(), "{open}");
        }
        for closed in
            ["/", "/health", "/health/", "/docsx", "/firewalls/", "/health/live/x", "//docs"]
        {
            assert!(Open::of(closed).is_none(), "{closed}");
        }
    }
}

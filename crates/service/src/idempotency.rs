//! Requests that a client may send again, because it does not know whether they succeeded
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! Each subject has its own keys. The answer of a successful request is stored under its key, in
//! the transaction of the change itself. A failed request changes nothing, and its key stays free.
//! So a repeated request gets the first answer exactly if the first request was carried out.

use std::sync::OnceLock;

use fireflow_domain::actor::Visibility;
use fireflow_domain::text::Tenant;
use sha2::{Digest, Sha256};

/// A request's key, and the parts of the request that its fingerprint covers. The body is added
/// once it has been received.
#[derive(Debug)]
pub struct IdempotentRequest {
    /// The key.
    pub key: String,
    head: Sha256,
    body: OnceLock<[u8; 32]>,
}

impl IdempotentRequest {
    /// A request with a key. `target` is its path and query, `condition` its `If-Match`, and `who`
    /// is what its token makes visible.
    #[must_use]
    pub fn new(
        key: String,
        method: &str,
        target: &str,
        condition: &[u8],
        who: &Visibility,
    ) -> Self {
        let mut head = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // The length comes first, so that different parts cannot concatenate to the same bytes.
            head.update(bytes.len().to_be_bytes());
            head.update(bytes);
        };
        part(method.as_bytes());
        part(target.as_bytes());
        part(condition);
        match who {
            Visibility::All => part(b"all"),
            Visibility::Tenants(tenants) => {
                let mut words: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
                words.sort_unstable();
                part(b"tenants");
                words.iter().for_each(|word| part(word.as_bytes()));
            }
        }
        Self { key, head, body: OnceLock::new() }
    }

    /// Stores the hash of the request's body. Only the first call has an effect.
    pub fn set_body(&self, hash: [u8; 32]) {
        self.body.get_or_init(|| hash);
    }

    /// A hash of everything that the answer depends on. A missing body counts as an empty one.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = self.head.clone();
        hash.update(self.body.get_or_init(|| Sha256::digest(b"").into()));
        hash.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_differ_have_other_fingerprints() {
        let full = |method: &str, target: &str, condition: &[u8], body: &str, who: &Visibility| {
            let request = IdempotentRequest::new("key".to_owned(), method, target, condition, who);
            request.set_body(Sha256::digest(body).into());
            request.fingerprint()
        };
        let of = |target: &str, body: &str, who: &Visibility| full("POST", target, b"", body, who);
        let blue = Visibility::Tenants(vec![Tenant::parse("blue").unwrap()]);
        let all = [
            of("/a", "b", &Visibility::All),
            of("/ab", "", &Visibility::All),
            of("/a", "c", &Visibility::All),
            of("/a", "b", &blue),
            of("/a", "b", &Visibility::Tenants(vec![])),
            full("PUT", "/a", b"", "b", &Visibility::All),
            full("POST", "/a", b"\"7\"", "b", &Visibility::All),
        ];
        let different: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }
}

//! Requests that a client may send again, because it does not know whether they came through
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The key is the subject's own. What is kept under it, in the transaction of the change itself, is
//! the answer of a request that changed something; one that failed changed nothing, and its key is
//! free. So the first answer is given again exactly when the first request was done.

use std::sync::OnceLock;

use fireflow_domain::actor::Visibility;
use fireflow_domain::text::Tenant;
use sha2::{Digest, Sha256};

/// A request's key, and what the request is. The body is added when it was received.
#[derive(Debug)]
pub struct IdempotentRequest {
    /// The key.
    pub key: String,
    head: Sha256,
    body: OnceLock<[u8; 32]>,
}

impl IdempotentRequest {
    /// A request with a key: what is asked, on which condition (`If-Match`), by a token that shows
    /// what.
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
            // With its length: no two requests run together alike.
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

    /// Notes the hash of the request's body; of the first one, should there be two.
    pub fn set_body(&self, hash: [u8; 32]) {
        self.body.get_or_init(|| hash);
    }

    /// A hash of all that the answer depends on. A request without a body has an empty one.
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

//! Requests that a client may repeat because it does not know whether they succeeded:
//! `Idempotency-Key` on POST (draft-ietf-httpapi-idempotency-key-header).
//!
//! A key belongs to a subject. The answer of a request that changed something is stored under its
//! key, in the transaction of the change. A failed request changed nothing, and its key stays free.
//! So a repeated request gets the first answer exactly if the first request succeeded.

use std::sync::OnceLock;

use fireflow_domain::actor::Visibility;
use fireflow_domain::error::{Error, Violation};
use fireflow_domain::text::Tenant;
use poem::http::{HeaderMap, Method, header};
use sha2::{Digest, Sha256};

/// The header of a request.
pub const HEADER: &str = "Idempotency-Key";
/// The header of a repeated answer.
pub const REPLAYED: &str = "idempotency-replayed";
/// The longest key, in characters.
const MAX_CHARS: usize = 255;

/// A request with an idempotency key. The hash of the body is added once it has been received.
#[derive(Debug)]
pub struct Once {
    /// The key.
    pub key: String,
    head: Sha256,
    body: OnceLock<[u8; 32]>,
}

impl Once {
    /// A request with a key. Its fingerprint covers the method, the target, the condition
    /// (`If-Match`), and what the token can see.
    #[must_use]
    pub fn new(
        key: String,
        method: &Method,
        target: &str,
        condition: &[u8],
        who: &Visibility,
    ) -> Self {
        let mut head = Sha256::new();
        let mut part = |bytes: &[u8]| {
            // The length of each part is hashed too, so that different requests cannot be
            // concatenated to the same bytes.
            head.update(bytes.len().to_be_bytes());
            head.update(bytes);
        };
        part(method.as_str().as_bytes());
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

    /// Sets the hash of the request's body. Only the first call has an effect.
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

/// The key of a request, with or without quotes (RFC 8941, 3.3.3); `None` if it has no key.
///
/// # Errors
/// Returns `Error::Invalid` if it is not a single key of 1 to 255 visible ASCII characters.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let fault = |detail: &str| Error::invalid(Violation::header(HEADER, detail));
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(fault("is given more than once"));
    }
    let takes = "must be 1 to 255 visible ASCII characters, for example a UUID";
    let text = value.to_str().map_err(|_| fault(takes))?.trim();
    let bare = text.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(text);
    let is_plain = (1..=MAX_CHARS).contains(&bare.len())
        && bare.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    if is_plain { Ok(Some(bare.to_owned())) } else { Err(fault(takes)) }
}

/// The condition of a request (`If-Match`), all of its lines.
#[must_use]
pub fn condition(headers: &HeaderMap) -> Vec<u8> {
    let lines: Vec<&[u8]> =
        headers.get_all(header::IF_MATCH).iter().map(|line| line.as_bytes()).collect();
    lines.join(&b", "[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        key(&headers).map_err(|_| ())
    }

    #[test]
    fn a_key_is_a_plain_word() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["8e03978e-40d5"]), Ok(Some("8e03978e-40d5".into())));
        assert_eq!(read(&["\"8e03978e-40d5\""]), Ok(Some("8e03978e-40d5".into())));
        let long = "x".repeat(256);
        for bad in ["", "\"\"", "a b", "a\\b", "\"a", long.as_str()] {
            assert_eq!(read(&[bad]), Err(()), "{bad}");
        }
        assert_eq!(read(&["a", "a"]), Err(()));
    }

    #[test]
    fn requests_that_differ_have_other_fingerprints() {
        let full =
            |method: &Method, target: &str, condition: &[u8], body: &str, who: &Visibility| {
                let once = Once::new("key".to_owned(), method, target, condition, who);
                once.set_body(Sha256::digest(body).into());
                once.fingerprint()
            };
        let of = |target: &str, body: &str, who: &Visibility| {
            full(&Method::POST, target, b"", body, who)
        };
        let blue = Visibility::Tenants(vec![Tenant::parse("blue").unwrap()]);
        let all = [
            of("/a", "b", &Visibility::All),
            of("/ab", "", &Visibility::All),
            of("/a", "c", &Visibility::All),
            of("/a", "b", &blue),
            of("/a", "b", &Visibility::Tenants(vec![])),
            full(&Method::PUT, "/a", b"", "b", &Visibility::All),
            full(&Method::POST, "/a", b"\"7\"", "b", &Visibility::All),
        ];
        let different: std::collections::HashSet<_> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
    }
}

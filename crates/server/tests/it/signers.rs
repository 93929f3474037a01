//! Signers of tokens, and files of keys, for tests.

use std::time::Duration;

use fireflow_auth::{Authenticator, KeyFiles, Refusal, Secret, TokenRules, UNPROVEN_GRACE};
use fireflow_domain::time::Instant;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::{Value, json};

use crate::support::SECRET;

/// An identity provider's key.
pub(crate) struct Signer {
    pub(crate) pair: KeyPair,
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<&'static str>,
}

impl Signer {
    pub(crate) fn new(algorithm: Algorithm, kid: Option<&'static str>) -> Self {
        let of: &SignatureAlgorithm = match algorithm {
            Algorithm::RS256 => &PKCS_RSA_SHA256,
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            _ => &PKCS_ED25519,
        };
        Self { pair: KeyPair::generate_for(of).unwrap(), algorithm, kid }
    }

    pub(crate) fn encoding_key(&self) -> EncodingKey {
        let pem = self.pair.serialize_pem();
        let read = match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem,
            Algorithm::ES256 => EncodingKey::from_ec_pem,
            _ => EncodingKey::from_ed_pem,
        };
        read(pem.as_bytes()).unwrap()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: self.kid.map(str::to_owned), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.encoding_key()).unwrap()
    }

    pub(crate) fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    pub(crate) fn jwk(&self) -> Value {
        let pem = self.public_pem();
        let read = match self.algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem,
            Algorithm::ES256 => DecodingKey::from_ec_pem,
            _ => DecodingKey::from_ed_pem,
        };
        let key = read(pem.as_bytes()).unwrap();
        let jwk = jsonwebtoken::jwk::Jwk::from_decoding_key(&key, Some(self.algorithm)).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }
}

pub(crate) fn now() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

pub(crate) fn seconds() -> i64 {
    now().micros() / 1_000_000
}

pub(crate) fn claims() -> Value {
    json!({
        "sub": "ann", "roles": ["editor"], "iss": "idp", "aud": "fireflow",
        "iat": seconds(), "exp": seconds() + 60,
    })
}

pub(crate) fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

pub(crate) struct Files {
    pub(crate) folder: tempfile::TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Replaces a file atomically, so that no reader sees a part of it.
    pub(crate) fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let (draft, path) = (self.folder.path().join("draft"), self.folder.path().join(name));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &path).unwrap();
        path
    }

    pub(crate) fn trusting(&self, keys: &str) -> KeyFiles {
        KeyFiles {
            secrets: vec![Secret::new(SECRET)],
            secret_file: None,
            public_keys: Some(self.write("keys", keys)),
            revoked: None,
            rules: TokenRules {
                issuer: Some("idp".to_owned()),
                audience: Some("fireflow".to_owned()),
                ..TokenRules::default()
            },
            takes_weak_secrets: false,
            grace: UNPROVEN_GRACE,
        }
    }
}

pub(crate) fn authenticator(files: &KeyFiles) -> Authenticator {
    Authenticator::new(files.read().unwrap())
}

pub(crate) fn accepts(authenticator: &Authenticator, token: &str) -> bool {
    authenticator.verify(token, now()).is_ok()
}

pub(crate) fn hs256(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

pub(crate) fn why(authenticator: &Authenticator, token: &str) -> String {
    match authenticator.verify(token, now()).unwrap_err() {
        Refusal::Unfit(_, why) => why,
        other => format!("{other:?}"),
    }
}

/// A text without its last characters.
pub(crate) fn cut(text: &str, missing: usize) -> &str {
    text.get(..text.len() - missing).unwrap()
}

pub(crate) fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

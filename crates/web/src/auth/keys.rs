//! The keys that tokens are checked with, and how they are read: PEM or JWKS (RFC 7517).
//!
//! A key is bound to the one algorithm that it is for (RFC 8725, 3.1): what a token's header says
//! only chooses among the keys of that algorithm, so that a public key never serves as a secret.

use std::fmt;

use fireflow_domain::text::excerpt;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::Value;

use crate::settings::Secret;

/// The most keys of a file: a token without a `kid` is tried with each of its algorithm.
const MAX_KEYS: usize = 64;
/// The smallest RSA key (RFC 7518, 3.3), in bytes.
const MIN_RSA_BYTES: usize = 256;

/// A key, for one algorithm.
#[derive(Clone)]
pub struct Key {
    /// Its name, which a token's `kid` may give.
    pub(super) id: Option<String>,
    pub(super) algorithm: Algorithm,
    pub(super) key: DecodingKey,
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A secret for HS256.
    #[must_use]
    pub fn secret(secret: &Secret) -> Self {
        let key = DecodingKey::from_secret(secret.reveal());
        Self { id: None, algorithm: Algorithm::HS256, key }
    }

    /// Whether a token with this header may be signed with it.
    pub(super) fn serves(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let is_named = match (&self.id, id) {
            (Some(own), Some(asked)) => own == asked,
            (None, _) | (_, None) => true,
        };
        self.algorithm == algorithm && is_named
    }
}

/// Reads public keys: a JWKS, a single JWK, or PEM blocks one after the other. Answers those that can
/// be used, perhaps none, and what is wrong with the others; never a key.
///
/// # Errors
/// Where the whole cannot be read.
pub fn public_keys(text: &str) -> Result<(Vec<Key>, Vec<String>), String> {
    let (keys, mut faults) =
        if text.trim_start().starts_with('{') { from_jwks(text) } else { from_pem(text) }?;
    if keys.len() > MAX_KEYS {
        return Err(format!("holds {} keys; at most {MAX_KEYS} are taken", keys.len()));
    }
    if keys.is_empty() && faults.is_empty() {
        faults.push("holds no public key that is for signatures".to_owned());
    }
    Ok((keys, faults))
}

fn from_jwks(text: &str) -> Result<(Vec<Key>, Vec<String>), String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("is not a JWKS: {error}"))?;
    let entries = match value.get("keys") {
        Some(Value::Array(entries)) => entries.clone(),
        Some(_) => return Err("is not a JWKS: `keys` is not an array".to_owned()),
        None => vec![value],
    };
    let (mut keys, mut faults) = (Vec::new(), Vec::new());
    for (index, entry) in entries.iter().enumerate() {
        let name = match entry.get("kid").and_then(Value::as_str) {
            Some(id) => format!("the key `{}`", excerpt(id)),
            None => format!("key {}", index + 1),
        };
        match from_jwk(entry) {
            Ok(key) => keys.extend(key),
            Err(why) => faults.push(format!("{name} {why}")),
        }
    }
    Ok((keys, faults))
}

/// A key; none where it is for something else than signatures, which an identity provider's set
/// may hold too.
fn from_jwk(entry: &Value) -> Result<Option<Key>, String> {
    if ["d", "p", "q", "dp", "dq", "qi"].iter().any(|member| entry.get(member).is_some()) {
        return Err("is a private key: it does not belong here".to_owned());
    }
    let jwk: Jwk = serde_json::from_value(entry.clone())
        .map_err(|error| format!("cannot be read: {error}"))?;
    let is_for_signatures = match &jwk.common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(_) => false,
    };
    if !is_for_signatures {
        return Ok(None);
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(parameters) => match parameters.curve {
            EllipticCurve::P256 => Algorithm::ES256,
            _ => return unsupported(entry),
        },
        AlgorithmParameters::OctetKeyPair(parameters) => match parameters.curve {
            EllipticCurve::Ed25519 => Algorithm::EdDSA,
            _ => return unsupported(entry),
        },
        AlgorithmParameters::OctetKey(_) => {
            return Err(
                "is a secret: give it as FIREFLOW_JWT_SECRET, not among public keys".to_owned()
            );
        }
        // The library's list may grow.
        _ => return unsupported(entry),
    };
    // RS512 with the same key is another algorithm: the token's header decides, and we take one.
    if let Some(Value::String(stated)) = entry.get("alg")
        && *stated != format!("{algorithm:?}")
    {
        return unsupported(entry);
    }
    let key = DecodingKey::from_jwk(&jwk).map_err(|error| format!("cannot be read: {error}"))?;
    checked(Key { id: jwk.common.key_id.clone(), algorithm, key }).map(Some)
}

/// A key of the set that no token of ours is signed with: left out, and told.
fn unsupported(entry: &Value) -> Result<Option<Key>, String> {
    let word = |name: &str| excerpt(entry.get(name).and_then(Value::as_str).unwrap_or("-"));
    tracing::warn!(
        kid = word("kid"),
        kty = word("kty"),
        crv = word("crv"),
        alg = word("alg"),
        "a public key is of another kind than RS256, ES256 or EdDSA; it is left out"
    );
    Ok(None)
}

fn from_pem(text: &str) -> Result<(Vec<Key>, Vec<String>), String> {
    let blocks = pem::parse_many(text).map_err(|error| format!("is no PEM: {error}"))?;
    let (mut keys, mut faults) = (Vec::new(), Vec::new());
    for (index, block) in blocks.iter().enumerate() {
        match pem_key(block) {
            Ok(key) => keys.push(key),
            Err(why) => faults.push(format!("the PEM block {} {why}", index + 1)),
        }
    }
    Ok((keys, faults))
}

fn pem_key(block: &pem::Pem) -> Result<Key, String> {
    match block.tag() {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => {}
        "CERTIFICATE" => {
            return Err(
                "is a certificate: give its public key (`openssl x509 -pubkey -noout`)".to_owned()
            );
        }
        tag if tag.contains("PRIVATE") => {
            return Err("is a private key: it does not belong here".to_owned());
        }
        tag => return Err(format!("is a `{}`, not a PUBLIC KEY", excerpt(tag))),
    }
    let text = pem::encode(block);
    let text = text.as_bytes();
    // The key itself says what it is for; each of these refuses those of another kind.
    let (algorithm, key) = if let Ok(key) = DecodingKey::from_rsa_pem(text) {
        (Algorithm::RS256, key)
    } else if let Ok(key) = DecodingKey::from_ec_pem(text) {
        (Algorithm::ES256, key)
    } else if let Ok(key) = DecodingKey::from_ed_pem(text) {
        (Algorithm::EdDSA, key)
    } else {
        return Err("is no RSA, P-256 or Ed25519 key".to_owned());
    };
    checked(Key { id: None, algorithm, key })
}

/// Refuses what is too weak, or of another curve.
fn checked(key: Key) -> Result<Key, String> {
    use jsonwebtoken::DecodingKeyKind;
    let bytes = match key.key.kind() {
        DecodingKeyKind::SecretOrDer(bytes) => bytes,
        DecodingKeyKind::RsaModulusExponent { n, .. } => n,
    };
    let length = bytes.iter().skip_while(|byte| **byte == 0).count();
    match key.algorithm {
        // As DER it is a little longer than its modulus, far less than the next usual size.
        Algorithm::RS256 if length < MIN_RSA_BYTES => {
            Err("is an RSA key of less than 2048 bits".to_owned())
        }
        // An uncompressed point.
        Algorithm::ES256 if bytes.len() != 65 => Err("is not of the curve P-256".to_owned()),
        Algorithm::EdDSA if bytes.len() != 32 => Err("is not of the curve Ed25519".to_owned()),
        _ => Ok(key),
    }
}

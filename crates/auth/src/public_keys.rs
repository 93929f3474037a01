//! Public keys in a file: a JWKS (RFC 7517), a single JWK, or PEM.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fireflow_domain::text::excerpt;
use serde::Deserialize;
use serde_json::Value;
use spki::ObjectIdentifier;
use spki::der::Decode;

use super::keys::{Algorithm, COORDINATE_BYTES, Key, without_leading_zeros};

/// The most keys of a file: a token without a `kid` is tried with each key of its algorithm.
const MAX_KEYS: usize = 64;
/// The most entries of a file that are read, including those of another kind.
const MAX_ENTRIES: usize = 1_000;
/// The most reasons in one message.
const MAX_REASONS: usize = 5;

/// The contents of a file of public keys, with at least one key.
#[derive(Debug, Default)]
pub struct PublicKeys {
    /// The usable keys.
    pub keys: Vec<Key>,
    /// The faults of unusable keys, each with its position but never the key.
    pub faults: Vec<String>,
    /// Keys whose purpose FireFlow does not support, which an identity provider's set may contain:
    /// each with its position and the reason. They are not faults.
    pub left_out: Vec<String>,
}

/// Reads public keys.
///
/// # Errors
/// Returns the reason if no key can be used: such a text proves nothing.
pub fn public_keys(text: &str) -> Result<PublicKeys, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim();
    let mut read = PublicKeys::default();
    match text.chars().next() {
        None => return Err("contains no public key: it is empty".to_owned()),
        Some('{' | '[') => from_jwks(text, &mut read)?,
        Some(_) => from_pem(text, &mut read)?,
    }
    if read.keys.len() > MAX_KEYS {
        return Err(format!("contains {} keys; at most {MAX_KEYS} are allowed", read.keys.len()));
    }
    if !read.keys.is_empty() {
        return Ok(read);
    }
    let reasons: Vec<String> = read.faults.into_iter().chain(read.left_out).collect();
    let more = match reasons.len().saturating_sub(MAX_REASONS) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let shown: Vec<String> = reasons.into_iter().take(MAX_REASONS).collect();
    let why = if shown.is_empty() { "`keys` is empty".to_owned() } else { shown.join("; ") };
    Err(format!("contains no usable public key: {why}{more}"))
}

/// Why a key is not used.
enum Unused {
    /// It has another purpose.
    LeftOut(String),
    /// It is wrong.
    Faulty(String),
}

impl From<String> for Unused {
    fn from(why: String) -> Self {
        Self::Faulty(why)
    }
}

fn from_jwks(text: &str, read: &mut PublicKeys) -> Result<(), String> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| format!("is not a JWKS: {error}"))?;
    let entries = match (value.get("keys"), value.get("kty")) {
        (Some(Value::Array(entries)), _) => entries.as_slice(),
        (Some(_), _) => return Err("is not a JWKS: `keys` is not an array".to_owned()),
        (None, Some(_)) => std::slice::from_ref(&value),
        (None, None) => return Err("is JSON, but not a JWKS: it has no `keys`".to_owned()),
    };
    check_number(entries.len())?;
    for (index, entry) in entries.iter().enumerate() {
        let name = match entry.get("kid").and_then(Value::as_str) {
            Some(id) => format!("the key `{}`", excerpt(id)),
            None => format!("key {}", index + 1),
        };
        match from_jwk(entry) {
            Ok(key) => read.keys.push(key),
            Err(Unused::Faulty(why)) => read.faults.push(format!("{name} {why}")),
            Err(Unused::LeftOut(why)) => read.left_out.push(format!("{name} {why}")),
        }
    }
    Ok(())
}

fn check_number(entries: usize) -> Result<(), String> {
    if entries > MAX_ENTRIES {
        return Err(format!("contains {entries} keys; at most {MAX_KEYS} are allowed"));
    }
    Ok(())
}

/// The members that FireFlow reads.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    kid: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

fn from_jwk(entry: &Value) -> Result<Key, Unused> {
    if !entry.is_object() {
        return Err(Unused::Faulty("is not an object".to_owned()));
    }
    let has = |members: &[&str]| members.iter().any(|member| entry.get(member).is_some());
    if has(&["k"]) || entry.get("kty").and_then(Value::as_str) == Some("oct") {
        let why = "is a secret: set it as FIREFLOW_JWT_SECRET, not among public keys";
        return Err(Unused::Faulty(why.to_owned()));
    }
    if has(&["d", "p", "q", "dp", "dq", "qi", "oth", "priv"]) {
        return Err(Unused::Faulty("is a private key; only public keys belong here".to_owned()));
    }
    let jwk = Jwk::deserialize(entry).map_err(|error| format!("cannot be read: {error}"))?;
    if let Some(purpose) = jwk.purpose.as_deref().filter(|purpose| *purpose != "sig") {
        let why = format!("is for `{}`, not for signatures (`sig`)", excerpt(purpose));
        return Err(Unused::LeftOut(why));
    }
    if jwk.key_ops.as_ref().is_some_and(|uses| !uses.iter().any(|it| it == "verify")) {
        return Err(Unused::LeftOut("has `key_ops` without `verify`".to_owned()));
    }
    let curve = jwk.crv.as_deref().unwrap_or("-");
    let (algorithm, families): (_, &[&str]) = match (jwk.kty.as_str(), curve) {
        ("RSA", _) => (Algorithm::Rs256, &["RS", "PS"]),
        ("EC", "P-256") => (Algorithm::Es256, &["ES", "ECDH"]),
        ("OKP", "Ed25519") => (Algorithm::Ed25519, &["Ed", "ECDH"]),
        ("EC", other) => return Err(left_out_curve(other, "P-256")),
        ("OKP", other) => return Err(left_out_curve(other, "Ed25519")),
        (other, _) => {
            let why =
                format!("has the type `{}`; only RSA, EC and OKP are supported", excerpt(other));
            return Err(Unused::LeftOut(why));
        }
    };
    // RS512 with the same key is another algorithm. The token's header chooses the algorithm, and
    // only RS256 is supported.
    if let Some(stated) = &jwk.alg
        && Algorithm::parse(stated) != Some(algorithm)
    {
        let (kind, stated) = (&jwk.kty, excerpt(stated));
        return Err(if families.iter().any(|family| stated.starts_with(family)) {
            Unused::LeftOut(format!("is for {stated}; only RS256, ES256 and Ed25519 are supported"))
        } else {
            Unused::Faulty(format!(
                "contradicts itself: it is a key of the type {kind} for {stated}"
            ))
        });
    }
    let key = match algorithm {
        Algorithm::Rs256 => Key::rsa(&bytes("n", jwk.n.as_ref())?, &bytes("e", jwk.e.as_ref())?)?,
        Algorithm::Es256 => {
            let mut point = vec![4];
            for (name, member) in [("x", &jwk.x), ("y", &jwk.y)] {
                point.extend(coordinate(name, &bytes(name, member.as_ref())?)?);
            }
            Key::p256(&point)?
        }
        Algorithm::Ed25519 => Key::ed25519(&bytes("x", jwk.x.as_ref())?)?,
        // None of the key types above is used with HS256.
        Algorithm::Hs256 => return Err(Unused::Faulty("is a secret".to_owned())),
    };
    Ok(key.named(jwk.kid))
}

fn left_out_curve(curve: &str, taken: &str) -> Unused {
    Unused::LeftOut(format!("has the curve `{}`; only {taken} is supported", excerpt(curve)))
}

fn bytes(name: &str, text: Option<&String>) -> Result<Vec<u8>, String> {
    let text = text.ok_or_else(|| format!("cannot be read: it has no `{name}`"))?;
    let text = text.trim_end_matches('=');
    URL_SAFE_NO_PAD.decode(text).map_err(|_| format!("cannot be read: `{name}` is not base64url"))
}

/// A coordinate in the length that its curve requires: some writers omit leading zeros or add one.
fn coordinate(name: &str, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let bytes = without_leading_zeros(bytes);
    let missing = COORDINATE_BYTES
        .checked_sub(bytes.len())
        .ok_or_else(|| format!("has an `{name}` that is too long for P-256"))?;
    let mut whole = vec![0; missing];
    whole.extend(bytes);
    Ok(whole)
}

const BEGIN: &str = "-----BEGIN ";

/// Reads each block by itself, so that the blocks after a truncated one are found.
fn from_pem(text: &str, read: &mut PublicKeys) -> Result<(), String> {
    let mut begins = text.match_indices(BEGIN).map(|(at, _)| at).peekable();
    if begins.peek().is_none() {
        // The message shows nothing of the text: it may be a secret in the wrong place.
        let guess = if text.starts_with('<') { "; it looks like a page of HTML" } else { "" };
        return Err(format!("contains no public key: it is neither a JWKS nor PEM{guess}"));
    }
    check_number(begins.clone().count())?;
    let mut number = 0;
    while let Some(begin) = begins.next() {
        number += 1;
        let end = begins.peek().copied().unwrap_or(text.len());
        let block = text.get(begin..end).unwrap_or_default();
        let key = match pem::parse(block) {
            Ok(block) => pem_key(&block),
            Err(_) => Err("is truncated or damaged".to_owned()),
        };
        match key {
            Ok(key) => read.keys.push(key),
            Err(why) => read.faults.push(format!("the PEM block {number} {why}")),
        }
    }
    Ok(())
}

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const RSA_PSS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.10");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

fn pem_key(block: &pem::Pem) -> Result<Key, String> {
    match block.tag() {
        "PUBLIC KEY" => {}
        "RSA PUBLIC KEY" => return pkcs1_key(block.contents()),
        "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE" => {
            return Err(
                "is a certificate: use its public key (`openssl x509 -pubkey -noout`)".to_owned()
            );
        }
        tag if tag.contains("PRIVATE") => {
            return Err("is a private key; only public keys belong here".to_owned());
        }
        tag => return Err(format!("is a `{}`, not a PUBLIC KEY", excerpt(tag))),
    }
    let info = spki::SubjectPublicKeyInfoRef::from_der(block.contents())
        .map_err(|_| "is not a public key in DER".to_owned())?;
    let bits = info
        .subject_public_key
        .as_bytes()
        .ok_or_else(|| "is not a public key in DER".to_owned())?;
    let oid = info.algorithm.oid;
    if oid == RSA {
        pkcs1_key(bits)
    } else if oid == EC {
        match info.algorithm.parameters_oid() {
            Ok(P256) => Key::p256(bits),
            _ => Err("has another curve than P-256".to_owned()),
        }
    } else if oid == ED25519 {
        Key::ed25519(bits)
    } else if oid == RSA_PSS {
        Err("is an RSA key for PSS; only RS256 is supported".to_owned())
    } else {
        Err("is not an RSA, P-256 or Ed25519 key".to_owned())
    }
}

fn pkcs1_key(der: &[u8]) -> Result<Key, String> {
    let key =
        pkcs1::RsaPublicKey::from_der(der).map_err(|_| "is not an RSA key in DER".to_owned())?;
    Key::rsa(key.modulus.as_bytes(), key.public_exponent.as_bytes())
}

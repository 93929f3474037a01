//! A signed token in compact form (RFC 7515, 3.1): `header.claims.signature`, each in base64url.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Deserializer};

use super::claims::Claims;
use super::keys::{Algorithm, Key};

/// The longest token that is parsed, in bytes. It also bounds the token's contents (roles, tenants,
/// an audience).
pub(super) const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token whose header was read. Nothing in it is trusted yet.
pub(super) struct SignedToken<'a> {
    header: Header,
    /// The signed text: the header and the claims as received.
    message: &'a str,
    claims: &'a str,
    signature: Vec<u8>,
}

/// The members of a token's header that FireFlow reads. It ignores `jku`, `jwk`, `x5u` and `x5c`: a
/// token cannot bring its own key.
#[derive(Deserialize)]
struct Header {
    alg: String,
    typ: Option<String>,
    kid: Option<String>,
    /// Whether the header lists extensions that the recipient must understand (RFC 7515, 4.1.11).
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    serde::de::IgnoredAny::deserialize(deserializer).map(|_| true)
}

impl<'a> SignedToken<'a> {
    /// Parses a token. Returns `None` if the text is not a token, or is a token of an unsupported
    /// kind.
    pub(super) fn read(token: &'a str) -> Option<Self> {
        if token.len() > MAX_TOKEN_BYTES {
            return None;
        }
        let (message, signature) = token.rsplit_once('.')?;
        // The alphabet has no further dot: a token with five parts is encrypted.
        let (header, claims) = message.split_once('.')?;
        let header = decode(header)?;
        // Serde would also accept an array of the members.
        if header.first() != Some(&b'{') {
            return None;
        }
        let header: Header = serde_json::from_slice(&header).ok()?;
        // FireFlow supports no critical extension. A token of another kind, such as a logout token,
        // is not an access token (RFC 8725, 3.11).
        if header.crit || !header.typ.as_deref().is_none_or(is_access_token) {
            return None;
        }
        Some(Self { header, message, claims, signature: decode(signature)? })
    }

    /// Returns the claims if one of the keys has signed the token.
    pub(super) fn claims(&self, keys: &[Key]) -> Option<Claims> {
        let algorithm = Algorithm::parse(&self.header.alg)?;
        let id = self.header.kid.as_deref();
        let is_signed = keys
            .iter()
            .filter(|key| key.serves(algorithm, id))
            .any(|key| key.verifies(self.message.as_bytes(), &self.signature));
        if !is_signed {
            return None;
        }
        serde_json::from_slice(&decode(self.claims)?).ok()
    }
}

/// The header of new tokens.
pub(super) const HEADER: &str = r#"{"typ":"JWT","alg":"HS256"}"#;

/// Creates a token with these claims, signed with HS256.
pub(super) fn signed(claims: &Claims, secret: &[u8]) -> anyhow::Result<String> {
    Ok(signed_text(HEADER, &serde_json::to_vec(claims)?, secret))
}

/// Creates a token from the texts of its header and its claims, whatever they contain.
pub(super) fn signed_text(header: &str, claims: &[u8], secret: &[u8]) -> String {
    let message = [header.as_bytes(), claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    let signature = ring::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// Decodes strictly: no padding, no spaces, no leftover bits, so that a token has exactly one
/// spelling.
fn decode(part: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(part).ok()
}

/// Whether `typ` is that of an access token (RFC 7519, 5.1, or RFC 9068, 2.1).
fn is_access_token(typ: &str) -> bool {
    let bare = match typ.get(..12) {
        Some(prefix) if prefix.eq_ignore_ascii_case("application/") => typ.get(12..).unwrap_or(typ),
        _ => typ,
    };
    bare.eq_ignore_ascii_case("jwt") || bare.eq_ignore_ascii_case("at+jwt")
}

//! The keys that tokens are verified with. `ring` verifies signatures, as it does for TLS: one
//! implementation of cryptography is enough (decision 31).
//!
//! A key is bound to one algorithm (RFC 8725, 3.1): a token's header only chooses among the keys of
//! the algorithm that it names, so a public key can never serve as a secret.

use std::fmt;

use ring::agreement::{self, EphemeralPrivateKey};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use ring::{hmac, signature};

use crate::Secret;

/// The accepted sizes of RSA keys in bits (RFC 7518, 3.3, and the limits of `ring`).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=8_192;
/// The largest RSA exponent that `ring` accepts: with a larger one, verifying takes long.
const MAX_RSA_EXPONENT: u64 = (1 << 33) - 1;
/// The size of a P-256 coordinate and of an Ed25519 key, in bytes.
pub(super) const COORDINATE_BYTES: usize = 32;

/// An algorithm that tokens are signed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// EdDSA on Ed25519.
    Ed25519,
}

impl Algorithm {
    /// The algorithm that `alg` of a header or of a JWK names. Ed25519 has two names: `EdDSA` (RFC
    /// 8037) and its own (RFC 9864).
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::Ed25519),
            // `none`, and all other algorithms.
            _ => None,
        }
    }
}

/// A key, for one algorithm.
#[derive(Clone)]
pub struct Key {
    /// Its name, which a token's `kid` may contain.
    id: Option<String>,
    material: Material,
}

/// The material that verifies signatures.
#[derive(Clone)]
enum Material {
    Secret(hmac::Key),
    /// Modulus and exponent, without leading zeros.
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

impl Key {
    /// A secret key for HS256.
    #[must_use]
    pub fn secret(secret: &Secret) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.reveal());
        Self { id: None, material: Material::Secret(key) }
    }

    /// An RSA key for RS256, from its modulus and exponent. Leading zeros, which some programs
    /// write, are removed: with them, no signature would verify.
    pub(super) fn rsa(modulus: &[u8], exponent: &[u8]) -> Result<Self, String> {
        let [n, e] = [modulus, exponent].map(without_leading_zeros);
        let bits = (n.len() * 8)
            .saturating_sub(n.first().map_or(0, |first| first.leading_zeros() as usize));
        if bits < *RSA_BITS.start() {
            return Err(format!("is an RSA key of less than 2048 bits ({bits})"));
        }
        if bits > *RSA_BITS.end() {
            return Err(format!("is an RSA key of more than 8192 bits ({bits})"));
        }
        if n.last().is_none_or(|last| last % 2 == 0) {
            return Err("is not an RSA key: its modulus is even".to_owned());
        }
        let exponent = match e.len() {
            1..=8 => e.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte)),
            _ => 0,
        };
        if !(3..=MAX_RSA_EXPONENT).contains(&exponent) || exponent % 2 == 0 {
            return Err(
                "is an RSA key whose exponent is not an odd number from 3 to 2^33".to_owned()
            );
        }
        let components = RsaPublicKeyComponents { n: n.to_vec(), e: e.to_vec() };
        Ok(Self { id: None, material: Material::Rsa(components) })
    }

    /// A key for ES256, from an uncompressed P-256 point.
    pub(super) fn p256(point: &[u8]) -> Result<Self, String> {
        if point.len() != 1 + 2 * COORDINATE_BYTES || point.first() != Some(&4) {
            return Err("is not an uncompressed point of the curve P-256".to_owned());
        }
        // Without a signature, only a key agreement checks that a point is on the curve.
        let own = EphemeralPrivateKey::generate(&agreement::ECDH_P256, &SystemRandom::new())
            .map_err(|_| "cannot be checked: the system provides no random numbers".to_owned())?;
        let peer = agreement::UnparsedPublicKey::new(&agreement::ECDH_P256, point);
        agreement::agree_ephemeral(own, &peer, |_| ())
            .map_err(|_| "is not a point of the curve P-256".to_owned())?;
        Ok(Self { id: None, material: Material::P256(point.to_vec()) })
    }

    /// An Ed25519 key.
    pub(super) fn ed25519(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() != COORDINATE_BYTES {
            return Err("is not an Ed25519 key, which must have 32 bytes".to_owned());
        }
        if has_small_order(bytes) {
            return Err("is an Ed25519 point for which anyone can forge signatures".to_owned());
        }
        Ok(Self { id: None, material: Material::Ed25519(bytes.to_vec()) })
    }

    /// The same key with a name.
    pub(super) fn named(self, id: Option<String>) -> Self {
        Self { id, ..self }
    }

    /// The algorithm that the key is for.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        match &self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::Ed25519,
        }
    }

    /// Whether a token with this header may be signed with this key.
    pub(super) fn serves(&self, algorithm: Algorithm, id: Option<&str>) -> bool {
        let is_named = match (&self.id, id) {
            (Some(own), Some(asked)) => own == asked,
            (None, _) | (_, None) => true,
        };
        self.algorithm() == algorithm && is_named
    }

    /// Whether a signature verifies. Takes some 30 to 200 microseconds with a public key, and one
    /// with a secret.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let checked = match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature),
            Material::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::P256(point) => verify(&ECDSA_P256_SHA256_FIXED, point, message, signature),
            Material::Ed25519(point) => verify(&ED25519, point, message, signature),
        };
        checked.is_ok()
    }
}

fn verify(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), ring::error::Unspecified> {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature)
}

pub(super) fn without_leading_zeros(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).unwrap_or_default()
}

/// Whether an encoded Ed25519 point has small order, which means that it is one of the eight points
/// with few multiples. Signatures can be forged for such a key (RFC 8032 leaves the check to its
/// users).
fn has_small_order(point: &[u8]) -> bool {
    /// The y coordinates of the two pairs of order 8, little-endian.
    const ORDER_8: [[u8; COORDINATE_BYTES]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef,
            0x98, 0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88,
            0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10,
            0x67, 0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77,
            0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    let mut y = point.to_vec();
    // The last bit is the sign of x.
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    let (Some(first), Some(last)) = (y.first(), y.last()) else { return false };
    let middle = y.get(1..COORDINATE_BYTES - 1).unwrap_or_default();
    // The values are 0 and 1; p - 1; and p and p + 1, which are 0 and 1 again.
    let is_zero_or_one = *first <= 1 && *last == 0 && middle.iter().all(|byte| *byte == 0);
    let is_near_p =
        (0xec..=0xee).contains(first) && *last == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    is_zero_or_one || is_near_p || ORDER_8.iter().any(|known| known.as_slice() == y)
}

//! Properties that hold for any token and any file of keys. The fuzz target searches for texts that
//! break them, and a test replays the stored texts.

use std::sync::LazyLock;

use fireflow_domain::actor::{Role, Visibility};
use fireflow_domain::invisible::first_invisible;
use fireflow_domain::testing::fuzz::{Reader, Target};
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};
use serde_json::Value;

use crate::token::{HEADER, signed_text};
use crate::{
    Authenticator, Identity, LEEWAY_S, Revocations, Secret, TokenRules, Trust, public_keys,
    role_map, secret_lines,
};

/// The targets of this crate.
pub const TARGETS: [Target; 1] = [TOKENS];

/// All that decides what a token is worth.
pub const TOKENS: Target = Target {
    name: "tokens",
    readers: &[
        Reader { name: "token", check: |text| accepted(text).is_some() },
        Reader { name: "claims", check: claims },
        Reader { name: "header", check: header },
        Reader { name: "keys", check: keys },
        Reader { name: "secrets", check: secrets },
        Reader { name: "roles", check: roles },
        Reader { name: "revocations", check: revocations },
    ],
};

/// The secret that signs the tokens of the seeds.
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";
/// Claims that are good for ten years from [`now`].
const CLAIMS: &str = r#"{"sub":"ann","roles":["editor"],"exp":2107512000}"#;

/// 2026-11-24T12:00:00Z.
fn now() -> Instant {
    Instant::from_micros(1_795_521_600 * MICROS_PER_SECOND).unwrap_or(Instant::EPOCH)
}

/// One for all texts: its cache is too large to be made for each.
static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let secrets = vec![Secret::new(SECRET)];
    let trust = Trust::new(secrets, Vec::new(), TokenRules::default(), Revocations::default());
    Authenticator::new(trust)
});

/// The identity that a token proves. It is the same when the token is verified again, from the
/// cache. The token has one spelling, and nobody accepts it after its end.
fn accepted(token: &str) -> Option<Identity> {
    let shown = |identity: &Identity| format!("{identity:?}");
    let first = AUTHENTICATOR.verify(token, now());
    let again = AUTHENTICATOR.verify(token, now());
    assert_eq!(first.as_ref().ok().map(shown), again.as_ref().ok().map(shown), "{token:?}");
    let identity = first.ok()?;
    for other in [format!("{token}="), format!(" {token}"), format!("{token}.")] {
        assert!(AUTHENTICATOR.verify(&other, now()).is_err(), "{other:?}");
    }
    let end = identity.expires_at.plus_micros(LEEWAY_S * MICROS_PER_SECOND);
    assert!(end > now(), "{token:?} has expired");
    assert!(AUTHENTICATOR.verify(token, end).is_err(), "{token:?} outlives its end");
    let subject = &identity.actor.subject;
    assert!(!subject.is_empty() && first_invisible(subject).is_none(), "{subject:?}");
    assert!(!subject.chars().any(char::is_control), "{subject:?}");
    assert!(!identity.actor.roles.is_empty(), "{token:?} has no role");
    Some(identity)
}

/// Claims that are correctly signed. A token that names tenants sees no others, and its roles are
/// words of its claim.
fn claims(text: &str) -> bool {
    let Some(identity) = accepted(&signed_text(HEADER, text.as_bytes(), SECRET)) else {
        return false;
    };
    let claims: Value = serde_json::from_str(text).unwrap_or_default();
    let named = claims.get("tenants");
    match &identity.actor.visibility {
        Visibility::All => assert_eq!(named, None, "{text:?} sees all tenants"),
        Visibility::Tenants(seen) => {
            let named = named.and_then(Value::as_array);
            for tenant in seen {
                let is_named =
                    named.is_some_and(|named| named.iter().any(|it| *it == tenant.as_str()));
                assert!(is_named, "{text:?} sees {tenant}");
            }
        }
    }
    let named = claims.get("roles").map(Value::to_string).unwrap_or_default();
    for role in Role::ALL.into_iter().filter(|role| identity.actor.roles.contains(role)) {
        assert!(named.contains(role.as_str()), "{text:?} gives {role:?}");
    }
    true
}

/// The header of a token with good claims and a good signature. It is accepted only if it names the
/// algorithm of the signature.
fn header(text: &str) -> bool {
    if accepted(&signed_text(text, CLAIMS.as_bytes(), SECRET)).is_none() {
        return false;
    }
    let header: Value = serde_json::from_str(text).unwrap_or_default();
    assert_eq!(header.get("alg").and_then(Value::as_str), Some("HS256"), "{text:?}");
    assert_eq!(header.get("crit"), None, "{text:?}");
    true
}

/// A file of public keys. There is at least one key in what is accepted, and a reason otherwise.
fn keys(text: &str) -> bool {
    match public_keys(text) {
        Ok(read) => {
            assert!(!read.keys.is_empty(), "{text:?}");
            read.faults.is_empty()
        }
        Err(why) => {
            assert!(!why.is_empty(), "{text:?}");
            false
        }
    }
}

/// A file of secrets. No fault and no warning repeats a secret, and what is refused although weak
/// secrets are allowed is refused elsewhere too.
fn secrets(text: &str) -> bool {
    let [strict, lax] = [false, true].map(|takes_weak| secret_lines(text.as_bytes(), takes_weak));
    assert!(lax.faults.len() <= strict.faults.len(), "{text:?}");
    assert!(lax.secrets.len() >= strict.secrets.len(), "{text:?}");
    for secret in &lax.secrets {
        let secret = String::from_utf8_lossy(secret.reveal());
        // A short secret can be a part of a sentence.
        if secret.chars().count() >= 16 {
            for said in strict.faults.iter().chain(&lax.faults).chain(&lax.warnings) {
                assert!(!said.contains(&*secret), "{said}");
            }
        }
    }
    strict.faults.is_empty() && !strict.secrets.is_empty()
}

/// Which groups of the identity provider have which roles.
fn roles(text: &str) -> bool {
    match role_map(text) {
        Ok(map) => {
            assert!(!map.is_empty(), "{text:?}");
            true
        }
        Err(why) => {
            assert!(!why.is_empty(), "{text:?}");
            false
        }
    }
}

/// A list of revocations. Reading it twice changes nothing.
fn revocations(text: &str) -> bool {
    let (read, faults) = Revocations::read(text);
    let (mut twice, _) = Revocations::read(&format!("{text}\n{text}"));
    assert_eq!((read.missing_of(&twice), twice.missing_of(&read)), (0, 0), "{text:?}");
    twice.extend(read.clone());
    assert_eq!(twice.len(), read.len(), "{text:?}");
    faults.is_empty() && !read.is_empty()
}

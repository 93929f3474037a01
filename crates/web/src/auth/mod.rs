//! Tokens: who asks, and whether the operation's role is held.

mod claims;
mod extract;
mod keys;
mod reload;
mod revocation;
#[cfg(test)]
mod tests;

pub use extract::{Admin, Anyone, As, Editor, HealthCheck, Needs, SCHEME, Viewer};
pub use keys::{Key, public_keys};
pub use reload::{KeyFiles, ReloadHandle, watch};
pub use revocation::Revocations;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use fireflow_domain::actor::{Actor, Role};
use fireflow_domain::text::Tenant;
use fireflow_domain::time::Instant;
use jsonwebtoken::{EncodingKey, Header, Validation};
use poem::http::{HeaderMap, header};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use crate::problem::{Code, Problem};
use crate::settings::Secret;
use claims::{Claims, Times};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The most checked tokens that are remembered: some hundred bytes each.
const MAX_REMEMBERED: usize = 10_000;
/// How far two clocks may differ, unless it is set, in seconds.
pub const LEEWAY_S: i64 = 10;
/// The claim that names the roles, unless it is set.
pub const ROLES_CLAIM: &str = "roles";

/// What a token has to fulfil beside its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// The issuer that `iss` must name.
    pub issuer: Option<String>,
    /// The audience that `aud` must name.
    pub audience: Option<String>,
    /// How far clocks may differ, for `exp`, `nbf` and `iat`, in seconds.
    pub leeway_s: i64,
    /// The longest life from `iat` to `exp`, in seconds.
    pub max_lifetime_s: Option<i64>,
    /// The claim with the roles: a dotted path.
    pub roles_claim: String,
    /// What an identity provider's groups mean; where it is set, nothing else names a role.
    pub role_map: Option<Vec<(String, Role)>>,
}

impl Default for TokenRules {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: None,
            leeway_s: LEEWAY_S,
            max_lifetime_s: None,
            roles_claim: ROLES_CLAIM.to_owned(),
            role_map: None,
        }
    }
}

impl TokenRules {
    /// The roles that a word of the token stands for.
    fn roles_of(&self, word: &str) -> Vec<Role> {
        match &self.role_map {
            None => Role::parse(word).into_iter().collect(),
            Some(map) => map.iter().filter(|(name, _)| name == word).map(|(_, it)| *it).collect(),
        }
    }

    /// The word of a token that stands for a role.
    fn word_of(&self, role: Role) -> anyhow::Result<&str> {
        match &self.role_map {
            None => Ok(role.as_str()),
            Some(map) => map
                .iter()
                .find(|(_, it)| *it == role)
                .map(|(name, _)| name.as_str())
                .ok_or_else(|| anyhow::anyhow!("the role map has nothing for the role {role}")),
        }
    }
}

/// What is trusted: keys, rules and revocations of one moment, and the tokens that were checked
/// under them. A change makes another, whose memory is empty, so that what was checked before does
/// not outlive it.
pub struct Trust {
    secrets: Vec<Secret>,
    keys: Vec<Key>,
    rules: TokenRules,
    revoked: Revocations,
    checked: Cache<[u8; 32], Arc<Checked>>,
}

/// A token that was found good.
struct Checked {
    identity: Identity,
    times: Times,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust")
            .field("keys", &self.keys)
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl Trust {
    /// HS256 secrets (the first signs, all verify), public keys, rules, revocations.
    #[must_use]
    pub fn new(
        secrets: Vec<Secret>,
        public: Vec<Key>,
        rules: TokenRules,
        revoked: Revocations,
    ) -> Self {
        let keys = secrets.iter().map(Key::secret).chain(public).collect();
        Self { secrets, keys, rules, revoked, checked: Cache::new(MAX_REMEMBERED) }
    }

    fn verify(&self, token: &str, now: Instant, lookups: &Lookups) -> Result<Identity, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid);
        }
        // A hash that cannot be made to collide: whoever found a token with another's hash would
        // be taken for its owner. The token itself is not kept.
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(checked) = self.checked.get(&digest) {
            lookups.hits.fetch_add(1, Ordering::Relaxed);
            checked.times.check(&self.rules, now)?;
            return Ok(checked.identity.clone());
        }
        lookups.misses.fetch_add(1, Ordering::Relaxed);
        let claims = self.signed_claims(token).ok_or(Refusal::Invalid)?;
        let (actor, times) = claims::read(&claims, &self.rules, &self.revoked, now)?;
        let identity = Identity { actor, expires_at: times.expires_at };
        let checked = Checked { identity: identity.clone(), times };
        self.checked.insert(digest, Arc::new(checked));
        Ok(identity)
    }

    /// The claims of a token that one of the keys has signed.
    fn signed_claims(&self, token: &str) -> Option<Claims> {
        // `none`, and what we do not know, is no algorithm to the library.
        let header = jsonwebtoken::decode_header(token).ok()?;
        // What a token asks to be understood (RFC 7515, 4.1.11) we do not; and a token of another
        // kind, a logout token say, is not for us (RFC 8725, 3.11).
        if header.crit.is_some() || !header.typ.as_deref().is_none_or(is_access_token) {
            return None;
        }
        // The signature alone: the claims are checked by our clock and with our words.
        let mut validation = Validation::new(header.alg);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        self.keys
            .iter()
            .filter(|key| key.serves(header.alg, header.kid.as_deref()))
            .find_map(|key| jsonwebtoken::decode::<Claims>(token, &key.key, &validation).ok())
            .map(|data| data.claims)
    }
}

/// Whether `typ` is that of an access token: RFC 7519, 5.1, or RFC 9068, 2.1.
fn is_access_token(typ: &str) -> bool {
    let bare = match typ.get(..12) {
        Some(prefix) if prefix.eq_ignore_ascii_case("application/") => typ.get(12..).unwrap_or(typ),
        _ => typ,
    };
    bare.eq_ignore_ascii_case("jwt") || bare.eq_ignore_ascii_case("at+jwt")
}

/// Checks tokens, and makes them. Cheap to clone: all clones trust the same.
#[derive(Debug, Clone)]
pub struct Authenticator {
    trust: Arc<RwLock<Arc<Trust>>>,
    lookups: Arc<Lookups>,
    reload: ReloadHandle,
}

/// How often a token was among those that were checked before, and how often not.
#[derive(Debug, Default)]
struct Lookups {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Who a checked token names, and until when.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Who, and what they may do and see.
    pub actor: Actor,
    /// When the token ends.
    pub expires_at: Instant,
}

/// Why a token was refused. Before the signature holds, nothing is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// Not a token, or not one of ours.
    Invalid,
    /// Signed by us, but not good; says why.
    Unfit(Fault, String),
    /// Signed and good, but names no role at all.
    NoRole,
}

/// What is wrong with a token that is signed by us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It has ended.
    Expired,
    /// It has not begun.
    NotYetValid,
    /// It lives for too long.
    Lifetime,
    /// Somebody else made it.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It was revoked.
    Revoked,
    /// None of its roles is one of ours.
    Roles,
    /// A claim is missing, or not what it should be.
    Claims,
}

impl Refusal {
    /// A word for it, of which there are a few.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid => "invalid",
            Self::NoRole => "no_role",
            Self::Unfit(fault, _) => match fault {
                Fault::Expired => "expired",
                Fault::NotYetValid => "not_yet_valid",
                Fault::Lifetime => "lifetime",
                Fault::Issuer => "issuer",
                Fault::Audience => "audience",
                Fault::Revoked => "revoked",
                Fault::Roles => "roles",
                Fault::Claims => "claims",
            },
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (challenge, detail) = match refusal {
            Refusal::Missing => (
                "Bearer realm=\"fireflow\"".to_owned(),
                "send a token: `Authorization: Bearer …`".to_owned(),
            ),
            Refusal::Invalid => (
                "Bearer realm=\"fireflow\", error=\"invalid_token\"".to_owned(),
                "the token is not valid".to_owned(),
            ),
            Refusal::Unfit(_, why) => (
                format!(
                    "Bearer realm=\"fireflow\", error=\"invalid_token\", \
                     error_description=\"{why}\""
                ),
                why,
            ),
            Refusal::NoRole => {
                return Self::new(Code::Forbidden, "the token names no role");
            }
        };
        Self::new(Code::Unauthenticated, detail).with_header(header::WWW_AUTHENTICATE, challenge)
    }
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Its subject.
    pub subject: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// Its tenants; none: all.
    pub tenants: Option<Vec<Tenant>>,
    /// How long it lives, in seconds.
    pub lifetime_s: i64,
}

impl Authenticator {
    /// By what is trusted now.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self {
            trust: Arc::new(RwLock::new(Arc::new(trust))),
            lookups: Arc::default(),
            reload: ReloadHandle::default(),
        }
    }

    /// What has the files of keys, secrets and revocations read now.
    #[must_use]
    pub fn reload_handle(&self) -> ReloadHandle {
        self.reload.clone()
    }

    /// Trusts something else from now on: no request that comes after this is checked by what was
    /// trusted before.
    pub fn replace(&self, trust: Trust) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
    }

    fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many tokens were among those that were checked before, and how many were not.
    #[must_use]
    pub fn lookups(&self) -> (u64, u64) {
        let Lookups { hits, misses } = &*self.lookups;
        (hits.load(Ordering::Relaxed), misses.load(Ordering::Relaxed))
    }

    /// Who a request comes from.
    ///
    /// # Errors
    /// Why its token is refused.
    pub fn authenticate(&self, headers: &HeaderMap, now: Instant) -> Result<Identity, Refusal> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(Refusal::Missing)?;
        if values.next().is_some() {
            return Err(Refusal::Invalid);
        }
        let text = value.to_str().map_err(|_| Refusal::Invalid)?;
        let (scheme, token) = text.split_once(' ').ok_or(Refusal::Invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::Missing);
        }
        self.verify(token.trim(), now)
    }

    /// Whom a token names.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str, now: Instant) -> Result<Identity, Refusal> {
        self.trust().verify(token, now, &self.lookups)
    }

    /// Makes a token, signed with the first secret.
    ///
    /// # Errors
    /// Where there is no secret, or this service would not accept it.
    pub fn mint(&self, request: &TokenRequest, now: Instant) -> anyhow::Result<String> {
        let trust = self.trust();
        let secret = trust.secrets.first().ok_or_else(|| {
            anyhow::anyhow!("there is no secret to sign with: the identity provider makes tokens")
        })?;
        let claims = claims::made(request, &trust.rules, now)?;
        let key = EncodingKey::from_secret(secret.reveal());
        Ok(jsonwebtoken::encode(&Header::new(jsonwebtoken::Algorithm::HS256), &claims, &key)?)
    }
}

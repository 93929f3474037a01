//! What tokens are checked against: the keys, rules and revocations of one moment.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fireflow_domain::actor::Role;
use fireflow_domain::time::Instant;
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

use super::claims::{self, Times};
use super::token::{MAX_TOKEN_BYTES, SignedToken};
use super::{Identity, Key, Refusal, Revocations};
use crate::Secret;

/// The most verified tokens in the cache, at some hundred bytes each.
const MAX_REMEMBERED: usize = 10_000;
/// The default tolerance between two clocks, in seconds.
pub const LEEWAY_S: i64 = 10;
/// The default name of the claim that lists the roles.
pub const ROLES_CLAIM: &str = "roles";

/// The roles of each group of an identity provider.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleMap {
    roles: HashMap<String, Vec<Role>>,
    /// The first group that was given for each role: minted tokens contain it.
    groups: Vec<(Role, String)>,
}

impl FromIterator<(String, Role)> for RoleMap {
    /// A group that occurs several times has all of its roles.
    fn from_iter<T: IntoIterator<Item = (String, Role)>>(pairs: T) -> Self {
        let mut map = Self::default();
        for (group, role) in pairs {
            if !map.groups.iter().any(|(known, _)| *known == role) {
                map.groups.push((role, group.clone()));
            }
            let roles = map.roles.entry(group).or_default();
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        map
    }
}

impl RoleMap {
    /// Whether the map names no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.roles.is_empty()
    }

    /// The roles of a group.
    #[must_use]
    pub fn roles_of(&self, group: &str) -> &[Role] {
        self.roles.get(group).map(Vec::as_slice).unwrap_or_default()
    }

    /// A group that has the role.
    #[must_use]
    pub fn group_of(&self, role: Role) -> Option<&str> {
        self.groups.iter().find(|(known, _)| *known == role).map(|(_, group)| group.as_str())
    }
}

/// The rules that a token must fulfill in addition to having a valid signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRules {
    /// The issuer that `iss` must name.
    pub issuer: Option<String>,
    /// The audience that `aud` must name.
    pub audience: Option<String>,
    /// The tolerance between clocks for `exp`, `nbf` and `iat`, in seconds.
    pub leeway_s: i64,
    /// The longest lifetime from `iat` to `exp`, in seconds.
    pub max_lifetime_s: Option<i64>,
    /// The claim with the roles: a dotted path.
    pub roles_claim: String,
    /// The roles of an identity provider's groups. If it is set, only its groups name roles.
    pub role_map: Option<RoleMap>,
    /// Whether a token without `tenants` is refused instead of seeing all tenants.
    pub require_tenants: bool,
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
            require_tenants: false,
        }
    }
}

impl TokenRules {
    /// The roles that a word in the token names.
    pub(super) fn roles_of(&self, word: &str) -> Vec<Role> {
        match &self.role_map {
            None => Role::parse(word).into_iter().collect(),
            Some(map) => map.roles_of(word).to_vec(),
        }
    }

    /// The word that names a role in a token.
    pub(super) fn word_of(&self, role: Role) -> anyhow::Result<&str> {
        match &self.role_map {
            None => Ok(role.as_str()),
            Some(map) => map
                .group_of(role)
                .ok_or_else(|| anyhow::anyhow!("no group in the role map has the role {role}")),
        }
    }
}

/// What is trusted: the keys, rules and revocations of one moment, and the tokens that were
/// verified with them. A change creates another `Trust` with an empty cache, so that a verification
/// does not outlive the trust that it relied on.
pub struct Trust {
    /// HS256 secrets: the first signs, all verify.
    pub(super) secrets: Vec<Secret>,
    pub(super) public: Vec<Key>,
    pub(super) revoked: Revocations,
    pub(super) rules: TokenRules,
    /// The keys made from the secrets, followed by the public keys.
    keys: Vec<Key>,
    checked: Cache<[u8; 32], Arc<Checked>>,
}

/// A token that was verified.
struct Checked {
    identity: Identity,
    times: Times,
}

/// How many lookups found a token in the cache, and how many did not.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
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
        let keys = secrets.iter().map(Key::secret).chain(public.iter().cloned()).collect();
        Self { secrets, public, revoked, rules, keys, checked: Cache::new(MAX_REMEMBERED) }
    }

    pub(super) fn verify(
        &self,
        token: &str,
        now: Instant,
        lookups: &Lookups,
    ) -> Result<Identity, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid);
        }
        // The hash must resist collisions: anyone who found a token with the hash of another would
        // be taken for its owner. The token itself is not kept.
        let digest: [u8; 32] = Sha256::digest(token).into();
        if let Some(checked) = self.checked.get(&digest) {
            lookups.hits.fetch_add(1, Ordering::Relaxed);
            checked.times.check(&self.rules, now)?;
            return Ok(checked.identity.clone());
        }
        lookups.misses.fetch_add(1, Ordering::Relaxed);
        let claims = SignedToken::read(token)
            .and_then(|token| token.claims(&self.keys))
            .ok_or(Refusal::Invalid)?;
        let (actor, times) = claims::read(&claims, &self.rules, &self.revoked, now)?;
        let identity = Identity { actor, expires_at: times.expires_at };
        let checked = Checked { identity: identity.clone(), times };
        self.checked.insert(digest, Arc::new(checked));
        Ok(identity)
    }
}

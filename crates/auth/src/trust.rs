//! What tokens are checked by: keys, rules and revocations of one moment.

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

/// The most checked tokens that are remembered: some hundred bytes each.
const MAX_REMEMBERED: usize = 10_000;
/// How far two clocks may differ, unless it is set, in seconds.
pub const LEEWAY_S: i64 = 10;
/// The claim that names the roles, unless it is set.
pub const ROLES_CLAIM: &str = "roles";

/// What an identity provider's groups mean: the roles of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoleMap {
    roles: HashMap<String, Vec<Role>>,
    /// The first group that was given for each role: what minted tokens hold.
    groups: Vec<(Role, String)>,
}

impl FromIterator<(String, Role)> for RoleMap {
    /// A group that comes several times has all of its roles.
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
    /// Whether it names no group.
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

/// What a token has to fulfill together with its signature.
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
    /// What an identity provider's groups mean; if it is set, nothing else names a role.
    pub role_map: Option<RoleMap>,
    /// Whether a token without `tenants` is refused, instead of showing all.
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
    /// The roles that a word of the token stands for.
    pub(super) fn roles_of(&self, word: &str) -> Vec<Role> {
        match &self.role_map {
            None => Role::parse(word).into_iter().collect(),
            Some(map) => map.roles_of(word).to_vec(),
        }
    }

    /// The word of a token that stands for a role.
    pub(super) fn word_of(&self, role: Role) -> anyhow::Result<&str> {
        match &self.role_map {
            None => Ok(role.as_str()),
            Some(map) => map
                .group_of(role)
                .ok_or_else(|| anyhow::anyhow!("the role map has nothing for the role {role}")),
        }
    }
}

/// What is trusted: keys, rules and revocations of one moment, and the tokens that were checked
/// under them. A change makes another, whose memory is empty, so that what was checked before does
/// not outlive it.
pub struct Trust {
    /// HS256 secrets: the first signs, all verify.
    pub(super) secrets: Vec<Secret>,
    pub(super) public: Vec<Key>,
    pub(super) revoked: Revocations,
    pub(super) rules: TokenRules,
    /// Those of the secrets, then the public ones.
    keys: Vec<Key>,
    checked: Cache<[u8; 32], Arc<Checked>>,
}

/// A token that was found good.
struct Checked {
    identity: Identity,
    times: Times,
}

/// How often a token was among those that were checked before, and how often not.
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
        // A hash that cannot be made to collide: whoever found a token with another's hash would
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

//! Verifies tokens: their signature, the subject that they name, their roles and tenants, and when
//! they expire. The keys, secrets and revocations for that are read from files, and read again when
//! the files change.
//! See README.md.

mod claims;
mod files;
mod keys;
mod public_keys;
mod refusal;
mod reload;
mod revocation;
mod role_map;
mod secret;
mod secrets;
mod status;
mod strength;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(test)]
mod tests;
mod token;
mod trust;

pub use files::{KeyFile, KeyFiles, UNPROVEN_GRACE, file_text, piped_text};
pub use keys::{Algorithm, Key};
pub use public_keys::{PublicKeys, public_keys};
pub use refusal::{Refusal, TokenFault};
pub use reload::{ReloadHandle, watch};
pub use revocation::Revocations;
pub use role_map::role_map;
pub use secret::Secret;
pub use secrets::{SecretLines, check_secret, secret_lines};
pub use status::{KeyFileState, KeyFileStatus};
pub use trust::{LEEWAY_S, ROLES_CLAIM, RoleMap, TokenRules, Trust};

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};

use fireflow_domain::actor::{Actor, Role};
use fireflow_domain::text::Tenant;
use fireflow_domain::time::Instant;

use status::KeyFileStatuses;
use trust::Lookups;

/// Verifies tokens, and creates them. Cheap to clone: all clones share the same trust.
#[derive(Debug, Clone)]
pub struct Authenticator {
    trust: Arc<RwLock<Arc<Trust>>>,
    lookups: Arc<Lookups>,
    reload: ReloadHandle,
    files: Arc<KeyFileStatuses>,
    local_secret: Option<Arc<str>>,
}

/// The identity that a verified token proves, and when it expires.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The subject, with its permissions and visibility.
    pub actor: Actor,
    /// When the token ends.
    pub expires_at: Instant,
}

/// A request for a new token.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Its subject.
    pub subject: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// Its tenants; `None` means all tenants.
    pub tenants: Option<Vec<Tenant>>,
    /// Its lifetime, in seconds.
    pub lifetime_s: i64,
}

impl Authenticator {
    /// Creates an authenticator with the given trust.
    #[must_use]
    pub fn new(trust: Trust) -> Self {
        Self {
            trust: Arc::new(RwLock::new(Arc::new(trust))),
            lookups: Arc::default(),
            reload: ReloadHandle::default(),
            files: Arc::default(),
            local_secret: None,
        }
    }

    /// Names the file that a local service has generated its secret in, for those whose token another
    /// secret has signed.
    #[must_use]
    pub fn with_local_secret(self, file: &str) -> Self {
        Self { local_secret: Some(file.into()), ..self }
    }

    /// The file of the generated secret of a local service.
    #[must_use]
    pub fn local_secret(&self) -> Option<&str> {
        self.local_secret.as_deref()
    }

    /// A handle that makes the watcher read the files of keys, secrets and revocations now.
    #[must_use]
    pub fn reload_handle(&self) -> ReloadHandle {
        self.reload.clone()
    }

    /// The state of each watched file; empty until [`watch`] has read the files.
    #[must_use]
    pub fn key_files(&self) -> Vec<KeyFileStatus> {
        self.files.all()
    }

    /// Replaces what is trusted. No later request is checked against the previous trust.
    pub fn replace(&self, trust: Trust) {
        *self.trust.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(trust);
    }

    fn trust(&self) -> Arc<Trust> {
        Arc::clone(&self.trust.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many tokens were found in the cache of verified tokens, and how many were not.
    #[must_use]
    pub fn lookups(&self) -> (u64, u64) {
        let Lookups { hits, misses } = &*self.lookups;
        (hits.load(Ordering::Relaxed), misses.load(Ordering::Relaxed))
    }

    /// Verifies a token and returns the identity that it names.
    ///
    /// # Errors
    /// Returns the reason if the token is refused.
    pub fn verify(&self, token: &str, now: Instant) -> Result<Identity, Refusal> {
        self.trust().verify(token, now, &self.lookups)
    }

    /// Makes a token, signed with the first secret.
    ///
    /// # Errors
    /// Returns an error if there is no secret, or this service would not accept the token.
    pub fn mint(&self, request: &TokenRequest, now: Instant) -> anyhow::Result<String> {
        let trust = self.trust();
        let secret = trust.secrets.first().ok_or_else(|| {
            anyhow::anyhow!("there is no secret to sign with: the identity provider makes tokens")
        })?;
        let claims = claims::made(request, &trust.rules, now)?;
        token::signed(&claims, secret.reveal())
    }
}

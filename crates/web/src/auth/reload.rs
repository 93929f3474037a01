//! Keys, secrets and revocations that change while the service runs: their files are read again and
//! again, since not every file system tells of changes (Kubernetes swaps a link).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch as watched_value};

use super::{Authenticator, Key, Revocations, TokenRules, Trust, public_keys};
use crate::settings::Secret;

/// The largest such file, in bytes.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Has the watcher of key files read them now, instead of when their turn comes: on SIGHUP, say.
/// [`Authenticator::reload_handle`] gives one. Cheap to clone: all clones reach the same watcher.
#[derive(Debug, Clone)]
pub struct ReloadHandle {
    request: Arc<Notify>,
    /// How many times the watcher has read all files.
    passes: watched_value::Sender<u64>,
}

impl Default for ReloadHandle {
    fn default() -> Self {
        Self { request: Arc::default(), passes: watched_value::Sender::new(0) }
    }
}

impl ReloadHandle {
    /// Asks for it and returns at once. Requests that come before the watcher gets to them become
    /// one.
    pub fn reload(&self) {
        self.request.notify_one();
    }

    /// Asks for it, and waits until the watcher has read all files at least once from their
    /// beginning after this call. Never returns if no watcher runs.
    pub async fn reload_and_wait(&self) {
        let mut passes = self.passes.subscribe();
        // The pass that is under way may have read a file before it changed.
        let enough = passes.borrow_and_update().saturating_add(2);
        loop {
            self.reload();
            if *passes.borrow_and_update() >= enough || passes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Notes that the watcher has read all files, and waits for the next request.
    pub(super) async fn pass_ended(&self, wait: Duration) {
        self.passes.send_modify(|passes| *passes = passes.saturating_add(1));
        // Either is a reason to read again.
        let _timed_out = tokio::time::timeout(wait, self.request.notified()).await.is_err();
    }
}

/// Where trust is read from.
#[derive(Debug, Clone)]
pub struct KeyFiles {
    /// HS256 secrets that stand in no file.
    pub secrets: Vec<Secret>,
    /// The file of HS256 secrets, one a line.
    pub secret_file: Option<PathBuf>,
    /// The file of public keys.
    pub public_keys: Option<PathBuf>,
    /// The file of revocations.
    pub revoked: Option<PathBuf>,
    /// What tokens have to fulfil.
    pub rules: TokenRules,
    /// Whether secrets that can be guessed are taken.
    pub takes_weak_secrets: bool,
}

/// What is read of the files.
#[derive(Debug, Clone)]
struct Parts {
    secrets: Vec<Secret>,
    public: Vec<Key>,
    revoked: Revocations,
}

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Secrets,
    PublicKeys,
    Revocations,
}

impl Part {
    const ALL: [Self; 3] = [Self::Secrets, Self::PublicKeys, Self::Revocations];

    const fn setting(self) -> &'static str {
        match self {
            Self::Secrets => "FIREFLOW_JWT_SECRET_FILE",
            Self::PublicKeys => "FIREFLOW_JWT__PUBLIC_KEYS",
            Self::Revocations => "FIREFLOW_JWT__REVOKED_FILE",
        }
    }
}

impl KeyFiles {
    /// Reads all of it.
    ///
    /// # Errors
    /// The first that is wrong, with the setting's name; never a key.
    pub fn read(&self) -> Result<Trust, String> {
        let mut parts = self.parts();
        for part in Part::ALL {
            let Some(path) = self.path(part) else { continue };
            let faults = text(path).and_then(|text| self.take(part, &text, &mut parts));
            match faults.map(|faults| faults.into_iter().next()) {
                Ok(None) => {}
                Ok(Some(fault)) | Err(fault) => {
                    return Err(format!("{}: {fault}", part.setting()));
                }
            }
        }
        Ok(self.trust(&parts))
    }

    fn parts(&self) -> Parts {
        let secrets = self.secrets.clone();
        Parts { secrets, public: Vec::new(), revoked: Revocations::default() }
    }

    fn path(&self, part: Part) -> Option<&Path> {
        match part {
            Part::Secrets => self.secret_file.as_deref(),
            Part::PublicKeys => self.public_keys.as_deref(),
            Part::Revocations => self.revoked.as_deref(),
        }
    }

    /// Takes of a file's text what can be used, and answers what cannot.
    fn take(&self, part: Part, text: &str, parts: &mut Parts) -> Result<Vec<String>, String> {
        match part {
            Part::Secrets => {
                parts.secrets =
                    crate::settings::secret_lines(text.as_bytes(), self.takes_weak_secrets)?;
            }
            Part::PublicKeys => {
                // What the file no longer holds is withdrawn, whatever else is wrong with it.
                let (public, faults) = public_keys(text)?;
                parts.public = public;
                return Ok(faults);
            }
            Part::Revocations => {
                let (revoked, faults) = Revocations::read(text);
                if faults.is_empty() {
                    parts.revoked = revoked;
                } else {
                    // A line that is cut revokes less than it did: what held still holds.
                    parts.revoked.extend(revoked);
                }
                return Ok(faults);
            }
        }
        Ok(Vec::new())
    }

    fn trust(&self, parts: &Parts) -> Trust {
        let Parts { secrets, public, revoked } = parts.clone();
        Trust::new(secrets, public, self.rules.clone(), revoked)
    }
}

fn text(path: &Path) -> Result<String, String> {
    let fault = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let length = std::fs::metadata(path).map_err(fault)?.len();
    if length > MAX_BYTES {
        return Err(format!("{} is larger than {MAX_BYTES} bytes", path.display()));
    }
    std::fs::read_to_string(path).map_err(fault)
}

/// Reads the files again and again, and makes the service trust what they say. A file that cannot be
/// read as a whole changes nothing, and is told once. Of one that can, what can be used holds at once:
/// a key that it leaves out is withdrawn, also where that was the last. A fault of one file keeps no
/// other from being taken.
pub async fn watch(files: KeyFiles, authenticator: Authenticator, every: Duration) {
    let watched: Vec<(Part, PathBuf)> = Part::ALL
        .into_iter()
        .filter_map(|part| Some((part, files.path(part)?.to_owned())))
        .collect();
    let reload = authenticator.reload_handle();
    let mut parts = files.parts();
    let mut known: Vec<Option<Result<Hidden, String>>> = vec![None; watched.len()];
    // Until each was read once here, what was read at the start stays trusted.
    let mut was_read = vec![false; watched.len()];
    let mut is_first = true;
    let mut doubted: Option<String> = None;
    loop {
        let mut has_changed = false;
        for (((part, path), known), was_read) in watched.iter().zip(&mut known).zip(&mut was_read) {
            let path = path.clone();
            // Files may lie on what is slow.
            let read = tokio::task::spawn_blocking(move || text(&path)).await;
            let now = read.unwrap_or_else(|error| Err(error.to_string())).map(Hidden);
            if known.as_ref() == Some(&now) {
                continue;
            }
            // Read between the moments of a careless write a file is empty: what takes revocations
            // back has to be there twice.
            if *part == Part::Revocations
                && let Ok(Hidden(text)) = &now
                && !Revocations::read(text).0.hold(&parts.revoked)
                && doubted.as_ref() != Some(text)
            {
                doubted = Some(text.clone());
                continue;
            }
            doubted = None;
            let setting = part.setting();
            let text = now.as_ref().map_err(Clone::clone);
            match text.and_then(|Hidden(text)| files.take(*part, text, &mut parts)) {
                Ok(faults) => {
                    (has_changed, *was_read) = (true, true);
                    for fault in faults {
                        tracing::error!(setting, %fault, "a part of it cannot be used");
                    }
                }
                Err(fault) => {
                    tracing::error!(setting, %fault, "what was trusted before stays trusted");
                }
            }
            *known = Some(now);
        }
        if has_changed && was_read.iter().all(|was_read| *was_read) {
            authenticator.replace(files.trust(&parts));
            if !is_first {
                tracing::info!("keys, secrets or revocations have changed");
            }
        }
        is_first = false;
        reload.pass_ended(every).await;
    }
}

/// A file's text, which may be secret.
#[derive(Clone, PartialEq, Eq)]
struct Hidden(String);

//! Keys, secrets and revocations that change while the service runs. Their files are polled, since
//! not every file system reports changes (Kubernetes swaps a link).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch as watched_value};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::files::{Content, Notes, Parts, content};
use super::{Authenticator, KeyFile, KeyFileState, KeyFileStatus, KeyFiles};

/// Makes the watcher of key files, or of a certificate's files, read them now instead of at the
/// next poll, for example on SIGHUP. [`Authenticator::reload_handle`] returns one. Cheap to clone:
/// all clones reach the same watcher.
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
    /// Requests a reload and returns at once. Requests that arrive before the watcher handles them
    /// are merged into one.
    pub fn reload(&self) {
        self.request.notify_one();
    }

    /// Requests a reload, and waits until the watcher has started and finished at least one full
    /// pass after this call. Never returns if no watcher runs.
    pub async fn reload_and_wait(&self) {
        let mut passes = self.passes.subscribe();
        // The pass in progress may have read a file before it changed.
        let enough = passes.borrow_and_update().saturating_add(2);
        // The count is read before the request: a pass that ends between the two is a change.
        while *passes.borrow_and_update() < enough {
            self.reload();
            if passes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Notes that the watcher has read all files, and waits for the next request.
    pub async fn pass_ended(&self, wait: Duration) {
        self.passes.send_modify(|passes| *passes = passes.saturating_add(1));
        // Both a request and the timeout are reasons to read again.
        let _timed_out = tokio::time::timeout(wait, self.request.notified()).await.is_err();
    }
}

/// Polls the files, and makes the service trust what they prove.
///
/// - A secret that is no longer in the file of secrets is withdrawn, whatever else is wrong with
///   the file.
/// - A file of public keys with at least one usable key replaces the previous keys. A file without
///   one proves nothing: the previous keys stay for [`KeyFiles::grace`], and are then withdrawn.
///   The same holds for a file of secrets or public keys that cannot be read.
/// - A file of revocations only adds revocations. A missing entry is withdrawn once two readings
///   have left it out. An unreadable or empty file never withdraws a revocation.
///
/// Each fault is logged once, and [`Authenticator::key_files`] shows it as long as it lasts. A
/// fault in one file does not prevent another from being applied.
pub async fn watch(files: KeyFiles, authenticator: Authenticator, every: Duration) {
    let reload = authenticator.reload_handle();
    let mut watcher = Watcher::new(files, authenticator, every.min(SETTLE));
    loop {
        watcher.pass().await;
        reload.pass_ended(every).await;
    }
}

/// How long a file must stay unchanged before the entries that it leaves out are withdrawn:
/// programs that do not rename a whole file into place write it in steps.
const SETTLE: Duration = Duration::from_millis(250);
/// How many times an unsettled file is read before it is applied as it is.
const MAX_READINGS: usize = 4;
/// How long reading a file may take: a file on a network may hang.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A file's bytes, which may be secret, or the reason why it could not be read.
type Reading = Result<FileContent, String>;

#[derive(Clone, PartialEq, Eq)]
struct FileContent {
    bytes: Vec<u8>,
    warning: Option<String>,
}

/// A watched file.
struct Watched {
    file: KeyFile,
    path: PathBuf,
    /// The last reading, if it was applied.
    known: Option<Reading>,
    /// A reading that withdraws revocations, and when it was read.
    doubted: Option<(Reading, Instant)>,
    /// Since when the file is unreadable or proves nothing.
    unproven_since: Option<Instant>,
    is_withdrawn: bool,
    fault: Option<String>,
    failures: u64,
    /// A reading that has exceeded its timeout.
    pending: Option<JoinHandle<Result<Content, String>>>,
}

impl Watched {
    async fn read(&mut self) -> Reading {
        let mut task = self.pending.take().unwrap_or_else(|| {
            let path = self.path.clone();
            tokio::task::spawn_blocking(move || content(&path))
        });
        match tokio::time::timeout(READ_TIMEOUT, &mut task).await {
            Ok(read) => read
                .unwrap_or_else(|error| Err(error.to_string()))
                .map(|Content { bytes, warning }| FileContent { bytes, warning }),
            Err(_) => {
                // Start no further reading until this one has ended: threads would pile up.
                self.pending = Some(task);
                let path = self.path.display();
                Err(format!("{path} cannot be read: reading it takes longer than {READ_TIMEOUT:?}"))
            }
        }
    }

    /// Reads the file until two readings are the same.
    async fn read_settled(&mut self, settle: Duration) -> Reading {
        let mut reading = self.read().await;
        if self.known.as_ref() == Some(&reading) {
            return reading;
        }
        for _ in 1..MAX_READINGS {
            tokio::time::sleep(settle).await;
            let again = self.read().await;
            if again == reading {
                break;
            }
            reading = again;
        }
        reading
    }

    fn status(&self, parts: &Parts) -> KeyFileStatus {
        KeyFileStatus {
            file: self.file,
            state: match (self.is_withdrawn, self.unproven_since) {
                (true, _) => KeyFileState::Withdrawn,
                (false, Some(_)) => KeyFileState::Kept,
                (false, None) => KeyFileState::Current,
            },
            fault: self.fault.clone(),
            entries: parts.count(self.file),
            failures: self.failures,
        }
    }
}

struct Watcher {
    files: KeyFiles,
    authenticator: Authenticator,
    settle: Duration,
    parts: Parts,
    watched: Vec<Watched>,
}

impl Watcher {
    fn new(files: KeyFiles, authenticator: Authenticator, settle: Duration) -> Self {
        let trust = authenticator.trust();
        // The contents that were read at the start are in force.
        let parts = Parts {
            secrets: trust.secrets.clone(),
            public: trust.public.clone(),
            revoked: trust.revoked.clone(),
        };
        let watched = KeyFile::ALL.into_iter().filter_map(|file| {
            Some(Watched {
                file,
                path: files.path(file)?.to_owned(),
                known: None,
                doubted: None,
                unproven_since: None,
                is_withdrawn: false,
                fault: None,
                failures: 0,
                pending: None,
            })
        });
        let watched = watched.collect();
        Self { files, authenticator, settle, parts, watched }
    }

    /// Reads each file once, and applies what has changed.
    async fn pass(&mut self) {
        let mut has_changed = false;
        let mut watched = std::mem::take(&mut self.watched);
        for file in &mut watched {
            has_changed |= match file.file {
                KeyFile::Secrets | KeyFile::PublicKeys => self.look_at_keys(file).await,
                KeyFile::Revocations => self.look_at_revocations(file).await,
            };
            if file.fault.is_some() {
                file.failures = file.failures.saturating_add(1);
            }
        }
        if has_changed {
            self.authenticator.replace(self.files.trust(&self.parts));
        }
        let statuses = watched.iter().map(|file| file.status(&self.parts)).collect();
        self.authenticator.files.replace(statuses);
        self.watched = watched;
    }

    /// Reads a file of secrets or public keys. Returns whether what is in force has changed.
    async fn look_at_keys(&mut self, watched: &mut Watched) -> bool {
        let reading = watched.read_settled(self.settle).await;
        let mut has_changed = false;
        if watched.known.as_ref() != Some(&reading) {
            let is_first = watched.known.is_none();
            let taken = match &reading {
                Ok(read) => self.take(watched.file, &read.bytes).await,
                Err(why) => Err(why.clone()),
            };
            match taken {
                Ok((notes, parts)) => {
                    self.parts = parts;
                    has_changed = true;
                    (watched.unproven_since, watched.is_withdrawn) = (None, false);
                    self.note(watched, notes, &reading, is_first);
                }
                Err(why) => self.keep(watched, why),
            }
            watched.known = Some(reading);
        }
        has_changed | self.withdraw_if_due(watched)
    }

    /// Reads the file of revocations. Returns whether what is in force has changed.
    async fn look_at_revocations(&mut self, watched: &mut Watched) -> bool {
        let reading = watched.read().await;
        if watched.known.as_ref() == Some(&reading) {
            return false;
        }
        let is_first = watched.known.is_none();
        let taken = match &reading {
            Ok(content)
                if content.bytes.trim_ascii().is_empty() && !self.parts.revoked.is_empty() =>
            {
                Err("is empty: to lift all revocations, add a line `# none`".to_owned())
            }
            Ok(content) => self.take(watched.file, &content.bytes).await,
            Err(why) => Err(why.clone()),
        };
        let (notes, read) = match taken {
            Ok(taken) => taken,
            Err(why) => {
                self.keep(watched, why);
                watched.known = Some(reading);
                return false;
            }
        };
        let gone = read.revoked.missing_of(&self.parts.revoked);
        if gone > 0 && notes.faults.is_empty() {
            // A file that is read while it is being written may be too short. A withdrawal must
            // therefore be read twice, while additions apply at once.
            let is_confirmed = watched.doubted.as_ref().is_some_and(|(doubted, since)| {
                *doubted == reading && since.elapsed() >= self.settle
            });
            if !is_confirmed {
                let is_new =
                    watched.doubted.as_ref().is_none_or(|(doubted, _)| *doubted != reading);
                if is_new {
                    watched.doubted = Some((reading, Instant::now()));
                }
                self.parts.revoked.extend(read.revoked);
                return is_new;
            }
            tracing::warn!(count = gone, "revocations were lifted: their tokens are valid again");
            self.parts.revoked = read.revoked;
        } else {
            // A truncated line revokes less than it did, so the previous revocations stay in force.
            self.parts.revoked.extend(read.revoked);
        }
        (watched.doubted, watched.unproven_since) = (None, None);
        self.note(watched, notes, &reading, is_first);
        watched.known = Some(reading);
        true
    }

    /// What is in force after applying what a file's text proves. Runs outside the threads that
    /// serve requests, since checking many keys takes long.
    async fn take(&self, file: KeyFile, bytes: &[u8]) -> Result<(Notes, Parts), String> {
        let (files, mut parts, bytes) = (self.files.clone(), self.parts.clone(), bytes.to_vec());
        let take = move || {
            let notes = files.take(file, &bytes, &mut parts)?;
            Ok((notes, parts))
        };
        let taken = tokio::task::spawn_blocking(take).await;
        taken.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Records that a file was applied.
    fn note(&self, watched: &mut Watched, notes: Notes, reading: &Reading, is_first: bool) {
        let setting = watched.file.setting();
        for fault in &notes.faults {
            tracing::error!(setting, %fault, "a part of the file cannot be used");
        }
        let more = notes.faults.len().saturating_sub(1);
        watched.fault = notes.faults.into_iter().next().map(|first| match more {
            0 => first,
            more => format!("{first}; and {more} more"),
        });
        if is_first {
            // Its warnings were logged at the start.
            return;
        }
        let warning = reading.as_ref().ok().and_then(|read| read.warning.clone());
        for warning in notes.warnings.into_iter().chain(warning) {
            tracing::warn!(setting, "{warning}");
        }
        let entries = self.parts.count(watched.file);
        tracing::info!(setting, entries, "keys, secrets or revocations have changed");
    }

    /// Records that a file proves nothing.
    fn keep(&self, watched: &mut Watched, fault: String) {
        let (setting, grace) = (watched.file.setting(), self.files.grace);
        watched.unproven_since.get_or_insert_with(Instant::now);
        match watched.file {
            KeyFile::Secrets | KeyFile::PublicKeys => {
                tracing::error!(setting, %fault, ?grace, "the previous content stays trusted for \
                                                          now");
            }
            KeyFile::Revocations => {
                tracing::error!(setting, %fault, "earlier revocations still apply");
            }
        }
        watched.fault = Some(fault);
    }

    /// Withdraws the contents of a file that has proven nothing for too long. Returns whether it
    /// did.
    fn withdraw_if_due(&mut self, watched: &mut Watched) -> bool {
        let is_due =
            watched.unproven_since.is_some_and(|since| since.elapsed() >= self.files.grace);
        if !is_due || watched.is_withdrawn {
            return false;
        }
        let count = self.parts.count(watched.file);
        match watched.file {
            KeyFile::Secrets => self.parts.secrets.clear(),
            KeyFile::PublicKeys => self.parts.public.clear(),
            // Without its revocations, more tokens would be trusted, not fewer.
            KeyFile::Revocations => return false,
        }
        watched.is_withdrawn = true;
        let (setting, fault) = (watched.file.setting(), watched.fault.as_deref());
        tracing::error!(
            setting,
            fault,
            count,
            "the previous content of the file is not trusted any more"
        );
        true
    }
}

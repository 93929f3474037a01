//! Keys, secrets and revocations that change while the service runs: their files are read again and
//! again, since not every file system tells of changes (Kubernetes swaps a link).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch as watched_value};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::files::{Content, Notes, Parts, content};
use super::{Authenticator, KeyFile, KeyFileState, KeyFileStatus, KeyFiles};

/// Has the watcher of key files, or of a certificate's, read them now, instead of when their turn comes:
/// on SIGHUP, say. [`Authenticator::reload_handle`] gives one. Cheap to clone: all clones reach the same watcher.
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
    pub async fn pass_ended(&self, wait: Duration) {
        self.passes.send_modify(|passes| *passes = passes.saturating_add(1));
        // Either is a reason to read again.
        let _timed_out = tokio::time::timeout(wait, self.request.notified()).await.is_err();
    }
}

/// Reads the files again and again, and makes the service trust what they prove.
///
/// - What a file of secrets does not hold any more is withdrawn, whatever else is wrong with it.
/// - A file of public keys with one usable key or more replaces those before. One without proves
///   nothing: it changes nothing for [`KeyFiles::grace`]; then its keys are withdrawn. So does a file,
///   of either kind, that cannot be read.
/// - A file of revocations only ever adds, until what it leaves out was left out twice. What cannot be
///   read, or is empty, takes nothing back, for however long.
///
/// Each fault is logged once, and shown by [`Authenticator::key_files`] as long as it lasts. A fault of
/// one file keeps no other from being taken.
pub async fn watch(files: KeyFiles, authenticator: Authenticator, every: Duration) {
    let reload = authenticator.reload_handle();
    let mut watcher = Watcher::new(files, authenticator, every.min(SETTLE));
    loop {
        watcher.pass().await;
        reload.pass_ended(every).await;
    }
}

/// How long a file has to stay the same before what it leaves out is withdrawn: programs that do not
/// rename a whole file into place write it in steps.
const SETTLE: Duration = Duration::from_millis(250);
/// How often a file is read that does not settle, before it is taken as it is.
const MAX_READINGS: usize = 4;
/// How long a file may take to be read: what lies on a network may hang.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// A file's bytes, which may be secret, or why there are none.
type Reading = Result<Hidden, String>;

#[derive(Clone, PartialEq, Eq)]
struct Hidden {
    bytes: Vec<u8>,
    warning: Option<String>,
}

/// A file that is watched.
struct Watched {
    file: KeyFile,
    path: PathBuf,
    /// What was read last, if it was acted upon.
    known: Option<Reading>,
    /// A reading that takes revocations back, and when it was read.
    doubted: Option<(Reading, Instant)>,
    /// Since when it cannot be read or proves nothing.
    unproven_since: Option<Instant>,
    is_withdrawn: bool,
    fault: Option<String>,
    failures: u64,
    /// A reading that takes longer than it may.
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
                .map(|Content { bytes, warning }| Hidden { bytes, warning }),
            Err(_) => {
                // Not once more until it has ended: threads would pile up.
                self.pending = Some(task);
                let path = self.path.display();
                Err(format!("{path} cannot be read: it takes longer than {READ_TIMEOUT:?}"))
            }
        }
    }

    /// Reads it until two readings are the same.
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
        // What was read at the start is in force.
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

    /// Reads each file once, and acts upon what has changed.
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

    /// Whether what is in force has changed.
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

    /// Whether what is in force has changed.
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
                Err("is empty: a line `# none` would take all revocations back".to_owned())
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
            // Read between the moments of a careless write a file is short: what takes revocations back
            // has to be there twice. What it adds holds at once.
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
            tracing::warn!(
                count = gone,
                "revocations were taken back: their tokens are good again"
            );
            self.parts.revoked = read.revoked;
        } else {
            // A line that is cut revokes less than it did: what held still holds.
            self.parts.revoked.extend(read.revoked);
        }
        (watched.doubted, watched.unproven_since) = (None, None);
        self.note(watched, notes, &reading, is_first);
        watched.known = Some(reading);
        true
    }

    /// What is in force with what a file's text proves: not on the threads that serve, since checking
    /// many keys takes long.
    async fn take(&self, file: KeyFile, bytes: &[u8]) -> Result<(Notes, Parts), String> {
        let (files, mut parts, bytes) = (self.files.clone(), self.parts.clone(), bytes.to_vec());
        let take = move || {
            let notes = files.take(file, &bytes, &mut parts)?;
            Ok((notes, parts))
        };
        let taken = tokio::task::spawn_blocking(take).await;
        taken.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Notes that a file was taken.
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
            // What is odd about it was logged at the start.
            return;
        }
        let warning = reading.as_ref().ok().and_then(|read| read.warning.clone());
        for warning in notes.warnings.into_iter().chain(warning) {
            tracing::warn!(setting, "{warning}");
        }
        let entries = self.parts.count(watched.file);
        tracing::info!(setting, entries, "keys, secrets or revocations have changed");
    }

    /// Notes that a file proves nothing.
    fn keep(&self, watched: &mut Watched, fault: String) {
        let (setting, grace) = (watched.file.setting(), self.files.grace);
        watched.unproven_since.get_or_insert_with(Instant::now);
        match watched.file {
            KeyFile::Secrets | KeyFile::PublicKeys => {
                tracing::error!(setting, %fault, ?grace, "what was trusted before stays trusted for now");
            }
            KeyFile::Revocations => {
                tracing::error!(setting, %fault, "what was revoked before stays revoked");
            }
        }
        watched.fault = Some(fault);
    }

    /// Withdraws what a file has not proven for too long. Whether that was so.
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
            // Without them more would be trusted, not less.
            KeyFile::Revocations => return false,
        }
        watched.is_withdrawn = true;
        let (setting, fault) = (watched.file.setting(), watched.fault.as_deref());
        tracing::error!(
            setting,
            fault,
            count,
            "what the file proved before is not trusted any more"
        );
        true
    }
}

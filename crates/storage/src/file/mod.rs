//! The file of a SQLite database: its identity, its holder, and whether it still exists.
//!
//! A database belongs to one process: otherwise a process could change unseen what another has
//! cached. Two locks enforce this, and both are held until the process ends, however it ends:
//!
//! - A lock on `<database>.lock`, next to the file that links lead to. It covers a database that
//!   does not exist yet or is being replaced, names the holder, and is the lock that earlier
//!   versions used.
//! - On Linux, a lock on the database file itself (`flock`), whatever name it was opened by: hard
//!   links and files that are mounted elsewhere have other lock files.
//!
//! Closing *any* descriptor of a file drops the locks that SQLite has on it (POSIX, `fcntl`). So
//! one descriptor is opened ahead of SQLite's own and closed after them, and all other checks use
//! `stat`.

mod holder;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
mod place;
mod watch;

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use holder::{Holder, LockFile};
#[cfg(target_os = "linux")]
use linux as system;
#[cfg(not(target_os = "linux"))]
use other as system;
pub(crate) use place::{DatabasePaths, beside};
use sea_orm::SqlxError;
pub(crate) use system::rename_to_new;
use watch::Logs;
pub(crate) use watch::{Identity, watch};

use crate::open_error::OpenError;

/// The purpose of opening a database: it decides whether others wait for a SQLite file that this
/// process holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To serve until it is stopped: others do not wait for that.
    Serve,
    /// To run the command of this name, which ends by itself: others wait.
    Command(&'static str),
}

impl Purpose {
    const fn command(self) -> &'static str {
        match self {
            Self::Serve => "serve",
            Self::Command(name) => name,
        }
    }
}

/// How long to wait for a command that holds the database.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
/// How long a service must hold the database before the attempt is refused. The holder's name is
/// written a moment after the lock is taken, and a service that ends releases the lock a moment
/// later.
const SERVICE_TIMEOUT: Duration = Duration::from_millis(300);
/// How long SQLite's own locks may block the test that they work.
const TEST_TIMEOUT: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(50);

/// The files that this process holds. Testing whether a file can be locked opens it, and closing it
/// would drop SQLite's locks on it.
static OWN: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());

fn own() -> MutexGuard<'static, BTreeSet<Identity>> {
    OWN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One of the files of [`OWN`].
#[derive(Debug)]
struct Own(Identity);

impl Drop for Own {
    fn drop(&mut self) {
        own().remove(&self.0);
    }
}

/// A database that belongs to this process until this is dropped. The fields are in the order in
/// which they are closed.
#[derive(Debug)]
pub(crate) struct DatabaseFile {
    place: DatabasePaths,
    open: Option<Open>,
    lock: LockFile,
    /// The write-ahead log and its index, once they exist.
    logs: OnceLock<Logs>,
    watched: watch::State,
}

/// The file itself, if it exists.
#[derive(Debug)]
struct Open {
    file: File,
    identity: Identity,
    _own: Own,
}

/// Why an attempt to take a database failed.
enum Refusal {
    /// Another process holds it.
    Held(Holder),
    /// Another process has one of SQLite's own locks on it, or these locks contradict ours.
    Locked,
    Failed(OpenError),
}

impl From<OpenError> for Refusal {
    fn from(error: OpenError) -> Self {
        Self::Failed(error)
    }
}

impl DatabaseFile {
    /// Takes a database for this process, and creates it if it does not exist. Waits up to two
    /// minutes for commands that hold it, but not for services.
    ///
    /// # Errors
    /// Returns `InUse` if another process holds it, and `Refused` or `Lock` if it cannot be used.
    pub(crate) async fn take(path: &Path, purpose: Purpose) -> Result<Self, OpenError> {
        Self::wait_for(path, purpose, true).await
    }

    /// The same, but creates nothing.
    ///
    /// # Errors
    /// As [`Self::take`].
    pub(crate) async fn take_existing(path: &Path, purpose: Purpose) -> Result<Self, OpenError> {
        Self::wait_for(path, purpose, false).await
    }

    async fn wait_for(path: &Path, purpose: Purpose, creates: bool) -> Result<Self, OpenError> {
        let start = Instant::now();
        let (mut served_since, mut locked_since) = (None, None);
        let mut waits_for = None;
        loop {
            match Self::attempt(path, purpose, creates) {
                Ok(file) => return Ok(file),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::Held(holder)) => {
                    let is_over = if holder.ends {
                        served_since = None;
                        start.elapsed() >= COMMAND_TIMEOUT
                    } else {
                        served_since.get_or_insert_with(Instant::now).elapsed() >= SERVICE_TIMEOUT
                    };
                    if is_over {
                        return Err(OpenError::InUse {
                            path: path.to_owned(),
                            holder: holder.name,
                        });
                    }
                    if holder.ends && waits_for.as_ref() != Some(&holder.name) {
                        let (path, holder) = (path.display(), &holder.name);
                        tracing::info!(%path, %holder, "waiting for a command to finish");
                    }
                    waits_for = Some(holder.name);
                }
                Err(Refusal::Locked) => {
                    let since = locked_since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= TEST_TIMEOUT {
                        return Err(refused(path, system::CONTRADICTION));
                    }
                }
            }
            tokio::time::sleep(POLL).await;
        }
    }

    fn attempt(path: &Path, purpose: Purpose, creates: bool) -> Result<Self, Refusal> {
        let place = DatabasePaths::find(path)?;
        let (lock, before) = match LockFile::take(&place.real)? {
            Ok(taken) => taken,
            Err(holder) => return Err(Refusal::Held(holder)),
        };
        let is_new = Identity::of(&place.real).map_err(|error| place.error(&error))?.is_none();
        // A caller that replaces the database also puts its log aside, so it skips this check.
        if creates {
            place.refuse_lost_database()?;
        }
        let open = if is_new && !creates { None } else { Some(Self::open(&place)?) };
        if let Some(open) = &open
            && creates
            && !is_new
        {
            before.refuse_log_of_another(&place, open.identity)?;
            place.refuse_log_of_another_name(open.identity)?;
            warn_of_readers(&place, &open.file);
        }
        lock.write_holder(purpose)?;
        Ok(Self { place, open, lock, logs: OnceLock::new(), watched: watch::State::default() })
    }

    fn open(place: &DatabasePaths) -> Result<Open, Refusal> {
        let identity = |found: io::Result<Option<Identity>>| {
            found.map_err(|error| Refusal::Failed(place.error(&error)))
        };
        let known = identity(Identity::of(&place.real))?;
        if let Some(known) = known
            && own().contains(&known)
        {
            return Err(Refusal::Held(Holder::this_process()));
        }
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        // The file contains all rules, and anyone who can read it could also lock it.
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&place.real).map_err(|error| place.error(&error))?;
        let refused = |why: String| Refusal::Failed(refused(&place.real, &why));
        match system::lock(&file).map_err(refused)? {
            system::Locked::Ours => {}
            system::Locked::Held => return Err(Refusal::Held(system::holder_of(&file))),
            system::Locked::Contradicts => return Err(Refusal::Locked),
        }
        let opened = identity(Identity::of_open(&file))?;
        // The file was replaced in between: the next attempt sees the current one.
        let found = identity(Identity::of(&place.real))?;
        let Some(identity) = opened.filter(|_| opened == found) else {
            return Err(Refusal::Locked);
        };
        own().insert(identity);
        Ok(Open { file, identity, _own: Own(identity) })
    }

    /// The file, without links in its path, as SQLite must open it.
    pub(crate) fn path(&self) -> &Path {
        &self.place.real
    }

    /// Records the write-ahead log and its index, which SQLite has created by now: see
    /// [`watch::Lost::Log`].
    pub(crate) fn note_logs(&self) -> Result<(), OpenError> {
        let logs = Logs::of(&self.place).map_err(|error| self.place.error(&error))?;
        if let Some(open) = &self.open {
            self.lock.write_files(open.identity, logs.log())?;
            system::note_path(&open.file, &self.place.real);
        }
        // Recorded once: a second pool of the same process finds the same files.
        let _known = self.logs.set(logs).is_err();
        Ok(())
    }
}

/// Checks that a database can be read while another process may hold it. Refuses a name under which
/// its newest changes would not be found.
///
/// # Errors
/// Returns `Refused` for such a name, and if the file cannot be examined.
pub(crate) fn find_to_read(path: &Path) -> Result<(), OpenError> {
    let place = DatabasePaths::find(path)?;
    let Some(identity) = Identity::of(&place.real).map_err(|error| place.error(&error))? else {
        return Ok(());
    };
    if is_held(&place, identity)? {
        place.refuse_alias_of_served()
    } else {
        place.refuse_log_of_another_name(identity)
    }
}

/// Whether a process holds the database. Does not wait, and leaves no trace.
fn is_held(place: &DatabasePaths, identity: Identity) -> Result<bool, OpenError> {
    if own().contains(&identity) {
        return Ok(true);
    }
    system::is_locked(&place.real).map_err(|error| place.error(&error))
}

/// Locks a file that becomes a backup or a database, for as long as it is open. Returns whether it
/// was locked: some file systems do not support locks, and backups may be kept there.
pub(crate) fn draft_lock(file: &File) -> bool {
    if !system::LOCKS_FILES {
        return false;
    }
    let is_locked = matches!(system::lock(file), Ok(system::Locked::Ours));
    if !is_locked {
        // Unlocked again, or SQLite would wait for it.
        let _unlocked = file.unlock().is_ok();
    }
    is_locked
}

fn refused(path: &Path, why: &str) -> OpenError {
    OpenError::Refused { path: path.to_owned(), why: why.to_owned() }
}

/// Warns that others may read the file, and thus all rules, and could lock it too. The mode is its
/// owner's decision, so it is not changed.
#[cfg(unix)]
fn warn_of_readers(place: &DatabasePaths, file: &File) {
    use std::os::unix::fs::PermissionsExt;

    let Ok(metadata) = file.metadata() else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        let path = place.real.display();
        tracing::warn!(
            "{path} has mode {mode:04o}, so users other than its owner can open it; if they need \
             not, run `chmod 600 {path}`"
        );
    }
}

#[cfg(not(unix))]
fn warn_of_readers(_place: &DatabasePaths, _file: &File) {}

/// The database's lock file.
fn lock_path(database: &Path) -> PathBuf {
    beside(database, ".lock")
}

/// Whether a new connection is to the file that belongs to this process, and not to another file
/// that has taken its place.
pub(crate) fn is_the_same(file: &Weak<DatabaseFile>) -> Result<(), SqlxError> {
    // Without the file, nothing uses the connection.
    let Some(file) = file.upgrade() else { return Ok(()) };
    file.verify().map_err(|lost| SqlxError::Io(std::io::Error::other(lost)))
}

//! Checks that a database's files are still the ones that are open.
//!
//! A file that is removed or replaced while it is open can still be written to, and is gone when it
//! is closed. So the writer checks after each commit, before it acknowledges the commit, and a task
//! checks each second. The checks open no file: closing it would drop SQLite's locks.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use sea_orm::{ConnectionTrait, DatabaseConnection};
use tokio::task::JoinHandle;

use super::{DatabaseFile, DatabasePaths};

/// The interval of the regular checks.
const PERIOD: Duration = Duration::from_secs(1);

/// The identity of a file: its device, its inode number, and its time of creation in nanoseconds of
/// the Unix epoch, or 0 if that is unknown. The time matters because inode numbers are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
    born: u128,
}

impl Identity {
    /// The identity of the file that a path leads to; `None` if there is none. Opens nothing.
    ///
    /// # Errors
    /// Returns the file system's error.
    pub(crate) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::read(&metadata))),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn of_open(file: &File) -> io::Result<Option<Self>> {
        file.metadata().map(|metadata| Some(Self::read(&metadata)))
    }

    fn read(metadata: &fs::Metadata) -> Self {
        let born = metadata.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or(0, |age| age.as_nanos());
        let (device, inode) = numbers(metadata);
        Self { device, inode, born }
    }
}

#[cfg(unix)]
fn numbers(metadata: &fs::Metadata) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;

    (metadata.dev(), metadata.ino())
}

/// Windows neither removes nor replaces a file that SQLite has open.
#[cfg(not(unix))]
fn numbers(_metadata: &fs::Metadata) -> (u64, u64) {
    (0, 0)
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.device, self.inode, self.born)
    }
}

/// The write-ahead log and its index. They remain the same files as long as one connection is open.
#[derive(Debug)]
pub(super) struct Logs {
    log: Option<Identity>,
    index: Option<Identity>,
}

impl Logs {
    pub(super) fn of(place: &DatabasePaths) -> io::Result<Self> {
        Ok(Self { log: Identity::of(&place.log())?, index: Identity::of(&place.index())? })
    }

    pub(super) const fn log(&self) -> Option<Identity> {
        self.log
    }
}

/// The fault of an open database. From then on writes are refused and the database is not ready:
/// data written to a file without a name is gone with the process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Lost {
    /// The file no longer exists.
    #[error("{} was removed while it was open", .0.display())]
    Removed(PathBuf),
    /// Another file has its name.
    #[error("{} was replaced by another file while it was open", .0.display())]
    Replaced(PathBuf),
    /// The write-ahead log or its index is not the one that is open.
    #[error("{} was removed or replaced while the database was open", .0.display())]
    Log(PathBuf),
    /// The file cannot be examined.
    #[error("{} cannot be checked ({why})", path.display())]
    Unseen {
        /// The file.
        path: PathBuf,
        /// The system's error.
        why: String,
    },
    /// It is the same file, but another program has written to it, so its contents cannot be
    /// trusted.
    #[error("{} was overwritten while it was open", .0.display())]
    Overwritten(PathBuf),
}

impl Lost {
    /// The remedy, for the log.
    const fn cure(&self) -> &'static str {
        match self {
            Self::Removed(_) | Self::Replaced(_) => {
                "put the same file back, or stop the service, restore a backup and start it again"
            }
            Self::Log(_) => "start the service again",
            Self::Unseen { .. } => "its folder must be readable by the user that runs FireFlow",
            Self::Overwritten(_) => {
                "stop the service, restore a backup with `fireflow restore --replace` and start it \
                 again"
            }
        }
    }
}

/// The findings of the last check.
#[derive(Debug, Default)]
pub(super) struct State {
    lost: Mutex<Option<Lost>>,
    /// Permanent: nothing undoes an overwrite.
    overwritten: OnceLock<Lost>,
    /// Its size in bytes, and SQLite's count of its changes.
    #[cfg(unix)]
    size: Mutex<(u64, u32)>,
}

impl DatabaseFile {
    /// Checks that the open files are still in their places, and that no other program has written
    /// to them: six system calls. Logs each change.
    ///
    /// # Errors
    /// Returns what has happened to the files.
    pub(crate) fn verify(&self) -> Result<(), Lost> {
        self.look_inside();
        let found = match self.watched.overwritten.get() {
            Some(lost) => Err(lost.clone()),
            None => self.look(),
        };
        let now = found.clone().err();
        let mut last = self.watched.lost.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != now {
            match &now {
                Some(lost) => tracing::error!(
                    "{lost}: writes are refused, and the service is not ready; {}",
                    lost.cure()
                ),
                None => tracing::info!(
                    path = %self.place.real.display(),
                    "the database's files are back in place: writes are accepted again"
                ),
            }
            *last = now;
        }
        found
    }

    /// Whether the contents can be trusted, as far as is already known. Makes no system call.
    ///
    /// # Errors
    /// Returns `Overwritten`.
    pub(crate) fn is_readable(&self) -> Result<(), Lost> {
        self.watched.overwritten.get().map_or(Ok(()), |lost| Err(lost.clone()))
    }

    fn look(&self) -> Result<(), Lost> {
        let Some(open) = &self.open else { return Ok(()) };
        let DatabasePaths { named, real } = &self.place;
        same(named, open.identity)?;
        if named != real {
            same(real, open.identity)?;
        }
        let Some(logs) = self.logs.get() else { return Ok(()) };
        for (path, known) in [(self.place.log(), logs.log), (self.place.index(), logs.index)] {
            if known.is_some() && identity(&path)? != known {
                return Err(Lost::Log(path));
            }
        }
        Ok(())
    }

    /// Also examines the beginning and the size of the file, through the descriptor that is already
    /// open: copying another file over it leaves traces there.
    fn look_inside(&self) {
        let Some(open) = &self.open else { return };
        if self.watched.overwritten.get().is_none() && self.is_overwritten(&open.file) {
            let _first = self.watched.overwritten.set(Lost::Overwritten(self.place.real.clone()));
        }
    }

    #[cfg(unix)]
    fn is_overwritten(&self, file: &File) -> bool {
        use std::os::unix::fs::FileExt;

        // Until SQLite has written something, there is nothing to check.
        if self.logs.get().is_none() {
            return false;
        }
        let mut header = [0; 32];
        let Ok(size) = file.metadata().map(|metadata| metadata.len()) else { return false };
        let mut last = self.watched.size.lock().unwrap_or_else(PoisonError::into_inner);
        let (size_before, changes_before) = *last;
        let shrank = size < size_before;
        match file.read_exact_at(&mut header, 0) {
            Ok(()) => {
                let changes = number(&header, 24);
                *last = (size, changes);
                // SQLite only increments the count: a lower one means that another program has
                // written the page.
                !is_open_database(&header)
                    || changes < changes_before
                    || shrank && size < expected_size(&header)
            }
            // Everything is still in the log, or the file was truncated.
            Err(error) => error.kind() == io::ErrorKind::UnexpectedEof && shrank,
        }
    }

    #[cfg(not(unix))]
    fn is_overwritten(&self, _file: &File) -> bool {
        false
    }
}

/// Whether a header is that of a database with a write-ahead log: SQLite's magic string, and the
/// versions for writing and reading.
#[cfg(unix)]
fn is_open_database(header: &[u8; 32]) -> bool {
    header.starts_with(b"SQLite format 3\0") && header.get(18..20) == Some(&[2, 2])
}

/// The size of a database in bytes according to its first page: the number of pages times the page
/// size, where 1 means 65,536. The file is only shorter if it was truncated: SQLite writes the
/// first page first.
#[cfg(unix)]
fn expected_size(header: &[u8; 32]) -> u64 {
    let page = header.get(16..18).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes);
    let page = page.map_or(0, |size| if size == 1 { 65_536 } else { u64::from(size) });
    page * u64::from(number(header, 28))
}

/// The 32-bit number at an offset of the first page.
#[cfg(unix)]
fn number(header: &[u8; 32], at: usize) -> u32 {
    let bytes = header.get(at..at.saturating_add(4)).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, u32::from_be_bytes)
}

fn same(path: &Path, known: Identity) -> Result<(), Lost> {
    match identity(path)? {
        None => Err(Lost::Removed(path.to_owned())),
        Some(found) if found != known => Err(Lost::Replaced(path.to_owned())),
        Some(_) => Ok(()),
    }
}

fn identity(path: &Path) -> Result<Option<Identity>, Lost> {
    Identity::of(path)
        .map_err(|error| Lost::Unseen { path: path.to_owned(), why: error.to_string() })
}

/// Checks each second until the task is aborted. A write-ahead log without a name still contains
/// acknowledged writes. As long as the database is in its place, they are moved into it.
pub(crate) fn watch(file: &Arc<DatabaseFile>, connection: DatabaseConnection) -> JoinHandle<()> {
    let file = Arc::downgrade(file);
    tokio::spawn(async move {
        let mut is_saved = false;
        loop {
            tokio::time::sleep(PERIOD).await;
            let Some(file) = file.upgrade() else { return };
            let looked = tokio::task::spawn_blocking(move || file.verify());
            match looked.await {
                Ok(Err(Lost::Log(path))) if !is_saved => {
                    is_saved = save(&connection, &path).await;
                }
                Ok(Err(_)) => {}
                Ok(Ok(())) => is_saved = false,
                Err(_) => return,
            }
        }
    })
}

/// Moves the whole log into the database. Returns whether that succeeded.
async fn save(connection: &DatabaseConnection, log: &Path) -> bool {
    // SQLite returns whether others were in the way.
    let moved = connection.query_one_raw(sea_orm::Statement::from_string(
        sea_orm::DbBackend::Sqlite,
        "PRAGMA wal_checkpoint(FULL)",
    ));
    let log = log.display();
    match moved.await.and_then(|row| row.map_or(Ok(1), |row| row.try_get_by_index::<i32>(0))) {
        Ok(0) => {
            tracing::info!("{log}: all acknowledged writes are in the database now");
            true
        }
        // The next check tries again.
        Ok(_) => false,
        Err(error) => {
            tracing::warn!(%error, "{log}: acknowledged writes could not be moved to the database");
            false
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    fn header(page: u16, pages: u32) -> [u8; 32] {
        let mut header = [0; 32];
        header[..16].copy_from_slice(b"SQLite format 3\0");
        header[16..18].copy_from_slice(&page.to_be_bytes());
        header[18..20].copy_from_slice(&[2, 2]);
        header[28..].copy_from_slice(&pages.to_be_bytes());
        header
    }

    #[test]
    fn the_first_page_tells_how_long_a_database_is() {
        assert_eq!(expected_size(&header(4_096, 3)), 12_288);
        assert_eq!(expected_size(&header(1, 2)), 131_072);
    }

    #[test]
    fn a_backup_is_no_open_database() {
        let mut backup = header(4_096, 3);
        assert!(is_open_database(&backup));
        backup[18..20].copy_from_slice(&[1, 1]);
        assert!(!is_open_database(&backup));
    }
}

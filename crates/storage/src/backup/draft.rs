//! A file that is being written: under a temporary name, so that an incomplete file is never
//! mistaken for a complete one.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{BackupError, at};
use crate::file::{DatabasePaths, Identity, beside, draft_lock, rename_to_new};
use crate::options::DatabaseOptions;

/// The first bytes of a SQLite database.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What to do about a file with the draft's name that may belong to somebody else.
const IN_THE_WAY: &str = "another copy is in progress; if it was interrupted, remove this file";

/// `TARGET.partial`: locked while this process writes it, if locks work there, and removed when
/// this is dropped.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    file: File,
    is_published: bool,
}

impl Draft {
    /// Creates an empty draft that only its owner can read: it will contain everything in the
    /// database. First removes a draft that a killed process has left.
    ///
    /// # Errors
    /// Returns `Exists` if another process is writing it, or the file may belong to somebody else.
    pub(super) fn reserve(target: &Path) -> Result<Self, BackupError> {
        let path = beside(target, ".partial");
        match Self::create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map_err(|error| at(&path, error)),
        }
        let exists = || BackupError::Exists { path: path.clone(), hint: IN_THE_WAY };
        // Keep the lock until the new draft exists: if two processes find the leftover, only one
        // removes it.
        let _leftover = leftover(&path).map_err(|error| at(&path, error))?.ok_or_else(exists)?;
        fs::remove_file(&path).map_err(|error| at(&path, error))?;
        tracing::info!(path = %path.display(), "removed the remains of an interrupted copy");
        Self::create(&path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => exists(),
            _ => at(&path, error),
        })
    }

    fn create(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(path)?;
        let identity = Identity::of_open(&file)?;
        // If the file cannot be locked, no process mistakes it for a leftover either.
        if draft_lock(&file) && Identity::of(path)? != identity {
            // Another process removed it as a leftover just before it was locked.
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Self { path: path.to_owned(), file, is_published: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills the draft with the contents of a file. Runs in a separate thread, so that the file
    /// does not delay a caller that stops waiting.
    pub(super) async fn fill(&self, from: &Path) -> Result<(), BackupError> {
        let mut file = self.file.try_clone().map_err(|error| at(&self.path, error))?;
        let source = from.to_owned();
        let copied = on_thread(move || io::copy(&mut File::open(source)?, &mut file)).await;
        copied.map(drop).map_err(|error| at(from, error))
    }

    /// Syncs the draft to the disk.
    pub(super) async fn sync(&self) -> Result<(), BackupError> {
        let file = self.file.try_clone().map_err(|error| at(&self.path, error))?;
        on_thread(move || file.sync_all()).await.map_err(|error| at(&self.path, error))
    }

    /// Renames the draft to its final name, which must be free, and syncs the rename to the disk.
    ///
    /// # Errors
    /// Returns `Exists` if the name is taken.
    pub(super) fn publish(mut self, target: &Path, hint: &'static str) -> Result<(), BackupError> {
        rename_to_new(&self.path, target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists { path: target.to_owned(), hint },
            _ => at(target, error),
        })?;
        self.is_published = true;
        // Only Unix can sync a folder.
        #[cfg(unix)]
        {
            let folder = target.parent().filter(|it| !it.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            File::open(folder).and_then(|it| it.sync_all()).map_err(|error| at(folder, error))?;
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_published {
            // An error here is ignored: the caller reports the first one, and the name shows what
            // the file is.
            let _removed = fs::remove_file(&self.path).is_ok();
        }
    }
}

/// A draft that is no longer being written: it is not locked, only its owner can read it, and it is
/// empty or begins like a database or a part of one. Returns it locked.
fn leftover(path: &Path) -> io::Result<Option<File>> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() || !is_private(&metadata) {
        return Ok(None);
    }
    let file = File::options().read(true).write(true).open(path)?;
    let mut begin = [0; MAGIC.len()];
    let is_draft = match (&file).read_exact(&mut begin) {
        Ok(()) => begin == *MAGIC || begin == [0; MAGIC.len()],
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof && metadata.len() == 0,
    };
    let is_left = is_draft && draft_lock(&file) && Identity::of(path)? == Identity::of_open(&file)?;
    Ok(is_left.then_some(file))
}

#[cfg(unix)]
fn is_private(metadata: &fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;

    metadata.mode() & 0o777 == 0o600 && metadata.nlink() == 1
}

#[cfg(not(unix))]
fn is_private(_metadata: &fs::Metadata) -> bool {
    false
}

/// A copy on its way through a pipe: a file in the database's folder, which has room for one. It is
/// removed when this is dropped; the next process removes the file of a killed one.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
}

impl Spool {
    /// Chooses the file's name from the database and a word for its purpose. Does not create the
    /// file.
    ///
    /// # Errors
    /// Returns an error if there is no SQLite database, or its folder cannot be read.
    pub fn new(options: &DatabaseOptions, word: &str) -> Result<Self, BackupError> {
        let database = options.url.file().ok_or(BackupError::NotSqlite)?;
        let stem = beside(&DatabasePaths::find(&database)?.real, &format!(".{word}-"));
        remove_leftovers(&stem).map_err(|error| at(&stem, error))?;
        Ok(Self { path: beside(&stem, &std::process::id().to_string()) })
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the file, readable by its owner only.
    ///
    /// # Errors
    /// Returns the file system's error.
    pub fn create(&self) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.path)?;
        // If the file cannot be locked, no process mistakes it for a leftover either.
        let _locked = draft_lock(&file);
        Ok(file)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // The file may never have been created.
        let _removed = fs::remove_file(&self.path).is_ok();
    }
}

/// Removes leftover files whose names begin with the stem.
fn remove_leftovers(stem: &Path) -> io::Result<()> {
    let (Some(folder), Some(begin)) = (stem.parent(), stem.file_name()) else { return Ok(()) };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(begin.as_encoded_bytes()) {
            continue;
        }
        // A file that has just disappeared was removed by its owner.
        if let Ok(Some(_left)) = leftover(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Runs blocking work on a thread that does not keep the process from ending.
///
/// # Errors
/// Returns the errors of the work.
pub async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("copy".to_owned()).spawn(move || {
        // A caller that stopped waiting does not receive the result.
        drop(done.send(work()));
    })?;
    result.await.map_err(io::Error::other)?
}

//! A file that is being made: under another name, so that a part is never taken for the whole.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{BackupError, at};
use crate::connect::DatabaseOptions;
use crate::file::{Identity, Place, beside, draft_lock, rename_to_new};

/// How a SQLite database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What to do about a file of the draft's name that may be somebody's.
const IN_THE_WAY: &str = "another copy is under way; remove it if one was broken off";

/// `TARGET.partial`: locked while this process makes it, where locks work, and removed when this is
/// dropped.
#[derive(Debug)]
pub(super) struct Draft {
    path: PathBuf,
    file: File,
    is_published: bool,
}

impl Draft {
    /// Makes an empty draft that only its owner reads: it will hold all that the database does. A
    /// draft that a killed process has left is removed before.
    ///
    /// # Errors
    /// Returns `Exists` if another process makes it, or it may be a file of somebody else's.
    pub(super) fn reserve(target: &Path) -> Result<Self, BackupError> {
        let path = beside(target, ".partial");
        match Self::create(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map_err(|error| at(&path, error)),
        }
        let exists = || BackupError::Exists { path: path.clone(), hint: IN_THE_WAY };
        // Locked until there is another: of two processes that find it one removes it.
        let _leftover = leftover(&path).map_err(|error| at(&path, error))?.ok_or_else(exists)?;
        fs::remove_file(&path).map_err(|error| at(&path, error))?;
        tracing::info!(path = %path.display(), "removed what a copy that was broken off has left");
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
        // Where it cannot be locked, nobody takes it for a leftover either.
        if draft_lock(&file) && Identity::of(path)? != identity {
            // Taken for a leftover in the moment before it was locked.
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(Self { path: path.to_owned(), file, is_published: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills it with what a file holds. Takes a thread of its own: who stops waiting does not wait
    /// for the file.
    pub(super) async fn fill(&self, from: &Path) -> Result<(), BackupError> {
        let mut file = self.file.try_clone().map_err(|error| at(&self.path, error))?;
        let source = from.to_owned();
        let copied = on_thread(move || io::copy(&mut File::open(source)?, &mut file)).await;
        copied.map(drop).map_err(|error| at(from, error))
    }

    /// Writes it to the disk.
    pub(super) async fn sync(&self) -> Result<(), BackupError> {
        let file = self.file.try_clone().map_err(|error| at(&self.path, error))?;
        on_thread(move || file.sync_all()).await.map_err(|error| at(&self.path, error))
    }

    /// Gives it its name, which nothing may have, and writes that to the disk.
    ///
    /// # Errors
    /// Returns `Exists` if something has the name.
    pub(super) fn publish(mut self, target: &Path, hint: &'static str) -> Result<(), BackupError> {
        rename_to_new(&self.path, target).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists { path: target.to_owned(), hint },
            _ => at(target, error),
        })?;
        self.is_published = true;
        // Other systems have no such thing as a folder's own sync.
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
            // The first error is the one to tell; the name says what it is.
            let _removed = fs::remove_file(&self.path).is_ok();
        }
    }
}

/// A draft that nobody makes any more: it is not locked, only its owner reads it, and it is empty,
/// or begins as a database or a part of one does. Locked.
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

/// A copy on its way through a pipe: a file beside the database, where there is room for one. Removed
/// when this is dropped; what a killed process has left is removed by the next.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
}

impl Spool {
    /// Names a file after the database and what it is for; makes none.
    ///
    /// # Errors
    /// Where there is no SQLite database, or its folder cannot be read.
    pub fn new(options: &DatabaseOptions, word: &str) -> Result<Self, BackupError> {
        let database = options.url.file().ok_or(BackupError::NotSqlite)?;
        let stem = beside(&Place::find(&database)?.real, &format!(".{word}-"));
        remove_leftovers(&stem).map_err(|error| at(&stem, error))?;
        Ok(Self { path: beside(&stem, &std::process::id().to_string()) })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the file, for its owner alone.
    ///
    /// # Errors
    /// Returns the file system's.
    pub fn create(&self) -> io::Result<File> {
        let mut options = File::options();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&self.path)?;
        // Where it cannot be locked, nobody takes it for a leftover either.
        let _locked = draft_lock(&file);
        Ok(file)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // It may not have come to be.
        let _removed = fs::remove_file(&self.path).is_ok();
    }
}

/// Removes the files whose names begin so and which are left over.
fn remove_leftovers(stem: &Path) -> io::Result<()> {
    let (Some(folder), Some(begin)) = (stem.parent(), stem.file_name()) else { return Ok(()) };
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.as_encoded_bytes().starts_with(begin.as_encoded_bytes()) {
            continue;
        }
        // One that goes meanwhile is somebody's who is done with it.
        if let Ok(Some(_left)) = leftover(&entry.path()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Runs blocking work on a thread that does not keep the process from ending.
///
/// # Errors
/// Returns those of the work.
pub async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("copy".to_owned()).spawn(move || {
        // Who left does not hear it.
        drop(done.send(work()));
    })?;
    result.await.map_err(io::Error::other)?
}

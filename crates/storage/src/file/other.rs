//! What other systems than Linux do: there a lock of the database file itself would be in SQLite's
//! way, so that the lock file has to do. A file with a second name would have a second lock file.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Holder;

/// Whether a file can be locked without being in SQLite's way.
pub(super) const LOCKS_FILES: bool = false;

/// What came of locking a file. Elsewhere nobody can hold it.
#[expect(dead_code, reason = "the other outcomes are those of Linux")]
pub(super) enum Locked {
    Ours,
    Held,
    Contradicts,
}

/// Never needed.
pub(super) const CONTRADICTION: &str = "it was replaced again and again while it was opened";

/// Refuses a file that has several names; locks nothing.
pub(super) fn lock(file: &File) -> Result<Locked, String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let names = file.metadata().map_err(|error| error.to_string())?.nlink();
        if names > 1 {
            return Err(format!(
                "it has {names} names (hard links), by each of which a process could open it: leave \
                 it one"
            ));
        }
    }
    #[cfg(not(unix))]
    let _not_needed = file;
    Ok(Locked::Ours)
}

pub(super) fn is_locked(_path: &Path) -> std::io::Result<bool> {
    Ok(false)
}

pub(super) fn holder_of(_file: &File) -> Holder {
    Holder::unknown()
}

pub(crate) use super::place::rename_if_new as rename_to_new;

pub(super) fn note_path(_file: &File, _path: &Path) {}

pub(super) fn noted_path(_path: &Path) -> Option<PathBuf> {
    None
}

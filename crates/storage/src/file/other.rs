//! The fallback for systems other than Linux. A lock on the database file itself would block SQLite
//! there, so only the lock file is used. A file with a second name would have a second lock file.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Holder;

/// Whether a file can be locked without interfering with SQLite.
pub(super) const LOCKS_FILES: bool = false;

/// The outcome of locking a file. On these systems no other process can hold it.
#[expect(dead_code, reason = "the other outcomes are those of Linux")]
pub(super) enum Locked {
    Ours,
    Held,
    Contradicts,
}

/// Why a file is refused that could not be locked: on these systems only a file that keeps being
/// replaced.
pub(super) const CONTRADICTION: &str = "it was replaced repeatedly while it was opened";

/// Refuses a file that has several names; locks nothing.
pub(super) fn lock(file: &File) -> Result<Locked, String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let names = file.metadata().map_err(|error| error.to_string())?.nlink();
        if names > 1 {
            return Err(format!(
                "it has {names} names (hard links), and a process could open it by any of them: \
                 keep only one"
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

//! File operations of Linux: locks on the file itself, its file system, attributes.

use std::fs::{self, File, TryLockError};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FlockOperation, FsWord, RenameFlags, XattrFlags};
use rustix::io::Errno;

use super::Holder;

/// Whether a file can be locked without interfering with SQLite.
pub(super) const LOCKS_FILES: bool = true;

/// The outcome of locking a file.
pub(super) enum Locked {
    Ours,
    Held,
    /// Locked by this process, but SQLite could not lock it then.
    Contradicts,
}

/// Why a file is refused whose locks contradict SQLite's.
pub(super) const CONTRADICTION: &str = "another process holds a SQLite lock on it, or its file \
     system does not distinguish the two kinds of file locks, as NFS does not: end that process, \
     or put the database on a local disk";

/// File systems that several machines use at once: a machine may not see what another has locked or
/// mapped.
const NETWORK: [(u32, &str); 4] =
    [(0x6969, "NFS"), (0x517B, "SMB"), (0xFF53_4D42, "CIFS"), (0xFE53_4D42, "SMB")];

/// The attribute with the path, without links, by which a file was last opened. It moves with the
/// file.
const PATH: &str = "user.fireflow.path";
const MAX_PATH: usize = 4_096;

/// Locks the file for this process, and tests that SQLite could still lock it as well. This process
/// must not have the file open otherwise.
pub(super) fn lock(file: &File) -> Result<Locked, String> {
    if let Some(name) = rustix::fs::fstatfs(file).ok().and_then(|it| network_name(it.f_type)) {
        return Err(format!(
            "it is on a network file system ({name}), where SQLite can lose writes: put it on a \
             local disk, or use PostgreSQL"
        ));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(Locked::Held),
        Err(TryLockError::Error(error)) => return Err(no_locks(&error.to_string())),
    }
    // SQLite's kind of lock. If the file system emulates `flock` with it, our lock blocks SQLite.
    match rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => {}
        Err(Errno::AGAIN | Errno::ACCESS) => return Ok(Locked::Contradicts),
        Err(error) => return Err(no_locks(&error.to_string())),
    }
    rustix::fs::fcntl_lock(file, FlockOperation::NonBlockingUnlock)
        .map_err(|error| no_locks(&error.to_string()))?;
    Ok(Locked::Ours)
}

fn no_locks(error: &str) -> String {
    format!(
        "file locks do not work on its file system ({error}), so that two processes could change \
         it: put it on a local disk, or use PostgreSQL"
    )
}

fn network_name(kind: FsWord) -> Option<&'static str> {
    // Some systems return a signed 32-bit number.
    let kind = i128::from(kind) & 0xFFFF_FFFF;
    NETWORK.iter().find(|(known, _)| kind == i128::from(*known)).map(|(_, name)| *name)
}

/// Whether a process has locked the file. This process must not have it open.
pub(super) fn is_locked(path: &Path) -> std::io::Result<bool> {
    let file = File::open(path)?;
    Ok(matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The process that has locked the file, if it is visible from here: from within a container it is
/// not.
pub(super) fn holder_of(file: &File) -> Holder {
    let holder = file.metadata().ok().and_then(|metadata| {
        let (device, inode) = (metadata.dev(), metadata.ino());
        let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
        process_of(&fs::read_to_string("/proc/locks").ok()?, major, minor, inode)
    });
    let Some(process) = holder else { return Holder::unknown() };
    let command = fs::read_to_string(format!("/proc/{process}/comm"));
    let command = command.map_or_else(|_| String::new(), |it| format!(" ({})", it.trim()));
    Holder { name: format!("process {process}{command}"), ends: false }
}

/// The process in a line such as `1: FLOCK  ADVISORY  WRITE 708 fe:00:23 0 EOF`.
fn process_of(locks: &str, major: u32, minor: u32, inode: u64) -> Option<u32> {
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip_while(|word| *word != "FLOCK").skip(3);
        let process = words.next()?.parse().ok().filter(|process| *process != 0)?;
        (words.next()? == wanted).then_some(process)
    })
}

/// Renames a file to a name that must be free.
///
/// # Errors
/// Returns `AlreadyExists` if the name is taken.
pub(crate) fn rename_to_new(from: &Path, to: &Path) -> std::io::Result<()> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not all file systems support this.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => super::place::rename_if_new(from, to),
        renamed => Ok(renamed?),
    }
}

/// Records the path by which the file is opened, unless its file system keeps no attributes.
pub(super) fn note_path(file: &File, path: &Path) {
    let value = path.as_os_str().as_bytes();
    if let Err(error) = rustix::fs::fsetxattr(file, PATH, value, XattrFlags::empty()) {
        tracing::debug!(%error, "the path of the database is not noted");
    }
}

/// The path that was recorded last. Opens nothing.
pub(super) fn noted_path(path: &Path) -> Option<PathBuf> {
    let mut value = Vec::with_capacity(MAX_PATH);
    rustix::fs::getxattr(path, PATH, rustix::buffer::spare_capacity(&mut value)).ok()?;
    Some(std::ffi::OsString::from_vec(value).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_file_systems_are_known() {
        assert_eq!(network_name(0x6969), Some("NFS"));
        assert_eq!(network_name(0xFF53_4D42), Some("CIFS"));
        // ext4, tmpfs, overlayfs.
        for local in [0xEF53, 0x0102_1994, 0x794c_7630] {
            assert_eq!(network_name(local), None);
        }
    }

    #[test]
    fn the_holder_of_a_lock_is_found_by_inode() {
        let locks = "1: POSIX  ADVISORY  READ 5 fe:00:23 128 128\n\
                     2: FLOCK  ADVISORY  WRITE 708 fe:00:23 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 9 fe:00:24 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 0 fe:00:25 0 EOF\n";
        assert_eq!(process_of(locks, 0xfe, 0, 23), Some(708));
        assert_eq!(process_of(locks, 0xfe, 0, 24), Some(9));
        assert_eq!(process_of(locks, 0xfe, 0, 25), None, "it cannot be seen from here");
        assert_eq!(process_of(locks, 0xfe, 1, 23), None);
    }
}

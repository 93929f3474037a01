//! The location of a database, and the reasons not to use it there.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Identity, refused, system};
use crate::open_error::OpenError;

/// The longest chain of links, as on Linux.
const MAX_LINKS: usize = 40;

/// The paths of a database.
#[derive(Debug, Clone)]
pub(crate) struct DatabasePaths {
    /// The given path, made absolute: its links may later lead elsewhere.
    pub(crate) named: PathBuf,
    /// The path without links. The lock, the write-ahead log and its index are in the same folder.
    pub(crate) real: PathBuf,
}

impl DatabasePaths {
    /// Resolves links. The database need not exist, but its folder must.
    ///
    /// # Errors
    /// Returns `Refused` if the folder does not exist, or the path is not that of a file.
    pub(crate) fn find(path: &Path) -> Result<Self, OpenError> {
        let error = |error: io::Error| refused(path, &error.to_string());
        let named = std::path::absolute(path).map_err(error)?;
        let mut target = named.clone();
        for _ in 0..MAX_LINKS {
            let folder = target.parent().unwrap_or(&target).to_owned();
            let real =
                fs::canonicalize(&folder).map_err(|source| missing(path, &folder, &source))?;
            let Some(name) = target.file_name() else {
                return Err(refused(path, "it is a folder: name a file in it"));
            };
            let found = real.join(name);
            match fs::symlink_metadata(&found) {
                Ok(metadata) if metadata.file_type().is_symlink() => {
                    target = real.join(fs::read_link(&found).map_err(error)?);
                }
                Ok(metadata) if metadata.is_dir() => {
                    return Err(refused(path, "it is a folder: name a file in it"));
                }
                Ok(metadata) if !metadata.is_file() => {
                    return Err(refused(path, "it is not a regular file"));
                }
                Ok(_) => return Ok(Self { named, real: found }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Self { named, real: found });
                }
                Err(source) => return Err(error(source)),
            }
        }
        Err(refused(path, "its links lead to each other"))
    }

    /// The write-ahead log.
    pub(crate) fn log(&self) -> PathBuf {
        beside(&self.real, "-wal")
    }

    /// The index of the write-ahead log.
    pub(crate) fn index(&self) -> PathBuf {
        beside(&self.real, "-shm")
    }

    /// A file system error as a reason not to use the database.
    pub(crate) fn error(&self, error: &io::Error) -> OpenError {
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "the user that runs FireFlow must be able to read and write it, and to create files \
                 in its folder"
                    .to_owned()
            }
            _ => error.to_string(),
        };
        refused(&self.real, &why)
    }

    /// Refuses a missing or empty database that has a write-ahead log: SQLite would delete the log.
    pub(super) fn refuse_lost_database(&self) -> Result<(), OpenError> {
        let length = |path: &Path| match fs::metadata(path) {
            Ok(metadata) => Ok(metadata.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(self.error(&error)),
        };
        if length(&self.real)? > 0 || length(&self.log())? == 0 {
            return Ok(());
        }
        let log = self.log();
        let why = format!(
            "it is missing, but its write-ahead log {} exists: put the database back next to it, \
             or move the log away to begin with an empty database",
            log.display()
        );
        Err(refused(&self.real, &why))
    }

    /// Refuses a file that was last served by another name if that name has a log, which may
    /// contain the newest changes. This works on systems that keep file attributes, if that name is
    /// visible.
    pub(crate) fn refuse_log_of_another_name(&self, identity: Identity) -> Result<(), OpenError> {
        let Some(real) = system::noted_path(&self.real).filter(|path| *path != self.real) else {
            return Ok(());
        };
        let other = Self { named: real.clone(), real };
        let is_same = |path: &Path| Identity::of(path).ok().flatten();
        if is_same(&other.real) != Some(identity) {
            return Ok(());
        }
        let log = is_same(&other.log());
        let has_content = fs::metadata(other.log()).is_ok_and(|it| it.len() > 0);
        if log.is_some() && log != is_same(&self.log()) && has_content {
            let other = other.real.display();
            let why = format!(
                "it was last opened as {other}; its latest changes are in {other}-wal: use that name"
            );
            return Err(refused(&self.real, &why));
        }
        Ok(())
    }

    /// Refuses another name of a served database: a reading process must find the server's
    /// write-ahead log, which is next to the name that the server uses.
    pub(crate) fn refuse_alias_of_served(&self) -> Result<(), OpenError> {
        let identity = |path: &Path| Identity::of(path).map_err(|error| self.error(&error));
        let log = identity(&self.log())?;
        let noted = system::noted_path(&self.real).filter(|path| *path != self.real);
        let other = noted.map(|real| Self { named: real.clone(), real });
        let is_other = match &other {
            Some(other) if identity(&other.real)? == identity(&self.real)? => {
                identity(&other.log())? != log
            }
            Some(_) | None => false,
        };
        if log.is_some() && !is_other {
            return Ok(());
        }
        let name = match &other {
            Some(other) => format!(" as {}", other.real.display()),
            None => " by another name".to_owned(),
        };
        let why = format!(
            "a process serves it{name}, and its latest changes are next to that name: use that name"
        );
        Err(refused(&self.real, &why))
    }
}

fn missing(path: &Path, folder: &Path, error: &io::Error) -> OpenError {
    let folder = folder.display();
    let why = match error.kind() {
        io::ErrorKind::NotFound => format!("the folder {folder} does not exist: create it first"),
        _ => format!("the folder {folder}: {error}"),
    };
    refused(path, &why)
}

/// Renames a file unless the name is taken. Another process could take the name in between.
///
/// # Errors
/// Returns `AlreadyExists` if the name is taken.
pub(crate) fn rename_if_new(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// The path with a suffix appended to the whole name.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

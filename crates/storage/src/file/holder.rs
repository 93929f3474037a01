//! The lock file and its contents: the process that holds the database, and the identities of the
//! database's files.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{DatabasePaths, Identity, Purpose, lock_path, refused};
use crate::open_error::OpenError;

/// The most of a lock file that is read: it has two short lines.
const MAX_TEXT: u64 = 4_096;
/// The beginning of the second line.
const FILES: &str = "file ";

/// The holder of a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Holder {
    /// The process and its command, for people.
    pub(super) name: String,
    /// Whether the holder ends by itself.
    pub(super) ends: bool,
}

impl Holder {
    /// Parses the text of a lock file.
    fn read(text: &str) -> Self {
        let name = text.lines().next().unwrap_or_default().trim();
        match name {
            "" => Self::unknown(),
            _ => Self {
                name: name.to_owned(),
                ends: name.contains("(fireflow ") && !name.ends_with("(fireflow serve)"),
            },
        }
    }

    pub(super) fn unknown() -> Self {
        Self { name: "another process".to_owned(), ends: false }
    }

    pub(super) fn this_process() -> Self {
        Self { name: format!("process {}, which is this one", std::process::id()), ends: false }
    }
}

/// A lock file that is locked.
#[derive(Debug)]
pub(super) struct LockFile {
    file: File,
    path: PathBuf,
}

/// The text that the last holder wrote.
#[derive(Debug)]
pub(super) struct Before(String);

impl LockFile {
    /// Locks the file next to a database, and reads what the last holder wrote. Returns the current
    /// holder if there is one.
    pub(super) fn take(database: &Path) -> Result<Result<(Self, Before), Holder>, OpenError> {
        let path = lock_path(database);
        let failed = |source| OpenError::Lock { path: path.clone(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let file = options.open(&path).map_err(failed)?;
        let locked = file.try_lock();
        let mut text = String::new();
        // A holder writes only text. Anything else is ignored: the result is the same without the
        // holder's name.
        let _read = (&file).take(MAX_TEXT).read_to_string(&mut text).is_ok();
        match locked {
            Ok(()) => Ok(Ok((Self { file, path }, Before(text)))),
            Err(TryLockError::WouldBlock) => Ok(Err(Holder::read(&text))),
            Err(TryLockError::Error(source)) => {
                let why = format!("file locks do not work in its folder ({source})");
                Err(refused(database, &why))
            }
        }
    }

    /// Writes the holder of the database.
    pub(super) fn write_holder(&self, purpose: Purpose) -> Result<(), OpenError> {
        let name = format!("process {} (fireflow {})\n", std::process::id(), purpose.command());
        self.write(|mut file| {
            file.set_len(0)?;
            file.seek(SeekFrom::Start(0))?;
            file.write_all(name.as_bytes())
        })
    }

    /// Writes the identities of the files: for [`Before::refuse_log_of_another`].
    pub(super) fn write_files(
        &self,
        database: Identity,
        log: Option<Identity>,
    ) -> Result<(), OpenError> {
        let Some(log) = log else { return Ok(()) };
        self.write(|mut file| writeln!(file, "{FILES}{database} log {log}"))
    }

    fn write(&self, write: impl FnOnce(&File) -> io::Result<()>) -> Result<(), OpenError> {
        write(&self.file).map_err(|source| OpenError::Lock { path: self.path.clone(), source })
    }
}

impl Before {
    /// Refuses a log that was written for a file which has been replaced since: SQLite would apply
    /// it to the new file. If both files were copied, both have new identities.
    pub(super) fn refuse_log_of_another(
        &self,
        place: &DatabasePaths,
        database: Identity,
    ) -> Result<(), OpenError> {
        let files = self.0.lines().find_map(|line| line.strip_prefix(FILES));
        let Some((was, log_was)) = files.and_then(|files| files.split_once(" log ")) else {
            return Ok(());
        };
        let log = place.log();
        let found = Identity::of(&log).map_err(|error| place.error(&error))?;
        let has_content = std::fs::metadata(&log).is_ok_and(|it| it.len() > 0);
        let is_its_log = found.is_some_and(|found| found.to_string() == log_was.trim());
        if !has_content || !is_its_log || database.to_string() == was {
            return Ok(());
        }
        let why = format!(
            "it was replaced, but the write-ahead log {} of the previous file still exists: put \
             that file back, or move the log away to use this one without it",
            log.display()
        );
        Err(refused(&place.real, &why))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_waited_for_and_services_are_not() {
        let ends = |text| Holder::read(text).ends;
        assert!(ends("process 7 (fireflow migrate up)\nfile 1:2:3 log 1:3:3\n"));
        assert!(!ends("process 7 (fireflow serve)\n"));
        // Texts of earlier versions, and of a holder that has not written yet.
        assert!(!ends("process 7\n"));
        assert_eq!(Holder::read("\n").name, "another process");
    }
}

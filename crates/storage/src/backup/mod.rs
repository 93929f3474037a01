//! Backups of a SQLite database: a copy of one state, taken while others write.

mod check;
mod draft;

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

pub(crate) use self::check::read_only;
use self::check::{check, unsound};
use self::draft::Draft;
pub use self::draft::{Spool, on_thread};
use crate::connect;
use crate::file::{self, DatabaseFile, beside};
use crate::open_error::OpenError;
use crate::options::DatabaseOptions;

/// How many live resources a backup contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Firewalls.
    pub firewalls: i64,
    /// Filtering policies.
    pub policies: i64,
    /// Rules.
    pub rules: i64,
}

/// Why a backup was not made or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL has its own tools.
    #[error(
        "this works only for SQLite; for PostgreSQL, use pg_dump and pg_restore, or continuous \
         archiving"
    )]
    NotSqlite,
    /// The destination exists.
    #[error("{} already exists; {hint}", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The source does not exist.
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    /// The copy is not a sound database of FireFlow.
    #[error("{} is not a valid FireFlow database: {why}", path.display())]
    Unsound {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The database cannot be opened, or a process serves it.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database refused.
    #[error("the database cannot be copied")]
    Database(#[from] DbErr),
    /// The file system refused.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What to do if a backup's name is taken.
const NEW_NAME: &str = "a backup never overwrites: name a new file";

/// Copies the database into a new file while others may read and write it. The copy contains
/// exactly what had been committed when it began (`VACUUM INTO`, one read transaction). It is
/// compact, checked and synced to the disk when this returns. Until then it has a temporary name,
/// so that an incomplete copy is never mistaken for a complete one. If this is dropped, the
/// incomplete copy is removed.
///
/// Takes roughly as long as reading the file and writing it twice. In the meantime the database's
/// write-ahead log is not shortened.
///
/// # Errors
/// Returns an error if there is no SQLite database, the file exists, the disk is full, or the copy
/// is unsound. Also returns one if the database's name is one under which its newest changes cannot
/// be found.
pub async fn backup(options: &DatabaseOptions, file: &Path) -> Result<Contents, BackupError> {
    let database = options.url.file().ok_or(BackupError::NotSqlite)?;
    if !exists(&database)? {
        return Err(BackupError::Missing(database));
    }
    file::find_to_read(&database)?;
    refuse_existing(file, NEW_NAME)?;
    let draft = Draft::reserve(file)?;
    let source = connect::existing(options).await?;
    // Every value is bound and never composed into the statement, including paths.
    let name = draft.path().to_string_lossy().into_owned();
    let copy = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [name.into()]);
    let result = source.execute_raw(copy).await;
    source.close().await?;
    result?;
    let contents = check(draft.path(), file).await?;
    draft.sync().await?;
    draft.publish(file, NEW_NAME)?;
    Ok(contents)
}

/// Replaces the database with a backup, under the locks that a serving process holds. An existing
/// database is kept, with its write-ahead log, as `….replaced`. Only its owner can read the new
/// database, whatever the backup's mode is. If this is dropped, nothing has changed.
///
/// # Errors
/// Returns an error if a process serves the database, if the backup is unsound or in any part not
/// FireFlow's, or if a file is in the way.
pub async fn restore(
    options: &DatabaseOptions,
    backup: &Path,
    replaces: bool,
) -> Result<Contents, BackupError> {
    let database = options.url.file().ok_or(BackupError::NotSqlite)?;
    if !exists(backup)? {
        return Err(BackupError::Missing(backup.to_owned()));
    }
    let lock = DatabaseFile::take_existing(&database, options.purpose).await?;
    // Without links: they stay, and lead to the new database.
    let database = lock.path();
    let replaced = beside(database, ".replaced");
    if !replaces {
        refuse_existing(database, ASIDE)?;
    }
    for suffix in FILES {
        if exists(&beside(database, suffix))? {
            let hint = "an earlier restore saved the replaced database there: move it away";
            refuse_existing(&beside(&replaced, suffix), hint)?;
        }
    }
    let draft = Draft::reserve(database)?;
    draft.fill(backup).await?;
    if has_log(draft.path())? {
        let why = "it is not a backup but a database file, whose latest changes may be in another \
                   file; copy it with `fireflow backup`";
        return Err(unsound(backup, &why));
    }
    let contents = check(draft.path(), backup).await?;
    draft.sync().await?;
    // There is no await from here on, so that no signal can interrupt the steps. The log is moved
    // first: left next to another database, it would be taken for that database's log.
    for suffix in FILES {
        let old = beside(database, suffix);
        if exists(&old)? {
            let aside = beside(&replaced, suffix);
            fs::rename(&old, &aside).map_err(|source| at(&old, source))?;
        }
    }
    let published = draft.publish(database, ASIDE);
    if published.is_err() {
        for suffix in FILES {
            // An error here is ignored: the caller reports the first one.
            let aside = beside(&replaced, suffix);
            let _back = file::rename_to_new(&aside, &beside(database, suffix)).is_ok();
        }
    }
    published.map(|()| contents)
}

/// The files of a database, with the log ahead of the database that it belongs to.
const FILES: [&str; 3] = ["-wal", "-shm", ""];
/// What to do if a database already exists.
const ASIDE: &str = "with --replace, it is moved aside first";

/// Whether a file belongs to a database with a write-ahead log (bytes 18 and 19 of SQLite's header
/// are 2). A backup never does, and without its log the last commits would be missing.
fn has_log(file: &Path) -> Result<bool, BackupError> {
    let mut header = [0_u8; 20];
    let read = fs::File::open(file).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => Ok(header.ends_with(&[2, 2])),
        // The file is too short for a database: the next check reports it.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(source) => Err(at(file, source)),
    }
}

fn refuse_existing(path: &Path, hint: &'static str) -> Result<(), BackupError> {
    if exists(path)? { Err(BackupError::Exists { path: path.to_owned(), hint }) } else { Ok(()) }
}

fn exists(path: &Path) -> Result<bool, BackupError> {
    path.try_exists().map_err(|source| at(path, source))
}

fn at(path: &Path, source: io::Error) -> BackupError {
    BackupError::File { path: path.to_owned(), source }
}

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
use crate::connect::{self, DatabaseOptions, OpenError};
use crate::file::{self, DatabaseFile, beside};

/// How many live things a backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// Firewalls.
    pub firewalls: i64,
    /// Filtering policies.
    pub policies: i64,
    /// Rules.
    pub rules: i64,
}

/// Why there is no backup, or why one was not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// PostgreSQL has its own tools.
    #[error(
        "only a SQLite database is copied so; for PostgreSQL use pg_dump and pg_restore, or \
         continuous archiving"
    )]
    NotSqlite,
    /// What would be overwritten.
    #[error("{} is there already; {hint}", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// What should be there.
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    /// The copy is not a sound database of FireFlow.
    #[error("{} is no sound database of FireFlow: {why}", path.display())]
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

/// What to do if something has a backup's name.
const NEW_NAME: &str = "a backup never overwrites: name a new file";

/// Copies the database into a new file, whoever reads and writes it meanwhile: what had been
/// committed when the copy began is in it, and nothing else (`VACUUM INTO`, one read
/// transaction). The copy is compact, checked, and on the disk when this returns; before that it
/// has another name, so that a part is never taken for the whole. If this is dropped, the part is
/// removed.
///
/// Takes about as long as reading the file and writing it twice. Meanwhile the database's
/// write-ahead log is not shortened.
///
/// # Errors
/// Where there is no SQLite database, the file exists, the disk is full, or the copy is unsound; and
/// where the database is named so that its newest part cannot be found.
pub async fn backup(options: &DatabaseOptions, file: &Path) -> Result<Contents, BackupError> {
    let database = options.url.file().ok_or(BackupError::NotSqlite)?;
    if !exists(&database)? {
        return Err(BackupError::Missing(database));
    }
    file::find_to_read(&database)?;
    refuse_existing(file, NEW_NAME)?;
    let draft = Draft::reserve(file)?;
    let source = connect::existing(options).await?;
    // Statements are bound, never composed, paths too.
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

/// Makes a backup the database, under the locks that a serving process holds. A database that is
/// there is kept aside, with its write-ahead log, as `….replaced`. The new one can be read by its
/// owner alone, whatever the backup's mode is. If this is dropped, nothing has changed.
///
/// # Errors
/// Where a process serves the database, the backup is unsound or in any part not FireFlow's, or
/// something is in the way.
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
    // Without links: they stay, and lead to the new one.
    let database = lock.path();
    let replaced = beside(database, ".replaced");
    if !replaces {
        refuse_existing(database, ASIDE)?;
    }
    for suffix in FILES {
        if exists(&beside(database, suffix))? {
            let hint = "it is what an earlier restore replaced: move it away";
            refuse_existing(&beside(&replaced, suffix), hint)?;
        }
    }
    let draft = Draft::reserve(database)?;
    draft.fill(backup).await?;
    if has_log(draft.path())? {
        let why = "it is not a backup but a database's own file, whose newest part may be in another \
                   one; copy it with `fireflow backup`";
        return Err(unsound(backup, &why));
    }
    let contents = check(draft.path(), backup).await?;
    draft.sync().await?;
    // From here on nothing is waited for, so that no signal comes in between. The log first: left
    // beside another database, it would be taken for that one's.
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
            // The first error is the one to tell.
            let aside = beside(&replaced, suffix);
            let _back = file::rename_to_new(&aside, &beside(database, suffix)).is_ok();
        }
    }
    published.map(|()| contents)
}

/// The files of a database, the log before that which it belongs to.
const FILES: [&str; 3] = ["-wal", "-shm", ""];
/// What to do if there is a database already.
const ASIDE: &str = "with --replace it is put aside first";

/// Whether a file belongs to a database with a write-ahead log (bytes 18 and 19 of SQLite's header
/// are 2): a backup never does, and without its log what was committed last would be missing.
fn has_log(file: &Path) -> Result<bool, BackupError> {
    let mut header = [0_u8; 20];
    let read = fs::File::open(file).and_then(|mut file| file.read_exact(&mut header));
    match read {
        Ok(()) => Ok(header.ends_with(&[2, 2])),
        // Too short for a database: the next check says so.
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

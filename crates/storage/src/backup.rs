//! Backups of a SQLite database: a copy of one state, taken while others write.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement,
};

use crate::connect::{self, DatabaseOptions, OpenError};
use crate::lock::DatabaseLock;
use crate::schema::{self, StepState};

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

/// Copies the database into a new file, whoever reads and writes it meanwhile: what had been
/// committed when the copy began is in it, and nothing else (`VACUUM INTO`, one read
/// transaction). The copy is compact, checked, and on the disk when this returns; before that it
/// has another name, so that a part is never taken for the whole.
///
/// Takes about as long as reading the file and writing it twice. Meanwhile the database's
/// write-ahead log is not shortened.
///
/// # Errors
/// Where there is no SQLite database, the file exists, the disk is full, or the copy is unsound.
pub async fn backup(options: &DatabaseOptions, file: &Path) -> Result<Contents, BackupError> {
    let database = options.url.file().ok_or(BackupError::NotSqlite)?;
    if !exists(&database)? {
        return Err(BackupError::Missing(database));
    }
    refuse_existing(file, "a backup never overwrites: name a new file")?;
    let draft = beside(file, ".partial");
    reserve(&draft)?;
    let copied = async {
        let source = connect::existing(options).await?;
        // Statements are bound, never composed, paths too.
        let name = draft.to_string_lossy().into_owned();
        let copy =
            Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [name.into()]);
        let result = source.execute_raw(copy).await;
        source.close().await?;
        result?;
        let contents = check(&draft, file).await?;
        publish(&draft, file)?;
        Ok(contents)
    }
    .await;
    if copied.is_err() {
        // The first error is the one to tell; the draft's name says what it is.
        let _removed = fs::remove_file(&draft).is_ok();
    }
    copied
}

/// Makes a backup the database, under the lock that a serving process holds. A database that is
/// there is kept aside, with its write-ahead log, as `….replaced`.
///
/// # Errors
/// Where a process serves the database, the backup is unsound or newer than this program, or
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
    let _lock = DatabaseLock::take(&database)?;
    let replaced = beside(&database, ".replaced");
    if replaces {
        refuse_existing(&replaced, "it is what an earlier restore replaced: move it away")?;
    } else {
        refuse_existing(&database, "with --replace it is put aside first")?;
    }
    let draft = beside(&database, ".partial");
    reserve(&draft)?;
    let copied = async {
        fs::copy(backup, &draft).map_err(|source| at(backup, source))?;
        if has_log(&draft)? {
            let why = "it is not a backup but a database's own file, whose newest part may be in \
                       another one; copy it with `fireflow backup`";
            return Err(unsound(backup, &why));
        }
        check(&draft, backup).await
    }
    .await;
    let contents = match copied {
        Ok(contents) => contents,
        Err(error) => {
            let _removed = fs::remove_file(&draft).is_ok();
            return Err(error);
        }
    };
    // The log first: left beside another database, it would be taken for that one's.
    for suffix in ["-wal", "-shm", ""] {
        let old = beside(&database, suffix);
        if exists(&old)? {
            let aside = beside(&replaced, suffix);
            fs::rename(&old, &aside).map_err(|source| at(&old, source))?;
        }
    }
    publish(&draft, &database)?;
    Ok(contents)
}

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

/// Reads all of a copy: pages, indexes, references, the steps of the schema; and counts. Errors
/// name the file that it is a copy of, or for.
async fn check(copy: &Path, file: &Path) -> Result<Contents, BackupError> {
    // What is no database at all is refused here already.
    let connection = read_only(copy).await.map_err(|error| unsound(file, &error))?;
    let checked = examine(&connection, file).await;
    connection.close().await?;
    checked
}

fn unsound(file: &Path, why: &dyn ToString) -> BackupError {
    BackupError::Unsound { path: file.to_owned(), why: why.to_string() }
}

async fn examine(connection: &DatabaseConnection, file: &Path) -> Result<Contents, BackupError> {
    let found = text(connection, "PRAGMA integrity_check(1)").await;
    match found.map_err(|error| unsound(file, &error))?.as_deref() {
        Some("ok") => {}
        other => return Err(unsound(file, &other.unwrap_or("nothing can be read"))),
    }
    if text(connection, "SELECT \"table\" FROM pragma_foreign_key_check LIMIT 1").await?.is_some() {
        return Err(unsound(file, &"a row refers to another that is not there"));
    }
    let steps = schema::steps(connection).await.map_err(|error| unsound(file, &error))?;
    if !steps.iter().any(|step| step.state == StepState::Applied) {
        return Err(unsound(file, &"it has none of FireFlow's tables"));
    }
    Ok(Contents {
        firewalls: count(connection, "firewall").await?,
        policies: count(connection, "policy").await?,
        rules: count(connection, "rule").await?,
    })
}

/// One connection to a SQLite file that only reads it.
pub(crate) async fn read_only(file: &Path) -> Result<DatabaseConnection, DbErr> {
    let mut connect = ConnectOptions::new("sqlite://");
    connect.max_connections(1).sqlx_logging(false);
    let name = file.to_owned();
    connect.map_sqlx_sqlite_opts(move |_| {
        SqliteConnectOptions::new().filename(&name).read_only(true).create_if_missing(false)
    });
    Database::connect(connect).await
}

async fn text(connection: &DatabaseConnection, sql: &str) -> Result<Option<String>, DbErr> {
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    row.map(|row| row.try_get_by_index(0)).transpose()
}

/// What is not deleted itself; its parents may be.
async fn count(connection: &DatabaseConnection, table: &str) -> Result<i64, DbErr> {
    let sql = format!("SELECT count(*) FROM \"{table}\" WHERE deleted_at IS NULL");
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Sqlite, sql)).await?;
    row.map_or(Ok(0), |row| row.try_get_by_index(0))
}

/// A new file that only its owner reads: it holds all that the database does.
fn reserve(draft: &Path) -> Result<(), BackupError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(draft) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::Exists {
            path: draft.to_owned(),
            hint: "another copy is under way; remove it if one was broken off",
        }),
        Err(error) => Err(at(draft, error)),
    }
}

/// Puts a finished file in its place, and both on the disk.
fn publish(draft: &Path, file: &Path) -> Result<(), BackupError> {
    let sync = |path: &Path| fs::File::open(path)?.sync_all();
    sync(draft).map_err(|source| at(draft, source))?;
    fs::rename(draft, file).map_err(|source| at(file, source))?;
    // Other systems have no such thing as a folder's own sync.
    #[cfg(unix)]
    {
        let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        sync(folder).map_err(|source| at(folder, source))?;
    }
    Ok(())
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

/// The path with a suffix behind the whole name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

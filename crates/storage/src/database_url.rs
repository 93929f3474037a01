//! The URL of a database.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sea_orm::sqlx::postgres::PgConnectOptions;
use sea_orm::sqlx::sqlite::SqliteConnectOptions;
use sea_orm::sqlx::{Connection, PgConnection};
use sea_orm::{ConnectOptions, DbErr, SqlxError};

use crate::open_error::OpenError;

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// Embedded, one file.
    Sqlite,
    /// A server.
    Postgres,
}

/// The location of the database. It may contain a password: neither `Debug` nor any error shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    url: String,
    kind: DatabaseKind,
}

/// The parameters of a PostgreSQL URL that the driver reads.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Alternatives to parameters that libpq reads and the driver does not.
const INSTEAD: [(&str, &str); 12] = [
    (
        "target_session_attrs",
        "name a host that follows the primary, such as a service or a virtual address; \
         `/health/ready` reports a server that accepts no writes",
    ),
    ("load_balance_hosts", "put a load balancer in front of the replicas"),
    ("connect_timeout", "set FIREFLOW_DATABASE__ACQUIRE_TIMEOUT"),
    ("passfile", "set PGPASSFILE, or put the password into the URL"),
    ("service", "write host, port and database into the URL"),
    ("sslcrl", "leave it out: certificate revocation lists are not supported"),
    ("sslpassword", "store the key in `sslkey` without a password"),
    ("sslnegotiation", "leave it out: TLS is negotiated in the way that all servers support"),
    ("channel_binding", "leave it out, and use `sslmode=verify-full`"),
    ("gssencmode", "leave it out: GSSAPI is not supported"),
    ("client_encoding", "leave it out: it is always UTF8"),
    ("statement_cache_capacity", "write it as `statement-cache-capacity`"),
];

/// The text of a parameter's name, with its `%XX` escapes decoded.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let mut ahead = rest.clone();
        let digits =
            [ahead.next(), ahead.next()].map(|it| char::from(it.unwrap_or(b' ')).to_digit(16));
        match (byte, digits) {
            (b'%', [Some(high), Some(low)]) => {
                bytes.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
                rest = ahead;
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns an error if the driver would ignore or misread a part of a PostgreSQL URL: ignoring it
/// silently could mean another server.
fn check_postgres(url: &str) -> Result<(), String> {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, _) = place.split_once('/').unwrap_or((place, ""));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let several = "it names several hosts, but FireFlow connects to one: name a host that follows \
                   the primary, such as a service or a virtual address";
    if host.contains(',') {
        return Err(several.to_owned());
    }
    for parameter in query.split('&').filter(|it| !it.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let (name, value) = (decoded(name), decoded(value));
        if matches!(name.as_str(), "host" | "hostaddr" | "port") && value.contains(',') {
            return Err(several.to_owned());
        }
        if PARAMETERS.contains(&name.as_str()) || name.starts_with("options[") {
            continue;
        }
        let instead = INSTEAD.iter().find(|(known, _)| *known == name);
        let instead = instead.map_or("leave it out", |(_, instead)| instead);
        return Err(format!("its parameter `{name}` is not supported: {instead}"));
    }
    Ok(())
}

/// Parameters of SQLite URLs with which the file would not belong to one process, or could not be
/// written.
const UNSAFE: [&str; 3] = ["immutable=", "vfs=", "mode=ro"];

/// Returns an error if a parameter of a SQLite URL is unsafe for serving.
fn check_sqlite(url: &str) -> Result<(), String> {
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let is_unsafe = |it: &&str| UNSAFE.iter().any(|begin| it.starts_with(begin));
    match parameters.split('&').find(is_unsafe) {
        Some(parameter) => Err(format!(
            "leave out `{parameter}`: SQLite would not lock the file, or not write to it"
        )),
        None => Ok(()),
    }
}

impl DatabaseUrl {
    /// Parses `sqlite://FILE` or `postgres://…`.
    ///
    /// # Errors
    /// Returns [`OpenError::BadUrl`] if it is neither, or a part of it would be misread.
    pub fn parse(url: &str) -> Result<Self, OpenError> {
        let bad = |why: &str| OpenError::BadUrl(why.to_owned());
        let kind = if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)
                .map_err(|_| bad("it is not a SQLite URL such as `sqlite://fireflow.db`"))?;
            let is_memory = url.contains(":memory:") || url.contains("mode=memory");
            if is_memory || options.get_filename().as_os_str().is_empty() {
                return Err(bad(
                    "name a file, such as `sqlite://fireflow.db`: a database in memory \
                                would be lost with the process",
                ));
            }
            check_sqlite(url).map_err(|why| bad(&why))?;
            DatabaseKind::Sqlite
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            check_postgres(url).map_err(OpenError::BadUrl)?;
            PgConnectOptions::from_str(url).map_err(|_| {
                bad("it is not a PostgreSQL URL such as `postgres://user:password@host/database`, \
                     or `postgres:///database?host=/run/postgresql&user=user` for a socket")
            })?;
            DatabaseKind::Postgres
        } else {
            return Err(bad("it must begin with `sqlite://` or `postgres://`"));
        };
        Ok(Self { url: url.to_owned(), kind })
    }

    /// The kind of database that it names.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// The file, if it is SQLite.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self.kind {
            DatabaseKind::Sqlite => SqliteConnectOptions::from_str(&self.url)
                .ok()
                .map(|options| options.get_filename().to_owned()),
            DatabaseKind::Postgres => None,
        }
    }

    /// Options for a pool.
    pub(crate) fn connect_options(&self) -> ConnectOptions {
        ConnectOptions::new(self.url.clone())
    }

    /// One connection to a PostgreSQL server, without a pool.
    pub(crate) async fn connect(&self) -> Result<PgConnection, SqlxError> {
        let options = PgConnectOptions::from_str(&self.url)?;
        PgConnection::connect_with(&named(options)).await
    }

    /// The database's location for a message, never with a password.
    pub(crate) fn place(&self) -> String {
        match self.kind {
            DatabaseKind::Sqlite => {
                self.file().as_deref().map(Path::display).map(|file| file.to_string())
            }
            DatabaseKind::Postgres => PgConnectOptions::from_str(&self.url).ok().map(|options| {
                let database = options.get_database().unwrap_or("postgres").to_owned();
                format!("{database} at {}:{}", options.get_host(), options.get_port())
            }),
        }
        .unwrap_or_default()
    }

    /// The error for a database that could not be reached, without secrets.
    pub(crate) fn connect_error(&self, source: DbErr) -> OpenError {
        OpenError::Connect { place: self.place(), source }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseUrl").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Sets the name that the server's administrator sees. Omits a parameter that poolers would refuse.
pub(crate) fn named(options: PgConnectOptions) -> PgConnectOptions {
    let options = options.extra_float_digits(None);
    if options.get_application_name().is_some() {
        options
    } else {
        options.application_name("fireflow")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_which_database() {
        let kind = |url| DatabaseUrl::parse(url).map(|url| url.kind()).ok();
        assert_eq!(kind("sqlite://fireflow.db"), Some(DatabaseKind::Sqlite));
        assert_eq!(kind("sqlite:///var/lib/fireflow/fireflow.db"), Some(DatabaseKind::Sqlite));
        for good in [
            "postgres://me:secret@db/fireflow",
            "postgresql://me@db:5433/fireflow?sslmode=verify-full&sslrootcert=/ca.pem",
            "postgres:///fireflow?host=/run/postgresql&user=me",
            "postgres://me:a%2Cb%40c@%2Frun%2Fpostgresql/fireflow",
            "postgres://me@db/fireflow?options=-c%20search_path%3Dapp&application_name=x",
            "postgres://me@db/fireflow?options[search_path]=app&statement-cache-capacity=0",
        ] {
            assert_eq!(kind(good), Some(DatabaseKind::Postgres), "{good}");
        }
        for bad in ["", "fireflow.db", "mysql://db", "sqlite::memory:", "sqlite://"] {
            assert_eq!(kind(bad), None, "{bad}");
        }
        assert_eq!(kind("sqlite://x.db?mode=rwc"), Some(DatabaseKind::Sqlite));
        for bad in ["?immutable=true", "?mode=rwc&vfs=unix-none", "?mode=ro"] {
            let url = format!("sqlite://x.db{bad}");
            assert!(DatabaseUrl::parse(&url).is_err(), "{url}");
        }
    }

    #[test]
    fn what_the_driver_would_leave_out_is_refused_with_what_to_write() {
        for (url, word) in [
            ("postgres://me@a,b/fireflow", "several hosts"),
            ("postgres://me@a:1,b:2/fireflow", "several hosts"),
            ("postgres:///fireflow?host=a,b", "several hosts"),
            ("postgres:///fireflow?host=a%2Cb&user=me", "several hosts"),
            ("postgres://a/b?target_session_attrs=read-write", "/health/ready"),
            ("postgres://a/b?connect_timeout=3", "ACQUIRE_TIMEOUT"),
            ("postgres://a/b?sslmode=require&sslcrl=x", "sslcrl"),
            ("postgres://a/b?target%5Fsession_attrs=any", "target_session_attrs"),
            ("postgres://a/b?statement_cache_capacity=0", "statement-cache-capacity"),
            ("postgres://a/b?color=red", "`color` is not supported: leave it out"),
        ] {
            let Err(OpenError::BadUrl(why)) = DatabaseUrl::parse(url) else { panic!("{url}") };
            assert!(why.contains(word), "{url}: {why}");
        }
    }

    #[test]
    fn a_password_is_shown_nowhere() {
        let url = DatabaseUrl::parse("postgres://me:hunter2@db:1/fireflow").unwrap();
        assert!(!format!("{url:?} {}", url.place()).contains("hunter2"));
        for bad in ["postgres://me:hunter2@db:port/fireflow", "postgres://me:hunter2@a,b/fireflow"]
        {
            let error = DatabaseUrl::parse(bad).unwrap_err();
            assert!(!format!("{error:?} {error}").contains("hunter2"));
        }
    }
}

//! The settings of each connection to PostgreSQL, so that defaults of the server, the database and
//! the role change nothing; and the checks that precede the first use.

use std::fmt::Write;
use std::time::Duration;

use sea_orm::sqlx::postgres::PgRow;
use sea_orm::sqlx::{self, AssertSqlSafe, Connection, PgConnection, Row};
use sea_orm::{DbErr, RuntimeErr, SqlxError};

use crate::database_url::DatabaseUrl;
use crate::open_error::OpenError;
use crate::options::DatabaseOptions;

/// The purpose of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It reads, and cannot write.
    Reader,
    /// It writes.
    Writer,
    /// It ends other connections' statements, and checks the server's health.
    Control,
    /// It changes the schema: a step may take long.
    Migration,
}

/// The settings of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    role: Role,
    /// The schema with FireFlow's tables; `None` means the one in the URL.
    schema: Option<String>,
    /// A random name by which the session is recognized.
    name: String,
    /// The longest useful time of any statement.
    statement_timeout: Duration,
}

/// The first version whose server detects a client that has gone, and ends idle sessions.
const CHECKS_CLIENTS: u32 = 140_000;
/// The first version that can limit a whole transaction.
const LIMITS_TRANSACTIONS: u32 = 170_000;

/// The least time that a transaction may wait for its client: an export waits for its reader.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(120);

/// How long the server may take to answer during the checks.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many connections check for a setting of another one.
const WITNESSES: usize = 3;

impl Session {
    /// The same settings for another role.
    pub(crate) fn with_role(&self, role: Role) -> Self {
        Self { role, ..self.clone() }
    }

    /// The same settings for another server, in the schema that its URL names.
    pub(crate) fn elsewhere(&self) -> Self {
        Self { schema: None, ..self.clone() }
    }

    /// The name by which the session is recognized.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Applies FireFlow's settings to a new connection. Returns the process at its other end.
    pub(crate) async fn begin(&self, connection: &mut PgConnection) -> Result<i32, SqlxError> {
        let version = connection.server_version_num().unwrap_or(0);
        let row = first_row(connection, &self.settings(version)).await?;
        row.try_get(0)
    }

    /// All settings in one round trip; only the last statement returns a row.
    fn settings(&self, version: u32) -> String {
        let statement = match self.role {
            Role::Reader | Role::Writer | Role::Control => self.statement_timeout.as_millis(),
            Role::Migration => 0,
        };
        let idle = IDLE_IN_TRANSACTION.max(self.statement_timeout.saturating_mul(2)).as_millis();
        let read_only = if self.role == Role::Reader { "on" } else { "off" };
        let mut sql = format!(
            "SET statement_timeout = {statement}; SET lock_timeout = 0; \
             SET idle_in_transaction_session_timeout = {idle}; \
             SET default_transaction_isolation = 'read committed'; \
             SET default_transaction_read_only = {read_only}; \
             SET default_transaction_deferrable = off; SET standard_conforming_strings = on; \
             SET fireflow.session = '{}'; ",
            self.name
        );
        // Writing to a string cannot fail.
        let mut set = |setting: &str| write!(sql, "SET {setting}; ").unwrap_or_default();
        if let Some(schema) = &self.schema {
            set(&format!("search_path = \"{}\"", schema.replace('"', "\"\"")));
        }
        if version >= CHECKS_CLIENTS {
            set("client_connection_check_interval = 1000");
            set("idle_session_timeout = 0");
        }
        if version >= LIMITS_TRANSACTIONS {
            set("transaction_timeout = 0");
        }
        // An acknowledged commit must be durable, whatever a default is.
        sql.push_str(
            "SELECT pg_backend_pid(), CASE WHEN current_setting('synchronous_commit') = 'off' \
             THEN set_config('synchronous_commit', 'on', false) END",
        );
        sql
    }

    /// Checks the server before it is used, and refuses what would not work.
    pub(crate) async fn check(options: &DatabaseOptions) -> Result<Self, OpenError> {
        let url = &options.url;
        let failed = |source: SqlxError| refusal(url, source);
        let timed_out =
            |_| url.connect_error(DbErr::Custom(format!("it did not respond within {PATIENCE:?}")));
        let checked = async {
            let mut connection = url.connect().await.map_err(failed)?;
            let sql = "SELECT current_setting('server_encoding'), current_schema(), \
                       current_setting('search_path'), current_database()";
            let row = first_row(&mut connection, sql).await.map_err(failed)?;
            let text = |index| row.try_get::<Option<String>, usize>(index).map_err(failed);
            let (encoding, database) = (text(0)?.unwrap_or_default(), text(3)?.unwrap_or_default());
            if encoding != "UTF8" {
                return Err(OpenError::Encoding { database, encoding });
            }
            let Some(schema) = text(1)? else {
                return Err(OpenError::NoSchema { search_path: text(2)?.unwrap_or_default() });
            };
            let name = getrandom::u64().map_err(|error| OpenError::BadUrl(error.to_string()))?;
            let session = Self {
                role: Role::Control,
                schema: Some(schema),
                name: format!("{name:016x}"),
                statement_timeout: options.turn_timeout,
            };
            session.check_that_it_is_kept(url, connection).await?;
            Ok(session)
        };
        tokio::time::timeout(PATIENCE, checked).await.map_err(timed_out)?
    }

    /// Checks that a connection keeps its session. A pooler that gives each transaction another
    /// backend would mix up the state of sessions: settings, prepared statements, locks of
    /// migrations. Then one of several connections within a transaction would get the first one's
    /// backend, or the first would get another.
    async fn check_that_it_is_kept(
        &self,
        url: &DatabaseUrl,
        mut connection: PgConnection,
    ) -> Result<(), OpenError> {
        let failed = |source| refusal(url, source);
        let asks = "SELECT current_setting('fireflow.session', true)";
        let name = |row: &PgRow| row.try_get::<Option<String>, usize>(0).unwrap_or_default();
        let own = Some(self.name.clone());
        let set = format!("SET fireflow.session = '{}'; {asks}", self.name);
        first_row(&mut connection, &set).await.map_err(failed)?;
        let mut witnesses = Vec::with_capacity(WITNESSES);
        for _ in 0..WITNESSES {
            let mut witness = url.connect().await.map_err(failed)?;
            let seen = first_row(&mut witness, &format!("BEGIN; {asks}")).await.map_err(failed)?;
            if name(&seen) == own {
                return Err(OpenError::Pooler);
            }
            witnesses.push(witness);
        }
        // A pooler without another backend would keep it waiting.
        let again = tokio::time::timeout(SHORT, first_row(&mut connection, asks)).await;
        let is_kept = matches!(again, Ok(Ok(row)) if name(&row) == own);
        for witness in witnesses {
            witness.close().await.map_err(failed)?;
        }
        if !is_kept {
            return Err(OpenError::Pooler);
        }
        connection.close().await.map_err(failed)
    }
}

/// The timeout for an answer from one's own session.
const SHORT: Duration = Duration::from_secs(3);

/// The single row of some statements, which are sent as they are, without preparing them.
async fn first_row(connection: &mut PgConnection, sql: &str) -> Result<PgRow, SqlxError> {
    let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(connection).await?;
    rows.into_iter().next().ok_or(SqlxError::RowNotFound)
}

/// Why a connection failed, with a remedy if one is known.
fn refusal(url: &DatabaseUrl, source: SqlxError) -> OpenError {
    if let SqlxError::Database(error) = &source {
        let message = error.message();
        if message.contains("unsupported startup parameter") {
            return OpenError::PoolerParameter(message.to_owned());
        }
        if message.contains("statement pooling") {
            return OpenError::Pooler;
        }
    }
    url.connect_error(DbErr::Conn(RuntimeErr::SqlxError(source.into())))
}

//! How to open a database.

use std::sync::Arc;
use std::time::Duration;

use fireflow_domain::features::Features;
use fireflow_domain::usecase::rule::PolicyLimits;

use crate::database_url::DatabaseUrl;
use crate::file::Purpose;
use crate::observe::Observer;

/// How to connect.
#[derive(Debug, Clone)]
pub struct DatabaseOptions {
    /// The database.
    pub url: DatabaseUrl,
    /// A read replica of it, for lists; only with PostgreSQL.
    pub read_url: Option<DatabaseUrl>,
    /// The most connections to a PostgreSQL server, at least
    /// [`MIN_CONNECTIONS`](crate::MIN_CONNECTIONS). On SQLite, the
    /// most readers of single resources.
    pub max_connections: u32,
    /// How long a page of a list may take in the database.
    pub list_timeout: Duration,
    /// How long a request waits for a connection.
    pub acquire_timeout: Duration,
    /// The longest useful time of a statement, and of the wait for the turn to write on SQLite: the
    /// time of a request.
    pub turn_timeout: Duration,
    /// The most units of work that share a transaction, on SQLite.
    pub write_group: usize,
    /// Receives every statement.
    pub observer: Option<Arc<dyn Observer>>,
    /// The policy features that this process can read.
    pub features: Features,
    /// The most that a policy may hold.
    pub policy_limits: PolicyLimits,
    /// The purpose of opening it: it decides whether others wait for a SQLite file.
    pub purpose: Purpose,
}

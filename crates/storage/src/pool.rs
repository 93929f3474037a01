//! Opens a pool of connections.

use std::sync::Arc;

use sea_orm::{ConnectOptions, Database, DatabaseConnection};

use crate::database_url::DatabaseUrl;
use crate::observe::{self, Observer};
use crate::open_error::OpenError;

/// Options for a single connection that stays open.
pub(crate) fn one(url: &DatabaseUrl) -> ConnectOptions {
    let mut connect = url.connect_options();
    connect.max_connections(1).min_connections(1).idle_timeout(None).max_lifetime(None);
    connect
}

/// Opens a pool whose statements are observed.
pub(crate) async fn open(
    mut connect: ConnectOptions,
    url: &DatabaseUrl,
    observer: Option<&Arc<dyn Observer>>,
) -> Result<DatabaseConnection, OpenError> {
    connect.sqlx_logging(false).record_stmt_in_spans(false);
    // Testing a connection costs as much as a small query. A connection to a file does not die; for
    // connections to a server, see `postgres`.
    connect.test_before_acquire(false);
    let mut connection =
        Database::connect(connect).await.map_err(|source| url.connect_error(source))?;
    observe::watch(&mut connection, observer);
    Ok(connection)
}

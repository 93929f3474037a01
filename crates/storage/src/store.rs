//! The open database: units of work, readiness.

use std::sync::Arc;

use async_trait::async_trait;
use fireflow_domain::store::{Mode, Storage, StoreResult, UnitOfWork};
use sea_orm::{
    DatabaseConnection, DbErr, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use crate::connect::{self, Connections, DatabaseKind, DatabaseOptions, OpenError};
use crate::error::store_error;
use crate::lock::DatabaseLock;
use crate::replica::read_only;
use crate::schema::{self, StepState};
use crate::unit_of_work::{Handle, SeaUnitOfWork};

/// An open database. Cheap to clone: all clones share the connections and the lock.
#[derive(Debug, Clone)]
pub struct Database {
    options: DatabaseOptions,
    connections: Connections,
    _lock: Option<Arc<DatabaseLock>>,
}

impl Database {
    /// Opens it: a SQLite file is created where it is missing, and taken for this process alone.
    ///
    /// # Errors
    /// Where it cannot be reached, or another process has the SQLite file.
    pub async fn open(options: DatabaseOptions) -> Result<Self, OpenError> {
        let lock =
            options.url.file().map(|file| DatabaseLock::take(&file)).transpose()?.map(Arc::new);
        let connections = connect::connect(&options).await?;
        Ok(Self { options, connections, _lock: lock })
    }

    /// Which database it is.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        self.options.url.kind()
    }

    /// Connections in use and idle, of writers and readers together.
    #[must_use]
    pub const fn max_connections(&self) -> u32 {
        self.options.max_connections
    }

    /// Closes all connections; statements under way come to their end first.
    ///
    /// # Errors
    /// Where the driver does.
    pub async fn close(self) -> StoreResult<()> {
        let Connections { write, read, replica } = self.connections;
        let replica = match replica {
            Some(replica) => replica.close().await,
            None => Ok(()),
        };
        let (read, write) = (read.close().await, write.close().await);
        replica.and(read).and(write).map_err(store_error)
    }

    pub(crate) const fn options(&self) -> &DatabaseOptions {
        &self.options
    }

    pub(crate) const fn connections(&self) -> &Connections {
        &self.connections
    }

    #[cfg(feature = "testing")]
    pub(crate) const fn connections_mut(&mut self) -> &mut Connections {
        &mut self.connections
    }

    async fn transaction(
        &self,
        pool: &DatabaseConnection,
        options: TransactionOptions,
    ) -> Result<Handle, DbErr> {
        pool.begin_with_options(options).await.map(Handle::Transaction)
    }
}

#[async_trait]
impl Storage for Database {
    async fn begin(&self, mode: Mode) -> StoreResult<Box<dyn UnitOfWork>> {
        let Connections { write, read, replica } = &self.connections;
        if let (Mode::ReplicaSnapshot, Some(replica)) = (mode, replica)
            && let Some(transaction) = replica.snapshot().await
        {
            return Ok(Box::new(SeaUnitOfWork { handle: Handle::Transaction(transaction) }));
        }
        let plain = TransactionOptions::default();
        let handle = match (mode, self.kind()) {
            (Mode::Autocommit, _) => Ok(Handle::Pool(read.clone())),
            // SQLite: the first read takes the snapshot.
            (Mode::Snapshot | Mode::ReplicaSnapshot, DatabaseKind::Sqlite) => {
                self.transaction(read, plain).await
            }
            (Mode::Snapshot | Mode::ReplicaSnapshot, DatabaseKind::Postgres) => {
                self.transaction(read, read_only()).await
            }
            (Mode::Write, DatabaseKind::Sqlite) => {
                // Immediate: a transaction that begins to write late is refused without a wait.
                let options = TransactionOptions {
                    sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                    ..plain
                };
                self.transaction(write, options).await
            }
            // Read committed: who waited for a lock must see what its holder wrote.
            (Mode::Write, DatabaseKind::Postgres) => self.transaction(write, plain).await,
        };
        let handle = handle.map_err(store_error)?;
        Ok(Box::new(SeaUnitOfWork { handle }))
    }

    async fn is_ready(&self) -> StoreResult<bool> {
        let steps = schema::steps(&self.connections.read).await.map_err(store_error)?;
        Ok(steps.iter().all(|step| step.state != StepState::Pending))
    }
}

//! Units of work in savepoints of one transaction that is never committed: for tests.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fireflow_domain::error::StoreError;
use fireflow_domain::store::StoreResult;
use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, TransactionOptions,
    TransactionTrait,
};

/// A transaction that is rolled back when it is dropped. Units of work run in its savepoints, one
/// after the other.
pub(crate) struct Outer {
    root: DatabaseTransaction,
    is_in_use: Arc<AtomicBool>,
    /// The unit of work that holds the connection. Dropped last.
    _holder: Box<dyn Any + Send + Sync>,
}

impl fmt::Debug for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outer").field("is_in_use", &self.is_in_use).finish_non_exhaustive()
    }
}

/// The sole use of the transaction, until this is dropped.
#[derive(Debug)]
pub(crate) struct Nested(Arc<AtomicBool>);

impl Drop for Nested {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

impl Outer {
    pub(crate) fn new(root: DatabaseTransaction, holder: Box<dyn Any + Send + Sync>) -> Self {
        Self { root, is_in_use: Arc::default(), _holder: holder }
    }

    /// Begins a savepoint. One that only reads cannot write on PostgreSQL.
    ///
    /// # Errors
    /// Returns an error if the savepoint before it has not ended. Two savepoints of one transaction
    /// cannot end independently of each other.
    pub(crate) async fn begin(
        &self,
        only_reads: bool,
    ) -> StoreResult<Result<(DatabaseTransaction, Nested), DbErr>> {
        if self.is_in_use.swap(true, Ordering::SeqCst) {
            let why = "another unit of work of this test is open: end it, or give the test a \
                       database of its own with `committed(…)`";
            return Err(StoreError::Failed(why.into()));
        }
        let nested = Nested(Arc::clone(&self.is_in_use));
        let is_postgres = self.root.get_database_backend() == DbBackend::Postgres;
        let access_mode = (only_reads && is_postgres).then_some(AccessMode::ReadOnly);
        let options = TransactionOptions { access_mode, ..TransactionOptions::default() };
        Ok(self.root.begin_with_options(options).await.map(|begun| (begun, nested)))
    }
}

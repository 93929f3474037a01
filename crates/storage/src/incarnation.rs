//! Which server answers: a PostgreSQL server that was started anew, or another one in its place, may
//! have a state that the one before never had.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::SqlxError;
use sea_orm::sqlx::{PgConnection, query_scalar};

/// What tells one start of a server from all others, and one server from another.
const WHO: &str =
    "SELECT pg_postmaster_start_time()::text || ' ' || coalesce(inet_server_addr()::text, '')";

/// The servers that were met so far, counted: grows when a new connection is to another one than the
/// last new connection was.
#[derive(Debug, Clone, Default)]
pub(crate) struct Incarnations(Arc<Met>);

#[derive(Debug, Default)]
struct Met {
    count: AtomicU64,
    last: Mutex<Option<String>>,
}

impl Incarnations {
    /// The number of the last one.
    pub(crate) fn current(&self) -> u64 {
        self.0.count.load(Ordering::SeqCst)
    }

    /// Meets the server at a new connection's other end.
    pub(crate) async fn meet(&self, connection: &mut PgConnection) -> Result<(), SqlxError> {
        let who: String = query_scalar(WHO).fetch_one(connection).await?;
        let mut last = self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() != Some(&who) {
            *last = Some(who);
            self.0.count.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

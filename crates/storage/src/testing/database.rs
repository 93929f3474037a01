//! What tests do with an open database.

#![expect(clippy::expect_used, reason = "a failed setup must name its cause")]

use std::sync::Arc;
use std::time::Duration;

use fireflow_domain::features::Features;
use fireflow_domain::store::{ReadKind, StoreResult, Terms};
use sea_orm::{ConnectionTrait, Statement, TransactionTrait};

use crate::database_url::DatabaseKind;
use crate::entity::tables::entity_tables;
use crate::error::store_error;
use crate::group::Writer;
use crate::nested::Outer;
use crate::store::Database;
use crate::unit_of_work::{Handle, Held, SeaUnitOfWork};

impl Database {
    /// A reading unit of the concrete type.
    async fn reading_unit(&self, kind: ReadKind, terms: &Terms) -> StoreResult<SeaUnitOfWork> {
        let (handle, held) = self.reader(kind, terms).await?;
        Ok(self.unit(handle, held))
    }

    /// A unit's savepoint, if this test is rolled back: of a unit that reads, with its kind and
    /// terms, or of one that writes.
    pub(crate) async fn nested(
        &self,
        reads: Option<(ReadKind, &Terms)>,
    ) -> Option<StoreResult<(Handle, Held)>> {
        let outer = self.outer.as_ref()?;
        let begun = async {
            let begun = outer.begin(reads.is_some()).await?;
            let (transaction, nested) = begun.map_err(store_error)?;
            if let (Some((kind, terms)), DatabaseKind::Postgres) = (reads, self.kind()) {
                self.prepare(&transaction, kind, terms).await.map_err(store_error)?;
            }
            Ok((Handle::Transaction(transaction), Held::Nested { _nested: nested }))
        };
        Some(begun.await)
    }

    /// Begins the transaction in whose savepoints all units of work run from now on.
    ///
    /// # Panics
    /// Panics if it cannot begin.
    pub(super) async fn roll_back_at_the_end(&mut self) {
        let holder = self.writing_unit().await.expect("a transaction");
        let root = holder.transaction().expect("a transaction");
        if self.kind() == DatabaseKind::Postgres {
            // Sequences do not roll back. Ids begin as in a new database.
            let restart = "SELECT setval(s.seqrelid, s.seqstart, false) FROM pg_sequence s \
                           JOIN pg_class c ON c.oid = s.seqrelid \
                           WHERE c.relnamespace = current_schema()::regnamespace";
            root.execute_unprepared(restart).await.expect("the sequences restart");
        }
        let root = root.begin().await.expect("a savepoint");
        self.outer = Some(Arc::new(Outer::new(root, Box::new(holder))));
    }

    /// Gathers PostgreSQL's statistics of this database's tables; does nothing on SQLite.
    ///
    /// # Errors
    /// Returns an error if the database does not answer.
    pub async fn analyze(&self) -> StoreResult<()> {
        if self.kind() == DatabaseKind::Postgres {
            // Without their names, the tables of all tests on the server would be read.
            let tables: Vec<String> = entity_tables().into_keys().collect();
            let analyze = format!("ANALYZE {}", tables.join(", "));
            let analyzed = self.connections().any().await.execute_unprepared(&analyze).await;
            analyzed.map_err(store_error)?;
        }
        Ok(())
    }

    /// How many rules an index may find before a filtered list is walked instead; for tests of both
    /// ways.
    pub const fn set_max_candidates(&mut self, most: u64) {
        self.max_candidates = most;
    }

    /// The policy features that this process can read; for tests of an older version.
    pub const fn set_features(&mut self, known: Features) {
        self.options.features = known;
    }

    /// How many units of work wait for their turn to write, on SQLite.
    #[must_use]
    pub fn waiting_writers(&self) -> usize {
        self.writer.as_ref().map_or(0, Writer::waiting)
    }

    /// Whether each kind of reading connection refuses to write, by its name.
    ///
    /// # Panics
    /// Panics if a connection cannot be opened.
    pub async fn writes_of_readers(&self) -> Vec<(&'static str, bool)> {
        let sql = "DELETE FROM fireflow_meta WHERE FALSE";
        let mut refused = Vec::new();
        for (name, kind) in [
            ("single", ReadKind::Single),
            ("page", ReadKind::Page),
            ("export", ReadKind::Export),
            ("compilation", ReadKind::Compilation),
        ] {
            let unit = self.reading_unit(kind, &Terms::default()).await.expect("a unit that reads");
            refused.push((name, unit.db().execute_unprepared(sql).await.is_err()));
        }
        refused
    }

    /// Runs a statement that does not end by itself, as part of a list, and abandons it after a
    /// while.
    ///
    /// # Panics
    /// Panics if the statement ends by itself.
    pub async fn run_for(&self, limit: Duration, terms: &Terms) {
        let sql = match self.kind() {
            DatabaseKind::Sqlite => {
                "WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) \
                 SELECT count(*) FROM endless"
            }
            DatabaseKind::Postgres => "SELECT pg_sleep(1000), 'endless', current_schema()",
        };
        let unit = self.reading_unit(ReadKind::Snapshot, terms).await.expect("a unit that reads");
        let db = unit.db();
        let statement = Statement::from_string(db.get_database_backend(), sql);
        let ended = tokio::time::timeout(limit, db.query_one_raw(statement)).await;
        assert!(ended.is_err(), "it has ended: {ended:?}");
    }
}

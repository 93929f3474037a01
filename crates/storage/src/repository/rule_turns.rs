//! The last times when rules changed by the clock alone.

use fireflow_domain::ids::PolicyId;
use fireflow_domain::store::{StoreResult, Turns};
use fireflow_domain::time::Instant;
use sea_orm::sea_query::{Expr, Query};
use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter, QuerySelect, QueryTrait};

use crate::entity::rule::{Column, live_of};
use crate::error::store_error;
use crate::unit_of_work::SeaUnitOfWork;

impl SeaUnitOfWork {
    /// See [`fireflow_domain::store::RuleReader::last_turns`]. One statement, which looks at one
    /// position in each of two indexes.
    pub(super) async fn turns(&self, policy: PolicyId, at: Instant) -> StoreResult<Turns> {
        let last = |column: Column| {
            let passed = live_of(policy.get()).filter(column.lte(at.micros()));
            let last = passed.select_only().column_as(column.max(), "last").into_query();
            Expr::SubQuery(None, Box::new(last.into()))
        };
        let mut select = Query::select();
        select.expr_as(last(Column::StartsAt), "start_at");
        select.expr_as(last(Column::ExpiresAt), "end_at");
        let statement = self.db().get_database_backend().build(&select);
        let row = self.db().query_one_raw(statement).await.map_err(store_error)?;
        let Some(row) = row else { return Ok(Turns::default()) };
        let instant = |column: &str| -> StoreResult<Option<Instant>> {
            let micros: Option<i64> = row.try_get("", column).map_err(store_error)?;
            Ok(micros.and_then(Instant::from_micros))
        };
        Ok(Turns { start: instant("start_at")?, end: instant("end_at")? })
    }
}

//! The domain's repositories on SeaORM. Each method documents how many statements it needs; none
//! needs one per row.

mod acceptance;
mod answer;
mod audit;
mod firewall;
mod policy;
mod rule;
mod rule_compact;
mod rule_index;
mod rule_list;
mod rule_set;
mod rule_turns;
mod upkeep;

pub(crate) use rule_index::{address_rows, port_rows};

use fireflow_domain::error::StoreError;
use fireflow_domain::labels::Labels;
use fireflow_domain::mark::Mark;
use fireflow_domain::store::StoreResult;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, FromQueryResult, QueryResult, QueryTrait, UpdateResult,
};

use crate::error::{Corrupt, WrongRowCount, store_error};
use crate::unit_of_work::SeaUnitOfWork;

/// Checks that a write affected exactly one row: the writer holds its lock, so any other number is
/// a defect.
pub(crate) fn one_row(
    what: &'static str,
    id: i64,
    result: &UpdateResult,
) -> Result<(), StoreError> {
    all_rows(what, id, 1, result.rows_affected)
}

/// Checks that a write affected as many rows as it must.
fn all_rows(what: &'static str, id: i64, expected: usize, rows: u64) -> Result<(), StoreError> {
    if usize::try_from(rows) == Ok(expected) {
        Ok(())
    } else {
        Err(StoreError::Failed(WrongRowCount { what, id, rows, expected }.into()))
    }
}

/// How many rows are converted before the task yields: a few milliseconds of work if each has
/// thousands of entries.
const ROWS_AT_ONCE: usize = 32;

impl SeaUnitOfWork {
    /// Reads the rows of a select and converts each one as soon as it is there. One statement.
    async fn converted<M, T>(
        &self,
        select: impl QueryTrait,
        convert: impl Fn(M) -> Result<T, Corrupt> + Send + Sync,
    ) -> StoreResult<Vec<T>>
    where
        M: FromQueryResult,
        T: Send,
    {
        let db = self.db();
        let statement = select.build(db.get_database_backend());
        let mut all = Vec::new();
        let each = |row: QueryResult| -> Result<(), Failed> {
            all.push(convert(M::from_query_result(&row, "")?)?);
            Ok(())
        };
        db.for_each(statement, each).await.map_err(|failed| failed.0)?;
        Ok(all)
    }
}

/// An error of the driver or of a row.
struct Failed(StoreError);

impl From<DbErr> for Failed {
    fn from(error: DbErr) -> Self {
        Self(store_error(error))
    }
}

impl From<Corrupt> for Failed {
    fn from(error: Corrupt) -> Self {
        Self(error.into())
    }
}

/// Converts rows, in their order. Many rows take long, so other tasks run in between.
async fn mapped<R, T>(
    rows: Vec<R>,
    map: impl Fn(R) -> Result<T, Corrupt> + Send,
) -> StoreResult<Vec<T>>
where
    R: Send,
    T: Send,
{
    let mut values = Vec::with_capacity(rows.len());
    for (row, number) in rows.into_iter().zip(1_usize..) {
        values.push(map(row)?);
        if number.is_multiple_of(ROWS_AT_ONCE) {
            tokio::task::yield_now().await;
        }
    }
    Ok(values)
}

/// A mark for a new state.
pub(crate) fn new_mark() -> StoreResult<Mark> {
    let random = getrandom::u64().map_err(|error| StoreError::Failed(error.to_string().into()))?;
    Ok(Mark::new(random))
}

/// A mark for each row that a statement writes.
fn random_mark(backend: DbBackend) -> Expr {
    Expr::cust(match backend {
        DbBackend::Postgres => {
            "('x' || substr(replace(gen_random_uuid()::text, '-', ''), 17))::bit(64)::bigint"
        }
        _ => "random()",
    })
}

/// The rows of a label table.
macro_rules! label_rows {
    ($module:ident, $owner:expr, $firewall:expr, $labels:expr) => {
        $labels
            .iter()
            .map(|(key, value)| crate::entity::label::$module::ActiveModel {
                owner_id: sea_orm::Set($owner),
                firewall_id: sea_orm::Set($firewall),
                key: sea_orm::Set(key.to_owned()),
                value: sea_orm::Set(value.to_owned()),
            })
            .collect::<Vec<_>>()
    };
}
pub(crate) use label_rows;

/// Whether the label rows must be rewritten.
fn labels_differ(before: &Labels, after: &Labels) -> bool {
    before != after
}

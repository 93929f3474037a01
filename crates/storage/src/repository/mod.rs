//! The domain's repositories on SeaORM. Each method says how many statements it needs; none needs
//! one per row.

mod answer;
mod audit;
mod firewall;
mod policy;
mod rule;
mod rule_index;
mod rule_set;
mod rule_turns;
mod upkeep;

pub(crate) use rule_index::{address_rows, port_rows};

use fireflow_domain::error::StoreError;
use fireflow_domain::labels::Labels;
use fireflow_domain::mark::Mark;
use fireflow_domain::store::StoreResult;
use sea_orm::sea_query::Expr;
use sea_orm::{DbBackend, UpdateResult};

use crate::error::{Corrupt, WrongRowCount};

/// Checks that a write met exactly one row: who writes holds its lock, so anything else is a defect.
pub(crate) fn one_row(
    what: &'static str,
    id: i64,
    result: &UpdateResult,
) -> Result<(), StoreError> {
    all_rows(what, id, 1, result.rows_affected)
}

/// Checks that a write met as many rows as it must.
fn all_rows(what: &'static str, id: i64, expected: usize, rows: u64) -> Result<(), StoreError> {
    if usize::try_from(rows) == Ok(expected) {
        Ok(())
    } else {
        Err(StoreError::Failed(WrongRowCount { what, id, rows, expected }.into()))
    }
}

/// How many rows become values between two looks at what else there is to do: a few milliseconds, if
/// each has thousands of entries.
const ROWS_AT_ONCE: usize = 32;

/// What rows say, in their order. Many of them take long: others are served in between.
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

/// A mark for a state that is new.
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

/// Whether the label rows have to be written anew.
fn labels_differ(before: &Labels, after: &Labels) -> bool {
    before != after
}

//! Orders, pages and totals.

use fireflow_domain::page::{Direction, MAX_COUNTED, Page, PageRequest, Total};
use sea_orm::sea_query::{Alias, Asterisk, Expr, ExprTrait, NullOrdering, Order, Query};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryOrder, QuerySelect, QueryTrait, Select,
};

/// Orders by the keys and at last by id, so that every order is total. Null is smallest on both
/// databases; PostgreSQL has to be told.
pub(crate) fn ordered<E: EntityTrait>(
    mut select: Select<E>,
    keys: impl IntoIterator<Item = (E::Column, Direction)>,
    id: E::Column,
) -> Select<E> {
    for (column, direction) in keys {
        let (order, nulls) = match direction {
            Direction::Ascending => (Order::Asc, NullOrdering::First),
            Direction::Descending => (Order::Desc, NullOrdering::Last),
        };
        select = if column.def().is_null() {
            select.order_by_with_nulls(column, order, nulls)
        } else {
            select.order_by(column, order)
        };
    }
    select.order_by(id, Order::Asc)
}

/// Counts the rows, up to [`MAX_COUNTED`]. One statement.
pub(crate) async fn total<E: EntityTrait>(
    db: &impl ConnectionTrait,
    select: Select<E>,
    id: E::Column,
) -> Result<Total, DbErr> {
    let rows = select.select_only().column(id).limit(MAX_COUNTED + 1).into_query();
    let count = Query::select()
        .expr(Expr::col(Asterisk).count())
        .from_subquery(rows, Alias::new("counted"))
        .to_owned();
    let count: i64 = match db.query_one(&count).await? {
        Some(row) => row.try_get_by_index(0)?,
        None => 0,
    };
    let count = u64::try_from(count).unwrap_or(0);
    Ok(Total { count: Ord::min(count, MAX_COUNTED), is_exact: count <= MAX_COUNTED })
}

/// A sum of counters, as an integer on both databases; null where there is none.
pub(crate) fn sum(column: impl ColumnTrait) -> Expr {
    column.sum().cast_as("bigint")
}

/// An exact total, from a counter.
pub(crate) fn counted(counter: Option<i64>) -> Total {
    let count = counter.and_then(|counter| u64::try_from(counter).ok()).unwrap_or(0);
    Total { count, is_exact: true }
}

/// A page of rows that were read, each turned into what the domain knows.
pub(crate) fn page<R, T, E>(
    rows: Vec<R>,
    total: Total,
    request: PageRequest,
    read: impl FnMut(R) -> Result<T, E>,
) -> Result<Page<T>, E> {
    let items = rows.into_iter().map(read).collect::<Result<_, _>>()?;
    Ok(Page { items, total, request })
}

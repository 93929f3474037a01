//! Orders, pages, positions and totals.

use std::sync::OnceLock;

use fireflow_domain::page::{
    Counting, Direction, MAX_COUNTED, PageRequest, Position, SortKey, SortValue, Start, Total,
};
use fireflow_domain::sort::SortField;
use sea_orm::sea_query::{
    Alias, Asterisk, Expr, ExprTrait, IntoCondition, NullOrdering, Order, Query, Value,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult,
    IntoSimpleExpr, QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select, SelectModel,
    Selector, SelectorRaw, SelectorTrait, Statement,
};

/// What a list is ordered by: a column, or what is computed of some.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    expr: Expr,
    is_nullable: bool,
}

impl Key {
    pub(crate) fn column(column: impl ColumnTrait) -> Self {
        Self { expr: column.into_simple_expr(), is_nullable: column.def().is_null() }
    }

    /// A column of computed values, none of them null.
    pub(crate) const fn computed(expr: Expr) -> Self {
        Self { expr, is_nullable: false }
    }
}

/// An order: keys with their directions, and at last the id, in the direction of the last of
/// them, so that every order is total and an index can be walked either way.
#[derive(Debug, Clone)]
pub(crate) struct OrderBy<E: EntityTrait> {
    keys: Vec<(Key, Direction)>,
    id: E::Column,
}

impl<E: EntityTrait> OrderBy<E> {
    pub(crate) fn new<F: SortField>(
        order: &[SortKey<F>],
        key: impl Fn(F) -> Key,
        id: E::Column,
    ) -> Self {
        let keys = order.iter().map(|it| (key(it.field), it.direction)).collect();
        Self { keys, id }
    }

    fn id_direction(&self) -> Direction {
        self.keys.last().map_or(Direction::Ascending, |(_, direction)| *direction)
    }

    /// Null is smallest on both databases; PostgreSQL needs an explicit option for that.
    pub(crate) fn apply(&self, mut select: Select<E>) -> Select<E> {
        for (Key { expr, is_nullable }, direction) in &self.keys {
            let (order, nulls) = match direction {
                Direction::Ascending => (Order::Asc, NullOrdering::First),
                Direction::Descending => (Order::Desc, NullOrdering::Last),
            };
            select = if *is_nullable {
                select.order_by_with_nulls(expr.clone(), order, nulls)
            } else {
                select.order_by(expr.clone(), order)
            };
        }
        let order = match self.id_direction() {
            Direction::Ascending => Order::Asc,
            Direction::Descending => Order::Desc,
        };
        select.order_by(self.id, order)
    }

    /// The rows after a position, as consecutive ranges of the index. With one key, each is a range
    /// that starts at the position, at the same cost however deep it is. With several keys, there
    /// is one condition, which is tested on all rows from the first key's value on.
    fn behind(&self, position: &Position) -> Vec<Condition> {
        let id = Expr::val(position.id);
        match (self.keys.as_slice(), position.values.as_slice()) {
            ([], _) => vec![self.id.gt(position.id).into_condition()],
            ([(Key { expr, is_nullable }, direction)], [value]) => {
                let behind_id = match direction {
                    Direction::Ascending => self.id.into_simple_expr().gt(id.clone()),
                    Direction::Descending => self.id.into_simple_expr().lt(id.clone()),
                };
                match (bound(value), direction) {
                    // Nulls come first in ascending order, and last in descending order.
                    (None, Direction::Ascending) => vec![
                        Condition::all().add(expr.clone().is_null()).add(behind_id),
                        expr.clone().is_not_null().into_condition(),
                    ],
                    (None, Direction::Descending) => {
                        vec![Condition::all().add(expr.clone().is_null()).add(behind_id)]
                    }
                    (Some(value), direction) => {
                        let key = Expr::tuple([expr.clone(), self.id.into_simple_expr()]);
                        let place = Expr::tuple([Expr::val(value), id]);
                        match direction {
                            Direction::Ascending => vec![key.gt(place).into_condition()],
                            Direction::Descending if *is_nullable => vec![
                                key.lt(place).into_condition(),
                                expr.clone().is_null().into_condition(),
                            ],
                            Direction::Descending => vec![key.lt(place).into_condition()],
                        }
                    }
                }
            }
            (keys, values) => vec![self.behind_all(keys, values, position.id)],
        }
    }

    /// After the position in the first key, or equal there and after it in the second, and so on.
    fn behind_all(&self, keys: &[(Key, Direction)], values: &[SortValue], id: i64) -> Condition {
        let mut any = Condition::any();
        let mut equal = Condition::all();
        for ((Key { expr, is_nullable }, direction), value) in keys.iter().zip(values) {
            let (value, key) = (bound(value), || expr.clone());
            let is_behind = match (&value, direction) {
                (None, Direction::Ascending) => Some(key().is_not_null().into_condition()),
                (None, Direction::Descending) => None,
                (Some(value), Direction::Ascending) => {
                    Some(key().gt(value.clone()).into_condition())
                }
                (Some(value), Direction::Descending) => {
                    let less = Condition::any().add(key().lt(value.clone()));
                    Some(if *is_nullable { less.add(key().is_null()) } else { less })
                }
            };
            if let Some(is_behind) = is_behind {
                any = any.add(equal.clone().add(is_behind));
            }
            equal = match value {
                None => equal.add(key().is_null()),
                Some(value) => equal.add(key().eq(value)),
            };
        }
        let by_id = match self.id_direction() {
            Direction::Ascending => self.id.gt(id),
            Direction::Descending => self.id.lt(id),
        };
        any.add(equal.add(by_id))
    }
}

fn bound(value: &SortValue) -> Option<Value> {
    match value {
        SortValue::Absent => None,
        SortValue::Integer(number) => Some((*number).into()),
        SortValue::Text(text) => Some(text.as_str().into()),
        SortValue::Flag(flag) => Some((*flag).into()),
    }
}

/// The rows of a part of a list, and whether more follow. One statement, or two if both nulls and
/// values follow the position.
pub(crate) async fn rows<E, M>(
    db: &impl ConnectionTrait,
    select: Select<E>,
    order: &OrderBy<E>,
    request: &PageRequest,
    read: impl Fn(Select<E>) -> Selector<SelectModel<M>>,
) -> Result<(Vec<M>, bool), DbErr>
where
    E: EntityTrait,
    M: FromQueryResult + Sized + Send + Sync,
{
    let size = usize::try_from(request.size()).unwrap_or(usize::MAX);
    let ranges = match request.start() {
        Start::Page(_) | Start::First => vec![Condition::all()],
        Start::Behind(position) => order.behind(position),
    };
    let mut rows: Vec<M> = Vec::new();
    for range in ranges {
        // One row more than requested shows whether more follow.
        let missing = size.saturating_add(1).saturating_sub(rows.len());
        let part = order
            .apply(select.clone().filter(range))
            .offset(request.offset())
            .limit(u64::try_from(missing).unwrap_or(u64::MAX));
        rows.extend(read(part).all(db).await?);
        if rows.len() > size {
            break;
        }
    }
    let has_more = rows.len() > size;
    rows.truncate(size);
    Ok((rows, has_more))
}

/// The total that a last page shows: the rows before it and its own.
pub(crate) fn implied_total(request: &PageRequest, rows: usize, has_more: bool) -> Option<Total> {
    let most = match request.counting {
        Counting::Skipped => return None,
        Counting::Bounded => MAX_COUNTED,
        Counting::Exact => u64::MAX,
    };
    let is_by_number = matches!(request.start(), Start::Page(_) | Start::First);
    // A page after the end shows nothing of the length.
    let is_last = !has_more && (rows > 0 || request.offset() == 0);
    let count = request.offset().saturating_add(u64::try_from(rows).unwrap_or(u64::MAX));
    (is_by_number && is_last && count <= most).then_some(Total { count, is_exact: true })
}

/// Counts the rows up to the requested limit. One statement; none if nothing is to be counted.
pub(crate) async fn total<E: EntityTrait>(
    db: &impl ConnectionTrait,
    select: Select<E>,
    id: E::Column,
    counting: Counting,
) -> Result<Option<Total>, DbErr> {
    let most = match counting {
        Counting::Skipped => return Ok(None),
        Counting::Bounded => Some(MAX_COUNTED),
        Counting::Exact => None,
    };
    let rows = select.select_only().column(id);
    // Counting one more than the limit shows whether that is all.
    let rows = rows.limit(most.map(|most| most.saturating_add(1))).into_query();
    let count = Query::select()
        .expr(Expr::col(Asterisk).count())
        .from_subquery(rows, Alias::new("counted"))
        .to_owned();
    let count: i64 = match db.query_one(&count).await? {
        Some(row) => row.try_get_by_index(0)?,
        None => 0,
    };
    let count = u64::try_from(count).unwrap_or(0);
    let most = most.unwrap_or(u64::MAX);
    Ok(Some(Total { count: Ord::min(count, most), is_exact: count <= most }))
}

/// A sum of counters, as an integer on both databases; null if there are no rows.
pub(crate) fn sum(column: impl ColumnTrait) -> Expr {
    column.sum().cast_as("bigint")
}

/// An exact total from a counter.
pub(crate) fn counted(counter: Option<i64>) -> Total {
    let count = counter.and_then(|counter| u64::try_from(counter).ok()).unwrap_or(0);
    Total { count, is_exact: true }
}

/// Selects that find at most one row: by a key, or as an aggregate. They avoid SeaORM's `one`,
/// which adds a limit that changes nothing.
pub(crate) trait AtMostOne {
    /// A row.
    type Row;

    /// The row, if it exists.
    async fn only(self, db: &impl ConnectionTrait) -> Result<Option<Self::Row>, DbErr>;
}

impl<E: EntityTrait> AtMostOne for Select<E> {
    type Row = E::Model;

    async fn only(self, db: &impl ConnectionTrait) -> Result<Option<E::Model>, DbErr> {
        Ok(self.all(db).await?.into_iter().next())
    }
}

impl<S: SelectorTrait + Send + Sync> AtMostOne for Selector<S> {
    type Row = S::Item;

    async fn only(self, db: &impl ConnectionTrait) -> Result<Option<S::Item>, DbErr> {
        Ok(self.all(db).await?.into_iter().next())
    }
}

impl<S: SelectorTrait + Send + Sync> AtMostOne for SelectorRaw<S> {
    type Row = S::Item;

    async fn only(self, db: &impl ConnectionTrait) -> Result<Option<S::Item>, DbErr> {
        Ok(self.all(db).await?.into_iter().next())
    }
}

/// A statement that runs repeatedly with other values. Its text is rendered once per database,
/// since rendering costs as much as a small query.
pub(crate) struct Rendered {
    sqlite: OnceLock<String>,
    postgres: OnceLock<String>,
}

impl Rendered {
    pub(crate) const fn new() -> Self {
        Self { sqlite: OnceLock::new(), postgres: OnceLock::new() }
    }

    /// The statement with these values, which are those of `select`, in its order.
    pub(crate) fn with<Q>(
        &self,
        backend: DbBackend,
        values: impl IntoIterator<Item = i64>,
        select: impl FnOnce() -> Q,
    ) -> Statement
    where
        Q: QueryTrait,
    {
        let text = match backend {
            DbBackend::Postgres => &self.postgres,
            _ => &self.sqlite,
        };
        let sql = text.get_or_init(|| select().build(backend).sql);
        Statement::from_sql_and_values(backend, sql.as_str(), values.into_iter().map(Value::from))
    }
}

//! Filters in SQL: the meaning of the domain's tree (`fireflow_domain::filter::eval`), as one
//! condition on a row with its parents, and as *seeds*, queries that an index answers.
//!
//! A condition alone would have a database walk all rows; an index alone is slow if many rows
//! meet it. So a list is read in two phases: the seeds are counted up to [`MAX_CANDIDATES`] in one
//! statement; the ids of the smallest, if it is small enough, become the candidates that the
//! condition is put to; else the list's order is walked, and the condition put to each row.
//! Everything is bound; no text of a user becomes SQL.

mod condition;
mod entry;
mod other;
mod planned;
mod search;
mod seed;
mod traffic;
mod warning;

use fireflow_domain::filter::Expression;
use fireflow_domain::time::Instant;
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend, DbErr};

pub(crate) use condition::{condition, state_rank};
pub(crate) use seed::seeds;

/// The most rows that are looked at one by one because an index named them.
pub(crate) const MAX_CANDIDATES: u64 = 5_000;

/// What the translation depends on beside the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// The database: they name a few functions differently.
    pub(crate) backend: DbBackend,
    /// The time of the question, which decides states.
    pub(crate) now: Instant,
}

impl Dialect {
    pub(crate) const fn of(backend: DbBackend, expression: &Expression) -> Self {
        Self { backend, now: expression.at }
    }

    /// Whether a text holds another, byte for byte.
    fn holds(self, text: Expr, part: &str) -> Expr {
        let position = match self.backend {
            DbBackend::Postgres => "strpos($1, $2) > 0",
            _ => "instr(?, ?) > 0",
        };
        Expr::cust_with_exprs(position, [text, Expr::val(part)])
    }

    /// Whether a text ends with another.
    fn ends_with(self, text: Expr, end: &str) -> Expr {
        let tail = match self.backend {
            DbBackend::Postgres => "right($1, char_length($2)) = $3",
            // Of a shorter text it is the whole.
            _ => "substr(?, -length(?)) = ?",
        };
        Expr::cust_with_exprs(tail, [text, Expr::val(end), Expr::val(end)])
    }

    /// A column that only sifts what another condition has found. SQLite, which knows nothing of how
    /// selective a condition is, would otherwise rather look it up in a covering index than the
    /// rule's own rows in theirs; `+` keeps it from that. PostgreSQL has statistics.
    fn sifting(self, column: Expr) -> Expr {
        match self.backend {
            DbBackend::Postgres => column,
            _ => Expr::cust_with_exprs("+?", [column]),
        }
    }

    /// Whether an id is among many: one parameter, however many there are.
    fn is_among(self, id: Expr, ids: &IdList) -> Expr {
        let among = match self.backend {
            DbBackend::Postgres => "$1 = ANY(CAST($2 AS bigint[]))",
            _ => "? IN (SELECT value FROM json_each(?))",
        };
        Expr::cust_with_exprs(among, [id, Expr::val(ids.0.as_str())])
    }

    /// Whether an id is among those that a query finds, which is run once and first. PostgreSQL
    /// would join instead, and put the rest of the condition to all rows before that: an array is
    /// looked up in the index.
    fn is_among_those_of(self, id: Expr, query: SelectStatement) -> Expr {
        match self.backend {
            DbBackend::Postgres => {
                let query = Expr::SubQuery(None, Box::new(query.into()));
                Expr::cust_with_exprs("$1 = ANY(ARRAY $2)", [id, query])
            }
            _ => id.in_subquery(query),
        }
    }

    /// A text of all ids of a query, as [`Dialect::is_among`] takes it.
    fn gathered(self) -> Expr {
        Expr::cust(match self.backend {
            DbBackend::Postgres => "CAST(coalesce(array_agg(\"id\"), '{}') AS text)",
            _ => "json_group_array(\"id\")",
        })
    }
}

/// Whether a correlated query finds a row. A scalar query instead of EXISTS: neither database turns
/// it into a join over all rows.
fn finds(mut query: SelectStatement) -> Expr {
    let query = query.expr(Expr::cust("1")).limit(1).to_owned();
    Expr::SubQuery(None, Box::new(query.into())).is_not_null()
}

/// A condition that holds for everything, or for nothing.
fn constant(holds: bool) -> Expr {
    Expr::cust(if holds { "1 = 1" } else { "1 = 0" })
}

/// Ids as the database wrote them, and takes them: they go there and back as one text, since
/// thousands of rows cost more on their way than all the rest.
#[derive(Debug)]
pub(crate) struct IdList(String);

/// How a filtered list is read.
#[derive(Debug)]
pub(crate) enum Plan {
    /// The rows are among these.
    Candidates(IdList),
    /// Too many for that, or no index names them: the order is walked. To count all of them, an
    /// index may still be the better way.
    Walk(Option<Box<SelectStatement>>),
}

impl Plan {
    /// Finds out: at most two statements.
    pub(crate) async fn make(
        db: &impl ConnectionTrait,
        dialect: Dialect,
        mut seeds: Vec<SelectStatement>,
        most: u64,
    ) -> Result<Self, DbErr> {
        if seeds.len() > 1 {
            let counts = counts(db, &seeds, most).await?;
            let smallest = counts.iter().enumerate().min_by_key(|(_, count)| **count);
            match smallest {
                Some((index, count)) if *count <= most => seeds = vec![seeds.swap_remove(index)],
                _ => return Ok(Self::Walk(seeds.into_iter().next().map(Box::new))),
            }
        }
        let Some(seed) = seeds.pop() else { return Ok(Self::Walk(None)) };
        let ids = ids(db, dialect, &seed, most).await?;
        match ids {
            Some(ids) => Ok(Self::Candidates(ids)),
            None => Ok(Self::Walk(Some(Box::new(seed)))),
        }
    }

    /// What a row has to meet for a page.
    pub(crate) fn restriction(&self, dialect: Dialect, id: Expr) -> Option<Expr> {
        match self {
            Self::Candidates(ids) => Some(dialect.is_among(id, ids)),
            Self::Walk(_) => None,
        }
    }

    /// What a row has to meet to be counted.
    pub(crate) fn counted(&self, dialect: Dialect, id: Expr) -> Option<Expr> {
        match self {
            Self::Candidates(ids) => Some(dialect.is_among(id, ids)),
            Self::Walk(seed) => seed.clone().map(|seed| dialect.is_among_those_of(id, *seed)),
        }
    }
}

/// How many rows each finds, up to one more than `most`: one statement.
async fn counts(
    db: &impl ConnectionTrait,
    seeds: &[SelectStatement],
    most: u64,
) -> Result<Vec<u64>, DbErr> {
    let mut all = Query::select();
    for seed in seeds {
        let mut some = seed.clone();
        some.limit(most.saturating_add(1));
        let count =
            Query::select().expr(Expr::cust("count(*)")).from_subquery(some, "seed").to_owned();
        all.expr(Expr::SubQuery(None, Box::new(count.into())));
    }
    let Some(row) = db.query_one(&all).await? else { return Ok(Vec::new()) };
    (0..seeds.len())
        .map(|index| row.try_get_by_index::<i64>(index).map(|it| u64::try_from(it).unwrap_or(0)))
        .collect()
}

/// The ids that a seed finds; none where they are more than `most`. A rule is named once for each
/// of its entries, which does no harm.
async fn ids(
    db: &impl ConnectionTrait,
    dialect: Dialect,
    seed: &SelectStatement,
    most: u64,
) -> Result<Option<IdList>, DbErr> {
    let mut some = seed.clone();
    some.limit(most.saturating_add(1));
    let all = Query::select()
        .expr(Expr::cust("count(*)"))
        .expr(dialect.gathered())
        .from_subquery(some, "seed")
        .to_owned();
    let Some(row) = db.query_one(&all).await? else { return Ok(None) };
    let count: i64 = row.try_get_by_index(0)?;
    if u64::try_from(count).is_ok_and(|count| count > most) {
        return Ok(None);
    }
    Ok(Some(IdList(row.try_get_by_index(1)?)))
}

//! Filters in SQL. The domain's tree (`fireflow_domain::filter::eval`) is translated into one
//! condition on a row with its parents, and into *seeds*, which are queries that an index answers.
//!
//! With a condition alone, a database would walk all rules; an index alone is slow if many rules
//! meet it. So a list is read in two phases. One statement counts the seeds, up to
//! [`MAX_CANDIDATES`]. If the smallest seed is small enough, its ids become the candidates that the
//! condition is applied to. Otherwise the list's order is walked, and the condition applied to each
//! row. All values are bound; no text of a user becomes SQL.

mod column;
mod condition;
mod entry;
mod other;
mod planned;
mod search;
mod seed;
mod traffic;
mod warning;

use fireflow_domain::filter::{Expression, FindingTest};
use fireflow_domain::time::Instant;
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, IntoSimpleExpr as _};

use crate::entity::rule;

pub(crate) use condition::{condition, state_rank};
pub(crate) use seed::seeds;

/// The most candidates of an index that are tested one by one.
pub(crate) const MAX_CANDIDATES: u64 = 5_000;

/// The inputs of the translation in addition to the tree.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// The database, since the two name a few functions differently.
    pub(crate) backend: DbBackend,
    /// The time of the query, which decides states.
    pub(crate) now: Instant,
}

impl Dialect {
    pub(crate) const fn of(backend: DbBackend, expression: &Expression) -> Self {
        Self { backend, now: expression.at }
    }

    /// Whether a text contains another, byte for byte.
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
            // If the text is shorter, this is the whole text.
            _ => "substr(?, -length(?)) = ?",
        };
        Expr::cust_with_exprs(tail, [text, Expr::val(end), Expr::val(end)])
    }

    /// A column that only narrows what another condition has found. SQLite does not know how
    /// selective a condition is, and would prefer to look up this column in a covering index; the
    /// `+` prevents that. PostgreSQL has statistics.
    fn sifting(self, column: Expr) -> Expr {
        match self.backend {
            DbBackend::Postgres => column,
            _ => Expr::cust_with_exprs("+?", [column]),
        }
    }

    /// Whether an id is in a list: one parameter, however many ids there are.
    fn is_among(self, id: Expr, ids: &IdList) -> Expr {
        let among = match self.backend {
            DbBackend::Postgres => "$1 = ANY(CAST($2 AS bigint[]))",
            _ => "? IN (SELECT value FROM json_each(?))",
        };
        Expr::cust_with_exprs(among, [id, Expr::val(ids.0.as_str())])
    }

    /// Whether the rule is one of those with the findings of a test.
    fn has_finding(self, test: &FindingTest) -> Expr {
        let ids = test.listed().into_iter().flatten().map(ToString::to_string);
        let ids = ids.collect::<Vec<String>>().join(",");
        let list = match self.backend {
            DbBackend::Postgres => format!("{{{ids}}}"),
            _ => format!("[{ids}]"),
        };
        self.is_among(rule::Column::Id.into_simple_expr(), &IdList(list))
    }

    /// Whether an id is among those that a query finds. The query runs once and first. PostgreSQL
    /// would join instead, and apply the rest of the condition to all rows ahead of the join; an
    /// array is looked up in the index.
    fn is_among_those_of(self, id: Expr, query: SelectStatement) -> Expr {
        match self.backend {
            DbBackend::Postgres => {
                let query = Expr::SubQuery(None, Box::new(query.into()));
                Expr::cust_with_exprs("$1 = ANY(ARRAY $2)", [id, query])
            }
            _ => id.in_subquery(query),
        }
    }

    /// All ids of a query as one text, in the form that [`Dialect::is_among`] takes.
    fn gathered(self) -> Expr {
        Expr::cust(match self.backend {
            DbBackend::Postgres => "CAST(coalesce(array_agg(\"id\"), '{}') AS text)",
            _ => "json_group_array(\"id\")",
        })
    }
}

/// Whether a correlated query finds a row. This is a scalar query instead of EXISTS, since neither
/// database turns it into a join over all rows.
fn finds(mut query: SelectStatement) -> Expr {
    let query = query.expr(Expr::cust("1")).limit(1).to_owned();
    Expr::SubQuery(None, Box::new(query.into())).is_not_null()
}

/// A condition that is true for everything or for nothing.
fn constant(holds: bool) -> Expr {
    Expr::cust(if holds { "1 = 1" } else { "1 = 0" })
}

/// Ids in the database's own text form. They travel there and back as one text, since transferring
/// thousands of rows costs more than all the rest.
#[derive(Debug)]
pub(crate) struct IdList(String);

/// How a filtered list is read.
#[derive(Debug)]
pub(crate) enum Plan {
    /// The rules are among these candidates.
    Candidates(IdList),
    /// There are too many candidates, or no index finds them, so the order is walked. For counting
    /// all rules, an index may still be faster.
    Walk(Option<Box<SelectStatement>>),
}

impl Plan {
    /// Chooses the plan, with at most two statements.
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

    /// The condition that a row of a page must meet.
    pub(crate) fn restriction(&self, dialect: Dialect, id: Expr) -> Option<Expr> {
        match self {
            Self::Candidates(ids) => Some(dialect.is_among(id, ids)),
            Self::Walk(_) => None,
        }
    }

    /// The condition that a counted row must meet.
    pub(crate) fn counted(&self, dialect: Dialect, id: Expr) -> Option<Expr> {
        match self {
            Self::Candidates(ids) => Some(dialect.is_among(id, ids)),
            Self::Walk(seed) => seed.clone().map(|seed| dialect.is_among_those_of(id, *seed)),
        }
    }
}

/// How many rows each seed finds, up to one more than `most`: one statement.
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

/// The ids that a seed finds; `None` if there are more than `most`. A rule occurs once for each of
/// its entries, which is harmless.
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

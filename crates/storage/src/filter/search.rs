//! Search in any case in texts that have no folded form: `fireflow_domain::letters` in SQL.

use std::collections::BTreeSet;

use fireflow_domain::letters;
use sea_orm::sea_query::{Expr, IntoCondition};
use sea_orm::{Condition, DbBackend};

use super::{Dialect, constant};

/// The longest pattern that SQLite takes, in bytes. A text that long is in none of these columns.
const MAX_GLOB_BYTES: usize = 50_000;

/// Whether a text holds another in any case.
pub(super) fn holds_in_any_case(dialect: Dialect, text: &Expr, part: &str) -> Condition {
    letters::spellings(part).iter().fold(Condition::any(), |any, spelling| {
        any.add(match dialect.backend {
            DbBackend::Postgres => translated(dialect, text.clone(), spelling),
            _ => globbed(text.clone(), spelling),
        })
    })
}

/// PostgreSQL's functions for lower case depend on the server's locales. This one writes the plain
/// letter for each letter that is searched for in another case; all others can stay as they are.
fn translated(dialect: Dialect, text: Expr, spelling: &str) -> Expr {
    let (mut from, mut to) = (String::new(), String::new());
    for letter in spelling.chars().collect::<BTreeSet<char>>() {
        for other in letters::others_of(letter) {
            from.push(*other);
            to.push(letter);
        }
    }
    if from.is_empty() {
        return dialect.holds(text, spelling);
    }
    let values = [text, Expr::val(from), Expr::val(to), Expr::val(spelling)];
    Expr::cust_with_exprs("strpos(translate($1, $2, $3), $4) > 0", values)
}

/// SQLite knows the case of ASCII alone, but classes of any letters.
fn globbed(text: Expr, spelling: &str) -> Expr {
    let mut pattern = String::from("*");
    for letter in spelling.chars() {
        let others = letters::others_of(letter);
        if others.is_empty() && !matches!(letter, '*' | '?' | '[') {
            pattern.push(letter);
        } else {
            pattern.push('[');
            pattern.push(letter);
            pattern.extend(others);
            pattern.push(']');
        }
    }
    pattern.push('*');
    if pattern.len() > MAX_GLOB_BYTES {
        return constant(false);
    }
    Expr::cust_with_exprs("? GLOB ?", [text, Expr::val(pattern)])
}

/// The folded column, or the text itself letter by letter.
pub(super) fn searched(
    dialect: Dialect,
    folded: Option<Expr>,
    text: &Expr,
    part: &str,
) -> Condition {
    match folded {
        Some(folded) => dialect.holds(folded, &fireflow_domain::text::fold(part)).into_condition(),
        None => holds_in_any_case(dialect, text, part),
    }
}

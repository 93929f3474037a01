//! Translates a filter into one condition on a row that is joined with its parents.

use fireflow_domain::filter::Filter;
use fireflow_domain::filter::tree::{
    LabelTest, Level, Logic, Ordered, Pattern, PortTest, Test, TextField, TextTest,
};
use fireflow_domain::net::Protocol;
use fireflow_domain::rule::RuleState;
use fireflow_domain::sort;
use fireflow_domain::time::Instant;
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, IntoCondition, Query, Value};
use sea_orm::{ColumnTrait, Condition, IntoSimpleExpr};

use super::column::{self, FieldColumn};
use super::entry::{port_fits, some_entry};
use super::search::searched;
use super::traffic::meets_traffic;
use super::warning::warning;
use super::{Dialect, constant, finds};
use crate::entity::{audit_event, firewall, label, policy, rule, rule_port};

/// The filter on a row of its level. Every part of it is true or false, never null, so that NOT is
/// plain negation.
pub(crate) fn condition(dialect: Dialect, filter: &Filter) -> Condition {
    logic(&filter.condition, &|test| one(dialect, test))
}

/// Combines the conditions of the tests.
pub(super) fn logic<T>(tree: &Logic<T>, test: &dyn Fn(&T) -> Condition) -> Condition {
    match tree {
        Logic::All(parts) => {
            parts.iter().fold(Condition::all(), |all, part| all.add(logic(part, test)))
        }
        Logic::Any(parts) => {
            parts.iter().fold(Condition::any(), |any, part| any.add(logic(part, test)))
        }
        Logic::Not(part) => logic(part, test).not(),
        Logic::Is(one) => test(one),
    }
}

fn one(dialect: Dialect, test: &Test) -> Condition {
    match test {
        Test::Number(field, test) => {
            let column = column::number(*field).column;
            ordered(column, field.is_nullable(), test, |number| (*number).into())
        }
        Test::Instant(field, test) => {
            let column = column::instant(*field).column;
            ordered(column, field.is_nullable(), test, |moment| {
                moment.at(dialect.now).micros().into()
            })
        }
        Test::Text(field, test) => text(dialect, *field, test),
        Test::Flag(field, wanted) => {
            let column = column::flag(*field).column;
            present(column.clone(), field.is_nullable(), column.eq(*wanted))
        }
        Test::Action(field, actions) => {
            let words = actions.iter().map(|action| action.as_str());
            let column = column::action(*field).column;
            present(column.clone(), field.is_nullable(), column.is_in(words))
        }
        Test::State(states) => states
            .iter()
            .fold(Condition::any(), |any, state| any.add(in_state(dialect.now, *state))),
        Test::Warning(wanted) => warning(dialect, wanted.as_deref()),
        Test::Finding(test) => {
            let listed = dialect.has_finding(test);
            if test.kinds.is_none() { listed.not() } else { listed }.into_condition()
        }
        Test::AuditAction(actions) => {
            audit_event::Column::Action.is_in(actions.iter().map(|it| it.as_str())).into_condition()
        }
        Test::Resource(kinds) => {
            audit_event::Column::Resource.is_in(kinds.iter().map(|it| it.as_str())).into_condition()
        }
        Test::Label(level, key, test) => label_test(dialect, *level, key, test),
        Test::Protocol(None) => rule::Column::Protocols.eq(EMPTY).into_condition(),
        Test::Protocol(Some(listed)) => {
            listed.iter().fold(Condition::any(), |any, protocol| any.add(lists(dialect, *protocol)))
        }
        Test::Ports(PortTest::Absent) => rule::Column::Ports.eq(EMPTY).into_condition(),
        Test::Ports(PortTest::Range(test)) => {
            let sifting = |column: rule_port::Column| dialect.sifting(column.into_simple_expr());
            let bounds = (sifting(rule_port::Column::Lo), sifting(rule_port::Column::Hi));
            let mut query = Query::select();
            query
                .from(rule_port::Entity)
                .and_where(rule_port::Column::RuleId.into_expr().eq(rule::Column::Id.into_expr()))
                .and_where(port_fits(test, &bounds));
            let mut any = Condition::any().add(finds(query));
            if super::entry::fits_every_port(test) {
                any = any.add(rule::Column::Ports.eq(EMPTY));
            }
            any
        }
        Test::Entry(side, condition) => some_entry(dialect, *side, condition).into_condition(),
        Test::Traffic(traffic) => meets_traffic(dialect, traffic),
    }
}

/// The JSON of an empty list in a column.
pub(super) const EMPTY: &str = "[]";

/// Whether a rule lists a protocol. The column contains the protocols in canonical spelling, each
/// in quotes.
pub(super) fn lists(dialect: Dialect, protocol: Protocol) -> Expr {
    dialect.holds(rule::Column::Protocols.into_simple_expr(), &format!("\"{protocol}\""))
}

/// A test of a column that has an order.
fn ordered<T>(
    column: Expr,
    is_nullable: bool,
    test: &Ordered<T>,
    value: impl Fn(&T) -> Value,
) -> Condition {
    let compared = match test {
        Ordered::Absent => return column.is_null().into_condition(),
        Ordered::OneOf(wanted) => match wanted.as_slice() {
            [only] => column.clone().eq(value(only)),
            _ => column.clone().is_in(wanted.iter().map(value)),
        },
        Ordered::Less(bound) => column.clone().lt(value(bound)),
        Ordered::AtMost(bound) => column.clone().lte(value(bound)),
        Ordered::Greater(bound) => column.clone().gt(value(bound)),
        Ordered::AtLeast(bound) => column.clone().gte(value(bound)),
    };
    present(column, is_nullable, compared)
}

/// A comparison that is false if the column is null.
fn present(column: Expr, is_nullable: bool, compared: impl IntoCondition) -> Condition {
    let all = Condition::all().add(compared.into_condition());
    if is_nullable { all.add(column.is_not_null()) } else { all }
}

fn text(dialect: Dialect, field: TextField, test: &TextTest) -> Condition {
    let FieldColumn { column, folded, is_indexed: _ } = column::text(field);
    match test {
        TextTest::Absent => column.is_null().into_condition(),
        TextTest::OneOf(patterns) => {
            let fits = one_pattern(dialect, &column, patterns);
            present(column, field.is_nullable(), fits)
        }
        TextTest::Holds(part) => {
            let holds = searched(dialect, folded, &column, part);
            present(column, field.is_nullable(), holds)
        }
    }
}

/// Whether at least one pattern fits.
pub(super) fn one_pattern(dialect: Dialect, column: &Expr, patterns: &[Pattern]) -> Condition {
    patterns.iter().fold(Condition::any(), |any, pattern| {
        any.add(match pattern {
            Pattern::Exact(text) => column.clone().eq(text.as_str()).into_condition(),
            Pattern::Prefix(prefix) => starts_with(column, prefix),
            Pattern::Suffix(end) => dialect.ends_with(column.clone(), end).into_condition(),
            Pattern::Infix(part) => dialect.holds(column.clone(), part).into_condition(),
        })
    })
}

/// A prefix as a range that an index can answer. Both databases compare texts byte by byte, which
/// in UTF-8 is by code point.
fn starts_with(column: &Expr, prefix: &str) -> Condition {
    if prefix.is_empty() {
        return constant(true).into_condition();
    }
    let from = Condition::all().add(column.clone().gte(prefix));
    match behind_all_with(prefix) {
        Some(end) => from.add(column.clone().lt(end)),
        None => from,
    }
}

/// The smallest text above all texts that begin with a prefix; `None` if there is none.
fn behind_all_with(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

/// The place of a rule's state in the order of states.
pub(crate) fn state_rank(at: Instant) -> Expr {
    RuleState::ALL
        .into_iter()
        .fold(CaseStatement::new(), |case, state| {
            // Literals: the type of a parameter in CASE would be a guess.
            case.case(in_state(at, state), Expr::cust(sort::state_rank(state).to_string()))
        })
        .into()
}

fn in_state(at: Instant, state: RuleState) -> Condition {
    let now = at.micros();
    let enabled = rule::Column::Enabled.eq(true);
    let (starts, expires) = (rule::Column::StartsAt, rule::Column::ExpiresAt);
    let is_over = Condition::all().add(expires.is_not_null()).add(expires.lte(now));
    let is_before = Condition::all().add(starts.is_not_null()).add(starts.gt(now));
    match state {
        RuleState::Disabled => rule::Column::Enabled.eq(false).into_condition(),
        RuleState::Expired => Condition::all().add(enabled).add(is_over),
        RuleState::Scheduled => Condition::all().add(enabled).add(is_before).add(is_over.not()),
        RuleState::Active => Condition::all().add(enabled).add(is_before.not()).add(is_over.not()),
    }
}

fn label_test(dialect: Dialect, level: Level, key: &str, test: &LabelTest) -> Condition {
    macro_rules! of {
        ($module:ident, $owner:expr) => {{
            use label::$module::{Column, Entity};
            let mut query = Query::select();
            query
                .from(Entity)
                .and_where(Column::OwnerId.into_expr().eq($owner))
                .and_where(Column::Key.eq(key));
            (query, Column::Value.into_simple_expr())
        }};
    }
    let (mut query, value) = match level {
        Level::Firewall => of!(of_firewall, firewall::Column::Id.into_expr()),
        Level::Policy => of!(of_policy, policy::Column::Id.into_expr()),
        Level::Rule => of!(of_rule, rule::Column::Id.into_expr()),
        // The parser allows no such test of events.
        Level::Event => return constant(false).into_condition(),
    };
    match test {
        LabelTest::Present => finds(query).into_condition(),
        LabelTest::Absent => finds(query).into_condition().not(),
        LabelTest::OneOf(patterns) => {
            query.cond_where(one_pattern(dialect, &value, patterns));
            finds(query).into_condition()
        }
        LabelTest::Holds(part) => {
            query.cond_where(searched(dialect, None, &value, part));
            finds(query).into_condition()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_behind_a_prefix() {
        for (prefix, end) in
            [("a", Some("b")), ("edge-", Some("edge.")), ("\u{d7ff}", Some("\u{e000}"))]
        {
            assert_eq!(behind_all_with(prefix).as_deref(), end);
        }
        assert_eq!(behind_all_with("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(behind_all_with("\u{10ffff}"), None);
    }
}

//! Seeds of filters on firewalls, policies and audit events: ids by columns of their own that have an
//! index, and of policies by those of their firewalls.

use fireflow_domain::filter::Filter;
use fireflow_domain::filter::tree::{LabelTest, Level, Logic, Ordered, Test, TextTest};
use sea_orm::sea_query::{Expr, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition};

use super::condition::one_pattern;
use super::seed::is_range;
use super::{Dialect, column, condition};
use crate::entity::{audit_event, firewall, label, policy, rule};

/// The seed of a test in a list of a level, if an index answers it.
pub(super) fn of_test(dialect: Dialect, level: Level, test: &Test) -> Vec<SelectStatement> {
    let own = match test {
        Test::Label(owner, key, test) => {
            label_owners(dialect, *owner, key, test).map(|ids| (*owner, ids))
        }
        test => indexed(test).map(|owner| (owner, ids(dialect, owner, Logic::Is(test.clone())))),
    };
    match own {
        Some((owner, ids)) if owner == level => vec![ids],
        Some((Level::Firewall, firewalls)) if level == Level::Policy => {
            vec![policies_of(firewalls)]
        }
        Some(_) | None => Vec::new(),
    }
}

/// The ids of the live policies of some firewalls.
pub(super) fn policies_of(firewalls: SelectStatement) -> SelectStatement {
    live(Level::Policy).and_where(policy::Column::FirewallId.in_subquery(firewalls)).to_owned()
}

/// The ids of all live resources of a level; of all events.
pub(super) fn live(level: Level) -> SelectStatement {
    let mut query = Query::select();
    match level {
        Level::Firewall => query
            .expr_as(firewall::Column::Id.into_expr(), "id")
            .from(firewall::Entity)
            .and_where(firewall::Column::DeletedAt.is_null()),
        Level::Policy => query
            .expr_as(policy::Column::Id.into_expr(), "id")
            .from(policy::Entity)
            .and_where(policy::Column::DeletedAt.is_null()),
        Level::Rule => query
            .expr_as(rule::Column::Id.into_expr(), "id")
            .from(rule::Entity)
            .and_where(rule::Column::DeletedAt.is_null()),
        Level::Event => {
            query.expr_as(audit_event::Column::Id.into_expr(), "id").from(audit_event::Entity)
        }
    };
    query
}

/// The ids of what a condition fits, on columns of a level's own.
pub(super) fn ids(dialect: Dialect, level: Level, tests: Logic<Test>) -> SelectStatement {
    live(level).cond_where(condition(dialect, &Filter { level, condition: tests })).to_owned()
}

/// The level whose index answers a test of one of its columns, if there is such an index.
pub(super) fn indexed(test: &Test) -> Option<Level> {
    let (column, level) = match test {
        Test::Number(_, Ordered::Absent) | Test::Instant(_, Ordered::Absent) => return None,
        Test::Number(field, _) => (column::number(*field), field.level()),
        Test::Instant(field, _) => (column::instant(*field), field.level()),
        Test::Text(field, TextTest::OneOf(patterns)) if patterns.iter().all(is_range) => {
            (column::text(*field), field.level())
        }
        Test::AuditAction(_) | Test::Resource(_) => return Some(Level::Event),
        // Flags and actions have too few values for an index.
        Test::Flag(..)
        | Test::Action(..)
        | Test::Text(..)
        | Test::Label(..)
        | Test::State(_)
        | Test::Warning(_)
        | Test::Finding(_)
        | Test::Protocol(_)
        | Test::Ports(_)
        | Test::Entry(..)
        | Test::Traffic(_) => return None,
    };
    column.is_indexed.then_some(level)
}

/// Those that have a label.
pub(super) fn label_owners(
    dialect: Dialect,
    owner: Level,
    key: &str,
    test: &LabelTest,
) -> Option<SelectStatement> {
    macro_rules! of {
        ($module:ident) => {{
            use label::$module::{Column, Entity};
            let mut query = Query::select();
            query
                .expr_as(Column::OwnerId.into_expr(), "id")
                .from(Entity)
                .and_where(Column::Key.eq(key));
            (query, Column::Value.into_expr())
        }};
    }
    let (mut query, value): (_, Expr) = match owner {
        Level::Firewall => of!(of_firewall),
        Level::Policy => of!(of_policy),
        Level::Rule => of!(of_rule),
        Level::Event => return None,
    };
    match test {
        LabelTest::Absent => None,
        // The condition checks the part of the value that no index covers.
        LabelTest::Present | LabelTest::Holds(_) => Some(query),
        LabelTest::OneOf(patterns) => {
            if patterns.iter().all(is_range) {
                query.cond_where(Condition::all().add(one_pattern(dialect, &value, patterns)));
            }
            Some(query)
        }
    }
}

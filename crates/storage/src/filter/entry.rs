//! Tests of a rule's sources and destinations, on the rows that are derived from them.

use fireflow_domain::filter::tree::{EntryTest, Logic, PortTest, RangeTest, Side};
use fireflow_domain::net::{AddressRange, PortRange};
use sea_orm::sea_query::{Expr, ExprTrait, IntoCondition, Query, SelectStatement};
use sea_orm::{ColumnTrait, Condition, IntoSimpleExpr};

use super::condition::logic;
use super::{Dialect, constant, finds};
use crate::entity::rule_address::Column as Address;
use crate::entity::rule_port::Column as Port;
use crate::entity::{rule, rule_address, rule_port};
use crate::index::{AddressKey, address_keys};

/// Whether an entry of the rule meets the whole condition, with one of the port ranges in effect
/// for it.
pub(super) fn some_entry(dialect: Dialect, side: Side, condition: &Logic<EntryTest>) -> Expr {
    let mut query = entries_of(dialect, side);
    let ports = if asks_for_ports(condition) && side == Side::Destination {
        // One row for each of the rule's ports, if the entry names none of its own.
        query.left_join(
            rule_port::Entity,
            Condition::all()
                .add(Port::RuleId.into_expr().eq(Address::RuleId.into_expr()))
                .add(Address::PortLo.is_null()),
        );
        let effective = |own: Address, inherited: Port, every: u16| {
            coalesce([own.into_simple_expr(), inherited.into_simple_expr(), port_value(every)])
        };
        (
            effective(Address::PortLo, Port::Lo, PortRange::ALL.first()),
            effective(Address::PortHi, Port::Hi, PortRange::ALL.last()),
        )
    } else {
        let effective =
            |own: Address, every: u16| coalesce([own.into_simple_expr(), port_value(every)]);
        (
            effective(Address::PortLo, PortRange::ALL.first()),
            effective(Address::PortHi, PortRange::ALL.last()),
        )
    };
    query.cond_where(logic(condition, &|test| match test {
        EntryTest::Address(test) => address_fits(test),
        EntryTest::Port(PortTest::Absent) => Address::PortLo.is_null().into_condition(),
        EntryTest::Port(PortTest::Range(test)) => port_fits(test, &ports).into_condition(),
    }));
    finds(query)
}

/// The rows of one side of the current rule.
pub(super) fn entries_of(dialect: Dialect, side: Side) -> SelectStatement {
    Query::select()
        .from(rule_address::Entity)
        .and_where(Address::RuleId.into_expr().eq(rule::Column::Id.into_expr()))
        .and_where(dialect.sifting(Address::Side.into_simple_expr()).eq(rule_address::letter(side)))
        .to_owned()
}

fn asks_for_ports(condition: &Logic<EntryTest>) -> bool {
    match condition {
        Logic::All(parts) | Logic::Any(parts) => parts.iter().any(asks_for_ports),
        Logic::Not(part) => asks_for_ports(part),
        Logic::Is(EntryTest::Port(PortTest::Range(_))) => true,
        Logic::Is(EntryTest::Port(PortTest::Absent) | EntryTest::Address(_)) => false,
    }
}

fn coalesce<const N: usize>(values: [Expr; N]) -> Expr {
    sea_orm::sea_query::Func::coalesce(values).into()
}

/// A port as a literal: as a parameter of COALESCE it would have no type on PostgreSQL.
fn port_value(port: u16) -> Expr {
    Expr::cust(port.to_string())
}

/// A test of one row. `any` has a row in each family, and both rows give the same result, so that
/// NOT applies to the entry.
fn address_fits(test: &RangeTest<AddressRange>) -> Condition {
    let of_any = || Address::OfAny.eq(true);
    match test {
        RangeTest::OneOf(ranges) => {
            ranges.iter().fold(Condition::any(), |any, range| any.add(is_range(*range)))
        }
        RangeTest::Within(range) => match bounds(*range) {
            None => constant(true).into_condition(),
            Some(AddressKey { lo, hi, .. }) => Condition::all()
                .add(Address::OfAny.eq(false))
                .add(Address::Lo.gte(lo))
                .add(Address::Hi.lte(hi)),
        },
        RangeTest::Contains(range) => match bounds(*range) {
            None => of_any().into_condition(),
            Some(AddressKey { lo, hi, .. }) => Condition::any()
                .add(of_any())
                .add(Condition::all().add(Address::Lo.lte(lo)).add(Address::Hi.gte(hi))),
        },
        RangeTest::Overlaps(range) => match bounds(*range) {
            None => constant(true).into_condition(),
            Some(AddressKey { lo, hi, .. }) => Condition::any()
                .add(of_any())
                .add(Condition::all().add(Address::Lo.lte(hi)).add(Address::Hi.gte(lo))),
        },
    }
}

fn is_range(range: AddressRange) -> Condition {
    match bounds(range) {
        None => Address::OfAny.eq(true).into_condition(),
        Some(AddressKey { lo, hi, .. }) => Condition::all()
            .add(Address::OfAny.eq(false))
            .add(Address::Lo.eq(lo))
            .add(Address::Hi.eq(hi)),
    }
}

/// The key of a range in one family; `None` for `any`.
pub(super) fn bounds(range: AddressRange) -> Option<AddressKey> {
    match range {
        AddressRange::Any => None,
        AddressRange::V4 { .. } | AddressRange::V6 { .. } => address_keys(range).pop(),
    }
}

/// A test of ports between two bounds.
pub(super) fn port_fits(test: &RangeTest<PortRange>, (lo, hi): &(Expr, Expr)) -> Expr {
    let (lo, hi) = (lo.clone(), hi.clone());
    let [first, last]: [fn(&PortRange) -> i32; 2] =
        [|range| range.first().into(), |range| range.last().into()];
    match test {
        RangeTest::OneOf(ranges) => ranges
            .iter()
            .map(|range| lo.clone().eq(first(range)).and(hi.clone().eq(last(range))))
            .reduce(Expr::or)
            .unwrap_or_else(|| constant(false)),
        RangeTest::Within(range) => lo.gte(first(range)).and(hi.lte(last(range))),
        RangeTest::Contains(range) => lo.lte(first(range)).and(hi.gte(last(range))),
        RangeTest::Overlaps(range) => lo.lte(last(range)).and(hi.gte(first(range))),
    }
}

/// Whether the test holds for every port, which is in effect if none is written.
pub(super) fn fits_every_port(test: &RangeTest<PortRange>) -> bool {
    match test {
        RangeTest::OneOf(ranges) => ranges.contains(&PortRange::ALL),
        RangeTest::Within(range) => *range == PortRange::ALL,
        RangeTest::Contains(_) | RangeTest::Overlaps(_) => true,
    }
}

//! Seeds of a filter on rules: queries for rule ids that an index answers. Each finds all rules
//! that the filter can fit, and possibly others.

use fireflow_domain::filter::tree::{
    EntryTest, InstantField, LabelTest, Level, Logic, Ordered, Pattern, PortTest, RangeTest, Side,
    Test, Traffic,
};
use fireflow_domain::filter::{Filter, Moment};
use fireflow_domain::net::{AddressRange, PortRange};
use fireflow_domain::rule::WarningCode;
use sea_orm::sea_query::{Expr, ExprTrait, Query, SelectStatement, UnionType};
use sea_orm::{ColumnTrait, Condition};

use super::condition::EMPTY;
use super::entry::{bounds, fits_every_port};
use super::{Dialect, column, other};
use crate::entity::rule_address::Column as Address;
use crate::entity::rule_port::Column as Port;
use crate::entity::{rule, rule_address, rule_port};
use crate::index::{address_ancestors, address_keys, port_ancestors, port_key};

/// The seeds of the filter's conjuncts; empty if no index helps.
pub(crate) fn seeds(dialect: Dialect, filter: &Filter) -> Vec<SelectStatement> {
    let level = filter.level;
    let of_test = |test: &Test| match level {
        Level::Rule => of_test(dialect, test),
        Level::Firewall | Level::Policy | Level::Event => other::of_test(dialect, level, test),
    };
    of_logic(&filter.condition, &of_test, &|parts| of_ranges(dialect, level, parts))
}

/// The seeds of a tree. AND has every seed of every part, and those of parts combined. OR has the
/// union of one seed of each part. NOT has none.
fn of_logic<T>(
    tree: &Logic<T>,
    of_test: &dyn Fn(&T) -> Vec<SelectStatement>,
    of_all: &dyn Fn(&[Logic<T>]) -> Vec<SelectStatement>,
) -> Vec<SelectStatement> {
    match tree {
        Logic::All(parts) => {
            let mut seeds = of_all(parts);
            seeds.extend(parts.iter().flat_map(|part| of_logic(part, of_test, of_all)));
            seeds
        }
        Logic::Any(parts) => {
            let one = |part| of_logic(part, of_test, of_all).into_iter().next();
            let each: Option<Vec<SelectStatement>> = parts.iter().map(one).collect();
            each.and_then(union).into_iter().collect()
        }
        Logic::Not(_) => Vec::new(),
        Logic::Is(test) => of_test(test),
    }
}

/// Pairs of bounds on one instant: each bound alone may hold for half of all rules, both together
/// only for a few.
fn of_ranges(dialect: Dialect, level: Level, parts: &[Logic<Test>]) -> Vec<SelectStatement> {
    let mut seeds = Vec::new();
    let is_indexed = |field: InstantField| column::instant(field).is_indexed;
    for field in InstantField::ALL.iter().filter(|it| it.level() == level && is_indexed(**it)) {
        let bounds: Vec<Logic<Test>> = parts
            .iter()
            .filter(|part| match part {
                Logic::Is(Test::Instant(of, test)) => of == field && *test != Ordered::Absent,
                Logic::Is(_) | Logic::All(_) | Logic::Any(_) | Logic::Not(_) => false,
            })
            .cloned()
            .collect();
        if bounds.len() > 1 {
            seeds.push(other::ids(dialect, level, Logic::All(bounds)));
        }
    }
    seeds
}

fn union(parts: Vec<SelectStatement>) -> Option<SelectStatement> {
    let mut parts = parts.into_iter();
    let mut all = parts.next()?;
    for part in parts {
        all.union(UnionType::All, part);
    }
    // Wrapped in a subquery, so that a limit applies to the whole union.
    Some(Query::select().column("id").from_subquery(all, "part").to_owned())
}

fn of_test(dialect: Dialect, test: &Test) -> Vec<SelectStatement> {
    match test {
        Test::Label(Level::Rule, key, test) => {
            other::label_owners(dialect, Level::Rule, key, test).into_iter().collect()
        }
        // That these have expired is a bound of an instant; the others have no index.
        Test::Warning(Some(codes)) if codes.iter().all(|it| *it == WarningCode::Expired) => {
            let is_over = Ordered::AtMost(Moment::FromNow(0));
            vec![of_rules(dialect, Logic::Is(Test::Instant(InstantField::ExpiresAt, is_over)))]
        }
        Test::Label(level, _, LabelTest::Present) => of_parents(dialect, *level, test),
        Test::Label(level, _, LabelTest::OneOf(patterns)) if patterns.iter().all(is_range) => {
            of_parents(dialect, *level, test)
        }
        Test::Ports(PortTest::Range(test)) => union(written_ports(test)).into_iter().collect(),
        Test::Entry(side, condition) => {
            of_logic(condition, &|test| of_entry(*side, test), &|_| Vec::new())
        }
        Test::Traffic(traffic) => of_traffic(traffic),
        Test::Number(..)
        | Test::Instant(..)
        | Test::Text(..)
        | Test::Flag(..)
        | Test::Action(..)
        | Test::AuditAction(_)
        | Test::Resource(_) => match other::indexed(test) {
            Some(Level::Rule) => vec![of_rules(dialect, Logic::Is(test.clone()))],
            Some(level) => of_parents(dialect, level, test),
            None => Vec::new(),
        },
        Test::Finding(test) if test.kinds.is_some() => {
            vec![other::live(Level::Rule).and_where(dialect.has_finding(test)).to_owned()]
        }
        Test::Label(..)
        | Test::State(..)
        | Test::Warning(_)
        | Test::Finding(_)
        | Test::Protocol(_)
        | Test::Ports(PortTest::Absent) => Vec::new(),
    }
}

/// Whether a b-tree can find the pattern.
pub(super) fn is_range(pattern: &Pattern) -> bool {
    match pattern {
        Pattern::Exact(_) => true,
        Pattern::Prefix(prefix) => !prefix.is_empty(),
        Pattern::Suffix(_) | Pattern::Infix(_) => false,
    }
}

/// A seed on columns of the rules themselves.
fn of_rules(dialect: Dialect, condition: Logic<Test>) -> SelectStatement {
    other::ids(dialect, Level::Rule, condition)
}

/// All rules of the policies, or of the firewalls' policies, that a test fits.
fn of_parents(dialect: Dialect, level: Level, test: &Test) -> Vec<SelectStatement> {
    let fitting = || other::ids(dialect, level, Logic::Is(test.clone()));
    let policies = match level {
        Level::Policy => fitting(),
        Level::Firewall => other::policies_of(fitting()),
        Level::Rule | Level::Event => return Vec::new(),
    };
    let of_policies = rule::Column::PolicyId.in_subquery(policies);
    vec![other::live(Level::Rule).and_where(of_policies).to_owned()]
}

fn of_traffic(traffic: &Traffic) -> Vec<SelectStatement> {
    let sides = [
        (Side::Source, traffic.source, traffic.source_port),
        (Side::Destination, traffic.destination, traffic.destination_port),
    ];
    let mut seeds = Vec::new();
    for (side, address, port) in sides {
        if let Some(address) = address {
            seeds.extend(of_address(side, &RangeTest::Overlaps(address)));
        }
        if let (Side::Destination, Some(port)) = (side, port) {
            seeds.extend(of_effective_ports(&RangeTest::Overlaps(port)));
        }
    }
    seeds
}

fn of_entry(side: Side, test: &EntryTest) -> Vec<SelectStatement> {
    match (side, test) {
        (_, EntryTest::Address(test)) => of_address(side, test).into_iter().collect(),
        (Side::Destination, EntryTest::Port(PortTest::Range(test))) => {
            of_effective_ports(test).into_iter().collect()
        }
        (Side::Source, EntryTest::Port(PortTest::Range(test))) => {
            of_source_ports(test).into_iter().collect()
        }
        (_, EntryTest::Port(PortTest::Absent)) => Vec::new(),
    }
}

fn rows_of(side: Side) -> SelectStatement {
    Query::select()
        .expr_as(Address::RuleId.into_expr(), "id")
        .from(rule_address::Entity)
        .and_where(Address::Side.eq(rule_address::letter(side)))
        .to_owned()
}

/// A seed by address. WITHIN and OVERLAPS of `any` hold for everything.
fn of_address(side: Side, test: &RangeTest<AddressRange>) -> Option<SelectStatement> {
    match test {
        RangeTest::OneOf(ranges) => {
            // The rows of `any` in one family equal those of `0.0.0.0/0`; the condition
            // distinguishes them.
            let exact = |range: &AddressRange| {
                let key = address_keys(*range).into_iter().next()?;
                let rows = rows_of(side)
                    .and_where(Address::Lo.eq(key.lo))
                    .and_where(Address::Hi.eq(key.hi))
                    .to_owned();
                Some(rows)
            };
            union(ranges.iter().map(exact).collect::<Option<_>>()?)
        }
        RangeTest::Within(range) => {
            let key = bounds(*range)?;
            let query = rows_of(side)
                .and_where(Address::Lo.gte(key.lo))
                .and_where(Address::Lo.lte(key.hi.clone()))
                .and_where(Address::Hi.lte(key.hi))
                .to_owned();
            Some(query)
        }
        RangeTest::Contains(AddressRange::Any) => {
            of_address(side, &RangeTest::OneOf(vec![AddressRange::Any]))
        }
        RangeTest::Contains(range) => holding(side, *range),
        RangeTest::Overlaps(range) => {
            let key = bounds(*range)?;
            let inside = rows_of(side)
                .and_where(Address::Lo.gt(key.lo.clone()))
                .and_where(Address::Lo.lte(key.hi))
                .to_owned();
            union(vec![holding(side, first_of(*range))?, inside])
        }
    }
}

/// The range that consists of a range's first address.
fn first_of(range: AddressRange) -> AddressRange {
    match range {
        AddressRange::Any => AddressRange::Any,
        AddressRange::V4 { first, .. } => AddressRange::V4 { first, last: first },
        AddressRange::V6 { first, .. } => AddressRange::V6 { first, last: first },
    }
}

/// Entries that contain a whole range: the fork of each is a block around the range's own fork.
fn holding(side: Side, range: AddressRange) -> Option<SelectStatement> {
    let key = bounds(range)?;
    let query = rows_of(side)
        .and_where(Address::Fork.is_in(address_ancestors(&key)))
        .and_where(Address::Lo.lte(key.lo))
        .and_where(Address::Hi.gte(key.hi))
        .to_owned();
    Some(query)
}

/// A test of ports on two columns and their fork, as separate ranges of indexes: with OR between
/// them, SQLite reads all rows.
fn port_ranges(test: &RangeTest<PortRange>, fork: &Expr, lo: &Expr, hi: &Expr) -> Vec<Condition> {
    let holding = |first: u16, last: u16| {
        let key = PortRange::new(first, last).ok().map(port_key)?;
        let condition = Condition::all()
            .add(fork.clone().is_in(port_ancestors(key)))
            .add(lo.clone().lte(key.lo))
            .add(hi.clone().gte(key.hi));
        Some(condition)
    };
    let beginning = |from: i32, to: u16| lo.clone().between(from, i32::from(to));
    match test {
        RangeTest::OneOf(ranges) => ranges
            .iter()
            .map(|range| {
                let key = port_key(*range);
                Condition::all()
                    .add(fork.clone().eq(key.fork))
                    .add(lo.clone().eq(key.lo))
                    .add(hi.clone().eq(key.hi))
            })
            .collect(),
        RangeTest::Within(range) => vec![
            Condition::all()
                .add(beginning(range.first().into(), range.last()))
                .add(hi.clone().lte(i32::from(range.last()))),
        ],
        RangeTest::Contains(range) => holding(range.first(), range.last()).into_iter().collect(),
        RangeTest::Overlaps(range) => {
            let mut parts: Vec<Condition> =
                holding(range.first(), range.first()).into_iter().collect();
            if range.first() < range.last() {
                let behind = i32::from(range.first()) + 1;
                parts.push(Condition::all().add(beginning(behind, range.last())));
            }
            parts
        }
    }
}

fn own_ports(side: Side, test: &RangeTest<PortRange>) -> Vec<SelectStatement> {
    port_ranges(
        test,
        &Address::PortFork.into_expr(),
        &Address::PortLo.into_expr(),
        &Address::PortHi.into_expr(),
    )
    .into_iter()
    .map(|range| rows_of(side).cond_where(range).to_owned())
    .collect()
}

/// Most sources name no port, and then every port is in effect: an index only helps if the test
/// does not fit every port.
fn of_source_ports(test: &RangeTest<PortRange>) -> Option<SelectStatement> {
    if fits_every_port(test) { None } else { union(own_ports(Side::Source, test)) }
}

/// The rules whose own `ports` fit, and if the test fits every port, those without `ports`.
fn written_ports(test: &RangeTest<PortRange>) -> Vec<SelectStatement> {
    let ranges =
        port_ranges(test, &Port::Fork.into_expr(), &Port::Lo.into_expr(), &Port::Hi.into_expr());
    let mut parts: Vec<SelectStatement> = ranges
        .into_iter()
        .map(|range| {
            Query::select()
                .expr_as(Port::RuleId.into_expr(), "id")
                .from(rule_port::Entity)
                .cond_where(range)
                .to_owned()
        })
        .collect();
    if fits_every_port(test) {
        parts.push(
            Query::select()
                .expr_as(rule::Column::Id.into_expr(), "id")
                .from(rule::Entity)
                .and_where(rule::Column::DeletedAt.is_null())
                .and_where(rule::Column::Ports.eq(EMPTY))
                .to_owned(),
        );
    }
    parts
}

/// The ports in effect at a destination: its own, otherwise the rule's, otherwise every port.
fn of_effective_ports(test: &RangeTest<PortRange>) -> Option<SelectStatement> {
    let mut parts = own_ports(Side::Destination, test);
    parts.extend(written_ports(test));
    union(parts)
}

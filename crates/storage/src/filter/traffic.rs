//! `traffic:(…)`: whether a rule matches some packet of a set.
//!
//! Sources and destinations are independent of each other once the packet's family and the kind of
//! its protocol are fixed (with ports, ICMP, or neither). The test is therefore a union over
//! families and kinds.

use fireflow_domain::filter::tree::{RangeTest, Side, Traffic};
use fireflow_domain::net::{AddressRange, Family, PortRange, Protocol};
use sea_orm::sea_query::{Expr, ExprTrait, IntoCondition, Query};
use sea_orm::{ColumnTrait, Condition, IntoSimpleExpr};

use super::condition::{EMPTY, lists};
use super::entry::{bounds, entries_of, port_fits};
use super::{Dialect, constant, finds};
use crate::entity::rule_address::Column as Address;
use crate::entity::rule_port::Column as Port;
use crate::entity::{rule, rule_port};

const WITH_PORTS: [Protocol; 5] =
    [Protocol::TCP, Protocol::UDP, Protocol::UDPLITE, Protocol::SCTP, Protocol::DCCP];

/// A kind of protocols, and whether the rule lists one of this kind, or lists no protocol.
struct ProtocolKind {
    has_ports: bool,
    is_icmp: bool,
    listed: Condition,
}

/// Whether the rule matches some packet of the set, whatever its state.
pub(super) fn meets_traffic(dialect: Dialect, traffic: &Traffic) -> Condition {
    let mut some = Condition::any().add(constant(false));
    for family in Family::ALL {
        let has_family = |range: Option<AddressRange>| range.is_none_or(|it| it.has_family(family));
        if traffic.family.is_some_and(|wanted| wanted != family)
            || !has_family(traffic.source)
            || !has_family(traffic.destination)
        {
            continue;
        }
        for kind in kinds(dialect, traffic, family) {
            let mut all = Condition::all().add(kind.listed);
            if kind.is_icmp {
                all = all
                    .add(agrees(rule::Column::IcmpType, traffic.icmp_type))
                    .add(agrees(rule::Column::IcmpCode, traffic.icmp_code));
            }
            let sides = [
                (Side::Source, traffic.source, traffic.source_port),
                (Side::Destination, traffic.destination, traffic.destination_port),
            ];
            for (side, address, port) in sides {
                all = all.add(end(dialect, side, family, kind.has_ports, address, port));
            }
            some = some.add(all);
        }
    }
    some
}

/// The kinds that the set and the family have packets of.
fn kinds(dialect: Dialect, traffic: &Traffic, family: Family) -> Vec<ProtocolKind> {
    let none_listed = || rule::Column::Protocols.eq(EMPTY);
    let some_listed = |protocols: &[Protocol]| {
        protocols.iter().fold(Condition::any().add(none_listed()), |any, protocol| {
            any.add(lists(dialect, *protocol))
        })
    };
    let icmp = match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    };
    let all = match traffic.protocol {
        Some(protocol) if !protocol.exists_in(family) => Vec::new(),
        Some(protocol) => vec![ProtocolKind {
            has_ports: protocol.has_ports(),
            is_icmp: protocol.is_icmp(),
            listed: some_listed(&[protocol]),
        }],
        None => vec![
            ProtocolKind { has_ports: true, is_icmp: false, listed: some_listed(&WITH_PORTS) },
            ProtocolKind { has_ports: false, is_icmp: true, listed: some_listed(&[icmp]) },
            ProtocolKind {
                has_ports: false,
                is_icmp: false,
                listed: Condition::any().add(none_listed()).add(lists_another(dialect)),
            },
        ],
    };
    let asks_for_ports = traffic.source_port.or(traffic.destination_port).is_some();
    let asks_for_icmp = traffic.icmp_type.or(traffic.icmp_code).is_some();
    all.into_iter()
        .filter(|kind| kind.has_ports || !asks_for_ports)
        .filter(|kind| kind.is_icmp || !asks_for_icmp)
        .collect()
}

/// Whether the rule lists a protocol that is neither ICMP nor has ports: after removing those, a
/// name in quotes remains. Counting the names does not work: rows of earlier versions may repeat
/// one.
fn lists_another(dialect: Dialect) -> Expr {
    let sql = match dialect.backend {
        sea_orm::DbBackend::Postgres => "replace($1, $2, '')",
        _ => "replace(?, ?, '')",
    };
    let left = WITH_PORTS
        .iter()
        .chain(&[Protocol::ICMP, Protocol::ICMPV6])
        .fold(rule::Column::Protocols.into_simple_expr(), |text, protocol| {
            Expr::cust_with_exprs(sql, [text, Expr::val(format!("\"{protocol}\""))])
        });
    dialect.holds(left, "\"")
}

/// Whether the rule requires no other value: its column is null or has the requested one.
fn agrees(column: rule::Column, asked: Option<u8>) -> Condition {
    match asked {
        None => constant(true).into_condition(),
        Some(asked) => Condition::any().add(column.is_null()).add(column.eq(i32::from(asked))),
    }
}

/// Whether an entry of a side contains an address of the family and set, and a port of the set.
fn end(
    dialect: Dialect,
    side: Side,
    family: Family,
    has_ports: bool,
    address: Option<AddressRange>,
    port: Option<PortRange>,
) -> Expr {
    let mut query = entries_of(dialect, side);
    match address.and_then(bounds) {
        Some(key) => {
            query.and_where(Address::Lo.lte(key.hi)).and_where(Address::Hi.gte(key.lo));
        }
        None => {
            // The first byte of a bound is its family.
            let byte = match family {
                Family::V4 => crate::index::V4,
                Family::V6 => crate::index::V6,
            };
            query
                .and_where(Address::Lo.gte(vec![byte]))
                .and_where(Address::Lo.lt(vec![byte.saturating_add(1)]));
        }
    }
    let names_none = Address::PortLo.is_null();
    if has_ports {
        if let Some(port) = port {
            let test = RangeTest::Overlaps(port);
            let own = (Address::PortLo.into_simple_expr(), Address::PortHi.into_simple_expr());
            let inherited = match side {
                Side::Source => constant(true),
                Side::Destination => {
                    let mut ports = Query::select();
                    let sifting = |column: Port| dialect.sifting(column.into_simple_expr());
                    let bounds = (sifting(Port::Lo), sifting(Port::Hi));
                    ports
                        .from(rule_port::Entity)
                        .and_where(Port::RuleId.into_expr().eq(rule::Column::Id.into_expr()))
                        .and_where(port_fits(&test, &bounds));
                    rule::Column::Ports.eq(EMPTY).or(finds(ports))
                }
            };
            query.cond_where(
                Condition::any()
                    .add(
                        Condition::all()
                            .add(Address::PortLo.is_not_null())
                            .add(port_fits(&test, &own)),
                    )
                    .add(Condition::all().add(names_none).add(inherited)),
            );
        }
    } else {
        // An entry or rule that restricts ports does not match a packet without ports.
        query.and_where(names_none);
        if side == Side::Destination {
            query.and_where(rule::Column::Ports.eq(EMPTY));
        }
    }
    finds(query)
}

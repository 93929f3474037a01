//! A rule's warnings in SQL, from its row and the rows of its entries: what
//! `fireflow_domain::rule` finds without effect. Nothing is stored for it, so nothing can be stale.

use fireflow_domain::filter::tree::Side;
use fireflow_domain::net::{AddressRange, Family, Protocol};
use fireflow_domain::rule::WarningCode;
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, Func, Query};
use sea_orm::{ColumnTrait, Condition, DbBackend, IntoSimpleExpr};

use super::condition::{EMPTY, lists};
use super::{Dialect, finds};
use crate::entity::rule_address::Column as Address;
use crate::entity::{rule, rule_address};
use crate::index::{V6, address_keys};

/// The name of a rule's entries, summed up in one row.
const ENTRIES: &str = "entries";
/// The name of these with what follows from them.
const SHAPE: &str = "shape";

/// Protocols whose packets have ports.
const WITH_PORTS: [Protocol; 5] =
    [Protocol::TCP, Protocol::UDP, Protocol::UDPLITE, Protocol::SCTP, Protocol::DCCP];

/// Whether a rule has some of these warnings; without any named, whether it has none at all.
pub(super) fn warning(dialect: Dialect, wanted: Option<&[WarningCode]>) -> Condition {
    match wanted {
        Some(codes) => some_of(dialect, codes),
        None => some_of(dialect, &WarningCode::ALL).not(),
    }
}

fn some_of(dialect: Dialect, codes: &[WarningCode]) -> Condition {
    let is_asked = |code| codes.contains(&code);
    let mut any = Condition::any();
    if is_asked(WarningCode::Expired) {
        any = any.add(is_over(dialect));
    }
    let of_content =
        WarningCode::ALL.into_iter().filter(|code| is_asked(*code)).filter_map(|code| match code {
            WarningCode::EntryWithoutEffect => Some(entry_without_effect()),
            WarningCode::ProtocolWithoutEffect => Some(protocol_without_effect()),
            WarningCode::PortsWithoutEffect => Some(ports_without_effect()),
            WarningCode::Expired => None,
        });
    match of_content.reduce(Expr::or) {
        Some(condition) => any.add(of_shape(dialect, condition)),
        None => any,
    }
}

fn is_over(dialect: Dialect) -> Condition {
    Condition::all()
        .add(rule::Column::ExpiresAt.is_not_null())
        .add(rule::Column::ExpiresAt.lte(dialect.now.micros()))
}

/// Which addresses an entry has.
#[derive(Debug, Clone, Copy)]
enum Of {
    /// Addresses of one family, of which packets have some.
    One(Family),
    /// `::ffff:0:0/96`, whose addresses no packet has.
    Mapped,
    /// `any`, which has a row in each family.
    Both,
}

const ALL: [Of; 4] = [Of::One(Family::V4), Of::One(Family::V6), Of::Mapped, Of::Both];

/// Entries that have the same properties, as far as their effect depends on them: the side, the
/// family, and whether they name a port.
#[derive(Debug, Clone, Copy)]
struct Sort {
    side: Side,
    of: Of,
    has_port: bool,
}

impl Sort {
    fn all() -> impl Iterator<Item = Self> {
        [Side::Source, Side::Destination].into_iter().flat_map(|side| {
            ALL.into_iter().flat_map(move |of| {
                [false, true].into_iter().map(move |has_port| Self { side, of, has_port })
            })
        })
    }

    fn name(self) -> String {
        let family = match self.of {
            Of::One(family) => family.as_str(),
            Of::Mapped => "mapped",
            Of::Both => "any",
        };
        let port = if self.has_port { "_port" } else { "" };
        format!("{}_{family}{port}", rule_address::letter(self.side))
    }

    /// 1 if the rule has such an entry, in one of the two summaries.
    fn exists(self, summary: &'static str) -> Expr {
        Expr::col((summary, self.name()))
    }

    /// Whether the rule has such an entry, in its shape.
    fn is_there(self) -> Expr {
        self.exists(SHAPE).eq(1)
    }

    /// Whether packets that match the rule can meet such an entry.
    fn is_met(self) -> Expr {
        let families: &[Family] = match &self.of {
            Of::One(family) => std::slice::from_ref(family),
            Of::Mapped => &[],
            Of::Both => &Family::ALL,
        };
        any_of(families.iter().map(|family| {
            // The fact shows whether a destination inherits ports.
            if self.has_port {
                with_ports(*family)
            } else {
                with_ports(*family).or(without_ports(*family))
            }
        }))
    }

    /// On a row of the table of entries.
    fn is_row(self) -> Condition {
        let row = Condition::all().add(Address::Side.eq(rule_address::letter(self.side)));
        let row = if self.has_port {
            row.add(Address::PortLo.is_not_null())
        } else {
            row.add(Address::PortLo.is_null())
        };
        let mapped = || {
            let keys = address_keys(AddressRange::MAPPED).into_iter();
            let same = keys.map(|it| Address::Lo.eq(it.lo).and(Address::Hi.eq(it.hi)));
            any_of(same)
        };
        match self.of {
            Of::Both => row.add(Address::OfAny.eq(true)),
            Of::Mapped => row.add(mapped()),
            Of::One(Family::V4) => row.add(Address::OfAny.eq(false)).add(Address::Lo.lt(vec![V6])),
            Of::One(Family::V6) => {
                row.add(Address::OfAny.eq(false)).add(Address::Lo.gte(vec![V6])).add(mapped().not())
            }
        }
    }
}

/// What the rules of warnings ask of a rule as a whole.
#[derive(Debug, Clone, Copy)]
enum Fact {
    /// Some packet of the family that has ports meets a source and a destination.
    WithPorts(Family),
    /// The same of a packet without ports.
    WithoutPorts(Family),
    /// A protocol with ports is listed.
    ListsPorts,
    /// The family's ICMP is listed.
    ListsIcmp(Family),
    /// A protocol without ports that exists in both families is listed.
    ListsOthers,
}

impl Fact {
    const ALL: [Self; 8] = [
        Self::WithPorts(Family::V4),
        Self::WithPorts(Family::V6),
        Self::WithoutPorts(Family::V4),
        Self::WithoutPorts(Family::V6),
        Self::ListsPorts,
        Self::ListsIcmp(Family::V4),
        Self::ListsIcmp(Family::V6),
        Self::ListsOthers,
    ];

    fn name(self) -> String {
        match self {
            Self::WithPorts(family) => format!("with_ports_{}", family.as_str()),
            Self::WithoutPorts(family) => format!("without_ports_{}", family.as_str()),
            Self::ListsPorts => "lists_ports".to_owned(),
            Self::ListsIcmp(family) => format!("lists_icmp_{}", family.as_str()),
            Self::ListsOthers => "lists_others".to_owned(),
        }
    }

    /// Whether it is one of the rule.
    fn holds(self) -> Expr {
        Expr::col((SHAPE, self.name()))
    }

    /// From the sorts of entries that the rule has, and its own columns.
    fn found(self, dialect: Dialect) -> Expr {
        match self {
            Self::WithPorts(family) => {
                has(Side::Source, family, true).and(has(Side::Destination, family, true))
            }
            // What restricts ports does not match a packet without ports.
            Self::WithoutPorts(family) => has(Side::Source, family, false)
                .and(has(Side::Destination, family, false))
                .and(rule::Column::Ports.eq(EMPTY)),
            Self::ListsPorts => any_of(WITH_PORTS.map(|protocol| lists(dialect, protocol))),
            Self::ListsIcmp(family) => lists(dialect, icmp_of(family)),
            Self::ListsOthers => lists_others(dialect),
        }
    }
}

/// Whether a condition on a rule's shape holds: the rows of its entries are read once, however much
/// the condition asks.
fn of_shape(dialect: Dialect, condition: Expr) -> Expr {
    let mut entries = Query::select();
    let mut shape = Query::select();
    for sort in Sort::all() {
        // Literals: the type of a parameter in CASE would be a guess.
        let case = CaseStatement::new().case(sort.is_row(), Expr::cust("1"));
        entries.expr_as(Func::max(case.finally(Expr::cust("0"))), sort.name());
        shape.expr_as(sort.exists(ENTRIES), sort.name());
    }
    entries
        .from(rule_address::Entity)
        .and_where(Address::RuleId.into_expr().eq(rule::Column::Id.into_expr()));
    for fact in Fact::ALL {
        shape.expr_as(fact.found(dialect), fact.name());
    }
    shape.from_subquery(entries, ENTRIES);
    let mut query = Query::select();
    query.from_subquery(shape, SHAPE).and_where(condition);
    finds(query)
}

fn any_of(parts: impl IntoIterator<Item = Expr>) -> Expr {
    parts.into_iter().reduce(Expr::or).unwrap_or_else(|| super::constant(false))
}

/// Whether a side has an entry of a family: with or without a port, or only without.
fn has(side: Side, family: Family, may_have_port: bool) -> Expr {
    let sorts = Sort::all().filter(|sort| {
        let is_of = match sort.of {
            Of::One(one) => one == family,
            Of::Mapped => false,
            Of::Both => true,
        };
        sort.side == side && is_of && (may_have_port || !sort.has_port)
    });
    any_of(sorts.map(|sort| sort.exists(ENTRIES).eq(1)))
}

fn icmp_of(family: Family) -> Protocol {
    match family {
        Family::V4 => Protocol::ICMP,
        Family::V6 => Protocol::ICMPV6,
    }
}

/// Whether anything is left of the list without the protocols that are named here.
fn lists_others(dialect: Dialect) -> Expr {
    let replaced = match dialect.backend {
        DbBackend::Postgres => "replace($1, $2, '')",
        _ => "replace(?, ?, '')",
    };
    let known = WITH_PORTS.into_iter().chain(Family::ALL.map(icmp_of));
    let rest = known.fold(rule::Column::Protocols.into_simple_expr(), |rest, protocol| {
        Expr::cust_with_exprs(replaced, [rest, Expr::val(format!("\"{protocol}\""))])
    });
    dialect.holds(rest, "\"")
}

/// Every destination that packets can match names its own port.
fn ports_without_effect() -> Expr {
    let bare = Sort::all().filter(|sort| sort.side == Side::Destination && !sort.has_port);
    let takes_ports = any_of(bare.map(|sort| sort.is_there().and(sort.is_met())));
    matches_some().and(rule::Column::Ports.ne(EMPTY)).and(takes_ports.not())
}

/// A listed protocol has packets in no family that the rule's entries have together, and another one
/// has.
fn protocol_without_effect() -> Expr {
    let in_no_family =
        |fact: fn(Family) -> Fact| any_of(Family::ALL.map(fact).map(Fact::holds)).not();
    let icmp =
        Family::ALL.map(|it| Fact::ListsIcmp(it).holds().and(Fact::WithoutPorts(it).holds().not()));
    let without_effect = any_of(icmp)
        .or(Fact::ListsPorts.holds().and(in_no_family(Fact::WithPorts)))
        .or(Fact::ListsOthers.holds().and(in_no_family(Fact::WithoutPorts)));
    matches_some().and(without_effect)
}

/// Some packet with ports of the family matches the rule.
fn with_ports(family: Family) -> Expr {
    // Without protocols, packets with ports are matched as others are.
    let lists = rule::Column::Protocols.eq(EMPTY).or(Fact::ListsPorts.holds());
    lists.and(Fact::WithPorts(family).holds())
}

/// Some packet without ports of the family matches the rule, which lists protocols.
fn without_ports(family: Family) -> Expr {
    let lists = Fact::ListsIcmp(family).holds().or(Fact::ListsOthers.holds());
    lists.and(Fact::WithoutPorts(family).holds())
}

/// Some packet matches the rule.
fn matches_some() -> Expr {
    any_of(Family::ALL.map(|family| with_ports(family).or(without_ports(family))))
}

/// An entry has no packet of the listed protocols in its family, and another one has.
fn entry_without_effect() -> Expr {
    let useless = Sort::all().map(|sort| sort.is_there().and(sort.is_met().not()));
    matches_some().and(any_of(useless))
}

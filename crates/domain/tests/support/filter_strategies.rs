//! Generated filters. Other test crates include this module by `#[path]`, too, so it depends only
//! on fireflow-domain and proptest. It is in a directory of its own, or cargo would take it for a
//! test. The values are few, so that filters and resources generated from the same values often
//! match.

use fireflow_domain::analysis::FindingKind;
use fireflow_domain::audit::AuditAction;
use fireflow_domain::error::Resource;
use fireflow_domain::filter::tree::{
    ActionField, EntryTest, Filter, FlagField, InstantField, LabelTest, Level, Logic, NumberField,
    Ordered, Pattern, PortTest, RangeTest, Side, Test, TextField, TextTest, Traffic,
};
use fireflow_domain::filter::{FindingTest, Moment};
use fireflow_domain::net::{AddressRange, Family, PortRange, Protocol};
use fireflow_domain::rule::{Action, RuleState, WarningCode};
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Values for names, descriptions, tenants and so on. The last ones must be quoted or escaped.
pub(crate) const TEXTS: [&str; 10] =
    ["edge-1", "edge-2", "web", "Web-in", "ÉDGE", "", "a*b", "say \"no\" \\", "and", "two\nlines"];
/// Label keys.
pub(crate) const LABEL_KEYS: [&str; 4] = ["site", "env", "team/net-ops_1", "in"];
/// Label values.
pub(crate) const LABEL_VALUES: [&str; 6] = ["fra", "par", "prod", "production", "", "null"];
/// Protocols, with and without a name.
pub(crate) const PROTOCOLS: [Protocol; 6] =
    [Protocol::TCP, Protocol::UDP, Protocol::ICMP, Protocol::ICMPV6, Protocol(47), Protocol(89)];
/// ICMP types and codes.
pub(crate) const ICMP: [u8; 4] = [0, 3, 8, 128];
/// The first of the days on which instants lie.
pub(crate) const FIRST_DAY: &str = "2026-01-01T00:00:00Z";

/// Filters of a list, nested a few levels deep.
pub(crate) fn filters(level: Level) -> BoxedStrategy<Filter> {
    logic(tests(level), 3).prop_map(move |condition| Filter { level, condition }).boxed()
}

/// Conditions built from a test.
fn logic<T: std::fmt::Debug + Clone + 'static>(
    test: BoxedStrategy<T>,
    depth: u32,
) -> BoxedStrategy<Logic<T>> {
    test.prop_map(Logic::Is)
        .prop_recursive(depth, 16, 3, |inner| {
            prop_oneof![
                vec(inner.clone(), 2..4).prop_map(Logic::All),
                vec(inner.clone(), 2..4).prop_map(Logic::Any),
                inner.prop_map(|it| Logic::Not(Box::new(it))),
            ]
        })
        .boxed()
}

/// One test of a list.
pub(crate) fn tests(level: Level) -> BoxedStrategy<Test> {
    let levels: &[Level] = match level {
        Level::Firewall => &[Level::Firewall],
        Level::Policy => &[Level::Firewall, Level::Policy],
        Level::Rule => &[Level::Firewall, Level::Policy, Level::Rule],
        Level::Event => &[Level::Event],
    };
    let mut all = vec![
        number(of(NumberField::ALL, levels, NumberField::level)),
        instant(of(InstantField::ALL, levels, InstantField::level)),
        text(of(TextField::ALL, levels, TextField::level)),
    ];
    if level == Level::Event {
        all.push(some(select(AuditAction::ALL.to_vec())).prop_map(Test::AuditAction).boxed());
        all.push(some(select(Resource::ALL.to_vec())).prop_map(Test::Resource).boxed());
    } else {
        all.push(label(levels.to_vec()));
    }
    let flags = of(FlagField::ALL, levels, FlagField::level);
    if !flags.is_empty() {
        all.push((select(flags), any::<bool>()).prop_map(|(a, b)| Test::Flag(a, b)).boxed());
    }
    let actions = of(ActionField::ALL, levels, ActionField::level);
    if !actions.is_empty() {
        all.push(
            (select(actions), some(select(Action::ALL.to_vec())))
                .prop_map(|(field, actions)| Test::Action(field, actions))
                .boxed(),
        );
    }
    if levels.contains(&Level::Rule) {
        let side = || select(vec![Side::Source, Side::Destination]);
        all.push(some(select(RuleState::ALL.to_vec())).prop_map(Test::State).boxed());
        let warnings = option::weighted(0.8, some(select(WarningCode::ALL.to_vec())));
        all.push(warnings.prop_map(Test::Warning).boxed());
        let findings = option::weighted(0.8, some(select(FindingKind::ALL.to_vec())));
        all.push(findings.prop_map(|kinds| Test::Finding(FindingTest::new(kinds))).boxed());
        all.push(option::of(some(select(PROTOCOLS.to_vec()))).prop_map(Test::Protocol).boxed());
        all.push(port_test().prop_map(Test::Ports).boxed());
        all.push((side(), logic(entry(), 2)).prop_map(|(a, b)| Test::Entry(a, b)).boxed());
        all.push(traffic().prop_map(|it| Test::Traffic(Box::new(it))).boxed());
    }
    proptest::strategy::Union::new(all).boxed()
}

fn of<F: Copy>(fields: &[F], levels: &[Level], level: impl Fn(F) -> Level) -> Vec<F> {
    fields.iter().copied().filter(|field| levels.contains(&level(*field))).collect()
}

/// One to three values.
fn some<T: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = Vec<T>> + Clone {
    vec(value, 1..4)
}

fn ordered<T: std::fmt::Debug + Clone + 'static>(
    value: impl Strategy<Value = T> + Clone + 'static,
    is_nullable: bool,
) -> BoxedStrategy<Ordered<T>> {
    let test = prop_oneof![
        some(value.clone()).prop_map(Ordered::OneOf),
        value.clone().prop_map(Ordered::Less),
        value.clone().prop_map(Ordered::AtMost),
        value.clone().prop_map(Ordered::Greater),
        value.prop_map(Ordered::AtLeast),
    ];
    if is_nullable {
        prop_oneof![1 => Just(Ordered::Absent), 4 => test].boxed()
    } else {
        test.boxed()
    }
}

fn number(fields: Vec<NumberField>) -> BoxedStrategy<Test> {
    let value = prop_oneof![
        8 => 0_i64..12,
        4 => select(ICMP.to_vec()).prop_map(i64::from),
        1 => select(vec![-10, 100, i64::MIN, i64::MAX]),
    ];
    select(fields)
        .prop_flat_map(move |field| {
            let test = ordered(value.clone(), field.is_nullable());
            test.prop_map(move |test| Test::Number(field, test))
        })
        .boxed()
}

/// An instant on the hour, within five days from [`FIRST_DAY`] on.
pub(crate) fn instants() -> impl Strategy<Value = Instant> + Clone {
    let first = Instant::parse(FIRST_DAY).unwrap_or(Instant::EPOCH);
    (0_i64..120).prop_map(move |hours| first.plus_micros(hours * 3_600 * MICROS_PER_SECOND))
}

/// An instant of these days, or one of the five days around now.
fn moments() -> impl Strategy<Value = Moment> + Clone {
    prop_oneof![
        2 => instants().prop_map(Moment::At),
        1 => (-60_i64..60).prop_map(|hours| Moment::FromNow(hours * 3_600)),
        1 => select(vec![Moment::FromNow(0), Moment::FromNow(-90), Moment::FromNow(61)]),
    ]
}

fn instant(fields: Vec<InstantField>) -> BoxedStrategy<Test> {
    select(fields)
        .prop_flat_map(|field| {
            let test = ordered(moments(), field.is_nullable());
            test.prop_map(move |test| Test::Instant(field, test))
        })
        .boxed()
}

fn pattern(texts: &'static [&'static str]) -> impl Strategy<Value = Pattern> + Clone {
    let whole = select(texts).prop_map(str::to_owned);
    // A single star has only one spelling: a prefix.
    let part = select(texts).prop_flat_map(|text| {
        let chars: Vec<char> = text.chars().collect();
        (0..=chars.len(), 0..=chars.len()).prop_map(move |(a, b)| {
            chars.iter().skip(a.min(b)).take(a.abs_diff(b)).collect::<String>()
        })
    });
    let some_part = part.clone().prop_map(|it| if it.is_empty() { "e".to_owned() } else { it });
    prop_oneof![
        whole.prop_map(Pattern::Exact),
        part.prop_map(Pattern::Prefix),
        some_part.clone().prop_map(Pattern::Suffix),
        some_part.prop_map(Pattern::Infix),
    ]
}

/// A part of a text, in other letters.
fn needle(texts: &'static [&'static str]) -> impl Strategy<Value = String> + Clone {
    (select(texts), 0_usize..3, 0_usize..12, 0..3).prop_map(|(text, skip, take, case)| {
        let part: String = text.chars().skip(skip).take(take).collect();
        match case {
            0 => part,
            1 => part.to_uppercase(),
            _ => part.to_lowercase(),
        }
    })
}

fn text(fields: Vec<TextField>) -> BoxedStrategy<Test> {
    select(fields)
        .prop_flat_map(|field| {
            let mut tests = vec![some(pattern(&TEXTS)).prop_map(TextTest::OneOf).boxed()];
            if field.is_nullable() {
                tests.push(Just(TextTest::Absent).boxed());
            }
            tests.push(needle(&TEXTS).prop_map(TextTest::Holds).boxed());
            proptest::strategy::Union::new(tests).prop_map(move |test| Test::Text(field, test))
        })
        .boxed()
}

fn label(levels: Vec<Level>) -> BoxedStrategy<Test> {
    let test = prop_oneof![
        1 => Just(LabelTest::Present),
        1 => Just(LabelTest::Absent),
        3 => some(pattern(&LABEL_VALUES)).prop_map(LabelTest::OneOf),
        2 => needle(&LABEL_VALUES).prop_map(LabelTest::Holds),
    ];
    (select(levels), select(&LABEL_KEYS), test)
        .prop_map(|(level, key, test)| Test::Label(level, key.to_owned(), test))
        .boxed()
}

/// Ports from 20 to 30, and the range of every port.
pub(crate) fn ports() -> impl Strategy<Value = PortRange> + Clone {
    prop_oneof![
        9 => (20_u16..=30, 20_u16..=30).prop_filter_map("never", |(a, b)| {
            PortRange::new(a.min(b), a.max(b)).ok()
        }),
        4 => (20_u16..=30).prop_map(PortRange::single),
        1 => Just(()).prop_filter_map("never", |()| PortRange::new(0, u16::MAX).ok()),
    ]
}

/// Hosts, blocks and ranges of 10.0.0.0/24 or of 2001:db8::/120.
pub(crate) fn addresses_of(family: Family) -> impl Strategy<Value = AddressRange> + Clone {
    let range = move |first: u8, last: u8| match family {
        Family::V4 => {
            let base = 0x0a00_0000;
            AddressRange::V4 { first: base + u32::from(first), last: base + u32::from(last) }
        }
        Family::V6 => {
            let base = 0x2001_0db8 << 96;
            AddressRange::V6 { first: base + u128::from(first), last: base + u128::from(last) }
        }
    };
    prop_oneof![
        (0_u8..16).prop_map(move |host| range(host, host)),
        (any::<u8>(), 0_u32..=8).prop_map(move |(host, bits)| {
            let hosts = u8::MAX.checked_shr(bits).unwrap_or(0);
            range(host & !hosts, host | hosts)
        }),
        (any::<u8>(), any::<u8>()).prop_map(move |(a, b)| range(a.min(b), a.max(b))),
    ]
}

/// Addresses of either family, those of no packet, and `any`.
pub(crate) fn addresses() -> impl Strategy<Value = AddressRange> + Clone {
    prop_oneof![
        4 => addresses_of(Family::V4),
        4 => addresses_of(Family::V6),
        1 => Just(AddressRange::MAPPED),
        1 => Just(AddressRange::Any),
    ]
}

fn range<R: std::fmt::Debug + Clone>(
    value: impl Strategy<Value = R> + Clone,
) -> impl Strategy<Value = RangeTest<R>> + Clone {
    prop_oneof![
        some(value.clone()).prop_map(RangeTest::OneOf),
        value.clone().prop_map(RangeTest::Within),
        value.clone().prop_map(RangeTest::Contains),
        value.prop_map(RangeTest::Overlaps),
    ]
}

fn port_test() -> impl Strategy<Value = PortTest> + Clone {
    prop_oneof![1 => Just(PortTest::Absent), 4 => range(ports()).prop_map(PortTest::Range)]
}

fn entry() -> BoxedStrategy<EntryTest> {
    prop_oneof![
        range(addresses()).prop_map(EntryTest::Address),
        port_test().prop_map(EntryTest::Port),
    ]
    .boxed()
}

/// None if the member does not apply, otherwise a value now and then.
fn sometimes<T: std::fmt::Debug + Clone + 'static>(
    fits: bool,
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Option<T>> {
    if fits { option::of(value).boxed() } else { Just(None).boxed() }
}

/// Sets of packets that are not empty: of one family, with ports, with ICMP fields, or with
/// neither.
pub(crate) fn traffic() -> BoxedStrategy<Traffic> {
    let family = select(vec![Family::V4, Family::V6]);
    (family, any::<bool>())
        .prop_flat_map(|(family, is_icmp)| {
            let address = || {
                option::of(prop_oneof![
                    6 => addresses_of(family),
                    1 => Just(AddressRange::Any),
                ])
            };
            let protocol = PROTOCOLS
                .into_iter()
                .filter(move |it| it.exists_in(family) && it.is_icmp() == is_icmp)
                .collect::<Vec<_>>();
            let icmp = || sometimes(is_icmp, select(ICMP.to_vec()));
            let port = || sometimes(!is_icmp, ports());
            (
                option::weighted(0.3, Just(family)),
                (address(), port()),
                (address(), port()),
                option::of(select(protocol)),
                (icmp(), icmp()),
            )
        })
        .prop_map(|(family, source, destination, protocol, icmp)| {
            let has_ports = source.1.is_some() || destination.1.is_some();
            Traffic {
                family,
                source: source.0,
                source_port: source.1,
                destination: destination.0,
                destination_port: destination.1,
                protocol: protocol.filter(|it| !has_ports || it.has_ports()),
                icmp_type: icmp.0,
                icmp_code: icmp.1,
            }
        })
        .prop_map(|it| {
            if it == Traffic::default() {
                Traffic { protocol: Some(Protocol::TCP), ..it }
            } else {
                it
            }
        })
        .boxed()
}

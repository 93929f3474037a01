//! Generated rules: everything that the API accepts. Other test crates include this module by
//! `#[path]`, too, so it depends only on fireflow-domain and proptest. It is in a directory of its
//! own, or cargo would take it for a test.

use fireflow_domain::invisible::is_invisible;
use fireflow_domain::labels::Labels;
use fireflow_domain::net::{AddressRange, PortRange, Protocol, Protocols};
use fireflow_domain::rule::{Action, Endpoint, RuleParts, RuleSpec};
use fireflow_domain::text::{Description, Name, Reference};
use fireflow_domain::time::Instant;
use proptest::char::range;
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The values that generated rules are made of. Few values make rules meet each other.
pub(crate) struct World {
    pub(crate) addresses: BoxedStrategy<AddressRange>,
    pub(crate) ports: BoxedStrategy<PortRange>,
    /// At most 16, as in a rule.
    pub(crate) protocols: &'static [Protocol],
    pub(crate) icmp: &'static [u8],
    pub(crate) priorities: std::ops::Range<i32>,
    /// The starts and ends of rules. None: every rule is enabled and always active.
    pub(crate) instants: Option<BoxedStrategy<Instant>>,
}

/// Contents of rules. A combination that the API would refuse is drawn again.
pub(crate) fn specs(world: World) -> BoxedStrategy<RuleSpec> {
    let World { addresses, ports, protocols: known, icmp, priorities, instants } = world;
    let ends = entries(addresses, ports.clone());
    let state = match instants {
        None => Just((true, None, None)).boxed(),
        Some(instants) => (
            prop::bool::weighted(0.9),
            option::weighted(0.2, instants.clone()),
            option::weighted(0.2, instants),
        )
            .boxed(),
    };
    (
        (select(&Action::ALL[..]), priorities, any::<bool>()),
        (protocols(known, icmp), vec(ports, 0..3)),
        (ends.clone(), ends),
        state,
        // Texts are slow to generate, and decide nothing about packets.
        (
            option::weighted(0.1, names()),
            option::weighted(0.1, (texts(0..4), texts(0..4), labels())),
        ),
    )
        .prop_filter_map("the parts form a valid rule", |parts| {
            let ((action, priority, log), (protocols, ports), ends, state, (name, texts)) = parts;
            let (protocols, icmp_type, icmp_code) = protocols;
            // A rule with ICMP fields has no `ports`, and an entry of each side without a port. Most
            // of them would be refused otherwise.
            let (mut ports, (mut sources, mut destinations)) = (ports, ends);
            if icmp_type.is_some() {
                ports.clear();
                for entry in sources.first_mut().into_iter().chain(destinations.first_mut()) {
                    entry.port = None;
                }
            }
            let (description, reference, labels) = texts.unwrap_or_default();
            RuleSpec::new(RuleParts {
                name,
                action,
                priority,
                protocols,
                icmp_type,
                icmp_code,
                sources,
                destinations,
                ports,
                enabled: state.0,
                log,
                starts_at: state.1,
                expires_at: state.2,
                description: Description::parse(&description).ok()?,
                reference: Reference::parse(&reference).ok()?,
                labels,
            })
            .ok()
        })
        .boxed()
}

/// Protocols in any order, many of them with repetitions, and the ICMP type and code that a rule
/// can have if it names only that protocol.
fn protocols(
    known: &'static [Protocol],
    icmp: &'static [u8],
) -> BoxedStrategy<(Protocols, Option<u8>, Option<u8>)> {
    let collected = |listed: Vec<Protocol>| listed.into_iter().collect::<Protocols>();
    let alone = known.iter().copied().filter(|it| it.is_icmp()).collect::<Vec<Protocol>>();
    let field = move || select(icmp);
    prop_oneof![
        5 => vec(select(known), 0..5).prop_map(move |it| (collected(it), None, None)),
        2 => vec(select(known), 5..24).prop_map(move |it| (collected(it), None, None)),
        // Named once or several times, it is one protocol.
        2 => (select(alone), 1..4_usize, field(), option::of(field())).prop_map(
            move |(protocol, count, icmp_type, icmp_code)| {
                (collected(vec![protocol; count]), Some(icmp_type), icmp_code)
            }
        ),
    ]
    .boxed()
}

/// Entries in any order, some of them repeated.
fn entries(
    addresses: BoxedStrategy<AddressRange>,
    ports: BoxedStrategy<PortRange>,
) -> BoxedStrategy<Vec<Endpoint>> {
    let entry = (addresses, option::weighted(0.25, ports))
        .prop_map(|(address, port)| Endpoint { address, port });
    let repeated = prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<Index>(), 1..3)];
    (vec(entry, 1..4), repeated)
        .prop_map(|(mut entries, repeated)| {
            let again: Vec<Endpoint> = repeated.iter().map(|it| *it.get(&entries)).collect();
            entries.extend(again);
            entries
        })
        .prop_shuffle()
        .boxed()
}

/// Names with characters of every plane.
pub(crate) fn names() -> impl Strategy<Value = Name> + Clone {
    // Only white space is not a name.
    texts(1..12).prop_filter_map("it is a name", |text| Name::parse(&text).ok())
}

/// One line of characters that names and references accept.
fn texts(chars: std::ops::Range<usize>) -> impl Strategy<Value = String> + Clone {
    vec(characters(), chars).prop_map(|characters| characters.into_iter().collect())
}

fn labels() -> impl Strategy<Value = Labels> + Clone {
    btree_map(select(&["site", "env", "team/net-ops_1", "0"][..]), texts(0..4), 0..2)
        .prop_filter_map("they are labels", |map| {
            Labels::new(map.into_iter().map(|(key, it)| (key.to_owned(), it)).collect()).ok()
        })
}

/// Visible characters of all 17 planes.
fn characters() -> impl Strategy<Value = char> + Clone {
    prop_oneof![
        6 => range(' ', '~'),
        2 => range('\u{a0}', '\u{2ff}'),
        2 => range('\u{300}', '\u{d7ff}'),
        1 => range('\u{e000}', '\u{ffff}'),
        1 => range('\u{1_0000}', '\u{1_ffff}'),
        1 => range('\u{2_0000}', '\u{2_ffff}'),
        1 => range('\u{3_0000}', '\u{d_ffff}'),
        1 => range('\u{e_0000}', '\u{e_ffff}'),
        1 => range('\u{f_0000}', '\u{f_ffff}'),
        1 => range('\u{10_0000}', '\u{10_ffff}'),
    ]
    .prop_filter("it is visible", |it| !is_invisible(*it) && !it.is_control())
}

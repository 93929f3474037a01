//! Tests the filter language as text: the texts that it accepts, their canonical spelling, and the
//! messages for mistakes.

#![expect(clippy::panic, reason = "a test stops at the first surprise")]

#[path = "support/filter_strategies.rs"]
mod strategies;
#[path = "support/filter_tables.rs"]
mod tables;

use fireflow_domain::filter::parse::{MAX_FILTER_CHARS, MAX_FILTER_COMPARISONS, MAX_FILTER_DEPTH};
use fireflow_domain::filter::tree::{
    EntryTest, LabelTest, Logic, NumberField, Ordered, Pattern, PortTest, RangeTest, Side, Test,
    TextField, TextTest, Traffic,
};
use fireflow_domain::filter::{FieldInfo, FieldKind, Filter, FilterError, Level, describe};
use fireflow_domain::net::{AddressRange, Family, PortRange, Protocol};
use fireflow_domain::testing::random::cases;
use proptest::prelude::*;
use proptest::sample::select;
use tables::{BAD, GOOD};
#[test]
fn good_texts_have_one_spelling() {
    for (text, canonical) in GOOD {
        let filter = Filter::parse(Level::Rule, text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(filter.to_string(), *canonical, "{text}");
        assert_eq!(Filter::parse(Level::Rule, canonical).as_ref(), Ok(&filter), "{text}");
    }
}

fn refusal(level: Level, text: &str) -> FilterError {
    match Filter::parse(level, text) {
        Err(error) => error,
        Ok(filter) => panic!("{text} was read as {filter}"),
    }
}

#[test]
fn mistakes_are_told_with_their_place_and_what_would_be_right() {
    for (text, position, part) in BAD {
        let error = refusal(Level::Rule, text);
        assert_eq!(error.position, *position, "{text}: {error}");
        assert!(error.detail.contains(part), "{text}: {error}");
        assert!(!error.detail.ends_with('.'), "{text}: {error}");
        assert!(!error.detail.contains("  "), "{text}: {error}");
    }
}

#[test]
fn fields_of_other_lists_are_told_apart() {
    for (level, text, part) in [
        (Level::Policy, "sources.address = any", "is a field of rules; this list is of policies"),
        (Level::Policy, "filtering_policy.name = x", "did you mean `name`?"),
        (Level::Firewall, "firewall.labels.x = x", "did you mean `labels.x`?"),
        (Level::Firewall, "priority = 1", "is a field of rules; this list is of firewalls"),
        (Level::Firewall, "rule_count = 1", "is a field of policies; this list is of firewalls"),
        (Level::Firewall, "filtering_policy.name = x", "is a field of policies"),
        (Level::Firewall, "xyzzy = 1", "the fields are `id`, `policy_count`"),
        (Level::Rule, "subject = ann", "is a field of audit events; this list is of rules"),
        (Level::Event, "priority = 1", "is a field of rules; this list is of audit events"),
        (Level::Event, "name = x", "is a field of firewalls; this list is of audit events"),
        (Level::Event, "firewall.name = x", "is a field of firewalls"),
        (Level::Event, "labels.site = x", "is a field of firewalls"),
        (Level::Event, "labels:site", "is a field of firewalls"),
        (Level::Event, "subjct = x", "did you mean `subject`?"),
        (Level::Event, "firewall = 1", "did you mean `firewall_id`?"),
        (Level::Event, "xyzzy = 1", "the fields are `id`, `resource_id`, `firewall_id`"),
        (Level::Event, "ann", "such as `subject = \"*ann*\"`"),
        (Level::Event, "", "such as `subject = \"edge-*\"`"),
    ] {
        let error = refusal(level, text);
        assert_eq!(error.position, 1, "{text}");
        assert!(error.detail.contains(part), "{text}: {error}");
    }
    assert!(Filter::parse(Level::Policy, "firewall.name = x AND default_action = deny").is_ok());
    assert!(Filter::parse(Level::Firewall, "policy_count = 0 AND tenant = blue").is_ok());
    let error = refusal(Level::Event, "action = removed");
    assert!(error.detail.contains("`delete`") && error.position == 10, "{error}");
    // Rules and audit events each have a field `action`, with different values.
    let error = refusal(Level::Rule, "action = delete");
    assert!(error.detail.contains("`DENY`") && error.position == 10, "{error}");
    let error = refusal(Level::Event, "action = DENY");
    assert!(error.detail.contains("`delete`") && error.position == 10, "{error}");
}

#[test]
fn errors_name_a_place_in_characters() {
    let error = refusal(Level::Rule, "name = \"Zürich\" AND ä = 1");
    assert_eq!(error.position, 21);
    assert!(error.to_string().starts_with("at position 21: `ä` is not a field"), "{error}");
}

#[test]
fn trees_are_what_the_text_says() {
    let condition = |text| Filter::parse(Level::Rule, text).unwrap().condition;
    let ten = AddressRange::parse("10.0.0.1").unwrap();
    let contains = || EntryTest::Address(RangeTest::Contains(ten));
    assert_eq!(
        condition("sources.address CONTAINS 10.0.0.1"),
        Logic::Is(Test::Entry(Side::Source, Logic::Is(contains())))
    );
    assert_eq!(
        condition("destinations.address != 10.0.0.1"),
        Logic::Not(Box::new(Logic::Is(Test::Entry(
            Side::Destination,
            Logic::Is(EntryTest::Address(RangeTest::OneOf(vec![ten])))
        ))))
    );
    assert_eq!(
        condition("sources:(NOT address CONTAINS 10.0.0.1)"),
        Logic::Is(Test::Entry(Side::Source, Logic::Not(Box::new(Logic::Is(contains())))))
    );
    assert_eq!(
        condition("icmp_type IN (8, null, 0)"),
        Logic::Any(vec![
            Logic::Is(Test::Number(NumberField::IcmpType, Ordered::Absent)),
            Logic::Is(Test::Number(NumberField::IcmpType, Ordered::OneOf(vec![8, 0]))),
        ])
    );
    assert_eq!(
        condition("ports != null"),
        Logic::Not(Box::new(Logic::Is(Test::Ports(PortTest::Absent))))
    );
    assert_eq!(
        condition("firewall.name = *"),
        Logic::Is(Test::Text(
            TextField::FirewallName,
            TextTest::OneOf(vec![Pattern::Prefix(String::new())])
        ))
    );
    assert_eq!(
        condition("firewall.labels:site"),
        Logic::Is(Test::Label(Level::Firewall, "site".into(), LabelTest::Present))
    );
    assert_eq!(
        condition("name = x AND (name = x AND name = x)"),
        {
            let x = || {
                let pattern = Pattern::Exact("x".into());
                Logic::Is(Test::Text(TextField::RuleName, TextTest::OneOf(vec![pattern])))
            };
            Logic::All(vec![x(), Logic::All(vec![x(), x()])])
        },
        "what is grouped stays grouped"
    );
}

#[test]
fn limits_are_kept_to_the_last_unit() {
    let deep = |depth: usize| format!("{}priority = 1{}", "NOT (".repeat(depth), ")".repeat(depth));
    assert!(Filter::parse(Level::Rule, &deep(MAX_FILTER_DEPTH)).is_ok());
    let error = refusal(Level::Rule, &deep(MAX_FILTER_DEPTH + 1));
    assert!(error.detail.contains("32 deep"), "{error}");
    assert_eq!(error.position, MAX_FILTER_DEPTH * 5 + 5);

    let many = |count: usize| vec!["id=1"; count].join(" OR ");
    assert!(Filter::parse(Level::Rule, &many(MAX_FILTER_COMPARISONS)).is_ok());
    let error = refusal(Level::Rule, &many(MAX_FILTER_COMPARISONS + 1));
    assert!(error.detail.contains("128 comparisons"), "{error}");
    let list = |count: usize| format!("id IN ({})", vec!["1"; count].join(","));
    assert!(Filter::parse(Level::Rule, &list(MAX_FILTER_COMPARISONS)).is_ok());
    assert!(Filter::parse(Level::Rule, &list(MAX_FILTER_COMPARISONS + 1)).is_err());

    let long = |chars: usize| format!("name = \"{}\"", "ä".repeat(chars - 9));
    assert!(Filter::parse(Level::Rule, &long(MAX_FILTER_CHARS)).is_ok());
    let error = refusal(Level::Rule, &long(MAX_FILTER_CHARS + 1));
    assert!(error.detail.contains("has 4097 characters"), "{error}");
}

#[test]
fn messages_stay_short_whatever_is_wrong() {
    let long = "x".repeat(4_000);
    for text in [
        long.clone(),
        format!("{long} = 1"),
        format!("name {long}"),
        format!("name = {}", "=".repeat(4_000)),
        format!("priority = {long}"),
        format!("labels.{long} = 1"),
        format!("name = \"{}\" AND log = true OR log = false", "y".repeat(4_000)),
        ["id = 1 AND id = 2 OR id = 3"; 40].join(" AND "),
    ] {
        let error = refusal(Level::Rule, &text);
        assert!(error.detail.chars().count() < 1_000, "{error}");
    }
}

#[test]
fn a_long_mixture_is_shown_where_it_mixes() {
    let text = format!("{} OR id = 7", ["description:abcdefghijklmnop"; 9].join(" AND "));
    let error = refusal(Level::Rule, &text);
    let part = "`… (description:abcdefghijklmnop AND description:abcdefghijklmnop) OR id = 7`";
    assert!(error.detail.contains(part), "{error}");
}

/// A value that a field can be compared with.
fn example(info: &FieldInfo) -> &'static str {
    match info.kind {
        FieldKind::Integer => "8",
        FieldKind::Text | FieldKind::Label => "edge-*",
        FieldKind::Timestamp => "2026-01-01T00:00:00Z",
        FieldKind::Boolean => "true",
        FieldKind::Action => "ALLOW",
        FieldKind::State => "active",
        FieldKind::AuditAction => "delete",
        FieldKind::Resource => "firewall_rule",
        FieldKind::Labels => "site",
        FieldKind::Warning => "expired",
        FieldKind::Finding => "unreachable",
        FieldKind::Protocol => "tcp",
        FieldKind::Family => "ipv4",
        FieldKind::Ports => "443",
        FieldKind::Addresses => "10.0.0.0/8",
        FieldKind::Entries => "(address = any AND port = 1)",
        FieldKind::Traffic => "(source = any)",
    }
}

/// All operators that at least one field takes.
const OPERATORS: [&str; 11] =
    ["=", "!=", "<", "<=", ">", ">=", "IN", ":", "WITHIN", "CONTAINS", "OVERLAPS"];

fn check_described(level: Level, info: &FieldInfo, around: impl Fn(&str) -> String) {
    let name = info.name.replace("{key}", "site");
    let value = example(info);
    for operator in OPERATORS {
        let value = if operator == ":" { value.trim_matches('*') } else { value };
        let condition = match operator {
            "IN" => format!("{name} IN ({value}, {value})"),
            operator => format!("{name} {operator} {value}"),
        };
        let text = around(&condition);
        let read = Filter::parse(level, &text);
        let is_taken = info.operators.contains(&operator);
        assert_eq!(read.is_ok(), is_taken, "{level:?} {text}: {read:?}");
    }
    for text in [format!("{name} = null"), format!("{name} != null"), format!("{name} IN (null)")] {
        let read = Filter::parse(level, &around(&text));
        assert_eq!(read.is_ok(), info.is_nullable, "{level:?} {text}: {read:?}");
    }
    for value in &info.values {
        let text = around(&format!("{name} = {value}"));
        assert!(Filter::parse(level, &text).is_ok(), "{text}");
    }
}

#[test]
fn what_is_described_is_read_and_nothing_else() {
    for level in Level::ALL {
        let fields = describe(level);
        let mut names: Vec<&str> = fields.iter().map(|info| info.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), fields.len(), "{level:?}");
        for info in &fields {
            check_described(level, info, str::to_owned);
            let name = &info.name;
            for member in &info.members {
                check_described(level, member, |condition| format!("{name}:({condition})"));
            }
        }
    }
    let count = |level| describe(level).len();
    assert_eq!(Level::ALL.map(count), [12, 24, 55, 13]);
    for kind in FieldKind::ALL {
        let of_kind = |info: &FieldInfo| {
            info.kind == kind || info.members.iter().any(|member| member.kind == kind)
        };
        let level = match kind {
            FieldKind::AuditAction | FieldKind::Resource => Level::Event,
            _ => Level::Rule,
        };
        assert!(describe(level).iter().any(of_kind), "{}", kind.as_str());
    }
}

fn is_stable(filter: &Filter) -> Result<(), TestCaseError> {
    let text = filter.to_string();
    if text.chars().count() > MAX_FILTER_CHARS {
        return Ok(());
    }
    let read = Filter::parse(filter.level, &text);
    prop_assert_eq!(read.as_ref(), Ok(filter), "{}", &text);
    prop_assert_eq!(read.map(|it| it.to_string()), Ok(text));
    Ok(())
}

/// Texts close to filters: valid ones in which a part was inserted, removed or swapped.
fn mutated() -> impl Strategy<Value = String> {
    let whole = strategies::filters(Level::Rule).prop_map(|it| it.to_string());
    let piece = select(vec![
        "(",
        ")",
        "\"",
        "\\",
        "*",
        "AND",
        " OR ",
        "NOT ",
        ":",
        "=",
        "!",
        "null",
        ",",
        " ",
        "é",
        "\u{0}",
        "IN",
        "labels.",
        "sources:(",
        "traffic:(",
        "0",
        "-",
    ]);
    (whole, any::<(prop::sample::Index, prop::sample::Index)>(), piece).prop_map(
        |(text, (from, to), piece)| {
            let chars: Vec<char> = text.chars().collect();
            let (from, to) = (from.index(chars.len() + 1), to.index(chars.len() + 1));
            let (from, to) =
                (from.min(to), (from.min(to) + from.abs_diff(to) % 8).min(chars.len()));
            let mut out: String = chars.iter().take(from).collect();
            out.push_str(piece);
            out.extend(chars.iter().skip(to));
            out
        },
    )
}

/// Sets of packets, many of them empty.
fn any_traffic() -> impl Strategy<Value = Traffic> {
    let octet = || prop::option::weighted(0.2, any::<u8>());
    let port = || prop::option::weighted(0.3, strategies::ports());
    let address = || prop::option::of(strategies::addresses());
    (
        prop::option::of(select(vec![Family::V4, Family::V6])),
        (address(), port()),
        (address(), port()),
        prop::option::of(any::<u8>().prop_map(Protocol)),
        prop::option::of(select(strategies::PROTOCOLS.to_vec())),
        (octet(), octet()),
    )
        .prop_map(|(family, source, destination, rare, common, icmp)| Traffic {
            family,
            source: source.0,
            source_port: source.1,
            destination: destination.0,
            destination_port: destination.1,
            protocol: common.or(rare),
            icmp_type: icmp.0,
            icmp_code: icmp.1,
        })
}

/// Whether there is a packet of the set, by the definition of packets.
fn has_packets(traffic: &Traffic) -> bool {
    Family::ALL.into_iter().any(|family| {
        let addresses = [traffic.source, traffic.destination];
        let has_ports = traffic.source_port.is_some() || traffic.destination_port.is_some();
        let has_icmp = traffic.icmp_type.is_some() || traffic.icmp_code.is_some();
        traffic.family.is_none_or(|it| it == family)
            && addresses.iter().flatten().all(|it| it.has_family(family))
            && (0..=255).map(Protocol).any(|protocol| {
                traffic.protocol.is_none_or(|it| it == protocol)
                    && protocol.exists_in(family)
                    && (!has_ports || protocol.has_ports())
                    && (!has_icmp || protocol.is_icmp())
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(512)))]

    #[test]
    fn writing_and_reading_are_inverse(
        filter in select(&Level::ALL[..]).prop_flat_map(strategies::filters)
    ) {
        is_stable(&filter)?;
    }

    #[test]
    fn any_text_is_read_or_refused_at_a_place_in_it(
        text in prop_oneof!["\\PC{0,40}", "[a-z.:=!<>()\"\\\\* ]{0,40}", ".{0,40}"]
    ) {
        for level in Level::ALL {
            match Filter::parse(level, &text) {
                Ok(filter) => is_stable(&filter)?,
                Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.position)),
            }
        }
    }

    #[test]
    fn texts_near_to_filters_are_read_or_refused(text in mutated()) {
        match Filter::parse(Level::Rule, &text) {
            Ok(filter) => is_stable(&filter)?,
            Err(error) => prop_assert!((1..=text.chars().count() + 1).contains(&error.position)),
        }
    }

    #[test]
    fn traffic_is_refused_exactly_where_no_packet_is_of_it(traffic in any_traffic()) {
        prop_assume!(traffic != Traffic::default());
        let condition = Logic::Is(Test::Traffic(Box::new(traffic.clone())));
        let filter = Filter { level: Level::Rule, condition };
        let read = Filter::parse(Level::Rule, &filter.to_string());
        prop_assert_eq!(read.is_ok(), has_packets(&traffic), "{} {:?}", filter, read);
    }

    #[test]
    fn aip_160_takes_what_both_languages_have(text in common(3)) {
        prop_assert!(Filter::parse(Level::Rule, &text).is_ok(), "{}", text);
        let second = aip_160::parse_filter(&text);
        prop_assert!(second.is_ok(), "{}: {:?}", text, second);
    }
}

/// Texts that are also filters in AIP-160 and have the same meaning there.
fn common(depth: u32) -> impl Strategy<Value = String> {
    let value = select(vec!["fra", "\"edge 1\"", "\"edge-*\"", "\"*\"", "\"and\""]);
    let text = (
        select(vec!["name", "description", "firewall.name", "filtering_policy.name"]),
        select(vec![" = ", "=", " != "]),
        value,
    )
        .prop_map(|(field, operator, value)| format!("{field}{operator}{value}"));
    let number = (
        select(vec!["priority", "id", "filtering_policy.rule_count"]),
        select(vec!["=", " != ", " < ", "<=", " > ", ">="]),
        -9..10_i64,
    )
        .prop_map(|(field, operator, value)| format!("{field}{operator}{value}"));
    let other = select(vec![
        "labels:site",
        "firewall.labels:env",
        "labels.site = fra",
        "enabled = true",
        "name:edge",
        "description : \"two words\"",
        "expires_at < \"2026-12-31T00:00:00Z\"",
        "icmp_type = null",
        "action != DENY",
    ])
    .prop_map(str::to_owned);
    prop_oneof![text, number, other].prop_recursive(depth, 24, 3, |inner| {
        (prop::collection::vec(inner, 1..4), select(vec![" AND ", " OR "]), any::<bool>()).prop_map(
            |(terms, word, is_negated)| {
                let not = if is_negated { "NOT " } else { "" };
                format!("{not}({})", terms.join(word))
            },
        )
    })
}

#[test]
fn the_second_reader_would_notice_a_mistake() {
    for text in ["name = ", "(name = x", "name = x AND", "name ! x"] {
        assert!(Filter::parse(Level::Rule, text).is_err(), "{text}");
        assert!(aip_160::parse_filter(text).is_err(), "{text}");
    }
}

/// The ```` ```filter ```` blocks of a page: the list that each names, and the filter.
fn examples(page: &str) -> Vec<(Level, String)> {
    let mut out = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.trim() != "```filter" {
            continue;
        }
        let level = match lines.next() {
            Some("# firewalls") => Level::Firewall,
            Some("# policies") => Level::Policy,
            Some("# rules") => Level::Rule,
            Some("# audit events") => Level::Event,
            other => panic!("a block names no list: {other:?}"),
        };
        let filter: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        assert_eq!(filter.len(), 1, "{filter:?}");
        out.push((level, filter.join("\n")));
    }
    out
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/filters.md");

#[test]
fn the_examples_of_the_documentation_are_filters() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let examples = examples(&page);
    assert!(examples.len() > 20, "{}", examples.len());
    for (level, text) in examples {
        let filter = Filter::parse(level, &text).unwrap_or_else(|e| panic!("{text}: {e}"));
        let canonical = filter.to_string();
        assert_eq!(Filter::parse(level, &canonical), Ok(filter), "{text}");
    }
}

/// The rows of the table of a page whose heading begins so.
fn rows<'a>(page: &'a str, heading: &str) -> Vec<Vec<&'a str>> {
    page.lines()
        .skip_while(|line| !line.starts_with(heading))
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect()
}

#[test]
fn the_documentation_lists_each_field_with_its_operators() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let nullable = page.split("These values can be absent:").nth(1).unwrap();
    let nullable = nullable.split("For any other field").next().unwrap();
    // What each cell has in backticks: the fields, and the operators.
    let in_code = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut documented: Vec<(Vec<String>, Vec<String>)> = Vec::new();
    for row in rows(&page, "| what | fields | operators |") {
        let [_, fields, operators] = row.as_slice() else { panic!("{row:?}") };
        let operators = match documented.last() {
            Some((_, above)) if *operators == "the same" => above.clone(),
            _ => in_code(operators),
        };
        documented.push((in_code(fields), operators));
    }
    let mut count = 0;
    for level in Level::ALL {
        for info in describe(level) {
            let is_form = matches!(
                info.kind,
                FieldKind::Label | FieldKind::Labels | FieldKind::Entries | FieldKind::Traffic
            );
            // A field of a parent is documented with those of the parent.
            if is_form || info.name.starts_with("firewall.") || info.name.contains("policy.") {
                continue;
            }
            count += 1;
            let is_row = |(fields, operators): &(Vec<String>, Vec<String>)| {
                fields.contains(&info.name) && *operators == info.operators
            };
            assert!(documented.iter().any(is_row), "{level:?}: {info:?}");
            let is_absent = nullable.contains(&format!("`{}`", info.name));
            assert!(is_absent || !info.is_nullable || info.name.contains('.'), "{info:?}");
        }
    }
    assert!(count > 50, "{count}");
}

#[test]
fn the_mistakes_of_the_documentation_are_told_as_it_says() {
    let page = std::fs::read_to_string(PAGE).unwrap();
    let rows = rows(&page, "| you wrote");
    assert!(rows.len() >= 10, "{}", rows.len());
    for row in rows {
        let [text, message] = row.as_slice() else { panic!("{row:?}") };
        let text = text.trim_matches('`').replace("\\|", "|");
        let message = message.trim_start_matches("at ").trim_end_matches('…');
        let error = refusal(Level::Rule, &text).to_string();
        assert!(error.starts_with(&format!("at {message}")), "{text}: {error}");
    }
}

#[test]
fn ports_and_addresses_keep_their_canonical_spelling_in_filters() {
    let range = PortRange::parse("20-30").unwrap();
    let filter = Filter::parse(Level::Rule, "ports IN (20-30, \"20-30\")").unwrap();
    let one_of = PortTest::Range(RangeTest::OneOf(vec![range, range]));
    assert_eq!(filter.condition, Logic::Is(Test::Ports(one_of)));
}

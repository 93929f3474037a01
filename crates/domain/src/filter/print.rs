//! The canonical spelling of a filter, which [`Filter::parse`] parses into the same tree.
//!
//! It can be longer than the text that was parsed (spaces, whole timestamps). It is never nested
//! more deeply, and never has more comparisons. Keywords are in capitals. Quotes and parentheses
//! are written only if they are necessary.

use std::fmt::{self, Display};

use super::fields::{EntryMember, Field, Operator, TrafficMember};
use super::findings::FindingTest;
use super::lexer::Keyword;
use super::tree::{
    EntryTest, Filter, LabelTest, Level, Logic, Ordered, Pattern, PortTest, RangeTest, Test,
    TextTest, Traffic,
};

impl Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        let written = |test: &Test| comparison(test, self.level);
        write_logic(&mut out, &self.condition, &written, Around::Nothing);
        f.write_str(&out)
    }
}

/// A test in its written form.
#[derive(Debug)]
struct Comparison {
    field: String,
    relation: Relation,
}

#[derive(Debug)]
enum Relation {
    /// `= null`.
    Null,
    /// `=` or `IN`.
    OneOf(Vec<String>),
    /// Another operator and its value.
    Other(Operator, String),
}

impl Relation {
    fn one_of<T: Display>(values: &[T]) -> Self {
        Self::OneOf(values.iter().map(ToString::to_string).collect())
    }

    fn patterns(patterns: &[Pattern]) -> Self {
        Self::OneOf(patterns.iter().map(pattern).collect())
    }
}

/// The context of a condition.
#[derive(Debug, Clone, Copy)]
enum Around {
    Nothing,
    /// Inside AND, OR or NOT, where parentheses mark each group.
    Logic,
}

fn write_logic<T>(
    out: &mut String,
    logic: &Logic<T>,
    written: &dyn Fn(&T) -> Comparison,
    around: Around,
) {
    if let Some(comparison) = as_comparison(logic, written) {
        return write_comparison(out, &comparison, false);
    }
    let (terms, word) = match logic {
        Logic::All(terms) => (terms, " AND "),
        Logic::Any(terms) => (terms, " OR "),
        Logic::Not(term) => return write_negated(out, term, written),
        Logic::Is(test) => return write_comparison(out, &written(test), false),
    };
    let (open, close) = match around {
        Around::Nothing => ("", ""),
        Around::Logic => ("(", ")"),
    };
    out.push_str(open);
    for (index, term) in terms.iter().enumerate() {
        if index > 0 {
            out.push_str(word);
        }
        write_logic(out, term, written, Around::Logic);
    }
    out.push_str(close);
}

fn write_negated<T>(out: &mut String, term: &Logic<T>, written: &dyn Fn(&T) -> Comparison) {
    if let Some(comparison) = as_comparison(term, written) {
        return write_comparison(out, &comparison, true);
    }
    out.push_str("NOT ");
    match term {
        Logic::All(_) | Logic::Any(_) | Logic::Is(_) => {
            write_logic(out, term, written, Around::Logic);
        }
        Logic::Not(inner) => {
            // `NOT a != 1` needs no parentheses. They would also add a level of nesting.
            let is_unequal = as_comparison(inner, written).is_some_and(|it| it.has_unequal());
            let (open, close) = if is_unequal { ("", "") } else { ("(", ")") };
            out.push_str(open);
            write_negated(out, inner, written);
            out.push_str(close);
        }
    }
}

/// The condition as one comparison, if it is one test. `= null` OR values of the same field is one,
/// too: `IN (null, …)`.
fn as_comparison<T>(logic: &Logic<T>, written: &dyn Fn(&T) -> Comparison) -> Option<Comparison> {
    let terms = match logic {
        Logic::Is(test) => return Some(written(test)),
        Logic::Any(terms) => terms.as_slice(),
        Logic::All(_) | Logic::Not(_) => return None,
    };
    let [Logic::Is(first), Logic::Is(second)] = terms else { return None };
    let (first, second) = (written(first), written(second));
    match (first.relation, second.relation) {
        (Relation::Null, Relation::OneOf(values)) if first.field == second.field => {
            let with_null = ["null".to_owned()].into_iter().chain(values).collect();
            Some(Comparison { field: first.field, relation: Relation::OneOf(with_null) })
        }
        (Relation::Null | Relation::OneOf(_) | Relation::Other(..), _) => None,
    }
}

impl Comparison {
    /// Whether its negation is written with `!=`.
    fn has_unequal(&self) -> bool {
        match &self.relation {
            Relation::Null => true,
            Relation::OneOf(values) => values.len() == 1,
            Relation::Other(..) => false,
        }
    }
}

fn write_comparison(out: &mut String, comparison: &Comparison, is_negated: bool) {
    let Comparison { field, relation } = comparison;
    let equal = if is_negated { "!=" } else { "=" };
    if is_negated && !comparison.has_unequal() {
        out.push_str("NOT ");
    }
    let text = match relation {
        Relation::Null => format!("{field} {equal} null"),
        Relation::OneOf(values) => match values.as_slice() {
            [value] => format!("{field} {equal} {value}"),
            values => format!("{field} IN ({})", values.join(", ")),
        },
        Relation::Other(Operator::Has, value) => format!("{field}:{value}"),
        Relation::Other(operator, value) => format!("{field} {} {value}", operator.as_str()),
    };
    out.push_str(&text);
}

fn comparison(test: &Test, level: Level) -> Comparison {
    let (field, relation) = match test {
        Test::Number(field, test) => (Field::Number(*field), ordered(test)),
        Test::Instant(field, test) => (Field::Instant(*field), ordered(test)),
        Test::Text(field, test) => {
            let relation = match test {
                TextTest::Absent => Relation::Null,
                TextTest::OneOf(patterns) => Relation::patterns(patterns),
                TextTest::Holds(text) => Relation::Other(Operator::Has, quoted("", text, "")),
            };
            (Field::Text(*field), relation)
        }
        Test::Flag(field, flag) => (Field::Flag(*field), Relation::one_of(&[flag])),
        Test::Action(field, actions) => (Field::Action(*field), Relation::one_of(actions)),
        Test::State(states) => {
            let words: Vec<&str> = states.iter().map(|state| state.as_str()).collect();
            (Field::State, Relation::one_of(&words))
        }
        Test::AuditAction(actions) => {
            let words: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
            (Field::AuditAction, Relation::one_of(&words))
        }
        Test::Resource(kinds) => {
            let words: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            (Field::Resource, Relation::one_of(&words))
        }
        Test::Warning(None) => (Field::Warnings, Relation::Null),
        Test::Warning(Some(codes)) => {
            let words: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
            (Field::Warnings, Relation::one_of(&words))
        }
        Test::Finding(FindingTest { kinds: None, .. }) => (Field::Finding, Relation::Null),
        Test::Finding(FindingTest { kinds: Some(kinds), .. }) => {
            let words: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
            (Field::Finding, Relation::one_of(&words))
        }
        Test::Label(owner, key, test) => return label(level, *owner, key, test),
        Test::Protocol(None) => (Field::Protocols, Relation::Null),
        Test::Protocol(Some(protocols)) => (Field::Protocols, Relation::one_of(protocols)),
        Test::Ports(test) => (Field::Ports, ports(test)),
        Test::Entry(side, Logic::Is(test)) => {
            let (member, relation) = entry(test);
            (Field::Entry(*side, member), relation)
        }
        Test::Entry(side, condition) => {
            let written = |test: &EntryTest| {
                let (member, relation) = entry(test);
                Comparison { field: member.word().to_owned(), relation }
            };
            let mut inside = String::from("(");
            write_logic(&mut inside, condition, &written, Around::Nothing);
            inside.push(')');
            (Field::Entries(*side), Relation::Other(Operator::Has, inside))
        }
        Test::Traffic(it) => (Field::Traffic, Relation::Other(Operator::Has, traffic(it))),
    };
    Comparison { field: field.name(level), relation }
}

fn label(level: Level, owner: Level, key: &str, test: &LabelTest) -> Comparison {
    let labels = Field::Labels(owner).name(level);
    let (field, relation) = match test {
        LabelTest::Present => (labels, Relation::Other(Operator::Has, quoted("", key, ""))),
        LabelTest::Absent => (format!("{labels}.{key}"), Relation::Null),
        LabelTest::OneOf(patterns) => (format!("{labels}.{key}"), Relation::patterns(patterns)),
        LabelTest::Holds(text) => {
            (format!("{labels}.{key}"), Relation::Other(Operator::Has, quoted("", text, "")))
        }
    };
    Comparison { field, relation }
}

fn ordered<T: Display>(test: &Ordered<T>) -> Relation {
    match test {
        Ordered::Absent => Relation::Null,
        Ordered::OneOf(values) => Relation::one_of(values),
        Ordered::Less(value) => Relation::Other(Operator::Less, value.to_string()),
        Ordered::AtMost(value) => Relation::Other(Operator::AtMost, value.to_string()),
        Ordered::Greater(value) => Relation::Other(Operator::Greater, value.to_string()),
        Ordered::AtLeast(value) => Relation::Other(Operator::AtLeast, value.to_string()),
    }
}

fn range<R: Display>(test: &RangeTest<R>) -> Relation {
    match test {
        RangeTest::OneOf(values) => Relation::one_of(values),
        RangeTest::Within(value) => Relation::Other(Operator::Within, value.to_string()),
        RangeTest::Contains(value) => Relation::Other(Operator::Contains, value.to_string()),
        RangeTest::Overlaps(value) => Relation::Other(Operator::Overlaps, value.to_string()),
    }
}

fn ports(test: &PortTest) -> Relation {
    match test {
        PortTest::Absent => Relation::Null,
        PortTest::Range(test) => range(test),
    }
}

fn entry(test: &EntryTest) -> (EntryMember, Relation) {
    match test {
        EntryTest::Address(test) => (EntryMember::Address, range(test)),
        EntryTest::Port(test) => (EntryMember::Port, ports(test)),
    }
}

fn traffic(traffic: &Traffic) -> String {
    let said = TrafficMember::ALL.into_iter().filter_map(|member| {
        let value = match member {
            TrafficMember::Family => traffic.family.map(|it| it.as_str().to_owned()),
            TrafficMember::Source => traffic.source.map(|it| it.to_string()),
            TrafficMember::SourcePort => traffic.source_port.map(|it| it.to_string()),
            TrafficMember::Destination => traffic.destination.map(|it| it.to_string()),
            TrafficMember::DestinationPort => traffic.destination_port.map(|it| it.to_string()),
            TrafficMember::Protocol => traffic.protocol.map(|it| it.to_string()),
            TrafficMember::IcmpType => traffic.icmp_type.map(|it| it.to_string()),
            TrafficMember::IcmpCode => traffic.icmp_code.map(|it| it.to_string()),
        };
        value.map(|value| format!("{} = {value}", member.word()))
    });
    format!("({})", said.collect::<Vec<_>>().join(" AND "))
}

fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Exact(text) => quoted("", text, ""),
        Pattern::Prefix(text) => quoted("", text, "*"),
        Pattern::Suffix(text) => quoted("*", text, ""),
        Pattern::Infix(text) => quoted("*", text, "*"),
    }
}

/// Writes a text with stars around it, in quotes unless it is a word and certainly not a keyword.
fn quoted(before: &str, text: &str, behind: &str) -> String {
    let is_word = |character: char| {
        character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '/' | ':' | '@' | '-')
    };
    let has_stars = !before.is_empty() || !behind.is_empty();
    let is_bare = text.chars().all(is_word)
        && (has_stars || !text.is_empty() && Keyword::parse(text).is_none());
    if is_bare {
        return format!("{before}{text}{behind}");
    }
    let mut out = format!("\"{before}");
    for character in text.chars() {
        if matches!(character, '"' | '\\' | '*') {
            out.push('\\');
        }
        out.push(character);
    }
    out.push_str(behind);
    out.push('"');
    out
}

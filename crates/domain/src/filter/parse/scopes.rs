//! Conditions, parsed by the type of their field: those of a list, and those inside an entry.

use super::names::{self, Named};
use super::{After, Comparison, Parser, Scope, Subject, operators, traffic, values};
use crate::filter::error::{FilterError, listed, shown};
use crate::filter::fields::{EntryMember, Field, LABEL, Operator, side_word, some_text};
use crate::filter::findings::FindingTest;
use crate::filter::lexer::{Value, Word};
use crate::filter::tree::{
    EntryTest, LabelTest, Level, Logic, Ordered, Pattern, PortTest, RangeTest, Side, Test,
    TextField, TextTest,
};
use crate::net::PortRange;

/// The fields of the list.
pub(super) struct List;

/// The members of an entry of a side.
struct SideEntry(Side);

impl Scope for List {
    type Test = Test;

    fn condition(&self, parser: &mut Parser<'_>, after: After) -> Result<Logic<Test>, FilterError> {
        let example = format!("{} = \"edge-*\"", some_text(parser.level));
        let word = parser.field(after, &example)?;
        match names::resolve(parser.level, word.text).map_err(|why| parser.no_field(word, why))? {
            Named::Field(field) => {
                parser.of_field(field, Subject { name: word.text, traits: field.traits() })
            }
            Named::Label(level, key) => {
                parser.of_label(level, key, Subject { name: word.text, traits: LABEL })
            }
        }
    }
}

impl Scope for SideEntry {
    type Test = EntryTest;

    fn condition(
        &self,
        parser: &mut Parser<'_>,
        after: After,
    ) -> Result<Logic<EntryTest>, FilterError> {
        let word = parser.field(after, "address CONTAINS 10.1.2.3")?;
        let member = EntryMember::ALL.into_iter().find(|member| member.word() == word.text);
        match member {
            Some(member) => {
                parser.of_member(member, Subject { name: word.text, traits: member.traits() })
            }
            None => Err(self.no_member(word, parser.level)),
        }
    }
}

impl SideEntry {
    fn no_member(&self, word: Word<'_>, level: Level) -> FilterError {
        let (given, side) = (shown(word.text), side_word(self.0));
        let inner = word.text.strip_prefix(side).and_then(|rest| rest.strip_prefix('.'));
        let detail = if let Some(inner) = inner {
            format!("inside `{side}:( … )` write `{}`, without `{side}.`", shown(inner))
        } else {
            let elsewhere = if names::resolve(level, word.text).is_ok() {
                "; conditions on the rule itself go outside the parentheses"
            } else {
                ""
            };
            let members = listed(EntryMember::ALL.map(EntryMember::word), "and");
            format!("`{given}` is not a member of an entry, which has {members}{elsewhere}")
        };
        FilterError::new(word.position, detail)
    }
}

/// The same condition with every test converted.
fn map<T, U>(logic: Logic<T>, test: &impl Fn(T) -> U) -> Logic<U> {
    let all = |terms: Vec<Logic<T>>| terms.into_iter().map(|term| map(term, test)).collect();
    match logic {
        Logic::All(terms) => Logic::All(all(terms)),
        Logic::Any(terms) => Logic::Any(all(terms)),
        Logic::Not(term) => Logic::Not(Box::new(map(*term, test))),
        Logic::Is(it) => Logic::Is(test(it)),
    }
}

/// The error about an operator that the field does not take.
fn refused(subject: Subject<'_>, operator: Operator, position: usize) -> FilterError {
    FilterError::new(position, operators::refused(subject.name, operator, subject.traits))
}

fn ordered<T>(operator: Operator, value: T) -> Option<Ordered<T>> {
    match operator {
        Operator::Less => Some(Ordered::Less(value)),
        Operator::AtMost => Some(Ordered::AtMost(value)),
        Operator::Greater => Some(Ordered::Greater(value)),
        Operator::AtLeast => Some(Ordered::AtLeast(value)),
        Operator::Equal
        | Operator::NotEqual
        | Operator::In
        | Operator::Has
        | Operator::Within
        | Operator::Contains
        | Operator::Overlaps => None,
    }
}

fn range<R>(operator: Operator, value: R) -> Option<RangeTest<R>> {
    match operator {
        Operator::Within => Some(RangeTest::Within(value)),
        Operator::Contains => Some(RangeTest::Contains(value)),
        Operator::Overlaps => Some(RangeTest::Overlaps(value)),
        Operator::Equal
        | Operator::NotEqual
        | Operator::Less
        | Operator::AtMost
        | Operator::Greater
        | Operator::AtLeast
        | Operator::In
        | Operator::Has => None,
    }
}

impl Parser<'_> {
    fn of_field(&mut self, field: Field, subject: Subject<'_>) -> Result<Logic<Test>, FilterError> {
        match field {
            Field::Number(field) => {
                self.of_ordered(subject, values::integer, |it| Test::Number(field, it))
            }
            Field::Instant(field) => {
                self.of_ordered(subject, values::moment, |it| Test::Instant(field, it))
            }
            Field::Text(field) => self.of_text(field, subject),
            Field::Flag(field) => {
                let (operator, _) = self.operator(subject)?;
                let flag = self.single(subject, operator, values::flag)?;
                let condition = Logic::Is(Test::Flag(field, flag));
                Ok(if operator == Operator::NotEqual {
                    Logic::Not(Box::new(condition))
                } else {
                    condition
                })
            }
            Field::Action(field) => {
                self.some_of(subject, values::action, None, |it| Test::Action(field, it))
            }
            Field::State => self.some_of(subject, values::state, None, Test::State),
            Field::Warnings => {
                let absent = Some(Test::Warning(None));
                self.some_of(subject, values::warning, absent, |it| Test::Warning(Some(it)))
            }
            Field::Finding => {
                let of_kinds = |kinds| Test::Finding(FindingTest::new(kinds));
                self.some_of(subject, values::finding, Some(of_kinds(None)), |it| {
                    of_kinds(Some(it))
                })
            }
            Field::AuditAction => {
                self.some_of(subject, values::audit_action, None, Test::AuditAction)
            }
            Field::Resource => self.some_of(subject, values::resource, None, Test::Resource),
            Field::Protocols => {
                let absent = Some(Test::Protocol(None));
                self.some_of(subject, values::protocol, absent, |it| Test::Protocol(Some(it)))
            }
            Field::Labels(level) => {
                let (operator, _) = self.operator(subject)?;
                let key = self.single(subject, operator, values::key)?;
                Ok(Logic::Is(Test::Label(level, key, LabelTest::Present)))
            }
            Field::Ports => Ok(map(self.of_ports(subject)?, &Test::Ports)),
            Field::Entry(side, member) => {
                let condition = self.of_member(member, subject)?;
                Ok(map(condition, &|test| Test::Entry(side, Logic::Is(test))))
            }
            Field::Entries(side) => {
                self.group(subject)?;
                let inside = |parser: &mut Self| parser.logic(&SideEntry(side), After::Parenthesis);
                Ok(Logic::Is(Test::Entry(side, self.parentheses(inside)?)))
            }
            Field::Traffic => {
                self.group(subject)?;
                let traffic = self.parentheses(traffic::read)?;
                Ok(Logic::Is(Test::Traffic(Box::new(traffic))))
            }
        }
    }

    /// Parses the rest of a condition on an ordered field.
    fn of_ordered<V>(
        &mut self,
        subject: Subject<'_>,
        read: impl Fn(&Value<'_>) -> values::Parsed<V>,
        test: impl Fn(Ordered<V>) -> Test,
    ) -> Result<Logic<Test>, FilterError> {
        let (operator, position) = self.operator(subject)?;
        match self.comparison(subject, operator, read)? {
            Comparison::Equality(equality) => {
                Ok(equality.into_logic(Some(test(Ordered::Absent)), |it| test(Ordered::OneOf(it))))
            }
            Comparison::Other(operator, value) => ordered(operator, value)
                .map(|it| Logic::Is(test(it)))
                .ok_or_else(|| refused(subject, operator, position)),
        }
    }

    fn of_text(
        &mut self,
        field: TextField,
        subject: Subject<'_>,
    ) -> Result<Logic<Test>, FilterError> {
        let test = |test| Test::Text(field, test);
        self.searched(
            subject,
            || test(TextTest::Absent),
            |it| test(TextTest::OneOf(it)),
            |it| test(TextTest::Holds(it)),
        )
    }

    /// A text: patterns, or a part that `:` searches it for.
    fn searched(
        &mut self,
        subject: Subject<'_>,
        absent: impl FnOnce() -> Test,
        one_of: impl FnOnce(Vec<Pattern>) -> Test,
        holds: impl FnOnce(String) -> Test,
    ) -> Result<Logic<Test>, FilterError> {
        let (operator, position) = self.operator(subject)?;
        if operator == Operator::Has {
            return Ok(Logic::Is(holds(self.single(subject, operator, values::needle)?)));
        }
        match self.comparison(subject, operator, values::pattern)? {
            Comparison::Equality(equality) => Ok(equality.into_logic(Some(absent()), one_of)),
            Comparison::Other(operator, _) => Err(refused(subject, operator, position)),
        }
    }

    fn of_label(
        &mut self,
        level: Level,
        key: &str,
        subject: Subject<'_>,
    ) -> Result<Logic<Test>, FilterError> {
        let test = |test| Test::Label(level, key.to_owned(), test);
        self.searched(
            subject,
            || test(LabelTest::Absent),
            |it| test(LabelTest::OneOf(it)),
            |it| test(LabelTest::Holds(it)),
        )
    }

    fn of_member(
        &mut self,
        member: EntryMember,
        subject: Subject<'_>,
    ) -> Result<Logic<EntryTest>, FilterError> {
        match member {
            EntryMember::Address => {
                let (operator, position) = self.operator(subject)?;
                match self.comparison(subject, operator, values::addresses)? {
                    Comparison::Equality(equality) => {
                        Ok(equality.into_logic(None, |it| EntryTest::Address(RangeTest::OneOf(it))))
                    }
                    Comparison::Other(operator, value) => range(operator, value)
                        .map(|it| Logic::Is(EntryTest::Address(it)))
                        .ok_or_else(|| refused(subject, operator, position)),
                }
            }
            EntryMember::Port => Ok(map(self.of_ports(subject)?, &EntryTest::Port)),
        }
    }

    fn of_ports(&mut self, subject: Subject<'_>) -> Result<Logic<PortTest>, FilterError> {
        let one_of = |it: Vec<PortRange>| PortTest::Range(RangeTest::OneOf(it));
        let (operator, position) = self.operator(subject)?;
        match self.comparison(subject, operator, values::ports)? {
            Comparison::Equality(equality) => {
                Ok(equality.into_logic(Some(PortTest::Absent), one_of))
            }
            Comparison::Other(operator, value) => range(operator, value)
                .map(|it| Logic::Is(PortTest::Range(it)))
                .ok_or_else(|| refused(subject, operator, position)),
        }
    }

    /// Parses the rest of a condition on a field that takes only `=`, `!=` and IN.
    fn some_of<V, T>(
        &mut self,
        subject: Subject<'_>,
        read: impl Fn(&Value<'_>) -> values::Parsed<V>,
        absent: Option<T>,
        one_of: impl FnOnce(Vec<V>) -> T,
    ) -> Result<Logic<T>, FilterError> {
        let (operator, position) = self.operator(subject)?;
        match self.comparison(subject, operator, read)? {
            Comparison::Equality(equality) => Ok(equality.into_logic(absent, one_of)),
            Comparison::Other(operator, _) => Err(refused(subject, operator, position)),
        }
    }

    /// Reads the `:` of a group. The next character must be `(`, which is not consumed.
    fn group(&mut self, subject: Subject<'_>) -> Result<(), FilterError> {
        self.operator(subject)?;
        self.lexer.skip_space();
        if self.lexer.peek() == Some('(') {
            return Ok(());
        }
        Err(self.error(format!(
            "{}; `{1}:` is followed by conditions in parentheses: `{1}:{2}`",
            self.lexer.found(),
            subject.name,
            operators::bare(subject.traits.kind)
        )))
    }
}

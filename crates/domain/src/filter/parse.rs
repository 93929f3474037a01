//! The parser of filters: text to tree, by recursive descent. The recursion is limited to
//! [`MAX_FILTER_DEPTH`], and the time is linear in the text.

mod names;
mod operators;
mod scopes;
mod traffic;
mod values;

use self::scopes::List;
use super::error::{FilterError, Readings, shown};
use super::fields::{FieldKind, Operator, Traits, some_text};
use super::lexer::{Keyword, Lexer, Value, Word};
use super::tree::{Filter, Level, Logic};

/// The longest filter, in characters.
pub const MAX_FILTER_CHARS: usize = 4_096;
/// The greatest depth of nested parentheses.
pub const MAX_FILTER_DEPTH: usize = 32;
/// The most comparisons of a filter; each value of `IN ( … )` counts as one.
pub const MAX_FILTER_COMPARISONS: usize = 128;
/// The most characters of the terms that an error about AND and OR repeats.
const MAX_READING_CHARS: usize = 200;

impl Filter {
    /// Parses a filter of a list of a level. Parentheses that group nothing are dropped. Every
    /// group is kept, even AND in AND. `IN` with null among its values becomes `= null` OR the
    /// rest.
    ///
    /// # Errors
    /// Returns the first mistake, with its position and what would be right. It is also a mistake
    /// if no packet can be in a set of traffic, or if the filter exceeds [`MAX_FILTER_CHARS`],
    /// [`MAX_FILTER_DEPTH`] or [`MAX_FILTER_COMPARISONS`].
    pub fn parse(level: Level, text: &str) -> Result<Self, FilterError> {
        let chars = text.chars().count();
        if chars > MAX_FILTER_CHARS {
            return Err(FilterError::new(
                MAX_FILTER_CHARS + 1,
                format!(
                    "the filter has {chars} characters; at most {MAX_FILTER_CHARS} are allowed"
                ),
            ));
        }
        let mut parser = Parser { lexer: Lexer::new(text), level, depth: 0, comparisons: 0 };
        parser.lexer.skip_space();
        if parser.lexer.peek().is_none() {
            return Err(FilterError::new(
                1,
                format!(
                    "the filter is empty; leave it out to get everything, or write a condition \
                     such as `{} = \"edge-*\"`",
                    some_text(level)
                ),
            ));
        }
        let condition = parser.logic(&List, After::Nothing)?;
        if parser.lexer.peek().is_some() {
            return Err(parser.error("unmatched `)`"));
        }
        Ok(Self { level, condition })
    }
}

/// The element that precedes a condition, for the message about a missing condition.
#[derive(Debug, Clone, Copy)]
enum After {
    Nothing,
    Parenthesis,
    And,
    Or,
    Not,
}

impl After {
    const fn words(self) -> &'static str {
        match self {
            Self::Nothing => "at the beginning",
            Self::Parenthesis => "after `(`",
            Self::And => "after AND",
            Self::Or => "after OR",
            Self::Not => "after NOT",
        }
    }
}

/// The place of conditions, which decides the fields that exist.
trait Scope {
    type Test;

    /// Reads one condition.
    fn condition(
        &self,
        parser: &mut Parser<'_>,
        after: After,
    ) -> Result<Logic<Self::Test>, FilterError>;
}

/// A field as it was written, and its properties.
#[derive(Debug, Clone, Copy)]
struct Subject<'a> {
    name: &'a str,
    traits: Traits,
}

/// The operator and the values that follow a field.
enum Comparison<V> {
    Equality(Equality<V>),
    /// Another operator of the field.
    Other(Operator, V),
}

/// `=`, `!=` and `IN`: null or one of the values.
struct Equality<V> {
    is_negated: bool,
    is_null: bool,
    values: Vec<V>,
}

impl<V> Equality<V> {
    /// Converts it to a condition. `absent` is the test for null, if the field can be null.
    fn into_logic<T>(self, absent: Option<T>, one_of: impl FnOnce(Vec<V>) -> T) -> Logic<T> {
        let condition = match absent.filter(|_| self.is_null).map(Logic::Is) {
            None => Logic::Is(one_of(self.values)),
            Some(absent) if self.values.is_empty() => absent,
            Some(absent) => Logic::Any(vec![absent, Logic::Is(one_of(self.values))]),
        };
        if self.is_negated { Logic::Not(Box::new(condition)) } else { condition }
    }
}

#[derive(Debug)]
struct Parser<'a> {
    lexer: Lexer<'a>,
    level: Level,
    /// The number of open parentheses.
    depth: usize,
    comparisons: usize,
}

impl<'a> Parser<'a> {
    fn error(&self, detail: impl Into<String>) -> FilterError {
        FilterError::new(self.lexer.position(), detail)
    }

    /// Parses terms up to the end or a `)`, which is not consumed.
    fn logic<S: Scope>(&mut self, scope: &S, after: After) -> Result<Logic<S::Test>, FilterError> {
        let (mut terms, mut texts, mut words) = (Vec::new(), Vec::new(), Vec::new());
        let mut after = after;
        let mut mixed = None;
        loop {
            self.lexer.skip_space();
            let mark = self.lexer.mark();
            terms.push(self.term(scope, after)?);
            texts.push(self.lexer.since(mark));
            self.lexer.skip_space();
            let position = self.lexer.position();
            let word = match self.lexer.peek() {
                None | Some(')') => break,
                Some(_) => self.junction()?,
            };
            let (word, next) = word;
            if words.first().is_some_and(|first| *first != word) {
                mixed = mixed.or(Some((position, words.len())));
            }
            words.push(word);
            after = next;
        }
        if let Some((position, at)) = mixed {
            return Err(FilterError::new(position, mixed_detail(&texts, &words, at)));
        }
        if terms.len() > 1 {
            return Ok(if words.first() == Some(&"OR") {
                Logic::Any(terms)
            } else {
                Logic::All(terms)
            });
        }
        // The loop has pushed one term in every iteration.
        terms.pop().ok_or_else(|| self.error("a condition is missing"))
    }

    /// Parses AND or OR.
    fn junction(&mut self) -> Result<(&'static str, After), FilterError> {
        let found = match self.lexer.peek_keyword() {
            Some(Keyword::And) => ("AND", After::And),
            Some(Keyword::Or) => ("OR", After::Or),
            _ => {
                let rest = self.lexer.rest();
                let hint = if rest.starts_with('&') {
                    "write AND"
                } else if rest.starts_with('|') {
                    "write OR"
                } else {
                    "AND or OR is missing between two conditions; a value with spaces or other \
                     special characters needs quotes"
                };
                return Err(self.error(format!("{}; {hint}", self.lexer.found())));
            }
        };
        self.lexer.word();
        Ok(found)
    }

    fn term<S: Scope>(&mut self, scope: &S, after: After) -> Result<Logic<S::Test>, FilterError> {
        if self.lexer.peek_keyword() != Some(Keyword::Not) {
            return self.operand(scope, after);
        }
        self.lexer.word();
        self.lexer.skip_space();
        if self.lexer.peek_keyword() == Some(Keyword::Not) {
            return Err(
                self.error("NOT is repeated; remove both, or use parentheses: `NOT (NOT …)`")
            );
        }
        Ok(Logic::Not(Box::new(self.operand(scope, After::Not)?)))
    }

    /// Parses the operand of NOT.
    fn operand<S: Scope>(
        &mut self,
        scope: &S,
        after: After,
    ) -> Result<Logic<S::Test>, FilterError> {
        if self.lexer.peek() != Some('(') {
            return scope.condition(self, after);
        }
        self.parentheses(|parser| parser.logic(scope, After::Parenthesis))
    }

    /// Parses the content of parentheses. The next character is `(`.
    fn parentheses<T>(
        &mut self,
        inside: impl FnOnce(&mut Self) -> Result<T, FilterError>,
    ) -> Result<T, FilterError> {
        let open = self.lexer.position();
        if self.depth == MAX_FILTER_DEPTH {
            return Err(
                self.error(format!("parentheses are nested more than {MAX_FILTER_DEPTH} deep"))
            );
        }
        self.lexer.bump();
        self.depth += 1;
        let read = inside(self)?;
        self.depth -= 1;
        self.lexer.skip_space();
        if self.lexer.eat(')') { Ok(read) } else { Err(unclosed(open)) }
    }

    /// Reads the name of a field. `example` is a condition that would be right here.
    fn field(&mut self, after: After, example: &str) -> Result<Word<'a>, FilterError> {
        let word = self.lexer.word();
        let no_condition = |what: String| {
            FilterError::new(
                word.position,
                format!(
                    "{what}; a condition is missing {}: `field operator value`, such as `{example}`",
                    after.words()
                ),
            )
        };
        if word.text.is_empty() {
            let rest = self.lexer.rest();
            let hint = if rest.starts_with('!') {
                "unexpected `!`; write NOT".to_owned()
            } else if rest.starts_with('"') {
                format!(
                    "a field is written without quotes; a quoted text must follow a field and an \
                     operator: `{} = \"edge-1\"`",
                    some_text(self.level)
                )
            } else {
                return Err(no_condition(self.lexer.found()));
            };
            return Err(FilterError::new(word.position, hint));
        }
        match Keyword::parse(word.text) {
            None => Ok(word),
            Some(_) => Err(no_condition(format!("unexpected `{}`", shown(word.text)))),
        }
    }

    /// Whether the next word is an operator, known or not. White space may precede it.
    fn is_compared(&self) -> bool {
        let mut lexer = self.lexer.clone();
        lexer.skip_space();
        !lexer.symbols().text.is_empty() || Operator::parse(lexer.word().text).is_some()
    }

    /// The error about a word that is not a field.
    fn no_field(&self, word: Word<'_>, why: String) -> FilterError {
        let detail = if word.text.starts_with('-') && !word.text.starts_with("--") {
            format!("unexpected `{}`; write NOT instead of `-`", shown(word.text))
        } else if self.is_compared() {
            why
        } else {
            format!(
                "`{}` is not a field; a condition is `field operator value`, such \
                 as `{} = \"*{}*\"`",
                shown(word.text),
                some_text(self.level),
                shown(word.text.trim_matches('*'))
            )
        };
        FilterError::new(word.position, detail)
    }

    /// Reads an operator that the field takes. Also returns its position.
    fn operator(&mut self, subject: Subject<'_>) -> Result<(Operator, usize), FilterError> {
        let Subject { name, traits } = subject;
        self.lexer.skip_space();
        let position = self.lexer.position();
        let found = self.lexer.found();
        let mut text = self.lexer.symbols().text;
        if text.is_empty() {
            text = self.lexer.word().text;
        }
        let missing = matches!(Keyword::parse(text), Some(Keyword::And | Keyword::Or));
        let detail = if text.is_empty() || missing {
            format!(
                "{found}; an operator is missing after `{}`: {}",
                shown(name),
                operators::takes(name, traits)
            )
        } else if let Some(operator) = Operator::parse(text) {
            if traits.operators.contains(&operator) {
                return Ok((operator, position));
            }
            operators::refused(name, operator, traits)
        } else {
            operators::foreign(name, text, traits)
        };
        Err(FilterError::new(position, detail))
    }

    /// Counts one comparison. Returns an error at the limit of comparisons.
    fn count(&mut self, position: usize) -> Result<(), FilterError> {
        self.comparisons += 1;
        if self.comparisons > MAX_FILTER_COMPARISONS {
            return Err(FilterError::new(
                position,
                format!(
                    "the filter has more than {MAX_FILTER_COMPARISONS} comparisons; each value of \
                     IN counts as one"
                ),
            ));
        }
        Ok(())
    }

    /// Reads a value. The only keywords that it may be are null, true and false.
    fn value(&mut self, subject: Subject<'_>) -> Result<Value<'a>, FilterError> {
        self.lexer.skip_space();
        let expected =
            format!("`{}` is compared with {}", shown(subject.name), subject.traits.kind.example());
        match self.lexer.peek() {
            None | Some(')' | ',') => {
                return Err(
                    self.error(format!("{}; a value is missing: {expected}", self.lexer.found()))
                );
            }
            Some('(') => {
                let hint = if subject.traits.operators.contains(&Operator::In) {
                    format!("; for several values write `{} IN (…, …)`", shown(subject.name))
                } else {
                    String::new()
                };
                return Err(self.error(format!("unexpected `(`; {expected}{hint}")));
            }
            Some(_) => {}
        }
        let value = if subject.traits.kind == FieldKind::Timestamp {
            self.lexer.moment()?
        } else {
            self.lexer.value()?
        };
        if value.keyword().is_some_and(|keyword| !keyword.is_value()) {
            return Err(FilterError::new(
                value.position,
                format!(
                    "`{0}` is not a value: {expected}; if you mean the word itself, write \"{0}\"",
                    value.raw
                ),
            ));
        }
        self.count(value.position)?;
        Ok(value)
    }

    /// Reads the value or the values of an operator.
    fn comparison<V>(
        &mut self,
        subject: Subject<'_>,
        operator: Operator,
        read: impl Fn(&Value<'_>) -> values::Parsed<V>,
    ) -> Result<Comparison<V>, FilterError> {
        match operator {
            Operator::In => {
                let (is_null, values) = self.list(subject, read)?;
                Ok(Comparison::Equality(Equality { is_negated: false, is_null, values }))
            }
            Operator::Equal | Operator::NotEqual => {
                let value = self.value(subject)?;
                let is_null = is_null(subject, &value)?;
                let values = if is_null { Vec::new() } else { vec![read_at(&value, read)?] };
                let is_negated = operator == Operator::NotEqual;
                Ok(Comparison::Equality(Equality { is_negated, is_null, values }))
            }
            Operator::Less
            | Operator::AtMost
            | Operator::Greater
            | Operator::AtLeast
            | Operator::Has
            | Operator::Within
            | Operator::Contains
            | Operator::Overlaps => {
                Ok(Comparison::Other(operator, self.single(subject, operator, read)?))
            }
        }
    }

    /// Reads one value, which must not be null.
    fn single<V>(
        &mut self,
        subject: Subject<'_>,
        operator: Operator,
        read: impl Fn(&Value<'_>) -> values::Parsed<V>,
    ) -> Result<V, FilterError> {
        let value = self.value(subject)?;
        if is_null(subject, &value)? {
            return Err(FilterError::new(
                value.position,
                format!(
                    "null is allowed with `=`, `!=` and IN only, not with `{}`",
                    operator.as_str()
                ),
            ));
        }
        read_at(&value, read)
    }

    /// Reads values in parentheses. Returns whether null is among them, and the others.
    fn list<V>(
        &mut self,
        subject: Subject<'_>,
        read: impl Fn(&Value<'_>) -> values::Parsed<V>,
    ) -> Result<(bool, Vec<V>), FilterError> {
        self.lexer.skip_space();
        let open = self.lexer.position();
        if !self.lexer.eat('(') {
            return Err(self.error(format!(
                "{}; IN is followed by values in parentheses: `{} IN (…, …)`",
                self.lexer.found(),
                shown(subject.name)
            )));
        }
        let (mut has_null, mut values) = (false, Vec::new());
        loop {
            let value = self.value(subject)?;
            if is_null(subject, &value)? {
                has_null = true;
            } else {
                values.push(read_at(&value, &read)?);
            }
            self.lexer.skip_space();
            if self.lexer.eat(')') {
                return Ok((has_null, values));
            }
            if self.lexer.peek().is_none() {
                return Err(unclosed(open));
            }
            if !self.lexer.eat(',') {
                return Err(self.error(format!(
                    "{}; values are separated by `,`, and `)` closes the list",
                    self.lexer.found()
                )));
            }
        }
    }
}

fn unclosed(open: usize) -> FilterError {
    FilterError::new(open, "the `(` here is not closed; its `)` is missing")
}

fn read_at<V>(
    value: &Value<'_>,
    read: impl Fn(&Value<'_>) -> values::Parsed<V>,
) -> Result<V, FilterError> {
    read(value).map_err(|detail| FilterError::new(value.position, detail))
}

/// Whether a value is null. Returns an error if the field cannot be null.
fn is_null(subject: Subject<'_>, value: &Value<'_>) -> Result<bool, FilterError> {
    let is_null = value.keyword() == Some(Keyword::Null);
    if is_null && !subject.traits.is_nullable {
        return Err(FilterError::new(
            value.position,
            format!(
                "`{}` is never null; it is compared with {}",
                shown(subject.name),
                subject.traits.kind.example()
            ),
        ));
    }
    Ok(is_null)
}

fn mixed_detail(texts: &[&str], words: &[&'static str], at: usize) -> String {
    let chars: usize = texts.iter().map(|text| text.chars().count()).sum();
    let (mut before, mut behind) = ("", "");
    let (mut terms, mut between) = (texts, words);
    if chars > MAX_READING_CHARS
        && let Some(near) = texts.get(at.saturating_sub(1)..=at + 1)
        && let Some(near_words) = words.get(at.saturating_sub(1)..=at)
    {
        before = if at > 1 { "… " } else { "" };
        behind = if at + 2 < texts.len() { " …" } else { "" };
        (terms, between) = (near, near_words);
    }
    let Readings { and_first, or_first } = Readings::of(terms, between);
    format!(
        "AND and OR are mixed without parentheses, which is ambiguous; write \
         `{before}{and_first}{behind}` or `{before}{or_first}{behind}`"
    )
}

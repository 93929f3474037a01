//! Words, operators and values of a filter. The meaning of a character depends on its place, so the
//! caller chooses what to read. Every step is linear in the text that it consumes.

use super::error::{FilterError, shown};
use super::moment::NOW;

/// A reserved word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keyword {
    And,
    Or,
    Not,
    In,
    Within,
    Contains,
    Overlaps,
    Null,
    True,
    False,
}

impl Keyword {
    const ALL: [(&'static str, Self); 10] = [
        ("AND", Self::And),
        ("OR", Self::Or),
        ("NOT", Self::Not),
        ("IN", Self::In),
        ("WITHIN", Self::Within),
        ("CONTAINS", Self::Contains),
        ("OVERLAPS", Self::Overlaps),
        ("null", Self::Null),
        ("true", Self::True),
        ("false", Self::False),
    ];

    /// Whether it is used as a value.
    pub(super) const fn is_value(self) -> bool {
        matches!(self, Self::Null | Self::True | Self::False)
    }

    /// Parses a keyword in any case.
    pub(super) fn parse(word: &str) -> Option<Self> {
        let mut known = Self::ALL.into_iter();
        known.find(|(known, _)| known.eq_ignore_ascii_case(word)).map(|(_, keyword)| keyword)
    }
}

/// A run of characters that belong together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Word<'a> {
    /// The position of its first character, counted from 1.
    pub(super) position: usize,
    /// The text as it was written.
    pub(super) text: &'a str,
}

/// A value as it was written.
#[derive(Debug)]
pub(super) struct Value<'a> {
    /// The position of its first character, counted from 1.
    pub(super) position: usize,
    /// The text as it was written, quotes included.
    pub(super) raw: &'a str,
    /// The text without quotes and escapes.
    pub(super) text: String,
    /// The offsets in `text`, in bytes, of stars that were not escaped.
    pub(super) stars: Vec<usize>,
    pub(super) is_quoted: bool,
}

impl Value<'_> {
    /// The keyword that it is. A quoted value is never a keyword.
    pub(super) fn keyword(&self) -> Option<Keyword> {
        if self.is_quoted { None } else { Keyword::parse(&self.text) }
    }
}

/// A position in the text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark(usize);

#[derive(Debug, Clone)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    /// In bytes.
    offset: usize,
    /// In characters from 1.
    position: usize,
}

/// Whether a character is white space of the language. Other kinds of white space are a mistake
/// that is hard to see.
const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

/// Whether a character ends a word that is not a value.
const fn ends_word(character: char) -> bool {
    is_space(character)
        || matches!(
            character,
            '=' | '!' | '<' | '>' | ':' | '(' | ')' | ',' | '"' | '~' | '&' | '|' | ';'
        )
}

/// Whether a character ends a value without quotes.
const fn ends_value(character: char) -> bool {
    is_space(character) || matches!(character, '(' | ')' | ',' | '"')
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a str) -> Self {
        Self { text, offset: 0, position: 1 }
    }

    /// The current position, in characters from 1.
    pub(super) const fn position(&self) -> usize {
        self.position
    }

    pub(super) const fn mark(&self) -> Mark {
        Mark(self.offset)
    }

    /// The text from a mark up to the current position.
    pub(super) fn since(&self, mark: Mark) -> &'a str {
        // Both positions are between characters, and the mark comes first.
        self.text.get(mark.0..self.offset).unwrap_or_default()
    }

    pub(super) fn rest(&self) -> &'a str {
        self.text.get(self.offset..).unwrap_or_default()
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    pub(super) fn bump(&mut self) -> Option<char> {
        let character = self.peek()?;
        self.offset += character.len_utf8();
        self.position += 1;
        Some(character)
    }

    /// Consumes a character if it is the next one.
    pub(super) fn eat(&mut self, character: char) -> bool {
        let is_here = self.peek() == Some(character);
        if is_here {
            self.bump();
        }
        is_here
    }

    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> Word<'a> {
        let (mark, position) = (self.mark(), self.position);
        while self.peek().is_some_and(&fits) {
            self.bump();
        }
        Word { position, text: self.since(mark) }
    }

    pub(super) fn skip_space(&mut self) {
        self.take_while(is_space);
    }

    /// Reads a field or keyword, which may be empty. It accepts more characters than names consist
    /// of, so that a misspelled name is read whole.
    pub(super) fn word(&mut self) -> Word<'a> {
        self.take_while(|character| !ends_word(character))
    }

    /// Reads a run of operator characters, which may be empty. A colon counts only at the
    /// beginning, or it would swallow the colons of values such as `::1`.
    pub(super) fn symbols(&mut self) -> Word<'a> {
        let (mark, position) = (self.mark(), self.position);
        self.eat(':');
        self.take_while(|character| matches!(character, '=' | '!' | '<' | '>' | '~' | '&' | '|'));
        Word { position, text: self.since(mark) }
    }

    /// The next word, without consuming it.
    pub(super) fn peek_word(&self) -> Word<'a> {
        self.clone().word()
    }

    /// The next keyword, without consuming it.
    pub(super) fn peek_keyword(&self) -> Option<Keyword> {
        Keyword::parse(self.peek_word().text)
    }

    /// Describes the next word or character for a message.
    pub(super) fn found(&self) -> String {
        let word = self.peek_word().text;
        match self.peek() {
            None => "the filter ends here".to_owned(),
            Some(_) if !word.is_empty() => format!("unexpected `{}`", shown(word)),
            Some(other) => {
                let symbols = self.clone().symbols().text;
                let mut one = [0; 4];
                let text = if symbols.is_empty() { &*other.encode_utf8(&mut one) } else { symbols };
                format!("unexpected `{}`", shown(text))
            }
        }
    }

    /// Reads a value, quoted or not. Without quotes it may be empty.
    pub(super) fn value(&mut self) -> Result<Value<'a>, FilterError> {
        if self.peek() == Some('"') { self.quoted() } else { self.bare() }
    }

    /// A value that can be several words: `now + 30d`.
    pub(super) fn moment(&mut self) -> Result<Value<'a>, FilterError> {
        let mark = self.mark();
        let mut value = self.value()?;
        let stem = value.text.trim_end_matches(['+', '-']);
        if value.is_quoted || !stem.eq_ignore_ascii_case(NOW) {
            return Ok(value);
        }
        let mut ahead = self.clone();
        ahead.skip_space();
        if stem.len() == value.text.len() {
            if ahead.rest().starts_with(|it: char| it.is_ascii_digit()) {
                return Err(FilterError::new(
                    ahead.position,
                    format!(
                        "`+` or `-` is missing between `{}` and `{}`; in the address of a request, \
                         write `+` as `%2B`",
                        value.raw,
                        shown(ahead.peek_word().text)
                    ),
                ));
            }
            let Some(sign @ ('+' | '-')) = ahead.peek() else { return Ok(value) };
            value.text.push(sign);
            ahead.bump();
            ahead.skip_space();
        }
        let amount = ahead.bare()?;
        value.text.push_str(&amount.text);
        *self = ahead;
        value.raw = self.since(mark).trim_end();
        Ok(value)
    }

    fn bare(&mut self) -> Result<Value<'a>, FilterError> {
        if let Some(quote @ ('\'' | '\u{2018}' | '\u{201c}' | '\u{201e}' | '\u{ab}' | '`')) =
            self.peek()
        {
            return Err(FilterError::new(
                self.position,
                format!("unexpected {quote}; quotes must be straight and double: \"so\""),
            ));
        }
        let (mark, start) = (self.mark(), self.position);
        let mut stars = Vec::new();
        let mut wrong = None;
        while let Some(character) = self.peek().filter(|character| !ends_value(*character)) {
            let is_wrong = matches!(character, '=' | '<' | '>' | '!' | '\\')
                || character.is_control()
                || character.is_whitespace();
            if is_wrong {
                wrong = wrong.or(Some((self.position, character)));
            }
            if character == '*' {
                stars.push(self.since(mark).len());
            }
            self.bump();
        }
        let raw = self.since(mark);
        match wrong {
            Some((position, '\\')) => Err(FilterError::new(
                position,
                format!(
                    "`{}` contains `\\` but has no quotes; write the value in quotes, and `\\\\` \
                     for the character itself",
                    shown(raw)
                ),
            )),
            Some((position, character)) => Err(FilterError::new(
                position,
                format!(
                    "`{}` is not allowed in `{}` without quotes; write \"{1}\" if it belongs to \
                     the \
                     value",
                    character.escape_debug(),
                    shown(raw)
                ),
            )),
            None => {
                Ok(Value { position: start, raw, text: raw.to_owned(), stars, is_quoted: false })
            }
        }
    }

    fn quoted(&mut self) -> Result<Value<'a>, FilterError> {
        let (mark, start) = (self.mark(), self.position);
        self.bump();
        let (mut text, mut stars) = (String::new(), Vec::new());
        loop {
            let position = self.position;
            match self.bump() {
                None => {
                    return Err(FilterError::new(
                        start,
                        "the quotes that open here are not closed; inside quotes, `\\\"` is a \
                         quote",
                    ));
                }
                Some('"') => break,
                Some('\\') => match self.bump() {
                    Some(escaped @ ('"' | '\\' | '*')) => text.push(escaped),
                    // The text ends here; the next iteration reports it.
                    None => {}
                    Some(other) => {
                        return Err(FilterError::new(
                            position,
                            format!(
                                "`\\{}` is not an escape; inside quotes use only `\\\"`, `\\\\` \
                                 and `\\*`",
                                other.escape_debug()
                            ),
                        ));
                    }
                },
                Some(control) if control.is_control() && !is_space(control) => {
                    return Err(FilterError::new(
                        position,
                        format!(
                            "the control character U+{:04X} is not allowed; remove it",
                            u32::from(control)
                        ),
                    ));
                }
                Some(character) => {
                    if character == '*' {
                        stars.push(text.len());
                    }
                    text.push(character);
                }
            }
        }
        Ok(Value { position: start, raw: self.since(mark), text, stars, is_quoted: true })
    }
}

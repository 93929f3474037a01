//! Errors in filters with their positions, and the helpers that messages about filters share.

use crate::invisible::show;

/// The most characters of a user's text that a message repeats in one place.
const MAX_SHOWN_CHARS: usize = 60;
/// The most characters of a term that an error about AND and OR repeats.
const MAX_TERM_CHARS: usize = 200;

/// The first mistake in a filter: its position, what is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at position {position}: {detail}")]
pub struct FilterError {
    /// The character at fault, counted from 1; one past the last if something is missing at the
    /// end.
    pub position: usize,
    /// What is wrong and what would be right: a sentence in lower case, without a full stop.
    pub detail: String,
}

impl FilterError {
    pub(super) fn new(position: usize, detail: impl Into<String>) -> Self {
        Self { position, detail: detail.into() }
    }
}

/// Shortens a user's text for a message and puts it on one line. Quotes are kept as they are, so
/// that the text can be copied.
pub(super) fn shown(text: &str) -> String {
    shown_up_to(text, MAX_SHOWN_CHARS)
}

fn shown_up_to(text: &str, max_chars: usize) -> String {
    let mut out = String::new();
    for (index, character) in text.chars().enumerate() {
        if index == max_chars {
            out.push('…');
            break;
        }
        match character {
            '"' | '\'' | '\\' => out.push(character),
            '\n' | '\r' | '\t' => out.push(' '),
            other => show(other, &mut out),
        }
    }
    out
}

/// Joins words into the list of a sentence: `` `a`, `b` and `c` ``.
pub(super) fn listed<'a>(words: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            let between = if index + 1 == words.len() { format!(" {last} ") } else { ", ".into() };
            out.push_str(&between);
        }
        out.push_str(&format!("`{word}`"));
    }
    out
}

/// The two readings of mixed AND and OR, written with the user's own text.
#[derive(Debug)]
pub(super) struct Readings {
    /// With AND binding tighter: `(a AND b) OR c`.
    pub(super) and_first: String,
    /// With OR binding tighter: `a AND (b OR c)`.
    pub(super) or_first: String,
}

impl Readings {
    /// Builds both readings from terms and the words between them, of which there is one fewer.
    pub(super) fn of(terms: &[&str], words: &[&'static str]) -> Self {
        Self { and_first: grouped(terms, words, "AND"), or_first: grouped(terms, words, "OR") }
    }
}

/// Puts parentheses around the terms that `tight` joins.
fn grouped(terms: &[&str], words: &[&'static str], tight: &str) -> String {
    let mut out = String::new();
    let mut is_open = false;
    for (index, term) in terms.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|index| words.get(index)).copied();
        let after = words.get(index).copied();
        if is_open && after != Some(tight) {
            is_open = false;
            write_term(&mut out, before, "", term, ")");
        } else if !is_open && after == Some(tight) {
            is_open = true;
            write_term(&mut out, before, "(", term, "");
        } else {
            write_term(&mut out, before, "", term, "");
        }
    }
    out
}

fn write_term(out: &mut String, word: Option<&str>, open: &str, term: &str, close: &str) {
    if let Some(word) = word {
        out.push_str(&format!(" {word} "));
    }
    out.push_str(&format!("{open}{}{close}", shown_up_to(term, MAX_TERM_CHARS)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_readings_keep_the_order_of_the_terms() {
        let readings = Readings::of(&["a", "b", "c", "d"], &["AND", "OR", "AND"]);
        assert_eq!(readings.and_first, "(a AND b) OR (c AND d)");
        assert_eq!(readings.or_first, "a AND (b OR c) AND d");
        let readings = Readings::of(&["a", "b", "c"], &["OR", "AND"]);
        assert_eq!(readings.and_first, "a OR (b AND c)");
        assert_eq!(readings.or_first, "(a OR b) AND c");
    }

    #[test]
    fn what_is_shown_is_short_and_keeps_its_quotes() {
        assert_eq!(shown("a\n= \"x\\*\"\u{0}"), "a = \"x\\*\"\\0");
        assert_eq!(shown(&"x".repeat(61)), format!("{}…", "x".repeat(60)));
        assert_eq!(listed(["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}

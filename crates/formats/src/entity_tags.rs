//! Lists of entity tags in requests (RFC 9110, sections 5.6.1, 8.8.3 and 13.1).

use fireflow_domain::mark::StateTag;
use fireflow_domain::text::excerpt;
use fireflow_domain::usecase::{Named, NamedState};

/// The most tags in a list.
pub const MAX_TAGS: usize = 100;

/// The value of `If-Match` or `If-None-Match`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tags {
    /// `*`.
    Any,
    /// At least one tag.
    Listed(Vec<Tag>),
}

/// A tag as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    is_weak: bool,
    /// The text between the quotes.
    opaque: Vec<u8>,
}

impl Tags {
    /// The states that the tags identify.
    #[must_use]
    pub fn named(&self) -> Named {
        match self {
            Self::Any => Named::Any,
            Self::Listed(tags) => Named::Listed(tags.iter().map(Tag::state).collect()),
        }
    }

    /// Whether the list contains one of our tags, by weak comparison.
    #[must_use]
    pub fn has(&self, tag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(tags) => {
                let opaque = tag.trim_matches('"').as_bytes();
                tags.iter().any(|given| given.opaque == opaque)
            }
        }
    }
}

impl Tag {
    fn state(&self) -> NamedState {
        let state = || {
            let (state, _) = std::str::from_utf8(&self.opaque).ok()?.split_once('.')?;
            StateTag::parse(state)
        };
        match (self.is_weak, state()) {
            (true, state) => NamedState::Weak(state),
            (false, Some(state)) => NamedState::Tagged(state),
            (false, None) => NamedState::Foreign,
        }
    }
}

/// Reads the lines of a header, which form a single list; `None` if there is no line.
///
/// # Errors
/// Returns a message if the value is neither `*` nor a list of entity tags, or has too many tags.
pub fn read<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Result<Option<Tags>, String> {
    let lines: Vec<&[u8]> = lines.collect();
    if lines.is_empty() { Ok(None) } else { list(&lines.join(&b", "[..])).map(Some) }
}

/// Reads one list.
///
/// # Errors
/// Returns the errors of [`read`].
pub fn list(text: &[u8]) -> Result<Tags, String> {
    let mut tags = Vec::new();
    let mut rest = text;
    loop {
        // Empty elements are skipped.
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        if rest.is_empty() {
            break;
        }
        if rest.trim_ascii() == b"*" && tags.is_empty() {
            return Ok(Tags::Any);
        }
        let (tag, after) = tag(rest).ok_or_else(|| malformed(rest))?;
        let after = after.trim_ascii_start();
        if !matches!(after, [] | [b',', ..]) {
            return Err(malformed(rest));
        }
        rest = after;
        if tags.len() == MAX_TAGS {
            return Err(format!("names more than {MAX_TAGS} entity tags"));
        }
        tags.push(tag);
    }
    if tags.is_empty() { Err(malformed(text)) } else { Ok(Tags::Listed(tags)) }
}

/// The tag at the beginning of a text, and the rest of the text.
fn tag(text: &[u8]) -> Option<(Tag, &[u8])> {
    let (is_weak, quoted) = match text.strip_prefix(b"W/") {
        Some(quoted) => (true, quoted),
        None => (false, text),
    };
    let inside = quoted.strip_prefix(b"\"")?;
    let end = inside.iter().position(|byte| *byte == b'"')?;
    let (opaque, after) = inside.split_at_checked(end)?;
    // Visible characters and non-ASCII bytes are allowed, spaces and control characters are not.
    let is_plain = opaque.iter().all(|byte| byte.is_ascii_graphic() || !byte.is_ascii());
    let tag = Tag { is_weak, opaque: opaque.to_vec() };
    is_plain.then_some((tag, after.strip_prefix(b"\"")?))
}

fn malformed(rest: &[u8]) -> String {
    let form = "must be `*`, or entity tags as in `ETag`, in double quotes and separated by \
                commas, such as \"1f0c…92.5be1…07\"";
    let rest = excerpt(String::from_utf8_lossy(rest).trim()).replace("\\\"", "\"");
    if rest.is_empty() {
        format!("{form}; it is empty")
    } else {
        format!("{form}; no tag begins at `{rest}`")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(text: &str) -> Vec<(bool, String)> {
        match list(text.as_bytes()) {
            Ok(Tags::Listed(tags)) => tags
                .into_iter()
                .map(|tag| (tag.is_weak, String::from_utf8_lossy(&tag.opaque).into_owned()))
                .collect(),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn what_rfc_9110_calls_a_list_of_entity_tags_is_read() {
        let strong = |text: &str| (false, text.to_owned());
        assert_eq!(tags("\"abc\""), [strong("abc")]);
        assert_eq!(tags("\"\""), [strong("")]);
        assert_eq!(tags("  \"a,b\" ,\t\"c\"  "), [strong("a,b"), strong("c")]);
        assert_eq!(tags(",, \"a\",,\"b\" ,"), [strong("a"), strong("b")]);
        assert_eq!(tags("W/\"4.1\", \"*\""), [(true, "4.1".to_owned()), strong("*")]);
        assert_eq!(tags("\"\u{e4}\""), [strong("\u{e4}")]);
        assert_eq!(list(b" * "), Ok(Tags::Any));
        let lines: [&[u8]; 2] = [b"\"a\"", b"\"b\""];
        let both = read(lines.into_iter()).unwrap().unwrap();
        assert_eq!(both, list(b"\"a\", \"b\"").unwrap());
        assert_eq!(read(std::iter::empty()), Ok(None));
    }

    #[test]
    fn what_it_does_not_is_refused_and_the_form_shown() {
        let bad: [&[u8]; 20] = [
            b"6",
            b"abc",
            b"\"abc",
            b"abc\"",
            b"\"",
            b"\"a\" \"b\"",
            b"\"a\"\"b\"",
            b"\"a\"b",
            b"\"a b\"",
            b"\"a\tb\"",
            b"\"a\x7f\"",
            b"W/6",
            b"W/ \"6\"",
            b"w/\"6\"",
            b"W/",
            b"'a'",
            b"*, \"a\"",
            b"\"a\", *",
            b"* *",
            b"",
        ];
        for text in bad.into_iter().chain([&b" , "[..]]) {
            let shown = String::from_utf8_lossy(text).into_owned();
            let detail = list(text).expect_err(&shown);
            assert!(detail.contains("double quotes"), "{shown}: {detail}");
        }
        assert!(list(b"\"abc").unwrap_err().ends_with("`\"abc`"));
    }

    #[test]
    fn lists_are_bounded() {
        let many = |count: usize| vec!["\"a\""; count].join(",");
        assert_eq!(tags(&many(MAX_TAGS)).len(), MAX_TAGS);
        assert!(list(many(MAX_TAGS + 1).as_bytes()).unwrap_err().contains("more than 100"));
    }
}

//! Bounded texts (names, descriptions, references, reasons, tenants), and case folding.

use std::fmt;

use unicode_normalization::UnicodeNormalization;

use crate::invisible::{CodePoint, first_invisible, show};

/// The longest name, in characters.
pub const MAX_NAME_CHARS: usize = 255;
/// The longest description, in characters.
pub const MAX_DESCRIPTION_CHARS: usize = 4_096;
/// The longest reference (ticket, change number), in characters.
pub const MAX_REFERENCE_CHARS: usize = 255;
/// The longest reason, in characters.
pub const MAX_REASON_CHARS: usize = 1_000;
/// The longest tenant, in characters.
pub const MAX_TENANT_CHARS: usize = 63;

/// Why a text was refused; its `Display` completes "the name …".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// The text is empty, or has only white space.
    #[error("must not be empty")]
    Empty,
    /// The text is longer than the limit.
    #[error("has {chars} characters; at most {max} are allowed")]
    TooLong {
        /// Its length in characters.
        chars: usize,
        /// The limit.
        max: usize,
    },
    /// The text contains a control character.
    #[error("contains the control character U+{code:04X} at character {position}; remove it")]
    Control {
        /// The character's code point.
        code: u32,
        /// Its place, counted in characters from 1.
        position: usize,
    },
    /// The text contains a character that is invisible or changes the direction of text.
    #[error("contains the invisible {character} at character {position}; remove it")]
    Invisible {
        /// The character.
        character: CodePoint,
        /// Its place, counted in characters from 1.
        position: usize,
    },
}

/// Checks the length of the input, including white space around it, as the JSON schemas do.
fn check_length(text: &str, max: usize) -> Result<(), TextError> {
    let chars = text.chars().count();
    if chars > max { Err(TextError::TooLong { chars, max }) } else { Ok(()) }
}

fn check(text: &str, min: usize, allowed: &[char]) -> Result<(), TextError> {
    if text.len() < min {
        return Err(TextError::Empty);
    }
    for (index, character) in text.chars().enumerate() {
        if is_forbidden(character) && !allowed.contains(&character) {
            return Err(TextError::Control { code: u32::from(character), position: index + 1 });
        }
    }
    Ok(())
}

/// Control characters, and the line separators that some programs take for line ends.
fn is_forbidden(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $min:expr, $max:expr, $allowed:expr, is_line: $is_line:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Reads and checks a text from a request.
            ///
            /// # Errors
            /// Returns [`TextError`] if the text is too long, contains control characters, or is
            /// empty although it must not be. Single-line texts must not contain invisible
            /// characters either.
            pub fn parse(text: &str) -> Result<Self, TextError> {
                check_length(text, $max)?;
                match first_invisible(text).filter(|_| $is_line) {
                    Some((character, position)) => {
                        Err(TextError::Invisible { character, position })
                    }
                    None => Self::stored(text),
                }
            }

            /// Reads a stored text. It was checked when it was written, but earlier versions
            /// accepted invisible characters.
            ///
            /// # Errors
            /// Like [`Self::parse`], except for invisible characters.
            pub fn stored(text: &str) -> Result<Self, TextError> {
                check_length(text, $max)?;
                let text = if $is_line { text.trim() } else { text };
                check(text, $min, $allowed)?;
                Ok(Self(text.to_owned()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text! {
    /// The name of a firewall, policy or rule: trimmed, 1 to 255 characters, no control or invisible
    /// characters.
    Name, 1, MAX_NAME_CHARS, &[], is_line: true
}
text! {
    /// Free text, up to 4,096 characters; line ends and tabs are allowed.
    #[derive(Default)]
    Description, 0, MAX_DESCRIPTION_CHARS, &['\n', '\r', '\t'], is_line: false
}
text! {
    /// A ticket or change number: trimmed, up to 255 characters.
    #[derive(Default)]
    Reference, 0, MAX_REFERENCE_CHARS, &[], is_line: true
}
text! {
    /// Why a finding is accepted: trimmed, 1 to 1,000 characters.
    Reason, 1, MAX_REASON_CHARS, &[], is_line: true
}
text! {
    /// The tenant of a firewall: trimmed, up to 63 characters; empty if it has no tenant.
    #[derive(Default)]
    Tenant, 0, MAX_TENANT_CHARS, &[], is_line: true
}

/// Folds a text for comparisons that ignore case: NFC of the lower-case form. It is computed here
/// and stored, so that it is the same on every database.
#[must_use]
pub fn fold(text: &str) -> String {
    text.nfc().collect::<String>().to_lowercase().nfc().collect()
}

/// Shortens a text for a message, so that the message stays readable. Invisible characters are
/// escaped.
#[must_use]
pub fn excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    // Each request shows its path and its subject; nearly all of them are plain.
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'' | b'\\');
    if text.len() <= MAX_CHARS && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len().min(4 * MAX_CHARS));
    for character in text.chars().take(MAX_CHARS) {
        show(character, &mut out);
    }
    if text.chars().count() > MAX_CHARS {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_excerpt_is_what_showing_each_character_gives() {
        let shown = |text: &str| {
            let mut out = String::new();
            text.chars().for_each(|character| show(character, &mut out));
            out
        };
        for byte in 0..=127_u8 {
            let text = format!("a{}b", char::from(byte));
            assert_eq!(excerpt(&text), shown(&text), "{byte}");
        }
        assert_eq!(excerpt(&"a".repeat(80)), "a".repeat(80));
        assert_eq!(excerpt(&"a".repeat(81)), "a".repeat(80) + "…");
    }

    #[test]
    fn names_are_trimmed_and_bounded() {
        assert_eq!(Name::parse("  edge-1 ").unwrap().as_str(), "edge-1");
        assert_eq!(Name::parse(" \t "), Err(TextError::Empty));
        assert!(Name::parse(&"ä".repeat(255)).is_ok());
        assert_eq!(Name::parse(&"ä".repeat(256)), Err(TextError::TooLong { chars: 256, max: 255 }));
        assert_eq!(Name::parse("a\0b"), Err(TextError::Control { code: 0, position: 2 }));
        assert_eq!(Name::parse("a\nb"), Err(TextError::Control { code: 10, position: 2 }));
        assert!(Name::parse("a\u{2028}b").is_err());
    }

    #[test]
    fn what_is_told_apart_holds_nothing_invisible() {
        let refused = TextError::Invisible { character: CodePoint('\u{200B}'), position: 5 };
        assert_eq!(Name::parse("prod\u{200B}"), Err(refused.clone()));
        assert!(refused.to_string().contains("U+200B ZERO WIDTH SPACE at character 5"));
        for text in ["\u{3164}", "a\u{202E}b", "soft\u{AD}hyphen", "\u{FEFF}x", "❤\u{FE0F}"] {
            assert!(Name::parse(text).is_err(), "{text:?}");
            assert!(Tenant::parse(text).is_err(), "{text:?}");
            assert!(Reference::parse(text).is_err(), "{text:?}");
            // Free text may contain them, and stored texts can still be read.
            assert_eq!(Description::parse(text).unwrap().as_str(), text);
            assert_eq!(Name::stored(text).unwrap().as_str(), text);
        }
        assert!(Name::parse("größe 東京 😀").is_ok());
        assert_eq!(excerpt("a\u{202E}\u{FE0F}b"), "a\\u{202e}\\u{fe0f}b");
    }

    #[test]
    fn descriptions_take_line_ends_but_no_nul() {
        assert!(Description::parse("one\n\ttwo\r\n").is_ok());
        assert!(Description::parse("\0").is_err());
    }

    #[test]
    fn folding_is_idempotent_and_joins_spellings() {
        assert_eq!(fold("E\u{301}dge"), fold("éDGE"));
        assert_eq!(fold(&fold("İSTANBUL")), fold("İSTANBUL"));
    }
}

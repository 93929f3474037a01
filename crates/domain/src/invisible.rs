//! Characters that are invisible, or that change the direction of the text around them. With them,
//! different names can look the same.
//!
//! Names, labels, references and reasons refuse them: different values must look different. This
//! also refuses emoji of several parts and the joiners of some scripts. Descriptions accept them.

use std::fmt;

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// A braille cell without dots: Unicode lists it as a symbol, but it is blank.
const BLANK_BRAILLE: char = '\u{2800}';

/// Whether a character is invisible or changes the direction of text. These are the general
/// categories Cf, Zl and Zp, the default ignorable code points (Unicode 16, UAX #44), and a blank
/// symbol. White space of the category Zs is not among them.
#[must_use]
pub fn is_invisible(character: char) -> bool {
    // A fast path, since most texts are ASCII: no character below U+00AD is invisible.
    if character < '\u{AD}' {
        return false;
    }
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(character)
        || matches!(
            CodePointMapData::<GeneralCategory>::new().get(character),
            GeneralCategory::Format
                | GeneralCategory::LineSeparator
                | GeneralCategory::ParagraphSeparator
        )
        || character == BLANK_BRAILLE
}

/// The first invisible character of a text, and its place, counted in characters from 1. Costs
/// O(length).
#[must_use]
pub fn first_invisible(text: &str) -> Option<(CodePoint, usize)> {
    let mut characters = text.chars().zip(1..);
    let (character, position) = characters.find(|(character, _)| is_invisible(*character))?;
    Some((CodePoint(character), position))
}

/// Adds a character in the form that messages show: invisible characters and line ends are escaped.
pub fn show(character: char, out: &mut String) {
    if is_invisible(character) {
        out.extend(character.escape_unicode());
    } else {
        out.extend(character.escape_debug());
    }
}

/// A character in the form that messages show: `U+200B`, and its Unicode name if it is common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodePoint(pub char);

impl fmt::Display for CodePoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "U+{:04X}", u32::from(self.0))?;
        let name = match self.0 {
            '\u{AD}' => "SOFT HYPHEN",
            '\u{34F}' => "COMBINING GRAPHEME JOINER",
            '\u{61C}' => "ARABIC LETTER MARK",
            '\u{115F}' => "HANGUL CHOSEONG FILLER",
            '\u{1160}' => "HANGUL JUNGSEONG FILLER",
            '\u{180E}' => "MONGOLIAN VOWEL SEPARATOR",
            '\u{200B}' => "ZERO WIDTH SPACE",
            '\u{200C}' => "ZERO WIDTH NON-JOINER",
            '\u{200D}' => "ZERO WIDTH JOINER",
            '\u{200E}' => "LEFT-TO-RIGHT MARK",
            '\u{200F}' => "RIGHT-TO-LEFT MARK",
            '\u{2028}' => "LINE SEPARATOR",
            '\u{2029}' => "PARAGRAPH SEPARATOR",
            '\u{202A}' => "LEFT-TO-RIGHT EMBEDDING",
            '\u{202B}' => "RIGHT-TO-LEFT EMBEDDING",
            '\u{202C}' => "POP DIRECTIONAL FORMATTING",
            '\u{202D}' => "LEFT-TO-RIGHT OVERRIDE",
            '\u{202E}' => "RIGHT-TO-LEFT OVERRIDE",
            '\u{2060}' => "WORD JOINER",
            '\u{2066}' => "LEFT-TO-RIGHT ISOLATE",
            '\u{2067}' => "RIGHT-TO-LEFT ISOLATE",
            '\u{2068}' => "FIRST STRONG ISOLATE",
            '\u{2069}' => "POP DIRECTIONAL ISOLATE",
            BLANK_BRAILLE => "BRAILLE PATTERN BLANK",
            '\u{3164}' => "HANGUL FILLER",
            '\u{FE0E}' => "VARIATION SELECTOR-15",
            '\u{FE0F}' => "VARIATION SELECTOR-16",
            '\u{FEFF}' => "ZERO WIDTH NO-BREAK SPACE",
            '\u{FFA0}' => "HALFWIDTH HANGUL FILLER",
            _ => return Ok(()),
        };
        write!(f, " {name}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_invisible_and_what_is_seen_is_not() {
        for invisible in [
            '\u{AD}',
            '\u{34F}',
            '\u{61C}',
            '\u{115F}',
            '\u{1160}',
            '\u{17B4}',
            '\u{180B}',
            '\u{180E}',
            '\u{200B}',
            '\u{200C}',
            '\u{200D}',
            '\u{200E}',
            '\u{2028}',
            '\u{2029}',
            '\u{202A}',
            '\u{202E}',
            '\u{2060}',
            '\u{2063}',
            '\u{2066}',
            '\u{2069}',
            '\u{206F}',
            '\u{2800}',
            '\u{3164}',
            '\u{FE00}',
            '\u{FE0F}',
            '\u{FEFF}',
            '\u{FFA0}',
            '\u{FFF9}',
            '\u{1BCA0}',
            '\u{1D173}',
            '\u{E0001}',
            '\u{E0041}',
            '\u{E007F}',
            '\u{E0100}',
            '\u{E0FFF}',
        ] {
            assert!(is_invisible(invisible), "U+{:04X}", u32::from(invisible));
        }
        for visible in " azAZ09-_.äßéП東한עب\u{301}\u{A0}\u{3000}€→⚠😀\u{1F1E9}\u{FFFD}".chars()
        {
            assert!(!is_invisible(visible), "U+{:04X}", u32::from(visible));
        }
        assert!((0..0xAD).filter_map(char::from_u32).all(|it| !is_invisible(it)));
    }

    #[test]
    fn a_code_point_is_named() {
        let (found, position) = first_invisible("prod\u{200B}").unwrap();
        assert_eq!((found.to_string().as_str(), position), ("U+200B ZERO WIDTH SPACE", 5));
        assert_eq!(CodePoint('\u{E0041}').to_string(), "U+E0041");
        assert_eq!(first_invisible("prod"), None);
    }
}

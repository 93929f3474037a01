//! Case-insensitive search in unchanged texts, letter by letter: both databases can do this without a
//! second, stored form of the text.
//!
//! Names and descriptions have a stored form ([`fold`](crate::text::fold)), which also joins the spellings
//! of a letter with accents. Here the search looks for two spellings of its text, composed and
//! decomposed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use unicode_normalization::UnicodeNormalization;

/// The common form of letters that differ only in case. A letter whose lower case is several letters
/// stays as it is. The two forms of sigma are one letter.
#[must_use]
pub fn plain(character: char) -> char {
    if character.is_ascii() {
        return character.to_ascii_lowercase();
    }
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some('\u{3c2}'), None) => '\u{3c3}',
        (Some(one), None) => one,
        _ => character,
    }
}

/// The letters that [`plain`] makes this one of, without it itself.
#[must_use]
pub fn others_of(plain_one: char) -> &'static [char] {
    static OTHERS: OnceLock<BTreeMap<char, Vec<char>>> = OnceLock::new();
    let others = OTHERS.get_or_init(|| {
        let mut others: BTreeMap<char, Vec<char>> = BTreeMap::new();
        for character in '\0'..=char::MAX {
            let one = plain(character);
            if one != character {
                others.entry(one).or_default().push(character);
            }
        }
        others
    });
    others.get(&plain_one).map_or(&[], Vec::as_slice)
}

/// The spellings of a text that is looked for, one or two, of plain letters.
#[must_use]
pub fn spellings(part: &str) -> Vec<String> {
    let composed: String = part.nfc().map(plain).collect();
    let decomposed: String = part.nfd().map(plain).collect();
    if composed == decomposed { vec![composed] } else { vec![composed, decomposed] }
}

/// Whether a text holds another, in any case.
#[must_use]
pub fn holds(text: &str, part: &str) -> bool {
    let text: String = text.chars().map(plain).collect();
    spellings(part).iter().any(|part| text.contains(part.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_is_disregarded_letter_by_letter() {
        for (text, part) in [
            ("CHG-1", "chg"),
            ("chg-1", "CHG"),
            ("\u{c9}DGE", "\u{e9}dg"),
            ("E\u{301}DGE", "\u{e9}dg"),
            ("\u{e9}dge", "E\u{301}D"),
            ("\u{39f}\u{394}\u{39f}\u{3a3}", "\u{3bf}\u{3b4}\u{3bf}\u{3c2}"),
            ("\u{130}STANBUL", "\u{130}stan"),
            ("300 \u{212a}", "k"),
            ("a", ""),
        ] {
            assert!(holds(text, part), "{text} {part}");
        }
        for (text, part) in [("chg", "chg-"), ("e", "\u{e9}"), ("", "a"), ("stra\u{df}e", "SS")] {
            assert!(!holds(text, part), "{text} {part}");
        }
    }

    #[test]
    fn plain_letters_stay_and_have_their_others() {
        for character in '\0'..=char::MAX {
            let one = plain(character);
            assert_eq!(plain(one), one, "{character:?}");
            assert!(one == character || others_of(one).contains(&character), "{character:?}");
        }
        assert_eq!(others_of('k'), ['K', '\u{212a}']);
        assert_eq!(others_of('7'), [] as [char; 0]);
    }
}

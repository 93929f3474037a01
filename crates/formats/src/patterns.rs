//! The formats of texts as regular expressions (ECMA 262), for the description of the API.

use fireflow_domain::net::Protocol;

macro_rules! octet {
    () => {
        "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    };
}
macro_rules! v4 {
    () => {
        concat!("(", octet!(), r"\.){3}", octet!())
    };
}
/// Matches every IPv6 address, and some texts that are not addresses (RFC 4291, 2.2).
macro_rules! v6 {
    () => {
        "[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*"
    };
}
macro_rules! port {
    () => {
        "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)"
    };
}

/// A single address.
pub const ADDRESS: &str = concat!("^(", v4!(), "|", v6!(), ")$");
/// An address, a block, a range or `any`.
pub const ADDRESS_RANGE: &str = concat!(
    "^(",
    v4!(),
    "(/(3[0-2]|[12]?[0-9])|-",
    v4!(),
    ")?|",
    v6!(),
    "(/(12[0-8]|1[01][0-9]|[1-9]?[0-9])|-",
    v6!(),
    ")?|",
    "[aA][nN][yY])$"
);
/// A port or `first-last`.
pub const PORTS: &str = concat!("^", port!(), "(-", port!(), ")?$");
/// A number from 0 to 255 or `first-last`; leading zeros are accepted too.
pub const BYTES: &str = concat!("^", octet!(), "(-", octet!(), ")?$");
/// The id of a finding, or of its proof.
pub const FINDING_ID: &str = "^[0-9a-f]{32}$";
// Texts are trimmed, so any white space may surround them.
macro_rules! white {
    () => {
        r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]*"
    };
}
/// Invisible characters (see `fireflow_domain::invisible`) of the basic multilingual plane. Regular
/// expression engines have no common syntax for the others.
macro_rules! invisible {
    () => {
        concat!(
            r"\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5",
            r"\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff",
            r"\uffa0\ufff0-\ufffb"
        )
    };
}
macro_rules! trimmed {
    () => {
        concat!(
            r"[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u202f\u205f\u3000",
            invisible!(),
            r"]([^\x00-\x1f\x7f-\x9f",
            invisible!(),
            r"]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u202f\u205f\u3000",
            invisible!(),
            "])?"
        )
    };
}
/// A name: no control characters, nothing invisible, and not empty.
pub const NAME: &str = concat!("^", white!(), trimmed!(), white!(), "$");
/// The same, or empty.
pub const NAME_OR_EMPTY: &str = concat!("^", white!(), "(", trimmed!(), ")?", white!(), "$");
/// No control characters except tabs and line ends.
pub const FREE_TEXT: &str = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]*$";
/// No control characters.
pub const NO_CONTROLS: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

/// The value of a label: no control characters, nothing invisible.
pub const LABEL_VALUE: &str = concat!(r"^[^\x00-\x1f\x7f-\x9f", invisible!(), "]*$");

/// A protocol by name, in any case, or by number.
#[must_use]
pub fn protocol(and_any: bool) -> String {
    let names = Protocol::names().chain(and_any.then_some("any"));
    let any_case = |name: &str| -> String {
        name.chars().map(|it| format!("[{it}{}]", it.to_ascii_uppercase())).collect()
    };
    let names: Vec<String> = names.map(any_case).collect();
    format!("^({}|25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$", names.join("|"))
}

/// The pattern of a text that people write, by the bounds of its length. Only a description may be
/// longer than 1,000 characters, and have several lines.
#[must_use]
pub const fn text(max_chars: u64, has_min: bool) -> &'static str {
    match (max_chars, has_min) {
        (0..=1_000, true) => NAME,
        (0..=1_000, false) => NAME_OR_EMPTY,
        (1_001.., _) => FREE_TEXT,
    }
}

#[cfg(test)]
mod tests {
    use fireflow_domain::invisible::is_invisible;

    /// Parses the ranges of a character class, as [`invisible`] writes them.
    fn ranges(class: &str) -> Vec<std::ops::RangeInclusive<u32>> {
        let hex = |text: &str| u32::from_str_radix(text, 16).unwrap();
        let parts: Vec<&str> = class.split('\\').skip(1).collect();
        let mut ranges: Vec<std::ops::RangeInclusive<u32>> = Vec::new();
        let mut is_end = false;
        for part in parts {
            let code = hex(part.trim_start_matches(['x', 'u']).trim_end_matches('-'));
            match is_end {
                true => {
                    let start = *ranges.pop().unwrap().start();
                    ranges.push(start..=code);
                }
                false => ranges.push(code..=code),
            }
            is_end = part.ends_with('-');
        }
        ranges
    }

    #[test]
    fn the_pattern_knows_what_is_invisible() {
        let ranges = ranges(invisible!());
        for character in (0..0x1_0000).filter_map(char::from_u32) {
            let code = u32::from(character);
            let is_listed = ranges.iter().any(|range| range.contains(&code));
            assert_eq!(is_listed, is_invisible(character), "U+{code:04X}");
        }
    }
}

//! What a text may hold that is nobody else's business: taken out before the text leaves for
//! another service.

use std::net::IpAddr;

/// The longest text that is told, in characters.
const MAX_CHARS: usize = 500;

/// The text without what stands in quotes, and without words that look like addresses, URLs,
/// e-mail addresses or tokens.
pub(super) fn scrubbed(text: &str) -> String {
    let mut out = String::new();
    for word in unquoted(text).split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        out.push_str(word_scrubbed(bare));
        out.push_str(word.get(bare.len()..).unwrap_or_default());
    }
    match out.char_indices().nth(MAX_CHARS) {
        Some((at, _)) => {
            out.truncate(at);
            out.push('…');
            out
        }
        None => out,
    }
}

/// The text with `…` for all that stands between two quotes of the same kind.
fn unquoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find(['"', '\'', '`', '«', '“']) {
        let (before, from) = rest.split_at(open);
        out.push_str(before);
        let mut characters = from.chars();
        let quote = characters.next().unwrap_or('"');
        let behind = characters.as_str();
        let closing = match quote {
            '«' => '»',
            '“' => '”',
            same => same,
        };
        // An apostrophe inside a word is no quote.
        let is_apostrophe =
            quote == '\'' && before.chars().next_back().is_some_and(char::is_alphanumeric);
        match behind.find(closing).filter(|_| !is_apostrophe) {
            Some(end) => {
                out.push(quote);
                out.push('…');
                out.push(closing);
                rest = behind.get(end + closing.len_utf8()..).unwrap_or_default();
            }
            None => {
                out.push(quote);
                rest = behind;
            }
        }
    }
    out.push_str(rest);
    out
}

fn word_scrubbed(word: &str) -> &str {
    let bare = word.trim_matches(|it: char| !it.is_alphanumeric() && it != ':');
    let host = bare.split('/').next().unwrap_or(bare);
    let is_address = |text: &str| {
        text.parse::<IpAddr>().is_ok()
            || text.rsplit_once(':').is_some_and(|(host, port)| {
                let host = host.trim_matches(['[', ']']);
                port.parse::<u16>().is_ok() && host.parse::<IpAddr>().is_ok()
            })
    };
    let is_token = bare.len() >= 24 && bare.chars().any(|it| it.is_ascii_digit());
    if word.contains("://") {
        "[url]"
    } else if word.contains('@') {
        "[e-mail]"
    } else if is_address(host) || is_address(host.trim_matches(':')) {
        "[address]"
    } else if is_token || bare.starts_with("eyJ") {
        "[token]"
    } else {
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_personal_or_secret_is_taken_out() {
        for (text, expected) in [
            ("the pool is closed", "the pool is closed"),
            ("no rule `edge of ann` is there", "no rule `…` is there"),
            ("column \"name\" is \"x y\", isn't it", "column \"…\" is \"…\", isn't it"),
            ("ann@example.org did it", "[e-mail] did it"),
            (
                "from 192.0.2.1, 2001:db8::1 and 10.0.0.1:443",
                "from [address] [address] and [address]",
            ),
            ("[2001:db8::1]:80 refused", "[address] refused"),
            ("10.0.0.0/8 overlaps", "[address] overlaps"),
            ("postgres://me:hunter2@db/x failed", "[url] failed"),
            ("Bearer eyJhbGciOiJI.e30.c2ln is bad", "Bearer [token] is bad"),
            ("key 0123456789abcdef0123456789abcdef", "key [token]"),
            (
                "index out of bounds: the len is 3 but the index is 3",
                "index out of bounds: the len is 3 but the index is 3",
            ),
            ("an open \"quote", "an open \"quote"),
            ("", ""),
        ] {
            assert_eq!(scrubbed(text), expected);
        }
        assert_eq!(scrubbed(&"ä ".repeat(1_000)).chars().count(), MAX_CHARS + 1);
    }
}

//! Removes private data from a text before it is sent to another service.

use std::borrow::Cow;
use std::net::IpAddr;

/// The longest text that is sent, in characters.
const MAX_CHARS: usize = 500;

/// The replacement for an address.
const ADDRESS: &str = "[address]";

/// The longest text of an address: IPv6 that ends with an IPv4 address.
const MAX_ADDRESS: usize = 45;

/// The words that name a secret, at the end of a name such as `db_password`.
const SECRETS: [&str; 6] = ["password", "passwd", "pwd", "secret", "token", "key"];

/// The text without private data. It removes quoted text, values after the name of a secret, values
/// of columns, and addresses. It also removes words that look like URLs, e-mail addresses or
/// tokens.
pub(super) fn scrubbed(text: &str) -> String {
    let mut out = String::new();
    // Values first: a quote inside a value would hide the end of the value.
    let text = without_secrets(&unquoted(&without_values(text)));
    for word in text.split_inclusive(char::is_whitespace) {
        // Longer than what is sent, whatever the characters.
        if out.len() > 4 * MAX_CHARS {
            break;
        }
        let bare = word.trim_end();
        out.push_str(&word_scrubbed(bare));
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

/// The text with `…` for the values that PostgreSQL reports for a key: `Key (name)=(edge) is
/// there`. Replaces up to the last parenthesis, since a value may contain some itself.
fn without_values(text: &str) -> Cow<'_, str> {
    const BEGIN: &str = ")=(";
    let Some((before, behind)) = text.split_once(BEGIN) else { return Cow::Borrowed(text) };
    let after = behind.rsplit_once(')').map_or("", |(_, after)| after);
    Cow::Owned(format!("{before}{BEGIN}…){after}"))
}

/// The text with `[secret]` for the word after `password=` or similar names, also with `:`.
fn without_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, from) = rest.split_at(at);
        rest = from.trim_start_matches(|it: char| matches!(it, '=' | ':') || it.is_whitespace());
        let separator = from.strip_suffix(rest).unwrap_or_default();
        out.push_str(before);
        out.push_str(separator);
        let is_path = separator.starts_with("::");
        if names_a_secret(before.trim_end()) && !is_path && !rest.is_empty() {
            out.push_str("[secret]");
            rest = rest.trim_start_matches(|it: char| !it.is_whitespace());
        }
    }
    out.push_str(rest);
    out
}

fn names_a_secret(text: &str) -> bool {
    SECRETS.iter().any(|name| {
        let end = text.len().checked_sub(name.len()).and_then(|at| text.get(at..));
        end.is_some_and(|end| end.eq_ignore_ascii_case(name))
    })
}

/// The text with `…` for everything between two quotes of the same kind.
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
        // An apostrophe inside a word is not a quote.
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

fn word_scrubbed(word: &str) -> Cow<'_, str> {
    let bare = bare(word);
    let host = bare.split('/').next().unwrap_or(bare);
    let is_address = |text: &str| {
        text.parse::<IpAddr>().is_ok()
            || text.rsplit_once(':').is_some_and(|(host, port)| {
                let host = host.trim_matches(['[', ']']);
                port.parse::<u16>().is_ok() && host.parse::<IpAddr>().is_ok()
            })
    };
    if word.contains("://") {
        return Cow::Borrowed("[url]");
    }
    // The whole word is removed, since the part before the `@` has no clear beginning: it may
    // contain characters that otherwise separate words.
    if word.contains('@') {
        return Cow::Borrowed("[e-mail]");
    }
    if is_address(host) || is_address(host.trim_matches(':')) {
        return Cow::Borrowed(ADDRESS);
    }
    let shown = without_addresses(word);
    // Several addresses in a row are as long as a token.
    if is_token(&shown.replace(ADDRESS, "")) { Cow::Borrowed("[token]") } else { Cow::Owned(shown) }
}

fn bare(word: &str) -> &str {
    word.trim_matches(|it: char| !it.is_alphanumeric() && it != ':')
}

/// Whether a word is or contains a token: `jwt=eyJ…`.
fn is_token(word: &str) -> bool {
    let bare = bare(word);
    let mut parts = bare.split(|it: char| !it.is_alphanumeric());
    parts.any(|part| part.starts_with("eyJ"))
        || (bare.len() >= 24 && bare.chars().any(|it| it.is_ascii_digit()))
}

/// The word with `[address]` for every address in it, whatever surrounds the address:
/// `Some(10.0.0.1)`, `10.0.0.1-10.0.0.9`, `peer=2001:db8::1`.
fn without_addresses(word: &str) -> String {
    let mut out = String::with_capacity(word.len());
    let mut rest = word;
    // No address begins in the middle of letters and digits.
    let mut is_amid = false;
    while let Some(next) = rest.chars().next() {
        if let Some(behind) = behind_address(rest).filter(|_| !is_amid) {
            out.push_str(ADDRESS);
            rest = behind;
        } else {
            out.push(next);
            is_amid = next.is_alphanumeric();
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        }
    }
    out
}

/// The rest of a text that begins with an address, after the longest such address.
fn behind_address(text: &str) -> Option<&str> {
    let can_be_in_it = |it: &char| it.is_ascii_hexdigit() || matches!(it, ':' | '.');
    let most = text.chars().take(MAX_ADDRESS).take_while(can_be_in_it).count();
    // These characters are single bytes. `::` is the shortest address.
    (2..=most).rev().find_map(|length| {
        let (address, behind) = text.split_at_checked(length)?;
        let ends = !behind.starts_with(char::is_alphanumeric);
        (ends && address.parse::<IpAddr>().is_ok()).then_some(behind)
    })
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
            (
                "10.0.0.1-10.0.0.9 and 2001:db8::1-2001:db8::9",
                "[address]-[address] and [address]-[address]",
            ),
            (
                "Some(10.0.0.1), V4(10.0.0.1) V6(::1)",
                "Some([address]), V4([address]) V6([address])",
            ),
            ("address=192.0.2.7;peer=2001:db8::7", "address=[address];peer=[address]"),
            ("10.0.0.1,10.0.0.2,192.168.100.100", "[address],[address],[address]"),
            (
                "from:192.0.2.7:443 fe80::1%eth0 /firewalls/10.0.0.1/",
                "from:[address]:443 [address]%eth0 /firewalls/[address]/",
            ),
            (
                "password=hunter2 Secret: hunter2, db_password = hunter2",
                "password=[secret] Secret: [secret] db_password = [secret]",
            ),
            ("API_KEY=\"correct horse\";user=ann token:abc", "API_KEY=[secret] token:[secret]"),
            ("https://x.example/?token=abc failed", "[url] failed"),
            ("fireflow::token::Error: the key is old", "fireflow::token::Error: the key is old"),
            ("password=", "password="),
            ("Key (subject)=(ann meyer) already exists.", "Key (subject)=(…) already exists."),
            (
                "Key (name, lower(subject))=(x) \"y, ann (of sales)) is \"there\"",
                "Key (name, lower(subject))=(…) is \"…\"",
            ),
            ("Key (subject)=(ann", "Key (subject)=(…)"),
            ("jwt=eyJhbGci, (ann@example.org)", "[token] [e-mail]"),
            ("id=0123456789abcdef0123456789abcdef", "[token]"),
            ("8c1f0a64-be0d-4c8f-9be7-d9f3a1f0c5d2", "[token]"),
            ("std::io::Error at 12:30:45, rule_1-2", "std::io::Error at 12:30:45, rule_1-2"),
            ("10.0.0.1=abcdefgh0123-abcdefgh4567", "[token]"),
            ("", ""),
        ] {
            assert_eq!(scrubbed(text), expected);
        }
        assert_eq!(scrubbed(&"ä ".repeat(1_000)).chars().count(), MAX_CHARS + 1);
    }
}

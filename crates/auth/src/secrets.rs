//! Secrets that sign tokens: which ones are accepted and which are refused.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::Secret;
use super::strength::{MIN_BITS, bits};

/// The shortest secret that is accepted outside `local` (RFC 7518, 3.2: as long as the hash).
const MIN_SECRET_BYTES: usize = 32;
/// The most secrets of a file: a token without a `kid` is tried with each.
const MAX_SECRETS: usize = 64;

/// Base64 as used for keys, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// The contents of a file of secrets.
#[derive(Debug, Default)]
pub struct SecretLines {
    /// The usable secrets in their order: the first signs, all verify.
    pub secrets: Vec<Secret>,
    /// The faults of unusable lines, each with its line number but never the secret.
    pub faults: Vec<String>,
    /// Warnings about secrets that are accepted only in `local`.
    pub warnings: Vec<String>,
}

/// Reads a file of secrets, one per line. Blank lines and lines that begin with `#` are ignored. A
/// file that is a key, a certificate or a JWKS contains no secret, whatever its other lines are.
#[must_use]
pub fn secret_lines(text: &[u8], takes_weak: bool) -> SecretLines {
    let mut read = SecretLines::default();
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    if let Some(why) = public_whole(text) {
        read.faults.push(why.to_owned());
        return read;
    }
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let number = index + 1;
        // Refused secrets count too: a file of another kind may have a great many lines.
        if read.secrets.len() + read.faults.len() == MAX_SECRETS {
            read.faults.push(format!("line {number}: at most {MAX_SECRETS} secrets are allowed"));
            break;
        }
        match check_secret(line, takes_weak) {
            Ok(warning) => {
                read.secrets.push(Secret::new(line));
                read.warnings.extend(warning.map(|why| format!("line {number} {why}")));
            }
            Err(why) => read.faults.push(format!("line {number} {why}")),
        }
    }
    if read.secrets.is_empty() && read.faults.is_empty() {
        read.faults.push("contains no secret".to_owned());
    }
    read
}

/// Checks a secret. Returns a warning if it is weak but accepted.
///
/// # Errors
/// Returns the reason if the secret is refused, never a part of the secret.
pub fn check_secret(secret: &[u8], takes_weak: bool) -> Result<Option<String>, String> {
    if let Some(why) = public_whole(secret).or_else(|| public_word(secret)) {
        return Err(why.to_owned());
    }
    if secret.starts_with(b"#") {
        return Err("begins with `#`, as comments do".to_owned());
    }
    if std::str::from_utf8(secret).is_err() || secret.iter().any(u8::is_ascii_control) {
        let why = "contains bytes that are not text: generate one with `openssl rand -hex 32`";
        return Err(why.to_owned());
    }
    let fault = if secret.len() < MIN_SECRET_BYTES {
        format!("is too short: outside `local` it must have {MIN_SECRET_BYTES} bytes or more")
    } else if bits(secret) < MIN_BITS {
        "can be guessed: generate one with `openssl rand -hex 32`".to_owned()
    } else {
        return Ok(None);
    };
    if takes_weak { Ok(Some(fault)) } else { Err(fault) }
}

/// Why a whole text is not a private secret. Algorithm confusion uses a public key as a secret;
/// private keys and tokens have other purposes.
fn public_whole(text: &[u8]) -> Option<&'static str> {
    const PEM: &str =
        "is a key or certificate in PEM: set public keys as FIREFLOW_JWT__PUBLIC_KEYS";
    const JSON: &str = "is JSON, such as a JWKS: set public keys as FIREFLOW_JWT__PUBLIC_KEYS";
    const UTF_16: &str = "is UTF-16: save it as UTF-8";
    if text.starts_with(&[0xff, 0xfe]) || text.starts_with(&[0xfe, 0xff]) {
        return Some(UTF_16);
    }
    if contains(text, b"-----BEGIN") || contains(text, b"-----END") || contains(text, b"---- BEGIN")
    {
        return Some(PEM);
    }
    let trimmed = text.trim_ascii();
    let is_json = matches!(trimmed.first(), Some(b'{' | b'['))
        && (serde_json::from_slice::<serde::de::IgnoredAny>(trimmed).is_ok()
            || contains(trimmed, b"\"kty\"")
            || contains(trimmed, b"\"keys\""));
    if is_json {
        return Some(JSON);
    }
    // The body of a PEM file without its frame: its first line is recognizable, and the other lines
    // are just as public.
    let lines = trimmed.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    lines.filter(|line| !line.starts_with(b"#")).find_map(public_word)
}

/// Why a word is not a private secret.
fn public_word(word: &[u8]) -> Option<&'static str> {
    const SSH: &str = "is an SSH key, not a secret";
    const DER: &str =
        "is a key or certificate in base64: set public keys as FIREFLOW_JWT__PUBLIC_KEYS";
    const TOKEN: &str = "is a token, not a secret";
    let ssh = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-"];
    // The prefixes of the wire form of their names.
    let wire = ["AAAAB3NzaC1", "AAAAC3NzaC1", "AAAAE2VjZHNhLXNoYTI", "AAAAGnNrLXNza"];
    if ssh.iter().chain(&wire).any(|prefix| word.starts_with(prefix.as_bytes())) {
        return Some(SSH);
    }
    if word.starts_with(b"eyJ") && word.iter().filter(|byte| **byte == b'.').count() == 2 {
        return Some(TOKEN);
    }
    let decoded = [from_base64(word), from_hex(word)];
    decoded.into_iter().flatten().any(|bytes| is_der(&bytes)).then_some(DER)
}

/// Whether bytes begin as every key and certificate in DER does: a sequence whose first member is a
/// sequence or a number. The first line of a larger one is enough. Random bytes match once in some
/// millions.
fn is_der(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x30, 0x82, _, _, 0x30 | 0x02, ..]
            | [0x30, 0x81, _, 0x30 | 0x02, ..]
            // The name of an algorithm, or a version.
            | [0x30, 0..=0x7f, 0x30, _, 0x06, ..]
            | [0x30, 0..=0x7f, 0x02, 0x01, 0 | 1, ..]
    )
}

/// Decodes hexadecimal digits.
pub(super) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
    let pairs = text.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

/// Decodes base64 in either alphabet.
pub(super) fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let standard: Vec<u8> = text
        .iter()
        .map(|byte| match byte {
            b'-' => b'+',
            b'_' => b'/',
            other => *other,
        })
        .collect();
    BASE64.decode(standard).ok()
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From `openssl rand -hex 32`.
    const GOOD: &str = "6f1c0f4b9a52e7d83c41b7a0f95e26d8c3b47a19e05f82d6417c9be8a3d05f72";

    fn faults(text: &str) -> Vec<String> {
        let read = secret_lines(text.as_bytes(), false);
        assert!(read.secrets.is_empty(), "{text}");
        read.faults
    }

    #[test]
    fn comments_and_blank_lines_are_no_secrets() {
        let comment = "# the signing secret of the production cluster, 2026-11";
        let read = secret_lines(format!("{comment}\r\n\n{GOOD}\r\n").as_bytes(), false);
        assert_eq!((read.secrets, read.faults), (vec![Secret::new(GOOD)], vec![]));
        assert_eq!(faults(comment), ["contains no secret"]);
        assert_eq!(faults(" \n\n"), ["contains no secret"]);
        assert!(check_secret(comment.as_bytes(), true).is_err(), "nor in the variable");
        let marked = format!("\u{feff}{GOOD}");
        assert_eq!(secret_lines(marked.as_bytes(), false).secrets, [Secret::new(GOOD)]);
    }

    #[test]
    fn what_others_have_is_refused_everywhere() {
        const SPKI: &str = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8xOUetsCa8EfOlDEBAfREhJqspDo\n\
                            yEh6Szz2in47Tv5n52m9dLYyPCbqZkOB5nTSqtscpkQD/HpykCggvx09iQ==";
        const RSA: &str = "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAsXchDaQebHnPiGvyDOAT";
        let one_line = SPKI.replace('\n', "");
        let pem = format!("-----BEGIN PUBLIC KEY-----\n{SPKI}\n-----END PUBLIC KEY-----\n");
        let cases = [
            pem.clone(),
            format!("\n  {pem}"),
            format!("\u{feff}{pem}"),
            format!("{GOOD}\n{pem}"),
            format!("# a comment\n{pem}"),
            SPKI.to_owned(),
            one_line.clone(),
            one_line.trim_end_matches('=').replace('/', "_").replace('+', "-"),
            RSA.to_owned(),
            r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#.to_owned(),
            "{\n  \"keys\": [\n    {\"kty\": \"oct\", \"k\": \"AAAA\"}\n  ]\n}".to_owned(),
            format!("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{GOOD} me@example"),
            "AAAAB3NzaC1yc2EAAAADAQABAAABAQDB6Jj5Qe0o1Y8v7pTt3xkq".to_owned(),
            format!("eyJhbGciOiJIUzI1NiJ9.{GOOD}.{GOOD}"),
            "3059301306072a8648ce3d020106082a8648ce3d03010703420004f3139".to_owned()
                + "47adb026bc11f3a50c40407d112126ab290e8c8487a4b3cf68a7e3b4efe67e769bd74b6323c26ea664381e674d2aadb1ca64403fc7a729028"
                + "20bf1d3d89",
        ];
        for text in cases {
            for takes_weak in [false, true] {
                let read = secret_lines(text.as_bytes(), takes_weak);
                assert!(read.secrets.is_empty(), "{text}");
                assert!(read.faults[0].contains("is "), "{text}: {:?}", read.faults);
            }
            assert!(check_secret(text.as_bytes(), true).is_err(), "{text}");
        }
        let utf_16: Vec<u8> = GOOD.bytes().flat_map(|byte| [byte, 0]).collect();
        assert!(secret_lines(&utf_16, true).secrets.is_empty());
        assert!(
            secret_lines(&[b"\xff\xfe", utf_16.as_slice()].concat(), true).faults[0]
                .contains("UTF-16")
        );
        assert!(
            secret_lines(b"\xc0\xc1 no text, and long enough to be one", true).secrets.is_empty()
        );
    }

    #[test]
    fn secrets_that_can_be_guessed_are_refused_outside_local() {
        let long = "a".repeat(64);
        for weak in ["short", long.as_str(), "0123456789abcdef0123456789abcdef"] {
            let why = check_secret(weak.as_bytes(), false).unwrap_err();
            assert!(why.contains("too short") || why.contains("can be guessed"), "{why}");
            // In `local` it is accepted, with a warning.
            assert_eq!(check_secret(weak.as_bytes(), true), Ok(Some(why)));
        }
        assert_eq!(check_secret(GOOD.as_bytes(), false), Ok(None));
    }

    #[test]
    fn lines_are_judged_one_by_one_and_named() {
        let read = secret_lines(format!("# new\nshort\n{GOOD}\n").as_bytes(), false);
        assert_eq!(read.secrets, [Secret::new(GOOD)]);
        assert!(read.faults[0].starts_with("line 2 is too short"), "{:?}", read.faults);
        let many = format!("{GOOD}\n").repeat(65);
        let read = secret_lines(many.as_bytes(), false);
        assert_eq!(read.secrets.len(), 64);
        assert!(read.faults[0].contains("at most 64"), "{:?}", read.faults);
    }
}

//! Reads the header `Idempotency-Key` of POST (draft-ietf-httpapi-idempotency-key-header). It marks
//! requests that a client may send again, because it does not know whether they succeeded.

use fireflow_domain::error::{Error, Violation};
use poem::http::{HeaderMap, header};

/// The header with the key.
pub const HEADER: &str = "Idempotency-Key";
/// The header of an answer that repeats a stored one.
pub const REPLAYED: &str = "idempotency-replayed";
/// The longest key, in characters.
const MAX_CHARS: usize = 255;

/// The key of a request, bare or in quotes (RFC 8941, 3.3.3). Returns `None` if there is no header.
///
/// # Errors
/// Returns `Error::Invalid` if the header is given more than once, or is not 1 to 255 visible ASCII
/// characters.
pub fn key(headers: &HeaderMap) -> Result<Option<String>, Error> {
    let fault = |detail: &str| Error::invalid(Violation::header(HEADER, detail));
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(fault("is given more than once"));
    }
    let takes = "must be 1 to 255 visible ASCII characters, for example a UUID";
    let text = value.to_str().map_err(|_| fault(takes))?.trim();
    let bare = text.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(text);
    let is_plain = (1..=MAX_CHARS).contains(&bare.len())
        && bare.bytes().all(|byte| byte.is_ascii_graphic() && !b"\"\\".contains(&byte));
    if is_plain { Ok(Some(bare.to_owned())) } else { Err(fault(takes)) }
}

/// The condition of a request: all lines of `If-Match`, joined.
#[must_use]
pub fn condition(headers: &HeaderMap) -> Vec<u8> {
    let lines: Vec<&[u8]> =
        headers.get_all(header::IF_MATCH).iter().map(|line| line.as_bytes()).collect();
    lines.join(&b", "[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[&str]) -> Result<Option<String>, ()> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        key(&headers).map_err(|_| ())
    }

    #[test]
    fn a_key_is_a_plain_word() {
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&["8e03978e-40d5"]), Ok(Some("8e03978e-40d5".into())));
        assert_eq!(read(&["\"8e03978e-40d5\""]), Ok(Some("8e03978e-40d5".into())));
        let long = "x".repeat(256);
        for bad in ["", "\"\"", "a b", "a\\b", "\"a", long.as_str()] {
            assert_eq!(read(&[bad]), Err(()), "{bad}");
        }
        assert_eq!(read(&["a", "a"]), Err(()));
    }
}

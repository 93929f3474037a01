//! Cursors: positions in a list, as opaque text that clients send back unchanged.
//!
//! A cursor is the base64url of: a version, the id, the item's place in the order of evaluation if
//! it has one, the values that the list is ordered by, and a hash. The hash is the first eight
//! bytes of a SHA-256 over all of these and over the cursor's list, filter and order. It prevents
//! the accidental use of a cursor with another list. It is not a secret, and need not be: the
//! content of a cursor is checked like any input, and reveals nothing that its list does not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fireflow_domain::mark::Mark;
use fireflow_domain::page::{Position, SortValue};
use fireflow_domain::time::Instant;
use sha2::{Digest, Sha256};

const VERSION: u8 = 1;
const HASH_BYTES: usize = 8;
/// The bits of the byte after the id: the parts that follow it.
const HAS_PLACE: u8 = 1;
const HAS_TIME: u8 = 2;
/// The longest cursor, in characters: a few keys, one of which may be a description. The address of
/// a page is at most twice as long.
pub const MAX_CURSOR_CHARS: usize = 32_768;

/// Encodes a position in a list.
#[must_use]
pub fn encode(scope: &str, position: &Position) -> String {
    let mut bytes = vec![VERSION];
    bytes.extend(position.id.to_be_bytes());
    let bit = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
    bytes.push(bit(HAS_PLACE, position.place.is_some()) | bit(HAS_TIME, position.at.is_some()));
    if let Some((place, mark)) = position.place {
        bytes.extend(place.to_be_bytes());
        bytes.extend(mark.get().to_be_bytes());
    }
    if let Some(at) = position.at {
        bytes.extend(at.micros().to_be_bytes());
    }
    for value in &position.values {
        match value {
            SortValue::Absent => bytes.push(0),
            SortValue::Integer(number) => {
                bytes.push(1);
                bytes.extend(number.to_be_bytes());
            }
            SortValue::Text(text) => {
                bytes.push(2);
                // The lengths of texts are limited to far less than this.
                bytes.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
                bytes.extend(text.as_bytes());
            }
            SortValue::Flag(flag) => bytes.extend([3, u8::from(*flag)]),
        }
    }
    let hash = hash(scope, &bytes);
    bytes.extend(hash);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decodes a position. Returns `None` if the text is not a cursor of this list.
#[must_use]
pub fn decode(scope: &str, text: &str) -> Option<Position> {
    if text.len() > MAX_CURSOR_CHARS {
        return None;
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (said, given) = bytes.split_last_chunk::<HASH_BYTES>()?;
    if hash(scope, said) != *given {
        return None;
    }
    let mut rest = Bytes(said);
    if rest.byte()? != VERSION {
        return None;
    }
    let id = i64::from_be_bytes(rest.take()?);
    let parts = rest.byte()?;
    if parts & !(HAS_PLACE | HAS_TIME) != 0 {
        return None;
    }
    let place = if parts & HAS_PLACE == 0 {
        None
    } else {
        let place = u64::from_be_bytes(rest.take()?);
        Some((place, Mark::new(u64::from_be_bytes(rest.take()?))))
    };
    let at = if parts & HAS_TIME == 0 {
        None
    } else {
        Some(Instant::from_micros(i64::from_be_bytes(rest.take()?))?)
    };
    let mut values = Vec::new();
    while let Some(kind) = rest.byte() {
        values.push(match kind {
            0 => SortValue::Absent,
            1 => SortValue::Integer(i64::from_be_bytes(rest.take()?)),
            2 => {
                let length = usize::try_from(u32::from_be_bytes(rest.take()?)).ok()?;
                SortValue::Text(rest.text(length)?)
            }
            3 => SortValue::Flag(match rest.byte()? {
                0 => false,
                1 => true,
                _ => return None,
            }),
            _ => return None,
        });
    }
    Some(Position { values, id, place, at })
}

fn hash(scope: &str, bytes: &[u8]) -> [u8; HASH_BYTES] {
    let mut hasher = Sha256::new();
    hasher.update(u64::try_from(scope.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(scope.as_bytes());
    hasher.update(bytes);
    let digest: [u8; 32] = hasher.finalize().into();
    digest.first_chunk().copied().unwrap_or_default()
}

/// Reads bytes from the front.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    fn text(&mut self, length: usize) -> Option<String> {
        let (first, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        let text = std::str::from_utf8(first).ok()?;
        // PostgreSQL does not accept NUL in any text.
        (!text.contains('\0')).then(|| text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position() -> Position {
        Position {
            values: vec![
                SortValue::Absent,
                SortValue::Integer(-7),
                SortValue::Text("Zoë".to_owned()),
                SortValue::Flag(true),
            ],
            id: 42,
            place: Some((17, Mark::new(3))),
            at: Instant::from_micros(1),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let text = encode("rules of 1", &position());
        assert_eq!(decode("rules of 1", &text), Some(position()));
        let bare = Position { values: Vec::new(), id: 1, place: None, at: None };
        assert_eq!(decode("x", &encode("x", &bare)), Some(bare));
    }

    #[test]
    fn no_other_text_is_a_place_of_the_list() {
        let text = encode("rules of 1", &position());
        assert_eq!(decode("rules of 2", &text), None, "another list");
        let mut short = text.clone();
        while short.pop().is_some() {
            assert_eq!(decode("rules of 1", &short), None, "cut off");
        }
        let bytes = URL_SAFE_NO_PAD.decode(&text).unwrap();
        for index in 0..bytes.len() {
            for bit in 0..8 {
                let mut spoiled = bytes.clone();
                spoiled[index] ^= 1 << bit;
                assert_eq!(decode("rules of 1", &URL_SAFE_NO_PAD.encode(spoiled)), None);
            }
        }
        // Even with a valid hash, the content is checked.
        for said in [
            &[][..],
            &[2],
            &[1],
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 9],
            // No time that can be written.
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 127, 0, 0, 0, 0, 0, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0],
            &[1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 255, 255, 255, 255],
        ] {
            let forged = [said, &hash("x", said)].concat();
            assert_eq!(decode("x", &URL_SAFE_NO_PAD.encode(forged)), None, "{said:?}");
        }
    }
}

//! A strict JSON reader: no duplicate members, no nesting deeper than any body needs, and no more
//! memory than allowed.

use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::fault::ReadError;

/// The deepest accepted nesting.
pub const MAX_DEPTH: u8 = 32;

/// The memory of one element of an array, in bytes: a value, and the spare capacity of the growing
/// array.
const ELEMENT_BYTES: u64 = 64;
/// The memory of the first member of an object: a node of the map, which holds up to eleven
/// members.
const FIRST_MEMBER_BYTES: u64 = 640;
/// The memory of each further member: nodes are at least half full.
const MEMBER_BYTES: u64 = 112;
/// The memory of a text in addition to its bytes.
const TEXT_BYTES: u64 = 16;

/// Limits the memory of values while they are read, in bytes, and checks that the client still
/// waits for them. It counts what `serde_json::Value` allocates, and rather overestimates.
#[derive(Debug)]
pub struct Meter {
    room: u64,
    left: Cell<u64>,
    is_exhausted: Cell<bool>,
    awaited: Option<Arc<AtomicBool>>,
}

impl Meter {
    /// Allows up to this many bytes, as long as the flag is set.
    #[must_use]
    pub const fn new(room: u64, awaited: Option<Arc<AtomicBool>>) -> Self {
        Self { room, left: Cell::new(room), is_exhausted: Cell::new(false), awaited }
    }

    /// Sets no limit, for input that is bounded by other means.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self::new(u64::MAX, None)
    }

    /// Resets the count, after the counted values were dropped or converted.
    pub fn refill(&self) {
        self.left.set(self.room);
    }

    /// Whether the client still waits for the result.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.awaited.as_ref().is_none_or(|flag| flag.load(Ordering::Relaxed))
    }

    /// Reports whether reading ended because of the memory limit, or because nobody waits for the
    /// result.
    ///
    /// # Errors
    /// Returns [`ReadError::TooLarge`] or [`ReadError::Abandoned`].
    pub fn check(&self) -> Result<(), ReadError> {
        if !self.is_awaited() {
            return Err(ReadError::Abandoned);
        }
        if self.is_exhausted.get() {
            let detail = "the body has more members or elements in one object or array than any request \
                 needs";
            return Err(ReadError::TooLarge(detail.to_owned()));
        }
        Ok(())
    }

    fn take<E: serde::de::Error>(&self, bytes: u64) -> Result<(), E> {
        match self.left.get().checked_sub(bytes) {
            Some(left) if self.is_awaited() => {
                self.left.set(left);
                Ok(())
            }
            Some(_) => Err(E::custom("the client has disconnected")),
            None => {
                self.is_exhausted.set(true);
                Err(E::custom("it is larger than any request needs"))
            }
        }
    }

    fn take_text<E: serde::de::Error>(&self, text: &str) -> Result<(), E> {
        let length = u64::try_from(text.len()).unwrap_or(u64::MAX);
        self.take(length.saturating_add(TEXT_BYTES))
    }

    fn take_member<E: serde::de::Error>(&self, name: &str, is_first: bool) -> Result<(), E> {
        self.take_text(name)?;
        self.take(if is_first { FIRST_MEMBER_BYTES } else { MEMBER_BYTES })
    }
}

/// Reads one JSON value of any size, with nothing after it.
///
/// # Errors
/// Returns an error with its position if the text is not JSON, has a duplicate member, or is nested
/// too deeply.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    parse_within(bytes, &Meter::unlimited())
}

/// Like [`parse`], within a memory limit.
///
/// # Errors
/// Returns the errors of [`parse`], and one if the limit is exceeded, which [`Meter::check`]
/// distinguishes.
pub fn parse_within(bytes: &[u8], meter: &Meter) -> Result<Value, serde_json::Error> {
    if bytes.trim_ascii().is_empty() {
        return Err(serde_json::Error::custom("the request body is empty"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0, meter }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads an array, or an object with an array under `items`, element by element, so that the whole
/// value is never in memory. Returns the object's other members.
///
/// # Errors
/// Returns the errors of [`parse`], and one if the value is neither of these.
pub fn parse_elements(
    bytes: &[u8],
    meter: &Meter,
    visit: &mut dyn FnMut(usize, Value),
) -> Result<Map<String, Value>, serde_json::Error> {
    match parse_members(bytes, "items", meter, visit)? {
        Parsed::Elements(others) => Ok(others),
        Parsed::Object(_) => Err(serde_json::Error::custom("the member `items` is missing")),
    }
}

/// The result of [`parse_elements_or_object`].
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// An array, or an object with an array under `items`. Its elements were visited; these are its
    /// other members.
    Elements(Map<String, Value>),
    /// An object without `items`.
    Object(Map<String, Value>),
}

/// Like `parse_elements`, but also reads any other object.
///
/// # Errors
/// Returns the errors of `parse`, and one if the value is neither an array nor an object.
pub fn parse_elements_or_object(
    bytes: &[u8],
    visit: &mut dyn FnMut(usize, Value),
) -> Result<Parsed, serde_json::Error> {
    parse_members(bytes, "items", &Meter::unlimited(), visit)
}

/// Like [`parse_elements_or_object`], for elements under a member with another name, with a memory
/// limit for each element.
///
/// # Errors
/// Returns the errors of [`parse`], and one if the value is neither an array nor an object.
pub fn parse_members(
    bytes: &[u8],
    name: &'static str,
    meter: &Meter,
    visit: &mut dyn FnMut(usize, Value),
) -> Result<Parsed, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let elements = Elements { name, meter, visit, is_inside: false };
    let parsed = reader.deserialize_any(elements)?;
    reader.end()?;
    Ok(parsed)
}

/// Visits the elements of an array, or of an array under one member of an object.
struct Elements<'a> {
    name: &'static str,
    meter: &'a Meter,
    visit: &'a mut dyn FnMut(usize, Value),
    is_inside: bool,
}

impl<'de> DeserializeSeed<'de> for Elements<'_> {
    type Value = Parsed;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Parsed, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Elements<'_> {
    type Value = Parsed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array, or an object with an array under `items`")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut index = 0;
        let seed = Strict { depth: 1, meter: self.meter };
        while let Some(item) = items.next_element_seed(seed)? {
            (self.visit)(index, item);
            self.meter.refill();
            self.meter.take(0)?;
            index += 1;
        }
        Ok(Parsed::Elements(Map::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        if self.is_inside {
            return Err(A::Error::custom(format!("`{}` must be an array", self.name)));
        }
        let Self { name: elements, meter, visit, .. } = self;
        let mut others = Map::new();
        let mut has_items = false;
        while let Some(name) = members.next_key::<String>()? {
            let is_repeated = if name == elements {
                let visit = &mut *visit;
                let inside = Elements { name: elements, meter, visit, is_inside: true };
                members.next_value_seed(inside)?;
                std::mem::replace(&mut has_items, true)
            } else {
                meter.take_member(&name, others.is_empty())?;
                let value = members.next_value_seed(Strict { depth: 1, meter })?;
                others.insert(name.clone(), value).is_some()
            };
            if is_repeated {
                let name = fireflow_domain::text::excerpt(&name);
                return Err(A::Error::custom(format!("duplicate member `{name}`")));
            }
        }
        Ok(if has_items { Parsed::Elements(others) } else { Parsed::Object(others) })
    }
}

#[derive(Clone, Copy)]
struct Strict<'m> {
    depth: u8,
    meter: &'m Meter,
}

impl Strict<'_> {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth < MAX_DEPTH {
            Ok(Self { depth: self.depth + 1, meter: self.meter })
        } else {
            Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels")))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.meter.take_text(value)?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.meter.take_text(&value)?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(below)? {
            self.meter.take(ELEMENT_BYTES)?;
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            self.meter.take_member(&name, map.is_empty())?;
            let value = members.next_value_seed(below)?;
            if map.contains_key(&name) {
                let name = fireflow_domain::text::excerpt(&name);
                return Err(A::Error::custom(format!("duplicate member `{name}`")));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// The type of a value, for messages.
#[must_use]
pub const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_strictly() {
        assert_eq!(parse(br#"{"a": [1, -2, 1.5, "x", null, true]}"#).unwrap()["a"][1], -2);
        let deep = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
        assert!(parse(&deep(32)).is_ok());
        let bad: &[&[u8]] = &[
            b"",
            b"{",
            b"{} {}",
            b"nul",
            b"{'a': 1}",
            b"{\"a\": 01}",
            b"[1,]",
            b"NaN",
            b"1e999",
            b"\"\xff\"",
            b"\"\\ud800\"",
            b"\xef\xbb\xbf{}",
            br#"{"a": 1, "a": 2}"#,
            br#"{"b": {"a": 1, "\u0061": 2}}"#,
        ];
        for text in bad {
            assert!(parse(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
        assert!(parse(&deep(33)).is_err());
        assert!(parse(&deep(100_000)).is_err(), "the stack must not overflow");
        assert!(parse(br#"{"a": 1, "a": 2}"#).unwrap_err().to_string().contains("`a`"));
    }

    #[test]
    fn what_takes_more_memory_than_it_may_is_not_built() {
        // Nested empty objects, members, elements: each takes many times as much memory as text.
        let deep = format!("[{}]", vec!["{\"\":{\"\":{\"\":0}}}"; 10_000].join(","));
        let members: Vec<String> = (0..50_000).map(|index| format!("\"{index}\":0")).collect();
        let members = format!("{{{}}}", members.join(","));
        let elements = format!("[{}]", vec!["0"; 100_000].join(","));
        for text in [deep, members, elements] {
            let meter = Meter::new(1_000_000, None);
            assert!(parse_within(text.as_bytes(), &meter).is_err());
            assert!(matches!(meter.check(), Err(ReadError::TooLarge(_))));
            assert!(parse(text.as_bytes()).is_ok());
        }
        // When elements are read one by one, they are also counted one by one.
        let meter = Meter::new(10_000, None);
        let many = format!("[{}]", vec!["[0,0,0]"; 10_000].join(","));
        let mut count = 0;
        parse_elements(many.as_bytes(), &meter, &mut |_, _| count += 1).unwrap();
        assert_eq!((count, meter.check().is_ok()), (10_000, true));
        // The client has disconnected.
        let flag = Arc::new(AtomicBool::new(true));
        let meter = Meter::new(u64::MAX, Some(Arc::clone(&flag)));
        let mut count = 0;
        let read = parse_elements(many.as_bytes(), &meter, &mut |_, _| {
            count += 1;
            flag.store(count < 10, Ordering::Relaxed);
        });
        assert!(read.is_err() && count == 10);
        assert!(matches!(meter.check(), Err(ReadError::Abandoned)));
    }

    #[test]
    fn elements_are_read_one_by_one() {
        let read = |text: &str| {
            let mut seen = Vec::new();
            let meter = Meter::unlimited();
            let others = parse_elements(text.as_bytes(), &meter, &mut |index, value| {
                seen.push((index, value));
            });
            others.map(|others| (seen, others.len())).map_err(|error| error.to_string())
        };
        let two = vec![(0, serde_json::json!(1)), (1, serde_json::json!({"a": 2}))];
        assert_eq!(read("[1, {\"a\": 2}]"), Ok((two.clone(), 0)));
        assert_eq!(read("{\"page\": 1, \"items\": [1, {\"a\": 2}]}"), Ok((two, 1)));
        for bad in [
            "",
            "7",
            "\"x\"",
            "{}",
            "[1",
            "[1] 2",
            "{\"items\": 7}",
            "{\"items\": {\"items\": []}}",
            "{\"items\": [], \"items\": []}",
            "[{\"a\": 1, \"a\": 2}]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

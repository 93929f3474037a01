//! JSON, read strictly: no member twice, no depth beyond what any body needs.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::{Map, Number, Value};

/// The deepest nesting that is read.
pub const MAX_DEPTH: u8 = 32;

/// Reads one JSON value and nothing behind it.
///
/// # Errors
/// Where it is not JSON, has a member twice, or is nested too deeply; says where.
pub fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    if bytes.trim_ascii().is_empty() {
        return Err(serde_json::Error::custom("the request body is empty"));
    }
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { depth: 0 }.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads an array, or an object with an array under `items`, element by element: the whole is never
/// there at once. Answers the object's other members.
///
/// # Errors
/// As [`parse`]; and where it is neither.
pub fn parse_elements(
    bytes: &[u8],
    visit: &mut dyn FnMut(usize, Value),
) -> Result<Map<String, Value>, serde_json::Error> {
    match parse_elements_or_object(bytes, visit)? {
        Parsed::Elements(others) => Ok(others),
        Parsed::Object(_) => Err(serde_json::Error::custom("the member `items` is missing")),
    }
}

/// What [`parse_elements_or_object`] read.
#[derive(Debug, Clone, PartialEq)]
pub enum Parsed {
    /// An array, or an object with an array under `items`: its elements were visited, these are its
    /// other members.
    Elements(Map<String, Value>),
    /// An object without `items`.
    Object(Map<String, Value>),
}

/// As [`parse_elements`], or reads any other object.
///
/// # Errors
/// As [`parse`]; and where it is neither an array nor an object.
pub fn parse_elements_or_object(
    bytes: &[u8],
    visit: &mut dyn FnMut(usize, Value),
) -> Result<Parsed, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let parsed = reader.deserialize_any(Elements { visit, is_inside: false })?;
    reader.end()?;
    Ok(parsed)
}

/// What is inside an array, or inside the `items` of an object.
struct Elements<'a> {
    visit: &'a mut dyn FnMut(usize, Value),
    is_inside: bool,
}

impl Elements<'_> {
    /// A value that is neither an array nor an object.
    fn scalar<E: serde::de::Error>(&self, found: Unexpected<'_>) -> Result<Parsed, E> {
        if self.is_inside {
            Ok(Parsed::Object(Map::new()))
        } else {
            Err(E::invalid_type(found, self))
        }
    }
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

    fn visit_unit<E: serde::de::Error>(self) -> Result<Parsed, E> {
        self.scalar(Unexpected::Unit)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Parsed, E> {
        self.scalar(Unexpected::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Parsed, E> {
        self.scalar(Unexpected::Signed(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Parsed, E> {
        self.scalar(Unexpected::Unsigned(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Parsed, E> {
        self.scalar(Unexpected::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Parsed, E> {
        self.scalar(Unexpected::Str(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut index = 0;
        while let Some(item) = items.next_element_seed(Strict { depth: 1 })? {
            (self.visit)(index, item);
            index += 1;
        }
        Ok(Parsed::Elements(Map::new()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        if self.is_inside {
            Strict { depth: 1 }.visit_map(members)?;
            return Ok(Parsed::Object(Map::new()));
        }
        let mut others = Map::new();
        let mut has_items = false;
        while let Some(name) = members.next_key::<String>()? {
            let is_repeated = if name == "items" {
                let inside = Elements { visit: &mut *self.visit, is_inside: true };
                let is_repeated = has_items || others.contains_key("items");
                match members.next_value_seed(inside)? {
                    Parsed::Elements(_) => has_items = true,
                    // It is JSON, and no list.
                    Parsed::Object(_) => drop(others.insert(name.clone(), Value::Null)),
                }
                is_repeated
            } else {
                let value = members.next_value_seed(Strict { depth: 1 })?;
                others.insert(name.clone(), value).is_some()
            };
            if is_repeated {
                let name = fireflow_domain::text::excerpt(&name);
                return Err(A::Error::custom(format!("the member `{name}` stands there twice")));
            }
        }
        Ok(if has_items { Parsed::Elements(others) } else { Parsed::Object(others) })
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth: u8,
}

impl Strict {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth < MAX_DEPTH {
            Ok(Self { depth: self.depth + 1 })
        } else {
            Err(E::custom(format!("nested deeper than {MAX_DEPTH} levels")))
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
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

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = items.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let below = self.below()?;
        let mut map = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(below)?;
            if map.contains_key(&name) {
                let name = fireflow_domain::text::excerpt(&name);
                return Err(A::Error::custom(format!("the member `{name}` stands there twice")));
            }
            map.insert(name, value);
        }
        Ok(Value::Object(map))
    }
}

/// What a value is, for messages.
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
        assert!(parse(&deep(100_000)).is_err(), "and the stack holds");
        assert!(parse(br#"{"a": 1, "a": 2}"#).unwrap_err().to_string().contains("`a`"));
    }

    #[test]
    fn elements_are_read_one_by_one() {
        let read = |text: &str| {
            let mut seen = Vec::new();
            let others = parse_elements(text.as_bytes(), &mut |index, value| {
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
            "{\"items\": 7, \"items\": []}",
            "{\"items\": [], \"items\": {}}",
            "[{\"a\": 1, \"a\": 2}]",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

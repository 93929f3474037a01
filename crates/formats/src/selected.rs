//! An answer with only the requested members, as JSON. They are taken from its text instead of a tree of
//! values, which would take several times the memory.

use std::collections::BTreeMap;

use serde::ser::{Error, SerializeSeq};
use serde::{Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// The requested members of an answer, and `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Vec<&'static str>);

impl Fields {
    /// Selects these members and `id`.
    #[must_use]
    pub const fn new(names: Vec<&'static str>) -> Self {
        Self(names)
    }

    /// Whether a member is selected.
    #[must_use]
    pub fn has(&self, member: &str) -> bool {
        member == "id" || self.0.contains(&member)
    }

    /// Removes all other members.
    pub fn keep(&self, object: &mut Value) {
        if let Some(members) = object.as_object_mut() {
            members.retain(|name, _| self.has(name));
        }
    }
}

/// Members by name, each as its JSON text.
type Members<'a> = BTreeMap<&'a str, &'a RawValue>;

/// A resource or a page of resources, with only some members.
#[derive(Debug)]
pub struct Selected<'a> {
    members: Members<'a>,
    fields: &'a Fields,
}

impl<'a> Selected<'a> {
    /// Reads the whole answer. If it has `items`, the selection applies to the members of each
    /// item, otherwise to the answer itself.
    ///
    /// # Errors
    /// Returns an error if the answer is not an object.
    pub fn read(whole: &'a [u8], fields: &'a Fields) -> serde_json::Result<Self> {
        let mut members: Members<'_> = serde_json::from_slice(whole)?;
        if !members.contains_key("items") {
            // `left_out` is always included: an answer must show that it is incomplete.
            members.retain(|name, _| fields.has(name) || *name == "left_out");
        }
        Ok(Self { members, fields })
    }
}

impl Serialize for Selected<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.members.iter().map(|(name, value)| {
            let items = (*name == "items").then_some(Items { text: value, fields: self.fields });
            (name, Member { value, items })
        }))
    }
}

struct Member<'a> {
    value: &'a RawValue,
    items: Option<Items<'a>>,
}

impl Serialize for Member<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.items {
            Some(items) => items.serialize(serializer),
            None => self.value.serialize(serializer),
        }
    }
}

/// The items of a page, read one after the other while they are written.
struct Items<'a> {
    text: &'a RawValue,
    fields: &'a Fields,
}

impl Serialize for Items<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let items: Vec<&RawValue> =
            serde_json::from_str(self.text.get()).map_err(S::Error::custom)?;
        let mut list = serializer.serialize_seq(Some(items.len()))?;
        for item in items {
            let mut members: Members<'_> =
                serde_json::from_str(item.get()).map_err(S::Error::custom)?;
            members.retain(|name, _| self.fields.has(name));
            list.serialize_element(&members)?;
        }
        list.end()
    }
}

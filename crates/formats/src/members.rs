//! Reads JSON objects member by member, and collects all faults, each with its pointer. Unknown
//! members are refused; nothing is dropped silently.

use std::collections::BTreeMap;
use std::fmt::Display;

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::labels::{Labels, LabelsPatch, escape_pointer};
use fireflow_domain::patch::Patch;
use fireflow_domain::spelling::nearest;
use fireflow_domain::text::excerpt;
use serde_json::{Map, Value};

use crate::fault::ReadError;
use crate::json::{self, Meter, kind};

/// Parses the text of a body, and reads it.
///
/// # Errors
/// Returns [`ReadError::Invalid`] with all faults that `read` has noted, or an error if the text is
/// not JSON.
pub fn read_json<T>(
    bytes: &[u8],
    meter: &Meter,
    read: impl FnOnce(Value, &mut Violations) -> Option<T>,
) -> Result<T, ReadError> {
    let value = json::parse_within(bytes, meter)?;
    let mut violations = Violations::new();
    match read(value, &mut violations) {
        Some(value) if violations.is_empty() => Ok(value),
        _ => Err(ReadError::Invalid(violations)),
    }
}

/// The value of a member in an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberValue<T> {
    /// The member is missing.
    Absent,
    /// `null`.
    Null,
    /// A value.
    Is(T),
    /// A fault, which has been noted.
    Bad,
}

impl<T> MemberValue<T> {
    /// Converts the value.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> MemberValue<U> {
        match self {
            Self::Absent => MemberValue::Absent,
            Self::Null => MemberValue::Null,
            Self::Is(value) => MemberValue::Is(change(value)),
            Self::Bad => MemberValue::Bad,
        }
    }

    /// The change of a member that can be null.
    pub fn nullable_patch(self) -> Patch<Option<T>> {
        match self {
            Self::Absent | Self::Bad => Patch::Keep,
            Self::Null => Patch::Set(None),
            Self::Is(value) => Patch::Set(Some(value)),
        }
    }

    /// The change of a member that has a default. Null restores the default: in RFC 7396, null
    /// removes a member, and a missing member has its default.
    pub fn patch_or(self, default: T) -> Patch<T> {
        match self {
            Self::Absent | Self::Bad => Patch::Keep,
            Self::Null => Patch::Set(default),
            Self::Is(value) => Patch::Set(value),
        }
    }

    /// The value of a member that can be null.
    pub fn nullable(self) -> Option<T> {
        match self {
            Self::Is(value) => Some(value),
            Self::Absent | Self::Null | Self::Bad => None,
        }
    }
}

/// An example of a valid value at a pointer, for a message.
fn example(at: &str) -> &'static str {
    match at.rsplit('/').nth(1) {
        Some("sources" | "destinations") => " such as `{\"address\": \"10.0.0.0/8\"}`",
        Some("ports") => " such as `{\"number\": 443}`",
        _ => "",
    }
}

/// An object that is being read.
#[derive(Debug)]
pub struct Members<'v> {
    members: Map<String, Value>,
    at: String,
    known: Vec<&'static str>,
    violations: &'v mut Violations,
}

impl<'v> Members<'v> {
    /// Begins to read a value as an object, and notes a fault if it is not an object.
    pub fn open(value: Value, at: &str, violations: &'v mut Violations) -> Option<Self> {
        match value {
            Value::Object(members) => {
                Some(Self { members, at: at.to_owned(), known: Vec::new(), violations })
            }
            other => {
                let detail = format!("must be an object{}, not {}", example(at), kind(&other));
                violations.push(Violation::body(at, detail));
                None
            }
        }
    }

    fn pointer(&self, name: &str) -> String {
        format!("{}/{}", self.at, escape_pointer(name))
    }

    /// Notes a fault of a member.
    pub fn fault(&mut self, name: &str, detail: impl Into<String>) {
        let at = &self.at;
        let place = || format!("{at}/{}", escape_pointer(name));
        self.violations.note(|| Violation::body(place(), detail));
    }

    /// Notes a fault of the object as a whole.
    pub fn fault_of_all(&mut self, detail: &str) {
        let at = &self.at;
        self.violations.note(|| Violation::body(at.as_str(), detail));
    }

    fn take(&mut self, name: &'static str) -> MemberValue<Value> {
        self.known.push(name);
        self.remove(name)
    }

    fn wrong<T>(&mut self, name: &str, detail: impl Into<String>) -> MemberValue<T> {
        self.fault(name, detail);
        MemberValue::Bad
    }

    fn read<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> MemberValue<T> {
        match self.take(name) {
            MemberValue::Absent => MemberValue::Absent,
            MemberValue::Null => MemberValue::Null,
            MemberValue::Bad => MemberValue::Bad,
            MemberValue::Is(value) => match read(value) {
                Ok(value) => MemberValue::Is(value),
                Err(detail) => self.wrong(name, detail),
            },
        }
    }

    /// A string, parsed by the domain. Numbers and booleans are not accepted.
    pub fn text<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> MemberValue<T> {
        self.read(name, |value| match value {
            Value::String(text) => parse(&text).map_err(|error| error.to_string()),
            other => Err(format!("must be a string, not {}", kind(&other))),
        })
    }

    /// An integer within bounds. `1.0` is not accepted.
    pub fn integer(&mut self, name: &'static str, min: i64, max: i64) -> MemberValue<i64> {
        self.read(name, |value| integer(&value, min, max))
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &'static str) -> MemberValue<bool> {
        self.read(name, |value| match value {
            Value::Bool(value) => Ok(value),
            other => Err(format!("must be true or false, not {}", kind(&other))),
        })
    }

    /// A value that a function reads.
    pub fn value<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> MemberValue<T> {
        self.read(name, read)
    }

    /// An array. Every item is read, with its own pointer.
    pub fn list<T>(
        &mut self,
        name: &'static str,
        max: usize,
        mut read: impl FnMut(Value, &str, &mut Violations) -> Option<T>,
    ) -> MemberValue<Vec<T>> {
        let items = match self.take(name) {
            MemberValue::Absent => return MemberValue::Absent,
            MemberValue::Null => return MemberValue::Null,
            MemberValue::Bad => return MemberValue::Bad,
            MemberValue::Is(Value::Array(items)) => items,
            MemberValue::Is(other) => {
                let detail = format!("must be an array, not {}", kind(&other));
                return self.wrong(name, detail);
            }
        };
        if items.len() > max {
            let detail = format!("has {} entries; at most {max} are allowed", items.len());
            return self.wrong(name, detail);
        }
        let at = self.pointer(name);
        let count = items.len();
        let read: Vec<T> = items
            .into_iter()
            .enumerate()
            .filter_map(|(index, item)| read(item, &format!("{at}/{index}"), self.violations))
            .collect();
        if read.len() == count { MemberValue::Is(read) } else { MemberValue::Bad }
    }

    /// A non-empty array.
    pub fn some<T>(
        &mut self,
        name: &'static str,
        max: usize,
        read: impl FnMut(Value, &str, &mut Violations) -> Option<T>,
    ) -> MemberValue<Vec<T>> {
        match self.list(name, max, read) {
            MemberValue::Is(items) if items.is_empty() => {
                self.wrong(name, format!("has no entries; 1 to {max} are required"))
            }
            other => other,
        }
    }

    fn label_map(&mut self, allows_null: bool) -> MemberValue<BTreeMap<String, Option<String>>> {
        let name = "labels";
        let members = match self.take(name) {
            MemberValue::Absent => return MemberValue::Absent,
            MemberValue::Null => return MemberValue::Null,
            MemberValue::Bad => return MemberValue::Bad,
            MemberValue::Is(Value::Object(members)) => members,
            MemberValue::Is(other) => {
                let detail = format!("must be an object, not {}", kind(&other));
                return self.wrong(name, detail);
            }
        };
        let at = self.pointer(name);
        let mut map = BTreeMap::new();
        let mut is_good = true;
        for (key, value) in members {
            let value = match value {
                Value::String(text) => Some(text),
                Value::Null if allows_null => None,
                other => {
                    self.violations.note(|| {
                        let detail = format!("must be a string, not {}", kind(&other));
                        Violation::body(format!("{at}/{}", escape_pointer(&excerpt(&key))), detail)
                    });
                    is_good = false;
                    continue;
                }
            };
            map.insert(key, value);
        }
        if is_good { MemberValue::Is(map) } else { MemberValue::Bad }
    }

    /// The `labels` of a new resource.
    pub fn labels(&mut self) -> Labels {
        let given = self.label_map(false);
        let map = self.or("labels", given, BTreeMap::new());
        let map = map.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        match Labels::new(map) {
            Ok(labels) => labels,
            Err(violations) => {
                let at = self.pointer("labels");
                self.violations.extend_below(&at, violations);
                Labels::default()
            }
        }
    }

    /// The `labels` of a change. A value sets a key, and `null` removes it; `null` instead of the
    /// object removes all labels.
    pub fn labels_patch(&mut self) -> LabelsPatch {
        match self.label_map(true) {
            MemberValue::Absent | MemberValue::Bad => LabelsPatch::default(),
            MemberValue::Null => LabelsPatch::Clear,
            MemberValue::Is(map) => {
                // Keys and values are checked here; the total number of labels is known only when
                // the change is applied.
                let set = map.iter().filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
                if let Err(violations) = Labels::new(set.collect()) {
                    let at = self.pointer("labels");
                    self.violations.extend_below(&at, violations);
                }
                LabelsPatch::Merge(map)
            }
        }
    }

    /// The value of a required member.
    pub fn required<T>(&mut self, name: &str, given: MemberValue<T>) -> Option<T> {
        match given {
            MemberValue::Is(value) => Some(value),
            MemberValue::Bad => None,
            MemberValue::Absent => {
                self.fault(name, "is required");
                None
            }
            MemberValue::Null => {
                self.fault(name, "is required and must not be null");
                None
            }
        }
    }

    /// The value of a member, or its default. Null is not accepted.
    pub fn or<T>(&mut self, name: &str, given: MemberValue<T>, default: T) -> T {
        match given {
            MemberValue::Is(value) => value,
            MemberValue::Absent | MemberValue::Bad => default,
            MemberValue::Null => {
                self.fault(name, "must not be null; leave it out");
                default
            }
        }
    }

    /// The change of a member. Null is not accepted.
    pub fn patch<T>(&mut self, name: &str, given: MemberValue<T>) -> Patch<T> {
        match given {
            MemberValue::Is(value) => Patch::Set(value),
            MemberValue::Absent | MemberValue::Bad => Patch::Keep,
            MemberValue::Null => {
                self.fault(name, "must not be null; leave it out to keep the current value");
                Patch::Keep
            }
        }
    }

    /// Takes a member that clients cannot write. `finish` never suggests it for a misspelt name.
    pub(crate) fn remove(&mut self, name: &str) -> MemberValue<Value> {
        match self.members.remove(name) {
            None => MemberValue::Absent,
            Some(Value::Null) => MemberValue::Null,
            Some(value) => MemberValue::Is(value),
        }
    }

    /// Notes that a member was read elsewhere, so that it is a known name.
    pub(crate) fn passes(&mut self, name: &'static str) {
        self.known.push(name);
    }

    /// The pointer of the object.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }

    /// Notes a fault.
    pub(crate) fn push(&mut self, violation: Violation) {
        self.violations.push(violation);
    }

    /// Notes every unknown member, with the nearest known name. Returns the pointer of the object,
    /// and the faults so far.
    pub fn finish(mut self) -> (String, &'v mut Violations) {
        let unknown = std::mem::take(&mut self.members);
        for name in unknown.keys() {
            // A suggestion costs as much as reading many members, so only faults that are shown get
            // one.
            if !self.violations.has_room() {
                self.violations.count(1);
                continue;
            }
            let detail = match nearest(name, self.known.iter().copied()) {
                Some(meant) => format!("is not a known member; did you mean `{meant}`?"),
                None => "is not a known member".to_owned(),
            };
            // A name can be as long as the body, so the message contains only an excerpt.
            let pointer = format!("{}/{}", self.at, escape_pointer(&excerpt(name)));
            self.violations.push(Violation::body(pointer, detail));
        }
        (self.at, self.violations)
    }
}

/// Reads an integer within bounds.
///
/// # Errors
/// Returns a message about the fault.
pub fn integer(value: &Value, min: i64, max: i64) -> Result<i64, String> {
    let Value::Number(number) = value else {
        return Err(format!("must be an integer, not {}", kind(value)));
    };
    number
        .as_i64()
        .filter(|number| (min..=max).contains(number))
        .ok_or_else(|| format!("must be an integer from {min} to {max}"))
}

//! Read-only members in bodies: refused on creation, compared on change, or ignored.

use fireflow_domain::error::Violation;
use fireflow_domain::ids::Revision;
use fireflow_domain::read_only::{ReadOnlyMember, Repeated, RepeatedValue};
use fireflow_domain::rule::{RuleState, WarningCode};
use fireflow_domain::text::excerpt;
use fireflow_domain::time::Instant;
use serde_json::Value;

use crate::json::kind;
use crate::members::{MemberValue, Members, integer};

/// How the read-only members of a new resource are handled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ReadOnly {
    /// They are refused, because a member without an effect is a mistake.
    #[default]
    Refuse,
    /// They are ignored, because the request has `read_only=ignore`.
    Ignore,
}

impl Members<'_> {
    /// Consumes the read-only members of a new resource, and refuses them unless they are ignored.
    pub fn not_read_only(&mut self, members: &[ReadOnlyMember], read_only: ReadOnly) {
        for member in members.iter().copied() {
            let given = self.remove(member.name());
            if read_only == ReadOnly::Refuse && given != MemberValue::Absent {
                let why = "; leave it out, or add `read_only=ignore` to the query";
                let at = self.at().to_owned();
                self.push(member.refused(&at, why));
            }
        }
    }

    /// Reads the read-only members of a change, except for the id and the parent, which belong to
    /// the path. Their values are compared later with those of the stored resource.
    pub fn repeated(&mut self, members: &[ReadOnlyMember]) -> Repeated {
        let mut repeated = Vec::new();
        for member in members.iter().copied() {
            let value = match self.remove(member.name()) {
                MemberValue::Absent | MemberValue::Bad => continue,
                MemberValue::Null => Ok(RepeatedValue::Null),
                MemberValue::Is(value) => repeated_value(member, &value),
            };
            match value {
                Ok(value) => repeated.push((member, value)),
                Err(detail) => {
                    let detail = format!("is read-only, and {detail}; {}", member.instead());
                    self.fault(member.name(), detail);
                }
            }
        }
        Repeated::new(repeated)
    }
}

/// Reads the value of a read-only member according to its type.
///
/// # Errors
/// Returns a message that names the required type.
fn repeated_value(member: ReadOnlyMember, value: &Value) -> Result<RepeatedValue, String> {
    let text = || value.as_str().ok_or_else(|| format!("must be a string, not {}", kind(value)));
    match member {
        ReadOnlyMember::Revision => {
            integer(value, 1, i64::MAX).map(|it| RepeatedValue::Revision(Revision(it)))
        }
        ReadOnlyMember::PolicyCount | ReadOnlyMember::RuleCount | ReadOnlyMember::Position => {
            let count = integer(value, 0, i64::MAX)?;
            Ok(RepeatedValue::Count(count.unsigned_abs()))
        }
        ReadOnlyMember::CreatedAt | ReadOnlyMember::UpdatedAt | ReadOnlyMember::DeletedAt => {
            Instant::parse(text()?).map(RepeatedValue::At).map_err(|error| error.to_string())
        }
        ReadOnlyMember::CreatedBy | ReadOnlyMember::UpdatedBy | ReadOnlyMember::DeletedBy => {
            Ok(RepeatedValue::By(text()?.into()))
        }
        ReadOnlyMember::State => {
            let word = text()?;
            let known = RuleState::ALL.into_iter().find(|state| state.as_str() == word);
            known.map(RepeatedValue::State).ok_or_else(|| {
                let words = RuleState::ALL.map(RuleState::as_str).join(", ");
                format!("`{}` is not one of {words}", excerpt(word))
            })
        }
        ReadOnlyMember::Warnings => warnings(value).map(RepeatedValue::Warnings),
        ReadOnlyMember::FilteringPolicies | ReadOnlyMember::Rules => match value {
            Value::Array(_) => Ok(RepeatedValue::Children),
            other => Err(format!("must be an array, not {}", kind(other))),
        },
        ReadOnlyMember::LeftOut => match value {
            Value::Object(_) => Ok(RepeatedValue::Children),
            other => Err(format!("must be an object, not {}", kind(other))),
        },
        // These are compared with the path by the callers.
        ReadOnlyMember::Id | ReadOnlyMember::Firewall | ReadOnlyMember::FilteringPolicy => {
            Err("contradicts the path".to_owned())
        }
    }
}

/// Reads warnings as answers show them, or only their codes, as in CSV.
fn warnings(value: &Value) -> Result<Vec<(WarningCode, Option<String>)>, String> {
    let takes = || "must be an array of warnings as in a response".to_owned();
    let code = |word: &str| {
        WarningCode::ALL.into_iter().find(|code| code.as_str() == word).ok_or_else(takes)
    };
    let one = |value: &Value| match value {
        Value::String(word) => Ok((code(word)?, None)),
        Value::Object(members) => {
            let text = |name: &str| members.get(name).and_then(Value::as_str).ok_or_else(takes);
            let pointer = text("pointer")?.trim_start_matches('#').to_owned();
            text("detail")?;
            if members.len() != 3 {
                return Err(takes());
            }
            Ok((code(text("code")?)?, Some(pointer)))
        }
        _ => Err(takes()),
    };
    value.as_array().ok_or_else(takes)?.iter().map(one).collect()
}

/// The members of a parent in answers, at any depth.
const OF_PARENT: [&str; 4] = ["id", "name", "default_action", "firewall"];

impl Members<'_> {
    /// Checks the read-only id of a change, which must be that of the path.
    pub fn same_id(&mut self, id: i64) {
        match self.remove("id") {
            MemberValue::Absent | MemberValue::Bad => {}
            MemberValue::Is(value) if value == id => {}
            MemberValue::Null | MemberValue::Is(_) => {
                self.fault("id", format!("contradicts the path, which has {id}"));
            }
        }
    }

    /// Checks a read-only parent `{"id": …}`, which must be that of the path. Its other members may
    /// be outdated and are not compared.
    pub fn same_parent(&mut self, member: ReadOnlyMember, id: i64) {
        let name = member.name();
        let given = match self.remove(name) {
            MemberValue::Absent | MemberValue::Bad => return,
            MemberValue::Null => Value::Null,
            MemberValue::Is(value) => value,
        };
        if *given.get("id").unwrap_or(&given) != id {
            self.fault(name, format!("contradicts the path, which has id={id}"));
            return;
        }
        let unknown = unknown_of_parent(&given);
        for step in unknown {
            let at = format!("{}/{name}{step}", self.at());
            self.push(Violation::body(at, "is not a known member"));
        }
    }
}

/// The pointers of unknown members of a parent.
fn unknown_of_parent(parent: &Value) -> Vec<String> {
    let Some(members) = parent.as_object() else { return Vec::new() };
    let mut unknown = Vec::new();
    for (name, value) in members {
        let step = format!("/{}", fireflow_domain::labels::escape_pointer(&excerpt(name)));
        if !OF_PARENT.contains(&name.as_str()) {
            unknown.push(step);
        } else if name == "firewall" {
            unknown
                .extend(unknown_of_parent(value).into_iter().map(|below| format!("{step}{below}")));
        }
    }
    unknown
}

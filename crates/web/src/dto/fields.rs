//! The selection of the members of an answer.

use serde_json::Value;

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

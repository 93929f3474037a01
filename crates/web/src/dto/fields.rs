//! Which members of a view an answer has.

use serde_json::Value;

/// The members that an answer is to have, and `id`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields(Vec<&'static str>);

impl Fields {
    /// These, and `id`.
    #[must_use]
    pub const fn new(names: Vec<&'static str>) -> Self {
        Self(names)
    }

    /// Whether a member is among them.
    #[must_use]
    pub fn has(&self, member: &str) -> bool {
        member == "id" || self.0.contains(&member)
    }

    /// Takes all other members away.
    pub fn keep(&self, object: &mut Value) {
        if let Some(members) = object.as_object_mut() {
            members.retain(|name, _| self.has(name));
        }
    }
}

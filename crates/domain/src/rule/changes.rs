//! Changes of many rules at once, and what becomes of duplicates.

use super::{Rule, RuleSpec};

/// What happens to a new rule that is equivalent to a live rule of its policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Duplicates {
    /// It is refused.
    #[default]
    Refuse,
    /// Both rules are kept, as on real devices.
    Keep,
}

/// A change of many rules of a locked policy at once.
#[derive(Debug, Clone, Default)]
pub struct RuleChanges {
    /// The new rules.
    pub created: Vec<RuleSpec>,
    /// The changed rules, before and after.
    pub updated: Vec<(Rule, Rule)>,
    /// The rules to be deleted.
    pub deleted: Vec<Rule>,
    /// The restored rules, as they are after the change.
    pub restored: Vec<Rule>,
}

impl RuleChanges {
    pub(crate) fn is_empty(&self) -> bool {
        let Self { created, updated, deleted, restored } = self;
        created.is_empty() && updated.is_empty() && deleted.is_empty() && restored.is_empty()
    }
}

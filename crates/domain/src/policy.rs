//! Filtering policies: ordered lists of rules with a default.

use crate::error::Violations;
use crate::firewall::FirewallRef;
use crate::ids::{PolicyId, Revision};
use crate::labels::{Labels, LabelsPatch};
use crate::patch::Patch;
use crate::rule::Action;
use crate::store::Stamp;
use crate::text::{Description, Name};
use crate::time::Instant;

/// A filtering policy as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// Its firewall, as policies show it.
    pub firewall: FirewallRef,
    /// What it says.
    pub spec: PolicySpec,
    /// How many live rules it has.
    pub rule_count: u64,
    /// How many source, destination and port entries those have.
    pub entry_count: u64,
    /// Grows with each change of the policy or of any of its rules.
    pub revision: Revision,
    /// The revision at which something last changed that its rules show.
    pub header_revision: Revision,
    /// When it was created.
    pub created_at: Instant,
    /// By whom.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Instant,
    /// By whom.
    pub updated_by: String,
    /// When and by whom it was deleted; none while it is live.
    pub deleted: Option<Stamp>,
}

/// What a user writes of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySpec {
    /// Its name, unique among the live policies of its firewall.
    pub name: Name,
    /// Free text.
    pub description: Description,
    /// Labels.
    pub labels: Labels,
    /// What becomes of packets that no rule matches.
    pub default_action: Action,
}

/// A policy as its rules show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRef {
    /// Its id.
    pub id: PolicyId,
    /// Its name.
    pub name: Name,
    /// Its default.
    pub default_action: Action,
    /// Its header revision, part of the rules' entity tags.
    pub header_revision: Revision,
    /// Its firewall.
    pub firewall: FirewallRef,
}

impl Policy {
    /// The policy as its rules show it.
    #[must_use]
    pub fn reference(&self) -> PolicyRef {
        PolicyRef {
            id: self.id,
            name: self.spec.name.clone(),
            default_action: self.spec.default_action,
            header_revision: self.header_revision,
            firewall: self.firewall.clone(),
        }
    }
}

/// A change of a policy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyPatch {
    /// See [`PolicySpec`].
    pub name: Patch<Name>,
    /// See [`PolicySpec`].
    pub description: Patch<Description>,
    /// See [`PolicySpec`].
    pub labels: LabelsPatch,
    /// See [`PolicySpec`].
    pub default_action: Patch<Action>,
}

impl PolicyPatch {
    /// The policy's content after the change.
    ///
    /// # Errors
    /// Where the labels no longer hold together.
    pub fn apply(self, old: PolicySpec) -> Result<PolicySpec, Violations> {
        Ok(PolicySpec {
            name: self.name.or(old.name),
            description: self.description.or(old.description),
            labels: self.labels.apply_below(old.labels)?,
            default_action: self.default_action.or(old.default_action),
        })
    }
}

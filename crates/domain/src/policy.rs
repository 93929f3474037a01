//! Filtering policies: ordered lists of rules with a default.

use crate::audit_chain::Head;
use crate::error::{Resource, Violations};
use crate::features::Features;
use crate::firewall::FirewallRef;
use crate::ids::{PolicyId, Revision};
use crate::labels::{Labels, LabelsPatch};
use crate::mark::{CurrentState, Mark};
use crate::patch::Patch;
use crate::read_only::Repeated;
use crate::rule::Action;
use crate::stamp::Stamp;
use crate::text::{Description, Name};
use crate::time::Instant;

/// A stored filtering policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its id.
    pub id: PolicyId,
    /// Its firewall, as policies show it.
    pub firewall: FirewallRef,
    /// Its content.
    pub spec: PolicySpec,
    /// How many live rules it has.
    pub rule_count: u64,
    /// How many source, destination and port entries these rules have.
    pub entry_count: u64,
    /// The features that its rules use, including deleted rules.
    pub features: Features,
    /// Grows with each change of the policy or of any of its rules.
    pub revision: Revision,
    /// The revision of the last change to a field that its rules show.
    pub header_revision: Revision,
    /// The marks of its current state and of the states before it.
    pub states: States,
    /// The head of its audit chain, which identifies all changes so far; none if it has no event.
    pub audit_head: Option<Head>,
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

/// The members of a policy that clients write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicySpec {
    /// Its name, unique among the live policies of its firewall.
    pub name: Name,
    /// Free text.
    pub description: Description,
    /// Labels.
    pub labels: Labels,
    /// The action on packets that no rule matches.
    pub default_action: Action,
}

/// The marks of a policy's last states, the newest first. They are random, so that they identify
/// the state that data was derived from. A revision cannot do that: a backup that replaces a
/// database, or a lagging standby that becomes the primary, can have another state under the same
/// revision.
///
/// The last mark stays when the marks of older states are dropped. It is that of the first state
/// since all writers of the policy know marks: another writer leaves a list with a single new mark.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct States(String);

impl States {
    /// How many digits a mark has.
    const DIGITS: usize = 16;
    /// How many marks of the last states are kept.
    pub const KEPT: usize = 16;

    /// Reads the stored form.
    #[must_use]
    pub const fn new(text: String) -> Self {
        Self(text)
    }

    /// The stored form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The states with a newer one before them.
    #[must_use]
    pub fn followed_by(&self, mark: Mark) -> Self {
        let kept = (Self::KEPT - 1) * Self::DIGITS;
        match self.0.get(..kept) {
            Some(former) if self.0.len() > kept => Self(format!("{mark}{former}{}", self.root())),
            _ => Self(format!("{mark}{}", self.0)),
        }
    }

    /// The mark of the first state since all writers know marks; empty if there is none yet.
    #[must_use]
    pub fn root(&self) -> &str {
        let start = self.0.len().saturating_sub(Self::DIGITS);
        self.0.get(start..).unwrap_or_default()
    }

    /// The newest mark; empty if there is none yet.
    #[must_use]
    pub fn current(&self) -> &str {
        self.0.get(..Self::DIGITS).unwrap_or_default()
    }

    /// The newest mark as a [`Mark`].
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark::parse(self.current())
    }

    /// How many states are newer than the state of a mark; none if the mark is not among them.
    #[must_use]
    pub fn newer_than(&self, mark: &str) -> Option<usize> {
        if mark.len() != Self::DIGITS {
            return None;
        }
        let marks = (0..Self::KEPT).map_while(|at| {
            let start = at * Self::DIGITS;
            self.0.get(start..start + Self::DIGITS)
        });
        marks.enumerate().find(|(_, it)| *it == mark).map(|(at, _)| at)
    }
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
    /// Its header revision.
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

impl From<&Policy> for CurrentState {
    fn from(policy: &Policy) -> Self {
        Self {
            what: Resource::Policy,
            id: policy.id.get(),
            mark: policy.states.mark(),
            revision: policy.revision,
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
    /// The read-only members that the request repeats.
    pub repeated: Repeated,
}

impl PolicyPatch {
    /// The policy's content after the change.
    ///
    /// # Errors
    /// Returns the violations if the changed labels are not valid.
    pub fn apply(self, old: PolicySpec) -> Result<PolicySpec, Violations> {
        Ok(PolicySpec {
            name: self.name.or(old.name),
            description: self.description.or(old.description),
            labels: self.labels.apply_below(old.labels)?,
            default_action: self.default_action.or(old.default_action),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_states_are_known_again() {
        let first = States::default().followed_by(Mark::new(7));
        assert_eq!(first.current(), "0000000000000007");
        assert_eq!(first.mark(), Mark::new(7));
        let mut last = first.clone();
        for mark in 8..23 {
            assert_eq!(last.newer_than(first.current()), Some(mark - 8));
            last = last.followed_by(Mark::new(mark as u64));
        }
        assert_eq!(last.newer_than(first.current()), Some(15));
        assert_eq!(last.newer_than(last.current()), Some(0));
        let later = last.followed_by(Mark::new(23));
        assert_eq!(later.as_str().len(), 272);
        assert_eq!(later.root(), first.current(), "it is not dropped");
        let later = later.followed_by(Mark::new(24));
        assert_eq!((later.as_str().len(), later.root()), (272, first.current()));
        assert_eq!(later.newer_than(last.current()), Some(2));
        assert_eq!(States::default().root(), "");
        assert_eq!(later.newer_than(first.current()), None, "too long ago");
        assert_eq!(later.newer_than("00000000000000"), None);
        assert_eq!(States::default().newer_than(""), None);
        assert_eq!(States::default().current(), "");
    }
}

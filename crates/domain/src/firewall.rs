//! Firewalls.

use crate::error::{Resource, Violations};
use crate::ids::{FirewallId, Revision};
use crate::labels::{Labels, LabelsPatch};
use crate::mark::{CurrentState, Mark};
use crate::patch::Patch;
use crate::read_only::Repeated;
use crate::stamp::Stamp;
use crate::text::{Description, Name, Tenant};
use crate::time::Instant;

/// A stored firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firewall {
    /// Its id.
    pub id: FirewallId,
    /// Its content.
    pub spec: FirewallSpec,
    /// How many live policies it has.
    pub policy_count: u64,
    /// Grows with each change of its own fields, and with each creation, deletion and restoration
    /// of a policy.
    pub revision: Revision,
    /// The revision of the last change to a field that its children show.
    pub header_revision: Revision,
    /// The mark of its state.
    pub mark: Mark,
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

/// The members of a firewall that clients write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallSpec {
    /// Its name, unique among the live firewalls of its tenant.
    pub name: Name,
    /// Its tenant.
    pub tenant: Tenant,
    /// Free text.
    pub description: Description,
    /// Labels.
    pub labels: Labels,
}

/// A firewall as its policies and rules show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirewallRef {
    /// Its id.
    pub id: FirewallId,
    /// Its name.
    pub name: Name,
    /// Its header revision.
    pub header_revision: Revision,
}

impl Firewall {
    /// The firewall as its children show it.
    #[must_use]
    pub fn reference(&self) -> FirewallRef {
        FirewallRef {
            id: self.id,
            name: self.spec.name.clone(),
            header_revision: self.header_revision,
        }
    }
}

impl From<&Firewall> for CurrentState {
    fn from(firewall: &Firewall) -> Self {
        Self {
            what: Resource::Firewall,
            id: firewall.id.get(),
            mark: firewall.mark,
            revision: firewall.revision,
        }
    }
}

/// A change of a firewall.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirewallPatch {
    /// See [`FirewallSpec`].
    pub name: Patch<Name>,
    /// See [`FirewallSpec`]; for admins.
    pub tenant: Patch<Tenant>,
    /// See [`FirewallSpec`].
    pub description: Patch<Description>,
    /// See [`FirewallSpec`].
    pub labels: LabelsPatch,
    /// The read-only members that the request repeats.
    pub repeated: Repeated,
}

impl FirewallPatch {
    /// The firewall's content after the change.
    ///
    /// # Errors
    /// Returns the violations if the changed labels are not valid.
    pub fn apply(self, old: FirewallSpec) -> Result<FirewallSpec, Violations> {
        Ok(FirewallSpec {
            name: self.name.or(old.name),
            tenant: self.tenant.or(old.tenant),
            description: self.description.or(old.description),
            labels: self.labels.apply_below(old.labels)?,
        })
    }
}

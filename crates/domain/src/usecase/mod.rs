//! Use cases: free functions over a unit of work that the caller began and commits.
//!
//! Each function checks the role first, then existence, then the precondition, then the content. It
//! writes only if all checks pass. A change that makes no difference writes nothing.

mod absent;
pub mod acceptance;
pub mod audit;
pub mod batch;
pub mod expand;
mod expected;
pub mod export;
pub mod firewall;
pub mod inspect;
mod left_out;
pub mod policy;
mod read_only;
mod repeated;
pub mod retention;
pub mod rule;
pub mod rule_set;

use crate::actor::{Caller, Role};
use crate::audit::{AuditAction, AuditEvent, Snapshot};
use crate::error::{Error, Resource, Result, Violation};
use crate::ids::Revision;
use crate::store::Stamp;

pub use expected::{Expected, Named, NamedState};

impl Caller {
    /// Requires a role.
    ///
    /// # Errors
    /// Returns [`Error::Forbidden`] if no role of the caller includes it.
    pub fn require(&self, role: Role) -> Result<()> {
        if self.actor.may(role) { Ok(()) } else { Err(Error::Forbidden { needs: role }) }
    }

    /// Requires the role that a list needs. A list of deleted resources needs the role that can
    /// restore them.
    ///
    /// # Errors
    /// Returns [`Error::Forbidden`] if no role of the caller includes it.
    fn require_for_list(&self, of_deleted: bool) -> Result<()> {
        self.require(if of_deleted { Role::Editor } else { Role::Viewer })
    }

    /// The time and the author of what this call writes.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { at: self.now, by: self.actor.subject.clone() }
    }

    fn event(
        &self,
        action: AuditAction,
        before: Option<Snapshot>,
        after: Option<Snapshot>,
    ) -> AuditEvent {
        AuditEvent { caller: self.clone(), action, before, after }
    }
}

/// The error for a restoration under a new name of a resource that is live under another name.
fn not_deleted(what: Resource) -> Error {
    let detail = format!("the {} is not deleted; change its name with PATCH", what.noun());
    Error::invalid(Violation::body("/name", detail))
}

/// The next revision.
fn next(revision: Revision) -> Revision {
    Revision(revision.0.saturating_add(1))
}

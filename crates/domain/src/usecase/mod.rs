//! What a caller may ask: free functions over a unit of work that the caller began and commits.
//!
//! Each checks the role first, then existence, then the precondition, then the content; and writes
//! only when all of it holds. A change that changes nothing writes nothing.

pub mod audit;
pub mod batch;
pub mod expand;
mod expected;
pub mod export;
pub mod firewall;
pub mod inspect;
mod left_out;
pub mod policy;
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
    /// Demands a role.
    ///
    /// # Errors
    /// [`Error::Forbidden`], where no role of the caller holds it.
    pub fn require(&self, role: Role) -> Result<()> {
        if self.actor.may(role) { Ok(()) } else { Err(Error::Forbidden { needs: role }) }
    }

    /// Demands what a list needs: of what was deleted, the role that can restore it.
    ///
    /// # Errors
    /// [`Error::Forbidden`], where no role of the caller holds it.
    fn require_for_list(&self, of_deleted: bool) -> Result<()> {
        self.require(if of_deleted { Role::Editor } else { Role::Viewer })
    }

    /// When and by whom this call writes.
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

/// That something which is to come back under a new name is live under another one.
fn not_deleted(what: Resource) -> Error {
    let detail = format!("the {} is not deleted; change its name with PATCH", what.noun());
    Error::invalid(Violation::body("/name", detail))
}

/// The next revision.
fn next(revision: Revision) -> Revision {
    Revision(revision.0.saturating_add(1))
}

//! Reading the audit trail.

use crate::actor::{Caller, Role};
use crate::audit::AuditRecord;
use crate::error::Result;
use crate::page::{Page, PageRequest, SortKey};
use crate::store::{AuditField, AuditFilter, ReadUnit};

/// A page of audit events. Costs two statements.
///
/// # Errors
/// Returns an error if the caller lacks the role.
pub async fn page(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    filter: &AuditFilter,
    order: &[SortKey<AuditField>],
    request: &PageRequest,
) -> Result<Page<AuditRecord>> {
    caller.require(Role::Editor)?;
    Ok(uow.audit().page(&caller.actor.visibility, filter, order, request).await?)
}

//! Filtering policies.

use crate::actor::{Caller, Role};
use crate::audit::{AuditAction, Snapshot};
use crate::error::{Conflict, Error, Resource, Result};
use crate::firewall::Firewall;
use crate::ids::{FirewallId, PolicyId};
use crate::page::{Page, PageRequest, SortKey};
use crate::policy::{Policy, PolicyPatch, PolicySpec};
use crate::store::{PolicyField, PolicyFilter, ReadUnit, WriteUnit};
use crate::text::Name;

use super::{Expected, next, not_deleted, read_only};

pub use super::left_out::{LeftOutPolicies, MAX_LEFT_OUT, left_out};

/// The error for a policy that was not found: its firewall is missing, or the policy itself. Costs
/// one statement.
pub(super) async fn missing(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
) -> Result<Error> {
    let parent = uow.firewalls().get(&caller.actor.visibility, firewall).await?;
    Ok(match parent {
        Some(_) => Error::not_found(Resource::Policy, id),
        None => Error::not_found(Resource::Firewall, firewall),
    })
}

/// Demands that this version can read all rules of a policy.
///
/// # Errors
/// Returns [`Error::NewerPolicy`] if it cannot.
pub fn require_known(uow: &dyn ReadUnit, policy: &Policy) -> Result<()> {
    if policy.features.without(uow.known_features()).is_empty() {
        Ok(())
    } else {
        Err(Error::NewerPolicy { policy: policy.id })
    }
}

/// Reads a policy for a read or an evaluation of its rules. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, the policy does not exist, or this version cannot
/// read its rules.
pub async fn get_known(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
) -> Result<Policy> {
    let policy = get(uow, caller, firewall, id).await?;
    require_known(uow, &policy)?;
    Ok(policy)
}

/// A policy, locked for a write to it or its rules. Fails if this version cannot read its rules.
pub(super) async fn lock(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
) -> Result<Policy> {
    let policy = lock_any(uow, caller, firewall, id).await?;
    require_known(uow, &policy)?;
    Ok(policy)
}

/// Like [`lock`], but also locks a policy that a newer version wrote.
async fn lock_any(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
) -> Result<Policy> {
    match uow.policies_mut().lock(&caller.actor.visibility, firewall, id).await? {
        Some(policy) => Ok(policy),
        None => Err(missing(uow, caller, firewall, id).await?),
    }
}

async fn lock_firewall(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    id: FirewallId,
) -> Result<Firewall> {
    let found = uow.firewalls_mut().lock(&caller.actor.visibility, id).await?;
    found.ok_or_else(|| Error::not_found(Resource::Firewall, id))
}

async fn check_name(uow: &mut dyn WriteUnit, firewall: FirewallId, name: &Name) -> Result<()> {
    match uow.policies_mut().find_by_name(firewall, name).await? {
        None => Ok(()),
        Some(holder) => Err(Error::AlreadyExists(Conflict::NameTaken {
            what: Resource::Policy,
            name: name.as_str().to_owned(),
            holder: holder.get(),
        })),
    }
}

/// Reads one policy. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the policy does not exist.
pub async fn get(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
) -> Result<Policy> {
    caller.require(Role::Viewer)?;
    match uow.policies().get(&caller.actor.visibility, firewall, id).await? {
        Some(policy) => Ok(policy),
        None => Err(missing(uow, caller, firewall, id).await?),
    }
}

/// A page of a firewall's policies.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the firewall does not exist.
pub async fn page(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    firewall: FirewallId,
    filter: &PolicyFilter,
    order: &[SortKey<PolicyField>],
    request: &PageRequest,
) -> Result<Page<Policy>> {
    caller.require_for_list(filter.deleted)?;
    super::firewall::get(uow, caller, firewall).await?;
    Ok(uow
        .policies()
        .page(&caller.actor.visibility, Some(firewall), filter, order, request)
        .await?)
}

/// A page of the policies of all firewalls. Costs two statements.
///
/// # Errors
/// Returns an error if the caller lacks the role.
pub async fn page_of_all(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    filter: &PolicyFilter,
    order: &[SortKey<PolicyField>],
    request: &PageRequest,
) -> Result<Page<Policy>> {
    caller.require_for_list(filter.deleted)?;
    Ok(uow.policies().page(&caller.actor.visibility, None, filter, order, request).await?)
}

/// Creates a policy.
///
/// # Errors
/// Returns an error if the caller lacks the role, the firewall does not exist, or the name is
/// taken.
pub async fn create(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    firewall: FirewallId,
    spec: PolicySpec,
) -> Result<Policy> {
    caller.require(Role::Editor)?;
    let firewall = lock_firewall(uow, caller, firewall).await?;
    check_name(uow, firewall.id, &spec.name).await?;
    let policy = uow.policies_mut().insert(&firewall, &spec, &caller.stamp()).await?;
    count_policies(uow, &firewall, firewall.policy_count.saturating_add(1)).await?;
    let after = Snapshot::Policy(Box::new(policy.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Create, None, Some(after))).await?;
    Ok(policy)
}

async fn count_policies(
    uow: &mut dyn WriteUnit,
    firewall: &Firewall,
    policy_count: u64,
) -> Result<()> {
    let counted = Firewall { policy_count, revision: next(firewall.revision), ..firewall.clone() };
    uow.firewalls_mut().update(firewall, counted).await?.map(drop).map_err(|holder| {
        Error::Internal(format!("the unchanged name belongs to firewall {holder}").into())
    })
}

/// Changes a policy. Writes nothing if the patch makes no difference.
///
/// # Errors
/// Returns an error if the caller lacks the role, the policy does not exist or is not in the
/// expected state, the new content is not valid, or the new name is taken.
pub async fn update(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
    expected: &Expected,
    patch: PolicyPatch,
) -> Result<Policy> {
    caller.require(Role::Editor)?;
    // The firewall's lock comes first: it keeps names unique, and all writers lock in this order.
    let parent = lock_firewall(uow, caller, firewall).await?;
    let before = lock(uow, caller, firewall, id).await?;
    expected.check(&before)?;
    read_only::check_policy(&patch.repeated, &before)?;
    let spec = patch.apply(before.spec.clone())?;
    if spec == before.spec {
        return Ok(before);
    }
    if spec.name != before.spec.name {
        check_name(uow, parent.id, &spec.name).await?;
    }
    let revision = next(before.revision);
    let shows_anew =
        spec.name != before.spec.name || spec.default_action != before.spec.default_action;
    let stamp = caller.stamp();
    let after = Policy {
        spec,
        revision,
        header_revision: if shows_anew { revision } else { before.header_revision },
        updated_at: stamp.at,
        updated_by: stamp.by,
        ..before.clone()
    };
    let [old, new] =
        [&before, &after].map(|policy| Some(Snapshot::Policy(Box::new(policy.clone()))));
    uow.audit_mut().append(&caller.event(AuditAction::Update, old, new)).await?;
    Ok(uow.policies_mut().update(&before, after).await?)
}

/// Deletes a policy, and hides its rules. This also works for a policy that a newer version wrote:
/// the row is only marked as deleted, so nothing of it is lost.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the policy does not exist or is not in the
/// expected state.
pub async fn delete(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
    expected: &Expected,
) -> Result<()> {
    caller.require(Role::Editor)?;
    let parent = lock_firewall(uow, caller, firewall).await?;
    let before = lock_any(uow, caller, firewall, id).await?;
    expected.check(&before)?;
    let snapshot = Snapshot::Policy(Box::new(before.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Delete, Some(snapshot), None)).await?;
    uow.policies_mut().delete(&before, &caller.stamp()).await?;
    count_policies(uow, &parent, parent.policy_count.saturating_sub(1)).await?;
    Ok(())
}

/// Restores a deleted policy of a live firewall, and the rules that were hidden with it. A live
/// policy stays as it is.
///
/// # Errors
/// Returns an error if the caller lacks the role, the policy does not exist, its firewall is
/// deleted, or its name is taken. It also returns an error if the policy is live under a name other
/// than the requested one.
pub async fn restore(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
    name: Option<Name>,
) -> Result<Policy> {
    caller.require(Role::Editor)?;
    let parent = lock_firewall(uow, caller, firewall).await?;
    let who = &caller.actor.visibility;
    let Some(deleted) = uow.policies_mut().lock_deleted(who, firewall, id).await? else {
        let live = get(uow, caller, firewall, id).await?;
        return match name {
            Some(name) if name != live.spec.name => Err(not_deleted(Resource::Policy)),
            Some(_) | None => Ok(live),
        };
    };
    require_known(uow, &deleted)?;
    let revision = next(deleted.revision);
    let restored = match name {
        Some(name) if name != deleted.spec.name => {
            let stamp = caller.stamp();
            Policy {
                spec: PolicySpec { name, ..deleted.spec },
                revision,
                header_revision: revision,
                updated_at: stamp.at,
                updated_by: stamp.by,
                deleted: None,
                ..deleted
            }
        }
        Some(_) | None => Policy { revision, deleted: None, ..deleted },
    };
    check_name(uow, parent.id, &restored.spec.name).await?;
    let after = Snapshot::Policy(Box::new(restored.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Restore, None, Some(after))).await?;
    let restored = uow.policies_mut().restore(restored).await?;
    count_policies(uow, &parent, parent.policy_count.saturating_add(1)).await?;
    Ok(restored)
}

//! Firewalls.

use crate::actor::{Caller, Role, Visibility};
use crate::audit::{AuditAction, Snapshot};
use crate::error::{Conflict, Error, Resource, Result, Violation};
use crate::firewall::{Firewall, FirewallPatch, FirewallSpec};
use crate::ids::FirewallId;
use crate::labels::Labels;
use crate::page::{Page, PageRequest, SortKey};
use crate::patch::Patch;
use crate::store::{FirewallField, FirewallFilter, ReadUnit, WriteUnit};
use crate::text::{Description, Name, Tenant, excerpt};

use super::{Expected, next, not_deleted, read_only};

/// A firewall to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFirewall {
    /// Its name.
    pub name: Name,
    /// Its tenant; none: the token's only tenant, or no tenant if the token sees all tenants.
    pub tenant: Option<Tenant>,
    /// Free text.
    pub description: Description,
    /// Labels.
    pub labels: Labels,
}

fn not_found(id: FirewallId) -> Error {
    Error::not_found(Resource::Firewall, id)
}

fn name_taken(name: &Name, holder: FirewallId) -> Error {
    Error::AlreadyExists(Conflict::NameTaken {
        what: Resource::Firewall,
        name: name.as_str().to_owned(),
        holder: holder.get(),
    })
}

/// Reads one firewall. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the firewall does not exist.
pub async fn get(uow: &mut dyn ReadUnit, caller: &Caller, id: FirewallId) -> Result<Firewall> {
    caller.require(Role::Viewer)?;
    uow.firewalls().get(&caller.actor.visibility, id).await?.ok_or_else(|| not_found(id))
}

/// A page of firewalls. Costs two statements.
///
/// # Errors
/// Returns an error if the caller lacks the role.
pub async fn page(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    filter: &FirewallFilter,
    order: &[SortKey<FirewallField>],
    request: &PageRequest,
) -> Result<Page<Firewall>> {
    caller.require_for_list(filter.deleted)?;
    Ok(uow.firewalls().page(&caller.actor.visibility, filter, order, request).await?)
}

/// Creates a firewall.
///
/// # Errors
/// Returns an error if the caller lacks the role or the tenant, or the name is taken.
pub async fn create(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    new: NewFirewall,
) -> Result<Firewall> {
    caller.require(Role::Editor)?;
    let tenant = match new.tenant {
        Some(tenant) => {
            check_tenant(caller, &tenant)?;
            tenant
        }
        None => default_tenant(caller)?,
    };
    let spec =
        FirewallSpec { name: new.name, tenant, description: new.description, labels: new.labels };
    let firewall = uow
        .firewalls_mut()
        .insert(&spec, &caller.stamp())
        .await?
        .map_err(|holder| name_taken(&spec.name, holder))?;
    let after = Snapshot::Firewall(Box::new(firewall.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Create, None, Some(after))).await?;
    Ok(firewall)
}

/// Checks that the caller may give a firewall to a tenant. An admin may name any visible tenant; an
/// editor may only name a tenant that the token lists.
fn check_tenant(caller: &Caller, tenant: &Tenant) -> Result<()> {
    let is_own = match &caller.actor.visibility {
        Visibility::All => false,
        Visibility::Tenants(tenants) => tenants.contains(tenant),
    };
    if is_own {
        return Ok(());
    }
    caller.require(Role::Admin)?;
    if caller.actor.visibility.allows(tenant) {
        Ok(())
    } else {
        Err(Error::invalid(Violation::body(
            "/tenant",
            format!("`{}` is not one of your token's tenants", excerpt(tenant.as_str())),
        )))
    }
}

fn default_tenant(caller: &Caller) -> Result<Tenant> {
    match &caller.actor.visibility {
        Visibility::All => Ok(Tenant::default()),
        Visibility::Tenants(tenants) => match tenants.as_slice() {
            [only] => Ok(only.clone()),
            [] => Err(Error::invalid(Violation::body(
                "/tenant",
                "your token names no tenant, so it cannot create a firewall",
            ))),
            [_, ..] => Err(Error::invalid(Violation::body(
                "/tenant",
                "your token names several tenants; choose one of them",
            ))),
        },
    }
}

/// Changes a firewall. Writes nothing if the patch makes no difference.
///
/// # Errors
/// Returns an error if the caller lacks the role, the firewall does not exist or is not in the
/// expected state, the new content is not valid, or the new name is taken.
pub async fn update(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    id: FirewallId,
    expected: &Expected,
    patch: FirewallPatch,
) -> Result<Firewall> {
    caller.require(Role::Editor)?;
    let who = &caller.actor.visibility;
    let before = uow.firewalls_mut().lock(who, id).await?.ok_or_else(|| not_found(id))?;
    expected.check(&before)?;
    read_only::check_firewall(&patch.repeated, &before)?;
    if let Patch::Set(tenant) = &patch.tenant
        && *tenant != before.spec.tenant
    {
        caller.require(Role::Admin)?;
        check_tenant(caller, tenant)?;
    }
    let spec = patch.apply(before.spec.clone())?;
    if spec == before.spec {
        return Ok(before);
    }
    let revision = next(before.revision);
    let shows_anew = spec.name != before.spec.name;
    let stamp = caller.stamp();
    let after = Firewall {
        spec,
        revision,
        header_revision: if shows_anew { revision } else { before.header_revision },
        updated_at: stamp.at,
        updated_by: stamp.by,
        ..before.clone()
    };
    let [old, new] =
        [&before, &after].map(|firewall| Some(Snapshot::Firewall(Box::new(firewall.clone()))));
    uow.audit_mut().append(&caller.event(AuditAction::Update, old, new)).await?;
    let name = after.spec.name.clone();
    let written = uow.firewalls_mut().update(&before, after).await?;
    written.map_err(|holder| name_taken(&name, holder))
}

/// Deletes a firewall, and hides its policies and their rules.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the firewall does not exist or is not in the
/// expected state.
pub async fn delete(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    id: FirewallId,
    expected: &Expected,
) -> Result<()> {
    caller.require(Role::Editor)?;
    let who = &caller.actor.visibility;
    let before = uow.firewalls_mut().lock(who, id).await?.ok_or_else(|| not_found(id))?;
    expected.check(&before)?;
    let snapshot = Snapshot::Firewall(Box::new(before.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Delete, Some(snapshot), None)).await?;
    uow.firewalls_mut().delete(&before, &caller.stamp()).await?;
    Ok(())
}

/// Restores a deleted firewall, and all that was hidden with it. A live firewall stays as it is.
///
/// # Errors
/// Returns an error if the caller lacks the role, the firewall does not exist, or its name is
/// taken. It also returns an error if the firewall is live under a name other than the requested
/// one.
pub async fn restore(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    id: FirewallId,
    name: Option<Name>,
) -> Result<Firewall> {
    caller.require(Role::Editor)?;
    let who = &caller.actor.visibility;
    let Some(deleted) = uow.firewalls_mut().lock_deleted(who, id).await? else {
        let live = uow.firewalls().get(who, id).await?.ok_or_else(|| not_found(id))?;
        return match name {
            Some(name) if name != live.spec.name => Err(not_deleted(Resource::Firewall)),
            Some(_) | None => Ok(live),
        };
    };
    let revision = next(deleted.revision);
    let restored = match name {
        Some(name) if name != deleted.spec.name => {
            let stamp = caller.stamp();
            Firewall {
                spec: FirewallSpec { name, ..deleted.spec },
                revision,
                header_revision: revision,
                updated_at: stamp.at,
                updated_by: stamp.by,
                deleted: None,
                ..deleted
            }
        }
        Some(_) | None => Firewall { revision, deleted: None, ..deleted },
    };
    let after = Snapshot::Firewall(Box::new(restored.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Restore, None, Some(after))).await?;
    let name = restored.spec.name.clone();
    let written = uow.firewalls_mut().restore(restored).await?;
    written.map_err(|holder| name_taken(&name, holder))
}

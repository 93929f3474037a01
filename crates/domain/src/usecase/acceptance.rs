//! Accepted findings.

use crate::acceptance::{Acceptance, AcceptanceSpec, MAX_ACCEPTANCES};
use crate::actor::{Caller, Role};
use crate::analysis::{Finding, FindingId};
use crate::audit::{AuditAction, Snapshot};
use crate::error::{Error, Result, Violation};
use crate::filter::Expression;
use crate::ids::{FirewallId, PolicyId, RuleId};
use crate::policy::Policy;
use crate::store::{ReadUnit, WriteUnit};

use super::policy;

/// All accepted findings of a policy, lapsed or not, in the order in which they were accepted. Costs
/// two statements.
///
/// # Errors
/// Returns an error if the caller lacks the role, the policy does not exist, or this version cannot
/// read its rules.
pub async fn all(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    firewall: FirewallId,
    id: PolicyId,
) -> Result<Vec<Acceptance>> {
    let policy = policy::get_known(uow, caller, firewall, id).await?;
    of(uow, caller, &policy).await
}

/// The same, of a policy that was read for the caller. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role.
pub async fn of(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
) -> Result<Vec<Acceptance>> {
    caller.require(Role::Viewer)?;
    Ok(uow.acceptances().all(policy.id).await?)
}

/// What decides which findings of a policy are shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// All accepted findings of the policy.
    pub accepted: Vec<Acceptance>,
    /// The rules that match a filter; none if there is no filter.
    pub rules: Option<Vec<RuleId>>,
}

/// Reads what decides which findings are shown; none if there is a filter, and the policy is no longer
/// in the state in which it was read. Costs one statement, and with a filter at most five of one
/// snapshot.
///
/// # Errors
/// Returns an error if the caller lacks the role, or with a filter if the policy no longer exists.
pub async fn shown(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    filter: Option<&Expression>,
) -> Result<Option<Shown>> {
    let accepted = of(uow, caller, policy).await?;
    let Some(filter) = filter else { return Ok(Some(Shown { accepted, rules: None })) };
    let parent = (policy.firewall.id, policy.id);
    let now = policy::get_known(uow, caller, parent.0, parent.1).await?;
    if now.states.mark() != policy.states.mark() {
        return Ok(None);
    }
    let rules = uow.rules().matching(&caller.actor.visibility, parent, filter).await?;
    Ok(Some(Shown { accepted, rules: Some(rules) }))
}

/// Accepts a finding of a policy as it is now. Writes nothing if it is accepted like that already.
/// Costs six statements.
///
/// # Errors
/// Returns an error if the caller lacks the role, the policy does not exist, or too many of its
/// findings are accepted.
pub async fn accept(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    (firewall, id): (FirewallId, PolicyId),
    finding: &Finding,
    spec: AcceptanceSpec,
) -> Result<Acceptance> {
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, firewall, id).await?;
    let former = uow.acceptances().get(policy.id, finding.id).await?;
    if let Some(former) = &former
        && former.covers(finding)
        && former.severity == finding.severity
        && former.spec == spec
    {
        return Ok(former.clone());
    }
    let limit = u64::try_from(MAX_ACCEPTANCES).unwrap_or(u64::MAX);
    if former.is_none() && uow.acceptances().count(policy.id).await? >= limit {
        let detail = format!(
            "the policy has {MAX_ACCEPTANCES} accepted findings, and more are not allowed; withdraw \
             some, or correct the policy"
        );
        return Err(Error::invalid(Violation::body("", detail)));
    }
    let stamp = caller.stamp();
    let acceptance = Acceptance {
        finding: finding.id,
        proof: finding.proof,
        severity: finding.severity,
        spec,
        accepted_at: stamp.at,
        accepted_by: stamp.by,
    };
    let snapshot = |one| Snapshot::Acceptance(Box::new(policy.clone()), Box::new(one));
    let (before, after) = (former.map(snapshot), snapshot(acceptance.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Update, before, Some(after))).await?;
    uow.acceptances_mut().put(&policy, &acceptance).await?;
    Ok(acceptance)
}

/// Withdraws the acceptance of a finding. Returns whether there was one. Costs five statements.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the policy does not exist.
pub async fn withdraw(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    (firewall, id): (FirewallId, PolicyId),
    finding: FindingId,
) -> Result<bool> {
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, firewall, id).await?;
    let Some(former) = uow.acceptances().get(policy.id, finding).await? else {
        return Ok(false);
    };
    let before = Snapshot::Acceptance(Box::new(policy.clone()), Box::new(former));
    uow.audit_mut().append(&caller.event(AuditAction::Update, Some(before), None)).await?;
    uow.acceptances_mut().remove(&policy, finding).await?;
    Ok(true)
}

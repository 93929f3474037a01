//! A policy's rules as a whole.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::actor::{Caller, Role};
use crate::audit::{AuditEvent, Deed, Snapshot};
use crate::error::{Resource, Result, Violation, Violations};
use crate::ids::{FirewallId, PolicyId, Revision, RuleId};
use crate::policy::Policy;
use crate::rule::fingerprint::Fingerprint;
use crate::rule::{Rule, RuleSpec};
use crate::store::WriteUnit;

use super::rule::{Duplicates, check_size};
use super::{Expected, next, policy};

/// A rule of a set that is given as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenRule {
    /// The stored rule that it is, where that is said.
    pub id: Option<RuleId>,
    /// What it says.
    pub spec: RuleSpec,
}

/// What became of a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The policy after it.
    pub policy: Policy,
    /// How many rules were created.
    pub created: u64,
    /// How many were changed.
    pub updated: u64,
    /// How many were deleted.
    pub deleted: u64,
    /// How many stayed as they were.
    pub unchanged: u64,
}

/// A change of many rules of a locked policy at once.
#[derive(Debug, Clone, Default)]
pub struct RuleChanges {
    /// New ones.
    pub created: Vec<RuleSpec>,
    /// Changed ones, before and after.
    pub updated: Vec<(Rule, Rule)>,
    /// Those that go.
    pub deleted: Vec<Rule>,
    /// Deleted ones that come back, as they are from then on.
    pub restored: Vec<Rule>,
}

impl RuleChanges {
    pub(super) fn is_empty(&self) -> bool {
        let Self { created, updated, deleted, restored } = self;
        created.is_empty() && updated.is_empty() && deleted.is_empty() && restored.is_empty()
    }
}

/// Makes a policy's rules those that are given, and changes only what differs. A given rule is the
/// stored one with its id, else with its name, else an equal one, which keep their ids; the others
/// are new, and stored rules that none of them is are deleted.
///
/// # Errors
/// Where the role does not suffice, there is no such policy, it has changed meanwhile, it would be
/// too full, or the set contradicts itself: all contradictions at once, with their indices.
pub async fn replace(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    parent: (FirewallId, PolicyId),
    expected: &Expected,
    given: Vec<GivenRule>,
    duplicates: Duplicates,
) -> Result<Replaced> {
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, parent.0, parent.1).await?;
    expected.check(Resource::Policy, policy.revision)?;
    let rule_count = u64::try_from(given.len()).unwrap_or(u64::MAX);
    let entry_count = given.iter().map(|rule| rule.spec.entry_count()).sum();
    check_size(rule_count, entry_count)?;
    let stored = uow.rules().all(&policy.reference()).await?;
    check_given(&given, &stored, duplicates)?;
    let revision = next(policy.revision);
    let changes = difference(given, stored, revision, caller);
    let count = |items: usize| u64::try_from(items).unwrap_or(u64::MAX);
    let (created, updated) = (count(changes.created.len()), count(changes.updated.len()));
    let deleted = count(changes.deleted.len());
    let unchanged = rule_count.saturating_sub(created).saturating_sub(updated);
    if changes.is_empty() {
        return Ok(Replaced { policy, created, updated, deleted, unchanged });
    }
    let after = Policy { rule_count, entry_count, revision, ..policy.clone() };
    let stamp = caller.stamp();
    let reference = after.reference();
    let made = uow.rules_mut().apply(&reference, &changes, revision, duplicates, &stamp).await?;
    uow.audit_mut().append_all(&events(caller, changes, made)).await?;
    uow.policies_mut().update(&policy, &after).await?;
    Ok(Replaced { policy: after, created, updated, deleted, unchanged })
}

/// What contradicts itself in a set: ids that are not there or stand there twice, names that do,
/// rules that are equal.
fn check_given(given: &[GivenRule], stored: &[Rule], duplicates: Duplicates) -> Result<()> {
    let known: HashSet<RuleId> = stored.iter().map(|rule| rule.id).collect();
    let mut violations = Violations::new();
    let (mut ids, mut names, mut contents) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (index, rule) in given.iter().enumerate() {
        let mut fault = |member: &str, detail: &dyn Fn() -> String| {
            violations.note(|| Violation::body(format!("/{index}{member}"), detail()));
        };
        if let Some(id) = rule.id {
            if !known.contains(&id) {
                fault("/id", &|| format!("a rule with id={id} is not in this policy"));
            } else if let Some(first) = ids.insert(id, index) {
                fault("/id", &|| format!("stands already at #/{first}"));
            }
        }
        if let Some(name) = &rule.spec.name
            && let Some(first) = names.insert(name, index)
        {
            fault("/name", &|| format!("`{name}` is already the name of #/{first}"));
        }
        if duplicates == Duplicates::Refuse
            && let Some(first) = contents.insert(Fingerprint::of(&rule.spec), index)
        {
            fault("", &|| format!("is equal to #/{first}"));
        }
    }
    Ok(violations.into_result(|| ())?)
}

/// Which stored rule each given one is, and what is left to do.
fn difference(
    given: Vec<GivenRule>,
    stored: Vec<Rule>,
    revision: Revision,
    caller: &Caller,
) -> RuleChanges {
    let ids: HashSet<RuleId> = given.iter().filter_map(|rule| rule.id).collect();
    let mut by_id: HashMap<RuleId, Rule> = HashMap::with_capacity(stored.len());
    let mut order = Vec::with_capacity(stored.len());
    let mut by_name = HashMap::new();
    let mut by_content: HashMap<Fingerprint, VecDeque<RuleId>> = HashMap::new();
    for rule in stored {
        // Who is asked for by id is no answer to a name or to content.
        if !ids.contains(&rule.id) {
            if let Some(name) = &rule.spec.name {
                by_name.insert(name.clone(), rule.id);
            }
            by_content.entry(Fingerprint::of(&rule.spec)).or_default().push_back(rule.id);
        }
        order.push(rule.id);
        by_id.insert(rule.id, rule);
    }
    // Names before content, for all of them: a name must not find its rule given away.
    let named: Vec<Option<RuleId>> = given
        .iter()
        .map(|rule| rule.id.or_else(|| by_name.remove(rule.spec.name.as_ref()?)))
        .collect();
    let mut taken: HashSet<RuleId> = named.iter().flatten().copied().collect();
    let stamp = caller.stamp();
    let mut changes = RuleChanges::default();
    for (rule, named) in given.into_iter().zip(named) {
        let identity = named.or_else(|| {
            let equal = by_content.get_mut(&Fingerprint::of(&rule.spec))?;
            let free = std::iter::from_fn(|| equal.pop_front()).find(|id| !taken.contains(id))?;
            taken.insert(free);
            Some(free)
        });
        match identity.and_then(|id| by_id.remove(&id)) {
            None => changes.created.push(rule.spec),
            Some(before) if before.spec == rule.spec => {}
            Some(before) => {
                let after = Rule {
                    spec: rule.spec,
                    revision,
                    updated_at: stamp.at,
                    updated_by: stamp.by.clone(),
                    ..before.clone()
                };
                changes.updated.push((before, after));
            }
        }
    }
    // What is left of the stored ones is none of those that are given.
    changes.deleted = order.iter().filter_map(|id| by_id.remove(id)).collect();
    changes
}

pub(super) fn events(caller: &Caller, changes: RuleChanges, made: Vec<Rule>) -> Vec<AuditEvent> {
    let snapshot = |rule: Rule| Some(Snapshot::Rule(Box::new(rule)));
    let deleted =
        changes.deleted.into_iter().map(|rule| caller.event(Deed::Delete, snapshot(rule), None));
    let updated = changes
        .updated
        .into_iter()
        .map(|(before, after)| caller.event(Deed::Update, snapshot(before), snapshot(after)));
    let restored =
        changes.restored.into_iter().map(|rule| caller.event(Deed::Restore, None, snapshot(rule)));
    let created = made.into_iter().map(|rule| caller.event(Deed::Create, None, snapshot(rule)));
    deleted.chain(updated).chain(restored).chain(created).collect()
}

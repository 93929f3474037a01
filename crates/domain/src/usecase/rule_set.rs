//! A policy's rules as a whole.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::actor::{Caller, Role};
use crate::audit::{AuditAction, AuditEvent, Snapshot};
use crate::error::{Error, Result, Rival, Violation, ViolationCode, Violations};
use crate::ids::{FirewallId, PolicyId, Revision, RuleId};
use crate::policy::Policy;
use crate::read_only::Repeated;
use crate::rule::fingerprint::Fingerprint;
use crate::rule::{Duplicates, LeftOut, Rule, RuleChanges, RuleSpec};
use crate::store::WriteUnit;
use crate::text::excerpt;

use super::absent::AbsentRules;
use super::rule::check_size;
use super::{Expected, next, policy, read_only};

/// A rule of a set that replaces a policy's rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenRule {
    /// The id of the stored rule that it is, if the request names one.
    pub id: Option<RuleId>,
    /// Its content.
    pub spec: RuleSpec,
    /// Which members it leaves out.
    pub left_out: LeftOut,
    /// The read-only members that it repeats.
    pub repeated: Repeated,
}

/// A rule that leaves out no member, and is matched by its name or content.
impl From<RuleSpec> for GivenRule {
    fn from(spec: RuleSpec) -> Self {
        Self { id: None, spec, left_out: LeftOut::default(), repeated: Repeated::default() }
    }
}

/// How a set replaces the stored rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReplaceOptions {
    /// What happens to equivalent rules.
    pub duplicates: Duplicates,
    /// The most rules that may be deleted; none: the number that [`free_deletions`] returns.
    pub max_deletions: Option<u64>,
}

/// The most rules that a set may delete if the request does not allow a number of deletions.
pub const MAX_FREE_DELETIONS: u64 = 10;
/// The share of a policy's rules that a set may delete if the request does not allow a number of
/// deletions: one in this many.
pub const FREE_DELETIONS_ONE_IN: u64 = 10;
/// How many of the rules that would be deleted the error names.
const NAMED_DELETIONS: usize = 5;

/// How many of a policy's rules a set may delete if the request does not allow a number: a tenth,
/// and at most ten. A policy with fewer than ten rules allows none.
#[must_use]
pub const fn free_deletions(rules: u64) -> u64 {
    let part = rules / FREE_DELETIONS_ONE_IN;
    if part < MAX_FREE_DELETIONS { part } else { MAX_FREE_DELETIONS }
}

/// The result of a replacement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The policy after the replacement.
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

/// Replaces a policy's rules with the given ones, and writes only the differences. A given rule
/// matches the stored rule with its id, else the one with its name, else an equivalent one; the
/// stored rule keeps its id. Given rules without a match are created, and stored rules without a
/// match are deleted.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the policy does not exist, is not in the
/// expected state or would be too large. If the set contradicts itself or the stored rules, the
/// error lists all contradictions with the rules' indices. Returns [`Error::RevisionMismatch`] if a
/// rule repeats an older revision than the stored one, and [`Error::DeletionCountRequired`] if more
/// rules would be deleted than the options allow.
pub async fn replace(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    parent: (FirewallId, PolicyId),
    expected: &Expected,
    given: Vec<GivenRule>,
    options: ReplaceOptions,
) -> Result<Replaced> {
    let ReplaceOptions { duplicates, max_deletions } = options;
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, parent.0, parent.1).await?;
    expected.check(&policy)?;
    let rule_count = u64::try_from(given.len()).unwrap_or(u64::MAX);
    let entry_count = given.iter().map(|rule| rule.spec.entry_count()).sum();
    check_size(uow.policy_limits(), rule_count, entry_count)?;
    let stored = uow.rules().all(&policy.reference()).await?;
    let known: HashSet<RuleId> = stored.iter().map(|rule| rule.id).collect();
    let absent = given.iter().filter_map(|rule| rule.id).filter(|id| !known.contains(id));
    let absent = AbsentRules::find(uow, caller, policy.id, absent).await?;
    let contents: Vec<Fingerprint> = given.iter().map(|it| Fingerprint::of(&it.spec)).collect();
    check_given(&given, &contents, &known, &absent, duplicates)?;
    let matched = matched(&given, &contents, &stored);
    check_matched(&given, &stored, &matched, caller)?;
    let total = u64::try_from(stored.len()).unwrap_or(u64::MAX);
    let revision = next(policy.revision);
    let mut changes = difference(given, stored, &matched, revision, caller);
    check_deletions(&changes.deleted, total, max_deletions)?;
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
    let made =
        uow.rules_mut().apply(&reference, &mut changes, revision, duplicates, &stamp).await?;
    uow.audit_mut().append_all(&events(caller, changes, made)).await?;
    let after = uow.policies_mut().update(&policy, after).await?;
    Ok(Replaced { policy: after, created, updated, deleted, unchanged })
}

/// Checks that a set does not contradict itself: no unknown ids, no duplicate ids or names, no
/// equivalent rules unless duplicates are kept.
fn check_given(
    given: &[GivenRule],
    contents: &[Fingerprint],
    known: &HashSet<RuleId>,
    absent: &AbsentRules,
    duplicates: Duplicates,
) -> Result<()> {
    use ViolationCode::{EqualRule, NameTaken, NotFound};
    let mut violations = Violations::new();
    let (mut ids, mut names, mut firsts) = (HashMap::new(), HashMap::new(), HashMap::new());
    for (index, (rule, content)) in given.iter().zip(contents).enumerate() {
        let mut fault = |code, member: &str, first: Option<usize>, detail: &dyn Fn() -> String| {
            violations.note(|| Violation {
                code,
                rival: first.map(|first| Rival::Body(format!("/{first}{member}"))),
                ..Violation::body(format!("/{index}{member}"), detail())
            });
        };
        if let Some(id) = rule.id {
            if !known.contains(&id) {
                fault(Some(NotFound), "/id", None, &|| absent.reason(id));
            } else if let Some(first) = ids.insert(id, index) {
                fault(None, "/id", Some(first), &|| format!("is a duplicate of #/{first}"));
            }
        }
        if let Some(name) = &rule.spec.name
            && let Some(first) = names.insert(name, index)
        {
            let detail = || format!("`{name}` is already the name of #/{first}");
            fault(Some(NameTaken), "/name", Some(first), &detail);
        }
        if duplicates == Duplicates::Refuse
            && let Some(first) = firsts.insert(content, index)
        {
            fault(Some(EqualRule), "", Some(first), &|| format!("is equivalent to #/{first}"));
        }
    }
    Ok(violations.into_result(|| ())?)
}

/// The index of the stored rule that each given rule matches: the one with its id, else the one
/// with its name, else an equivalent one.
fn matched(given: &[GivenRule], contents: &[Fingerprint], stored: &[Rule]) -> Vec<Option<usize>> {
    let ids: HashSet<RuleId> = given.iter().filter_map(|rule| rule.id).collect();
    let mut by_id: HashMap<RuleId, usize> = HashMap::with_capacity(ids.len());
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for (index, rule) in stored.iter().enumerate() {
        // A rule that is named by its id must not also match by its name or content.
        if ids.contains(&rule.id) {
            by_id.insert(rule.id, index);
        } else if let Some(name) = &rule.spec.name {
            by_name.insert(name.as_str(), index);
        }
    }
    // All names are matched before any content. Otherwise, a given rule could take, by its content,
    // the stored rule that another given rule names.
    let mut matched: Vec<Option<usize>> = given
        .iter()
        .map(|rule| match rule.id {
            Some(id) => by_id.get(&id).copied(),
            None => by_name.remove(rule.spec.name.as_ref()?.as_str()),
        })
        .collect();
    if matched.iter().all(Option::is_some) {
        return matched;
    }
    let taken: HashSet<usize> = matched.iter().flatten().copied().collect();
    let mut by_content: HashMap<Fingerprint, VecDeque<usize>> = HashMap::new();
    for (index, rule) in stored.iter().enumerate() {
        if !taken.contains(&index) && !ids.contains(&rule.id) {
            by_content.entry(Fingerprint::of(&rule.spec)).or_default().push_back(index);
        }
    }
    for (matched, content) in matched.iter_mut().zip(contents) {
        if matched.is_none() {
            *matched = by_content.get_mut(content).and_then(VecDeque::pop_front);
        }
    }
    matched
}

/// Compares the members that given rules repeat or leave out with the stored rules that they match.
///
/// A member that is left out takes its default. If the stored rule has another value, then the
/// author of the set has not seen the whole rule, and what it matches would change.
fn check_matched(
    given: &[GivenRule],
    stored: &[Rule],
    matched: &[Option<usize>],
    caller: &Caller,
) -> Result<()> {
    let mut violations = Violations::new();
    for (index, (rule, matched)) in given.iter().zip(matched).enumerate() {
        let at = format!("/{index}");
        let found = matched.and_then(|matched| Some((matched, stored.get(matched)?)));
        let Some((place, before)) = found else {
            rule.repeated.refuse(&at, &mut violations);
            continue;
        };
        for (member, cleared) in rule.left_out.losses(&before.spec) {
            let detail = || {
                let id = before.id;
                format!(
                    "is left out, but the stored rule with id={id} has one; write it, or \
                     `{cleared}` to clear it"
                )
            };
            violations.note(|| Violation::body(format!("{at}/{member}"), detail()));
        }
        let position = u64::try_from(place).unwrap_or(u64::MAX).saturating_add(1);
        let repeated = &rule.repeated;
        read_only::check_rule(repeated, &at, before, Some(position), caller.now, &mut violations)?;
    }
    Ok(violations.into_result(|| ())?)
}

/// Checks that the options allow this many deletions: too many may be a mistake.
fn check_deletions(deleted: &[Rule], total: u64, max: Option<u64>) -> Result<()> {
    let count = u64::try_from(deleted.len()).unwrap_or(u64::MAX);
    if count <= max.unwrap_or(free_deletions(total)) {
        return Ok(());
    }
    let called = |rule: &Rule| match &rule.spec.name {
        Some(name) => format!("`{}`", excerpt(name.as_str())),
        None => format!("id={}", rule.id),
    };
    let first = deleted.iter().take(NAMED_DELETIONS).map(called).collect();
    Err(Error::DeletionCountRequired { count, total, first })
}

/// The changes that turn the stored rules into the given ones.
fn difference(
    given: Vec<GivenRule>,
    stored: Vec<Rule>,
    matched: &[Option<usize>],
    revision: Revision,
    caller: &Caller,
) -> RuleChanges {
    let mut stored: Vec<Option<Rule>> = stored.into_iter().map(Some).collect();
    let stamp = caller.stamp();
    let mut changes = RuleChanges::default();
    for (rule, matched) in given.into_iter().zip(matched) {
        match matched.and_then(|at| stored.get_mut(at)).and_then(Option::take) {
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
    // No given rule matched the remaining stored rules.
    changes.deleted = stored.into_iter().flatten().collect();
    changes
}

pub(super) fn events(caller: &Caller, changes: RuleChanges, made: Vec<Rule>) -> Vec<AuditEvent> {
    let snapshot = |rule: Rule| Some(Snapshot::Rule(Box::new(rule)));
    let deleted = changes
        .deleted
        .into_iter()
        .map(|rule| caller.event(AuditAction::Delete, snapshot(rule), None));
    let updated = changes.updated.into_iter().map(|(before, after)| {
        caller.event(AuditAction::Update, snapshot(before), snapshot(after))
    });
    let restored = changes
        .restored
        .into_iter()
        .map(|rule| caller.event(AuditAction::Restore, None, snapshot(rule)));
    let created =
        made.into_iter().map(|rule| caller.event(AuditAction::Create, None, snapshot(rule)));
    deleted.chain(updated).chain(restored).chain(created).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_and_at_most_ten_rules_are_deleted_without_a_number() {
        for (rules, free) in
            [(0, 0), (1, 0), (9, 0), (10, 1), (19, 1), (20, 2), (99, 9), (100, 10), (200_000, 10)]
        {
            assert_eq!(free_deletions(rules), free, "{rules}");
        }
    }
}

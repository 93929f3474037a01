//! Rules.

use std::collections::HashSet;

use crate::actor::{Caller, Role};
use crate::audit::{AuditAction, Snapshot};
use crate::error::{Conflict, Error, Resource, Result, Violation, ViolationCode, Violations};
use crate::ids::{FirewallId, PolicyId, Revision, RuleId};
use crate::page::{
    Counting, Direction, Page, PageRequest, Position, SortKey, SortValue, Start, Total,
};
use crate::patch::Patch;
use crate::policy::Policy;
use crate::rule::fingerprint::Fingerprint;
use crate::rule::order::{self, Placement, RulePlace};
use crate::rule::{Duplicates, Rule, RuleParts, RulePatch, RuleSpec, RuleState};
use crate::store::{ReadUnit, RuleField, RuleFilter, Stamp, WriteUnit};
use crate::text::Name;

use super::absent::AbsentRules;
use super::{Expected, next, not_deleted, policy, read_only};

pub use crate::limits::PolicyLimits;

/// The most source, destination and port entries of the rules of one answer.
pub const MAX_ANSWERED_ENTRIES: u64 = 200_000;
/// The most characters in descriptions and labels of the rules of one answer.
pub const MAX_ANSWERED_TEXT: u64 = 8_000_000;

/// The path to a rule: its firewall, its policy and its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RulePath {
    /// The firewall.
    pub firewall: FirewallId,
    /// The policy.
    pub policy: PolicyId,
    /// The rule.
    pub rule: RuleId,
}

/// Reads one rule. Costs one statement.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the rule does not exist.
pub async fn get(uow: &mut dyn ReadUnit, caller: &Caller, path: RulePath) -> Result<Rule> {
    caller.require(Role::Viewer)?;
    let who = &caller.actor.visibility;
    match uow.rules().get(who, path.firewall, path.policy, path.rule).await? {
        Some(rule) => Ok(rule),
        None => Err(missing(uow, caller, path).await?),
    }
}

/// The error for a rule that was not found: a parent is missing, or the rule itself.
async fn missing(uow: &mut dyn ReadUnit, caller: &Caller, path: RulePath) -> Result<Error> {
    let who = &caller.actor.visibility;
    match uow.policies().get(who, path.firewall, path.policy).await? {
        // The storage shows no rule of a policy that this version cannot read.
        Some(found) => Ok(match policy::require_known(uow, &found) {
            Ok(()) => Error::not_found(Resource::Rule, path.rule),
            Err(newer) => newer,
        }),
        None => policy::missing(uow, caller, path.firewall, path.policy).await,
    }
}

/// A page of a policy's rules, and the policy in the same state.
///
/// # Errors
/// Returns an error if the caller lacks the role, the policy does not exist, this version cannot
/// read its rules, or the page is too large.
pub async fn page(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    parent: (FirewallId, PolicyId),
    filter: &RuleFilter,
    order: &[SortKey<RuleField>],
    request: &PageRequest,
) -> Result<(Policy, Page<Rule>)> {
    caller.require_for_list(filter.deleted)?;
    let (firewall, id) = parent;
    let policy = policy::get_known(uow, caller, firewall, id).await?;
    let who = &caller.actor.visibility;
    let is_counted = *filter == RuleFilter::default() && request.counting != Counting::Skipped;
    let mut asked = request.clone();
    if is_counted {
        asked.counting = Counting::Skipped;
    }
    let mut page = uow.rules().page(who, Some(parent), filter, order, &asked).await?;
    if is_counted {
        // The policy counts its rules.
        page.total = Some(Total { count: policy.rule_count, is_exact: true });
        page.request = request.clone();
    }
    Ok((policy, bounded(page)?))
}

/// The order of evaluation: by priority, then by id.
pub const EVALUATION: [SortKey<RuleField>; 1] =
    [SortKey { field: RuleField::Priority, direction: Direction::Ascending }];

/// Counts the rules that precede a page of a policy's unfiltered list in order of evaluation, and
/// notes in the page's end where the next page begins. Costs no statement, or one if the policy has
/// changed since the cursor of the request was issued.
///
/// # Errors
/// Returns the store's error.
pub async fn number(
    uow: &mut dyn ReadUnit,
    policy: &Policy,
    page: &mut Page<Rule>,
) -> Result<Option<u64>> {
    let before = match page.request.start() {
        Start::Page(_) | Start::First => page.request.offset(),
        Start::Behind(position) => match position.place {
            Some((place, mark)) if mark.is_known() && mark == policy.states.mark() => place,
            Some(_) | None => match at(position) {
                Some(place) => uow.rules().count_to(policy.id, place).await?,
                None => return Ok(None),
            },
        },
    };
    let count = u64::try_from(page.items.len()).unwrap_or(u64::MAX);
    if let Some(next) = &mut page.next {
        next.place = Some((before.saturating_add(count), policy.states.mark()));
    }
    Ok(Some(before))
}

/// The place of a position in the order of evaluation.
fn at(position: &Position) -> Option<RulePlace> {
    let [SortValue::Integer(priority)] = position.values.as_slice() else { return None };
    Some((RuleId::new(position.id)?, i32::try_from(*priority).ok()?))
}

/// The page, if all its rules fit in an answer. A few rules can be too many: each can name
/// thousands of addresses, or have a long description.
fn bounded(page: Page<Rule>) -> Result<Page<Rule>> {
    let (mut entries, mut text) = (0_u64, 0_u64);
    for (rule, fit) in page.items.iter().zip(0_usize..) {
        entries = entries.saturating_add(rule.spec.entry_count());
        text = text.saturating_add(rule.spec.text_chars());
        let (what, limit) = if entries > MAX_ANSWERED_ENTRIES {
            ("the number of source, destination and port entries of a page", MAX_ANSWERED_ENTRIES)
        } else if text > MAX_ANSWERED_TEXT {
            ("the number of characters in descriptions and labels of a page", MAX_ANSWERED_TEXT)
        } else {
            continue;
        };
        let hint = format!("use page_size={fit} or less, or read the list as CSV or NDJSON").into();
        return Err(Error::TooLarge { what, limit, hint });
    }
    Ok(page)
}

/// A page of the rules of all policies. Costs two statements.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the page is too large.
pub async fn page_of_all(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    filter: &RuleFilter,
    order: &[SortKey<RuleField>],
    request: &PageRequest,
) -> Result<Page<Rule>> {
    caller.require_for_list(filter.deleted)?;
    bounded(uow.rules().page(&caller.actor.visibility, None, filter, order, request).await?)
}

async fn check_free(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    policy: &Policy,
    old: Option<&Rule>,
    spec: &RuleSpec,
    duplicates: Duplicates,
) -> Result<()> {
    if let Some(name) = &spec.name
        && old.is_none_or(|old| old.spec.name.as_ref() != Some(name))
        && let Some(holder) = uow.rules_mut().find_by_name(policy.id, name).await?
    {
        return Err(Error::AlreadyExists(Conflict::NameTaken {
            what: Resource::Rule,
            name: name.as_str().to_owned(),
            holder: holder.get(),
        }));
    }
    if duplicates == Duplicates::Keep {
        return Ok(());
    }
    let fingerprint = Fingerprint::of(spec);
    let is_new = old.is_none_or(|old| Fingerprint::of(&old.spec) != fingerprint);
    let except = old.map(|old| old.id);
    if is_new
        && let Some((holder, state)) =
            uow.rules_mut().find_equal(policy.id, fingerprint, except, caller.now).await?
    {
        let inactive = (state != RuleState::Active).then_some(state);
        return Err(Error::AlreadyExists(Conflict::EqualRule { holder: holder.get(), inactive }));
    }
    Ok(())
}

pub(super) fn check_size(limits: PolicyLimits, rule_count: u64, entry_count: u64) -> Result<()> {
    let hint = "delete rules that are not needed, or use another policy";
    if rule_count > limits.rules {
        let what = "the number of rules of a policy";
        return Err(Error::TooLarge { what, limit: limits.rules, hint: hint.into() });
    }
    if entry_count > limits.entries {
        let what = "the number of source, destination and port entries of a policy";
        return Err(Error::TooLarge { what, limit: limits.entries, hint: hint.into() });
    }
    Ok(())
}

/// A rule to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRule {
    /// Its content. The priority is ignored if there is a placement.
    pub spec: RuleSpec,
    /// Where among the other rules it goes.
    pub placement: Option<Placement>,
    /// Whether it may be equivalent to another rule.
    pub duplicates: Duplicates,
}

/// A rule, and its position in the order of evaluation if the request placed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The rule.
    pub rule: Rule,
    /// Its position, from 1.
    pub position: Option<u64>,
}

/// The priority and the position of a rule that is placed. Renumbers other rules if there is no
/// room.
async fn make_room(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    policy: &Policy,
    placement: Placement,
) -> Result<(i32, u64)> {
    let order = uow.rules_mut().order(policy.id).await?;
    let Some(at) = placement.index(&order) else {
        let Some((name, rule)) = placement.neighbor() else { return Err(no_room()) };
        let absent = AbsentRules::find(uow, caller, policy.id, [rule]).await?;
        return Err(Error::invalid(Violation::query(name, absent.reason(rule))));
    };
    let plan = order::make_room(&order, at, 1).ok_or_else(no_room)?;
    uow.rules_mut().renumber(policy.id, &plan.renumbered, next(policy.revision)).await?;
    let priority = plan.placed.first().copied().ok_or_else(no_room)?;
    Ok((priority, u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1)))
}

fn no_room() -> Error {
    Error::Internal("the priorities leave no room".into())
}

/// Creates a rule.
///
/// # Errors
/// Returns an error if the caller lacks the role, the policy does not exist or is full, the name is
/// taken, an equivalent rule exists, or the rule that the placement names is not in the policy.
pub async fn create(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    firewall: FirewallId,
    policy: PolicyId,
    new: NewRule,
) -> Result<Placed> {
    let NewRule { spec, placement, duplicates } = new;
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, firewall, policy).await?;
    let rule_count = policy.rule_count.saturating_add(1);
    let entry_count = policy.entry_count.saturating_add(spec.entry_count());
    check_size(uow.policy_limits(), rule_count, entry_count)?;
    check_free(uow, caller, &policy, None, &spec, duplicates).await?;
    let (spec, position) = match placement {
        None => (spec, None),
        Some(placement) => {
            let (priority, position) = make_room(uow, caller, &policy, placement).await?;
            (RuleSpec::new(RuleParts { priority, ..spec.into_parts() })?, Some(position))
        }
    };
    let after =
        Policy { rule_count, entry_count, revision: next(policy.revision), ..policy.clone() };
    let stamp = caller.stamp();
    let rule = uow
        .rules_mut()
        .insert(&after.reference(), &spec, after.revision, duplicates, &stamp)
        .await?;
    let snapshot = Snapshot::Rule(Box::new(rule.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Create, None, Some(snapshot))).await?;
    uow.policies_mut().update(&policy, after).await?;
    Ok(Placed { rule, position })
}

/// The result of a move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The policy after the move.
    pub policy: Policy,
    /// The rules that the request named, in order of evaluation, with their priorities.
    pub places: Vec<RulePlace>,
    /// The position of the first of them, from 1.
    pub position: u64,
}

/// Moves a block of rules, which keep their order among themselves. Writes nothing if the block is
/// already in place. Other rules may be renumbered to make room; that does not count as a change of
/// those rules.
///
/// # Errors
/// Returns an error if the caller lacks the role, the policy does not exist or is not in the
/// expected state, or one of the rules is not in it.
pub async fn move_rules(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    parent: (FirewallId, PolicyId),
    expected: &Expected,
    rules: &[RuleId],
    placement: Placement,
) -> Result<Moved> {
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, parent.0, parent.1).await?;
    expected.check(&policy)?;
    let order = uow.rules_mut().order(policy.id).await?;
    let wanted: HashSet<RuleId> = rules.iter().copied().collect();
    let known: HashSet<RuleId> = order.iter().map(|(id, _)| *id).collect();
    let named = rules.iter().copied().chain(placement.neighbor().map(|(_, rule)| rule));
    let absent = named.filter(|rule| !known.contains(rule));
    let absent = AbsentRules::find(uow, caller, policy.id, absent).await?;
    check_moved(rules, &wanted, &known, &absent, placement)?;
    let (block, rest): (Vec<RulePlace>, Vec<RulePlace>) =
        order.iter().partition(|(id, _)| wanted.contains(id));
    let at = placement.index(&rest).ok_or_else(no_room)?;
    let position = u64::try_from(at).unwrap_or(u64::MAX).saturating_add(1);
    let stays = order.get(at..).is_some_and(|there| there.starts_with(&block));
    if stays {
        return Ok(Moved { policy, places: block, position });
    }
    let plan = order::make_room(&rest, at, block.len()).ok_or_else(no_room)?;
    let places: Vec<RulePlace> =
        block.iter().zip(&plan.placed).map(|((id, _), priority)| (*id, *priority)).collect();
    let ids: Vec<RuleId> = block.iter().map(|(id, _)| *id).collect();
    let after = Policy { revision: next(policy.revision), ..policy.clone() };
    uow.rules_mut().renumber(policy.id, &plan.renumbered, after.revision).await?;
    uow.rules_mut().renumber(policy.id, &places, after.revision).await?;
    uow.rules_mut().touch(policy.id, &ids, after.revision, &caller.stamp()).await?;
    let before = Snapshot::Order(Box::new(policy.clone()), block);
    let snapshot = Snapshot::Order(Box::new(after.clone()), places.clone());
    uow.audit_mut().append(&caller.event(AuditAction::Move, Some(before), Some(snapshot))).await?;
    let after = uow.policies_mut().update(&policy, after).await?;
    Ok(Moved { policy: after, places, position })
}

fn check_moved(
    rules: &[RuleId],
    wanted: &HashSet<RuleId>,
    known: &HashSet<RuleId>,
    absent: &AbsentRules,
    placement: Placement,
) -> Result<()> {
    let mut violations = Violations::new();
    let mut seen = HashSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let pointer = format!("/rule_ids/{index}");
        if !known.contains(rule) {
            let detail = absent.reason(*rule);
            violations.push(Violation::body(pointer, detail).coded(ViolationCode::NotFound));
        } else if !seen.insert(rule) {
            violations.push(Violation::body(pointer, format!("contains rule {rule} twice")));
        }
    }
    if rules.is_empty() {
        violations.push(Violation::body("/rule_ids", "must name a rule"));
    }
    if let Some((name, rule)) = placement.neighbor() {
        let pointer = format!("/{name}");
        if wanted.contains(&rule) {
            violations
                .push(Violation::body(pointer, format!("rule {rule} is one of the moved rules")));
        } else if !known.contains(&rule) {
            let detail = absent.reason(rule);
            violations.push(Violation::body(pointer, detail).coded(ViolationCode::NotFound));
        }
    }
    Ok(violations.into_result(|| ())?)
}

async fn lock(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    path: RulePath,
    expected: &Expected,
) -> Result<(Policy, Rule)> {
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, path.firewall, path.policy).await?;
    let who = &caller.actor.visibility;
    let rule = uow
        .rules()
        .get(who, path.firewall, path.policy, path.rule)
        .await?
        .ok_or_else(|| Error::not_found(Resource::Rule, path.rule))?;
    expected.check(&rule)?;
    Ok((policy, rule))
}

/// Changes a rule. Writes nothing if the patch makes no difference.
///
/// # Errors
/// Returns an error if the caller lacks the role, the rule does not exist or is not in the expected
/// state, the new content is not valid, the name is taken, or an equivalent rule exists.
pub async fn update(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    path: RulePath,
    expected: &Expected,
    patch: RulePatch,
) -> Result<Rule> {
    let (policy, before) = lock(uow, caller, path, expected).await?;
    let place = (before.id, before.spec.priority);
    let position = match patch.repeated.names_position() {
        true => Some(uow.rules().count_to(policy.id, place).await?),
        false => None,
    };
    let mut violations = Violations::new();
    read_only::check_rule(&patch.repeated, "", &before, position, caller.now, &mut violations)?;
    violations.into_result(|| ())?;
    let spec = patch.apply(before.spec.clone())?;
    if spec == before.spec {
        return Ok(before);
    }
    let entry_count = policy
        .entry_count
        .saturating_sub(before.spec.entry_count())
        .saturating_add(spec.entry_count());
    if entry_count > policy.entry_count {
        check_size(uow.policy_limits(), policy.rule_count, entry_count)?;
    }
    check_free(uow, caller, &policy, Some(&before), &spec, Duplicates::Refuse).await?;
    let revision = next(policy.revision);
    let stamp = caller.stamp();
    let after =
        Rule { spec, revision, updated_at: stamp.at, updated_by: stamp.by, ..before.clone() };
    let after = uow.rules_mut().update(&before, after).await?;
    let [before, snapshot] =
        [&before, &after].map(|rule| Some(Snapshot::Rule(Box::new(rule.clone()))));
    uow.audit_mut().append(&caller.event(AuditAction::Update, before, snapshot)).await?;
    uow.policies_mut().update(&policy, Policy { revision, entry_count, ..policy.clone() }).await?;
    Ok(after)
}

/// Deletes a rule.
///
/// # Errors
/// Returns an error if the caller lacks the role, or the rule does not exist or is not in the
/// expected state.
pub async fn delete(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    path: RulePath,
    expected: &Expected,
) -> Result<()> {
    let (policy, before) = lock(uow, caller, path, expected).await?;
    let revision = next(policy.revision);
    uow.rules_mut().delete(&before, revision, &caller.stamp()).await?;
    let rule_count = policy.rule_count.saturating_sub(1);
    let entry_count = policy.entry_count.saturating_sub(before.spec.entry_count());
    let before = Snapshot::Rule(Box::new(before));
    uow.audit_mut().append(&caller.event(AuditAction::Delete, Some(before), None)).await?;
    let after = Policy { revision, rule_count, entry_count, ..policy.clone() };
    uow.policies_mut().update(&policy, after).await?;
    Ok(())
}

/// How a deleted rule is restored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleRestoration {
    /// Its new name, unless it keeps the old one.
    pub name: Patch<Option<Name>>,
    /// Whether it may be equivalent to another rule.
    pub duplicates: Duplicates,
}

/// A deleted rule as it is after its restoration.
pub(super) fn restored(deleted: Rule, spec: RuleSpec, revision: Revision, stamp: &Stamp) -> Rule {
    let same = deleted.spec == spec;
    let restored = Rule { spec, revision, deleted: None, ..deleted };
    if same {
        return restored;
    }
    Rule { updated_at: stamp.at, updated_by: stamp.by.clone(), ..restored }
}

/// Restores a deleted rule of a live policy, with its old priority. A live rule stays as it is.
///
/// # Errors
/// Returns an error if the caller lacks the role, the rule does not exist, its policy is deleted or
/// full, its name is taken, or an equivalent rule exists. It also returns an error if the rule is
/// live under a name other than the requested one.
pub async fn restore(
    uow: &mut dyn WriteUnit,
    caller: &Caller,
    path: RulePath,
    how: RuleRestoration,
) -> Result<Rule> {
    let RuleRestoration { name, duplicates } = how;
    caller.require(Role::Editor)?;
    let policy = policy::lock(uow, caller, path.firewall, path.policy).await?;
    let Some(deleted) = uow.rules_mut().get_deleted(&policy.reference(), path.rule).await? else {
        let live = get(uow, caller, path).await?;
        return match name {
            Patch::Set(name) if name != live.spec.name => Err(not_deleted(Resource::Rule)),
            Patch::Set(_) | Patch::Keep => Ok(live),
        };
    };
    let spec = match name {
        Patch::Keep => deleted.spec.clone(),
        Patch::Set(name) => RuleSpec::new(RuleParts { name, ..deleted.spec.clone().into_parts() })?,
    };
    let rule_count = policy.rule_count.saturating_add(1);
    let entry_count = policy.entry_count.saturating_add(spec.entry_count());
    check_size(uow.policy_limits(), rule_count, entry_count)?;
    check_free(uow, caller, &policy, None, &spec, duplicates).await?;
    let revision = next(policy.revision);
    let restored = restored(deleted, spec, revision, &caller.stamp());
    let restored = uow.rules_mut().restore(restored, duplicates).await?;
    let snapshot = Snapshot::Rule(Box::new(restored.clone()));
    uow.audit_mut().append(&caller.event(AuditAction::Restore, None, Some(snapshot))).await?;
    let after = Policy { revision, rule_count, entry_count, ..policy.clone() };
    uow.policies_mut().update(&policy, after).await?;
    Ok(restored)
}

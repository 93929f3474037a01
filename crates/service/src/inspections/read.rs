//! Reads a policy and its rules, or those that changed since a known state, in one snapshot.

use std::sync::Arc;

use fireflow_domain::actor::Caller;
use fireflow_domain::engine::compact::{ChangedRule, CompactRule};
use fireflow_domain::error::Result;
use fireflow_domain::ids::Revision;
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::Rule;
use fireflow_domain::store::ReadUnit;
use fireflow_domain::usecase::{inspect, policy};

use super::state::{KnownState, PolicyState};
use crate::session::Session;

/// Up to so many changes are read with all texts, so that an answer that shows one of these rules
/// needs no further statement.
const FEW_CHANGES: usize = 16;
/// The rules of a policy with so few are read with all texts.
const FEW_RULES: u64 = 64;
/// Up to so many changed rules are always read as such.
const MAX_CHANGED: usize = 1_000;
/// If a policy has more changed rules than one of so many, all rules are read.
const RULES_PER_CHANGED: u64 = 10;

/// What was read of a policy.
pub(super) enum Contents {
    /// Nothing: the policy is in the known state.
    Same,
    /// All rules, in order of evaluation; with all texts if there are few.
    All(Vec<Arc<CompactRule>>, Vec<Rule>),
    /// The rules that changed since the known state; with all texts if there are few.
    Changed(Vec<ChangedRule>, Vec<Rule>),
}

/// Reads a policy in its current state, and its rules as far as they are not known. `policy` was read
/// just before. Costs two statements, and at most six.
pub(super) async fn read(
    session: &Session,
    policy: &Arc<Policy>,
    known: Option<KnownState>,
) -> Result<(Policy, Contents)> {
    if let Some(read) = read_few(session, policy, known).await? {
        return Ok(read);
    }
    let (firewall, id) = (policy.firewall.id, policy.id);
    session
        .read_to_compile(move |uow, caller| {
            Box::pin(async move {
                let policy = policy::get_known(uow, caller, firewall, id).await?;
                let contents = contents(uow, caller, &policy, known).await?;
                Ok((policy, contents))
            })
        })
        .await
}

/// Reads few rules, or few changes. They are read without a transaction, so that they do not wait for
/// the policies of others: the policy is read again after them. If its state is still the same, the
/// rules are of that state, because no mark is drawn twice. Otherwise this returns none, and also if
/// there are more rules.
async fn read_few(
    session: &Session,
    policy: &Arc<Policy>,
    known: Option<KnownState>,
) -> Result<Option<(Policy, Contents)>> {
    let since = known.filter(|known| known.is_before(policy)).map(|known| known.state.revision());
    let state = PolicyState::of(policy);
    if !state.is_marked() || (since.is_none() && policy.rule_count > FEW_RULES) {
        return Ok(None);
    }
    let policy = Arc::clone(policy);
    session
        .read(move |uow, caller| {
            Box::pin(async move {
                let contents = match since {
                    Some(since) => few_changes(uow, caller, &policy, since).await?,
                    None => Some(few_rules(uow, caller, &policy).await?),
                };
                let Some(contents) = contents else { return Ok(None) };
                let (firewall, id) = (policy.firewall.id, policy.id);
                let now = policy::get_known(uow, caller, firewall, id).await?;
                Ok((PolicyState::of(&now) == state).then_some((now, contents)))
            })
        })
        .await
}

/// All rules of a policy that has few.
async fn few_rules(uow: &mut dyn ReadUnit, caller: &Caller, policy: &Policy) -> Result<Contents> {
    let rules = inspect::all_rules(uow, caller, policy).await?;
    let compact = |rule: &Rule| Arc::new(CompactRule::new(rule.id, &rule.spec, policy.revision));
    Ok(Contents::All(rules.iter().map(compact).collect(), rules))
}

/// The rules that changed since a revision, if there are few.
async fn few_changes(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    since: Revision,
) -> Result<Option<Contents>> {
    let rules = inspect::changed_rules(uow, caller, policy, since, FEW_CHANGES).await?;
    Ok(rules.map(|rules| {
        let changed = rules.iter().map(|rule| ChangedRule::of(rule, policy.revision)).collect();
        Contents::Changed(changed, rules)
    }))
}

async fn contents(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    known: Option<KnownState>,
) -> Result<Contents> {
    if let Some(known) = known {
        let state = PolicyState::of(policy);
        if state.is_marked() && known.state == state {
            return Ok(Contents::Same);
        }
        if let Some(since) = since(uow, caller, policy, &known).await?
            && let Some(changed) = changes(uow, caller, policy, since).await?
        {
            return Ok(changed);
        }
    }
    if policy.rule_count > FEW_RULES {
        return Ok(Contents::All(inspect::all_compact(uow, caller, policy).await?, Vec::new()));
    }
    few_rules(uow, caller, policy).await
}

/// The revision of the known state, if the policy's state descends from it.
async fn since(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    known: &KnownState,
) -> Result<Option<Revision>> {
    let is_proven = known.is_before(policy)
        || match known.proof(policy) {
            Some(head) => inspect::has_event(uow, caller, policy, head).await?,
            None => false,
        };
    Ok(is_proven.then(|| known.state.revision()))
}

/// The rules that changed since a revision; none if there are so many that all rules should be read.
async fn changes(
    uow: &mut dyn ReadUnit,
    caller: &Caller,
    policy: &Policy,
    since: Revision,
) -> Result<Option<Contents>> {
    let few = few_changes(uow, caller, policy, since).await?;
    if few.is_some() {
        return Ok(few);
    }
    let part = usize::try_from(policy.rule_count / RULES_PER_CHANGED).unwrap_or(usize::MAX);
    let most = MAX_CHANGED.max(part);
    let changed = inspect::changed_compact(uow, caller, policy, since, most).await?;
    Ok(changed.map(|changed| Contents::Changed(changed, Vec::new())))
}

//! Comparisons, searches and partitions in requests.

use fireflow_domain::analysis::PacketSet;
use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::{FirewallId, MAX_ID, PolicyId, RuleId};
use fireflow_domain::rule::Action;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::rule_set::GivenRule;
use serde_json::Value;

use super::packets::packet_set;
use super::policy::ReadRule;
use crate::members::{MemberValue, Members, integer};
use crate::read_only::ReadOnly;
use crate::rule::{SetReading, action, given_rule};
use crate::rule_set::numbered;

/// The most rules of a policy in a request.
const MAX_RULES: usize = 100_000;
/// The most sets of packets that an answer to a search has.
pub const MAX_FOUND: i64 = 1_000;
/// How many it has unless the request names a number.
const USUALLY_FOUND: usize = 20;

/// The times at which an answer holds: from the first to the last instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// The first.
    pub from: Instant,
    /// The last.
    pub until: Instant,
}

/// A policy in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GivenPolicy {
    /// A stored one.
    Stored(FirewallId, PolicyId),
    /// Rules that are not stored, in order of evaluation.
    Rules(Vec<ReadRule>, Action),
}

/// A request for a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComparisonRequest {
    /// The left policy; none: that of the path.
    pub left: Option<GivenPolicy>,
    /// The right policy.
    pub right: GivenPolicy,
    /// When the comparison holds.
    pub interval: Interval,
}

/// What a search looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenOutcome {
    /// Packets with this action.
    Action(Action),
    /// Packets that do not pass.
    Blocked,
    /// Packets that this rule decides.
    Rule(RuleId),
}

/// A request for a search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenSearch {
    /// The set to search.
    pub packets: PacketSet,
    /// What to search for.
    pub outcome: GivenOutcome,
    /// The most sets that the answer has.
    pub limit: usize,
    /// When the packets are sent.
    pub interval: Interval,
}

/// A request for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenPartition {
    /// The set to divide.
    pub packets: PacketSet,
    /// When the packets are sent.
    pub at: Instant,
}

/// Reads a request for a comparison.
pub fn comparison(
    value: Value,
    now: Instant,
    violations: &mut Violations,
) -> Option<ComparisonRequest> {
    let mut members = Members::open(value, "", violations)?;
    let (left, right) = (object(&mut members, "left"), object(&mut members, "right"));
    let right = members.required("right", right);
    let interval = interval(&mut members, now);
    let (_, violations) = members.finish();
    let left = left.nullable().map(|value| policy(value, "/left", violations));
    let right = right.and_then(|value| policy(value, "/right", violations));
    let left = match left {
        Some(None) => return None,
        Some(Some(policy)) => Some(policy),
        None => None,
    };
    Some(ComparisonRequest { left, right: right?, interval: interval? })
}

/// Reads a request for a search.
pub fn search(value: Value, now: Instant, violations: &mut Violations) -> Option<GivenSearch> {
    let mut members = Members::open(value, "", violations)?;
    let packets = object(&mut members, "packets");
    let packets = members.required("packets", packets);
    let outcome = object(&mut members, "outcome");
    let outcome = members.required("outcome", outcome);
    let limit = members.integer("limit", 1, MAX_FOUND).nullable();
    let interval = interval(&mut members, now);
    let (_, violations) = members.finish();
    let packets = packets.and_then(|value| packet_set(value, "/packets", violations));
    let outcome = outcome.and_then(|value| given_outcome(value, "/outcome", violations));
    Some(GivenSearch {
        packets: packets?,
        outcome: outcome?,
        limit: limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(USUALLY_FOUND),
        interval: interval?,
    })
}

/// Reads a request for a partition.
pub fn partition(
    value: Value,
    now: Instant,
    violations: &mut Violations,
) -> Option<GivenPartition> {
    let mut members = Members::open(value, "", violations)?;
    let packets = object(&mut members, "packets");
    let packets = members.required("packets", packets);
    let at = members.text("at", Instant::parse).nullable().unwrap_or(now);
    let (_, violations) = members.finish();
    let packets = packets.and_then(|value| packet_set(value, "/packets", violations));
    Some(GivenPartition { packets: packets?, at })
}

/// A member whose value is read later, with its own pointers.
fn object(members: &mut Members<'_>, name: &'static str) -> MemberValue<Value> {
    members.value(name, Ok)
}

/// `from` and `until`. Without `from`, the interval begins now; without `until`, it is one instant.
fn interval(members: &mut Members<'_>, now: Instant) -> Option<Interval> {
    let from = members.text("from", Instant::parse).nullable().unwrap_or(now);
    let until = members.text("until", Instant::parse).nullable().unwrap_or(from);
    if until < from {
        members.fault("until", format!("must not be earlier than `from`, {from}"));
        return None;
    }
    Some(Interval { from, until })
}

fn given_outcome(value: Value, at: &str, violations: &mut Violations) -> Option<GivenOutcome> {
    let mut members = Members::open(value, at, violations)?;
    let action = members.text("action", |word| {
        if word.eq_ignore_ascii_case("BLOCKED") {
            Ok(GivenOutcome::Blocked)
        } else {
            action(word)
                .map(GivenOutcome::Action)
                .map_err(|detail| format!("{detail}, or BLOCKED for DENY and REJECT"))
        }
    });
    let rule = members.value("rule_id", |value| {
        let number = integer(&value, 1, MAX_ID)?;
        RuleId::new(number).map(GivenOutcome::Rule).ok_or_else(|| "is not an id".to_owned())
    });
    let given = match (action, rule) {
        (MemberValue::Is(outcome), MemberValue::Absent | MemberValue::Null)
        | (MemberValue::Absent | MemberValue::Null, MemberValue::Is(outcome)) => Some(outcome),
        (MemberValue::Bad, _) | (_, MemberValue::Bad) => None,
        _ => {
            members.fault_of_all("must have either `action` or `rule_id`");
            None
        }
    };
    members.finish();
    given
}

/// Reads a policy: the ids of a stored one, or rules with a default action.
fn policy(value: Value, at: &str, violations: &mut Violations) -> Option<GivenPolicy> {
    let mut faults = violations.nested();
    let given = policy_members(value, at, &mut faults);
    let is_good = faults.is_empty();
    violations.extend(faults);
    given.filter(|_| is_good)
}

fn policy_members(value: Value, at: &str, violations: &mut Violations) -> Option<GivenPolicy> {
    let mut members = Members::open(value, at, violations)?;
    let id = |value: Value| integer(&value, 1, MAX_ID);
    let firewall = members.value("firewall_id", id).nullable().and_then(FirewallId::new);
    let stored = members.value("filtering_policy_id", id).nullable().and_then(PolicyId::new);
    // Rules that are not stored belong to no policy.
    let nowhere = PolicyId::LAST;
    let reading = SetReading { read_only: ReadOnly::Ignore, ..SetReading::default() };
    let rules = members.list("rules", MAX_RULES, |value, at, violations| {
        given_rule(value, at, nowhere, reading, violations)
    });
    let default_action = members.text("default_action", action);
    let has_rules = !matches!(rules, MemberValue::Absent);
    match (firewall.zip(stored), has_rules) {
        (Some((firewall, policy)), false) => {
            if matches!(default_action, MemberValue::Is(_)) {
                members.fault("default_action", "cannot be combined with a stored policy");
            }
            members.finish();
            Some(GivenPolicy::Stored(firewall, policy))
        }
        (None, true) if firewall.is_none() && stored.is_none() => {
            let default_action = members.required("default_action", default_action);
            let rules = members.required("rules", rules);
            let (at, violations) = members.finish();
            in_order(rules?, &at, violations)
                .zip(default_action)
                .map(|(rules, default_action)| GivenPolicy::Rules(rules, default_action))
        }
        _ => {
            members.fault_of_all(
                "must have either `firewall_id` and `filtering_policy_id`, or `rules` and \
                 `default_action`",
            );
            members.finish();
            None
        }
    }
}

/// Rules in the order of evaluation. Those without an id come last, as if they were created now.
fn in_order(
    rules: Vec<(GivenRule, bool)>,
    at: &str,
    violations: &mut Violations,
) -> Option<Vec<ReadRule>> {
    let mut faults = Violations::new();
    let rules = numbered(rules, &mut faults);
    if !faults.is_empty() {
        violations.extend_below(&format!("{at}/rules"), faults);
        return None;
    }
    let mut ids = std::collections::HashSet::new();
    for (index, id) in rules.iter().enumerate().filter_map(|(index, rule)| Some((index, rule.id?)))
    {
        if !ids.insert(id) {
            violations.note(|| {
                Violation::body(format!("{at}/rules/{index}/id"), format!("duplicate id {id}"))
            });
        }
    }
    let read =
        |rule: GivenRule| ReadRule { spec: rule.spec, id: rule.id, line: None, updated_at: None };
    let mut rules: Vec<ReadRule> = rules.into_iter().map(read).collect();
    // The sort is stable, so rules without an id keep the order of the request.
    rules.sort_by_key(|rule| (rule.spec.priority, rule.id.map_or(i64::MAX, RuleId::get)));
    Some(rules)
}

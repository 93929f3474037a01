//! A policy's rules as a whole.

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::PolicyId;
use fireflow_domain::rule::{RuleParts, RuleSpec};
use fireflow_domain::usecase::rule::MAX_RULES;
use fireflow_domain::usecase::rule_set::{GivenRule, Replaced};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::{Map, Value};

use super::body::malformed;
use super::json::{self, Meter};
use super::read::Members;
use super::rule::given_rule;
use crate::problem::{Code, Problem};

/// What became of a rule set.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "ReplacedRules")]
pub struct ReplacedView {
    /// The policy's revision after it.
    pub revision: i64,
    /// How many rules the policy has.
    pub rule_count: u64,
    /// How many were created.
    pub created: u64,
    /// How many were changed.
    pub updated: u64,
    /// How many were deleted.
    pub deleted: u64,
    /// How many stayed as they were.
    pub unchanged: u64,
}

impl From<&Replaced> for ReplacedView {
    fn from(replaced: &Replaced) -> Self {
        Self {
            revision: replaced.policy.revision.0,
            rule_count: replaced.policy.rule_count,
            created: replaced.created,
            updated: replaced.updated,
            deleted: replaced.deleted,
            unchanged: replaced.unchanged,
        }
    }
}

/// Reads a rule set: an array, or what a list answers. Holds up the thread: call it beside those
/// that serve.
///
/// # Errors
/// All that is wrong, each with its index.
pub fn rule_set(bytes: &[u8], policy: PolicyId, meter: &Meter) -> Result<Vec<GivenRule>, Problem> {
    // A scalar is JSON, and no set.
    if !matches!(bytes.trim_ascii_start().first(), Some(b'[' | b'{') | None) {
        json::parse_within(bytes, meter).map_err(malformed)?;
        let detail = "must be an array of rules, or an object with one under `items`";
        return Err(Problem::invalid(&Violation::body("", detail).into()));
    }
    let limit = usize::try_from(MAX_RULES).unwrap_or(usize::MAX);
    let mut violations = Violations::new();
    let mut rules = Vec::new();
    let mut count = 0_usize;
    let others = json::parse_elements(bytes, meter, &mut |index, value| {
        count += 1;
        // Beyond the limit the rest is counted only.
        if count <= limit {
            let mut faults = violations.nested();
            match given_rule(value, &format!("/{index}"), policy, &mut faults) {
                // With faults nothing is done: what is right need not be kept.
                Some(rule) if faults.is_empty() && violations.is_empty() => rules.push(rule),
                Some(_) if faults.is_empty() => rules.clear(),
                _ => violations.extend(faults),
            }
        }
    })
    .map_err(malformed)?;
    page_members(others, &mut violations);
    if count > limit {
        let detail = format!("a policy has at most {limit} rules, not {count}");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    // With faults before it a rule's index would not be its own.
    let rules = if violations.is_empty() { numbered(rules, &mut violations) } else { Vec::new() };
    if violations.is_empty() { Ok(rules) } else { Err(Problem::invalid(&violations)) }
}

/// Notes what a page has beside its items, and should not.
pub(crate) fn page_members(others: Map<String, Value>, violations: &mut Violations) {
    if let Some(mut members) = Members::open(Value::Object(others), "", violations) {
        members.read_only(&["items", "total", "total_is_exact", "page", "per_page", "next_cursor"]);
        members.finish();
    }
}

/// Every rule has a priority, or none has: then the array's order counts, in steps of 10.
pub(crate) fn numbered(
    rules: Vec<(GivenRule, bool)>,
    violations: &mut Violations,
) -> Vec<GivenRule> {
    let has_priorities = rules.first().is_some_and(|(_, has_priority)| *has_priority);
    let mut numbered = Vec::with_capacity(rules.len());
    for ((rule, has_priority), index) in rules.into_iter().zip(0_i32..) {
        if has_priority != has_priorities {
            let detail = if has_priority {
                "stands here, but not in the rules before; give it to all or to none"
            } else {
                "is missing here, but not in the rules before; give it to all or to none"
            };
            violations.note(|| Violation::body(format!("/{index}/priority"), detail));
        }
        if has_priorities {
            numbered.push(rule);
            continue;
        }
        let priority = index.saturating_add(1).saturating_mul(10);
        match RuleSpec::new(RuleParts { priority, ..rule.spec.into_parts() }) {
            Ok(spec) => numbered.push(GivenRule { spec, ..rule }),
            Err(faults) => violations.extend_below(&format!("/{index}"), faults),
        }
    }
    numbered
}

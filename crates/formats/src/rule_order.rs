//! Places of rules in the order of evaluation, and moves to them.

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::{MAX_ID, RuleId};
use fireflow_domain::rule::order::Placement;
use serde_json::Value;

use crate::members::{MemberValue, Members, integer};

pub(crate) fn rule_id(value: &Value) -> Result<RuleId, String> {
    let number = integer(value, 1, MAX_ID)?;
    RuleId::new(number).ok_or_else(|| "is not an id".to_owned())
}

/// Reads a move of at most this many rules.
pub fn move_body(
    value: Value,
    max_rules: u64,
    violations: &mut Violations,
) -> Option<(Vec<RuleId>, Placement)> {
    let mut members = Members::open(value, "", violations)?;
    let limit = usize::try_from(max_rules).unwrap_or(usize::MAX);
    let rules = rule_ids(&mut members, limit);
    let placement = placement(&mut members);
    members.finish();
    Some((rules?, placement?))
}

/// Reads the ids of the rules to move, at most this many.
pub(crate) fn rule_ids(members: &mut Members<'_>, limit: usize) -> Option<Vec<RuleId>> {
    let rules = members.list("rule_ids", limit, |value, at, faults| {
        rule_id(&value).map_err(|detail| faults.push(Violation::body(at, detail))).ok()
    });
    members.required("rule_ids", rules)
}

/// Reads exactly one of `before`, `after` and `at`.
pub(crate) fn placement(members: &mut Members<'_>) -> Option<Placement> {
    match some_placement(members) {
        MemberValue::Is(placement) => Some(placement),
        MemberValue::Absent | MemberValue::Null => {
            members.fault_of_all("must have exactly one of `before`, `after` and `at`");
            None
        }
        MemberValue::Bad => None,
    }
}

/// Reads at most one of `before`, `after` and `at`.
pub(crate) fn some_placement(members: &mut Members<'_>) -> MemberValue<Placement> {
    let before = members.value("before", |value| rule_id(&value)).map(Placement::Before);
    let after = members.value("after", |value| rule_id(&value)).map(Placement::After);
    let at = members.text("at", |word| match word {
        "first" => Ok(Placement::First),
        "last" => Ok(Placement::Last),
        _ => Err("must be `first` or `last`"),
    });
    let mut placements = Vec::new();
    for given in [before, after, at] {
        match given {
            MemberValue::Is(placement) => placements.push(placement),
            MemberValue::Bad => return MemberValue::Bad,
            MemberValue::Absent | MemberValue::Null => {}
        }
    }
    match placements.as_slice() {
        [] => MemberValue::Absent,
        [placement] => MemberValue::Is(*placement),
        _ => {
            members.fault_of_all("must have exactly one of `before`, `after` and `at`");
            MemberValue::Bad
        }
    }
}

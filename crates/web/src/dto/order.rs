//! Bodies and answers of moves.

use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::ids::{MAX_ID, RuleId};
use fireflow_domain::rule::order::Placement;
use fireflow_domain::usecase::rule::Moved;
use fireflow_formats::members::{MemberValue, Members, integer};
use poem_openapi::Object;
use serde::Serialize;
use serde_json::Value;

/// Rules to be moved, and their new place: exactly one of `before`, `after` and `at`.
#[derive(Debug, Object)]
#[oai(rename = "RuleMove", example, skip_serializing_if_is_none)]
pub struct MoveBody {
    /// The rules to be moved, in any order; they keep their current order.
    #[oai(validator(min_items = 1, unique_items))]
    pub rule_ids: Vec<i64>,
    /// Before the rule with this id.
    pub before: Option<i64>,
    /// After the rule with this id.
    pub after: Option<i64>,
    /// `first` or `last`.
    pub at: Option<String>,
}

impl poem_openapi::types::Example for MoveBody {
    fn example() -> Self {
        // No rule has this id, so the example moves nothing if a reader sends it unchanged.
        Self { rule_ids: vec![MAX_ID], before: None, after: None, at: Some("first".into()) }
    }
}

/// The position of a rule after a move.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "RulePlace")]
pub struct PlaceView {
    /// Identifies the rule.
    pub id: i64,
    /// Its priority.
    pub priority: i32,
    /// Its position in the order of evaluation, from 1.
    pub position: u64,
}

/// The moved rules, in order.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "MovedRules")]
pub struct MovedView {
    /// The policy's revision after the move.
    pub revision: i64,
    /// The rules of the request.
    pub items: Vec<PlaceView>,
}

impl From<&Moved> for MovedView {
    fn from(moved: &Moved) -> Self {
        let items = moved.places.iter().zip(moved.position..).map(|((id, priority), position)| {
            PlaceView { id: id.get(), priority: *priority, position }
        });
        Self { revision: moved.policy.revision.0, items: items.collect() }
    }
}

pub(super) fn rule_id(value: &Value) -> Result<RuleId, String> {
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
    let rules = members.list("rule_ids", limit, |value, at, faults| match rule_id(&value) {
        Ok(id) => Some(id),
        Err(detail) => {
            faults.push(Violation::body(at, detail));
            None
        }
    });
    let rules = members.required("rule_ids", rules);
    let placement = placement(&mut members);
    members.finish();
    Some((rules?, placement?))
}

/// Reads exactly one of `before`, `after` and `at`.
pub(super) fn placement(members: &mut Members<'_>) -> Option<Placement> {
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
pub(super) fn some_placement(members: &mut Members<'_>) -> MemberValue<Placement> {
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

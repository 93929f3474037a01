//! Bodies and answers of moves.

use fireflow_domain::ids::MAX_ID;
use fireflow_domain::usecase::rule::Moved;
use poem_openapi::Object;
use serde::Serialize;

/// Rules to move, and their new position: exactly one of `before`, `after` and `at`.
#[derive(Debug, Object)]
#[oai(rename = "RuleMove", example, skip_serializing_if_is_none)]
pub struct MoveBody {
    /// The rules to move, in any order; they keep their current order.
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

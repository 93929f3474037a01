//! Bodies of moves.

use fireflow_domain::ids::MAX_ID;
use poem_openapi::Object;

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

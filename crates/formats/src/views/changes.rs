//! The results of changes to many rules as JSON: batches, moves and replacements.

use fireflow_domain::time::Instant;
use fireflow_domain::usecase::batch::{Batch, Outcome};
use fireflow_domain::usecase::rule::Moved;
use fireflow_domain::usecase::rule_set::Replaced;
use schemars::JsonSchema;
use serde::Serialize;

use super::rule::RuleView;

/// The result of an operation.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RuleOperationResult")]
pub struct OutcomeView {
    /// The rule after the whole batch, if it was created, changed or restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleView>,
    /// The rule that was created, changed, deleted or restored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_id: Option<i64>,
    /// The rules that were moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_ids: Option<Vec<i64>>,
}

/// The result of a batch.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RuleBatchResult")]
pub struct BatchView {
    /// The policy's revision after the batch.
    pub revision: i64,
    /// How many rules the policy has.
    pub rule_count: u64,
    /// The result of each operation, in order.
    pub items: Vec<OutcomeView>,
}

impl BatchView {
    /// The result of a batch, with its rules at an instant.
    #[must_use]
    pub fn at(batch: &Batch, now: Instant) -> Self {
        let items = batch.outcomes.iter().map(|outcome| match outcome {
            Outcome::Written(id, rule) => OutcomeView {
                rule: rule.as_ref().map(|rule| RuleView::at(rule, now)),
                rule_id: Some(id.get()),
                rule_ids: None,
            },
            Outcome::Deleted(id) => {
                OutcomeView { rule: None, rule_id: Some(id.get()), rule_ids: None }
            }
            Outcome::Moved(ids) => OutcomeView {
                rule: None,
                rule_id: None,
                rule_ids: Some(ids.iter().map(|id| id.get()).collect()),
            },
        });
        Self {
            revision: batch.policy.revision.0,
            rule_count: batch.policy.rule_count,
            items: items.collect(),
        }
    }
}

/// The position of a rule after a move.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "RulePlace")]
pub struct PlaceView {
    /// Identifies the rule.
    pub id: i64,
    /// Its priority.
    pub priority: i32,
    /// Its position in the order of evaluation, from 1.
    pub position: u64,
}

/// The moved rules, in order.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "MovedRules")]
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

/// The result of replacing a rule set.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ReplacedRules")]
pub struct ReplacedView {
    /// The policy's revision after the replacement.
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

//! Batches: many changes of a policy's rules, all or none.

use fireflow_formats::views::PortEntryView;
use poem_openapi::Object;

use super::rule::{RuleBody, RulePatchBody};
use super::schema::Schema;

/// One change. `create` takes `rule` and optionally a place, `update` takes `rule_id` and `patch`,
/// `delete` takes `rule_id`, `move` takes `rule_ids` and a place, and `restore` takes the `rule_id`
/// of a deleted rule and optionally `name` and `duplicates`.
#[derive(Debug, Object)]
#[oai(rename = "RuleOperation", skip_serializing_if_is_none)]
pub struct OperationBody {
    /// `create`, `update`, `delete`, `move` or `restore`.
    pub op: String,
    /// The rule to create.
    pub rule: Option<RuleBody>,
    /// The rule to change, delete or restore.
    pub rule_id: Option<i64>,
    /// The new name of a restored rule; omitted: the old one; null: none.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// `keep` restores the rule even if an equivalent rule exists.
    pub duplicates: Option<String>,
    /// The change.
    pub patch: Option<RulePatchBody>,
    /// The operation succeeds only if the rule is still at this revision. A revision is a counter:
    /// after a backup was restored, another state can have the same one. `if_match` is safe from
    /// this.
    pub if_revision: Option<i64>,
    /// The operation succeeds only if the rule is still in the state with this tag: the `ETag` of a
    /// GET of the rule, with its quotes; or several tags, as in `If-Match`.
    pub if_match: Option<String>,
    /// The rules to move; they keep their current order.
    pub rule_ids: Option<Vec<i64>>,
    /// Before the rule with this id.
    pub before: Option<i64>,
    /// After the rule with this id.
    pub after: Option<i64>,
    /// `first` or `last`.
    pub at: Option<String>,
}

/// Changes to a policy's rules, applied one after the other, all or none.
#[derive(Debug, Object)]
#[oai(rename = "RuleBatch", example)]
pub struct BatchBody {
    /// The changes.
    #[oai(validator(max_items = 10_000))]
    pub operations: Vec<OperationBody>,
}

impl poem_openapi::types::Example for BatchBody {
    fn example() -> Self {
        let rule = RuleBody {
            name: Some("no-telnet".into()),
            priority: None,
            ports: Some(vec![Schema(PortEntryView {
                number: Some(23),
                ..PortEntryView::default()
            })]),
            ..<RuleBody as poem_openapi::types::Example>::example()
        };
        let rule = RuleBody { action: super::rule::ActionWord::Deny, ..rule };
        Self {
            operations: vec![OperationBody {
                op: "create".into(),
                rule: Some(rule),
                rule_id: None,
                name: None,
                duplicates: None,
                patch: None,
                if_revision: None,
                if_match: None,
                rule_ids: None,
                before: None,
                after: None,
                at: Some("first".into()),
            }],
        }
    }
}

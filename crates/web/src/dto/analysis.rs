//! The schemas of requests for analyses. The formats crate reads the requests, and has the answers with
//! their schemas.

use fireflow_formats::analysis::GivenSetView;
use poem_openapi::Object;
use poem_openapi::types::Example;

use super::rule::RuleBody;
use super::schema::Schema;

/// A policy of a comparison: a stored one by its ids, or rules that are not stored.
#[derive(Debug, Object)]
#[oai(rename = "ComparedPolicy", skip_serializing_if_is_none)]
pub struct ComparedPolicyBody {
    /// Identifies the firewall of a stored policy.
    pub firewall_id: Option<i64>,
    /// Identifies a stored policy.
    pub filtering_policy_id: Option<i64>,
    /// Rules that are not stored: as in the replacement of a rule set, all of them have a priority,
    /// or none, and then they are in order. At most 100,000.
    pub rules: Option<Vec<RuleBody>>,
    /// What is done with packets that none of these rules matches; required with `rules`.
    pub default_action: Option<String>,
}

/// A request for a comparison.
#[derive(Debug, Object)]
#[oai(rename = "NewComparison", example, skip_serializing_if_is_none)]
pub struct ComparisonBody {
    /// The left policy; omitted: that of the path.
    pub left: Option<ComparedPolicyBody>,
    /// The right policy.
    pub right: ComparedPolicyBody,
    /// The first instant at which the policies are compared, RFC 3339; omitted: now.
    pub from: Option<String>,
    /// The last instant; omitted: `from`. The answer holds over the whole interval.
    pub until: Option<String>,
}

impl Example for ComparisonBody {
    fn example() -> Self {
        let right = ComparedPolicyBody {
            firewall_id: None,
            filtering_policy_id: None,
            rules: Some(Vec::new()),
            default_action: Some("DENY".to_owned()),
        };
        Self { left: None, right, from: None, until: None }
    }
}

/// What a search looks for: exactly one of its members.
#[derive(Debug, Object)]
#[oai(rename = "SearchOutcome", skip_serializing_if_is_none)]
pub struct OutcomeBody {
    /// Packets with this action; `BLOCKED` is DENY or REJECT.
    pub action: Option<String>,
    /// Packets that this rule decides.
    pub rule_id: Option<i64>,
}

/// A request for a search.
#[derive(Debug, Object)]
#[oai(rename = "NewSearch", example, skip_serializing_if_is_none)]
pub struct SearchBody {
    /// The set to search.
    pub packets: Schema<GivenSetView>,
    /// What to search for.
    pub outcome: OutcomeBody,
    /// The most sets that the answer has; omitted: 20.
    #[oai(validator(minimum(value = "1"), maximum(value = "1000")))]
    pub limit: Option<u16>,
    /// The first instant at which packets are sent, RFC 3339; omitted: now.
    pub from: Option<String>,
    /// The last instant; omitted: `from`.
    pub until: Option<String>,
}

impl Example for SearchBody {
    fn example() -> Self {
        let outcome = OutcomeBody { action: Some("ALLOW".to_owned()), rule_id: None };
        let packets = Schema(GivenSetView::example());
        Self { packets, outcome, limit: None, from: None, until: None }
    }
}

/// A request for a partition.
#[derive(Debug, Object)]
#[oai(rename = "NewPartition", example, skip_serializing_if_is_none)]
pub struct PartitionBody {
    /// The set to divide.
    pub packets: Schema<GivenSetView>,
    /// When the packets are sent, RFC 3339; omitted: now.
    pub at: Option<String>,
}

impl Example for PartitionBody {
    fn example() -> Self {
        Self { packets: Schema(GivenSetView::example()), at: None }
    }
}

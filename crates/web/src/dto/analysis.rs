//! The schemas of analyses. The formats crate reads the requests and writes the answers, because the
//! command line has the same ones; a test compares these answers with the schemas.

use poem_openapi::Object;
use poem_openapi::types::Example;
use serde::Serialize;

use super::acceptance::AcceptanceView;
use super::inspection::PacketView;
use super::rule::RuleBody;

/// The findings of a policy, and what they rest on.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Analysis")]
pub struct AnalysisPage {
    /// The policy's revision.
    pub revision: i64,
    /// The instant at which the findings hold.
    pub at: String,
    /// The first instant at which the clock alone can change them; null if it cannot.
    pub until: Option<String>,
    /// Whether everything that was asked is decided.
    pub complete: bool,
    /// What is undecided; empty exactly if the analysis is complete.
    pub incomplete: Vec<UndecidedView>,
    /// What was looked at.
    pub analysed: AnalysedView,
    /// How many findings of the policy there are of each kind and severity, without regard to the
    /// filters of the request.
    pub counts: Vec<FindingCountView>,
    /// How many findings the list has.
    pub total: u64,
    /// The findings of the page, the most serious first, then in order of evaluation.
    pub items: Vec<FindingView>,
    /// Continues after the page; null if there are no more findings.
    pub next_cursor: Option<String>,
}

/// Something that an answer leaves undecided.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Undecided")]
pub struct UndecidedView {
    /// What is undecided.
    pub what: String,
    /// The limit that was reached: `steps` of one question, `memory`, or `time`; or a `defect`.
    pub why: String,
    /// For how many rules; 0 if it concerns the answer as a whole.
    pub rule_count: u64,
    /// These rules, at most the first 100.
    pub rules: Vec<NamedRuleView>,
}

/// What an analysis looked at.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "AnalysedRules")]
pub struct AnalysedView {
    /// How many rules the policy has.
    pub rules: u64,
    /// How many of them are active at the instant of the analysis.
    pub active: u64,
    /// The rules that take no part because they are not active, by state.
    pub left_out: Vec<InactiveRulesView>,
}

/// Rules that take no part in an analysis.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "InactiveRules")]
pub struct InactiveRulesView {
    /// Their state.
    pub state: String,
    /// How many there are.
    pub count: u64,
    /// These rules, at most the first 100.
    pub rules: Vec<NamedRuleView>,
}

/// How many findings of a kind and severity there are.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FindingCount")]
pub struct FindingCountView {
    /// The kind.
    pub kind: String,
    /// The severity.
    pub severity: String,
    /// How many there are.
    pub count: u64,
    /// How many of them are accepted.
    pub accepted: u64,
}

/// A rule, with its position.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "NamedRule")]
pub struct NamedRuleView {
    /// Identifies the rule. Absent from rules that are not stored.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<i64>,
    /// Its name.
    pub name: Option<String>,
    /// What is done with packets that match.
    pub action: String,
    /// Its position in the order of evaluation, from 1.
    pub position: u64,
}

/// A fault of a policy, with its proof.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Finding")]
pub struct FindingView {
    /// Identifies the finding. It stays the same if other rules change, or if rules move.
    pub id: String,
    /// Changes if the rules change that prove the finding.
    pub proof: String,
    /// The kind of fault.
    pub kind: String,
    /// How serious it is.
    pub severity: String,
    /// The rule that it is about.
    pub rule: NamedRuleView,
    /// The fault and the remedy, in sentences. Rules are named by position.
    pub detail: String,
    /// The rules that prove it: together they match all packets of the rule, or decide them the
    /// same way.
    pub because: Vec<RuleShareView>,
    /// Whether none of these rules can be left out. If false, they are still a proof.
    pub minimal: bool,
    /// The earlier rule of another action that decides the most packets instead of the rule.
    pub conflicts_with: Option<RuleShareView>,
    /// What that does: `opens` if it lets packets through that the rule would stop, or `closes`.
    pub effect: Option<String>,
    /// A packet that shows the fault.
    pub witness: Option<PacketView>,
    /// The packets concerned, as disjoint sets, at most 20.
    pub packets: Vec<PacketSetBody>,
    /// Whether these are all packets concerned.
    pub packets_complete: bool,
    /// The first instant at which the finding may no longer hold, because a rule starts or expires.
    pub until: Option<String>,
    /// Redundant rules that may not be deleted together with this one.
    pub together: Vec<NamedRuleView>,
    /// Whether the rule logs its matches, so that its deletion has an effect.
    pub logs: bool,
    /// The part of the rule that the finding is about, as a JSON pointer.
    pub pointer: Option<String>,
    /// The service that is exposed.
    pub service: Option<String>,
    /// How many earlier rules the finding is about.
    pub pairs: Option<u64>,
    /// A change that resolves it.
    pub fix: Option<FixView>,
    /// Who accepted it, and why; null if it is not accepted.
    pub acceptance: Option<AcceptanceView>,
}

/// A rule of a proof.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "RuleShare")]
pub struct RuleShareView {
    /// The rule.
    pub rule: NamedRuleView,
    /// The share of the finding's rule that it contains, above 0 and at most 1.
    pub share: f64,
}

/// A change that resolves a finding: exactly one of its members is present.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FindingFix", skip_serializing_if_is_none)]
pub struct FixView {
    /// Delete these rules. No verdict changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delete: Option<Vec<NamedRuleView>>,
    /// Move the rule.
    #[oai(rename = "move")]
    #[serde(rename = "move", skip_serializing_if = "Option::is_none")]
    pub move_rule: Option<FixMoveView>,
    /// Replace rules by one. No verdict changes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replace: Option<FixReplacementView>,
}

/// A move that resolves a finding.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FindingFixMove")]
pub struct FixMoveView {
    /// The rule to move.
    pub rule: NamedRuleView,
    /// The rule that it must precede.
    pub before: NamedRuleView,
}

/// A replacement that resolves a finding.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FindingFixReplacement")]
pub struct FixReplacementView {
    /// The rules to replace; the new rule takes the place of the first.
    pub rules: Vec<NamedRuleView>,
    /// The new rule, as `POST …/rules/` accepts it.
    pub with: serde_json::Value,
}

/// A set of packets: every combination of one value from each member. A member that is omitted holds
/// every value. A set with ports holds only packets of protocols that have ports, and a set with ICMP
/// types or codes only packets of ICMP.
#[derive(Debug, Default, Object, Serialize)]
#[oai(rename = "PacketSet", skip_serializing_if_is_none)]
pub struct PacketSetBody {
    /// `ipv4` or `ipv6`; omitted: both.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// Protocols, by name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<String>>,
    /// Source addresses: hosts, blocks, ranges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sources: Option<Vec<String>>,
    /// Source ports: `443` or `8000-8100`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_ports: Option<Vec<String>>,
    /// Destination addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destinations: Option<Vec<String>>,
    /// Destination ports.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination_ports: Option<Vec<String>>,
    /// ICMP types: `8` or `0-127`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_types: Option<Vec<String>>,
    /// ICMP codes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_codes: Option<Vec<String>>,
}

impl PacketSetBody {
    /// The set of the examples: SSH from private addresses.
    fn example() -> Self {
        let one = |text: &str| Some(vec![text.to_owned()]);
        Self {
            protocols: one("tcp"),
            sources: one("10.0.0.0/8"),
            destination_ports: one("22"),
            ..Self::default()
        }
    }
}

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

/// The packets on which two policies disagree.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Comparison")]
pub struct ComparisonView {
    /// Whether it is proven that no packet changes its verdict.
    pub equal: bool,
    /// Whether `differences` has all differences.
    pub complete: bool,
    /// What is undecided.
    pub incomplete: Vec<UndecidedView>,
    /// Whether there are more differences than an answer has.
    pub more: bool,
    /// The differences, the most dangerous first, at most 1,000.
    pub differences: Vec<DifferenceView>,
}

/// Packets that change their verdict.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Difference")]
pub struct DifferenceView {
    /// The action of the left policy.
    pub from: String,
    /// The action of the right policy.
    pub to: String,
    /// `opens` if packets pass that did not, `closes` if they no longer pass, `answers` if DENY
    /// became REJECT or the reverse.
    pub change: String,
    /// Whether packets pass that did not.
    pub opens: bool,
    /// The rule of the left policy that decides the witness; null: its default.
    pub left_rule: Option<NamedRuleView>,
    /// The rule of the right policy that decides the witness; null: its default.
    pub right_rule: Option<NamedRuleView>,
    /// The rules of the left policy that decide some of the packets, at most the first 20.
    pub left_rules: Vec<NamedRuleView>,
    /// The rules of the right policy that decide some of the packets, at most the first 20.
    pub right_rules: Vec<NamedRuleView>,
    /// The packets. The sets of several differences are disjoint.
    pub packets: PacketSetBody,
    /// One of them.
    pub witness: PacketView,
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
    pub packets: PacketSetBody,
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
        let packets = PacketSetBody::example();
        Self { packets, outcome, limit: None, from: None, until: None }
    }
}

/// The answer to a search.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Search")]
pub struct SearchView {
    /// Whether it is proven that there is no such packet.
    pub none: bool,
    /// Whether `found` has all such packets.
    pub complete: bool,
    /// What is undecided.
    pub incomplete: Vec<UndecidedView>,
    /// Whether there are more than `found` has.
    pub more: bool,
    /// The packets, as disjoint sets.
    pub found: Vec<FoundView>,
}

/// Packets with the outcome that was searched.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FoundPackets")]
pub struct FoundView {
    /// Their action.
    pub action: String,
    /// The rule that decides the witness; null: the default.
    pub rule: Option<NamedRuleView>,
    /// The rules that decide some of the packets, at most the first 20.
    pub rules: Vec<NamedRuleView>,
    /// The packets.
    pub packets: PacketSetBody,
    /// One of them.
    pub witness: PacketView,
}

/// A request for a partition.
#[derive(Debug, Object)]
#[oai(rename = "NewPartition", example, skip_serializing_if_is_none)]
pub struct PartitionBody {
    /// The set to divide.
    pub packets: PacketSetBody,
    /// When the packets are sent, RFC 3339; omitted: now.
    pub at: Option<String>,
}

impl Example for PartitionBody {
    fn example() -> Self {
        Self { packets: PacketSetBody::example(), at: None }
    }
}

/// A set of packets, divided by verdict.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Partition")]
pub struct PartitionView {
    /// Whether `parts` has all parts.
    pub complete: bool,
    /// What is undecided.
    pub incomplete: Vec<UndecidedView>,
    /// Whether there are more parts than an answer has.
    pub more: bool,
    /// The parts, in order of their rules, the default last, at most 1,000.
    pub parts: Vec<PartView>,
}

/// Packets with one verdict by one rule.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "PartitionPart")]
pub struct PartView {
    /// Their action.
    pub action: String,
    /// The rule that decides all of them; null: the default.
    pub rule: Option<NamedRuleView>,
    /// How many packets there are, roughly if there are more than 2^53.
    pub size: f64,
    /// The packets.
    pub packets: PacketSetBody,
}

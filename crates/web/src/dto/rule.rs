//! Bodies of rules.

use std::collections::BTreeMap;

use fireflow_formats::views::{EndpointView, PortEntryView, PortValue};
use poem_openapi::{Enum, Object};

use super::schema::Schema;

/// What is done with a packet. Accepted in any case on input.
#[derive(Debug, Clone, Copy, Enum)]
#[oai(rename = "Action", rename_all = "UPPERCASE")]
pub enum ActionWord {
    /// It passes.
    Allow,
    /// It is dropped silently.
    Deny,
    /// It is dropped, and its sender is notified.
    Reject,
}

/// A rule to create.
#[derive(Debug, Object)]
#[oai(rename = "NewFirewallRule", example, skip_serializing_if_is_none)]
pub struct RuleBody {
    /// Unique in its policy, if set; trimmed, 1 to 255 characters.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// What is done with packets that match.
    pub action: ActionWord,
    /// Rules with lower priorities are evaluated first, those with equal ones in order of id; omit
    /// it if the request gives the rule a position.
    pub priority: Option<i32>,
    /// `tcp`, `udp`, `udplite`, `sctp`, `dccp`, `icmp`, `icmpv6`, `gre`, `esp`, `ah`, or a number
    /// from 0 to 255; empty or omitted: any.
    #[oai(validator(max_items = 16))]
    pub protocols: Option<Vec<String>>,
    /// Shorthand for `protocols` with one entry, or `any`.
    pub protocol: Option<String>,
    /// The ICMP type; requires exactly one protocol, `icmp` or `icmpv6`.
    #[oai(validator(minimum(value = "0"), maximum(value = "255")))]
    pub icmp_type: Option<u8>,
    /// The ICMP code; requires a type.
    #[oai(validator(minimum(value = "0"), maximum(value = "255")))]
    pub icmp_code: Option<u8>,
    /// Alternatives for the packet's source.
    #[oai(validator(min_items = 1, max_items = 1000))]
    pub sources: Vec<Schema<EndpointView>>,
    /// Alternatives for the packet's destination.
    #[oai(validator(min_items = 1, max_items = 1000))]
    pub destinations: Vec<Schema<EndpointView>>,
    /// Destination ports for destinations that have no port of their own; empty: every port.
    #[oai(validator(max_items = 1000))]
    pub ports: Option<Vec<Schema<PortEntryView>>>,
    /// Whether the rule is evaluated; omitted: true.
    pub enabled: Option<bool>,
    /// Whether matches are to be logged; omitted: false.
    pub log: Option<bool>,
    /// The first instant at which the rule is active, RFC 3339.
    pub starts_at: Option<String>,
    /// The first instant at which it is no longer active, RFC 3339.
    pub expires_at: Option<String>,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Ticket or change number.
    #[oai(validator(max_length = 255))]
    pub reference: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    #[oai(validator(max_properties = 64))]
    pub labels: Option<BTreeMap<String, String>>,
}

impl poem_openapi::types::Example for RuleBody {
    fn example() -> Self {
        let entry = |address: &str, port| Schema(EndpointView { address: address.into(), port });
        Self {
            name: Some("web-in".into()),
            action: ActionWord::Allow,
            priority: Some(100),
            protocols: Some(vec!["tcp".into()]),
            protocol: None,
            icmp_type: None,
            icmp_code: None,
            sources: vec![
                entry("10.0.0.0/8", None),
                entry("192.0.2.1-192.0.2.9", Some(PortValue::Range("1024-65535".into()))),
            ],
            destinations: vec![
                entry("198.51.100.10", None),
                entry("198.51.100.11", Some(PortValue::Number(8443))),
            ],
            ports: Some(vec![Schema(PortEntryView {
                number: Some(443),
                ..PortEntryView::default()
            })]),
            enabled: None,
            log: None,
            starts_at: None,
            expires_at: None,
            description: None,
            reference: Some("CHG-1042".into()),
            labels: None,
        }
    }
}

/// A change of a rule (RFC 7396): omitted members keep their values, arrays are replaced as a
/// whole. Null restores a member's default, and removes a label.
#[derive(Debug, Object)]
#[oai(rename = "FirewallRulePatch", example, skip_serializing_if_is_none)]
pub struct RulePatchBody {
    /// Unique in its policy; null: none.
    #[oai(validator(min_length = 1, max_length = 255))]
    pub name: Option<String>,
    /// What is done with packets that match.
    pub action: Option<ActionWord>,
    /// Rules with lower priorities are evaluated first, those with equal ones in order of id.
    pub priority: Option<i32>,
    /// By name or number; empty: any.
    #[oai(validator(max_items = 16))]
    pub protocols: Option<Vec<String>>,
    /// Shorthand for `protocols` with one entry, or `any`.
    pub protocol: Option<String>,
    /// The ICMP type; null: none.
    #[oai(validator(minimum(value = "0"), maximum(value = "255")))]
    pub icmp_type: Option<u8>,
    /// The ICMP code; null: none.
    #[oai(validator(minimum(value = "0"), maximum(value = "255")))]
    pub icmp_code: Option<u8>,
    /// Alternatives for the packet's source.
    #[oai(validator(min_items = 1, max_items = 1000))]
    pub sources: Option<Vec<Schema<EndpointView>>>,
    /// Alternatives for the packet's destination.
    #[oai(validator(min_items = 1, max_items = 1000))]
    pub destinations: Option<Vec<Schema<EndpointView>>>,
    /// Destination ports for destinations that have no port of their own; empty: every port.
    #[oai(validator(max_items = 1000))]
    pub ports: Option<Vec<Schema<PortEntryView>>>,
    /// Whether the rule is evaluated.
    pub enabled: Option<bool>,
    /// Whether matches are to be logged.
    pub log: Option<bool>,
    /// The first instant at which the rule is active; null: always.
    pub starts_at: Option<String>,
    /// The first instant at which it is no longer active; null: never.
    pub expires_at: Option<String>,
    /// Free text.
    #[oai(validator(max_length = 4096))]
    pub description: Option<String>,
    /// Ticket or change number.
    #[oai(validator(max_length = 255))]
    pub reference: Option<String>,
    /// Labels: keys of a-z, 0-9, `.`, `_`, `/`, `-`.
    pub labels: Option<BTreeMap<String, Option<String>>>,
}

impl poem_openapi::types::Example for RulePatchBody {
    fn example() -> Self {
        Self {
            name: None,
            action: None,
            priority: None,
            protocols: None,
            protocol: None,
            icmp_type: None,
            icmp_code: None,
            sources: None,
            destinations: None,
            ports: None,
            enabled: None,
            log: None,
            starts_at: None,
            expires_at: None,
            description: None,
            reference: None,
            // If a reader sends the example unchanged, it only adds a label.
            labels: Some([("reviewed".to_owned(), Some("2026-11".to_owned()))].into()),
        }
    }
}

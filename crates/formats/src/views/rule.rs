//! Rules as JSON.

use std::borrow::Cow;
use std::collections::BTreeMap;

use fireflow_domain::net::PortRange;
use fireflow_domain::rule::{Endpoint, Rule, RuleParts, Warning};
use fireflow_domain::time::Instant;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value};

use super::resources::PolicyReferenceView;
use crate::patterns::PORTS;

/// A port as a number, or a range as text.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum PortValue {
    /// One port.
    Number(u16),
    /// A range.
    Range(String),
}

impl JsonSchema for PortValue {
    fn schema_name() -> Cow<'static, str> {
        "Port".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [
            {"type": "integer", "minimum": 0.0, "maximum": 65535.0},
            {"type": "string", "pattern": PORTS, "example": "1024-65535"},
        ]})
    }
}

/// One source or destination of a rule.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Endpoint")]
pub struct EndpointView {
    /// An address, a block, a range `first-last`, or `any`.
    pub address: String,
    /// The entry's own port or `first-last`; omitted: every port, or the rule's `ports`.
    #[schemars(with = "PortValue")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<PortValue>,
}

impl From<&Endpoint> for EndpointView {
    fn from(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            port: endpoint.port.map(|port| {
                if port.first() == port.last() {
                    PortValue::Number(port.first())
                } else {
                    PortValue::Range(port.to_string())
                }
            }),
        }
    }
}

/// An entry of a rule's `ports`: `{"number": 443}` or `{"from": 8000, "to": 8100}`.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "PortEntry")]
pub struct PortEntryView {
    /// One port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    /// The first of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u16>,
    /// The last of a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
}

impl From<&PortRange> for PortEntryView {
    fn from(port: &PortRange) -> Self {
        if port.first() == port.last() {
            Self { number: Some(port.first()), ..Self::default() }
        } else {
            Self { number: None, from: Some(port.first()), to: Some(port.last()) }
        }
    }
}

/// A part of a rule that is stored although it has no effect.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Warning")]
pub struct WarningView {
    /// The kind: `entry_without_effect`, `protocol_without_effect`, `ports_without_effect`,
    /// `expired`.
    pub code: String,
    /// A JSON pointer into the rule.
    pub pointer: String,
    /// An explanation in one sentence.
    pub detail: String,
}

impl From<&Warning> for WarningView {
    fn from(warning: &Warning) -> Self {
        Self {
            code: warning.code.as_str().to_owned(),
            pointer: format!("#{}", warning.pointer),
            detail: warning.detail.clone(),
        }
    }
}

with_members! {
    /// A rule.
    #[derive(Debug, Serialize, JsonSchema)]
    #[schemars(rename = "FirewallRule")]
    pub struct RuleView {
        /// Identifies the rule.
        pub id: i64,
        /// Its policy.
        pub filtering_policy: PolicyReferenceView,
        /// Its name, unique in its policy; null: none.
        pub name: Option<String>,
        /// What is done with packets that match.
        pub action: String,
        /// Rules with lower priorities are evaluated first, those with equal ones in order of id.
        pub priority: i32,
        /// Its position among the policy's rules, from 1; only in the policy's own list, unfiltered and
        /// in order of evaluation.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub position: Option<u64>,
        /// Its protocols, by name or number; empty: any.
        pub protocols: Vec<String>,
        /// The ICMP type.
        pub icmp_type: Option<u8>,
        /// The ICMP code.
        pub icmp_code: Option<u8>,
        /// Alternatives for the packet's source.
        pub sources: Vec<EndpointView>,
        /// Alternatives for the packet's destination.
        pub destinations: Vec<EndpointView>,
        /// Destination ports for destinations that have no port of their own; empty: every port.
        pub ports: Vec<PortEntryView>,
        /// Whether the rule is evaluated.
        pub enabled: bool,
        /// Whether matches are to be logged.
        pub log: bool,
        /// The first instant at which the rule is active; null: always.
        pub starts_at: Option<String>,
        /// The first instant at which it is no longer active; null: never.
        pub expires_at: Option<String>,
        /// The current state: `active`, `scheduled`, `expired` or `disabled`.
        pub state: String,
        /// Free text.
        pub description: String,
        /// Ticket or change number.
        pub reference: String,
        /// Labels.
        pub labels: BTreeMap<String, String>,
        /// Parts of the rule that have no effect.
        pub warnings: Vec<WarningView>,
        /// The policy's revision at the rule's last change.
        pub revision: i64,
        /// When it was created: RFC 3339, UTC, microseconds.
        pub created_at: String,
        /// Who created it.
        pub created_by: String,
        /// When it was last changed.
        pub updated_at: String,
        /// Who last changed it.
        pub updated_by: String,
        /// When it was deleted; in lists with `deleted=true`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub deleted_at: Option<String>,
        /// Who deleted it.
        #[serde(skip_serializing_if = "Option::is_none")]
        pub deleted_by: Option<String>,
    }
}

impl RuleView {
    /// Shows rules at an instant, one after the other. If the number of rules before the first is
    /// known, each rule has its position; the rules must then be in order of evaluation.
    pub fn numbering(now: Instant, before_first: Option<u64>) -> impl FnMut(&Rule) -> Self {
        let mut position = before_first;
        move |rule| {
            position = position.map(|before| before.saturating_add(1));
            Self { position, ..Self::at(rule, now) }
        }
    }

    /// A rule at an instant, which decides `state` and `warnings`.
    #[must_use]
    pub fn at(rule: &Rule, now: Instant) -> Self {
        Self::of(rule, (&rule.policy).into(), now)
    }

    /// Like [`Self::at`], with the current state of its policy.
    #[must_use]
    pub fn of(rule: &Rule, filtering_policy: PolicyReferenceView, now: Instant) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let Rule {
            id,
            // The caller decides how the policy is shown.
            policy: _,
            spec,
            revision,
            // It is in the ETag.
            mark: _,
            created_at,
            created_by,
            updated_at,
            updated_by,
            deleted,
        } = rule;
        let RuleParts {
            name,
            action,
            priority,
            protocols,
            icmp_type,
            icmp_code,
            sources,
            destinations,
            ports,
            enabled,
            log,
            starts_at,
            expires_at,
            description,
            reference,
            labels,
        } = &**spec;
        Self {
            id: id.get(),
            filtering_policy,
            name: name.as_ref().map(ToString::to_string),
            action: action.to_string(),
            priority: *priority,
            position: None,
            protocols: protocols.iter().map(ToString::to_string).collect(),
            icmp_type: *icmp_type,
            icmp_code: *icmp_code,
            sources: sources.iter().map(Into::into).collect(),
            destinations: destinations.iter().map(Into::into).collect(),
            ports: ports.iter().map(Into::into).collect(),
            enabled: *enabled,
            log: *log,
            starts_at: starts_at.as_ref().map(ToString::to_string),
            expires_at: expires_at.as_ref().map(ToString::to_string),
            state: spec.state(now).as_str().to_owned(),
            description: description.to_string(),
            reference: reference.to_string(),
            labels: labels.as_map().clone(),
            warnings: spec.warnings(now).iter().map(Into::into).collect(),
            revision: revision.0,
            created_at: created_at.to_string(),
            created_by: created_by.clone(),
            updated_at: updated_at.to_string(),
            updated_by: updated_by.clone(),
            deleted_at: deleted.as_ref().map(|stamp| stamp.at.to_string()),
            deleted_by: deleted.as_ref().map(|stamp| stamp.by.clone()),
        }
    }
}

/// A rule as the API accepts it, with the members that are not their default.
#[must_use]
pub fn rule_json(parts: &RuleParts) -> Value {
    // No `..`: the compiler demands a decision here for each new member.
    let RuleParts {
        name,
        action,
        priority,
        protocols,
        icmp_type,
        icmp_code,
        sources,
        destinations,
        ports,
        enabled,
        log,
        starts_at,
        expires_at,
        description,
        reference,
        labels,
    } = parts;
    let mut members = Map::new();
    let mut set = |name: &str, value: Value| {
        if !value.is_null() {
            members.insert(name.to_owned(), value);
        }
    };
    let text = |text: &str| if text.is_empty() { Value::Null } else { text.into() };
    let some = |values: Vec<Value>| if values.is_empty() { Value::Null } else { values.into() };
    set("name", name.as_ref().map(|name| name.as_str()).into());
    set("action", action.as_str().into());
    set("priority", (*priority).into());
    set("protocols", some(protocols.iter().map(|it| it.to_string().into()).collect()));
    set("icmp_type", (*icmp_type).into());
    set("icmp_code", (*icmp_code).into());
    set("sources", sources.iter().map(EndpointView::from).map(written).collect());
    set("destinations", destinations.iter().map(EndpointView::from).map(written).collect());
    set("ports", some(ports.iter().map(PortEntryView::from).map(written).collect()));
    set("enabled", if *enabled { Value::Null } else { false.into() });
    set("log", if *log { true.into() } else { Value::Null });
    set("starts_at", starts_at.map(|at| at.to_string()).into());
    set("expires_at", expires_at.map(|at| at.to_string()).into());
    set("description", text(description.as_str()));
    set("reference", text(reference.as_str()));
    let labels: Map<String, Value> =
        labels.as_map().iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    set("labels", if labels.is_empty() { Value::Null } else { labels.into() });
    Value::Object(members)
}

fn written(view: impl Serialize) -> Value {
    // These views always can be serialized.
    serde_json::to_value(view).unwrap_or_default()
}

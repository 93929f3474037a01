//! States in the audit trail. They have the API's own form, as GET showed the resource at that
//! instant, so that a client can send one back. They are stored and hashed as text, and stay as
//! they are when the API's form grows; a test of the web crate compares the two forms.

use std::collections::BTreeMap;

use fireflow_domain::acceptance::{Acceptance, AcceptanceSpec};
use fireflow_domain::audit::Snapshot;
use fireflow_domain::firewall::{Firewall, FirewallRef};
use fireflow_domain::net::PortRange;
use fireflow_domain::policy::{Policy, PolicyRef};
use fireflow_domain::rule::order::RulePlace;
use fireflow_domain::rule::{Endpoint, Rule, RuleParts, Warning};
use fireflow_domain::time::Instant;
use serde::Serialize;

use super::json;

/// The text of a state at an instant.
pub(super) fn state(snapshot: &Snapshot, now: Instant) -> String {
    match snapshot {
        Snapshot::Firewall(firewall) => json(&FirewallState::of(firewall)),
        Snapshot::Policy(policy) => json(&PolicyState::of(policy, None)),
        Snapshot::Order(policy, places) => json(&PolicyState::of(policy, Some(places))),
        Snapshot::Acceptance(_, acceptance) => json(&AcceptedState::of(acceptance)),
        Snapshot::Rule(rule) => json(&RuleState::of(rule, now)),
    }
}

#[derive(Serialize)]
struct FirewallState<'a> {
    id: i64,
    name: &'a str,
    tenant: &'a str,
    description: &'a str,
    labels: &'a BTreeMap<String, String>,
    policy_count: u64,
    revision: i64,
    created_at: String,
    created_by: &'a str,
    updated_at: String,
    updated_by: &'a str,
}

impl<'a> FirewallState<'a> {
    fn of(firewall: &'a Firewall) -> Self {
        let spec = &firewall.spec;
        Self {
            id: firewall.id.get(),
            name: spec.name.as_str(),
            tenant: spec.tenant.as_str(),
            description: spec.description.as_str(),
            labels: spec.labels.as_map(),
            policy_count: firewall.policy_count,
            revision: firewall.revision.0,
            created_at: firewall.created_at.to_string(),
            created_by: &firewall.created_by,
            updated_at: firewall.updated_at.to_string(),
            updated_by: &firewall.updated_by,
        }
    }
}

#[derive(Serialize)]
struct FirewallReference<'a> {
    id: i64,
    name: &'a str,
}

impl<'a> From<&'a FirewallRef> for FirewallReference<'a> {
    fn from(firewall: &'a FirewallRef) -> Self {
        Self { id: firewall.id.get(), name: firewall.name.as_str() }
    }
}

#[derive(Serialize)]
struct PolicyState<'a> {
    id: i64,
    firewall: FirewallReference<'a>,
    name: &'a str,
    description: &'a str,
    labels: &'a BTreeMap<String, String>,
    default_action: &'a str,
    rule_count: u64,
    /// The rules that were moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<Vec<PlaceState>>,
    revision: i64,
    created_at: String,
    created_by: &'a str,
    updated_at: String,
    updated_by: &'a str,
}

#[derive(Serialize)]
struct PlaceState {
    id: i64,
    priority: i32,
}

impl<'a> PolicyState<'a> {
    fn of(policy: &'a Policy, places: Option<&[RulePlace]>) -> Self {
        let spec = &policy.spec;
        let place = |(id, priority): &RulePlace| PlaceState { id: id.get(), priority: *priority };
        Self {
            id: policy.id.get(),
            firewall: (&policy.firewall).into(),
            name: spec.name.as_str(),
            description: spec.description.as_str(),
            labels: spec.labels.as_map(),
            default_action: spec.default_action.as_str(),
            rule_count: policy.rule_count,
            rules: places.map(|places| places.iter().map(place).collect()),
            revision: policy.revision.0,
            created_at: policy.created_at.to_string(),
            created_by: &policy.created_by,
            updated_at: policy.updated_at.to_string(),
            updated_by: &policy.updated_by,
        }
    }
}

/// An accepted finding, under a name that tells it from a policy.
#[derive(Serialize)]
struct AcceptedState<'a> {
    acceptance: AcceptanceState<'a>,
}

#[derive(Serialize)]
struct AcceptanceState<'a> {
    finding_id: String,
    proof: String,
    severity: &'static str,
    reason: &'a str,
    until: Option<String>,
    accepted_at: String,
    accepted_by: &'a str,
}

impl<'a> AcceptedState<'a> {
    fn of(acceptance: &'a Acceptance) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let Acceptance { finding, proof, severity, spec, accepted_at, accepted_by } = acceptance;
        let AcceptanceSpec { reason, until } = spec;
        let acceptance = AcceptanceState {
            finding_id: finding.to_string(),
            proof: proof.to_string(),
            severity: severity.as_str(),
            reason: reason.as_str(),
            until: until.map(|until| until.to_string()),
            accepted_at: accepted_at.to_string(),
            accepted_by,
        };
        Self { acceptance }
    }
}

#[derive(Serialize)]
struct PolicyReference<'a> {
    id: i64,
    name: &'a str,
    default_action: &'a str,
    firewall: FirewallReference<'a>,
}

impl<'a> From<&'a PolicyRef> for PolicyReference<'a> {
    fn from(policy: &'a PolicyRef) -> Self {
        Self {
            id: policy.id.get(),
            name: policy.name.as_str(),
            default_action: policy.default_action.as_str(),
            firewall: (&policy.firewall).into(),
        }
    }
}

#[derive(Serialize)]
struct EndpointState {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<PortState>,
}

/// A port as a number, or a range as text.
#[derive(Serialize)]
#[serde(untagged)]
enum PortState {
    Number(u16),
    Range(String),
}

impl From<&Endpoint> for EndpointState {
    fn from(endpoint: &Endpoint) -> Self {
        let port = endpoint.port.map(|port| {
            if port.first() == port.last() {
                PortState::Number(port.first())
            } else {
                PortState::Range(port.to_string())
            }
        });
        Self { address: endpoint.address.to_string(), port }
    }
}

/// An entry of a rule's ports.
#[derive(Serialize)]
#[serde(untagged)]
enum PortEntryState {
    One { number: u16 },
    Range { from: u16, to: u16 },
}

impl From<&PortRange> for PortEntryState {
    fn from(port: &PortRange) -> Self {
        if port.first() == port.last() {
            Self::One { number: port.first() }
        } else {
            Self::Range { from: port.first(), to: port.last() }
        }
    }
}

#[derive(Serialize)]
struct WarningState {
    code: &'static str,
    pointer: String,
    detail: String,
}

impl From<Warning> for WarningState {
    fn from(warning: Warning) -> Self {
        Self {
            code: warning.code.as_str(),
            pointer: format!("#{}", warning.pointer),
            detail: warning.detail,
        }
    }
}

#[derive(Serialize)]
struct RuleState<'a> {
    id: i64,
    filtering_policy: PolicyReference<'a>,
    name: Option<&'a str>,
    action: &'a str,
    priority: i32,
    protocols: Vec<String>,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    sources: Vec<EndpointState>,
    destinations: Vec<EndpointState>,
    ports: Vec<PortEntryState>,
    enabled: bool,
    log: bool,
    starts_at: Option<String>,
    expires_at: Option<String>,
    state: &'static str,
    description: &'a str,
    reference: &'a str,
    labels: &'a BTreeMap<String, String>,
    warnings: Vec<WarningState>,
    revision: i64,
    created_at: String,
    created_by: &'a str,
    updated_at: String,
    updated_by: &'a str,
}

impl<'a> RuleState<'a> {
    fn of(rule: &'a Rule, now: Instant) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let Rule {
            id,
            policy,
            spec,
            revision,
            created_at,
            created_by,
            updated_at,
            updated_by,
            // It is the tag of one answer, and renewed by each write.
            mark: _,
            // The event itself records when and by whom the rule was deleted.
            deleted: _,
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
            filtering_policy: policy.into(),
            name: name.as_ref().map(|name| name.as_str()),
            action: action.as_str(),
            priority: *priority,
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
            state: spec.state(now).as_str(),
            description: description.as_str(),
            reference: reference.as_str(),
            labels: labels.as_map(),
            warnings: spec.warnings(now).into_iter().map(Into::into).collect(),
            revision: revision.0,
            created_at: created_at.to_string(),
            created_by,
            updated_at: updated_at.to_string(),
            updated_by,
        }
    }
}

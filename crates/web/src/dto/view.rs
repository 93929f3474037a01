//! Views: the wire form of resources. Each type is both a schema of the API description and the
//! serialized answer.

use std::collections::BTreeMap;

use fireflow_domain::firewall::{Firewall, FirewallRef};
use fireflow_domain::net::PortRange;
use fireflow_domain::policy::{Policy, PolicyRef};
use fireflow_domain::read_only;
use fireflow_domain::rule::{Endpoint, Rule, RuleParts, Warning};
use fireflow_domain::time::Instant;
use poem_openapi::Object;
use serde::Serialize;

use super::left_out::LeftOutView;
pub use super::port_value::PortValue;

/// A firewall: a group of filtering policies.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Firewall")]
pub struct FirewallView {
    /// Identifies the firewall.
    pub id: i64,
    /// Unique among the live firewalls of a tenant.
    pub name: String,
    /// The tenant that owns it; empty: none.
    pub tenant: String,
    /// Free text.
    pub description: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// How many live policies it has.
    pub policy_count: u64,
    /// Its policies; with `expand=filtering_policies`.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filtering_policies: Option<Vec<PolicyView>>,
    /// The policies that are missing from `filtering_policies`, if there are any; with
    /// `expand=filtering_policies.rules` on a single firewall.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOutView>,
    /// Increases when its own fields change, and when policies are added or removed.
    pub revision: i64,
    /// When it was created: RFC 3339, UTC, microseconds.
    pub created_at: String,
    /// Who created it.
    pub created_by: String,
    /// When its own fields were last changed.
    pub updated_at: String,
    /// Who last changed them.
    pub updated_by: String,
    /// When it was deleted; in lists with `deleted=true`.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// Who deleted it.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<String>,
}

impl FirewallView {
    /// The names of its members, for `fields`.
    pub const MEMBERS: &'static [&'static str] = &read_only::names(read_only::FIREWALL);
}

impl From<&Firewall> for FirewallView {
    fn from(firewall: &Firewall) -> Self {
        Self {
            id: firewall.id.get(),
            name: firewall.spec.name.to_string(),
            tenant: firewall.spec.tenant.to_string(),
            description: firewall.spec.description.to_string(),
            labels: firewall.spec.labels.as_map().clone(),
            policy_count: firewall.policy_count,
            filtering_policies: None,
            left_out: None,
            revision: firewall.revision.0,
            created_at: firewall.created_at.to_string(),
            created_by: firewall.created_by.clone(),
            updated_at: firewall.updated_at.to_string(),
            updated_by: firewall.updated_by.clone(),
            deleted_at: firewall.deleted.as_ref().map(|stamp| stamp.at.to_string()),
            deleted_by: firewall.deleted.as_ref().map(|stamp| stamp.by.clone()),
        }
    }
}

/// A firewall as embedded in its policies and rules.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FirewallReference")]
pub struct FirewallReferenceView {
    /// Identifies the firewall.
    pub id: i64,
    /// Its name.
    pub name: String,
}

impl From<&FirewallRef> for FirewallReferenceView {
    fn from(firewall: &FirewallRef) -> Self {
        Self { id: firewall.id.get(), name: firewall.name.to_string() }
    }
}

/// A filtering policy: an ordered list of rules with a default action.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FilteringPolicy")]
pub struct PolicyView {
    /// Identifies the policy.
    pub id: i64,
    /// Its firewall.
    pub firewall: FirewallReferenceView,
    /// Unique among the live policies of its firewall.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What is done with packets that no rule matches.
    pub default_action: String,
    /// How many live rules it has.
    pub rule_count: u64,
    /// Its rules in order of evaluation; with `expand=rules`.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<RuleView>>,
    /// Increases with each change of the policy or of any of its rules.
    pub revision: i64,
    /// When it was created: RFC 3339, UTC, microseconds.
    pub created_at: String,
    /// Who created it.
    pub created_by: String,
    /// When its own fields were last changed.
    pub updated_at: String,
    /// Who last changed them.
    pub updated_by: String,
    /// When it was deleted; in lists with `deleted=true`.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// Who deleted it.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<String>,
}

impl PolicyView {
    /// The names of its members, for `fields`.
    pub const MEMBERS: &'static [&'static str] = &read_only::names(read_only::POLICY);
}

impl From<&Policy> for PolicyView {
    fn from(policy: &Policy) -> Self {
        Self {
            id: policy.id.get(),
            firewall: (&policy.firewall).into(),
            name: policy.spec.name.to_string(),
            description: policy.spec.description.to_string(),
            labels: policy.spec.labels.as_map().clone(),
            default_action: policy.spec.default_action.to_string(),
            rule_count: policy.rule_count,
            rules: None,
            revision: policy.revision.0,
            created_at: policy.created_at.to_string(),
            created_by: policy.created_by.clone(),
            updated_at: policy.updated_at.to_string(),
            updated_by: policy.updated_by.clone(),
            deleted_at: policy.deleted.as_ref().map(|stamp| stamp.at.to_string()),
            deleted_by: policy.deleted.as_ref().map(|stamp| stamp.by.clone()),
        }
    }
}

/// A policy as embedded in its rules.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FilteringPolicyReference")]
pub struct PolicyReferenceView {
    /// Identifies the policy.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// What is done with packets that no rule matches.
    pub default_action: String,
    /// Its firewall.
    pub firewall: FirewallReferenceView,
}

impl From<&Policy> for PolicyReferenceView {
    fn from(policy: &Policy) -> Self {
        Self::from(&policy.reference())
    }
}

impl From<&PolicyRef> for PolicyReferenceView {
    fn from(policy: &PolicyRef) -> Self {
        Self {
            id: policy.id.get(),
            name: policy.name.to_string(),
            default_action: policy.default_action.to_string(),
            firewall: (&policy.firewall).into(),
        }
    }
}

/// One source or destination of a rule.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Endpoint")]
pub struct EndpointView {
    /// An address, a block, a range `first-last`, or `any`.
    pub address: String,
    /// The entry's own port or `first-last`; omitted: every port, or the rule's `ports`.
    #[oai(skip_serializing_if_is_none)]
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
#[derive(Debug, Default, Object, Serialize)]
#[oai(rename = "PortEntry")]
pub struct PortEntryView {
    /// One port.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u16>,
    /// The first of a range.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u16>,
    /// The last of a range.
    #[oai(skip_serializing_if_is_none)]
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
#[derive(Debug, Object, Serialize)]
#[oai(rename = "Warning")]
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

/// A rule.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "FirewallRule")]
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
    #[oai(skip_serializing_if_is_none)]
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
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
    /// Who deleted it.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<String>,
}

impl RuleView {
    /// The names of its members, for `fields`.
    pub const MEMBERS: &'static [&'static str] = &read_only::names(read_only::RULE);

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

macro_rules! pages {
    ($(#[$doc:meta])* $name:ident, $schema:literal, $item:ty
     $(, $(#[$more_doc:meta])* $more:ident: $more_type:ty)*) => {
        $(#[$doc])*
        #[derive(Debug, Object, Serialize)]
        #[oai(rename = $schema)]
        pub struct $name {
            /// The items on the page.
            pub items: Vec<$item>,
            /// How many items the whole list has, if they were counted.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub total: Option<u64>,
            /// False if counting stopped at `total` and the list has more items.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub total_is_exact: Option<bool>,
            /// The page's number, from 1, if the page was requested by number.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub page: Option<u32>,
            /// The maximum number of items on a page.
            pub page_size: u32,
            /// Another name for `page_size`.
            pub per_page: u32,
            /// The `cursor` of the next page; omitted on the last page.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub next_cursor: Option<String>,
            $($(#[$more_doc])* pub $more: $more_type,)*
        }

        impl $name {
            /// Converts a page of the domain, with the views of its items.
            #[must_use]
            pub fn with<T>(page: &fireflow_domain::page::Page<T>, scope: &str, items: Vec<$item>) -> Self {
                Self {
                    items,
                    total: page.total.map(|total| total.count),
                    total_is_exact: page.total.map(|total| total.is_exact),
                    page: page.request.number(),
                    page_size: page.request.size(),
                    per_page: page.request.size(),
                    next_cursor: page
                        .next
                        .as_ref()
                        .map(|next| fireflow_formats::cursor::encode(scope, next)),
                    $($more: <$more_type>::default(),)*
                }
            }
        }
    };
}
pub(super) use pages;

pages! {
    /// A page of firewalls.
    FirewallPage, "FirewallPage", FirewallView,
    /// The policies that are not embedded, if there are any; with
    /// `expand=filtering_policies.rules`.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutView>
}
pages! {
    /// A page of policies.
    PolicyPage, "FilteringPolicyPage", PolicyView,
    /// The policies that are not on the page, if there are any; with `expand=rules`.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutView>
}

pages! {
    /// A page of rules.
    RulePage, "FirewallRulePage", RuleView,
    /// Why the page is incomplete: `page` (rules on other pages), `filter` (rules that do not
    /// match), `fields` (members). Empty: it is complete. PUT refuses an incomplete list.
    partial: Vec<String>,
    /// The policies whose rules are not in the list, if there are any; in the list across policies.
    #[serde(skip_serializing_if = "Option::is_none")]
    left_out: Option<LeftOutView>
}

/// What an answer omits of a list of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Rules on other pages.
    Page,
    /// Rules that do not match the filter.
    Filter,
    /// Members.
    Fields,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Page, Self::Filter, Self::Fields];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Filter => "filter",
            Self::Fields => "fields",
        }
    }
}

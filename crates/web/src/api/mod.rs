//! The operations: glue between what is read, the use cases and what is written. Each names first
//! the role that it needs.

pub mod audit;
pub mod firewalls;
pub mod inspections;
pub mod policies;
mod rule_list;
pub mod rules;
pub mod service;

use fireflow_domain::error::{Error, Resource};
use fireflow_domain::ids::{FirewallId, PolicyId, RuleId};
use fireflow_domain::text::excerpt;
use poem_openapi::Tags;

use crate::path_id::RawId;

/// The groups of operations.
#[derive(Debug, Tags)]
pub enum Tag {
    /// Firewalls: where policies hang.
    Firewalls,
    /// Filtering policies: ordered lists of rules with a default.
    FilteringPolicies,
    /// The rules of a policy.
    FirewallRules,
    /// What happens to a packet, and why?
    Inspections,
    /// Who changed what, when and why?
    Audit,
    /// The service itself.
    Service,
}

/// A firewall's id in a path; what is none names nothing.
fn firewall_id(raw: &RawId) -> Result<FirewallId, Error> {
    FirewallId::parse(&raw.0).ok_or_else(|| Error::not_found(Resource::Firewall, excerpt(&raw.0)))
}

/// A policy's id in a path, below its firewall's.
fn policy_ids(firewall: &RawId, policy: &RawId) -> Result<(FirewallId, PolicyId), Error> {
    let id = PolicyId::parse(&policy.0);
    let id = id.ok_or_else(|| Error::not_found(Resource::Policy, excerpt(&policy.0)));
    Ok((firewall_id(firewall)?, id?))
}

/// A rule's id in a path.
fn rule_id(raw: &RawId) -> Result<RuleId, Error> {
    RuleId::parse(&raw.0).ok_or_else(|| Error::not_found(Resource::Rule, excerpt(&raw.0)))
}

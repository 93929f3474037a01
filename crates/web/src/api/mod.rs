//! The operations, which connect requests, use cases and answers. The first argument of each is the
//! role that it requires.

pub mod acceptances;
pub mod analyses;
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
    /// Firewalls: groups of filtering policies.
    Firewalls,
    /// Filtering policies: ordered lists of rules with a default action.
    FilteringPolicies,
    /// The rules of a policy.
    FirewallRules,
    /// Verdicts on packets, and their explanations.
    Inspections,
    /// The faults of policies, comparisons, and searches for packets.
    Analysis,
    /// The history of all changes.
    Audit,
    /// The service itself.
    Service,
}

/// Parses a firewall's id in a path. An invalid id is 404.
fn firewall_id(raw: &RawId) -> Result<FirewallId, Error> {
    FirewallId::parse(&raw.0).ok_or_else(|| Error::not_found(Resource::Firewall, excerpt(&raw.0)))
}

/// Parses a policy's id in a path, and that of its firewall.
fn policy_ids(firewall: &RawId, policy: &RawId) -> Result<(FirewallId, PolicyId), Error> {
    let id = PolicyId::parse(&policy.0);
    let id = id.ok_or_else(|| Error::not_found(Resource::Policy, excerpt(&policy.0)));
    Ok((firewall_id(firewall)?, id?))
}

/// Parses a rule's id in a path.
fn rule_id(raw: &RawId) -> Result<RuleId, Error> {
    RuleId::parse(&raw.0).ok_or_else(|| Error::not_found(Resource::Rule, excerpt(&raw.0)))
}

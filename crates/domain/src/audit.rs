//! The audit trail: each change with its author, time and reason, and the states before and after.

use crate::acceptance::Acceptance;
use crate::actor::Caller;
use crate::audit_chain::{Chain, Head};
use crate::error::Resource;
use crate::firewall::Firewall;
use crate::ids::{FirewallId, PolicyId};
use crate::policy::Policy;
use crate::rule::Rule;
use crate::rule::order::RulePlace;
use crate::text::Tenant;
use crate::time::Instant;

/// What a change did to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuditAction {
    /// Created.
    Create,
    /// Changed.
    Update,
    /// Moved to another place in the order.
    Move,
    /// Deleted.
    Delete,
    /// Restored after a deletion.
    Restore,
}

impl AuditAction {
    /// Every action.
    pub const ALL: [Self; 5] =
        [Self::Create, Self::Update, Self::Move, Self::Delete, Self::Restore];
    /// Their words on the wire and in the database.
    pub const WORDS: [&'static str; 5] = ["create", "update", "move", "delete", "restore"];

    /// Reads the word. Returns `None` if it is not an action.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == word)
    }

    /// The word in the trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Move => "move",
            Self::Delete => "delete",
            Self::Restore => "restore",
        }
    }
}

/// A resource as it was before or after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshot {
    /// A firewall.
    Firewall(Box<Firewall>),
    /// A policy.
    Policy(Box<Policy>),
    /// A rule.
    Rule(Box<Rule>),
    /// The priorities of some of a policy's rules.
    Order(Box<Policy>, Vec<RulePlace>),
    /// An accepted finding of a policy.
    Acceptance(Box<Policy>, Box<Acceptance>),
}

impl Snapshot {
    /// The kind of the resource.
    #[must_use]
    pub const fn resource(&self) -> Resource {
        match self {
            Self::Firewall(_) => Resource::Firewall,
            Self::Policy(_) | Self::Order(..) | Self::Acceptance(..) => Resource::Policy,
            Self::Rule(_) => Resource::Rule,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> i64 {
        match self {
            Self::Firewall(firewall) => firewall.id.get(),
            Self::Policy(policy) | Self::Order(policy, _) | Self::Acceptance(policy, _) => {
                policy.id.get()
            }
            Self::Rule(rule) => rule.id.get(),
        }
    }

    /// The firewall that it is, or belongs to.
    #[must_use]
    pub fn firewall_id(&self) -> FirewallId {
        match self {
            Self::Firewall(firewall) => firewall.id,
            Self::Policy(policy) | Self::Order(policy, _) | Self::Acceptance(policy, _) => {
                policy.firewall.id
            }
            Self::Rule(rule) => rule.policy.firewall.id,
        }
    }

    /// The policy that it is, or belongs to; none for a firewall.
    #[must_use]
    pub fn policy_id(&self) -> Option<PolicyId> {
        match self {
            Self::Firewall(_) => None,
            Self::Policy(policy) | Self::Order(policy, _) | Self::Acceptance(policy, _) => {
                Some(policy.id)
            }
            Self::Rule(rule) => Some(rule.policy.id),
        }
    }

    /// The chain that its events are in.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.policy_id().map_or_else(|| Chain::Firewall(self.firewall_id()), Chain::Policy)
    }

    /// Its own tenant; only a firewall has one.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Firewall(firewall) => Some(&firewall.spec.tenant),
            Self::Policy(_) | Self::Order(..) | Self::Acceptance(..) | Self::Rule(_) => None,
        }
    }
}

/// One change. The event is written in the transaction that makes the change.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    /// The author, the time, the request and the reason.
    pub caller: Caller,
    /// What was done.
    pub action: AuditAction,
    /// The state before; none for a creation or a restoration.
    pub before: Option<Snapshot>,
    /// The state after; none for a deletion.
    pub after: Option<Snapshot>,
}

impl AuditEvent {
    /// The changed resource: its state after the change, or the one before if there is no other.
    #[must_use]
    pub fn subject(&self) -> Option<&Snapshot> {
        self.after.as_ref().or(self.before.as_ref())
    }

    /// The tenant that a firewall was moved from; none for any other event.
    #[must_use]
    pub fn former_tenant(&self) -> Option<&Tenant> {
        let [before, after] = [&self.before, &self.after].map(|it| it.as_ref()?.tenant());
        before.filter(|before| after.is_some_and(|after| after != *before))
    }
}

/// A stored event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Identifies the event; later events have higher ids.
    pub id: i64,
    /// The time of the change.
    pub at: Instant,
    /// The author: the token's subject.
    pub subject: String,
    /// The id of the request.
    pub request_id: String,
    /// The client's address.
    pub client_address: String,
    /// The reason; empty if the request has none.
    pub reason: String,
    /// What was done.
    pub action: AuditAction,
    /// The kind of the changed resource.
    pub resource: Resource,
    /// The id of the changed resource.
    pub resource_id: i64,
    /// The firewall that it is, or belongs to.
    pub firewall_id: FirewallId,
    /// The policy that it is, or belongs to; none for a firewall.
    pub policy_id: Option<PolicyId>,
    /// The firewall's tenant at the time of the change; none if it is unknown.
    pub tenant: Option<Tenant>,
    /// The event's place in its chain and its hash; none if it is older than the chains.
    pub link: Option<Head>,
    /// The state before, as JSON; none for a creation or a restoration.
    pub before: Option<String>,
    /// The state after, as JSON; none for a deletion.
    pub after: Option<String>,
}

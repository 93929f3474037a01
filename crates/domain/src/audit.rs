//! The audit trail: who changed what, when, why, from what to what.

use crate::actor::Caller;
use crate::audit_chain::{Chain, Head};
use crate::error::Resource;
use crate::firewall::Firewall;
use crate::ids::{FirewallId, PolicyId};
use crate::policy::Policy;
use crate::rule::Rule;
use crate::rule::order::Place;
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
    /// Brought back after it was deleted.
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

/// A thing as it was before or after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Snapshot {
    /// A firewall.
    Firewall(Box<Firewall>),
    /// A policy.
    Policy(Box<Policy>),
    /// A rule.
    Rule(Box<Rule>),
    /// The priorities of some of a policy's rules.
    Order(Box<Policy>, Vec<Place>),
}

impl Snapshot {
    /// What kind of thing it is.
    #[must_use]
    pub const fn resource(&self) -> Resource {
        match self {
            Self::Firewall(_) => Resource::Firewall,
            Self::Policy(_) | Self::Order(..) => Resource::Policy,
            Self::Rule(_) => Resource::Rule,
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> i64 {
        match self {
            Self::Firewall(firewall) => firewall.id.get(),
            Self::Policy(policy) | Self::Order(policy, _) => policy.id.get(),
            Self::Rule(rule) => rule.id.get(),
        }
    }

    /// The firewall that it is, or belongs to.
    #[must_use]
    pub fn firewall_id(&self) -> FirewallId {
        match self {
            Self::Firewall(firewall) => firewall.id,
            Self::Policy(policy) | Self::Order(policy, _) => policy.firewall.id,
            Self::Rule(rule) => rule.policy.firewall.id,
        }
    }

    /// The policy that it is, or belongs to; none for a firewall.
    #[must_use]
    pub fn policy_id(&self) -> Option<PolicyId> {
        match self {
            Self::Firewall(_) => None,
            Self::Policy(policy) | Self::Order(policy, _) => Some(policy.id),
            Self::Rule(rule) => Some(rule.policy.id),
        }
    }

    /// The chain that its events are in.
    #[must_use]
    pub fn chain(&self) -> Chain {
        self.policy_id().map_or_else(|| Chain::Firewall(self.firewall_id()), Chain::Policy)
    }

    /// The tenant that it names itself: a firewall's.
    #[must_use]
    pub fn tenant(&self) -> Option<&Tenant> {
        match self {
            Self::Firewall(firewall) => Some(&firewall.spec.tenant),
            Self::Policy(_) | Self::Order(..) | Self::Rule(_) => None,
        }
    }
}

/// One change, written in the transaction that makes it.
#[derive(Debug, Clone)]
pub struct AuditEvent {
    /// Who, when, under which request, why.
    pub caller: Caller,
    /// What was done.
    pub action: AuditAction,
    /// Before; none where it was created.
    pub before: Option<Snapshot>,
    /// After; none where it was deleted.
    pub after: Option<Snapshot>,
}

impl AuditEvent {
    /// The thing that was changed, as it is known best.
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

/// An event as it was kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRecord {
    /// Identifies the event; later ones have higher ids.
    pub id: i64,
    /// When.
    pub at: Instant,
    /// By whom.
    pub subject: String,
    /// Under which request.
    pub request_id: String,
    /// From where.
    pub client_address: String,
    /// Why, where that was said.
    pub reason: String,
    /// What was done.
    pub action: AuditAction,
    /// To what kind of thing.
    pub resource: Resource,
    /// To which.
    pub resource_id: i64,
    /// The firewall that it is, or belongs to.
    pub firewall_id: FirewallId,
    /// The policy that it is, or belongs to; none for a firewall.
    pub policy_id: Option<PolicyId>,
    /// Whose firewall it was then; none if that is not known.
    pub tenant: Option<Tenant>,
    /// Its place in its chain and its hash; none if it is older than the chains.
    pub link: Option<Head>,
    /// Before, as JSON; none where it was created.
    pub before: Option<String>,
    /// After, as JSON; none where it was deleted.
    pub after: Option<String>,
}

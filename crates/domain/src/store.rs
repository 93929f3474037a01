//! The traits of a storage: repositories that share one unit of work.
//!
//! To add a repository, write a trait here for what it reads and one for what it writes. Give
//! [`ReadUnit`] an accessor for the first and [`WriteUnit`] one for the second, and implement both
//! in the storage crate. Lookups return `Option`: the use case decides whether absence is an error.
//! Every lookup takes the caller's [`Visibility`] and sees only live rows under live parents.

mod acceptances;
mod units;

use std::sync::Arc;

use async_trait::async_trait;

use crate::actor::Visibility;
use crate::audit::{AuditAction, AuditEvent, AuditRecord};
use crate::audit_chain::Head;
use crate::engine::compact::{ChangedRule, CompactRule};
use crate::error::{Resource, StoreError};
use crate::filter::Expression;
use crate::firewall::{Firewall, FirewallSpec};
use crate::ids::{FirewallId, PolicyId, Revision, RuleId};
use crate::net::{AddressRange, PortRange};
use crate::page::{Page, PageRequest, SortKey};
use crate::policy::{Policy, PolicyRef, PolicySpec, States};
use crate::rule::fingerprint::Fingerprint;
use crate::rule::order::RulePlace;
use crate::rule::{Action, Duplicates, Rule, RuleChanges, RuleSpec, RuleState};
use crate::text::Name;
use crate::time::Instant;

pub use acceptances::{AcceptanceReader, AcceptanceWriter};

pub use crate::list_fields::{AuditField, FirewallField, PolicyField, RuleField};
pub use crate::stamp::Stamp;
pub use units::{Party, ReadKind, ReadUnit, Storage, Terms, WriteKind, WriteUnit};

/// The result of a repository's method.
pub type StoreResult<T> = Result<T, StoreError>;

/// Which audit events a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those of this subject.
    pub subject: Option<String>,
    /// Those of this action.
    pub action: Option<AuditAction>,
    /// Those that concern resources of this kind.
    pub resource: Option<Resource>,
    /// Those that concern the resource with this id.
    pub resource_id: Option<i64>,
    /// Those that concern this firewall, its policies or their rules.
    pub firewall_id: Option<FirewallId>,
    /// Those that concern this policy, or its rules.
    pub policy_id: Option<PolicyId>,
    /// Those of this request.
    pub request_id: Option<String>,
    /// Those of this instant or later.
    pub since: Option<Instant>,
    /// Those before this instant.
    pub until: Option<Instant>,
    /// Those that match this expression of the filter language.
    pub expression: Option<Expression>,
}

/// An idempotency key of a client, and the request that it identifies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The subject that the key belongs to.
    pub subject: String,
    /// The key.
    pub key: String,
    /// A hash of all that the answer depends on.
    pub fingerprint: [u8; 32],
    /// The time of the request.
    pub at: Instant,
}

/// What the storage has under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Nothing: this is the first request with the key.
    First,
    /// The answer to an earlier, identical request.
    Repeated(KeptAnswer),
    /// Another request used the key.
    Other,
}

/// A stored answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers that depend on the request.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// How many rows were removed permanently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Purged {
    /// Rules.
    pub rules: u64,
    /// Policies.
    pub policies: u64,
    /// Firewalls.
    pub firewalls: u64,
    /// Kept answers.
    pub answers: u64,
}

impl Purged {
    /// The sums of both.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            rules: self.rules.saturating_add(other.rules),
            policies: self.policies.saturating_add(other.policies),
            firewalls: self.firewalls.saturating_add(other.firewalls),
            answers: self.answers.saturating_add(other.answers),
        }
    }
}

/// When rules last started and expired, without a write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    /// The last `starts_at` that has passed.
    pub start: Option<Instant>,
    /// The last `expires_at` that has passed.
    pub end: Option<Instant>,
}

/// Which firewalls a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirewallFilter {
    /// The deleted firewalls instead of the live ones.
    pub deleted: bool,
    /// Those of this name.
    pub name: Option<Name>,
    /// Those that match this expression.
    pub expression: Option<Expression>,
}

/// Which policies a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFilter {
    /// The deleted policies of live firewalls instead of the live policies.
    pub deleted: bool,
    /// Those of this name.
    pub name: Option<Name>,
    /// Those with this default.
    pub default_action: Option<Action>,
    /// Those that match this expression.
    pub expression: Option<Expression>,
}

/// Which rules a list shows. Addresses and ports are compared with those that a single entry names
/// itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFilter {
    /// The deleted rules of live policies instead of the live rules. Deleted rules are not in the
    /// indexes of addresses, ports and labels.
    pub deleted: bool,
    /// Those of this name.
    pub name: Option<Name>,
    /// Those with this action.
    pub action: Option<Action>,
    /// Those with this priority.
    pub priority: Option<i32>,
    /// Those with a source of exactly these addresses.
    pub source_address: Option<AddressRange>,
    /// Those with a source that names exactly these ports.
    pub source_port: Option<PortRange>,
    /// Those with a destination of exactly these addresses.
    pub destination_address: Option<AddressRange>,
    /// Those with a destination that itself names exactly these ports.
    pub destination_port: Option<PortRange>,
    /// Those with exactly this entry among their `ports`.
    pub port: Option<PortRange>,
    /// Those that match this expression.
    pub expression: Option<Expression>,
}

/// Reads of firewalls.
#[async_trait]
pub trait FirewallReader: Send {
    /// One firewall.
    async fn get(&mut self, who: &Visibility, id: FirewallId) -> StoreResult<Option<Firewall>>;
    /// A page of them.
    async fn page(
        &mut self,
        who: &Visibility,
        filter: &FirewallFilter,
        order: &[SortKey<FirewallField>],
        page: &PageRequest,
    ) -> StoreResult<Page<Firewall>>;
}

/// Writes of firewalls. A writer that changes a firewall holds its lock.
#[async_trait]
pub trait FirewallWriter: Send {
    /// One firewall, locked against other writers until the unit of work ends.
    async fn lock(&mut self, who: &Visibility, id: FirewallId) -> StoreResult<Option<Firewall>>;
    /// Creates one at revision 1. If a live firewall has its name, the inner result is
    /// `Err(holder)`.
    async fn insert(
        &mut self,
        spec: &FirewallSpec,
        stamp: &Stamp,
    ) -> StoreResult<Result<Firewall, FirewallId>>;
    /// Writes a locked firewall as it is after a change, and returns it with the mark of its new
    /// state. If a live firewall has its new name, the inner result is `Err(holder)`, and nothing
    /// is written.
    async fn update(
        &mut self,
        before: &Firewall,
        after: Firewall,
    ) -> StoreResult<Result<Firewall, FirewallId>>;
    /// Marks a locked firewall as deleted; its children are hidden with it.
    async fn delete(&mut self, firewall: &Firewall, stamp: &Stamp) -> StoreResult<()>;
    /// One deleted firewall, locked against other writers until the unit of work ends.
    async fn lock_deleted(
        &mut self,
        who: &Visibility,
        id: FirewallId,
    ) -> StoreResult<Option<Firewall>>;
    /// Makes a locked firewall live again, with all that was hidden with it. Returns it with the
    /// mark of its new state. If a live firewall has its name, the inner result is `Err(holder)`,
    /// and nothing is written.
    async fn restore(&mut self, firewall: Firewall) -> StoreResult<Result<Firewall, FirewallId>>;
}

/// Reads of filtering policies.
#[async_trait]
pub trait PolicyReader: Send {
    /// One policy of a firewall.
    async fn get(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        id: PolicyId,
    ) -> StoreResult<Option<Policy>>;
    /// A page of the policies of one firewall, or of all firewalls.
    async fn page(
        &mut self,
        who: &Visibility,
        firewall: Option<FirewallId>,
        filter: &PolicyFilter,
        order: &[SortKey<PolicyField>],
        page: &PageRequest,
    ) -> StoreResult<Page<Policy>>;
    /// All live policies of firewalls that were read in the same snapshot, by firewall and id.
    async fn of_firewalls(&mut self, firewalls: &[FirewallId]) -> StoreResult<Vec<Policy>>;
    /// The first policies, by id, that use features that this process does not know.
    async fn newer(&mut self, who: &Visibility, limit: u32) -> StoreResult<Vec<Policy>>;
}

/// Writes of filtering policies. A writer that changes a policy holds its lock.
#[async_trait]
pub trait PolicyWriter: Send {
    /// One policy, locked against other writers until the unit of work ends.
    async fn lock(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        id: PolicyId,
    ) -> StoreResult<Option<Policy>>;
    /// The live policy of a locked firewall that has a name.
    async fn find_by_name(
        &mut self,
        firewall: FirewallId,
        name: &Name,
    ) -> StoreResult<Option<PolicyId>>;
    /// Creates one under a locked firewall, at revision 1. The caller has checked that its name is
    /// free.
    async fn insert(
        &mut self,
        firewall: &Firewall,
        spec: &PolicySpec,
        stamp: &Stamp,
    ) -> StoreResult<Policy>;
    /// Writes a locked policy as it is after a change, and returns it with the mark of its new
    /// state. The caller has checked that a new name is free.
    async fn update(&mut self, before: &Policy, after: Policy) -> StoreResult<Policy>;
    /// Marks a locked policy as deleted; its rules are hidden with it.
    async fn delete(&mut self, policy: &Policy, stamp: &Stamp) -> StoreResult<()>;
    /// One deleted policy of a live firewall, locked against other writers until the unit of work
    /// ends.
    async fn lock_deleted(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        id: PolicyId,
    ) -> StoreResult<Option<Policy>>;
    /// Makes a locked policy live again, with the rules that were hidden with it. Returns it with
    /// the mark of its new state. The caller has checked that its name is free.
    async fn restore(&mut self, policy: Policy) -> StoreResult<Policy>;
}

/// A rule, and the state of its policy in which it was read.
#[derive(Debug, Clone)]
pub struct RuleInState {
    /// The rule.
    pub rule: Rule,
    /// The policy's revision at which anything of the rule last changed.
    pub changed: Revision,
    /// The policy's revision.
    pub revision: Revision,
    /// The marks of the policy's states.
    pub states: States,
}

/// What analyses need to know about a rule besides what decides packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleUpkeep {
    /// Whether it has a `reference`.
    pub has_reference: bool,
    /// When it was last changed.
    pub updated_at: Instant,
}

/// Reads of rules.
#[async_trait]
pub trait RuleReader: Send {
    /// One rule of a policy.
    async fn get(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        policy: PolicyId,
        id: RuleId,
    ) -> StoreResult<Option<Rule>>;
    /// A page of the rules of one policy, or of all policies. The default order is that of
    /// evaluation within one policy, and by id across all.
    async fn page(
        &mut self,
        who: &Visibility,
        parent: Option<(FirewallId, PolicyId)>,
        filter: &RuleFilter,
        order: &[SortKey<RuleField>],
        page: &PageRequest,
    ) -> StoreResult<Page<Rule>>;
    /// The live rules of a policy that match an expression, in no order. The number of statements
    /// does not depend on the number of rules.
    async fn matching(
        &mut self,
        who: &Visibility,
        parent: (FirewallId, PolicyId),
        expression: &Expression,
    ) -> StoreResult<Vec<RuleId>>;
    /// At most `limit` rules that follow a place: in one policy's order of evaluation, or by id
    /// across all policies. The cost does not depend on how far the place is.
    async fn following(
        &mut self,
        who: &Visibility,
        parent: Option<(FirewallId, PolicyId)>,
        filter: &RuleFilter,
        after: Option<RulePlace>,
        limit: u32,
    ) -> StoreResult<Vec<Rule>>;
    /// The last instants, up to `at`, at which live rules of a policy started and expired. Unless
    /// the rules are written, their states stay the same as long as these instants do.
    async fn last_turns(&mut self, policy: PolicyId, at: Instant) -> StoreResult<Turns>;
    /// How many live rules of a policy come before a place in its order of evaluation, or are at
    /// it.
    async fn count_to(&mut self, policy: PolicyId, place: RulePlace) -> StoreResult<u64>;
    /// All live rules of a policy in order of evaluation. Costs one statement.
    async fn all(&mut self, policy: &PolicyRef) -> StoreResult<Vec<Rule>>;
    /// The number of characters in the descriptions and labels of the live rules of policies.
    async fn text_of_policies(&mut self, policies: &[PolicyId]) -> StoreResult<u64>;
    /// All live rules of policies that were read in the same snapshot, by policy and in order of
    /// evaluation.
    async fn of_policies(&mut self, policies: &[PolicyId]) -> StoreResult<Vec<Rule>>;
    /// The rules of a policy that changed after one of its revisions, in their content or their
    /// place; at most `at_most`. Deleted rules are included, except those that are purged.
    async fn changed_since(
        &mut self,
        policy: &PolicyRef,
        revision: Revision,
        at_most: usize,
    ) -> StoreResult<Vec<Rule>>;
    /// All live rules of a policy in order of evaluation, without their texts. The policy is at the
    /// given revision. Costs one statement.
    async fn all_compact(
        &mut self,
        policy: PolicyId,
        revision: Revision,
    ) -> StoreResult<Vec<Arc<CompactRule>>>;
    /// What analyses need to know about each live rule of a policy besides, in order of evaluation.
    /// Costs one statement.
    async fn upkeep(&mut self, policy: PolicyId) -> StoreResult<Vec<RuleUpkeep>>;
    /// Like [`Self::changed_since`], without the texts. The policy is at revision `now`.
    async fn changed_compact(
        &mut self,
        policy: PolicyId,
        since: Revision,
        now: Revision,
        at_most: usize,
    ) -> StoreResult<Vec<ChangedRule>>;
    /// One rule of a policy, with the state of the policy in which it was read. Costs one
    /// statement.
    async fn get_in_state(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        policy: PolicyId,
        id: RuleId,
    ) -> StoreResult<Option<RuleInState>>;
    /// The live policies of those of these rules, live or deleted, that the caller may see. Costs one
    /// statement.
    async fn policies_of(
        &mut self,
        who: &Visibility,
        rules: &[RuleId],
    ) -> StoreResult<Vec<(RuleId, PolicyId)>>;
}

/// Writes of rules. The caller holds the policy's lock, also for the lookups here.
#[async_trait]
pub trait RuleWriter: Send {
    /// The places of all live rules of a locked policy, in order of evaluation.
    async fn order(&mut self, policy: PolicyId) -> StoreResult<Vec<RulePlace>>;
    /// Gives rules of a locked policy other priorities, at the policy's new revision. Nothing else
    /// of the rules changes, not even their own revision.
    async fn renumber(
        &mut self,
        policy: PolicyId,
        places: &[RulePlace],
        revision: Revision,
    ) -> StoreResult<()>;
    /// Notes that rules of a locked policy were changed, at the policy's new revision.
    async fn touch(
        &mut self,
        policy: PolicyId,
        rules: &[RuleId],
        revision: Revision,
        stamp: &Stamp,
    ) -> StoreResult<()>;
    /// The live rule of a locked policy that has a name.
    async fn find_by_name(&mut self, policy: PolicyId, name: &Name) -> StoreResult<Option<RuleId>>;
    /// An equivalent live rule of a locked policy, other than `except`, and its state.
    async fn find_equal(
        &mut self,
        policy: PolicyId,
        fingerprint: Fingerprint,
        except: Option<RuleId>,
        at: Instant,
    ) -> StoreResult<Option<(RuleId, RuleState)>>;
    /// Creates one under a locked policy. The caller has checked that its name is free, and that
    /// its content is new unless duplicates are kept.
    async fn insert(
        &mut self,
        policy: &PolicyRef,
        spec: &RuleSpec,
        revision: Revision,
        duplicates: Duplicates,
        stamp: &Stamp,
    ) -> StoreResult<Rule>;
    /// Writes a rule as it is after a change, and returns it with the mark of its new state. The
    /// caller has checked that its name is free and its content is new.
    async fn update(&mut self, before: &Rule, after: Rule) -> StoreResult<Rule>;
    /// Changes many rules of a locked policy at once, and notes the marks of their new states in
    /// `changes`. The caller has checked that the end state has no duplicate names, and no
    /// duplicate contents unless they are kept. Returns the new rules in any order.
    async fn apply(
        &mut self,
        policy: &PolicyRef,
        changes: &mut RuleChanges,
        revision: Revision,
        duplicates: Duplicates,
        stamp: &Stamp,
    ) -> StoreResult<Vec<Rule>>;
    /// Marks a rule as deleted, at the policy's new revision.
    async fn delete(&mut self, rule: &Rule, revision: Revision, stamp: &Stamp) -> StoreResult<()>;
    /// One deleted rule of a locked policy.
    async fn get_deleted(&mut self, policy: &PolicyRef, id: RuleId) -> StoreResult<Option<Rule>>;
    /// The deleted rules of a locked policy with these ids, in any order.
    async fn get_all_deleted(
        &mut self,
        policy: &PolicyRef,
        ids: &[RuleId],
    ) -> StoreResult<Vec<Rule>>;
    /// Makes a rule live again, at the policy's new revision, and returns it with the mark of its
    /// new state. The caller has checked that its name is free, and that its content is new unless
    /// duplicates are kept.
    async fn restore(&mut self, rule: Rule, duplicates: Duplicates) -> StoreResult<Rule>;
}

/// Reads of the audit trail.
#[async_trait]
pub trait AuditReader: Send {
    /// A page of the events that were written under the caller's tenants, including those of purged
    /// resources.
    async fn page(
        &mut self,
        who: &Visibility,
        filter: &AuditFilter,
        order: &[SortKey<AuditField>],
        page: &PageRequest,
    ) -> StoreResult<Page<AuditRecord>>;
    /// Whether an event is in the chain of a policy. Each event has the hash of the one before it,
    /// so all earlier events are then in the chain too. Costs one statement.
    async fn is_in_chain(&mut self, policy: PolicyId, head: Head) -> StoreResult<bool>;
}

/// Writes of the audit trail: append-only, a chain of hashes for each policy and each firewall. The
/// caller has locked or created the chain's policy or firewall in the same unit of work. It appends
/// before it writes the change of that resource, since the chain's head is written with it.
#[async_trait]
pub trait AuditWriter: Send {
    /// Writes one event in the transaction of the change.
    async fn append(&mut self, event: &AuditEvent) -> StoreResult<()>;
    /// Writes the events of a change of many resources.
    async fn append_all(&mut self, events: &[AuditEvent]) -> StoreResult<()>;
}

/// Stored answers, so that a repeated request gets the answer of the first one.
#[async_trait]
pub trait AnswerStore: Send {
    /// Claims a key for the current request, or finds what is stored under it. If a concurrent
    /// request has just claimed the key, this waits until that request ends.
    async fn claim(&mut self, claim: &Claim) -> StoreResult<Claimed>;
    /// Stores the answer under the claimed key.
    async fn keep(&mut self, claim: &Claim, answer: &KeptAnswer) -> StoreResult<()>;
}

/// Removal of data that is kept only for a limited time.
#[async_trait]
pub trait Upkeep: Send {
    /// Removes permanently some of the rows that were deleted before `deleted_before`, and of the
    /// answers from before `kept_before`: roughly `rows` rows. Waits while another process purges.
    async fn purge(
        &mut self,
        deleted_before: Instant,
        kept_before: Instant,
        rows: u32,
    ) -> StoreResult<Purged>;
}

//! What a storage offers: repositories that share one unit of work.
//!
//! To add a repository: write a trait of what it reads and one of what it writes here, give
//! [`ReadUnit`] an accessor for the first and [`WriteUnit`] one for the second, implement all of it
//! in the storage crate. Lookups answer `Option`: the use case decides that absence is an error.
//! Every lookup takes the caller's [`Visibility`] and sees live rows under live parents alone.

mod units;

use async_trait::async_trait;

use crate::actor::Visibility;
use crate::audit::{AuditAction, AuditEvent, AuditRecord};
use crate::error::{Resource, StoreError};
use crate::filter::Expression;
use crate::firewall::{Firewall, FirewallSpec};
use crate::ids::{FirewallId, PolicyId, Revision, RuleId};
use crate::net::{AddressRange, PortRange};
use crate::page::{Page, PageRequest, SortKey};
use crate::policy::{Policy, PolicyRef, PolicySpec};
use crate::rule::fingerprint::Fingerprint;
use crate::rule::order::Place;
use crate::rule::{Action, Rule, RuleSpec, RuleState};
use crate::text::Name;
use crate::time::Instant;
use crate::usecase::rule::Duplicates;
use crate::usecase::rule_set::RuleChanges;

pub use units::{Party, ReadKind, ReadUnit, Storage, Terms, WriteKind, WriteUnit};

/// The result of a repository's method.
pub type StoreResult<T> = Result<T, StoreError>;

/// When and by whom something is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// When.
    pub at: Instant,
    /// By whom: the token's subject.
    pub by: String,
}

macro_rules! fields {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[expect(missing_docs, reason = "each is the field of the same name")]
        pub enum $name { $($variant),+ }

        impl $name {
            /// Every field.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name of every field.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The field's name on the wire and in the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Finds a field by its name.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|field| field.as_str() == word)
            }
        }
    };
}

fields! {
    /// What firewalls can be ordered by.
    FirewallField {
        Id = "id", Name = "name", Tenant = "tenant", Description = "description",
        PolicyCount = "policy_count", Revision = "revision", CreatedAt = "created_at",
        CreatedBy = "created_by", UpdatedAt = "updated_at", UpdatedBy = "updated_by",
    }
}
fields! {
    /// What policies can be ordered by.
    PolicyField {
        Id = "id", Name = "name", Description = "description", DefaultAction = "default_action",
        RuleCount = "rule_count", Revision = "revision", CreatedAt = "created_at",
        CreatedBy = "created_by", UpdatedAt = "updated_at", UpdatedBy = "updated_by",
    }
}
fields! {
    /// What rules can be ordered by.
    RuleField {
        Id = "id", Name = "name", Action = "action", Priority = "priority",
        IcmpType = "icmp_type", IcmpCode = "icmp_code", Enabled = "enabled", State = "state", Log = "log",
        StartsAt = "starts_at", ExpiresAt = "expires_at", Description = "description",
        Reference = "reference", Revision = "revision", CreatedAt = "created_at",
        CreatedBy = "created_by", UpdatedAt = "updated_at", UpdatedBy = "updated_by",
    }
}

fields! {
    /// What audit events can be ordered by.
    AuditField {
        Id = "id", At = "at", Subject = "subject", RequestId = "request_id",
        ClientAddress = "client_address", Reason = "reason", Action = "action",
        Resource = "resource", ResourceId = "resource_id", FirewallId = "firewall_id",
        PolicyId = "filtering_policy_id", Tenant = "tenant", Sequence = "sequence",
    }
}

/// Which audit events a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Those of this subject.
    pub subject: Option<String>,
    /// Those of this action.
    pub action: Option<AuditAction>,
    /// Those that concern things of this kind.
    pub resource: Option<Resource>,
    /// Those that concern the thing with this id.
    pub resource_id: Option<i64>,
    /// Those that concern this firewall, or what belongs to it.
    pub firewall_id: Option<FirewallId>,
    /// Those that concern this policy, or its rules.
    pub policy_id: Option<PolicyId>,
    /// Those of this request.
    pub request_id: Option<String>,
    /// Those of this instant or later.
    pub since: Option<Instant>,
    /// Those before this instant.
    pub until: Option<Instant>,
    /// Those that fit an expression of the filter language.
    pub expression: Option<Expression>,
}

/// A key that a client names a request with, and what the request is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose key it is.
    pub subject: String,
    /// The key.
    pub key: String,
    /// A hash of all that the answer depends on.
    pub fingerprint: [u8; 32],
    /// When it is asked.
    pub at: Instant,
}

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// Nothing: this is its first request.
    First,
    /// The same request was answered so.
    Repeated(KeptAnswer),
    /// Another request had it.
    Other,
}

/// An answer as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// Its status.
    pub status: u16,
    /// Its headers that are the request's own.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

/// How many rows were removed for good.
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
    /// Both together.
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

/// When rules last changed by the clock alone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    /// The last `starts_at` that has come.
    pub start: Option<Instant>,
    /// The last `expires_at` that has come.
    pub end: Option<Instant>,
}

/// Which firewalls a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FirewallFilter {
    /// Those that were deleted, in place of the live ones.
    pub deleted: bool,
    /// Those of this name.
    pub name: Option<Name>,
    /// Those that fit.
    pub expression: Option<Expression>,
}

/// Which policies a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyFilter {
    /// Those that were deleted, of live firewalls, in place of the live ones.
    pub deleted: bool,
    /// Those of this name.
    pub name: Option<Name>,
    /// Those with this default.
    pub default_action: Option<Action>,
    /// Those that fit.
    pub expression: Option<Expression>,
}

/// Which rules a list shows: addresses and ports compare with what one entry says itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFilter {
    /// Those that were deleted, of live policies, in place of the live ones. What is only found
    /// by an index (addresses, ports, labels) is not there for them.
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
    /// Those that fit.
    pub expression: Option<Expression>,
}

/// Firewalls, read.
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

/// Firewalls, written. Whoever changes one holds its lock.
#[async_trait]
pub trait FirewallWriter: Send {
    /// One firewall, held against other writers until the unit of work ends.
    async fn lock(&mut self, who: &Visibility, id: FirewallId) -> StoreResult<Option<Firewall>>;
    /// Creates one at revision 1; `Err` in the inner result is the live holder of its name.
    async fn insert(
        &mut self,
        spec: &FirewallSpec,
        stamp: &Stamp,
    ) -> StoreResult<Result<Firewall, FirewallId>>;
    /// Writes a locked firewall as it is after a change, and answers it with the mark of its new
    /// state; `Err` in the inner result is the live holder of its new name, and nothing was written.
    async fn update(
        &mut self,
        before: &Firewall,
        after: Firewall,
    ) -> StoreResult<Result<Firewall, FirewallId>>;
    /// Marks a locked firewall as deleted; its children are hidden with it.
    async fn delete(&mut self, firewall: &Firewall, stamp: &Stamp) -> StoreResult<()>;
    /// One firewall that was deleted, held against other writers until the unit of work ends.
    async fn lock_deleted(
        &mut self,
        who: &Visibility,
        id: FirewallId,
    ) -> StoreResult<Option<Firewall>>;
    /// Makes a locked firewall live again, and all that was hidden with it, and answers it with the
    /// mark of its new state; `Err` in the inner result is the live holder of its name, and nothing
    /// was written.
    async fn restore(&mut self, firewall: Firewall) -> StoreResult<Result<Firewall, FirewallId>>;
}

/// Filtering policies, read.
#[async_trait]
pub trait PolicyReader: Send {
    /// One policy of a firewall.
    async fn get(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        id: PolicyId,
    ) -> StoreResult<Option<Policy>>;
    /// A page of a firewall's policies, or of all firewalls'.
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
    /// The first of the policies that use what this process does not know, by id.
    async fn newer(&mut self, who: &Visibility, limit: u32) -> StoreResult<Vec<Policy>>;
}

/// Filtering policies, written. Whoever changes one holds its lock.
#[async_trait]
pub trait PolicyWriter: Send {
    /// One policy, held against other writers until the unit of work ends.
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
    /// Creates one under a locked firewall, at revision 1; its name was found free.
    async fn insert(
        &mut self,
        firewall: &Firewall,
        spec: &PolicySpec,
        stamp: &Stamp,
    ) -> StoreResult<Policy>;
    /// Writes a locked policy as it is after a change, and answers it with the mark of its new state;
    /// a new name was found free.
    async fn update(&mut self, before: &Policy, after: Policy) -> StoreResult<Policy>;
    /// Marks a locked policy as deleted; its rules are hidden with it.
    async fn delete(&mut self, policy: &Policy, stamp: &Stamp) -> StoreResult<()>;
    /// One policy of a live firewall that was deleted, held against other writers until the unit of
    /// work ends.
    async fn lock_deleted(
        &mut self,
        who: &Visibility,
        firewall: FirewallId,
        id: PolicyId,
    ) -> StoreResult<Option<Policy>>;
    /// Makes a locked policy live again, and the rules that were hidden with it, and answers it with
    /// the mark of its new state; its name was found free.
    async fn restore(&mut self, policy: Policy) -> StoreResult<Policy>;
}

/// Rules, read.
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
    /// A page of a policy's rules, without an order as they are evaluated; or of all policies', by
    /// id.
    async fn page(
        &mut self,
        who: &Visibility,
        parent: Option<(FirewallId, PolicyId)>,
        filter: &RuleFilter,
        order: &[SortKey<RuleField>],
        page: &PageRequest,
    ) -> StoreResult<Page<Rule>>;
    /// At most `limit` of the rules that follow a place in a policy's order of evaluation; or, of
    /// all policies', in the order of ids. Costs the same however far the place is.
    async fn following(
        &mut self,
        who: &Visibility,
        parent: Option<(FirewallId, PolicyId)>,
        filter: &RuleFilter,
        after: Option<Place>,
        limit: u32,
    ) -> StoreResult<Vec<Rule>>;
    /// The last instants, up to one, at which live rules of a policy began and ended: whatever else
    /// stays as it is, their states are the same as long as these are.
    async fn last_turns(&mut self, policy: PolicyId, at: Instant) -> StoreResult<Turns>;
    /// How many live rules of a policy come before a place in its order of evaluation, or stand
    /// at it.
    async fn count_to(&mut self, policy: PolicyId, place: Place) -> StoreResult<u64>;
    /// All live rules of a policy in order of evaluation: one statement.
    async fn all(&mut self, policy: &PolicyRef) -> StoreResult<Vec<Rule>>;
    /// How many characters the descriptions and labels of the live rules of policies have together.
    async fn text_of_policies(&mut self, policies: &[PolicyId]) -> StoreResult<u64>;
    /// All live rules of policies that were read in the same snapshot, by policy and in order of
    /// evaluation.
    async fn of_policies(&mut self, policies: &[PolicyId]) -> StoreResult<Vec<Rule>>;
    /// The rules of a policy that changed behind one of its revisions, in their content or their
    /// place, deleted ones too, but for those that are purged; at most so many.
    async fn changed_since(
        &mut self,
        policy: &PolicyRef,
        revision: Revision,
        at_most: usize,
    ) -> StoreResult<Vec<Rule>>;
}

/// Rules, written. Whoever writes holds the policy's lock, and so do the lookups here.
#[async_trait]
pub trait RuleWriter: Send {
    /// The places of all live rules of a locked policy, in order of evaluation.
    async fn order(&mut self, policy: PolicyId) -> StoreResult<Vec<Place>>;
    /// Gives rules of a locked policy other priorities, at the policy's new revision; nothing else of
    /// them changes, their own revision neither.
    async fn renumber(
        &mut self,
        policy: PolicyId,
        places: &[Place],
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
    /// A live rule of a locked policy that is equal, other than `except`, and its state.
    async fn find_equal(
        &mut self,
        policy: PolicyId,
        fingerprint: Fingerprint,
        except: Option<RuleId>,
        at: Instant,
    ) -> StoreResult<Option<(RuleId, RuleState)>>;
    /// Creates one under a locked policy; its name was found free, and its content too unless
    /// duplicates are kept.
    async fn insert(
        &mut self,
        policy: &PolicyRef,
        spec: &RuleSpec,
        revision: Revision,
        duplicates: Duplicates,
        stamp: &Stamp,
    ) -> StoreResult<Rule>;
    /// Writes a rule as it is after a change, and answers it with the mark of its new state; name and
    /// content were found free.
    async fn update(&mut self, before: &Rule, after: Rule) -> StoreResult<Rule>;
    /// Changes many rules of a locked policy at once, and notes the marks of their new states in the
    /// changed ones; the end state has no name twice, and no content unless duplicates are kept.
    /// Answers the new rules, in no order.
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
    /// One rule of a locked policy that was deleted.
    async fn get_deleted(&mut self, policy: &PolicyRef, id: RuleId) -> StoreResult<Option<Rule>>;
    /// Those of some rules of a locked policy that were deleted, in no order.
    async fn get_all_deleted(
        &mut self,
        policy: &PolicyRef,
        ids: &[RuleId],
    ) -> StoreResult<Vec<Rule>>;
    /// Makes a rule live again, at the policy's new revision, and answers it with the mark of its new
    /// state; its name was found free, and its content too unless duplicates are kept.
    async fn restore(&mut self, rule: Rule, duplicates: Duplicates) -> StoreResult<Rule>;
}

/// The audit trail, read.
#[async_trait]
pub trait AuditReader: Send {
    /// A page of the events that were written under the caller's tenants, of what was purged too.
    async fn page(
        &mut self,
        who: &Visibility,
        filter: &AuditFilter,
        order: &[SortKey<AuditField>],
        page: &PageRequest,
    ) -> StoreResult<Page<AuditRecord>>;
}

/// The audit trail, written: append-only, a chain of hashes for each policy and each firewall. Whoever
/// appends has locked or created what the chain belongs to in the same unit of work, and appends before
/// the change of that thing itself is written: the chain's head is written with it.
#[async_trait]
pub trait AuditWriter: Send {
    /// Writes one event in the transaction of the change.
    async fn append(&mut self, event: &AuditEvent) -> StoreResult<()>;
    /// Writes the events of a change of many things.
    async fn append_all(&mut self, events: &[AuditEvent]) -> StoreResult<()>;
}

/// Answers that are kept, so that a repeated request is answered as the first was.
#[async_trait]
pub trait AnswerStore: Send {
    /// Takes a key for the request under way, or finds what is kept under it. Whoever asks for a
    /// key that another request has just taken waits for that one's end.
    async fn claim(&mut self, claim: &Claim) -> StoreResult<Claimed>;
    /// Keeps the answer under the key that was taken.
    async fn keep(&mut self, claim: &Claim, answer: &KeptAnswer) -> StoreResult<()>;
}

/// What is kept only for a while.
#[async_trait]
pub trait Upkeep: Send {
    /// Removes for good some of what was deleted before an instant, and of the answers kept since
    /// before another: about so many rows. Waits while another process is at it.
    async fn purge(
        &mut self,
        deleted_before: Instant,
        kept_before: Instant,
        rows: u32,
    ) -> StoreResult<Purged>;
}

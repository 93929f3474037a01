//! Units of work: the kinds that read and write, and the terms on which they run.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use async_trait::async_trait;

use super::{
    AcceptanceReader, AcceptanceWriter, AnswerStore, AuditReader, AuditWriter, FirewallReader,
    FirewallWriter, PolicyReader, PolicyWriter, RuleReader, RuleWriter, StoreResult, Upkeep,
};
use crate::actor::{Actor, Visibility};
use crate::features::Features;
use crate::limits::PolicyLimits;

/// Repositories that read, over one state or one connection. This trait offers no writes:
///
/// ```compile_fail,E0599
/// # use fireflow_domain::store::ReadUnit;
/// fn write(unit: &mut dyn ReadUnit) {
///     unit.rules_mut();
/// }
/// ```
///
/// ```compile_fail,E0308
/// # use fireflow_domain::store::{ReadUnit, WriteUnit};
/// fn write(unit: &mut dyn ReadUnit) -> &mut dyn WriteUnit {
///     unit
/// }
/// ```
#[async_trait]
pub trait ReadUnit: Send {
    /// Firewalls.
    fn firewalls(&mut self) -> &mut dyn FirewallReader;
    /// Policies.
    fn policies(&mut self) -> &mut dyn PolicyReader;
    /// Rules.
    fn rules(&mut self) -> &mut dyn RuleReader;
    /// Accepted findings.
    fn acceptances(&mut self) -> &mut dyn AcceptanceReader;
    /// The audit trail.
    fn audit(&mut self) -> &mut dyn AuditReader;
    /// The features that this process can read. Rules of policies that use others are not returned.
    fn known_features(&self) -> Features;
    /// Ends the unit. A unit that can write is rolled back. Dropping the unit does the same later,
    /// but ignores a failure.
    ///
    /// # Errors
    /// Returns the storage's error.
    async fn end(self: Box<Self>) -> StoreResult<()>;
}

/// Repositories that read and write in one transaction. It is rolled back if the unit is dropped
/// without [`WriteUnit::commit`].
#[async_trait]
pub trait WriteUnit: ReadUnit {
    /// Writes of firewalls.
    fn firewalls_mut(&mut self) -> &mut dyn FirewallWriter;
    /// Writes of policies.
    fn policies_mut(&mut self) -> &mut dyn PolicyWriter;
    /// Writes of rules.
    fn rules_mut(&mut self) -> &mut dyn RuleWriter;
    /// Writes of accepted findings.
    fn acceptances_mut(&mut self) -> &mut dyn AcceptanceWriter;
    /// Writes of the audit trail.
    fn audit_mut(&mut self) -> &mut dyn AuditWriter;
    /// The most that a policy may hold after a write.
    fn policy_limits(&self) -> PolicyLimits;
    /// Answers of requests that may be repeated.
    fn answers(&mut self) -> &mut dyn AnswerStore;
    /// Removal of data that is kept only for a limited time.
    fn upkeep(&mut self) -> &mut dyn Upkeep;
    /// Commits all writes.
    ///
    /// # Errors
    /// Returns the storage's error, and
    /// [`StoreError::Unsettled`](crate::error::StoreError::Unsettled) if it is unknown whether the
    /// commit succeeded.
    async fn commit(self: Box<Self>) -> StoreResult<()>;
    /// Rolls all writes back.
    ///
    /// # Errors
    /// Returns the storage's error if the state that the unit read may not be saved either.
    async fn rollback(self: Box<Self>) -> StoreResult<()>;
}

/// What a unit of work reads. This determines its connections and the state that it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadKind {
    /// Single resources: each statement by itself, without a transaction.
    Single,
    /// Several statements that see one state.
    Snapshot,
    /// A page of a list, within the time that the storage allows. A replica may serve it, whose
    /// state may be a little old.
    Page,
    /// A page of a list that is compared with a state, and therefore never old.
    FreshPage,
    /// A list that is read to its end in one state. A replica may serve it.
    Export,
    /// Like [`ReadKind::Export`], but never old.
    FreshExport,
    /// All rules of a policy in one state, which are then compiled.
    Compilation,
}

/// What a unit of work writes. This determines which other units it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// A few rows. On SQLite, one unit writes at a time, and concurrent units may share a commit,
    /// so they succeed or fail together.
    Few,
    /// Perhaps many rows. Such a unit shares its commit with no other, and such units take turns.
    Many,
}

/// The party that a unit of work runs for, so that a storage can be fair: tenants get equal shares,
/// and so do the subjects within a tenant. Different subjects are equal parties with a chance of 1
/// in 2^64; they then share one turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Party {
    tenant: u64,
    subject: u64,
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

impl Party {
    /// The party of a subject and its tenants. A subject that sees all tenants counts as its own
    /// tenant.
    #[must_use]
    pub fn of(actor: &Actor) -> Self {
        let subject = hash(&actor.subject);
        let tenant = match &actor.visibility {
            Visibility::All => subject,
            Visibility::Tenants(tenants) => hash(tenants),
        };
        Self { tenant, subject }
    }

    /// A number that is equal for all subjects of a tenant.
    #[must_use]
    pub const fn tenant(self) -> u64 {
        self.tenant
    }
}

/// The terms of a unit of work: the party that it runs for, and its deadline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// The party; by default the service itself.
    pub party: Party,
    /// The time after which nobody waits for the result. Neither the wait for a turn nor a
    /// statement lasts longer. None: no deadline.
    pub deadline: Option<Instant>,
}

/// A storage.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Begins a unit of work that reads.
    ///
    /// # Errors
    /// Returns [`StoreError::Unavailable`](crate::error::StoreError::Unavailable) if no connection
    /// becomes free in time, or the database is unreachable.
    async fn read(&self, kind: ReadKind, terms: &Terms) -> StoreResult<Box<dyn ReadUnit>>;
    /// Begins a unit of work that writes.
    ///
    /// # Errors
    /// Returns [`StoreError::Unavailable`](crate::error::StoreError::Unavailable) if its turn does
    /// not come in time, or the database is unreachable.
    async fn write(&self, kind: WriteKind, terms: &Terms) -> StoreResult<Box<dyn WriteUnit>>;
    /// The most that a policy may hold after a write.
    fn policy_limits(&self) -> PolicyLimits {
        PolicyLimits::default()
    }
    /// A number that changes with each commit. A state that is read after the number stays current
    /// as long as the number stays the same. None if that cannot be known: other processes may
    /// write too, or a commit is in progress.
    fn commits(&self) -> Option<u64> {
        None
    }
    /// Whether the database answers, can be written to, and has all migrations.
    async fn is_ready(&self) -> StoreResult<bool>;
}

//! Units of work: what reads, what writes, on whose behalf and for how long.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Instant;

use async_trait::async_trait;

use super::{
    AnswerStore, AuditReader, AuditWriter, FirewallReader, FirewallWriter, PolicyReader,
    PolicyWriter, RuleReader, RuleWriter, StoreResult, Upkeep,
};
use crate::actor::{Actor, Visibility};
use crate::features::Features;
use crate::limits::PolicyLimits;

/// Repositories that read, over one state or one connection. It offers nothing that writes:
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
    /// The audit trail.
    fn audit(&mut self) -> &mut dyn AuditReader;
    /// What this process can read of what policies use: rules of other policies are not answered.
    fn known_features(&self) -> Features;
    /// Ends it. Dropping it does the same later, and nobody hears if that fails. A unit that could
    /// write is undone.
    ///
    /// # Errors
    /// The storage's.
    async fn end(self: Box<Self>) -> StoreResult<()>;
}

/// Repositories that read and write in one transaction. Dropped without [`WriteUnit::commit`], all
/// is undone.
#[async_trait]
pub trait WriteUnit: ReadUnit {
    /// Firewalls, written.
    fn firewalls_mut(&mut self) -> &mut dyn FirewallWriter;
    /// Policies, written.
    fn policies_mut(&mut self) -> &mut dyn PolicyWriter;
    /// Rules, written.
    fn rules_mut(&mut self) -> &mut dyn RuleWriter;
    /// The audit trail, written.
    fn audit_mut(&mut self) -> &mut dyn AuditWriter;
    /// The most that a policy may hold after a write.
    fn policy_limits(&self) -> PolicyLimits;
    /// Answers of requests that may be repeated.
    fn answers(&mut self) -> &mut dyn AnswerStore;
    /// What is kept only for a while.
    fn upkeep(&mut self) -> &mut dyn Upkeep;
    /// Makes all of it last.
    ///
    /// # Errors
    /// The storage's; [`StoreError::Unsettled`](crate::error::StoreError::Unsettled) if nobody
    /// knows whether it lasted.
    async fn commit(self: Box<Self>) -> StoreResult<()>;
    /// Undoes all of it.
    ///
    /// # Errors
    /// The storage's, if what the unit answered may not last either.
    async fn rollback(self: Box<Self>) -> StoreResult<()>;
}

/// What a unit of work reads: it decides which connections serve it, and what it sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadKind {
    /// Single resources, each statement by itself, without a transaction.
    Single,
    /// Several statements that see one state.
    Snapshot,
    /// A page of a list, within the time that the storage allows; perhaps a replica's state, which
    /// may be a little old.
    Page,
    /// A page of a list that is compared with a state: never old.
    FreshPage,
    /// A list that is read to its end, of one state; perhaps a replica's.
    Export,
    /// The same, but never old.
    FreshExport,
    /// All rules of a policy, of one state, to be compiled.
    Compilation,
}

/// What a unit of work writes: it decides whom it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WriteKind {
    /// A few rows. On SQLite one unit writes at a time, and those that come at the same time may
    /// last or fail together.
    Few,
    /// Perhaps many rows: others do not share its end, and such units take turns.
    Many,
}

/// On whose behalf something is done, so that a storage can be fair: tenants share alike, and within
/// a tenant its subjects. Equal parties may be different people, with a chance of 1 in 2^64; they
/// share a turn then.
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
    /// A subject of a tenant. A subject that sees all tenants is one by itself.
    #[must_use]
    pub fn of(actor: &Actor) -> Self {
        let subject = hash(&actor.subject);
        let tenant = match &actor.visibility {
            Visibility::All => subject,
            Visibility::Tenants(tenants) => hash(tenants),
        };
        Self { tenant, subject }
    }

    /// Equal for all subjects of a tenant.
    #[must_use]
    pub const fn tenant(self) -> u64 {
        self.tenant
    }
}

/// The terms of a unit of work: on whose behalf it runs, and when its result is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Terms {
    /// On whose behalf; the service's own unless it is set.
    pub party: Party,
    /// When nobody waits for it any more: neither a turn nor a statement takes longer. No end
    /// unless it is set.
    pub deadline: Option<Instant>,
}

/// A storage.
#[async_trait]
pub trait Storage: Send + Sync {
    /// Begins a unit of work that reads.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`](crate::error::StoreError::Unavailable) if no connection is free
    /// in time, or the database is away.
    async fn read(&self, kind: ReadKind, terms: &Terms) -> StoreResult<Box<dyn ReadUnit>>;
    /// Begins a unit of work that writes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`](crate::error::StoreError::Unavailable) if its turn does not come
    /// in time, or the database is away.
    async fn write(&self, kind: WriteKind, terms: &Terms) -> StoreResult<Box<dyn WriteUnit>>;
    /// The most that a policy may hold after a write.
    fn policy_limits(&self) -> PolicyLimits {
        PolicyLimits::default()
    }
    /// A number that is another one after each commit. What was read behind one is still so as long
    /// as it is the same. None where that cannot be known: others may write too, or a commit is
    /// under way.
    fn commits(&self) -> Option<u64> {
        None
    }
    /// Whether the database answers, can be written to, and has all migrations.
    async fn is_ready(&self) -> StoreResult<bool>;
}

//! Verifies derived data, and repairs it: counters, search columns, fingerprints, and the tables of
//! addresses, ports and labels.
//!
//! Verification reads everything in one snapshot, in bounded steps, and writes nothing. In a
//! repair, each step is a transaction that locks the rows it examines, in the same order as all
//! other writers. A repair may run next to processes that serve PostgreSQL; a SQLite file belongs
//! to one process.

mod rules;
mod steps;

use std::fmt;

use fireflow_domain::error::Resource;
use fireflow_domain::features::Features;
use sea_orm::{ConnectionTrait, DatabaseExecutor, DatabaseTransaction, DbErr};

use crate::options::DatabaseOptions;
use crate::store::Database;
use crate::verify::{self, VerifyError, rows};

/// The owner of a derived value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowOwner {
    /// Its kind.
    pub kind: Resource,
    /// Its id.
    pub id: i64,
}

impl fmt::Display for RowOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.id)
    }
}

/// A difference between a stored value and its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFault {
    /// A counter is wrong.
    Counter {
        /// The owner.
        owner: RowOwner,
        /// The column.
        column: &'static str,
        /// The stored value.
        stored: i64,
        /// The correct value.
        counted: i64,
    },
    /// A derived column does not match its row.
    Column {
        /// The owner.
        owner: RowOwner,
        /// The column.
        column: &'static str,
    },
    /// Rows of a derived table do not match their owner.
    Rows {
        /// The owner.
        owner: RowOwner,
        /// The table.
        table: &'static str,
        /// How many are missing.
        missing: usize,
        /// How many are surplus.
        surplus: usize,
    },
    /// Rows of a derived table have no owner.
    Strays {
        /// The table.
        table: &'static str,
        /// The id of the missing owner.
        owner: i64,
        /// How many rows.
        rows: i64,
    },
    /// A row contains an unreadable value, so nothing can be derived from it. A repair cannot fix
    /// it.
    Unreadable {
        /// The row.
        owner: RowOwner,
        /// The reason.
        why: String,
    },
}

impl RowFault {
    /// Whether a repair can fix it.
    #[must_use]
    pub const fn is_repairable(&self) -> bool {
        match self {
            Self::Counter { .. }
            | Self::Column { .. }
            | Self::Rows { .. }
            | Self::Strays { .. } => true,
            Self::Unreadable { .. } => false,
        }
    }
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter { owner, column, stored, counted } => {
                write!(f, "{owner}: {column} is {stored}, but there are {counted}")
            }
            Self::Column { owner, column } => {
                write!(f, "{owner}: {column} differs from the data that it is derived from")
            }
            Self::Rows { owner, table, missing, surplus } => {
                write!(f, "{owner}: {table} lacks {missing} rows and has {surplus} too many")
            }
            Self::Strays { table, owner, rows } => {
                write!(f, "{table}: {rows} rows belong to id {owner}, which does not exist")
            }
            Self::Unreadable { owner, why } => write!(f, "{owner}: {why}"),
        }
    }
}

/// A finding of the verification, or its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFinding {
    /// A fault; if a repair can fix it, it has already done so.
    Fault(RowFault),
    /// A policy that uses features unknown to this version: it is left out.
    LeftOut {
        /// Its id.
        policy: i64,
        /// The unknown features.
        features: Features,
    },
    /// This many rules have been read.
    Progress(u64),
}

/// The number of rows that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Firewalls, deleted ones too.
    pub firewalls: u64,
    /// Policies, including deleted ones, without those that were left out.
    pub policies: u64,
    /// Rules, deleted ones too.
    pub rules: u64,
}

/// Receives each finding as soon as it is made.
pub type RowReport<'a> = &'a mut (dyn FnMut(RowFinding) + Send);

/// Verifies all derived data in one snapshot. It reads all rules and the data derived from them,
/// and uses a few megabytes of memory. The database may be served at the same time.
///
/// # Errors
/// Returns an error if there is no database, migrations are pending, or it does not answer. Faults
/// are reported.
pub async fn verify_rows(
    options: &DatabaseOptions,
    report: RowReport<'_>,
) -> Result<RowCounts, VerifyError> {
    let connection = verify::open_to_read(options).await?;
    let snapshot = verify::snapshot(&connection).await?;
    let work = Work::Verify(&snapshot, options.features);
    let result = work.run(report).await;
    snapshot.rollback().await?;
    connection.close().await?;
    result
}

/// Repairs all derived data in many short transactions. Data that this process cannot read stays as
/// it is. The audit trail is not touched: nothing that a user wrote changes.
///
/// # Errors
/// Returns an error if the database does not answer; completed repairs are kept.
pub async fn repair_rows(
    database: &Database,
    report: RowReport<'_>,
) -> Result<RowCounts, VerifyError> {
    Work::Repair(database).run(report).await
}

/// A policy, and the features that it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFeatures {
    /// Its id.
    pub policy: i64,
    /// Its firewall.
    pub firewall: i64,
    /// Its name.
    pub name: String,
    /// The features that it uses beyond those in question.
    pub features: Features,
    /// Whether it was deleted: it may be restored.
    pub is_deleted: bool,
}

/// How many policies are read at once.
const POLICIES_AT_ONCE: usize = 1_000;

/// Reports the policies that use more than some features, by id. The database may be served at the
/// same time.
///
/// # Errors
/// Returns an error if there is no database, migrations are pending, or it does not answer.
pub async fn newer_policies(
    options: &DatabaseOptions,
    known: Features,
    report: &mut (dyn FnMut(PolicyFeatures) + Send),
) -> Result<(), VerifyError> {
    let connection = verify::open_to_read(options).await?;
    let unknown = !known.bits().cast_signed();
    let mut after = i64::MIN;
    loop {
        let sql = format!(
            "SELECT id, firewall_id, name, features, deleted_at IS NOT NULL FROM policy \
             WHERE features <> 0 AND id > {after} ORDER BY id LIMIT {POLICIES_AT_ONCE}"
        );
        let page = rows(&connection, sql).await?;
        for row in &page {
            let bits: i64 = row.try_get_by_index(3)?;
            after = row.try_get_by_index(0)?;
            let features = Features::from_bits((bits & unknown).cast_unsigned());
            if !features.is_empty() {
                report(PolicyFeatures {
                    policy: after,
                    firewall: row.try_get_by_index(1)?,
                    name: row.try_get_by_index(2)?,
                    features,
                    is_deleted: row.try_get_by_index(4)?,
                });
            }
        }
        if page.len() < POLICIES_AT_ONCE {
            connection.close().await?;
            return Ok(());
        }
    }
}

/// A part of the work, which is one transaction of a repair.
#[derive(Debug, Clone, Copy)]
enum Task {
    /// The next firewalls after an id.
    Firewalls { after: i64 },
    /// The next policies after an id.
    Policies { after: i64 },
    /// The counters of a policy.
    Counters { policy: i64 },
    /// The next rules after an id.
    Rules { after: i64 },
    /// Rows of a derived table after an id whose owners do not exist.
    Strays { table: DerivedTable, after: i64 },
}

/// A table whose rows are derived from others.
#[derive(Debug, Clone, Copy)]
struct DerivedTable {
    name: &'static str,
    /// The column with the owner's id, and the owner's table.
    owner: &'static str,
    of: &'static str,
}

const DERIVED: [DerivedTable; 5] = [
    DerivedTable { name: "firewall_label", owner: "owner_id", of: "firewall" },
    DerivedTable { name: "policy_label", owner: "owner_id", of: "policy" },
    DerivedTable { name: "rule_label", owner: "owner_id", of: "rule" },
    DerivedTable { name: "rule_address", owner: "rule_id", of: "rule" },
    DerivedTable { name: "rule_port", owner: "rule_id", of: "rule" },
];

/// The result of a task.
#[derive(Debug, Default)]
struct Done {
    faults: Vec<RowFault>,
    /// The id that the next such task continues after; `None` if this was the last.
    next: Option<i64>,
    /// The policies that were read, and whether they have counters to verify.
    policies: Vec<SeenPolicy>,
    /// How many rows of the task's kind were read.
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct SeenPolicy {
    id: i64,
    /// The features that it uses and this process does not know.
    unknown: Features,
    has_counters: bool,
}

/// The connection and the settings of a task.
struct Step<'a> {
    db: DatabaseExecutor<'a>,
    repairs: bool,
    known: Features,
}

impl Step<'_> {
    /// The end of a statement that reads rows to repair: it locks them against other writers.
    fn lock(&self) -> &'static str {
        let locks = self.repairs && self.db.get_database_backend() == sea_orm::DbBackend::Postgres;
        if locks { " FOR NO KEY UPDATE" } else { "" }
    }

    async fn run(&self, task: Task) -> Result<Done, VerifyError> {
        match task {
            Task::Firewalls { after } => self.firewalls(after).await,
            Task::Policies { after } => self.policies(after).await,
            Task::Counters { policy } => self.counters(policy).await,
            Task::Rules { after } => self.rules(after).await,
            Task::Strays { table, after } => Ok(self.strays(table, after).await?),
        }
    }

    async fn execute(&self, sql: String) -> Result<(), DbErr> {
        let statement = sea_orm::Statement::from_string(self.db.get_database_backend(), sql);
        self.db.execute_raw(statement).await.map(drop)
    }
}

enum Work<'a> {
    Verify(&'a DatabaseTransaction, Features),
    Repair(&'a Database),
}

impl Work<'_> {
    async fn step(&self, task: Task) -> Result<Done, VerifyError> {
        match self {
            Self::Verify(snapshot, known) => {
                let db = DatabaseExecutor::Transaction(snapshot);
                Step { db, repairs: false, known: *known }.run(task).await
            }
            Self::Repair(database) => {
                let unit = database.writing_unit().await?;
                let done = async {
                    // A purge also removes derived rows, and locks many policies.
                    unit.wait_for_other_purges().await?;
                    let known = database.options().features;
                    Step {
                        db: DatabaseExecutor::Transaction(unit.transaction()?),
                        repairs: true,
                        known,
                    }
                    .run(task)
                    .await
                };
                let done = done.await;
                let unit: Box<dyn fireflow_domain::store::WriteUnit> = Box::new(unit);
                match done {
                    Ok(done) => unit.commit().await.map(|()| done).map_err(VerifyError::from),
                    Err(error) => {
                        unit.rollback().await?;
                        Err(error)
                    }
                }
            }
        }
    }

    async fn run(&self, report: RowReport<'_>) -> Result<RowCounts, VerifyError> {
        let mut counts = RowCounts::default();
        let mut after = Some(i64::MIN);
        while let Some(id) = after {
            let done = self.step(Task::Firewalls { after: id }).await?;
            after = done.next;
            counts.firewalls = counts.firewalls.saturating_add(done.count);
            done.faults.into_iter().for_each(|fault| report(RowFinding::Fault(fault)));
        }
        let mut after = Some(i64::MIN);
        while let Some(id) = after {
            let done = self.step(Task::Policies { after: id }).await?;
            after = done.next;
            done.faults.into_iter().for_each(|fault| report(RowFinding::Fault(fault)));
            for SeenPolicy { id: policy, unknown, has_counters } in done.policies {
                if !unknown.is_empty() {
                    report(RowFinding::LeftOut { policy, features: unknown });
                    continue;
                }
                counts.policies = counts.policies.saturating_add(1);
                if has_counters {
                    let done = self.step(Task::Counters { policy }).await?;
                    done.faults.into_iter().for_each(|fault| report(RowFinding::Fault(fault)));
                }
            }
        }
        let mut after = Some(i64::MIN);
        while let Some(id) = after {
            let done = self.step(Task::Rules { after: id }).await?;
            after = done.next;
            counts.rules = counts.rules.saturating_add(done.count);
            done.faults.into_iter().for_each(|fault| report(RowFinding::Fault(fault)));
            report(RowFinding::Progress(counts.rules));
        }
        for table in DERIVED {
            let mut after = Some(i64::MIN);
            while let Some(id) = after {
                let done = self.step(Task::Strays { table, after: id }).await?;
                after = done.next;
                done.faults.into_iter().for_each(|fault| report(RowFinding::Fault(fault)));
            }
        }
        Ok(counts)
    }
}

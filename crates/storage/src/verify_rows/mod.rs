//! Verifies what is derived: counters, columns to search by, fingerprints, and the tables of addresses,
//! ports and labels; and repairs it.
//!
//! To verify, all is read in one snapshot, in bounded steps, and nothing is written. To repair, each
//! step is a transaction of its own that locks what it looks at, in the order of all other writers:
//! it may run next to processes that serve PostgreSQL; a SQLite file belongs to one process.

mod rules;
mod steps;

use std::fmt;

use fireflow_domain::error::Resource;
use fireflow_domain::features::Features;
use sea_orm::{ConnectionTrait, DatabaseExecutor, DatabaseTransaction, DbErr};

use crate::connect::DatabaseOptions;
use crate::store::Database;
use crate::verify::{self, VerifyError, rows};

/// What a derived value belongs to.
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

/// A difference between what is stored and what it is derived from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFault {
    /// A counter is wrong.
    Counter {
        /// Whose.
        owner: RowOwner,
        /// The column.
        column: &'static str,
        /// What it holds.
        stored: i64,
        /// What there is.
        counted: i64,
    },
    /// A column is not what its row says.
    Column {
        /// Whose.
        owner: RowOwner,
        /// The column.
        column: &'static str,
    },
    /// Rows of a derived table are not what their owner says.
    Rows {
        /// Whose.
        owner: RowOwner,
        /// The table.
        table: &'static str,
        /// How many are not there.
        missing: usize,
        /// How many are too many.
        surplus: usize,
    },
    /// Rows of a derived table belong to nothing.
    Strays {
        /// The table.
        table: &'static str,
        /// The id of what is not there.
        owner: i64,
        /// How many rows.
        rows: i64,
    },
    /// A row holds what cannot be read: nothing can be derived from it. No repair mends it.
    Unreadable {
        /// Which.
        owner: RowOwner,
        /// What is wrong.
        why: String,
    },
}

impl RowFault {
    /// Whether a repair mends it.
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
                write!(f, "{owner}: {column} differs from what it is made of")
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

/// What verifying finds, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFinding {
    /// Something is wrong; a repair has mended it by now, if it can.
    Fault(RowFault),
    /// A policy that uses what this version does not know: it is left out.
    LeftOut {
        /// Its id.
        policy: i64,
        /// What this version does not know.
        features: Features,
    },
    /// So many rules have been read.
    Progress(u64),
}

/// How much was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Firewalls, deleted ones too.
    pub firewalls: u64,
    /// Policies, deleted ones too, without those that were left out.
    pub policies: u64,
    /// Rules, deleted ones too.
    pub rules: u64,
}

/// Who hears of what is found, as soon as it is.
pub type RowReport<'a> = &'a mut (dyn FnMut(RowFinding) + Send);

/// Verifies all that is derived, in one snapshot. Costs the reading of all rules and of what is derived
/// of them; in memory a few megabytes. The database may be served meanwhile.
///
/// # Errors
/// Returns an error if there is no database, migrations are pending, or it does not answer; what is
/// wrong is reported.
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

/// Repairs all that is derived, in many short transactions. What this process cannot read stays as it is.
/// The audit trail is not touched: nothing that anybody wrote changes.
///
/// # Errors
/// Returns an error if the database does not answer; what was repaired until then stays so.
pub async fn repair_rows(
    database: &Database,
    report: RowReport<'_>,
) -> Result<RowCounts, VerifyError> {
    Work::Repair(database).run(report).await
}

/// A policy, and what it uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyFeatures {
    /// Its id.
    pub policy: i64,
    /// Its firewall.
    pub firewall: i64,
    /// Its name.
    pub name: String,
    /// What it uses beyond what was asked about.
    pub features: Features,
    /// Whether it was deleted: it may be restored.
    pub is_deleted: bool,
}

/// How many policies are read at once.
const POLICIES_AT_ONCE: usize = 1_000;

/// Reports the policies that use more than some features, by id. The database may be served meanwhile.
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

/// A part of the work that is one transaction of a repair.
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
    /// Rows of a derived table whose owners, after an id, do not exist.
    Strays { table: DerivedTable, after: i64 },
}

/// A table whose rows are derived from others.
#[derive(Debug, Clone, Copy)]
struct DerivedTable {
    name: &'static str,
    /// The column with the id of what its rows are derived from, and that one's table.
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

/// What a task has found.
#[derive(Debug, Default)]
struct Done {
    faults: Vec<RowFault>,
    /// What the next such task comes after; none if this was the last.
    next: Option<i64>,
    /// The policies that were read, and whether they have counters to verify.
    policies: Vec<SeenPolicy>,
    /// How many rows of the task's kind were read.
    count: u64,
}

#[derive(Debug, Clone, Copy)]
struct SeenPolicy {
    id: i64,
    /// What it uses that is not known.
    unknown: Features,
    has_counters: bool,
}

/// Where a task runs.
struct Step<'a> {
    db: DatabaseExecutor<'a>,
    repairs: bool,
    known: Features,
}

impl Step<'_> {
    /// What a statement ends with that reads rows to mend: others do not write them meanwhile.
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
                    // A purge removes what is derived, too, and takes the locks of many policies.
                    unit.wait_for_other_purges().await?;
                    let known = database.options().features;
                    Step { db: unit.db(), repairs: true, known }.run(task).await
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

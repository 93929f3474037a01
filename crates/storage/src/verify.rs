//! Verifies the chains of the audit trail. Reads every event once, in one snapshot, a few megabytes
//! at a time, and writes nothing. It may run while the database is served.

use std::fmt;

use fireflow_domain::audit_chain::{Chain, EventHash, Head};
use fireflow_domain::error::{Resource, StoreError};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, QueryResult,
    Statement, TransactionOptions, TransactionTrait,
};

use crate::backup;
use crate::connect;
use crate::database_url::DatabaseKind;
use crate::open_error::OpenError;
use crate::options::DatabaseOptions;
use crate::replica::read_only;
use crate::steps::{StepState, steps};
use crate::verify_walk::Walk;

/// A fault of the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditFault {
    /// The event's content does not match its hash.
    HashDiffers {
        /// Its chain.
        chain: Chain,
        /// Its position there.
        sequence: i64,
        /// Its id.
        event: i64,
    },
    /// The event does not name the hash of the event before it, or of the chain's beginning.
    PredecessorDiffers {
        /// Its chain.
        chain: Chain,
        /// Its position there.
        sequence: i64,
        /// Its id.
        event: i64,
    },
    /// Events of a chain are missing.
    Missing {
        /// The chain.
        chain: Chain,
        /// The position of the first.
        first: i64,
        /// The position of the last.
        last: i64,
        /// The id of the event that follows; `None` at the end of the chain.
        before: Option<i64>,
    },
    /// The event's position is taken by another, or its id is not above its predecessor's.
    OutOfOrder {
        /// Its chain.
        chain: Chain,
        /// Its position there.
        sequence: i64,
        /// Its id.
        event: i64,
    },
    /// The last event is not the one that the stored head names.
    HeadDiffers {
        /// The chain.
        chain: Chain,
        /// The last event's position.
        last: i64,
        /// The last event's id.
        event: i64,
        /// The position that the stored head names; `None` if there is no stored head.
        stored: Option<i64>,
    },
    /// A head that was kept elsewhere is no longer in its chain.
    HeadLost {
        /// The chain.
        chain: Chain,
        /// The head.
        head: Head,
        /// The id of the event at its position; `None` if there is none.
        event: Option<i64>,
    },
    /// The event has no position in a chain, although it is newer than the chains.
    NotChained {
        /// Its id.
        event: i64,
    },
    /// The number of events from before the chains has changed.
    UnchainedCount {
        /// How many there were.
        expected: i64,
        /// How many there are.
        found: i64,
    },
    /// A newer version chained the event, and this one cannot compute its hash.
    UnknownVersion {
        /// Its chain.
        chain: Chain,
        /// Its id.
        event: i64,
    },
    /// The row cannot be read as an event.
    Unreadable {
        /// Its id, if that can be read.
        event: Option<i64>,
    },
    /// A trigger that refuses to change the trail is missing or switched off.
    NoGuard {
        /// Its name.
        trigger: &'static str,
    },
}

impl fmt::Display for AuditFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HashDiffers { chain, sequence, event } => write!(
                f,
                "{chain}: event {event} (sequence {sequence}): its hash differs from its content"
            ),
            Self::PredecessorDiffers { chain, sequence, event } => write!(
                f,
                "{chain}: event {event} (sequence {sequence}): its predecessor is missing or has \
                 another hash"
            ),
            Self::Missing { chain, first, last, before } => {
                let count = last.saturating_sub(*first).saturating_add(1);
                write!(f, "{chain}: {count} events are missing (sequence {first} to {last})")?;
                match before {
                    Some(event) => write!(f, " before event {event}"),
                    None => f.write_str(" at its end"),
                }
            }
            Self::OutOfOrder { chain, sequence, event } => write!(
                f,
                "{chain}: event {event} (sequence {sequence}): its position or id is out of order"
            ),
            Self::HeadDiffers { chain, last, event, stored } => {
                write!(f, "{chain}: event {event} (sequence {last}) is the last, but ")?;
                match stored {
                    Some(stored) => {
                        write!(f, "the stored head is another one (sequence {stored})")
                    }
                    None => f.write_str("there is no stored head"),
                }
            }
            Self::HeadLost { chain, head, event } => {
                let Head { sequence, hash } = head;
                write!(f, "{chain}: the head {} (sequence {sequence}) is not in ", hash.to_hex())?;
                f.write_str("the chain any more")?;
                match event {
                    Some(event) => write!(f, "; event {event} is in its place"),
                    None => Ok(()),
                }
            }
            Self::NotChained { event } => write!(f, "event {event} is in no chain"),
            Self::UnchainedCount { expected, found } => write!(
                f,
                "{found} events are older than the chains; there were {expected} when these began"
            ),
            Self::UnknownVersion { chain, event } => write!(
                f,
                "{chain}: event {event} has a hash of an unknown version; use a newer fireflow"
            ),
            Self::Unreadable { event: Some(event) } => write!(f, "event {event} cannot be read"),
            Self::Unreadable { event: None } => f.write_str("an event cannot be read"),
            Self::NoGuard { trigger } => {
                write!(f, "the trigger {trigger} is missing or disabled")
            }
        }
    }
}

/// A finding of the verification, in the order of chains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditFinding {
    /// A chain was read to its end.
    Chain(Chain, Head),
    /// A fault was found.
    Fault(AuditFault),
}

/// The number of chains and events that were read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditCounts {
    /// Chains with at least one event.
    pub chains: u64,
    /// Events in them.
    pub events: u64,
    /// Events from before the chains.
    pub unchained: u64,
}

/// Why the trail cannot be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// There is no database.
    #[error("the database {} does not exist", .0.display())]
    Missing(std::path::PathBuf),
    /// The schema is older than the chains.
    #[error("migrations are pending: run `fireflow migrate up` first")]
    Pending,
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database refused a statement.
    #[error("the database cannot be read")]
    Database(#[from] DbErr),
    /// A repair failed; what was repaired until then stays so.
    #[error("the repair has stopped; its completed steps remain")]
    Repair(#[from] StoreError),
}

/// Receives each finding as soon as it is made.
pub type Report<'a> = &'a mut (dyn FnMut(AuditFinding) + Send);

/// How many heads are looked up at once.
const HEADS_AT_ONCE: usize = 500;

/// A connection that only reads the audit trail.
#[derive(Debug)]
pub struct AuditTrail {
    connection: DatabaseConnection,
}

impl AuditTrail {
    /// Opens a database to read it, even while another process serves it.
    ///
    /// # Errors
    /// Returns an error if there is no database, it cannot be reached, or migrations are pending.
    pub async fn open(options: &DatabaseOptions) -> Result<Self, VerifyError> {
        Ok(Self { connection: open_to_read(options).await? })
    }

    /// Reads every chain in one snapshot. It reads and hashes all events, and uses a few megabytes
    /// of memory.
    ///
    /// # Errors
    /// Returns an error if the database does not answer; what is wrong with the trail is reported.
    pub async fn verify(&self, report: Report<'_>) -> Result<AuditCounts, VerifyError> {
        let snapshot = snapshot(&self.connection).await?;
        let result = verify(&snapshot, report).await;
        snapshot.rollback().await?;
        Ok(result?)
    }

    /// Looks up heads that were kept elsewhere, in the present state of the trail: it may have
    /// grown since it was verified. Two statements for each 500 heads.
    ///
    /// # Errors
    /// Returns an error if the database does not answer; heads that are not found are reported.
    pub async fn look_up(
        &self,
        heads: &[(Chain, Head)],
        report: Report<'_>,
    ) -> Result<(), VerifyError> {
        for heads in heads.chunks(HEADS_AT_ONCE) {
            for kind in [Resource::Firewall, Resource::Policy] {
                let heads: Vec<&(Chain, Head)> =
                    heads.iter().filter(|(chain, _)| chain.resource() == kind).collect();
                self.look_up_of(kind, &heads, report).await?;
            }
        }
        Ok(())
    }

    async fn look_up_of(
        &self,
        kind: Resource,
        heads: &[&(Chain, Head)],
        report: Report<'_>,
    ) -> Result<(), VerifyError> {
        if heads.is_empty() {
            return Ok(());
        }
        let places: Vec<String> = heads
            .iter()
            .map(|(chain, head)| format!("({},{})", chain.id(), head.sequence))
            .collect();
        let (owner, of_kind) = owner(kind);
        let sql = format!(
            "SELECT {owner}, sequence, id, hash FROM audit_event \
             WHERE {of_kind} AND ({owner}, sequence) IN (VALUES {})",
            places.join(",")
        );
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        let mut found: std::collections::HashMap<(i64, i64), (i64, Vec<u8>)> = Default::default();
        for row in self.connection.query_all_raw(statement).await? {
            let hash: Option<Vec<u8>> = row.try_get_by_index(3).unwrap_or_default();
            let place = (row.try_get_by_index(0)?, row.try_get_by_index(1)?);
            found.insert(place, (row.try_get_by_index(2)?, hash.unwrap_or_default()));
        }
        for (chain, head) in heads {
            let event = found.get(&(chain.id(), head.sequence));
            let is_there = event.is_some_and(|(_, hash)| hash == head.hash.as_bytes());
            if !is_there {
                let (chain, head, event) = (*chain, *head, event.map(|(id, _)| *id));
                report(AuditFinding::Fault(AuditFault::HeadLost { chain, head, event }));
            }
        }
        Ok(())
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// Returns the driver's error.
    pub async fn close(self) -> Result<(), VerifyError> {
        Ok(self.connection.close().await?)
    }
}

/// Opens a database to read it, even while another process serves it.
pub(crate) async fn open_to_read(
    options: &DatabaseOptions,
) -> Result<DatabaseConnection, VerifyError> {
    let connection = match options.url.kind() {
        DatabaseKind::Sqlite => {
            let file = options.url.file().unwrap_or_default();
            if !file.exists() {
                return Err(VerifyError::Missing(file));
            }
            crate::file::find_to_read(&file)?;
            backup::read_only(&file).await?
        }
        DatabaseKind::Postgres => connect::existing(options).await?,
    };
    let steps = steps(&connection).await?;
    if steps.iter().any(|step| step.state == StepState::Pending) {
        return Err(VerifyError::Pending);
    }
    Ok(connection)
}

/// Begins the snapshot in which everything is read.
pub(crate) async fn snapshot(
    connection: &DatabaseConnection,
) -> Result<DatabaseTransaction, DbErr> {
    let options = match connection.get_database_backend() {
        DbBackend::Postgres => read_only(),
        // The first read takes the snapshot.
        _ => TransactionOptions::default(),
    };
    connection.begin_with_options(options).await
}

/// The column that names a chain's resource, and the condition for events in such chains, as the
/// indexes have it.
pub(crate) const fn owner(kind: Resource) -> (&'static str, &'static str) {
    match kind {
        Resource::Firewall => ("firewall_id", "policy_id IS NULL AND sequence IS NOT NULL"),
        Resource::Policy | Resource::Rule => {
            ("policy_id", "policy_id IS NOT NULL AND sequence IS NOT NULL")
        }
    }
}

async fn verify(snapshot: &DatabaseTransaction, report: Report<'_>) -> Result<AuditCounts, DbErr> {
    check_guards(snapshot, report).await?;
    let mut counts = AuditCounts::default();
    for kind in [Resource::Firewall, Resource::Policy] {
        let (chains, events) = Walk::new(snapshot, kind).run(report).await?;
        counts.chains = counts.chains.saturating_add(chains);
        counts.events = counts.events.saturating_add(events);
    }
    counts.unchained = check_unchained(snapshot, report).await?;
    Ok(counts)
}

pub(crate) async fn rows(
    snapshot: &impl ConnectionTrait,
    sql: String,
) -> Result<Vec<QueryResult>, DbErr> {
    let statement = Statement::from_string(snapshot.get_database_backend(), sql);
    snapshot.query_all_raw(statement).await
}

/// How many ids are read at once.
const IDS_AT_ONCE: usize = 1_000;

/// Events in no chain must be older than the chains, and as many as when the chains began.
async fn check_unchained(snapshot: &DatabaseTransaction, report: Report<'_>) -> Result<u64, DbErr> {
    let noted = |key: &str| format!("SELECT value FROM fireflow_meta WHERE key = '{key}'");
    let mut numbers = [0_i64; 2];
    for (number, key) in
        numbers.iter_mut().zip(["audit_unchained_last_id", "audit_unchained_count"])
    {
        let row = rows(snapshot, noted(key)).await?.into_iter().next();
        let text: String = row.map_or(Ok(String::new()), |row| row.try_get_by_index(0))?;
        *number = text.parse().unwrap_or_default();
    }
    let [last, expected] = numbers;
    let sql = format!("SELECT count(*) FROM audit_event WHERE sequence IS NULL AND id <= {last}");
    let row = rows(snapshot, sql).await?.into_iter().next();
    let found: i64 = row.map_or(Ok(0), |row| row.try_get_by_index(0))?;
    if found != expected {
        report(AuditFinding::Fault(AuditFault::UnchainedCount { expected, found }));
    }
    let mut after = last;
    loop {
        let sql = format!(
            "SELECT id FROM audit_event WHERE sequence IS NULL AND id > {after} \
             ORDER BY id LIMIT {IDS_AT_ONCE}"
        );
        let page = rows(snapshot, sql).await?;
        for row in &page {
            after = row.try_get_by_index(0)?;
            report(AuditFinding::Fault(AuditFault::NotChained { event: after }));
        }
        if page.len() < IDS_AT_ONCE {
            return Ok(u64::try_from(found).unwrap_or_default());
        }
    }
}

/// Checks that the triggers that guard the trail exist.
async fn check_guards(snapshot: &DatabaseTransaction, report: Report<'_>) -> Result<(), DbErr> {
    let (expected, sql): (&[&'static str], _) = match snapshot.get_database_backend() {
        DbBackend::Postgres => (
            &["audit_event_append_only"],
            "SELECT tgname::text FROM pg_trigger \
             WHERE tgrelid = 'audit_event'::regclass AND tgenabled = 'A'",
        ),
        _ => (
            &[
                "audit_event_no_update",
                "audit_event_no_delete",
                "audit_event_no_replace",
                "audit_event_no_odd_id",
            ],
            "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'audit_event'",
        ),
    };
    let mut found: Vec<String> = Vec::new();
    for row in rows(snapshot, sql.to_owned()).await? {
        found.push(row.try_get_by_index(0)?);
    }
    for trigger in expected {
        if !found.iter().any(|name| name == trigger) {
            report(AuditFinding::Fault(AuditFault::NoGuard { trigger }));
        }
    }
    Ok(())
}

/// A hash from its column; `None` if the column contains something else.
pub(crate) fn hash(column: Option<&[u8]>) -> Option<EventHash> {
    EventHash::from_bytes(column?)
}

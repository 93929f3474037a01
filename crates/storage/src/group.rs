//! The single entry to SQLite's single writer. Units of work queue for it, and units that wait at
//! the same time share one transaction, so that one sync of the disk serves them all.
//!
//! Each unit runs in its own savepoint, one after the other: undoing a unit does not affect its
//! neighbors. Its result, whatever it is, waits until the shared transaction's end is known, since
//! it may depend on what a neighbor wrote. If the transaction fails, all units fail.
//!
//! The queue decides whose turn it is: tenants and subjects take turns, and so do small units and
//! large ones. A large set waits for one group of small units, and these wait for one large set.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fireflow_domain::error::{Outage, StoreError};
use fireflow_domain::store::{Party, StoreResult, Terms};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, SqliteTransactionMode,
    TransactionOptions, TransactionTrait,
};
use tokio::sync::{Notify, oneshot};

use crate::error::{commit_error, store_error};
use crate::fair::FairQueue;
use crate::file::DatabaseFile;

/// The default for the most units in a group.
pub const WRITE_GROUP: usize = 64;
/// How long a group admits further units: its first unit waits this long for the others.
const MAX_AGE: Duration = Duration::from_millis(10);
/// A statement that needs the write lock but writes nothing.
const TRY: &str = "DELETE FROM fireflow_meta WHERE FALSE";
/// The longest queue. Requests are bounded before they get here; this is the last guard.
const MAX_QUEUE: usize = 65_536;

/// The queue for the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: Arc<Door>,
    patience: Duration,
    groups: Arc<AtomicU64>,
    commits: Arc<Commits>,
}

/// Counts commits. The number is odd from before a commit begins until its outcome is known.
#[derive(Debug, Default)]
struct Commits(AtomicU64);

impl Commits {
    fn begin(&self) {
        // It stays odd after a commit whose outcome is unknown.
        self.0.fetch_or(1, Ordering::SeqCst);
    }

    fn end(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Committed | Outcome::Undone(..) => {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
            Outcome::Unsettled(_) => {}
        }
    }

    fn settled(&self) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst)).filter(|count| count % 2 == 0)
    }
}

/// Receives a turn.
type Ticket = oneshot::Sender<StoreResult<GroupedWrite>>;

/// The queue. It closes when nobody can join it any more.
#[derive(Debug, Default)]
struct Queue {
    tickets: Mutex<Tickets>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Tickets {
    small: FairQueue<Ticket>,
    /// Long units, which others must not wait for.
    large: FairQueue<Ticket>,
    was_large: bool,
    is_closed: bool,
}

/// The handle for joining the queue: dropping the last one closes the queue.
#[derive(Debug)]
struct Door(Arc<Queue>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.tickets().is_closed = true;
        self.0.changed.notify_one();
    }
}

/// A position in the queue, released when it is dropped.
struct WriterPosition<'a> {
    queue: &'a Queue,
    is_large: bool,
    party: Party,
    id: u64,
}

impl Drop for WriterPosition<'_> {
    fn drop(&mut self) {
        let mut tickets = self.queue.tickets();
        let queue = if self.is_large { &mut tickets.large } else { &mut tickets.small };
        // A ticket that already had its turn is no longer in the queue.
        drop(queue.remove(self.party, self.id));
    }
}

/// A ticket whose turn has come.
struct Next {
    is_large: bool,
    ticket: Ticket,
}

impl Queue {
    fn tickets(&self) -> MutexGuard<'_, Tickets> {
        self.tickets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(
        &self,
        party: Party,
        is_large: bool,
        ticket: Ticket,
    ) -> StoreResult<WriterPosition<'_>> {
        let mut tickets = self.tickets();
        if tickets.is_closed {
            return Err(StoreError::Unavailable("the writer was shut down".into()));
        }
        if tickets.small.len().saturating_add(tickets.large.len()) >= MAX_QUEUE {
            return Err(StoreError::Unavailable("too many writes are waiting".into()));
        }
        let queue = if is_large { &mut tickets.large } else { &mut tickets.small };
        let id = queue.push(party, ticket);
        drop(tickets);
        self.changed.notify_one();
        Ok(WriterPosition { queue: self, is_large, party, id })
    }

    /// The next ticket; `None` when the queue has closed.
    async fn next(&self) -> Option<Next> {
        loop {
            {
                let mut tickets = self.tickets();
                if let Some(next) = tickets.next() {
                    return Some(next);
                }
                if tickets.is_closed {
                    return None;
                }
            }
            self.changed.notified().await;
        }
    }

    /// The next small ticket, if one waits.
    fn next_small(&self) -> Option<Ticket> {
        self.tickets().next_of(false)
    }
}

impl Tickets {
    fn next(&mut self) -> Option<Next> {
        let first = !self.was_large;
        [first, !first].into_iter().find_map(|is_large| {
            let ticket = self.next_of(is_large)?;
            self.was_large = is_large;
            Some(Next { is_large, ticket })
        })
    }

    fn next_of(&mut self, is_large: bool) -> Option<Ticket> {
        let queue = if is_large { &mut self.large } else { &mut self.small };
        loop {
            match queue.pop(|_| true) {
                Some((_, ticket)) if ticket.is_closed() => {}
                found => return found.map(|(_, ticket)| ticket),
            }
        }
    }
}

/// The message from a unit to its group when the unit ends.
#[derive(Debug)]
struct Return {
    lasts: bool,
    /// Receives the outcome of the group.
    outcome: oneshot::Sender<Outcome>,
}

/// The outcome of a group.
#[derive(Debug, Clone)]
enum Outcome {
    Committed,
    /// It did not last, for this reason.
    Undone(Outage, String),
    /// It is unknown whether it lasted, for this reason.
    Unsettled(String),
}

impl Outcome {
    fn into_result(self) -> StoreResult<()> {
        match self {
            Self::Committed => Ok(()),
            Self::Undone(Outage::Away, why) => Err(StoreError::Unavailable(why.into())),
            Self::Undone(outage, why) => Err(StoreError::Refused(outage, why.into())),
            Self::Unsettled(why) => Err(StoreError::Unsettled(why.into())),
        }
    }
}

/// A unit's turn: the writer's transaction, in a savepoint. It is given back when the unit ends,
/// however it ends. The fields are dropped in their order: the group has sole use of the
/// transaction when it is notified of the end.
#[derive(Debug)]
pub(crate) struct GroupedWrite {
    transaction: Arc<DatabaseTransaction>,
    back: Back,
}

#[derive(Debug)]
struct Back(Option<oneshot::Sender<Return>>);

impl GroupedWrite {
    /// The group's transaction.
    pub(crate) fn transaction(&self) -> &DatabaseTransaction {
        &self.transaction
    }

    /// Ends the unit, and waits for the group's end.
    pub(crate) async fn end(self, lasts: bool) -> StoreResult<()> {
        let Self { transaction, mut back } = self;
        drop(transaction);
        match back.tell(lasts) {
            Some(outcome) => match outcome.await {
                Ok(outcome) => outcome.into_result(),
                Err(_) => Err(StoreError::Unsettled("the writer was shut down".into())),
            },
            None => Err(StoreError::Unavailable("the writer was shut down".into())),
        }
    }
}

impl Back {
    fn tell(&mut self, lasts: bool) -> Option<oneshot::Receiver<Outcome>> {
        let (outcome, heard) = oneshot::channel();
        self.0.take()?.send(Return { lasts, outcome }).ok().map(|()| heard)
    }
}

impl Drop for Back {
    fn drop(&mut self) {
        // An abandoned unit is undone; nobody waits for the result.
        drop(self.tell(false));
    }
}

impl Writer {
    /// Starts the task that owns the writer's connection; it ends when no clone is left.
    pub(crate) fn start(
        connection: DatabaseConnection,
        file: Arc<DatabaseFile>,
        patience: Duration,
        max_units: usize,
    ) -> Self {
        let queue = Arc::<Queue>::default();
        let (groups, commits) = (Arc::default(), Arc::default());
        let counts = (Arc::clone(&groups), Arc::clone(&commits));
        tokio::spawn(serve((connection, file), Arc::clone(&queue), counts, max_units));
        Self { queue: Arc::new(Door(queue)), patience, groups, commits }
    }

    /// The number of commits, in a form that changes with each one. `None` while a commit is in
    /// progress, or if the outcome of the last one is unknown.
    pub(crate) fn commits(&self) -> Option<u64> {
        self.commits.settled()
    }

    /// How many units wait for a turn.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting(&self) -> usize {
        let tickets = self.queue.0.tickets();
        tickets.small.len() + tickets.large.len()
    }

    /// How many transactions were begun.
    pub(crate) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Tests that the file takes writes, without changing it. Returns an error if it does not.
    pub(crate) async fn try_to_write(&self) -> StoreResult<()> {
        let turn = self.begin(false, &Terms::default()).await?;
        // Even a read-only file can begin a write transaction, so a statement is needed.
        let tried = turn.transaction().execute_unprepared(TRY).await;
        turn.end(false).await?;
        tried.map(drop).map_err(store_error)
    }

    /// Waits for a turn.
    pub(crate) async fn begin(&self, is_large: bool, terms: &Terms) -> StoreResult<GroupedWrite> {
        let (turn, given) = oneshot::channel();
        let closed = || StoreError::Unavailable("the writer was shut down".into());
        let _place = self.queue.0.join(terms.party, is_large, turn)?;
        let patience = terms.deadline.map_or(self.patience, |until| {
            self.patience.min(until.saturating_duration_since(Instant::now()))
        });
        match tokio::time::timeout(patience, given).await {
            Ok(Ok(turn)) => turn,
            Ok(Err(_)) => Err(closed()),
            Err(_) => Err(StoreError::Unavailable("the writer was busy for too long".into())),
        }
    }
}

async fn serve(
    (connection, file): (DatabaseConnection, Arc<DatabaseFile>),
    queue: Arc<Queue>,
    (groups, commits): (Arc<AtomicU64>, Arc<Commits>),
    max_units: usize,
) {
    while let Some(first) = queue.next().await {
        if let Err(lost) = file.verify() {
            drop(first.ticket.send(Err(StoreError::Unavailable(lost.into()))));
            continue;
        }
        // Immediate: a transaction that only later begins to write would be refused without a wait.
        let options = TransactionOptions {
            sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
            ..TransactionOptions::default()
        };
        match connection.begin_with_options(options).await {
            Ok(transaction) => {
                groups.fetch_add(1, Ordering::Relaxed);
                let mut group = Group::default();
                let transaction = Arc::new(transaction);
                let end = group.run(&transaction, first, &queue, max_units).await;
                let outcome = match (end, Arc::into_inner(transaction)) {
                    (Ok(()), Some(transaction)) => {
                        commits.begin();
                        let outcome = lasting(commit(&connection, transaction).await, &file);
                        commits.end(&outcome);
                        outcome
                    }
                    (end, transaction) => {
                        // SQLite may have ended the transaction by itself, and anything that a unit
                        // wrote after that would last.
                        commits.begin();
                        drop(transaction);
                        discard(&connection).await;
                        let kept = || "a unit kept the transaction".to_owned();
                        let outcome = Outcome::Undone(Outage::Away, end.err().unwrap_or_else(kept));
                        commits.end(&outcome);
                        outcome
                    }
                };
                group.tell(&outcome);
            }
            Err(error) => {
                // The ticket's owner may have stopped waiting, which is fine.
                drop(first.ticket.send(Err(store_error(error))));
            }
        }
    }
}

async fn commit(connection: &DatabaseConnection, transaction: DatabaseTransaction) -> Outcome {
    match transaction.commit().await {
        Ok(()) => Outcome::Committed,
        Err(error) => {
            let why = fireflow_domain::error::ErrorChain(&error).to_string();
            discard(connection).await;
            match commit_error(error) {
                StoreError::Unsettled(_) => Outcome::Unsettled(why),
                StoreError::Refused(outage, _) => Outcome::Undone(outage, why),
                _ => Outcome::Undone(Outage::Away, why),
            }
        }
    }
}

/// A commit to a file that is no longer in its place is gone with the process, so it is not
/// acknowledged. If the same file is put back, the commit is in it.
fn lasting(outcome: Outcome, file: &DatabaseFile) -> Outcome {
    match (outcome, file.verify()) {
        (Outcome::Committed, Err(lost)) => Outcome::Unsettled(lost.to_string()),
        (outcome, _) => outcome,
    }
}

/// Closes the connection, whose state is in doubt; the pool opens another.
async fn discard(connection: &DatabaseConnection) {
    let pool = connection.get_sqlite_connection_pool();
    let closed = match pool.acquire().await {
        Ok(connection) => connection.close().await,
        Err(error) => Err(error),
    };
    if let Err(error) = closed {
        tracing::warn!(%error, "the writer's connection was not closed");
    }
}

/// The units that share a transaction.
#[derive(Debug, Default)]
struct Group {
    units: Vec<oneshot::Sender<Outcome>>,
}

/// The statements that end a unit's savepoint.
const KEEP: &str = "RELEASE unit";
const UNDO: &str = "ROLLBACK TO unit; RELEASE unit";

impl Group {
    /// Grants turns until nobody waits, or the group is full or too old. Returns the reason as an
    /// error if the transaction's contents are unknown.
    async fn run(
        &mut self,
        transaction: &Arc<DatabaseTransaction>,
        first: Next,
        queue: &Queue,
        max_units: usize,
    ) -> Result<(), String> {
        let start = Instant::now();
        let Next { is_large, mut ticket } = first;
        let mut before: Option<&str> = None;
        loop {
            // One hop to the driver's thread ends the last savepoint and begins the next.
            let begun = match before {
                None => transaction.execute_unprepared("SAVEPOINT unit").await,
                Some(KEEP) => transaction.execute_unprepared("RELEASE unit; SAVEPOINT unit").await,
                Some(_) => transaction.execute_unprepared("ROLLBACK TO unit").await,
            };
            if let Err(error) = begun {
                let why = broken(&error);
                drop(ticket.send(Err(StoreError::Unavailable(why.clone().into()))));
                return Err(why);
            }
            let (back, returned) = oneshot::channel();
            let turn =
                GroupedWrite { transaction: Arc::clone(transaction), back: Back(Some(back)) };
            // A ticket that nobody holds any more gives its turn back at once.
            drop(ticket.send(Ok(turn)));
            let Ok(Return { lasts, outcome }) = returned.await else {
                return Err("a unit was lost".to_owned());
            };
            self.units.push(outcome);
            before = Some(if lasts { KEEP } else { UNDO });
            let is_full = self.units.len() >= max_units || start.elapsed() >= MAX_AGE;
            let next = if is_large || is_full { None } else { queue.next_small() };
            match next {
                Some(next) => ticket = next,
                None => {
                    // COMMIT keeps everything that is not undone.
                    if !lasts && let Err(error) = transaction.execute_unprepared(UNDO).await {
                        return Err(broken(&error));
                    }
                    return Ok(());
                }
            }
        }
    }

    fn tell(self, outcome: &Outcome) {
        for unit in self.units {
            // A unit that left does not receive the outcome.
            drop(unit.send(outcome.clone()));
        }
    }
}

/// The savepoint is gone: SQLite has rolled back the whole transaction, as it does when the disk is
/// full.
fn broken(error: &DbErr) -> String {
    format!("the group of writes was undone: {}", fireflow_domain::error::ErrorChain(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_settled_between_commits_whose_ends_are_known() {
        let commits = Commits::default();
        assert_eq!(commits.settled(), Some(0));
        commits.begin();
        assert_eq!(commits.settled(), None);
        commits.end(&Outcome::Committed);
        assert_eq!(commits.settled(), Some(2));
        commits.begin();
        commits.end(&Outcome::Undone(Outage::Away, String::new()));
        assert_eq!(commits.settled(), Some(4), "what was undone may have been seen");
        commits.begin();
        commits.end(&Outcome::Unsettled(String::new()));
        assert_eq!(commits.settled(), None);
        commits.begin();
        assert_eq!(commits.settled(), None);
        commits.end(&Outcome::Committed);
        assert_eq!(commits.settled(), Some(6));
    }
}

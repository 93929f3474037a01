//! The one door to SQLite's one writer: units of work queue for it, and those that wait at the same
//! time share one transaction, so that one sync of the disk serves them all.
//!
//! Each unit runs in a savepoint of its own, one after the other: a unit that is undone takes
//! nothing of its neighbors with it. Its answer, whatever it is, waits until the shared
//! transaction's end is known, since it may rest on what a neighbor wrote; when that fails, all
//! fail.
//!
//! Whose turn it is, the queue decides: tenants and subjects take turns, and so do small units and
//! large ones. A large set waits for one group of small ones, and these for one large set.

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

/// The most units of a group, unless it is set.
pub const WRITE_GROUP: usize = 64;
/// How long a group takes others in: what its first unit waits for the sake of the rest.
const MAX_AGE: Duration = Duration::from_millis(10);
/// What writes nothing.
const TRY: &str = "DELETE FROM fireflow_meta WHERE FALSE";
/// How many may queue. Requests are bounded before they come here; this is the last guard.
const MAX_QUEUE: usize = 65_536;

/// The queue for the writer. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Writer {
    queue: Arc<Door>,
    patience: Duration,
    groups: Arc<AtomicU64>,
    commits: Arc<Commits>,
}

/// Counts commits: odd from before one begins until its end is known.
#[derive(Debug, Default)]
struct Commits(AtomicU64);

impl Commits {
    fn begin(&self) {
        // It stays odd behind an end that nobody knows.
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

/// Who hears of a turn.
type Ticket = oneshot::Sender<StoreResult<Turn>>;

/// The queue. It closes when nobody can come in any more.
#[derive(Debug, Default)]
struct Queue {
    tickets: Mutex<Tickets>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Tickets {
    small: FairQueue<Ticket>,
    /// Long units, which others are not to wait for.
    large: FairQueue<Ticket>,
    was_large: bool,
    is_closed: bool,
}

/// The outer side of the queue: closes it when the last one is dropped.
#[derive(Debug)]
struct Door(Arc<Queue>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.tickets().is_closed = true;
        self.0.changed.notify_one();
    }
}

/// A place in the queue; given up when it is dropped.
struct Place<'a> {
    queue: &'a Queue,
    is_large: bool,
    party: Party,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut tickets = self.queue.tickets();
        let queue = if self.is_large { &mut tickets.large } else { &mut tickets.small };
        // Who had its turn is no longer there.
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

    fn join(&self, party: Party, is_large: bool, ticket: Ticket) -> StoreResult<Place<'_>> {
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
        Ok(Place { queue: self, is_large, party, id })
    }

    /// Whose turn it is; none at the end.
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

    /// The next small one, if one waits.
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

/// What a unit tells its group when it ends.
#[derive(Debug)]
struct Return {
    lasts: bool,
    /// Hears how the group ended.
    outcome: oneshot::Sender<Outcome>,
}

/// How a group ended.
#[derive(Debug, Clone)]
enum Outcome {
    Committed,
    /// It did not last, for this reason.
    Undone(Outage, String),
    /// Nobody knows whether it lasted, for this reason.
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

/// A unit's turn: the writer's transaction, in a savepoint. Given back when the unit ends, however
/// it ends. The order of the fields is that in which they are dropped: who hears of the end has
/// the transaction alone.
#[derive(Debug)]
pub(crate) struct Turn {
    transaction: Arc<DatabaseTransaction>,
    back: Back,
}

#[derive(Debug)]
struct Back(Option<oneshot::Sender<Return>>);

impl Turn {
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
        // A unit that was given up is undone; nobody waits for what comes of it.
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

    /// How many commits there were, as a number that is another one after each; none while one is
    /// under way, or nobody knows how the last one ended.
    pub(crate) fn commits(&self) -> Option<u64> {
        self.commits.settled()
    }

    /// How many wait for a turn.
    #[cfg(feature = "testing")]
    pub(crate) fn waiting(&self) -> usize {
        let tickets = self.queue.0.tickets();
        tickets.small.len() + tickets.large.len()
    }

    /// How many transactions were begun.
    pub(crate) fn groups(&self) -> u64 {
        self.groups.load(Ordering::Relaxed)
    }

    /// Writes nothing, but as if: an error if the file takes no writes.
    pub(crate) async fn try_to_write(&self) -> StoreResult<()> {
        let turn = self.begin(false, &Terms::default()).await?;
        // A read-only file begins a transaction for writing all the same.
        let tried = turn.transaction().execute_unprepared(TRY).await;
        turn.end(false).await?;
        tried.map(drop).map_err(store_error)
    }

    /// Waits for a turn.
    pub(crate) async fn begin(&self, is_large: bool, terms: &Terms) -> StoreResult<Turn> {
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
        // Immediate: a transaction that begins to write late is refused without a wait.
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
                        // SQLite may have ended it by itself: what a unit wrote behind that would
                        // last.
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
                // Nobody waits any more: that is no matter.
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

/// A commit to a file that is not in its place any more is gone with the process: it is not
/// acknowledged. If the same file is put back, it is there.
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

/// What ends a unit's savepoint.
const KEEP: &str = "RELEASE unit";
const UNDO: &str = "ROLLBACK TO unit; RELEASE unit";

impl Group {
    /// Gives turns until nobody waits, or the group is full, or old. Answers whether the
    /// transaction is as the units left it, else why nobody knows what it holds.
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
            let turn = Turn { transaction: Arc::clone(transaction), back: Back(Some(back)) };
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
                    // COMMIT keeps what is not undone.
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
            // Who left does not hear it.
            drop(unit.send(outcome.clone()));
        }
    }
}

/// A savepoint that is gone: SQLite has undone the whole transaction, as it does when the disk is
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

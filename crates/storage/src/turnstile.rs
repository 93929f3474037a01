//! Decides who may use the database now. Each class of work has its own turns, so that no class
//! waits for another. Within a class, tenants and subjects take turns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fireflow_domain::error::StoreError;
use fireflow_domain::store::{Party, StoreResult};
use tokio::sync::oneshot;

use crate::fair::FairQueue;

/// A class of database work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Class {
    /// Single resources and the rows that verdicts rest on: each takes a moment.
    Reads,
    /// Pages of lists, and expansions.
    Lists,
    /// Whole lists, for as long as their clients take.
    Exports,
    /// All rules of a policy, to compile them.
    Compilations,
    /// Changes of a few rows.
    Writes,
    /// Changes of whole rule sets.
    LargeSets,
}

impl Class {
    const ALL: [Self; 6] = [
        Self::Reads,
        Self::Writes,
        Self::Lists,
        Self::Compilations,
        Self::LargeSets,
        Self::Exports,
    ];

    /// The class whose reserved turns this one uses: exports share those of lists.
    const fn keeper(self) -> Self {
        match self {
            Self::Exports => Self::Lists,
            other => other,
        }
    }
}

/// The turns that a class may use.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Share {
    /// How many turns are reserved for it.
    pub(crate) kept: u32,
    /// How many it may use at most.
    pub(crate) most: u32,
    /// How many one party may use at most.
    pub(crate) most_of_one: u32,
}

/// The turns of all classes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The total for all classes together; `None` means no bound.
    pub(crate) total: Option<u32>,
    pub(crate) reads: Share,
    pub(crate) lists: Share,
    pub(crate) exports: Share,
    pub(crate) compilations: Share,
    pub(crate) writes: Share,
    pub(crate) large_sets: Share,
}

/// All turns except one, for a single party, so that another still finds a turn.
const fn all_but_one(most: u32) -> u32 {
    if most > 1 { most - 1 } else { 1 }
}

impl Plan {
    const fn none(total: Option<u32>) -> Self {
        let none = Share { kept: 0, most: 0, most_of_one: 0 };
        Self {
            total,
            reads: none,
            lists: none,
            exports: none,
            compilations: none,
            writes: none,
            large_sets: none,
        }
    }

    /// The turns for the readers of a server: at least three.
    pub(crate) fn of_readers(total: u32) -> Self {
        let lists = (total / 2).max(1);
        let exports = all_but_one(lists);
        let compilations = (total / 4).max(1);
        Self {
            // Each read takes only a moment, so reads may use turns reserved for others, who come
            // next.
            reads: Share { kept: (total / 4).max(1), most: total, most_of_one: total },
            lists: Share { kept: 1, most: lists, most_of_one: lists.div_ceil(2) },
            exports: Share { kept: 0, most: exports, most_of_one: exports.div_ceil(2) },
            compilations: Share {
                kept: 1,
                most: compilations,
                most_of_one: all_but_one(compilations),
            },
            ..Self::none(Some(total))
        }
    }

    /// The turns for the writers of a server: at least two.
    pub(crate) fn of_writers(total: u32) -> Self {
        let large = (total / 4).max(1);
        let writes = total.saturating_sub(large).max(1);
        Self {
            writes: Share {
                kept: writes.div_ceil(2),
                most: writes,
                most_of_one: all_but_one(writes),
            },
            large_sets: Share { kept: 1, most: large, most_of_one: all_but_one(large) },
            ..Self::none(Some(total))
        }
    }

    /// The turns for a read replica, which serves lists and exports.
    pub(crate) fn of_replica(total: u32) -> Self {
        let exports = all_but_one(total);
        Self {
            lists: Share { kept: 1, most: total, most_of_one: total.div_ceil(2) },
            exports: Share { kept: 0, most: exports, most_of_one: exports.div_ceil(2) },
            ..Self::none(Some(total))
        }
    }

    /// The turns for the readers of a file, which share only the processors: more lists than keep
    /// those busy would just slow down the rest.
    pub(crate) fn of_file(readers: u32, processors: u32) -> Self {
        let lists = processors.saturating_mul(2).clamp(2, readers.max(2));
        let exports = (readers / 4).max(1);
        let compilations = processors.max(1);
        Self {
            reads: Share { kept: 0, most: readers, most_of_one: readers },
            lists: Share { kept: 0, most: lists, most_of_one: lists.div_ceil(2) },
            exports: Share { kept: 0, most: exports, most_of_one: exports.div_ceil(2) },
            compilations: Share {
                kept: 0,
                most: compilations,
                most_of_one: all_but_one(compilations),
            },
            ..Self::none(None)
        }
    }

    const fn share(&self, class: Class) -> Share {
        match class {
            Class::Reads => self.reads,
            Class::Lists => self.lists,
            Class::Exports => self.exports,
            Class::Compilations => self.compilations,
            Class::Writes => self.writes,
            Class::LargeSets => self.large_sets,
        }
    }
}

/// Grants turns. Cheap to clone: all clones share the same turns.
#[derive(Debug, Clone)]
pub(crate) struct Turnstile(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    plan: Plan,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    in_use: Uses,
    of_parties: HashMap<(Class, Party), u32>,
    waiting: Waiting,
}

/// A number for each class.
#[derive(Debug, Default)]
struct Uses {
    reads: u32,
    lists: u32,
    exports: u32,
    compilations: u32,
    writes: u32,
    large_sets: u32,
}

impl Uses {
    const fn of(&self, class: Class) -> u32 {
        match class {
            Class::Reads => self.reads,
            Class::Lists => self.lists,
            Class::Exports => self.exports,
            Class::Compilations => self.compilations,
            Class::Writes => self.writes,
            Class::LargeSets => self.large_sets,
        }
    }

    const fn of_mut(&mut self, class: Class) -> &mut u32 {
        match class {
            Class::Reads => &mut self.reads,
            Class::Lists => &mut self.lists,
            Class::Exports => &mut self.exports,
            Class::Compilations => &mut self.compilations,
            Class::Writes => &mut self.writes,
            Class::LargeSets => &mut self.large_sets,
        }
    }

    /// How many of the turns that a class shares are in use.
    const fn of_keeper(&self, class: Class) -> u32 {
        match class.keeper() {
            Class::Lists => self.lists + self.exports,
            other => self.of(other),
        }
    }

    const fn all(&self) -> u32 {
        self.reads + self.lists + self.exports + self.compilations + self.writes + self.large_sets
    }
}

type Queue = FairQueue<oneshot::Sender<Turn>>;

/// A queue for each class.
#[derive(Debug, Default)]
struct Waiting {
    reads: Queue,
    lists: Queue,
    exports: Queue,
    compilations: Queue,
    writes: Queue,
    large_sets: Queue,
}

impl Waiting {
    const fn of(&mut self, class: Class) -> &mut Queue {
        match class {
            Class::Reads => &mut self.reads,
            Class::Lists => &mut self.lists,
            Class::Exports => &mut self.exports,
            Class::Compilations => &mut self.compilations,
            Class::Writes => &mut self.writes,
            Class::LargeSets => &mut self.large_sets,
        }
    }
}

/// A turn, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    turnstile: Turnstile,
    class: Class,
    party: Party,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turnstile.give_back(self.class, self.party);
    }
}

/// A position in a queue, released when it is dropped.
struct QueuePosition<'a> {
    turnstile: &'a Turnstile,
    class: Class,
    party: Party,
    id: u64,
}

impl Drop for QueuePosition<'_> {
    fn drop(&mut self) {
        // A waiter whose turn was granted in the meantime is no longer in the queue.
        let left = self.turnstile.state().waiting.of(self.class).remove(self.party, self.id);
        drop(left);
    }
}

impl State {
    /// Whether a class may have one more turn.
    fn has_room(&self, plan: &Plan, class: Class) -> bool {
        if self.in_use.of(class) >= plan.share(class).most {
            return false;
        }
        let Some(total) = plan.total else { return true };
        // The turns that two classes share are also bounded together.
        if self.in_use.of_keeper(class) >= plan.share(class.keeper()).most {
            return false;
        }
        let free = total.saturating_sub(self.in_use.all());
        if free == 0 || class == Class::Reads || self.lacks(plan, class) {
            return free > 0;
        }
        let kept: u32 = Class::ALL
            .into_iter()
            .filter(|other| *other == other.keeper() && *other != class.keeper())
            .map(|other| plan.share(other).kept.saturating_sub(self.in_use.of_keeper(other)))
            .sum();
        free > kept
    }

    /// Whether a class has fewer turns than are reserved for it.
    const fn lacks(&self, plan: &Plan, class: Class) -> bool {
        self.in_use.of_keeper(class) < plan.share(class.keeper()).kept
    }

    fn may_have_more(&self, plan: &Plan, class: Class, party: Party) -> bool {
        let used_in = |class| self.of_parties.get(&(class, party)).copied().unwrap_or(0);
        let used = used_in(class);
        let is_within = used < plan.share(class).most_of_one;
        match class {
            Class::Lists | Class::Exports if plan.total.is_some() => {
                let both = used_in(Class::Lists).saturating_add(used_in(Class::Exports));
                is_within && both < plan.lists.most_of_one
            }
            _ => is_within,
        }
    }

    fn take(&mut self, class: Class, party: Party) {
        *self.in_use.of_mut(class) += 1;
        *self.of_parties.entry((class, party)).or_default() += 1;
    }

    /// The next waiter that gets a turn. Classes with fewer turns than are reserved for them come
    /// first.
    fn next(&mut self, plan: &Plan) -> Option<(Class, Party, oneshot::Sender<Turn>)> {
        for must_lack in [true, false] {
            for class in Class::ALL {
                if (must_lack && !self.lacks(plan, class)) || !self.has_room(plan, class) {
                    continue;
                }
                let queue = std::mem::take(self.waiting.of(class));
                let mut queue = queue;
                let found = loop {
                    match queue.pop(|party| self.may_have_more(plan, class, party)) {
                        Some((_, waiter)) if waiter.is_closed() => {}
                        found => break found,
                    }
                };
                *self.waiting.of(class) = queue;
                if let Some((party, waiter)) = found {
                    self.take(class, party);
                    return Some((class, party, waiter));
                }
            }
        }
        None
    }
}

impl Turnstile {
    pub(crate) fn new(plan: Plan) -> Self {
        Self(Arc::new(Inner { plan, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a turn, until a deadline or a timeout, whichever comes first.
    pub(crate) async fn enter(
        &self,
        class: Class,
        party: Party,
        until: Option<Instant>,
        patience: Duration,
    ) -> StoreResult<Turn> {
        let (place, mut granted) = {
            let mut state = self.state();
            let plan = &self.0.plan;
            if state.waiting.of(class).len() == 0
                && state.has_room(plan, class)
                && state.may_have_more(plan, class, party)
            {
                state.take(class, party);
                return Ok(Turn { turnstile: self.clone(), class, party });
            }
            let (grant, granted) = oneshot::channel();
            let id = state.waiting.of(class).push(party, grant);
            (QueuePosition { turnstile: self, class, party, id }, granted)
        };
        // The waiters ahead may be over their share while this one is not.
        self.grant();
        let patience = until.map_or(patience, |until| {
            patience.min(until.saturating_duration_since(Instant::now()))
        });
        let turn = tokio::time::timeout(patience, &mut granted).await;
        drop(place);
        match turn {
            Ok(Ok(turn)) => Ok(turn),
            // The turn may have arrived at the last moment.
            Ok(Err(_)) | Err(_) => granted
                .try_recv()
                .map_err(|_| StoreError::Unavailable("no connection became free in time".into())),
        }
    }

    fn give_back(&self, class: Class, party: Party) {
        {
            let mut state = self.state();
            let used = state.in_use.of_mut(class);
            *used = used.saturating_sub(1);
            if let Some(used) = state.of_parties.get_mut(&(class, party)) {
                *used = used.saturating_sub(1);
                if *used == 0 {
                    state.of_parties.remove(&(class, party));
                }
            }
        }
        self.grant();
    }

    /// Grants the free turns to those who wait.
    fn grant(&self) {
        loop {
            // The lock is released first: a turn that nobody takes is given back at once.
            let next = self.state().next(&self.0.plan);
            let Some((class, party, waiter)) = next else { return };
            drop(waiter.send(Turn { turnstile: self.clone(), class, party }));
        }
    }

    /// How many wait in a class.
    #[cfg(test)]
    fn waiting(&self, class: Class) -> usize {
        self.state().waiting.of(class).len()
    }

    /// The most turns of a class.
    pub(crate) fn most(&self, class: Class) -> u32 {
        self.0.plan.share(class).most
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::Poll;

    use super::*;
    use crate::fair::tests::party;

    const LONG: Duration = Duration::from_secs(60);

    /// The present result of polling a future.
    async fn polled<F: Future>(mut future: Pin<&mut F>) -> Poll<F::Output> {
        std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }

    /// A turn that must be free immediately.
    async fn now(turnstile: &Turnstile, class: Class, party: Party) -> Option<Turn> {
        turnstile.enter(class, party, None, Duration::ZERO).await.ok()
    }

    #[tokio::test]
    async fn each_class_has_turns_whatever_the_others_take() {
        let (greedy, other) = (party("greedy", None), party("other", None));
        for total in 3..=20 {
            let turnstile = Turnstile::new(Plan::of_readers(total));
            let mut held = Vec::new();
            for class in [Class::Lists, Class::Exports, Class::Compilations] {
                for party in [greedy, other, party("third", None)] {
                    while let Some(turn) = now(&turnstile, class, party).await {
                        held.push(turn);
                    }
                }
            }
            assert!(held.len() < total as usize, "{total}");
            assert!(now(&turnstile, Class::Reads, other).await.is_some(), "{total}");
        }
        for total in 2..=20 {
            let turnstile = Turnstile::new(Plan::of_writers(total));
            let mut held = Vec::new();
            while let Some(turn) = now(&turnstile, Class::LargeSets, greedy).await {
                held.push(turn);
            }
            assert!(now(&turnstile, Class::Writes, other).await.is_some(), "{total}");
            while let Some(turn) = now(&turnstile, Class::Writes, greedy).await {
                held.push(turn);
            }
            assert!(total < 3 || now(&turnstile, Class::Writes, other).await.is_some(), "{total}");
        }
    }

    #[tokio::test]
    async fn reads_may_use_all_turns_and_who_lacks_its_own_comes_next() {
        let turnstile = Turnstile::new(Plan::of_readers(3));
        let ann = party("ann", None);
        let mut reads = Vec::new();
        while let Some(turn) = now(&turnstile, Class::Reads, ann).await {
            reads.push(turn);
        }
        assert_eq!(reads.len(), 3);
        let next_read = turnstile.enter(Class::Reads, ann, None, LONG);
        let list = turnstile.enter(Class::Lists, ann, None, LONG);
        tokio::pin!(next_read, list);
        assert!(polled(next_read.as_mut()).await.is_pending());
        assert!(polled(list.as_mut()).await.is_pending());
        reads.pop();
        assert!(polled(next_read.as_mut()).await.is_pending());
        assert!(polled(list.as_mut()).await.is_ready());
    }

    #[tokio::test]
    async fn a_subject_with_many_requests_leaves_turns_to_others() {
        let turnstile = Turnstile::new(Plan::of_readers(8));
        let (ann, ben) = (party("ann", None), party("ben", None));
        let mut of_ann = Vec::new();
        while let Some(turn) = now(&turnstile, Class::Lists, ann).await {
            of_ann.push(turn);
        }
        assert_eq!(of_ann.len(), 2);
        let more = turnstile.enter(Class::Lists, ann, None, LONG);
        tokio::pin!(more);
        assert!(polled(more.as_mut()).await.is_pending());
        assert!(now(&turnstile, Class::Lists, ben).await.is_some(), "past the one that waits");
        of_ann.pop();
        assert!(polled(more.as_mut()).await.is_ready());
    }

    #[tokio::test]
    async fn who_leaves_the_queue_takes_nothing_and_who_waits_too_long_is_refused() {
        let turnstile = Turnstile::new(Plan::of_writers(2));
        let ann = party("ann", None);
        let held = now(&turnstile, Class::Writes, ann).await.unwrap();
        {
            let left = turnstile.enter(Class::Writes, ann, None, LONG);
            tokio::pin!(left);
            assert!(polled(left.as_mut()).await.is_pending());
            assert_eq!(turnstile.waiting(Class::Writes), 1);
        }
        assert_eq!(turnstile.waiting(Class::Writes), 0);
        let refused = turnstile.enter(Class::Writes, ann, Some(Instant::now()), LONG).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))));
        assert_eq!(turnstile.waiting(Class::Writes), 0);
        drop(held);
        assert!(now(&turnstile, Class::Writes, ann).await.is_some());
    }
}

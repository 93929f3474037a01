//! The open connections of a listener. At the limit, the connection that has been idle the longest
//! is closed for the next one. A client that only holds connections open therefore locks nobody
//! out.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::idle::Requests;

/// The open connections by number.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Members>);

#[derive(Debug, Default)]
struct Members {
    last: u64,
    open: HashMap<u64, Arc<Member>>,
}

/// An open connection.
#[derive(Debug, Default)]
pub(super) struct Member {
    pub(super) requests: Arc<Requests>,
    is_to_go: Notify,
}

/// A guard for an open connection, which is forgotten when the guard is dropped.
pub(super) struct Entered {
    crowd: Arc<Crowd>,
    number: u64,
    pub(super) member: Arc<Member>,
}

impl Crowd {
    fn with<T>(&self, ask: impl FnOnce(&mut Members) -> T) -> T {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a connection.
    pub(super) fn enter(self: &Arc<Self>) -> Entered {
        let member = Arc::new(Member::default());
        let number = self.with(|members| {
            members.last += 1;
            members.open.insert(members.last, Arc::clone(&member));
            members.last
        });
        Entered { crowd: Arc::clone(self), number, member }
    }

    /// Asks the connection that has been idle the longest to close, if any is idle.
    pub(super) fn make_room(&self) {
        let longest = self.with(|members| {
            let idle = members.open.values().filter_map(|member| {
                member.requests.idle_since().map(|since| (since, Arc::clone(member)))
            });
            idle.min_by_key(|(since, _)| *since).map(|(_, member)| member)
        });
        if let Some(member) = longest {
            member.is_to_go.notify_one();
        }
    }
}

impl Member {
    /// Waits until the connection is asked to close while it is idle.
    pub(super) async fn sent_away(&self) {
        loop {
            self.is_to_go.notified().await;
            if self.requests.idle_since().is_some() {
                return;
            }
        }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.crowd.with(|members| members.open.remove(&self.number));
    }
}

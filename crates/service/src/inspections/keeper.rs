//! Keeps policies warm: those that were asked for lately are brought up to date soon after a
//! change, so that the next inspection finds them ready. One task looks after all of them, one at a
//! time. It ends when no policy is warm any more.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant as Moment};

use fireflow_domain::actor::{Actor, Caller, Role, Visibility};
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::time::Instant;
use tokio::sync::Semaphore;

use super::{PolicyCache, PolicyState};
use crate::backend::Backend;
use crate::session::Session;
use crate::work::{Limits, Work};

/// The most policies that are kept warm. The others are brought up to date when they are asked for.
const MOST: usize = 32;
/// A policy with fewer rules is read as quickly when it is asked for.
const LEAST_RULES: u64 = 1_000;
/// How long a policy that nobody asks for stays warm, in seconds.
pub(super) const WARM_FOR_S: u64 = 120;
/// How often changes are looked for.
const EVERY: Duration = Duration::from_secs(1);

/// The policies that are warm.
#[derive(Debug, Default)]
pub(super) struct Keeper(Mutex<Warm>);

#[derive(Debug, Default)]
struct Warm {
    policies: HashMap<PolicyId, WarmPolicy>,
    is_running: bool,
}

#[derive(Debug, Clone)]
struct WarmPolicy {
    firewall: FirewallId,
    /// Neither the task nor what it keeps holds the database open.
    backend: Weak<Backend>,
}

impl PolicyCache {
    /// Keeps a policy warm from now on, if it is large.
    pub(super) fn keep_warm(
        self: &Arc<Self>,
        backend: &Arc<Backend>,
        firewall: FirewallId,
        id: PolicyId,
        rules: u64,
    ) {
        if rules < LEAST_RULES {
            return;
        }
        let mut warm = self.keeper.0.lock().unwrap_or_else(PoisonError::into_inner);
        if warm.policies.len() >= MOST && !warm.policies.contains_key(&id) {
            return;
        }
        warm.policies.insert(id, WarmPolicy { firewall, backend: Arc::downgrade(backend) });
        if !std::mem::replace(&mut warm.is_running, true) {
            tokio::spawn(watch(Arc::downgrade(self)));
        }
    }

    /// The warm policies; none, and the task ends, if there are none.
    fn warm(&self) -> Option<Vec<(PolicyId, WarmPolicy)>> {
        let mut warm = self.keeper.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.seconds();
        warm.policies.retain(|id, policy| {
            let cached = self.policies.peek(id);
            let asked = cached.map(|cached| cached.asked.load(Ordering::Relaxed));
            let is_warm = asked.is_some_and(|asked| now.saturating_sub(asked) < WARM_FOR_S);
            is_warm && policy.backend.strong_count() > 0
        });
        warm.is_running = !warm.policies.is_empty();
        let policies = warm.policies.iter().map(|(id, policy)| (*id, policy.clone()));
        warm.is_running.then(|| policies.collect())
    }

    /// Brings a cached policy up to date if it has changed. Errors are left to those who ask.
    async fn refresh(self: &Arc<Self>, id: PolicyId, warm: &WarmPolicy) {
        let Some(backend) = warm.backend.upgrade() else { return };
        let session = session(backend);
        let Ok(policy) = self.current(&session, warm.firewall, id).await else { return };
        let cached = self.policies.peek(&id);
        if cached.is_some_and(|cached| cached.known.state != PolicyState::of(&policy)) {
            let _updated = self.find(&session, policy, &Default::default()).await.is_ok();
        }
    }
}

/// Looks for changes of the warm policies, as long as there are any.
async fn watch(cache: Weak<PolicyCache>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(cache) = cache.upgrade() else { return };
        let Some(policies) = cache.warm() else { return };
        for (id, policy) in policies {
            cache.refresh(id, &policy).await;
        }
    }
}

/// A session of the service itself, which reads policies to compile them and shows them to nobody.
fn session(backend: Arc<Backend>) -> Session {
    let actor =
        Actor { subject: String::new(), roles: vec![Role::Viewer], visibility: Visibility::All };
    let caller = Caller {
        actor,
        now: Instant::EPOCH,
        request_id: String::new(),
        client_address: String::new(),
        reason: String::new(),
    };
    let limits = Limits {
        max_body_bytes: 0,
        max_rule_set_bytes: 0,
        body_stall: Duration::ZERO,
        request_timeout: backend.request_timeout,
        in_flight: Arc::new(Semaphore::new(0)),
    };
    Session {
        deadline: Moment::now() + backend.request_timeout,
        backend,
        caller: Arc::new(caller),
        idempotent: None,
        work: Arc::new(Work::new(limits)),
    }
}

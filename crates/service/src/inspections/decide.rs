//! Evaluates packets: immediately if the rules are compiled. If packets must be compared with many
//! rules, that is done in turns, outside the threads that serve requests, and at a bounded rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant as Moment};

use fireflow_domain::packet::GivenPacket;
use fireflow_domain::usecase::inspect::InspectedPolicy;

use super::Inspections;
use super::pace::Pace;
use crate::error::ServiceError;
use crate::session::Session;

/// More packets wait for their turn on a processor.
const MANY_PACKETS: usize = 100;
/// A packet that is compared with more entries waits for its turn on a processor. So few take a
/// tenth of a millisecond.
const FEW_COMPARISONS: u64 = 10_000;
/// How long a caller waits before it looks whether the rules are compiled by now.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Clears the flag when it is dropped, because nobody waits for the answer any more.
struct WaitingFlag(Arc<AtomicBool>);

impl Drop for WaitingFlag {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

/// How many comparisons of entries a packet costs. Explanations always come from comparisons.
fn comparisons(inspected: &InspectedPolicy, explains: bool) -> u64 {
    // It compares the packet with all rules, in three passes.
    let explanation = if explains { inspected.compiled.all_comparisons() } else { 0 };
    let explanation = explanation.saturating_mul(3);
    inspected.compiled.comparisons().saturating_add(explanation)
}

impl Inspections {
    /// Waits until packets may be compared with rules that are not compiled. Returns how many of
    /// the packets may be decided now: all of them if the rules are compiled.
    ///
    /// # Errors
    /// Returns [`ServiceError::Shortage`] if the caller has had too many packets compared.
    pub async fn admit(
        &self,
        session: &Session,
        inspected: &InspectedPolicy,
        packets: usize,
        explains: bool,
    ) -> Result<usize, ServiceError> {
        let each = comparisons(inspected, explains);
        if each == 0 {
            return Ok(packets);
        }
        let packets = packets.min(Pace::packets_at_once(each));
        let all = each.saturating_mul(u64::try_from(packets).unwrap_or(u64::MAX));
        let subject = &session.caller.actor.subject;
        let end = Moment::now() + self.0.pace.charge(subject, all, Moment::now())?;
        // The rules may be compiled sooner.
        while comparisons(inspected, explains) > 0
            && let Some(left) = end.checked_duration_since(Moment::now())
            && !left.is_zero()
        {
            tokio::time::sleep(left.min(LOOK_AGAIN)).await;
        }
        Ok(packets)
    }

    /// Decides one packet. `explains` is true if `decide` also explains it.
    ///
    /// # Errors
    /// Returns [`ServiceError::Shortage`] if the caller has had too many packets compared, or there
    /// is no turn in time.
    pub async fn decide<T: Send + 'static>(
        &self,
        session: &Session,
        inspected: &InspectedPolicy,
        explains: bool,
        decide: impl FnOnce(&InspectedPolicy) -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.admit(session, inspected, 1, explains).await?;
        if comparisons(inspected, explains) <= FEW_COMPARISONS {
            return Ok(decide(inspected));
        }
        let inspected = inspected.clone();
        session.run_in_turn(move || decide(&inspected)).await
    }

    /// Decides many packets, only as long as the caller waits. `decide` also explains them if
    /// `explains` is true. `finish` makes the answer, on the same thread.
    ///
    /// # Errors
    /// Returns [`ServiceError::Shortage`] if the caller has had too many packets compared, or there
    /// is no turn in time.
    pub async fn decide_all<T: Send + 'static, R: Send + 'static>(
        &self,
        session: &Session,
        inspected: InspectedPolicy,
        packets: Vec<GivenPacket>,
        explains: bool,
        decide: fn(&InspectedPolicy, &GivenPacket, bool) -> T,
        finish: impl FnOnce(Vec<T>) -> R + Send + 'static,
    ) -> Result<R, ServiceError> {
        let waits = WaitingFlag(Arc::new(AtomicBool::new(true)));
        let count = packets.len().saturating_mul(if explains { MANY_PACKETS } else { 1 });
        let packets: Arc<[GivenPacket]> = packets.into();
        let mut state = (Vec::with_capacity(packets.len()), finish);
        loop {
            // If the rules are not compiled, only so many packets are compared with them at once.
            let left = packets.len().saturating_sub(state.0.len());
            let next = self.admit(session, &inspected, left, explains).await?;
            let (inspected, packets) = (inspected.clone(), Arc::clone(&packets));
            let is_awaited = Arc::clone(&waits.0);
            let run = move || {
                let (mut decided, finish) = state;
                let next = packets.iter().skip(decided.len()).take(next);
                for packet in next.take_while(|_| is_awaited.load(Ordering::Relaxed)) {
                    decided.push(decide(&inspected, packet, explains));
                }
                // If nobody waits any more, nobody sees the answer either.
                let is_done = decided.len() == packets.len() || !is_awaited.load(Ordering::Relaxed);
                if is_done { Ok(finish(decided)) } else { Err((decided, finish)) }
            };
            let done = if count > MANY_PACKETS || next < left {
                session.run_in_turn(run).await?
            } else {
                tokio::task::spawn_blocking(run).await.map_err(ServiceError::internal)?
            };
            match done {
                Ok(answer) => return Ok(answer),
                Err(partly) => state = partly,
            }
        }
    }
}

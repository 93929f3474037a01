//! The audit trail in the log: one line for each committed event, under a separate target. A SIEM
//! reads these lines.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use fireflow_domain::audit::{AuditEvent, Snapshot};
use fireflow_domain::audit_chain::{Chain, Head};

/// The lines' target, for filters of the log: `info,fireflow::audit=off`.
const TARGET: &str = "fireflow::audit";

/// The data that a log line shows of an event. The states before and after are only in the trail:
/// they may be large, and readers of logs need not see all policies.
#[derive(Debug)]
pub(crate) struct AuditLine {
    subject: String,
    request_id: String,
    client_address: String,
    reason: String,
    action: &'static str,
    resource: &'static str,
    resource_id: i64,
    firewall_id: i64,
}

impl AuditLine {
    /// The line of an event about a subject.
    pub(crate) fn of(event: &AuditEvent, subject: &Snapshot) -> Self {
        let caller = &event.caller;
        Self {
            subject: caller.actor.subject.clone(),
            request_id: caller.request_id.clone(),
            client_address: caller.client_address.clone(),
            reason: caller.reason.clone(),
            action: event.action.as_str(),
            resource: subject.resource().as_str(),
            resource_id: subject.id(),
            firewall_id: subject.firewall_id().get(),
        }
    }
}

/// Writes the lines.
pub(crate) fn write(lines: Vec<AuditLine>) {
    for line in lines {
        let AuditLine { subject, request_id, client_address, reason, .. } = &line;
        tracing::info!(
            target: TARGET,
            %subject, %request_id, %client_address, %reason,
            action = line.action, resource = line.resource, resource_id = line.resource_id,
            firewall_id = line.firewall_id,
            "audit"
        );
    }
}

/// How many grown chains are collected until their heads are written at once.
const MAX_HEADS: usize = 10_000;

/// The heads of chains that have grown, until they are written to the log. Anyone who keeps the log
/// can later prove what the trail was.
#[derive(Debug, Default)]
pub(crate) struct Heads(Mutex<BTreeMap<Chain, Head>>);

impl Heads {
    /// Records heads that were committed.
    pub(crate) fn note(&self, heads: Vec<(Chain, Head)>) {
        if heads.is_empty() {
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (chain, head) in heads {
            // Concurrent commits may be recorded in another order than they were made.
            let last = all.entry(chain).or_insert(head);
            if head.sequence > last.sequence {
                *last = head;
            }
        }
        let is_full = all.len() >= MAX_HEADS;
        drop(all);
        if is_full {
            self.log();
        }
    }

    /// Writes the heads, and clears them.
    pub(crate) fn log(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (chain, head) in all {
            tracing::info!(
                target: TARGET,
                chain = chain.resource().as_str(), chain_id = chain.id(),
                sequence = head.sequence, hash = head.hash.to_hex(),
                "audit head"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use fireflow_domain::audit_chain::EventHash;
    use fireflow_domain::ids::PolicyId;

    use super::*;

    #[test]
    fn of_heads_that_come_out_of_order_the_last_one_counts() {
        let heads = Heads::default();
        let chain = Chain::Policy(PolicyId::new(1).unwrap());
        let head = |sequence| Head { sequence, hash: EventHash::genesis(chain, true) };
        heads.note(vec![(chain, head(2))]);
        heads.note(vec![(chain, head(1))]);
        assert_eq!(heads.0.lock().unwrap().get(&chain).unwrap().sequence, 2);
        heads.log();
        assert!(heads.0.lock().unwrap().is_empty());
    }

    #[test]
    fn heads_do_not_pile_up() {
        let heads = Heads::default();
        for id in 1..=3 * MAX_HEADS {
            let chain = Chain::Policy(PolicyId::new(i64::try_from(id).unwrap()).unwrap());
            heads.note(vec![(chain, Head { sequence: 1, hash: EventHash::genesis(chain, true) })]);
        }
        assert!(heads.0.lock().unwrap().len() < MAX_HEADS);
    }
}

//! The audit trail in the log: one line for each event, under a target of its own, once it lasts.
//! This is what a SIEM reads.

use fireflow_domain::audit::AuditEvent;

/// The lines' target, for filters of the log: `info,fireflow::audit=off`.
const TARGET: &str = "fireflow::audit";

/// What a line says of an event. The states before and after are in the trail alone: they may be
/// large, and whoever reads logs need not see all policies.
#[derive(Debug)]
pub(crate) struct Line {
    subject: String,
    request_id: String,
    client_address: String,
    reason: String,
    deed: &'static str,
    resource: &'static str,
    resource_id: i64,
    firewall_id: i64,
}

impl Line {
    /// The line of an event; none where it concerns nothing.
    pub(crate) fn of(event: &AuditEvent) -> Option<Self> {
        let subject = event.subject()?;
        let caller = &event.caller;
        Some(Self {
            subject: caller.actor.subject.clone(),
            request_id: caller.request_id.clone(),
            client_address: caller.client_address.clone(),
            reason: caller.reason.clone(),
            deed: event.deed.as_str(),
            resource: subject.resource().as_str(),
            resource_id: subject.id(),
            firewall_id: subject.firewall_id().get(),
        })
    }
}

/// Writes them.
pub(crate) fn write(lines: Vec<Line>) {
    for line in lines {
        let Line { subject, request_id, client_address, reason, .. } = &line;
        tracing::info!(
            target: TARGET,
            %subject, %request_id, %client_address, %reason,
            deed = line.deed, resource = line.resource, resource_id = line.resource_id,
            firewall_id = line.firewall_id,
            "audit"
        );
    }
}

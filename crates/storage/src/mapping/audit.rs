use fireflow_domain::audit::{AuditAction, AuditEvent, AuditRecord, Snapshot};
use fireflow_domain::audit_chain::{EventHash, Head};
use fireflow_domain::error::Resource;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::text::Tenant;
use sea_orm::{NotSet, Set};

use super::Row;
use super::audit_state::state;
use crate::entity::audit_event::{ActiveModel, Model};
use crate::error::Corrupt;

/// The two states of an event as they are stored.
pub(crate) struct EventTexts {
    pub(crate) before: Option<String>,
    pub(crate) after: Option<String>,
}

impl EventTexts {
    /// The states of an event, as the API showed them at its instant.
    pub(crate) fn of(event: &AuditEvent) -> Self {
        let text = |snapshot: &Snapshot| state(snapshot, event.caller.now);
        Self { before: event.before.as_ref().map(text), after: event.after.as_ref().map(text) }
    }
}

/// An event as a row, without its position in its chain.
pub(crate) fn audit_row(event: &AuditEvent, subject: &Snapshot, texts: EventTexts) -> ActiveModel {
    let caller = &event.caller;
    ActiveModel {
        id: NotSet,
        at: Set(caller.now.micros()),
        subject: Set(caller.actor.subject.clone()),
        request_id: Set(caller.request_id.clone()),
        client_address: Set(caller.client_address.clone()),
        reason: Set(caller.reason.clone()),
        action: Set(event.action.as_str().to_owned()),
        resource: Set(subject.resource().as_str().to_owned()),
        resource_id: Set(subject.id()),
        firewall_id: Set(subject.firewall_id().get()),
        state_before: Set(texts.before),
        state_after: Set(texts.after),
        ..ActiveModel::default()
    }
}

/// A row as the domain's record.
pub(crate) fn audit_record(model: Model) -> Result<AuditRecord, Corrupt> {
    let row = Row { table: "audit_event", id: model.id };
    let link = match (model.sequence, &model.hash) {
        (Some(sequence), Some(hash)) => {
            Some(Head { sequence, hash: row.known("hash", EventHash::from_bytes(hash))? })
        }
        _ => None,
    };
    let policy = model.policy_id.map(|id| row.known("policy_id", PolicyId::new(id)));
    let tenant = model.tenant.map(|tenant| row.read("tenant", Tenant::parse(&tenant)));
    Ok(AuditRecord {
        id: model.id,
        at: row.instant("at", model.at)?,
        subject: model.subject,
        request_id: model.request_id,
        client_address: model.client_address,
        reason: model.reason,
        action: row.known("deed", AuditAction::parse(&model.action))?,
        resource: row.known("resource", Resource::parse(&model.resource))?,
        resource_id: model.resource_id,
        firewall_id: row.known("firewall_id", FirewallId::new(model.firewall_id))?,
        policy_id: policy.transpose()?,
        tenant: tenant.transpose()?,
        link,
        before: model.state_before,
        after: model.state_after,
    })
}

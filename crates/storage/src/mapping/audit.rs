use fireflow_domain::audit::{AuditEvent, AuditRecord, Deed, Snapshot};
use fireflow_domain::error::Resource;
use fireflow_domain::ids::FirewallId;
use fireflow_domain::rule::Endpoint;
use sea_orm::{NotSet, Set};
use serde_json::{Value, json};

use super::Row;
use crate::entity::audit_event::{ActiveModel, Model};
use crate::error::Corrupt;

/// An event as a row; none where it concerns nothing.
pub(crate) fn audit_row(event: &AuditEvent) -> Option<ActiveModel> {
    let subject = event.subject()?;
    let caller = &event.caller;
    let state = |snapshot: &Option<Snapshot>| snapshot.as_ref().map(|it| state(it).to_string());
    Some(ActiveModel {
        id: NotSet,
        at: Set(caller.now.micros()),
        subject: Set(caller.actor.subject.clone()),
        request_id: Set(caller.request_id.clone()),
        client_address: Set(caller.client_address.clone()),
        reason: Set(caller.reason.clone()),
        deed: Set(event.deed.as_str().to_owned()),
        resource: Set(subject.resource().as_str().to_owned()),
        resource_id: Set(subject.id()),
        firewall_id: Set(subject.firewall_id().get()),
        state_before: Set(state(&event.before)),
        state_after: Set(state(&event.after)),
    })
}

/// A row as the domain knows it.
pub(crate) fn audit_record(model: Model) -> Result<AuditRecord, Corrupt> {
    let row = Row { table: "audit_event", id: model.id };
    Ok(AuditRecord {
        id: model.id,
        at: row.instant("at", model.at)?,
        subject: model.subject,
        request_id: model.request_id,
        client_address: model.client_address,
        reason: model.reason,
        deed: row.known("deed", Deed::parse(&model.deed))?,
        resource: row.known("resource", Resource::parse(&model.resource))?,
        resource_id: model.resource_id,
        firewall_id: row.known("firewall_id", FirewallId::new(model.firewall_id))?,
        before: model.state_before,
        after: model.state_after,
    })
}

/// A state with the member names that the API has, so that the trail reads alike.
fn state(snapshot: &Snapshot) -> Value {
    match snapshot {
        Snapshot::Firewall(firewall) => json!({
            "name": firewall.spec.name.as_str(),
            "tenant": firewall.spec.tenant.as_str(),
            "description": firewall.spec.description.as_str(),
            "labels": firewall.spec.labels.as_map(),
            "revision": firewall.revision.0,
        }),
        Snapshot::Policy(policy) => json!({
            "name": policy.spec.name.as_str(),
            "description": policy.spec.description.as_str(),
            "labels": policy.spec.labels.as_map(),
            "default_action": policy.spec.default_action.as_str(),
            "rule_count": policy.rule_count,
            "revision": policy.revision.0,
        }),
        Snapshot::Order(policy, places) => json!({
            "name": policy.spec.name.as_str(),
            "revision": policy.revision.0,
            "rules": places
                .iter()
                .map(|(id, priority)| json!({"id": id.get(), "priority": priority}))
                .collect::<Vec<_>>(),
        }),
        Snapshot::Rule(rule) => {
            let spec = &rule.spec;
            json!({
                "filtering_policy_id": rule.policy.id.get(),
                "name": spec.name.as_ref().map(|name| name.as_str()),
                "action": spec.action.as_str(),
                "priority": spec.priority,
                "protocols": spec.protocols.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "icmp_type": spec.icmp_type,
                "icmp_code": spec.icmp_code,
                "sources": endpoints(&spec.sources),
                "destinations": endpoints(&spec.destinations),
                "ports": spec.ports.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "enabled": spec.enabled,
                "log": spec.log,
                "starts_at": spec.starts_at.map(|instant| instant.to_string()),
                "expires_at": spec.expires_at.map(|instant| instant.to_string()),
                "description": spec.description.as_str(),
                "reference": spec.reference.as_str(),
                "labels": spec.labels.as_map(),
                "revision": rule.revision.0,
            })
        }
    }
}

fn endpoints(endpoints: &[Endpoint]) -> Value {
    endpoints
        .iter()
        .map(|entry| match entry.port {
            Some(port) => json!({
                "address": entry.address.to_string(),
                "port": port.to_string(),
            }),
            None => json!({ "address": entry.address.to_string() }),
        })
        .collect()
}

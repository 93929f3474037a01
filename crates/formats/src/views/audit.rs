//! Audit events as JSON.

use fireflow_domain::audit::AuditRecord;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

with_members! {
    /// One change.
    #[derive(Debug, Serialize, JsonSchema)]
    #[schemars(rename = "AuditEvent")]
    pub struct AuditEventView {
        /// Identifies the event; later events have higher ids.
        pub id: i64,
        /// When the change was made.
        pub at: String,
        /// The subject of the token.
        pub subject: String,
        /// The request's id, as in its response and in the log.
        pub request_id: String,
        /// The client's address.
        pub client_address: String,
        /// The request's `Change-Reason`; empty: none.
        pub reason: String,
        /// The kind of change.
        pub action: String,
        /// The kind of resource.
        pub resource: String,
        /// The id of the resource.
        pub resource_id: i64,
        /// The firewall itself, or the firewall of the resource.
        pub firewall_id: i64,
        /// The policy itself, or the policy of the rule; null for a firewall.
        pub filtering_policy_id: Option<i64>,
        /// The firewall's tenant at that time; null if it is no longer known.
        pub tenant: Option<String>,
        /// The event's number in its chain, from 1: that of its policy, or of its firewall if it
        /// concerns no policy. Null for events from before these chains existed.
        pub sequence: Option<i64>,
        /// The hash of the event's content and of the previous event: 66 hexadecimal digits.
        pub hash: Option<String>,
        /// The resource before the change, as GET returned it; null if it was created or restored.
        pub before: Option<Value>,
        /// The resource after the change, as GET returned it; null if it was deleted.
        pub after: Option<Value>,
    }
}

impl From<&AuditRecord> for AuditEventView {
    fn from(record: &AuditRecord) -> Self {
        // The service writes states as JSON. If a state was written by other means and is not JSON,
        // it is shown as text.
        let state = |text: &String| {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
        };
        Self {
            id: record.id,
            at: record.at.to_string(),
            subject: record.subject.clone(),
            request_id: record.request_id.clone(),
            client_address: record.client_address.clone(),
            reason: record.reason.clone(),
            action: record.action.as_str().to_owned(),
            resource: record.resource.as_str().to_owned(),
            resource_id: record.resource_id,
            firewall_id: record.firewall_id.get(),
            filtering_policy_id: record.policy_id.map(|id| id.get()),
            tenant: record.tenant.as_ref().map(ToString::to_string),
            sequence: record.link.map(|link| link.sequence),
            hash: record.link.map(|link| link.hash.to_hex()),
            before: record.before.as_ref().map(state),
            after: record.after.as_ref().map(state),
        }
    }
}

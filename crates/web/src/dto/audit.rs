//! Audit events as they are answered.

use fireflow_domain::audit::AuditRecord;
use poem_openapi::Object;
use poem_openapi::types::Any;
use serde::Serialize;
use serde_json::Value;

use super::view::pages;

/// One change, and who made it.
#[derive(Debug, Object, Serialize)]
#[oai(rename = "AuditEvent")]
pub struct AuditEventView {
    /// Identifies the event; later ones have higher ids.
    pub id: i64,
    /// When it was.
    pub at: String,
    /// Whose token it was.
    pub subject: String,
    /// The request's id, as in its answer and in the log.
    pub request_id: String,
    /// From where it came.
    pub client_address: String,
    /// The request's `Change-Reason`; empty where none was given.
    pub reason: String,
    /// What was done.
    pub action: String,
    /// To what kind of thing.
    pub resource: String,
    /// To which.
    pub resource_id: i64,
    /// The firewall that it is, or belongs to.
    pub firewall_id: i64,
    /// The policy that it is, or belongs to; null for a firewall.
    pub filtering_policy_id: Option<i64>,
    /// Whose firewall it was then; null if that is not known any more.
    pub tenant: Option<String>,
    /// Its place among the events of its policy, or of its firewall if it concerns no policy, from 1;
    /// null if it is older than these chains are.
    pub sequence: Option<i64>,
    /// The hash of all that it says, and of the event before it: 66 hexadecimal digits.
    pub hash: Option<String>,
    /// How it was before, as GET showed it; null where it was created or restored.
    pub before: Option<Any<Value>>,
    /// How it was after, as GET showed it; null where it was deleted.
    pub after: Option<Any<Value>>,
}

impl AuditEventView {
    /// Its members, for `fields`.
    pub const MEMBERS: &'static [&'static str] = &[
        "id",
        "at",
        "subject",
        "request_id",
        "client_address",
        "reason",
        "action",
        "resource",
        "resource_id",
        "firewall_id",
        "filtering_policy_id",
        "tenant",
        "sequence",
        "hash",
        "before",
        "after",
    ];
}

impl From<&AuditRecord> for AuditEventView {
    fn from(record: &AuditRecord) -> Self {
        // Written by ourselves as JSON; what somebody else wrote is shown as text.
        let state = |text: &String| {
            Any(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone())))
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

pages! {
    /// A page of audit events.
    AuditEventPage, "AuditEventPage", AuditEventView
}

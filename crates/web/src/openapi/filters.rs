//! The filter language in machine-readable form: the fields of each list, their types and
//! operators. Clients use it to complete a filter while a user types.

use fireflow_domain::filter::parse::{MAX_FILTER_CHARS, MAX_FILTER_COMPARISONS, MAX_FILTER_DEPTH};
use fireflow_domain::filter::{FieldInfo, Level, describe};
use serde_json::{Value, json};

/// The document of `/docs/filter-schema.json`.
#[must_use]
pub fn filter_schema() -> Value {
    let lists = [
        (Level::Firewall, "firewalls", &["/firewalls/"][..]),
        (
            Level::Policy,
            "filtering_policies",
            &["/firewalls/{firewall_id}/filtering-policies/", "/filtering-policies/"],
        ),
        (
            Level::Rule,
            "rules",
            &[
                "/firewalls/{firewall_id}/filtering-policies/{filtering_policy_id}/rules/",
                "/rules/",
            ],
        ),
        (Level::Event, "audit_events", &["/audit-events/"]),
    ];
    let lists: serde_json::Map<String, Value> = lists
        .into_iter()
        .map(|(level, name, paths)| {
            let fields: Vec<Value> = describe(level).iter().map(field).collect();
            (name.to_owned(), json!({"paths": paths, "fields": fields}))
        })
        .collect();
    json!({
        "keywords": ["AND", "OR", "NOT", "IN", "null", "true", "false"],
        "limits": {
            "characters": MAX_FILTER_CHARS,
            "depth": MAX_FILTER_DEPTH,
            "comparisons": MAX_FILTER_COMPARISONS,
        },
        "lists": lists,
    })
}

fn field(info: &FieldInfo) -> Value {
    let mut value = json!({
        "name": info.name,
        "type": info.kind.as_str(),
        "operators": info.operators,
        "nullable": info.is_nullable,
    });
    if let Some(object) = value.as_object_mut() {
        if !info.values.is_empty() {
            object.insert("values".to_owned(), json!(info.values));
        }
        if !info.members.is_empty() {
            let members: Vec<Value> = info.members.iter().map(field).collect();
            object.insert("members".to_owned(), json!(members));
        }
    }
    value
}

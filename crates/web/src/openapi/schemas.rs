//! Constraints on the members of the schemas, as far as a schema can express them.

use anyhow::Context as _;
use fireflow_auth::{KeyFile, KeyFileState};
use fireflow_domain::actor::Role;
use fireflow_domain::audit::AuditAction;
use fireflow_domain::error::Resource;
use fireflow_domain::ids::MAX_ID;
use fireflow_domain::labels::MAX_LABEL_VALUE_CHARS;
use fireflow_domain::page::MAX_PAGE_SIZE;
use fireflow_domain::rule::WarningCode;
use fireflow_formats::analysis::requests::MAX_FOUND;
use fireflow_formats::patterns::{ADDRESS, ADDRESS_RANGE, FINDING_ID, LABEL_VALUE, protocol, text};
use fireflow_formats::views::Part;
use serde_json::{Map, Value, json};

use super::{member, object};
use crate::dto::rule_set::RULE;
use crate::params::ACTION;
use crate::problem::Code;

/// Members that can be null in requests, by schema. Those of answers follow from their types.
const NULLABLE: &[(&str, &[&str])] = &[
    ("Endpoint", &["port"]),
    ("PortEntry", &["number", "from", "to"]),
    ("FirewallPatch", &["description", "labels"]),
    ("FilteringPolicyPatch", &["description", "labels"]),
    ("Packet", &["source_port", "destination_port", "protocol", "icmp_type", "icmp_code", "at"]),
    ("RuleRestoration", &["name"]),
    ("RuleOperation", &["name"]),
    ("NewAcceptance", &["until", "proof"]),
    ("NewComparison", &["left", "from", "until"]),
    ("ComparedPolicy", &["firewall_id", "filtering_policy_id", "default_action"]),
    ("SearchOutcome", &["action", "rule_id"]),
    ("NewSearch", &["limit", "from", "until"]),
    ("NewPartition", &["at"]),
];

/// The members of a change of a rule that cannot be null, because they have no default.
const WITHOUT_DEFAULT: [&str; 4] = ["action", "priority", "sources", "destinations"];

/// Whether a member of a request can be null: in a new rule, if it can be null in answers; in a change of
/// a rule, if it has a default; in a set of packets, always.
fn is_nullable_in_request(schema: &str, property: &str, in_answers: &[String]) -> bool {
    match schema {
        "NewFirewallRule" => in_answers.iter().any(|name| name == property),
        "FirewallRulePatch" => !WITHOUT_DEFAULT.contains(&property),
        "GivenPacketSet" => true,
        _ => false,
    }
}

/// The constraints on a member in addition to its type.
fn constraint(schema: &str, property: &str, kind: &str, format: &str) -> Value {
    let is_input = schema.starts_with("New")
        || ["Patch", "Restoration", "Operation"].iter().any(|end| schema.ends_with(end));
    let moves = matches!(schema, "RuleMove" | "RuleOperation");
    match (kind, property) {
        ("integer", "limit") => json!({"minimum": 1, "maximum": MAX_FOUND}),
        ("string", "at") if moves => json!({"enum": ["first", "last"]}),
        ("string", "op") => json!({"enum": ["create", "update", "delete", "move", "restore"]}),
        ("string", "duplicates") => json!({"enum": ["keep"]}),
        ("string", "action") if schema == "AuditEvent" => json!({"enum": AuditAction::WORDS}),
        ("string", "file") if schema == "KeyFile" => {
            json!({"enum": KeyFile::ALL.map(KeyFile::as_str)})
        }
        ("string", "state") if schema == "KeyFile" => {
            json!({"enum": KeyFileState::ALL.map(KeyFileState::as_str)})
        }
        ("string", "state") if schema == "InactiveRule" => {
            json!({"enum": ["scheduled", "expired", "disabled"]})
        }
        ("string", "state") => json!({"enum": ["active", "scheduled", "expired", "disabled"]}),
        ("string", "resource") => json!({"enum": Resource::WORDS}),
        ("string", "reason") if !is_input && !matches!(schema, "AuditEvent" | "Acceptance") => {
            json!({"enum": ["rule", "default"]})
        }
        ("string", "code") if schema == "Warning" => {
            json!({"enum": WarningCode::ALL.map(WarningCode::as_str)})
        }
        ("string", "status") if schema == "Health" => json!({"enum": ["OK", "unavailable"]}),
        ("string", "status") => json!({"enum": ["ok", "unavailable"]}),
        ("string", "database") => json!({"enum": ["sqlite", "postgres"]}),
        ("string", "address") => json!({"pattern": ADDRESS_RANGE, "example": "10.0.0.0/8"}),
        ("string", "source_address" | "destination_address") => {
            json!({"pattern": ADDRESS, "example": "192.0.2.7"})
        }
        ("string", "protocol") => {
            let and_any = !matches!(schema, "Packet" | "InspectedPacket");
            json!({"pattern": protocol(and_any), "example": "tcp"})
        }
        (
            "string",
            "created_at" | "updated_at" | "deleted_at" | "starts_at" | "expires_at" | "accepted_at"
            | "at" | "from" | "until",
        ) => {
            json!({"format": "date-time"})
        }
        ("string", "finding_id" | "proof") => json!({"pattern": FINDING_ID}),
        // Unlike other actions, it can be one of two.
        ("string", "action") if schema == "SearchOutcome" => {
            json!({"enum": ["ALLOW", "DENY", "REJECT", "BLOCKED"]})
        }
        ("object", "labels") if schema.starts_with("New") => json!({
            "additionalProperties":
                {"type": "string", "maxLength": MAX_LABEL_VALUE_CHARS, "pattern": LABEL_VALUE},
        }),
        ("array", "protocols") => json!({
            "items": {"type": "string", "pattern": protocol(false), "example": "tcp"},
        }),
        ("array", "partial") => {
            json!({"items": {"type": "string", "enum": Part::ALL.map(Part::as_str)}})
        }
        ("array", "rule_ids") => {
            json!({"items": {"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID}})
        }
        ("array", "roles") => {
            let roles: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
            json!({"items": {"type": "string", "enum": roles}})
        }
        ("integer", "id" | "before" | "after") => json!({"minimum": 1, "maximum": MAX_ID}),
        ("integer", id) if id.ends_with("_id") => json!({"minimum": 1, "maximum": MAX_ID}),
        ("integer", "revision" | "if_revision" | "page" | "position") => json!({"minimum": 1}),
        ("integer", "per_page") => json!({"minimum": 1, "maximum": MAX_PAGE_SIZE}),
        ("integer", "status") => json!({"minimum": 400, "maximum": 599}),
        ("integer", _) => match format {
            "uint8" => json!({"minimum": 0, "maximum": u8::MAX}),
            "uint16" => json!({"minimum": 0, "maximum": u16::MAX}),
            "int32" => json!({"minimum": i32::MIN, "maximum": i32::MAX}),
            _ => json!({"minimum": 0}),
        },
        _ => json!({}),
    }
}

/// Whether a member is an action. All of these refer to the shared schema of actions.
fn is_action(schema: &str, property: &str, shape: &Map<String, Value>) -> bool {
    let is_action = match schema {
        "AuditEvent" | "SearchOutcome" => false,
        "Difference" => matches!(property, "from" | "to"),
        _ => matches!(property, "action" | "default_action"),
    };
    is_action && shape.get("type") == Some(&json!("string"))
}

fn constrain(schema: &str, property: &str, shape: &mut Value) -> anyhow::Result<()> {
    let shape = object(shape)?;
    if is_action(schema, property, shape) {
        shape.remove("type");
        shape.insert("allOf".to_owned(), json!([{"$ref": ACTION}]));
        return Ok(());
    }
    let word = |name: &str| shape.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    // Exactly the texts that people write have a maximum length.
    if let Some(max) = shape.get("maxLength").and_then(Value::as_u64) {
        let pattern = text(max, shape.contains_key("minLength"));
        shape.insert("pattern".to_owned(), pattern.into());
        return Ok(());
    }
    let mut more = constraint(schema, property, &word("type"), &word("format"));
    shape.append(object(&mut more)?);
    Ok(())
}

/// Adds the constraints to the schemas.
///
/// # Errors
/// Returns an error if a schema differs from what is expected here. That is a defect, which the
/// first test finds.
pub(super) fn correct(schemas: &mut Map<String, Value>) -> anyhow::Result<()> {
    let rule = schemas.get("FirewallRule").and_then(|rule| rule.get("properties"));
    let members = rule.and_then(Value::as_object).context("the schema of a rule")?;
    let is_nullable = |member: &(&String, &Value)| member.1.get("nullable").is_some();
    let in_answers: Vec<String> =
        members.iter().filter(is_nullable).map(|(name, _)| name.clone()).collect();
    for (name, schema) in schemas.iter_mut() {
        let schema = object(schema)?;
        if schema.get("type") != Some(&json!("object")) || !schema.contains_key("properties") {
            continue;
        }
        // Requests with unknown members are refused, and answers never contain any.
        schema.insert("additionalProperties".to_owned(), json!(false));
        let nullable = NULLABLE.iter().find(|(schema, _)| schema == name);
        let properties = object(member(schema, "properties")?)?;
        for (property, shape) in properties.iter_mut() {
            constrain(name, property, shape)?;
            if is_nullable_in_request(name, property, &in_answers) {
                set_nullable(shape)?;
            }
        }
        for property in nullable.iter().flat_map(|(_, names)| names.iter()) {
            let property = properties
                .get_mut(*property)
                .with_context(|| format!("`{name}` has no member `{property}`"))?;
            set_nullable(property)?;
        }
        if name.ends_with("Patch")
            && let Some(labels) = properties.get_mut("labels")
        {
            object(labels)?.insert(
                "additionalProperties".to_owned(),
                json!({"type": "string", "nullable": true, "maxLength": MAX_LABEL_VALUE_CHARS,
                       "pattern": LABEL_VALUE}),
            );
        }
    }
    // `fields` selects the members of an answer, so only `id` is always present.
    for view in ["Firewall", "FilteringPolicy", "FirewallRule", "AuditEvent"] {
        let schema = object(member(schemas, view)?)?;
        schema.insert("required".to_owned(), json!(["id"]));
    }
    // A rule of a set is like a new rule, but may have the id of a stored one.
    let mut of_set = schemas.get("NewFirewallRule").cloned().context("the schema of a new rule")?;
    let members = object(&mut of_set)?;
    members.insert("title".to_owned(), json!(RULE));
    // The address is one of those reserved for documentation, and the rule equals no other example.
    // So a PUT of only this rule to a policy with rules would delete them, and is refused.
    let example = object(member(members, "example")?)?;
    example.insert("name".to_owned(), json!("example"));
    example.insert("destinations".to_owned(), json!([{"address": "203.0.113.10"}]));
    let id = json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID, "nullable": true,
                    "description": "The id of the stored rule; omitted: FireFlow finds the rule by \
                                    name or content."});
    object(member(members, "properties")?)?.insert("id".to_owned(), id);
    schemas.insert(RULE.to_owned(), of_set);
    super::operations::split(schemas)?;
    if let Some(problem) = schemas.get_mut("Problem") {
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let properties = object(member(object(problem)?, "properties")?)?;
        object(member(properties, "code")?)?.insert("enum".to_owned(), json!(codes));
        let detail = object(member(schemas, "ProblemDetail")?)?;
        let properties = object(member(detail, "properties")?)?;
        object(member(properties, "code")?)?.insert("enum".to_owned(), json!(codes));
    }
    Ok(())
}

/// Makes a member nullable. `nullable` next to `$ref` has no effect, so a reference is wrapped in
/// `allOf`; nor has it if `enum` lacks null.
fn set_nullable(property: &mut Value) -> anyhow::Result<()> {
    let members = object(property)?;
    if let Some(Value::Array(values)) = members.get_mut("enum") {
        values.push(Value::Null);
    }
    if let Some(reference) = members.remove("$ref") {
        members.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    members.insert("nullable".to_owned(), json!(true));
    Ok(())
}

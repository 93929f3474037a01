//! The schemas: what their members can hold, as far as a schema can say it.

use anyhow::Context as _;
use fireflow_auth::{KeyFile, KeyFileState};
use fireflow_domain::actor::Role;
use fireflow_domain::audit::AuditAction;
use fireflow_domain::error::Resource;
use fireflow_domain::ids::MAX_ID;
use fireflow_domain::labels::MAX_LABEL_VALUE_CHARS;
use fireflow_domain::net::Protocol;
use fireflow_domain::page::MAX_PAGE_SIZE;
use fireflow_domain::rule::WarningCode;
use serde_json::{Map, Value, json};

use super::{member, object};
use crate::dto::view::Part;
use crate::problem::Code;

/// Members that can be null, by schema.
const NULLABLE: &[(&str, &[&str])] = &[
    ("Endpoint", &["port"]),
    ("PortEntry", &["number", "from", "to"]),
    ("NewFirewallRule", &["name", "icmp_type", "icmp_code", "starts_at", "expires_at"]),
    ("FirewallRulePatch", &["name", "icmp_type", "icmp_code", "starts_at", "expires_at", "labels"]),
    ("FirewallPatch", &["labels"]),
    ("FilteringPolicyPatch", &["labels"]),
    ("FirewallRule", &["name", "icmp_type", "icmp_code", "starts_at", "expires_at"]),
    ("RuleSummary", &["name"]),
    ("Packet", &["source_port", "destination_port", "protocol", "icmp_type", "icmp_code", "at"]),
    ("InspectedPacket", &["source_port", "destination_port", "icmp_type", "icmp_code"]),
    ("Inspection", &["active_rule"]),
    ("InspectionItem", &["active_rule"]),
    ("Explanation", &["matched"]),
    ("MatchedEntries", &["port_index", "port"]),
    ("Whoami", &["tenants"]),
    ("AuditEvent", &["filtering_policy_id", "tenant", "sequence", "hash"]),
    ("RuleRestoration", &["name"]),
    ("RuleOperation", &["name"]),
    ("KeyFile", &["fault"]),
];

macro_rules! octet {
    () => {
        "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
    };
}
macro_rules! v4 {
    () => {
        concat!("(", octet!(), r"\.){3}", octet!())
    };
}
/// What every IPv6 address looks like; not all that looks so is one (RFC 4291, 2.2).
macro_rules! v6 {
    () => {
        "[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*"
    };
}
macro_rules! port {
    () => {
        "(6553[0-5]|655[0-2][0-9]|65[0-4][0-9]{2}|6[0-4][0-9]{3}|[1-5][0-9]{4}|[1-9][0-9]{0,3}|0)"
    };
}

/// A single address.
pub const ADDRESS: &str = concat!("^(", v4!(), "|", v6!(), ")$");
/// An address, a block, a range or `any`.
pub const ADDRESS_RANGE: &str = concat!(
    "^(",
    v4!(),
    "(/(3[0-2]|[12]?[0-9])|-",
    v4!(),
    ")?|",
    v6!(),
    "(/(12[0-8]|1[01][0-9]|[1-9]?[0-9])|-",
    v6!(),
    ")?|",
    "[aA][nN][yY])$"
);
/// A port or `first-last`.
pub const PORTS: &str = concat!("^", port!(), "(-", port!(), ")?$");
// Texts are trimmed, so that any white space may surround them.
macro_rules! white {
    () => {
        r"[\t-\r \x85\xa0\u1680\u2000-\u200a\u202f\u205f\u3000]*"
    };
}
/// What is invisible (see `fireflow_domain::invisible`), in the basic plane: beyond it the engines
/// of patterns do not agree on how to write a character.
macro_rules! invisible {
    () => {
        concat!(
            r"\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5",
            r"\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff",
            r"\uffa0\ufff0-\ufffb"
        )
    };
}
macro_rules! trimmed {
    () => {
        concat!(
            r"[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u202f\u205f\u3000",
            invisible!(),
            r"]([^\x00-\x1f\x7f-\x9f",
            invisible!(),
            r"]*[^\x00-\x20\x7f-\xa0\u1680\u2000-\u200a\u202f\u205f\u3000",
            invisible!(),
            "])?"
        )
    };
}
/// A name: no control characters, nothing invisible, and not empty.
pub const NAME: &str = concat!("^", white!(), trimmed!(), white!(), "$");
/// The same, or empty.
const NAME_OR_EMPTY: &str = concat!("^", white!(), "(", trimmed!(), ")?", white!(), "$");
/// No control characters but tabs and line ends.
const FREE_TEXT: &str = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]*$";
/// No control characters.
pub const NO_CONTROLS: &str = r"^[^\x00-\x1f\x7f-\x9f]*$";

/// The value of a label: no control characters, nothing invisible.
const LABEL_VALUE: &str = concat!(r"^[^\x00-\x1f\x7f-\x9f", invisible!(), "]*$");

/// A protocol by name, in any case, or by number.
#[must_use]
pub fn protocol(and_any: bool) -> String {
    let names = Protocol::names().chain(and_any.then_some("any"));
    let any_case = |name: &str| -> String {
        name.chars().map(|it| format!("[{it}{}]", it.to_ascii_uppercase())).collect()
    };
    let names: Vec<String> = names.map(any_case).collect();
    format!("^({}|25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$", names.join("|"))
}

/// What a member can hold, beside its type.
fn constraint(schema: &str, property: &str, kind: &str, format: &str) -> Value {
    const ACTIONS: [&str; 3] = ["ALLOW", "DENY", "REJECT"];
    let is_input = schema.starts_with("New")
        || ["Patch", "Restoration", "Operation"].iter().any(|end| schema.ends_with(end));
    let moves = matches!(schema, "RuleMove" | "RuleOperation");
    match (kind, property) {
        ("string", "at") if moves => json!({"enum": ["first", "last"]}),
        ("string", "op") => json!({"enum": ["create", "update", "delete", "move", "restore"]}),
        ("string", "duplicates") => json!({"enum": ["keep"]}),
        ("string", "action") if schema == "AuditEvent" => json!({"enum": AuditAction::WORDS}),
        ("string", "action" | "default_action") => json!({"enum": ACTIONS}),
        ("string", "file") if schema == "KeyFile" => {
            json!({"enum": KeyFile::ALL.map(KeyFile::as_str)})
        }
        ("string", "state") if schema == "KeyFile" => {
            json!({"enum": KeyFileState::ALL.map(KeyFileState::as_str)})
        }
        ("string", "state") => json!({"enum": ["active", "scheduled", "expired", "disabled"]}),
        ("string", "resource") => json!({"enum": Resource::WORDS}),
        ("string", "reason") if schema != "AuditEvent" => json!({"enum": ["rule", "default"]}),
        ("string", "code") if schema == "Warning" => {
            json!({"enum": WarningCode::ALL.map(WarningCode::as_str)})
        }
        ("string", "status") => json!({"enum": ["ok", "unavailable"]}),
        ("string", "database") => json!({"enum": ["sqlite", "postgres"]}),
        ("string", "name") if is_input => json!({"pattern": NAME}),
        ("string", "tenant" | "reference") if is_input => json!({"pattern": NAME_OR_EMPTY}),
        ("string", "description") if is_input => json!({"pattern": FREE_TEXT}),
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
            "created_at" | "updated_at" | "deleted_at" | "starts_at" | "expires_at" | "at",
        ) => {
            json!({"format": "date-time"})
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

fn constrain(schema: &str, property: &str, shape: &mut Value) -> anyhow::Result<()> {
    let shape = object(shape)?;
    let word = |name: &str| shape.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut more = constraint(schema, property, &word("type"), &word("format"));
    shape.append(object(&mut more)?);
    Ok(())
}

/// Completes the schemas.
///
/// # Errors
/// Where one is not what is expected here: a defect, found by the first test.
pub(super) fn correct(schemas: &mut Map<String, Value>) -> anyhow::Result<()> {
    for (name, schema) in schemas.iter_mut() {
        let schema = object(schema)?;
        if schema.get("type") != Some(&json!("object")) || !schema.contains_key("properties") {
            continue;
        }
        // Unknown members are refused, and none is ever answered.
        schema.insert("additionalProperties".to_owned(), json!(false));
        let nullable = NULLABLE.iter().find(|(schema, _)| schema == name);
        let properties = object(member(schema, "properties")?)?;
        for (property, shape) in properties.iter_mut() {
            constrain(name, property, shape)?;
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
    // What comes depends on `fields`.
    for view in ["Firewall", "FilteringPolicy", "FirewallRule", "AuditEvent"] {
        let schema = object(member(schemas, view)?)?;
        schema.insert("required".to_owned(), json!(["id"]));
    }
    // A rule of a set is like a new one, and may say which stored one it is.
    let mut of_set = schemas.get("NewFirewallRule").cloned().context("the schema of a new rule")?;
    let members = object(&mut of_set)?;
    members.insert("title".to_owned(), json!("FirewallRuleOfSet"));
    // Of the addresses for documentation, and equal to no other example: where rules are, PUT of it
    // alone would delete them, and is refused.
    let example = object(member(members, "example")?)?;
    example.insert("name".to_owned(), json!("example"));
    example.insert("destinations".to_owned(), json!([{"address": "203.0.113.10"}]));
    let id = json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": MAX_ID, "nullable": true,
                    "description": "The id of the stored rule; if left out, the rule is found by \
                                    name or content."});
    object(member(members, "properties")?)?.insert("id".to_owned(), id);
    schemas.insert("FirewallRuleOfSet".to_owned(), of_set);
    if let Some(problem) = schemas.get_mut("Problem") {
        let codes: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        let properties = object(member(object(problem)?, "properties")?)?;
        object(member(properties, "code")?)?.insert("enum".to_owned(), json!(codes));
    }
    Ok(())
}

/// A reference cannot carry `nullable` beside it: it is wrapped.
fn set_nullable(property: &mut Value) -> anyhow::Result<()> {
    let members = object(property)?;
    if let Some(reference) = members.remove("$ref") {
        members.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    members.insert("nullable".to_owned(), json!(true));
    Ok(())
}

#[cfg(test)]
mod tests {
    use fireflow_domain::invisible::is_invisible;

    /// The ranges of a class of characters, as [`invisible`] writes them.
    fn ranges(class: &str) -> Vec<std::ops::RangeInclusive<u32>> {
        let hex = |text: &str| u32::from_str_radix(text, 16).unwrap();
        let parts: Vec<&str> = class.split('\\').skip(1).collect();
        let mut ranges: Vec<std::ops::RangeInclusive<u32>> = Vec::new();
        let mut is_end = false;
        for part in parts {
            let code = hex(part.trim_start_matches(['x', 'u']).trim_end_matches('-'));
            match is_end {
                true => {
                    let start = *ranges.pop().unwrap().start();
                    ranges.push(start..=code);
                }
                false => ranges.push(code..=code),
            }
            is_end = part.ends_with('-');
        }
        ranges
    }

    #[test]
    fn the_pattern_knows_what_is_invisible() {
        let ranges = ranges(invisible!());
        for character in (0..0x1_0000).filter_map(char::from_u32) {
            let code = u32::from(character);
            let is_listed = ranges.iter().any(|range| range.contains(&code));
            assert_eq!(is_listed, is_invisible(character), "U+{code:04X}");
        }
    }
}

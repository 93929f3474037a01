//! Describes the operations of a batch as a choice between five schemas, one for each word of `op`.
//! The framework generates a single object with the members of all of them. From that object, a
//! typed client cannot see which members belong together.

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{member, object};

/// The schema that becomes the choice.
const OPERATION: &str = "RuleOperation";

/// A choice: `op`, the name of its schema, its description, its required members, and its optional
/// members.
type Choice =
    (&'static str, &'static str, &'static str, &'static [&'static str], &'static [&'static str]);

const CHOICES: [Choice; 5] = [
    (
        "create",
        "CreateRuleOperation",
        "Creates a rule, with its own `priority` or with one of `before`, `after` and `at`.",
        &["rule"],
        &["before", "after", "at"],
    ),
    (
        "update",
        "UpdateRuleOperation",
        "Changes a rule.",
        &["rule_id", "patch"],
        &["if_revision", "if_match"],
    ),
    (
        "delete",
        "DeleteRuleOperation",
        "Deletes a rule.",
        &["rule_id"],
        &["if_revision", "if_match"],
    ),
    (
        "move",
        "MoveRulesOperation",
        "Moves rules as a block, to exactly one of `before`, `after` and `at`.",
        &["rule_ids"],
        &["before", "after", "at"],
    ),
    (
        "restore",
        "RestoreRuleOperation",
        "Restores a deleted rule.",
        &["rule_id"],
        &["name", "duplicates"],
    ),
];

/// Splits the schema of operations into one schema per operation.
///
/// # Errors
/// Returns a defect if the schema lacks a member that a choice has.
pub(super) fn split(schemas: &mut Map<String, Value>) -> anyhow::Result<()> {
    let mut whole = schemas.remove(OPERATION).context("the schema of operations")?;
    let properties = object(member(object(&mut whole)?, "properties")?)?.clone();
    let mut mapping = Map::new();
    let mut choices = Vec::new();
    for (op, name, description, required, others) in CHOICES {
        let mut own = Map::new();
        own.insert("op".to_owned(), json!({"type": "string", "enum": [op]}));
        for property in required.iter().chain(others) {
            let shape = properties.get(*property);
            let shape = shape.with_context(|| format!("`{OPERATION}` has no `{property}`"))?;
            own.insert((*property).to_owned(), shape.clone());
        }
        let required: Vec<&str> = ["op"].into_iter().chain(required.iter().copied()).collect();
        let schema = json!({
            "type": "object",
            "title": name,
            "description": description,
            "required": required,
            "properties": own,
            "additionalProperties": false,
        });
        schemas.insert(name.to_owned(), schema);
        let reference = format!("#/components/schemas/{name}");
        choices.push(json!({"$ref": reference}));
        mapping.insert(op.to_owned(), json!(reference));
    }
    let choice = json!({
        "title": OPERATION,
        "description": "One change of a batch.",
        "oneOf": choices,
        "discriminator": {"propertyName": "op", "mapping": mapping},
    });
    schemas.insert(OPERATION.to_owned(), choice);
    Ok(())
}

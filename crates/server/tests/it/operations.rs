//! All operations, from their rows and the description, for the tests that walk them. A new
//! operation is covered without being listed.

use fireflow_domain::ids::MAX_ID;
use fireflow_web::described::{Access, Effect, OPERATIONS, Operation};
use serde_json::{Value, json};

use crate::support::Api;

/// The id of a finding that no policy has.
const NO_FINDING: &str = "00000000000000000000000000000000";

/// The row of an operation.
pub(crate) fn row(id: &str) -> &'static Operation {
    let mut rows = OPERATIONS.into_iter().flatten().filter(|row| row.id == id);
    let row = rows.next().unwrap_or_else(|| panic!("{id} has no row"));
    assert!(rows.next().is_none(), "{id} has two rows");
    row
}

/// An operation of the description, with its row.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) row: &'static Operation,
    pub(crate) method: String,
    pub(crate) template: String,
    /// The example of its body.
    pub(crate) body: Option<Value>,
    /// What the description says about it.
    pub(crate) described: Value,
}

impl Described {
    /// The number of ids in its path.
    pub(crate) fn depth(&self) -> usize {
        self.template.matches('{').count()
    }

    /// Its path, with the ids of a firewall, a policy and a rule.
    pub(crate) fn path(&self, [firewall, policy, rule]: &[Value; 3]) -> String {
        let path = self
            .template
            .replace("{firewall_id}", &firewall.to_string())
            .replace("{filtering_policy_id}", &policy.to_string())
            .replace("{rule_id}", &rule.to_string())
            .replace("{finding_id}", NO_FINDING);
        assert!(!path.contains('{'), "{path}");
        path
    }

    /// Its path, and the examples of its parameters.
    pub(crate) fn target(&self, ids: &[Value; 3]) -> String {
        let examples: Vec<String> = self
            .row
            .parameters()
            .filter_map(|param| Some(format!("{}={}", param.name, param.example?)))
            .collect();
        let path = self.path(ids);
        if examples.is_empty() { path } else { format!("{path}?{}", examples.join("&")) }
    }

    /// The example of its body with the id of an existing rule: a user must fill in the ids of a
    /// body, like those of the path.
    pub(crate) fn body_with(&self, rule: &Value) -> Option<Value> {
        self.body.as_ref().map(|body| with_rule(body, rule))
    }

    /// Whether it restores something that was deleted.
    pub(crate) fn restores(&self) -> bool {
        self.template.ends_with("/restore/")
    }

    pub(crate) fn needs_token(&self) -> bool {
        self.row.access != Access::Open
    }
}

/// A path in which the id of a finding, if there is one, is that of the policy's first finding. A
/// policy without one gets a rule that has one.
pub(crate) async fn with_finding(api: &Api, path: String) -> String {
    let Some((policy, _)) = path.split_once("findings/") else { return path };
    let list = format!("{policy}analysis/?wait=25&accepted=include");
    let mut findings = api.get(&list).await.expect(200);
    if findings["total"] == 0 {
        api.rule(policy, &json!({"priority": 9_999, "protocols": ["sctp"]})).await;
        findings = api.get(&list).await.expect(200);
    }
    path.replace(NO_FINDING, findings["items"][0]["id"].as_str().unwrap())
}

/// All operations, in an order in which their examples work: creations from the outermost resource
/// inwards, deletions last and from the innermost resource outwards.
pub(crate) fn operations(document: &Value) -> Vec<Described> {
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            operations.push(Described {
                row: row(operation["operationId"].as_str().unwrap()),
                method: method.to_uppercase(),
                template: path.clone(),
                body: (!schema.is_null()).then(|| example(document, schema)),
                described: operation.clone(),
            });
        }
    }
    operations.sort_by_key(|operation| match operation.row.effect {
        Effect::Creates => operation.depth(),
        Effect::Reads | Effect::Changes => 10,
        Effect::Deletes => 20 - operation.depth(),
    });
    operations
}

/// The description's example of a body.
fn example(document: &Value, schema: &Value) -> Value {
    if schema["type"] == "array" {
        return json!([example(document, &schema["items"])]);
    }
    let name = schema["$ref"].as_str().unwrap().rsplit('/').next().unwrap();
    let example = &document["components"]["schemas"][name]["example"];
    assert!(example.is_object(), "{name} has no example");
    example.clone()
}

/// A body with the id of an existing rule. Examples use an id that no rule has.
fn with_rule(body: &Value, rule: &Value) -> Value {
    match body {
        Value::Number(_) if *body == MAX_ID => rule.clone(),
        Value::Array(items) => items.iter().map(|item| with_rule(item, rule)).collect(),
        Value::Object(members) => Value::Object(
            members.iter().map(|(name, value)| (name.clone(), with_rule(value, rule))).collect(),
        ),
        other => other.clone(),
    }
}

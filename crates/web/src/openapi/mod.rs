//! The description of the API: the framework's document, corrected where the framework cannot
//! express it, with links from each created resource to the operations on it.

pub mod filters;
mod operations;
pub mod patterns;
pub mod schemas;

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::dto::body::MERGE_PATCH;
use crate::dto::lines::LineFormat;
use crate::params::{self, Param};
use crate::reply::JSON;

const ABOUT: &str = "Firewalls, their filtering policies and ordered rules in one place. \
                     Evaluates packets against them, and explains the verdict.\n\nSend a token \
                     with every request: \
                     **Authorize** above accepts a token. For a local service \
                     `fireflow jwt` prints one (in a checkout: `cargo xtask jwt`). Paths \
                     work with and without a trailing slash. Errors are RFC 9457 problems: branch \
                     on `code`.";

/// The groups of operations in reading order, from the outermost resource inwards.
const TAGS: [&str; 6] =
    ["Firewalls", "FilteringPolicies", "FirewallRules", "Inspections", "Audit", "Service"];

/// The query parameters of each operation.
#[must_use]
pub fn parameters_of(operation: &str) -> &'static [Param] {
    match operation {
        "getFirewalls" => params::FIREWALLS,
        "getFilteringPolicies" | "getAllFilteringPolicies" => params::POLICIES,
        "getRules" | "getAllRules" => params::RULES,
        "getFirewallById" => params::FIREWALL,
        "getFilteringPolicyById" => params::POLICY,
        "getRuleById" => params::RULE,
        "getAuditEvents" => params::AUDIT_EVENTS,
        "createFirewall" | "createFilteringPolicy" => params::NEW,
        "createRule" => params::NEW_RULE,
        "replaceRules" => params::RULE_SET,
        "batchRules" => params::BATCH,
        "restoreRuleById" => params::RULE_RESTORATION,
        "inspectPacket" => params::INSPECTION,
        "inspectPackets" => params::INSPECTIONS,
        _ => params::NONE,
    }
}

/// The headers of an answer that report the caller's rate limit
/// (draft-ietf-httpapi-ratelimit-headers).
const RATE_HEADERS: &[(&str, &str)] = &[
    (
        "RateLimit",
        "What is left of your rate: `r` requests at once, all of them again in `t` seconds; on 429 the \
         next one is served in `t` seconds. Only if subjects have a rate",
    ),
    (
        "RateLimit-Policy",
        "Your rate: `q` requests in a window of `w` seconds. Only if subjects have a rate",
    ),
];

/// An operation on a created resource: its target, and the sources of its parameters.
type Link = (&'static str, &'static [(&'static str, &'static str)]);

const OF_FIREWALL: &[(&str, &str)] = &[("firewall_id", "$response.body#/id")];
const OF_POLICY: &[(&str, &str)] =
    &[("firewall_id", "$request.path.firewall_id"), ("filtering_policy_id", "$response.body#/id")];
const OF_RULE: &[(&str, &str)] = &[
    ("firewall_id", "$request.path.firewall_id"),
    ("filtering_policy_id", "$request.path.filtering_policy_id"),
    ("rule_id", "$response.body#/id"),
];

const LINKS: &[(&str, &[Link])] = &[
    (
        "createFirewall",
        &[
            ("getFirewallById", OF_FIREWALL),
            ("updateFirewallById", OF_FIREWALL),
            ("deleteFirewallById", OF_FIREWALL),
            ("restoreFirewallById", OF_FIREWALL),
            ("getFilteringPolicies", OF_FIREWALL),
            ("createFilteringPolicy", OF_FIREWALL),
        ],
    ),
    (
        "createFilteringPolicy",
        &[
            ("getFilteringPolicyById", OF_POLICY),
            ("updateFilteringPolicyById", OF_POLICY),
            ("deleteFilteringPolicyById", OF_POLICY),
            ("restoreFilteringPolicyById", OF_POLICY),
            ("getRules", OF_POLICY),
            ("createRule", OF_POLICY),
            ("moveRules", OF_POLICY),
            ("batchRules", OF_POLICY),
            ("replaceRules", OF_POLICY),
            ("inspectPacket", OF_POLICY),
            ("inspectPackets", OF_POLICY),
        ],
    ),
    (
        "createRule",
        &[
            ("getRuleById", OF_RULE),
            ("updateRuleById", OF_RULE),
            ("deleteRuleById", OF_RULE),
            ("restoreRuleById", OF_RULE),
        ],
    ),
];

/// The framework's document with all corrections.
///
/// # Errors
/// Returns an error if the document lacks the structure that the corrections expect. That is a
/// defect, which the first test finds.
pub fn corrected(raw: &str, base_path: &str) -> anyhow::Result<Value> {
    let mut document: Value = serde_json::from_str(raw).context("the framework's document")?;
    let root = object(&mut document)?;
    root.insert("openapi".to_owned(), json!("3.0.3"));
    root.insert(
        "servers".to_owned(),
        json!([{"url": if base_path.is_empty() { "/" } else { base_path }}]),
    );
    if let Some(tags) = member(root, "tags")?.as_array_mut() {
        let place =
            |tag: &Value| TAGS.iter().position(|name| tag.get("name") == Some(&json!(name)));
        tags.sort_by_key(|tag| place(tag).unwrap_or(TAGS.len()));
    }
    let info = object(member(root, "info")?)?;
    info.insert("description".to_owned(), json!(ABOUT));
    info.insert("license".to_owned(), json!({"name": "MIT OR Apache-2.0"}));

    let mut operations = 0;
    end_paths_with_slash(object(member(root, "paths")?)?);
    for (_, methods) in object(member(root, "paths")?)? {
        for (method, operation) in object(methods)? {
            correct_operation(method, object(operation)?)?;
            operations += 1;
        }
    }
    if operations == 0 {
        bail!("the description has no operations");
    }
    let components = object(member(root, "components")?)?;
    let schemas = object(member(components, "schemas")?)?;
    schemas::correct(schemas)?;
    simplify_references(&mut document);
    Ok(document)
}

/// Removes the description from `allOf`. The framework writes a reference with a description as
/// `allOf` of the reference and a schema that contains only the description. Client generators take
/// that schema for a second type. The description also exists next to `allOf`, so the reference
/// suffices.
fn simplify_references(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(simplify_references),
        Value::Object(members) => {
            if let Some(Value::Array(all)) = members.get_mut("allOf") {
                let is_only_words = |it: &Value| {
                    it.as_object().is_some_and(|it| it.keys().all(|name| name == "description"))
                };
                all.retain(|it| !is_only_words(it));
            }
            members.values_mut().for_each(simplify_references);
        }
        _ => {}
    }
}

/// Restores the trailing slash of paths, which the framework drops. All paths of the API end in
/// one, except those of the probes.
fn end_paths_with_slash(paths: &mut Map<String, Value>) {
    let bare = std::mem::take(paths);
    paths.extend(bare.into_iter().map(|(path, methods)| match path.as_str() {
        "/health/live" | "/health/ready" => (path, methods),
        _ => (format!("{path}/"), methods),
    }));
}

fn object(value: &mut Value) -> anyhow::Result<&mut Map<String, Value>> {
    value.as_object_mut().context("an object was expected")
}

fn member<'a>(object: &'a mut Map<String, Value>, name: &str) -> anyhow::Result<&'a mut Value> {
    object.get_mut(name).with_context(|| format!("`{name}` was expected"))
}

fn correct_operation(method: &str, operation: &mut Map<String, Value>) -> anyhow::Result<()> {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default().to_owned();
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    let parameters = parameters.as_array_mut().context("parameters are an array")?;
    parameters.extend(parameters_of(&id).iter().map(Param::describe));
    parameters.extend(headers_of(method, &id));

    if method == "patch" {
        let body = object(member(operation, "requestBody")?)?;
        let content = object(member(body, "content")?)?;
        let schema = content.get(JSON).cloned().context("a JSON body")?;
        content.insert(MERGE_PATCH.to_owned(), schema);
    }
    if id == "inspectPackets" {
        let body = object(member(operation, "requestBody")?)?;
        let content = object(member(body, "content")?)?;
        let schema = object(member(object(member(content, JSON)?)?, "schema")?)?;
        schema.insert("maxItems".to_owned(), json!(fireflow_formats::packet::MAX_PACKETS));
        let packets = "One packet per line, each as in the array; any number of them";
        let verdicts = "One line per packet: its `line`, and `action`, `permitted`, `reason` and \
                        `active_rule` as in the array; or its `line`, and its `error`: `code`, \
                        `detail` and `errors` as in a problem";
        let lines = |what: &str| json!({"schema": {"type": "string", "description": what}});
        let ndjson = LineFormat::Ndjson.media_type().to_owned();
        content.insert(ndjson.clone(), lines(packets));
        let answer = object(member(object(member(operation, "responses")?)?, "200")?)?;
        object(member(answer, "content")?)?.insert(ndjson, lines(verdicts));
        let revision = "NDJSON only: the revision of the policy that evaluates the packets";
        let headers = object(answer.entry("headers").or_insert_with(|| json!({})))?;
        let header = json!({"description": revision, "schema": {"type": "string"}});
        headers.insert("X-Policy-Revision".to_owned(), header);
    }

    if id == "replaceRules" {
        let body = object(member(operation, "requestBody")?)?;
        let content = object(member(body, "content")?)?;
        let one =
            json!({"type": "array", "items": {"$ref": "#/components/schemas/FirewallRuleOfSet"}});
        object(member(content, JSON)?)?.insert("schema".to_owned(), one);
        for (format, what) in [
            (LineFormat::Csv, "A whole export: a header, and one line per rule (RFC 4180)"),
            (LineFormat::Ndjson, "A whole export: one rule per line"),
        ] {
            let schema = json!({"type": "string", "description": what});
            content.insert(format.media_type().to_owned(), json!({"schema": schema}));
        }
    }

    if matches!(id.as_str(), "getRules" | "getAllRules") {
        let list = object(member(object(member(operation, "responses")?)?, "200")?)?;
        let content = object(member(list, "content")?)?;
        for (format, what) in [
            (LineFormat::Csv, "A header and one line per rule (RFC 4180)"),
            (LineFormat::Ndjson, "One rule per line, each as in `items`"),
        ] {
            let schema = json!({"type": "string", "description": what});
            content.insert(format.media_type().to_owned(), json!({"schema": schema}));
        }
    }

    let is_open = !operation.contains_key("security");
    let has_path_ids = operation
        .get("parameters")
        .and_then(Value::as_array)
        .is_some_and(|all| all.iter().any(|it| it.get("in") == Some(&json!("path"))));
    let responses = object(member(operation, "responses")?)?;
    responses.retain(|status, _| can_answer(status, method, &id, is_open, has_path_ids));
    for (status, response) in responses.iter_mut() {
        let header = match status.as_str() {
            "401" => Some(("WWW-Authenticate", "How to authenticate, and why it failed")),
            "429" | "503" => Some(("Retry-After", "When to try again, in seconds")),
            _ => None,
        };
        if let Some((name, description)) = header {
            let header = json!({name: {"description": description, "schema": {"type": "string"}}});
            object(response)?.insert("headers".to_owned(), header);
        }
        // Any answer can carry these headers; the description shows them once for success and once
        // for refusal.
        if !is_open && (status.starts_with('2') || status == "429") {
            let response = object(response)?;
            let headers = object(response.entry("headers").or_insert_with(|| json!({})))?;
            for (name, description) in RATE_HEADERS {
                let header = json!({"description": description, "schema": {"type": "string"}});
                headers.insert((*name).to_owned(), header);
            }
        }
    }
    if let Some((_, links)) = LINKS.iter().find(|(creates, _)| *creates == id) {
        let links: BTreeMap<&str, Value> = links
            .iter()
            .map(|(target, parameters)| {
                let parameters: BTreeMap<_, _> = parameters.iter().copied().collect();
                (*target, json!({"operationId": target, "parameters": parameters}))
            })
            .collect();
        object(member(responses, "201")?)?.insert("links".to_owned(), json!(links));
    }
    Ok(())
}

/// The request headers that an operation evaluates.
fn headers_of(method: &str, id: &str) -> Vec<Value> {
    let header = |name: &str, description: &str| {
        json!({
            "name": name,
            "in": "header",
            "required": false,
            "description": description,
            "schema": {"type": "string"},
        })
    };
    let if_match = header(
        "If-Match",
        "The request succeeds only if the resource is still in the state of one of these tags: an \
         `ETag` as returned, with its quotes, or `*`; otherwise 412.",
    );
    let reason = header(
        "Change-Reason",
        "The reason for the change, up to 1,000 characters, for \
                                          the audit trail.",
    );
    let mut once = header(
        "Idempotency-Key",
        "A key for this request: 1 to 255 visible characters, for example a UUID. If the same \
         request is repeated within 24 hours, it changes nothing and returns the first answer; \
         another request with the same key is 422.",
    );
    // The quoted form is accepted too, but not described: the bare form suffices.
    if let Some(once) = once.as_object_mut() {
        let schema = json!({"type": "string", "pattern": r"^[!#-\[\]-~]{1,255}$"});
        once.insert("schema".to_owned(), schema);
    }
    match method {
        "post" if id == "inspectPackets" => vec![],
        "post" if matches!(id, "moveRules" | "batchRules") => vec![if_match, once, reason],
        "post" => vec![once, reason],
        "patch" | "put" | "delete" => vec![if_match, reason],
        _ if id.ends_with("ById") || id == "getRules" => {
            let detail = "The answer is sent only if it no longer matches one of these tags: an \
                          `ETag` as returned, with its quotes, or `*`; otherwise 304.";
            vec![if_match, header("If-None-Match", detail)]
        }
        _ => vec![],
    }
}

/// Whether an operation can answer with a status at all.
fn can_answer(status: &str, method: &str, id: &str, is_open: bool, has_path_ids: bool) -> bool {
    let has_body = matches!(method, "post" | "patch" | "put");
    let writes = has_body && id != "inspectPackets";
    match status {
        // These depend on the content of the request, whether the operation reads it or not.
        "400" | "413" => !is_open,
        "408" | "415" => has_body && !is_open,
        "401" | "403" | "422" | "429" => !is_open,
        "404" => has_path_ids,
        // The router answers these, not an operation.
        "405" => false,
        "428" => id == "replaceRules",
        "409" => writes && !matches!(id, "moveRules" | "replaceRules" | "batchRules"),
        "412" => {
            matches!(method, "patch" | "put" | "delete")
                || id.ends_with("ById")
                || matches!(id, "getRules" | "moveRules" | "batchRules")
        }
        _ => true,
    }
}

/// The description as YAML. Every JSON document is also a YAML document (YAML 1.2).
#[must_use]
pub fn yaml(document: &Value) -> String {
    format!("{document:#}\n")
}

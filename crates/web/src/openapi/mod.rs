//! The description of the API: the framework's document, corrected where the framework cannot
//! express it, with links from each created resource to the operations on it.

pub mod filters;
mod operations;
pub mod schemas;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};

use crate::dto::body::MERGE_PATCH;
use crate::dto::schema::replace;
use crate::operation::{Access, Effect, FindRow, Headers, Operation};
use crate::params::Param;
use crate::reply::JSON;

const ABOUT: &str = "Manages firewalls, their filtering policies and ordered rules in one place. \
                     Evaluates packets against them, and explains the verdicts.\n\nEvery \
                     request needs a token: press **Authorize** and paste one. For a local \
                     service, `fireflow jwt` prints one (in a checkout: `cargo xtask jwt`). Paths \
                     work with and without a trailing slash. Errors are RFC 9457 problems: branch \
                     on `code`.";

/// The groups of operations in reading order, from the outermost resource inwards.
const TAGS: [&str; 7] = [
    "Firewalls",
    "FilteringPolicies",
    "FirewallRules",
    "Inspections",
    "Analysis",
    "Audit",
    "Service",
];

const WWW_AUTHENTICATE: Headers = &[("WWW-Authenticate", "How to authenticate, and why it failed")];
const RETRY_AFTER: Headers = &[("Retry-After", "When to try again, in seconds")];
/// The headers of an answer that report the caller's rate limit
/// (draft-ietf-httpapi-ratelimit-headers).
const RATE_HEADERS: Headers = &[
    (
        "RateLimit",
        "The rest of your quota: `r` requests are left, and all are available again in `t` seconds; on 429, \
         the next one is accepted in `t` seconds. Only if subjects have a rate limit",
    ),
    (
        "RateLimit-Policy",
        "Your rate limit: `q` requests in a window of `w` seconds. Only if subjects have a rate limit",
    ),
];

/// The framework's document with all corrections. `row` finds the row of an operation.
///
/// # Errors
/// Returns an error if the document lacks the structure that the corrections expect, or if an
/// operation has no row. That is a defect, which the first test finds.
pub fn corrected(raw: &str, base_path: &str, row: FindRow) -> anyhow::Result<Value> {
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
            correct_operation(method, object(operation)?, row)?;
            operations += 1;
        }
    }
    if operations == 0 {
        bail!("the description has no operations");
    }
    link(object(member(root, "paths")?)?, row)?;
    let components = object(member(root, "components")?)?;
    let schemas = object(member(components, "schemas")?)?;
    replace(schemas);
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

/// The id of an operation of the description.
fn id_of(operation: &Value) -> &str {
    operation.get("operationId").and_then(Value::as_str).unwrap_or_default()
}

/// The names of the ids in a path.
fn ids(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'))
}

/// Adds links from each created resource to the operations whose last id is that of the resource.
fn link(paths: &mut Map<String, Value>, row: FindRow) -> anyhow::Result<()> {
    let all: Vec<(String, Value)> = paths.clone().into_iter().collect();
    for (path, methods) in paths.iter_mut() {
        for operation in object(methods)?.values_mut() {
            if row(id_of(operation)).is_none_or(|row| row.effect != Effect::Creates) {
                continue;
            }
            let parents: Vec<&str> = ids(path).collect();
            let mut links = Map::new();
            for (below, methods) in all.iter().filter(|(other, _)| other.starts_with(path.as_str()))
            {
                let mut sources = Map::new();
                for id in &parents {
                    sources.insert((*id).to_owned(), json!(format!("$request.path.{id}")));
                }
                let mut own = ids(below).skip(parents.len());
                let (Some(id), None) = (own.next(), own.next()) else { continue };
                sources.insert(id.to_owned(), json!("$response.body#/id"));
                for target in methods.as_object().into_iter().flatten().map(|(_, it)| id_of(it)) {
                    let link = json!({"operationId": target, "parameters": sources});
                    links.insert(target.to_owned(), link);
                }
            }
            let responses = object(member(object(operation)?, "responses")?)?;
            object(member(responses, "201")?)?.insert("links".to_owned(), json!(links));
        }
    }
    Ok(())
}

/// Adds headers to an answer.
fn add_headers(answer: &mut Value, added: Headers) -> anyhow::Result<()> {
    for (name, description) in added {
        let headers = object(answer)?.entry("headers").or_insert_with(|| json!({}));
        let header = json!({"description": description, "schema": {"type": "string"}});
        object(headers)?.insert((*name).to_owned(), header);
    }
    Ok(())
}

fn correct_operation(
    method: &str,
    operation: &mut Map<String, Value>,
    row: FindRow,
) -> anyhow::Result<()> {
    let id = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let row = row(id).with_context(|| format!("`{id}` has no row"))?;
    let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
    let parameters = parameters.as_array_mut().context("parameters are an array")?;
    let has_path_ids = !parameters.is_empty();
    parameters.extend(row.parameters().map(Param::describe));
    parameters.extend(headers_of(method, row));

    if method == "patch" {
        let body = object(member(operation, "requestBody")?)?;
        let content = object(member(body, "content")?)?;
        let schema = content.get(JSON).cloned().context("a JSON body")?;
        content.insert(MERGE_PATCH.to_owned(), schema);
    }

    let is_open = row.access == Access::Open;
    let has_body = operation.contains_key("requestBody");
    let responses = object(member(operation, "responses")?)?;
    responses.retain(|status, _| can_answer(status, row, has_body, has_path_ids));
    for (status, response) in responses.iter_mut() {
        match status.as_str() {
            "401" => add_headers(response, WWW_AUTHENTICATE)?,
            "429" | "503" => add_headers(response, RETRY_AFTER)?,
            "200" => add_headers(response, row.headers)?,
            _ => {}
        }
        // Any answer can carry these headers; the description shows them once for success and once
        // for refusal.
        if !is_open && (status.starts_with('2') || status == "429") {
            add_headers(response, RATE_HEADERS)?;
        }
    }
    Ok(())
}

/// The request headers that an operation evaluates.
fn headers_of(method: &str, row: &Operation) -> impl Iterator<Item = Value> {
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
         request is repeated within 24 hours, it changes nothing and returns the first response; \
         a different request with the same key is refused with 422.",
    );
    // The quoted form is accepted too, but not described: the bare form suffices.
    if let Some(once) = once.as_object_mut() {
        let schema = json!({"type": "string", "pattern": r"^[!#-\[\]-~]{1,255}$"});
        once.insert("schema".to_owned(), schema);
    }
    let if_none_match = header(
        "If-None-Match",
        "The resource is sent only if it matches none of these tags: an `ETag` as returned, with its \
         quotes, or `*`; otherwise 304.",
    );
    [
        (if_match, row.is_conditional),
        (if_none_match, row.is_conditional && !row.writes()),
        (once, row.writes() && method == "post"),
        (reason, row.writes()),
    ]
    .into_iter()
    .filter_map(|(header, is_read)| is_read.then_some(header))
}

/// Whether an operation can answer with a status at all.
fn can_answer(status: &str, row: &Operation, has_body: bool, has_path_ids: bool) -> bool {
    let is_open = row.access == Access::Open;
    match status {
        // These depend on the content of the request, whether the operation reads it or not.
        "400" | "413" => !is_open,
        "408" | "415" => has_body && !is_open,
        "401" | "403" | "422" | "429" => !is_open,
        "404" => has_path_ids,
        // The router answers these, not an operation.
        "405" => false,
        "412" => row.is_conditional,
        "409" | "428" => row.statuses.iter().any(|more| status == more.to_string()),
        _ => true,
    }
}

/// The description as YAML. Every JSON document is also a YAML document (YAML 1.2).
#[must_use]
pub fn yaml(document: &Value) -> String {
    format!("{document:#}\n")
}

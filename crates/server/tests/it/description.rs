//! The API description.

use fireflow_storage::DatabaseKind;
use serde_json::{Value, json};

use crate::operations::Described;
use crate::support::Api;

fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a Value)) {
    visit(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        _ => {}
    }
}

#[tokio::test]
async fn the_description_is_open_and_holds_together() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    let answer = api.raw("GET", "/docs/openapi.json", &[], vec![]).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.expect(200);
    assert_eq!(document, api.document);
    assert_eq!(document["openapi"], "3.0.3");
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut targets = Vec::new();
    walk(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            targets.push(reference.rsplit('/').next().unwrap().to_owned());
        }
    });
    assert!(targets.len() > 20);
    for target in targets {
        assert!(schemas.contains_key(&target), "{target} is referred to and not there");
    }
    // Every parameter in a path is described, and every link has a target.
    let mut operations = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(!operation["summary"].as_str().unwrap().is_empty(), "{id}");
            operations.push(id.to_owned());
            let described: Vec<&str> = operation["parameters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|parameter| parameter["in"] == "path")
                .map(|parameter| parameter["name"].as_str().unwrap())
                .collect();
            let named: Vec<&str> = path
                .split('/')
                .filter_map(|step| step.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            assert_eq!(described, named, "{id}");
            for (status, response) in operation["responses"].as_object().unwrap() {
                let content = response["content"].as_object().into_iter().flatten();
                for (media_type, _) in content {
                    let expected: &[&str] = match (status.as_bytes()[0], id) {
                        (b'2', "getRules" | "getAllRules") => {
                            &["application/json", "application/x-ndjson", "text/csv"]
                        }
                        (b'2', "getAnalysis") => {
                            &["application/json", "application/sarif+json", "text/csv"]
                        }
                        (b'2', "inspectPackets") => &["application/json", "application/x-ndjson"],
                        (b'2', "getMetrics") => &[
                            "application/openmetrics-text; version=1.0.0; charset=utf-8",
                            "text/plain; version=0.0.4; charset=utf-8",
                        ],
                        (b'2', _) => &["application/json"],
                        _ => &["application/problem+json"],
                    };
                    assert!(expected.contains(&media_type.as_str()), "{id} {status} {media_type}");
                }
            }
        }
    }
    let mut links = 0;
    for methods in document["paths"].as_object().unwrap().values() {
        for link in methods["post"]["responses"]["201"]["links"].as_object().into_iter().flatten() {
            let target = link.1["operationId"].as_str().unwrap();
            assert!(operations.iter().any(|id| id == target), "{target}");
            links += 1;
        }
    }
    // Every operation on a resource is the target of one link: from the creation of the resource.
    // Nobody creates findings.
    let is_linked = |it: &Described| it.depth() > 0 && !it.template.contains("/findings/");
    let on_resources = crate::operations::operations(&document).into_iter();
    assert_eq!(links, on_resources.filter(is_linked).count());
    assert_eq!(
        document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
            .as_array()
            .unwrap()
            .len(),
        fireflow_web::Code::ALL.len()
    );
}

/// Generated clients depend on these properties of the description.
#[tokio::test]
async fn a_typed_client_gets_what_it_needs() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    let document = &api.document;
    let mut inlined = 0;
    walk(document, &mut |value| {
        inlined += usize::from(value["enum"] == json!(["ALLOW", "DENY", "REJECT"]));
    });
    assert_eq!(inlined, 1, "actions have one schema");
    for methods in document["paths"].as_object().unwrap().values() {
        for operation in methods.as_object().unwrap().values() {
            for parameter in operation["parameters"].as_array().unwrap() {
                // Clients send every default, and `page` cannot be combined with a cursor.
                assert!(parameter["schema"]["default"].is_null(), "{parameter}");
            }
            for (status, answer) in operation["responses"].as_object().unwrap() {
                let page = &answer["content"]["application/json"]["schema"];
                assert!(page["oneOf"].is_null() && page["anyOf"].is_null(), "{status}: {page}");
            }
        }
    }
    let schemas = &document["components"]["schemas"];
    let operation = &schemas["RuleOperation"];
    let mapping = operation["discriminator"]["mapping"].as_object().unwrap();
    assert_eq!(operation["discriminator"]["propertyName"], "op");
    let choices = operation["oneOf"].as_array().unwrap();
    assert_eq!((choices.len(), mapping.len()), (5, 5));
    for (word, reference) in mapping {
        assert!(choices.iter().any(|choice| choice["$ref"] == *reference), "{word}");
        let choice = &schemas[reference.as_str().unwrap().rsplit('/').next().unwrap()];
        assert_eq!(choice["properties"]["op"]["enum"], json!([word]));
        assert_eq!(choice["additionalProperties"], false);
        for member in choice["required"].as_array().unwrap() {
            assert!(choice["properties"][member.as_str().unwrap()].is_object(), "{word}: {member}");
        }
    }
    for (schema, required) in [
        ("NewFirewall", json!(["name"])),
        ("NewFilteringPolicy", json!(["name", "default_action"])),
        ("NewFirewallRule", json!(["action", "sources", "destinations"])),
        ("FirewallRulePatch", json!(null)),
    ] {
        assert_eq!(schemas[schema]["required"], required, "{schema}");
    }
    for page in ["FirewallPage", "FilteringPolicyPage", "FirewallRulePage", "AuditEventPage"] {
        let required = schemas[page]["required"].as_array().unwrap();
        assert!(["items", "page_size"].iter().all(|it| required.contains(&json!(it))), "{page}");
    }
}

#[tokio::test]
async fn swagger_ui_loads_nothing_from_elsewhere() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    for path in ["/docs/swagger-ui", "/docs/swagger-ui/"] {
        let answer = api.raw("GET", path, &[], vec![]).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert!(answer.header("content-type").starts_with("text/html"));
        assert!(answer.text.contains("createFilteringPolicy"));
        assert!(answer.text.contains("<link rel=\"icon\" href=\"data:,\">"));
        assert!(answer.text.contains("\"3.0.3\""), "the corrected description is in it");
        for tag in ["<script src=", "<link rel=\"stylesheet\" href=\"http", "@import"] {
            assert!(!answer.text.contains(tag), "{tag}");
        }
    }
    let answer = api.raw("GET", "/docs/", &[], vec![]).await;
    assert_eq!((answer.status.as_u16(), answer.header("location")), (303, "/docs/swagger-ui"));
    let yaml = api.raw("GET", "/docs/openapi.yaml", &[], vec![]).await;
    assert_eq!(yaml.expect(200)["openapi"], json!("3.0.3"));
}

#[tokio::test]
async fn a_browser_finds_a_page_with_links_at_the_root() {
    const BROWSER: (&str, &str) =
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8");
    let api = Api::new(DatabaseKind::Sqlite).await;
    let page = api.raw("GET", "/", &[BROWSER], vec![]).await;
    assert_eq!(page.status.as_u16(), 200);
    assert!(page.header("content-type").starts_with("text/html"));
    let policy = page.header("content-security-policy");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert!(!page.text.contains("{base}") && !page.text.contains("{version}"));
    let mut links = 0;
    for link in page.text.split("<a href=\"").skip(1) {
        let target = link.split('"').next().unwrap();
        let answer = api.raw("GET", target, &[], vec![]).await;
        assert_eq!(answer.status.as_u16(), 200, "{target}");
        links += 1;
    }
    assert!(links >= 4, "{links}");
    // A program gets what it always got, and the page is for reading only.
    for (method, accept) in [("GET", "*/*"), ("GET", "application/json"), ("POST", "text/html")] {
        let answer = api.raw(method, "/", &[("accept", accept)], vec![]).await;
        assert_eq!(answer.status.as_u16(), 401, "{method} {accept}");
    }
    let answer = api.raw("HEAD", "/", &[BROWSER], vec![]).await;
    assert_eq!((answer.status.as_u16(), answer.text.as_str()), (200, ""));
}

#[tokio::test]
async fn the_committed_description_is_the_codes() {
    let api = Api::new(DatabaseKind::Sqlite).await;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/openapi.json");
    let committed: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    // Not `assert_eq`: it would print both.
    assert!(committed == api.document, "run `cargo xtask openapi`");
}

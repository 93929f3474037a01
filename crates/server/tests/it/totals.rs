//! How far lists are counted, and the links between neighboring pages.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Answer, Api, encoded, plain_rule};

/// Three rules more than the default limit of counting.
const RULES: usize = 1_003;

/// The path of a policy with many rules.
async fn long_list(api: &Api) -> String {
    let policy = api.policy().await;
    let rules: Vec<Value> = (0..RULES)
        .map(|index| {
            let mut rule = plain_rule();
            rule["priority"] = json!(index);
            rule["sources"] = json!([{"address": format!("10.0.{}.{}", index / 256, index % 256)}]);
            rule
        })
        .collect();
    api.put(&format!("{policy}rules/"), &json!(rules)).await.expect(200);
    policy
}

fn pagination(answer: &Answer) -> Value {
    serde_json::from_str(answer.header("x-pagination")).unwrap()
}

db_test! {
    async fn a_filtered_list_is_counted_to_a_thousand_unless_all_is_asked_for(api: Api) {
        let policy = long_list(&api).await;
        let filter = encoded("action = ALLOW");
        for list in [format!("{policy}rules/"), "/rules/".to_owned()] {
            for condition in [format!("filter={filter}"), "action=ALLOW".to_owned()] {
                let path = format!("{list}?page_size=20&{condition}");
                let before = api.db.statements();
                let answer = api.get(&path).await;
                let statements = api.db.statements() - before;
                assert_eq!(
                    pagination(&answer),
                    json!({"total": 1_000, "total_is_exact": false, "page": 1, "first_page": 1, "next_page": 2})
                );
                let page = answer.expect(200);
                assert_eq!((&page["total"], &page["total_is_exact"]), (&json!(1_000), &json!(false)));

                let before = api.db.statements();
                let answer = api.get(&format!("{path}&with_total=true")).await;
                assert_eq!(api.db.statements() - before, statements, "{path}");
                assert_eq!(pagination(&answer)["last_page"], RULES.div_ceil(20));
                let page = answer.expect(200);
                assert_eq!((&page["total"], &page["total_is_exact"]), (&json!(RULES), &json!(true)));

                let before = api.db.statements();
                let answer = api.get(&format!("{path}&with_total=false")).await;
                assert_eq!(api.db.statements() - before, statements - 1, "{path}");
                assert!(!answer.headers.contains_key("x-pagination"));
                let page = answer.expect(200);
                assert_eq!((page.get("total"), page.get("total_is_exact")), (None, None));
            }
            // The policy's counter has the length of the whole list.
            let page = api.get(&list).await.expect(200);
            assert_eq!((&page["total"], &page["total_is_exact"]), (&json!(RULES), &json!(true)));
            // A list of exactly a thousand rules is counted completely.
            let page = api.get(&format!("{list}?filter={}", encoded("priority < 1000"))).await.expect(200);
            assert_eq!((&page["total"], &page["total_is_exact"]), (&json!(1_000), &json!(true)));
        }
    }
}

db_test! {
    async fn the_pages_behind_the_counted_ones_are_there(api: Api) {
        let policy = long_list(&api).await;
        let answer = api.get(&format!("{policy}rules/?page=51&page_size=20&action=ALLOW")).await;
        assert_eq!(
            pagination(&answer),
            json!({"total": 1_000, "total_is_exact": false, "page": 51, "first_page": 1, "previous_page": 50})
        );
        assert_eq!(answer.expect(200)["items"].as_array().unwrap().len(), RULES - 1_000);
    }
}

/// The addresses in `Link`, by their relation.
fn links(answer: &Answer) -> Vec<(String, String)> {
    let one = |link: &str| {
        let (address, relation) = link.split_once(">; rel=\"").unwrap();
        let address = address.trim_start_matches('<').to_owned();
        (relation.trim_end_matches('"').to_owned(), address)
    };
    answer.header("link").split(", ").map(one).collect()
}

fn link(answer: &Answer, relation: &str) -> Option<String> {
    links(answer).into_iter().find(|(name, _)| name == relation).map(|(_, address)| address)
}

fn ids(page: &Value) -> Vec<i64> {
    page["items"].as_array().unwrap().iter().map(|it| it["id"].as_i64().unwrap()).collect()
}

db_test! {
    async fn a_list_is_read_to_its_end_by_its_links(api: Api) {
        let policy = api.policy().await;
        for index in 0..7 {
            let sources = json!([{"address": format!("10.0.0.{index}")}]);
            api.rule(&policy, &json!({"priority": index, "sources": sources})).await;
        }
        let rules = format!("{policy}rules/");
        let whole = ids(&api.get(&rules).await.expect(200));
        let filter = encoded("action = ALLOW AND priority >= 0");
        for query in [
            "page_size=3".to_owned(),
            "per_page=3&page=1".to_owned(),
            "page_size=3&cursor=".to_owned(),
            format!("filter={filter}&page_size=3&order_by=priority"),
        ] {
            let mut read = Vec::new();
            let mut next = Some(format!("{rules}?{query}"));
            while let Some(address) = next {
                let answer = api.get(&address).await;
                next = answer.headers.get("link").and_then(|_| link(&answer, "next"));
                read.extend(ids(&answer.expect(200)));
            }
            assert_eq!(read, whole, "{query}");
        }
        // For exports, the header is the only place for the next page.
        let lines = api.with("GET", &format!("{rules}?page_size=3"), &[("accept", "text/csv")], None).await;
        assert!(link(&lines, "next").is_some_and(|next| next.starts_with(&rules)));
        for list in ["/firewalls/?page_size=1", "/filtering-policies/?page=1", "/audit-events/?page_size=1"] {
            let answer = api.get(list).await;
            let first = link(&answer, "first").unwrap();
            assert_eq!(ids(&api.get(&first).await.expect(200)), ids(&answer.expect(200)));
        }
    }
}

db_test! {
    async fn the_neighbors_of_a_page_are_linked(api: Api) {
        let policy = api.policy().await;
        for index in 0..3 {
            let sources = json!([{"address": format!("10.0.0.{index}")}]);
            api.rule(&policy, &json!({"priority": index, "sources": sources})).await;
        }
        let rules = format!("{policy}rules/");
        let second = api.get(&format!("{rules}?action=ALLOW&page=2&page_size=1")).await;
        let relations: Vec<String> = links(&second).into_iter().map(|(name, _)| name).collect();
        assert_eq!(relations, ["next", "prev", "first"]);
        let page = format!("{rules}?action=ALLOW&page_size=1&page=1");
        assert_eq!((link(&second, "prev"), link(&second, "first")), (Some(page.clone()), Some(page)));
        let next = second.json()["next_cursor"].as_str().unwrap().to_owned();
        let by_cursor = format!("{rules}?action=ALLOW&page_size=1&cursor={next}");
        assert_eq!(link(&second, "next"), Some(by_cursor.clone()));
        // Pages by cursor have no numbers, and the last one has no neighbor.
        let last = api.get(&by_cursor).await;
        assert!(!last.headers.contains_key("link"), "{last:?}");
        // Links that do not fit into a header are left out, and a long filter is still answered.
        let long = encoded(&format!("name = \"{}\" OR action = ALLOW", "x".repeat(2_000)));
        let answer = api.get(&format!("{rules}?page_size=1&filter={long}")).await;
        assert!(!answer.headers.contains_key("link"));
        assert!(answer.expect(200)["next_cursor"].is_string());
    }
}

db_test! {
    async fn the_size_of_a_page_has_two_names(api: Api) {
        let policy = api.policy().await;
        for path in [format!("{policy}rules/"), "/firewalls/".to_owned(), "/audit-events/".to_owned()] {
            for name in ["page_size", "per_page"] {
                let page = api.get(&format!("{path}?{name}=7")).await.expect(200);
                assert_eq!((&page["page_size"], &page["per_page"]), (&json!(7), &json!(7)), "{path}");
            }
            let both = api.get(&format!("{path}?page_size=7&per_page=7")).await.problem(422, "invalid");
            assert_eq!(both["errors"][0]["parameter"], "per_page");
            let many = api.get(&format!("{path}?per_page=1001")).await.problem(422, "invalid");
            assert_eq!(many["errors"][0]["parameter"], "per_page");
        }
    }
}

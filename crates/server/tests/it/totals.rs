//! How far lists are counted, and how one gets from a page to its neighbours.

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Answer, Api, encoded, plain_rule};

/// One rule more than is counted by default, with some to spare.
const RULES: usize = 1_003;

/// A policy's path, with many rules.
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
            // A counter knows the length of the whole list.
            let page = api.get(&list).await.expect(200);
            assert_eq!((&page["total"], &page["total_is_exact"]), (&json!(RULES), &json!(true)));
            // A list of just a thousand is counted to its end.
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

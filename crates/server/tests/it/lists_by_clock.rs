//! Lists whose order or filter depends on the clock: states, and times from now.

use std::collections::BTreeSet;
use std::time::Duration;

use fireflow_storage::db_test;
use serde_json::{Value, json};

use crate::support::{Api, encoded};

const DAY: Duration = Duration::from_secs(86_400);

fn ids(list: &Value) -> Vec<i64> {
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_i64().unwrap()).collect()
}

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().filter_map(|item| item["name"].as_str()).collect()
}

/// A time some days after the beginning of the test; before it, if they are negative.
fn day(api: &Api, days: i64) -> String {
    use fireflow_domain::time::Clock;
    api.clock.now().plus_micros(days * 86_400_000_000).to_string()
}

/// Rules in all states, in no order.
async fn rules_in_all_states(api: &Api) -> String {
    let policy = api.policy().await;
    for (index, (name, starts_at, expires_at, enabled)) in [
        ("off", None, None, false),
        ("over", None, Some(-1), true),
        ("on", None, None, true),
        ("coming", Some(1), None, true),
        ("ending", Some(-1), Some(2), true),
        ("off and over", None, Some(-2), false),
        ("coming too", Some(2), Some(5), true),
        ("over too", Some(-5), Some(-3), true),
    ]
    .into_iter()
    .enumerate()
    {
        let rule = json!({
            "name": name,
            "starts_at": starts_at.map(|days| day(api, days)),
            "expires_at": expires_at.map(|days| day(api, days)),
            "enabled": enabled,
            "sources": [{"address": format!("10.0.0.{index}")}],
        });
        api.rule(&policy, &rule).await;
    }
    format!("{policy}rules/")
}

/// The names on all pages of a list; what happens in between is done before the second.
async fn walk(api: &Api, path: &str, mut between: impl FnMut()) -> Vec<String> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = api.get(&format!("{path}&cursor={cursor}")).await.expect(200);
        all.extend(names(&page).into_iter().map(str::to_owned));
        match page["next_cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => return all,
        }
        between();
    }
}

const BY_STATE: [&str; 8] =
    ["coming", "coming too", "on", "ending", "over", "over too", "off", "off and over"];

db_test! {
    async fn states_order_rules_from_scheduled_to_disabled(api: Api) {
        let rules = rules_in_all_states(&api).await;
        let list = api.get(&format!("{rules}?order_by=state")).await.expect(200);
        assert_eq!(names(&list), BY_STATE);
        let states: Vec<&str> =
            list["items"].as_array().unwrap().iter().map(|it| it["state"].as_str().unwrap()).collect();
        assert_eq!(
            states,
            ["scheduled", "scheduled", "active", "active", "expired", "expired", "disabled", "disabled"]
        );
        let mut reversed = BY_STATE;
        reversed.reverse();
        for size in [1, 3, 7, 8] {
            let path = |order: &str| format!("{rules}?page_size={size}&order_by={order}");
            assert_eq!(walk(&api, &path("state"), || ()).await, BY_STATE, "by {size}");
            // The id goes in the direction of the last field.
            assert_eq!(walk(&api, &path("-state"), || ()).await, reversed, "by {size}");
            let by_name = walk(&api, &path("-state,name"), || ()).await;
            assert_eq!(
                by_name,
                ["off", "off and over", "over", "over too", "ending", "on", "coming", "coming too"],
                "by {size}"
            );
        }
        // Across all policies a filter must narrow the list, as for any order without an index.
        api.get("/rules/?order_by=state").await.problem(422, "invalid");
        let filter = encoded("NOT state IN (expired, disabled)");
        let list = api.get(&format!("/rules/?order_by=-state&filter={filter}")).await.expect(200);
        assert_eq!(names(&list), ["ending", "on", "coming too", "coming"]);
        // The deleted ones have states too.
        api.delete(&format!("{rules}1/")).await;
        api.delete(&format!("{rules}4/")).await;
        let gone = api.get(&format!("{rules}?deleted=true&order_by=state")).await.expect(200);
        assert_eq!(names(&gone), ["coming", "off"]);
    }
}

db_test! {
    async fn what_does_not_order_a_list_is_refused_with_what_does(api: Api) {
        let rules = rules_in_all_states(&api).await;
        for bad in ["warnings", "sources", "labels", "position", "filtering_policy", "", "id,xyzzy"] {
            let problem = api.get(&format!("{rules}?order_by={bad}")).await.problem(422, "invalid");
            let detail = problem["errors"][0]["detail"].as_str().unwrap();
            assert!(detail.contains("cannot order this list"), "{bad}: {detail}");
            assert!(detail.contains("enabled, state, log"), "{bad}: {detail}");
        }
        let problem = api.get("/audit-events/?order_by=before").await.problem(422, "invalid");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.contains("filtering_policy_id, tenant, sequence"), "{detail}");
    }
}

db_test! {
    async fn all_pages_of_a_cursor_are_of_the_time_of_the_first(api: Api) {
        let rules = rules_in_all_states(&api).await;
        // Without that, what begins in between would be missed, and what ends shown twice.
        let path = format!("{rules}?page_size=3&order_by=state");
        let walked = walk(&api, &path, || api.clock.advance(DAY)).await;
        assert_eq!(walked, BY_STATE);
        // A new list uses its own time: two days later.
        let now = ["on", "coming", "coming too", "over", "ending", "over too", "off", "off and over"];
        assert_eq!(walk(&api, &path, || ()).await, now);
        let path = format!("{rules}?page_size=1&filter={}", encoded("state = active"));
        let walked = walk(&api, &path, || api.clock.advance(2 * DAY)).await;
        assert_eq!(walked, ["on", "coming", "coming too"]);
        assert_eq!(walk(&api, &path, || ()).await, ["on", "coming"]);
        let path = format!("{rules}?page_size=3&filter={}", encoded("updated_at > now - 7d"));
        let walked = walk(&api, &path, || api.clock.advance(DAY)).await;
        assert_eq!(walked.len(), 8, "{walked:?}");
        assert_eq!(walk(&api, &path, || ()).await, [] as [&str; 0]);
        // Links to the next page carry the time too, and lists of lines.
        let path = format!("{rules}?page_size=2&order_by=state");
        let answer = api.get(&path).await;
        let link = answer.header("link").to_owned();
        let next = link.split('<').nth(1).and_then(|it| it.split('>').next()).unwrap();
        let expected = walk(&api, &path, || ()).await[2..4].to_vec();
        api.clock.advance(DAY);
        assert_eq!(names(&api.get(next).await.expect(200)), expected);
    }
}

db_test! {
    async fn times_from_now_are_of_the_clock_of_the_request(api: Api) {
        let rules = rules_in_all_states(&api).await;
        let found = async |filter: &str| {
            let path = format!("{rules}?page_size=1000&order_by=id&filter={}", encoded(filter));
            let list = api.get(&path).await.expect(200);
            names(&list).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let soon = "expires_at >= now AND expires_at < now + 3d";
        assert_eq!(found(soon).await, ["ending"]);
        assert_eq!(found("expires_at < now - 36h").await, ["off and over", "over too"]);
        assert_eq!(found("starts_at IN (now + 24h, now + 2880m)").await, ["coming", "coming too"]);
        assert_eq!(found("updated_at = now AND firewall.created_at <= now").await.len(), 8);
        api.clock.advance(3 * DAY);
        assert_eq!(found(soon).await, ["coming too"]);
        assert_eq!(found("updated_at >= now - 1d").await, [] as [&str; 0]);
        assert_eq!(found("updated_at >= now - 3d").await.len(), 8);
        // Events have times of their own.
        for (filter, total) in [("at > now - 1h", 0), ("at > now - 1w", 10)] {
            let path = format!("/audit-events/?filter={}", encoded(filter));
            assert_eq!(api.get(&path).await.expect(200)["total"], total, "{filter}");
        }
        // A `+` that the client did not encode is a space.
        let problem = api.get(&format!("{rules}?filter=expires_at%3Cnow+3d")).await.problem(422, "invalid");
        let detail = problem["errors"][0]["detail"].as_str().unwrap();
        assert!(detail.starts_with("at position 16:") && detail.contains("%2B"), "{detail}");
    }
}

db_test! {
    async fn an_export_of_times_from_now_is_not_taken_for_unchanged(api: Api) {
        let rules = rules_in_all_states(&api).await;
        for (filter, is_known) in [("starts_at < now - 90m", false), ("log = false", true)] {
            let path = format!("{rules}?filter={}", encoded(filter));
            let accept = ("accept", "text/csv");
            let first = api.send("GET", &path, api.token(), &[accept], None).await;
            let tag = first.header("etag").to_owned();
            let again = [accept, ("if-none-match", tag.as_str())];
            assert_eq!(api.send("GET", &path, api.token(), &again, None).await.status, 304);
            // Nothing begins or ends within these minutes.
            api.clock.advance(Duration::from_secs(60));
            let status = api.send("GET", &path, api.token(), &again, None).await.status;
            assert_eq!(status == 304, is_known, "{filter}: {status}");
        }
    }
}

db_test! {
    async fn every_order_of_the_audit_trail_goes_on_behind_a_cursor(api: Api) {
        let rules = rules_in_all_states(&api).await;
        api.delete(&format!("{rules}1/")).await;
        let fields = fireflow_domain::store::AuditField::WORDS;
        let filter = encoded("id > 0");
        for order in fields.iter().flat_map(|field| [(*field).to_owned(), format!("-{field}")]) {
            let path = format!("/audit-events/?filter={filter}&order_by={order}");
            let whole = ids(&api.get(&format!("{path}&page_size=1000")).await.expect(200));
            assert_eq!(whole.iter().copied().collect::<BTreeSet<_>>().len(), 11, "{order}");
            let mut seen = Vec::new();
            let mut cursor = String::new();
            loop {
                let page =
                    api.get(&format!("{path}&page_size=3&cursor={cursor}")).await.expect(200);
                seen.extend(ids(&page));
                match page["next_cursor"].as_str() {
                    Some(next) => next.clone_into(&mut cursor),
                    None => break,
                }
            }
            assert_eq!(seen, whole, "{order}");
        }
    }
}

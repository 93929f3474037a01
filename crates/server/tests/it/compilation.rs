//! What becomes of inspections while policies are read, compiled and changed: nobody waits for a
//! compilation, only what changed is read, and what is kept is small. Tests wait for events.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use fireflow_domain::actor::Role;
use fireflow_domain::testing::random::{Random, seed};
use fireflow_service::inspections::{CompilationLimits, Inspections};
use fireflow_service::monitor::{Monitor, UseCaseSpan};
use fireflow_storage::db_test;
use fireflow_storage::testing::TestDatabase;
use fireflow_telemetry::Telemetry;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};

use crate::inspections::measured;
use crate::support::{Api, backend, firewall_of, record_in, tcp};

/// Far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);

const COMPILED: &str = "fireflow_classifier_compilations_total{result=\"compiled\"}";
const UPDATED: &str = "fireflow_classifier_compilations_total{result=\"updated\"}";
const MISSES: &str = "fireflow_classifier_cache_lookups_total{result=\"miss\"}";

/// So many rules are compiled in the background.
const LARGE: usize = 1_500;

/// A monitor that holds up compilations until it is opened: the first ones, as many as run at once.
#[derive(Debug)]
struct Gate {
    telemetry: Arc<Telemetry>,
    held: AtomicUsize,
    most: usize,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    fn open(&self) {
        *self.is_open.lock().unwrap() = true;
        self.opened.notify_all();
    }
}

impl Monitor for Gate {
    fn begin_use_case(&self) -> Option<UseCaseSpan> {
        self.telemetry.begin_use_case()
    }

    fn join_request(&self, work: BoxFuture<'static, ()>) -> BoxFuture<'static, ()> {
        self.telemetry.join_request(work)
    }

    fn compiled(&self, took: Duration, result: &'static str) {
        self.telemetry.compiled(took, result);
        if self.held.fetch_add(1, Ordering::SeqCst) < self.most {
            let is_open = self.is_open.lock().unwrap();
            let is_closed = |is_open: &mut bool| !*is_open;
            drop(self.opened.wait_timeout_while(is_open, PATIENCE, is_closed).unwrap());
        }
    }
}

/// A value from the metrics page; 0 if it was never counted.
async fn metric(api: &Api, series: &str) -> u64 {
    let token = api.token_for(&[Role::HealthCheck], None);
    let page = api.send("GET", "/metrics", &token, &[], None).await.text;
    let value = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Repeats a look until it succeeds.
async fn until(what: &str, look: impl AsyncFn() -> bool) {
    let start = Instant::now();
    while !look().await {
        assert!(start.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn numbered(index: usize) -> Value {
    json!({
        "name": format!("r{index}"), "action": "ALLOW", "priority": index,
        "protocols": ["tcp"],
        "sources": [{"address": format!("10.{}.{}.0/28", index / 250, index % 250)}],
        "destinations": [{"address": "any"}],
    })
}

/// A packet that the rule with a number matches.
fn of_rule(index: usize) -> String {
    tcp(&format!("10.{}.{}.3", index / 250, index % 250), "192.0.2.1", 443)
}

/// Another policy of the same firewall, with so many rules.
async fn policy_with(api: &Api, beside: &str, name: &str, count: usize) -> String {
    let policies = format!("{}filtering-policies/", firewall_of(beside));
    let body = json!({"name": name, "default_action": "DENY"});
    let policy = api.post(&policies, &body).await.expect(201);
    let policy = format!("{policies}{}/", policy["id"]);
    let rules: Vec<Value> = (0..count).map(numbered).collect();
    api.put(&format!("{policy}rules/"), &json!(rules)).await.expect(200);
    policy
}

db_test! {
    committed("requests have connections of their own")
    async fn a_small_policy_is_answered_while_large_ones_wait_to_be_compiled(db: TestDatabase) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let gate = Arc::new(Gate {
            telemetry: Arc::default(),
            held: AtomicUsize::new(0),
            most: (processors / 2).max(1),
            is_open: Mutex::new(false),
            opened: Condvar::new(),
        });
        let api = Api::built(db, |app, _| {
            app.telemetry = Arc::clone(&gate.telemetry);
            backend(app).monitor = Arc::<Gate>::clone(&gate);
        });
        let small = api.policy().await;
        api.rule(&small, &json!({})).await;
        let count = gate.most + 1;
        let mut large = Vec::new();
        for number in 0..count {
            large.push(policy_with(&api, &small, &format!("large {number}"), LARGE).await);
        }
        // As many as are compiled at once do not end, so the last one waits for its turn.
        for (number, policy) in large.iter().enumerate() {
            assert_eq!(api.verdict(policy, &of_rule(7)).await.0, "ALLOW");
            let held = (number + 1).min(gate.most);
            until("a compilation begins", async || gate.held.load(Ordering::SeqCst) >= held).await;
        }
        let waiting = &large[count - 1];
        for index in [0, 700, LARGE - 1] {
            let answer = api.get(&format!("{waiting}inspections/?{}", of_rule(index))).await;
            assert_eq!(answer.expect(200)["active_rule"]["name"], format!("r{index}"));
        }
        assert_eq!(api.verdict(waiting, &tcp("172.16.0.1", "192.0.2.1", 443)).await.0, "DENY");
        assert_eq!(metric(&api, COMPILED).await, gate.most as u64, "it is not compiled yet");
        // Changes do not wait for the compilation either, nor does what they are answered by.
        let rule = json!({"action": "REJECT", "priority": -1, "name": "first"});
        api.rule(waiting, &rule).await;
        assert_eq!(api.verdict(waiting, &of_rule(3)).await.0, "REJECT");
        // The small one is read, compiled, changed and answered in the meantime.
        assert_eq!(api.verdict(&small, &tcp("10.0.0.1", "192.0.2.1", 443)).await.0, "ALLOW");
        assert_eq!(metric(&api, COMPILED).await, gate.most as u64 + 1);
        gate.open();
        until("all are compiled", async || {
            metric(&api, COMPILED).await > count as u64
        })
        .await;
        api.nothing_is_borrowed().await;
        assert_eq!(api.verdict(waiting, &of_rule(3)).await.0, "REJECT");
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn after_many_changes_only_what_changed_is_read(db: TestDatabase) {
        let api = measured(db);
        let first = api.policy().await;
        // Few enough that it is not brought up to date before anybody asks.
        let policy = policy_with(&api, &first, "large", 900).await;
        let rules = format!("{policy}rules/");
        api.verdict(&policy, &of_rule(0)).await;
        until("it is compiled", async || metric(&api, COMPILED).await == 1).await;
        // More commits than marks are kept, and a batch of many rules.
        let list = api.get(&format!("{rules}?page_size=200")).await.expect(200);
        let id = |at: usize| list["items"][at]["id"].clone();
        for round in 0..20 {
            let body = json!({"action": if round % 2 == 0 { "REJECT" } else { "DENY" }});
            api.patch(&format!("{rules}{}/", id(round)), &body).await.expect(200);
        }
        let operations: Vec<Value> = (30..60)
            .map(|at| json!({"op": "update", "rule_id": id(at), "patch": {"action": "REJECT"}}))
            .collect();
        api.post(&format!("{rules}batch/"), &json!({"operations": operations})).await.expect(200);
        let before = api.db.statements();
        assert_eq!(api.verdict(&policy, &of_rule(4)).await.0, "REJECT");
        // The row; in one snapshot the row, the proof that it descends from the known state, and
        // the changed rules in two attempts; the rule that is shown.
        assert_eq!(api.db.statements() - before, 6);
        for (index, action) in [(5, "DENY"), (20, "ALLOW"), (30, "REJECT"), (59, "REJECT")] {
            assert_eq!(api.verdict(&policy, &of_rule(index)).await.0, action, "{index}");
        }
        assert_eq!(metric(&api, UPDATED).await, 1, "all of them at once");
        assert_eq!(metric(&api, COMPILED).await, 1, "and nothing else");
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn a_policy_in_use_is_brought_up_to_date_before_anybody_asks(db: TestDatabase) {
        let api = measured(db);
        let first = api.policy().await;
        let policy = policy_with(&api, &first, "large", 1_000).await;
        assert_eq!(api.verdict(&policy, &of_rule(9)).await.0, "ALLOW");
        let body = json!({"action": "REJECT", "priority": -5});
        api.rule(&policy, &body).await;
        until("it is brought up to date", async || metric(&api, MISSES).await == 2).await;
        assert_eq!(api.verdict(&policy, &of_rule(9)).await.0, "REJECT");
        assert_eq!(metric(&api, MISSES).await, 2, "it was there");
        assert_eq!(metric(&api, UPDATED).await, 1);
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn long_texts_take_no_room_and_are_shown(db: TestDatabase) {
        let api = measured(db);
        let first = api.policy().await;
        let bytes = "fireflow_classifier_cache_bytes";
        let before = metric(&api, bytes).await;
        let plain = policy_with(&api, &first, "plain", 200).await;
        api.verdict(&plain, &of_rule(0)).await;
        let of_plain = metric(&api, bytes).await - before;
        let described = policy_with(&api, &first, "described", 0).await;
        for from in (0..200).step_by(50) {
            let operations: Vec<Value> = (from..from + 50)
                .map(|index| {
                    let mut rule = numbered(index);
                    rule["description"] = json!(format!("{index} {}", "x".repeat(3_900)));
                    json!({"op": "create", "rule": rule})
                })
                .collect();
            let batch = json!({"operations": operations});
            api.post(&format!("{described}rules/batch/"), &batch).await.expect(200);
        }
        api.verdict(&described, &of_rule(0)).await;
        let of_described = metric(&api, bytes).await - before - of_plain;
        assert!(of_described < of_plain + of_plain / 10, "{of_described} for {of_plain} bytes");
        let looked = async |index: usize| {
            let before = api.db.statements();
            let answer = api.get(&format!("{described}inspections/?{}", of_rule(index))).await;
            let answer = answer.expect(200);
            let description = answer["active_rule"]["description"].as_str().unwrap();
            assert!(description.starts_with(&format!("{index} xxx")), "{description}");
            assert_eq!(description.len(), format!("{index} ").len() + 3_900);
            api.db.statements() - before
        };
        let once = looked(150).await;
        assert_eq!(looked(150).await, once - 1, "its texts are read once");
        // A change of the texts alone is shown.
        let answer = api.get(&format!("{described}inspections/?{}", of_rule(150))).await;
        let id = answer.expect(200)["active_rule"]["id"].clone();
        let path = format!("{described}rules/{id}/");
        api.patch(&path, &json!({"description": "short"})).await.expect(200);
        let answer = api.get(&format!("{described}inspections/?{}", of_rule(150))).await;
        assert_eq!(answer.expect(200)["active_rule"]["description"], "short");
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn who_leaves_takes_nothing_from_those_who_wait(db: TestDatabase) {
        let api = Arc::new(measured(db));
        let first = api.policy().await;
        let policy = policy_with(&api, &first, "large", LARGE).await;
        let ask = || {
            let (api, policy) = (Arc::clone(&api), policy.clone());
            tokio::spawn(async move { api.verdict(&policy, &of_rule(1_000)).await.0 })
        };
        let mut asked: Vec<_> = (0..6).map(|_| ask()).collect();
        tokio::task::yield_now().await;
        for leaves in asked.drain(..2) {
            leaves.abort();
        }
        for stays in asked {
            assert_eq!(stays.await.unwrap(), "ALLOW");
        }
        until("it is compiled", async || metric(&api, COMPILED).await == 1).await;
        assert_eq!(metric(&api, MISSES).await, 1, "the rules are read once");
        api.nothing_is_borrowed().await;
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn many_packets_and_lines_are_answered_by_rules_that_are_not_compiled(db: TestDatabase) {
        // There is no time to compile anything, so everything is compared one by one.
        let limits = CompilationLimits { time: Duration::ZERO, ..CompilationLimits::default() };
        let api = Api::built(db, |app, _| {
            record_in(app, &Arc::default());
            app.inspections = Inspections::new(64 * 1024 * 1024, limits);
        });
        let first = api.policy().await;
        let policy = policy_with(&api, &first, "large", LARGE).await;
        let packets: Vec<Value> = (0..300)
            .map(|index| json!({
                "source_address": format!("10.{}.{}.3", index % 7, index % 250),
                "source_port": 40_000, "destination_address": "192.0.2.1",
                "destination_port": 443,
            }))
            .collect();
        let path = format!("{policy}inspections/");
        let answers = api.post(&path, &json!(packets)).await.expect(200);
        let answers = answers.as_array().unwrap();
        assert_eq!(answers.len(), packets.len());
        let lines: String = packets.iter().map(|packet| format!("{packet}\n")).collect();
        let token = format!("Bearer {}", api.token());
        let headers = [("authorization", token.as_str()), ("content-type", "application/x-ndjson")];
        let streamed = api.raw("POST", &path, &headers, lines.into_bytes()).await;
        let streamed: Vec<Value> =
            streamed.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(streamed.len(), packets.len());
        for (index, (answer, line)) in answers.iter().zip(&streamed).enumerate() {
            let rule = (index % 7) * 250 + index % 250;
            let name = if rule < LARGE { json!(format!("r{rule}")) } else { Value::Null };
            assert_eq!(answer["active_rule"]["name"], name, "{index}");
            assert_eq!(line["active_rule"], answer["active_rule"], "{index}");
        }
        let explained = format!("{policy}inspections/?explain=true&{}", of_rule(77));
        let explained = api.get(&explained).await.expect(200);
        assert_eq!(explained["explanation"]["earlier_count"], 77);
        assert_eq!(explained["explanation"]["earlier"][0]["rule"]["name"], "r0");
    }
}

db_test! {
    committed("requests have connections of their own")
    async fn any_changes_are_answered_as_the_current_rules_are(db: TestDatabase) {
        let api = measured(db);
        // This service caches nothing, so it reads all rules for each inspection.
        let other = Api::built(Arc::clone(&api.db), |app, _| {
            app.inspections = Inspections::new(0, CompilationLimits::default());
        });
        let mut random = Random::new(seed());
        let first = api.policy().await;
        let policy = policy_with(&api, &first, "changing", 90).await;
        let rules = format!("{policy}rules/");
        let mut deleted = BTreeSet::new();
        let mut next = 1_000;
        for _ in 0..12 {
            let changes = if random.happens(30) { 20 } else { 1 + random.below(4) };
            for _ in 0..changes {
                let list = api.get(&format!("{rules}?page_size=200")).await.expect(200);
                let items = list["items"].as_array().unwrap();
                let mut any = || random.pick(items).unwrap()["id"].clone();
                let (one, two) = (any(), any());
                let mut fresh = numbered(random.below(90) as usize);
                next += 1;
                fresh["name"] = json!(format!("n{next}"));
                fresh["priority"] = json!(random.below(100));
                fresh["action"] = json!(["ALLOW", "DENY", "REJECT"][random.below(3) as usize]);
                let path = format!("{rules}{one}/");
                let (method, path, body) = match random.below(7) {
                    0 => ("POST", format!("{rules}?duplicates=keep"), fresh),
                    1 => ("PATCH", path, json!({"action": fresh["action"]})),
                    2 => ("PATCH", path, json!({"description": fresh["name"]})),
                    3 => {
                        deleted.insert(one.as_i64().unwrap());
                        ("DELETE", path, Value::Null)
                    }
                    4 => match deleted.pop_first() {
                        Some(id) => ("POST", format!("{rules}{id}/restore/"), Value::Null),
                        None => continue,
                    },
                    5 => {
                        let ids = if one == two { json!([one]) } else { json!([one, two]) };
                        ("POST", format!("{rules}move/"), json!({"rule_ids": ids, "at": "first"}))
                    }
                    _ => {
                        let patch = json!({"priority": fresh["priority"]});
                        let operations =
                            json!([{"op": "update", "rule_id": one, "patch": patch}]);
                        ("POST", format!("{rules}batch/"), json!({"operations": operations}))
                    }
                };
                let body = (!body.is_null()).then_some(body);
                let answer = api.with(method, &path, &[], body.as_ref()).await;
                // A restored rule may equal another one.
                let is_done = answer.status.is_success() || answer.status.as_u16() == 409;
                assert!(is_done, "{method} {path}: {}", answer.text);
            }
            for _ in 0..12 {
                let packet = of_rule(random.below(95) as usize);
                let path = format!("{policy}inspections/?{packet}");
                assert_eq!(api.get(&path).await.expect(200), other.get(&path).await.expect(200));
            }
        }
        assert!(metric(&api, UPDATED).await > 5);
    }
}

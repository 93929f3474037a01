//! The threads on which work is done: the serving threads only do short work.

use std::sync::{Arc, Mutex};
use std::thread::ThreadId;

use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, Observed, Observer, Operation};
use serde_json::{Value, json};

use crate::support::{Api, plain_rule, tcp};

/// Records the thread on which each statement ended.
#[derive(Debug, Default)]
struct Threads(Mutex<Vec<(Operation, ThreadId)>>);

impl Observer for Threads {
    fn observed(&self, it: &Observed<'_>) {
        self.0.lock().unwrap().push((it.operation, std::thread::current().id()));
    }
}

impl Threads {
    /// For each statement of a kind since the last call, whether it ran on this thread.
    fn were_here(&self, operation: Operation) -> Vec<bool> {
        let here = std::thread::current().id();
        let seen = std::mem::take(&mut *self.0.lock().unwrap());
        let of_kind = seen.into_iter().filter(|(of, _)| *of == operation);
        of_kind.map(|(_, thread)| thread == here).collect()
    }
}

/// This thread is the only one that serves.
#[tokio::test]
async fn what_grows_with_a_policy_is_done_beside_the_threads_that_serve() {
    for kind in [DatabaseKind::Sqlite, DatabaseKind::Postgres] {
        let threads = Arc::<Threads>::default();
        let observer: Arc<dyn Observer> = threads.clone();
        let database = TestDatabase::new(kind).await;
        let api = Api::on(database.reopened(|options| options.observer = Some(observer)).await);
        let policy = api.policy().await;
        let rule = |index: usize| -> Value {
            let mut rule = plain_rule();
            rule["priority"] = json!(index);
            rule["sources"] = json!([{"address": format!("10.0.{}.{}", index / 256, index % 256)}]);
            rule
        };
        api.post(&format!("{policy}rules/"), &rule(0)).await.expect(201);
        let small = threads.were_here(Operation::Insert);
        assert!(!small.is_empty() && small.iter().all(|is_here| *is_here), "{small:?}");

        // Compares, checks and writes a whole set.
        let set: Vec<Value> = (0..50).map(rule).collect();
        api.put(&format!("{policy}rules/"), &json!(set)).await.expect(200);
        let large = threads.were_here(Operation::Insert);
        assert!(!large.is_empty() && large.iter().all(|is_here| !is_here), "{large:?}");

        // Many changes, with and without an idempotency key.
        for (index, headers) in [(100, vec![]), (200, vec![("idempotency-key", "once")])] {
            let operations: Vec<Value> = (index..index + 20)
                .map(|index| json!({"op": "create", "rule": rule(index)}))
                .collect();
            let body = json!({"operations": operations});
            api.with("POST", &format!("{policy}rules/batch/"), &headers, Some(&body))
                .await
                .expect(200);
            let many = threads.were_here(Operation::Insert);
            assert!(!many.is_empty() && many.iter().all(|is_here| !is_here), "{many:?}");
        }

        // All rules are read elsewhere, to compile them. The row that shows whether a compilation
        // is needed is read on the serving thread.
        let packet = tcp("10.0.0.1", "192.0.2.1", 443);
        api.get(&format!("{policy}inspections/?{packet}")).await.expect(200);
        let reads = threads.were_here(Operation::Select);
        assert!(reads.contains(&false), "{reads:?}");
    }
}

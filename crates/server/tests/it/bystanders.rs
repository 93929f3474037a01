//! Whatever one subject overloads, another subject still reads single resources and gets verdicts.
//! Each test overloads one class of work with more requests than are served, for as long as the
//! bystander sends its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fireflow_domain::actor::Role;
use fireflow_domain::store::{Storage, Terms, WriteKind};
use fireflow_service::budget::Budget;
use fireflow_storage::testing::TestDatabase;
use fireflow_storage::{DatabaseKind, DatabaseOptions, db_test};
use fireflow_web::{CompilationLimits, CompiledPolicies};
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::memory::MIB;
use crate::support::{Api, encoded, plain_rule, tcp};

/// A timeout far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(240);
/// The number of rounds of the bystander's requests while a class is overloaded.
const ROUNDS: usize = 10;

/// A service with few connections, a short list timeout, and short waits.
struct Service {
    api: Arc<Api>,
    attackers: Vec<String>,
    bystander: String,
    /// The paths that the bystander reads.
    paths: Vec<String>,
}

impl Service {
    async fn new(kind: DatabaseKind) -> Self {
        let few = |options: &mut DatabaseOptions| {
            options.max_connections = 16;
            options.list_timeout = Duration::from_millis(500);
            options.acquire_timeout = Duration::from_secs(3);
        };
        let db = TestDatabase::new(kind).await.reopened(few).await;
        let api = Api::built(db, |app, _| {
            // Large policies are compiled each time; small ones stay in the cache.
            let limits = CompilationLimits { time: PATIENCE, ..CompilationLimits::default() };
            app.compiled = CompiledPolicies::new(128 * 1024, limits);
        });
        let policy = api.policy().await;
        let rule = api.rule(&policy, &json!({"name": "web"})).await;
        let firewall = crate::support::firewall_of(&policy).to_owned();
        let verdict = format!("{policy}inspections/?{}", tcp("10.0.0.1", "192.0.2.1", 443));
        let paths =
            vec![firewall, policy.clone(), format!("{policy}rules/{}/", rule["id"]), verdict];
        let token = |name: &str| api.token_of(name, &Role::ALL);
        let attackers = ["mallory", "trudy", "oscar", "eve"].map(token).to_vec();
        let bystander = token("bob");
        let service = Self { api: Arc::new(api), attackers, bystander, paths };
        // From now on the bystander's verdicts come from the cache.
        service.ask_all().await;
        service
    }

    /// Sends each of the bystander's requests once.
    async fn ask_all(&self) {
        for path in &self.paths {
            let answer = self.api.send("GET", path, &self.bystander, &[], None).await;
            assert_eq!(answer.status.as_u16(), 200, "{path}: {}", answer.text);
        }
    }

    /// Repeats the bystander's requests until a number of rounds ran while the class was
    /// overloaded.
    async fn serves_the_bystander(&self, is_overloaded: impl Fn() -> bool) {
        let (start, mut rounds) = (Instant::now(), 0);
        while rounds < ROUNDS {
            assert!(start.elapsed() < PATIENCE, "overloaded in {rounds} rounds only");
            let is_overloaded_before = is_overloaded();
            self.ask_all().await;
            if is_overloaded_before && is_overloaded() {
                rounds += 1;
            } else {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// A policy of the attacker, with the given rules.
    async fn policy_with(&self, name: &str, rules: Vec<Value>) -> String {
        let firewall = self.api.post("/firewalls/", &json!({"name": name})).await.expect(201);
        let path = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
        let body = json!({"name": "in", "default_action": "DENY"});
        let policy = self.api.post(&path, &body).await.expect(201);
        let policy = format!("{path}{}/", policy["id"]);
        self.api.put(&format!("{policy}rules/"), &json!(rules)).await.expect(200);
        policy
    }
}

/// A request that the attack repeats.
#[derive(Clone)]
enum Sent {
    Get(String),
    /// A whole list whose body stays unread for a while.
    Unread(String),
    /// A request with a new body for each turn.
    Write(&'static str, String, fn(usize) -> Value),
}

/// Many concurrent requests, each of which is repeated after its answer.
struct Attack {
    under_way: Arc<AtomicUsize>,
    /// The number of answers that have arrived and are not read.
    held: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    tasks: JoinSet<Vec<u16>>,
}

impl Attack {
    /// Starts `count` concurrent requests, spread over `subjects` subjects.
    fn begin(service: &Service, subjects: usize, count: usize, requests: &[Sent]) -> Self {
        let tokens = service.attackers.iter().take(subjects).cycle();
        let (under_way, held) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let is_over = Arc::<AtomicBool>::default();
        let mut tasks = JoinSet::new();
        let requests = requests.iter().cycle().take(count).cloned().zip(tokens.cloned());
        for (number, (request, token)) in requests.enumerate() {
            let api = Arc::clone(&service.api);
            let (under_way, held) = (Arc::clone(&under_way), Arc::clone(&held));
            let is_over = Arc::clone(&is_over);
            tasks.spawn(async move {
                let mut statuses = Vec::new();
                for turn in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    under_way.fetch_add(1, Ordering::SeqCst);
                    let status = match &request {
                        Sent::Get(path) => api.send("GET", path, &token, &[], None).await.status,
                        Sent::Write(method, path, body) => {
                            let body = body(turn * count + number);
                            api.send(method, path, &token, &[], Some(&body)).await.status
                        }
                        Sent::Unread(path) => {
                            let answer = api.open_as(&token, path, "text/csv").await;
                            let status = answer.status();
                            if status == 200 {
                                held.fetch_add(1, Ordering::SeqCst);
                                let start = Instant::now();
                                while start.elapsed() < Duration::from_secs(5)
                                    && !is_over.load(Ordering::SeqCst)
                                {
                                    tokio::time::sleep(Duration::from_millis(5)).await;
                                }
                                held.fetch_sub(1, Ordering::SeqCst);
                            }
                            status
                        }
                    };
                    under_way.fetch_sub(1, Ordering::SeqCst);
                    statuses.push(status.as_u16());
                }
                statuses
            });
        }
        Self { under_way, held, is_over, tasks }
    }

    fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    fn held(&self) -> usize {
        self.held.load(Ordering::SeqCst)
    }

    /// Ends the attack and checks that each answer had one of the expected statuses.
    async fn end(self, expected: &[u16]) {
        self.is_over.store(true, Ordering::SeqCst);
        for statuses in self.tasks.join_all().await {
            for status in statuses {
                assert!(expected.contains(&status), "{status}");
            }
        }
    }
}

/// A rule that differs from the others in its set.
fn numbered_rule(index: usize) -> Value {
    let mut rule = plain_rule();
    rule["name"] = json!(format!("r{index}"));
    rule["priority"] = json!(index);
    rule["sources"] = json!([{"address": format!("10.0.{}.{}", index / 256, index % 256)}]);
    rule
}

db_test! {
    async fn expensive_lists_leave_single_reads_and_verdicts_alone(service: Service) {
        service.policy_with("lists", (0..2_000).map(numbered_rule).collect()).await;
        let holds: Vec<String> =
            (0..90).map(|index| format!("NOT sources.address OVERLAPS 11.0.0.{index}")).collect();
        let filter = format!("{} AND NOT sources.address OVERLAPS 10.0.0.0/8", holds.join(" AND "));
        let list = Sent::Get(format!("/rules/?filter={}", encoded(&filter)));
        let attack = Attack::begin(&service, 3, 24, &[list]);
        // PostgreSQL has four turns for lists. SQLite has two per processor, at most sixteen.
        service.serves_the_bystander(|| attack.under_way() > 18).await;
        attack.end(&[200, 422, 503]).await;
    }
}

db_test! {
    async fn exports_that_nobody_reads_leave_reads_verdicts_and_exports_of_others_alone(service: Service) {
        let policy = service.policy_with("exports", (0..3_000).map(numbered_rule).collect()).await;
        let list = format!("{policy}rules/");
        let attack = Attack::begin(&service, 1, 6, &[Sent::Unread(list.clone())]);
        // SQLite has four turns and PostgreSQL has three. One subject gets two of them; its other
        // requests wait.
        service
            .serves_the_bystander(|| attack.held() > 0 && attack.under_way() > attack.held() + 1)
            .await;
        assert!(attack.held() <= 2, "{}", attack.held());
        let csv = [("accept", "text/csv")];
        let whole = service.api.send("GET", &list, &service.bystander, &csv, None).await;
        assert_eq!((whole.status.as_u16(), whole.text.lines().count()), (200, 3_001));
        attack.end(&[200, 503]).await;
    }
}

db_test! {
    async fn exports_of_many_subjects_leave_single_reads_and_verdicts_alone(service: Service) {
        let policy = service.policy_with("exports", (0..3_000).map(numbered_rule).collect()).await;
        let attack = Attack::begin(&service, 4, 12, &[Sent::Unread(format!("{policy}rules/"))]);
        // All turns are taken for longer than any request waits for one.
        service
            .serves_the_bystander(|| attack.held() >= 3 && attack.under_way() > attack.held())
            .await;
        attack.end(&[200, 503]).await;
    }
}

db_test! {
    async fn an_export_waits_for_its_turn_and_then_is_told_when_to_come_back(service: Service) {
        let policy = service.policy_with("exports", (0..3_000).map(numbered_rule).collect()).await;
        let list = format!("{policy}rules/");
        let (api, csv) = (&service.api, "text/csv");
        let open = async || {
            let answer = api.open_as(&service.attackers[0], &list, csv).await;
            (answer.status().as_u16(), answer)
        };
        // One subject gets half of the turns and waits for more.
        let first = [open().await, open().await];
        assert_eq!(first.each_ref().map(|(status, _)| *status), [200, 200]);
        let (status, refused) = open().await;
        assert_eq!(status, 503);
        assert!(refused.headers().contains_key("retry-after"));
        // A client that leaves frees its turn for a waiting client.
        let waits = async {
            let mut answer = open().await;
            // If it did not get its turn in time, it retries.
            while answer.0 == 503 {
                answer = open().await;
            }
            answer
        };
        let leaves = async {
            tokio::task::yield_now().await;
            drop(first);
        };
        let ((status, answer), ()) = tokio::join!(waits, leaves);
        assert_eq!(status, 200);
        let text = answer.into_body().into_string().await.unwrap();
        assert_eq!(text.lines().count(), 3_001);
    }
}

db_test! {
    async fn small_writes_that_wait_for_each_other_leave_reads_and_verdicts_alone(service: Service) {
        let policy = service.policy_with("writes", vec![numbered_rule(0)]).await;
        let db = &service.api.db;
        // Another client holds the lock that all of these writes need. On SQLite that is the write
        // turn; on PostgreSQL it is the policy's row, and the writes wait at the server.
        let (mut unit, mut transaction) = (None, None);
        match db.database.kind() {
            DatabaseKind::Sqlite => {
                unit = Some(db.database.write(WriteKind::Few, &Terms::default()).await.unwrap());
            }
            DatabaseKind::Postgres => {
                let other = sea_orm::Database::connect(db.url.as_str()).await.unwrap();
                let begun = other.begin().await.unwrap();
                begun.execute_unprepared("SELECT id FROM policy FOR UPDATE").await.unwrap();
                transaction = Some((begun, other));
            }
        }
        let write = Sent::Write("POST", format!("{policy}rules/"), |turn| numbered_rule(turn + 1));
        let attack = Attack::begin(&service, 1, 40, &[write]);
        // None of these writes can end except by a refusal, and each refused one is sent again.
        service.serves_the_bystander(|| attack.under_way() >= 20).await;
        if db.database.kind() == DatabaseKind::Postgres {
            // Writes to other rows still succeed.
            let body = json!({"name": "of the bystander"});
            let token = &service.bystander;
            service.api.send("POST", "/firewalls/", token, &[], Some(&body)).await.expect(201);
        }
        drop((unit, transaction));
        attack.end(&[201, 503]).await;
        service.ask_all().await;
    }
}

/// A set in which every rule differs from the set of the previous turn.
fn large_set(turn: usize) -> Value {
    let rule = |index| {
        let mut rule = numbered_rule(index);
        rule["description"] = json!(format!("turn {turn}"));
        rule
    };
    json!((0..1_500).map(rule).collect::<Vec<Value>>())
}

db_test! {
    async fn large_sets_leave_single_reads_and_verdicts_alone(service: Service) {
        let policy = service.policy_with("sets", Vec::new()).await;
        let put = Sent::Write("PUT", format!("{policy}rules/"), large_set);
        let attack = Attack::begin(&service, 3, 4, &[put]);
        // The service writes one or two sets at a time.
        service.serves_the_bystander(|| attack.under_way() > 2).await;
        attack.end(&[200, 503]).await;
    }
}

/// A rule that splits the packet space in many places.
fn scattered_rule(index: usize) -> Value {
    let mut rule = plain_rule();
    let number = |salt: usize, most: usize| (index * 7_919 + salt * 104_729) % most;
    let entries = |side: usize| -> Vec<Value> {
        let entry = |salt: usize| {
            let salt = salt + 10 * side;
            let (a, b, c) = (number(salt, 200), number(salt + 1, 250), number(salt + 2, 250));
            let from = number(salt + 3, 60_000);
            json!({"address": format!("{}.{b}.{c}.0/24", a + 1), "port": format!("{from}-{}", from + 999)})
        };
        (0..6).map(entry).collect()
    };
    rule["priority"] = json!(index);
    rule["sources"] = json!(entries(0));
    rule["destinations"] = json!(entries(1));
    rule
}

db_test! {
    async fn policies_that_take_long_to_compile_leave_reads_and_kept_verdicts_alone(service: Service) {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let mut asked = Vec::new();
        // One processor compiles each of them.
        for index in 0..processors + 2 {
            let (name, rules) = (format!("edge {index}"), (0..400).map(scattered_rule));
            let policy = service.policy_with(&name, rules.collect()).await;
            let packet = tcp("10.0.0.1", "192.0.2.1", 443);
            asked.push(Sent::Get(format!("{policy}inspections/?{packet}")));
        }
        let attack = Attack::begin(&service, 3, 8 * processors, &asked);
        service.serves_the_bystander(|| attack.under_way() > 4 * processors).await;
        attack.end(&[200, 503]).await;
    }
}

/// A body with as many faults as fit.
fn wrong(bytes: usize) -> Vec<u8> {
    let mut body = String::from("{\"0\":0");
    for index in 1.. {
        if body.len() >= bytes {
            break;
        }
        body.push_str(&format!(",\"{index:x}\":0"));
    }
    body.push('}');
    body.into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_of_one_subject_leave_a_processor_to_those_of_others() {
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    // Enough memory, so that only the turns are scarce.
    let api = Api::built(db, |app, _| app.budget = Budget::bytes(4_096 * MIB));
    let policy = api.policy().await;
    let (api, large) = (Arc::new(api), Arc::new(wrong(1_900_000)));
    let token = format!("Bearer {}", api.token_of("mallory", &[Role::Editor]));
    let mut attack = JoinSet::new();
    for _ in 0..12 {
        let (api, body, token) = (Arc::clone(&api), Arc::clone(&large), token.clone());
        attack.spawn(async move {
            let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
            api.raw("POST", "/firewalls/", &headers, body.to_vec()).await.status.as_u16()
        });
    }
    // There are two turns. One subject gets one of them, and its other bodies wait although the
    // second turn is free.
    let start = Instant::now();
    let used = || api.turns().used.iter().sum::<u64>();
    while used() != 1 || api.turns().waiting < 3 {
        assert!(start.elapsed() < PATIENCE, "{:?}", api.turns());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // A body of another subject is decoded and answered while they wait.
    let packet = json!({
        "source_address": "10.0.0.1", "source_port": 40_000,
        "destination_address": "192.0.2.1", "destination_port": 443,
    });
    let packets = json!(vec![packet; 700]);
    assert!(packets.to_string().len() > 64 * 1024, "it takes a turn");
    let bob = api.token_of("bob", &[Role::Viewer]);
    let path = format!("{policy}inspections/");
    let answer = api.send("POST", &path, &bob, &[], Some(&packets)).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.text);
    assert!(api.turns().waiting > 0, "none of them waits any more: {:?}", api.turns());
    let statuses = attack.join_all().await;
    assert!(statuses.contains(&422), "{statuses:?}");
    // A body that waits too long for a turn gets 503.
    assert!(statuses.iter().all(|status| [422, 503].contains(status)), "{statuses:?}");
    assert_eq!(api.turns().waiting, 0);
}

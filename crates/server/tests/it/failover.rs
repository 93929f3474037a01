//! The database's primary dies under load, and its standby takes over.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, wait_until, wait_until_ok};
use crate::forwarder::{Behind, Forwarder};
use crate::service::{Connection, Service, binary};
use crate::support::{Answer, plain_rule, tcp};

/// The codes that a write may get if it is not acknowledged.
const CODES: [&str; 3] = ["unavailable", "timeout", "outcome_unknown"];

/// A timeout far longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the load runs with a primary, and the minimum for each kind of outage.
const LOAD: Duration = Duration::from_secs(2);
/// The number of successes that each worker needs in a phase where it must succeed.
const SEVERAL: usize = 5;

/// The state of the primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Before,
    Away(Behind),
    After,
}

/// What a thread of the load does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoadKind {
    /// Creates firewalls.
    Firewalls,
    /// Creates rules, all in one policy.
    Rules,
    /// Reads lists, which come from the standby.
    Lists,
    /// Reads single resources and inspects, on the primary.
    Singles,
}

impl LoadKind {
    const ALL: [Self; 4] = [Self::Firewalls, Self::Rules, Self::Lists, Self::Singles];

    const fn writes(self) -> bool {
        matches!(self, Self::Firewalls | Self::Rules)
    }
}

/// One thread of the load. Its connection stays open all the time.
#[derive(Debug, Clone, Copy)]
struct Worker {
    number: usize,
    process: usize,
    kind: LoadKind,
}

/// An answer, and the request that it belongs to.
#[derive(Debug)]
struct Seen {
    worker: Worker,
    name: String,
    began: Phase,
    ended: Phase,
    /// The problem's code, or `None` if the request succeeded.
    refused: Option<&'static str>,
}

impl Seen {
    fn is_done(&self) -> bool {
        self.refused.is_none()
    }

    fn is_within(&self, phase: Phase) -> bool {
        (self.began, self.ended) == (phase, phase)
    }
}

/// The state that all threads share.
struct Load {
    policy: String,
    phase: Mutex<Phase>,
    is_over: AtomicBool,
    seen: Mutex<Vec<Seen>>,
    /// Unexpected answers; must stay empty.
    faults: Mutex<Vec<String>>,
}

/// Ends the threads even if a check fails, because their scope waits for them.
struct EndOnDrop<'a>(&'a Load);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
    }
}

impl Load {
    fn phase(&self) -> Phase {
        *self.phase.lock().unwrap()
    }

    fn enter(&self, phase: Phase) {
        *self.phase.lock().unwrap() = phase;
    }

    fn run(&self, worker: Worker, mut connection: Connection) {
        for index in 0.. {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let name = format!("w{} i{index}", worker.number);
            let (method, path, body) = self.request(worker, index, &name);
            let began = self.phase();
            let answer = connection.exchange(method, &path, &body);
            let ended = self.phase();
            let verdict = answer
                .map_err(|error| format!("the connection broke: {error}"))
                .and_then(|answer| judge(worker.kind, &answer));
            match verdict {
                Ok(refused) => {
                    self.seen.lock().unwrap().push(Seen { worker, name, began, ended, refused });
                    // The test does not measure throughput, so each worker pauses.
                    let pause = if refused.is_none() { 2 } else { 20 };
                    std::thread::sleep(Duration::from_millis(pause));
                }
                Err(fault) => {
                    let fault = format!("{method} {path}, from {began:?} to {ended:?}: {fault}");
                    return self.faults.lock().unwrap().push(fault);
                }
            }
        }
    }

    fn request(&self, worker: Worker, index: u32, name: &str) -> (&'static str, String, String) {
        let is_even = index.is_multiple_of(2);
        match worker.kind {
            LoadKind::Firewalls => {
                ("POST", "/firewalls/".to_owned(), json!({ "name": name }).to_string())
            }
            LoadKind::Rules => {
                let mut rule = plain_rule();
                rule["name"] = json!(name);
                // Equal rules would be refused.
                let source = format!("10.{}.{}.{}", worker.number, index / 256, index % 256);
                rule["sources"] = json!([{ "address": source }]);
                ("POST", format!("{}rules/", self.policy), rule.to_string())
            }
            LoadKind::Lists => {
                let list = if is_even { "/firewalls/" } else { "/rules/" };
                ("GET", format!("{list}?page_size=20"), String::new())
            }
            LoadKind::Singles => {
                let packet = tcp("10.0.0.1", "192.0.2.1", 443);
                let inspected = format!("{}inspections/?{packet}", self.policy);
                let path = if is_even { self.policy.clone() } else { inspected };
                ("GET", path, String::new())
            }
        }
    }

    /// Waits until every worker has had `times` matching answers. Returns early if an answer was
    /// wrong.
    fn wait(&self, what: &str, workers: &[Worker], times: usize, is_one: impl Fn(&Seen) -> bool) {
        wait_until_ok(what, PATIENCE, || {
            let seen = self.seen.lock().unwrap();
            let answers = |worker: &Worker| {
                let number = worker.number;
                seen.iter().rev().filter(move |it| it.worker.number == number)
            };
            let has_enough =
                |worker: &Worker| answers(worker).filter(|it| is_one(it)).count() >= times;
            let lacking: Vec<&Worker> = workers.iter().filter(|it| !has_enough(it)).collect();
            if lacking.is_empty() || !self.faults.lock().unwrap().is_empty() {
                return Ok(());
            }
            let last = |worker: &Worker| -> Vec<_> {
                answers(worker).take(5).map(|it| (it.began, it.ended, it.refused)).collect()
            };
            let last: Vec<_> = lacking.iter().map(|worker| (worker, last(worker))).collect();
            Err(format!("{last:#?}"))
        });
        assert_eq!(*self.faults.lock().unwrap(), [""; 0], "until this was so: {what}");
    }
}

/// Returns the code of the refusal, or `None` if the request succeeded. Returns an error if the
/// answer is neither.
fn judge(kind: LoadKind, answer: &Answer) -> Result<Option<&'static str>, String> {
    if answer.status == if kind.writes() { 201 } else { 200 } {
        return Ok(None);
    }
    let header = |name| answer.headers.get(name)?.to_str().ok();
    let wait: Option<u64> = header("retry-after").and_then(|it| it.parse().ok());
    let is_formed = answer.status == 503
        && header("content-type") == Some("application/problem+json")
        && wait.is_some_and(|seconds| seconds > 0);
    let body: Value = serde_json::from_str(&answer.text).unwrap_or_default();
    // On a busy machine a list may take longer than the few seconds that requests have here.
    if kind == LoadKind::Lists && answer.status == 422 && body["code"] == "too_expensive" {
        return Ok(Some("too_expensive"));
    }
    let code = CODES.into_iter().find(|code| is_formed && body["code"] == *code);
    if code.is_some() { Ok(code) } else { Err(format!("{answer:?}")) }
}

/// Starts two processes on one database at once, so that both migrate it.
fn start_both(folder: &Path, url: &str, read_url: &str, connections: usize) -> [Service; 2] {
    let connections = connections.to_string();
    let start = |number: usize| {
        let log = File::create(folder.join(format!("{number}.log"))).unwrap();
        let mut command = binary(folder);
        command.stderr(log).envs([
            ("FIREFLOW_DATABASE_URL", url),
            ("FIREFLOW_DATABASE__READ_URL", read_url),
            ("FIREFLOW_DATABASE__MAX_CONNECTIONS", connections.as_str()),
            ("FIREFLOW_MIGRATE_ON_START", "true"),
            // This is also the timeout for connecting to an unreachable database.
            ("FIREFLOW_HTTP__REQUEST_TIMEOUT", "6s"),
            ("FIREFLOW_LOG", "warn"),
            ("FIREFLOW_LOG_FORMAT", "json"),
        ]);
        Service::spawn(folder, &mut command)
    };
    std::thread::scope(|scope| {
        let both = [0, 1].map(|number| scope.spawn(move || start(number)));
        both.map(|service| service.join().unwrap())
    })
}

/// Creates a policy through one process, and returns its path once the other process lists it.
fn policy_of_both(services: &[Service; 2]) -> String {
    let [mut first, mut second] = [0, 1].map(|number| services[number].connect());
    let (status, firewall) = first.ask("POST", "/firewalls/", "{\"name\": \"edge\"}").unwrap();
    assert_eq!(status, 201, "{firewall}");
    let policies = format!("/firewalls/{}/filtering-policies/", firewall["id"]);
    let body = "{\"name\": \"in\", \"default_action\": \"DENY\"}";
    let (status, policy) = second.ask("POST", &policies, body).unwrap();
    assert_eq!(status, 201, "{policy}");
    wait_until("a list on the standby that has it", PATIENCE, || {
        let (status, list) = first.ask("GET", &policies, "").unwrap();
        status == 200 && list["total"] == 1
    });
    format!("{policies}{}/", policy["id"])
}

/// How many times each name occurs in a list.
fn names(connection: &mut Connection, list: &str) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    for page in 1.. {
        let path = format!("{list}?page_size=1000&page={page}");
        let (status, answer) = connection.ask("GET", &path, "").unwrap();
        assert_eq!(status, 200, "{answer}");
        let items = answer["items"].as_array().unwrap();
        if items.is_empty() {
            break;
        }
        for item in items {
            *names.entry(item["name"].as_str().unwrap().to_owned()).or_default() += 1;
        }
    }
    names
}

/// Checks that every acknowledged resource exists, and that no write answered with `unavailable`
/// took effect. No name may occur twice or without a request for it.
fn compare(seen: &[Seen], kind: LoadKind, found: &BTreeMap<String, usize>) {
    let of_kind = || seen.iter().filter(|it| it.worker.kind == kind);
    let lost: Vec<&Seen> =
        of_kind().filter(|it| it.is_done() && !found.contains_key(&it.name)).collect();
    assert!(lost.is_empty(), "acknowledged, and lost: {lost:#?}");
    let kept: Vec<&Seen> = of_kind()
        .filter(|it| it.refused == Some("unavailable") && found.contains_key(&it.name))
        .collect();
    assert!(kept.is_empty(), "said to have changed nothing, and there: {kept:#?}");
    let asked: BTreeSet<&str> = of_kind().map(|it| it.name.as_str()).collect();
    for (name, times) in found {
        assert_eq!(*times, 1, "{name}");
        assert!(asked.contains(name.as_str()) || name == "edge", "nobody asked for {name}");
    }
}

#[test]
fn a_failover_of_the_database_costs_no_acknowledged_write_and_needs_no_restart() {
    fail_over(8, 1, &[Behind::Nobody, Behind::Silence]);
}

/// Every connection of the pools is in use when its other end disappears without closing it.
#[test]
fn a_primary_that_falls_silent_keeps_no_connection_of_the_pool() {
    fail_over(6, 3, &[Behind::Silence]);
}

/// Runs a failover with the given number of connections from each process to the primary, and of
/// threads per kind and process. The primary's address leads to each of `outages` in turn, and then
/// to the standby.
fn fail_over(connections: usize, threads: usize, outages: &[Behind]) {
    let mut cluster = Cluster::start();
    let forwarder = Forwarder::new(cluster.primary.address());
    let folder = tempfile::tempdir().unwrap();
    let url = |address| format!("postgres://postgres@{address}/postgres");
    let (stable, standby) = (url(forwarder.address()), url(cluster.standby.address()));
    let mut services = start_both(folder.path(), &stable, &standby, connections);
    let load = Load {
        policy: policy_of_both(&services),
        phase: Mutex::new(Phase::Before),
        is_over: AtomicBool::new(false),
        seen: Mutex::default(),
        faults: Mutex::default(),
    };
    let workers: Vec<Worker> = [0, 1]
        .into_iter()
        .flat_map(|process| LoadKind::ALL.map(|kind| (process, kind)))
        .flat_map(|it| std::iter::repeat_n(it, threads))
        .enumerate()
        .map(|(number, (process, kind))| Worker { number, process, kind })
        .collect();
    let (listers, others): (Vec<Worker>, Vec<Worker>) =
        workers.iter().partition(|it| it.kind == LoadKind::Lists);

    std::thread::scope(|scope| {
        let _end = EndOnDrop(&load);
        for worker in &workers {
            let (connection, load) = (services[worker.process].connect(), &load);
            scope.spawn(move || load.run(*worker, connection));
        }
        std::thread::sleep(LOAD);
        load.wait("every worker succeeds", &workers, SEVERAL, Seen::is_done);

        if outages.first() == Some(&Behind::Silence) {
            // The system closes a killed process's connections, so the silence must begin before
            // the kill.
            forwarder.point_at(Behind::Silence);
        }
        cluster.primary.kill();
        for &behind in outages {
            forwarder.point_at(behind);
            let away = Phase::Away(behind);
            load.enter(away);
            std::thread::sleep(LOAD);
            load.wait("lists go on", &listers, SEVERAL, |it| it.is_within(away) && it.is_done());
            load.wait("the rest is refused", &others, 1, |it| it.ended == away && !it.is_done());
        }

        cluster.promote();
        forwarder.point_at(Behind::Server(cluster.standby.address()));
        load.enter(Phase::After);
        load.wait("every worker succeeds again", &workers, SEVERAL, |it| {
            it.began == Phase::After && it.is_done()
        });
    });

    assert_eq!(load.faults.into_inner().unwrap(), [""; 0]);
    for (number, service) in services.iter_mut().enumerate() {
        assert!(service.child.try_wait().unwrap().is_none(), "process {number} has ended");
        let log = fs::read_to_string(folder.path().join(format!("{number}.log"))).unwrap();
        let defects: Vec<&str> = log.lines().filter(|line| line.contains("\"ERROR\"")).collect();
        assert!(defects.is_empty(), "{defects:#?}");
    }
    let seen = load.seen.into_inner().unwrap();
    let is_away = |it: &Seen| matches!((it.began, it.ended), (Phase::Away(_), Phase::Away(_)));
    let alone = seen.iter().find(|it| it.worker.kind.writes() && is_away(it) && it.is_done());
    assert!(alone.is_none(), "written without a primary: {alone:?}");
    for service in &services {
        let mut connection = service.connect();
        compare(&seen, LoadKind::Firewalls, &names(&mut connection, "/firewalls/"));
        compare(&seen, LoadKind::Rules, &names(&mut connection, &format!("{}rules/", load.policy)));
    }
}

/// The promoted standby lacks the last change, and the next change there gets the same revision.
/// The same happens if a backup replaces the primary.
#[tokio::test]
async fn what_was_compiled_of_a_server_is_not_answered_of_the_next() {
    let mut cluster = Cluster::start();
    let forwarder = Forwarder::new(cluster.primary.address());
    let folder = tempfile::tempdir().unwrap();
    let url = |address| format!("postgres://postgres@{address}/postgres");
    let service = Service::start(folder.path(), &url(forwarder.address()));
    let mut connection = service.connect();
    for (path, body) in [
        ("/firewalls/", json!({"name": "edge"})),
        ("/firewalls/1/filtering-policies/", json!({"name": "in", "default_action": "DENY"})),
        ("/firewalls/1/filtering-policies/1/rules/", plain_rule()),
    ] {
        let (status, answer) = connection.ask("POST", path, &body.to_string()).unwrap();
        assert_eq!(status, 201, "{answer}");
    }
    let packet = tcp("10.0.0.1", "10.0.0.2", 443);
    let inspection = format!("/firewalls/1/filtering-policies/1/inspections/?{packet}");
    let mut ask = || connection.ask("GET", &inspection, "").unwrap();
    let (_, before) = ask();
    assert_eq!(before["action"], "ALLOW", "{before}");

    cluster.primary.kill();
    cluster.promote();
    let next = sea_orm::Database::connect(url(cluster.standby.address())).await.unwrap();
    for undo in [
        "DELETE FROM rule_address",
        "DELETE FROM rule_port",
        "DELETE FROM rule",
        "UPDATE policy SET revision = 1, rule_count = 0, entry_count = 0, states = substr(states, 17)",
    ] {
        sea_orm::ConnectionTrait::execute_unprepared(&next, undo).await.unwrap();
    }
    next.close().await.unwrap();
    forwarder.point_at(Behind::Server(cluster.standby.address()));
    let mut other = plain_rule();
    other["action"] = json!("REJECT");
    wait_until("a write at the standby", PATIENCE, || {
        let path = "/firewalls/1/filtering-policies/1/rules/";
        service.connect().ask("POST", path, &other.to_string()).is_ok_and(|it| it.0 == 201)
    });
    // Read connections may still lead to the lost server; the service answers these requests with
    // 503.
    let mut after = Value::Null;
    wait_until("a verdict of the next server", PATIENCE, || {
        let (status, answer) = ask();
        assert!(status == 200 || status == 503, "{answer}");
        after = answer;
        status == 200
    });
    assert_eq!(after["policy"], before["policy"], "the same revision");
    assert_eq!(after["action"], "REJECT", "{after}");
}

//! A long mixed load while something else restarts the database. No acknowledged write may be lost,
//! no answer may be a defect, and memory must not grow.

use std::collections::{BTreeMap, HashSet};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::load::Connection;
use crate::{Server, fill, seconds};

const WORKERS: usize = 16;
/// The interval between memory samples.
const EVERY: Duration = Duration::from_secs(5);
/// The allowed growth of memory from the first third to the last, for a warm process. The allocator
/// keeps some memory after peaks.
const GROWTH: f64 = 1.25;

#[derive(Default)]
struct Seen {
    /// Names of acknowledged firewalls.
    acknowledged: HashSet<String>,
    /// Ids of acknowledged firewalls.
    ids: Vec<u64>,
    statuses: BTreeMap<u16, u64>,
    broken: u64,
}

/// Runs the soak test for `FIREFLOW_BENCH_SECONDS`.
pub(crate) fn soak() -> ExitCode {
    let folder = tempfile::tempdir().unwrap();
    let url = std::env::var("FIREFLOW_BENCH_POSTGRES_URL").unwrap();
    let server = Server::fireflow(folder.path(), &[("FIREFLOW_DATABASE_URL", &url)]);
    fill(&server);
    let time = seconds();
    let seen = Mutex::new(Seen::default());
    let memory = Mutex::new(Vec::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let start = Instant::now();
    runtime.block_on(async {
        let workers = (0..WORKERS).map(|worker| work(&server, worker, start + time, &seen));
        let watch = async {
            while start.elapsed() < time {
                tokio::time::sleep(EVERY).await;
                let bytes = resident_bytes(server.child.id());
                memory.lock().unwrap().push(bytes);
            }
        };
        tokio::join!(futures_util::future::join_all(workers), watch);
    });
    let seen = seen.into_inner().unwrap();
    let memory = memory.into_inner().unwrap();
    let found = runtime.block_on(names(&server));
    report(&seen, &memory, &found, start.elapsed())
}

fn report(seen: &Seen, memory: &[f64], found: &[String], time: Duration) -> ExitCode {
    let there: HashSet<&String> = found.iter().collect();
    let lost = seen.acknowledged.iter().filter(|name| !there.contains(name)).count();
    let twice = found.len() - there.len();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len().max(1) as f64;
    let third = memory.len() / 3;
    let (early, late) =
        (mean(&memory[..third.max(1)]), mean(&memory[memory.len() - third.max(1)..]));
    println!("{:.0} s of mixed load over {WORKERS} connections", time.as_secs_f64());
    println!("  answers by status: {:?}; connections that broke: {}", seen.statuses, seen.broken);
    println!("  acknowledged writes: {}, lost: {lost}, twice: {twice}", seen.acknowledged.len());
    println!(
        "  resident memory: {:.1} MB in the first third, {:.1} MB in the last ({:.2} x)",
        early / 1e6,
        late / 1e6,
        late / early
    );
    let defects: u64 = seen.statuses.iter().filter(|(it, _)| **it == 500).map(|(_, it)| it).sum();
    let is_good = lost == 0 && twice == 0 && defects == 0 && late <= early * GROWTH;
    println!("{}", if is_good { "held" } else { "DID NOT HOLD" });
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn work(server: &Server, worker: usize, ends_at: Instant, seen: &Mutex<Seen>) {
    let mut connection = Connection::open(server).await.unwrap();
    let rules = "/firewalls/1/filtering-policies/1/rules/";
    let packet = "source_address=10.1.2.3&source_port=40000&destination_address=192.0.2.1&\
                  destination_port=443";
    let mut round = 0_u64;
    while Instant::now() < ends_at {
        round += 1;
        let name = format!("soak {worker} {round}");
        let id = seen.lock().unwrap().ids.last().copied().unwrap_or(1);
        let (method, path, body) = match round % 8 {
            0 => ("POST", "/firewalls/".to_owned(), format!("{{\"name\": \"{name}\"}}")),
            1 => ("GET", format!("/firewalls/{id}/"), String::new()),
            2 => ("GET", "/firewalls/?page_size=20&order_by=-id".to_owned(), String::new()),
            3 => {
                let inspections =
                    format!("/firewalls/1/filtering-policies/1/inspections/?{packet}");
                ("GET", inspections, String::new())
            }
            4 => {
                let patch = format!("{{\"description\": \"{name}\"}}");
                ("PATCH", format!("/firewalls/{id}/"), patch)
            }
            5 => ("GET", format!("{rules}?filter=traffic:(source=10.1.2.3)"), String::new()),
            6 => ("GET", "/audit-events/?order_by=-id&page_size=20".to_owned(), String::new()),
            _ => ("GET", "/whoami/".to_owned(), String::new()),
        };
        match connection.ask(method, &path, &body).await {
            Ok(status) => {
                let mut seen = seen.lock().unwrap();
                *seen.statuses.entry(status).or_default() += 1;
                if method == "POST" && status == 201 {
                    seen.acknowledged.insert(name);
                    let made: Value = serde_json::from_slice(connection.body()).unwrap();
                    seen.ids.push(made["id"].as_u64().unwrap());
                }
                assert!(matches!(status, 200 | 201 | 500 | 503), "{method} {path}: {status}");
            }
            Err(_) => {
                seen.lock().unwrap().broken += 1;
                connection = Connection::open(server).await.unwrap();
            }
        }
        // A steady load rather than a fast one: the faults that this test looks for take time to
        // appear.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The names of all firewalls that the load created.
async fn names(server: &Server) -> Vec<String> {
    let mut connection = Connection::open(server).await.unwrap();
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/firewalls/?page_size=1000&fields=name&cursor={cursor}");
        assert_eq!(connection.ask("GET", &path, "").await.unwrap(), 200);
        let page: Value = serde_json::from_slice(connection.body()).unwrap();
        let items = page["items"].as_array().unwrap().iter();
        let all = items.map(|it| it["name"].as_str().unwrap().to_owned());
        names.extend(all.filter(|name| name.starts_with("soak ")));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return names,
        }
    }
}

/// The resident memory of a process, in bytes.
fn resident_bytes(id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
    kilobytes * 1024.0
}

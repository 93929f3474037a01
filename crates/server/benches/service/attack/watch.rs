//! The bystander's view of an attack: the slowest `/health/live`, the latencies and statuses of
//! single reads and verdicts for another subject, and the memory of the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{connect, runtime};
use crate::Server;
use crate::load::Connection;

/// A verdict by the small policy, whose compiled form is in the cache.
pub(super) const VERDICT: &str = "/firewalls/1/filtering-policies/1/inspections/?source_address=10.0.1.1&source_port=40000&destination_address=172.16.0.1&destination_port=443&protocol=tcp";
/// The timeout of one request.
const PATIENCE: Duration = Duration::from_secs(60);

/// The number of unexpected answers by path.
type Refused = BTreeMap<String, usize>;

/// The observations of a watch.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) peak_bytes: f64,
    pub(super) live_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
    pub(super) asked: usize,
    /// Unexpected answers: those to the bystander and of `/health/live` that were not 200 or did
    /// not arrive.
    pub(super) refused: Refused,
}

/// A running watch.
pub(super) struct Watch {
    is_over: Arc<AtomicBool>,
    memory: JoinHandle<f64>,
    live: JoinHandle<(Vec<f64>, Refused)>,
    reads: JoinHandle<(Vec<f64>, Refused)>,
}

impl Watch {
    pub(super) fn start(server: &Server, token: &str) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let process = server.child.id();
        let over = Arc::clone(&is_over);
        let memory = std::thread::spawn(move || {
            let mut peak = 0_f64;
            while !over.load(Ordering::Relaxed) {
                peak = peak.max(resident_bytes_of(process));
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        let (over, address) = (Arc::clone(&is_over), server.address.clone());
        let live = std::thread::spawn(move || {
            runtime().block_on(ask(&address, "", &["/health/live"], &over, 50, true))
        });
        let (over, address, token) =
            (Arc::clone(&is_over), server.address.clone(), token.to_owned());
        let reads = std::thread::spawn(move || {
            let paths = ["/firewalls/1/", VERDICT];
            runtime().block_on(ask(&address, &token, &paths, &over, 10, false))
        });
        Self { is_over, memory, live, reads }
    }

    pub(super) fn end(self) -> Seen {
        self.is_over.store(true, Ordering::Relaxed);
        let peak_bytes = self.memory.join().unwrap();
        let (live, mut refused) = self.live.join().unwrap();
        let (mut reads, reads_refused) = self.reads.join().unwrap();
        refused.extend(reads_refused);
        reads.sort_by(f64::total_cmp);
        let index = (reads.len() * 99 / 100).min(reads.len().saturating_sub(1));
        Seen {
            peak_bytes,
            live_ms: live.iter().copied().fold(0.0, f64::max),
            p99_ms: reads.get(index).copied().unwrap_or(0.0),
            max_ms: reads.last().copied().unwrap_or(0.0),
            asked: reads.len(),
            refused,
        }
    }
}

/// Sends requests until the watch is over. Returns the latencies in milliseconds, and the number of
/// answers that were not 200 or did not arrive.
async fn ask(
    address: &str,
    token: &str,
    paths: &[&str],
    is_over: &AtomicBool,
    pause_ms: u64,
    anew: bool,
) -> (Vec<f64>, Refused) {
    let (mut times, mut refused) = (Vec::new(), Refused::new());
    let mut connection: Option<Connection> = None;
    for path in paths.iter().cycle() {
        if is_over.load(Ordering::Relaxed) {
            break;
        }
        let start = Instant::now();
        let mut open = match connection.take() {
            Some(open) if !anew => open,
            // Connecting counts too: a client that cannot connect is not served.
            _ => connect(address, token).await,
        };
        let answer = tokio::time::timeout(PATIENCE, open.ask("GET", path, "")).await;
        times.push(start.elapsed().as_secs_f64() * 1e3);
        let bare = path.split_once('?').map_or(*path, |(bare, _)| bare);
        match answer {
            Ok(Ok(200)) => connection = Some(open),
            Ok(Ok(status)) => {
                *refused.entry(format!("{bare} {status}")).or_default() += 1;
                connection = Some(open);
            }
            Ok(Err(error)) => *refused.entry(format!("{bare} {error}")).or_default() += 1,
            Err(_) => *refused.entry(format!("{bare} no answer")).or_default() += 1,
        }
        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
    }
    (times, refused)
}

/// The resident memory of a process, in bytes.
pub(super) fn resident_bytes_of(id: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().unwrap_or(0.0);
    kilobytes * 1024.0
}

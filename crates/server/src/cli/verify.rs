//! Verifies the database: its audit trail, and its derived data.

mod rows;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::{Args, Subcommand};
use fireflow_domain::audit_chain::{Chain, EventHash, Head};
use fireflow_formats::{Line, LineReader};
use fireflow_storage::{AuditCounts, AuditFault, AuditFinding, AuditTrail, VerifyError};
use serde::Deserialize;

use super::{Failure, counted, database_options, print};
use crate::settings::Settings;

/// What to verify.
#[derive(Debug, Subcommand)]
pub(super) enum Verify {
    /// Check the database. Without an option, this checks the counters and the search data that is
    /// derived from firewalls, policies and rules. The service may be running, and nothing is written
    /// except with `--repair`. Prints a line `broken: …` for each fault. Exit status: 0 without
    /// faults, 1 with faults, 2 for wrong usage.
    Database(DatabaseArgs),
}

/// Which part of the database to verify.
#[derive(Debug, Args)]
pub(super) struct DatabaseArgs {
    /// Check the hash chains of the audit trail, for every firewall and every policy. Prints a line
    /// of JSON for the head of each chain, and a line `broken: …` for each fault.
    #[arg(long)]
    audit: bool,
    /// Also check that the trail still has the heads in this file: lines of the service's log
    /// (JSON, target `fireflow::audit`, message `audit head`), or the output of an earlier run.
    /// Other lines are ignored. `-` is standard input.
    #[arg(long, value_name = "FILE", requires = "audit")]
    heads: Option<PathBuf>,
    /// Repair counters and derived data, in short transactions. A service on PostgreSQL may be
    /// running; one on SQLite must be stopped. Prints a line `repaired: …` for each fault.
    /// Does not change firewalls, policies, rules or the audit trail.
    #[arg(long, conflicts_with_all = ["audit", "heads"])]
    repair: bool,
    /// Instead, list the policies that the given version of FireFlow, such as 0.1.0, cannot read.
    /// Exit status: 1 if there are any.
    #[arg(long, value_name = "VERSION", conflicts_with_all = ["audit", "heads", "repair"])]
    features: Option<String>,
}

/// A head in a line of the log; others are ignored.
#[derive(Debug, Deserialize)]
struct HeadLine {
    chain: String,
    chain_id: i64,
    sequence: i64,
    hash: String,
}

/// The members that distinguish such a line from others.
#[derive(Debug, Deserialize)]
struct AnyLine {
    #[serde(default)]
    target: String,
    #[serde(default)]
    message: String,
}

const TARGET: &str = "fireflow::audit";
const MESSAGE: &str = "audit head";
/// The longest line that can be a head, in bytes.
const MAX_LINE_BYTES: usize = 64 * 1024;
/// How many heads are looked up at once.
const HEADS_AT_ONCE: usize = 500;

/// Verifies.
pub(super) async fn verify(settings: &Settings, what: &Verify) -> Result<(), Failure> {
    let Verify::Database(DatabaseArgs { audit, heads, repair, features }) = what;
    if let Some(version) = features {
        return rows::list_newer(settings, version).await;
    }
    if !audit {
        return rows::verify(settings, *repair).await;
    }
    // Opened first, so that a wrong file name does not cost a pass over the trail.
    let heads = heads.as_deref().map(HeadFile::open).transpose()?;
    let trail = AuditTrail::open(&database_options(settings)).await.map_err(failure)?;
    let checked = check(&trail, heads).await;
    let closed = trail.close().await;
    let faults = checked?;
    closed.map_err(failure)?;
    match faults {
        0 => Ok(()),
        faults => {
            let faults = counted(faults, "fault");
            Err(Failure::Other(anyhow!("the audit trail is broken: {faults}")))
        }
    }
}

fn failure(error: VerifyError) -> Failure {
    match error {
        VerifyError::Missing(_) | VerifyError::Pending => Failure::usage(error),
        VerifyError::Open(ref fault) if super::is_usage(fault) => Failure::usage(error),
        VerifyError::Open(_) | VerifyError::Database(_) | VerifyError::Repair(_) => {
            Failure::Other(error.into())
        }
    }
}

/// Prints each finding as it is found, and returns the number of faults.
async fn check(trail: &AuditTrail, heads: Option<HeadFile>) -> Result<u64, Failure> {
    let mut printed = Printed::default();
    let counts = trail.verify(&mut |finding| printed.print(&finding)).await.map_err(failure)?;
    let mut looked_up = 0_usize;
    if let Some(mut file) = heads {
        loop {
            let heads = file.read()?;
            if heads.is_empty() {
                break;
            }
            looked_up += heads.len();
            let mut report = |finding| printed.print(&finding);
            trail.look_up(&heads, &mut report).await.map_err(failure)?;
        }
        printed.line(&format!("{looked_up} heads of {} looked up", file.name))
    }
    let AuditCounts { chains, events, unchained } = counts;
    let faults = printed.faults;
    printed.line(&format!(
        "{} with {}, {} older than the chains, {}",
        counted(chains, "chain"),
        counted(events, "event"),
        counted(unchained, "event"),
        counted(faults, "fault")
    ));
    match printed.failure {
        Some(failure) => Err(failure),
        None => Ok(faults),
    }
}

/// Prints findings and counts the faults among them.
#[derive(Default)]
struct Printed {
    faults: u64,
    failure: Option<Failure>,
}

impl Printed {
    fn print(&mut self, finding: &AuditFinding) {
        match finding {
            AuditFinding::Chain(chain, head) => self.line(&head_line(*chain, *head)),
            AuditFinding::Fault(fault) => {
                self.faults = self.faults.saturating_add(1);
                let fault: &AuditFault = fault;
                self.line(&format!("broken: {fault}"));
            }
        }
    }

    fn line(&mut self, text: &str) {
        if self.failure.is_none() {
            self.failure = print(text).err();
        }
    }
}

/// A head in the form of the log.
fn head_line(chain: Chain, head: Head) -> String {
    let Head { sequence, hash } = head;
    serde_json::json!({
        "message": MESSAGE,
        "chain": chain.resource().as_str(),
        "chain_id": chain.id(),
        "sequence": sequence,
        "hash": hash.to_hex(),
        "target": TARGET,
    })
    .to_string()
}

/// A file of heads, read line by line.
struct HeadFile {
    name: String,
    lines: LineReader<Box<dyn BufRead + Send>>,
}

impl HeadFile {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            let input = Box::new(BufReader::new(io::stdin()));
            return Ok(Self::new("standard input".to_owned(), input));
        }
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| format!("--heads {name}"));
        Ok(Self::new(name, Box::new(BufReader::new(file.map_err(Failure::usage)?))))
    }

    fn new(name: String, input: Box<dyn BufRead + Send>) -> Self {
        Self { name, lines: LineReader::new(input, MAX_LINE_BYTES) }
    }

    /// The next heads; none at the end.
    fn read(&mut self) -> Result<Vec<(Chain, Head)>, Failure> {
        let mut heads = Vec::new();
        while heads.len() < HEADS_AT_ONCE {
            let next = self.lines.next_line();
            let next = next.map_err(|error| Failure::Other(anyhow!(error).context("--heads")))?;
            let (number, line) = match next {
                None => break,
                // No head is as long.
                Some((_, Line::TooLong)) => continue,
                Some((number, Line::Whole(line))) => (number, line),
            };
            let read = read_head(line).map_err(|why| {
                Failure::usage(anyhow!("--heads {}, line {number}: {why}", self.name))
            })?;
            heads.extend(read);
        }
        Ok(heads)
    }
}

/// The head of a line; none if it is a line of another kind.
fn read_head(line: &[u8]) -> Result<Option<(Chain, Head)>, String> {
    match serde_json::from_slice::<AnyLine>(line) {
        Ok(any) if any.target == TARGET && any.message == MESSAGE => {}
        _ => return Ok(None),
    }
    let head: HeadLine = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let chain = Chain::parse(&head.chain, head.chain_id)
        .ok_or_else(|| format!("no chain exists for {} {}", head.chain, head.chain_id))?;
    let hash = EventHash::parse(&head.hash)
        .ok_or_else(|| format!("`{}` is not a hash of 66 hexadecimal digits", head.hash))?;
    Ok(Some((chain, Head { sequence: head.sequence, hash })))
}

#[cfg(test)]
mod tests {
    use fireflow_domain::ids::PolicyId;

    use super::*;

    #[test]
    fn heads_are_read_and_other_lines_are_ignored() {
        let chain = Chain::Policy(PolicyId::new(7).unwrap());
        let head = Head { sequence: 3, hash: EventHash::genesis(chain, true) };
        let line = head_line(chain, head);
        assert_eq!(read_head(line.as_bytes()), Ok(Some((chain, head))));
        for other in [
            "",
            "audit head",
            "[]",
            "{\"message\":\"audit\",\"target\":\"fireflow::audit\"}",
            &line.replace("fireflow::audit", "else"),
            "\u{0}",
        ] {
            assert_eq!(read_head(other.as_bytes()), Ok(None), "{other}");
        }
        for (part, wrong) in
            [("filtering_policy", "firewall_rule"), ("\"01", "\"0"), ("\"chain_id\":7", "\"x\":7")]
        {
            assert!(line.contains(part));
            assert!(read_head(line.replace(part, wrong).as_bytes()).is_err(), "{part}");
        }
    }

    #[test]
    fn lines_that_are_too_long_to_be_heads_are_passed_over() {
        let chain = Chain::Policy(PolicyId::new(7).unwrap());
        let head = Head { sequence: 3, hash: EventHash::genesis(chain, true) };
        let text = format!("{}\n{}", "x".repeat(3 * MAX_LINE_BYTES), head_line(chain, head));
        let mut file = HeadFile::new(String::new(), Box::new(io::Cursor::new(text)));
        let heads = file.read().map_err(|_| "failed").unwrap();
        assert_eq!(heads, [(chain, head)]);
        assert!(file.read().map_err(|_| "failed").unwrap().is_empty());
    }
}

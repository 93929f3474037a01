//! Verifies and repairs derived data, and lists the policies that a version cannot read.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use fireflow_domain::features::{Features, Version};
use fireflow_domain::store::Storage;
use fireflow_storage::{
    PolicyFeatures, RowCounts, RowFinding, VerifyError, newer_policies, repair_rows, verify_rows,
};

use super::failure;
use crate::cli::{Failure, database_options, open, options_of, print};
use crate::settings::Settings;

/// How often progress is shown.
const PROGRESS: Duration = Duration::from_millis(200);

/// Verifies counters and derived rows, and repairs them if `repairs` is set.
pub(super) async fn verify(settings: &Settings, repairs: bool) -> Result<(), Failure> {
    let mut printed = Printed::new(repairs);
    let counts = if repairs {
        // Opening a missing file for writing would create it.
        if let Some(file) = settings.database_url.file().filter(|file| !file.exists()) {
            return Err(failure(VerifyError::Missing(file)));
        }
        let database = open(options_of(settings, "verify database --repair")).await?;
        if !database.is_ready().await? {
            let why =
                "migrations are pending, or the database accepts no writes: nothing is repaired";
            return Err(Failure::usage(anyhow!(why)));
        }
        let counts = repair_rows(&database, &mut |finding| printed.print(&finding)).await;
        let closed = database.close().await;
        let counts = counts.map_err(failure)?;
        closed?;
        counts
    } else {
        let options = database_options(settings);
        verify_rows(&options, &mut |finding| printed.print(&finding)).await.map_err(failure)?
    };
    printed.finish(counts)
}

/// Prints findings and counts them.
struct Printed {
    repairs: bool,
    faults: u64,
    repaired: u64,
    left_out: u64,
    failure: Option<Failure>,
    /// When progress was last shown; none if standard error is not a terminal.
    shown_at: Option<Instant>,
}

impl Printed {
    fn new(repairs: bool) -> Self {
        let shown_at = io::stderr().is_terminal().then(Instant::now);
        Self { repairs, faults: 0, repaired: 0, left_out: 0, failure: None, shown_at }
    }

    fn print(&mut self, finding: &RowFinding) {
        match finding {
            RowFinding::Fault(fault) if self.repairs && fault.is_repairable() => {
                self.repaired = self.repaired.saturating_add(1);
                self.line(&format!("repaired: {fault}"));
            }
            RowFinding::Fault(fault) => {
                self.faults = self.faults.saturating_add(1);
                self.line(&format!("broken: {fault}"));
            }
            RowFinding::LeftOut { policy, features } => {
                self.left_out = self.left_out.saturating_add(1);
                self.line(&format!(
                    "left out: filtering_policy {policy} uses {features}, which only a newer \
                     fireflow knows"
                ));
            }
            RowFinding::Progress(rules) => self.progress(*rules),
        }
    }

    fn progress(&mut self, rules: u64) {
        if let Some(at) = self.shown_at
            && at.elapsed() >= PROGRESS
        {
            self.shown_at = Some(Instant::now());
            // Progress that cannot be shown is not worth a failure.
            let _shown = write!(io::stderr(), "\r\u{1b}[K{rules} rules").is_ok();
        }
    }

    fn line(&mut self, text: &str) {
        if self.shown_at.is_some() {
            let _cleared = write!(io::stderr(), "\r\u{1b}[K").is_ok();
        }
        if self.failure.is_none() {
            self.failure = print(text).err();
        }
    }

    fn finish(mut self, counts: RowCounts) -> Result<(), Failure> {
        let RowCounts { firewalls, policies, rules } = counts;
        let Self { repairs, faults, repaired, left_out, .. } = self;
        let repaired = if repairs { format!(", {repaired} repaired") } else { String::new() };
        self.line(&format!(
            "{firewalls} firewalls, {policies} policies and {rules} rules, {left_out} policies left \
             out, {faults} faults{repaired}"
        ));
        match self.failure {
            Some(failure) => Err(failure),
            None if faults == 0 => Ok(()),
            None => Err(Failure::Other(anyhow!(
                "derived data differs from the stored rules: {faults} faults"
            ))),
        }
    }
}

/// Lists the policies that a version cannot read.
pub(super) async fn list_newer(settings: &Settings, version: &str) -> Result<(), Failure> {
    let own = Version::parse(env!("CARGO_PKG_VERSION"));
    let asked = Version::parse(version).ok_or_else(|| {
        Failure::usage(anyhow!("--features {version}: must be a version such as 0.1.0"))
    })?;
    if Some(asked) > own {
        let why = "is newer than this fireflow, which does not know its features; run that version \
                   instead";
        return Err(Failure::usage(anyhow!("--features {version}: {why}")));
    }
    let (mut count, mut failed) = (0_u64, None);
    let mut report = |policy: PolicyFeatures| {
        count = count.saturating_add(1);
        let PolicyFeatures { policy, firewall, name, features, is_deleted } = policy;
        let deleted = if is_deleted { " (deleted)" } else { "" };
        // Quoted as JSON, because a name may contain control sequences of terminals.
        let name = serde_json::Value::String(name);
        let line =
            format!("filtering_policy {policy} {name} of firewall {firewall}{deleted}: {features}");
        if failed.is_none() {
            failed = print(&line).err();
        }
    };
    let known = Features::of_version(asked);
    newer_policies(&database_options(settings), known, &mut report).await.map_err(failure)?;
    if let Some(failed) = failed {
        return Err(failed);
    }
    print(&format!("{count} policies cannot be read by version {asked}"))?;
    match count {
        0 => Ok(()),
        count => Err(Failure::Other(anyhow!("version {asked} cannot read {count} policies"))),
    }
}

//! Analyses of policies in files, without a server: their faults, their differences, and the packets
//! with an outcome.

pub(super) mod analyse;
pub(super) mod compare;
pub(super) mod search;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant as Moment};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use fireflow_domain::analysis::AnalysisLimits;
use fireflow_domain::rule::Action;
use fireflow_domain::time::Instant;
use fireflow_formats::analysis::{Colors, LabeledPolicy, ReadRule};
use fireflow_formats::benchmark::policy_rule;
use fireflow_formats::listed;
use indicatif::ProgressBar;
use serde::Serialize;

use super::rule_file::{self, PolicyFile, RuleFile, RulePlace, described};
use super::{Failure, print};

pub(super) const ANALYSE_STATUS: &str = "Exit status: 0 if there is no finding of the severity, 1 \
     if there is, 2 for wrong usage or input, 3 if there is no such finding, but the analysis is not \
     complete";
pub(super) const COMPARE_STATUS: &str = "Exit status: 0 if no packet changes its verdict, 1 if some \
     do, 2 for wrong usage or input, 3 if no difference was found, but the comparison is not complete";
pub(super) const SEARCH_STATUS: &str = "Exit status: 0 if there is no such packet, 1 if there is, 2 \
     for wrong usage or input, 3 if none was found, but the search is not complete";

/// Something was found.
const FOUND: u8 = 1;
/// Nothing was found, but the answer is not complete.
const UNDECIDED: u8 = 3;

/// The most memory of an analysis, in addition to the policy.
const MAX_BYTES: usize = 2 << 30;

/// The output of a comparison or search.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum AnswerFormat {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

fn rules_help() -> String {
    let files = listed("or", |format| format.rules);
    format!("The rules: {files}; `-` is standard input. gzip is detected")
}

fn action(word: &str) -> Result<Action, String> {
    Action::parse(word).ok_or_else(|| "must be ALLOW, DENY or REJECT".to_owned())
}

fn instant(text: &str) -> Result<Instant, String> {
    Instant::parse(text).map_err(|error| error.to_string())
}

/// Reads a policy. `default` overrides the default action in the file.
fn read_policy(
    path: &Path,
    policy: Option<&str>,
    default: Option<Action>,
) -> Result<LabeledPolicy, Failure> {
    let source = path.display().to_string();
    let name = if source == "-" { "standard input".to_owned() } else { source.clone() };
    let read = || {
        let (rules, known) = match rule_file::read(fireflow_formats::open(path)?, policy)? {
            RuleFile::Policy(file) => policy_rules(file, &source, default),
            RuleFile::Benchmark(_) if policy.is_some() => {
                return Err(anyhow!("ClassBench's rules belong to no policy; omit --policy"));
            }
            RuleFile::Benchmark(rules) => (benchmark_rules(&rules, &source)?, default),
        };
        let default_action = known.unwrap_or(Action::Deny);
        Ok(LabeledPolicy::Read { source, rules, default_action })
    };
    read().with_context(|| name).map_err(Failure::Usage)
}

/// The rules of a file of a policy, and their default action.
fn policy_rules(
    file: PolicyFile,
    source: &str,
    default: Option<Action>,
) -> (Vec<ReadRule>, Option<Action>) {
    if let Some(notice) = file.notice() {
        tell(&format!("{source}: {notice}"));
    }
    let PolicyFile { specs, places, default: named, is_blank: _ } = file;
    let known = default.or(named);
    if known.is_none() {
        tell(&format!(
            "{source}: the rules have no default action and --default-action is not set: DENY is \
             assumed for packets that no rule matches"
        ));
    }
    let rules = specs.into_iter().zip(places).map(|(spec, place)| {
        let RulePlace { line, id, updated_at, .. } = place;
        ReadRule { spec, id, line: Some(line), updated_at }
    });
    (rules.collect(), known)
}

fn benchmark_rules(
    rules: &[rule_file::BenchmarkRule],
    source: &str,
) -> anyhow::Result<Vec<ReadRule>> {
    tell(&format!("{source}: ClassBench's rules have no action: ALLOW is assumed for all"));
    let read = |rule: &rule_file::BenchmarkRule| {
        let spec = policy_rule(&rule.parts, Action::Allow)
            .map_err(|faults| anyhow!("line {}: {}", rule.line, described(&faults)))?;
        Ok(ReadRule { spec, id: None, line: Some(rule.line), updated_at: None })
    };
    rules.iter().map(read).collect()
}

/// Shows on a terminal that the command is at work, once it has taken more than a second.
struct Progress {
    bar: ProgressBar,
    started: Moment,
    /// When the bar moved last, in milliseconds since the start.
    moved: AtomicU64,
}

impl Progress {
    fn new(what: &'static str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new_spinner()
        } else {
            ProgressBar::hidden()
        };
        bar.set_message(what);
        Self { bar, started: Moment::now(), moved: AtomicU64::new(1_000) }
    }

    /// Moves the bar if it is time. Costs little, because analyses call it again and again.
    fn show(&self) {
        const INTERVAL: Duration = Duration::from_millis(200);
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let next = elapsed.saturating_add(u64::try_from(INTERVAL.as_millis()).unwrap_or(u64::MAX));
        let due = self.moved.load(Ordering::Relaxed);
        // Only one of several threads moves it.
        if elapsed >= due
            && self.moved.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            self.bar.tick();
        }
    }

    /// Runs an analysis whose only limit is memory.
    fn run<T>(what: &'static str, analysis: impl FnOnce(&AnalysisLimits<'_>) -> T) -> T {
        let progress = Self::new(what);
        let should_continue = || {
            progress.show();
            true
        };
        let limits = AnalysisLimits { bytes: MAX_BYTES, ..AnalysisLimits::usual(&should_continue) };
        let answer = analysis(&limits);
        progress.bar.finish_and_clear();
        answer
    }
}

/// Colors on a terminal, unless the user does not want them (<https://no-color.org>).
fn colors() -> Colors {
    let is_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if std::io::stdout().is_terminal() && !is_refused { Colors::Ansi } else { Colors::None }
}

/// Prints an answer as JSON that people can read too.
fn print_json(answer: &impl Serialize) -> Result<(), Failure> {
    print(&serde_json::to_string_pretty(answer)?)
}

/// Prints a line to standard error. A failure is ignored: the line is only for people.
fn tell(line: &str) {
    let _told = writeln!(std::io::stderr(), "fireflow: {line}").is_ok();
}

/// The exit status of an answer.
const fn status(is_found: bool, is_complete: bool) -> Result<(), Failure> {
    match (is_found, is_complete) {
        (true, _) => Err(Failure::Answered(FOUND)),
        (false, false) => Err(Failure::Answered(UNDECIDED)),
        (false, true) => Ok(()),
    }
}

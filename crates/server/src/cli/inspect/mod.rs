//! Evaluates the packets of a file against rules, without a server. The verdicts are those of the
//! service's inspections, for millions of packets or the flows of a log.

mod packets;
mod report;
mod rules;

use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as Moment};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use fireflow_domain::rule::Action;
use fireflow_domain::time::{Clock, Instant};
use fireflow_formats::flow_log::Mapping;
use fireflow_formats::{Source, listed};
use indicatif::{ProgressBar, ProgressStyle};

use self::packets::{Batch, read};
use self::report::Report;
use self::rules::Rules;
use super::{Failure, clock};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[arg(long, value_name = "FILE", help = rules_help())]
    rules: PathBuf,
    #[arg(long, value_name = "FILE", help = packets_help())]
    packets: PathBuf,
    /// The output for each packet: text, a line of JSON, or only the number of its rule in the
    /// file, counted from 0 (-1: no rule).
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Print how many packets each rule decides, instead of each packet.
    #[arg(long)]
    hits: bool,
    /// The action for packets that no rule matches: ALLOW, DENY or REJECT. Default: the default
    /// action in the file of rules, else DENY.
    #[arg(long, value_name = "ACTION", value_parser = action)]
    default_action: Option<Action>,
    /// The columns of a flow log or table, by name or number:
    /// `source_address=src,destination_address=dst,protocol=3,destination_port=dport`.
    #[arg(long, value_name = "MAPPING")]
    columns: Option<Mapping>,
    /// The time of packets that have none (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Instant>,
    /// Compare the deciding rule of each packet with the expected one (the sixth column of
    /// ClassBench packets), and fail if they differ.
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// One JSON object per line.
    Ndjson,
    /// One number per line.
    Index,
}

fn rules_help() -> String {
    let files = listed("or", |format| format.rules);
    format!("The rules: {files}; `-` is standard input. gzip is detected")
}

fn packets_help() -> String {
    let files = listed("or", |format| format.packets);
    format!(
        "The packets: {files}; `-` is standard input. Packets without a source port are evaluated \
         with each port from 49152 to 65535"
    )
}

fn action(word: &str) -> Result<Action, String> {
    Action::parse(word).ok_or_else(|| "must be ALLOW, DENY or REJECT".to_owned())
}

fn instant(text: &str) -> Result<Instant, String> {
    Instant::parse(text).map_err(|error| error.to_string())
}

pub(super) fn inspect(arguments: &Arguments) -> Result<(), Failure> {
    if arguments.rules.as_os_str() == "-" && arguments.packets.as_os_str() == "-" {
        let why = "only one of --rules and --packets can be standard input";
        return Err(Failure::usage(anyhow!(why)));
    }
    let name = |path: &Path| path.display().to_string();
    let rules = open(&arguments.rules)?;
    let rules =
        Rules::read(rules, arguments.default_action).with_context(|| name(&arguments.rules))?;
    let mut errors = std::io::stderr();
    if rules.is_over_budget() {
        tell(
            &mut errors,
            "there are too many rules to compile: each packet is compared with each rule",
        );
    }
    if rules.len() == 0 {
        tell(&mut errors, "there are no rules: the default action decides every packet");
    }
    let packets = open(&arguments.packets)?;
    let progress = progress(&packets, arguments.hits);
    let bytes = std::sync::Arc::clone(&packets.read);

    let start = Moment::now();
    let mut report = Report::new(arguments, &rules, BufWriter::new(std::io::stdout().lock()));
    let now = arguments.at.unwrap_or_else(|| clock().now());
    let done = read(packets, arguments.columns.as_ref(), &rules, now, &mut |batch: &Batch| {
        progress.set_position(bytes.load(Ordering::Relaxed));
        Ok(report.add(batch).map_err(OutputError)?)
    });
    progress.finish_and_clear();
    // Verdicts from before a failure are still written.
    let written = if done.is_ok() { report.end() } else { report.flush() };
    if let Err(error) = done.and(written.map_err(|error| OutputError(error).into())) {
        return match error.downcast_ref::<OutputError>() {
            // A reader that closes the pipe (`| head`) is no failure.
            Some(OutputError(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            Some(_) => Err(Failure::Other(error)),
            None => Err(Failure::Other(error.context(name(&arguments.packets)))),
        };
    }
    for line in report.summary(start.elapsed(), &name(&arguments.packets)) {
        tell(&mut errors, &line);
    }
    match report.failure() {
        Some(why) => Err(Failure::Other(anyhow!("{}: {why}", name(&arguments.packets)))),
        None => Ok(()),
    }
}

/// The verdicts could not be written.
#[derive(Debug, thiserror::Error)]
#[error("standard output")]
struct OutputError(#[source] std::io::Error);

fn open(path: &Path) -> Result<Source, Failure> {
    let source = fireflow_formats::open(path).with_context(|| path.display().to_string());
    source.map_err(Failure::Usage)
}

/// Prints a line to standard error. A failure is ignored: the line is only for people.
fn tell(errors: &mut impl Write, line: &str) {
    let _told = writeln!(errors, "fireflow: {line}").is_ok();
}

/// A progress bar, shown only if standard error is a terminal that does not also show the verdicts.
fn progress(packets: &Source, hides_answers: bool) -> ProgressBar {
    let is_shown =
        std::io::stderr().is_terminal() && (hides_answers || !std::io::stdout().is_terminal());
    if !is_shown {
        return ProgressBar::hidden();
    }
    let bar = packets.total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template = if packets.total.is_some() {
        "{bar:40} {percent}% {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left"
    } else {
        "{spinner} {bytes}, {bytes_per_sec}"
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

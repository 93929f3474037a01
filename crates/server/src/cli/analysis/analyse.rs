//! The faults of a policy in a file.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::{Args, ValueEnum};
use fireflow_domain::acceptance::{Acceptance, Acceptances};
use fireflow_domain::analysis::{
    AnalysedPolicy, Analysis, AnalysisOptions, ExposedService, Finding, FindingId, FindingKind,
    FindingKinds, Severity, analyse as analyse_policy,
};
use fireflow_domain::error::Violations;
use fireflow_domain::rule::Action;
use fireflow_domain::time::{Clock, Instant};
use fireflow_formats::analysis::{
    AnalysisText, AnalysisView, Subject, acceptances, annotations, sarif,
};
use serde_json::Value;

use super::super::rule_file::described;
use super::super::{Failure, clock, print};
use super::{Progress, action, colors, instant, print_json, read_policy, rules_help, status, tell};

#[derive(Debug, Args)]
pub(in super::super) struct Arguments {
    #[arg(value_name = "FILE", help = rules_help())]
    file: PathBuf,
    /// Analyze only the rules of the policy with this name. Default: all rules, which must belong
    /// to one policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// The action for packets that no rule matches: ALLOW, DENY or REJECT. Default: the default
    /// action in the file, else DENY.
    #[arg(long, value_name = "ACTION", value_parser = action)]
    default_action: Option<Action>,
    /// The output.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The severity from which on a finding fails the command: error, warning or info.
    #[arg(long, value_name = "SEVERITY", value_parser = severity, default_value = "error")]
    severity: Severity,
    /// Also search these kinds, separated by commas: correlated, generalises, mergeable. They are
    /// information, and never fail the command.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', value_parser = kind_on_request)]
    also: Vec<FindingKind>,
    /// The instant at which the findings hold (RFC 3339). Default: now.
    #[arg(long, value_name = "TIME", value_parser = instant)]
    at: Option<Instant>,
    /// The services whose exposure to the internet is a finding, separated by commas: `ssh`,
    /// `winrm=tcp/5985`, `usual` for the usual ones, `none`.
    #[arg(long, value_name = "SERVICES", value_parser = services, default_value = "usual")]
    exposed_services: Services,
    /// Report only findings that are not in this file, an earlier output with `--format json`, or
    /// that became more severe.
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Leave out the accepted findings in this file: a response of the API's list of acceptances,
    /// or a list in the same form.
    #[arg(long, value_name = "FILE")]
    accepted: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, which code hosts and editors show.
    Sarif,
    /// Annotations of GitHub Actions.
    Github,
}

fn severity(word: &str) -> Result<Severity, String> {
    Severity::parse(word).ok_or_else(|| "must be error, warning or info".to_owned())
}

/// Services in an argument. A list of its own type, because the command line splits no lists here.
#[derive(Debug, Clone)]
struct Services(Vec<ExposedService>);

fn services(text: &str) -> Result<Services, String> {
    ExposedService::parse_list(text).map(Services)
}

fn kind_on_request(word: &str) -> Result<FindingKind, String> {
    FindingKind::parse(word)
        .filter(|kind| kind.is_on_request())
        .ok_or_else(|| "must be correlated, generalises or mergeable".to_owned())
}

pub(in super::super) fn analyse(arguments: &Arguments) -> Result<(), Failure> {
    let former = arguments.baseline.as_deref().map(baseline).transpose()?;
    let at = arguments.at.unwrap_or_else(|| clock().now());
    let accepted = arguments.accepted.as_deref().map(accepted).transpose()?;
    let accepted = accepted.map(|all| Acceptances::at(all, at));
    let policy =
        read_policy(&arguments.file, arguments.policy.as_deref(), arguments.default_action)?;
    policy.ask(|policy, subject| {
        let subject = Subject { acceptances: accepted.as_ref(), ..*subject };
        report(arguments, former.as_ref(), policy, &subject, at)
    })
}

/// Analyzes a policy, and prints the findings that are neither in the baseline nor accepted.
fn report(
    arguments: &Arguments,
    former: Option<&HashMap<FindingId, Severity>>,
    policy: &AnalysedPolicy<'_>,
    subject: &Subject<'_>,
    at: Instant,
) -> Result<(), Failure> {
    let usual = AnalysisOptions::at(at);
    let kinds: FindingKinds = usual.kinds.iter().chain(arguments.also.iter().copied()).collect();
    let services = arguments.exposed_services.0.clone();
    let options = AnalysisOptions { kinds, services, ..usual };
    let analysis = Progress::run("analyzing", |limits| analyse_policy(policy, &options, limits));
    // A finding that became more severe is new, although its id is the same.
    let is_known = |finding: &Finding, former: &HashMap<FindingId, Severity>| {
        former.get(&finding.id).is_some_and(|severity| *severity <= finding.severity)
    };
    let is_new = |finding: &&Finding| former.is_none_or(|former| !is_known(finding, former));
    let new: Vec<&Finding> = analysis.findings.iter().filter(is_new).collect();
    let is_open = |finding: &&Finding| subject.acceptance(finding).is_none();
    let findings: Vec<&Finding> = new.iter().copied().filter(is_open).collect();
    write(arguments.format, &analysis, &findings, subject)?;
    let (all, known, accepted) =
        (analysis.findings.len(), analysis.findings.len() - new.len(), new.len() - findings.len());
    for (count, what) in [(known, "are in the baseline"), (accepted, "are accepted")] {
        if count > 0 {
            tell(&format!("{count} of {all} findings {what}"));
        }
    }
    let fails = |finding: &&Finding| {
        finding.severity <= arguments.severity && !finding.kind.is_on_request()
    };
    status(findings.iter().any(fails), analysis.is_complete())
}

fn write(
    format: Format,
    analysis: &Analysis,
    findings: &[&Finding],
    subject: &Subject<'_>,
) -> Result<(), Failure> {
    match format {
        Format::Text => {
            let text = AnalysisText { analysis, findings, subject, colors: colors() };
            print(text.write().trim_end())
        }
        Format::Json => print_json(&AnalysisView::new(analysis, findings.iter().copied(), subject)),
        Format::Sarif => print_json(&sarif(
            analysis,
            findings.iter().copied(),
            subject,
            env!("CARGO_PKG_VERSION"),
        )),
        Format::Github => {
            let lines = annotations(findings.iter().copied(), subject);
            if lines.is_empty() { Ok(()) } else { print(lines.trim_end()) }
        }
    }
}

fn json(path: &Path) -> anyhow::Result<Value> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// The accepted findings in a file.
fn accepted(path: &Path) -> Result<Vec<Acceptance>, Failure> {
    let read = || {
        let value = json(path)?;
        let mut violations = Violations::default();
        let read = acceptances(value, clock().now(), &mut violations);
        read.filter(|_| violations.is_empty()).ok_or_else(|| anyhow!(described(&violations)))
    };
    read().with_context(|| path.display().to_string()).map_err(Failure::Usage)
}

/// The ids of the findings in an earlier output, with their severities.
fn baseline(path: &Path) -> Result<HashMap<FindingId, Severity>, Failure> {
    let read = || {
        let value = json(path)?;
        let findings = value.get("findings").and_then(Value::as_array);
        let known = findings.map(|findings| {
            let text = |finding: &Value, member: &str| {
                finding.get(member).and_then(Value::as_str).map(str::to_owned)
            };
            let known = findings.iter().map(|finding| {
                let id = FindingId::parse(&text(finding, "id")?)?;
                Some((id, Severity::parse(&text(finding, "severity")?)?))
            });
            known.collect()
        });
        let known: Option<Option<HashMap<FindingId, Severity>>> = known;
        known.flatten().ok_or_else(|| anyhow!("must be an output of `analyse --format json`"))
    };
    read().with_context(|| path.display().to_string()).map_err(Failure::Usage)
}

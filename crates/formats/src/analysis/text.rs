//! Findings, comparisons, searches and partitions for people.

use std::fmt::Write as _;

use fireflow_domain::analysis::{
    Analysis, Comparison, Finding, FindingKind, Incomplete, Partition, RuleIndex, SearchAnswer,
    Severity,
};
use fireflow_domain::rule::{Action, RuleState};

use super::packets::{PacketSetView, packet_in_words};
use super::sentences::{KINDS, detail, percent};
use super::{Subject, counted, listed};

/// How many rules of a proof, or sets of packets, are listed.
const LISTED: usize = 5;

/// The kinds of which many rules have a finding that says nothing more: one line for all of them.
const FOLDED: [(FindingKind, &str, &str); 2] = [
    (FindingKind::RestatesDefault, "restates the default action", "restate the default action"),
    (FindingKind::NoReference, "has no reference", "have no reference"),
];

/// Whether texts have colors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colors {
    /// For a terminal.
    Ansi,
    /// For anything else.
    None,
}

impl Colors {
    fn paint(self, text: &str, code: &str) -> String {
        match self {
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::None => text.to_owned(),
        }
    }

    fn bold(self, text: &str) -> String {
        self.paint(text, "1")
    }

    fn severity(self, severity: Severity, text: &str) -> String {
        let code = match severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
            Severity::Info => "1;34",
        };
        self.paint(text, code)
    }

    fn action(self, action: Action, text: &str) -> String {
        self.paint(text, if action.permits() { "32" } else { "31" })
    }
}

/// The text of an analysis.
#[derive(Debug)]
pub struct AnalysisText<'a> {
    /// The analysis.
    pub analysis: &'a Analysis,
    /// The findings to show, in order.
    pub findings: &'a [&'a Finding],
    /// The policy.
    pub subject: &'a Subject<'a>,
    /// Whether it has colors.
    pub colors: Colors,
}

impl AnalysisText<'_> {
    /// The findings by severity, then what is undecided, then a summary.
    #[must_use]
    pub fn write(&self) -> String {
        let mut text = String::new();
        for severity in Severity::ALL {
            let group: Vec<&Finding> =
                self.findings.iter().copied().filter(|it| it.severity == severity).collect();
            if group.is_empty() {
                continue;
            }
            let noun = match severity {
                Severity::Error => counted(group.len(), "error"),
                Severity::Warning => counted(group.len(), "warning"),
                Severity::Info => format!("{} for information", group.len()),
            };
            line(&mut text, &self.colors.severity(severity, &noun));
            let is_folded =
                |finding: &Finding| FOLDED.iter().any(|(kind, ..)| *kind == finding.kind);
            for finding in group.iter().filter(|finding| !is_folded(finding)) {
                self.finding(&mut text, finding);
            }
            for (kind, one, several) in FOLDED {
                let mut rules = group.iter().filter(|it| it.kind == kind).map(|it| it.rule);
                let Some(first) = rules.next() else { continue };
                let place = self.place(first);
                let folded = match rules.count() {
                    0 => format!("  1 rule {one}: {place}"),
                    more => format!("  {} rules {several}, the first of them {place}", more + 1),
                };
                line(&mut text, &folded);
            }
            text.push('\n');
        }
        undecided(&mut text, &self.analysis.incomplete, self.subject, self.colors);
        line(&mut text, &self.summary());
        text
    }

    /// A rule with its place: `rules.json:12 no. 3 "web"`.
    fn place(&self, rule: RuleIndex) -> String {
        let place = match self.subject.line(rule) {
            Some(line) => format!("{}:{line} ", self.subject.source),
            None => String::new(),
        };
        format!("{place}{}", self.subject.named(rule))
    }

    fn finding(&self, text: &mut String, finding: &Finding) {
        let title = KINDS.iter().find(|kind| kind.kind == finding.kind).map_or("", |it| it.title);
        let head = format!("  {}  {}", self.colors.bold(&self.place(finding.rule)), title);
        line(text, &head);
        line(text, &format!("      {}", detail(finding, self.subject)));
        for cover in finding.because.iter().take(LISTED).filter(|_| finding.because.len() > 1) {
            let (place, share) = (self.place(cover.rule), percent(cover.share));
            let whole = match finding.kind {
                FindingKind::Exposed => "all public addresses",
                _ => "the rule",
            };
            line(text, &format!("      because of {place}: {share} of {whole}"));
        }
        if finding.because.len() > LISTED {
            line(text, &format!("      and {} more", finding.because.len() - LISTED));
        }
        // The sentence of an unreachable rule has the packet.
        if let Some(witness) = finding.witness.as_ref()
            && finding.kind != FindingKind::Unreachable
        {
            line(text, &format!("      such as {}", packet_in_words(witness)));
        }
        for set in finding.packets.iter().take(LISTED) {
            line(text, &format!("      packets: {}", PacketSetView::from(set).in_words()));
        }
        if finding.packets.len() > LISTED || !finding.is_packets_complete {
            line(text, "      and more packets");
        }
    }

    fn summary(&self) -> String {
        let count = |severity: Severity| {
            self.findings.iter().filter(|finding| finding.severity == severity).count()
        };
        let analysed = &self.analysis.analysed;
        let mut states: Vec<String> = Vec::new();
        for state in RuleState::ALL {
            let rules = analysed.left_out.iter().filter(|(_, other)| *other == state).count();
            if rules > 0 {
                states.push(format!("{rules} {}", state.as_str()));
            }
        }
        let left_out = if states.is_empty() {
            String::new()
        } else {
            format!("; left out: {}", listed(&states))
        };
        let end = if self.analysis.is_complete() { "" } else { "; the analysis is not complete" };
        format!(
            "{}: {}, {}, {} for information; {} of {} active{left_out}{end}",
            self.subject.source,
            counted(count(Severity::Error), "error"),
            counted(count(Severity::Warning), "warning"),
            count(Severity::Info),
            analysed.active,
            counted(analysed.rules, "rule"),
        )
    }
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

fn undecided(text: &mut String, all: &[Incomplete], subject: &Subject<'_>, colors: Colors) {
    if all.is_empty() {
        return;
    }
    line(text, &colors.severity(Severity::Error, "undecided"));
    for one in all {
        let mut named: Vec<String> =
            one.rules.iter().take(LISTED).map(|rule| subject.named(*rule).to_string()).collect();
        if one.rules.len() > LISTED {
            named.push(format!("{} more", one.rules.len() - LISTED));
        }
        let whose = match named.as_slice() {
            [] => String::new(),
            named => format!(" of {} {}", rules_noun(one.rules.len()), listed(named)),
        };
        line(text, &format!("  {}{whose}; limit: {}", one.what.as_str(), one.why.as_str()));
    }
    text.push('\n');
}

const fn rules_noun(count: usize) -> &'static str {
    if count == 1 { "rule" } else { "rules" }
}

/// The rule that decides, in words.
fn decider(rule: Option<RuleIndex>, subject: &Subject<'_>) -> String {
    match rule {
        Some(rule) => match subject.line(rule) {
            Some(line) => format!("rule {} ({}:{line})", subject.named(rule), subject.source),
            None => format!("rule {}", subject.named(rule)),
        },
        None => "the default action".to_owned(),
    }
}

/// The text of a comparison.
#[must_use]
pub fn comparison_text(
    comparison: &Comparison,
    left: &Subject<'_>,
    right: &Subject<'_>,
    colors: Colors,
) -> String {
    let mut text = String::new();
    for difference in &comparison.differences {
        let head = format!(
            "{:<7}  {} -> {}",
            difference.change.as_str(),
            colors.action(difference.from, difference.from.as_str()),
            colors.action(difference.to, difference.to.as_str()),
        );
        let packets = PacketSetView::from(&difference.packets).in_words();
        let _written = writeln!(text, "{head}  {packets}");
        let _written = writeln!(text, "         such as {}", packet_in_words(&difference.witness));
        let _written = writeln!(
            text,
            "         by {}, now by {}",
            decider(difference.left_rule, left),
            decider(difference.right_rule, right)
        );
    }
    if !comparison.differences.is_empty() {
        text.push('\n');
    }
    undecided(&mut text, &comparison.incomplete, right, colors);
    let summary = match comparison.differences.len() {
        _ if comparison.is_proven_equal() => "no packet changes its verdict".to_owned(),
        0 => "no difference found, but the comparison is not complete".to_owned(),
        count => {
            let end = if comparison.more {
                "; there are more"
            } else if comparison.incomplete.is_empty() {
                ""
            } else {
                "; the comparison is not complete"
            };
            let opens = comparison.differences.iter().filter(|it| it.to.permits()).count();
            format!("{}, {opens} of which open{end}", counted(count, "difference"))
        }
    };
    line(&mut text, &summary);
    text
}

/// The text of a search, with at most `limit` sets.
#[must_use]
pub fn search_text(
    answer: &SearchAnswer,
    subject: &Subject<'_>,
    limit: usize,
    colors: Colors,
) -> String {
    let mut text = String::new();
    for found in answer.found.iter().take(limit) {
        let action = colors.action(found.action, found.action.as_str());
        let packets = PacketSetView::from(&found.packets).in_words();
        let _written = writeln!(text, "{action}  {packets}");
        let (witness, rule) = (packet_in_words(&found.witness), decider(found.rule, subject));
        let _written = writeln!(text, "         such as {witness}, by {rule}");
    }
    if !answer.found.is_empty() {
        text.push('\n');
    }
    undecided(&mut text, &answer.incomplete, subject, colors);
    let is_cut = answer.more || answer.found.len() > limit;
    let summary = match answer.found.len() {
        _ if answer.is_none() => "there is no such packet".to_owned(),
        0 => "no such packet was found, but the search is not complete".to_owned(),
        count => {
            let end = if is_cut {
                "; there are more"
            } else if answer.incomplete.is_empty() {
                ""
            } else {
                "; the search is not complete"
            };
            format!("{}{end}", counted(count.min(limit), "set"))
        }
    };
    line(&mut text, &summary);
    text
}

/// The text of a partition.
#[must_use]
pub fn partition_text(partition: &Partition, subject: &Subject<'_>, colors: Colors) -> String {
    let mut text = String::new();
    for part in &partition.parts {
        let action = colors.action(part.action, &format!("{:<6}", part.action.as_str()));
        let (packets, rule) =
            (PacketSetView::from(&part.packets).in_words(), decider(part.rule, subject));
        let _written = writeln!(text, "{action}  {packets}, by {rule}");
    }
    undecided(&mut text, &partition.incomplete, subject, colors);
    if partition.more {
        line(&mut text, "there are more parts");
    }
    text
}

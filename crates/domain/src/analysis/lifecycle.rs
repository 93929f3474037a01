//! Findings that need no search: about times, references, and parts without effect.

use super::findings::Outcome;
use super::report::{Evidence, Finding, FindingKind, RuleIndex, Severity};
use super::request::{AnalysedPolicy, AnalysedRule, AnalysisOptions};
use super::space::takes_part;
use crate::rule::{RuleState, WarningCode};
use crate::time::Instant;

/// Adds the findings about each rule by itself; those about parts without effect for new rules only.
pub(super) fn lifecycle(
    policy: &AnalysedPolicy<'_>,
    options: &AnalysisOptions,
    is_new: &dyn Fn(RuleIndex) -> bool,
    outcome: &mut Outcome,
) {
    for (index, rule) in policy.rules.iter().enumerate() {
        let state = rule.spec.state(options.at);
        let found = match state {
            RuleState::Expired => expired(rule, options),
            RuleState::Disabled => disabled(rule, options),
            RuleState::Active | RuleState::Scheduled => expires_soon(rule, options),
        };
        if let Some((kind, severity, evidence)) = found {
            let finding = Finding::new(kind, severity, index);
            outcome.findings.push(Finding { evidence, ..finding });
        }
        if !takes_part(rule.spec, options.at) {
            continue;
        }
        if !rule.has_reference {
            let finding = Finding::new(FindingKind::NoReference, Severity::Info, index);
            outcome.findings.push(finding);
        }
        if !is_new(index) {
            continue;
        }
        let warnings = rule.spec.warnings(options.at).into_iter();
        // An expired rule is a finding of its own.
        for warning in warnings.filter(|it| it.code != WarningCode::Expired) {
            let finding = Finding::new(FindingKind::Ineffective, Severity::Info, index);
            outcome.findings.push(Finding { evidence: Evidence::Warning(warning), ..finding });
        }
    }
}

type Found = Option<(FindingKind, Severity, Evidence)>;

fn expired(rule: &AnalysedRule<'_>, options: &AnalysisOptions) -> Found {
    let end = rule.spec.expires_at?;
    let is_recent = micros_between(end, options.at) < options.thresholds.expired_recently;
    let severity = if is_recent { Severity::Info } else { Severity::Warning };
    Some((FindingKind::Expired, severity, Evidence::Since(end)))
}

fn expires_soon(rule: &AnalysedRule<'_>, options: &AnalysisOptions) -> Found {
    let end = rule.spec.expires_at?;
    let is_soon = micros_between(options.at, end) <= options.thresholds.expires_soon;
    is_soon.then_some((FindingKind::ExpiresSoon, Severity::Info, Evidence::Expires(end)))
}

fn disabled(rule: &AnalysedRule<'_>, options: &AnalysisOptions) -> Found {
    let since = rule.updated_at?;
    let is_long = micros_between(since, options.at) >= options.thresholds.disabled_long;
    is_long.then_some((FindingKind::DisabledLong, Severity::Info, Evidence::Since(since)))
}

/// From one instant to a later one, in microseconds.
const fn micros_between(from: Instant, to: Instant) -> i64 {
    to.micros().saturating_sub(from.micros())
}

//! How long an analysis holds although nothing of the policy changes.

use super::request::{AnalysedPolicy, AnalysisOptions};
use crate::rule::Schedule;
use crate::time::Instant;

/// The first instant after that of an analysis at which the clock alone can change its findings: a
/// rule starts or expires, or becomes old enough for a finding. None if the clock changes nothing.
#[must_use]
pub fn holds_until(policy: &AnalysedPolicy<'_>, options: &AnalysisOptions) -> Option<Instant> {
    let thresholds = options.thresholds;
    let is_ahead = |instant: &Instant| *instant > options.at;
    policy
        .rules
        .iter()
        .flat_map(|rule| {
            let Schedule { enabled, starts_at, expires_at } = Schedule::of(rule.spec);
            let expiry = |micros: i64| expires_at.map(|at| at.plus_micros(micros));
            let of_active = [
                starts_at,
                expires_at,
                expiry(-thresholds.expires_soon),
                expiry(thresholds.expired_recently),
            ];
            let age = rule.updated_at.map(|at| at.plus_micros(thresholds.disabled_long));
            let of_disabled = [age, None, None, None];
            if enabled { of_active } else { of_disabled }
        })
        .flatten()
        .filter(is_ahead)
        .min()
}

#[cfg(test)]
mod tests {
    use super::super::request::AnalysedRule;
    use super::*;
    use crate::rule::{Action, RuleParts, RuleSpec};
    use crate::testing::rules::everything;

    fn at(text: &str) -> Instant {
        Instant::parse(text).unwrap()
    }

    fn until(enabled: bool, starts_at: Option<&str>, expires_at: Option<&str>) -> Option<String> {
        let parts = RuleParts {
            enabled,
            starts_at: starts_at.map(at),
            expires_at: expires_at.map(at),
            ..everything()
        };
        let spec = RuleSpec::new(parts).unwrap();
        let rules = [AnalysedRule {
            updated_at: Some(at("2026-05-01T00:00:00Z")),
            ..AnalysedRule::of(&spec)
        }];
        let policy = AnalysedPolicy { rules: &rules, default_action: Action::Deny };
        let options = AnalysisOptions::at(at("2026-06-01T00:00:00Z"));
        holds_until(&policy, &options).map(|until| until.to_string())
    }

    #[test]
    fn the_clock_changes_findings_when_a_rule_starts_expires_or_comes_of_age() {
        let day = |text: &str| Some(format!("{text}T00:00:00.000000Z"));
        assert_eq!(until(true, None, None), None);
        assert_eq!(until(true, Some("2026-01-01T00:00:00Z"), None), None);
        assert_eq!(until(true, Some("2026-07-01T00:00:00Z"), None), day("2026-07-01"));
        // 30 days before the expiry, at the expiry, and 30 days after it.
        assert_eq!(until(true, None, Some("2026-12-31T00:00:00Z")), day("2026-12-01"));
        assert_eq!(until(true, None, Some("2026-06-11T00:00:00Z")), day("2026-06-11"));
        assert_eq!(until(true, None, Some("2026-05-22T00:00:00Z")), day("2026-06-21"));
        assert_eq!(until(true, None, Some("2026-01-01T00:00:00Z")), None);
        // 180 days after the last change.
        assert_eq!(until(false, Some("2026-07-01T00:00:00Z"), None), day("2026-10-28"));
    }
}

//! Changes that resolve findings.

use super::report::{Effect, Evidence, Finding, FindingKind, Fix, RuleIndex};
use super::request::AnalysedPolicy;

/// Adds a change to each finding that one change resolves, and that has none yet.
pub(super) fn suggest(findings: &mut [Finding], policy: &AnalysedPolicy<'_>) {
    for finding in findings.iter_mut().filter(|finding| finding.fix.is_none()) {
        finding.fix = fix_of(finding, policy);
    }
}

fn fix_of(finding: &Finding, policy: &AnalysedPolicy<'_>) -> Option<Fix> {
    let delete = || Some(Fix::Delete(vec![finding.rule]));
    match finding.kind {
        // When another rule starts or expires, the rule may be needed. A log is an effect, too.
        _ if finding.until.is_some() || finding.logs => None,
        // A move that lets more packets through is nothing to suggest; a deletion changes no verdict.
        FindingKind::Unreachable if finding.effect == Some(Effect::Opens) => {
            let before = first_of_another_action(finding, policy)?;
            Some(Fix::Move { rule: finding.rule, before })
        }
        FindingKind::Unreachable
        | FindingKind::Duplicate
        | FindingKind::Redundant
        | FindingKind::NeverMatches => delete(),
        FindingKind::Expired if matches!(finding.evidence, Evidence::Since(_)) => delete(),
        // Only people know which of two rules is right, and whom a rule should permit. A final rule
        // that repeats the default does no harm.
        FindingKind::Contradiction
        | FindingKind::RestatesDefault
        | FindingKind::Expired
        | FindingKind::ExpiresSoon
        | FindingKind::DisabledLong
        | FindingKind::NoReference
        | FindingKind::Ineffective
        | FindingKind::Permissive
        | FindingKind::Exposed
        | FindingKind::Correlated
        | FindingKind::Generalises
        | FindingKind::Mergeable => None,
    }
}

/// The first rule of another action among those that hide a rule, if one decides packets of it.
fn first_of_another_action(finding: &Finding, policy: &AnalysedPolicy<'_>) -> Option<RuleIndex> {
    let conflict = finding.conflicts_with?.rule;
    let action = policy.spec(finding.rule)?.action;
    let differs = |rule: &RuleIndex| policy.spec(*rule).is_some_and(|other| other.action != action);
    let hiding = finding.because.iter().map(|cover| cover.rule).filter(differs);
    hiding.chain([conflict]).min()
}

#[cfg(test)]
mod tests {
    use super::super::report::{Conflict, Cover, Severity};
    use super::super::request::AnalysedRule;
    use super::*;
    use crate::rule::{Action, RuleParts, RuleSpec};
    use crate::testing::rules::everything;
    use crate::time::Instant;

    /// The fix of a finding about the last of three rules with these actions.
    fn fix(actions: [Action; 3], finding: &Finding) -> Option<Fix> {
        let specs =
            actions.map(|action| RuleSpec::new(RuleParts { action, ..everything() }).unwrap());
        let rules = specs.each_ref().map(AnalysedRule::of);
        let policy = AnalysedPolicy { rules: &rules, default_action: Action::Deny };
        let mut findings = [finding.clone()];
        suggest(&mut findings, &policy);
        findings[0].fix.take()
    }

    #[test]
    fn a_lost_rule_is_moved_before_the_first_rule_of_another_action_that_hides_it() {
        let cover = |rule| Cover { rule, share: 0.5 };
        let lost = Finding {
            because: vec![cover(1), cover(0)],
            conflicts_with: Some(Conflict { rule: 1, share: 0.5 }),
            effect: Some(Effect::Opens),
            ..Finding::new(FindingKind::Unreachable, Severity::Error, 2)
        };
        let moved = |before| Some(Fix::Move { rule: 2, before });
        assert_eq!(fix([Action::Allow, Action::Allow, Action::Deny], &lost), moved(0));
        assert_eq!(fix([Action::Deny, Action::Allow, Action::Deny], &lost), moved(1));
        let deleted = Some(Fix::Delete(vec![2]));
        let closes = Finding { effect: Some(Effect::Closes), ..lost.clone() };
        assert_eq!(fix([Action::Deny, Action::Deny, Action::Allow], &closes), deleted);
        let hidden = Finding { conflicts_with: None, effect: None, ..lost };
        assert_eq!(fix([Action::Deny; 3], &hidden), deleted);
        let expiring = Finding { until: Some(Instant::EPOCH), ..hidden };
        assert_eq!(fix([Action::Deny; 3], &expiring), None);
    }

    #[test]
    fn a_rule_that_logs_is_not_deleted() {
        let redundant = Finding::new(FindingKind::Redundant, Severity::Warning, 2);
        assert_eq!(fix([Action::Deny; 3], &redundant), Some(Fix::Delete(vec![2])));
        assert_eq!(fix([Action::Deny; 3], &Finding { logs: true, ..redundant }), None);
    }
}

//! Changes that resolve findings.

use super::report::{Effect, Evidence, Finding, FindingKind, Fix};

/// Adds a change to each finding that one change resolves, and that has none yet.
pub(super) fn suggest(findings: &mut [Finding]) {
    for finding in findings.iter_mut().filter(|finding| finding.fix.is_none()) {
        finding.fix = fix_of(finding);
    }
}

fn fix_of(finding: &Finding) -> Option<Fix> {
    let delete = || Some(Fix::Delete(vec![finding.rule]));
    match finding.kind {
        // When another rule starts or expires, the rule may be needed. A log is an effect, too.
        _ if finding.until.is_some() || finding.logs => None,
        // A move that lets more packets through is nothing to suggest; a deletion changes no verdict.
        FindingKind::Unreachable if finding.effect == Some(Effect::Opens) => {
            let before = finding.conflicts_with?.first;
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

#[cfg(test)]
mod tests {
    use super::super::report::{Conflict, Severity};
    use super::*;
    use crate::time::Instant;

    fn fix(finding: &Finding) -> Option<Fix> {
        let mut findings = [finding.clone()];
        suggest(&mut findings);
        findings[0].fix.take()
    }

    #[test]
    fn a_lost_rule_is_moved_before_the_first_rule_that_lets_its_packets_through() {
        let lost = Finding {
            conflicts_with: Some(Conflict { rule: 1, share: 0.5, first: 0 }),
            effect: Some(Effect::Opens),
            ..Finding::new(FindingKind::Unreachable, Severity::Error, 2)
        };
        assert_eq!(fix(&lost), Some(Fix::Move { rule: 2, before: 0 }));
        let deleted = Some(Fix::Delete(vec![2]));
        let closes = Finding { effect: Some(Effect::Closes), ..lost.clone() };
        assert_eq!(fix(&closes), deleted);
        let hidden = Finding { conflicts_with: None, effect: None, ..lost };
        assert_eq!(fix(&hidden), deleted);
        let expiring = Finding { until: Some(Instant::EPOCH), ..hidden };
        assert_eq!(fix(&expiring), None);
    }

    #[test]
    fn a_rule_that_logs_is_not_deleted() {
        let redundant = Finding::new(FindingKind::Redundant, Severity::Warning, 2);
        assert_eq!(fix(&redundant), Some(Fix::Delete(vec![2])));
        assert_eq!(fix(&Finding { logs: true, ..redundant }), None);
    }
}

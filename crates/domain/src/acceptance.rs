//! Accepted findings: somebody knows about the fault of a policy, and has a reason to leave it.

use std::collections::HashMap;

use crate::analysis::{Finding, FindingId, Severity};
use crate::text::Reason;
use crate::time::Instant;

/// The most accepted findings of a policy.
pub const MAX_ACCEPTANCES: usize = 10_000;

/// What somebody accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptanceSpec {
    /// Why the finding may stay.
    pub reason: Reason,
    /// The first instant at which it is reported again; none: never by time alone.
    pub until: Option<Instant>,
}

/// A finding that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The finding.
    pub finding: FindingId,
    /// Its proof when it was accepted.
    pub proof: FindingId,
    /// Its severity when it was accepted.
    pub severity: Severity,
    /// Why, and for how long.
    pub spec: AcceptanceSpec,
    /// When it was accepted.
    pub accepted_at: Instant,
    /// By whom.
    pub accepted_by: String,
}

impl Acceptance {
    /// Whether it has not lapsed at an instant.
    #[must_use]
    pub fn is_in_force(&self, now: Instant) -> bool {
        self.spec.until.is_none_or(|until| now < until)
    }

    /// Whether it is about this finding as it is now. A finding whose proof has changed, or that has
    /// become more severe, is not what was accepted.
    #[must_use]
    pub fn covers(&self, finding: &Finding) -> bool {
        self.finding == finding.id
            && self.proof == finding.proof
            && self.severity <= finding.severity
    }
}

/// The accepted findings of a policy that have not lapsed, by finding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acceptances(HashMap<FindingId, Acceptance>);

impl Acceptances {
    /// Those of these that have not lapsed at an instant.
    #[must_use]
    pub fn at(all: impl IntoIterator<Item = Acceptance>, now: Instant) -> Self {
        let in_force = all.into_iter().filter(|one| one.is_in_force(now));
        Self(in_force.map(|one| (one.finding, one)).collect())
    }

    /// The acceptance of a finding, if it is accepted as it is now.
    #[must_use]
    pub fn of(&self, finding: &Finding) -> Option<&Acceptance> {
        self.0.get(&finding.id).filter(|one| one.covers(finding))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::FindingKind;

    fn id(digit: char) -> FindingId {
        FindingId::parse(&digit.to_string().repeat(32)).unwrap()
    }

    fn finding(proof: char, severity: Severity) -> Finding {
        Finding { id: id('1'), proof: id(proof), ..Finding::new(FindingKind::Expired, severity, 0) }
    }

    #[test]
    fn an_acceptance_covers_a_finding_until_it_lapses_or_the_finding_is_another_one() {
        let [now, later] = [1_000_000, 2_000_000].map(|it| Instant::from_micros(it).unwrap());
        let acceptance = Acceptance {
            finding: id('1'),
            proof: id('2'),
            severity: Severity::Warning,
            spec: AcceptanceSpec { reason: Reason::parse("known").unwrap(), until: Some(later) },
            accepted_at: now,
            accepted_by: "alice".to_owned(),
        };
        let in_force = Acceptances::at([acceptance.clone()], now);
        assert_eq!(in_force.of(&finding('2', Severity::Warning)), Some(&acceptance));
        assert_eq!(in_force.of(&finding('2', Severity::Info)), Some(&acceptance), "less severe");
        assert_eq!(in_force.of(&finding('2', Severity::Error)), None, "more severe");
        assert_eq!(in_force.of(&finding('3', Severity::Warning)), None, "another proof");
        assert_eq!(Acceptances::at([acceptance], later), Acceptances::default(), "lapsed");
    }
}

//! Tests of the findings about rules. An analysis has the findings, so a filter is given the rules that
//! have them before it is evaluated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::tree::{Filter, Logic, Test};
use crate::analysis::{FindingKind, FindingKinds};
use crate::ids::RuleId;

/// A test of the findings about a rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FindingTest {
    /// Findings of at least one of these kinds; `None`: no finding of a usual kind.
    pub kinds: Option<Vec<FindingKind>>,
    /// The rules that fit; `None` until [`Filter::give`].
    rules: Option<Arc<BTreeSet<RuleId>>>,
}

impl FindingTest {
    /// A test that does not know yet which rules fit.
    #[must_use]
    pub const fn new(kinds: Option<Vec<FindingKind>>) -> Self {
        Self { kinds, rules: None }
    }

    /// The kinds that it is about.
    fn tested(&self) -> FindingKinds {
        let named = self.kinds.as_ref().map(|kinds| kinds.iter().copied().collect());
        named.unwrap_or_else(FindingKinds::usual)
    }

    /// Whether a rule fits; not as long as the findings are unknown.
    pub(super) fn fits(&self, rule: RuleId) -> bool {
        self.listed().is_some_and(|rules| rules.contains(&rule) != self.kinds.is_none())
    }

    /// The rules with such findings, or if no kinds are named, with any of a usual kind; none as long as
    /// the findings are unknown.
    #[must_use]
    pub fn listed(&self) -> Option<&BTreeSet<RuleId>> {
        self.rules.as_deref()
    }
}

/// The rules of a policy that have findings, by kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFindings(BTreeMap<FindingKind, BTreeSet<RuleId>>);

impl FromIterator<(FindingKind, RuleId)> for RuleFindings {
    fn from_iter<T: IntoIterator<Item = (FindingKind, RuleId)>>(findings: T) -> Self {
        let mut all = Self::default();
        for (kind, rule) in findings {
            all.0.entry(kind).or_default().insert(rule);
        }
        all
    }
}

impl RuleFindings {
    fn of(&self, kinds: FindingKinds) -> BTreeSet<RuleId> {
        let of_kinds = self.0.iter().filter(|(kind, _)| kinds.contains(**kind));
        of_kinds.flat_map(|(_, rules)| rules).copied().collect()
    }
}

impl Filter {
    /// The kinds of findings that the filter needs; none if it has no test of findings.
    #[must_use]
    pub fn finding_kinds(&self) -> Option<FindingKinds> {
        let is_needed = |kind: &FindingKind| {
            self.condition
                .has(&|test| matches!(test, Test::Finding(it) if it.tested().contains(*kind)))
        };
        let kinds: FindingKinds = FindingKind::ALL.into_iter().filter(is_needed).collect();
        (!kinds.is_empty()).then_some(kinds)
    }

    /// Gives its tests the findings.
    pub fn give(&mut self, findings: &RuleFindings) {
        self.condition.each_mut(&mut |test| {
            if let Test::Finding(test) = test {
                test.rules = Some(Arc::new(findings.of(test.tested())));
            }
        });
    }

    /// Whether it tests findings that it was not given.
    #[must_use]
    pub fn lacks_findings(&self) -> bool {
        self.condition.has(&|test| matches!(test, Test::Finding(FindingTest { rules: None, .. })))
    }
}

impl<T> Logic<T> {
    fn each_mut(&mut self, visit: &mut dyn FnMut(&mut T)) {
        match self {
            Self::All(parts) | Self::Any(parts) => {
                for part in parts {
                    part.each_mut(visit);
                }
            }
            Self::Not(part) => part.each_mut(visit),
            Self::Is(test) => visit(test),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Level;

    #[test]
    fn a_filter_knows_which_findings_it_needs_and_fits_nothing_without_them() {
        let rule = |id| RuleId::new(id).unwrap();
        let findings: RuleFindings = [
            (FindingKind::Unreachable, rule(1)),
            (FindingKind::Correlated, rule(2)),
            (FindingKind::Expired, rule(3)),
        ]
        .into_iter()
        .collect();
        for (text, needed, fitting) in [
            ("finding = unreachable", FindingKinds::NONE.with(FindingKind::Unreachable), vec![1]),
            (
                "finding IN (correlated, expired)",
                [FindingKind::Correlated, FindingKind::Expired].into_iter().collect(),
                vec![2, 3],
            ),
            ("finding = null", FindingKinds::usual(), vec![2, 4]),
            ("finding != null", FindingKinds::usual(), vec![1, 3]),
            (
                "finding = correlated OR finding = null",
                FindingKinds::usual().with(FindingKind::Correlated),
                vec![2, 4],
            ),
        ] {
            let mut filter = Filter::parse(Level::Rule, text).unwrap();
            let fits = |filter: &Filter, id| {
                filter
                    .condition
                    .holds(&|test| matches!(test, Test::Finding(test) if test.fits(rule(id))))
            };
            assert_eq!(filter.finding_kinds(), Some(needed), "{text}");
            assert!(filter.lacks_findings(), "{text}");
            filter.give(&findings);
            assert!(!filter.lacks_findings(), "{text}");
            let fit: Vec<i64> = (1..=4).filter(|id| fits(&filter, *id)).collect();
            assert_eq!(fit, fitting, "{text}");
        }
        let other = Filter::parse(Level::Rule, "log = true AND NOT state = expired").unwrap();
        assert_eq!((other.finding_kinds(), other.lacks_findings()), (None, false));
    }
}

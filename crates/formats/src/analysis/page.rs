//! The findings of a stored policy that a request asks for: a page in JSON, or all of them as SARIF or
//! CSV.

use std::collections::HashSet;

use fireflow_domain::acceptance::Acceptances;
use fireflow_domain::analysis::{Analysis, Finding, FindingKind, FindingKinds, Severity};
use fireflow_domain::error::{BoxError, Violations};
use fireflow_domain::filter::{Expression, Filter, Level};
use fireflow_domain::ids::{PolicyId, RuleId};
use fireflow_domain::page::Position;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::InspectedPolicy;
use schemars::JsonSchema;
use serde::Serialize;

use super::policy::with_subject;
use super::{AnalysisHeadView, FindingView, Subject, finding_records, sarif};
use crate::cursor;
use crate::query::Query;

/// The most findings that a page has.
pub const MAX_PAGE_SIZE: i64 = 1_000;
/// How many it has unless the request names a number.
const PAGE_SIZE: usize = 100;

/// The format of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingsFormat {
    /// A page in JSON.
    Page,
    /// All findings as CSV.
    Csv,
    /// All findings as SARIF.
    Sarif,
}

/// What a list does with accepted findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepted {
    /// It leaves them out.
    Exclude,
    /// It has them too.
    Include,
    /// It has only them.
    Only,
}

impl Accepted {
    const WORDS: [(&'static str, Self); 2] = [("include", Self::Include), ("only", Self::Only)];
}

/// Which findings are asked for.
#[derive(Debug)]
pub struct FindingQuery {
    kinds: Option<FindingKinds>,
    severities: Option<Vec<Severity>>,
    rule: Option<RuleId>,
    /// A filter of the rules that they are about.
    filter: Option<Filter>,
    accepted: Accepted,
    /// The instant at which they hold; none: now.
    pub at: Option<Instant>,
    size: usize,
    format: FindingsFormat,
    /// What cursors belong to: the policy and the filters.
    scope: String,
    /// The position at which the page begins.
    position: Option<Position>,
}

impl FindingQuery {
    /// Reads the parameters.
    ///
    /// # Errors
    /// Returns all violations of the query.
    pub fn read(
        mut query: Query,
        policy: PolicyId,
        format: FindingsFormat,
    ) -> Result<Self, Violations> {
        let kinds = query.words::<_, FindingKinds>("kind", FindingKind::parse, "a kind of finding");
        let severities: Option<Vec<_>> =
            query.words("severity", Severity::parse, "error, warning or info");
        let rule = query.rule_id("rule_id");
        let filter = query.parse("filter", rule_filter);
        let accepted = query.word("accepted", &Accepted::WORDS).unwrap_or(Accepted::Exclude);
        let at = query.instant("at");
        let size = query.integer("page_size", 1, MAX_PAGE_SIZE);
        let mut shown: Vec<&str> =
            severities.iter().flatten().map(|severity: &Severity| severity.as_str()).collect();
        shown.sort_unstable();
        let filtered = filter.as_ref().map(ToString::to_string).unwrap_or_default();
        let scope = format!(
            "analysis of {policy}\n{kinds:?}\n{shown:?}\n{rule:?}\n{at:?}\n{accepted:?}\n{filtered}"
        );
        let position = query.parse("cursor", |text| {
            if format != FindingsFormat::Page {
                return Err("is available as JSON only; other formats have all findings".to_owned());
            }
            if text.is_empty() {
                return Ok(None);
            }
            let position = cursor::decode(&scope, text).filter(|it| it.place.is_some());
            position.map(Some).ok_or_else(|| {
                "is not a cursor of this policy and these filters; start again without it"
                    .to_owned()
            })
        });
        query.finish()?;
        Ok(Self {
            kinds,
            severities,
            rule,
            filter,
            accepted,
            at,
            size: size.and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE_SIZE),
            format,
            scope,
            position: position.flatten(),
        })
    }

    /// The format of the answer.
    #[must_use]
    pub const fn format(&self) -> FindingsFormat {
        self.format
    }

    /// The kinds to search.
    #[must_use]
    pub fn searched(&self) -> FindingKinds {
        self.kinds.unwrap_or(FindingKinds::NONE).searched()
    }

    /// The instant of the first page, if this is a later one and the request names no instant.
    #[must_use]
    pub fn former(&self) -> Option<Instant> {
        self.position.as_ref().filter(|_| self.at.is_none()).and_then(|position| position.at)
    }

    /// The filter of rules at the instant of the analysis.
    #[must_use]
    pub fn filter(&self, at: Instant) -> Option<Expression> {
        self.filter.clone().map(|filter| Expression { filter, at })
    }

    /// Checks that the policy is still in the state of the first page.
    ///
    /// # Errors
    /// Returns a sentence if it is not.
    pub fn check_state(&self, inspected: &InspectedPolicy) -> Result<(), String> {
        let mark = self.position.as_ref().and_then(|position| position.place).map(|place| place.1);
        if mark.is_some_and(|mark| mark != inspected.policy.states.mark()) {
            let revision = inspected.policy.revision;
            return Err(format!(
                "the policy has changed since the first page: its revision is now {revision}; start \
                 again without a cursor"
            ));
        }
        Ok(())
    }

    /// The most findings that the answer has, of this many.
    #[must_use]
    pub fn at_most(&self, all: usize) -> usize {
        match self.format {
            FindingsFormat::Page => self.size.min(all),
            FindingsFormat::Csv | FindingsFormat::Sarif => all,
        }
    }

    /// Whether a finding is asked for. `rule` is the id of its rule.
    fn has(&self, finding: &Finding, rule: Option<RuleId>, is_accepted: bool) -> bool {
        self.kinds.is_none_or(|kinds| kinds.contains(finding.kind))
            && self.severities.as_ref().is_none_or(|some| some.contains(&finding.severity))
            && self.rule.is_none_or(|wanted| rule == Some(wanted))
            && match self.accepted {
                Accepted::Exclude => !is_accepted,
                Accepted::Include => true,
                Accepted::Only => is_accepted,
            }
    }

    /// Writes the findings that are asked for. `until` is when the clock alone can change them,
    /// `accepted` are the accepted findings of the policy, and `matching` the rules that match the
    /// filter. Costs O(rules), because sentences name them.
    ///
    /// # Errors
    /// Returns an error if they cannot be written, which is a defect.
    pub fn write(
        &self,
        inspected: &InspectedPolicy,
        analysis: &Analysis,
        until: Option<Instant>,
        accepted: &Acceptances,
        matching: Option<Vec<RuleId>>,
    ) -> Result<Vec<u8>, BoxError> {
        let matching: Option<HashSet<RuleId>> = matching.map(|rules| rules.into_iter().collect());
        let matches = |rule: Option<RuleId>| {
            matching.as_ref().is_none_or(|all| rule.is_some_and(|rule| all.contains(&rule)))
        };
        with_subject(inspected, Some(accepted), |subject| {
            let id = |finding: &Finding| {
                subject.labels.get(finding.rule).and_then(|label| label.id).and_then(RuleId::new)
            };
            let has = |(_, finding): &(usize, &Finding)| {
                let rule = id(finding);
                self.has(finding, rule, subject.acceptance(finding).is_some()) && matches(rule)
            };
            let found: Vec<(usize, &Finding)> =
                analysis.findings.iter().enumerate().filter(has).collect();
            let findings = found.iter().map(|it| it.1);
            match self.format {
                FindingsFormat::Csv => finding_records(findings, subject),
                FindingsFormat::Sarif => {
                    let log = sarif(analysis, findings, subject, env!("CARGO_PKG_VERSION"));
                    Ok(serde_json::to_vec(&log)?)
                }
                FindingsFormat::Page => {
                    let page = self.page(inspected, analysis, until, &found, subject);
                    Ok(serde_json::to_vec(&page)?)
                }
            }
        })
    }

    fn page(
        &self,
        inspected: &InspectedPolicy,
        analysis: &Analysis,
        until: Option<Instant>,
        found: &[(usize, &Finding)],
        subject: &Subject<'_>,
    ) -> AnalysisPageView {
        let place = self.position.as_ref().and_then(|position| position.place);
        let start = place.and_then(|(place, _)| usize::try_from(place).ok()).unwrap_or(0);
        // Places are those among all findings, because findings can be accepted between two pages.
        let mut rest = found.iter().skip_while(|it| it.0 < start);
        let page = rest.by_ref().take(self.size);
        let items: Vec<FindingView> = page.map(|it| FindingView::new(it.1, subject)).collect();
        let next_cursor = rest.next().map(|(next, _)| {
            let place = u64::try_from(*next).unwrap_or(u64::MAX);
            let position = Position {
                values: Vec::new(),
                id: inspected.policy.id.get(),
                place: Some((place, inspected.policy.states.mark())),
                at: Some(analysis.at),
            };
            cursor::encode(&self.scope, &position)
        });
        AnalysisPageView {
            revision: inspected.policy.revision.0,
            head: AnalysisHeadView::new(analysis, subject),
            until: until.map(|until| until.to_string()),
            total: found.len(),
            items,
            next_cursor,
        }
    }
}

/// A filter of the rules that findings are about.
fn rule_filter(text: &str) -> Result<Filter, String> {
    let filter = Filter::parse(Level::Rule, text).map_err(|error| error.to_string())?;
    if filter.finding_kinds().is_some() {
        return Err("has `finding`; to select kinds of findings, use `kind`".to_owned());
    }
    Ok(filter)
}

/// The findings of a policy, and what they rest on.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
#[schemars(rename = "Analysis")]
pub struct AnalysisPageView {
    /// The policy's revision.
    revision: i64,
    #[serde(flatten)]
    head: AnalysisHeadView,
    /// The first instant at which the clock alone can change them; null if it cannot.
    until: Option<String>,
    /// How many findings the list has.
    total: usize,
    /// The findings of the page, the most serious first, then in order of evaluation.
    items: Vec<FindingView>,
    /// Continues after the page; null if there are no more findings.
    next_cursor: Option<String>,
}

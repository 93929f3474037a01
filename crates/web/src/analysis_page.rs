//! The findings of a policy as an answer: a page in JSON, or all of them as SARIF or CSV.

use std::sync::Arc;

use fireflow_domain::acceptance::Acceptances;
use fireflow_domain::analysis::{Finding, FindingKind, FindingKinds, Severity};
use fireflow_domain::ids::{PolicyId, RuleId};
use fireflow_domain::page::Position;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::inspect::InspectedPolicy;
use fireflow_formats::analysis::{
    AnalysisHeadView, FindingView, RuleLabel, Subject, finding_records, sarif,
};
use fireflow_formats::cursor;
use fireflow_formats::query::Query;
use fireflow_service::analyses::KeptAnalysis;
use fireflow_service::budget::Use;
use poem::{FromRequest, Request, RequestBody};
use serde::Serialize;

use crate::api::acceptances;
use crate::app::Context;
use crate::dto::analysis::AnalysisPage;
use crate::dto::lines::LineFormat;
use crate::export::preferred;
use crate::problem::{Code, Problem};
use crate::reply::{Analysed, Reply, SARIF};

/// How many findings a page has unless the request names a number.
const PAGE_SIZE: usize = 100;
/// The memory of a finding in an answer, in bytes: as a view and as text.
const FINDING_BYTES: u64 = 8 * 1024;
/// The number of findings that the thread serving the request writes itself.
const FEW: usize = 100;

/// The format of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnalysisFormat {
    /// A page in JSON.
    Page,
    /// All findings as CSV.
    Csv,
    /// All findings as SARIF.
    Sarif,
}

impl<'a> FromRequest<'a> for AnalysisFormat {
    /// Selects the available format that the client prefers. If the client accepts none of them, the
    /// format is JSON.
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> poem::Result<Self> {
        let best = preferred(request, body, |name| match name {
            "application/json" | "application/*" | "*/*" => Some(Self::Page),
            "text/csv" | "text/*" => Some(Self::Csv),
            SARIF => Some(Self::Sarif),
            _ => None,
        });
        Ok(best.await?.unwrap_or(Self::Page))
    }
}

/// What a list does with accepted findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accepted {
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
    accepted: Accepted,
    /// The instant at which they hold; none: now.
    pub at: Option<Instant>,
    size: usize,
    format: AnalysisFormat,
    /// What cursors belong to: the policy and the filters.
    scope: String,
    /// The position after which the page begins.
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
        format: AnalysisFormat,
    ) -> Result<Self, Problem> {
        let kinds = query.words::<_, FindingKinds>("kind", FindingKind::parse, "a kind of finding");
        let severities: Option<Vec<_>> =
            query.words("severity", Severity::parse, "error, warning or info");
        let rule = query.rule_id("rule_id");
        let accepted = query.word("accepted", &Accepted::WORDS).unwrap_or(Accepted::Exclude);
        let at = query.instant("at");
        let size = query.integer("page_size", 1, 1_000);
        let mut shown: Vec<&str> =
            severities.iter().flatten().map(|severity: &Severity| severity.as_str()).collect();
        shown.sort_unstable();
        let scope =
            format!("analysis of {policy}\n{kinds:?}\n{shown:?}\n{rule:?}\n{at:?}\n{accepted:?}");
        let position = query.parse("cursor", |text| {
            if format != AnalysisFormat::Page {
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
            accepted,
            at,
            size: size.and_then(|size| usize::try_from(size).ok()).unwrap_or(PAGE_SIZE),
            format,
            scope,
            position: position.flatten(),
        })
    }

    /// The kinds to search. All usual kinds are searched together, because they are kept together.
    #[must_use]
    pub fn searched(&self) -> FindingKinds {
        let named = self.kinds.unwrap_or(FindingKinds::NONE);
        if named.iter().any(FindingKind::is_on_request) {
            FindingKinds::all()
        } else {
            FindingKinds::usual()
        }
    }

    /// The instant of the first page, if this is a later one and the request names no instant.
    #[must_use]
    pub fn former(&self) -> Option<Instant> {
        self.position.as_ref().filter(|_| self.at.is_none()).and_then(|position| position.at)
    }

    /// Checks that the policy is still in the state of the first page.
    ///
    /// # Errors
    /// Returns `Code::StateMoved` if it is not.
    pub fn check_state(&self, inspected: &InspectedPolicy) -> Result<(), Problem> {
        let mark = self.position.as_ref().and_then(|position| position.place).map(|place| place.1);
        if mark.is_some_and(|mark| mark != inspected.policy.states.mark()) {
            let revision = inspected.policy.revision;
            let detail = format!(
                "the policy has changed since the first page: its revision is now {revision}; start \
                 again without a cursor"
            );
            return Err(Problem::new(Code::StateMoved, detail));
        }
        Ok(())
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
}

/// Calls `ask` with what answers need to refer to the rules of a policy. Costs O(rules).
pub fn with_subject<T>(
    inspected: &InspectedPolicy,
    acceptances: Option<&Acceptances>,
    ask: impl FnOnce(&Subject<'_>) -> T,
) -> T {
    let labels: Vec<_> = inspected.compiled.iter().map(|rule| RuleLabel::stored(rule)).collect();
    let (firewall, policy) = (inspected.policy.firewall.id, inspected.policy.id);
    let source = format!("firewalls/{firewall}/filtering-policies/{policy}/");
    ask(&Subject { labels: &labels, source: &source, acceptances })
}

/// A page as it is serialized. It has the schema of [`AnalysisPage`].
#[derive(Debug, Serialize)]
struct WrittenPage {
    revision: i64,
    until: Option<String>,
    total: usize,
    #[serde(flatten)]
    head: AnalysisHeadView,
    items: Vec<FindingView>,
    next_cursor: Option<String>,
}

/// The answer with the findings that are asked for.
///
/// # Errors
/// Returns 503 if there is no memory or turn for it.
pub async fn answer(
    ctx: &Context,
    inspected: InspectedPolicy,
    kept: Arc<KeptAnalysis>,
    asked: FindingQuery,
) -> Result<Reply<Analysed, AnalysisPage>, Problem> {
    let all = kept.analysis.findings.len();
    let count = if asked.format == AnalysisFormat::Page { asked.size.min(all) } else { all };
    let bytes = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(FINDING_BYTES);
    ctx.borrow_memory(Use::Answer, bytes).await?;
    let (firewall, policy) = (inspected.policy.firewall.id, inspected.policy.id);
    let accepted = acceptances::all(ctx, firewall, policy).await?;
    let accepted = Acceptances::at(accepted, ctx.caller.now);
    let write = move || {
        let known = Some(&accepted);
        with_subject(&inspected, known, |subject| write(&inspected, &kept, &asked, subject))
    };
    // To name rules takes a list of all of them.
    if count > FEW {
        ctx.run_in_turn(write).await?
    } else {
        tokio::task::spawn_blocking(write).await.map_err(Problem::internal)?
    }
}

fn write(
    inspected: &InspectedPolicy,
    kept: &KeptAnalysis,
    asked: &FindingQuery,
    subject: &Subject<'_>,
) -> Result<Reply<Analysed, AnalysisPage>, Problem> {
    let analysis = &kept.analysis;
    let id = |finding: &Finding| subject.labels.get(finding.rule).and_then(|label| label.id);
    let has = |finding: &&Finding| {
        let is_accepted = subject.acceptance(finding).is_some();
        asked.has(finding, id(finding).and_then(RuleId::new), is_accepted)
    };
    let found: Vec<&Finding> = analysis.findings.iter().filter(has).collect();
    match asked.format {
        AnalysisFormat::Csv => {
            let records = finding_records(found, subject).map_err(Problem::internal)?;
            Ok(Reply::written_lines(LineFormat::Csv, records))
        }
        AnalysisFormat::Sarif => {
            let log = sarif(analysis, found, subject, env!("CARGO_PKG_VERSION"));
            let text = serde_json::to_vec(&log).map_err(Problem::internal)?;
            Ok(Reply::document(SARIF, text))
        }
        AnalysisFormat::Page => {
            let place = asked.position.as_ref().and_then(|position| position.place);
            let start = place.and_then(|(place, _)| usize::try_from(place).ok()).unwrap_or(0);
            let page = found.iter().copied().skip(start).take(asked.size);
            let items: Vec<FindingView> =
                page.map(|finding| FindingView::new(finding, subject)).collect();
            let next = start.saturating_add(items.len());
            let next_cursor = (next < found.len()).then(|| {
                let place = u64::try_from(next).unwrap_or(u64::MAX);
                cursor::encode(
                    &asked.scope,
                    &Position {
                        values: Vec::new(),
                        id: inspected.policy.id.get(),
                        place: Some((place, inspected.policy.states.mark())),
                        at: Some(analysis.at),
                    },
                )
            });
            Reply::written(&WrittenPage {
                revision: inspected.policy.revision.0,
                until: kept.until.map(|until| until.to_string()),
                total: found.len(),
                head: AnalysisHeadView::new(analysis, subject),
                items,
                next_cursor,
            })
        }
    }
}

//! Analyses: the faults of a policy, comparisons, searches and partitions.

use std::sync::Arc;
use std::time::{Duration, Instant as Moment};

use fireflow_domain::acceptance::Acceptances;
use fireflow_domain::analysis::{
    AnalysisLimits, ComparisonOptions, FindingKind, Outcome, SearchRequest, compare, partition,
    search,
};
use fireflow_domain::error::{Violation, Violations};
use fireflow_domain::store::ReadKind;
use fireflow_domain::usecase::acceptance::{self, Shown};
use fireflow_domain::usecase::inspect::InspectedPolicy;
use fireflow_formats::analysis::requests::{
    self, ComparisonRequest, GivenOutcome, GivenPolicy, Interval,
};
use fireflow_formats::analysis::{
    AnalysisPageView, ComparisonView, FindingQuery, FindingsFormat, LabeledPolicy, MAX_PAGE_SIZE,
    PartitionView, SearchView, partition_view, search_view,
};
use fireflow_formats::rule_export::LineFormat;
use fireflow_service::analyses::{KeptAnalysis, Progress, bytes_of};
use fireflow_service::budget::{Shortage, Use};
use poem::http::header;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::{Tag, policy_ids};
use crate::app::Context;
use crate::auth::{As, Viewer};
use crate::dto::analysis::{ComparisonBody, PartitionBody, SearchBody};
use crate::dto::body::Body;
use crate::export::preferred;
use crate::operation::Operation;
use crate::params::{self, Param, ParamKind, QueryString, param};
use crate::path_id::RawId;
use crate::problem::{Code, Problem};
use crate::reply::{Analysed, Answered, Reply, SARIF};

/// How long a request waits for an analysis unless it says otherwise, and at most, in seconds.
pub(super) const WAIT_S: u64 = 2;
const MAX_WAIT_S: u64 = 25;
/// How often a request starts again because the policy has changed.
pub(super) const ROUNDS: usize = 3;
/// The part of a request's time that remains to write the answer.
const MARGIN: Duration = Duration::from_secs(1);
/// The memory of a finding in an answer, in bytes: as a view and as text.
const FINDING_BYTES: u64 = 8 * 1024;
/// The number of findings that the thread serving the request writes itself.
const FEW: usize = 100;

const FINDINGS: &[Param] = &[
    param(
        "kind",
        ParamKind::Fields(&FindingKind::WORDS),
        "Returns findings of these kinds, separated by commas. `correlated`, `generalises` and \
         `mergeable` are only searched if they are named here.",
    ),
    param(
        "severity",
        ParamKind::Fields(&["error", "warning", "info"]),
        "Returns findings of these severities, separated by commas.",
    ),
    param("rule_id", params::ID, "Returns findings about this rule."),
    param(
        "filter",
        ParamKind::Filter,
        "Returns findings about rules that match this filter, in the language of lists of rules.",
    )
    .shown("action = ALLOW AND reference : chg"),
    param(
        "accepted",
        ParamKind::Words(&["include", "only"]),
        "Returns accepted findings too, or only these. Default: they are left out.",
    ),
    param("at", ParamKind::Instant, "The instant at which the findings hold. Default: now."),
    param(
        "wait",
        ParamKind::Integer(0, MAX_WAIT_S as i64),
        "How long to wait for the analysis, in seconds. Default: 2. If it takes longer, the answer \
         is 202.",
    ),
    param(
        "page_size",
        ParamKind::Integer(1, MAX_PAGE_SIZE),
        "The most findings on a page. Default: 100.",
    ),
    param(
        "cursor",
        ParamKind::Cursor,
        "Continues after a page: its `next_cursor`. If the policy has changed since, the answer is \
         409.",
    ),
];

/// The operations on analyses.
#[derive(Debug)]
pub struct Analyses;

#[OpenApi(tag = "Tag::Analysis")]
impl Analyses {
    /// The rows of these operations.
    pub const OPERATIONS: &[Operation] =
        &[Self::FINDINGS, Self::COMPARISON, Self::SEARCH, Self::PARTITION];

    const FINDINGS: Operation = Operation::reads("getAnalysis").takes(FINDINGS).may_answer(&[409]);

    /// Get the faults of a policy
    ///
    /// Rules that no packet reaches, rules that change nothing, services that are exposed, and more,
    /// each with its proof. All findings are exact, over every packet that a network can carry. What
    /// could not be decided within the limits is in `incomplete`, and never counts as clean.
    ///
    /// The findings of a state are kept, so usually only the first request after a change waits. If the
    /// analysis takes longer than `wait`, the answer is 202: send the same request again after
    /// `Retry-After` seconds. After a 202, the analysis continues for up to 60 seconds. Otherwise, it
    /// ends once no request waits for it.
    ///
    /// With `Accept: application/sarif+json` or `text/csv`, the answer has all findings of the
    /// filters in this format, without pages.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/analysis/",
        method = "get",
        operation_id = "getAnalysis"
    )]
    async fn findings(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        AcceptedFindings(format): AcceptedFindings,
    ) -> Result<Reply<Analysed, AnalysisPageView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        let address = query.requested();
        let mut query = query.open(&Self::FINDINGS);
        let wait = query.integer("wait", 0, MAX_WAIT_S as i64);
        let wait = wait.and_then(|wait| u64::try_from(wait).ok()).unwrap_or(WAIT_S);
        let asked = Arc::new(FindingQuery::read(query, policy, format)?);
        let wait = Duration::from_secs(wait).min(time_left(&ctx));
        let (kinds, analyses) = (asked.searched(), &ctx.app.analyses);
        for _ in 0..ROUNDS {
            let inspected = ctx.compiled_policy(firewall, policy).await?;
            let moved = |detail| Problem::new(Code::StateMoved, detail);
            asked.check_state(&inspected).map_err(moved)?;
            let found = analyses.findings(&ctx, &inspected, kinds, asked.at, wait).await?;
            // A page continues the findings of the first page, even if the clock has changed them.
            let found = match (found, asked.former()) {
                (Progress::Done(kept), Some(former)) if kept.analysis.at != former => {
                    analyses.findings(&ctx, &inspected, kinds, Some(former), wait).await?
                }
                (found, _) => found,
            };
            match found {
                Progress::Done(kept) => match answer(&ctx, inspected, kept, &asked).await? {
                    Some(reply) => return Ok(reply),
                    None => continue,
                },
                Progress::UnderWay { retry_after_s } => {
                    let reply = Reply::under_way().with_header(header::LOCATION, &address);
                    return Ok(reply.with_header(header::RETRY_AFTER, &retry_after_s.to_string()));
                }
                Progress::Moved => {}
            }
        }
        Err(Shortage::CHANGING.into())
    }

    const COMPARISON: Operation = Operation::reads("comparePolicies").with_rule_set();

    /// Compare two policies
    ///
    /// Returns the packets that change their verdict between the left policy, by default that of the
    /// path, and the right one: another stored policy, or rules that are not stored. There are none
    /// exactly if `equal` is true. If the comparison cannot be finished within its limits, the answer
    /// has what was found until then, and `complete` is false.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/comparisons/",
        method = "post",
        operation_id = "comparePolicies"
    )]
    async fn comparison(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        body: Body<ComparisonBody>,
    ) -> Result<Reply<Answered, ComparisonView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        query.open(&Self::COMPARISON).finish()?;
        let now = ctx.caller.now;
        let read = move |value, faults: &mut Violations| requests::comparison(value, now, faults);
        let ComparisonRequest { left, right, interval } = body.read(read).await?;
        let left = left.unwrap_or(GivenPolicy::Stored(firewall, policy));
        let (left, right) = (labeled(&ctx, left).await?, labeled(&ctx, right).await?);
        let Interval { from, until } = interval;
        let bytes = bytes_to_ask(&left).saturating_add(bytes_to_ask(&right));
        let job = move |limits: &AnalysisLimits<'_>| {
            left.ask(|left_policy, left| {
                right.ask(|right_policy, right| {
                    let options = ComparisonOptions { from, until };
                    let compared = compare(left_policy, right_policy, &options, limits);
                    Reply::written(&ComparisonView::new(&compared, left, right))
                })
            })
        };
        ctx.app.analyses.run(&ctx, bytes, time_left(&ctx), job).await?
    }

    const SEARCH: Operation = Operation::reads("searchPackets");

    /// Search a set of packets
    ///
    /// Returns the packets of a set that have an action, or that a rule decides. If `none` is true,
    /// it is proven that there is no such packet.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/searches/",
        method = "post",
        operation_id = "searchPackets"
    )]
    async fn search(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        body: Body<SearchBody>,
    ) -> Result<Reply<Answered, SearchView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        query.open(&Self::SEARCH).finish()?;
        let now = ctx.caller.now;
        let read = move |value, faults: &mut Violations| requests::search(value, now, faults);
        let given = body.read(read).await?;
        let policy = labeled(&ctx, GivenPolicy::Stored(firewall, policy)).await?;
        let outcome = match given.outcome {
            GivenOutcome::Action(action) => Outcome::Action(action),
            GivenOutcome::Blocked => Outcome::Blocked,
            GivenOutcome::Rule(id) => Outcome::Rule(policy.index_of(id).ok_or_else(|| {
                let detail = format!("the policy has no rule with id={id}");
                Violations::from(Violation::body("/outcome/rule_id", detail))
            })?),
        };
        let Interval { from, until } = given.interval;
        let request = SearchRequest { packets: given.packets, outcome, from, until };
        let bytes = bytes_to_ask(&policy);
        let job = move |limits: &AnalysisLimits<'_>| {
            policy.ask(|policy, subject| {
                let answer = search(policy, &request, limits);
                Reply::written(&search_view(&answer, subject, given.limit))
            })
        };
        ctx.app.analyses.run(&ctx, bytes, time_left(&ctx), job).await?
    }

    const PARTITION: Operation = Operation::reads("partitionPackets");

    /// Divide a set of packets by verdict
    ///
    /// Returns disjoint parts of the set, each with one action by one rule. Unlike inspections, it
    /// takes blocks, ranges and omitted members.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/partitions/",
        method = "post",
        operation_id = "partitionPackets"
    )]
    async fn partition(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        body: Body<PartitionBody>,
    ) -> Result<Reply<Answered, PartitionView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        query.open(&Self::PARTITION).finish()?;
        let now = ctx.caller.now;
        let read = move |value, faults: &mut Violations| requests::partition(value, now, faults);
        let given = body.read(read).await?;
        let policy = labeled(&ctx, GivenPolicy::Stored(firewall, policy)).await?;
        let bytes = bytes_to_ask(&policy);
        let job = move |limits: &AnalysisLimits<'_>| {
            policy.ask(|policy, subject| {
                let parts = partition(policy, &given.packets, given.at, limits);
                Reply::written(&partition_view(&parts, subject))
            })
        };
        ctx.app.analyses.run(&ctx, bytes, time_left(&ctx), job).await?
    }
}

/// How long a request can still wait for a result.
pub(super) fn time_left(ctx: &Context) -> Duration {
    ctx.deadline.saturating_duration_since(Moment::now()).saturating_sub(MARGIN)
}

/// Reads the policy that a request is about.
async fn labeled(ctx: &Context, given: GivenPolicy) -> Result<LabeledPolicy, Problem> {
    Ok(match given {
        GivenPolicy::Stored(firewall, policy) => {
            LabeledPolicy::Stored(Box::new(ctx.compiled_policy(firewall, policy).await?))
        }
        GivenPolicy::Rules(rules, default_action) => {
            LabeledPolicy::Read { source: String::new(), rules, default_action }
        }
    })
}

/// Roughly the memory of an analysis of a policy.
fn bytes_to_ask(policy: &LabeledPolicy) -> u64 {
    bytes_of(policy.rule_count(), policy.entry_count())
}

/// The answer with the findings that are asked for; none if the policy has changed.
async fn answer(
    ctx: &Context,
    inspected: InspectedPolicy,
    kept: Arc<KeptAnalysis>,
    asked: &Arc<FindingQuery>,
) -> Result<Option<Reply<Analysed, AnalysisPageView>>, Problem> {
    let count = asked.at_most(kept.analysis.findings.len());
    let bytes = u64::try_from(count).unwrap_or(u64::MAX).saturating_mul(FINDING_BYTES);
    ctx.borrow_memory(Use::Answer, bytes).await?;
    let format = asked.format();
    let (policy, filter) = (Arc::clone(&inspected.policy), asked.filter(kept.analysis.at));
    let kind = if filter.is_some() { ReadKind::Snapshot } else { ReadKind::Single };
    let shown = ctx
        .read_in(kind, |uow, caller| {
            Box::pin(async move { acceptance::shown(uow, caller, &policy, filter.as_ref()).await })
        })
        .await?;
    let Some(Shown { accepted, rules }) = shown else { return Ok(None) };
    let (asked, accepted) = (Arc::clone(asked), Acceptances::at(accepted, ctx.caller.now));
    let write = move || asked.write(&inspected, &kept.analysis, kept.until, &accepted, rules);
    // To name rules takes a list of all of them.
    let text = if count > FEW {
        ctx.run_in_turn(write).await?
    } else {
        tokio::task::spawn_blocking(write).await.map_err(Problem::internal)?
    };
    let text = text.map_err(Problem::internal)?;
    Ok(Some(match format {
        FindingsFormat::Page => Reply::json(text),
        FindingsFormat::Csv => Reply::written_lines(LineFormat::Csv, text),
        FindingsFormat::Sarif => Reply::document(SARIF, text),
    }))
}

/// The format of the findings that the client prefers.
struct AcceptedFindings(FindingsFormat);

impl<'a> FromRequest<'a> for AcceptedFindings {
    /// Selects the available format that the client prefers. If the client accepts none of them, the
    /// format is JSON.
    async fn from_request(request: &'a Request, body: &mut RequestBody) -> poem::Result<Self> {
        let best = preferred(request, body, |name| match name {
            "application/json" | "application/*" | "*/*" => Some(FindingsFormat::Page),
            "text/csv" | "text/*" => Some(FindingsFormat::Csv),
            SARIF => Some(FindingsFormat::Sarif),
            _ => None,
        });
        Ok(Self(best.await?.unwrap_or(FindingsFormat::Page)))
    }
}

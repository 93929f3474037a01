//! Accepted findings.

use fireflow_domain::analysis::{Finding, FindingId, FindingKinds};
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::text::excerpt;
use fireflow_domain::usecase::acceptance;
use fireflow_formats::analysis::{AcceptanceListView, AcceptanceView, new_acceptance};
use fireflow_service::analyses::Progress;
use fireflow_service::budget::Shortage;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::analyses::time_left;
use super::{Tag, policy_ids};
use crate::app::Context;
use crate::auth::{As, Editor, Viewer};
use crate::dto::acceptance::AcceptanceBody;
use crate::dto::body::Body;
use crate::operation::Operation;
use crate::params::QueryString;
use crate::path_id::RawId;
use crate::problem::{Code, Problem};
use crate::reply::{Answered, Deleted, Reply};

/// The operations on accepted findings.
#[derive(Debug)]
pub struct Acceptances;

#[OpenApi(tag = "Tag::Analysis")]
impl Acceptances {
    /// The rows of these operations.
    pub const OPERATIONS: &[Operation] = &[Self::LIST, Self::ACCEPT, Self::WITHDRAW];

    const LIST: Operation = Operation::reads("getAcceptances");

    /// List the accepted findings of a policy
    ///
    /// Has all acceptances, at most 10,000: also those that have lapsed, and those whose finding has
    /// changed or is gone.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/acceptances/",
        method = "get",
        operation_id = "getAcceptances"
    )]
    async fn list(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
    ) -> Result<Reply<Answered, AcceptanceListView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        query.open(&Self::LIST).finish()?;
        let all = ctx
            .read(|uow, caller| Box::pin(acceptance::all(uow, caller, firewall, policy)))
            .await?;
        let count = all.len();
        let write = move || {
            let items = all.iter().map(AcceptanceView::from).collect();
            Reply::new(&AcceptanceListView { items })
        };
        ctx.run_for_rows(count, write).await?
    }

    const ACCEPT: Operation = Operation::changes("acceptFinding").may_answer(&[409]);

    /// Accept a finding
    ///
    /// The finding stays, and lists of findings leave it out, until its proof changes, it becomes
    /// more severe, or the time `until` comes. `id` of a finding is its `finding_id`. Replaces a former
    /// acceptance of the finding. Findings that are only searched on request cannot be accepted.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/findings/:finding_id/acceptance/",
        method = "put",
        operation_id = "acceptFinding"
    )]
    async fn accept(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        finding_id: Path<String>,
        query: QueryString,
        body: Body<AcceptanceBody>,
    ) -> Result<Reply<Answered, AcceptanceView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        query.open(&Self::ACCEPT).finish()?;
        let now = ctx.caller.now;
        let given = body.read(move |value, faults| new_acceptance(value, now, faults)).await?;
        let finding = present(&ctx, (firewall, policy), &finding_id).await?;
        if given.proof.is_some_and(|seen| seen != finding.proof) {
            let detail = format!(
                "the proof of the finding has changed: it is now {}; look at the finding again",
                finding.proof
            );
            return Err(Problem::new(Code::StateMoved, detail));
        }
        let spec = given.spec;
        let accepted = ctx
            .write(|uow, caller| {
                Box::pin(async move {
                    acceptance::accept(uow, caller, (firewall, policy), &finding, spec).await
                })
            })
            .await?;
        Reply::new(&AcceptanceView::from(&accepted))
    }

    const WITHDRAW: Operation = Operation::deletes("withdrawAcceptance");

    /// Withdraw the acceptance of a finding
    ///
    /// The finding is reported again, if the policy still has it.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/findings/:finding_id/acceptance/",
        method = "delete",
        operation_id = "withdrawAcceptance"
    )]
    async fn withdraw(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        finding_id: Path<String>,
        query: QueryString,
    ) -> Result<Reply<Deleted, AcceptanceView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        query.open(&Self::WITHDRAW).finish()?;
        let not_accepted = || no_finding(&finding_id, "is accepted");
        let finding = FindingId::parse(&finding_id).ok_or_else(not_accepted)?;
        let withdrawn = ctx
            .write(|uow, caller| {
                Box::pin(async move {
                    acceptance::withdraw(uow, caller, (firewall, policy), finding).await
                })
            })
            .await?;
        if withdrawn { Ok(Reply::deleted()) } else { Err(not_accepted()) }
    }
}

/// A finding of the policy as it is now.
async fn present(
    ctx: &Context,
    (firewall, policy): (FirewallId, PolicyId),
    id: &str,
) -> Result<Finding, Problem> {
    let inspected = ctx.compiled_policy(firewall, policy).await?;
    let (kinds, wait) = (FindingKinds::usual(), time_left(ctx));
    let found = ctx.app.analyses.findings(ctx, &inspected, kinds, None, wait).await?;
    let what = match found {
        Progress::Done(kept) => {
            let mut findings = kept.analysis.findings.iter();
            let wanted = FindingId::parse(id);
            return findings
                .find(|finding| Some(finding.id) == wanted)
                .cloned()
                .ok_or_else(|| no_finding(id, "is among the findings of the policy as it is now"));
        }
        Progress::UnderWay { .. } => "the analysis of the policy is still under way",
        Progress::Moved => "the policy is being changed",
    };
    Err(Shortage { what, retry_after_s: 2 }.into())
}

fn no_finding(id: &str, lacks: &str) -> Problem {
    Problem::new(Code::NotFound, format!("no finding with id={} {lacks}", excerpt(id)))
}

//! The rules of a policy that have findings, for filters.

use std::sync::Arc;
use std::time::Duration;

use fireflow_domain::acceptance::Acceptances;
use fireflow_domain::analysis::{FindingKind, FindingKinds};
use fireflow_domain::filter::RuleFindings;
use fireflow_domain::ids::RuleId;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::acceptance;
use fireflow_domain::usecase::inspect::InspectedPolicy;

use super::kept::INCOMPLETE;
use super::{Analyses, KeptAnalysis, Progress};
use crate::budget::Use;
use crate::error::ServiceError;
use crate::session::Session;

/// The memory of a rule with a finding, in bytes: in a set, in a test of a filter, and as text in a
/// statement.
const BYTES_PER_FINDING: u64 = 128;

impl Analyses {
    /// The rules that have findings of these kinds at an instant, without accepted findings. Waits for
    /// the analysis up to a time.
    ///
    /// # Errors
    /// Returns [`ServiceError::AnalysisPending`] if the analysis is not finished in that time, or has
    /// not decided for all rules whether they have such findings, and [`ServiceError::Shortage`] if
    /// there is no memory or turn for it.
    pub async fn rules_with(
        &self,
        session: &Session,
        inspected: &InspectedPolicy,
        kinds: FindingKinds,
        at: Instant,
        wait: Duration,
    ) -> Result<RuleFindings, ServiceError> {
        let searched = kinds.searched();
        let mut progress = self.findings(session, inspected, searched, None, wait).await?;
        if matches!(&progress, Progress::Done(kept) if !kept.holds_at(at)) {
            progress = self.findings(session, inspected, searched, Some(at), wait).await?;
        }
        let kept = match progress {
            Progress::Done(kept) => kept,
            Progress::UnderWay { retry_after_s } => {
                return Err(pending("the analysis of the policy is under way", retry_after_s));
            }
            Progress::Moved => return Err(pending("the policy is being changed", 1)),
        };
        if !kept.analysis.has_decided(kinds) {
            let words: Vec<&str> = kinds.iter().map(FindingKind::as_str).collect();
            let detail = format!(
                "the analysis of the policy did not decide within its limits for which rules there \
                 are findings of these kinds: {}",
                words.join(", ")
            );
            let retry_after_s = i64::try_from(INCOMPLETE.as_secs()).unwrap_or(i64::MAX);
            return Err(pending(detail, retry_after_s));
        }
        let policy = Arc::clone(&inspected.policy);
        let accepted = session
            .read(|uow, caller| Box::pin(async move { acceptance::of(uow, caller, &policy).await }))
            .await?;
        let count = u64::try_from(kept.analysis.findings.len()).unwrap_or(u64::MAX);
        let bytes = count.saturating_mul(BYTES_PER_FINDING);
        session.borrow_memory(Use::Answer, bytes).await?;
        let accepted = Acceptances::at(accepted, session.caller.now);
        let inspected = inspected.clone();
        let gather = move || found(&kept, &inspected, &accepted);
        tokio::task::spawn_blocking(gather).await.map_err(ServiceError::internal)
    }
}

fn pending(detail: impl Into<String>, retry_after_s: i64) -> ServiceError {
    ServiceError::AnalysisPending { detail: detail.into(), retry_after_s }
}

fn found(kept: &KeptAnalysis, inspected: &InspectedPolicy, accepted: &Acceptances) -> RuleFindings {
    let ids: Vec<RuleId> = inspected.compiled.iter().map(|rule| rule.id()).collect();
    let findings = kept.analysis.findings.iter();
    findings
        .filter(|finding| accepted.of(finding).is_none())
        // A finding about the default action has no rule.
        .filter_map(|finding| Some((finding.kind, *ids.get(finding.rule)?)))
        .collect()
}

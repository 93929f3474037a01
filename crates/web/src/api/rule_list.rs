//! Lists of rules: the request, and the answer in three formats.

use std::time::Duration;

use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::page::Page;
use fireflow_domain::policy::Policy;
use fireflow_domain::rule::Rule;
use fireflow_domain::store::{ReadKind, Turns};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::export::Export;
use fireflow_domain::usecase::policy::{self, LeftOutPolicies};
use fireflow_domain::usecase::rule;
use fireflow_formats::pagination::ListAddress;
use fireflow_formats::query::RuleListQuery;
use fireflow_formats::rule_export::{LineFormat, RuleLines};
use fireflow_formats::views::{RulePage, RuleView, ShowLeftOut};
use fireflow_service::budget::Shortage;
use fireflow_service::inspections::PolicyState;

use super::analyses::{ROUNDS, WAIT_S, time_left};
use crate::app::Context;
use crate::conditions::{EntityTag, Preconditions, Shown};
use crate::export::Begun;
use crate::operation::Operation;
use crate::params::QueryString;
use crate::problem::Problem;
use crate::reply::{AnswerKind, ListedRules, ListedWithTag, Reply};

/// A request for a list of rules.
#[derive(Clone)]
pub(super) struct RuleList {
    format: Option<LineFormat>,
    asked: RuleListQuery,
    /// The state of the policy whose findings the filter has.
    analysed: Option<PolicyState>,
    /// The address of the list.
    address: ListAddress,
    /// The query as sent, and the filter in its canonical form.
    written: String,
}

/// A hash of everything that the bytes of an export depend on in addition to the policy's state,
/// computed without reading the export.
fn shown(format: LineFormat, asked: &str, policy: &Policy, turns: Turns) -> Shown {
    let micros = |instant: Option<Instant>| instant.map_or(i64::MIN, Instant::micros).to_be_bytes();
    Shown::default()
        // Another version may format the same rules differently.
        .with(env!("CARGO_PKG_VERSION"))
        .with(format.content_type())
        .with(asked)
        // Rules show the names of their parents, and the firewall's name is not part of the
        // policy's state.
        .with(policy.firewall.name.as_str())
        .with(micros(turns.start))
        .with(micros(turns.end))
}

impl RuleList {
    /// Reads the request for the list of one policy, or if there is none, for that across all policies.
    pub(super) fn read(
        query: &QueryString,
        operation: &Operation,
        policy: Option<PolicyId>,
        format: Option<LineFormat>,
        now: Instant,
    ) -> Result<Self, Problem> {
        let asked = RuleListQuery::read(query.open(operation), policy, format.is_some(), now)?;
        // Between two such times no rule begins or ends, and yet the list can be another.
        let asked_at = if asked.is_relative() { now.to_string() } else { String::new() };
        Ok(Self {
            format,
            written: format!("{}\n{}\n{asked_at}", query.as_str(), asked.scope),
            asked,
            analysed: None,
            address: query.address(),
        })
    }

    /// Answers the list of one policy.
    pub(super) async fn of_policy(
        mut self,
        ctx: &Context,
        parent: (FirewallId, PolicyId),
        conditions: &Preconditions,
    ) -> Result<Reply<ListedWithTag, RulePage>, Problem> {
        for _ in 0..ROUNDS {
            if let Some(expression) = &mut self.asked.filter.expression
                && let Some(kinds) = expression.filter.finding_kinds()
            {
                let inspected = ctx.compiled_policy(parent.0, parent.1).await?;
                let wait = time_left(ctx).min(Duration::from_secs(WAIT_S));
                let analyses = &ctx.app.analyses;
                let found = analyses.rules_with(ctx, &inspected, kinds, expression.at, wait);
                expression.filter.give(&found.await?);
                self.analysed = Some(PolicyState::of(&inspected.policy));
            }
            if let Some(reply) = self.clone().of_state(ctx, parent, conditions).await? {
                return Ok(reply);
            }
        }
        Err(Shortage::CHANGING.into())
    }

    /// The same; none if the findings are those of another state of the policy.
    async fn of_state(
        self,
        ctx: &Context,
        parent: (FirewallId, PolicyId),
        conditions: &Preconditions,
    ) -> Result<Option<Reply<ListedWithTag, RulePage>>, Problem> {
        let analysed = self.analysed;
        let has_changed =
            |policy: &Policy| analysed.is_some_and(|state| state != PolicyState::of(policy));
        if let Some(format) = self.format
            && self.asked.is_whole
        {
            let mut begun = Begun::new(ctx, conditions.list_mode(true)).await?;
            let (policy, export) =
                Export::of_policy(&mut *begun.uow, &ctx.caller, parent, self.asked.filter).await?;
            if has_changed(&policy) {
                return Ok(None);
            }
            conditions.check(&policy)?;
            let turns = Export::last_turns(&mut *begun.uow, &ctx.caller, &policy).await?;
            let shown = shown(format, &self.written, &policy, turns);
            // An accepted finding changes the list, but not the state of the policy.
            let tag = analysed.is_none().then(|| EntityTag::new(&policy, shown));
            if let Some(tag) = tag.as_ref().filter(|tag| conditions.knows(tag)) {
                return Ok(Some(Reply::unchanged(tag)));
            }
            let before_first = self.asked.has_positions.then_some(0);
            let lines = RuleLines::new(format, self.asked.fields, ctx.caller.now, before_first);
            let body = begun.send(export, lines).await?;
            let reply = Reply::lines(format, body);
            return Ok(Some(match tag {
                Some(tag) => reply.with_tag(&tag),
                None => reply,
            }));
        }
        ctx.borrow_for_rows(self.asked.request.size()).await?;
        let (filter, order) = (self.asked.filter.clone(), self.asked.order.clone());
        let (request, has_positions) = (self.asked.request.clone(), self.asked.has_positions);
        let (policy, page, before_first) = ctx
            .read_in(conditions.list_mode(false), |uow, caller| {
                Box::pin(async move {
                    let (policy, mut page) =
                        rule::page(uow, caller, parent, &filter, &order, &request).await?;
                    let before = if has_positions {
                        rule::number(uow, &policy, &mut page).await?
                    } else {
                        None
                    };
                    Ok((policy, page, before))
                })
            })
            .await?;
        if has_changed(&policy) {
            return Ok(None);
        }
        let is_of_deleted = self.asked.filter.deleted;
        let reply = self.answer(ctx, page, before_first, LeftOutPolicies::default()).await?;
        if is_of_deleted {
            // A purge of deleted rules does not change the policy's state, so this list has no tag.
            return Ok(Some(reply));
        }
        reply.unless_known(conditions, &policy).await.map(Some)
    }

    /// Answers the list across all policies.
    pub(super) async fn of_all(
        self,
        ctx: &Context,
    ) -> Result<Reply<ListedRules, RulePage>, Problem> {
        if let Some(format) = self.format
            && self.asked.is_whole
        {
            let export = Export::of_all(&ctx.caller, self.asked.filter)?;
            let lines = RuleLines::new(format, self.asked.fields, ctx.caller.now, None);
            let mut begun = Begun::new(ctx, ReadKind::Export).await?;
            let left_out = policy::left_out(&mut *begun.uow, &ctx.caller).await?;
            let body = begun.send(export, lines).await?;
            return Ok(Reply::lines(format, body).with_left_out(&left_out));
        }
        ctx.borrow_for_rows(self.asked.request.size()).await?;
        let (filter, order) = (self.asked.filter.clone(), self.asked.order.clone());
        let request = self.asked.request.clone();
        let (page, left_out) = ctx
            .read_list(|uow, caller| {
                Box::pin(async move {
                    let page = rule::page_of_all(uow, caller, &filter, &order, &request).await?;
                    Ok((page, policy::left_out(uow, caller).await?))
                })
            })
            .await?;
        self.answer(ctx, page, None, left_out).await
    }

    /// Answers one page, in the requested format.
    async fn answer<K: AnswerKind + 'static>(
        self,
        ctx: &Context,
        page: Page<Rule>,
        before_first: Option<u64>,
        left_out: LeftOutPolicies,
    ) -> Result<Reply<K, RulePage>, Problem> {
        let now = ctx.caller.now;
        // Sixteen entries take about as long to write as a rule.
        let weight = |rule: &Rule| 1 + rule.spec.entry_count() / 16;
        let rows = page.items.iter().map(weight).sum::<u64>().try_into().unwrap_or(usize::MAX);
        let write = move || {
            let reply = match self.format {
                Some(format) => {
                    let mut lines = RuleLines::new(format, self.asked.fields, now, before_first);
                    let text = lines.write(&page.items).map_err(Problem::internal)?;
                    Reply::written_lines(format, text)
                }
                None => {
                    let numbering = RuleView::numbering(now, before_first);
                    let items = page.items.iter().map(numbering).collect();
                    let view = RulePage {
                        partial: self
                            .asked
                            .partial(&page)
                            .map(|part| part.as_str().to_owned())
                            .collect(),
                        left_out: left_out.view(),
                        ..RulePage::with(&page, &self.asked.scope, items)
                    };
                    Reply::selected(&view, self.asked.fields.as_ref())?
                }
            };
            Ok(reply
                .with_pagination(&page, &self.address, &self.asked.scope)
                .with_left_out(&left_out))
        };
        ctx.run_for_rows(rows, write).await?
    }
}

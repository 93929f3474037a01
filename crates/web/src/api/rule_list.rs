//! Lists of rules: the request, and the answer in three formats.

use fireflow_domain::filter::Level;
use fireflow_domain::ids::{FirewallId, PolicyId};
use fireflow_domain::net::{AddressRange, PortRange};
use fireflow_domain::page::{Page, PageRequest, SortKey, Start};
use fireflow_domain::policy::Policy;
use fireflow_domain::read_only::RULE;
use fireflow_domain::rule::Rule;
use fireflow_domain::store::{ReadKind, RuleField, RuleFilter, Turns};
use fireflow_domain::text::Name;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::export::Export;
use fireflow_domain::usecase::policy::{self, LeftOutPolicies};
use fireflow_domain::usecase::rule::{self, EVALUATION};
use fireflow_formats::pagination::ListAddress;
use fireflow_formats::query::Query;
use fireflow_formats::rule::action;
use fireflow_formats::selected::Fields;

use crate::app::Context;
use crate::conditions::{EntityTag, Preconditions, Shown};
use crate::export::Begun;
use crate::operation::Operation;
use crate::params::QueryString;
use crate::problem::Problem;
use crate::reply::{AnswerKind, ListedRules, ListedWithTag, Reply};
use fireflow_formats::rule_export::{LineFormat, RuleLines};
use fireflow_formats::views::{Part, RulePage, RuleView, ShowLeftOut};

/// A request for a list of rules.
pub(super) struct RuleList {
    format: Option<LineFormat>,
    /// Whether the whole list is requested, as lines.
    is_whole: bool,
    request: PageRequest,
    fields: Option<Fields>,
    order: Vec<SortKey<RuleField>>,
    /// Whether it is one policy's list, in order of evaluation and without a filter.
    has_positions: bool,
    filter: RuleFilter,
    /// The scope of its cursors.
    scope: String,
    /// The address of the list.
    address: ListAddress,
    /// The query as sent, and the filter in its canonical form.
    asked: String,
}

fn filter(query: &mut Query, as_lines: bool, now: Instant) -> RuleFilter {
    RuleFilter {
        deleted: query.deleted(as_lines),
        name: query.parse("name", Name::parse),
        action: query.parse("action", action),
        priority: query
            .integer("priority", i32::MIN.into(), i32::MAX.into())
            .and_then(|priority| i32::try_from(priority).ok()),
        source_address: query.parse("source_address", AddressRange::parse),
        source_port: query.parse("source_port", PortRange::parse),
        destination_address: query.parse("destination_address", AddressRange::parse),
        destination_port: query.parse("destination_port", PortRange::parse),
        port: query.parse("port", PortRange::parse),
        expression: query.expression(Level::Rule, now),
    }
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
    /// Reads the request for the list of one policy.
    pub(super) fn read(
        query: &QueryString,
        operation: &Operation,
        policy: PolicyId,
        format: Option<LineFormat>,
        now: Instant,
    ) -> Result<Self, Problem> {
        let (list, query) = Self::open(query, operation, Some(policy), format, now);
        query.finish_list()?;
        Ok(list)
    }

    /// Reads the request for the list across all policies.
    pub(super) fn read_of_all(
        query: &QueryString,
        operation: &Operation,
        format: Option<LineFormat>,
        now: Instant,
    ) -> Result<Self, Problem> {
        use RuleField::{CreatedAt, ExpiresAt, Id, Name as ByName, UpdatedAt};
        let (list, mut query) = Self::open(query, operation, None, format, now);
        if (RuleFilter { deleted: false, ..list.filter.clone() }) == RuleFilter::default() {
            let allowed = [Id, ByName, CreatedAt, UpdatedAt, ExpiresAt];
            query.only_ordered_by(&list.order, &allowed, RuleField::as_str);
        }
        query.finish_list()?;
        Ok(list)
    }

    fn open(
        query: &QueryString,
        operation: &Operation,
        policy: Option<PolicyId>,
        format: Option<LineFormat>,
        now: Instant,
    ) -> (Self, Query) {
        let (written, address) = (query.as_str(), query.address());
        let mut query = query.open(operation);
        let mut filter = filter(&mut query, format.is_some(), now);
        let mut order = query.order(RuleField::parse, RuleField::WORDS);
        let is_evaluation = order.is_empty() && policy.is_some();
        if is_evaluation {
            order = EVALUATION.to_vec();
        }
        let list = match policy {
            Some(policy) => format!("rules of {policy}"),
            None => "rules".to_owned(),
        };
        let (scope, request) = query.part(&list, &mut filter.expression, &order, now);
        let moves = filter.expression.as_ref().is_some_and(|it| it.filter.is_relative());
        // Between two such times no rule begins or ends, and yet the list can be another.
        let asked_at = if moves { now.to_string() } else { String::new() };
        let list = Self {
            format,
            is_whole: query.is_whole(format.is_some()),
            request,
            fields: query.fields(RuleView::MEMBERS),
            has_positions: is_evaluation && filter == RuleFilter::default(),
            order,
            filter,
            asked: format!("{written}\n{scope}\n{asked_at}"),
            scope,
            address,
        };
        (list, query)
    }

    /// Answers the list of one policy.
    pub(super) async fn of_policy(
        self,
        ctx: &Context,
        parent: (FirewallId, PolicyId),
        conditions: &Preconditions,
    ) -> Result<Reply<ListedWithTag, RulePage>, Problem> {
        if let Some(format) = self.format
            && self.is_whole
        {
            let mut begun = Begun::new(ctx, conditions.list_mode(true)).await?;
            let (policy, export) =
                Export::of_policy(&mut *begun.uow, &ctx.caller, parent, self.filter).await?;
            conditions.check(&policy)?;
            let turns = Export::last_turns(&mut *begun.uow, &ctx.caller, &policy).await?;
            let shown = shown(format, &self.asked, &policy, turns);
            let tag = EntityTag::new(&policy, shown);
            if conditions.knows(&tag) {
                return Ok(Reply::unchanged(&tag));
            }
            let before_first = self.has_positions.then_some(0);
            let lines = RuleLines::new(format, self.fields, ctx.caller.now, before_first);
            let body = begun.send(export, lines).await?;
            return Ok(Reply::lines(format, body).with_tag(&tag));
        }
        ctx.borrow_for_rows(self.request.size()).await?;
        let (filter, order) = (self.filter.clone(), self.order.clone());
        let (request, has_positions) = (self.request.clone(), self.has_positions);
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
        let is_of_deleted = self.filter.deleted;
        let reply = self.answer(ctx, page, before_first, LeftOutPolicies::default()).await?;
        if is_of_deleted {
            // A purge of deleted rules does not change the policy's state, so this list has no tag.
            return Ok(reply);
        }
        reply.unless_known(conditions, &policy).await
    }

    /// Answers the list across all policies.
    pub(super) async fn of_all(
        self,
        ctx: &Context,
    ) -> Result<Reply<ListedRules, RulePage>, Problem> {
        if let Some(format) = self.format
            && self.is_whole
        {
            let export = Export::of_all(&ctx.caller, self.filter)?;
            let lines = RuleLines::new(format, self.fields, ctx.caller.now, None);
            let mut begun = Begun::new(ctx, ReadKind::Export).await?;
            let left_out = policy::left_out(&mut *begun.uow, &ctx.caller).await?;
            let body = begun.send(export, lines).await?;
            return Ok(Reply::lines(format, body).with_left_out(&left_out));
        }
        ctx.borrow_for_rows(self.request.size()).await?;
        let (filter, order) = (self.filter.clone(), self.order.clone());
        let request = self.request.clone();
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

    /// The parts of the whole list that a page omits. The last of several pages has no next page,
    /// but it omits the pages before it.
    fn partial(&self, page: &Page<Rule>) -> impl Iterator<Item = Part> {
        let is_first = match page.request.start() {
            Start::Page(number) => *number <= 1,
            Start::First => true,
            Start::Behind(_) => false,
        };
        let has_all_members = self.fields.as_ref().is_none_or(|fields| {
            // Read-only members are not lost if they are missing in a PUT.
            let is_read_only = |name: &str| RULE.iter().any(|member| member.name() == name);
            RuleView::MEMBERS.iter().all(|name| fields.has(name) || is_read_only(name))
        });
        let leaves_out = [
            (Part::Page, !is_first || page.next.is_some()),
            (Part::Filter, self.filter != RuleFilter::default()),
            (Part::Fields, !has_all_members),
        ];
        leaves_out.into_iter().filter_map(|(part, leaves)| leaves.then_some(part))
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
                    let mut lines = RuleLines::new(format, self.fields, now, before_first);
                    let text = lines.write(&page.items).map_err(Problem::internal)?;
                    Reply::written_lines(format, text)
                }
                None => {
                    let numbering = RuleView::numbering(now, before_first);
                    let items = page.items.iter().map(numbering).collect();
                    let view = RulePage {
                        partial: self.partial(&page).map(|part| part.as_str().to_owned()).collect(),
                        left_out: left_out.view(),
                        ..RulePage::with(&page, &self.scope, items)
                    };
                    Reply::selected(&view, self.fields.as_ref())?
                }
            };
            Ok(reply.with_pagination(&page, &self.address, &self.scope).with_left_out(&left_out))
        };
        ctx.run_for_rows(rows, write).await?
    }
}

//! The audit trail.

use fireflow_domain::actor::Role;
use fireflow_domain::audit::AuditAction;
use fireflow_domain::error::Resource;
use fireflow_domain::filter::Level;
use fireflow_domain::ids::{FirewallId, MAX_ID, PolicyId};
use fireflow_domain::store::{AuditField, AuditFilter};
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::audit;
use fireflow_formats::query::Query;
use poem_openapi::OpenApi;

use super::Tag;
use crate::auth::{As, Editor};
use crate::operation::{Access, Operation};
use crate::params::{self, Param, ParamKind, QueryString, param};
use crate::problem::Problem;
use crate::reply::{Listed, Reply};
use fireflow_formats::views::{AuditEventPage, AuditEventView};

/// The operations on the audit trail.
#[derive(Debug)]
pub struct Audit;

/// The parameters of the list, except those of pages.
const LISTED: &[Param] = &[
    params::fields(AuditEventView::MEMBERS),
    params::order_by(AuditField::WORDS),
    param("subject", ParamKind::Text(255), "Returns events of this subject."),
    param("action", ParamKind::Words(&AuditAction::WORDS), "Returns events with this action."),
    param(
        "resource",
        ParamKind::Words(&Resource::WORDS),
        "Returns events of this kind of resource.",
    ),
    param("resource_id", params::ID, "Returns events of the resource with this id."),
    param(
        "firewall_id",
        params::ID,
        "Returns events of this firewall, its policies and their rules.",
    ),
    param(
        "filtering_policy_id",
        params::ID,
        "Returns events of this filtering policy and its rules.",
    ),
    param("request_id", ParamKind::Text(64), "Returns events of the request with this id."),
    param("since", ParamKind::Instant, "Returns events at this instant or later."),
    param("until", ParamKind::Instant, "Returns events before this instant."),
    params::filter("action = delete AND resource IN (firewall, filtering_policy)"),
];

fn filter(query: &mut Query, now: Instant) -> AuditFilter {
    let actions = AuditAction::ALL.map(|action| (action.as_str(), action));
    let kinds = Resource::ALL.map(|kind| (kind.as_str(), kind));
    AuditFilter {
        subject: query.text("subject", 255),
        action: query.word("action", &actions),
        resource: query.word("resource", &kinds),
        resource_id: query.integer("resource_id", 1, MAX_ID),
        firewall_id: query.integer("firewall_id", 1, MAX_ID).and_then(FirewallId::new),
        policy_id: query.integer("filtering_policy_id", 1, MAX_ID).and_then(PolicyId::new),
        request_id: query.text("request_id", 64),
        since: query.instant("since"),
        until: query.instant("until"),
        expression: query.expression(Level::Event, now),
    }
}

#[OpenApi(tag = "Tag::Audit")]
impl Audit {
    /// The rows of these operations.
    pub const OPERATIONS: &[Operation] = &[Self::LIST];

    const LIST: Operation = Operation::reads("getAuditEvents")
        .open_to(Access::With(Role::Editor))
        .lists(LISTED, params::CURSOR);

    /// List audit events
    ///
    /// Every change, oldest first by default: who changed what, when, from where and why, and the
    /// resource before and after the change, as GET returned it. The trail is append-only. A token
    /// with tenants sees the events that were recorded under these tenants, even if the resource
    /// has since been purged or moved to another tenant. Without a filter, `order_by` accepts only
    /// `id` and `at`.
    #[oai(path = "/audit-events/", method = "get", operation_id = "getAuditEvents")]
    async fn list(
        &self,
        ctx: As<Editor>,
        query: QueryString,
    ) -> Result<Reply<Listed, AuditEventPage>, Problem> {
        let address = query.address();
        let mut query = query.open(&Self::LIST);
        let fields = query.fields(AuditEventView::MEMBERS);
        let order = query.order(AuditField::parse, AuditField::WORDS);
        let mut filter = filter(&mut query, ctx.caller.now);
        if filter == AuditFilter::default() {
            query.only_ordered_by(&order, &[AuditField::Id, AuditField::At], AuditField::as_str);
        }
        let (scope, request) =
            query.part("audit events", &mut filter.expression, &order, ctx.caller.now);
        query.finish_list()?;
        let size = usize::try_from(request.size()).unwrap_or(usize::MAX);
        ctx.borrow_for_rows(request.size()).await?;
        let page = ctx
            .read_list(|uow, caller| {
                Box::pin(async move { audit::page(uow, caller, &filter, &order, &request).await })
            })
            .await?;
        let write = move || {
            let items = page.items.iter().map(AuditEventView::from).collect();
            let view = AuditEventPage::with(&page, &scope, items);
            Ok(Reply::selected(&view, fields.as_ref())?.with_pagination(&page, &address, &scope))
        };
        ctx.run_for_rows(size, write).await?
    }
}

//! Filtering policies.

use fireflow_domain::filter::Level;
use fireflow_domain::page::Page;
use fireflow_domain::policy::Policy;
use fireflow_domain::store::{PolicyField, PolicyFilter, ReadKind};
use fireflow_domain::text::Name;
use fireflow_domain::time::Instant;
use fireflow_domain::usecase::expand::EmbeddedRules;
use fireflow_domain::usecase::policy;
use fireflow_formats::pagination::ListAddress;
use fireflow_formats::policy::{new_policy, policy_patch};
use fireflow_formats::query::Query;
use fireflow_formats::restoration::restoration;
use fireflow_formats::rule::action;
use fireflow_formats::selected::Fields;
use poem::http::header;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::{Tag, firewall_id, policy_ids};
use crate::app::Context;
use crate::auth::{As, Editor, Viewer};
use crate::conditions::Conditions;
use crate::dto::body::{Body, OptionalBody};
use crate::dto::policy::{PolicyBody, PolicyPatchBody};
use crate::dto::restore::RestoreBody;
use crate::operation::Operation;
use crate::params::{self, Param, ParamKind, QueryString, param};
use crate::path_id::RawId;
use crate::problem::Problem;
use crate::reply::{Changed, Created, Deleted, Fetched, Listed, Reply, Restored};
use fireflow_formats::views::{self, PolicyPage, PolicyView, ShowLeftOut, policy_views};

/// The operations on filtering policies.
#[derive(Debug)]
pub struct Policies;

const EXPAND: Param = params::expand(&["rules"]);

/// The parameters of both lists, except those of pages.
const LISTED: &[Param] = &[
    params::fields(PolicyView::MEMBERS),
    EXPAND,
    params::order_by(PolicyField::WORDS),
    params::NAME,
    param("default_action", ParamKind::Action, "Returns policies with this default action."),
    params::filter("rule_count > 0 AND firewall.name = \"edge-*\""),
];

fn filter(query: &mut Query, now: Instant) -> PolicyFilter {
    PolicyFilter {
        deleted: query.deleted(false),
        name: query.parse("name", Name::parse),
        default_action: query.parse("default_action", action),
        expression: query.expression(Level::Policy, now),
    }
}

/// Answers a page of policies, with their rules if these are embedded.
async fn answer(
    ctx: &Context,
    (page, rules): (Page<Policy>, EmbeddedRules),
    (address, scope): (ListAddress, String),
    fields: Option<Fields>,
    expands: bool,
) -> Result<Reply<Listed, PolicyPage>, Problem> {
    let (now, size) = (ctx.caller.now, page.request.size());
    let write = move || {
        let left_out = rules.left_out();
        let items = policy_views(&page.items, rules, now);
        let view =
            PolicyPage { left_out: left_out.view(), ..PolicyPage::with(&page, &scope, items) };
        let reply = Reply::selected(&view, fields.as_ref())?;
        Ok(reply.with_pagination(&page, &address, &scope).with_left_out(&left_out))
    };
    ctx.run_for_rows(views::weight(size, expands), write).await?
}

#[OpenApi(tag = "Tag::FilteringPolicies")]
impl Policies {
    /// The rows of these operations.
    pub const OPERATIONS: &[Operation] = &[
        Self::LIST,
        Self::LIST_ALL,
        Self::CREATE,
        Self::GET,
        Self::UPDATE,
        Self::DELETE,
        Self::RESTORE,
    ];

    const LIST: Operation =
        Operation::reads("getFilteringPolicies").lists(LISTED, params::CURSOR_OR_DELETED);

    /// List a firewall's policies
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/",
        method = "get",
        operation_id = "getFilteringPolicies"
    )]
    async fn list(
        &self,
        ctx: As<Viewer>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        query: QueryString,
    ) -> Result<Reply<Listed, PolicyPage>, Problem> {
        let firewall = firewall_id(&firewall_id_raw)?;
        let address = query.address();
        let mut query = query.open(&Self::LIST);
        let fields = query.fields(PolicyView::MEMBERS);
        let expands = query.expand_policies();
        let order = query.order(PolicyField::parse, PolicyField::WORDS);
        let mut filter = filter(&mut query, ctx.caller.now);
        let list = format!("policies of {firewall}");
        let (scope, request) = query.part(&list, &mut filter.expression, &order, ctx.caller.now);
        query.finish_list()?;
        ctx.borrow_for_rows(views::rows(request.size(), expands)).await?;
        let found = ctx
            .read_list(|uow, caller| {
                Box::pin(async move {
                    let page =
                        policy::page(uow, caller, firewall, &filter, &order, &request).await?;
                    let rules = EmbeddedRules::read(uow, &page.items, expands).await?;
                    Ok((page, rules))
                })
            })
            .await?;
        answer(&ctx, found, (address, scope), fields, expands).await
    }

    const LIST_ALL: Operation =
        Operation::reads("getAllFilteringPolicies").lists(LISTED, params::CURSOR_OR_DELETED);

    /// List the policies of all firewalls
    ///
    /// By id by default; without a filter, `order_by` accepts only `id`, `name`, `created_at` and
    /// `updated_at`.
    #[oai(path = "/filtering-policies/", method = "get", operation_id = "getAllFilteringPolicies")]
    async fn list_all(
        &self,
        ctx: As<Viewer>,
        query: QueryString,
    ) -> Result<Reply<Listed, PolicyPage>, Problem> {
        use PolicyField::{CreatedAt, Id, Name as ByName, UpdatedAt};
        let address = query.address();
        let mut query = query.open(&Self::LIST_ALL);
        let fields = query.fields(PolicyView::MEMBERS);
        let expands = query.expand_policies();
        let order = query.order(PolicyField::parse, PolicyField::WORDS);
        let mut filter = filter(&mut query, ctx.caller.now);
        let (scope, request) =
            query.part("policies", &mut filter.expression, &order, ctx.caller.now);
        if (PolicyFilter { deleted: false, ..filter.clone() }) == PolicyFilter::default() {
            query.only_ordered_by(&order, &[Id, ByName, CreatedAt, UpdatedAt], PolicyField::as_str);
        }
        query.finish_list()?;
        ctx.borrow_for_rows(views::rows(request.size(), expands)).await?;
        let found = ctx
            .read_list(|uow, caller| {
                Box::pin(async move {
                    let page = policy::page_of_all(uow, caller, &filter, &order, &request).await?;
                    let rules = EmbeddedRules::read(uow, &page.items, expands).await?;
                    Ok((page, rules))
                })
            })
            .await?;
        answer(&ctx, found, (address, scope), fields, expands).await
    }

    const CREATE: Operation =
        Operation::creates("createFilteringPolicy").takes(&[params::READ_ONLY]);

    /// Create a filtering policy
    ///
    /// Names are unique among the live policies of a firewall.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/",
        method = "post",
        operation_id = "createFilteringPolicy"
    )]
    async fn create(
        &self,
        ctx: As<Editor>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        query: QueryString,
        body: Body<PolicyBody>,
    ) -> Result<Reply<Created, PolicyView>, Problem> {
        let firewall = firewall_id(&firewall_id_raw)?;
        let mut query = query.open(&Self::CREATE);
        let read_only = query.read_only();
        query.finish()?;
        let spec = body.read(move |value, faults| new_policy(value, read_only, faults)).await?;
        ctx.write_idempotent(
            |uow, caller| {
                Box::pin(async move { policy::create(uow, caller, firewall, spec).await })
            },
            |made| {
                let path =
                    ctx.path(format_args!("/firewalls/{firewall}/filtering-policies/{}/", made.id));
                Ok(Reply::new(&PolicyView::from(&made))?
                    .tagged(&made)
                    .with_header(header::LOCATION, &path))
            },
        )
        .await
    }

    const GET: Operation = Operation::reads("getFilteringPolicyById")
        .conditional()
        .takes(&[params::fields(PolicyView::MEMBERS), EXPAND]);

    /// Get a filtering policy
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/",
        method = "get",
        operation_id = "getFilteringPolicyById"
    )]
    async fn get(
        &self,
        ctx: As<Viewer>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
    ) -> Result<Reply<Fetched, PolicyView>, Problem> {
        let (firewall, id) = policy_ids(&firewall_id_raw, &filtering_policy_id)?;
        let conditions = conditions.read()?;
        let mut query = query.open(&Self::GET);
        let fields = query.fields(PolicyView::MEMBERS);
        let expands = query.expand_policies();
        query.finish()?;
        if expands {
            ctx.borrow_for_rows(views::rows(1, true)).await?;
        }
        let mode = if expands { ReadKind::Snapshot } else { ReadKind::Single };
        let (found, rules) = ctx
            .read_in(mode, |uow, caller| {
                Box::pin(async move {
                    let found = if expands {
                        policy::get_known(uow, caller, firewall, id).await?
                    } else {
                        policy::get(uow, caller, firewall, id).await?
                    };
                    let rules =
                        EmbeddedRules::read(uow, std::slice::from_ref(&found), expands).await?;
                    Ok((found, rules))
                })
            })
            .await?;
        let now = ctx.caller.now;
        let write = move || {
            let view = policy_views(std::slice::from_ref(&found), rules, now).into_iter().next();
            let view = view.ok_or_else(|| Problem::internal("no view of the policy"))?;
            Ok((Reply::selected(&view, fields.as_ref())?, found))
        };
        let written: Result<_, Problem> =
            ctx.run_for_rows(views::weight(1, expands), write).await?;
        let (reply, found) = written?;
        // The state of a policy includes its rules, so a tag covers them.
        reply.unless_known(&conditions, &found).await
    }

    const UPDATE: Operation =
        Operation::changes("updateFilteringPolicyById").conditional().may_answer(&[409]);

    /// Change a filtering policy
    ///
    /// JSON Merge Patch (RFC 7396): omitted members keep their values.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/",
        method = "patch",
        operation_id = "updateFilteringPolicyById"
    )]
    async fn update(
        &self,
        ctx: As<Editor>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
        body: Body<PolicyPatchBody>,
    ) -> Result<Reply<Changed, PolicyView>, Problem> {
        let (firewall, id) = policy_ids(&firewall_id_raw, &filtering_policy_id)?;
        let expected = conditions.read()?.expected();
        query.open(&Self::UPDATE).finish()?;
        let patch =
            body.read(move |value, faults| policy_patch(value, firewall, id, faults)).await?;
        let changed = ctx
            .write(|uow, caller| {
                Box::pin(async move {
                    policy::update(uow, caller, firewall, id, &expected, patch).await
                })
            })
            .await?;
        Ok(Reply::new(&PolicyView::from(&changed))?.tagged(&changed))
    }

    const DELETE: Operation = Operation::deletes("deleteFilteringPolicyById").conditional();

    /// Delete a filtering policy
    ///
    /// Its rules are hidden with it; its name becomes free.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/",
        method = "delete",
        operation_id = "deleteFilteringPolicyById"
    )]
    async fn delete(
        &self,
        ctx: As<Editor>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
    ) -> Result<Reply<Deleted, PolicyView>, Problem> {
        let (firewall, id) = policy_ids(&firewall_id_raw, &filtering_policy_id)?;
        let expected = conditions.read()?.expected();
        query.open(&Self::DELETE).finish()?;
        ctx.write(|uow, caller| {
            Box::pin(async move { policy::delete(uow, caller, firewall, id, &expected).await })
        })
        .await?;
        Ok(Reply::deleted())
    }

    const RESTORE: Operation = Operation::changes("restoreFilteringPolicyById").may_answer(&[409]);

    /// Restore a filtering policy
    ///
    /// Restores a deleted policy of a live firewall as it was, with the rules that were hidden with
    /// it. Send `name` to restore it under another name if the old one has been taken in the
    /// meantime. A policy that is not deleted stays as it is.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/restore/",
        method = "post",
        operation_id = "restoreFilteringPolicyById"
    )]
    async fn restore(
        &self,
        ctx: As<Editor>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        body: OptionalBody<RestoreBody>,
    ) -> Result<Reply<Restored, PolicyView>, Problem> {
        let (firewall, id) = policy_ids(&firewall_id_raw, &filtering_policy_id)?;
        query.open(&Self::RESTORE).finish()?;
        let name = body.read(restoration).await?;
        ctx.write_idempotent(
            |uow, caller| {
                Box::pin(async move { policy::restore(uow, caller, firewall, id, name).await })
            },
            |restored| Ok(Reply::new(&PolicyView::from(&restored))?.tagged(&restored)),
        )
        .await
    }
}

//! Firewalls.

use fireflow_domain::filter::Level;
use fireflow_domain::store::{FirewallField, FirewallFilter};
use fireflow_domain::text::Name;
use fireflow_domain::usecase::expand::EmbeddedPolicies;
use fireflow_domain::usecase::firewall;
use fireflow_formats::firewall::{firewall_patch, new_firewall};
use fireflow_formats::restoration::restoration;
use poem::http::header;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::{Tag, firewall_id};
use crate::auth::{As, Editor, Viewer};
use crate::conditions::Conditions;
use crate::dto::body::{Body, OptionalBody};
use crate::dto::firewall::{FirewallBody, FirewallPatchBody};
use crate::dto::restore::RestoreBody;
use crate::operation::Operation;
use crate::params::{self, Param, QueryString};
use crate::path_id::RawId;
use crate::problem::Problem;
use crate::reply::{Changed, Created, Deleted, Fetched, Listed, Reply, Restored};
use fireflow_formats::views::{self, FirewallPage, FirewallView, ShowLeftOut, firewall_views};

const EXPAND: Param = params::expand(&["filtering_policies", "filtering_policies.rules"]);

/// The parameters of the list, except those of pages.
const LISTED: &[Param] = &[
    params::order_by(FirewallField::WORDS),
    params::NAME,
    params::fields(FirewallView::MEMBERS),
    EXPAND,
    params::filter("name = \"edge-*\" AND labels.site = fra"),
];

/// The operations on firewalls.
#[derive(Debug)]
pub struct Firewalls;

#[OpenApi(tag = "Tag::Firewalls")]
impl Firewalls {
    /// The rows of these operations.
    pub const OPERATIONS: &[Operation] =
        &[Self::LIST, Self::CREATE, Self::GET, Self::UPDATE, Self::DELETE, Self::RESTORE];

    const LIST: Operation =
        Operation::reads("getFirewalls").lists(LISTED, params::CURSOR_OR_DELETED);

    /// List firewalls
    ///
    /// The live firewalls of the token's tenants, by id by default.
    #[oai(path = "/firewalls/", method = "get", operation_id = "getFirewalls")]
    async fn list(
        &self,
        ctx: As<Viewer>,
        query: QueryString,
    ) -> Result<Reply<Listed, FirewallPage>, Problem> {
        let address = query.address();
        let mut query = query.open(&Self::LIST);
        let fields = query.fields(FirewallView::MEMBERS);
        let expand = query.expand_firewalls();
        let order = query.order(FirewallField::parse, FirewallField::WORDS);
        let mut filter = FirewallFilter {
            deleted: query.deleted(false),
            name: query.parse("name", Name::parse),
            expression: query.expression(Level::Firewall, ctx.caller.now),
        };
        let (scope, request) =
            query.part("firewalls", &mut filter.expression, &order, ctx.caller.now);
        query.finish_list()?;
        let request_size = request.size();
        ctx.borrow_for_rows(views::rows(request_size, expand.is_some())).await?;
        let (page, policies) = ctx
            .read_list(|uow, caller| {
                Box::pin(async move {
                    let page = firewall::page(uow, caller, &filter, &order, &request).await?;
                    let policies = EmbeddedPolicies::read(uow, &page.items, expand).await?;
                    Ok((page, policies))
                })
            })
            .await?;
        let now = ctx.caller.now;
        let write = move || {
            let left_out = policies.left_out();
            let view = FirewallPage {
                left_out: left_out.view(),
                ..FirewallPage::with(&page, &scope, firewall_views(&page.items, policies, now))
            };
            let reply =
                Reply::selected(&view, fields.as_ref())?.with_pagination(&page, &address, &scope);
            Ok(reply.with_left_out(&left_out))
        };
        ctx.run_for_rows(views::weight(request_size, expand.is_some()), write).await?
    }

    const CREATE: Operation = Operation::creates("createFirewall").takes(&[params::READ_ONLY]);

    /// Create a firewall
    ///
    /// Names are unique among the live firewalls of a tenant. Without `tenant`, the firewall
    /// belongs to the token's only tenant.
    #[oai(path = "/firewalls/", method = "post", operation_id = "createFirewall")]
    async fn create(
        &self,
        ctx: As<Editor>,
        query: QueryString,
        body: Body<FirewallBody>,
    ) -> Result<Reply<Created, FirewallView>, Problem> {
        let mut query = query.open(&Self::CREATE);
        let read_only = query.read_only();
        query.finish()?;
        let new = body.read(move |value, faults| new_firewall(value, read_only, faults)).await?;
        ctx.write_idempotent(
            |uow, caller| Box::pin(async move { firewall::create(uow, caller, new).await }),
            |made| {
                let path = ctx.path(format_args!("/firewalls/{}/", made.id));
                Ok(Reply::new(&FirewallView::from(&made))?
                    .tagged(&made)
                    .with_header(header::LOCATION, &path))
            },
        )
        .await
    }

    const GET: Operation = Operation::reads("getFirewallById")
        .conditional()
        .takes(&[params::fields(FirewallView::MEMBERS), EXPAND]);

    /// Get a firewall
    #[oai(path = "/firewalls/:firewall_id/", method = "get", operation_id = "getFirewallById")]
    async fn get(
        &self,
        ctx: As<Viewer>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
    ) -> Result<Reply<Fetched, FirewallView>, Problem> {
        let id = firewall_id(&firewall_id_raw)?;
        let conditions = conditions.read()?;
        let mut query = query.open(&Self::GET);
        let fields = query.fields(FirewallView::MEMBERS);
        let expand = query.expand_firewalls();
        query.finish()?;
        if expand.is_some() {
            ctx.borrow_for_rows(views::rows(1, true)).await?;
            // The embedded children change without a change of the firewall's tag, so the answer
            // has no tag.
            let (found, policies) = ctx
                .read_snapshot(|uow, caller| {
                    Box::pin(async move {
                        let found = firewall::get(uow, caller, id).await?;
                        conditions.check(&found)?;
                        let found = [found];
                        let policies = EmbeddedPolicies::read(uow, &found, expand).await?;
                        Ok((found, policies))
                    })
                })
                .await?;
            let now = ctx.caller.now;
            let write = move || {
                let left_out = policies.left_out();
                let view = firewall_views(&found, policies, now).into_iter().next();
                let view = view.ok_or_else(|| Problem::internal("no view of the firewall"))?;
                let view = FirewallView { left_out: left_out.view(), ..view };
                Ok(Reply::selected(&view, fields.as_ref())?.with_left_out(&left_out))
            };
            return ctx.run_in_turn(write).await?;
        }
        let found = ctx
            .read(|uow, caller| Box::pin(async move { firewall::get(uow, caller, id).await }))
            .await?;
        let reply = Reply::selected(&FirewallView::from(&found), fields.as_ref())?;
        reply.unless_known(&conditions, &found).await
    }

    const UPDATE: Operation =
        Operation::changes("updateFirewallById").conditional().may_answer(&[409]);

    /// Change a firewall
    ///
    /// JSON Merge Patch (RFC 7396): omitted members keep their values.
    #[oai(path = "/firewalls/:firewall_id/", method = "patch", operation_id = "updateFirewallById")]
    async fn update(
        &self,
        ctx: As<Editor>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
        body: Body<FirewallPatchBody>,
    ) -> Result<Reply<Changed, FirewallView>, Problem> {
        let id = firewall_id(&firewall_id_raw)?;
        let expected = conditions.read()?.expected();
        query.open(&Self::UPDATE).finish()?;
        let patch =
            body.read(move |value, violations| firewall_patch(value, id, violations)).await?;
        let changed = ctx
            .write(|uow, caller| {
                Box::pin(async move { firewall::update(uow, caller, id, &expected, patch).await })
            })
            .await?;
        Ok(Reply::new(&FirewallView::from(&changed))?.tagged(&changed))
    }

    const DELETE: Operation = Operation::deletes("deleteFirewallById").conditional();

    /// Delete a firewall
    ///
    /// Its policies and their rules are hidden with it; its name becomes free.
    #[oai(
        path = "/firewalls/:firewall_id/",
        method = "delete",
        operation_id = "deleteFirewallById"
    )]
    async fn delete(
        &self,
        ctx: As<Editor>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
    ) -> Result<Reply<Deleted, FirewallView>, Problem> {
        let id = firewall_id(&firewall_id_raw)?;
        let expected = conditions.read()?.expected();
        query.open(&Self::DELETE).finish()?;
        ctx.write(|uow, caller| {
            Box::pin(async move { firewall::delete(uow, caller, id, &expected).await })
        })
        .await?;
        Ok(Reply::deleted())
    }

    const RESTORE: Operation = Operation::changes("restoreFirewallById").may_answer(&[409]);

    /// Restore a firewall
    ///
    /// Restores a deleted firewall as it was, with everything that was hidden with it. Send `name`
    /// to restore it under another name if the old one has been taken in the meantime. A firewall
    /// that is not deleted stays as it is.
    #[oai(
        path = "/firewalls/:firewall_id/restore/",
        method = "post",
        operation_id = "restoreFirewallById"
    )]
    async fn restore(
        &self,
        ctx: As<Editor>,
        #[oai(name = "firewall_id")] firewall_id_raw: Path<RawId>,
        query: QueryString,
        body: OptionalBody<RestoreBody>,
    ) -> Result<Reply<Restored, FirewallView>, Problem> {
        let id = firewall_id(&firewall_id_raw)?;
        query.open(&Self::RESTORE).finish()?;
        let name = body.read(restoration).await?;
        ctx.write_idempotent(
            |uow, caller| Box::pin(async move { firewall::restore(uow, caller, id, name).await }),
            |restored| Ok(Reply::new(&FirewallView::from(&restored))?.tagged(&restored)),
        )
        .await
    }
}

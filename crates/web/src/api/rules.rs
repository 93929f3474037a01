//! The rules of a policy.

use fireflow_domain::error::Violations;
use fireflow_domain::rule::Duplicates;
use fireflow_domain::store::RuleField;
use fireflow_domain::usecase::batch;
use fireflow_domain::usecase::rule::{self, NewRule, Placed, RulePath};
use fireflow_domain::usecase::rule_set::{self, ReplaceOptions};
use fireflow_formats::restoration::rule_restoration;
use fireflow_formats::rule::{Identity, SetReading, new_rule, rule_patch};
use fireflow_formats::rule_batch::operations;
use fireflow_formats::rule_order::move_body;
use fireflow_formats::views::{BatchView, MovedView, ReplacedView, RulePage, RuleView};
use poem::http::header;
use poem_openapi::OpenApi;
use poem_openapi::param::Path;

use super::rule_list::RuleList;
use super::{Tag, policy_ids, rule_id};
use crate::auth::{As, Editor, Viewer};
use crate::conditions::{Conditions, EntityTag};
use crate::dto::batch::BatchBody;
use crate::dto::body::{Body, OptionalBody};
use crate::dto::order::MoveBody;
use crate::dto::restore::RuleRestoreBody;
use crate::dto::rule::{RuleBody, RulePatchBody};
use crate::dto::rule_set::RuleSetBody;
use crate::export::Accepted;
use crate::operation::Operation;
use crate::params::{self, Param, ParamKind, QueryString, param};
use crate::path_id::RawId;
use crate::problem::Problem;
use crate::reply::{
    Changed, Created, Deleted, Fetched, ListedRules, ListedWithTag, Reply, Restored,
};

const STORES_EQUIVALENT: &str = "`keep` stores equivalent rules.";

/// The parameters of both lists, except those of pages.
const LISTED: &[Param] = &[
    params::fields(RuleView::MEMBERS),
    param(
        "order_by",
        ParamKind::OrderBy(RuleField::WORDS),
        "The order: fields separated by commas, `-` before a descending one. Default: the order \
         of evaluation. `state` orders as scheduled, active, expired, disabled, at the time of \
         the request.",
    ),
    params::NAME,
    param("action", ParamKind::Action, "Returns rules with this action."),
    param(
        "priority",
        ParamKind::Integer(i32::MIN as i64, i32::MAX as i64),
        "Returns rules with this priority.",
    ),
    param(
        "source_address",
        ParamKind::AddressRange,
        "Returns rules with a source of exactly these addresses.",
    ),
    param("source_port", ParamKind::Ports, "Returns rules with a source of exactly these ports."),
    param(
        "destination_address",
        ParamKind::AddressRange,
        "Returns rules with a destination of exactly these addresses.",
    ),
    param(
        "destination_port",
        ParamKind::Ports,
        "Returns rules with a destination that itself has exactly these ports.",
    ),
    param("port", ParamKind::Ports, "Returns rules with exactly this entry in `ports`."),
    params::filter("traffic:(source = 10.0.0.0/8 AND protocol = tcp AND destination_port = 443)"),
];

/// The parameters of the replacement.
const OF_SET: &[Param] = &[
    params::duplicates(STORES_EQUIVALENT),
    param(
        "max_deletions",
        ParamKind::Integer(0, u32::MAX as i64),
        "The maximum number of rules that may be deleted. By default, at most ten, and at most a \
         tenth of the stored rules (with fewer than ten rules, none).",
    ),
    param(
        "identity",
        ParamKind::Words(&["name"]),
        "`name` finds the stored rules by name or content only, and ignores read-only members. \
         Use it to copy the rules of one policy to another.",
    ),
    param(
        "read_only",
        ParamKind::Words(&["ignore"]),
        "`ignore` ignores read-only members other than `id`, such as `revision` in an older \
         export; by default they must match the stored rules.",
    ),
];

/// The parameters of a creation.
const OF_NEW: &[Param] = &[
    params::READ_ONLY,
    param(
        "before",
        params::ID,
        "Places the rule before the one with this id; `priority` is then not allowed.",
    ),
    param(
        "after",
        params::ID,
        "Places the rule after the one with this id; `priority` is then not allowed.",
    ),
    param(
        "at",
        ParamKind::Words(&["first", "last"]),
        "Places the rule before or after all others; `priority` is then not allowed.",
    ),
    params::duplicates("`keep` stores the rule even if an equivalent rule exists."),
];

/// The operations on rules.
#[derive(Debug)]
pub struct Rules;

#[OpenApi(tag = "Tag::FirewallRules")]
impl Rules {
    /// The rows of these operations.
    pub const OPERATIONS: &[Operation] = &[
        Self::LIST,
        Self::LIST_ALL,
        Self::CREATE,
        Self::REPLACE,
        Self::MOVE,
        Self::BATCH,
        Self::GET,
        Self::UPDATE,
        Self::DELETE,
        Self::RESTORE,
    ];

    const LIST: Operation =
        Operation::reads("getRules").conditional().lists(LISTED, params::CURSOR_OR_DELETED);

    /// List a policy's rules
    ///
    /// In order of evaluation (priority, then id) by default. The plain filters compare exactly
    /// with the values that a single entry contains. With several filters, a rule must satisfy all
    /// of them.
    ///
    /// With `Accept: text/csv` or `application/x-ndjson`, the response is the whole list, line by
    /// line, if neither `page` nor `page_size` is given.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/",
        method = "get",
        operation_id = "getRules"
    )]
    async fn list(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
        accepted: Accepted,
    ) -> Result<Reply<ListedWithTag, RulePage>, Problem> {
        let parent = policy_ids(&firewall_id, &filtering_policy_id)?;
        let conditions = conditions.read()?;
        let list = RuleList::read(&query, &Self::LIST, Some(parent.1), accepted.0, ctx.caller.now)?;
        let reply = list.of_policy(&ctx, parent, &conditions).await?;
        Ok(reply.with_header(header::VARY, "Accept"))
    }

    const LIST_ALL: Operation =
        Operation::reads("getAllRules").lists(LISTED, params::CURSOR_OR_DELETED);

    /// List the rules of all policies
    ///
    /// By id by default; without a filter, `order_by` accepts only `id`, `name`, `created_at`,
    /// `updated_at` and `expires_at`. Also as CSV or NDJSON, like the list of one policy.
    #[oai(path = "/rules/", method = "get", operation_id = "getAllRules")]
    async fn list_all(
        &self,
        ctx: As<Viewer>,
        query: QueryString,
        accepted: Accepted,
    ) -> Result<Reply<ListedRules, RulePage>, Problem> {
        let reply = RuleList::read(&query, &Self::LIST_ALL, None, accepted.0, ctx.caller.now)?
            .of_all(&ctx)
            .await?;
        Ok(reply.with_header(header::VARY, "Accept"))
    }

    const CREATE: Operation = Operation::creates("createRule").takes(OF_NEW);

    /// Create a rule
    ///
    /// Entries of `sources` and of `destinations` are alternatives. Equivalent rules in one policy
    /// are refused (the same action, protocols, ICMP fields, sources, destinations and ports),
    /// unless `duplicates=keep`.
    ///
    /// Instead of a `priority`, you can give a position: `before` or `after` another rule, or `at`
    /// either end. To make room, other rules may get new priorities, but not new revisions.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/",
        method = "post",
        operation_id = "createRule"
    )]
    async fn create(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        body: Body<RuleBody>,
    ) -> Result<Reply<Created, RuleView>, Problem> {
        let (firewall, policy) = policy_ids(&firewall_id, &filtering_policy_id)?;
        let mut query = query.open(&Self::CREATE);
        let duplicates =
            query.word("duplicates", &[("keep", Duplicates::Keep)]).unwrap_or_default();
        let placement = query.placement();
        let read_only = query.read_only();
        query.finish()?;
        let is_placed = placement.is_some();
        let spec = body
            .read(move |value, faults| new_rule(value, "", is_placed, read_only, faults))
            .await?;
        let new = NewRule { spec, placement, duplicates };
        ctx.write_idempotent(
            |uow, caller| {
                Box::pin(async move { rule::create(uow, caller, firewall, policy, new).await })
            },
            |Placed { rule: made, position }| {
                let path = ctx.path(format_args!(
                    "/firewalls/{firewall}/filtering-policies/{policy}/rules/{}/",
                    made.id
                ));
                // The tag covers the rule as a read shows it, without its position.
                let view = RuleView::at(&made, ctx.caller.now);
                let reply = Reply::new(&view)?.tagged(&made);
                let reply = match position {
                    None => reply,
                    Some(_) => reply.with_body(&RuleView { position, ..view })?,
                };
                Ok(reply.with_header(header::LOCATION, &path))
            },
        )
        .await
    }

    const REPLACE: Operation = Operation::changes("replaceRules")
        .conditional()
        .with_rule_set()
        .may_answer(&[428])
        .takes(OF_SET);

    /// Replace all rules
    ///
    /// Send the whole set: an array, the list as returned, or a whole export as NDJSON or CSV. Only
    /// differences are written. Each given rule is matched to a stored one by `id`, otherwise by
    /// `name`, otherwise by content. Matched rules keep their ids, the other given rules are
    /// created, and stored rules without a match are deleted. If no rule has a `priority`, the
    /// order of the set applies.
    ///
    /// A partial list is refused (`partial`), because the rules that it omits would be deleted. A
    /// rule that already exists must include all members that decide what it matches and when,
    /// unless the stored values are the defaults. Deleting more than ten rules, or more than a
    /// tenth of them, requires `max_deletions`; otherwise the response is 428 with the number of
    /// deletions.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/",
        method = "put",
        operation_id = "replaceRules"
    )]
    async fn replace(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
        body: RuleSetBody,
    ) -> Result<Reply<Changed, ReplacedView>, Problem> {
        let parent = policy_ids(&firewall_id, &filtering_policy_id)?;
        let expected = conditions.read()?.expected();
        let mut query = query.open(&Self::REPLACE);
        let duplicates =
            query.word("duplicates", &[("keep", Duplicates::Keep)]).unwrap_or_default();
        let max_deletions = query.integer("max_deletions", 0, i64::from(u32::MAX));
        let max_deletions = max_deletions.map(i64::unsigned_abs);
        let identity = query.word("identity", &[("name", Identity::Name)]).unwrap_or_default();
        let max_rules = ctx.backend.storage.policy_limits().rules;
        let max_rules = usize::try_from(max_rules).unwrap_or(usize::MAX);
        let reading = SetReading { identity, read_only: query.read_only(), max_rules };
        query.finish()?;
        let options = ReplaceOptions { duplicates, max_deletions };
        let given = body.read(parent.1, reading).await?;
        let replaced = ctx
            .write_many(move |uow, caller| {
                Box::pin(async move {
                    rule_set::replace(uow, caller, parent, &expected, given, options).await
                })
            })
            .await?;
        let tag = EntityTag::of_change(&replaced.policy);
        Ok(Reply::new(&ReplacedView::from(&replaced))?.with_tag(&tag))
    }

    const MOVE: Operation = Operation::changes("moveRules").conditional();

    /// Move rules
    ///
    /// Moves rules as a block, in their current order, before or after another rule or to either
    /// end. To make room, other rules may get new priorities, but not new revisions.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/move/",
        method = "post",
        operation_id = "moveRules"
    )]
    async fn move_rules(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
        body: Body<MoveBody>,
    ) -> Result<Reply<Changed, MovedView>, Problem> {
        let parent = policy_ids(&firewall_id, &filtering_policy_id)?;
        let expected = conditions.read()?.expected();
        query.open(&Self::MOVE).finish()?;
        let max_rules = ctx.backend.storage.policy_limits().rules;
        let read = move |value, faults: &mut Violations| move_body(value, max_rules, faults);
        let (rules, placement) = body.read(read).await?;
        ctx.write_idempotent(
            |uow, caller| {
                Box::pin(async move {
                    rule::move_rules(uow, caller, parent, &expected, &rules, placement).await
                })
            },
            |moved| {
                let tag = EntityTag::of_change(&moved.policy);
                Ok(Reply::new(&MovedView::from(&moved))?.with_tag(&tag))
            },
        )
        .await
    }

    const BATCH: Operation = Operation::changes("batchRules")
        .conditional()
        .with_rule_set()
        .takes(&[params::duplicates(STORES_EQUIVALENT), params::READ_ONLY]);

    /// Change many rules
    ///
    /// Applies up to 10,000 creations, changes, deletions, moves and restorations in order, all or
    /// none. Only the final state must be free of conflicting names and equivalent rules.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/batch/",
        method = "post",
        operation_id = "batchRules"
    )]
    async fn batch(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
        body: Body<BatchBody>,
    ) -> Result<Reply<Changed, BatchView>, Problem> {
        let parent = policy_ids(&firewall_id, &filtering_policy_id)?;
        let expected = conditions.read()?.expected();
        let mut query = query.open(&Self::BATCH);
        let duplicates =
            query.word("duplicates", &[("keep", Duplicates::Keep)]).unwrap_or_default();
        let read_only = query.read_only();
        query.finish()?;
        let operations =
            body.decode(move |bytes, meter| operations(bytes, parent.1, read_only, meter)).await?;
        let now = ctx.caller.now;
        ctx.write_many_idempotent(
            move |uow, caller| {
                Box::pin(async move {
                    batch::apply(uow, caller, parent, &expected, operations, duplicates).await
                })
            },
            move |batch| {
                let tag = EntityTag::of_change(&batch.policy);
                Ok(Reply::new(&BatchView::at(&batch, now))?.with_tag(&tag))
            },
        )
        .await
    }

    const GET: Operation =
        Operation::reads("getRuleById").conditional().takes(&[params::fields(RuleView::MEMBERS)]);

    /// Get a rule
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/:rule_id/",
        method = "get",
        operation_id = "getRuleById"
    )]
    async fn get(
        &self,
        ctx: As<Viewer>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        #[oai(name = "rule_id")] rule_id_raw: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
    ) -> Result<Reply<Fetched, RuleView>, Problem> {
        let path = rule_path(&firewall_id, &filtering_policy_id, &rule_id_raw)?;
        let conditions = conditions.read()?;
        let mut query = query.open(&Self::GET);
        let fields = query.fields(RuleView::MEMBERS);
        query.finish()?;
        let found = ctx
            .read(|uow, caller| Box::pin(async move { rule::get(uow, caller, path).await }))
            .await?;
        let reply = Reply::selected(&RuleView::at(&found, ctx.caller.now), fields.as_ref())?;
        reply.unless_known(&conditions, &found).await
    }

    const UPDATE: Operation = Operation::changes("updateRuleById").conditional().may_answer(&[409]);

    /// Change a rule
    ///
    /// JSON Merge Patch (RFC 7396): omitted members keep their values, arrays are replaced.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/:rule_id/",
        method = "patch",
        operation_id = "updateRuleById"
    )]
    #[expect(clippy::too_many_arguments, reason = "each is a part of the request")]
    async fn update(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        #[oai(name = "rule_id")] rule_id_raw: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
        body: Body<RulePatchBody>,
    ) -> Result<Reply<Changed, RuleView>, Problem> {
        let path = rule_path(&firewall_id, &filtering_policy_id, &rule_id_raw)?;
        let expected = conditions.read()?.expected();
        query.open(&Self::UPDATE).finish()?;
        let patch = body
            .read(move |value, faults| rule_patch(value, "", path.policy, path.rule, faults))
            .await?;
        let changed = ctx
            .write(|uow, caller| {
                Box::pin(async move { rule::update(uow, caller, path, &expected, patch).await })
            })
            .await?;
        Ok(Reply::new(&RuleView::at(&changed, ctx.caller.now))?.tagged(&changed))
    }

    const DELETE: Operation = Operation::deletes("deleteRuleById").conditional();

    /// Delete a rule
    ///
    /// The rule no longer matches any packet; its name becomes free.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/:rule_id/",
        method = "delete",
        operation_id = "deleteRuleById"
    )]
    async fn delete(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        #[oai(name = "rule_id")] rule_id_raw: Path<RawId>,
        query: QueryString,
        conditions: Conditions,
    ) -> Result<Reply<Deleted, RuleView>, Problem> {
        let path = rule_path(&firewall_id, &filtering_policy_id, &rule_id_raw)?;
        let expected = conditions.read()?.expected();
        query.open(&Self::DELETE).finish()?;
        ctx.write(|uow, caller| {
            Box::pin(async move { rule::delete(uow, caller, path, &expected).await })
        })
        .await?;
        Ok(Reply::deleted())
    }

    const RESTORE: Operation =
        Operation::changes("restoreRuleById").may_answer(&[409]).takes(&[params::duplicates(
            "`keep` restores the rule even if an equivalent rule exists.",
        )]);

    /// Restore a rule
    ///
    /// Restores a deleted rule of a live policy as it was, with its old priority. Send `name` to
    /// restore it under another name if the old one has been taken in the meantime, and
    /// `duplicates=keep` if an equivalent rule exists. A rule that is not deleted stays as it is.
    #[oai(
        path = "/firewalls/:firewall_id/filtering-policies/:filtering_policy_id/rules/:rule_id/restore/",
        method = "post",
        operation_id = "restoreRuleById"
    )]
    async fn restore(
        &self,
        ctx: As<Editor>,
        firewall_id: Path<RawId>,
        filtering_policy_id: Path<RawId>,
        #[oai(name = "rule_id")] rule_id_raw: Path<RawId>,
        query: QueryString,
        body: OptionalBody<RuleRestoreBody>,
    ) -> Result<Reply<Restored, RuleView>, Problem> {
        let path = rule_path(&firewall_id, &filtering_policy_id, &rule_id_raw)?;
        let mut query = query.open(&Self::RESTORE);
        let duplicates = query.word("duplicates", &[("keep", Duplicates::Keep)]);
        query.finish()?;
        let mut how = body.read(rule_restoration).await?;
        how.duplicates = duplicates.unwrap_or(how.duplicates);
        ctx.write_idempotent(
            |uow, caller| Box::pin(async move { rule::restore(uow, caller, path, how).await }),
            |restored| Ok(Reply::new(&RuleView::at(&restored, ctx.caller.now))?.tagged(&restored)),
        )
        .await
    }
}

fn rule_path(firewall: &RawId, policy: &RawId, rule: &RawId) -> Result<RulePath, Problem> {
    let (firewall, policy) = policy_ids(firewall, policy)?;
    Ok(RulePath { firewall, policy, rule: rule_id(rule)? })
}

//! `policy`, and policies with what they show of their firewall.

use fireflow_domain::actor::Visibility;
use fireflow_domain::features::Features;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::ExprTrait;
use sea_orm::{FromQueryResult, JoinType, QuerySelect, SelectModel, Selector};

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "policy")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) firewall_id: i64,
    pub(crate) name: String,
    pub(crate) name_folded: String,
    pub(crate) description: String,
    pub(crate) description_folded: String,
    pub(crate) labels: String,
    pub(crate) default_action: String,
    pub(crate) rule_count: i64,
    pub(crate) entry_count: i64,
    pub(crate) revision: i64,
    pub(crate) header_revision: i64,
    pub(crate) purged_revision: i64,
    pub(crate) states: String,
    pub(crate) created_at: i64,
    pub(crate) created_by: String,
    pub(crate) updated_at: i64,
    pub(crate) updated_by: String,
    pub(crate) deleted_at: Option<i64>,
    pub(crate) deleted_by: Option<String>,
    /// The head of its audit chain: how many events, and the last one's hash.
    pub(crate) audit_sequence: i64,
    pub(crate) audit_hash: Option<Vec<u8>>,
    /// The bits of what its rules use.
    pub(crate) features: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {
    #[sea_orm(
        belongs_to = "super::firewall::Entity",
        from = "Column::FirewallId",
        to = "super::firewall::Column::Id"
    )]
    Firewall,
}

impl ActiveModelBehavior for ActiveModel {}

/// The live policies that a caller may see.
pub(crate) fn live(who: &Visibility) -> Select<Entity> {
    Entity::find()
        .join(JoinType::InnerJoin, Relation::Firewall.def())
        .filter(super::visible(who))
        .filter(Column::DeletedAt.is_null())
}

/// The policies that were deleted, of the live firewalls that a caller may see.
pub(crate) fn deleted(who: &Visibility) -> Select<Entity> {
    Entity::find()
        .join(JoinType::InnerJoin, Relation::Firewall.def())
        .filter(super::visible(who))
        .filter(Column::DeletedAt.is_not_null())
        .filter(Column::DeletedAt.ne(super::BEING_PURGED))
}

/// What holds of a policy that uses nothing but these features.
pub(crate) fn uses_only(known: Features) -> Expr {
    // The bits as they are; a set of all of them is -1.
    let unknown = !known.bits().cast_signed();
    Column::Features.into_expr().bit_and(Expr::val(unknown)).eq(Expr::val(0_i64))
}

/// The live policies that a caller may see and that use more than these features.
pub(crate) fn newer(who: &Visibility, known: Features) -> Select<Entity> {
    // As the index of policies with features has it.
    live(who).filter(Expr::cust("policy.features <> 0")).filter(uses_only(known).not())
}

/// A policy with what it shows of its firewall.
#[derive(Debug, FromQueryResult)]
pub(crate) struct WithParent {
    #[sea_orm(nested)]
    pub(crate) policy: Model,
    pub(crate) firewall_name: String,
    pub(crate) firewall_header_revision: i64,
    pub(crate) firewall_tenant: String,
}

/// Reads the parent's columns along: still one statement.
pub(crate) fn with_parent(select: Select<Entity>) -> Selector<SelectModel<WithParent>> {
    parent_columns(select).into_model()
}

/// The same as a query.
pub(crate) fn parent_columns(select: Select<Entity>) -> Select<Entity> {
    use super::firewall::Column as Firewall;
    select
        .column_as(Firewall::Name, "firewall_name")
        .column_as(Firewall::HeaderRevision, "firewall_header_revision")
        .column_as(Firewall::Tenant, "firewall_tenant")
}

/// Those that were deleted before an instant, in microseconds: for the purge.
pub(crate) fn old(before: i64) -> Select<Entity> {
    Entity::find().filter(Column::DeletedAt.is_not_null()).filter(Column::DeletedAt.lt(before))
}

/// Policies by id, live or not: for the purge.
pub(crate) fn among(ids: &[i64]) -> Select<Entity> {
    Entity::find().filter(Column::Id.is_in(ids.iter().copied()))
}

/// The policies of firewalls, live or not: for the purge.
pub(crate) fn of_firewalls(firewalls: &[i64]) -> Select<Entity> {
    Entity::find().filter(Column::FirewallId.is_in(firewalls.iter().copied()))
}

//! `policy`, and policies with the shown columns of their firewall.

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
    /// The head of its audit chain: the number of events, and the last event's hash.
    pub(crate) audit_sequence: i64,
    pub(crate) audit_hash: Option<Vec<u8>>,
    /// The bits of the features that its rules use.
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

/// The deleted policies of the live firewalls that a caller may see.
pub(crate) fn deleted(who: &Visibility) -> Select<Entity> {
    Entity::find()
        .join(JoinType::InnerJoin, Relation::Firewall.def())
        .filter(super::visible(who))
        .filter(Column::DeletedAt.is_not_null())
        .filter(Column::DeletedAt.ne(super::BEING_PURGED))
}

/// The condition that a policy uses no other features than these.
pub(crate) fn uses_only(known: Features) -> Expr {
    // The bits as an integer: a set of all features is -1.
    let unknown = !known.bits().cast_signed();
    Column::Features.into_expr().bit_and(Expr::val(unknown)).eq(Expr::val(0_i64))
}

/// The live policies that a caller may see and that use more than these features.
pub(crate) fn newer(who: &Visibility, known: Features) -> Select<Entity> {
    // This condition matches the index of policies with features.
    live(who).filter(Expr::cust("policy.features <> 0")).filter(uses_only(known).not())
}

/// A policy with the shown columns of its firewall.
#[derive(Debug, FromQueryResult)]
pub(crate) struct WithParent {
    #[sea_orm(nested)]
    pub(crate) policy: Model,
    pub(crate) firewall_name: String,
    pub(crate) firewall_header_revision: i64,
    pub(crate) firewall_tenant: String,
}

/// Also reads the parent's columns, in the same statement.
pub(crate) fn with_parent(select: Select<Entity>) -> Selector<SelectModel<WithParent>> {
    parent_columns(select).into_model()
}

/// The same as an unexecuted query.
pub(crate) fn parent_columns(select: Select<Entity>) -> Select<Entity> {
    use super::firewall::Column as Firewall;
    select
        .column_as(Firewall::Name, "firewall_name")
        .column_as(Firewall::HeaderRevision, "firewall_header_revision")
        .column_as(Firewall::Tenant, "firewall_tenant")
}

/// The policies that were deleted before an instant, in microseconds: for the purge.
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

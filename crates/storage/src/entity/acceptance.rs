//! `acceptance`: accepted findings, by policy and finding.

use sea_orm::QueryFilter;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "acceptance")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) policy_id: i64,
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) finding: String,
    pub(crate) proof: String,
    pub(crate) severity: String,
    pub(crate) reason: String,
    pub(crate) until: Option<i64>,
    pub(crate) accepted_at: i64,
    pub(crate) accepted_by: String,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Those of a policy.
pub(crate) fn of_policy(policy: i64) -> Select<Entity> {
    Entity::find().filter(Column::PolicyId.eq(policy))
}

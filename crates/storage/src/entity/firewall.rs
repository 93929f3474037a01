//! `firewall`.

use fireflow_domain::actor::Visibility;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "firewall")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) name_folded: String,
    pub(crate) tenant: String,
    pub(crate) description: String,
    pub(crate) description_folded: String,
    pub(crate) labels: String,
    pub(crate) policy_count: i64,
    pub(crate) revision: i64,
    pub(crate) header_revision: i64,
    pub(crate) created_at: i64,
    pub(crate) created_by: String,
    pub(crate) updated_at: i64,
    pub(crate) updated_by: String,
    pub(crate) deleted_at: Option<i64>,
    pub(crate) deleted_by: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The live firewalls that a caller may see.
pub(crate) fn live(who: &Visibility) -> Select<Entity> {
    Entity::find().filter(super::visible(who))
}

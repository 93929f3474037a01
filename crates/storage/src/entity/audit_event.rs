//! `audit_event`: append-only, which triggers hold on both databases.

use fireflow_domain::actor::Visibility;
use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit_event")]
pub(crate) struct Model {
    #[sea_orm(primary_key)]
    pub(crate) id: i64,
    pub(crate) at: i64,
    pub(crate) subject: String,
    pub(crate) request_id: String,
    pub(crate) client_address: String,
    pub(crate) reason: String,
    pub(crate) deed: String,
    pub(crate) resource: String,
    pub(crate) resource_id: i64,
    pub(crate) firewall_id: i64,
    pub(crate) state_before: Option<String>,
    pub(crate) state_after: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The events that concern firewalls of the caller's tenants, live or not.
pub(crate) fn of_visible(who: &Visibility) -> Select<Entity> {
    match who {
        Visibility::All => Entity::find(),
        Visibility::Tenants(_) => {
            let firewalls = super::firewall::ids_of_tenants(who);
            Entity::find().filter(Column::FirewallId.in_subquery(firewalls))
        }
    }
}

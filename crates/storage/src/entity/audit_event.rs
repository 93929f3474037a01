//! `audit_event`: append-only, which triggers enforce on both databases. Each event is chained to
//! its predecessor.

use fireflow_domain::actor::Visibility;
use sea_orm::Condition;
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
    // Renaming the column would lock out the version that still serves during a rolling deployment.
    #[sea_orm(column_name = "deed")]
    pub(crate) action: String,
    pub(crate) resource: String,
    pub(crate) resource_id: i64,
    pub(crate) firewall_id: i64,
    pub(crate) state_before: Option<String>,
    pub(crate) state_after: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) former_tenant: Option<String>,
    pub(crate) policy_id: Option<i64>,
    pub(crate) sequence: Option<i64>,
    pub(crate) predecessor: Option<Vec<u8>>,
    pub(crate) hash: Option<Vec<u8>>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The events of a policy's chain, for any caller: they only prove which state a policy descends from.
pub(crate) fn of_policy(policy: i64) -> Select<Entity> {
    Entity::find().filter(Column::PolicyId.eq(policy))
}

/// The events that were written under the caller's tenants, whatever has become of their firewalls
/// since. Moving a firewall to another tenant is an event of both tenants.
pub(crate) fn of_visible(who: &Visibility) -> Select<Entity> {
    match who {
        Visibility::All => Entity::find(),
        Visibility::Tenants(tenants) => {
            let words = || tenants.iter().map(|tenant| tenant.as_str());
            let either = Condition::any()
                .add(Column::Tenant.is_in(words()))
                .add(Column::FormerTenant.is_in(words()));
            Entity::find().filter(either)
        }
    }
}

//! The tables as SeaORM sees them, and the only entry points to their live rows.
//!
//! A row is live if neither it nor any of its parents is deleted. It is visible if the firewall's
//! tenant is one of the caller's. `live(visibility)` of each module checks both, so that no query
//! can forget one; `Entity::find()` appears nowhere else. `deleted(visibility)` finds the rows that
//! are deleted themselves while their parents are live: those that can be restored.

pub(crate) mod acceptance;
pub(crate) mod answer;
pub(crate) mod audit_event;
// Written and read by dedicated statements: the entity exists to be compared with the schema.
#[cfg(feature = "testing")]
pub(crate) mod audit_head;
pub(crate) mod firewall;
pub(crate) mod label;
pub(crate) mod meta;
pub(crate) mod policy;
pub(crate) mod rule;
pub(crate) mod rule_address;
pub(crate) mod rule_port;
#[cfg(feature = "testing")]
pub(crate) mod tables;

use fireflow_domain::actor::Visibility;
use sea_orm::{ColumnTrait, Condition};

/// The `deleted_at` of a row that is being purged: some of its children are gone already, so it can
/// no longer be restored.
pub(crate) const BEING_PURGED: i64 = 0;

/// The condition that the caller may see a firewall and that it is not deleted.
fn visible(who: &Visibility) -> Condition {
    of_tenants(who).add(firewall::Column::DeletedAt.is_null())
}

/// The condition that a firewall belongs to the caller's tenants, live or not.
fn of_tenants(who: &Visibility) -> Condition {
    match who {
        Visibility::All => Condition::all(),
        Visibility::Tenants(tenants) => {
            let words = tenants.iter().map(|tenant| tenant.as_str());
            Condition::all().add(firewall::Column::Tenant.is_in(words))
        }
    }
}

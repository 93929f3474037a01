//! The tables as SeaORM sees them, and the only doors to their live rows.
//!
//! A row is live when it and all its parents are not deleted, and visible when the firewall's
//! tenant is one of the caller's. `live(visibility)` of each module says both, so that no query
//! can forget one; `Entity::find()` appears nowhere else. `deleted(visibility)` is the door to those
//! that are deleted themselves while their parents are live: what can be restored.

pub(crate) mod answer;
pub(crate) mod audit_event;
// Written and read by statements of its own: the entity is there to be compared with the schema.
#[cfg(feature = "testing")]
pub(crate) mod audit_head;
pub(crate) mod firewall;
pub(crate) mod label;
pub(crate) mod meta;
pub(crate) mod policy;
pub(crate) mod rule;
pub(crate) mod rule_address;
pub(crate) mod rule_port;

use fireflow_domain::actor::Visibility;
use sea_orm::{ColumnTrait, Condition};

/// The `deleted_at` of what is being purged: some of what was below it has gone already, so that it
/// cannot be restored any more.
pub(crate) const BEING_PURGED: i64 = 0;

/// What holds of a firewall that the caller may see and that is not deleted.
fn visible(who: &Visibility) -> Condition {
    of_tenants(who).add(firewall::Column::DeletedAt.is_null())
}

/// What holds of a firewall of the caller's tenants, live or not.
fn of_tenants(who: &Visibility) -> Condition {
    match who {
        Visibility::All => Condition::all(),
        Visibility::Tenants(tenants) => {
            let words = tenants.iter().map(|tenant| tenant.as_str());
            Condition::all().add(firewall::Column::Tenant.is_in(words))
        }
    }
}

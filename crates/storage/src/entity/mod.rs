//! The tables as SeaORM sees them, and the only doors to their live rows.
//!
//! A row is live when it and all its parents are not deleted, and visible when the firewall's
//! tenant is one of the caller's. `live(visibility)` of each module says both, so that no query
//! can forget one; `Entity::find()` appears nowhere else.

pub(crate) mod audit_event;
pub(crate) mod firewall;
pub(crate) mod label;
pub(crate) mod meta;
pub(crate) mod policy;
pub(crate) mod rule;
pub(crate) mod rule_address;
pub(crate) mod rule_port;

use fireflow_domain::actor::Visibility;
use sea_orm::{ColumnTrait, Condition};

/// What holds of a firewall that the caller may see and that is not deleted.
fn visible(who: &Visibility) -> Condition {
    let live = Condition::all().add(firewall::Column::DeletedAt.is_null());
    match who {
        Visibility::All => live,
        Visibility::Tenants(tenants) => {
            let words = tenants.iter().map(|tenant| tenant.as_str());
            live.add(firewall::Column::Tenant.is_in(words))
        }
    }
}

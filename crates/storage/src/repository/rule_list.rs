//! Which rules a list has.

use fireflow_domain::actor::Visibility;
use fireflow_domain::features::Features;
use fireflow_domain::filter::Expression;
use fireflow_domain::filter::tree::Side;
use fireflow_domain::ids::{FirewallId, PolicyId, RuleId};
use fireflow_domain::store::{RuleFilter, StoreResult};
use sea_orm::{ColumnTrait, QueryFilter, QuerySelect, Select};

use super::rule_index::{with_address, with_entry_port, with_port};
use crate::entity::policy;
use crate::entity::rule::{Column, Entity, deleted, live};
use crate::error::store_error;
use crate::unit_of_work::SeaUnitOfWork;

/// The live rules of a policy, or of all policies; or the deleted ones. Rules of policies that use
/// more than these features are omitted.
pub(super) fn listed(
    who: &Visibility,
    parent: Option<(FirewallId, PolicyId)>,
    of_deleted: bool,
    known: Features,
) -> Select<Entity> {
    let door = if of_deleted { deleted(who) } else { live(who) };
    let door = door.filter(policy::uses_only(known));
    match parent {
        Some((firewall, policy)) => door
            .filter(Column::FirewallId.eq(firewall.get()))
            .filter(Column::PolicyId.eq(policy.get())),
        None => door,
    }
}

/// Those that match the members of a filter, except its expression.
pub(super) fn filtered(mut select: Select<Entity>, filter: &RuleFilter) -> Select<Entity> {
    if let Some(name) = &filter.name {
        select = select.filter(Column::Name.eq(name.as_str()));
    }
    if let Some(action) = filter.action {
        select = select.filter(Column::Action.eq(action.as_str()));
    }
    if let Some(priority) = filter.priority {
        select = select.filter(Column::Priority.eq(priority));
    }
    let sides = [
        (Side::Source, filter.source_address, filter.source_port),
        (Side::Destination, filter.destination_address, filter.destination_port),
    ];
    for (side, address, port) in sides {
        if let Some(address) = address {
            select = select.filter(Column::Id.in_subquery(with_address(side, address)));
        }
        if let Some(port) = port {
            select = select.filter(Column::Id.in_subquery(with_entry_port(side, port)));
        }
    }
    if let Some(port) = filter.port {
        select = select.filter(Column::Id.in_subquery(with_port(port)));
    }
    select
}

impl SeaUnitOfWork {
    /// The live rules of a policy that match an expression, in no order.
    pub(super) async fn matching_rules(
        &self,
        who: &Visibility,
        parent: (FirewallId, PolicyId),
        expression: &Expression,
    ) -> StoreResult<Vec<RuleId>> {
        let select = listed(who, Some(parent), false, self.features);
        let planned = self.planned(select, Some(expression), Column::Id).await?;
        let ids: Vec<i64> = planned
            .listed
            .select_only()
            .column(Column::Id)
            .into_tuple()
            .all(&self.db())
            .await
            .map_err(store_error)?;
        Ok(ids.into_iter().filter_map(RuleId::new).collect())
    }
}

//! Rules as inspections read them: without their texts, or one rule with the state of its policy.

use std::sync::Arc;

use fireflow_domain::actor::Visibility;
use fireflow_domain::engine::compact::{ChangedRule, CompactRule};
use fireflow_domain::ids::{FirewallId, PolicyId, Revision, RuleId};
use fireflow_domain::store::{RuleInState, RuleUpkeep, StoreResult};
use sea_orm::{ColumnTrait, QueryFilter, QueryOrder, QuerySelect};

use crate::entity::policy;
use crate::entity::rule::{
    Column, Criteria, CriteriaOrDeleted, Upkeep, changed_of, criteria, live, live_of, upkeep,
    with_state,
};
use crate::error::store_error;
use crate::mapping;
use crate::query::AtMostOne;
use crate::unit_of_work::SeaUnitOfWork;

impl SeaUnitOfWork {
    /// All live rules of a policy at a revision, in order of evaluation. One statement.
    pub(super) async fn compact_rules(
        &self,
        policy: PolicyId,
        revision: Revision,
    ) -> StoreResult<Vec<Arc<CompactRule>>> {
        let select = live_of(policy.get()).order_by_asc(Column::Priority).order_by_asc(Column::Id);
        let convert = |row: Criteria| mapping::compact_rule(row, revision).map(Arc::new);
        self.converted(criteria(select), convert).await
    }

    /// What analyses need besides, of all live rules of a policy. One statement.
    pub(super) async fn rule_upkeep(&self, policy: PolicyId) -> StoreResult<Vec<RuleUpkeep>> {
        let select = live_of(policy.get()).order_by_asc(Column::Priority).order_by_asc(Column::Id);
        self.converted(upkeep(select), |row: Upkeep| mapping::rule_upkeep(row)).await
    }

    /// The rules that changed between two revisions of a policy, the second of which is the current
    /// one. One statement.
    pub(super) async fn changed_rules(
        &self,
        policy: PolicyId,
        since: Revision,
        now: Revision,
        at_most: usize,
    ) -> StoreResult<Vec<ChangedRule>> {
        let select =
            changed_of(policy.get(), since.0).limit(u64::try_from(at_most).unwrap_or(u64::MAX));
        let select = criteria(select).column(Column::DeletedAt);
        self.converted(select, |row: CriteriaOrDeleted| mapping::changed_rule(row, now)).await
    }

    /// One rule of a policy that the caller can see, and the state of the policy. One statement.
    pub(super) async fn rule_in_state(
        &self,
        who: &Visibility,
        firewall: FirewallId,
        policy: PolicyId,
        id: RuleId,
    ) -> StoreResult<Option<RuleInState>> {
        let select = live(who)
            .filter(Column::FirewallId.eq(firewall.get()))
            .filter(Column::PolicyId.eq(policy.get()))
            .filter(Column::Id.eq(id.get()))
            .filter(policy::uses_only(self.features));
        let row = with_state(select).only(&self.db()).await.map_err(store_error)?;
        Ok(row.map(mapping::rule_in_state).transpose()?)
    }
}

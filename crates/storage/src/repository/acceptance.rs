use async_trait::async_trait;
use fireflow_domain::acceptance::Acceptance;
use fireflow_domain::analysis::FindingId;
use fireflow_domain::ids::PolicyId;
use fireflow_domain::policy::Policy;
use fireflow_domain::store::{AcceptanceReader, AcceptanceWriter, StoreResult};
use sea_orm::sea_query::OnConflict;
use sea_orm::{ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter, QueryOrder};

use super::{all_rows, mapped};
use crate::entity::acceptance::{Column, Entity, of_policy};
use crate::error::store_error;
use crate::mapping;
use crate::query::AtMostOne;
use crate::unit_of_work::SeaUnitOfWork;

#[async_trait]
impl AcceptanceReader for SeaUnitOfWork {
    /// One statement.
    async fn get(
        &mut self,
        policy: PolicyId,
        finding: FindingId,
    ) -> StoreResult<Option<Acceptance>> {
        let select = of_policy(policy.get()).filter(Column::Finding.eq(finding.to_string()));
        let row = select.only(&self.db()).await.map_err(store_error)?;
        Ok(row.map(mapping::acceptance).transpose()?)
    }

    /// One statement.
    async fn all(&mut self, policy: PolicyId) -> StoreResult<Vec<Acceptance>> {
        let select =
            of_policy(policy.get()).order_by_asc(Column::AcceptedAt).order_by_asc(Column::Finding);
        let rows = select.all(&self.db()).await.map_err(store_error)?;
        mapped(rows, mapping::acceptance).await
    }

    /// One statement.
    async fn count(&mut self, policy: PolicyId) -> StoreResult<u64> {
        of_policy(policy.get()).count(&self.db()).await.map_err(store_error)
    }
}

#[async_trait]
impl AcceptanceWriter for SeaUnitOfWork {
    /// Two statements.
    async fn put(&mut self, policy: &Policy, acceptance: &Acceptance) -> StoreResult<()> {
        let mut replace = OnConflict::columns([Column::PolicyId, Column::Finding]);
        replace.update_columns([
            Column::Proof,
            Column::Severity,
            Column::Reason,
            Column::Until,
            Column::AcceptedAt,
            Column::AcceptedBy,
        ]);
        Entity::insert(mapping::acceptance_row(policy.id, acceptance))
            .on_conflict(replace)
            .exec_without_returning(&self.db())
            .await
            .map_err(store_error)?;
        self.write_policy_head(policy.id).await
    }

    /// Two statements.
    async fn remove(&mut self, policy: &Policy, finding: FindingId) -> StoreResult<()> {
        let result = Entity::delete_many()
            .filter(Column::PolicyId.eq(policy.id.get()))
            .filter(Column::Finding.eq(finding.to_string()))
            .exec(&self.db())
            .await
            .map_err(store_error)?;
        all_rows("acceptance", policy.id.get(), 1, result.rows_affected)?;
        self.write_policy_head(policy.id).await
    }
}

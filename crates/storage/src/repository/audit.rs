use async_trait::async_trait;
use fireflow_domain::actor::Visibility;
use fireflow_domain::audit::{AuditEvent, AuditRecord};
use fireflow_domain::audit_chain::Head;
use fireflow_domain::ids::PolicyId;
use fireflow_domain::page::{Page, PageRequest, SortKey};
use fireflow_domain::sort;
use fireflow_domain::store::{AuditField, AuditFilter, AuditReader, AuditWriter, StoreResult};
use sea_orm::{ColumnTrait, QueryFilter, QuerySelect, Select};

use super::mapped;
use crate::entity::audit_event::{Column, Entity, Model, of_policy, of_visible};
use crate::error::store_error;
use crate::query::{AtMostOne, Key, OrderBy};
use crate::unit_of_work::SeaUnitOfWork;
use crate::{mapping, query};

const fn column(field: AuditField) -> Column {
    match field {
        AuditField::Id => Column::Id,
        AuditField::At => Column::At,
        AuditField::Subject => Column::Subject,
        AuditField::RequestId => Column::RequestId,
        AuditField::ClientAddress => Column::ClientAddress,
        AuditField::Reason => Column::Reason,
        AuditField::Action => Column::Action,
        AuditField::Resource => Column::Resource,
        AuditField::ResourceId => Column::ResourceId,
        AuditField::FirewallId => Column::FirewallId,
        AuditField::PolicyId => Column::PolicyId,
        AuditField::Tenant => Column::Tenant,
        AuditField::Sequence => Column::Sequence,
    }
}

fn filtered(mut select: Select<Entity>, filter: &AuditFilter) -> Select<Entity> {
    let texts = [
        (Column::Subject, filter.subject.as_deref()),
        (Column::RequestId, filter.request_id.as_deref()),
        (Column::Action, filter.action.map(|action| action.as_str())),
        (Column::Resource, filter.resource.map(|resource| resource.as_str())),
    ];
    for (column, text) in texts {
        if let Some(text) = text {
            select = select.filter(column.eq(text));
        }
    }
    let numbers = [
        (Column::ResourceId, filter.resource_id),
        (Column::FirewallId, filter.firewall_id.map(|id| id.get())),
        (Column::PolicyId, filter.policy_id.map(|id| id.get())),
    ];
    for (column, number) in numbers {
        if let Some(number) = number {
            select = select.filter(column.eq(number));
        }
    }
    if let Some(since) = filter.since {
        select = select.filter(Column::At.gte(since.micros()));
    }
    if let Some(until) = filter.until {
        select = select.filter(Column::At.lt(until.micros()));
    }
    select
}

#[async_trait]
impl AuditReader for SeaUnitOfWork {
    /// One statement, at most one more for the total, and at most two more to find out how a filter is
    /// best answered.
    async fn page(
        &mut self,
        who: &Visibility,
        filter: &AuditFilter,
        order: &[SortKey<AuditField>],
        request: &PageRequest,
    ) -> StoreResult<Page<AuditRecord>> {
        let select = filtered(of_visible(who), filter);
        let planned = self.planned(select, filter.expression.as_ref(), Column::Id).await?;
        let by = OrderBy::new(order, |field| Key::column(column(field)), Column::Id);
        let (rows, has_more) =
            query::rows(&self.db(), planned.listed, &by, request, |it| it.into_model::<Model>())
                .await
                .map_err(store_error)?;
        let total = match query::implied_total(request, rows.len(), has_more) {
            None => query::total(&self.db(), planned.counted, Column::Id, request.counting)
                .await
                .map_err(store_error)?,
            implied => implied,
        };
        let items: Vec<AuditRecord> = mapped(rows, mapping::audit_record).await?;
        Ok(sort::page(items, has_more, order, request, total))
    }

    /// One statement.
    async fn is_in_chain(&mut self, policy: PolicyId, head: Head) -> StoreResult<bool> {
        let found: Option<i64> = of_policy(policy.get())
            .filter(Column::Sequence.eq(head.sequence))
            .filter(Column::Hash.eq(head.hash.as_bytes().to_vec()))
            .select_only()
            .column(Column::Id)
            .into_tuple()
            .only(&self.db())
            .await
            .map_err(store_error)?;
        Ok(found.is_some())
    }
}

#[async_trait]
impl AuditWriter for SeaUnitOfWork {
    /// One statement.
    async fn append(&mut self, event: &AuditEvent) -> StoreResult<()> {
        self.append_events(std::slice::from_ref(event)).await
    }

    /// One statement for each 1,000 events.
    async fn append_all(&mut self, events: &[AuditEvent]) -> StoreResult<()> {
        self.append_events(events).await
    }
}

use async_trait::async_trait;
use fireflow_domain::audit::AuditEvent;
use fireflow_domain::store::{AuditLog, StoreResult};
use sea_orm::EntityTrait;

use crate::audit_log::Line;
use crate::entity::audit_event;
use crate::error::store_error;
use crate::mapping;
use crate::unit_of_work::SeaUnitOfWork;

#[async_trait]
impl AuditLog for SeaUnitOfWork {
    /// One statement.
    async fn append(&mut self, event: &AuditEvent) -> StoreResult<()> {
        if let Some(row) = mapping::audit_row(event) {
            audit_event::Entity::insert(row)
                .exec_without_returning(&self.db())
                .await
                .map_err(store_error)?;
        }
        self.events.extend(Line::of(event));
        Ok(())
    }

    /// One statement for each 1,000 events.
    async fn append_all(&mut self, events: &[AuditEvent]) -> StoreResult<()> {
        self.insert_all(events.iter().filter_map(mapping::audit_row).collect()).await?;
        self.events.extend(events.iter().filter_map(Line::of));
        Ok(())
    }
}

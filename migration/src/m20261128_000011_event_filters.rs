//! What filters on audit events need: indexes by what was done, and by policy, in the order of ids.

use async_trait::async_trait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261128_000011_event_filters"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let indexes = [
            "CREATE INDEX audit_event_deed ON audit_event (deed, id)",
            "CREATE INDEX audit_event_policy ON audit_event (policy_id, id)
                WHERE policy_id IS NOT NULL",
        ];
        run(manager, &indexes).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP INDEX audit_event_policy", "DROP INDEX audit_event_deed"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

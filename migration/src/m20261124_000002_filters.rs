//! What filters need of the schema: an index that finds the rules whose every port is in effect.

use async_trait::async_trait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261124_000002_filters"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let index = "CREATE INDEX rule_without_ports ON rule (id)
            WHERE deleted_at IS NULL AND ports = '[]'";
        run(manager, &[index]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP INDEX rule_without_ports"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

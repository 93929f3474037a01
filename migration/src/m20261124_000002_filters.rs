//! Adds the indexes that filters need: for rules without a list of ports, which restricts no port,
//! and for entries with their own ports in a range. Most entries have no ports of their own.

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
        let indexes = [
            "CREATE INDEX rule_without_ports ON rule (id)
                WHERE deleted_at IS NULL AND ports = '[]'",
            "CREATE INDEX rule_address_port_bounds ON rule_address (side, port_lo, port_hi, rule_id)
                WHERE port_lo IS NOT NULL",
        ];
        run(manager, &indexes).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP INDEX rule_address_port_bounds", "DROP INDEX rule_without_ports"])
            .await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

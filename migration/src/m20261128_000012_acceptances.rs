//! Adds accepted findings.

use async_trait::async_trait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261128_000012_acceptances"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // An older version that purges a policy does not know of this table, hence the cascade.
        let table = "CREATE TABLE acceptance (
                policy_id {big} NOT NULL REFERENCES policy (id) ON DELETE CASCADE,
                finding {text} NOT NULL,
                proof {text} NOT NULL,
                severity {text} NOT NULL,
                reason {text} NOT NULL,
                until {big},
                accepted_at {big} NOT NULL,
                accepted_by {text} NOT NULL,
                PRIMARY KEY (policy_id, finding)
            )";
        run(manager, &[table]).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP TABLE acceptance"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

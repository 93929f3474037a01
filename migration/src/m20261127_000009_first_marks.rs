//! Gives existing firewalls and rules a mark, and adds indexes that find the last rule that began
//! or ended. This is slow, so it is separate from the step that adds the columns. Reads are not
//! blocked.

use async_trait::async_trait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261127_000009_first_marks"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let steps = [
            "UPDATE firewall SET mark = {mark} WHERE mark = 0",
            // Policies that an older process wrote before the schema gave new ones a mark.
            "UPDATE policy SET states = {random} WHERE states = ''",
            "UPDATE rule SET mark = {mark} WHERE mark = 0",
            "CREATE INDEX rule_start ON rule (policy_id, starts_at)
                WHERE deleted_at IS NULL AND starts_at IS NOT NULL",
            "CREATE INDEX rule_end ON rule (policy_id, expires_at)
                WHERE deleted_at IS NULL AND expires_at IS NOT NULL",
        ];
        run(manager, &steps).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP INDEX rule_end", "DROP INDEX rule_start"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

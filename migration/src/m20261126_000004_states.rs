//! What tells the states of a policy apart, and its rules that changed behind one of them.

use async_trait::async_trait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000004_states"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let steps = [
            // Marks of the last states, the newest first. What a version writes that does not know
            // of them is missing, and can be seen to be.
            "ALTER TABLE policy ADD COLUMN states {text} NOT NULL DEFAULT ''",
            "UPDATE policy SET states = {random}",
            // The policy's revision at which a rule last changed in any way, its place too: a rule
            // that gives way keeps its own revision.
            "ALTER TABLE rule ADD COLUMN changed_revision {big} NOT NULL DEFAULT 0",
            "DROP INDEX rule_revision",
            "CREATE INDEX rule_changed ON rule (policy_id, changed_revision)",
        ];
        run(manager, &steps).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let steps = [
            "DROP INDEX rule_changed",
            "CREATE INDEX rule_revision ON rule (policy_id, revision)",
            "ALTER TABLE rule DROP COLUMN changed_revision",
            "ALTER TABLE policy DROP COLUMN states",
        ];
        run(manager, &steps).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

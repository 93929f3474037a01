//! Gives existing policies a mark, and adds an index of rules by the revision of their last change.
//! This is slow, so it is separate from the step that adds the columns. Reads are not blocked.

use async_trait::async_trait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261126_000005_marks"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let steps = [
            "UPDATE policy SET states = {random} WHERE states = ''",
            "CREATE INDEX rule_changed ON rule (policy_id, changed_revision)",
        ];
        run(manager, &steps).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, &["DROP INDEX rule_changed"]).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

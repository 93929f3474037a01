//! Adds the marks that distinguish a policy's states, and the revision at which each rule last
//! changed.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbBackend;
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
        // Each statement waits for current readers and then locks the table, so none may take long.
        let steps = [
            // The marks of the last states, newest first.
            "ALTER TABLE policy ADD COLUMN states {text} NOT NULL DEFAULT ''",
            // The policy's revision at which the rule last changed in any way, even in its place. A
            // rule that is only renumbered keeps its own revision.
            "ALTER TABLE rule ADD COLUMN changed_revision {big} NOT NULL DEFAULT 0",
            "DROP INDEX rule_revision",
        ];
        run(manager, &steps).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            run(manager, MARK_OF_OTHERS).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Postgres {
            let steps = [
                "DROP TRIGGER policy_mark_of_others ON policy",
                "DROP FUNCTION policy_mark_of_others()",
            ];
            run(manager, &steps).await?;
        }
        let steps = [
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

/// Sets a mark if a writer raises a revision without one. Such a writer is an older version during
/// a rolling deployment, or another SQL client. The new mark replaces all earlier ones, because the
/// changes of that state are unknown. SQLite needs no such trigger here, because one process owns
/// the file.
const MARK_OF_OTHERS: &[&str] = &[
    "CREATE FUNCTION policy_mark_of_others() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.states := {random}; RETURN NEW; END $$",
    "CREATE TRIGGER policy_mark_of_others BEFORE UPDATE ON policy FOR EACH ROW
        WHEN (NEW.revision <> OLD.revision AND NEW.states = OLD.states)
        EXECUTE FUNCTION policy_mark_of_others()",
];

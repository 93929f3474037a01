//! What tells the states of a policy apart, and at which of them a rule changed.

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
        // Each waits for readers to end and keeps others out, for a moment: nothing here takes long.
        let steps = [
            // Marks of the last states, the newest first.
            "ALTER TABLE policy ADD COLUMN states {text} NOT NULL DEFAULT ''",
            // The policy's revision at which a rule last changed in any way, its place too: a rule
            // that yields keeps its own revision.
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

/// Who raises a revision without a mark knows neither: an older version, while a deployment rolls, or
/// somebody with a client of his own. Then the state has a mark all the same, and none before it: what
/// changed in it cannot be reported. SQLite's file belongs to one process, which does as it does.
const MARK_OF_OTHERS: &[&str] = &[
    "CREATE FUNCTION policy_mark_of_others() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.states := {random}; RETURN NEW; END $$",
    "CREATE TRIGGER policy_mark_of_others BEFORE UPDATE ON policy FOR EACH ROW
        WHEN (NEW.revision <> OLD.revision AND NEW.states = OLD.states)
        EXECUTE FUNCTION policy_mark_of_others()",
];

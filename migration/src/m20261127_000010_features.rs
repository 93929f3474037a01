//! Records the features that a policy's rules use, as bits, so that a process can refuse a policy
//! that it cannot read.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbBackend;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261127_000010_features"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let steps = [
            // The default is a constant, so no row is rewritten.
            "ALTER TABLE policy ADD COLUMN features {big} NOT NULL DEFAULT 0",
            // Few policies use any feature, so the index is small.
            "CREATE INDEX policy_features ON policy (id) WHERE features <> 0",
        ];
        run(manager, &steps).await?;
        match manager.get_database_backend() {
            DbBackend::Postgres => run(manager, &[POSTGRES]).await,
            _ => run(manager, &[SQLITE]).await,
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let trigger = match manager.get_database_backend() {
            DbBackend::Postgres => "DROP TRIGGER policy_mark_of_features ON policy",
            _ => "DROP TRIGGER policy_mark_of_features",
        };
        let steps =
            [trigger, "DROP INDEX policy_features", "ALTER TABLE policy DROP COLUMN features"];
        run(manager, &steps).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// A writer that changes only the bits creates a new state too: earlier tags and compiled policies
/// must become invalid.
const POSTGRES: &str = "CREATE TRIGGER policy_mark_of_features BEFORE UPDATE ON policy FOR EACH ROW
    WHEN (NEW.features <> OLD.features AND NEW.states = OLD.states)
    EXECUTE FUNCTION policy_mark_of_others()";

const SQLITE: &str = "CREATE TRIGGER policy_mark_of_features AFTER UPDATE OF features ON policy
    WHEN NEW.features <> OLD.features AND NEW.states = OLD.states
    BEGIN UPDATE policy SET states = {random} WHERE id = NEW.id; END";

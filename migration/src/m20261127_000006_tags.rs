//! Adds a mark to each firewall and rule, as policies have one in `states`. Triggers set new marks
//! for writers that do not know of them.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbBackend;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261127_000006_tags"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Each statement waits for current readers and then locks the table, so none may take long.
        // 0 means no mark. The step `first_marks` replaces every 0.
        let columns = [
            "ALTER TABLE firewall ADD COLUMN mark {big} NOT NULL DEFAULT 0",
            "ALTER TABLE rule ADD COLUMN mark {big} NOT NULL DEFAULT 0",
        ];
        run(manager, &columns).await?;
        match manager.get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES).await,
            _ => run(manager, SQLITE).await,
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES_DOWN).await?,
            _ => run(manager, SQLITE_DOWN).await?,
        }
        let columns =
            ["ALTER TABLE rule DROP COLUMN mark", "ALTER TABLE firewall DROP COLUMN mark"];
        run(manager, &columns).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Sets a new mark if a writer raises a revision and leaves the mark as it was. Such a writer is an
/// older version, during a rolling deployment or after a rollback, or another SQL client. Policies
/// have their trigger from an earlier step. New rows get their mark by default.
const POSTGRES: &[&str] = &[
    "CREATE FUNCTION mark_of_others() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.mark := {mark}; RETURN NEW; END $$",
    "CREATE TRIGGER firewall_mark_of_others BEFORE UPDATE ON firewall FOR EACH ROW
        WHEN (NEW.revision <> OLD.revision AND NEW.mark = OLD.mark)
        EXECUTE FUNCTION mark_of_others()",
    "CREATE TRIGGER rule_mark_of_others BEFORE UPDATE ON rule FOR EACH ROW
        WHEN (NEW.revision <> OLD.revision AND NEW.mark = OLD.mark)
        EXECUTE FUNCTION mark_of_others()",
    // Applies only to new rows. Existing rows keep the constant and are not rewritten.
    "ALTER TABLE firewall ALTER COLUMN mark SET DEFAULT {mark}",
    "ALTER TABLE rule ALTER COLUMN mark SET DEFAULT {mark}",
    "ALTER TABLE policy ALTER COLUMN states SET DEFAULT {random}",
];

const POSTGRES_DOWN: &[&str] = &[
    "ALTER TABLE policy ALTER COLUMN states SET DEFAULT ''",
    "DROP TRIGGER rule_mark_of_others ON rule",
    "DROP TRIGGER firewall_mark_of_others ON firewall",
    "DROP FUNCTION mark_of_others()",
];

/// The same for SQLite, where an added column cannot have a random default, and a trigger cannot
/// change the row that is being written. Instead, the trigger updates the row afterwards. That
/// update fires no further trigger, because it does not set the revision.
const SQLITE: &[&str] = &[
    "CREATE TRIGGER firewall_mark_of_others AFTER UPDATE OF revision ON firewall
        WHEN NEW.revision <> OLD.revision AND NEW.mark = OLD.mark
        BEGIN UPDATE firewall SET mark = {mark} WHERE id = NEW.id; END",
    "CREATE TRIGGER firewall_first_mark AFTER INSERT ON firewall WHEN NEW.mark = 0
        BEGIN UPDATE firewall SET mark = {mark} WHERE id = NEW.id; END",
    "CREATE TRIGGER policy_mark_of_others AFTER UPDATE OF revision ON policy
        WHEN NEW.revision <> OLD.revision AND NEW.states = OLD.states
        BEGIN UPDATE policy SET states = {random} WHERE id = NEW.id; END",
    "CREATE TRIGGER policy_first_mark AFTER INSERT ON policy WHEN NEW.states = ''
        BEGIN UPDATE policy SET states = {random} WHERE id = NEW.id; END",
    "CREATE TRIGGER rule_mark_of_others AFTER UPDATE OF revision ON rule
        WHEN NEW.revision <> OLD.revision AND NEW.mark = OLD.mark
        BEGIN UPDATE rule SET mark = {mark} WHERE id = NEW.id; END",
    "CREATE TRIGGER rule_first_mark AFTER INSERT ON rule WHEN NEW.mark = 0
        BEGIN UPDATE rule SET mark = {mark} WHERE id = NEW.id; END",
];

const SQLITE_DOWN: &[&str] = &[
    "DROP TRIGGER rule_first_mark",
    "DROP TRIGGER rule_mark_of_others",
    "DROP TRIGGER policy_first_mark",
    "DROP TRIGGER policy_mark_of_others",
    "DROP TRIGGER firewall_first_mark",
    "DROP TRIGGER firewall_mark_of_others",
];

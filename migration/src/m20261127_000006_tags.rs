//! A mark of the state of each firewall and rule, as policies have one in `states`; and who writes
//! without knowing of marks leaves new ones all the same.

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
        // Each waits for readers to end and keeps others out, for a moment: nothing here takes long.
        // 0 means no mark: the next step but one leaves none.
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

/// Who raises a revision and leaves the mark as it was does not know of marks: an older version,
/// while a deployment rolls or after it was rolled back, or somebody with a client of his own. The
/// trigger of policies is there since an earlier step; a new row has its mark by default.
const POSTGRES: &[&str] = &[
    "CREATE FUNCTION mark_of_others() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.mark := {mark}; RETURN NEW; END $$",
    "CREATE TRIGGER firewall_mark_of_others BEFORE UPDATE ON firewall FOR EACH ROW
        WHEN (NEW.revision <> OLD.revision AND NEW.mark = OLD.mark)
        EXECUTE FUNCTION mark_of_others()",
    "CREATE TRIGGER rule_mark_of_others BEFORE UPDATE ON rule FOR EACH ROW
        WHEN (NEW.revision <> OLD.revision AND NEW.mark = OLD.mark)
        EXECUTE FUNCTION mark_of_others()",
    // Only for new rows: existing rows keep the constant, and none is written again.
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

/// The same. SQLite adds no column with a default that differs from row to row, and its triggers cannot
/// change a row on its way: they write it once more, in a statement that fires none of them, since
/// it names no revision.
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

//! Adds the hash chains of the audit trail, and the triggers that prevent events from being
//! replaced.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbBackend;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261127_000007_audit_chains"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // Each statement waits for current readers and then locks the table, so none may take long.
        run(manager, COLUMNS).await?;
        match manager.get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES_GUARDS).await,
            _ => run(manager, SQLITE_GUARDS).await,
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES_GUARDS_DOWN).await?,
            _ => run(manager, SQLITE_GUARDS_DOWN).await?,
        }
        run(manager, COLUMNS_DOWN).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

const COLUMNS: &[&str] = &[
    // The firewall's tenant when the event was written. It is unknown if the firewall was purged
    // before this step, or if an older version writes the event to SQLite.
    "ALTER TABLE audit_event ADD COLUMN tenant {text}",
    // The firewall's earlier tenant, for an event that moves the firewall to another tenant.
    "ALTER TABLE audit_event ADD COLUMN former_tenant {text}",
    // The policy that the event concerns, or that the event's rule belongs to.
    "ALTER TABLE audit_event ADD COLUMN policy_id {big}",
    // The event's position, from 1, in the chain of its policy, or of its firewall if it concerns
    // no policy. Events from before this step have none.
    "ALTER TABLE audit_event ADD COLUMN sequence {big}",
    "ALTER TABLE audit_event ADD COLUMN predecessor {bytes}",
    "ALTER TABLE audit_event ADD COLUMN hash {bytes}",
    // Each chain's head is stored in the row that writers to the chain lock anyway.
    "ALTER TABLE firewall ADD COLUMN audit_sequence {big} NOT NULL DEFAULT 0",
    "ALTER TABLE firewall ADD COLUMN audit_hash {bytes}",
    "ALTER TABLE policy ADD COLUMN audit_sequence {big} NOT NULL DEFAULT 0",
    "ALTER TABLE policy ADD COLUMN audit_hash {bytes}",
    // The heads of the chains of purged firewalls and policies.
    "CREATE TABLE audit_head (
        resource {text} NOT NULL,
        id {big} NOT NULL,
        sequence {big} NOT NULL,
        hash {bytes} NOT NULL,
        PRIMARY KEY (resource, id)
    )",
    // The last event from before this step. Later events must have a position in a chain.
    "INSERT INTO fireflow_meta (key, value)
        SELECT 'audit_unchained_last_id', coalesce(max(id), 0) FROM audit_event",
];

const COLUMNS_DOWN: &[&str] = &[
    "DELETE FROM fireflow_meta WHERE key = 'audit_unchained_last_id'",
    "DROP TABLE audit_head",
    "ALTER TABLE policy DROP COLUMN audit_hash",
    "ALTER TABLE policy DROP COLUMN audit_sequence",
    "ALTER TABLE firewall DROP COLUMN audit_hash",
    "ALTER TABLE firewall DROP COLUMN audit_sequence",
    "ALTER TABLE audit_event DROP COLUMN hash",
    "ALTER TABLE audit_event DROP COLUMN predecessor",
    "ALTER TABLE audit_event DROP COLUMN sequence",
    "ALTER TABLE audit_event DROP COLUMN policy_id",
    "ALTER TABLE audit_event DROP COLUMN former_tenant",
    "ALTER TABLE audit_event DROP COLUMN tenant",
];

/// `INSERT OR REPLACE` deletes conflicting rows without firing the triggers for DELETE, so a
/// trigger for INSERT must refuse it. If SQLite is to choose the id, that trigger sees -1. No event
/// may therefore have an id below 1.
const SQLITE_GUARDS: &[&str] = &[
    "CREATE TRIGGER audit_event_no_replace BEFORE INSERT ON audit_event
        WHEN (NEW.id > 0 AND EXISTS (SELECT 1 FROM audit_event WHERE id = NEW.id))
            OR EXISTS (SELECT 1 FROM audit_event WHERE policy_id = NEW.policy_id
                AND sequence = NEW.sequence AND policy_id IS NOT NULL)
            OR (NEW.policy_id IS NULL AND EXISTS (SELECT 1 FROM audit_event
                WHERE firewall_id = NEW.firewall_id AND sequence = NEW.sequence
                AND policy_id IS NULL AND sequence IS NOT NULL))
        BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END",
    "CREATE TRIGGER audit_event_no_odd_id AFTER INSERT ON audit_event WHEN NEW.id < 1
        BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END",
];

const SQLITE_GUARDS_DOWN: &[&str] =
    &["DROP TRIGGER audit_event_no_odd_id", "DROP TRIGGER audit_event_no_replace"];

/// Makes the guard against changes apply to replication sessions too, which skip ordinary triggers.
/// The other trigger fills in the tenant for an older version during a rolling deployment.
const POSTGRES_GUARDS: &[&str] = &[
    "ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_append_only",
    "CREATE FUNCTION audit_event_tenant_of_others() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN
            NEW.tenant := (SELECT tenant FROM firewall WHERE id = NEW.firewall_id);
            RETURN NEW;
        END $$",
    "CREATE TRIGGER audit_event_tenant_of_others BEFORE INSERT ON audit_event FOR EACH ROW
        WHEN (NEW.tenant IS NULL) EXECUTE FUNCTION audit_event_tenant_of_others()",
];

const POSTGRES_GUARDS_DOWN: &[&str] = &[
    "DROP TRIGGER audit_event_tenant_of_others ON audit_event",
    "DROP FUNCTION audit_event_tenant_of_others()",
    "ALTER TABLE audit_event ENABLE TRIGGER audit_event_append_only",
];

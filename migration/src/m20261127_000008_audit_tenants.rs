//! Fills in the tenants and policies of existing events, and adds indexes of events by tenant and
//! by position in their chain. This is slow, so it is separate from the step that adds the columns.
//! Reads are not blocked.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbBackend;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261127_000008_audit_tenants"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let is_postgres = manager.get_database_backend() == DbBackend::Postgres;
        // The append-only trigger must be off, because it refuses every UPDATE, even this one.
        let (lift, guard) = if is_postgres {
            // These block only writers. DROP TRIGGER would also block readers.
            (
                "ALTER TABLE audit_event DISABLE TRIGGER audit_event_append_only",
                "ALTER TABLE audit_event ENABLE ALWAYS TRIGGER audit_event_append_only",
            )
        } else {
            (
                "DROP TRIGGER audit_event_no_update",
                "CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event
                    BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END",
            )
        };
        run(manager, &[lift, FILL, guard]).await?;
        run(manager, INDEXES).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let steps = [
            "DELETE FROM fireflow_meta WHERE key = 'audit_unchained_count'",
            "DROP INDEX audit_event_former_tenant",
            "DROP INDEX audit_event_tenant",
            "DROP INDEX audit_event_of_firewall",
            "DROP INDEX audit_event_of_policy",
        ];
        run(manager, &steps).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// For purged resources, the tenant and policy remain unknown.
const FILL: &str = "UPDATE audit_event SET
    tenant = coalesce(tenant,
        (SELECT firewall.tenant FROM firewall WHERE firewall.id = audit_event.firewall_id)),
    policy_id = CASE resource
        WHEN 'filtering_policy' THEN resource_id
        WHEN 'firewall_rule' THEN
            (SELECT rule.policy_id FROM rule WHERE rule.id = audit_event.resource_id)
        END
    WHERE sequence IS NULL";

const INDEXES: &[&str] = &[
    // Each chained event is in exactly one of these two indexes.
    "CREATE UNIQUE INDEX audit_event_of_policy ON audit_event (policy_id, sequence)
        WHERE policy_id IS NOT NULL AND sequence IS NOT NULL",
    "CREATE UNIQUE INDEX audit_event_of_firewall ON audit_event (firewall_id, sequence)
        WHERE policy_id IS NULL AND sequence IS NOT NULL",
    "CREATE INDEX audit_event_tenant ON audit_event (tenant, id)",
    "CREATE INDEX audit_event_former_tenant ON audit_event (former_tenant, id)
        WHERE former_tenant IS NOT NULL",
    "INSERT INTO fireflow_meta (key, value)
        SELECT 'audit_unchained_count', count(*) FROM audit_event WHERE sequence IS NULL
            AND id <= (SELECT CAST(value AS bigint) FROM fireflow_meta
                WHERE key = 'audit_unchained_last_id')",
];

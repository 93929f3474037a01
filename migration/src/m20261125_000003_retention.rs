//! Adds the stored answers of repeatable requests, and indexes for deleted rows and for audit
//! events by time, subject and request.

use async_trait::async_trait;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000003_retention"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let steps = [
            "CREATE TABLE kept_answer (
                subject {text} NOT NULL,
                key {text} NOT NULL,
                fingerprint {bytes} NOT NULL,
                created_at {big} NOT NULL,
                status integer NOT NULL,
                headers {text} NOT NULL,
                body {bytes} NOT NULL,
                PRIMARY KEY (subject, key)
            )",
            "CREATE INDEX kept_answer_created_at ON kept_answer (created_at)",
            "CREATE INDEX firewall_deleted_at ON firewall (deleted_at)
                WHERE deleted_at IS NOT NULL",
            "CREATE INDEX policy_deleted_at ON policy (deleted_at) WHERE deleted_at IS NOT NULL",
            "CREATE INDEX rule_deleted_at ON rule (deleted_at) WHERE deleted_at IS NOT NULL",
            "CREATE INDEX audit_event_at ON audit_event (at, id)",
            "CREATE INDEX audit_event_subject ON audit_event (subject, id)",
            "CREATE INDEX audit_event_request ON audit_event (request_id)",
        ];
        run(manager, &steps).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let steps = [
            "DROP INDEX audit_event_request",
            "DROP INDEX audit_event_subject",
            "DROP INDEX audit_event_at",
            "DROP INDEX rule_deleted_at",
            "DROP INDEX policy_deleted_at",
            "DROP INDEX firewall_deleted_at",
            "DROP TABLE kept_answer",
        ];
        run(manager, &steps).await
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

//! Creates firewalls, filtering policies, rules, the search tables derived from them, and the audit
//! trail.

use async_trait::async_trait;
use sea_orm_migration::sea_orm::DbBackend;
use sea_orm_migration::{DbErr, MigrationName, MigrationTrait, SchemaManager};

use crate::run;

/// See the module.
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261101_000001_core"
    }
}

#[expect(elided_lifetimes_in_paths, reason = "as the trait declares its methods")]
#[async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, TABLES).await?;
        run(manager, INDEXES).await?;
        match manager.get_database_backend() {
            DbBackend::Postgres => run(manager, POSTGRES_APPEND_ONLY).await,
            _ => run(manager, SQLITE_APPEND_ONLY).await,
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        run(manager, DROP).await?;
        match manager.get_database_backend() {
            DbBackend::Postgres => {
                run(manager, &["DROP FUNCTION audit_event_is_append_only()"]).await
            }
            _ => Ok(()),
        }
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }
}

/// Instants are microseconds since 1970. The domain's `fold` fills the columns `*_folded`. The JSON
/// columns (`labels`, `protocols`, `sources`, `destinations`, `ports`) are authoritative. The
/// tables `rule_address`, `rule_port` and `*_label` are derived from them for searches.
const TABLES: &[&str] = &[
    "CREATE TABLE fireflow_meta (key {text} PRIMARY KEY, value {text} NOT NULL)",
    "CREATE TABLE firewall (
        id {id},
        name {text} NOT NULL,
        name_folded {text} NOT NULL,
        tenant {text} NOT NULL,
        description {text} NOT NULL,
        description_folded {text} NOT NULL,
        labels {text} NOT NULL,
        policy_count {big} NOT NULL DEFAULT 0 CHECK (policy_count >= 0),
        revision {big} NOT NULL,
        header_revision {big} NOT NULL,
        created_at {big} NOT NULL,
        created_by {text} NOT NULL,
        updated_at {big} NOT NULL,
        updated_by {text} NOT NULL,
        deleted_at {big},
        deleted_by {text}
    )",
    "CREATE TABLE policy (
        id {id},
        firewall_id {big} NOT NULL REFERENCES firewall (id),
        name {text} NOT NULL,
        name_folded {text} NOT NULL,
        description {text} NOT NULL,
        description_folded {text} NOT NULL,
        labels {text} NOT NULL,
        default_action {text} NOT NULL CHECK (default_action IN ('ALLOW', 'DENY', 'REJECT')),
        rule_count {big} NOT NULL DEFAULT 0 CHECK (rule_count >= 0),
        entry_count {big} NOT NULL DEFAULT 0 CHECK (entry_count >= 0),
        revision {big} NOT NULL,
        header_revision {big} NOT NULL,
        purged_revision {big} NOT NULL DEFAULT 0,
        created_at {big} NOT NULL,
        created_by {text} NOT NULL,
        updated_at {big} NOT NULL,
        updated_by {text} NOT NULL,
        deleted_at {big},
        deleted_by {text}
    )",
    "CREATE TABLE rule (
        id {id},
        policy_id {big} NOT NULL REFERENCES policy (id),
        firewall_id {big} NOT NULL REFERENCES firewall (id),
        name {text},
        name_folded {text},
        action {text} NOT NULL CHECK (action IN ('ALLOW', 'DENY', 'REJECT')),
        priority integer NOT NULL,
        protocols {text} NOT NULL,
        icmp_type integer CHECK (icmp_type BETWEEN 0 AND 255),
        icmp_code integer CHECK (icmp_code BETWEEN 0 AND 255),
        sources {text} NOT NULL,
        destinations {text} NOT NULL,
        ports {text} NOT NULL,
        enabled boolean NOT NULL,
        log boolean NOT NULL,
        starts_at {big},
        expires_at {big},
        description {text} NOT NULL,
        description_folded {text} NOT NULL,
        reference {text} NOT NULL,
        labels {text} NOT NULL,
        fingerprint {bytes},
        copy {big} NOT NULL DEFAULT 0,
        revision {big} NOT NULL,
        created_at {big} NOT NULL,
        created_by {text} NOT NULL,
        updated_at {big} NOT NULL,
        updated_by {text} NOT NULL,
        deleted_at {big},
        deleted_by {text}
    )",
    // One row per entry and family (`any`: two, with of_any). lo, hi: a family byte and the
    // address; fork: the smallest block that holds both, as family, address and prefix length.
    "CREATE TABLE rule_address (
        id {id},
        rule_id {big} NOT NULL REFERENCES rule (id),
        firewall_id {big} NOT NULL,
        side {text} NOT NULL CHECK (side IN ('s', 'd')),
        entry integer NOT NULL,
        of_any boolean NOT NULL,
        fork {bytes} NOT NULL,
        lo {bytes} NOT NULL,
        hi {bytes} NOT NULL,
        port_fork integer,
        port_lo integer,
        port_hi integer
    )",
    // fork: the smallest block of ports that holds both ends, as (first port << 5) + prefix length.
    "CREATE TABLE rule_port (
        id {id},
        rule_id {big} NOT NULL REFERENCES rule (id),
        firewall_id {big} NOT NULL,
        entry integer NOT NULL,
        fork integer NOT NULL,
        lo integer NOT NULL,
        hi integer NOT NULL
    )",
    "CREATE TABLE firewall_label (
        owner_id {big} NOT NULL REFERENCES firewall (id),
        firewall_id {big} NOT NULL,
        key {text} NOT NULL,
        value {text} NOT NULL,
        PRIMARY KEY (owner_id, key)
    )",
    "CREATE TABLE policy_label (
        owner_id {big} NOT NULL REFERENCES policy (id),
        firewall_id {big} NOT NULL,
        key {text} NOT NULL,
        value {text} NOT NULL,
        PRIMARY KEY (owner_id, key)
    )",
    "CREATE TABLE rule_label (
        owner_id {big} NOT NULL REFERENCES rule (id),
        firewall_id {big} NOT NULL,
        key {text} NOT NULL,
        value {text} NOT NULL,
        PRIMARY KEY (owner_id, key)
    )",
    "CREATE TABLE audit_event (
        id {id},
        at {big} NOT NULL,
        subject {text} NOT NULL,
        request_id {text} NOT NULL,
        client_address {text} NOT NULL,
        reason {text} NOT NULL,
        deed {text} NOT NULL,
        resource {text} NOT NULL,
        resource_id {big} NOT NULL,
        firewall_id {big} NOT NULL,
        state_before {text},
        state_after {text}
    )",
];

/// Every query over live rows must contain `deleted_at IS NULL`, or the partial indexes are not
/// used.
const INDEXES: &[&str] = &[
    "CREATE UNIQUE INDEX firewall_live_name ON firewall (tenant, name) WHERE deleted_at IS NULL",
    "CREATE INDEX firewall_name ON firewall (name, id) WHERE deleted_at IS NULL",
    "CREATE INDEX firewall_created_at ON firewall (created_at, id) WHERE deleted_at IS NULL",
    "CREATE INDEX firewall_updated_at ON firewall (updated_at, id) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX policy_live_name ON policy (firewall_id, name) WHERE deleted_at IS NULL",
    "CREATE INDEX policy_name ON policy (name, id) WHERE deleted_at IS NULL",
    "CREATE INDEX policy_firewall ON policy (firewall_id, id) WHERE deleted_at IS NULL",
    "CREATE INDEX policy_created_at ON policy (created_at, id) WHERE deleted_at IS NULL",
    "CREATE INDEX policy_updated_at ON policy (updated_at, id) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX rule_live_name ON rule (policy_id, name) WHERE deleted_at IS NULL",
    "CREATE UNIQUE INDEX rule_live_fingerprint ON rule (policy_id, fingerprint, copy)
        WHERE deleted_at IS NULL",
    "CREATE INDEX rule_evaluation ON rule (policy_id, priority, id) WHERE deleted_at IS NULL",
    "CREATE INDEX rule_name ON rule (name{nulls_first}, id) WHERE deleted_at IS NULL",
    "CREATE INDEX rule_created_at ON rule (created_at, id) WHERE deleted_at IS NULL",
    "CREATE INDEX rule_updated_at ON rule (updated_at, id) WHERE deleted_at IS NULL",
    "CREATE INDEX rule_expires_at ON rule (expires_at{nulls_first}, id) WHERE deleted_at IS NULL",
    // Includes deleted rows, because a cache at revision R reads all rows that have changed since.
    "CREATE INDEX rule_revision ON rule (policy_id, revision)",
    "CREATE INDEX rule_address_fork ON rule_address (side, fork, lo, hi, rule_id)",
    "CREATE INDEX rule_address_bounds ON rule_address (side, lo, hi, rule_id)",
    "CREATE INDEX rule_address_rule ON rule_address (rule_id, side, entry)",
    "CREATE INDEX rule_address_port ON rule_address (side, port_fork, port_lo, port_hi, rule_id)",
    "CREATE INDEX rule_port_fork ON rule_port (fork, lo, hi, rule_id)",
    "CREATE INDEX rule_port_bounds ON rule_port (lo, hi, rule_id)",
    "CREATE INDEX rule_port_rule ON rule_port (rule_id, entry)",
    "CREATE INDEX firewall_label_value ON firewall_label (key, value, owner_id)",
    "CREATE INDEX policy_label_value ON policy_label (key, value, owner_id)",
    "CREATE INDEX rule_label_value ON rule_label (key, value, owner_id)",
    "CREATE INDEX audit_event_resource ON audit_event (resource, resource_id, id)",
    "CREATE INDEX audit_event_firewall ON audit_event (firewall_id, id)",
];

const SQLITE_APPEND_ONLY: &[&str] = &[
    "CREATE TRIGGER audit_event_no_update BEFORE UPDATE ON audit_event
        BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END",
    "CREATE TRIGGER audit_event_no_delete BEFORE DELETE ON audit_event
        BEGIN SELECT raise(ABORT, 'the audit trail is append-only'); END",
];

const POSTGRES_APPEND_ONLY: &[&str] = &[
    "CREATE FUNCTION audit_event_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the audit trail is append-only'; END $$",
    "CREATE TRIGGER audit_event_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_event
        FOR EACH STATEMENT EXECUTE FUNCTION audit_event_is_append_only()",
];

/// Children before parents. Dropping the audit trail drops its triggers.
const DROP: &[&str] = &[
    "DROP TABLE audit_event",
    "DROP TABLE rule_label",
    "DROP TABLE policy_label",
    "DROP TABLE firewall_label",
    "DROP TABLE rule_port",
    "DROP TABLE rule_address",
    "DROP TABLE rule",
    "DROP TABLE policy",
    "DROP TABLE firewall",
    "DROP TABLE fireflow_meta",
];

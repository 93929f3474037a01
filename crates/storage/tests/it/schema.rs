use std::collections::BTreeSet;
use std::time::Duration;

use fireflow_domain::store::Storage;
use fireflow_storage::testing::{TestDatabase, entity_tables, options};
use fireflow_storage::{Database, DatabaseKind, MigrateError, OpenError, StepState, db_test};

use crate::support::{make_firewall, make_policy, make_rule, migrate_before, parts};

async fn tables(db: &TestDatabase) -> i64 {
    let sql = match db.database.kind() {
        DatabaseKind::Sqlite => {
            "SELECT count(*) FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' \
             AND name <> 'seaql_migrations'"
        }
        DatabaseKind::Postgres => {
            "SELECT (SELECT count(*) FROM pg_class c WHERE c.relnamespace = n.oid \
             AND c.relkind IN ('r', 'i', 'S') AND c.relname NOT LIKE 'seaql_migrations%') \
             + (SELECT count(*) FROM pg_proc p WHERE p.pronamespace = n.oid) \
             FROM pg_namespace n WHERE n.nspname = current_schema()"
        }
    };
    db.integers(sql).await[0]
}

#[derive(Debug)]
struct Empty(TestDatabase);

impl Empty {
    async fn new(kind: DatabaseKind) -> Self {
        Self(TestDatabase::empty(kind).await)
    }
}

db_test! {
    async fn migrations_go_up_and_down_and_up(db: Empty) {
        let Empty(db) = db;
        assert!(!db.database.is_ready().await.unwrap());
        db.database.migrate_up("local").await.unwrap();
        assert!(db.database.is_ready().await.unwrap());
        let steps = db.database.migration_status().await.unwrap();
        assert!(steps.iter().all(|step| step.state == StepState::Applied));
        let all = tables(&db).await;
        assert!(all > 10);
        db.database.migrate_down(None).await.unwrap();
        assert_eq!(tables(&db).await, 0, "nothing is left");
        assert!(!db.database.is_ready().await.unwrap());
        db.database.migrate_up("local").await.unwrap();
        assert_eq!(tables(&db).await, all);
        // Applied twice is applied once.
        db.database.migrate_up("production").await.unwrap();
        db.database.migrate_down(None).await.unwrap();
    }
}

db_test! {
    async fn the_entities_are_the_migrated_schema(db: TestDatabase) {
        assert_eq!(db.tables().await, entity_tables());
    }
}

db_test! {
    async fn only_a_local_database_can_be_undone(db: Empty) {
        let Empty(db) = db;
        db.database.migrate_up("production").await.unwrap();
        // The caller claims `local`, but the database knows better.
        db.database.migrate_up("local").await.unwrap();
        let refused = db.database.migrate_down(Some(1)).await;
        assert!(matches!(refused, Err(MigrateError::Protected(place)) if place == "production"));
        assert!(db.database.is_ready().await.unwrap());
    }
}

// During a rolling deployment, pods of the old version serve, and may start, on the new schema.
db_test! {
    committed("migrations have a connection of their own")
    async fn a_newer_versions_schema_is_served_and_left_alone(db: TestDatabase) {
        let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m2099_later', 0)";
        db.execute(newer).await;
        assert!(db.database.is_ready().await.unwrap());
        db.database.migrate_up("local").await.unwrap();
        let last = db.database.migration_status().await.unwrap().pop().unwrap();
        assert_eq!((last.name.as_str(), last.state), ("m2099_later", StepState::Newer));
        let undone = db.database.migrate_down(None).await;
        assert!(matches!(undone, Err(MigrateError::Newer(step)) if step == "m2099_later"));
        assert!(db.database.is_ready().await.unwrap());
        // But the steps that it needs itself must be there.
        db.execute("DELETE FROM seaql_migrations WHERE version <> 'm2099_later'").await;
        assert!(!db.database.is_ready().await.unwrap());
        let refused = db.database.migrate_up("local").await;
        assert!(matches!(refused, Err(MigrateError::Diverged { .. })), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_processes_that_start_at_once_migrate_once() {
    let first = TestDatabase::empty(DatabaseKind::Postgres).await;
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let database = Database::open(options(&first.url)).await.unwrap();
        tasks.push(tokio::spawn(async move { database.migrate_up("local").await }));
    }
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(first.database.is_ready().await.unwrap());
    let steps = first.database.migration_status().await.unwrap().len() as i64;
    assert_eq!(first.integers("SELECT count(*) FROM seaql_migrations").await, [steps]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_refused_a_sqlite_file() {
    let first = TestDatabase::new(DatabaseKind::Sqlite).await;
    let second = Database::open(options(&first.url)).await;
    let Err(error @ OpenError::InUse { .. }) = second else { panic!("{second:?}") };
    let holder = format!("process {}", std::process::id());
    assert!(error.to_string().contains(&holder), "{error}");
    let url = first.url.clone();
    let TestDatabase { database, .. } = &first;
    database.clone().close().await.unwrap();
    // A clone was closed; the lock is released with the last one.
    assert!(Database::open(options(&url)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_is_durable_and_checks_what_refers_to_what() {
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    assert_eq!(db.integers("PRAGMA synchronous").await, [2], "FULL");
    assert_eq!(db.integers("PRAGMA foreign_keys").await, [1]);
    assert_eq!(db.integers("SELECT journal_mode = 'wal' FROM pragma_journal_mode").await, [1]);
    assert_eq!(db.integers("SELECT timeout > 1000 FROM pragma_busy_timeout").await, [1]);
}

/// A long reader, such as an export, holds up a migration, and a waiting migration would hold up
/// everyone else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_readers_are_let_in_while_a_migration_waits() {
    use sea_orm::{ConnectionTrait, Database as Driver, TransactionTrait};

    let db = TestDatabase::new(DatabaseKind::Postgres).await;
    // Down to a schema in which a policy had no states: the next step changes its table.
    migrate_before(&db, "m20261126_000004_states").await;
    let reader = Driver::connect(&db.url).await.unwrap();
    let export = reader.begin().await.unwrap();
    export.execute_unprepared("SELECT count(*) FROM policy").await.unwrap();
    let database = db.database.clone();
    let migration = tokio::spawn(async move { database.migrate_up("local").await });
    let others = Driver::connect(&db.url).await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let select = others.execute_unprepared("SELECT count(*) FROM policy");
        tokio::time::timeout(Duration::from_secs(120), select).await.expect("let in").unwrap();
    }
    assert!(!migration.is_finished(), "it waits for the export");
    export.commit().await.unwrap();
    migration.await.unwrap().unwrap();
    assert!(db.database.is_ready().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_states_of_who_knows_no_marks_have_one() {
    let db = TestDatabase::new(DatabaseKind::Postgres).await;
    let firewall = make_firewall(&db, "edge").await;
    let policy = make_policy(&db, firewall.id, "in").await;
    make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
    let marks = "SELECT length(states)::bigint FROM policy";
    assert_eq!(db.integers(marks).await, [32]);
    // A mark that the writer sets stays; so do all marks if no state is new.
    db.execute("UPDATE policy SET revision = revision + 1, states = repeat('a', 48)").await;
    db.execute("UPDATE policy SET description = 'x'").await;
    assert_eq!(db.integers(marks).await, [48]);
    db.execute("UPDATE policy SET revision = revision + 1").await;
    assert_eq!(db.integers(marks).await, [16]);
    assert_eq!(db.integers("SELECT count(*) FROM policy WHERE states LIKE 'aaaa%'").await, [0]);
}

/// The marks of all rows; for a policy, as many of its bits as fit into an integer.
async fn marks(db: &TestDatabase) -> BTreeSet<i64> {
    let digits: String = match db.database.kind() {
        DatabaseKind::Sqlite => (1..=15)
            .map(|at| format!("(instr('0123456789abcdef', substr(states, {at}, 1)) - 1)"))
            .reduce(|before, digit| format!("({before} * 16 + {digit})"))
            .unwrap(),
        DatabaseKind::Postgres => "('x' || substr(states, 1, 15))::bit(60)::bigint".to_owned(),
    };
    let mut marks = BTreeSet::new();
    for (table, mark) in [("firewall", "mark"), ("rule", "mark"), ("policy", digits.as_str())] {
        for mark in db.integers(&format!("SELECT {mark} FROM {table}")).await {
            assert!(mark != 0 && marks.insert(mark), "{table}: each has its own");
        }
    }
    marks
}

db_test! {
    committed("migrations have a connection of their own")
    async fn policies_from_before_use_no_features_and_new_ones_neither(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        make_policy(&db, firewall.id, "in").await;
        migrate_before(&db, "m20261127_000010_features").await;
        assert!(!db.tables().await["policy"].contains_key("features"));
        db.database.migrate_up("local").await.unwrap();
        make_policy(&db, firewall.id, "out").await;
        assert_eq!(db.integers("SELECT features FROM policy").await, [0, 0]);
    }
}

db_test! {
    committed("migrations have a connection of their own")
    async fn rows_from_before_have_marks_each_its_own(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        make_firewall(&db, "core").await;
        for name in ["in", "out"] {
            let policy = make_policy(&db, firewall.id, name).await;
            for address in ["10.0.0.1", "10.0.0.2"] {
                make_rule(&db, &policy, parts(address, "any")).await.unwrap();
            }
        }
        let before = marks(&db).await;
        assert_eq!(before.len(), 8);
        migrate_before(&db, "m20261127_000006_tags").await;
        assert!(!db.tables().await["rule"].contains_key("mark"));
        // A row as an older version would have written it.
        db.execute("UPDATE policy SET states = '' WHERE name = 'out'").await;
        db.database.migrate_up("local").await.unwrap();
        let after = marks(&db).await;
        assert_eq!(after.len(), 8);
        assert_eq!(before.intersection(&after).count(), 1, "of the policy that kept it");
    }
}

// Writes of an older version, during a rolling deployment or after a rollback.
db_test! {
    committed("migrations have a connection of their own")
    async fn states_of_who_knows_no_marks_have_new_ones(db: TestDatabase) {
        let firewall = make_firewall(&db, "edge").await;
        let policy = make_policy(&db, firewall.id, "in").await;
        make_rule(&db, &policy, parts("10.0.0.1", "any")).await.unwrap();
        for (table, unmarked) in [("rule", "0"), ("policy", "''"), ("firewall", "0")] {
            let mark = if table == "policy" { "states" } else { "mark" };
            let columns: Vec<String> = db.tables().await[table]
                .keys()
                .filter(|column| !["id", "mark", "states"].contains(&column.as_str()))
                .cloned()
                .collect();
            let columns = columns.join(", ");
            // The row with its name and content is deleted, so that both can be used again.
            db.execute(&format!("UPDATE {table} SET deleted_at = 1")).await;
            let sql = format!("INSERT INTO {table} ({columns}) SELECT {columns} FROM {table}");
            db.execute(&sql).await;
            let count = format!("SELECT count(*) FROM {table} WHERE {mark} <> {unmarked}");
            assert_eq!(db.integers(&count).await, [2], "{table}: a new row has a mark");
            db.execute(&format!("UPDATE {table} SET deleted_at = NULL WHERE id = 1")).await;
        }
        let mut before = marks(&db).await;
        assert_eq!(before.len(), 6);
        for (write, news) in [
            ("UPDATE TABLE SET revision = revision + 1", 6),
            ("UPDATE TABLE SET revision = revision - 1 WHERE id = 1", 3),
            ("UPDATE TABLE SET description = 'the same state'", 0),
        ] {
            for table in ["rule", "policy", "firewall"] {
                db.execute(&write.replace("TABLE", table)).await;
            }
            let after = marks(&db).await;
            assert_eq!(after.difference(&before).count(), news, "{write}");
            before = after;
        }
        // A mark that the writer sets stays.
        db.execute("UPDATE rule SET revision = revision + 1, mark = 7 WHERE id = 1").await;
        db.execute("UPDATE policy SET revision = revision + 1, states = '00000000000000ab'").await;
        assert_eq!(db.integers("SELECT mark FROM rule WHERE id = 1").await, [7]);
        let kept = "SELECT count(*) FROM policy WHERE states = '00000000000000ab'";
        assert_eq!(db.integers(kept).await, [2]);
    }
}

//! Checks that faults of a copy are found before it is accepted as a backup.

use fireflow_storage::testing::{TestDatabase, options};
use fireflow_storage::{BackupError, DatabaseKind, backup, restore};

/// The fault of the copy of a corrupted database.
async fn found_in_copy_after(sql: &str) -> Result<(), String> {
    let test = TestDatabase::new(DatabaseKind::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    test.execute(sql).await;
    let copied = backup(&options(&test.url), &file).await;
    assert_eq!(file.exists(), copied.is_ok(), "only a sound copy has the name");
    match copied {
        Ok(_) => {
            let target = format!("sqlite://{}/restored.db", folder.path().display());
            restore(&options(&target), &file, false).await.map(drop).map_err(|it| it.to_string())
        }
        Err(BackupError::Unsound { why, .. }) => Err(why),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_sound_copy_is_one() {
    assert_eq!(found_in_copy_after("SELECT 1").await, Ok(()));
}

#[tokio::test]
async fn references_to_nothing_are_found() {
    let sql = "PRAGMA foreign_keys = OFF; \
               INSERT INTO firewall_label (owner_id, firewall_id, key, value) \
               VALUES (7, 7, 'a', 'b')";
    let why = found_in_copy_after(sql).await.unwrap_err();
    assert!(why.contains("refers to another"), "{why}");
}

#[tokio::test]
async fn a_newer_versions_database_is_copied_as_it_is_served() {
    let sql = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m2099_later', 0)";
    assert_eq!(found_in_copy_after(sql).await, Ok(()));
}

#[tokio::test]
async fn a_database_of_something_else_is_found() {
    let test = TestDatabase::empty(DatabaseKind::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    test.execute("CREATE TABLE other (id INTEGER)").await;
    let error = backup(&options(&test.url), &folder.path().join("copy.db")).await.unwrap_err();
    assert!(error.to_string().contains("none of FireFlow's tables"), "{error}");
}

/// The message of a restore from a backup that somebody has changed.
async fn said_of_a_backup_after(sql: &str) -> Result<(), String> {
    let test = TestDatabase::new(DatabaseKind::Sqlite).await;
    said_of_a_changed_backup(&test, sql).await
}

async fn said_of_a_changed_backup(test: &TestDatabase, sql: &str) -> Result<(), String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    backup(&options(&test.url), &file).await.unwrap();
    let changed = sea_orm::Database::connect(format!("sqlite://{}", file.display())).await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(&changed, sql).await.unwrap();
    changed.close().await.unwrap();
    let target = folder.path().join("restored.db");
    let restored = restore(&options(&format!("sqlite://{}", target.display())), &file, false).await;
    assert_eq!(target.exists(), restored.is_ok(), "what is refused is not there");
    assert!(!folder.path().join("restored.db.partial").exists());
    restored.map(drop).map_err(|error| error.to_string())
}

#[tokio::test]
async fn every_part_that_is_not_fireflows_is_named() {
    for (sql, part) in [
        ("CREATE TABLE other (id INTEGER)", "its table `other` is not FireFlow's"),
        ("ALTER TABLE rule ADD COLUMN extra TEXT", "the column `extra` of its table `rule` is not"),
        ("CREATE INDEX other ON rule (name)", "its index `other` is not FireFlow's"),
        (
            "CREATE TRIGGER other AFTER INSERT ON rule BEGIN DELETE FROM rule; END",
            "its trigger `other` is not FireFlow's",
        ),
        ("CREATE VIEW other AS SELECT 1", "its view `other` is not FireFlow's"),
        ("DROP TABLE firewall_label", "its table `firewall_label` is missing"),
        ("DROP INDEX rule_changed", "its index `rule_changed` is missing"),
        (
            "DROP INDEX rule_changed; CREATE INDEX rule_changed ON rule (policy_id)",
            "its index `rule_changed` differs from FireFlow's",
        ),
        ("PRAGMA application_id = 7", "its application_id is 7"),
        ("PRAGMA user_version = 3", "its user_version is 3"),
        (
            "DELETE FROM seaql_migrations WHERE version = 'm20261124_000002_filters'",
            "is applied, but not the earlier m20261124_000002_filters",
        ),
        ("DELETE FROM seaql_migrations", "none of FireFlow's tables"),
    ] {
        let said = said_of_a_backup_after(sql).await.unwrap_err();
        assert!(said.contains(part), "{sql}: {said}");
    }
    assert_eq!(said_of_a_backup_after("UPDATE firewall SET name = name").await, Ok(()));
}

#[tokio::test]
async fn triggers_that_were_changed_are_found() {
    let test = TestDatabase::new(DatabaseKind::Sqlite).await;
    let reader = sea_orm::Database::connect(test.url.as_str()).await.unwrap();
    let names = sea_orm::Statement::from_string(
        sea_orm::DbBackend::Sqlite,
        "SELECT name FROM sqlite_schema WHERE type = 'trigger'",
    );
    let triggers = sea_orm::ConnectionTrait::query_all_raw(&reader, names).await.unwrap();
    reader.close().await.unwrap();
    assert!(!triggers.is_empty());
    for row in triggers {
        let name: String = row.try_get_by_index(0).unwrap();
        let drop = format!("DROP TRIGGER {name}");
        let said = said_of_a_changed_backup(&test, &drop).await.unwrap_err();
        assert!(said.contains(&format!("its trigger `{name}` is missing")), "{said}");
    }
}

#[tokio::test]
async fn a_backup_of_every_version_before_is_restored() {
    let test = TestDatabase::new(DatabaseKind::Sqlite).await;
    let steps = test.database.migration_status().await.unwrap().len();
    for _ in 1..steps {
        test.database.migrate_down(Some(1)).await.unwrap();
        assert_eq!(said_of_a_changed_backup(&test, "SELECT 1").await, Ok(()));
        // And is not taken for a later one.
        let later = "CREATE INDEX later ON firewall (name)";
        assert!(said_of_a_changed_backup(&test, later).await.is_err());
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_restored_database_is_its_owners_alone_whatever_the_backups_mode_is() {
    use std::os::unix::fs::PermissionsExt;

    let test = TestDatabase::new(DatabaseKind::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    backup(&options(&test.url), &file).await.unwrap();
    for (number, mode) in [0o400, 0o444, 0o666].into_iter().enumerate() {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let target = folder.path().join(format!("{number}.db"));
        let place = options(&format!("sqlite://{}", target.display()));
        restore(&place, &file, false).await.unwrap();
        let found = std::fs::metadata(&target).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, 0o600, "from {mode:o}");
        let served = fireflow_storage::Database::open(place).await.unwrap();
        served.migrate_up("local").await.unwrap();
        served.close().await.unwrap();
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_a_killed_copy_left_is_removed_and_nothing_else() {
    use std::os::unix::fs::PermissionsExt;

    let test = TestDatabase::new(DatabaseKind::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    let partial = folder.path().join("copy.db.partial");
    let leave = |content: &[u8], mode| {
        std::fs::write(&partial, content).unwrap();
        std::fs::set_permissions(&partial, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (content, mode) in [(&b"my notes"[..], 0o600), (b"", 0o644), (b"SQLite format 3\0", 0o660)]
    {
        leave(content, mode);
        let refused = backup(&options(&test.url), &file).await.unwrap_err();
        assert!(matches!(refused, BackupError::Exists { .. }), "{refused}");
        assert_eq!(std::fs::read(&partial).unwrap(), content);
        std::fs::remove_file(&partial).unwrap();
    }
    // A draft that is being written is locked.
    leave(b"", 0o600);
    let made = std::fs::File::open(&partial).unwrap();
    made.try_lock().unwrap();
    assert!(backup(&options(&test.url), &file).await.is_err());
    drop(made);
    for content in [&b""[..], b"SQLite format 3\0 and so on"] {
        leave(content, 0o600);
        backup(&options(&test.url), &file).await.unwrap();
        assert!(!partial.exists());
        std::fs::remove_file(&file).unwrap();
    }
}

#[tokio::test]
async fn a_copy_that_is_given_up_leaves_nothing() {
    let test = TestDatabase::new(DatabaseKind::Sqlite).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy.db");
    let place = options(&test.url);
    let mut copy = Box::pin(backup(&place, &file));
    // As far as its first wait.
    let waker = std::task::Waker::noop();
    let mut context = std::task::Context::from_waker(waker);
    assert!(copy.as_mut().poll(&mut context).is_pending());
    assert!(folder.path().join("copy.db.partial").exists());
    drop(copy);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

//! What is found out about a copy before it is taken for a backup.

use fireflow_storage::testing::{TestDatabase, options};
use fireflow_storage::{BackupError, DatabaseKind, backup, restore};

/// What is wrong with the copy of a database that was spoilt.
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

//! Ownership of a SQLite file, and the effects of removing or replacing it.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fireflow_domain::error::StoreError;
use fireflow_domain::store::{ReadKind, Storage, Terms, WriteKind};
use fireflow_domain::testing::unchecked::checks_nothing_without;
use fireflow_domain::usecase::firewall;
use fireflow_storage::testing::{TestDatabase, options};
use fireflow_storage::{Database, DatabaseKind, DatabaseOptions, OpenError, Purpose, backup};

use crate::support::{self, caller, make_firewall, new_firewall};

/// Longer than it takes to notice any change.
const TIMEOUT: Duration = Duration::from_secs(60);

async fn database() -> (TestDatabase, PathBuf) {
    let db = TestDatabase::new(DatabaseKind::Sqlite).await;
    let path = PathBuf::from(db.url.trim_start_matches("sqlite://"));
    (db, path)
}

fn url(path: &Path) -> DatabaseOptions {
    options(&format!("sqlite://{}", path.display()))
}

/// Creates a firewall.
async fn write(db: &TestDatabase, name: &str) -> Result<(), StoreError> {
    let mut uow = db.database.write(WriteKind::Few, &Terms::default()).await?;
    firewall::create(&mut *uow, &caller(), new_firewall(name)).await.unwrap();
    uow.commit().await
}

async fn names(db: &TestDatabase) -> i64 {
    db.integers("SELECT count(*) FROM firewall").await[0]
}

async fn is_ready(db: &TestDatabase) -> bool {
    db.database.is_ready().await.unwrap()
}

fn refused(result: Result<Database, OpenError>) -> String {
    match result {
        Err(error @ (OpenError::InUse { .. } | OpenError::Refused { .. })) => error.to_string(),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("it was opened"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_open_is_refused_by_every_name() {
    let (db, path) = database().await;
    let folder = path.parent().unwrap();
    let (link, twice, hard) =
        (folder.join("link.db"), folder.join("twice.db"), folder.join("hard.db"));
    symlink(&path, &link).unwrap();
    symlink("link.db", &twice).unwrap();
    fs::hard_link(&path, &hard).unwrap();
    let linked = tempfile::tempdir().unwrap();
    symlink(folder, linked.path().join("data")).unwrap();
    let through = linked.path().join("data").join("test.db");
    let around = folder.join("..").join(folder.file_name().unwrap()).join("./test.db");
    for alias in [&link, &twice, &hard, &through, &around] {
        let told = refused(Database::open(url(alias)).await);
        assert!(told.contains("is in use by process"), "{}: {told}", alias.display());
    }
    write(&db, "still").await.unwrap();
    assert!(is_ready(&db).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_ask_for_takes_no_lock_away() {
    let (db, path) = database().await;
    refused(Database::open(url(&path)).await);
    let hard = path.with_extension("hard");
    fs::hard_link(&path, &hard).unwrap();
    refused(Database::open(url(&hard)).await);
    fs::remove_file(&hard).unwrap();
    // SQLite keeps its own kind of lock as long as a connection is open. The system lists it with
    // this process and this file.
    let inode = std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    if cfg!(target_os = "linux") {
        let of_file = |kind: &str| {
            let (process, inode) = (std::process::id().to_string(), format!(":{inode}"));
            locks.lines().any(|line| {
                let words: Vec<_> = line.split_ascii_whitespace().collect();
                words.contains(&kind)
                    && words.contains(&process.as_str())
                    && words.iter().any(|word| word.ends_with(&inode))
            })
        };
        assert!(of_file("FLOCK"), "{locks}");
        assert!(of_file("POSIX"), "{locks}");
    }
    write(&db, "more").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_made_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.db");
    let database = Database::open(url(&path)).await.unwrap();
    database.migrate_up("local").await.unwrap();
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let file = folder.path().join(format!("new.db{suffix}"));
        let mode = fs::metadata(&file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    database.close().await.unwrap();
    // The mode of an existing file is its owner's decision.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    Database::open(url(&path)).await.unwrap().close().await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[tokio::test]
async fn places_that_cannot_be_used_are_named_with_the_cure() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    symlink("loop.db", folder.join("loop.db")).unwrap();
    for (path, part) in [
        ("nonexistent/x.db", "nonexistent does not exist: create it first"),
        (".", "it is a folder"),
        ("loop.db", "links lead to each other"),
    ] {
        let told = refused(Database::open(url(&folder.join(path))).await);
        assert!(told.contains(part) && !told.contains(".lock"), "{told}");
    }
    // A link to a missing file creates the database at its target.
    symlink("later.db", folder.join("link.db")).unwrap();
    let made = Database::open(url(&folder.join("link.db"))).await.unwrap();
    made.close().await.unwrap();
    assert!(folder.join("later.db").is_file() && folder.join("later.db.lock").is_file());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_waited_for_and_a_service_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    let command = DatabaseOptions { purpose: Purpose::Command("migrate up"), ..url(&path) };
    let first = Database::open(command.clone()).await.unwrap();
    let second = tokio::spawn(Database::open(command));
    // By now it has tried more than once, and a service would have refused it.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(!second.is_finished());
    first.close().await.unwrap();
    second.await.unwrap().unwrap().close().await.unwrap();
    let served = Database::open(url(&path)).await.unwrap();
    assert!(refused(Database::open(url(&path)).await).contains("in use"));
    served.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_moved_away_takes_no_writes_until_it_is_back() {
    let (db, path) = database().await;
    write(&db, "before").await.unwrap();
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    assert!(!is_ready(&db).await);
    assert!(matches!(write(&db, "lost").await, Err(StoreError::Unavailable(_))));
    // The existing data is read as before.
    assert_eq!(names(&db).await, 1);
    // A different file in its place is not ours.
    fs::copy(&aside, &path).unwrap();
    assert!(!is_ready(&db).await);
    assert!(matches!(write(&db, "lost").await, Err(StoreError::Unavailable(_))));
    fs::rename(&aside, &path).unwrap();
    assert!(is_ready(&db).await);
    write(&db, "after").await.unwrap();
    assert_eq!(names(&db).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_to_a_file_without_a_name_is_not_acknowledged() {
    let (db, path) = database().await;
    let mut uow = support::write(&db).await;
    firewall::create(&mut *uow, &caller(), new_firewall("edge")).await.unwrap();
    let aside = path.with_extension("aside");
    fs::rename(&path, &aside).unwrap();
    assert!(matches!(uow.commit().await, Err(StoreError::Unsettled(_))));
    fs::rename(&aside, &path).unwrap();
    assert_eq!(names(&db).await, 1, "nobody knew, but it is there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_folders_that_are_removed_are_noticed() {
    for what in ["", "-wal", "-shm", "folder", "folder renamed"] {
        let (db, path) = database().await;
        write(&db, "before").await.unwrap();
        let folder = path.parent().unwrap();
        match what {
            "folder" => fs::remove_dir_all(folder).unwrap(),
            "folder renamed" => fs::rename(folder, folder.with_extension("moved")).unwrap(),
            suffix => fs::remove_file(format!("{}{suffix}", path.display())).unwrap(),
        }
        assert!(!is_ready(&db).await, "{what}");
        let refused = write(&db, "lost").await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{what}: {refused:?}");
        if what == "folder renamed" {
            fs::rename(folder.with_extension("moved"), folder).unwrap();
            assert!(is_ready(&db).await);
            write(&db, "after").await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removed_log_held_is_moved_to_the_database() {
    let (db, path) = database().await;
    write(&db, "acknowledged").await.unwrap();
    fs::remove_file(format!("{}-wal", path.display())).unwrap();
    // If the process is killed, only the file is left.
    let start = Instant::now();
    let is_in = |bytes: Vec<u8>| bytes.windows(12).any(|window| window == b"acknowledged");
    while !is_in(fs::read(&path).unwrap()) {
        assert!(start.elapsed() < TIMEOUT, "it is not saved");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_written_over_is_not_read_either() {
    let (db, path) = database().await;
    write(&db, "before").await.unwrap();
    let copy = path.with_extension("copy");
    backup(&options(&db.url), &copy).await.unwrap();
    // The same file, with the contents of the copy.
    fs::write(&path, fs::read(&copy).unwrap()).unwrap();
    assert!(!is_ready(&db).await);
    assert!(matches!(write(&db, "lost").await, Err(StoreError::Unavailable(_))));
    let read = db.database.read(ReadKind::Single, &Terms::default()).await;
    assert!(matches!(read, Err(StoreError::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_database_that_is_written_over_it_is_noticed() {
    // A database of the same kind, which is longer but has fewer changes.
    let (other, path_of_other) = database().await;
    // A connection whose first statement is a checkpoint would block itself.
    write(&other, "one").await.unwrap();
    let (db, path) = database().await;
    for number in 0..20 {
        write(&db, &format!("firewall {number}")).await.unwrap();
    }
    for each in [&db, &other] {
        each.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
        assert!(is_ready(each).await);
    }
    let mut bytes = fs::read(&path_of_other).unwrap();
    bytes.resize(fs::metadata(&path).unwrap().len().try_into().unwrap(), 0);
    fs::write(&path, bytes).unwrap();
    assert!(!is_ready(&db).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_cut_is_noticed() {
    let (db, path) = database().await;
    for number in 0..50 {
        make_firewall(&db, &format!("firewall {number}")).await;
    }
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").await;
    assert!(is_ready(&db).await);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_len(8_192).unwrap();
    // Closing it would drop SQLite's locks on it, in this process only.
    std::mem::forget(file);
    assert!(!is_ready(&db).await);
    assert!(matches!(write(&db, "lost").await, Err(StoreError::Unavailable(_))));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_not_opened_by_a_name_that_its_log_is_not_beside() {
    let folder = tempfile::tempdir().unwrap();
    let (first, hard) = (folder.path().join("first.db"), folder.path().join("hard.db"));
    let made = Database::open(url(&first)).await.unwrap();
    made.migrate_up("local").await.unwrap();
    made.close().await.unwrap();
    if rustix::fs::getxattr(&first, "user.fireflow.path", &mut [0_u8; 4_096][..]).is_err() {
        return checks_nothing_without("a file system that keeps attributes");
    }
    fs::hard_link(&first, &hard).unwrap();
    // The state after a crash.
    fs::write(folder.path().join("first.db-wal"), "what was written last").unwrap();
    let told = refused(Database::open(url(&hard)).await);
    assert!(told.contains("first.db-wal: use that name"), "{told}");
    let copied = backup(&url(&hard), &folder.path().join("copy.db")).await.unwrap_err();
    assert!(copied.to_string().contains("use that name"), "{copied}");
    // Opened by its own name once, it can then also be opened by the other one.
    Database::open(url(&first)).await.unwrap().close().await.unwrap();
    Database::open(url(&hard)).await.unwrap().close().await.unwrap();
}

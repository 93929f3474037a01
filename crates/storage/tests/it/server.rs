//! PostgreSQL as it is operated: foreign locks, defaults of roles and databases, poolers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use fireflow_domain::actor::Visibility;
use fireflow_domain::store::{ReadKind, Storage, Terms, WriteKind};
use fireflow_storage::testing::{TestDatabase, options, postgres_url};
use fireflow_storage::{Database, DatabaseKind, DatabaseUrl, OpenError};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait};

use crate::support::*;

/// A connection that FireFlow does not know.
async fn stranger(url: &str) -> DatabaseConnection {
    sea_orm::Database::connect(url).await.unwrap()
}

async fn run(connection: &DatabaseConnection, sql: &str) {
    connection.execute_unprepared(sql).await.unwrap();
}

/// A name that no other test has.
fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst))
}

fn with_parameter(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

/// The URL with another user.
fn as_user(url: &str, user: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap();
    let place = rest.split_once('@').map_or(rest, |(_, place)| place);
    format!("postgres://{user}@{place}")
}

/// The URL with another database.
fn in_database(url: &str, database: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (server, _) = place.rsplit_once('/').unwrap();
    format!("{server}/{database}?{query}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreign_lock_costs_no_connection_beyond_the_limit_and_leaves_nothing_running() {
    const LIMIT: i64 = 8;
    let db = TestDatabase::new(DatabaseKind::Postgres).await;
    let application = unique("locked");
    let url = with_parameter(&db.url, &format!("application_name={application}"));
    let url = DatabaseUrl::parse(&url).unwrap();
    let db = db.reopened(|options| options.url = url).await;
    let firewall = make_firewall(&db, "edge").await;
    let policy = make_policy(&db, firewall.id, "in").await;

    let server = stranger(&db.url).await;
    let lock = server.begin().await.unwrap();
    lock.execute_unprepared("SELECT 1 FROM policy FOR UPDATE").await.unwrap();

    // The observer counts throughout.
    let count = {
        let server = stranger(&postgres_url()).await;
        async move |also: &str| -> i64 {
            let sql = format!(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = '{application}' \
                 {also}"
            );
            let statement = Statement::from_string(DbBackend::Postgres, sql);
            let row = server.query_one_raw(statement).await.unwrap().unwrap();
            row.try_get_by_index(0).unwrap()
        }
    };
    let is_over = Arc::new(AtomicBool::new(false));
    let watch = {
        let (is_over, count) = (Arc::clone(&is_over), count.clone());
        tokio::spawn(async move {
            let mut most = 0;
            while !is_over.load(Ordering::SeqCst) {
                most = most.max(count("").await);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            most
        })
    };
    let mut writers = Vec::new();
    for _ in 0..56 {
        let (database, ids) = (db.database.clone(), (firewall.id, policy.id));
        writers.push(tokio::spawn(async move {
            let waits = async {
                let deadline = Some(Instant::now() + Duration::from_millis(1_500));
                let terms = Terms { deadline, ..Terms::default() };
                let mut unit = database.write(WriteKind::Few, &terms).await.unwrap();
                unit.policies_mut().lock(&Visibility::All, ids.0, ids.1).await.unwrap();
            };
            // This is what a request's time limit does.
            tokio::time::timeout(Duration::from_millis(300), waits).await
        }));
    }
    // In the meantime others are served.
    for _ in 0..50 {
        let mut unit = read(&db, ReadKind::Single).await;
        let found = unit.policies().get(&Visibility::All, firewall.id, policy.id).await.unwrap();
        assert!(found.is_some());
        unit.end().await.unwrap();
    }
    for writer in writers {
        assert!(writer.await.unwrap().is_err(), "it had the lock");
    }
    let ended = async {
        while count("AND wait_event_type = 'Lock'").await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();
    lock.rollback().await.unwrap();
    let mut unit = write(&db).await;
    assert!(unit.policies_mut().lock(&Visibility::All, firewall.id, policy.id).await.is_ok());
    unit.commit().await.unwrap();
    is_over.store(true, Ordering::SeqCst);
    let most = watch.await.unwrap();
    assert!((1..=LIMIT).contains(&most), "{most} connections");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn defaults_of_a_role_change_nothing() {
    let db = TestDatabase::new(DatabaseKind::Postgres).await;
    let firewall = make_firewall(&db, "edge").await;
    let policy = make_policy(&db, firewall.id, "in").await;
    let (server, role) = (stranger(&db.url).await, unique("role"));
    run(&server, &format!("CREATE ROLE {role} SUPERUSER LOGIN")).await;
    for setting in [
        "statement_timeout = '30ms'",
        "lock_timeout = '10ms'",
        "idle_in_transaction_session_timeout = '30ms'",
        "default_transaction_isolation = 'serializable'",
        "default_transaction_read_only = on",
        "synchronous_commit = off",
        "client_encoding = 'LATIN1'",
        "timezone = 'Asia/Tokyo'",
    ] {
        run(&server, &format!("ALTER ROLE {role} SET {setting}")).await;
    }
    let url = DatabaseUrl::parse(&as_user(&db.url, &role)).unwrap();
    let db = db.reopened(|options| options.url = url).await;

    let lock = server.begin().await.unwrap();
    lock.execute_unprepared("SELECT 1 FROM policy FOR UPDATE").await.unwrap();
    let (database, ids) = (db.database.clone(), (firewall.id, policy.id));
    let waits = tokio::spawn(async move {
        let mut unit = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
        let locked = unit.policies_mut().lock(&Visibility::All, ids.0, ids.1).await;
        locked.unwrap().unwrap();
        // The transaction does nothing for a while.
        tokio::time::sleep(Duration::from_millis(100)).await;
        unit.commit().await.unwrap();
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    lock.rollback().await.unwrap();
    waits.await.unwrap();
    make_firewall(&db, "größer").await;
    db.database.close().await.unwrap();
    run(&server, &format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_search_path_without_a_schema_is_refused_with_the_cure() {
    let url = with_parameter(&postgres_url(), "options=-c%20search_path%3Dnowhere");
    let refused = Database::open(options(&url)).await.err().unwrap();
    assert!(matches!(refused, OpenError::NoSchema { .. }), "{refused}");
    assert!(refused.to_string().contains("`nowhere`"), "{refused}");
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused_with_the_cure() {
    let (server, database) = (stranger(&postgres_url()).await, unique("latin"));
    let made = format!(
        "CREATE DATABASE {database} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    );
    run(&server, &made).await;
    let refused = Database::open(options(&in_database(&postgres_url(), &database))).await;
    run(&server, &format!("DROP DATABASE {database}")).await;
    let refused = refused.err().unwrap();
    assert!(matches!(refused, OpenError::Encoding { .. }), "{refused}");
}

#[tokio::test]
async fn too_few_connections_are_refused() {
    let few = fireflow_storage::DatabaseOptions { max_connections: 5, ..options(&postgres_url()) };
    let refused = Database::open(few).await.err().unwrap();
    assert!(matches!(refused, OpenError::TooFewConnections(5)), "{refused}");
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_at_once_that_says_so() {
    let start = Instant::now();
    let away = Database::open(options("postgres://me@127.0.0.1:1/x")).await.err().unwrap();
    assert!(start.elapsed() < Duration::from_secs(30), "it waited for its time limit");
    let text = fireflow_domain::error::ErrorChain(&away).to_string();
    assert!(text.contains("refused"), "{text}");
}

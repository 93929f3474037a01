//! PostgreSQL behind PgBouncer: works if sessions are kept, and is refused if they are not.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

use fireflow_domain::store::{Storage, Terms, WriteKind};
use fireflow_domain::testing::unchecked::checks_nothing_without;
use fireflow_domain::usecase::firewall;
use fireflow_storage::testing::{options, postgres_url};
use fireflow_storage::{Database, OpenError};
use sea_orm::ConnectionTrait;
use sea_orm::sqlx::postgres::PgConnectOptions;

use crate::support::*;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running PgBouncer; ends when it is dropped.
struct PgBouncer {
    process: Child,
    address: SocketAddr,
    user: String,
    _folder: tempfile::TempDir,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _killed = self.process.kill().is_ok();
        let _ended = self.process.wait().is_ok();
    }
}

/// The path where Debian installs it, which is in no user's PATH.
fn program() -> Option<&'static str> {
    ["/usr/sbin/pgbouncer", "/usr/local/bin/pgbouncer", "/usr/bin/pgbouncer"]
        .into_iter()
        .find(|it| Path::new(it).exists())
}

impl PgBouncer {
    /// Starts one in front of the test server. Returns `None`, and notes that, if it is not installed.
    fn start(pool_mode: &str) -> Option<Self> {
        let Some(program) = program() else {
            checks_nothing_without("PgBouncer (`cargo xtask ci --install` installs it)");
            return None;
        };
        let server = PgConnectOptions::from_str(&postgres_url()).unwrap();
        let host = match server.get_socket() {
            Some(socket) => socket.display().to_string(),
            None => server.get_host().to_owned(),
        };
        let user = server.get_username().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let users = folder.path().join("users.txt");
        fs::write(&users, format!("\"{user}\" \"\"\n")).unwrap();
        let settings = folder.path().join("pgbouncer.ini");
        fs::write(
            &settings,
            format!(
                "[databases]\n* = host={host} port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
                 listen_port = {}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
                 pool_mode = {pool_mode}\n",
                server.get_port(),
                address.port(),
                users.display()
            ),
        )
        .unwrap();
        // It refuses to run as root.
        let id = Command::new("id").arg("-u").output().unwrap();
        let mut command = if id.stdout.starts_with(b"0\n") {
            let path = folder.path();
            let owned = Command::new("chown").args(["-R", "postgres:"]).arg(path).status().unwrap();
            assert!(owned.success());
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", program]);
            command
        } else {
            Command::new(program)
        };
        command.arg("-q").arg(settings).current_dir("/");
        let process =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let mut pooler = Self { process: process.unwrap(), address, user, _folder: folder };
        let start = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(pooler.process.try_wait().unwrap().is_none(), "PgBouncer has ended");
            assert!(start.elapsed() < PATIENCE, "PgBouncer does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(pooler)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://{}@{}/{database}", self.user, self.address)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_keeps_sessions_is_served_through() {
    let Some(pooler) = PgBouncer::start("session") else { return };
    let server = sea_orm::Database::connect(postgres_url()).await.unwrap();
    let name = format!("pooled{}", std::process::id());
    server.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();

    let database = Database::open(options(&pooler.url(&name))).await.unwrap();
    database.migrate_up("local").await.unwrap();
    assert!(database.is_ready().await.unwrap());
    let mut tasks = Vec::new();
    for number in 0..64 {
        let database = database.clone();
        tasks.push(tokio::spawn(async move {
            let mut unit = database.write(WriteKind::Few, &Terms::default()).await.unwrap();
            let new = new_firewall(&format!("edge {number}"));
            firewall::create(&mut *unit, &caller(), new).await.unwrap();
            unit.commit().await.unwrap();
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    // An abandoned statement ends at the server, and frees its connection, through a pooler too.
    for _ in 0..20 {
        database.run_for(Duration::from_millis(20), &Terms::default()).await;
    }
    assert!(database.is_ready().await.unwrap());
    database.close().await.unwrap();
    // The pooler may keep its own connections to the database.
    drop(pooler);
    let dropped = format!("DROP DATABASE {name} WITH (FORCE)");
    server.execute_unprepared(&dropped).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pooler_that_mixes_up_sessions_is_refused_with_the_cure() {
    for mode in ["transaction", "statement"] {
        let Some(pooler) = PgBouncer::start(mode) else { return };
        // On the second attempt it has idle connections.
        for _ in 0..3 {
            let refused = Database::open(options(&pooler.url("postgres"))).await.err().unwrap();
            assert!(matches!(refused, OpenError::Pooler), "{mode}: {refused}");
            assert!(refused.to_string().contains("pool_mode = session"), "{refused}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_pooler_does_not_pass_on_is_named() {
    let Some(pooler) = PgBouncer::start("session") else { return };
    let url = format!("{}?options=-c%20search_path%3Dpublic", pooler.url("postgres"));
    let refused = Database::open(options(&url)).await.err().unwrap();
    assert!(matches!(refused, OpenError::PoolerParameter(_)), "{refused}");
    assert!(refused.to_string().contains("options"), "{refused}");
}

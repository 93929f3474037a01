//! Backs up a SQLite database and restores it, to and from files or pipes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use anyhow::{Context, anyhow};
use fireflow_storage::{BackupError, Contents, DatabaseOptions, Spool, on_thread};

use super::{Failure, options_of, print};
use crate::settings::Settings;

/// The file name that means standard input or output: a container may have no `tar` to copy files
/// with.
const PIPE: &str = "-";

/// Copies the database while it is served. A signal stops the copy and removes what was written.
pub(super) async fn backup(settings: &Settings, file: &Path) -> Result<(), Failure> {
    let options = options_of(settings, "backup");
    unless_stopped(Box::pin(async {
        if file == Path::new(PIPE) {
            return to_pipe(&options).await;
        }
        let contents = fireflow_storage::backup(&options, file).await.map_err(failure)?;
        print(&format!("{} holds {}", file.display(), described(contents)))
    }))
    .await
}

async fn to_pipe(options: &DatabaseOptions) -> Result<(), Failure> {
    let spool = Spool::new(options, "outgoing").map_err(failure)?;
    let contents = fireflow_storage::backup(options, spool.path()).await.map_err(failure)?;
    let mut copy = File::open(spool.path())?;
    // Unlinked while open, the file disappears however this process ends. Some systems refuse this;
    // there, dropping the spool removes it.
    let _removed = fs::remove_file(spool.path()).is_ok();
    let write = move || {
        let mut output = io::stdout().lock();
        io::copy(&mut copy, &mut output)?;
        output.flush()
    };
    on_thread(write).await.context("standard output")?;
    note(contents)
}

/// Replaces the database with a copy. A signal stops the restore and changes nothing.
pub(super) async fn restore(
    settings: &Settings,
    file: &Path,
    replaces: bool,
) -> Result<(), Failure> {
    let options = options_of(settings, "restore");
    let restored = unless_stopped(Box::pin(async {
        let restored = if file == Path::new(PIPE) {
            let spool = Spool::new(&options, "incoming").map_err(failure)?;
            let path = || spool.path().display().to_string();
            let mut incoming = spool.create().with_context(path)?;
            // `incoming` stays open until the restore ends, because it holds the file's lock.
            let mut input = incoming.try_clone().with_context(path)?;
            let read = move || io::copy(&mut io::stdin().lock(), &mut input);
            on_thread(read).await.context("standard input")?;
            incoming.flush()?;
            fireflow_storage::restore(&options, spool.path(), replaces).await
        } else {
            fireflow_storage::restore(&options, file, replaces).await
        };
        restored.map_err(failure)
    }));
    let contents = restored.await?;
    print(&format!("restored {}", described(contents)))
}

/// Runs `work` unless a signal comes first. Dropping the unfinished work removes its files.
async fn unless_stopped<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::select! {
        // Polled first, so that the handlers are installed before there is anything to remove.
        biased;
        () = signal() => Err(Failure::Other(anyhow!(
            "stopped by a signal; the unfinished copy was removed"
        ))),
        done = work => done,
    }
}

/// Waits for a signal to end, including the hangup of a closed terminal.
async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut hangup = signal(SignalKind::hangup()).ok();
        let mut terminate = signal(SignalKind::terminate()).ok();
        let received = async |signal: &mut Option<tokio::signal::unix::Signal>| match signal {
            Some(signal) => {
                signal.recv().await;
            }
            // Without a handler, the signal terminates the process.
            None => std::future::pending().await,
        };
        tokio::select! {
            () = received(&mut hangup) => {}
            () = received(&mut terminate) => {}
            () = interrupt() => {}
        }
    }
    #[cfg(not(unix))]
    interrupt().await;
}

async fn interrupt() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Prints the summary to standard error, because standard output carries the copy itself.
fn note(contents: Contents) -> Result<(), Failure> {
    Ok(writeln!(io::stderr(), "the backup holds {}", described(contents))?)
}

fn described(contents: Contents) -> String {
    let Contents { firewalls, policies, rules } = contents;
    format!("{firewalls} firewalls, {policies} filtering policies, {rules} rules")
}

fn failure(error: BackupError) -> Failure {
    match error {
        BackupError::NotSqlite | BackupError::Exists { .. } | BackupError::Missing(_) => {
            Failure::usage(error)
        }
        BackupError::Open(ref fault) if super::is_usage(fault) => Failure::usage(error),
        BackupError::Unsound { .. }
        | BackupError::Open(_)
        | BackupError::Database(_)
        | BackupError::File { .. } => Failure::Other(error.into()),
    }
}

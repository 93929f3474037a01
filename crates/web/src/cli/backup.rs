//! Copies of a SQLite database, and the way back; to and from files or pipes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use fireflow_storage::{BackupError, Contents};

use super::{Failure, database_options, print};
use crate::settings::Settings;

/// The name that stands for standard input and output, where a container has no `tar` to copy by.
const PIPE: &str = "-";

/// Copies the database while it is served.
pub(super) async fn backup(settings: &Settings, file: &Path) -> Result<(), Failure> {
    let options = database_options(settings);
    if file != Path::new(PIPE) {
        let contents = fireflow_storage::backup(&options, file).await.map_err(failure)?;
        return print(&format!("{} holds {}", file.display(), described(contents)));
    }
    let spool = Spool::beside(settings, "outgoing")?;
    let contents = fireflow_storage::backup(&options, &spool.path).await.map_err(failure)?;
    let mut copy = File::open(&spool.path)?;
    let mut output = io::stdout().lock();
    io::copy(&mut copy, &mut output).and_then(|_| output.flush()).context("standard output")?;
    note(contents)
}

/// Puts a copy in the database's place.
pub(super) async fn restore(
    settings: &Settings,
    file: &Path,
    replaces: bool,
) -> Result<(), Failure> {
    let options = database_options(settings);
    let contents = if file == Path::new(PIPE) {
        let spool = Spool::beside(settings, "incoming")?;
        spool.fill(&mut io::stdin().lock())?;
        fireflow_storage::restore(&options, &spool.path, replaces).await
    } else {
        fireflow_storage::restore(&options, file, replaces).await
    };
    print(&format!("restored {}", described(contents.map_err(failure)?)))
}

/// A file beside the database, where there is room for a copy; gone when this is dropped.
struct Spool {
    path: PathBuf,
}

impl Spool {
    fn beside(settings: &Settings, word: &str) -> Result<Self, Failure> {
        let database = settings.database_url.file();
        let mut name = database.ok_or_else(|| failure(BackupError::NotSqlite))?.into_os_string();
        name.push(format!(".{word}-{}", std::process::id()));
        Ok(Self { path: name.into() })
    }

    fn fill(&self, input: &mut dyn Read) -> anyhow::Result<()> {
        let mut options = File::options();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&self.path).with_context(|| self.path.display().to_string())?;
        io::copy(input, &mut file).context("standard input")?;
        Ok(())
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // It may not have come to be.
        let _removed = fs::remove_file(&self.path).is_ok();
    }
}

/// Beside a copy on standard output there is room for words on the other one alone.
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

//! The commands of the binary.

mod backup;
mod demo;
mod files;
mod healthcheck;
mod idle_memory;
mod inspect;
mod jwt;
mod migrate;
mod purge;
mod reference;
mod secret;
mod serve;
mod stop;
mod verify;

use std::ffi::OsString;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use fireflow_auth::{Authenticator, KeyFiles};
use fireflow_domain::features::FEATURES_KNOWN;
use fireflow_storage::{Database, DatabaseOptions, OpenError, Purpose};
use fireflow_telemetry::lines::JsonLines;
use tracing_subscriber::EnvFilter;

use self::secret::LocalSecret;
use crate::clock::SystemClock;
use crate::settings::{self, Environment, Loaded, LogFormat, Settings, Sources};

/// Manages firewalls, their filtering policies and ordered rules in one place.
#[derive(Debug, Parser)]
#[command(name = "fireflow", version, after_help = settings::SHORT_HELP)]
struct Cli {
    /// Read settings from this file instead of fireflow.toml.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the API (the default).
    #[command(after_help = settings::SHORT_HELP)]
    Serve {
        /// Listen on this address and port instead of FIREFLOW_LISTEN; port 0 picks a free one and
        /// prints it.
        #[arg(long, value_name = "ADDRESS:PORT")]
        listen: Option<SocketAddr>,
    },
    /// List every setting and its default (also `fireflow --help settings`).
    Settings,
    /// Change the database's schema, or show its state.
    Migrate {
        #[command(subcommand)]
        step: MigrateStep,
    },
    /// Print a token, and nothing else, to standard output.
    Jwt(JwtArgs),
    /// Fill the database with an example, and print four questions with their answers. Requires
    /// that both FIREFLOW_ENVIRONMENT and the database are `local`.
    Demo,
    /// Evaluate packets from a file or a flow log against rules from a file, without a server.
    Inspect(inspect::Arguments),
    /// Print the description of the API (OpenAPI 3.0, JSON).
    Openapi,
    /// Print a page of the documentation that is generated from the code (Markdown).
    #[command(hide = true)]
    Reference {
        /// The page.
        page: reference::Page,
    },
    /// Check whether a running service is ready: exit status 0 or 1.
    Healthcheck {
        /// The service's URL, such as `http://fireflow:8080`. Default: FIREFLOW_LISTEN.
        #[arg(long)]
        url: Option<String>,
    },
    /// Permanently remove resources that were deleted long ago, and stored responses that have
    /// expired. The service does this regularly; the audit trail is never removed.
    Purge {
        /// The minimum time since deletion: 90d, 24h, or 0s for all. Default:
        /// FIREFLOW_RETENTION__DELETED.
        #[arg(long, value_name = "AGE")]
        older_than: Option<String>,
    },
    /// Copy the SQLite database into a new file; the service may be running.
    Backup {
        /// The new file; `-` is standard output.
        file: PathBuf,
    },
    /// Replace the SQLite database with a backup (the service must be stopped). Refused if any part
    /// of the file is not FireFlow's.
    Restore {
        /// The backup; `-` is standard input.
        file: PathBuf,
        /// Keep the current database as FILE.replaced; FILE is its name.
        #[arg(long)]
        replace: bool,
    },
    /// Verify stored data.
    Verify {
        #[command(subcommand)]
        what: verify::Verify,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum MigrateStep {
    /// Apply all pending steps.
    Up,
    /// Undo the last steps. Requires a database that was created in `local`.
    Down {
        /// The number of steps.
        #[arg(long, default_value_t = 1)]
        steps: u32,
    },
    /// Undo all steps and apply them again: all data is lost. Requires a database that was created in `local`.
    Reset,
    /// Show every step, and whether it is applied.
    Status,
}

#[derive(Debug, Args)]
struct JwtArgs {
    /// The token's subject.
    #[arg(long)]
    user: Option<String>,
    /// Its roles, separated by commas: viewer, editor, admin, health_check.
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// Its lifetime: 30s, 5m, 24h, 30d.
    #[arg(long)]
    ttl: Option<String>,
    /// The tenants that it has access to, separated by commas. Default: all.
    #[arg(long, value_delimiter = ',')]
    tenants: Option<Vec<String>>,
}

/// Why a command failed.
#[derive(Debug)]
enum Failure {
    /// Wrong usage or settings: exit status 2.
    Usage(anyhow::Error),
    /// Anything else: exit status 1.
    Other(anyhow::Error),
}

impl Failure {
    fn usage(why: impl Into<anyhow::Error>) -> Self {
        Self::Usage(why.into())
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(error.into())
    }
}

/// Runs the command that the arguments name. Exit status: 0, 1 for a failure, 2 for wrong usage or
/// settings, with one line that explains the failure.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { 2 } else { 0 };
            // If even this cannot be printed, there is no other output to report to.
            let _printed = error.print().is_ok();
            return ExitCode::from(status);
        }
    };
    let (status, error) = match execute(cli) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(error)) => (2, error),
        Err(Failure::Other(error)) => (1, error),
    };
    let _printed = writeln!(std::io::stderr(), "fireflow: {error:#}").is_ok();
    ExitCode::from(status)
}

/// The arguments, with `--help settings` and `help settings` as the command `settings`, whatever
/// command they come after: clap takes no word after `--help`.
fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let given: Vec<OsString> = given.collect();
    let asks_for_settings = given.windows(2).skip(1).any(|pair| {
        let [asks, what] = pair else { return false };
        ["--help", "-h", "help"].iter().any(|word| asks == word) && what == "settings"
    });
    let program = given.first().cloned().unwrap_or_default();
    if asks_for_settings { vec![program, OsString::from("settings")] } else { given }
}

fn execute(cli: Cli) -> Result<(), Failure> {
    let command = cli.command.unwrap_or(Command::Serve { listen: None });
    if matches!(command, Command::Settings) {
        return print(&settings::help());
    }
    if matches!(command, Command::Openapi) {
        return print(&serve::description()?);
    }
    if let Command::Reference { page } = command {
        return print(&reference::page(page));
    }
    if let Command::Healthcheck { url: Some(url) } = &command {
        return healthcheck::at(url);
    }
    if let Command::Inspect(arguments) = &command {
        return inspect::inspect(arguments);
    }
    let Loaded { mut settings, warnings } = load(cli.config)?;
    if matches!(command, Command::Demo) {
        // Log lines about its own requests would only hide its output.
        settings.telemetry.log = "warn".to_owned();
    }
    log_to_stderr(&settings)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::Serve { listen } => {
            settings.listen = listen.unwrap_or(settings.listen);
            let served = runtime.block_on(serve::serve(&settings));
            // Computations whose requests have ended are not waited for.
            runtime.shutdown_background();
            served
        }
        Command::Migrate { step } => runtime.block_on(migrate::migrate(&settings, step)),
        Command::Jwt(arguments) => jwt::jwt(&settings, &arguments),
        Command::Demo => runtime.block_on(demo::demo(&settings)),
        Command::Healthcheck { .. } => healthcheck::healthcheck(&settings),
        Command::Purge { older_than } => {
            runtime.block_on(purge::purge(&settings, older_than.as_deref()))
        }
        Command::Backup { file } => runtime.block_on(backup::backup(&settings, &file)),
        Command::Restore { file, replace } => {
            runtime.block_on(backup::restore(&settings, &file, replace))
        }
        Command::Verify { what } => runtime.block_on(verify::verify(&settings, &what)),
        Command::Inspect(_) | Command::Openapi | Command::Reference { .. } | Command::Settings => {
            Ok(())
        }
    }
}

fn load(config: Option<PathBuf>) -> Result<Loaded, Failure> {
    let is_named = config.is_some();
    let path = config.unwrap_or_else(|| PathBuf::from("fireflow.toml"));
    let name = path.display().to_string();
    let file = match std::fs::read(&path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Some((name, text)),
            Err(_) => return Err(Failure::usage(anyhow::anyhow!("{name}: is not valid UTF-8"))),
        },
        // A dangling link is an error: somebody meant to configure a file.
        Err(error)
            if error.kind() == std::io::ErrorKind::NotFound
                && !is_named
                && std::fs::symlink_metadata(&path).is_err() =>
        {
            None
        }
        Err(error) => return Err(Failure::usage(anyhow::anyhow!("{name}: {error}"))),
    };
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let sources = Sources {
        environment: settings::environment(std::env::vars_os()).map_err(Failure::usage)?,
        file,
        is_terminal: std::io::stderr().is_terminal(),
        processors: u32::try_from(processors).unwrap_or(u32::MAX),
    };
    settings::load(&sources).map_err(Failure::usage)
}

fn log_to_stderr(settings: &Settings) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&settings.telemetry.log).map_err(Failure::usage)?;
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let installed = match settings.telemetry.log_format {
        LogFormat::Pretty => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.event_format(JsonLines).try_init(),
    };
    installed.map_err(|error| Failure::Other(anyhow::anyhow!(error)))
}

/// Prints a line to standard output. A reader that closes the pipe (`| head`) is no failure.
fn print(text: &str) -> Result<(), Failure> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A number and its noun: `1 fault`, `2 faults`.
fn counted(count: u64, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

/// The database options of a command; `serve` sets its own purpose.
fn database_options(settings: &Settings) -> DatabaseOptions {
    DatabaseOptions {
        url: settings.database_url.clone(),
        read_url: settings.read_url.clone(),
        max_connections: settings.max_connections,
        list_timeout: settings.http.list_timeout,
        acquire_timeout: settings.database.acquire_timeout,
        turn_timeout: settings.http.request_timeout,
        write_group: settings.database.write_group,
        observer: None,
        features: FEATURES_KNOWN,
        policy_limits: settings.policy_limits,
        purpose: Purpose::Command("command"),
    }
}

/// The options of the named command, which other commands on the same SQLite file wait for.
fn options_of(settings: &Settings, command: &'static str) -> DatabaseOptions {
    DatabaseOptions { purpose: Purpose::Command(command), ..database_options(settings) }
}

async fn open(options: DatabaseOptions) -> Result<Database, Failure> {
    Database::open(options).await.map_err(|error| {
        if is_usage(&error) { Failure::usage(error) } else { Failure::Other(error.into()) }
    })
}

/// Whether the error is one that only the user can correct.
const fn is_usage(error: &OpenError) -> bool {
    match error {
        OpenError::BadUrl(_)
        | OpenError::InUse { .. }
        | OpenError::Refused { .. }
        | OpenError::Lock { .. }
        | OpenError::TooFewConnections(_)
        | OpenError::Encoding { .. }
        | OpenError::NoSchema { .. }
        | OpenError::Pooler
        | OpenError::PoolerParameter(_) => true,
        OpenError::Connect { .. } => false,
    }
}

/// The generated secret, if the service is a local one to which none is given.
fn local_secret(settings: &Settings) -> Result<Option<LocalSecret>, Failure> {
    let is_local = settings.environment == Environment::Local;
    let is_needed = is_local && settings.tokens.secrets.is_empty();
    Ok(if is_needed { Some(secret::local()?) } else { None })
}

/// The keys of tokens: those of the settings, or else the generated secret.
fn key_files(settings: &Settings, local: Option<&LocalSecret>) -> KeyFiles {
    let mut files = settings.tokens.clone();
    files.secrets.extend(local.map(|local| local.secret.clone()));
    files
}

/// Checks tokens by the settings.
fn authenticator(
    settings: &Settings,
    local: Option<&LocalSecret>,
) -> Result<Authenticator, Failure> {
    let files = key_files(settings, local);
    let trust = files.read().map_err(|why| Failure::usage(anyhow::anyhow!(why)))?;
    let authenticator = Authenticator::new(trust);
    Ok(match local {
        Some(local) => authenticator.with_local_secret(&local.file.display().to_string()),
        None => authenticator,
    })
}

fn clock() -> SystemClock {
    SystemClock
}

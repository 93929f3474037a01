//! Runs programs, and prints messages.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Changes to the repository's root, so that commands work from any folder.
pub(crate) fn go_to_root() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the repository's root")?;
    std::env::set_current_dir(root).with_context(|| root.display().to_string())
}

/// Prints a message to standard error.
pub(crate) fn say(text: &str) {
    // If even this cannot be written, there is no other output to report to.
    let _written = writeln!(std::io::stderr(), "{text}").is_ok();
}

/// Prints a result to standard output.
pub(crate) fn print(text: &str) -> Result<()> {
    Ok(write!(std::io::stdout(), "{text}")?)
}

/// Runs a program, whose output goes to the terminal.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.stdin(Stdio::null()).status().with_context(|| name(command))?;
    if status.success() { Ok(()) } else { bail!("{} failed: {status}", name(command)) }
}

/// Runs a program, and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| name(command))?;
    if !output.status.success() {
        bail!("{} failed: {}", name(command), output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Creates an empty folder below `target/`, and returns its absolute path.
pub(crate) fn empty_folder(name: &str) -> Result<PathBuf> {
    let folder = std::env::current_dir()?.join("target").join(name);
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    Ok(folder)
}

/// Removes the service's settings from a command's environment.
pub(crate) fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FIREFLOW_") {
            command.env_remove(name);
        }
    }
}

/// Runs cargo.
pub(crate) fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new(cargo_path()).args(arguments))
}

/// The path of the cargo that runs this program.
pub(crate) fn cargo_path() -> String {
    std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned())
}

/// Installs packages of Debian or Ubuntu, which requires root.
pub(crate) fn apt_install(packages: &[&str]) -> Result<()> {
    say(&format!("installing {} with apt-get", packages.join(", ")));
    let apt = |arguments: &[&str]| {
        run(Command::new("apt-get").args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-qq"])?;
    apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages].concat())
}

/// Whether a program is installed and accepts an argument.
pub(crate) fn answers(program: &str, argument: &str) -> bool {
    answers_all(program, &[argument])
}

/// Whether a program is installed and accepts several arguments.
pub(crate) fn answers_all(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The name of a command in messages. Later arguments are left out, because they may be secrets.
fn name(command: &Command) -> String {
    let arguments = command.get_args().take(2).map(|it| it.to_string_lossy().into_owned());
    let words: Vec<String> = std::iter::once(command.get_program().to_string_lossy().into_owned())
        .chain(arguments)
        .collect();
    words.join(" ")
}

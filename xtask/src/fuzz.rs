//! Fuzzing with libFuzzer. It needs a nightly toolchain, so it is not part of `ci`. Ordinary tests
//! replay the stored inputs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{ci, sh};

const CARGO_FUZZ_VERSION: &str = "0.13.2";

/// Runs each target for this number of seconds. Its crate's folder `artifacts` receives the
/// findings, and `corpus` the new inputs. A run begins with `corpus`, `seeds` and `regressions`.
pub(crate) fn fuzz(seconds: &str) -> Result<()> {
    let Ok(seconds) = seconds.parse::<u32>() else {
        bail!("fuzz takes --seconds with a number, not `{seconds}`");
    };
    let targets = targets(Path::new("crates"))?;
    if !sh::answers_all("rustup", &["run", "nightly", "cargo", "--version"]) {
        bail!("fuzzing needs a nightly toolchain: `rustup toolchain install nightly`");
    }
    let tool = ci::tool("cargo-fuzz", CARGO_FUZZ_VERSION)?;
    for Target { fuzz, name, inputs } in targets {
        sh::say(&format!("fuzzing {name} of {} for {seconds} seconds", fuzz.display()));
        // libFuzzer writes new inputs to the first folder.
        let corpus = fuzz.join("corpus").join(&name);
        fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        let mut command = Command::new("rustup");
        // The tool is run directly, because `cargo fuzz` would look for it on the PATH.
        command.args(["run", "nightly"]).arg(&tool).args(["fuzz", "run", "--fuzz-dir"]);
        command.arg(&fuzz).arg(&name).arg(&corpus).args(&inputs);
        // Slow inputs are findings too.
        let time = format!("-max_total_time={seconds}");
        command.args(["--", &time, "-timeout=5", "-print_final_stats=1"]);
        // These variables choose the toolchain of xtask itself, not of the fuzzer.
        sh::run(command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO"))?;
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Target {
    /// The folder of the targets' crate.
    fuzz: PathBuf,
    name: String,
    /// The folders of stored inputs: the seeds, and inputs that once failed.
    inputs: [PathBuf; 2],
}

/// The targets of every crate in a folder: the files in `fuzz/fuzz_targets`.
fn targets(crates: &Path) -> Result<BTreeSet<Target>> {
    let mut targets = BTreeSet::new();
    for member in fs::read_dir(crates).with_context(|| crates.display().to_string())? {
        let fuzz = member?.path().join("fuzz");
        let Ok(files) = fs::read_dir(fuzz.join("fuzz_targets")) else { continue };
        for file in files {
            let path = file?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str());
            let name = name.with_context(|| path.display().to_string())?.to_owned();
            let inputs = ["seeds", "regressions"].map(|folder| fuzz.join(folder).join(&name));
            if let Some(missing) = inputs.iter().find(|folder| !folder.is_dir()) {
                bail!("{} has no folder {}", path.display(), missing.display());
            }
            targets.insert(Target { fuzz: fuzz.clone(), name, inputs });
        }
    }
    if targets.is_empty() {
        bail!("no crate below {} has a fuzz target", crates.display());
    }
    Ok(targets)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_targets_of_all_crates_are_found_with_their_inputs() {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
        let names: Vec<String> = targets(&crates).unwrap().into_iter().map(|it| it.name).collect();
        for name in ["bodies", "files", "filter", "parse", "requests", "tokens"] {
            assert!(names.iter().any(|it| it == name), "{names:?}");
        }
        assert!(targets(&crates.join("domain")).is_err());
    }
}

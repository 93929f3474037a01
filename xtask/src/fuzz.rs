//! Fuzzing with libFuzzer. It needs a nightly toolchain, so that it is no part of `ci`.

use std::process::Command;

use anyhow::{Result, bail};

use crate::{ci, sh};

const CARGO_FUZZ_VERSION: &str = "0.13.2";
/// The crate of the targets, and they themselves.
const CRATE: &str = "crates/domain/fuzz";
const TARGETS: [&str; 2] = ["parse", "filter"];

/// Each target, for so many seconds. What it finds is in `crates/domain/fuzz/artifacts`.
pub(crate) fn fuzz(seconds: &str) -> Result<()> {
    let Ok(seconds) = seconds.parse::<u32>() else {
        bail!("fuzz takes --seconds with a number, not `{seconds}`");
    };
    if !sh::answers_all("rustup", &["run", "nightly", "cargo", "--version"]) {
        bail!("fuzzing needs a nightly toolchain: `rustup toolchain install nightly`");
    }
    let tool = ci::tool("cargo-fuzz", CARGO_FUZZ_VERSION)?;
    for target in TARGETS {
        sh::say(&format!("fuzzing {target} for {seconds} seconds"));
        let time = format!("-max_total_time={seconds}");
        let mut command = Command::new("rustup");
        // As its own program: the alias of cargo would look for it on the PATH.
        command.args(["run", "nightly"]).arg(&tool).args(["fuzz", "run", "--fuzz-dir", CRATE]);
        // Slow inputs are findings too.
        command.args([target, "--", &time, "-timeout=5", "-print_final_stats=1"]);
        // What chose the toolchain for xtask itself does not hold for this one.
        sh::run(command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO"))?;
    }
    Ok(())
}

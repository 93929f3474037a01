//! The binary `fireflow`: see `fireflow --help`.

use std::process::ExitCode;

fn main() -> ExitCode {
    fireflow::cli::run()
}

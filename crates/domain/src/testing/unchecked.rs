//! Tests that can check nothing on this machine, because something that they need is missing.

use std::env;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::thread;

/// The variable with the file to which such tests add a line each. `cargo xtask test` sets it, and
/// names the tests when all have run, because a test that checks nothing passes otherwise unnoticed.
const VARIABLE: &str = "FIREFLOW_TEST_UNCHECKED";

/// Notes that this test checks nothing, or less, without something such as `the public rule sets`.
pub fn checks_nothing_without(what: &str) {
    let Some(file) = env::var_os(VARIABLE) else { return };
    let thread = thread::current();
    let line = format!("{what}\t{}\n", thread.name().unwrap_or("a test"));
    let opened = OpenOptions::new().create(true).append(true).open(file);
    // One call, because other tests append lines at the same time. If this fails, only the summary
    // lacks the line.
    let _written = opened.and_then(|mut file| file.write_all(line.as_bytes())).is_ok();
}

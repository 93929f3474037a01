//! The checks are in `testing` of the crate, so that tests can replay the inputs it finds.

#![no_main]

use fireflow_auth::testing::TOKENS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| TOKENS.check(text));

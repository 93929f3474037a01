//! The checks are in `testing` of the crate, so that tests can replay the inputs it finds.

#![no_main]

use fireflow_formats::testing::FILES;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| FILES.check(text));

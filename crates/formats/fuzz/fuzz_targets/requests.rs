//! The checks are in `testing` of the crate, so that tests can replay the inputs it finds.

#![no_main]

use fireflow_formats::testing::REQUESTS;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| REQUESTS.check(text));

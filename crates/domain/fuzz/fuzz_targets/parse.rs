//! The checks are in `testing::fuzz` of the domain, so that tests can replay the inputs it finds.

#![no_main]

use fireflow_domain::testing::fuzz::PARSE;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| PARSE.check(text));

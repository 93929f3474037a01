//! The filter language: reading never panics, and what is read is written so that it is read as the
//! same again.

#![no_main]

use fireflow_domain::filter::parse::MAX_FILTER_CHARS;
use fireflow_domain::filter::{Filter, Level};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for level in [Level::Firewall, Level::Policy, Level::Rule] {
        match Filter::parse(level, text) {
            Err(error) => assert!((1..=text.chars().count() + 1).contains(&error.position)),
            Ok(filter) => {
                let written = filter.to_string();
                // Spaces and whole timestamps can take it beyond what is read.
                if written.chars().count() <= MAX_FILTER_CHARS {
                    let again = Filter::parse(level, &written);
                    assert_eq!(again.as_ref(), Ok(&filter), "{text:?} is written as {written:?}");
                    assert_eq!(filter.to_string(), written);
                }
            }
        }
    }
});

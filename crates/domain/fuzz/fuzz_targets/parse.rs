//! Everything that the domain reads from text: it never panics, and what it accepts it writes in a
//! canonical spelling, which it reads as the same value.

#![no_main]

use std::fmt::Display;

use fireflow_domain::ids::FirewallId;
use fireflow_domain::net::{AddressRange, PortRange, Protocol};
use fireflow_domain::text::Name;
use fireflow_domain::time::Instant;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    survives_writing(text, |it| AddressRange::parse(it).ok());
    survives_writing(text, |it| PortRange::parse(it).ok());
    survives_writing(text, |it| Protocol::parse(it).ok());
    survives_writing(text, |it| Instant::parse(it).ok());
    survives_writing(text, |it| Name::parse(it).ok());
    survives_writing(text, FirewallId::parse);
});

fn survives_writing<T: Display + PartialEq>(text: &str, parse: impl Fn(&str) -> Option<T>) {
    let Some(value) = parse(text) else { return };
    let written = value.to_string();
    let again = parse(&written);
    assert!(again.is_some_and(|it| it == value), "{text:?} is written as {written:?}");
    assert_eq!(value.to_string(), written);
}

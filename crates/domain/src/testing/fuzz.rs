//! Properties that hold for any text. The fuzz targets search for texts that break them, and tests
//! replay the stored texts (see [`corpus`](super::corpus)). Both use the functions of this module.

use std::fmt::Display;

use crate::filter::parse::MAX_FILTER_CHARS;
use crate::filter::{Filter, Level};
use crate::ids::FirewallId;
use crate::net::{AddressRange, PortRange, Protocol};
use crate::text::Name;
use crate::time::Instant;

/// A parser of texts.
#[derive(Debug, Clone, Copy)]
pub struct Reader {
    /// The prefix of the names of its seeds.
    pub name: &'static str,
    /// Gives the parser a text, and returns whether it accepts the text. Panics if the parser
    /// breaks a property.
    pub check: fn(&str) -> bool,
}

/// A fuzz target: all its readers get every text.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of its binary, and of the folders of its inputs.
    pub name: &'static str,
    /// Its readers.
    pub readers: &'static [Reader],
}

impl Target {
    /// Gives a text to every reader.
    ///
    /// # Panics
    /// Panics if a reader breaks a property.
    pub fn check(&self, text: &str) {
        for reader in self.readers {
            (reader.check)(text);
        }
    }
}

/// The targets of this crate.
pub const TARGETS: [Target; 2] = [PARSE, FILTER];

/// All values that the domain reads from text. Parsing never panics. The canonical spelling of each
/// accepted value reads as the same value.
pub const PARSE: Target = Target {
    name: "parse",
    readers: &[
        Reader {
            name: "address",
            check: |text| survives_writing(text, |it| AddressRange::parse(it).ok()),
        },
        Reader {
            name: "port",
            check: |text| survives_writing(text, |it| PortRange::parse(it).ok()),
        },
        Reader {
            name: "protocol",
            check: |text| survives_writing(text, |it| Protocol::parse(it).ok()),
        },
        Reader {
            name: "instant",
            check: |text| survives_writing(text, |it| Instant::parse(it).ok()),
        },
        Reader { name: "name", check: |text| survives_writing(text, |it| Name::parse(it).ok()) },
        Reader { name: "id", check: |text| survives_writing(text, FirewallId::parse) },
    ],
};

/// The filter language of every list. Parsing never panics, the position of an error is within the
/// text, and a printed filter reads as the same filter.
pub const FILTER: Target = Target {
    name: "filter",
    readers: &[
        Reader { name: "firewall", check: |text| filter_survives_writing(Level::Firewall, text) },
        Reader { name: "policy", check: |text| filter_survives_writing(Level::Policy, text) },
        Reader { name: "rule", check: |text| filter_survives_writing(Level::Rule, text) },
        Reader { name: "event", check: |text| filter_survives_writing(Level::Event, text) },
    ],
};

fn survives_writing<T: Display + PartialEq>(text: &str, parse: impl Fn(&str) -> Option<T>) -> bool {
    let Some(value) = parse(text) else { return false };
    let written = value.to_string();
    let again = parse(&written);
    assert!(again.is_some_and(|it| it == value), "{text:?} is written as {written:?}");
    assert_eq!(value.to_string(), written);
    true
}

fn filter_survives_writing(level: Level, text: &str) -> bool {
    match Filter::parse(level, text) {
        Err(error) => {
            let places = 1..=text.chars().count() + 1;
            assert!(places.contains(&error.position), "{text:?}: {error}");
            false
        }
        Ok(filter) => {
            let written = filter.to_string();
            // Added spaces and full timestamps can make it longer than the limit.
            if written.chars().count() <= MAX_FILTER_CHARS {
                let again = Filter::parse(level, &written);
                assert_eq!(again.as_ref(), Ok(&filter), "{text:?} is written as {written:?}");
                assert_eq!(filter.to_string(), written);
            }
            true
        }
    }
}

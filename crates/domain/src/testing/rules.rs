//! Rules that tests start from.

use crate::labels::Labels;
use crate::net::{AddressRange, PortRange, Protocol, Protocols};
use crate::rule::{Action, Endpoint, RuleParts};
use crate::text::{Description, Name, Reference};
use crate::time::Instant;

/// The parts of a rule that allows everything. A test only names the parts that it changes.
#[must_use]
pub fn everything() -> RuleParts {
    let anywhere = vec![Endpoint { address: AddressRange::Any, port: None }];
    RuleParts::new(Action::Allow, 1, anywhere.clone(), anywhere)
}

/// A rule that sets every member, except the ICMP fields.
///
/// # Panics
/// Never, since its texts are good.
#[must_use]
#[expect(clippy::unwrap_used, reason = "only tests call it, and the texts are good")]
pub fn full() -> RuleParts {
    let entry = |address: &str, port: Option<&str>| Endpoint {
        address: AddressRange::parse(address).unwrap(),
        port: port.map(|text| PortRange::parse(text).unwrap()),
    };
    let labels = [("team/net", "x"), ("a", "")];
    let labels = labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    RuleParts {
        name: Some(Name::parse("\u{fc}ber-rule").unwrap()),
        action: Action::Reject,
        priority: i32::MIN,
        protocols: ["tcp", "132"].map(|it| Protocol::parse(it).unwrap()).into_iter().collect(),
        // These need ICMP as the only protocol; `full_icmp` has them.
        icmp_type: None,
        icmp_code: None,
        sources: vec![
            entry("any", None),
            entry("10.0.0.0/8", Some("1024-65535")),
            entry("2001:db8::1", None),
        ],
        destinations: vec![entry("192.0.2.7-192.0.2.9", None), entry("::/0", Some("443"))],
        ports: ["8000-8100", "22"].map(|it| PortRange::parse(it).unwrap()).to_vec(),
        enabled: false,
        log: true,
        starts_at: Some(Instant::parse("2026-11-24T12:00:00Z").unwrap()),
        expires_at: Some(Instant::parse("2026-11-24T12:00:00.000001Z").unwrap()),
        description: Description::parse("line one\nline two \u{1f525}").unwrap(),
        reference: Reference::parse("CHG-1").unwrap(),
        labels: Labels::new(labels.collect()).unwrap(),
    }
}

/// A rule that sets the ICMP fields, which need ICMP as the only protocol and no ports.
#[must_use]
pub fn full_icmp() -> RuleParts {
    RuleParts {
        protocols: Protocols::from_iter([Protocol::ICMP]),
        icmp_type: Some(255),
        icmp_code: Some(0),
        ..everything()
    }
}

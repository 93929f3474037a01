//! Rules that tests start from.

use crate::labels::Labels;
use crate::net::{AddressRange, Protocols};
use crate::rule::{Action, Endpoint, RuleParts};
use crate::text::{Description, Reference};

/// The parts of a rule that allows everything. A test only names the parts that it changes.
#[must_use]
pub fn everything() -> RuleParts {
    let anywhere = vec![Endpoint { address: AddressRange::Any, port: None }];
    RuleParts {
        name: None,
        action: Action::Allow,
        priority: 1,
        protocols: Protocols::ANY,
        icmp_type: None,
        icmp_code: None,
        sources: anywhere.clone(),
        destinations: anywhere,
        ports: Vec::new(),
        enabled: true,
        log: false,
        starts_at: None,
        expires_at: None,
        description: Description::default(),
        reference: Reference::default(),
        labels: Labels::default(),
    }
}

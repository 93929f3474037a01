//! The members that a request for a stored rule left out.

use super::model::{Criteria, RuleParts, Schedule};

/// Which members a request left out. Only members count that decide what a rule matches and when,
/// and that have a default. (`action`, `sources` and `destinations` have none: a rule without them
/// is not valid.)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one for each member")]
pub struct LeftOut {
    /// `protocols`.
    pub protocols: bool,
    /// `icmp_type`.
    pub icmp_type: bool,
    /// `icmp_code`.
    pub icmp_code: bool,
    /// `ports`.
    pub ports: bool,
    /// `enabled`.
    pub enabled: bool,
    /// `starts_at`.
    pub starts_at: bool,
    /// `expires_at`.
    pub expires_at: bool,
}

impl LeftOut {
    /// The members that were left out although the stored rule's value differs from the default,
    /// each with the JSON that clears it.
    pub fn losses(self, stored: &RuleParts) -> impl Iterator<Item = (&'static str, &'static str)> {
        let Self { protocols, icmp_type, icmp_code, ports, enabled, starts_at, expires_at } = self;
        // No `..`: the compiler demands a decision here for each new member that decides.
        let Criteria {
            protocols: stored_protocols,
            icmp_type: stored_type,
            icmp_code: stored_code,
            // These have no default.
            sources: _,
            destinations: _,
            ports: stored_ports,
        } = Criteria::of(stored);
        let Schedule { enabled: stored_enabled, starts_at: stored_start, expires_at: stored_end } =
            Schedule::of(stored);
        [
            (protocols && !stored_protocols.is_empty(), "protocols", "[]"),
            (icmp_type && stored_type.is_some(), "icmp_type", "null"),
            (icmp_code && stored_code.is_some(), "icmp_code", "null"),
            (ports && !stored_ports.is_empty(), "ports", "[]"),
            (enabled && !stored_enabled, "enabled", "true"),
            (starts_at && stored_start.is_some(), "starts_at", "null"),
            (expires_at && stored_end.is_some(), "expires_at", "null"),
        ]
        .into_iter()
        .filter_map(|(is_lost, member, cleared)| is_lost.then_some((member, cleared)))
    }
}

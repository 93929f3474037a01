//! Checks of rules: which are valid as a whole, and which of their parts can have no effect.

use super::model::{Endpoint, MAX_ENDPOINTS, MAX_PORTS, MAX_PROTOCOLS, RuleParts};
use super::warning::{Warning, WarningCode};
use crate::error::{Violation, Violations};
use crate::net::{Family, Protocol};
use crate::time::Instant;

/// All violations of a rule as a whole.
pub(super) fn violations(parts: &RuleParts) -> Violations {
    let mut violations = Violations::new();
    for (pointer, count, min, max) in [
        ("/protocols", parts.protocols.len(), 0, MAX_PROTOCOLS),
        ("/sources", parts.sources.len(), 1, MAX_ENDPOINTS),
        ("/destinations", parts.destinations.len(), 1, MAX_ENDPOINTS),
        ("/ports", parts.ports.len(), 0, MAX_PORTS),
    ] {
        if count < min || count > max {
            violations.push(Violation::body(
                pointer,
                format!("has {count} entries; {min} to {max} are allowed"),
            ));
        }
    }
    let is_one_icmp = matches!(*parts.protocols, [only] if only.is_icmp());
    if parts.icmp_type.is_some() && !is_one_icmp {
        violations
            .push(Violation::body("/icmp_type", "needs exactly one protocol, `icmp` or `icmpv6`"));
    }
    if parts.icmp_code.is_some() && parts.icmp_type.is_none() {
        violations.push(Violation::body("/icmp_code", "needs `icmp_type`"));
    }
    if let (Some(starts_at), Some(expires_at)) = (parts.starts_at, parts.expires_at)
        && expires_at <= starts_at
    {
        violations.push(Violation::body("/expires_at", "must be later than `starts_at`"));
    }
    if violations.is_empty() && !combinations(parts).any(|c| c.matches_some(parts)) {
        violations.push(Violation::body("", why_nothing_matches(parts)));
    }
    violations
}

/// One family with one protocol: it decides whether a packet can match entries together.
#[derive(Debug, Clone, Copy)]
struct Combination {
    family: Family,
    /// The listed protocol; none if the rule lists none, so that any protocol that fits counts.
    protocol: Option<Protocol>,
}

fn combinations(parts: &RuleParts) -> impl Iterator<Item = Combination> + '_ {
    let listed = parts.protocols.iter().copied().map(Some);
    let any = parts.protocols.is_empty().then_some(None);
    listed
        .chain(any)
        .flat_map(|protocol| Family::ALL.map(|family| Combination { family, protocol }))
        .filter(|c| c.protocol.is_none_or(|protocol| protocol.exists_in(c.family)))
}

impl Combination {
    fn takes_ports(self) -> bool {
        self.protocol.is_none_or(Protocol::has_ports)
    }

    /// Whether some packet of this combination can match the entry.
    fn meets(self, entry: Endpoint, restricts_ports: bool) -> bool {
        entry.address.has_family(self.family) && (self.takes_ports() || !restricts_ports)
    }

    fn meets_source(self, entry: Endpoint) -> bool {
        self.meets(entry, entry.port.is_some())
    }

    fn meets_destination(self, parts: &RuleParts, entry: Endpoint) -> bool {
        self.meets(entry, entry.port.is_some() || !parts.ports.is_empty())
    }

    fn meets_some_source(self, parts: &RuleParts) -> bool {
        parts.sources.iter().any(|entry| self.meets_source(*entry))
    }

    fn meets_some_destination(self, parts: &RuleParts) -> bool {
        parts.destinations.iter().any(|entry| self.meets_destination(parts, *entry))
    }

    fn matches_some(self, parts: &RuleParts) -> bool {
        self.meets_some_source(parts) && self.meets_some_destination(parts)
    }
}

fn why_nothing_matches(parts: &RuleParts) -> String {
    let shares_family = Family::ALL.iter().any(|family| {
        let has = |entries: &[Endpoint]| entries.iter().any(|e| e.address.has_family(*family));
        has(&parts.sources) && has(&parts.destinations)
    });
    if !shares_family {
        return "cannot match any packet: no source and destination share an address family".into();
    }
    let fits_family = Family::ALL.iter().any(|family| {
        let has = |entries: &[Endpoint]| entries.iter().any(|e| e.address.has_family(*family));
        let exists = parts.protocols.is_empty()
            || parts.protocols.iter().any(|protocol| protocol.exists_in(*family));
        exists && has(&parts.sources) && has(&parts.destinations)
    });
    if !fits_family {
        return "cannot match any packet: icmp exists only in IPv4, and icmpv6 only in IPv6".into();
    }
    "cannot match any packet: it has ports, but none of its protocols has ports".into()
}

/// Warnings about the parts of a valid rule that can have no effect. Costs O(entries × protocols).
pub(super) fn warnings(parts: &RuleParts, now: Instant) -> Vec<Warning> {
    let mut warnings = Vec::new();
    let mut warn = |code, pointer: String, detail: &str| {
        warnings.push(Warning { code, pointer, detail: detail.to_owned() });
    };
    let useful: Vec<Combination> =
        combinations(parts).filter(|combination| combination.matches_some(parts)).collect();
    for (index, protocol) in parts.protocols.iter().enumerate() {
        if !useful.iter().any(|c| c.protocol == Some(*protocol)) {
            warn(
                WarningCode::ProtocolWithoutEffect,
                format!("/protocols/{index}"),
                "no packet of this protocol can match the addresses and ports of the rule",
            );
        }
    }
    let is_useful_source = |entry: &Endpoint| useful.iter().any(|c| c.meets_source(*entry));
    let is_useful_destination =
        |entry: &Endpoint| useful.iter().any(|c| c.meets_destination(parts, *entry));
    for (index, detail) in entries_without_effect(
        &parts.sources,
        is_useful_source,
        "the rule has no destination of its address family that its protocols allow",
    ) {
        warn(WarningCode::EntryWithoutEffect, format!("/sources/{index}"), detail);
    }
    for (index, detail) in entries_without_effect(
        &parts.destinations,
        is_useful_destination,
        "the rule has no source of its address family that its protocols allow",
    ) {
        warn(WarningCode::EntryWithoutEffect, format!("/destinations/{index}"), detail);
    }
    if !parts.ports.is_empty() && parts.destinations.iter().all(|entry| entry.port.is_some()) {
        warn(
            WarningCode::PortsWithoutEffect,
            "/ports".to_owned(),
            "every destination has its own port",
        );
    }
    if parts.expires_at.is_some_and(|end| end <= now) {
        warn(
            WarningCode::Expired,
            "/expires_at".to_owned(),
            "`expires_at` is in the past, so the rule no longer matches",
        );
    }
    warnings
}

/// The places of the entries that no packet can match, each with the reason: that of the caller, or
/// that no packet has such an address. If this holds for all of them, the rule as a whole matches
/// nothing, and no single entry is to blame.
fn entries_without_effect(
    entries: &[Endpoint],
    is_useful: impl Fn(&Endpoint) -> bool,
    why: &'static str,
) -> Vec<(usize, &'static str)> {
    const MAPPED: &str =
        "no packet has an address in `::ffff:0:0/96`, where IPv6 maps IPv4 addresses";
    let is_all_mapped = entries.iter().all(|entry| entry.address.is_mapped());
    let reason = |entry: &Endpoint| {
        if !is_useful(entry) {
            Some(why)
        } else {
            (entry.address.is_mapped() && !is_all_mapped).then_some(MAPPED)
        }
    };
    let all = entries.iter().enumerate();
    all.filter_map(|(index, entry)| reason(entry).map(|why| (index, why))).collect()
}

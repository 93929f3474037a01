//! Checks of rules: which are valid as a whole, and which of their parts can have no effect.

use super::model::{Criteria, Endpoint, MAX_ENDPOINTS, MAX_PORTS, MAX_PROTOCOLS, RuleParts};
use super::warning::{Warning, WarningCode};
use crate::error::{Violation, Violations};
use crate::net::{Family, Protocol};
use crate::time::Instant;
use crate::worlds::{Kind, RuleProduct, World};

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
    let product = RuleProduct::new(Criteria::of(parts));
    if violations.is_empty() && !combinations(parts).any(|it| it.fits(&product)) {
        violations.push(Violation::body("", why_nothing_matches(parts)));
    }
    violations
}

/// The packets of one world, or those of them that have a listed protocol.
#[derive(Debug, Clone, Copy)]
struct Combination {
    world: World,
    /// The listed protocol; none if the rule lists none, so that any protocol counts.
    protocol: Option<Protocol>,
}

fn combinations(parts: &RuleParts) -> impl Iterator<Item = Combination> + '_ {
    let listed = parts.protocols.iter().flat_map(|protocol| {
        let families = Family::ALL.into_iter().filter(|family| protocol.exists_in(*family));
        families.map(|family| {
            let world = World { family, kind: Kind::of(*protocol) };
            Combination { world, protocol: Some(*protocol) }
        })
    });
    let any = parts.protocols.is_empty().then(World::all).into_iter().flatten();
    listed.chain(any.map(|world| Combination { world, protocol: None }))
}

impl Combination {
    /// Whether ports and ICMP fields let packets of this combination meet a source.
    fn fits_source(self, product: &RuleProduct<'_>, entry: &Endpoint) -> bool {
        entry.address.has_family(self.world.family)
            && product.source_field(self.world.kind, entry).is_some()
    }

    /// The same of a destination.
    fn fits_destination(self, product: &RuleProduct<'_>, entry: &Endpoint) -> bool {
        entry.address.has_family(self.world.family)
            && !product.destination_fields(self.world.kind, entry).as_slice().is_empty()
    }

    /// Whether the rule is valid because of it. No packet has an address in `::ffff:0:0/96`, but a
    /// rule may name that block.
    fn fits(self, product: &RuleProduct<'_>) -> bool {
        product.sources().iter().any(|entry| self.fits_source(product, entry))
            && product.destinations().iter().any(|entry| self.fits_destination(product, entry))
    }

    /// Whether some packet of this combination meets a source.
    fn meets_source(self, product: &RuleProduct<'_>, entry: &Endpoint) -> bool {
        !entry.address.is_mapped() && self.fits_source(product, entry)
    }

    /// The same of a destination.
    fn meets_destination(self, product: &RuleProduct<'_>, entry: &Endpoint) -> bool {
        !entry.address.is_mapped() && self.fits_destination(product, entry)
    }

    /// Whether some packet of this combination matches the rule.
    fn matches_some(self, product: &RuleProduct<'_>) -> bool {
        product.sources().iter().any(|entry| self.meets_source(product, entry))
            && product.destinations().iter().any(|entry| self.meets_destination(product, entry))
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
    let product = RuleProduct::new(Criteria::of(parts));
    let useful: Vec<Combination> =
        combinations(parts).filter(|combination| combination.matches_some(&product)).collect();
    // A rule that matches no packet at all is a finding of its own: no single part is to blame.
    if !useful.is_empty() {
        for (index, protocol) in parts.protocols.iter().enumerate() {
            if !useful.iter().any(|it| it.protocol == Some(*protocol)) {
                warn(
                    WarningCode::ProtocolWithoutEffect,
                    format!("/protocols/{index}"),
                    "no packet of this protocol can match the addresses and ports of the rule",
                );
            }
        }
        let mut warn_entry = |side, index, entry: &Endpoint, other: &'static str| {
            let why = if entry.address.is_mapped() { MAPPED } else { other };
            warn(WarningCode::EntryWithoutEffect, format!("/{side}/{index}"), why);
        };
        for (index, entry) in parts.sources.iter().enumerate() {
            if !useful.iter().any(|it| it.meets_source(&product, entry)) {
                warn_entry("sources", index, entry, NO_DESTINATION);
            }
        }
        let is_met =
            |entry: &Endpoint| useful.iter().any(|it| it.meets_destination(&product, entry));
        for (index, entry) in parts.destinations.iter().enumerate() {
            if !is_met(entry) {
                warn_entry("destinations", index, entry, NO_SOURCE);
            }
        }
        let takes_ports = |entry: &Endpoint| entry.port.is_none() && is_met(entry);
        if !parts.ports.is_empty() && !parts.destinations.iter().any(takes_ports) {
            warn(
                WarningCode::PortsWithoutEffect,
                "/ports".to_owned(),
                "every destination that packets can match has its own port",
            );
        }
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

const MAPPED: &str = "no packet has an address in `::ffff:0:0/96`, where IPv6 maps IPv4 addresses";
const NO_DESTINATION: &str =
    "the rule has no destination of its address family that its protocols allow";
const NO_SOURCE: &str = "the rule has no source of its address family that its protocols allow";

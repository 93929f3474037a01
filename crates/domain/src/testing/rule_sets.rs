//! Generated rule sets that resemble those of companies. They have sites with servers, users and
//! management networks, external partners, common and rare services, and some IPv6 in addition to
//! IPv4. Some exceptions expire, some leftovers are disabled, and the last rule denies the rest.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::random::Random;
use super::rules::everything;
use crate::labels::Labels;
use crate::net::{AddressRange, PortRange, Protocol, Protocols};
use crate::rule::{Action, Endpoint, RuleParts, RuleSpec};
use crate::text::{Description, Name, Reference};
use crate::time::{Instant, MICROS_PER_SECOND};

/// Services, each with its weight.
const SERVICES: [(u32, Protocol, u16, u16); 14] = [
    (22, Protocol::TCP, 443, 443),
    (10, Protocol::TCP, 80, 80),
    (9, Protocol::TCP, 22, 22),
    (8, Protocol::UDP, 53, 53),
    (7, Protocol::TCP, 3_306, 3_306),
    (7, Protocol::TCP, 5_432, 5_432),
    (6, Protocol::TCP, 8_080, 8_090),
    (6, Protocol::TCP, 25, 25),
    (5, Protocol::TCP, 389, 389),
    (5, Protocol::UDP, 123, 123),
    (5, Protocol::TCP, 3_389, 3_389),
    (4, Protocol::UDP, 161, 162),
    (3, Protocol::TCP, 1_024, 65_535),
    (3, Protocol::SCTP, 2_905, 2_905),
];
const SITES: [&str; 8] = ["fra", "par", "ams", "lon", "nyc", "sin", "syd", "zrh"];
const TEAMS: [&str; 6] = ["net", "web", "db", "mail", "ops", "vpn"];
const DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// A policy's rules, without duplicates, in order of evaluation. `policy` is its number in the
/// company, and decides its site. Expiry times are around `now`.
#[must_use]
pub fn rule_set(seed: u64, policy: u32, rules: usize, now: Instant) -> Vec<RuleSpec> {
    let mut maker = Maker { random: Random::new(seed ^ (u64::from(policy) << 32)), policy, now };
    let mut seen = std::collections::HashSet::new();
    let mut made = Vec::with_capacity(rules);
    // A limit of attempts: with few networks there are few different rules, so fewer are made.
    for _ in 0..rules.saturating_mul(4) {
        if made.len() == rules {
            break;
        }
        let priority = i32::try_from(made.len()).map_or(i32::MAX, |it| it.saturating_mul(10));
        let is_last = made.len() + 1 == rules;
        let parts = if is_last { maker.close(priority) } else { maker.rule(priority) };
        let Ok(spec) =
            parts.map(RuleSpec::new).unwrap_or_else(|| Err(crate::error::Violations::new()))
        else {
            continue;
        };
        if seen.insert(crate::rule::fingerprint::Fingerprint::of(&spec).0) {
            made.push(spec);
        }
    }
    made
}

struct Maker {
    random: Random,
    policy: u32,
    now: Instant,
}

impl Maker {
    fn site(&mut self) -> u32 {
        // Mostly the policy's own site.
        if self.random.happens(70) { self.policy % 64 } else { self.random.below(64) }
    }

    fn v4(&mut self, network: u32, prefix: u8) -> AddressRange {
        let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let inside = self.random.below(u32::MAX) & (0x00ff_ffff >> 8);
        let address = (network | inside) & !hosts;
        AddressRange::block(IpAddr::V4(Ipv4Addr::from_bits(address)), prefix)
    }

    /// An internal network or host: `10.site.…`, or `2001:db8:site::…`.
    fn inside(&mut self, is_v6: bool, widths: &[u8]) -> AddressRange {
        let site = self.site();
        let prefix = self.random.pick(widths).copied().unwrap_or(32);
        if is_v6 {
            let network = 0x2001_0db8_u128 << 96 | u128::from(site) << 80;
            let host = u128::from(self.random.next() & 0xffff) << 64
                | u128::from(self.random.next() & 0xfff);
            let prefix = if prefix == 32 { 128 } else { 48 + (prefix.saturating_sub(16)) * 2 };
            let hosts = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
            let address = (network | host) & !hosts;
            return AddressRange::block(IpAddr::V6(Ipv6Addr::from_bits(address)), prefix);
        }
        self.v4(0x0a00_0000 | site << 16, prefix)
    }

    /// A partner's network or host.
    fn outside(&mut self, is_v6: bool) -> AddressRange {
        if is_v6 {
            let address = 0x2a00_0000_u128 << 96 | u128::from(self.random.below(4_096)) << 80;
            return AddressRange::block(IpAddr::V6(Ipv6Addr::from_bits(address)), 48);
        }
        let networks = [0xc633_6400, 0xcb00_7100, 0x5db8_d800, 0x0808_0800, 0x1717_0000];
        let network = self.random.pick(&networks).copied().unwrap_or(0xc633_6400)
            + (self.random.below(64) << 8);
        let prefix = if self.random.happens(60) { 32 } else { 28 };
        let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
        let address = (network | self.random.below(256)) & !hosts;
        AddressRange::block(IpAddr::V4(Ipv4Addr::from_bits(address)), prefix)
    }

    fn service(&mut self) -> (Protocol, PortRange) {
        let mut ticket = self.random.below(SERVICES.iter().map(|service| service.0).sum());
        for (weight, protocol, first, last) in SERVICES {
            if ticket < weight {
                let range = PortRange::new(first, last).unwrap_or(PortRange::ALL);
                return (protocol, range);
            }
            ticket -= weight;
        }
        (Protocol::TCP, PortRange::single(443))
    }

    fn entries(
        &mut self,
        most: u32,
        mut one: impl FnMut(&mut Self) -> AddressRange,
    ) -> Vec<Endpoint> {
        let count = if self.random.happens(70) { 1 } else { 1 + self.random.below(most) };
        (0..count).map(|_| Endpoint { address: one(self), port: None }).collect()
    }

    fn rule(&mut self, priority: i32) -> Option<RuleParts> {
        let is_v6 = self.random.happens(15);
        let (protocol, port) = self.service();
        let mut parts = self.blank(priority)?;
        parts.protocols = Protocols::from_iter([protocol]);
        match self.random.below(100) {
            // From users to a server.
            0..=44 => {
                parts.sources = self.entries(3, |it| it.inside(is_v6, &[24, 24, 23, 26, 32]));
                parts.destinations = self.entries(3, |it| it.inside(is_v6, &[32, 32, 28]));
                parts.ports = vec![port];
            }
            // From partners to a server, or from a server to partners.
            45..=64 => {
                let outside = self.entries(4, |it| it.outside(is_v6));
                let inside = self.entries(1, |it| it.inside(is_v6, &[32]));
                (parts.sources, parts.destinations) =
                    if self.random.happens(60) { (outside, inside) } else { (inside, outside) };
                parts.ports = vec![port];
            }
            // Management of a site.
            65..=74 => {
                parts.protocols = Protocols::from_iter([Protocol::TCP]);
                parts.sources = self.entries(2, |it| it.inside(is_v6, &[28, 32]));
                parts.destinations = self.entries(1, |it| it.inside(is_v6, &[16, 20, 24]));
                parts.ports = vec![PortRange::single(22), PortRange::single(3_389)];
            }
            // From a site to everywhere.
            75..=79 => {
                parts.sources = self.entries(1, |it| it.inside(is_v6, &[16, 20, 24]));
                parts.destinations =
                    vec![Endpoint { address: AddressRange::Any, port: Some(port) }];
            }
            // A service with its own port on each server.
            80..=87 => {
                parts.sources = self.entries(2, |it| it.inside(is_v6, &[24]));
                parts.destinations = self.entries(4, |it| it.inside(is_v6, &[32]));
                for destination in &mut parts.destinations {
                    destination.port = Some(PortRange::single(
                        8_000 + u16::try_from(self.random.below(999)).unwrap_or(0),
                    ));
                }
            }
            // Blocked traffic.
            88..=94 => {
                parts.action = if self.random.happens(60) { Action::Deny } else { Action::Reject };
                parts.protocols = Protocols::ANY;
                parts.sources = self.entries(2, |it| it.outside(is_v6));
                parts.destinations = self.entries(1, |it| it.inside(is_v6, &[16, 24, 32]));
            }
            // Ping and tunnels.
            _ => {
                parts.protocols = if self.random.happens(70) {
                    Protocols::from_iter([if is_v6 { Protocol::ICMPV6 } else { Protocol::ICMP }])
                } else {
                    Protocols::from_iter([Protocol(47), Protocol(50)])
                };
                parts.sources = self.entries(2, |it| it.inside(is_v6, &[24, 32]));
                parts.destinations = self.entries(1, |it| it.inside(is_v6, &[24, 32]));
            }
        }
        Some(parts)
    }

    /// The last rule, which denies everything.
    fn close(&mut self, priority: i32) -> Option<RuleParts> {
        let any = vec![Endpoint { address: AddressRange::Any, port: None }];
        let parts = self.blank(priority)?;
        Some(RuleParts {
            name: Name::parse("close").ok(),
            action: Action::Deny,
            log: true,
            sources: any.clone(),
            destinations: any,
            ..parts
        })
    }

    fn blank(&mut self, priority: i32) -> Option<RuleParts> {
        let team = self.random.pick(&TEAMS).copied().unwrap_or("net");
        let site =
            SITES.get(usize::try_from(self.policy % 8).unwrap_or(0)).copied().unwrap_or("fra");
        let mut labels = BTreeMap::new();
        if self.random.happens(40) {
            labels.insert("team".to_owned(), team.to_owned());
            labels.insert("site".to_owned(), site.to_owned());
        }
        if self.random.happens(1) {
            labels.insert("audit".to_owned(), format!("q{}", 1 + self.random.below(4)));
        }
        let number = self.random.below(1_000_000);
        // Around now, mostly in the future; in whole minutes, as people write them.
        let expires_at = self.random.happens(5).then(|| {
            let minutes = i64::from(self.random.below(400 * 1_440)) - 100 * 1_440;
            self.now.plus_micros(minutes * (DAY / 1_440))
        });
        Some(RuleParts {
            name: self
                .random
                .happens(60)
                .then(|| Name::parse(&format!("{team}-{priority}-{number:06}")).ok())
                .flatten(),
            priority,
            sources: Vec::new(),
            destinations: Vec::new(),
            enabled: !self.random.happens(3),
            log: self.random.happens(10),
            expires_at,
            description: Description::parse(if self.random.happens(20) {
                "see the ticket"
            } else {
                ""
            })
            .ok()?,
            reference: Reference::parse(&format!("CHG-{:05}", number % 100_000)).ok()?,
            labels: Labels::new(labels).ok()?,
            ..everything()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_rules_and_another_gives_others() {
        let now = Instant::parse("2026-11-24T12:00:00Z").unwrap();
        let rules = rule_set(1, 7, 500, now);
        assert_eq!(rules.len(), 500);
        assert_eq!(rules, rule_set(1, 7, 500, now));
        assert_ne!(rules, rule_set(2, 7, 500, now));
        assert_ne!(rules, rule_set(1, 8, 500, now));
        assert!(rules.iter().all(|rule| rule.warnings(now).len() <= 1));
        let v6 =
            rules.iter().filter(|rule| matches!(rule.sources[0].address, AddressRange::V6 { .. }));
        assert!((30..150).contains(&v6.count()));
        let last = &rules[499];
        assert_eq!((last.action, last.sources[0].address), (Action::Deny, AddressRange::Any));
    }
}

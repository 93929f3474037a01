//! Boxes for the three families of rule sets that benchmarks of packet classification use: access
//! lists, firewalls and IP chains. The generator is FireFlow's own. It follows the description by
//! D. E. Taylor and J. S. Turner (ClassBench, INFOCOM 2005): combinations of prefixes, clusters of
//! addresses, and common ports. A seed gives the same cuboids every time.

use super::random::Random;
use crate::engine::classifier::{ALL_PORTS, Address, Cuboid, CuboidParts, Key, Range, kind};

/// A family of rule sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Access lists: many sources, a few servers, hardly any wildcards.
    AccessList,
    /// Firewalls: half of the rules have any source or any destination.
    Firewall,
    /// IP chains: both sides name networks of every size.
    Chain,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 3] = [Self::AccessList, Self::Firewall, Self::Chain];

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessList => "access list",
            Self::Firewall => "firewall",
            Self::Chain => "IP chain",
        }
    }
}

/// An address width, with the conversion of IPv4 blocks to it.
pub trait Width: Address {
    /// The addresses of a block.
    fn block(first: u32, prefix: u8) -> Range<Self>;
}

/// The hosts of a block, all bits set.
fn hosts(prefix: u8) -> u32 {
    u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0)
}

impl Width for u32 {
    fn block(first: u32, prefix: u8) -> Range<Self> {
        (first, first | hosts(prefix))
    }
}

impl Width for u128 {
    /// A block of IPv4, with its bits in the network part of the IPv6 address. The block of all
    /// addresses becomes that of all IPv6 addresses.
    fn block(first: u32, prefix: u8) -> Range<Self> {
        if prefix == 0 {
            return (0, Self::MAX);
        }
        let (first, last) = (Self::from(first), Self::from(first | hosts(prefix)));
        let network = 0x2001_0db8_u128 << 96;
        (network | first << 64, network | last << 64 | Self::from(u64::MAX))
    }
}

struct Maker(Random);

impl Maker {
    /// A block in one of a few hundred networks, some of which are far more frequent than others.
    fn block(&mut self, prefix: u8) -> (u32, u8) {
        let cluster = self.0.below(16).min(self.0.below(16));
        let site = self.0.below(256).min(self.0.below(256));
        let first = (10 + cluster) << 24 | site << 16 | self.0.below(65_536);
        (first & !hosts(prefix), prefix)
    }

    fn prefix(&mut self, choices: &[(u32, u8)]) -> u8 {
        let sum = choices.iter().map(|(weight, _)| weight).sum();
        let mut at = self.0.below(sum);
        for (weight, prefix) in choices {
            match at.checked_sub(*weight) {
                Some(rest) => at = rest,
                None => return *prefix,
            }
        }
        32
    }

    fn ports(&mut self, range_percent: u32) -> Range<u16> {
        const SERVICES: [u16; 12] = [80, 443, 22, 53, 25, 123, 161, 389, 1433, 3306, 5432, 8080];
        let service = self.0.below(12) as usize;
        let port = SERVICES.get(service).copied().unwrap_or(80);
        if self.0.happens(range_percent) {
            if self.0.happens(50) { (1_024, u16::MAX) } else { (port, port.saturating_add(9)) }
        } else {
            (port, port)
        }
    }
}

/// At most `count` different cuboids of a family, in order of evaluation. There are fewer if the
/// generator repeats itself.
#[must_use]
pub fn cuboids<A: Width>(family: Family, count: u32, seed: u64) -> Vec<Cuboid<A>> {
    let mut maker = Maker(Random::new(seed));
    let servers: Vec<(u32, u8)> = (0..250).map(|_| maker.block(32)).collect();
    let mut seen = std::collections::HashSet::new();
    let mut made = Vec::new();
    for _ in 0..count {
        let (source, destination) = match family {
            Family::AccessList => {
                let prefix =
                    maker.prefix(&[(50, 32), (22, 31), (10, 30), (8, 24), (5, 23), (1, 16)]);
                let server = maker.0.below(250) as usize;
                (maker.block(prefix), servers.get(server).copied().unwrap_or((0, 0)))
            }
            Family::Firewall => {
                let narrow = [(30, 32), (40, 31), (15, 30), (15, 24)];
                let (some, other) = (maker.prefix(&narrow), maker.prefix(&narrow));
                match maker.0.below(100) {
                    0..42 => ((0, 0), maker.block(some)),
                    42..58 => (maker.block(some), (0, 0)),
                    58..60 => (maker.block(8), maker.block(8)),
                    60..85 => (maker.block(16), maker.block(some)),
                    _ => (maker.block(some), maker.block(other)),
                }
            }
            Family::Chain => {
                let wide = [(25, 32), (20, 31), (15, 24), (15, 23), (10, 28), (8, 16), (7, 0)];
                let (some, other) = (maker.prefix(&wide), maker.prefix(&wide));
                let of = |maker: &mut Maker, prefix| {
                    if prefix == 0 { (0, 0) } else { maker.block(prefix) }
                };
                // No cuboid may cover all sources and all destinations.
                let other = if some == 0 { other.max(16) } else { other };
                (of(&mut maker, some), of(&mut maker, other))
            }
        };
        let protocol = maker.prefix(&[(60, 6), (25, 17), (15, 0)]);
        let first = if family != Family::AccessList && maker.0.happens(15) {
            maker.ports(60)
        } else {
            ALL_PORTS
        };
        let second = if maker.0.happens(85) { maker.ports(25) } else { ALL_PORTS };
        let protocol = (protocol != 0).then_some(protocol);
        let order = u32::try_from(made.len()).unwrap_or(0);
        if seen.insert((source, destination, first, second, protocol)) {
            made.push(Cuboid::new(&CuboidParts {
                source: A::block(source.0, source.1),
                destination: A::block(destination.0, destination.1),
                first,
                second,
                protocols: protocol.map_or(kind::ANY, |it| {
                    let number = kind::number(kind::PORTS, it);
                    (number, number)
                }),
                is_conditional: false,
                order,
            }));
        }
    }
    made
}

/// Packets at random corners of random cuboids, without locality.
#[must_use]
pub fn packets<A: Width>(cuboids: &[Cuboid<A>], count: usize, seed: u64) -> Vec<Key<A>> {
    let mut random = Random::new(seed);
    let all = u32::try_from(cuboids.len()).unwrap_or(u32::MAX).max(1);
    let mut packets = Vec::with_capacity(count);
    while packets.len() < count {
        let Some(cuboid) = cuboids.get(random.below(all) as usize) else { break };
        let corner = random.below(16);
        packets.push(cuboid.corner(corner));
    }
    packets
}

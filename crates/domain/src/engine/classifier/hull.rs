//! Hulls: rules whose products are far larger than their lists.
//!
//! A rule of 1,000 sources, 1,000 destinations and 1,000 ports is a product of a thousand million
//! cuboids. The index gets a few cuboids that hold the whole product and more, the pieces of its
//! hull. A packet in one of them is then looked up in the lists of the rule themselves: sorted
//! ranges without overlaps, in which a binary search finds the only one that can hold a number.

use super::address::Address;
use super::cuboid::{Key, Range, kind};

/// What a rule accepts, except for ICMP fields: the pieces of the hull are exact in those.
#[derive(Debug, Clone)]
pub(super) struct Hull<A> {
    /// The protocols with their kinds, in order and apart.
    pub(super) protocols: Vec<Range<u16>>,
    pub(super) sources: Side<A>,
    pub(super) destinations: Side<A>,
}

impl<A: Address> Hull<A> {
    /// Whether the rule accepts a packet whose ICMP fields it accepts.
    pub(super) fn holds(&self, key: &Key<A>) -> bool {
        let (first, second) = ports(key);
        contains(&self.protocols, key.protocol_number())
            && self.sources.holds(key.source, first)
            && self.destinations.holds(key.destination, second)
    }

    /// Calls `visit` for ranges of source ports with which the rule accepts a packet with ports.
    /// The ranges can overlap. The packet's own source port is ignored.
    pub(super) fn source_ports(&self, key: &Key<A>, mut visit: impl FnMut(Range<u16>)) {
        let (_, second) = ports(key);
        if !contains(&self.protocols, key.protocol_number())
            || !self.destinations.holds(key.destination, second)
        {
            return;
        }
        if contains(&self.sources.addresses, key.source) {
            self.sources.ports.iter().for_each(|ports| visit(*ports));
        }
        for ports in self.sources.own.at(key.source) {
            ports.iter().for_each(|ports| visit(*ports));
        }
    }

    /// How much memory it takes besides itself, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.protocols.as_slice()) + self.sources.bytes() + self.destinations.bytes()
    }
}

/// The ports of a packet; none if it has none.
fn ports<A>(key: &Key<A>) -> (Option<u16>, Option<u16>) {
    let has_ports = key.kind == kind::PORTS;
    (has_ports.then_some(key.first), has_ports.then_some(key.second))
}

/// The sources or the destinations of a rule.
#[derive(Debug, Clone)]
pub(super) struct Side<A> {
    /// The addresses of entries that name no port of their own, in order and apart.
    addresses: Vec<Range<A>>,
    /// The ports that go with these addresses, in order and apart.
    ports: Vec<Range<u16>>,
    /// Whether a packet without ports can have these addresses.
    are_ports_free: bool,
    /// The entries with ports of their own.
    own: PortTree<A>,
}

impl<A: Address> Side<A> {
    /// Makes a side of the addresses of entries without ports of their own, the ports that go with
    /// them if there are any, and the entries that have their own ports.
    pub(super) fn new(
        addresses: Vec<Range<A>>,
        ports: &[Range<u16>],
        own: &[(Range<A>, Range<u16>)],
    ) -> Self {
        let are_ports_free = ports.is_empty();
        let ports = if are_ports_free { vec![(0, u16::MAX)] } else { ports.to_vec() };
        Self { addresses: merged(addresses), ports, are_ports_free, own: PortTree::new(own) }
    }

    fn holds(&self, address: A, port: Option<u16>) -> bool {
        let is_usual = match port {
            Some(port) => contains(&self.ports, port),
            None => self.are_ports_free,
        };
        (is_usual && contains(&self.addresses, address))
            || port.is_some_and(|port| self.own.at(address).any(|ports| contains(ports, port)))
    }

    fn bytes(&self) -> usize {
        size_of_val(self.addresses.as_slice())
            + size_of_val(self.ports.as_slice())
            + self.own.bytes()
    }

    /// The most memory of a side of so many entries, some of which have ports of their own, in
    /// bytes, while it is made.
    pub(super) const fn most_bytes(entries: usize, own: usize, ports: usize) -> usize {
        // An entry is in at most two nodes of each level of the tree.
        let levels = (usize::BITS - (2 * own + 1).leading_zeros()) as usize;
        let in_tree = 2 * levels * size_of::<(u32, Range<u16>)>() * 2 + 8 * size_of::<A>();
        entries
            .saturating_mul(2 * size_of::<Range<A>>())
            .saturating_add(own.saturating_mul(in_tree))
            .saturating_add(ports.saturating_mul(size_of::<Range<u16>>()))
    }
}

/// Entries that each have an address range and a port range: a segment tree over the addresses (de
/// Berg and others, "Computational Geometry", 10.3). It takes O(n log n) memory, however the ranges
/// overlap, and a lookup asks one list of ports for each level.
#[derive(Debug, Clone, Default)]
struct PortTree<A> {
    /// The first addresses of segments, in order. No entry begins or ends inside a segment.
    segments: Vec<A>,
    /// Where the ports of each node begin, in order of nodes; the children of node n are 2n and
    /// 2n + 1, and the last nodes are the segments.
    starts: Vec<u32>,
    /// The ports of all nodes; those of one node are in order and apart.
    ports: Vec<Range<u16>>,
}

impl<A: Address> PortTree<A> {
    fn new(entries: &[(Range<A>, Range<u16>)]) -> Self {
        if entries.is_empty() {
            return Self { segments: Vec::new(), starts: Vec::new(), ports: Vec::new() };
        }
        let mut segments: Vec<A> = entries.iter().map(|(addresses, _)| addresses.0).collect();
        // The last address has no segment after it.
        let ends = entries.iter().map(|(addresses, _)| addresses.1).filter(|last| *last < A::MAX);
        segments.extend(ends.map(|last| last.wrapping_add(A::from(1))));
        segments.sort_unstable();
        segments.dedup();
        let leaves = segments.len();
        let mut placed: Vec<(u32, Range<u16>)> = Vec::new();
        for ((first, last), ports) in entries {
            let mut left = leaves + segments.partition_point(|it| it < first);
            let mut right = leaves + segments.partition_point(|it| it <= last);
            while left < right {
                if left % 2 == 1 {
                    placed.extend(u32::try_from(left).map(|node| (node, *ports)));
                    left += 1;
                }
                if right % 2 == 1 {
                    right -= 1;
                    placed.extend(u32::try_from(right).map(|node| (node, *ports)));
                }
                left /= 2;
                right /= 2;
            }
        }
        placed.sort_unstable();
        let mut starts = Vec::with_capacity(2 * leaves + 1);
        let mut all: Vec<Range<u16>> = Vec::with_capacity(placed.len());
        let mut next = placed.into_iter().peekable();
        for node in 0.. {
            starts.push(u32::try_from(all.len()).unwrap_or(u32::MAX));
            if node == 2 * leaves {
                break;
            }
            let start = all.len();
            while let Some((_, ports)) = next.next_if(|it| it.0 as usize == node) {
                match all.get_mut(start..).and_then(<[_]>::last_mut) {
                    Some(before) if u32::from(ports.0) <= u32::from(before.1) + 1 => {
                        before.1 = before.1.max(ports.1);
                    }
                    _ => all.push(ports),
                }
            }
        }
        all.shrink_to_fit();
        segments.shrink_to_fit();
        Self { segments, starts, ports: all }
    }

    /// The lists of ports of all entries that hold an address.
    fn at(&self, address: A) -> impl Iterator<Item = &[Range<u16>]> {
        let segment = self.segments.partition_point(|it| *it <= address);
        // Before the first segment there is no entry.
        let leaf = segment.checked_sub(1).map_or(0, |segment| self.segments.len() + segment);
        std::iter::successors(Some(leaf), |node| Some(node / 2))
            .take_while(|node| *node > 0)
            .filter_map(|node| {
                let (start, end) = (self.starts.get(node)?, self.starts.get(node + 1)?);
                self.ports.get(*start as usize..*end as usize).filter(|ports| !ports.is_empty())
            })
    }

    fn bytes(&self) -> usize {
        size_of_val(self.segments.as_slice())
            + size_of_val(self.starts.as_slice())
            + size_of_val(self.ports.as_slice())
    }
}

/// Whether one of some ranges, which are in order and apart, holds a number.
fn contains<T: Copy + Ord>(ranges: &[Range<T>], number: T) -> bool {
    let begun = ranges.partition_point(|range| range.0 <= number);
    begun.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| number <= range.1)
}

/// The same numbers in as few ranges as possible, in order.
pub(super) fn merged<A: Address>(mut ranges: Vec<Range<A>>) -> Vec<Range<A>> {
    ranges.sort_unstable();
    ranges.dedup_by(|range, before| {
        let touches = range.0 <= before.1 || range.0.wrapping_sub(before.1) == A::from(1);
        if touches {
            before.1 = before.1.max(range.1);
        }
        touches
    });
    ranges.shrink_to_fit();
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random::Random;

    #[test]
    fn ranges_that_touch_become_one() {
        let max = u32::MAX;
        assert_eq!(merged(vec![(9_u32, 9), (0, 3), (4, 5), (1, 2), (7, 8)]), [(0, 5), (7, 9)]);
        assert_eq!(merged(vec![(max, max), (0, max - 1)]), [(0, max)]);
        assert_eq!(merged(vec![(max - 2, max), (max, max), (0, 0)]), [(0, 0), (max - 2, max)]);
        assert_eq!(merged::<u32>(Vec::new()), []);
    }

    #[test]
    fn a_tree_of_ports_holds_what_its_entries_hold() {
        let mut random = Random::new(1);
        for round in 0..300 {
            let mut range = |below: u32, offset: u32| {
                let (one, other) = (random.below(below), random.below(below));
                (offset + one.min(other), offset + one.max(other))
            };
            // Some of the ranges reach the last address.
            let offset = if round % 3 == 0 { u32::MAX - 39 } else { round % 2 };
            let entries: Vec<(Range<u32>, Range<u16>)> = (0..round % 25)
                .map(|_| {
                    let (addresses, ports) = (range(40, offset), range(30, 0));
                    let port = |it| u16::try_from(it).unwrap();
                    (addresses, (port(ports.0), port(ports.1)))
                })
                .collect();
            let tree = PortTree::new(&entries);
            for address in (0..42).map(|it| offset.wrapping_add(it).wrapping_sub(1)) {
                for port in 0..32_u16 {
                    let expected = entries.iter().any(|((first, last), ports)| {
                        (*first..=*last).contains(&address) && (ports.0..=ports.1).contains(&port)
                    });
                    let found = tree.at(address).any(|ports| contains(ports, port));
                    assert_eq!(found, expected, "{entries:?} {address} {port}");
                }
            }
        }
    }
}

//! Keys of the search tables: a relational interval tree (Kriegel, Pötke, Seidl: "Managing
//! intervals efficiently in object-relational databases", VLDB 2000) whose nodes are blocks.
//!
//! An entry's *fork* is the smallest block that contains all of it. The entry can only contain a
//! point if its fork is one of the point's ancestors (33 in IPv4, 129 in IPv6, 17 for ports), which
//! are equality probes.

use fireflow_domain::net::{AddressRange, PortRange};

/// The search key of an address range in one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AddressKey {
    /// Family byte, block address, prefix length.
    pub(crate) fork: Vec<u8>,
    /// Family byte, first address.
    pub(crate) lo: Vec<u8>,
    /// Family byte, last address.
    pub(crate) hi: Vec<u8>,
}

/// The first byte of IPv4 keys.
pub(crate) const V4: u8 = 4;
/// The first byte of IPv6 keys.
pub(crate) const V6: u8 = 6;

/// The keys of a range: one, or for `any` one per family.
pub(crate) fn address_keys(range: AddressRange) -> Vec<AddressKey> {
    match range {
        AddressRange::Any => vec![v4(0, u32::MAX), v6(0, u128::MAX)],
        AddressRange::V4 { first, last } => vec![v4(first, last)],
        AddressRange::V6 { first, last } => vec![v6(first, last)],
    }
}

fn v4(first: u32, last: u32) -> AddressKey {
    let length = (first ^ last).leading_zeros();
    let host_bits = u32::MAX.checked_shr(length).unwrap_or(0);
    key(V4, &(first & !host_bits).to_be_bytes(), length, &first.to_be_bytes(), &last.to_be_bytes())
}

fn v6(first: u128, last: u128) -> AddressKey {
    let length = (first ^ last).leading_zeros();
    let host_bits = u128::MAX.checked_shr(length).unwrap_or(0);
    key(V6, &(first & !host_bits).to_be_bytes(), length, &first.to_be_bytes(), &last.to_be_bytes())
}

fn key(family: u8, block: &[u8], length: u32, first: &[u8], last: &[u8]) -> AddressKey {
    // A prefix length is at most 128.
    let length = u8::try_from(length).unwrap_or(u8::MAX);
    let bound = |bytes: &[u8]| [&[family], bytes].concat();
    AddressKey { fork: [&[family], block, &[length]].concat(), lo: bound(first), hi: bound(last) }
}

/// The possible forks of an entry that contains a range: the blocks that contain the range's own
/// fork, including itself. At most 33 in IPv4 and 129 in IPv6.
pub(crate) fn address_ancestors(key: &AddressKey) -> Vec<Vec<u8>> {
    let Some((length, block)) = key.fork.split_last() else { return Vec::new() };
    let Some((family, address)) = block.split_first() else { return Vec::new() };
    (0..=*length)
        .map(|prefix| {
            let mut fork = vec![*family];
            fork.extend(address.iter().zip(0_u32..).map(|(byte, index)| {
                // How many of the byte's bits are in the prefix.
                let kept = u32::from(prefix).saturating_sub(index * 8).min(8);
                byte & !u8::MAX.checked_shr(kept).unwrap_or(0)
            }));
            fork.push(prefix);
            fork
        })
        .collect()
}

/// The same for ports: 17 at most.
pub(crate) fn port_ancestors(key: PortKey) -> Vec<i32> {
    let (block, length) = (key.fork >> 5, key.fork & 31);
    (0..=length)
        .map(|prefix| {
            let hosts = (1_i32 << (16 - prefix)) - 1;
            ((block & !hosts) << 5) | prefix
        })
        .collect()
}

/// The search key of a port range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortKey {
    /// The smallest block of ports that holds both ends: its first port · 32 + its prefix length.
    pub(crate) fork: i32,
    /// The first port.
    pub(crate) lo: i32,
    /// The last port.
    pub(crate) hi: i32,
}

/// The key of a port range.
pub(crate) fn port_key(range: PortRange) -> PortKey {
    let (first, last) = (range.first(), range.last());
    let length = (first ^ last).leading_zeros();
    let host_bits = u16::MAX.checked_shr(length).unwrap_or(0);
    let fork = (u32::from(first & !host_bits) << 5) | length;
    PortKey {
        // The 16 bits and 5 bits fit.
        fork: i32::try_from(fork).unwrap_or(i32::MAX),
        lo: i32::from(first),
        hi: i32::from(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(text: &str) -> Vec<AddressKey> {
        address_keys(AddressRange::parse(text).unwrap())
    }

    #[test]
    fn a_fork_is_the_smallest_block_around_an_entry() {
        let [key] = &keys("10.0.0.7-10.0.0.8")[..] else { panic!("one key") };
        assert_eq!(key.fork, [4, 10, 0, 0, 0, 28]);
        assert_eq!(key.lo, [4, 10, 0, 0, 7]);
        assert_eq!(key.hi, [4, 10, 0, 0, 8]);
        assert_eq!(keys("192.0.2.1")[0].fork, [4, 192, 0, 2, 1, 32]);
        assert_eq!(keys("0.0.0.0/0")[0].fork, [4, 0, 0, 0, 0, 0]);
        assert_eq!(keys("2001:db8::/32")[0].fork[17], 32);
        assert_eq!(keys("::1")[0].fork[17], 128);
    }

    #[test]
    fn the_ancestors_of_a_point_are_the_blocks_around_it() {
        let key = keys("10.1.2.3").remove(0);
        let ancestors = address_ancestors(&key);
        assert_eq!(ancestors.len(), 33);
        for block in ["0.0.0.0/0", "10.0.0.0/8", "10.1.2.0/25", "10.1.2.3"] {
            assert!(ancestors.contains(&keys(block)[0].fork), "{block}");
        }
        assert!(!ancestors.contains(&keys("10.1.3.0/24")[0].fork));
        assert_eq!(address_ancestors(&keys("2001:db8::1")[0]).len(), 129);
        let ports = port_ancestors(port_key(PortRange::single(443)));
        assert_eq!(ports.len(), 17);
        for range in ["0-65535", "443", "442-443", "256-511"] {
            assert!(ports.contains(&port_key(PortRange::parse(range).unwrap()).fork), "{range}");
        }
    }

    #[test]
    fn any_is_everything_of_both_families() {
        assert_eq!(keys("any"), [keys("0.0.0.0/0"), keys("::/0")].concat());
    }

    #[test]
    fn ports_fork_over_16_bits() {
        let fork = |text| port_key(PortRange::parse(text).unwrap()).fork;
        assert_eq!(fork("443"), (443 << 5) | 16);
        assert_eq!(fork("0-65535"), 0);
        assert_eq!(fork("80-81"), (80 << 5) | 15);
        assert_eq!(fork("8000-8100"), (7936 << 5) | 8);
    }
}

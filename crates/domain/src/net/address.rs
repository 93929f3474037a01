//! Address ranges that an entry of a rule names: a host, a block, a range, or any address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::text::excerpt;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4, 32 bits.
    V4,
    /// IPv6, 128 bits.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The word for it in filters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V4 => "ipv4",
            Self::V6 => "ipv6",
        }
    }
}

/// The first address of `::ffff:0:0/96`, where IPv6 maps IPv4.
const MAPPED_FIRST: u128 = 0xffff_0000_0000;
/// The last address of `::ffff:0:0/96`.
const MAPPED_LAST: u128 = 0xffff_ffff_ffff;

/// An inclusive range of addresses of one family, or every address of both.
///
/// Invariant: first ≤ last, and no IPv6 range is inside `::ffff:0:0/96` unless it is the whole
/// block. Printed in canonical form: `any`, a host, a block if the range is exactly one, else
/// `first-last`; IPv6 follows RFC 5952.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AddressRange {
    /// Every address of both families.
    Any,
    /// IPv4 addresses.
    V4 {
        /// The first.
        first: u32,
        /// The last.
        last: u32,
    },
    /// IPv6 addresses.
    V6 {
        /// The first.
        first: u128,
        /// The last.
        last: u128,
    },
}

/// Why a text is no [`AddressRange`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseAddressError {
    /// The text is neither an address, a block, a range nor `any`.
    #[error(
        "`{0}` is not an address (`192.0.2.1`), a block (`10.0.0.0/8`), a range \
         (`192.0.2.1-192.0.2.9`) or `any`"
    )]
    Syntax(String),
    /// A netmask or wildcard mask is given instead of a prefix length.
    #[error("`/{mask}` is a mask; write the block with a prefix length, such as `{meant}`")]
    Mask {
        /// As it was given.
        mask: String,
        /// The block of a contiguous mask; otherwise an example of a block.
        meant: AddressRange,
    },
    /// The prefix is longer than the address.
    #[error("the prefix length `{0}` is not a number from 0 to {1}")]
    PrefixLength(String, u8),
    /// Bits beyond the prefix are set.
    #[error("`{given}` has host bits set; the block that contains it is `{meant}`")]
    HostBitsSet {
        /// As it was given.
        given: String,
        /// The block with those bits cleared.
        meant: AddressRange,
    },
    /// The ends are of different families.
    #[error("a range needs two addresses of one family; `{0}` mixes IPv4 and IPv6")]
    MixedFamilies(String),
    /// The ends are the wrong way round.
    #[error("the range `{0}` ends before it begins")]
    Reversed(String),
    /// An IPv4 address is written as IPv6.
    #[error("`{given}` is an IPv4 address in IPv6 form; write `{meant}`")]
    Mapped {
        /// As it was given.
        given: String,
        /// The IPv4 form.
        meant: AddressRange,
    },
    /// The address has a zone (`%eth0`).
    #[error("`{0}` names a zone; zones are not supported")]
    Zone(String),
}

impl AddressRange {
    /// `::ffff:0:0/96`, where IPv6 maps IPv4. Packets with such addresses are IPv4 packets.
    pub const MAPPED: Self = Self::V6 { first: MAPPED_FIRST, last: MAPPED_LAST };

    /// Whether it is [`Self::MAPPED`].
    #[must_use]
    pub const fn is_mapped(&self) -> bool {
        matches!(*self, Self::V6 { first, last } if MAPPED_FIRST <= first && last <= MAPPED_LAST)
    }

    /// One address.
    #[must_use]
    pub fn host(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4 { first: v4.to_bits(), last: v4.to_bits() },
            IpAddr::V6(v6) => Self::V6 { first: v6.to_bits(), last: v6.to_bits() },
        }
    }

    /// Reads an address, a block, a range or `any`.
    ///
    /// # Errors
    /// Returns a [`ParseAddressError`], which suggests a correction if one is known.
    pub fn parse(text: &str) -> Result<Self, ParseAddressError> {
        let shown = || excerpt(text);
        if text.eq_ignore_ascii_case("any") {
            return Ok(Self::Any);
        }
        if text.contains('%') {
            return Err(ParseAddressError::Zone(shown()));
        }
        let range = if let Some((address, length)) = text.split_once('/') {
            Self::parse_block(text, address, length)?
        } else if let Some((first, last)) = text.split_once('-') {
            let syntax = || ParseAddressError::Syntax(shown());
            let first: IpAddr = first.parse().map_err(|_| syntax())?;
            let last: IpAddr = last.parse().map_err(|_| syntax())?;
            let range = match (first, last) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    Self::V4 { first: a.to_bits(), last: b.to_bits() }
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => {
                    Self::V6 { first: a.to_bits(), last: b.to_bits() }
                }
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                    return Err(ParseAddressError::MixedFamilies(shown()));
                }
            };
            if first > last {
                return Err(ParseAddressError::Reversed(shown()));
            }
            range
        } else {
            Self::host(text.parse().map_err(|_| ParseAddressError::Syntax(shown()))?)
        };
        range.refuse_mapped(text)
    }

    fn parse_block(text: &str, address: &str, length: &str) -> Result<Self, ParseAddressError> {
        let address: IpAddr =
            address.parse().map_err(|_| ParseAddressError::Syntax(excerpt(text)))?;
        if let Ok(mask) = length.parse::<IpAddr>() {
            let example = Self::V4 { first: 0x0a00_0000, last: 0x0aff_ffff };
            let meant = mask_length(mask).filter(|_| mask.is_ipv4() == address.is_ipv4());
            let meant = meant.map_or(example, |prefix| Self::block(address, prefix));
            return Err(ParseAddressError::Mask { mask: excerpt(length), meant });
        }
        let max = if address.is_ipv4() { 32 } else { 128 };
        let digits = !length.is_empty()
            && length.bytes().all(|byte| byte.is_ascii_digit())
            && (length == "0" || !length.starts_with('0'));
        let prefix = length
            .parse::<u8>()
            .ok()
            .filter(|prefix| digits && *prefix <= max)
            .ok_or_else(|| ParseAddressError::PrefixLength(excerpt(length), max))?;
        let block = Self::block(address, prefix);
        if block.first() == address {
            Ok(block)
        } else {
            // A mapped address comes first: the suggestion must be its IPv4 form.
            block.refuse_mapped(text)?;
            Err(ParseAddressError::HostBitsSet { given: excerpt(text), meant: block })
        }
    }

    /// The block of a prefix length around an address; a length beyond the family's gives the host.
    #[must_use]
    pub fn block(address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let hosts = u32::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                Self::V4 { first: v4.to_bits() & !hosts, last: v4.to_bits() | hosts }
            }
            IpAddr::V6(v6) => {
                let hosts = u128::MAX.checked_shr(u32::from(prefix)).unwrap_or(0);
                Self::V6 { first: v6.to_bits() & !hosts, last: v6.to_bits() | hosts }
            }
        }
    }

    fn refuse_mapped(self, text: &str) -> Result<Self, ParseAddressError> {
        match self {
            Self::V6 { first, last }
                if first >= MAPPED_FIRST
                    && last <= MAPPED_LAST
                    && (first, last) != (MAPPED_FIRST, MAPPED_LAST) =>
            {
                let low = |bits: u128| u32::try_from(bits & 0xffff_ffff).unwrap_or(u32::MAX);
                let meant = Self::V4 { first: low(first), last: low(last) };
                Err(ParseAddressError::Mapped { given: excerpt(text), meant })
            }
            Self::Any | Self::V4 { .. } | Self::V6 { .. } => Ok(self),
        }
    }

    /// The first address; `0.0.0.0` for `any`.
    #[must_use]
    pub fn first(self) -> IpAddr {
        match self {
            Self::Any => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V4 { first, .. } => IpAddr::V4(Ipv4Addr::from_bits(first)),
            Self::V6 { first, .. } => IpAddr::V6(Ipv6Addr::from_bits(first)),
        }
    }

    /// Whether it has addresses of a family.
    #[must_use]
    pub fn has_family(self, family: Family) -> bool {
        match (self, family) {
            (Self::Any, Family::V4 | Family::V6)
            | (Self::V4 { .. }, Family::V4)
            | (Self::V6 { .. }, Family::V6) => true,
            (Self::V4 { .. }, Family::V6) | (Self::V6 { .. }, Family::V4) => false,
        }
    }

    /// Whether it contains an address.
    #[must_use]
    pub fn contains(self, address: IpAddr) -> bool {
        match (self, address) {
            (Self::Any, _) => true,
            (Self::V4 { first, last }, IpAddr::V4(v4)) => {
                first <= v4.to_bits() && v4.to_bits() <= last
            }
            (Self::V6 { first, last }, IpAddr::V6(v6)) => {
                first <= v6.to_bits() && v6.to_bits() <= last
            }
            (Self::V4 { .. }, IpAddr::V6(_)) | (Self::V6 { .. }, IpAddr::V4(_)) => false,
        }
    }
}

/// The prefix length, of 128 or 32 bits, of a range that is exactly one block.
fn prefix_of(first: u128, last: u128, bits: u32) -> Option<u32> {
    let hosts = first ^ last;
    let is_block = hosts & hosts.wrapping_add(1) == 0 && first & hosts == 0;
    is_block.then(|| bits - (u128::BITS - hosts.leading_zeros()))
}

/// The prefix length of a netmask (`255.255.255.0`) or a wildcard mask (`0.0.0.255`); none if its
/// bits have gaps.
fn mask_length(mask: IpAddr) -> Option<u8> {
    let (bits, width) = match mask {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let all = u128::MAX << (128 - width);
    let prefix = |bits: u128| {
        let ones = bits.leading_ones();
        // Only zeros follow the ones.
        (ones == bits.count_ones()).then_some(ones)
    };
    prefix(bits).or_else(|| prefix(!bits & all)).and_then(|length| u8::try_from(length).ok())
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last, prefix, bits): (IpAddr, IpAddr, _, u32) = match *self {
            Self::Any => return f.write_str("any"),
            Self::V4 { first, last } => (
                Ipv4Addr::from_bits(first).into(),
                Ipv4Addr::from_bits(last).into(),
                prefix_of(first.into(), last.into(), 32),
                32,
            ),
            Self::V6 { first, last } => (
                Ipv6Addr::from_bits(first).into(),
                Ipv6Addr::from_bits(last).into(),
                prefix_of(first, last, 128),
                128,
            ),
        };
        match prefix {
            Some(prefix) if prefix == bits => write!(f, "{first}"),
            Some(prefix) => write!(f, "{first}/{prefix}"),
            None => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn canonical(text: &str) -> String {
        AddressRange::parse(text).map(|range| range.to_string()).unwrap()
    }

    #[test]
    fn every_set_has_one_spelling() {
        for (given, expected) in [
            ("10.0.0.1/32", "10.0.0.1"),
            ("10.0.0.1-10.0.0.1", "10.0.0.1"),
            ("10.0.0.0-10.0.0.255", "10.0.0.0/24"),
            ("192.0.2.1-192.0.2.9", "192.0.2.1-192.0.2.9"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("0.0.0.0-255.255.255.255", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("2001:DB8:0:0::/64", "2001:db8::/64"),
            ("2001:db8:0:0:0:0:0:1/128", "2001:db8::1"),
            ("::ffff:0:0/96", "::ffff:0.0.0.0/96"),
            ("::/64", "::/64"),
            ("any", "any"),
            ("ANY", "any"),
        ] {
            assert_eq!(canonical(given), expected, "{given}");
        }
    }

    #[test]
    fn refusals_name_what_was_meant() {
        for (given, expected) in [
            ("10.0.0.1/8", "the block that contains it is `10.0.0.0/8`"),
            ("10.0.0.0/255.0.0.0", "is a mask"),
            ("10.0.0.0/0.255.255.255", "is a mask"),
            ("192.0.2.0/255.255.255.0", "such as `192.0.2.0/24`"),
            ("192.0.2.9/0.0.0.7", "such as `192.0.2.8/29`"),
            ("192.0.2.0/255.0.255.0", "such as `10.0.0.0/8`"),
            ("2001:db8::/ffff:ffff::", "such as `2001:db8::/32`"),
            ("10.0.0.0/33", "a number from 0 to 32"),
            ("10.0.0.0/08", "a number from 0 to 32"),
            ("10.0.0.0/+8", "a number from 0 to 32"),
            ("10.0.0.0/256", "a number from 0 to 32"),
            ("2001:db8::/129", "a number from 0 to 128"),
            ("10.0.0.9-10.0.0.1", "ends before it begins"),
            ("10.0.0.1-2001:db8::1", "mixes IPv4 and IPv6"),
            ("::ffff:192.0.2.1", "write `192.0.2.1`"),
            ("::ffff:192.0.2.0/120", "write `192.0.2.0/24`"),
            ("::ffff:192.0.2.1/120", "write `192.0.2.0/24`"),
            ("fe80::1%eth0", "zones are not supported"),
            ("010.0.0.1", "is not an address"),
            ("10.0.0.1\n", "is not an address"),
            (" 10.0.0.1", "is not an address"),
            ("１0.0.0.1", "is not an address"),
            ("10.0.0.1-", "is not an address"),
            ("", "is not an address"),
            ("example.com", "is not an address"),
        ] {
            let error = AddressRange::parse(given).unwrap_err().to_string();
            assert!(error.contains(expected), "{given:?}: {error}");
        }
    }

    proptest! {
        #[test]
        fn spelling_and_reading_are_inverse_v4(a: u32, b: u32, bits in 0u8..=32) {
            let (first, last) = (a.min(b), a.max(b));
            let block = AddressRange::block(Ipv4Addr::from_bits(a).into(), bits);
            for range in [AddressRange::V4 { first, last }, block] {
                prop_assert_eq!(AddressRange::parse(&range.to_string()), Ok(range));
            }
        }

        #[test]
        fn spelling_and_reading_are_inverse_v6(a: u128, b: u128, bits in 0u8..=128) {
            let (first, last) = (a.min(b), a.max(b));
            let block = AddressRange::block(Ipv6Addr::from_bits(a).into(), bits);
            for range in [AddressRange::V6 { first, last }, block] {
                prop_assert_eq!(AddressRange::parse(&range.to_string()), Ok(range));
            }
        }

        #[test]
        fn any_text_is_read_or_refused_without_a_panic(text in "\\PC*") {
            if let Ok(range) = AddressRange::parse(&text) {
                prop_assert_eq!(AddressRange::parse(&range.to_string()), Ok(range));
            }
        }

        #[test]
        fn a_block_holds_what_shares_its_prefix(a: u32, b: u32, bits in 0u8..=32) {
            let block = AddressRange::block(Ipv4Addr::from_bits(a).into(), bits);
            let same = bits == 0 || (a ^ b) >> (32 - u32::from(bits)) == 0;
            prop_assert_eq!(block.contains(Ipv4Addr::from_bits(b).into()), same);
        }
    }
}

//! The two widths of an address, 32 and 128 bits, with the same code for both.

use std::fmt::Debug;
use std::ops::{BitAnd, BitOr, BitXor};

use crate::net::Family;
use crate::rule::Endpoint;
use crate::worlds;

/// An unsigned integer that holds an address.
pub trait Address:
    Copy
    + Ord
    + Debug
    + From<u16>
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Send
    + Sync
    + 'static
{
    /// No bit set.
    const ZERO: Self;
    /// All bits set.
    const MAX: Self;
    /// The length of a prefix that is specific: that of a site, not of a company or a registry.
    const SITE_PREFIX: u32;
    /// The family of its addresses.
    const FAMILY: Family;
    /// Whether it has more bits than a block compares.
    const IS_WIDE: bool;

    /// The difference; wraps around below zero.
    #[must_use]
    fn wrapping_sub(self, other: Self) -> Self;
    /// The sum; wraps around above the maximum.
    #[must_use]
    fn wrapping_add(self, other: Self) -> Self;
    /// The number of bits up to the highest bit that is set.
    #[must_use]
    fn width(self) -> u32;
    /// The number without its lowest bits, shifted down; zero if no bits are left.
    #[must_use]
    fn above(self, bits: u32) -> Self;
    /// The number whose lowest bits are set and no others.
    #[must_use]
    fn ones(bits: u32) -> Self;
    /// The lowest 32 bits of the number after it is shifted right by `shift`.
    #[must_use]
    fn window(self, shift: u8) -> u32;
    /// A value, shifted left by so many bits.
    #[must_use]
    fn placed(value: u32, shift: u32) -> Self;
    /// The addresses of an entry that are of this width.
    #[must_use]
    fn of(entry: &Endpoint) -> Option<(Self, Self)>;
}

macro_rules! address {
    ($type:ty, $site_prefix:literal, $family:expr, $of:path) => {
        impl Address for $type {
            const ZERO: Self = 0;
            const MAX: Self = <$type>::MAX;
            const SITE_PREFIX: u32 = $site_prefix;
            const FAMILY: Family = $family;
            const IS_WIDE: bool = <$type>::BITS > u32::BITS;

            #[inline]
            fn wrapping_sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }

            #[inline]
            fn wrapping_add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }

            fn width(self) -> u32 {
                <$type>::BITS - self.leading_zeros()
            }

            fn above(self, bits: u32) -> Self {
                self.checked_shr(bits).unwrap_or(0)
            }

            fn ones(bits: u32) -> Self {
                match <$type>::BITS.checked_sub(bits) {
                    None | Some(0) => <$type>::MAX,
                    Some(rest) => <$type>::MAX.checked_shr(rest).unwrap_or(0),
                }
            }

            #[inline]
            #[allow(
                clippy::cast_possible_truncation,
                clippy::unnecessary_cast,
                clippy::allow_attributes,
                reason = "only the lowest bits are wanted"
            )]
            fn window(self, shift: u8) -> u32 {
                self.wrapping_shr(u32::from(shift)) as u32
            }

            fn placed(value: u32, shift: u32) -> Self {
                <$type>::from(value).checked_shl(shift).unwrap_or(0)
            }

            fn of(entry: &Endpoint) -> Option<(Self, Self)> {
                $of(entry)
            }
        }
    };
}

address!(u32, 16, Family::V4, worlds::v4);
address!(u128, 48, Family::V6, worlds::v6);

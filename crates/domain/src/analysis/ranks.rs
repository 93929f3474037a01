//! Addresses by rank: the pieces of the address space that no rule divides, numbered in order.
//!
//! IPv6 then costs what IPv4 does, and the end after the last IPv6 address, which no `u128` can
//! hold, is a number like any other.

use super::intern::as_u32;
use super::ranges::Range;
use crate::net::Family;
use crate::worlds::MAPPED;

/// The pieces of one family.
#[derive(Debug)]
pub(super) struct Ranks {
    family: Family,
    /// The first address of each piece, in order.
    firsts: Vec<u128>,
}

impl Ranks {
    /// The pieces that ranges of addresses divide. Each range is given by its two ends, included.
    pub(super) fn new(family: Family, ranges: impl Iterator<Item = (u128, u128)>) -> Self {
        let mut firsts = vec![0];
        if family == Family::V6 {
            firsts.extend([MAPPED.0, MAPPED.1 + 1]);
        }
        let end = last_of(family);
        for (first, last) in ranges {
            firsts.push(first);
            if last < end {
                firsts.push(last + 1);
            }
        }
        firsts.sort_unstable();
        firsts.dedup();
        Self { family, firsts }
    }

    /// The ranks of a range whose ends were given to [`Self::new`].
    pub(super) fn range(&self, first: u128, last: u128) -> Range {
        let below = |address: u128| as_u32(self.firsts.partition_point(|it| *it < address));
        let end = last.checked_add(1).map_or_else(|| as_u32(self.firsts.len()), below);
        (below(first), end)
    }

    /// All addresses that packets can have.
    pub(super) fn universe(&self) -> Vec<Range> {
        let all = as_u32(self.firsts.len());
        match self.family {
            Family::V4 => vec![(0, all)],
            Family::V6 => {
                let mapped = self.range(MAPPED.0, MAPPED.1);
                vec![(0, mapped.0), (mapped.1, all)]
            }
        }
    }

    /// The pieces of addresses that no packet has: from the first to before the second.
    pub(super) fn gap(&self) -> Option<Range> {
        match self.family {
            Family::V4 => None,
            Family::V6 => Some(self.range(MAPPED.0, MAPPED.1)),
        }
    }

    /// The piece of an address.
    pub(super) fn rank(&self, address: u128) -> u32 {
        as_u32(self.firsts.partition_point(|it| *it <= address).saturating_sub(1))
    }

    /// The first address of a piece.
    pub(super) fn first(&self, rank: u32) -> u128 {
        self.firsts.get(rank as usize).copied().unwrap_or(0)
    }

    /// The last address before a rank.
    pub(super) fn last_before(&self, rank: u32) -> u128 {
        let next = self.firsts.get(rank as usize);
        next.map_or(last_of(self.family), |first| first.saturating_sub(1))
    }

    /// How many addresses a set of ranks has. Exact up to the precision of a float.
    #[expect(clippy::cast_precision_loss, reason = "sizes are shown and compared as shares only")]
    pub(super) fn size(&self, set: &[Range]) -> f64 {
        let size = |range: &Range| (self.last_before(range.1) - self.first(range.0)) as f64 + 1.0;
        set.iter().map(size).sum()
    }

    /// How many addresses the family has.
    pub(super) fn all(&self) -> f64 {
        match self.family {
            Family::V4 => 2_f64.powi(32),
            Family::V6 => 2_f64.powi(128),
        }
    }
}

/// The last address of a family.
const fn last_of(family: Family) -> u128 {
    match family {
        Family::V4 => 0xffff_ffff,
        Family::V6 => u128::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_address_space_have_ranks() {
        let ranks = Ranks::new(Family::V6, [(5, 9), (9, u128::MAX), (0, 4)].into_iter());
        assert_eq!(ranks.range(0, 4), (0, 1));
        assert_eq!(ranks.range(5, 9), (1, 3));
        assert_eq!(ranks.range(9, u128::MAX), (2, 6));
        assert_eq!((ranks.first(2), ranks.last_before(3), ranks.last_before(6)), (9, 9, u128::MAX));
        assert_eq!(ranks.universe(), [(0, 4), (5, 6)]);
        let ranks = Ranks::new(Family::V4, [(0, 0xffff_ffff), (7, 0xffff_ffff)].into_iter());
        assert_eq!(ranks.range(7, 0xffff_ffff), (1, 2));
        assert_eq!(ranks.size(&ranks.universe()), ranks.all());
    }
}

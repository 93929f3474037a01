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
    /// The pieces that ranges of addresses divide. Each range is given by its two ends, included, and
    /// has no address of [`MAPPED`].
    pub(super) fn new(family: Family, ranges: impl Iterator<Item = (u128, u128)>) -> Self {
        let mut firsts = vec![0];
        let end = last_of(family);
        for (first, last) in ranges {
            firsts.push(first);
            if last < end {
                firsts.push(next_after(last));
            }
        }
        firsts.sort_unstable();
        firsts.dedup();
        Self { family, firsts }
    }

    /// The ranks of a range whose ends were given to [`Self::new`].
    pub(super) fn range(&self, first: u128, last: u128) -> Range {
        let below = |address: u128| as_u32(self.firsts.partition_point(|it| *it < address));
        let all = as_u32(self.firsts.len());
        (below(first), if last < last_of(self.family) { below(next_after(last)) } else { all })
    }

    /// All addresses that packets can have.
    pub(super) fn universe(&self) -> Vec<Range> {
        vec![(0, as_u32(self.firsts.len()))]
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
        match next.map(|first| first.saturating_sub(1)) {
            Some(MAPPED_LAST) => MAPPED.0 - 1,
            Some(last) => last,
            None => last_of(self.family),
        }
    }

    /// How many addresses a set of ranks has. Exact up to the precision of a float.
    #[expect(clippy::cast_precision_loss, reason = "sizes are shown and compared as shares only")]
    pub(super) fn size(&self, set: &[Range]) -> f64 {
        let size = |range: &Range| {
            let (first, last) = (self.first(range.0), self.last_before(range.1));
            let has_gap = first < MAPPED.0 && MAPPED.1 < last;
            let gap = if has_gap { MAPPED.1 - MAPPED.0 + 1 } else { 0 };
            (last - first - gap) as f64 + 1.0
        };
        set.iter().map(size).sum()
    }

    /// How many addresses a range of ranks has. It must not have those of [`MAPPED`], and not all of IPv6.
    pub(super) fn exact(&self, range: Range) -> u128 {
        let (first, last) = (self.first(range.0), self.last_before(range.1));
        if first <= last { last - first + 1 } else { 0 }
    }

    /// About how many addresses a range of ranks has. Fast, for what only chooses.
    #[expect(clippy::cast_precision_loss, reason = "it only chooses where to cut")]
    pub(super) fn count(&self, range: Range) -> f64 {
        let end = self.firsts.get(range.1 as usize).copied();
        let first = self.first(range.0);
        end.map_or_else(|| (last_of(self.family) - first) as f64 + 1.0, |end| (end - first) as f64)
    }

    /// How many addresses the family has.
    pub(super) fn all(&self) -> f64 {
        match self.family {
            Family::V4 => 2_f64.powi(32),
            Family::V6 => 2_f64.powi(128),
        }
    }
}

/// The last address that no packet has.
const MAPPED_LAST: u128 = MAPPED.1;

/// The next address that packets can have. The addresses of `::ffff:0:0/96` are in no packet, so no
/// piece ends before them: "any" is one range in IPv6 too.
const fn next_after(last: u128) -> u128 {
    if last + 1 == MAPPED.0 { MAPPED.1 + 1 } else { last + 1 }
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
        let ends = [(5, 9), (9, u128::MAX), (0, 4), (0, MAPPED.0 - 1), (MAPPED.1 + 1, u128::MAX)];
        let ranks = Ranks::new(Family::V6, ends.into_iter());
        assert_eq!(ranks.range(0, 4), (0, 1));
        assert_eq!(ranks.range(5, 9), (1, 3));
        assert_eq!(ranks.range(9, u128::MAX), (2, 5));
        assert_eq!(ranks.range(0, MAPPED.0 - 1), (0, 4));
        assert_eq!(ranks.range(MAPPED.1 + 1, u128::MAX), (4, 5));
        assert_eq!((ranks.first(2), ranks.last_before(3)), (9, 9));
        assert_eq!((ranks.last_before(4), ranks.last_before(5)), (MAPPED.0 - 1, u128::MAX));
        assert_eq!(ranks.universe(), [(0, 5)]);
        let ranks = Ranks::new(Family::V4, [(0, 0xffff_ffff), (7, 0xffff_ffff)].into_iter());
        assert_eq!(ranks.range(7, 0xffff_ffff), (1, 2));
        assert_eq!(ranks.size(&ranks.universe()), ranks.all());
    }
}

//! Who decides the packets of each source, and how many addresses each rule decides.
//!
//! Rules are added and taken back again, while a search goes from destination to destination.

use super::intern::as_u32;
use super::ranges::Range;
use super::ways_in::{MAX_REGIONS, Sources};

/// No rule with few sources decides.
const NONE: u32 = u32::MAX;

/// The first of the added rules for each piece of the sources.
pub(super) struct Tally<'a> {
    sources: &'a Sources,
    /// Whether each rule, by number, permits.
    permits: Vec<bool>,
    firsts: Vec<u32>,
    /// For each region and rule, how many addresses the rule decides.
    values: Vec<u128>,
    /// The same as sums, so that those of all rules up to one are found fast (a Fenwick tree): of all
    /// rules, and of those that permit.
    sums: Vec<[u128; 2]>,
    /// What each change replaced.
    changes: Vec<(u32, u32)>,
}

impl<'a> Tally<'a> {
    pub(super) fn new(sources: &'a Sources, permits: Vec<bool>) -> Self {
        let count = permits.len();
        let regions = sources.region_sizes.len();
        Self {
            sources,
            permits,
            firsts: vec![NONE; sources.sizes.len()],
            values: vec![0; count * regions],
            sums: vec![[0; 2]; (count + 1) * regions],
            changes: Vec::new(),
        }
    }

    /// The memory that it takes, in bytes.
    pub(super) fn bytes(sources: &Sources, rules: usize) -> usize {
        sources.sizes.len() * 4 + (rules + 1) * sources.region_sizes.len() * 48
    }

    /// The state to which [`Self::back`] returns.
    pub(super) const fn mark(&self) -> usize {
        self.changes.len()
    }

    fn shift(&mut self, region: usize, number: u32, by: u128) {
        let (number, count) = (number as usize, self.permits.len());
        let permits = self.permits.get(number).copied().unwrap_or(false);
        if let Some(value) = self.values.get_mut(region * count + number) {
            *value = value.wrapping_add(by);
        }
        let Some(sums) = self.sums.get_mut(region * (count + 1)..(region + 1) * (count + 1)) else {
            return;
        };
        let mut at = number + 1;
        while let Some([all, permitted]) = sums.get_mut(at) {
            *all = all.wrapping_add(by);
            if permits {
                *permitted = permitted.wrapping_add(by);
            }
            at += at & at.wrapping_neg();
        }
    }

    /// Adds a rule, by number, with some sources.
    pub(super) fn add(&mut self, spans: &[Range], number: u32, steps: &mut u64) {
        let mut gained = [0_u128; MAX_REGIONS];
        let before = self.changes.len();
        for (from, to) in spans {
            *steps += 1 + u64::from(to - from) / 8;
            let Some(firsts) = self.firsts.get_mut(*from as usize..*to as usize) else { continue };
            for (piece, first) in (*from..).zip(firsts) {
                if number < *first {
                    self.changes.push((piece, *first));
                    *first = number;
                }
            }
        }
        *steps += (self.changes.len() - before) as u64;
        for at in before..self.changes.len() {
            let Some((piece, former)) = self.changes.get(at).copied() else { continue };
            let (size, region) = self.piece(piece);
            if let Some(gained) = gained.get_mut(region) {
                *gained += size;
            }
            if former != NONE {
                self.shift(region, former, size.wrapping_neg());
            }
        }
        for (region, gained) in gained.into_iter().enumerate().filter(|it| it.1 > 0) {
            self.shift(region, number, gained);
        }
    }

    fn piece(&self, piece: u32) -> (u128, usize) {
        let size = self.sources.sizes.get(piece as usize).copied().unwrap_or(0);
        (size, self.sources.regions.get(piece as usize).copied().unwrap_or(0).into())
    }

    /// Takes the rules back that were added after a mark.
    pub(super) fn back(&mut self, mark: usize, steps: &mut u64) {
        let (mut lost, mut of) = ([0_u128; MAX_REGIONS], NONE);
        *steps += (self.changes.len() - mark) as u64;
        while self.changes.len() > mark {
            let Some((piece, former)) = self.changes.pop() else { break };
            let (size, region) = self.piece(piece);
            let Some(first) = self.firsts.get_mut(piece as usize) else { continue };
            let number = *first;
            *first = former;
            if number != of {
                self.lose(of, &mut lost);
                of = number;
            }
            if let Some(lost) = lost.get_mut(region) {
                *lost += size;
            }
            if former != NONE {
                self.shift(region, former, size);
            }
        }
        self.lose(of, &mut lost);
    }

    fn lose(&mut self, number: u32, lost: &mut [u128; MAX_REGIONS]) {
        for (region, lost) in lost.iter_mut().enumerate().filter(|it| *it.1 > 0) {
            self.shift(region, number, lost.wrapping_neg());
            *lost = 0;
        }
    }

    /// How many addresses of a region rules before a number decide, and how many of them they let in.
    pub(super) fn before(&self, region: usize, number: u32) -> [u128; 2] {
        let count = self.permits.len() + 1;
        let sums = self.sums.get(region * count..(region + 1) * count).unwrap_or_default();
        let mut at = number as usize;
        let mut found = [0_u128; 2];
        while at > 0 {
            let Some(sum) = sums.get(at) else { break };
            for (own, its) in found.iter_mut().zip(sum) {
                *own = own.wrapping_add(*its);
            }
            at &= at - 1;
        }
        found
    }

    /// How many addresses of a region a rule decides.
    pub(super) fn of(&self, region: usize, number: u32) -> u128 {
        let at = region * self.permits.len() + number as usize;
        self.values.get(at).copied().unwrap_or(0)
    }

    /// How many addresses each rule lets in, if those before the number of each region count.
    pub(super) fn let_in(&self, before: &[u32]) -> impl Iterator<Item = (usize, u128)> + '_ {
        let count = self.permits.len();
        let mut sizes = vec![0_u128; count];
        for (region, before) in before.iter().enumerate() {
            let values = self.values.get(region * count..).unwrap_or_default().iter();
            for (size, value) in sizes.iter_mut().zip(values.take(*before as usize)) {
                *size += value;
            }
        }
        let permitted = sizes.into_iter().zip(&self.permits).enumerate();
        permitted.filter(|(_, (size, permits))| **permits && *size > 0).map(|it| (it.0, it.1.0))
    }

    /// The number after those of all rules.
    pub(super) fn end(&self) -> u32 {
        as_u32(self.permits.len())
    }
}

//! Lists that are stored once: equal lists have equal numbers.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

/// The number of an interned list.
pub(super) type ListId = u32;

/// FxHash: Firefox's hash of machine words. The lists come from one policy and decide only how many
/// of them share a chain of this table, so it need not resist attacks beyond that; a SipHash takes a
/// third of the time of an analysis.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct FxHasher(u64);

impl FxHasher {
    const fn add(&mut self, word: u64) {
        const SEED: u64 = 0x517c_c1b7_2722_0a95;
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(SEED);
    }
}

impl Hasher for FxHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            self.add(chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.add(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        self.add(word);
    }

    fn write_usize(&mut self, word: usize) {
        self.add(word as u64);
    }

    fn finish(&self) -> u64 {
        // The upper bits are the best ones, and tables look at both ends.
        self.0 ^ self.0 >> 32
    }
}

/// A table with [`FxHasher`].
pub(super) type FxHashMap<K, V> = HashMap<K, V, BuildHasherDefault<FxHasher>>;

/// Lists, each stored once.
#[derive(Debug, Clone)]
pub(super) struct Interned<T> {
    items: Vec<T>,
    /// Where each list ends.
    ends: Vec<u32>,
    /// The newest list with each hash.
    newest: FxHashMap<u64, ListId>,
    /// An older list with the same hash, for each list.
    older: Vec<Option<ListId>>,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            ends: Vec::new(),
            newest: FxHashMap::default(),
            older: Vec::new(),
        }
    }
}

impl<T: Copy + Eq + Hash> Interned<T> {
    /// The number of a list. Costs O(length).
    pub(super) fn id(&mut self, list: &[T]) -> ListId {
        let mut hasher = FxHasher::default();
        list.hash(&mut hasher);
        let hash = hasher.finish();
        let first = self.newest.get(&hash).copied();
        let mut next = first;
        while let Some(id) = next {
            if self.get(id) == list {
                return id;
            }
            next = self.older.get(id as usize).copied().flatten();
        }
        let id = as_u32(self.ends.len());
        self.items.extend_from_slice(list);
        self.ends.push(as_u32(self.items.len()));
        self.older.push(first);
        self.newest.insert(hash, id);
        id
    }

    /// A list; empty if the number is not known.
    #[inline]
    pub(super) fn get(&self, id: ListId) -> &[T] {
        let id = id as usize;
        let from = id.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let to = self.ends.get(id).copied().unwrap_or(0);
        self.items.get(from as usize..to as usize).unwrap_or_default()
    }
}

/// A count as `u32`. Counts here are bounded by the limits of a policy and by the budget of memory.
pub(super) fn as_u32(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_lists_have_equal_numbers_and_others_do_not() {
        let mut lists: Interned<(u32, u32)> = Interned::default();
        let given: Vec<Vec<(u32, u32)>> =
            (0..500_u32).map(|it| (0..it % 7).map(|x| (x * it, it / 3)).collect()).collect();
        let ids: Vec<ListId> = given.iter().map(|list| lists.id(list)).collect();
        for (a, x) in given.iter().zip(&ids) {
            assert_eq!(lists.get(*x), a);
            for (b, y) in given.iter().zip(&ids) {
                assert_eq!(a == b, x == y);
            }
        }
        assert_eq!(lists.get(1_000_000), []);
    }
}

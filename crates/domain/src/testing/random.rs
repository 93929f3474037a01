//! Pseudorandom numbers that are the same each time.

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below a bound, which must not be 0. The distribution is slightly uneven for huge
    /// bounds, which does not matter here.
    pub fn below(&mut self, bound: u32) -> u32 {
        let number = (u128::from(self.next()) * u128::from(bound.max(1))) >> 64;
        u32::try_from(number).unwrap_or(0)
    }

    /// Whether an event with this probability, in percent, happens.
    pub fn happens(&mut self, percent: u32) -> bool {
        self.below(100) < percent
    }

    /// A random item; none if there are no items.
    pub fn pick<'a, T>(&mut self, things: &'a [T]) -> Option<&'a T> {
        let count = u32::try_from(things.len()).unwrap_or(u32::MAX);
        things.get(usize::try_from(self.below(count)).unwrap_or(0))
    }
}

/// The number of cases of a property test: that of `PROPTEST_CASES`, or the usual one.
///
/// `ProptestConfig::with_cases` would ignore the variable.
#[must_use]
pub fn cases(usual: u32) -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(usual)
}

/// A seed for a test that draws other data in each run: that of `FIREFLOW_TEST_SEED`, or a fresh
/// one. It prints the seed, which the output of a failed test then contains.
///
/// # Panics
/// Panics if the variable is not a number, since another seed would not repeat the failure.
#[must_use]
#[expect(clippy::print_stderr, clippy::panic, reason = "only tests call it")]
pub fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    let seed = match std::env::var("FIREFLOW_TEST_SEED") {
        Ok(given) => given
            .parse()
            .unwrap_or_else(|why| panic!("FIREFLOW_TEST_SEED is not a number: {given}: {why}")),
        // The standard library seeds its hash tables with the system's random numbers.
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    eprintln!("to repeat this run, set FIREFLOW_TEST_SEED={seed}");
    seed
}

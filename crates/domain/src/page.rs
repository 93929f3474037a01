//! Pages of lists.

/// The largest page.
pub const MAX_PAGE_SIZE: u32 = 1_000;
/// The page size where none is asked for.
pub const DEFAULT_PAGE_SIZE: u32 = 10;
/// The furthest that `page` × `page_size` reaches; beyond it a cursor is needed.
pub const MAX_PAGE_DEPTH: u64 = 100_000;

/// Which part of a list is asked for. Invariant: 1 ≤ `size` ≤ 1,000, 1 ≤ `number`,
/// `number` × `size` ≤ 100,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest {
    number: u32,
    size: u32,
}

impl PageRequest {
    /// The first page, of the default size.
    pub const FIRST: Self = Self { number: 1, size: DEFAULT_PAGE_SIZE };

    /// A page by number (from 1) and size; none where a bound does not hold.
    #[must_use]
    pub fn new(number: u32, size: u32) -> Option<Self> {
        let within = number >= 1
            && (1..=MAX_PAGE_SIZE).contains(&size)
            && u64::from(number) * u64::from(size) <= MAX_PAGE_DEPTH;
        within.then_some(Self { number, size })
    }

    /// The page's number, from 1.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.number
    }

    /// The most items on it.
    #[must_use]
    pub const fn size(self) -> u32 {
        self.size
    }

    /// How many items come before it.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.number - 1) * u64::from(self.size)
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many items the whole list has.
    pub total: Total,
    /// What was asked for.
    pub request: PageRequest,
}

/// The highest number that a filtered list is counted to.
pub const MAX_COUNTED: u64 = 100_000;

/// The length of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// The number counted.
    pub count: u64,
    /// False where counting stopped at [`MAX_COUNTED`].
    pub is_exact: bool,
}

/// The direction of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first; nulls first.
    Ascending,
    /// Largest first; nulls last.
    Descending,
}

/// One sort key of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SortKey<F> {
    /// The field.
    pub field: F,
    /// Its direction.
    pub direction: Direction,
}

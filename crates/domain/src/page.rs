//! Pages of lists.

use crate::mark::Mark;
use crate::time::Instant;

/// The largest page.
pub const MAX_PAGE_SIZE: u32 = 1_000;
/// The page size of a request without `page_size`.
pub const DEFAULT_PAGE_SIZE: u32 = 10;
/// The most that `page` × `page_size` may be; only a cursor reaches further.
pub const MAX_PAGE_DEPTH: u64 = 100_000;

/// The requested part of a list. Invariant: 1 ≤ `size` ≤ 1,000; a page's number is 1 or more, and
/// its product with `size` is at most [`MAX_PAGE_DEPTH`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    start: Start,
    size: u32,
    /// How far the list is counted.
    pub counting: Counting,
    /// When the list was first asked for, if what is in it or its order depends on the clock: all
    /// pages of one cursor are of one instant.
    pub at: Option<Instant>,
}

/// How far a list is counted. If a counter holds the length of the list, it costs nothing and is
/// always exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Not at all.
    Skipped,
    /// Up to [`MAX_COUNTED`], so that a page costs the same however long the list is.
    Bounded,
    /// To its end.
    Exact,
}

/// The start of a part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At a page, by number from 1. The items before it are skipped one by one.
    Page(u32),
    /// At the first item, with cursors for the pages after it.
    First,
    /// After a position. The cost does not depend on how far that is.
    Behind(Position),
}

/// A position in an ordered list: the item with these values of the sort keys, and this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// One for each key of the order.
    pub values: Vec<SortValue>,
    /// The item's id.
    pub id: i64,
    /// The item's place in its policy's order of evaluation, and the mark of the policy's state in
    /// which it had that place. Only a policy's unfiltered list in that order has them.
    pub place: Option<(u64, Mark)>,
    /// When the list was first asked for; see [`PageRequest::at`].
    pub at: Option<Instant>,
}

/// A value that a list is ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SortValue {
    /// No value. It comes before all others in ascending order.
    Absent,
    /// An integer, or an instant in microseconds.
    Integer(i64),
    /// A text, compared byte by byte.
    Text(String),
    /// A flag; false comes first.
    Flag(bool),
}

impl PageRequest {
    /// A page by number (from 1) and size, with a bounded count of the list. Returns none if a
    /// number is out of bounds.
    #[must_use]
    pub fn new(number: u32, size: u32) -> Option<Self> {
        let within = number >= 1
            && (1..=MAX_PAGE_SIZE).contains(&size)
            && u64::from(number) * u64::from(size) <= MAX_PAGE_DEPTH;
        within.then_some(Self {
            start: Start::Page(number),
            size,
            counting: Counting::Bounded,
            at: None,
        })
    }

    /// The part after a position, or the first part; without a count of the list. Returns none if
    /// the size is out of bounds.
    #[must_use]
    pub fn behind(position: Option<Position>, size: u32) -> Option<Self> {
        let start = position.map_or(Start::First, Start::Behind);
        (1..=MAX_PAGE_SIZE).contains(&size).then_some(Self {
            start,
            size,
            counting: Counting::Skipped,
            at: None,
        })
    }

    /// The first page, of the default size.
    #[must_use]
    pub const fn first() -> Self {
        Self {
            start: Start::Page(1),
            size: DEFAULT_PAGE_SIZE,
            counting: Counting::Bounded,
            at: None,
        }
    }

    /// The start of the requested part.
    #[must_use]
    pub const fn start(&self) -> &Start {
        &self.start
    }

    /// The page's number, from 1, if the request names one.
    #[must_use]
    pub const fn number(&self) -> Option<u32> {
        match self.start {
            Start::Page(number) => Some(number),
            Start::First | Start::Behind(_) => None,
        }
    }

    /// The most items on it.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.size
    }

    /// How many items before the page are skipped.
    #[must_use]
    pub fn offset(&self) -> u64 {
        let before = self.number().unwrap_or(1).saturating_sub(1);
        u64::from(before) * u64::from(self.size)
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// Its items.
    pub items: Vec<T>,
    /// How many items the whole list has, if the request counts them.
    pub total: Option<Total>,
    /// The request.
    pub request: PageRequest,
    /// The position after which the next page begins; none if this page is the last.
    pub next: Option<Position>,
}

/// The highest number that a filtered list is counted to, unless an exact count is requested.
pub const MAX_COUNTED: u64 = 1_000;

/// The length of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// The number counted.
    pub count: u64,
    /// False if counting stopped at [`MAX_COUNTED`] and the list has more.
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

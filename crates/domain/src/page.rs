//! Pages of lists.

use crate::mark::Mark;
use crate::time::Instant;

/// The largest page.
pub const MAX_PAGE_SIZE: u32 = 1_000;
/// The page size where none is asked for.
pub const DEFAULT_PAGE_SIZE: u32 = 10;
/// The furthest that `page` × `page_size` reaches; beyond it a cursor goes on.
pub const MAX_PAGE_DEPTH: u64 = 100_000;

/// Which part of a list is asked for. Invariant: 1 ≤ `size` ≤ 1,000; a page's number is 1 or more,
/// and with `size` it reaches no further than [`MAX_PAGE_DEPTH`].
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

/// How far a list is counted. The length of a list that a counter knows costs nothing, and is exact
/// either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// Not at all.
    Skipped,
    /// Up to [`MAX_COUNTED`], so that a page costs the same however long the list is.
    Bounded,
    /// To its end.
    Exact,
}

/// Where a part of a list begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// At a page, by number from 1: what comes before it is passed over one by one.
    Page(u32),
    /// At the first item, to go on from there with cursors.
    First,
    /// Behind a place: it costs the same however far that is.
    Behind(Position),
}

/// A place in an ordered list: that of the item with these values of the order's keys, and this id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// One for each key of the order.
    pub values: Vec<SortValue>,
    /// The item's id.
    pub id: i64,
    /// The item's place in its policy's order of evaluation, and the mark of the policy's state in
    /// which it had that: if the list is a policy's own, whole and in that order.
    pub place: Option<(u64, Mark)>,
    /// When the list was first asked for; see [`PageRequest::at`].
    pub at: Option<Instant>,
}

/// A value that a list is ordered by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SortValue {
    /// None: before all others, ascending.
    Absent,
    /// Integers, and instants in microseconds.
    Integer(i64),
    /// Texts, byte by byte.
    Text(String),
    /// False comes first.
    Flag(bool),
}

impl PageRequest {
    /// A page by number (from 1) and size, with the length of the list as far as it is counted; none
    /// where a bound does not hold.
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

    /// A part behind a place, or the first one; without the length of the list. None where the
    /// size's bounds do not hold.
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

    /// Where it begins.
    #[must_use]
    pub const fn start(&self) -> &Start {
        &self.start
    }

    /// The page's number, from 1, where it was asked for by number.
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

    /// How many items are passed over.
    #[must_use]
    pub fn offset(&self) -> u64 {
        let before = self.number().unwrap_or(1).saturating_sub(1);
        u64::from(before) * u64::from(self.size)
    }
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many items the whole list has, where that was asked for.
    pub total: Option<Total>,
    /// What was asked for.
    pub request: PageRequest,
    /// Where the next page begins; none where this is the last.
    pub next: Option<Position>,
}

/// The highest number that a filtered list is counted to, unless all of it is asked for.
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

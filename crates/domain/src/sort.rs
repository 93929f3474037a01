//! Orders of lists, and the values of their fields, which cursors carry. `list_fields.rs` has the
//! fields.

use crate::page::{Page, PageRequest, Position, SortKey, SortValue, Total};
use crate::rule::RuleState;
use crate::time::Instant;

/// A field that items are ordered by.
pub trait SortField: Copy + PartialEq {
    /// The type of the items.
    type Item;

    /// The field's value of an item, at the time that decides states.
    fn value(self, item: &Self::Item, at: Instant) -> SortValue;

    /// The id of an item.
    fn id(item: &Self::Item) -> i64;

    /// Whether a value is of the field's type. Cursors are input, so their values must be checked.
    fn takes(self, value: &SortValue) -> bool;

    /// Whether its values change by the clock alone.
    fn depends_on_clock(self) -> bool;
}

/// The time that decides states in a list. A list that does not depend on it has none.
#[must_use]
pub fn time_of(request: &PageRequest) -> Instant {
    request.at.unwrap_or(Instant::EPOCH)
}

/// The position of an item in an order.
fn position<F: SortField>(order: &[SortKey<F>], item: &F::Item, request: &PageRequest) -> Position {
    let values = order.iter().map(|key| key.field.value(item, time_of(request))).collect();
    Position { values, id: F::id(item), place: None, at: request.at }
}

/// A page of items in an order, with the position of the next page if there are more items.
pub fn page<F: SortField>(
    items: Vec<F::Item>,
    has_more: bool,
    order: &[SortKey<F>],
    request: &PageRequest,
    total: Option<Total>,
) -> Page<F::Item> {
    let last = items.last().filter(|_| has_more);
    let next = last.map(|last| position(order, last, request));
    Page { items, total, request: request.clone(), next }
}

/// The place of a state in the order of states: scheduled, active, expired, disabled. That is the
/// way that a rule goes, and what is switched off stands last.
#[must_use]
pub const fn state_rank(state: RuleState) -> i64 {
    match state {
        RuleState::Scheduled => 0,
        RuleState::Active => 1,
        RuleState::Expired => 2,
        RuleState::Disabled => 3,
    }
}

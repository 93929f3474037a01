//! The one question of the analyzer: is a cell covered by products?
//!
//! Each step holds all products against the cell. Those that are partial in one dimension only are
//! taken away all at once, so that many slabs in several dimensions never multiply (the step of
//! T. M. Chan's "Klee's measure problem made easy", FOCS 2013). Then the product that contains most
//! of what is left divides the cell into itself and up to five cells outside of it.

use super::budget::Meter;
use super::cell::{Cell, Product, Relation, Scale};
use super::intern::as_u32;
use super::ranges::Range;
use super::report::Obstacle;

/// A cell that is left to do, with the products that can meet it.
struct Task {
    cell: Cell,
    /// Where its list of products is in the arena.
    from: usize,
    to: usize,
    /// The memory of the cell.
    bytes: usize,
}

/// Whether the products cover a cell: none if they do, else a cell that none of them meets. Adds the
/// numbers of the products that prove it to `used`.
///
/// # Errors
/// Returns an [`Obstacle`] if the budget is used up.
pub(super) fn find_hole(
    scale: Scale<'_>,
    cell: Cell,
    products: &[Product],
    meter: &mut Meter<'_>,
    used: &mut Vec<u32>,
) -> Result<Option<Cell>, Obstacle> {
    let before = meter.bytes();
    let hole = search(scale, cell, products, meter, used);
    meter.give_back(meter.bytes().saturating_sub(before));
    hole
}

fn search(
    scale: Scale<'_>,
    cell: Cell,
    products: &[Product],
    meter: &mut Meter<'_>,
    used: &mut Vec<u32>,
) -> Result<Option<Cell>, Obstacle> {
    // One arena for the lists of all tasks, and a stack of our own: a chain of cells can be as deep
    // as there are products.
    let mut arena: Vec<u32> = (0..as_u32(products.len())).collect();
    let mut tasks = vec![Task { cell, from: 0, to: arena.len(), bytes: 0 }];
    while let Some(task) = tasks.pop() {
        meter.give_back(task.bytes);
        // Tasks above this one are done, and so are their lists.
        arena.truncate(task.to);
        let start = arena.len();
        arena.extend_from_within(task.from..task.to);
        let mut cell = task.cell;
        let outcome = reduce(scale, &mut cell, products, &mut arena, start, meter, used)?;
        let chosen = match outcome {
            Reduced::Covered => continue,
            Reduced::Hole => return Ok(Some(cell)),
            Reduced::Divide(place) => arena.swap_remove(start + place),
        };
        used.push(chosen);
        let Some(product) = products.get(chosen as usize) else { continue };
        let (outside, _) = cell.divided(scale, product, &mut meter.steps);
        let to = arena.len();
        // The largest part last on the list is done last.
        for cell in outside.into_iter().rev() {
            let bytes = cell.bytes();
            meter.take(bytes)?;
            tasks.push(Task { cell, from: start, to, bytes });
        }
    }
    Ok(None)
}

enum Reduced {
    Covered,
    Hole,
    /// The place of the product that contains most of the cell, in the list.
    Divide(usize),
}

/// Takes away slabs until none is left. The list of products begins at `start` in the arena, and is
/// reduced to those that still meet the cell.
fn reduce(
    scale: Scale<'_>,
    cell: &mut Cell,
    products: &[Product],
    arena: &mut Vec<u32>,
    start: usize,
    meter: &mut Meter<'_>,
    used: &mut Vec<u32>,
) -> Result<Reduced, Obstacle> {
    loop {
        if cell.is_empty() {
            return Ok(Reduced::Covered);
        }
        let bounds = cell.bounds();
        let mut slabs: [Vec<Range>; 5] = Default::default();
        let mut has_slabs = false;
        let mut best = (-1.0, 0);
        let mut kept = start;
        for at in start..arena.len() {
            meter.check()?;
            let Some(number) = arena.get(at).copied() else { break };
            let Some(product) = products.get(number as usize) else { continue };
            match cell.relation(scale, product, &bounds, &mut meter.steps) {
                Relation::Apart => {}
                Relation::Whole => {
                    used.push(number);
                    return Ok(Reduced::Covered);
                }
                Relation::Slab(dimension) => {
                    used.push(number);
                    has_slabs = true;
                    if let (Some(slabs), Some(set)) =
                        (slabs.get_mut(dimension), product.sets.get(dimension))
                    {
                        slabs.extend_from_slice(scale.sets.get(*set));
                    }
                }
                Relation::Partial(share) => {
                    if share > best.0 {
                        best = (share, kept - start);
                    }
                    if let Some(place) = arena.get_mut(kept) {
                        *place = number;
                    }
                    kept += 1;
                }
            }
        }
        arena.truncate(kept);
        if has_slabs {
            *cell = cell.without(slabs, &mut meter.steps);
            continue;
        }
        return Ok(if kept == start { Reduced::Hole } else { Reduced::Divide(best.1) });
    }
}

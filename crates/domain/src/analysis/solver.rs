//! Answers questions about one rule, and keeps what several questions need.

use super::budget::Meter;
use super::cell::{Cell, Product, Scale};
use super::context::Context;
use super::frame::Frames;
use super::question::{Hole, Neighbors, PartNeighbors, Question, Side, products};
use super::report::Obstacle;
use super::space::Slot;
use super::walk::{Entry, Found, Label, Last, OnSides, Walk, entries};
use crate::rule::Action;

/// How many steps a question about a rule with so many neighbors may take on ranges before it goes
/// on with bitmaps.
pub(super) const fn allowance(neighbors: usize) -> u64 {
    50_000 + 200 * neighbors as u64
}

/// Which rules a question is asked of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// The rules before the rule.
    Before,
    /// The rules before and after it.
    All,
}

/// Questions about one rule.
pub(super) struct Solver<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) slot: Slot,
    /// Which of the other rules are there.
    is_there: &'a dyn Fn(Slot) -> bool,
    earlier: Option<Neighbors>,
    later: Option<Neighbors>,
    frames: FrameState,
}

/// The frames of a rule: made when ranges go badly, and then used for all further questions.
enum FrameState {
    NotNeeded,
    Made(Frames),
    /// They are larger than the budget.
    TooLarge,
}

impl<'a> Solver<'a> {
    /// Questions about a rule among those that are included.
    pub(super) const fn new(
        context: &'a Context<'a>,
        slot: Slot,
        is_there: &'a dyn Fn(Slot) -> bool,
    ) -> Self {
        Self { context, slot, is_there, earlier: None, later: None, frames: FrameState::NotNeeded }
    }

    /// The same questions with these later rules instead.
    pub(super) fn with_later(self, later: Neighbors) -> Self {
        Self { later: Some(later), frames: FrameState::NotNeeded, ..self }
    }

    /// The active rules before the rule that meet it.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn earlier(&mut self, meter: &mut Meter<'_>) -> Result<&Neighbors, Obstacle> {
        let found = match self.earlier.take() {
            Some(known) => known,
            None => self.neighbors(Side::Earlier, meter)?,
        };
        Ok(self.earlier.insert(found))
    }

    /// The active rules after the rule that meet it, up to one that contains it.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn later(&mut self, meter: &mut Meter<'_>) -> Result<&Neighbors, Obstacle> {
        let found = match self.later.take() {
            Some(known) => known,
            None => self.neighbors(Side::Later, meter)?,
        };
        Ok(self.later.insert(found))
    }

    fn neighbors(&self, side: Side, meter: &mut Meter<'_>) -> Result<Neighbors, Obstacle> {
        Neighbors::of(&self.context.space, self.slot, side, self.is_there, meter)
    }

    /// Whether rules cover this one, or what it and another rule contain: none if they do. Adds the
    /// rules that prove it to `used`.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn find_hole(
        &mut self,
        scope: Scope,
        within: Option<Slot>,
        takes: &dyn Fn(Slot) -> bool,
        meter: &mut Meter<'_>,
        used: &mut Vec<Slot>,
    ) -> Result<Option<Hole>, Obstacle> {
        if let FrameState::NotNeeded = self.frames {
            let count = self.neighbor_count(scope, meter)?;
            let ranges = meter.within(allowance(count), |meter| {
                self.find_hole_in_ranges(scope, within, takes, meter, used)
            });
            match ranges {
                Err(Obstacle::Steps) => used.clear(),
                answer => return answer,
            }
            self.make_frames(meter)?;
        }
        if let FrameState::Made(frames) = &self.frames {
            let slot = self.slot;
            let takes = |rule: Slot| takes(rule) && (scope == Scope::All || rule < slot);
            return frames.find_hole(within, &takes, meter, used);
        }
        self.find_hole_in_ranges(scope, within, takes, meter, used)
    }

    fn neighbor_count(&mut self, scope: Scope, meter: &mut Meter<'_>) -> Result<usize, Obstacle> {
        let earlier = self.earlier(meter)?.len();
        Ok(match scope {
            Scope::Before => earlier,
            Scope::All => earlier + self.later(meter)?.len(),
        })
    }

    fn make_frames(&mut self, meter: &mut Meter<'_>) -> Result<(), Obstacle> {
        self.earlier(meter)?;
        self.later(meter)?;
        let before = meter.bytes();
        let all = self.all();
        let space = &self.context.space;
        // If frames need too much, ranges may go on with the other steps.
        match meter.within_share(4, |meter| Frames::new(space, &all, meter)) {
            Ok(frames) => self.frames = FrameState::Made(frames),
            Err(Obstacle::Memory | Obstacle::Steps) => {
                meter.give_back(meter.bytes().saturating_sub(before));
                self.frames = FrameState::TooLarge;
            }
            Err(obstacle) => return Err(obstacle),
        }
        Ok(())
    }

    fn find_hole_in_ranges(
        &mut self,
        scope: Scope,
        within: Option<Slot>,
        takes: &dyn Fn(Slot) -> bool,
        meter: &mut Meter<'_>,
        used: &mut Vec<Slot>,
    ) -> Result<Option<Hole>, Obstacle> {
        let space = &self.context.space;
        match scope {
            Scope::Before => {
                let neighbors = self.earlier(meter)?;
                Question { space, neighbors, within, takes }.find_hole(meter, used)
            }
            Scope::All => {
                self.earlier(meter)?;
                self.later(meter)?;
                let neighbors = &self.all();
                Question { space, neighbors, within, takes }.find_hole(meter, used)
            }
        }
    }

    /// The neighbors on both sides, by the parts of the rule.
    fn all(&self) -> Neighbors {
        let (Some(earlier), Some(later)) = (&self.earlier, &self.later) else {
            return Neighbors::default();
        };
        // Both lists have the same parts of the rule, in the same order.
        let both = earlier.0.iter().zip(&later.0).map(|(before, after)| PartNeighbors {
            family: before.family,
            part: before.part,
            others: before.others.iter().chain(&after.others).copied().collect(),
            container: after.container,
        });
        Neighbors(both.collect())
    }

    /// A packet that meets another action if this rule is gone; none if there is no such packet.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn find_difference(
        &mut self,
        meter: &mut Meter<'_>,
    ) -> Result<Option<Hole>, Obstacle> {
        let context = self.context;
        let own = context.action(Some(self.slot));
        let default = context.policy.default_action;
        let later = self.later(meter)?;
        // If all that can decide later has the same action, nothing earlier matters.
        let is_open = later.0.iter().any(|it| it.container.is_none());
        let rules = later.rules(&context.space);
        let is_own = |rule: &Slot| context.action(Some(*rule)) == own;
        if rules.iter().all(is_own) && (default == own || !is_open) {
            return Ok(None);
        }
        if let FrameState::NotNeeded = self.frames {
            let count = self.neighbor_count(Scope::All, meter)?;
            let ranges = meter.within(allowance(count), |meter| self.walk_without(meter));
            match ranges {
                Err(Obstacle::Steps) => self.make_frames(meter)?,
                answer => return answer,
            }
        }
        match self.frames {
            FrameState::Made(_) => self.find_other_decider(&rules, is_open, meter),
            FrameState::NotNeeded | FrameState::TooLarge => self.walk_without(meter),
        }
    }

    /// Asks of each later rule of another action, and of the default, whether it would decide a packet
    /// of this rule.
    fn find_other_decider(
        &mut self,
        later: &[Slot],
        is_open: bool,
        meter: &mut Meter<'_>,
    ) -> Result<Option<Hole>, Obstacle> {
        let (context, slot) = (self.context, self.slot);
        let own = context.action(Some(slot));
        for rule in later.iter().copied().filter(|rule| context.action(Some(*rule)) != own) {
            let takes = |it: Slot| it < rule && it != slot;
            let hole = self.find_hole(Scope::All, Some(rule), &takes, meter, &mut Vec::new())?;
            if hole.is_some() {
                return Ok(hole);
            }
        }
        if is_open && context.policy.default_action != own {
            return self.find_hole(Scope::All, None, &|it| it != slot, meter, &mut Vec::new());
        }
        Ok(None)
    }

    /// Walks through the rule, and compares the rules with and without it.
    fn walk_without(&mut self, meter: &mut Meter<'_>) -> Result<Option<Hole>, Obstacle> {
        let default = self.context.policy.default_action;
        self.earlier(meter)?;
        self.later(meter)?;
        let (Some(earlier), Some(later)) = (&self.earlier, &self.later) else { return Ok(None) };
        let space = &self.context.space;
        let last = [Last { label: label(default), rule: None }; 2];
        let slot = self.slot;
        let of = |rule: Slot| {
            let sides = if rule == slot { OnSides::LEFT } else { OnSides::BOTH };
            (sides, label(self.context.action(Some(rule))))
        };
        for (before, after) in earlier.0.iter().zip(&later.0) {
            let family = before.family;
            let parts = &space.family(family).parts;
            let Some(part) = parts.get(before.part as usize) else { continue };
            if Product::count(space, part) > super::question::MAX_CELLS {
                return Err(Obstacle::Steps);
            }
            for own in Product::of_part(space, part, &part.bounds) {
                let numbers = before.others.iter().chain(std::iter::once(&before.part));
                let numbers = numbers.chain(&after.others);
                let rules = numbers.filter_map(|number| parts.get(*number as usize));
                let products = products(space, rules, &own.bounds, meter)?;
                let list: Vec<Entry> = entries(&products, of).collect();
                let mut first = None;
                let mut walk = Walk {
                    scale: Scale::of(space, space.family(family)),
                    products: &products,
                    wants: &|_| true,
                    names_rules: false,
                    found: &mut |found: Found| {
                        first = Some(found.cell);
                        false
                    },
                };
                walk.run(Cell::of_product(&space.sets, &own), list, last, meter)?;
                if let Some(cell) = first {
                    return Ok(Some(Hole { family, cell, is_point: false }));
                }
            }
        }
        Ok(None)
    }
}

/// The label of an action.
pub(super) const fn label(action: Action) -> Label {
    match action {
        Action::Allow => 0,
        Action::Deny => 1,
        Action::Reject => 2,
    }
}

/// The action of a label.
pub(super) const fn action_of(label: Label) -> Action {
    match label {
        0 => Action::Allow,
        1 => Action::Deny,
        _ => Action::Reject,
    }
}

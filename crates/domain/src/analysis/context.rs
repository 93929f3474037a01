//! An analysis under way.

use std::sync::Arc;

use super::bounds::Point;
use super::budget::Budget;
use super::extents::Extents;
use super::matcher::{Matcher, slots};
use super::report::{Obstacle, RuleIndex};
use super::request::{AnalysedPolicy, AnalysisLimits};
use super::space::{Slot, Space, takes_part};
use super::witness::at_point;
use crate::engine::naive;
use crate::net::Family;
use crate::packet::Packet;
use crate::rule::{Action, RuleSpec};
use crate::time::Instant;

/// Bitmaps are searched faster than so few rules are compiled.
const FEW: usize = 20_000;

/// A policy with its space, at an instant. Cheap to copy for another instant.
#[derive(Clone)]
pub(super) struct Context<'a> {
    pub(super) policy: &'a AnalysedPolicy<'a>,
    pub(super) budget: &'a Budget<'a>,
    pub(super) space: Arc<Space>,
    /// The place in the policy of each rule of the space, in order: those that are active, now or
    /// later.
    pub(super) indexes: Arc<[RuleIndex]>,
    pub(super) at: Instant,
    extents: Arc<Extents>,
    /// The rules of this instant, compiled; none if they are few or too complex.
    matcher: Option<Arc<Matcher<'a>>>,
}

impl<'a> Context<'a> {
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn new<I: Iterator<Item = (u128, u128)>>(
        policy: &'a AnalysedPolicy<'a>,
        at: Instant,
        divide: impl Fn(Family) -> I,
        budget: &'a Budget<'a>,
    ) -> Result<Self, Obstacle> {
        let taking_part = policy.rules.iter().enumerate().filter(|it| takes_part(it.1.spec, at));
        Self::among(policy, taking_part.map(|it| it.0).collect(), at, divide, budget)
    }

    /// Some rules of a policy, in order, that take part at an instant. All questions about a rule can be
    /// asked if the rules that it meets are among them.
    ///
    /// # Errors
    /// Returns an [`Obstacle`] if the budget is used up.
    pub(super) fn among<I: Iterator<Item = (u128, u128)>>(
        policy: &'a AnalysedPolicy<'a>,
        indexes: Vec<RuleIndex>,
        at: Instant,
        divide: impl Fn(Family) -> I,
        budget: &'a Budget<'a>,
    ) -> Result<Self, Obstacle> {
        let specs: Vec<&RuleSpec> = indexes.iter().filter_map(|it| policy.spec(*it)).collect();
        let space = Arc::new(Space::new(&specs, divide, budget)?);
        let is_active = |slot| space.is_active(slot, at);
        let matcher =
            if specs.len() < FEW { None } else { Matcher::new(slots(&specs, is_active), budget)? };
        let (indexes, matcher) = (indexes.into(), matcher.map(Arc::new));
        Ok(Self { policy, budget, space, indexes, at, extents: Arc::default(), matcher })
    }

    /// The same policy at a later instant.
    pub(super) fn later(&self, at: Instant) -> Self {
        Self { at, matcher: None, ..self.clone() }
    }

    /// The rules of the space that are active at the instant.
    pub(super) fn active(&self) -> impl Iterator<Item = Slot> + '_ {
        let slots = 0..super::intern::as_u32(self.indexes.len());
        slots.filter(|slot| self.space.is_active(*slot, self.at))
    }

    /// Whether a rule is active at the instant.
    pub(super) fn is_active(&self, slot: Slot) -> bool {
        self.space.is_active(slot, self.at)
    }

    pub(super) fn limits(&self) -> &'a AnalysisLimits<'a> {
        self.budget.limits()
    }

    /// The place of a rule in the policy.
    pub(super) fn index(&self, slot: Slot) -> RuleIndex {
        self.indexes.get(slot as usize).copied().unwrap_or(RuleIndex::MAX)
    }

    /// The rule of the space at a place in the policy.
    pub(super) fn slot(&self, index: RuleIndex) -> Option<Slot> {
        self.indexes.binary_search(&index).ok().map(super::intern::as_u32)
    }

    pub(super) fn spec(&self, slot: Slot) -> Option<&'a RuleSpec> {
        self.policy.spec(self.index(slot))
    }

    /// The action of a rule, or the default.
    pub(super) fn action(&self, rule: Option<Slot>) -> Action {
        rule.and_then(|slot| self.space.action(slot)).unwrap_or(self.policy.default_action)
    }

    /// The first rule before another that has a packet.
    pub(super) fn match_before(&self, slot: Slot, family: Family, point: &Point) -> Option<Slot> {
        if let Some((matcher, packet)) = self.compiled(family, point) {
            return matcher.first(&packet).filter(|it| *it < slot);
        }
        let end = self.space.part_numbers(slot, family).start;
        self.space.first_match(family, point, 0..end, |it| self.space.is_active(it, self.at))
    }

    /// The first rule after another that has a packet.
    pub(super) fn match_after(&self, slot: Slot, family: Family, point: &Point) -> Option<Slot> {
        let is_active = |it: Slot| self.space.is_active(it, self.at);
        if let Some((matcher, packet)) = self.compiled(family, point) {
            return matcher.next(slot, &packet, |slots| {
                let numbers = |it: Slot| self.space.part_numbers(it, family);
                let parts = numbers(*slots.start()).start..numbers(*slots.end()).end;
                self.space.first_match(family, point, parts, is_active)
            });
        }
        let start = self.space.part_numbers(slot, family).end;
        let end = super::intern::as_u32(self.space.family(family).parts.len());
        self.space.first_match(family, point, start..end, is_active)
    }

    /// The compiled rules, if there are any, with a packet in the form that they take.
    fn compiled(&self, family: Family, point: &Point) -> Option<(&Matcher<'a>, Packet)> {
        let matcher = self.matcher.as_deref()?;
        Some((matcher, at_point(&self.space, family, point, 0, self.at)?))
    }

    /// Whether a packet is as a finding says, by the definition: a rule decides it, and another one
    /// matches it as well. No witness leaves the analyzer without this check.
    pub(super) fn verifies(
        &self,
        decides: Option<RuleIndex>,
        matches: Option<Slot>,
        packet: &Packet,
    ) -> bool {
        let has = |spec: Option<&RuleSpec>| spec.is_some_and(|spec| naive::matches(spec, packet));
        if matches.is_some_and(|slot| !has(self.spec(slot))) {
            return false;
        }
        self.extents.first_match(self.policy, packet) == decides
    }
}

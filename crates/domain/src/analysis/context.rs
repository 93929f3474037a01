//! An analysis under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::bounds::Point;
use super::budget::Budget;
use super::report::{Obstacle, RuleIndex};
use super::request::{AnalysedPolicy, AnalysisLimits};
use super::space::{Slot, Space, takes_part};
use crate::engine::naive;
use crate::net::Family;
use crate::packet::Packet;
use crate::rule::{Action, RuleSpec};
use crate::time::Instant;

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
    /// How many rules were compared with witnesses.
    comparisons: Arc<AtomicUsize>,
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
        let (indexes, specs): (Vec<RuleIndex>, Vec<&RuleSpec>) =
            taking_part.map(|(index, rule)| (index, rule.spec)).unzip();
        let space = Arc::new(Space::new(&specs, divide, budget)?);
        let comparisons = Arc::new(AtomicUsize::new(0));
        Ok(Self { policy, budget, space, indexes: indexes.into(), at, comparisons })
    }

    /// The same policy at a later instant.
    pub(super) fn later(&self, at: Instant) -> Self {
        Self { at, ..self.clone() }
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
        let end = self.space.part_numbers(slot, family).start;
        self.space.first_match(family, point, 0..end, |it| self.space.is_active(it, self.at))
    }

    /// The first rule after another that has a packet.
    pub(super) fn match_after(&self, slot: Slot, family: Family, point: &Point) -> Option<Slot> {
        let start = self.space.part_numbers(slot, family).end;
        let end = super::intern::as_u32(self.space.family(family).parts.len());
        self.space.first_match(family, point, start..end, |it| self.space.is_active(it, self.at))
    }

    /// Whether a packet is as a finding says, by the definition: a rule decides it, and another one
    /// matches it as well. No witness leaves the analyzer without this check.
    ///
    /// The search for the first rule that matches goes over all rules. With very many findings it
    /// would take longer than the analysis itself, so later witnesses are only compared with
    /// the rules that they name.
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
        let count = decides.unwrap_or(self.policy.rules.len());
        let before = self.comparisons.fetch_add(count, Ordering::Relaxed);
        if before.saturating_add(count) > MOST_COMPARISONS {
            return decides.is_none_or(|index| has(self.policy.spec(index)));
        }
        self.policy.rules.iter().position(|it| naive::matches(it.spec, packet)) == decides
    }
}

/// How many rules are compared with witnesses: about a second on one processor.
const MOST_COMPARISONS: usize = 100_000_000;

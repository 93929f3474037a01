//! Comparison: which packets change their verdict between two policies.

use super::answers::{Comparison, Difference, VerdictChange};
use super::budget::{Budget, Meter};
use super::collect::{Joined, Piece, joined};
use super::explore::{Exploration, as_done};
use super::extents::{Extents, Hull, Hulls};
use super::instants::instants;
use super::merged::{MergedRule, merge};
use super::report::{Incomplete, Obstacle, RuleIndex, Task};
use super::request::{AnalysedPolicy, AnalysisLimits, ComparisonOptions};
use super::solver::{action_of, label};
use super::space::{Slot, Space, undivided};
use super::walk::Last;
use crate::engine::naive;
use crate::packet::Packet;
use crate::rule::RuleSpec;
use crate::time::Instant;

/// How many rules are compared with witnesses, most of them only by their bounds.
const MOST_COMPARISONS: usize = 10_000_000;
/// For so many witnesses of all rules, the bounds of these need not be made.
const FEW: usize = 16;
/// A comparison is many questions.
const QUESTIONS: u64 = 20;

/// Finds the packets on which two policies disagree.
pub(super) fn compare(
    left: &AnalysedPolicy<'_>,
    right: &AnalysedPolicy<'_>,
    options: &ComparisonOptions,
    limits: &AnalysisLimits<'_>,
) -> Comparison {
    let budget = Budget::new(limits);
    let mut comparison = Comparison::default();
    let mut incomplete = Vec::new();
    match Comparing::new(left, right, options, &budget) {
        Ok(Some(mut comparing)) => {
            let mut meter = budget.meter(limits.steps.saturating_mul(QUESTIONS));
            let mut pieces = Vec::new();
            match comparing.run(limits.parts, &mut meter, &mut pieces) {
                Ok(goes_on) => comparison.more = !goes_on,
                Err(obstacle) => incomplete.push((Task::Parts, obstacle)),
            }
            let mut compared = 0;
            for part in joined(&comparing.space, pieces) {
                match comparing.difference(part, &mut compared) {
                    Some(difference) => comparison.differences.push(difference),
                    None => incomplete.push((Task::Witness, Obstacle::Defect)),
                }
            }
        }
        Ok(None) => {}
        Err(obstacle) => incomplete.push((Task::Parts, obstacle)),
    }
    if comparison.differences.len() > limits.parts {
        comparison.differences.truncate(limits.parts);
        comparison.more = true;
    }
    let danger = |change| VerdictChange::ALL.iter().position(|it| *it == change);
    comparison.differences.sort_by_key(|it| (danger(it.change), it.left_rule, it.right_rule));
    incomplete.dedup();
    comparison.incomplete =
        incomplete.into_iter().map(|(what, why)| Incomplete::whole(what, why)).collect();
    comparison
}

struct Comparing<'a> {
    left: &'a AnalysedPolicy<'a>,
    right: &'a AnalysedPolicy<'a>,
    /// The rules of the space: those that can meet a changed one.
    rules: Vec<MergedRule<'a>>,
    space: Space,
    instants: Vec<Instant>,
    /// The bounds of all rules of each side.
    extents: [Extents; 2],
}

impl<'a> Comparing<'a> {
    /// None if neither a rule nor the default differs.
    fn new(
        left: &'a AnalysedPolicy<'a>,
        right: &'a AnalysedPolicy<'a>,
        options: &ComparisonOptions,
        budget: &Budget<'_>,
    ) -> Result<Option<Self>, Obstacle> {
        let takes_part = |rule: &MergedRule<'_>| {
            rule.spec.enabled
                && rule.spec.starts_at.is_none_or(|start| start <= options.until)
                && rule.spec.expires_at.is_none_or(|end| options.from < end)
        };
        let mut rules = merge(left.rules, right.rules);
        rules.retain(takes_part);
        if !budget.should_continue() {
            return Err(Obstacle::Time);
        }
        if left.default_action == right.default_action {
            // Only packets in changed rules can change, so only rules that meet these matter. This is
            // why a comparison needs no index of the whole policy.
            let is_changed = |it: &&MergedRule<'_>| it.is_changed();
            if !rules.iter().any(|it| it.is_changed()) {
                return Ok(None);
            }
            let changed: Hulls =
                rules.iter().filter(is_changed).map(|it| Hull::of(it.spec)).collect();
            rules.retain(|it| it.is_changed() || changed.meet(&Hull::of(it.spec)));
        }
        let specs: Vec<&RuleSpec> = rules.iter().map(|it| it.spec).collect();
        let instants = instants(specs.iter().copied(), options.from, options.until);
        let space = Space::new(&specs, undivided, budget)?;
        let extents = Default::default();
        Ok(Some(Self { left, right, rules, space, instants, extents }))
    }

    fn rule(&self, slot: Slot) -> Option<&MergedRule<'a>> {
        self.rules.get(slot as usize)
    }

    fn run(
        &mut self,
        most: usize,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Obstacle> {
        for at in std::mem::take(&mut self.instants) {
            // What changes at an earlier instant is not found again, so that the parts are disjoint.
            let done = as_done(&mut self.space, pieces);
            let last = [self.left, self.right]
                .map(|it| Last { label: label(it.default_action), rule: None });
            let of =
                |slot: Slot| self.rule(slot).map(|rule| (rule.sides(), label(rule.spec.action)));
            let exploration = Exploration {
                space: &self.space,
                at,
                last,
                of: &of,
                is_done: &|_| false,
                done: &done,
                wants: &|_| true,
                names_rules: true,
                most,
            };
            let goes_on = if self.left.default_action == self.right.default_action {
                self.walk_changed(&exploration, meter, pieces)?
            } else {
                exploration.run_all(meter, pieces)?
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Walks through the rules that are on one side only. The next one ignores
    /// packets that an earlier one has covered.
    fn walk_changed(
        &self,
        exploration: &Exploration<'_>,
        meter: &mut Meter<'_>,
        pieces: &mut Vec<Piece>,
    ) -> Result<bool, Obstacle> {
        let slots = self.rules.iter().zip(0_u32..).filter(|it| it.0.is_changed()).map(|it| it.1);
        for slot in slots.filter(|it| self.space.is_active(*it, exploration.at)) {
            let is_done =
                |other: Slot| other < slot && self.rule(other).is_some_and(MergedRule::is_changed);
            let exploration = Exploration { is_done: &is_done, ..*exploration };
            if !exploration.run_rule(slot, meter, pieces)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// A part as the answer shows it; none if its witness is refuted.
    fn difference(&self, part: Joined, compared: &mut usize) -> Option<Difference> {
        let Joined { packets, labels: [from, to], rules: [left, right], witness, .. } = part;
        let (from, to) = (action_of(from), action_of(to));
        let index = |rule: &Option<Slot>, is_left: bool| {
            let rule = rule.and_then(|slot| self.rule(slot))?;
            if is_left { rule.left } else { rule.right }
        };
        let indexes = |rules: &[Option<Slot>], is_left: bool| -> Vec<RuleIndex> {
            rules.iter().filter_map(|rule| index(rule, is_left)).collect()
        };
        let (left_rules, right_rules) = (indexes(&left, true), indexes(&right, false));
        let witness = witness?;
        let [left, right] = &self.extents;
        let left_rule = decider(self.left, left, &left_rules, &witness, compared)?;
        let right_rule = decider(self.right, right, &right_rules, &witness, compared)?;
        let action = |policy: &AnalysedPolicy<'_>, rule: Option<RuleIndex>| {
            rule.and_then(|it| policy.spec(it)).map_or(policy.default_action, |it| it.action)
        };
        if action(self.left, left_rule) != from || action(self.right, right_rule) != to {
            return None;
        }
        Some(Difference {
            from,
            to,
            change: VerdictChange::between(from, to)?,
            left_rule,
            right_rule,
            left_rules,
            right_rules,
            packets,
            witness,
        })
    }
}

/// The rule of a policy that decides a packet, by the definition; `Some(None)` for the default. None
/// if it is not among the rules that a walk has named, or the default.
///
/// With very many parts, the search over all rules would take longer than the comparison itself. It
/// then only goes over the named rules, the first of which that matches decides.
fn decider(
    policy: &AnalysedPolicy<'_>,
    extents: &Extents,
    named: &[RuleIndex],
    packet: &Packet,
    compared: &mut usize,
) -> Option<Option<RuleIndex>> {
    let matches =
        |index: &RuleIndex| policy.spec(*index).is_some_and(|spec| naive::matches(spec, packet));
    let of_named = named.iter().copied().find(matches);
    *compared += of_named.unwrap_or(policy.rules.len());
    if *compared > MOST_COMPARISONS {
        return Some(of_named);
    }
    let first = if *compared > policy.rules.len().saturating_mul(FEW) {
        extents.first_match(policy, packet)
    } else {
        policy.rules.iter().position(|it| naive::matches(it.spec, packet))
    };
    (first == of_named).then_some(first)
}

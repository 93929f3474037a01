//! The analysis of a policy: what is searched in which order.

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::breadth::{permissive, public_ends};
use super::budget::Budget;
use super::context::Context;
use super::exposure::exposed;
use super::findings::Outcome;
use super::fix;
use super::grounds::Grounds;
use super::hidden::{Meanings, hidden};
use super::identity::identify;
use super::lifecycle::lifecycle;
use super::mergeable::mergeable;
use super::pairs::pairs;
use super::reach::{Decided, Effectiveness, Reach, decide};
use super::redundant::{redundant, together};
use super::report::{
    Analysed, Analysis, Finding, FindingKind, Incomplete, Obstacle, RuleIndex, Severity, Task,
};
use super::request::{AnalysedPolicy, AnalysisLimits, AnalysisOptions, FindingKinds};
use super::space::Slot;
use super::until::Seeks;
use crate::net::Family;

/// The kinds that follow from the reach of rules.
pub(super) const REACH: [FindingKind; 3] =
    [FindingKind::Contradiction, FindingKind::Duplicate, FindingKind::Unreachable];
/// The kinds that follow from verdicts that do not change.
pub(super) const REDUNDANT: [FindingKind; 2] =
    [FindingKind::Redundant, FindingKind::RestatesDefault];

/// Finds the faults of a policy. Returns what that rests on as well.
pub(super) fn analyse_with_grounds(
    policy: &AnalysedPolicy<'_>,
    options: &AnalysisOptions,
    limits: &AnalysisLimits<'_>,
) -> (Analysis, Grounds) {
    let mut grounds = Grounds::none(policy, options);
    let budget = Budget::new(limits);
    let mut analysis = Analysis {
        at: options.at,
        analysed: Analysed::of(policy, options.at),
        findings: Vec::new(),
        incomplete: Vec::new(),
    };
    // Findings that need no search are there whatever the limits are.
    let mut simple = Outcome::default();
    lifecycle(policy, options, &|_| true, &mut simple);
    let seeks_exposed = options.kinds.contains(FindingKind::Exposed);
    match Context::new(policy, options.at, divisions(seeks_exposed), &budget) {
        Ok(context) => {
            let outcome = outcome(&context, options, &mut grounds);
            analysis.incomplete = outcome.incomplete(&context);
            analysis.findings = outcome.findings;
        }
        Err(obstacle) => analysis.incomplete = undecided(options, obstacle),
    }
    analysis.findings.extend(simple.findings);
    analysis.findings.retain(|finding| options.kinds.contains(finding.kind));
    fix::suggest(&mut analysis.findings);
    identify(&mut analysis.findings, policy);
    (analysis, grounds)
}

/// The ranges of addresses that divide the rules of a search, in addition to their own ones.
pub(super) fn divisions(
    seeks_exposed: bool,
) -> impl Fn(Family) -> Box<dyn Iterator<Item = (u128, u128)>> {
    move |family| {
        let ends = public_ends(family).filter(move |_| seeks_exposed);
        Box::new(ends)
    }
}

/// The task that decides which rules have findings of a kind; none if that is always decided.
const fn task_of(kind: FindingKind) -> Option<Task> {
    match kind {
        FindingKind::Contradiction | FindingKind::Duplicate | FindingKind::Unreachable => {
            Some(Task::Reach)
        }
        FindingKind::Redundant | FindingKind::RestatesDefault => Some(Task::Redundant),
        FindingKind::Exposed => Some(Task::Exposed),
        FindingKind::Correlated | FindingKind::Generalises | FindingKind::Mergeable => {
            Some(Task::Pairs)
        }
        FindingKind::NeverMatches
        | FindingKind::Expired
        | FindingKind::ExpiresSoon
        | FindingKind::DisabledLong
        | FindingKind::NoReference
        | FindingKind::Ineffective
        | FindingKind::Permissive => None,
    }
}

impl Analysis {
    /// Whether it is decided for all rules whether they have findings of these kinds. Details of the
    /// findings can be undecided.
    #[must_use]
    pub fn has_decided(&self, kinds: FindingKinds) -> bool {
        let is_undecided = |task| self.incomplete.iter().any(|it| it.what == task);
        // A refuted witness can be one of any kind.
        !is_undecided(Task::Witness) && !kinds.iter().filter_map(task_of).any(is_undecided)
    }
}

/// What is undecided if the rules could not even be prepared.
fn undecided(options: &AnalysisOptions, obstacle: Obstacle) -> Vec<Incomplete> {
    let mut incomplete: Vec<Incomplete> = Vec::new();
    for task in options.kinds.iter().filter_map(task_of) {
        if incomplete.iter().all(|it| it.what != task) {
            incomplete.push(Incomplete::whole(task, obstacle));
        }
    }
    incomplete
}

fn outcome(context: &Context<'_>, options: &AnalysisOptions, grounds: &mut Grounds) -> Outcome {
    let mut outcome = Outcome::default();
    let wants = |kinds: &[FindingKind]| kinds.iter().any(|kind| options.kinds.contains(*kind));
    let seeks_redundant = wants(&REDUNDANT);
    if seeks_redundant || wants(&REACH) {
        search_reach(context, options, &|_| true, grounds, &mut outcome);
    }
    if seeks_redundant {
        // What may go at the same time depends on which hidden rules are to go.
        fix::suggest(&mut outcome.findings);
        together(context, &mut outcome);
    }
    if wants(&[FindingKind::NeverMatches]) {
        never_matches(context, &|_| true, &mut outcome);
    }
    if wants(&[FindingKind::Permissive]) {
        permissive(context, options, &|_| true, &mut outcome);
    }
    if wants(&[FindingKind::Exposed]) {
        exposed(context, options, &mut outcome);
    }
    if wants(&[FindingKind::Mergeable]) {
        mergeable(context, &mut outcome);
    }
    // Last, since they can take longest.
    if wants(&[FindingKind::Correlated, FindingKind::Generalises]) {
        pairs(context, &mut outcome);
    }
    outcome
}

/// Adds the findings about active rules that match no packet at all, such as one whose only source is
/// `::ffff:0:0/96`.
pub(super) fn never_matches(
    context: &Context<'_>,
    is_asked: &dyn Fn(RuleIndex) -> bool,
    outcome: &mut Outcome,
) {
    for slot in context.active().filter(|slot| context.space.is_empty(*slot)) {
        let index = context.index(slot);
        if !is_asked(index) {
            continue;
        }
        outcome.findings.push(Finding::new(FindingKind::NeverMatches, Severity::Warning, index));
    }
}

/// Decides reach and redundancy of rules, then makes the proofs: what matters most is there when
/// time runs out.
pub(super) fn search_reach(
    context: &Context<'_>,
    options: &AnalysisOptions,
    is_asked: &(dyn Fn(RuleIndex) -> bool + Sync),
    grounds: &mut Grounds,
    outcome: &mut Outcome,
) {
    let seeks_redundant = REDUNDANT.iter().any(|kind| options.kinds.contains(*kind));
    let active = context.active().filter(|it| !context.space.is_empty(*it));
    let asked: Vec<Slot> = active.filter(|it| is_asked(context.index(*it))).collect();
    let decided: Vec<Decided> =
        asked.into_par_iter().map(|slot| decide(context, slot, seeks_redundant)).collect();
    for decided in &decided {
        grounds.add(context, decided);
    }
    let meanings = Meanings::new(context);
    let small_conflict = options.thresholds.small_conflict;
    let seeks = Seeks { small_conflict, redundant: seeks_redundant };
    let parts: Vec<Outcome> = decided
        .par_iter()
        .map(|decided| {
            let mut own = Outcome::default();
            finish(context, seeks, &meanings, decided, &mut own);
            own
        })
        .collect();
    for part in parts {
        outcome.add(part);
    }
}

/// Makes the finding of a rule.
fn finish(
    context: &Context<'_>,
    seeks: Seeks,
    meanings: &Meanings,
    decided: &Decided,
    outcome: &mut Outcome,
) {
    let slot = decided.slot;
    match &decided.reach {
        Ok(Reach::Hidden(cover)) => {
            hidden(context, meanings, slot, cover.clone(), seeks, outcome);
        }
        Ok(Reach::Reached) => {}
        Err(obstacle) => outcome.undecided(Task::Reach, *obstacle, slot),
    }
    match decided.effectiveness {
        Some(Ok(Effectiveness::Redundant { needs_default })) => {
            redundant(context, slot, needs_default, seeks, outcome);
        }
        Some(Err(obstacle)) => outcome.undecided(Task::Redundant, obstacle, slot),
        Some(Ok(Effectiveness::Needed)) | None => {}
    }
}

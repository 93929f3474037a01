//! The analysis of a policy: what is searched in which order.

use rayon::iter::{IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::breadth::{permissive, public_ends};
use super::budget::Budget;
use super::context::Context;
use super::exposure::exposed;
use super::findings::Outcome;
use super::fix;
use super::hidden::{Meanings, hidden};
use super::identity::identify;
use super::lifecycle::lifecycle;
use super::mergeable::mergeable;
use super::pairs::pairs;
use super::reach::{Decided, Effectiveness, Reach, decide};
use super::redundant::{redundant, together};
use super::report::{
    Analysed, Analysis, Finding, FindingKind, Incomplete, Obstacle, Severity, Task,
};
use super::request::{AnalysedPolicy, AnalysisLimits, AnalysisOptions};
use super::space::Slot;
use super::until::Seeks;

/// The kinds that follow from the reach of rules.
const REACH: [FindingKind; 3] =
    [FindingKind::Contradiction, FindingKind::Duplicate, FindingKind::Unreachable];
/// The kinds that follow from verdicts that do not change.
const REDUNDANT: [FindingKind; 2] = [FindingKind::Redundant, FindingKind::RestatesDefault];

/// Finds the faults of a policy.
pub(super) fn analyse(
    policy: &AnalysedPolicy<'_>,
    options: &AnalysisOptions,
    limits: &AnalysisLimits<'_>,
) -> Analysis {
    let budget = Budget::new(limits);
    let mut analysis = Analysis {
        at: options.at,
        analysed: Analysed::of(policy, options.at),
        findings: Vec::new(),
        incomplete: Vec::new(),
    };
    // Findings that need no search are there whatever the limits are.
    let mut simple = Outcome::default();
    lifecycle(policy, options, &mut simple);
    let seeks_exposed = options.kinds.contains(FindingKind::Exposed);
    let divide = |family| public_ends(family).filter(move |_| seeks_exposed);
    match Context::new(policy, options.at, divide, &budget) {
        Ok(context) => {
            let outcome = outcome(&context, options);
            analysis.incomplete = outcome.incomplete(&context);
            analysis.findings = outcome.findings;
        }
        Err(obstacle) => analysis.incomplete = undecided(options, obstacle),
    }
    analysis.findings.extend(simple.findings);
    analysis.findings.retain(|finding| options.kinds.contains(finding.kind));
    fix::suggest(&mut analysis.findings, policy);
    identify(&mut analysis.findings, policy);
    analysis
}

/// What is undecided if the rules could not even be prepared.
fn undecided(options: &AnalysisOptions, obstacle: Obstacle) -> Vec<Incomplete> {
    let tasks = options.kinds.iter().filter_map(|kind| match kind {
        FindingKind::Contradiction | FindingKind::Duplicate | FindingKind::Unreachable => {
            Some(Task::Reach)
        }
        FindingKind::Redundant | FindingKind::RestatesDefault => Some(Task::Redundant),
        FindingKind::Exposed => Some(Task::Exposed),
        FindingKind::Correlated | FindingKind::Generalises => Some(Task::Pairs),
        FindingKind::NeverMatches
        | FindingKind::Expired
        | FindingKind::ExpiresSoon
        | FindingKind::DisabledLong
        | FindingKind::NoReference
        | FindingKind::Ineffective
        | FindingKind::Permissive
        | FindingKind::Mergeable => None,
    });
    let mut incomplete: Vec<Incomplete> = Vec::new();
    for task in tasks {
        if incomplete.iter().all(|it| it.what != task) {
            incomplete.push(Incomplete::whole(task, obstacle));
        }
    }
    incomplete
}

fn outcome(context: &Context<'_>, options: &AnalysisOptions) -> Outcome {
    let mut outcome = Outcome::default();
    let wants = |kinds: &[FindingKind]| kinds.iter().any(|kind| options.kinds.contains(*kind));
    let seeks_redundant = wants(&REDUNDANT);
    if seeks_redundant || wants(&REACH) {
        reach_of_all(context, options, seeks_redundant, &mut outcome);
    }
    if wants(&[FindingKind::NeverMatches]) {
        never_matches(context, &mut outcome);
    }
    if wants(&[FindingKind::Permissive]) {
        permissive(context, options, &mut outcome);
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
fn never_matches(context: &Context<'_>, outcome: &mut Outcome) {
    for slot in context.active().filter(|slot| context.space.is_empty(*slot)) {
        let index = context.index(slot);
        outcome.findings.push(Finding::new(FindingKind::NeverMatches, Severity::Warning, index));
    }
}

/// Decides reach and redundancy of all rules, then makes the proofs: what matters most is there when
/// time runs out.
fn reach_of_all(
    context: &Context<'_>,
    options: &AnalysisOptions,
    seeks_redundant: bool,
    outcome: &mut Outcome,
) {
    let active: Vec<Slot> = context.active().filter(|it| !context.space.is_empty(*it)).collect();
    let decided: Vec<Decided> =
        active.into_par_iter().map(|slot| decide(context, slot, seeks_redundant)).collect();
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
    if seeks_redundant {
        // What may go at the same time depends on which hidden rules are to go.
        fix::suggest(&mut outcome.findings, context.policy);
        together(context, outcome);
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

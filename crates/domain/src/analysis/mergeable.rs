//! Findings about neighbors that can be written as one rule.

use super::budget::Budget;
use super::context::Context;
use super::findings::Outcome;
use super::measure::share;
use super::question::{Neighbors, Question, Side};
use super::report::{Cover, Finding, FindingKind, Fix, Obstacle, Severity, Task};
use super::space::{Slot, Space, undivided};
use super::until::instants_of;
use crate::net::{Family, PortRange, Protocols};
use crate::rule::{Endpoint, RuleParts, RuleSpec};
use crate::time::Instant;

/// Adds a finding for each active rule that can be written as one with the active rule before it.
pub(super) fn mergeable(context: &Context<'_>, outcome: &mut Outcome) {
    let active: Vec<Slot> = context.active().collect();
    for (first, second) in active.iter().zip(active.iter().skip(1)) {
        if !context.budget.should_continue() {
            outcome.undecided(Task::Pairs, Obstacle::Time, *second);
            continue;
        }
        // The merged rule takes the place of the first one, also before rules that start later.
        let own = context.action(Some(*first));
        if (*first + 1..*second).any(|slot| context.action(Some(slot)) != own) {
            continue;
        }
        let Some(merged) = merged(context, *first, *second) else { continue };
        let (before, index) = (context.index(*first), context.index(*second));
        outcome.findings.push(Finding {
            because: vec![Cover { rule: before, share: share(&context.space, *second, *first) }],
            until: until(context, *first, *second),
            fix: Some(Fix::Replace {
                rules: vec![before, index],
                with: Box::new(merged.into_parts()),
            }),
            ..Finding::new(FindingKind::Mergeable, Severity::Info, index)
        });
    }
}

/// The rule that two neighbors can be written as.
fn merged(context: &Context<'_>, first: Slot, second: Slot) -> Option<RuleSpec> {
    if !is_candidate(context, first, second) {
        return None;
    }
    let (a, b) = (context.spec(first)?, context.spec(second)?);
    candidates(a, b).into_iter().find(|it| is_union(it, a, b, context))
}

/// The first instant ahead at which a rule starts between two neighbors, with which the second one
/// cannot be merged. The neighbors themselves expire at the same time.
fn until(context: &Context<'_>, first: Slot, second: Slot) -> Option<Instant> {
    let between: Vec<Slot> = (first + 1..second).collect();
    instants_of(context, second, &between).into_iter().find(|at| {
        let then = context.later(*at);
        let before = between.iter().rev().copied().find(|slot| then.is_active(*slot));
        before.is_some_and(|before| merged(context, before, second).is_none())
    })
}

/// Whether two rules do the same at the same times, and are equal in two of their three sets.
fn is_candidate(context: &Context<'_>, a: Slot, b: Slot) -> bool {
    let (Some(first), Some(second)) = (context.spec(a), context.spec(b)) else { return false };
    let times = |spec: &RuleSpec| (spec.action, spec.log, spec.starts_at, spec.expires_at);
    if times(first) != times(second) {
        return false;
    }
    Family::ALL.into_iter().all(|family| {
        let parts = (context.space.parts(a, family), context.space.parts(b, family));
        parts.0.is_empty()
            || parts.1.is_empty()
            || parts.0.iter().any(|a| {
                parts.1.iter().any(|b| {
                    let equal = [
                        a.source == b.source,
                        a.destination == b.destination,
                        a.protocols == b.protocols,
                    ];
                    equal.into_iter().filter(|it| *it).count() >= 2
                })
            })
    })
}

/// Rules that may be the union of two: the first rule with one member that has the values of both.
fn candidates(a: &RuleSpec, b: &RuleSpec) -> Vec<RuleSpec> {
    let base = || (**a).clone();
    let both = |a: &[Endpoint], b: &[Endpoint]| {
        let mut all = a.to_vec();
        all.extend(b.iter().filter(|it| !a.contains(it)));
        all
    };
    // A destination takes along the ports of its rule, if these are one range.
    let own_ports = |rule: &RuleSpec| -> Option<Vec<Endpoint>> {
        let ports = match &rule.ports[..] {
            [] => None,
            [only] => Some(*only),
            _ => return None,
        };
        let with_ports = |it: &Endpoint| Endpoint { port: it.port.or(ports), ..*it };
        Some(rule.destinations.iter().map(with_ports).collect())
    };
    let ports = || -> Vec<PortRange> { a.ports.iter().chain(&b.ports).copied().collect() };
    let protocols = || -> Protocols { a.protocols.iter().chain(&*b.protocols).copied().collect() };
    let mut parts = vec![
        RuleParts { sources: both(&a.sources, &b.sources), ..base() },
        RuleParts { destinations: both(&a.destinations, &b.destinations), ..base() },
    ];
    if let (Some(first), Some(second)) = (own_ports(a), own_ports(b)) {
        let destinations = both(&first, &second);
        parts.push(RuleParts { destinations, ports: Vec::new(), ..base() });
    }
    if !a.ports.is_empty() && !b.ports.is_empty() {
        parts.push(RuleParts { ports: ports(), ..base() });
    }
    if !a.protocols.is_empty() && !b.protocols.is_empty() {
        parts.push(RuleParts { protocols: protocols(), ..base() });
    }
    // Candidates that are too long, or not valid as a whole, are no rules.
    parts.into_iter().filter_map(|parts| RuleSpec::new(parts).ok()).collect()
}

/// Whether a rule matches exactly what two others match.
fn is_union(rule: &RuleSpec, a: &RuleSpec, b: &RuleSpec, context: &Context<'_>) -> bool {
    // The three rules have a small space, and a budget, of their own.
    let budget = Budget::new(context.limits());
    let Ok(space) = Space::new(&[a, b, rule], undivided, &budget) else { return false };
    let mut meter = budget.meter(context.limits().steps);
    let (first, second, union): (Slot, Slot, Slot) = (0, 1, 2);
    let contains_both =
        [first, second].into_iter().all(|slot| space.contains_rule(union, slot, &mut meter.steps));
    contains_both
        && Neighbors::of(&space, union, Side::Earlier, &|_| true, &mut meter).is_ok_and(|near| {
            let question =
                Question { space: &space, neighbors: &near, within: None, takes: &|_| true };
            matches!(question.find_hole(&mut meter, &mut Vec::new()), Ok(None))
        })
}

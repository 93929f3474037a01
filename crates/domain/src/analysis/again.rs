//! The analysis of a later state of a policy: only what a change can matter to is searched again.
//!
//! Whether a rule has a finding about its reach, and which one, depends only on the rules that it meets
//! and on their order. So the findings of rules that meet no changed rule stay as they are. Most other
//! rules are settled by the packet that settled them before, if no new rule takes it. The rules that are
//! left are searched among those that they meet, without all others.

use std::collections::{BTreeMap, HashMap};

use super::analyse::{
    REACH, REDUNDANT, analyse_with_grounds, divisions, never_matches, search_reach,
};
use super::breadth::permissive;
use super::budget::Budget;
use super::changes::Changes;
use super::context::Context;
use super::exposure::{can_expose, exposed};
use super::extents::{Hull, Hulls};
use super::findings::Outcome;
use super::fix;
use super::grounds::Grounds;
use super::identity::identify_new;
use super::lifecycle::lifecycle;
use super::redundant::without_gone;
use super::report::{
    Analysed, Analysis, Finding, FindingKind, Fix, Incomplete, Obstacle, RuleIndex, Task,
};
use super::request::{AnalysedPolicy, AnalysisLimits, AnalysisOptions};
use super::space::takes_part;
use super::until::is_hidden;
use crate::rule::Action;

/// A former analysis, from which a later one can continue.
#[derive(Debug, Clone, Copy)]
pub struct Former<'a> {
    /// The default action of the policy then.
    pub default_action: Action,
    /// For each rule of the policy then, the index of the same rule in the policy now; none if the rule
    /// is gone or has another content. See [`super::same_rules`].
    pub same: &'a [Option<RuleIndex>],
    /// What was asked then.
    pub options: &'a AnalysisOptions,
    /// What was found.
    pub analysis: &'a Analysis,
    /// What that rests on.
    pub grounds: &'a Grounds,
}

/// Finds the faults of a later state of a policy: what [`super::analyse`] finds.
pub(super) fn analyse_again(
    former: &Former<'_>,
    policy: &AnalysedPolicy<'_>,
    options: &AnalysisOptions,
    limits: &AnalysisLimits<'_>,
) -> (Analysis, Grounds) {
    let continued = if can_continue(former, policy, options) {
        Again::run(former, policy, options, limits)
    } else {
        None
    };
    continued.unwrap_or_else(|| analyse_with_grounds(policy, options, limits))
}

/// Whether the former analysis says anything about this one.
fn can_continue(
    former: &Former<'_>,
    policy: &AnalysedPolicy<'_>,
    options: &AnalysisOptions,
) -> bool {
    let searched = REACH.iter().chain(&REDUNDANT);
    former.analysis.incomplete.iter().all(stays_undecided)
        && former.grounds.by_rule.len() == former.same.len()
        && former.default_action == policy.default_action
        && former.options.kinds == options.kinds
        && former.options.thresholds == options.thresholds
        && former.options.services == options.services
        && former.analysis.at <= options.at
        && searched.into_iter().all(|kind| options.kinds.contains(*kind))
        && options.kinds.iter().all(|kind| !kind.is_on_request())
}

/// Whether a question is undecided for some rules, and stays so as long as nothing changes that can
/// matter to them. More time or memory could decide it.
fn stays_undecided(undecided: &Incomplete) -> bool {
    let is_of_rules = match undecided.what {
        Task::Reach | Task::Redundant | Task::Minimal | Task::Conflict | Task::Until => true,
        Task::Together | Task::Exposed | Task::Pairs | Task::Parts | Task::Witness => false,
    };
    is_of_rules && undecided.why == Obstacle::Steps && !undecided.rules.is_empty()
}

struct Again<'a> {
    former: &'a Former<'a>,
    policy: &'a AnalysedPolicy<'a>,
    options: &'a AnalysisOptions,
    budget: &'a Budget<'a>,
    changes: Changes<'a>,
    /// The bounds of all rules.
    hulls: Vec<Hull>,
    /// The rules that are searched again, in order.
    again: Vec<RuleIndex>,
    incomplete: Vec<Incomplete>,
}

impl Again<'_> {
    /// None if a whole analysis costs no more.
    fn run(
        former: &Former<'_>,
        policy: &AnalysedPolicy<'_>,
        options: &AnalysisOptions,
        limits: &AnalysisLimits<'_>,
    ) -> Option<(Analysis, Grounds)> {
        let budget = Budget::new(limits);
        let changes = Changes::between(former, policy, options);
        let hulls: Vec<Hull> = policy.rules.iter().map(|rule| Hull::of(rule.spec)).collect();
        let mut reach: Vec<Option<&Finding>> = vec![None; former.same.len()];
        for finding in former.analysis.findings.iter().filter(|it| is_about_reach(it.kind)) {
            if let Some(own) = reach.get_mut(finding.rule) {
                *own = Some(finding);
            }
        }
        let (again, mut grounds) =
            changes.to_search(former.grounds, policy, &hulls, &reach, options);
        drop(reach);
        let mut run = Again {
            former,
            policy,
            options,
            budget: &budget,
            changes,
            hulls,
            again,
            incomplete: Vec::new(),
        };
        let findings = run.findings(&mut grounds)?;
        let (at, incomplete) = (options.at, run.incomplete);
        let analysed = Analysed::of(policy, at);
        Some((Analysis { at, analysed, findings, incomplete }, grounds))
    }

    fn is_searched(&self, rule: RuleIndex) -> bool {
        self.again.binary_search(&rule).is_ok()
    }

    fn findings(&mut self, grounds: &mut Grounds) -> Option<Vec<Finding>> {
        let context = self.context(&self.again).ok()?;
        let mut outcome = Outcome::default();
        let is_again = |rule: RuleIndex| self.is_searched(rule);
        search_reach(&context, self.options, &is_again, grounds, &mut outcome);
        never_matches(&context, &is_again, &mut outcome);
        permissive(&context, self.options, &is_again, &mut outcome);
        fix::suggest(&mut outcome.findings);
        let mut findings: Vec<Finding> =
            self.former.analysis.findings.iter().filter_map(|it| self.kept(it)).collect();
        findings.append(&mut outcome.findings);
        let is_new_rule = |index| self.changes.before.get(index).copied().flatten().is_none();
        lifecycle(self.policy, self.options, &is_new_rule, &mut outcome);
        self.together(&context, &mut findings, &mut outcome)?;
        self.exposed(&mut findings, &mut outcome)?;
        findings.append(&mut outcome.findings);
        self.incomplete = self.with_undecided(outcome.incomplete(&context));
        if self.incomplete.iter().any(|it| it.why == Obstacle::Time) {
            // Earlier findings belong to the answer too. The whole analysis reports them better.
            return None;
        }
        findings.retain(|finding| self.options.kinds.contains(finding.kind));
        fix::suggest(&mut findings);
        self.recognize(&mut findings);
        identify_new(&mut findings, self.policy);
        Some(findings)
    }

    /// Adds what is still undecided for rules that are not searched again.
    fn with_undecided(&self, new: Vec<Incomplete>) -> Vec<Incomplete> {
        let mut all: BTreeMap<(Task, Obstacle), Vec<RuleIndex>> =
            new.into_iter().map(|it| ((it.what, it.why), it.rules)).collect();
        for former in &self.former.analysis.incomplete {
            let rules = former.rules.iter().filter_map(|rule| self.now(*rule));
            let kept: Vec<RuleIndex> = rules.filter(|rule| !self.is_searched(*rule)).collect();
            if !kept.is_empty() {
                all.entry((former.what, former.why)).or_default().extend(kept);
            }
        }
        let sorted = |((what, why), mut rules): ((Task, Obstacle), Vec<RuleIndex>)| {
            rules.sort_unstable();
            Incomplete { what, why, rules }
        };
        all.into_iter().map(sorted).collect()
    }

    /// The rules that some rules meet, and these, in a space of their own.
    fn context(&self, rules: &[RuleIndex]) -> Result<Context<'_>, Obstacle> {
        let hulls: Hulls = rules.iter().filter_map(|it| self.hulls.get(*it).copied()).collect();
        let near = self.hulls.iter().enumerate();
        let near = near.filter(|it| hulls.meet(it.1) || rules.binary_search(&it.0).is_ok());
        self.context_of(near.map(|it| it.0).collect(), false)
    }

    fn context_of(&self, rules: Vec<RuleIndex>, is_divided: bool) -> Result<Context<'_>, Obstacle> {
        let at = self.options.at;
        let takes_part =
            |it: &RuleIndex| self.policy.spec(*it).is_some_and(|spec| takes_part(spec, at));
        let rules = rules.into_iter().filter(takes_part).collect();
        Context::among(self.policy, rules, at, divisions(is_divided), self.budget)
    }

    /// A finding of the former analysis, if it still holds.
    fn kept(&self, finding: &Finding) -> Option<Finding> {
        if !is_about_reach(finding.kind) && !is_about_content(finding.kind) {
            return None;
        }
        let rule = self.now(finding.rule)?;
        // Nothing is searched for these.
        if self.is_searched(rule) && finding.kind != FindingKind::Ineffective {
            return None;
        }
        let mut kept = Finding { rule, ..finding.clone() };
        for cover in &mut kept.because {
            cover.rule = self.now(cover.rule)?;
        }
        if let Some(conflict) = &mut kept.conflicts_with {
            conflict.rule = self.now(conflict.rule)?;
            conflict.first = self.now(conflict.first)?;
        }
        kept.witness = kept.witness.map(|packet| packet.with_time(self.options.at));
        kept.fix = match kept.fix {
            Some(Fix::Delete(_)) => Some(Fix::Delete(vec![rule])),
            Some(Fix::Move { before, .. }) => Some(Fix::Move { rule, before: self.now(before)? }),
            other => other,
        };
        Some(kept)
    }

    /// Gives findings that were made again, because they cost no search, the ids that they had.
    fn recognize(&self, findings: &mut [Finding]) {
        let mut known: HashMap<(RuleIndex, FindingKind), &Finding> = HashMap::new();
        for finding in self.former.analysis.findings.iter().filter(|it| is_made_again(it.kind)) {
            if let Some(rule) = self.now(finding.rule) {
                known.insert((rule, finding.kind), finding);
            }
        }
        for finding in findings.iter_mut().filter(|it| is_made_again(it.kind)) {
            if let Some(known) = known.get(&(finding.rule, finding.kind)) {
                (finding.id, finding.proof, finding.number) = (known.id, known.proof, known.number);
            }
        }
    }

    /// The index of a rule of the former state.
    fn now(&self, rule: RuleIndex) -> Option<RuleIndex> {
        self.changes.after.get(rule).copied().flatten()
    }

    /// Finds out again which redundant rules may go at the same time, where others matter to that now.
    fn together(
        &self,
        context: &Context<'_>,
        findings: &mut [Finding],
        outcome: &mut Outcome,
    ) -> Option<()> {
        let mut gone = vec![false; self.policy.rules.len()];
        let mut gone_before = vec![false; self.policy.rules.len()];
        for finding in &self.former.analysis.findings {
            if let Some(rule) = self.now(finding.rule)
                && let Some(own) = gone_before.get_mut(rule)
            {
                *own |= is_to_go(finding);
            }
        }
        for finding in findings.iter().filter(|it| it.kind != FindingKind::Redundant) {
            if let Some(own) = gone.get_mut(finding.rule) {
                *own |= is_to_go(finding);
            }
        }
        // The bounds of the rules that differ, and of those that go now and did not before, or the reverse.
        let mut differ = self.changes.hulls();
        let mut is_redundant = vec![false; self.policy.rules.len()];
        for finding in findings.iter().filter(|it| it.kind == FindingKind::Redundant && !it.logs) {
            if let Some(own) = is_redundant.get_mut(finding.rule) {
                *own = true;
            }
        }
        for rule in &self.again {
            let is_other = gone.get(*rule) != gone_before.get(*rule);
            // Whether redundant rules go is found out below.
            if is_other && is_redundant.get(*rule) == Some(&false) {
                self.hulls.get(*rule).into_iter().for_each(|hull| differ.add(*hull));
            }
        }
        let mut redundant: Vec<&mut Finding> =
            findings.iter_mut().filter(|it| it.kind == FindingKind::Redundant).collect();
        redundant.sort_by_key(|finding| (finding.logs, finding.rule));
        for finding in redundant {
            let rule = finding.rule;
            let hull = self.hulls.get(rule).copied()?;
            let is_again = self.is_searched(rule);
            if is_again || differ.meet(&hull) {
                let own;
                let among = if is_again {
                    context
                } else {
                    own = self.context(&[rule]).ok()?;
                    &own
                };
                let slot = among.slot(rule)?;
                let is_gone = |it| gone.get(among.index(it)).copied().unwrap_or(false);
                match without_gone(among, slot, finding.until, &is_gone) {
                    Ok(together) => finding.together = together.unwrap_or_default(),
                    Err(obstacle) => {
                        let slot = context.slot(rule)?;
                        outcome.undecided(Task::Together, obstacle, slot);
                        continue;
                    }
                }
            } else {
                for other in &mut finding.together {
                    *other = self.now(*other)?;
                }
            }
            let goes = !finding.logs && finding.together.is_empty();
            if let Some(own) = gone.get_mut(rule) {
                *own = goes;
            }
            if gone_before.get(rule).copied() != Some(goes) {
                differ.add(hull);
            }
        }
        Some(())
    }

    /// Finds exposed services: those that were found, if no rule that differs is about them.
    fn exposed(&self, findings: &mut Vec<Finding>, outcome: &mut Outcome) -> Option<()> {
        if !self.options.kinds.contains(FindingKind::Exposed) {
            return Some(());
        }
        let services = &self.options.services;
        if self.changes.can_expose() {
            let near = self.policy.rules.iter().enumerate();
            let near = near.filter(|it| can_expose(it.1.spec, services)).map(|it| it.0);
            let context = self.context_of(near.collect(), true).ok()?;
            let mut found = Outcome::default();
            exposed(&context, self.options, &mut found);
            if !found.incomplete(&context).is_empty() {
                return None;
            }
            outcome.findings.append(&mut found.findings);
            return Some(());
        }
        let (before, now) = (self.former.same.len(), self.policy.rules.len());
        // The default comes after all rules.
        let index = |rule| if rule == before { Some(now) } else { self.now(rule) };
        for finding in &self.former.analysis.findings {
            if finding.kind != FindingKind::Exposed {
                continue;
            }
            let mut kept = Finding { rule: index(finding.rule)?, ..finding.clone() };
            for cover in &mut kept.because {
                cover.rule = index(cover.rule)?;
            }
            kept.witness = kept.witness.map(|packet| packet.with_time(self.options.at));
            findings.push(kept);
        }
        Some(())
    }
}

/// Whether a finding suggests to delete its rule, so that the rule is gone when others are looked at.
fn is_to_go(finding: &Finding) -> bool {
    match finding.kind {
        FindingKind::Redundant => !finding.logs && finding.together.is_empty(),
        kind => is_hidden(kind) && matches!(finding.fix, Some(Fix::Delete(_))),
    }
}

fn is_about_reach(kind: FindingKind) -> bool {
    REACH.contains(&kind) || REDUNDANT.contains(&kind)
}

/// Whether findings are made again whatever has changed. A rule has at most one of each kind.
const fn is_made_again(kind: FindingKind) -> bool {
    matches!(
        kind,
        FindingKind::Expired
            | FindingKind::ExpiresSoon
            | FindingKind::DisabledLong
            | FindingKind::NoReference
    )
}

/// Whether a finding depends on the content of its rule alone.
const fn is_about_content(kind: FindingKind) -> bool {
    matches!(kind, FindingKind::NeverMatches | FindingKind::Permissive | FindingKind::Ineffective)
}

//! The rules of a policy, ready to decide packets: compiled, or compared one by one until they are.
//!
//! Reading and compiling 100,000 rules takes a second. Neither one changed rule nor the first
//! inspection should cost that. So there are two layers, and each can be compiled on its own:
//!
//! - The base: rules that were read together.
//! - The later rules: those that were added or changed since. Each has its place in the base. The
//!   places of the base's rules that are gone are listed. A changed rule is in both lists.
//!
//! A lookup searches both layers, and the earlier match decides. A layer that is not compiled is
//! evaluated by the definition. Policies share their base with their later states, so a base that
//! is compiled in the background at last serves each state that was made from it.
//!
//! When there are many changes, the rules form a new base ([`CompiledRules::rebased`]). It can be
//! compiled while the old one still answers, and [`CompiledRules::on`] moves a later state to it.

use std::sync::{Arc, OnceLock};

use super::classifier::Budget;
use super::compact::{ChangedRule, CompactRule};
use super::evaluator::{Evaluator, Limits};
use super::naive::{self, Explanation, RuleRef};
use super::port_map::PortMap;
use crate::ids::RuleId;
use crate::net::PortRange;
use crate::packet::Packet;
use crate::rule::RuleSpec;

/// The most changes next to a base that are still cheap: all of them are compiled at each change.
const MAX_CHANGES: usize = 1_000;
/// The base also needs this many rules for each change.
const RULES_PER_CHANGE: usize = 8;

/// All live rules of a policy, in order of evaluation, with what decides packets by them.
#[derive(Debug, Clone)]
pub struct CompiledRules {
    base: Arc<Base>,
    /// The places in the base of rules that have been deleted or changed since, in order.
    gone: Vec<u32>,
    /// The rules that were added or changed since; none if there are none.
    later: Option<Arc<Later>>,
    /// Whether the base's classifier can pass over all that are gone. Only known once the base is
    /// compiled.
    can_pass_over: OnceLock<bool>,
}

/// A rule that decides. Two are equal if they have the same id.
#[derive(Debug, Clone, Copy)]
pub struct DecidingRule<'a>(pub &'a Arc<CompactRule>);

impl PartialEq for DecidingRule<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}

impl Eq for DecidingRule<'_> {}

/// Rules that are compiled together.
#[derive(Debug)]
struct Layer {
    /// In order of evaluation.
    rules: Vec<Arc<CompactRule>>,
    /// None until the rules are compiled, or found to exceed their budget.
    evaluator: OnceLock<Evaluator>,
    /// How many comparisons a packet costs without a classifier.
    comparisons: u64,
    /// Roughly how much memory the rules take, in bytes.
    bytes: usize,
}

#[derive(Debug)]
struct Base {
    layer: Layer,
    /// The places of the rules, in order of their ids.
    places: Vec<u32>,
}

#[derive(Debug)]
struct Later {
    layer: Layer,
    /// For each rule, the place of the first rule in the base that comes after it.
    before: Vec<u32>,
}

impl CompiledRules {
    /// Rules that are in order of evaluation, not compiled yet.
    #[must_use]
    pub fn uncompiled(rules: Vec<Arc<CompactRule>>) -> Self {
        let mut places: Vec<u32> = (0..).take(rules.len()).collect();
        places.sort_unstable_by_key(|place| rules.get(*place as usize).map(|rule| rule.id()));
        let base = Arc::new(Base { layer: Layer::new(rules), places });
        Self { base, gone: Vec::new(), later: None, can_pass_over: OnceLock::new() }
    }

    /// Compiles rules that are in order of evaluation. Takes up to several seconds within the
    /// default budget, so do not call it on a thread that serves requests.
    #[must_use]
    pub fn new(rules: Vec<Arc<CompactRule>>, limits: Limits<'_>) -> Self {
        Self::uncompiled(rules).compiled(limits)
    }

    /// Compiles whatever is not compiled yet.
    #[must_use]
    pub fn compiled(self, limits: Limits<'_>) -> Self {
        while let Some(compilation) = self.pending() {
            compilation.run(limits);
        }
        self
    }

    /// Applies changes: each changed rule as it is now, deleted rules included. All other rules
    /// must be unchanged. The changed rules are not compiled yet. Costs O(changes so far). Returns
    /// `None` if the result does not have `count` rules, because `changes` then lacks some
    /// deletions.
    #[must_use]
    pub fn changed(&self, changes: &[ChangedRule], count: u64) -> Option<Self> {
        let mut ids: Vec<RuleId> = changes.iter().map(|change| change.id).collect();
        ids.sort_unstable();
        let mut gone = self.gone.clone();
        gone.extend(ids.iter().filter_map(|id| self.base.place(*id)));
        gone.sort_unstable();
        gone.dedup();
        let kept = self.later().filter(|(_, rule)| ids.binary_search(&rule.id()).is_err());
        let changed = changes.iter().filter_map(|change| change.rule.as_ref());
        let changed = changed.map(|rule| (self.base.place_for(rule), rule));
        let later = kept.chain(changed).map(|(before, rule)| (before, Arc::clone(rule))).collect();
        let next = self.with(Arc::clone(&self.base), gone, later);
        (u64::try_from(next.len()) == Ok(count)).then_some(next)
    }

    /// The same rules as a new base, which is not compiled yet. Costs O(rules), in time; the rules
    /// themselves are shared.
    #[must_use]
    pub fn rebased(&self) -> Self {
        Self::uncompiled(self.iter().map(Arc::clone).collect())
    }

    /// These rules as changes next to the base of others. Costs O(rules) of both.
    #[must_use]
    pub fn on(&self, other: &Self) -> Self {
        let mut gone = Vec::new();
        let mut later = Vec::new();
        let mut own = self.iter().peekable();
        for (rule, place) in other.base.layer.rules.iter().zip(0_u32..) {
            while let Some(earlier) = own.next_if(|it| it.order() < rule.order()) {
                later.push((place, Arc::clone(earlier)));
            }
            // Shared rules are equal. If a rule is not shared, it counts as changed.
            match own.next_if(|it| it.order() == rule.order()) {
                Some(same) if Arc::ptr_eq(same, rule) => {}
                Some(changed) => {
                    gone.push(place);
                    later.push((place, Arc::clone(changed)));
                }
                None => gone.push(place),
            }
        }
        let end = u32::try_from(other.base.layer.rules.len()).unwrap_or(u32::MAX);
        later.extend(own.map(|rule| (end, Arc::clone(rule))));
        self.with(Arc::clone(&other.base), gone, later)
    }

    /// The later rules, each with its place in the base.
    fn later(&self) -> impl Iterator<Item = (u32, &Arc<CompactRule>)> {
        self.later.iter().flat_map(|later| later.before.iter().copied().zip(&later.layer.rules))
    }

    /// A base with changes: the later rules, each with its place in the base. If they are those
    /// that are already here, what is compiled stays.
    fn with(
        &self,
        base: Arc<Base>,
        gone: Vec<u32>,
        mut later: Vec<(u32, Arc<CompactRule>)>,
    ) -> Self {
        later.sort_unstable_by_key(|(_, rule)| rule.order());
        let (before, rules): (Vec<u32>, Vec<Arc<CompactRule>>) = later.into_iter().unzip();
        let later = match &self.later {
            Some(later) if later.is_of(&rules) && Arc::ptr_eq(&self.base, &base) => {
                Some(Arc::clone(later))
            }
            _ if rules.is_empty() => None,
            _ => Some(Arc::new(Later { layer: Layer::new(rules), before })),
        };
        Self { base, gone, later, can_pass_over: OnceLock::new() }
    }

    /// What must be compiled next; none if everything is compiled. The base comes first: it is
    /// shared with the states after this one.
    #[must_use]
    pub fn pending(&self) -> Option<Compilation> {
        if self.base.layer.is_pending() {
            return Some(Compilation(Target::Base(Arc::clone(&self.base))));
        }
        let later = self.later.as_ref().filter(|later| later.layer.is_pending())?;
        Some(Compilation(Target::Later(Arc::clone(later))))
    }

    /// Whether a new base would answer faster: there are many changes, or the classifier of the
    /// base cannot pass over a rule that is gone, or the base exceeded its budget and has changed
    /// since. The answers are exact either way.
    #[must_use]
    pub fn should_be_rebased(&self) -> bool {
        let changes = self.changes();
        let most = MAX_CHANGES.min(self.base.layer.rules.len() / RULES_PER_CHANGE);
        let evaluator = self.base.layer.evaluator.get();
        changes > most
            || (changes > 0 && evaluator.is_some_and(Evaluator::is_over_budget))
            || (evaluator.is_some() && !self.can_pass_over())
    }

    /// How many changes there are next to the base.
    fn changes(&self) -> usize {
        self.gone.len() + self.later.as_ref().map_or(0, |later| later.layer.rules.len())
    }

    /// Whether the classifier of the base, if there is one, can pass over all rules that are gone.
    fn can_pass_over(&self) -> bool {
        self.gone.is_empty()
            || self.base.layer.evaluator.get().is_none_or(|evaluator| {
                let all = || self.gone.iter().all(|place| evaluator.can_pass_over(*place));
                *self.can_pass_over.get_or_init(all)
            })
    }

    /// How many comparisons of entries a packet can cost; 0 if everything is compiled.
    #[must_use]
    pub fn comparisons(&self) -> u64 {
        let later = self.later.as_ref().map_or(0, |later| later.layer.naive_comparisons());
        if self.can_pass_over() {
            self.base.layer.naive_comparisons().saturating_add(later)
        } else {
            self.base.layer.comparisons.saturating_add(later)
        }
    }

    /// How many comparisons of entries a packet costs if nothing is compiled.
    #[must_use]
    pub fn all_comparisons(&self) -> u64 {
        self.layers().map(|layer| layer.comparisons).sum()
    }

    /// Whether the base or the later rules exceeded their budget. Each packet is then compared with
    /// each rule of that part.
    #[must_use]
    pub fn is_over_budget(&self) -> bool {
        self.evaluators().any(Evaluator::is_over_budget)
    }

    /// Whether the reason was a lack of time. Another attempt may then succeed.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.evaluators().any(Evaluator::is_stopped)
    }

    fn layers(&self) -> impl Iterator<Item = &Layer> {
        std::iter::once(&self.base.layer).chain(self.later.iter().map(|later| &later.layer))
    }

    fn evaluators(&self) -> impl Iterator<Item = &Evaluator> {
        self.layers().filter_map(|layer| layer.evaluator.get())
    }

    /// Roughly how much memory it takes, in bytes: its rules and its classifiers.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let before = self.later.as_ref().map_or(0, |later| size_of_val(later.before.as_slice()));
        ITSELF
            + self.layers().map(Layer::memory_bytes).sum::<usize>()
            + size_of_val(self.base.places.as_slice())
            + size_of_val(self.gone.as_slice())
            + before
    }

    /// The number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        let later = self.later.as_ref().map_or(0, |later| later.layer.rules.len());
        (self.base.layer.rules.len() + later).saturating_sub(self.gone.len())
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rules, in order of evaluation.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<CompactRule>> {
        merged(&self.base.layer.rules, &self.gone, self.later())
    }

    /// The evaluator of the base: the naive one if it is not compiled, or if its classifier cannot
    /// answer as if the rules that are gone were not there.
    #[inline]
    fn base_evaluator(&self) -> &Evaluator {
        match self.base.layer.evaluator.get() {
            Some(evaluator) if self.can_pass_over() => evaluator,
            _ => &Evaluator::NAIVE,
        }
    }

    /// The rule that decides a packet; none if the default action does.
    #[must_use]
    pub fn first_match(&self, packet: &Packet) -> Option<&Arc<CompactRule>> {
        let rules = self.base.layer.rules.iter();
        let evaluator = self.base_evaluator();
        let first = if self.gone.is_empty() {
            evaluator.first_match(packet, rules)
        } else {
            let is_there = |place: u32| self.gone.binary_search(&place).is_err();
            evaluator.first_match_among(packet, rules, is_there)
        };
        let later = self.later.as_ref().and_then(|later| {
            later.layer.evaluator().first_match(packet, later.layer.rules.iter())
        });
        self.earlier(first, later)
    }

    /// The rule that decides at each source port that a packet may have; none if the default action
    /// does.
    #[must_use]
    pub fn first_match_by_port(
        &self,
        packet: &Packet,
        ports: PortRange,
    ) -> PortMap<Option<DecidingRule<'_>>> {
        let rules = self.base.layer.rules.iter();
        let is_there = |place: u32| self.gone.binary_search(&place).is_err();
        let first = self.base_evaluator().first_match_by_port(packet, ports, rules, is_there);
        let decide = |first, later| self.earlier(first, later).map(DecidingRule);
        let Some(later) = &self.later else {
            return first.map(|first| decide(first, None));
        };
        let rules = later.layer.rules.iter();
        let later = later.layer.evaluator().first_match_by_port(packet, ports, rules, |_| true);
        // Both maps have all ports.
        first.zip(&later, decide).unwrap_or_else(|| PortMap::constant(ports, None))
    }

    /// The earlier one of the first match in the base and the first match among the later rules, each
    /// by its place.
    fn earlier(&self, first: Option<usize>, later: Option<usize>) -> Option<&Arc<CompactRule>> {
        let later = later.zip(self.later.as_ref()).and_then(|(place, later)| {
            Some((later.layer.rules.get(place)?, *later.before.get(place)?))
        });
        match (first, later) {
            (Some(first), Some((later, before))) if (before as usize) <= first => Some(later),
            (None, Some((later, _))) => Some(later),
            (Some(first), _) => self.base.layer.rules.get(first),
            (None, None) => None,
        }
    }

    /// Explains the verdict on a packet by the definition. Also returns all rules in order of
    /// evaluation, to which the indices of the explanation refer.
    #[must_use]
    pub fn explain(&self, packet: &Packet) -> (Explanation, Vec<&Arc<CompactRule>>) {
        let rules: Vec<&Arc<CompactRule>> = self.iter().collect();
        (naive::explain(&rules, packet), rules)
    }
}

/// A layer of rules that is not compiled yet. Its result serves everybody who has the layer.
#[derive(Debug, Clone)]
pub struct Compilation(Target);

#[derive(Debug, Clone)]
enum Target {
    Base(Arc<Base>),
    Later(Arc<Later>),
}

impl Compilation {
    fn layer(&self) -> &Layer {
        match &self.0 {
            Target::Base(base) => &base.layer,
            Target::Later(later) => &later.layer,
        }
    }

    /// Whether these are the changed rules of a policy, as opposed to all rules.
    #[must_use]
    pub const fn is_of_changes(&self) -> bool {
        matches!(self.0, Target::Later(_))
    }

    /// How many comparisons of entries a packet costs until the layer is compiled. Costs O(1).
    #[must_use]
    pub fn comparisons(&self) -> u64 {
        self.layer().comparisons
    }

    /// The most memory that [`Self::run`] takes in addition to the rules, in bytes. Costs O(entries), in
    /// time and in memory.
    #[must_use]
    pub fn bytes(&self, budget: Budget) -> usize {
        let specs = self.layer().specs();
        Evaluator::bytes_to_compile(&entries(&specs), budget).saturating_add(self.bytes_of_specs())
    }

    /// The part of this memory that does not count towards the budget of a compilation.
    #[must_use]
    pub fn bytes_of_specs(&self) -> usize {
        let of_rule = |rule: &Arc<CompactRule>| rule.bytes_of_spec() + size_of::<RuleRef<'_>>();
        self.layer().rules.iter().map(of_rule).sum()
    }

    /// Compiles the layer. Takes up to several seconds within the default budget, so do not call it
    /// on a thread that serves requests.
    pub fn run(&self, limits: Limits<'_>) {
        let layer = self.layer();
        let specs = layer.specs();
        let evaluator = Evaluator::compile(&entries(&specs), limits);
        // If somebody else was faster, the results are equal.
        let _first = layer.evaluator.set(evaluator).is_ok();
    }

    /// Decides that the layer is not compiled, because it would need more than its budget.
    pub fn refuse(&self) {
        let _first = self.layer().evaluator.set(Evaluator::NAIVE).is_ok();
    }

    /// Whether the layer exceeded its budget.
    #[must_use]
    pub fn is_over_budget(&self) -> bool {
        self.layer().evaluator.get().is_some_and(Evaluator::is_over_budget)
    }

    /// Whether the reason was a lack of time.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.layer().evaluator.get().is_some_and(Evaluator::is_stopped)
    }
}

impl Layer {
    fn new(rules: Vec<Arc<CompactRule>>) -> Self {
        let comparisons = rules.iter().map(|rule| rule.comparisons()).sum();
        let bytes = rules.iter().map(|rule| rule.bytes()).sum();
        Self { rules, evaluator: OnceLock::new(), comparisons, bytes }
    }

    fn is_pending(&self) -> bool {
        self.evaluator.get().is_none()
    }

    fn evaluator(&self) -> &Evaluator {
        self.evaluator.get().unwrap_or(&Evaluator::NAIVE)
    }

    fn naive_comparisons(&self) -> u64 {
        if self.evaluator().is_over_budget() { self.comparisons } else { 0 }
    }

    fn specs(&self) -> Vec<(RuleId, RuleSpec)> {
        self.rules.iter().map(|rule| (rule.id(), rule.to_spec())).collect()
    }

    fn memory_bytes(&self) -> usize {
        self.bytes + self.evaluator().memory_bytes()
    }
}

impl Base {
    /// The place of a rule.
    fn place(&self, id: RuleId) -> Option<u32> {
        let id_at = |place: &u32| self.layer.rules.get(*place as usize).map(|rule| rule.id());
        let found = self.places.binary_search_by_key(&Some(id), id_at).ok()?;
        self.places.get(found).copied()
    }

    /// The place of the first rule in the base that comes after a rule.
    fn place_for(&self, rule: &CompactRule) -> u32 {
        let place = self.layer.rules.partition_point(|it| it.order() < rule.order());
        u32::try_from(place).unwrap_or(u32::MAX)
    }
}

impl Later {
    /// Whether it consists of exactly these rules.
    fn is_of(&self, rules: &[Arc<CompactRule>]) -> bool {
        let own = &self.layer.rules;
        own.len() == rules.len() && own.iter().zip(rules).all(|(own, it)| Arc::ptr_eq(own, it))
    }
}

fn entries(specs: &[(RuleId, RuleSpec)]) -> Vec<RuleRef<'_>> {
    specs.iter().map(|(id, spec)| RuleRef { id: *id, spec }).collect()
}

/// The rules of the base that are not gone, merged with the later ones, in order. Each later rule
/// comes with its place.
fn merged<'a>(
    rules: &'a [Arc<CompactRule>],
    gone: &'a [u32],
    later: impl Iterator<Item = (u32, &'a Arc<CompactRule>)>,
) -> impl Iterator<Item = &'a Arc<CompactRule>> {
    let mut rules = rules.iter().zip(0_u32..).peekable();
    let mut gone = gone.iter().peekable();
    let mut later = later.peekable();
    std::iter::from_fn(move || {
        loop {
            let place = rules.peek().map(|(_, place)| *place);
            let comes_now =
                |(before, _): &(u32, &Arc<CompactRule>)| place.is_none_or(|place| *before <= place);
            if let Some((_, next)) = later.next_if(comes_now) {
                return Some(next);
            }
            let (rule, place) = rules.next()?;
            if gone.next_if(|it| **it == place).is_none() {
                return Some(rule);
            }
        }
    })
}

/// The fixed size of the rules of a policy, so that even an empty policy counts toward the memory
/// limit.
const ITSELF: usize = 1_024;

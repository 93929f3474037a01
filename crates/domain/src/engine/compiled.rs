//! The compiled rules of a policy, kept up to date as rules change one by one.
//!
//! Compiling 100,000 rules takes tens of milliseconds, and reading them takes ten times as long.
//! One changed rule should not cost that, so the compiled base stays as it is. Two lists record the
//! changes since then: the places of the base's rules that are gone, and the added rules. Each
//! added rule has its place in the base. A changed rule is in both lists. A lookup searches the
//! base and the added rules, and the earlier match decides. When the changes become too many, all
//! rules are compiled again.

use std::sync::Arc;

use super::classifier::{Budget, Classifier};
use super::naive::{self, Entry, Explanation};
use crate::ids::RuleId;
use crate::net::PortRange;
use crate::packet::Packet;
use crate::rule::{Endpoint, Rule};

/// The most changes that are kept next to a compiled base.
const MAX_CHANGES: usize = 1_000;
/// The base also needs this many rules for each change, since few rules compile in no time.
const RULES_PER_CHANGE: usize = 8;

/// The limits of a compilation.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a function has nothing to show")]
pub struct Limits<'a> {
    /// The most boxes and bytes.
    pub budget: Budget,
    /// Called throughout the compilation. Once it returns false, the naive evaluator must answer.
    pub goes_on: &'a dyn Fn() -> bool,
}

/// All live rules of a policy, in order of evaluation, with the classifiers that answer by them.
#[derive(Debug, Clone)]
pub struct CompiledRules {
    base: Arc<Base>,
    /// The places in the base of rules that have been deleted or changed since, in order.
    gone: Vec<u32>,
    /// The rules that were added or changed since, in order.
    later: Vec<Later>,
    /// The classifier of `later`; none if it needs more than the budget.
    classifier: Option<Classifier>,
    bytes: usize,
    /// Whether a compilation was given up for lack of time.
    is_stopped: bool,
}

/// Rules that were compiled together.
#[derive(Debug)]
struct Base {
    rules: Vec<Rule>,
    /// None if the rules need more than the budget. The definition then answers.
    classifier: Option<Classifier>,
    /// The place of each rule, in order of ids.
    places: Vec<(RuleId, u32)>,
    bytes: usize,
}

/// A rule that was added or changed after the base was compiled.
#[derive(Debug, Clone)]
struct Later {
    /// The place in the base of the rule that it comes right before.
    before: u32,
    rule: Arc<Rule>,
}

impl CompiledRules {
    /// Compiles rules that are in order of evaluation. Takes up to several seconds within the
    /// default budget, so do not call it on a thread that serves requests.
    #[must_use]
    pub fn new(rules: Vec<Rule>, limits: Limits<'_>) -> Self {
        let classifier =
            Classifier::compile_while(&entries(&rules), limits.budget, limits.goes_on).ok();
        let mut places: Vec<(RuleId, u32)> = rules.iter().map(|it| it.id).zip(0..).collect();
        places.sort_unstable();
        let is_stopped = classifier.is_none() && !(limits.goes_on)();
        let bytes = ITSELF
            + rules.iter().map(bytes_of).sum::<usize>()
            + classifier.as_ref().map_or(0, Classifier::bytes)
            + size_of_val(places.as_slice());
        let base = Arc::new(Base { rules, classifier, places, bytes });
        Self { base, gone: Vec::new(), later: Vec::new(), classifier: None, bytes, is_stopped }
    }

    /// Applies changes: each changed rule as it is now, deleted rules included. All other rules
    /// must be unchanged. Costs O(changes so far), and a compilation of all rules if the changes
    /// are many. Returns none if the result does not have `count` rules, since `changes` then lacks
    /// some deletions.
    #[must_use]
    pub fn changed(&self, changes: Vec<Rule>, count: u64, limits: Limits<'_>) -> Option<Self> {
        Some(Plan::of_changes(self, changes, count)?.compile(limits))
    }

    /// Whether a part needed more than its budget. Each packet is then compared with each rule of
    /// it.
    #[must_use]
    pub fn is_over_budget(&self) -> bool {
        self.base.classifier.is_none() || (self.classifier.is_none() && !self.later.is_empty())
    }

    /// Whether the reason was a lack of time. Another attempt may then succeed.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Roughly how much memory it takes, in bytes: its rules and its classifiers.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        (self.base.rules.len() + self.later.len()).saturating_sub(self.gone.len())
    }

    /// Whether there are no rules.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All rules, in order of evaluation.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        merged(&self.base.rules, &self.gone, &self.later)
    }

    /// The rule that decides a packet; none if the default action does.
    #[must_use]
    pub fn first_match(&self, packet: &Packet) -> Option<&Rule> {
        let first = self.base.first_match(packet, &self.gone);
        if self.later.is_empty() {
            return self.base.rules.get(first?);
        }
        let later = match &self.classifier {
            Some(classifier) => classifier.first_match(packet),
            None => self.later.iter().position(|it| naive::matches(&it.rule.spec, packet)),
        };
        match (first, later.and_then(|place| self.later.get(place))) {
            (Some(first), Some(later)) if (later.before as usize) <= first => Some(&later.rule),
            (None, Some(later)) => Some(&later.rule),
            (Some(first), _) => self.base.rules.get(first),
            (None, None) => None,
        }
    }

    /// Explains the verdict on a packet by the definition. Also returns all rules in order of
    /// evaluation, to which the indices of the explanation refer.
    #[must_use]
    pub fn explain(&self, packet: &Packet) -> (Explanation, Vec<&Rule>) {
        let rules: Vec<&Rule> = self.iter().collect();
        let entries: Vec<Entry<'_>> = rules.iter().map(|rule| entry(rule)).collect();
        (naive::explain(&entries, packet), rules)
    }
}

/// The rules to compile: all rules of a policy, or those that changed after the base was compiled.
#[derive(Debug)]
pub struct Plan(Planned);

#[derive(Debug)]
enum Planned {
    All(Vec<Rule>),
    Changes { base: Arc<Base>, gone: Vec<u32>, later: Vec<Later> },
}

impl Plan {
    /// All rules, in order of evaluation.
    #[must_use]
    pub const fn of_all(rules: Vec<Rule>) -> Self {
        Self(Planned::All(rules))
    }

    /// The rules after changes; the arguments are those of [`CompiledRules::changed`].
    #[must_use]
    pub fn of_changes(former: &CompiledRules, changes: Vec<Rule>, count: u64) -> Option<Self> {
        let base = &former.base;
        let mut gone = former.gone.clone();
        let mut later = former.later.clone();
        let mut ids: Vec<RuleId> = changes.iter().map(|rule| rule.id).collect();
        ids.sort_unstable();
        gone.extend(ids.iter().filter_map(|id| base.place(*id)));
        gone.sort_unstable();
        gone.dedup();
        later.retain(|it| ids.binary_search(&it.rule.id).is_err());
        for rule in changes.into_iter().filter(|rule| rule.deleted.is_none()) {
            later.push(Later { before: base.place_for(&rule), rule: Arc::new(rule) });
        }
        later.sort_unstable_by_key(|it| order(&it.rule));
        let total = (base.rules.len() + later.len()).saturating_sub(gone.len());
        if u64::try_from(total) != Ok(count) {
            return None;
        }
        let changes = gone.len() + later.len();
        let is_beside = |classifier: &Classifier| {
            let most = MAX_CHANGES.min(base.rules.len() / RULES_PER_CHANGE);
            changes <= most && !gone.iter().any(|place| classifier.hides_others(*place))
        };
        Some(Self(if base.classifier.as_ref().is_some_and(is_beside) {
            Planned::Changes { base: Arc::clone(base), gone, later }
        } else {
            Planned::All(merged(&base.rules, &gone, &later).cloned().collect())
        }))
    }

    /// The most memory that the compilation takes, in bytes, without the rules themselves; see
    /// [`Classifier::bytes_to_compile`]. Costs O(entries).
    #[must_use]
    pub fn bytes_to_compile(&self, budget: Budget) -> usize {
        match &self.0 {
            Planned::All(rules) => Classifier::bytes_to_compile(&entries(rules), budget),
            Planned::Changes { later, .. } => {
                Classifier::bytes_to_compile(&entries_of_later(later), budget)
            }
        }
    }

    /// Compiles the rules. Takes up to several seconds within the default budget, so do not call it
    /// on a thread that serves requests.
    #[must_use]
    pub fn compile(self, limits: Limits<'_>) -> CompiledRules {
        let (base, gone, later) = match self.0 {
            Planned::All(rules) => return CompiledRules::new(rules, limits),
            Planned::Changes { base, gone, later } => (base, gone, later),
        };
        let entries = entries_of_later(&later);
        let classifier = Classifier::compile_while(&entries, limits.budget, limits.goes_on).ok();
        let is_stopped = classifier.is_none() && !(limits.goes_on)();
        let bytes = base.bytes
            + size_of_val(gone.as_slice())
            + later.iter().map(|it| size_of::<Later>() + bytes_of(&it.rule)).sum::<usize>()
            + classifier.as_ref().map_or(0, Classifier::bytes);
        CompiledRules { base, gone, later, classifier, bytes, is_stopped }
    }
}

impl Base {
    /// The place of a rule.
    fn place(&self, id: RuleId) -> Option<u32> {
        let found = self.places.binary_search_by_key(&id, |it| it.0).ok()?;
        self.places.get(found).map(|it| it.1)
    }

    /// The place of the first rule in the base that comes after a rule.
    fn place_for(&self, rule: &Rule) -> u32 {
        let place = self.rules.partition_point(|it| order(it) < order(rule));
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    /// The place of the first rule that matches and is not gone.
    fn first_match(&self, packet: &Packet, gone: &[u32]) -> Option<usize> {
        let is_there = |place: u32| gone.binary_search(&place).is_err();
        match &self.classifier {
            Some(classifier) if gone.is_empty() => classifier.first_match(packet),
            Some(classifier) => classifier.first_match_among(packet, is_there),
            None => {
                let rules = self.rules.iter().zip(0_u32..).enumerate();
                rules
                    .filter(|(_, (_, place))| is_there(*place))
                    .find(|(_, (rule, _))| naive::matches(&rule.spec, packet))
                    .map(|(place, _)| place)
            }
        }
    }
}

/// The key by which rules are ordered.
fn order(rule: &Rule) -> (i32, RuleId) {
    (rule.spec.priority, rule.id)
}

fn entry(rule: &Rule) -> Entry<'_> {
    Entry { id: rule.id, spec: &rule.spec }
}

fn entries(rules: &[Rule]) -> Vec<Entry<'_>> {
    rules.iter().map(entry).collect()
}

fn entries_of_later(later: &[Later]) -> Vec<Entry<'_>> {
    later.iter().map(|it| entry(&it.rule)).collect()
}

/// The rules of the base that are not gone, merged with the later ones, in order.
fn merged<'a>(
    rules: &'a [Rule],
    gone: &'a [u32],
    later: &'a [Later],
) -> impl Iterator<Item = &'a Rule> {
    let mut rules = rules.iter().zip(0_u32..).peekable();
    let mut gone = gone.iter().peekable();
    let mut later = later.iter().peekable();
    std::iter::from_fn(move || {
        loop {
            let place = rules.peek().map(|(_, place)| *place);
            if let Some(next) = later.next_if(|it| place.is_none_or(|place| it.before <= place)) {
                return Some(&*next.rule);
            }
            let (rule, place) = rules.next()?;
            if gone.next_if(|it| **it == place).is_none() {
                return Some(rule);
            }
        }
    })
}

/// Roughly how much memory a rule takes, in bytes.
fn bytes_of(rule: &Rule) -> usize {
    let spec = &rule.spec;
    let labels: usize =
        spec.labels.as_map().iter().map(|(key, value)| key.len() + value.len() + PER_LABEL).sum();
    size_of::<Rule>()
        + (spec.sources.len() + spec.destinations.len()) * size_of::<Endpoint>()
        + spec.ports.len() * size_of::<PortRange>()
        + spec.protocols.len()
        + spec.name.as_ref().map_or(0, |name| name.as_str().len())
        + spec.description.as_str().len()
        + spec.reference.as_str().len()
        + labels
        + rule.created_by.len()
        + rule.updated_by.len()
        + rule.policy.name.as_str().len()
        + rule.policy.firewall.name.as_str().len()
        + ALLOCATIONS
}

/// The fixed size of the rules of a policy, so that even an empty policy counts toward the memory
/// limit.
const ITSELF: usize = 1_024;
/// The size of a label besides its text: its entry in the map.
const PER_LABEL: usize = 64;
/// The overhead of the allocator for each rule: some ten allocations.
const ALLOCATIONS: usize = 10 * 16;

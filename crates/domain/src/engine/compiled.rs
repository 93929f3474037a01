//! The compiled rules of a policy, kept up to date as rules change one by one.
//!
//! Compiling 100,000 rules takes tens of milliseconds, and reading them takes ten times as long.
//! One changed rule should not cost that, so the compiled base stays as it is. Two lists record the
//! changes since then: the places of the base's rules that are gone, and the added rules. Each
//! added rule has its place in the base. A changed rule is in both lists. A lookup searches the
//! base and the added rules, and the earlier match decides. When the changes become too many, all
//! rules are compiled again.

use std::sync::Arc;

use super::classifier::Budget;
use super::evaluator::{Evaluator, Limits};
use super::naive::{self, Entry, Explanation};
use super::port_map::PortMap;
use crate::ids::RuleId;
use crate::net::PortRange;
use crate::packet::Packet;
use crate::rule::Rule;

/// The most changes that are kept next to a compiled base.
const MAX_CHANGES: usize = 1_000;
/// The base also needs this many rules for each change, because a few rules compile quickly anyway.
const RULES_PER_CHANGE: usize = 8;

/// All live rules of a policy, in order of evaluation, with the classifiers that answer by them.
#[derive(Debug, Clone)]
pub struct CompiledRules {
    base: Arc<Base>,
    /// The places in the base of rules that have been deleted or changed since, in order.
    gone: Vec<u32>,
    /// The rules that were added or changed since, in order.
    later: Vec<LaterRule>,
    /// Evaluates the later rules; none if there are none.
    evaluator: Option<Evaluator>,
    bytes: usize,
}

/// A rule that decides. Two are equal if they have the same id.
#[derive(Debug, Clone, Copy)]
pub struct DecidingRule<'a>(pub &'a Rule);

impl PartialEq for DecidingRule<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for DecidingRule<'_> {}

/// Rules that were compiled together.
#[derive(Debug)]
struct Base {
    rules: Vec<Rule>,
    evaluator: Evaluator,
    /// The place of each rule, in order of ids.
    places: Vec<(RuleId, u32)>,
    bytes: usize,
}

/// A rule that was added or changed after the base was compiled.
#[derive(Debug, Clone)]
struct LaterRule {
    /// The place of the first rule in the base that comes after this one.
    before: u32,
    rule: Arc<Rule>,
}

impl CompiledRules {
    /// Compiles rules that are in order of evaluation. Takes up to several seconds within the
    /// default budget, so do not call it on a thread that serves requests.
    #[must_use]
    pub fn new(rules: Vec<Rule>, limits: Limits<'_>) -> Self {
        let evaluator = Evaluator::compile(&entries(&rules), limits);
        let mut places: Vec<(RuleId, u32)> = rules.iter().map(|it| it.id).zip(0..).collect();
        places.sort_unstable();
        let bytes = ITSELF
            + rules.iter().map(bytes_of).sum::<usize>()
            + evaluator.memory_bytes()
            + size_of_val(places.as_slice());
        let base = Arc::new(Base { rules, evaluator, places, bytes });
        Self { base, gone: Vec::new(), later: Vec::new(), evaluator: None, bytes }
    }

    /// Applies changes: each changed rule as it is now, deleted rules included. All other rules
    /// must be unchanged. Costs O(changes so far), or a compilation of all rules if there are many
    /// changes. Returns `None` if the result does not have `count` rules, because `changes` then
    /// lacks some deletions.
    #[must_use]
    pub fn changed(&self, changes: Vec<Rule>, count: u64, limits: Limits<'_>) -> Option<Self> {
        Some(Plan::of_changes(self, changes, count)?.compile(limits))
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

    fn evaluators(&self) -> impl Iterator<Item = &Evaluator> {
        std::iter::once(&self.base.evaluator).chain(&self.evaluator)
    }

    /// Roughly how much memory it takes, in bytes: its rules and its classifiers.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
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
        let later = self.evaluator.as_ref().and_then(|evaluator| {
            evaluator.first_match(packet, self.later.iter().map(|it| &it.rule.spec))
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
        let specs = self.base.rules.iter().map(|rule| &rule.spec);
        let is_there = |place: u32| self.gone.binary_search(&place).is_err();
        let first = self.base.evaluator.first_match_by_port(packet, ports, specs, is_there);
        let decide = |first, later| self.earlier(first, later).map(DecidingRule);
        let Some(evaluator) = &self.evaluator else {
            return first.map(|first| decide(first, None));
        };
        let specs = self.later.iter().map(|it| &it.rule.spec);
        let later = evaluator.first_match_by_port(packet, ports, specs, |_| true);
        // Both maps have all ports.
        first.zip(&later, decide).unwrap_or_else(|| PortMap::constant(ports, None))
    }

    /// The earlier one of the first match in the base and the first match among the later rules, each
    /// by its place.
    fn earlier(&self, first: Option<usize>, later: Option<usize>) -> Option<&Rule> {
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
    Changes { base: Arc<Base>, gone: Vec<u32>, later: Vec<LaterRule> },
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
            later.push(LaterRule { before: base.place_for(&rule), rule: Arc::new(rule) });
        }
        later.sort_unstable_by_key(|it| order(&it.rule));
        let total = (base.rules.len() + later.len()).saturating_sub(gone.len());
        if u64::try_from(total) != Ok(count) {
            return None;
        }
        let changes = gone.len() + later.len();
        let most = MAX_CHANGES.min(base.rules.len() / RULES_PER_CHANGE);
        let is_beside = !base.evaluator.is_over_budget()
            && changes <= most
            && gone.iter().all(|place| base.evaluator.can_pass_over(*place));
        Some(Self(if is_beside {
            Planned::Changes { base: Arc::clone(base), gone, later }
        } else {
            Planned::All(merged(&base.rules, &gone, &later).cloned().collect())
        }))
    }

    /// The most memory that the compilation takes, in bytes, without the rules themselves; see
    /// [`Evaluator::bytes_to_compile`]. Costs O(entries).
    #[must_use]
    pub fn bytes_to_compile(&self, budget: Budget) -> usize {
        match &self.0 {
            Planned::All(rules) => Evaluator::bytes_to_compile(&entries(rules), budget),
            Planned::Changes { later, .. } => {
                Evaluator::bytes_to_compile(&entries_of_later(later), budget)
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
        let evaluator =
            (!later.is_empty()).then(|| Evaluator::compile(&entries_of_later(&later), limits));
        let bytes = base.bytes
            + size_of_val(gone.as_slice())
            + later.iter().map(|it| size_of::<LaterRule>() + bytes_of(&it.rule)).sum::<usize>()
            + evaluator.as_ref().map_or(0, Evaluator::memory_bytes);
        CompiledRules { base, gone, later, evaluator, bytes }
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
        let specs = self.rules.iter().map(|rule| &rule.spec);
        if gone.is_empty() {
            return self.evaluator.first_match(packet, specs);
        }
        let is_there = |place: u32| gone.binary_search(&place).is_err();
        self.evaluator.first_match_among(packet, specs, is_there)
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

fn entries_of_later(later: &[LaterRule]) -> Vec<Entry<'_>> {
    later.iter().map(|it| entry(&it.rule)).collect()
}

/// The rules of the base that are not gone, merged with the later ones, in order.
fn merged<'a>(
    rules: &'a [Rule],
    gone: &'a [u32],
    later: &'a [LaterRule],
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
    // No `..`: the compiler demands a decision here for each new member.
    let Rule {
        policy,
        spec,
        created_by,
        updated_by,
        // They have no memory outside of `Rule`. (A deleted rule is not compiled.)
        id: _,
        revision: _,
        mark: _,
        created_at: _,
        updated_at: _,
        deleted: _,
    } = rule;
    size_of::<Rule>()
        + spec.heap_bytes()
        + created_by.len()
        + updated_by.len()
        + policy.name.as_str().len()
        + policy.firewall.name.as_str().len()
        + ALLOCATIONS
}

/// The fixed size of the rules of a policy, so that even an empty policy counts toward the memory
/// limit.
const ITSELF: usize = 1_024;
/// The overhead of the allocator for each rule: some ten allocations.
const ALLOCATIONS: usize = 10 * 16;

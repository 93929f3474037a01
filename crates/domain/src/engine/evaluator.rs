//! Evaluates packets against a list of rules, by a classifier or by the naive evaluator. The naive
//! evaluator answers if a classifier would exceed its budget. Only this module makes that choice.

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::classifier::{Budget, Classifier};
use super::naive::{self, HasConditions, RuleRef};
use super::port_map::PortMap;
use crate::net::PortRange;
use crate::packet::Packet;
use crate::rule::RuleSpec;

/// The limits of a compilation.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "a function has nothing to show")]
pub struct Limits<'a> {
    /// The most cuboids and bytes.
    pub budget: Budget,
    /// Called again and again while rules are compiled. Once it returns false, compilation stops
    /// and the naive evaluator answers.
    pub should_continue: &'a dyn Fn() -> bool,
}

/// Evaluates packets against the rules that it was compiled from. It does not store the rules, so
/// each call must pass the same rules in the same order. Only the naive evaluator reads them.
#[derive(Debug, Clone)]
pub struct Evaluator {
    /// None if the rules exceed the limits.
    classifier: Option<Classifier>,
    is_stopped: bool,
}

/// How many packets one processor takes at a time if each is compared with each rule.
const PACKETS_AT_ONCE: usize = 16;

impl Evaluator {
    /// Evaluates rules that are not compiled.
    pub const NAIVE: Self = Self { classifier: None, is_stopped: false };

    /// Compiles rules that are in order of evaluation. Takes up to several seconds within the
    /// default budget, so do not call it on a thread that serves requests.
    #[must_use]
    pub fn compile(rules: &[RuleRef<'_>], limits: Limits<'_>) -> Self {
        let classifier =
            Classifier::compile_while(rules, limits.budget, limits.should_continue).ok();
        let is_stopped = classifier.is_none() && !(limits.should_continue)();
        Self { classifier, is_stopped }
    }

    /// The most memory that [`Self::compile`] takes, in bytes. Costs O(entries).
    #[must_use]
    pub fn bytes_to_compile(rules: &[RuleRef<'_>], budget: Budget) -> usize {
        Classifier::bytes_to_compile(rules, budget)
    }

    /// The name of the evaluator that answers: `classifier` or `naive`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        if self.classifier.is_some() { "classifier" } else { "naive" }
    }

    /// The memory of the classifier in bytes, without the rules.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.classifier.as_ref().map_or(0, Classifier::bytes)
    }

    /// Whether a classifier would exceed its budget or its time. Each packet is then compared with
    /// each rule.
    #[must_use]
    pub const fn is_over_budget(&self) -> bool {
        self.classifier.is_none()
    }

    /// Whether the reason was a lack of time. Another attempt may then succeed.
    #[must_use]
    pub const fn is_stopped(&self) -> bool {
        self.is_stopped
    }

    /// Whether it can answer as if there were no rule at a place.
    #[must_use]
    pub fn can_pass_over(&self, place: u32) -> bool {
        self.classifier.as_ref().is_none_or(|classifier| !classifier.hides_others(place))
    }

    /// The place of the first rule that matches.
    #[inline]
    pub fn first_match<'a, R: HasConditions + 'a>(
        &self,
        packet: &Packet,
        rules: impl IntoIterator<Item = &'a R>,
    ) -> Option<usize> {
        match &self.classifier {
            Some(classifier) => classifier.first_match(packet),
            None => rules.into_iter().position(|spec| naive::matches(spec, packet)),
        }
    }

    /// The place of the first matching rule for which `is_taken` returns true. The evaluator must
    /// be able to [pass over](Self::can_pass_over) all other rules.
    #[inline]
    pub fn first_match_among<'a, R: HasConditions + 'a>(
        &self,
        packet: &Packet,
        rules: impl IntoIterator<Item = &'a R>,
        is_taken: impl Fn(u32) -> bool,
    ) -> Option<usize> {
        match &self.classifier {
            Some(classifier) => classifier.first_match_among(packet, is_taken),
            None => {
                let mut rules = rules.into_iter().zip(0_u32..);
                rules.position(|(spec, place)| is_taken(place) && naive::matches(spec, packet))
            }
        }
    }

    /// The place of the first rule that matches, at each source port that a packet may have, of those
    /// that are taken as in [`Self::first_match_among`].
    pub fn first_match_by_port<'a, R: HasConditions + 'a>(
        &self,
        packet: &Packet,
        ports: PortRange,
        rules: impl IntoIterator<Item = &'a R>,
        is_taken: impl Fn(u32) -> bool,
    ) -> PortMap<Option<usize>> {
        match &self.classifier {
            Some(classifier) => classifier.first_match_by_port(packet, ports, is_taken),
            None => {
                let rules = rules.into_iter().zip(0_u32..).filter(|(_, place)| is_taken(*place));
                let rules = rules.map(|(spec, place)| (place as usize, spec));
                naive::first_among_by_port(rules, packet, ports)
            }
        }
    }

    /// Calls `answer` with the [first match at each port](Self::first_match_by_port) of many packets,
    /// on all processors. Returns what it returns, in the order of the packets.
    #[must_use]
    pub fn classify_many_by_port<T: Send>(
        &self,
        packets: &[Packet],
        ports: PortRange,
        rules: &[RuleSpec],
        answer: impl Fn(&PortMap<Option<usize>>) -> T + Sync,
    ) -> Vec<T> {
        packets
            .par_iter()
            .with_min_len(PACKETS_AT_ONCE)
            .map(|packet| answer(&self.first_match_by_port(packet, ports, rules, |_| true)))
            .collect()
    }

    /// [`Self::first_match`] for many packets, in their order, on all processors.
    #[must_use]
    pub fn classify_many(&self, packets: &[Packet], rules: &[RuleSpec]) -> Vec<Option<usize>> {
        match &self.classifier {
            Some(classifier) => classifier.classify_many(packets),
            None => packets
                .par_iter()
                .with_min_len(PACKETS_AT_ONCE)
                .map(|packet| self.first_match(packet, rules))
                .collect(),
        }
    }
}

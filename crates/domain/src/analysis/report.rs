//! What analyses answer.

use super::identity::FindingId;
use super::packets::PacketSet;
use super::request::{AnalysedPolicy, AnalysisOptions, ExposedService};
use crate::net::Family;
use crate::packet::Packet;
use crate::rule::{Action, RuleParts, RuleState, Warning};
use crate::time::Instant;

/// The place of a rule in order of evaluation, counted from 0, inactive rules included.
pub type RuleIndex = usize;

/// How serious a finding is, the most serious first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// The policy does something else than its rules say, or lets in what it should not.
    Error,
    /// Something should be cleaned up.
    Warning,
    /// Something may be of interest.
    Info,
}

impl Severity {
    /// Every severity, the most serious first.
    pub const ALL: [Self; 3] = [Self::Error, Self::Warning, Self::Info];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.as_str() == word)
    }
}

/// The kinds of findings. A rule gets only its sharpest finding about reach: the first of
/// [`Contradiction`](Self::Contradiction), [`Duplicate`](Self::Duplicate),
/// [`Unreachable`](Self::Unreachable), [`Redundant`](Self::Redundant),
/// [`RestatesDefault`](Self::RestatesDefault).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// The same packets as an earlier rule, with another action. Has `conflicts_with`, the earlier
    /// rule.
    Contradiction,
    /// The same packets and action as an earlier rule, which `because` names.
    Duplicate,
    /// No packet reaches the rule: earlier rules, in `because`, cover it. If one of them has another
    /// action, `conflicts_with` and `effect` are set, and `witness` is a packet of the rule that
    /// this rule decides instead.
    Unreachable,
    /// Packets reach the rule, but no packet's verdict changes without it. `because` has the later
    /// rules that decide the same way. Rules in `together` may not go at the same time.
    Redundant,
    /// The rule only does what the default does: redundant, and some of its packets would meet the
    /// default without it.
    RestatesDefault,
    /// The rule matches no packet at all.
    NeverMatches,
    /// The rule has expired.
    Expired,
    /// The rule expires soon.
    ExpiresSoon,
    /// The rule has been disabled for a long time.
    DisabledLong,
    /// The rule has no `reference`.
    NoReference,
    /// A part of the rule can have no effect. [`Evidence::Warning`] names the part.
    Ineffective,
    /// An ALLOW rule for any service, any destination, or a large share of all addresses.
    Permissive,
    /// Most public addresses can reach a service for administration or with clear text. Rules count
    /// together, and so does the default action, with the packets that each decides. `because` has the
    /// rules that let most addresses in alone, and for other destinations those that do so together.
    /// The finding is about the first of them. The default action is the rule after the last one: its
    /// [`RuleIndex`] is the number of rules.
    Exposed,
    /// The rule overlaps an earlier rule of another action, and neither contains the other: their
    /// order decides. One finding for each rule, with the number of earlier rules in
    /// [`Evidence::Pairs`], and the first of them in `because`.
    Correlated,
    /// The rule contains an earlier rule of another action. One finding for each rule, as for
    /// [`Correlated`](Self::Correlated).
    Generalises,
    /// The rule and the previous active rule, in `because`, can be written as one.
    Mergeable,
}

impl FindingKind {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Contradiction,
        Self::Duplicate,
        Self::Unreachable,
        Self::Redundant,
        Self::RestatesDefault,
        Self::NeverMatches,
        Self::Expired,
        Self::ExpiresSoon,
        Self::DisabledLong,
        Self::NoReference,
        Self::Ineffective,
        Self::Permissive,
        Self::Exposed,
        Self::Correlated,
        Self::Generalises,
        Self::Mergeable,
    ];

    /// The words of all kinds.
    pub const WORDS: [&'static str; Self::ALL.len()] = [
        Self::Contradiction.as_str(),
        Self::Duplicate.as_str(),
        Self::Unreachable.as_str(),
        Self::Redundant.as_str(),
        Self::RestatesDefault.as_str(),
        Self::NeverMatches.as_str(),
        Self::Expired.as_str(),
        Self::ExpiresSoon.as_str(),
        Self::DisabledLong.as_str(),
        Self::NoReference.as_str(),
        Self::Ineffective.as_str(),
        Self::Permissive.as_str(),
        Self::Exposed.as_str(),
        Self::Correlated.as_str(),
        Self::Generalises.as_str(),
        Self::Mergeable.as_str(),
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Contradiction => "contradiction",
            Self::Duplicate => "duplicate",
            Self::Unreachable => "unreachable",
            Self::Redundant => "redundant",
            Self::RestatesDefault => "restates_default",
            Self::NeverMatches => "never_matches",
            Self::Expired => "expired",
            Self::ExpiresSoon => "expires_soon",
            Self::DisabledLong => "disabled_long",
            Self::NoReference => "no_reference",
            Self::Ineffective => "ineffective",
            Self::Permissive => "permissive",
            Self::Exposed => "exposed",
            Self::Correlated => "correlated",
            Self::Generalises => "generalises",
            Self::Mergeable => "mergeable",
        }
    }

    /// Reads the word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether it is only searched if a request names it. Such findings are information about how
    /// rules relate; they never fail a pipeline.
    #[must_use]
    pub const fn is_on_request(self) -> bool {
        matches!(self, Self::Correlated | Self::Generalises | Self::Mergeable)
    }
}

/// What a hidden rule's loss does to the packets that another action decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Packets pass that the rule would stop.
    Opens,
    /// Packets are stopped that the rule would let pass.
    Closes,
}

impl Effect {
    /// The effect of `actual` instead of `expected`; none if both permit or both do not.
    #[must_use]
    pub const fn of(expected: Action, actual: Action) -> Option<Self> {
        match (expected.permits(), actual.permits()) {
            (false, true) => Some(Self::Opens),
            (true, false) => Some(Self::Closes),
            (true, true) | (false, false) => None,
        }
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opens => "opens",
            Self::Closes => "closes",
        }
    }
}

/// A rule of a proof.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cover {
    /// The rule.
    pub rule: RuleIndex,
    /// The share of the finding's rule that it contains, above 0 and at most 1; for
    /// [`FindingKind::Exposed`], the share of all public addresses that it lets in. Shares of several
    /// rules can overlap.
    pub share: f64,
}

/// An earlier rule of another action that decides packets of a hidden rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conflict {
    /// The rule with the largest overlap among those that decide some packet of the hidden rule.
    pub rule: RuleIndex,
    /// The share of the hidden rule that it contains.
    pub share: f64,
    /// The first earlier rule with the same effect that decides packets of the hidden rule.
    pub first: RuleIndex,
}

/// What a finding of some kinds knows in addition.
#[derive(Debug, Clone, PartialEq)]
pub enum Evidence {
    /// Nothing else.
    None,
    /// The part without effect ([`FindingKind::Ineffective`]).
    Warning(Warning),
    /// The service that is exposed, the family of the addresses, and how many destination addresses
    /// of it ([`FindingKind::Exposed`]).
    Service {
        /// The service.
        service: ExposedService,
        /// The family of the addresses.
        family: Family,
        /// How many destination addresses can be reached.
        destinations: f64,
    },
    /// How much a permissive rule permits, in one family ([`FindingKind::Permissive`]).
    Permits {
        /// The family.
        family: Family,
        /// The share of all pairs of addresses.
        addresses: f64,
        /// Whether it permits all ports of TCP and of UDP to some destination.
        any_service: bool,
        /// Whether it permits every destination.
        any_destination: bool,
        /// Whether it permits all ports of TCP and of UDP to all of its destinations.
        is_any_service_everywhere: bool,
    },
    /// The number of earlier rules ([`FindingKind::Correlated`], [`FindingKind::Generalises`]).
    Pairs(u64),
    /// Since when: the expiry of an expired rule, or the last change of a disabled rule.
    Since(Instant),
    /// The expiry of a rule that expires soon.
    Expires(Instant),
}

/// A change that resolves a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fix {
    /// Delete these rules. No verdict changes.
    Delete(Vec<RuleIndex>),
    /// Move a rule before the first rule of another action that hides it.
    Move {
        /// The rule to move.
        rule: RuleIndex,
        /// The rule that it must precede.
        before: RuleIndex,
    },
    /// Replace rules by one. No verdict changes.
    Replace {
        /// The rules to replace; the new rule takes the place of the first.
        rules: Vec<RuleIndex>,
        /// The new rule.
        with: Box<RuleParts>,
    },
}

/// One fault of a policy, with its proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Its id, the same after changes elsewhere in the policy. [`super::identify`] sets it.
    pub id: FindingId,
    /// A hash of what it rests on: the rule and the rules of the proof, by content. A finding that
    /// was accepted comes back if this changes. [`super::identify`] sets it.
    pub proof: FindingId,
    /// Its number among findings of the same kind about equal rules. [`super::identify`] sets it.
    pub number: u64,
    /// Its kind.
    pub kind: FindingKind,
    /// How serious it is.
    pub severity: Severity,
    /// The rule that it is about. If it is about the default action, this is the number of rules.
    pub rule: RuleIndex,
    /// The rules that prove it, those that contain most of the rule first.
    pub because: Vec<Cover>,
    /// Whether no rule of `because` can be left out. If false, `because` is still a proof.
    pub is_minimal: bool,
    /// The earlier rule of another action that decides packets of the rule instead.
    pub conflicts_with: Option<Conflict>,
    /// What that does.
    pub effect: Option<Effect>,
    /// A packet that shows the fault.
    pub witness: Option<Packet>,
    /// The packets concerned, as disjoint sets.
    pub packets: Vec<PacketSet>,
    /// Whether `packets` has all packets concerned.
    pub is_packets_complete: bool,
    /// The first instant at which a start or expiry of another rule changes the kind or severity of
    /// the finding, or ends it; none if there is no such instant before the rule itself expires. If
    /// the fault resolves itself then, the severity is [`Severity::Info`]. An exposed service is no
    /// matter of one rule: there, this is the first instant at which other rules expose it.
    pub until: Option<Instant>,
    /// Other rules that the analysis suggests to delete, and that may not be deleted together with this
    /// one.
    pub together: Vec<RuleIndex>,
    /// Whether the rule logs its matches, so that it has an effect although it changes no verdict.
    pub logs: bool,
    /// What findings of some kinds know in addition.
    pub evidence: Evidence,
    /// A change that resolves it.
    pub fix: Option<Fix>,
}

impl Finding {
    /// A finding without proof, which the caller completes.
    #[must_use]
    pub const fn new(kind: FindingKind, severity: Severity, rule: RuleIndex) -> Self {
        Self {
            id: FindingId::UNSET,
            proof: FindingId::UNSET,
            number: 0,
            kind,
            severity,
            rule,
            because: Vec::new(),
            is_minimal: true,
            conflicts_with: None,
            effect: None,
            witness: None,
            packets: Vec::new(),
            is_packets_complete: true,
            until: None,
            together: Vec::new(),
            logs: false,
            evidence: Evidence::None,
            fix: None,
        }
    }
}

/// A part of an analysis that can be left undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Task {
    /// Whether packets reach a rule: contradictions, duplicates, unreachable rules.
    Reach,
    /// Whether a rule is redundant.
    Redundant,
    /// Whether no rule of a proof can be left out. The proof itself holds, so the analysis is complete
    /// without this.
    Minimal,
    /// Which rules of another action decide packets of a hidden rule.
    Conflict,
    /// Which redundant rules may go together.
    Together,
    /// From when on a finding no longer holds, and so whether it resolves itself.
    Until,
    /// Which services are exposed.
    Exposed,
    /// Correlated rules, and rules that generalize others.
    Pairs,
    /// Parts of a comparison, search or partition.
    Parts,
    /// A finding was dropped because its witness was refuted. This is a defect of the analyzer.
    Witness,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 10] = [
        Self::Reach,
        Self::Redundant,
        Self::Minimal,
        Self::Conflict,
        Self::Together,
        Self::Until,
        Self::Exposed,
        Self::Pairs,
        Self::Parts,
        Self::Witness,
    ];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reach => "reach",
            Self::Redundant => "redundant",
            Self::Minimal => "minimal",
            Self::Conflict => "conflict",
            Self::Together => "together",
            Self::Until => "until",
            Self::Exposed => "exposed",
            Self::Pairs => "pairs",
            Self::Parts => "parts",
            Self::Witness => "witness",
        }
    }
}

/// Why something is undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Obstacle {
    /// The question took more steps than one question may take.
    Steps,
    /// It would take more memory than the analysis may take.
    Memory,
    /// The time of the analysis was over, or the client left.
    Time,
    /// A defect of the analyzer.
    Defect,
}

impl Obstacle {
    /// Every obstacle.
    pub const ALL: [Self; 4] = [Self::Steps, Self::Memory, Self::Time, Self::Defect];

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Steps => "steps",
            Self::Memory => "memory",
            Self::Time => "time",
            Self::Defect => "defect",
        }
    }
}

/// Something that an answer leaves undecided. Undecided is never clean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incomplete {
    /// What is undecided.
    pub what: Task,
    /// Why.
    pub why: Obstacle,
    /// The rules for which it is undecided, in order; empty if it concerns the answer as a whole.
    pub rules: Vec<RuleIndex>,
}

impl Incomplete {
    /// Something undecided that concerns the answer as a whole.
    #[must_use]
    pub const fn whole(what: Task, why: Obstacle) -> Self {
        Self { what, why, rules: Vec::new() }
    }
}

/// What an analysis looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Analysed {
    /// How many rules the policy has.
    pub rules: usize,
    /// How many of them are active at the instant of the analysis.
    pub active: usize,
    /// The rules that take no part because they are not active, each with its state, in order.
    pub left_out: Vec<(RuleIndex, RuleState)>,
}

impl Analysed {
    /// What an analysis of a policy looks at, at an instant.
    #[must_use]
    pub fn of(policy: &AnalysedPolicy<'_>, at: Instant) -> Self {
        let left_out: Vec<(RuleIndex, RuleState)> = policy
            .rules
            .iter()
            .enumerate()
            .map(|(index, rule)| (index, rule.spec.state(at)))
            .filter(|(_, state)| *state != RuleState::Active)
            .collect();
        let rules = policy.rules.len();
        Self { rules, active: rules - left_out.len(), left_out }
    }
}

/// The faults of a policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// The instant at which the findings hold.
    pub at: Instant,
    /// What was looked at.
    pub analysed: Analysed,
    /// The findings, most serious first, then in order of evaluation.
    pub findings: Vec<Finding>,
    /// What is undecided.
    pub incomplete: Vec<Incomplete>,
}

impl Analysis {
    /// Whether all findings are known, each with its severity. A proof that may name more rules than
    /// it needs ([`Task::Minimal`]) is still a proof.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.incomplete.iter().all(|one| one.what == Task::Minimal)
    }

    /// An analysis that decided nothing.
    #[must_use]
    pub fn undecided(
        policy: &AnalysedPolicy<'_>,
        options: &AnalysisOptions,
        why: Obstacle,
    ) -> Self {
        Self {
            at: options.at,
            analysed: Analysed::of(policy, options.at),
            findings: Vec::new(),
            incomplete: vec![Incomplete::whole(Task::Reach, why)],
        }
    }

    /// Roughly how much memory it takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let of_finding = |finding: &Finding| {
            let sets = finding.packets.iter().map(PacketSet::memory_bytes).sum::<usize>();
            size_of::<Finding>()
                + size_of_val(finding.because.as_slice())
                + size_of_val(finding.together.as_slice())
                + sets
        };
        let undecided = self.incomplete.iter().map(|one| size_of_val(one.rules.as_slice()));
        self.findings.iter().map(of_finding).sum::<usize>()
            + undecided.sum::<usize>()
            + size_of_val(self.analysed.left_out.as_slice())
    }

    /// How many findings of a kind and severity there are.
    #[must_use]
    pub fn count(&self, kind: FindingKind, severity: Severity) -> usize {
        let is_counted = |finding: &&Finding| finding.kind == kind && finding.severity == severity;
        self.findings.iter().filter(is_counted).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_that_may_be_longer_than_necessary_leaves_an_analysis_complete() {
        let with = |tasks: &[Task]| Analysis {
            at: Instant::EPOCH,
            analysed: Analysed::default(),
            findings: Vec::new(),
            incomplete: tasks.iter().map(|it| Incomplete::whole(*it, Obstacle::Steps)).collect(),
        };
        assert!(with(&[]).is_complete());
        assert!(with(&[Task::Minimal]).is_complete());
        for task in Task::ALL.into_iter().filter(|task| *task != Task::Minimal) {
            assert!(!with(&[Task::Minimal, task]).is_complete(), "{task:?}");
        }
    }

    #[test]
    fn each_kind_has_its_word_and_is_read_by_it() {
        assert_eq!(FindingKind::ALL.map(FindingKind::as_str), FindingKind::WORDS);
        for kind in FindingKind::ALL {
            assert_eq!(FindingKind::parse(kind.as_str()), Some(kind));
        }
        assert_eq!(FindingKind::parse("Unreachable"), None);
    }
}

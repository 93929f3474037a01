//! What comparisons, searches and partitions answer.

use super::packets::PacketSet;
use super::report::{Effect, Incomplete, RuleIndex};
use crate::packet::Packet;
use crate::rule::Action;

/// How a verdict changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum VerdictChange {
    /// Packets pass that did not.
    Opens,
    /// Packets no longer pass.
    Closes,
    /// Packets pass neither before nor after, but DENY became REJECT or the reverse.
    Answers,
}

impl VerdictChange {
    /// Every change, the most dangerous first.
    pub const ALL: [Self; 3] = [Self::Opens, Self::Closes, Self::Answers];

    /// The change between two actions; none if they are the same.
    #[must_use]
    pub fn between(from: Action, to: Action) -> Option<Self> {
        match Effect::of(from, to) {
            Some(Effect::Opens) => Some(Self::Opens),
            Some(Effect::Closes) => Some(Self::Closes),
            None if from == to => None,
            None => Some(Self::Answers),
        }
    }

    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opens => "opens",
            Self::Closes => "closes",
            Self::Answers => "answers",
        }
    }
}

/// Packets that change their verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The action of the left policy.
    pub from: Action,
    /// The action of the right policy.
    pub to: Action,
    /// What that means.
    pub change: VerdictChange,
    /// The rule of the left policy that decides the witness; none: its default.
    pub left_rule: Option<RuleIndex>,
    /// The rule of the right policy that decides the witness; none: its default.
    pub right_rule: Option<RuleIndex>,
    /// All rules of the left policy that decide some packet of the set, in order.
    pub left_rules: Vec<RuleIndex>,
    /// All rules of the right policy that decide some packet of the set, in order.
    pub right_rules: Vec<RuleIndex>,
    /// The packets. Sets of several differences are disjoint.
    pub packets: PacketSet,
    /// One of them, at an instant at which its verdict changes.
    pub witness: Packet,
}

/// The packets on which two policies disagree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The differences, the most dangerous first.
    pub differences: Vec<Difference>,
    /// Whether there are more differences than an answer may have.
    pub more: bool,
    /// What is undecided; empty exactly if the answer is complete.
    pub incomplete: Vec<Incomplete>,
}

impl Comparison {
    /// Whether the policies certainly agree on every packet.
    #[must_use]
    pub const fn is_proven_equal(&self) -> bool {
        self.differences.is_empty() && !self.more && self.incomplete.is_empty()
    }
}

/// Packets with the outcome that a search looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPackets {
    /// The packets. Several sets are disjoint.
    pub packets: PacketSet,
    /// Their action.
    pub action: Action,
    /// The rule that decides the witness; none: the default.
    pub rule: Option<RuleIndex>,
    /// All rules that decide some packet of the set, in order.
    pub rules: Vec<RuleIndex>,
    /// One of the packets.
    pub witness: Packet,
}

/// The answer to a search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SearchAnswer {
    /// The packets with the outcome.
    pub found: Vec<FoundPackets>,
    /// Whether there are more than an answer may have.
    pub more: bool,
    /// What is undecided; empty exactly if the answer is complete.
    pub incomplete: Vec<Incomplete>,
}

impl SearchAnswer {
    /// Whether it is proven that no packet of the set has the outcome.
    #[must_use]
    pub const fn is_none(&self) -> bool {
        self.found.is_empty() && !self.more && self.incomplete.is_empty()
    }
}

/// Packets with one verdict by one rule.
#[derive(Debug, Clone, PartialEq)]
pub struct PartitionPart {
    /// The packets. Several sets are disjoint.
    pub packets: PacketSet,
    /// Their action.
    pub action: Action,
    /// The rule that decides all of them; none: the default.
    pub rule: Option<RuleIndex>,
    /// How many packets there are. Packets with the same fields and another time are the same.
    pub size: f64,
}

/// A set of packets, divided by verdict.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Partition {
    /// The parts, in order of their rules, the default last.
    pub parts: Vec<PartitionPart>,
    /// Whether there are more than an answer may have.
    pub more: bool,
    /// What is undecided; empty exactly if the answer is complete.
    pub incomplete: Vec<Incomplete>,
}

//! Analysis: what is wrong with a policy, what a change does, and what gets through.
//!
//! All answers are exact and over all packets that a network can carry. An answer that could not be
//! finished within its limits names what is undecided. It never presents a guess as a
//! fact.
//!
//! [`analyse`] finds faults of one policy, [`compare`] finds the packets on which two policies
//! disagree, [`search`] finds packets with a given outcome or proves that there are none, and
//! [`partition`] divides a set of packets by verdict.

mod again;
mod analyse;
mod answers;
mod bounds;
mod breadth;
mod budget;
mod cell;
mod changes;
mod collect;
mod compare;
mod context;
mod cover;
mod explore;
mod exposure;
mod extents;
mod findings;
mod fix;
mod frame;
mod grounds;
mod hidden;
mod identity;
mod instants;
mod intern;
mod let_in;
mod lifecycle;
mod lookup;
mod matcher;
mod measure;
mod mergeable;
mod merged;
mod near;
mod packets;
mod pairs;
mod points;
mod proof;
mod question;
mod ranges;
mod ranks;
mod reach;
mod redundant;
mod report;
mod request;
mod sides;
mod single;
mod solver;
mod space;
mod spell;
mod sweep;
mod tally;
mod tree;
mod until;
mod validity;
mod walk;
mod ways_in;
mod witness;

pub use again::Former;
pub use answers::{
    Comparison, Difference, FoundPackets, Partition, PartitionPart, SearchAnswer, VerdictChange,
};
pub use grounds::Grounds;
pub use identity::{FindingId, identify};
pub use packets::{ByteRange, PacketSet};
pub use report::{
    Analysed, Analysis, Conflict, Cover, Effect, Evidence, Finding, FindingKind, Fix, Incomplete,
    Obstacle, RuleIndex, Severity, Task,
};
pub use request::{
    AnalysedPolicy, AnalysedRule, AnalysisLimits, AnalysisOptions, ComparisonOptions,
    EXPOSED_SERVICES, ExposedService, FindingKinds, Outcome, SearchRequest, Thresholds,
};

pub use validity::holds_until;

use crate::time::Instant;

/// Finds the faults of a policy. The findings are identified and in order (see [`identify`]).
///
/// Runs for seconds on large policies and uses several threads, so do not call it on a thread that
/// serves requests.
#[must_use]
pub fn analyse(
    policy: &AnalysedPolicy<'_>,
    options: &AnalysisOptions,
    limits: &AnalysisLimits<'_>,
) -> Analysis {
    analyse::analyse_with_grounds(policy, options, limits).0
}

/// Like [`analyse`]. Also returns what the findings rest on, for [`analyse_again`].
#[must_use]
pub fn analyse_with_grounds(
    policy: &AnalysedPolicy<'_>,
    options: &AnalysisOptions,
    limits: &AnalysisLimits<'_>,
) -> (Analysis, Grounds) {
    analyse::analyse_with_grounds(policy, options, limits)
}

/// Finds the faults of a later state of a policy, from those of a former one: the findings that
/// [`analyse`] finds. Only rules to which a change can matter are searched again. If the former analysis is of
/// no use, because it is incomplete or was asked something else, all rules are searched.
#[must_use]
pub fn analyse_again(
    former: &Former<'_>,
    policy: &AnalysedPolicy<'_>,
    options: &AnalysisOptions,
    limits: &AnalysisLimits<'_>,
) -> (Analysis, Grounds) {
    again::analyse_again(former, policy, options, limits)
}

/// For each rule of a policy, the index of the same rule in a later state of it: with the same content
/// except for its texts.
#[must_use]
pub fn same_rules(
    before: &AnalysedPolicy<'_>,
    after: &AnalysedPolicy<'_>,
) -> Vec<Option<RuleIndex>> {
    merged::same_rules(before.rules, after.rules)
}

/// Finds the packets on which two policies disagree. The differences are disjoint. There are none
/// exactly if the answer is complete and no packet changes its verdict.
#[must_use]
pub fn compare(
    left: &AnalysedPolicy<'_>,
    right: &AnalysedPolicy<'_>,
    options: &ComparisonOptions,
    limits: &AnalysisLimits<'_>,
) -> Comparison {
    compare::compare(left, right, options, limits)
}

/// Searches a set for packets with an outcome. If the answer is complete and has no parts, there is
/// no such packet.
#[must_use]
pub fn search(
    policy: &AnalysedPolicy<'_>,
    request: &SearchRequest,
    limits: &AnalysisLimits<'_>,
) -> SearchAnswer {
    lookup::search(policy, request, limits)
}

/// Divides a set of packets into disjoint parts, each with one verdict by one rule.
#[must_use]
pub fn partition(
    policy: &AnalysedPolicy<'_>,
    packets: &PacketSet,
    at: Instant,
    limits: &AnalysisLimits<'_>,
) -> Partition {
    lookup::partition(policy, packets, at, limits)
}

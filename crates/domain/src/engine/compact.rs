//! Rules in the form in which they are evaluated: the members that are compared with packets, the
//! action, the place, and the name. The other texts of a rule can take a hundred times as much
//! memory, and no verdict depends on them.

use std::sync::Arc;

use crate::ids::{Revision, RuleId};
use crate::net::{PortRange, Protocol};
use crate::rule::{Action, Criteria, Endpoint, Outcome, Rule, RuleParts, RuleSpec, Schedule};
use crate::text::Name;
use crate::time::Instant;

use super::naive::{Conditions, HasConditions};

/// A rule without its texts, except for the name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompactRule {
    id: RuleId,
    /// The revision of the policy at which it was read.
    since: Revision,
    name: Option<Box<str>>,
    /// Its sources, then its destinations: one allocation for both.
    entries: Box<[Endpoint]>,
    ports: Box<[PortRange]>,
    protocols: Box<[Protocol]>,
    /// `starts_at` and `expires_at`. Most rules have neither.
    times: Option<Box<(Option<Instant>, Option<Instant>)>>,
    priority: i32,
    /// How many of the entries are sources. At most 1,000.
    sources: u16,
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    action: Action,
    enabled: bool,
    log: bool,
}

/// A rule that changed: as it is now, or none if it is deleted.
#[derive(Debug, Clone)]
pub struct ChangedRule {
    /// Its id.
    pub id: RuleId,
    /// Its content.
    pub rule: Option<Arc<CompactRule>>,
}

impl ChangedRule {
    /// A stored rule that was read at a revision of its policy.
    #[must_use]
    pub fn of(rule: &Rule, since: Revision) -> Self {
        let live = rule.deleted.is_none();
        let content = live.then(|| Arc::new(CompactRule::new(rule.id, &rule.spec, since)));
        Self { id: rule.id, rule: content }
    }
}

impl CompactRule {
    /// A rule as it was read at a revision of its policy.
    #[must_use]
    pub fn new(id: RuleId, spec: &RuleSpec, since: Revision) -> Self {
        // No `..`: the compiler demands a decision here for each new member of these.
        let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports } =
            Criteria::of(spec);
        let Schedule { enabled, starts_at, expires_at } = Schedule::of(spec);
        let Outcome { name, action, priority, log } = Outcome::of(spec);
        let has_times = starts_at.is_some() || expires_at.is_some();
        Self {
            id,
            since,
            name: name.map(|name| name.as_str().into()),
            entries: sources.iter().chain(destinations).copied().collect(),
            ports: ports.into(),
            protocols: protocols.into(),
            times: has_times.then(|| Box::new((starts_at, expires_at))),
            priority,
            sources: u16::try_from(sources.len()).unwrap_or(u16::MAX),
            icmp_type,
            icmp_code,
            action,
            enabled,
            log,
        }
    }

    /// Its id.
    #[must_use]
    pub const fn id(&self) -> RuleId {
        self.id
    }

    /// The revision of the policy at which it was read. Within the rules that were read together
    /// and their changes since, an id and this revision identify one content.
    #[must_use]
    pub const fn since(&self) -> Revision {
        self.since
    }

    /// Its name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The action on packets that match.
    #[must_use]
    pub const fn action(&self) -> Action {
        self.action
    }

    /// Its priority.
    #[must_use]
    pub const fn priority(&self) -> i32 {
        self.priority
    }

    /// The alternatives for the source.
    #[must_use]
    pub fn sources(&self) -> &[Endpoint] {
        self.entries.get(..usize::from(self.sources)).unwrap_or_default()
    }

    /// The alternatives for the destination.
    #[must_use]
    pub fn destinations(&self) -> &[Endpoint] {
        self.entries.get(usize::from(self.sources)..).unwrap_or_default()
    }

    /// The ports of the destinations that name none of their own.
    #[must_use]
    pub fn ports(&self) -> &[PortRange] {
        &self.ports
    }

    /// Whether it has no limits in time, so that its state does not depend on the time.
    #[must_use]
    pub const fn is_timeless(&self) -> bool {
        self.times.is_none()
    }

    /// Whether a stored rule has the content that this one was read with, as far as it is here.
    #[must_use]
    pub fn is_of(&self, rule: &Rule) -> bool {
        *self == Self::new(rule.id, &rule.spec, self.since)
    }

    /// The key by which rules are ordered.
    pub(super) const fn order(&self) -> (i32, RuleId) {
        (self.priority, self.id)
    }

    /// How many comparisons a packet can cost: one for each entry, and one for the rest.
    pub(super) fn comparisons(&self) -> u64 {
        let entries = self.entries.len() + self.ports.len();
        u64::try_from(entries).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// The rule in the form that is compiled, without texts.
    pub(super) fn to_spec(&self) -> RuleSpec {
        self.to_spec_named(None)
    }

    /// The rule in the form that is analyzed: with its name, and without other texts.
    #[must_use]
    pub fn to_named_spec(&self) -> RuleSpec {
        self.to_spec_named(self.name().and_then(|name| Name::stored(name).ok()).as_ref())
    }

    fn to_spec_named(&self, name: Option<&Name>) -> RuleSpec {
        let outcome = Outcome { name, action: self.action, priority: self.priority, log: self.log };
        let parts = RuleParts::without_texts(self.criteria(), self.schedule(), outcome);
        RuleSpec::unchecked(parts)
    }

    #[inline]
    fn criteria(&self) -> Criteria<'_> {
        Criteria {
            protocols: &self.protocols,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            sources: self.sources(),
            destinations: self.destinations(),
            ports: &self.ports,
        }
    }

    #[inline]
    fn schedule(&self) -> Schedule {
        let (starts_at, expires_at) = self.times.as_deref().copied().unwrap_or_default();
        Schedule { enabled: self.enabled, starts_at, expires_at }
    }

    /// Roughly how much memory it takes, in bytes, with its place in a list.
    pub(super) fn bytes(&self) -> usize {
        let name = self.name.as_ref().map_or(0, |name| name.len());
        let times = self.times.as_deref().map_or(0, size_of_val);
        let lists = [
            size_of_val(&*self.entries),
            size_of_val(&*self.ports),
            size_of_val(&*self.protocols),
            name,
            times,
        ];
        let allocated: usize =
            lists.iter().filter(|bytes| **bytes > 0).map(|bytes| bytes + ALLOCATION).sum();
        size_of::<Arc<Self>>() + ARC + size_of::<Self>() + allocated
    }

    /// Roughly how much memory the form that is compiled takes, in bytes.
    pub(super) fn bytes_of_spec(&self) -> usize {
        size_of::<RuleSpec>()
            + size_of_val(&*self.entries)
            + size_of_val(&*self.ports)
            + size_of_val(&*self.protocols)
            + 4 * ALLOCATION
    }
}

impl HasConditions for CompactRule {
    #[inline]
    fn conditions(&self) -> Conditions<'_> {
        Conditions::new(self.criteria(), self.schedule())
    }
}

/// The overhead of the allocator for an allocation: it rounds sizes up.
const ALLOCATION: usize = 12;
/// The counters of an [`Arc`], and its allocation.
const ARC: usize = 2 * size_of::<usize>() + ALLOCATION;

//! The types of a rule.

use super::{Action, RuleState, Warning};
use crate::error::{Resource, Violations};
use crate::ids::{Revision, RuleId};
use crate::labels::Labels;
use crate::mark::{CurrentState, Mark};
use crate::net::{AddressRange, PortRange, Protocol, Protocols};
use crate::patch::Patch;
use crate::policy::PolicyRef;
use crate::read_only::Repeated;
use crate::stamp::Stamp;
use crate::text::{Description, Name, Reference};
use crate::time::Instant;

/// The most protocols of a rule.
pub const MAX_PROTOCOLS: usize = 16;
/// The most sources, and the most destinations, of a rule.
pub const MAX_ENDPOINTS: usize = 1_000;
/// The most entries of a rule's `ports`.
pub const MAX_PORTS: usize = 1_000;
/// The size of a label in addition to its text: its entry in the map.
const BYTES_PER_LABEL: usize = 64;
/// The overhead of the allocator for each rule: some ten allocations.
const ALLOCATIONS: usize = 10 * 16;

/// One source or destination entry: addresses, and the ports that go with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// The addresses.
    pub address: AddressRange,
    /// The entry's own ports; none: every port (for a destination: the rule's `ports`).
    pub port: Option<PortRange>,
}

/// The members of a rule that clients write, before they are checked as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleParts {
    /// Its name, if it has one; unique in its policy.
    pub name: Option<Name>,
    /// The action on the packets that it matches.
    pub action: Action,
    /// Its priority: the lowest is evaluated first, equal ones in order of id.
    pub priority: i32,
    /// Its protocols; none: any.
    pub protocols: Protocols,
    /// The ICMP type; needs exactly one protocol, icmp or icmpv6.
    pub icmp_type: Option<u8>,
    /// The ICMP code; needs a type.
    pub icmp_code: Option<u8>,
    /// Alternatives for the source, 1 to 1,000.
    pub sources: Vec<Endpoint>,
    /// Alternatives for the destination, 1 to 1,000.
    pub destinations: Vec<Endpoint>,
    /// The ports of the destinations that name none of their own; none: every port.
    pub ports: Vec<PortRange>,
    /// Whether it is evaluated.
    pub enabled: bool,
    /// Whether matches are to be logged.
    pub log: bool,
    /// The first instant at which it is active.
    pub starts_at: Option<Instant>,
    /// The first instant at which it is no longer active.
    pub expires_at: Option<Instant>,
    /// Free text.
    pub description: Description,
    /// Ticket or change number.
    pub reference: Reference,
    /// Labels.
    pub labels: Labels,
}

impl RuleParts {
    /// The members that every rule has; all others are their defaults.
    #[must_use]
    pub fn new(
        action: Action,
        priority: i32,
        sources: Vec<Endpoint>,
        destinations: Vec<Endpoint>,
    ) -> Self {
        Self {
            name: None,
            action,
            priority,
            protocols: Protocols::ANY,
            icmp_type: None,
            icmp_code: None,
            sources,
            destinations,
            ports: Vec::new(),
            enabled: true,
            log: false,
            starts_at: None,
            expires_at: None,
            description: Description::default(),
            reference: Reference::default(),
            labels: Labels::default(),
        }
    }

    /// The members that decide packets and that verdicts show; all others are their defaults.
    pub(crate) fn without_texts(
        criteria: Criteria<'_>,
        schedule: Schedule,
        outcome: Outcome<'_>,
    ) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let Criteria { protocols, icmp_type, icmp_code, sources, destinations, ports } = criteria;
        let Schedule { enabled, starts_at, expires_at } = schedule;
        let Outcome { name, action, priority, log } = outcome;
        Self {
            name: name.cloned(),
            protocols: protocols.iter().copied().collect(),
            icmp_type,
            icmp_code,
            ports: ports.to_vec(),
            enabled,
            log,
            starts_at,
            expires_at,
            ..Self::new(action, priority, sources.to_vec(), destinations.to_vec())
        }
    }
}

/// A rule's content that is valid as a whole: its members were checked against each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleSpec(RuleParts);

impl RuleSpec {
    /// Checks the parts against each other.
    ///
    /// # Errors
    /// Returns all violations, each with a pointer: wrong counts, ICMP fields without their
    /// protocol, an empty period, a rule that can match no packet at all.
    pub fn new(parts: RuleParts) -> Result<Self, Violations> {
        super::check::violations(&parts).into_result(|| Self(parts))
    }

    /// The parts, which can be changed and checked again.
    #[must_use]
    pub fn into_parts(self) -> RuleParts {
        self.0
    }

    /// Parts that were checked before.
    pub(crate) const fn unchecked(parts: RuleParts) -> Self {
        Self(parts)
    }

    /// Gives it another priority. This needs no new check, since no check depends on the priority.
    pub(crate) const fn set_priority(&mut self, priority: i32) {
        self.0.priority = priority;
    }

    /// How many source, destination and port entries it has.
    #[must_use]
    pub fn entry_count(&self) -> u64 {
        // No `..`: the compiler demands a decision here for each new member.
        let RuleParts {
            sources,
            destinations,
            ports,
            // At most 16.
            protocols: _,
            // These are no lists of entries.
            name: _,
            action: _,
            priority: _,
            icmp_type: _,
            icmp_code: _,
            enabled: _,
            log: _,
            starts_at: _,
            expires_at: _,
            description: _,
            reference: _,
            labels: _,
        } = &self.0;
        let count = sources.len() + destinations.len() + ports.len();
        // At most 3,000.
        u64::try_from(count).unwrap_or(u64::MAX)
    }

    /// How many characters its description and labels have: besides the entries, only these can be
    /// long. Each label counts a few characters more, for the JSON around it.
    #[must_use]
    pub fn text_chars(&self) -> u64 {
        // No `..`: the compiler demands a decision here for each new member.
        let RuleParts {
            description,
            labels,
            // At most 255 characters each.
            name: _,
            reference: _,
            // `entry_count` counts these.
            sources: _,
            destinations: _,
            ports: _,
            // These are short.
            action: _,
            priority: _,
            protocols: _,
            icmp_type: _,
            icmp_code: _,
            enabled: _,
            log: _,
            starts_at: _,
            expires_at: _,
        } = &self.0;
        let chars = |text: &str| text.chars().count();
        let label = |(key, value): (&String, &String)| chars(key) + chars(value) + 6;
        let labels: usize = labels.as_map().iter().map(label).sum();
        // At most 24,832.
        u64::try_from(chars(description.as_str()) + labels).unwrap_or(u64::MAX)
    }

    /// Roughly how much memory it takes outside of the struct itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        // No `..`: the compiler demands a decision here for each new member.
        let RuleParts {
            name,
            protocols,
            sources,
            destinations,
            ports,
            description,
            reference,
            labels,
            // They have no memory outside of the struct.
            action: _,
            priority: _,
            icmp_type: _,
            icmp_code: _,
            enabled: _,
            log: _,
            starts_at: _,
            expires_at: _,
        } = &self.0;
        let label = |(key, value): (&String, &String)| key.len() + value.len() + BYTES_PER_LABEL;
        (sources.len() + destinations.len()) * size_of::<Endpoint>()
            + ports.len() * size_of::<PortRange>()
            + protocols.len()
            + name.as_ref().map_or(0, |name| name.as_str().len())
            + description.as_str().len()
            + reference.as_str().len()
            + labels.as_map().iter().map(label).sum::<usize>()
    }

    /// The rule's state at an instant.
    #[must_use]
    pub fn state(&self, at: Instant) -> RuleState {
        Schedule::of(&self.0).state(at)
    }

    /// Warnings about the parts of the rule that can have no effect, and about a past expiry.
    #[must_use]
    pub fn warnings(&self, now: Instant) -> Vec<Warning> {
        super::check::warnings(&self.0, now)
    }
}

impl std::ops::Deref for RuleSpec {
    type Target = RuleParts;

    fn deref(&self) -> &RuleParts {
        &self.0
    }
}

/// The members of a rule that are compared with the fields of packets. Code that takes it apart names
/// every member, so that the compiler demands a decision about each new one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Criteria<'a> {
    pub(crate) protocols: &'a [Protocol],
    pub(crate) icmp_type: Option<u8>,
    pub(crate) icmp_code: Option<u8>,
    pub(crate) sources: &'a [Endpoint],
    pub(crate) destinations: &'a [Endpoint],
    pub(crate) ports: &'a [PortRange],
}

impl<'a> Criteria<'a> {
    // Inlined, a member is only read by the comparison that needs it.
    #[inline]
    pub(crate) fn of(parts: &'a RuleParts) -> Self {
        // No `..`: the compiler demands a decision here for each new member.
        let RuleParts {
            protocols,
            icmp_type,
            icmp_code,
            sources,
            destinations,
            ports,
            // These are an `Outcome` (a `Fingerprint` has the action too).
            name: _,
            action: _,
            priority: _,
            log: _,
            // These are a `Schedule`.
            enabled: _,
            starts_at: _,
            expires_at: _,
            // These are for people.
            description: _,
            reference: _,
            labels: _,
        } = parts;
        Self {
            protocols,
            icmp_type: *icmp_type,
            icmp_code: *icmp_code,
            sources,
            destinations,
            ports,
        }
    }
}

/// The members of a rule that decide at which times it is evaluated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    pub(crate) enabled: bool,
    pub(crate) starts_at: Option<Instant>,
    pub(crate) expires_at: Option<Instant>,
}

impl Schedule {
    #[inline]
    pub(crate) const fn of(parts: &RuleParts) -> Self {
        Self { enabled: parts.enabled, starts_at: parts.starts_at, expires_at: parts.expires_at }
    }

    /// The state at an instant.
    #[inline]
    pub(crate) fn state(self, at: Instant) -> RuleState {
        RuleState::of(self.enabled, self.starts_at, self.expires_at, at)
    }
}

/// The members of a rule that are not compared with packets, but that verdicts and lists of verdicts
/// depend on or show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome<'a> {
    pub(crate) name: Option<&'a Name>,
    pub(crate) action: Action,
    pub(crate) priority: i32,
    pub(crate) log: bool,
}

impl<'a> Outcome<'a> {
    pub(crate) const fn of(parts: &'a RuleParts) -> Self {
        Self {
            name: parts.name.as_ref(),
            action: parts.action,
            priority: parts.priority,
            log: parts.log,
        }
    }
}

/// A stored rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// Its policy, as rules show it.
    pub policy: PolicyRef,
    /// Its content.
    pub spec: RuleSpec,
    /// The policy's revision at the rule's last change.
    pub revision: Revision,
    /// The mark of its state. A rule that is renumbered to make room for another keeps its mark.
    pub mark: Mark,
    /// When it was created.
    pub created_at: Instant,
    /// By whom.
    pub created_by: String,
    /// When it was last changed.
    pub updated_at: Instant,
    /// By whom.
    pub updated_by: String,
    /// When and by whom it was deleted; none while it is live.
    pub deleted: Option<Stamp>,
}

impl From<&Rule> for CurrentState {
    fn from(rule: &Rule) -> Self {
        Self { what: Resource::Rule, id: rule.id.get(), mark: rule.mark, revision: rule.revision }
    }
}

impl Rule {
    /// Roughly how much memory it takes, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        // No `..`: the compiler demands a decision here for each new member.
        let Self {
            policy,
            spec,
            created_by,
            updated_by,
            deleted,
            // They have no memory outside of the struct.
            id: _,
            revision: _,
            mark: _,
            created_at: _,
            updated_at: _,
        } = self;
        size_of::<Self>()
            + spec.heap_bytes()
            + created_by.len()
            + updated_by.len()
            + deleted.as_ref().map_or(0, |stamp| stamp.by.len())
            + policy.name.as_str().len()
            + policy.firewall.name.as_str().len()
            + ALLOCATIONS
    }
}

/// A change of a rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RulePatch {
    /// See [`RuleParts`].
    pub name: Patch<Option<Name>>,
    /// See [`RuleParts`].
    pub action: Patch<Action>,
    /// See [`RuleParts`].
    pub priority: Patch<i32>,
    /// See [`RuleParts`].
    pub protocols: Patch<Protocols>,
    /// See [`RuleParts`].
    pub icmp_type: Patch<Option<u8>>,
    /// See [`RuleParts`].
    pub icmp_code: Patch<Option<u8>>,
    /// See [`RuleParts`].
    pub sources: Patch<Vec<Endpoint>>,
    /// See [`RuleParts`].
    pub destinations: Patch<Vec<Endpoint>>,
    /// See [`RuleParts`].
    pub ports: Patch<Vec<PortRange>>,
    /// See [`RuleParts`].
    pub enabled: Patch<bool>,
    /// See [`RuleParts`].
    pub log: Patch<bool>,
    /// See [`RuleParts`].
    pub starts_at: Patch<Option<Instant>>,
    /// See [`RuleParts`].
    pub expires_at: Patch<Option<Instant>>,
    /// See [`RuleParts`].
    pub description: Patch<Description>,
    /// See [`RuleParts`].
    pub reference: Patch<Reference>,
    /// The labels to set and to remove, key by key.
    pub labels: crate::labels::LabelsPatch,
    /// The read-only members that the request repeats.
    pub repeated: Repeated,
}

impl RulePatch {
    /// The rule's content after the change.
    ///
    /// # Errors
    /// Returns the violations if the changed rule is not valid as a whole.
    pub fn apply(self, spec: RuleSpec) -> Result<RuleSpec, Violations> {
        // No `..`: the compiler demands a decision here for each new member.
        let Self {
            name,
            action,
            priority,
            protocols,
            icmp_type,
            icmp_code,
            sources,
            destinations,
            ports,
            enabled,
            log,
            starts_at,
            expires_at,
            description,
            reference,
            labels,
            // They change nothing; the use case compares them with the stored rule.
            repeated: _,
        } = self;
        let old = spec.into_parts();
        RuleSpec::new(RuleParts {
            name: name.or(old.name),
            action: action.or(old.action),
            priority: priority.or(old.priority),
            protocols: protocols.or(old.protocols),
            icmp_type: icmp_type.or(old.icmp_type),
            icmp_code: icmp_code.or(old.icmp_code),
            sources: sources.or(old.sources),
            destinations: destinations.or(old.destinations),
            ports: ports.or(old.ports),
            enabled: enabled.or(old.enabled),
            log: log.or(old.log),
            starts_at: starts_at.or(old.starts_at),
            expires_at: expires_at.or(old.expires_at),
            description: description.or(old.description),
            reference: reference.or(old.reference),
            labels: labels.apply_below(old.labels)?,
        })
    }
}

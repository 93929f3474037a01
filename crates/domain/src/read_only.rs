//! The members of the three resources that answers show and requests do not write.
//!
//! A read-only member that is silently ignored is a change without effect. So a creation refuses
//! it, and a change accepts it only if it repeats the value of the resource. These tables drive
//! the parsing of bodies and its tests. A member that is not in them can be written.

use crate::error::{Violation, Violations};
use crate::ids::Revision;
use crate::rule::{RuleState, WarningCode};
use crate::time::Instant;

/// A member that answers show and requests do not write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReadOnlyMember {
    /// `id`.
    Id,
    /// `firewall`, the parent of a policy.
    Firewall,
    /// `filtering_policy`, the parent of a rule.
    FilteringPolicy,
    /// `policy_count`.
    PolicyCount,
    /// `filtering_policies`, embedded children.
    FilteringPolicies,
    /// `left_out`, policies that are not embedded.
    LeftOut,
    /// `rule_count`.
    RuleCount,
    /// `rules`, embedded children.
    Rules,
    /// `position`.
    Position,
    /// `state`.
    State,
    /// `warnings`.
    Warnings,
    /// `revision`.
    Revision,
    /// `created_at`.
    CreatedAt,
    /// `created_by`.
    CreatedBy,
    /// `updated_at`.
    UpdatedAt,
    /// `updated_by`.
    UpdatedBy,
    /// `deleted_at`.
    DeletedAt,
    /// `deleted_by`.
    DeletedBy,
}

impl ReadOnlyMember {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Firewall => "firewall",
            Self::FilteringPolicy => "filtering_policy",
            Self::PolicyCount => "policy_count",
            Self::FilteringPolicies => "filtering_policies",
            Self::LeftOut => "left_out",
            Self::RuleCount => "rule_count",
            Self::Rules => "rules",
            Self::Position => "position",
            Self::State => "state",
            Self::Warnings => "warnings",
            Self::Revision => "revision",
            Self::CreatedAt => "created_at",
            Self::CreatedBy => "created_by",
            Self::UpdatedAt => "updated_at",
            Self::UpdatedBy => "updated_by",
            Self::DeletedAt => "deleted_at",
            Self::DeletedBy => "deleted_by",
        }
    }

    /// What to do instead of writing it, as part of a sentence.
    #[must_use]
    pub const fn instead(self) -> &'static str {
        match self {
            Self::Id => "the service assigns ids",
            Self::Firewall | Self::FilteringPolicy => "the path determines the parent",
            Self::PolicyCount | Self::FilteringPolicies | Self::LeftOut => {
                "write the policies themselves, under `filtering-policies/`"
            }
            Self::RuleCount | Self::Rules => "write the rules themselves, under `rules/`",
            Self::Position => "write `priority`, or move the rule with `rules/move/`",
            Self::State => "write `enabled`, `starts_at` or `expires_at`",
            Self::Warnings => "write the member that the warning points to",
            Self::Revision => "the service counts revisions; use `If-Match` for a condition",
            Self::CreatedAt | Self::CreatedBy | Self::UpdatedAt | Self::UpdatedBy => {
                "the service records when something is written and by whom"
            }
            Self::DeletedAt | Self::DeletedBy => "use DELETE, and `restore/` to undo it",
        }
    }

    /// The violation of a request that writes it; `at` is the pointer of the object that has it.
    #[must_use]
    pub fn refused(self, at: &str, why: &str) -> Violation {
        let detail = format!("is read-only{why}; {}", self.instead());
        Violation::body(format!("{at}/{}", self.name()), detail)
    }
}

/// The read-only members of a firewall, in the order of answers.
pub const FIREWALL: &[ReadOnlyMember] = &[
    ReadOnlyMember::Id,
    ReadOnlyMember::PolicyCount,
    ReadOnlyMember::FilteringPolicies,
    ReadOnlyMember::LeftOut,
    ReadOnlyMember::Revision,
    ReadOnlyMember::CreatedAt,
    ReadOnlyMember::CreatedBy,
    ReadOnlyMember::UpdatedAt,
    ReadOnlyMember::UpdatedBy,
    ReadOnlyMember::DeletedAt,
    ReadOnlyMember::DeletedBy,
];

/// The read-only members of a filtering policy, in the order of answers.
pub const POLICY: &[ReadOnlyMember] = &[
    ReadOnlyMember::Id,
    ReadOnlyMember::Firewall,
    ReadOnlyMember::RuleCount,
    ReadOnlyMember::Rules,
    ReadOnlyMember::Revision,
    ReadOnlyMember::CreatedAt,
    ReadOnlyMember::CreatedBy,
    ReadOnlyMember::UpdatedAt,
    ReadOnlyMember::UpdatedBy,
    ReadOnlyMember::DeletedAt,
    ReadOnlyMember::DeletedBy,
];

/// The read-only members of a rule, in the order of answers.
pub const RULE: &[ReadOnlyMember] = &[
    ReadOnlyMember::Id,
    ReadOnlyMember::FilteringPolicy,
    ReadOnlyMember::Position,
    ReadOnlyMember::State,
    ReadOnlyMember::Warnings,
    ReadOnlyMember::Revision,
    ReadOnlyMember::CreatedAt,
    ReadOnlyMember::CreatedBy,
    ReadOnlyMember::UpdatedAt,
    ReadOnlyMember::UpdatedBy,
    ReadOnlyMember::DeletedAt,
    ReadOnlyMember::DeletedBy,
];

/// The value of a read-only member in a request. Its type was checked, its value was not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RepeatedValue {
    /// No value.
    Null,
    /// A revision.
    Revision(Revision),
    /// A number of children, or a position.
    Count(u64),
    /// An instant.
    At(Instant),
    /// A subject.
    By(Box<str>),
    /// A rule's state.
    State(RuleState),
    /// A rule's warnings: codes, and pointers if the format has them.
    Warnings(Vec<(WarningCode, Option<String>)>),
    /// Embedded children.
    Children,
}

/// The read-only members that a request repeats, each with its value in the request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repeated(Vec<(ReadOnlyMember, RepeatedValue)>);

impl Repeated {
    /// Takes the members of one object. Each rule of a set keeps its own, so unused capacity is
    /// released.
    #[must_use]
    pub fn new(mut members: Vec<(ReadOnlyMember, RepeatedValue)>) -> Self {
        members.shrink_to_fit();
        Self(members)
    }

    /// Each member that the request repeats, with its value there.
    pub(crate) fn members(&self) -> impl Iterator<Item = (ReadOnlyMember, &RepeatedValue)> {
        self.0.iter().map(|(member, value)| (*member, value))
    }

    /// Whether the request repeats a rule's position, which the caller must look up.
    #[must_use]
    pub fn names_position(&self) -> bool {
        self.0.iter().any(|(member, _)| *member == ReadOnlyMember::Position)
    }

    /// Notes a violation for each of them that is not null, with pointers below `at`. A new rule
    /// has no values that they could repeat.
    pub fn refuse(&self, at: &str, violations: &mut Violations) {
        const WHY: &str = " and the rule is new; leave it out, or add `read_only=ignore`";
        for (member, _) in self.0.iter().filter(|(_, value)| *value != RepeatedValue::Null) {
            violations.note(|| member.refused(at, WHY));
        }
    }
}

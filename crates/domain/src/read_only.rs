//! The members of the three resources: those that requests write, and the read-only ones that only
//! answers show.
//!
//! A read-only member that is silently ignored is a change without effect. So a creation refuses
//! it, and a change accepts it only if it repeats the value of the resource. These tables drive
//! the parsing of bodies, the selection by `fields`, and the tests of both.

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

/// A member of a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    /// A member that requests write.
    Written(&'static str),
    /// A member that only answers have.
    ReadOnly(ReadOnlyMember),
}

impl Member {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Written(name) => name,
            Self::ReadOnly(member) => member.name(),
        }
    }

    /// The member, if it is read-only.
    #[must_use]
    pub const fn read_only(self) -> Option<ReadOnlyMember> {
        match self {
            Self::Written(_) => None,
            Self::ReadOnly(member) => Some(member),
        }
    }
}

use Member::{ReadOnly, Written};

/// The members of a firewall, in the order of answers.
pub const FIREWALL: [Member; 15] = [
    ReadOnly(ReadOnlyMember::Id),
    Written("name"),
    Written("tenant"),
    Written("description"),
    Written("labels"),
    ReadOnly(ReadOnlyMember::PolicyCount),
    ReadOnly(ReadOnlyMember::FilteringPolicies),
    ReadOnly(ReadOnlyMember::LeftOut),
    ReadOnly(ReadOnlyMember::Revision),
    ReadOnly(ReadOnlyMember::CreatedAt),
    ReadOnly(ReadOnlyMember::CreatedBy),
    ReadOnly(ReadOnlyMember::UpdatedAt),
    ReadOnly(ReadOnlyMember::UpdatedBy),
    ReadOnly(ReadOnlyMember::DeletedAt),
    ReadOnly(ReadOnlyMember::DeletedBy),
];

/// The members of a filtering policy, in the order of answers.
pub const POLICY: [Member; 15] = [
    ReadOnly(ReadOnlyMember::Id),
    ReadOnly(ReadOnlyMember::Firewall),
    Written("name"),
    Written("description"),
    Written("labels"),
    Written("default_action"),
    ReadOnly(ReadOnlyMember::RuleCount),
    ReadOnly(ReadOnlyMember::Rules),
    ReadOnly(ReadOnlyMember::Revision),
    ReadOnly(ReadOnlyMember::CreatedAt),
    ReadOnly(ReadOnlyMember::CreatedBy),
    ReadOnly(ReadOnlyMember::UpdatedAt),
    ReadOnly(ReadOnlyMember::UpdatedBy),
    ReadOnly(ReadOnlyMember::DeletedAt),
    ReadOnly(ReadOnlyMember::DeletedBy),
];

/// The members of a rule, in the order of answers. (`protocol` is only another spelling of
/// `protocols` in requests.)
pub const RULE: [Member; 28] = [
    ReadOnly(ReadOnlyMember::Id),
    ReadOnly(ReadOnlyMember::FilteringPolicy),
    Written("name"),
    Written("action"),
    Written("priority"),
    ReadOnly(ReadOnlyMember::Position),
    Written("protocols"),
    Written("icmp_type"),
    Written("icmp_code"),
    Written("sources"),
    Written("destinations"),
    Written("ports"),
    Written("enabled"),
    Written("log"),
    Written("starts_at"),
    Written("expires_at"),
    ReadOnly(ReadOnlyMember::State),
    Written("description"),
    Written("reference"),
    Written("labels"),
    ReadOnly(ReadOnlyMember::Warnings),
    ReadOnly(ReadOnlyMember::Revision),
    ReadOnly(ReadOnlyMember::CreatedAt),
    ReadOnly(ReadOnlyMember::CreatedBy),
    ReadOnly(ReadOnlyMember::UpdatedAt),
    ReadOnly(ReadOnlyMember::UpdatedBy),
    ReadOnly(ReadOnlyMember::DeletedAt),
    ReadOnly(ReadOnlyMember::DeletedBy),
];

/// The names of members, in their order.
#[must_use]
pub const fn names<const N: usize>(members: [Member; N]) -> [&'static str; N] {
    let mut names = [""; N];
    let mut rest: &[Member] = &members;
    let mut left: &mut [&'static str] = &mut names;
    while let ([member, others @ ..], Some((name, more))) = (rest, left.split_first_mut()) {
        *name = member.name();
        rest = others;
        left = more;
    }
    names
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_what_to_write_instead_is_writable() {
        for (members, noun) in
            [(&FIREWALL[..], "firewall"), (&POLICY[..], "policy"), (&RULE[..], "rule")]
        {
            let names: Vec<&str> = members.iter().map(|member| member.name()).collect();
            let unique: std::collections::HashSet<&&str> = names.iter().collect();
            assert_eq!(unique.len(), names.len(), "{noun}");
            for only in members.iter().filter_map(|member| member.read_only()) {
                // Words in backticks are members to write, paths, or other parts of a request.
                for word in only.instead().split('`').skip(1).step_by(2) {
                    let is_path_or_header = word.contains('/') || word == "If-Match";
                    let is_written = members.contains(&Written(word));
                    assert!(is_path_or_header || is_written, "{noun}: {word}");
                }
            }
        }
        assert_eq!(super::names(POLICY)[1], "firewall");
        assert_eq!(super::names(RULE)[27], "deleted_by");
    }
}

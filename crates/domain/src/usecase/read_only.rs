//! Compares the read-only members that a change repeats with those of the stored resource.

use crate::error::{Error, Resource, Result, Violations};
use crate::firewall::Firewall;
use crate::ids::Revision;
use crate::policy::Policy;
use crate::read_only::{ReadOnlyMember, Repeated, RepeatedValue};
use crate::rule::{Rule, Warning, WarningCode};
use crate::time::Instant;

/// Checks the members of a change of a firewall.
///
/// # Errors
/// Returns [`Error::RevisionMismatch`] if the request repeats an older revision, and
/// [`Error::Invalid`] if another member differs from the firewall's.
pub(super) fn check_firewall(repeated: &Repeated, firewall: &Firewall) -> Result<()> {
    let shows = |member, value: &RepeatedValue| {
        let Firewall { created_at, created_by, updated_at, updated_by, .. } = firewall;
        match member {
            ReadOnlyMember::PolicyCount => *value == RepeatedValue::Count(firewall.policy_count),
            ReadOnlyMember::CreatedAt => *value == RepeatedValue::At(*created_at),
            ReadOnlyMember::CreatedBy => is_by(value, created_by),
            ReadOnlyMember::UpdatedAt => *value == RepeatedValue::At(*updated_at),
            ReadOnlyMember::UpdatedBy => is_by(value, updated_by),
            ReadOnlyMember::DeletedAt | ReadOnlyMember::DeletedBy => *value == RepeatedValue::Null,
            // Ids and revisions are checked elsewhere. A firewall has no other members.
            ReadOnlyMember::Id
            | ReadOnlyMember::Firewall
            | ReadOnlyMember::FilteringPolicy
            | ReadOnlyMember::FilteringPolicies
            | ReadOnlyMember::LeftOut
            | ReadOnlyMember::RuleCount
            | ReadOnlyMember::Rules
            | ReadOnlyMember::Position
            | ReadOnlyMember::State
            | ReadOnlyMember::Warnings
            | ReadOnlyMember::Revision => false,
        }
    };
    let mut violations = Violations::new();
    check(repeated, "", Resource::Firewall, firewall.revision, shows, &mut violations)?;
    Ok(violations.into_result(|| ())?)
}

/// Checks the members of a change of a policy.
///
/// # Errors
/// Returns [`Error::RevisionMismatch`] if the request repeats an older revision, and
/// [`Error::Invalid`] if another member differs from the policy's.
pub(super) fn check_policy(repeated: &Repeated, policy: &Policy) -> Result<()> {
    let shows = |member, value: &RepeatedValue| {
        let Policy { created_at, created_by, updated_at, updated_by, .. } = policy;
        match member {
            ReadOnlyMember::RuleCount => *value == RepeatedValue::Count(policy.rule_count),
            ReadOnlyMember::CreatedAt => *value == RepeatedValue::At(*created_at),
            ReadOnlyMember::CreatedBy => is_by(value, created_by),
            ReadOnlyMember::UpdatedAt => *value == RepeatedValue::At(*updated_at),
            ReadOnlyMember::UpdatedBy => is_by(value, updated_by),
            ReadOnlyMember::DeletedAt | ReadOnlyMember::DeletedBy => *value == RepeatedValue::Null,
            // Ids, parents and revisions are checked elsewhere. A policy has no other members.
            ReadOnlyMember::Id
            | ReadOnlyMember::Firewall
            | ReadOnlyMember::FilteringPolicy
            | ReadOnlyMember::PolicyCount
            | ReadOnlyMember::FilteringPolicies
            | ReadOnlyMember::LeftOut
            | ReadOnlyMember::Rules
            | ReadOnlyMember::Position
            | ReadOnlyMember::State
            | ReadOnlyMember::Warnings
            | ReadOnlyMember::Revision => false,
        }
    };
    let mut violations = Violations::new();
    check(repeated, "", Resource::Policy, policy.revision, shows, &mut violations)?;
    Ok(violations.into_result(|| ())?)
}

/// Notes the violations in the members of a change of a rule, with pointers below `at`. The
/// rule's `position` is only read if [`Repeated::names_position`]. If the request repeats the
/// warnings, this costs as much as computing them.
///
/// # Errors
/// Returns [`Error::RevisionMismatch`] if the request repeats an older revision.
pub(super) fn check_rule(
    repeated: &Repeated,
    at: &str,
    rule: &Rule,
    position: Option<u64>,
    now: Instant,
    violations: &mut Violations,
) -> Result<()> {
    // State and warnings depend on the time. The client may have read the rule when it was
    // written.
    let times = [now, rule.updated_at];
    let shows = |member, value: &RepeatedValue| {
        let Rule { created_at, created_by, updated_at, updated_by, .. } = rule;
        match member {
            ReadOnlyMember::Position => match value {
                RepeatedValue::Count(given) => position == Some(*given),
                // Most answers leave the position out.
                other => *other == RepeatedValue::Null,
            },
            ReadOnlyMember::State => {
                times.iter().any(|at| *value == RepeatedValue::State(rule.spec.state(*at)))
            }
            ReadOnlyMember::Warnings => {
                times.iter().any(|at| has_warnings(value, &rule.spec.warnings(*at)))
            }
            ReadOnlyMember::CreatedAt => *value == RepeatedValue::At(*created_at),
            ReadOnlyMember::CreatedBy => is_by(value, created_by),
            ReadOnlyMember::UpdatedAt => *value == RepeatedValue::At(*updated_at),
            ReadOnlyMember::UpdatedBy => is_by(value, updated_by),
            ReadOnlyMember::DeletedAt | ReadOnlyMember::DeletedBy => *value == RepeatedValue::Null,
            // Ids, parents and revisions are checked elsewhere. A rule has no other members.
            ReadOnlyMember::Id
            | ReadOnlyMember::Firewall
            | ReadOnlyMember::FilteringPolicy
            | ReadOnlyMember::PolicyCount
            | ReadOnlyMember::FilteringPolicies
            | ReadOnlyMember::LeftOut
            | ReadOnlyMember::RuleCount
            | ReadOnlyMember::Rules
            | ReadOnlyMember::Revision => false,
        }
    };
    check(repeated, at, Resource::Rule, rule.revision, shows, violations)
}

fn check(
    repeated: &Repeated,
    at: &str,
    what: Resource,
    current: Revision,
    shows: impl Fn(ReadOnlyMember, &RepeatedValue) -> bool,
    violations: &mut Violations,
) -> Result<()> {
    for (member, value) in repeated.members() {
        match (member, value) {
            // The client read an older state, and would overwrite later changes.
            (ReadOnlyMember::Revision, RepeatedValue::Revision(given)) if *given < current => {
                return Err(Error::RevisionMismatch { what, current });
            }
            (ReadOnlyMember::Revision, RepeatedValue::Revision(given)) if *given == current => {}
            _ if shows(member, value) => {}
            _ => violations.note(|| member.refused(at, &format!(", and not what the {what} has"))),
        }
    }
    Ok(())
}

fn is_by(value: &RepeatedValue, subject: &str) -> bool {
    matches!(value, RepeatedValue::By(given) if **given == *subject)
}

fn has_warnings(value: &RepeatedValue, warnings: &[Warning]) -> bool {
    let RepeatedValue::Warnings(given) = value else { return false };
    let is_same = |((code, pointer), warning): (&(WarningCode, Option<String>), &Warning)| {
        *code == warning.code && pointer.as_ref().is_none_or(|given| *given == warning.pointer)
    };
    given.len() == warnings.len() && given.iter().zip(warnings).all(is_same)
}

//! States of policies: which one is compiled, and whether another one comes after it.

use fireflow_domain::audit_chain::Head;
use fireflow_domain::ids::{PolicyId, Revision};
use fireflow_domain::policy::{Policy, States};

/// Identifies a state of a policy. The random mark is unique in every history of the database. The
/// revision reveals changes by an older version of the service that does not write marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PolicyState {
    id: PolicyId,
    revision: Revision,
    mark: Option<u64>,
}

impl PolicyState {
    /// The policy.
    #[must_use]
    pub const fn policy(&self) -> PolicyId {
        self.id
    }

    /// The state of a policy that was read.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        Self { id: policy.id, revision: policy.revision, mark: number(policy.states.current()) }
    }

    /// Whether it has a mark, without which it cannot be recognized later.
    #[must_use]
    pub const fn is_marked(&self) -> bool {
        self.mark.is_some()
    }

    /// The policy's revision.
    pub(super) const fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether this state is the one at a revision, or shortly before it, with only known changes
    /// in between. Each change raises the revision by one and leaves a mark, so both differences
    /// must be equal.
    pub(super) fn is_at_or_before(&self, revision: Revision, states: &States) -> bool {
        let changes = revision.0.checked_sub(self.revision.0);
        let marks = self.mark.and_then(|mark| states.newer_than(&format!("{mark:016x}")));
        let marks = marks.and_then(|it| i64::try_from(it).ok());
        marks.is_some() && marks == changes
    }
}

fn number(mark: &str) -> Option<u64> {
    u64::from_str_radix(mark, 16).ok()
}

/// A state, and what proves that a later one descends from it.
#[derive(Debug, Clone, Copy)]
pub(super) struct KnownState {
    pub(super) state: PolicyState,
    root: Option<u64>,
    head: Option<Head>,
}

impl KnownState {
    pub(super) fn of(policy: &Policy) -> Self {
        let (root, head) = (number(policy.states.root()), policy.audit_head);
        Self { state: PolicyState::of(policy), root, head }
    }

    /// Whether a policy is known to be in a state after this one.
    pub(super) fn is_before(&self, policy: &Policy) -> bool {
        self.state.id == policy.id && self.state.is_at_or_before(policy.revision, &policy.states)
    }

    /// The event of the audit chain that proves it if there have been more changes than marks are
    /// kept; none if nothing can prove it. Its hash covers all changes before it, so a chain
    /// that has the event continues this state, even if a backup or a standby replaced the
    /// database. All writers since must have noted which rules they changed, which older versions
    /// do not: after their writes the first mark is another one.
    pub(super) fn proof(&self, policy: &Policy) -> Option<Head> {
        self.proof_for(Some(policy.id), policy.revision, number(policy.states.root()))
    }

    fn proof_for(
        &self,
        id: Option<PolicyId>,
        revision: Revision,
        root: Option<u64>,
    ) -> Option<Head> {
        let is_of_same_writers = self.root.is_some() && self.root == root;
        let may_be_later = Some(self.state.id) == id && self.state.revision < revision;
        self.head.filter(|_| is_of_same_writers && may_be_later)
    }
}

#[cfg(test)]
mod tests {
    use fireflow_domain::audit_chain::{Chain, EventHash};
    use fireflow_domain::mark::Mark;

    use super::*;

    fn state(revision: i64, mark: u64) -> PolicyState {
        let id = PolicyId::new(1).unwrap();
        PolicyState { id, revision: Revision(revision), mark: Some(mark) }
    }

    #[test]
    fn a_state_is_before_another_if_each_change_since_left_a_mark() {
        let states = States::default();
        let states = (1..=4).fold(states, |states, mark| states.followed_by(Mark::new(mark)));
        for revision in 1..=4 {
            let mark = u64::try_from(revision).unwrap();
            assert!(state(revision, mark).is_at_or_before(Revision(4), &states));
            assert!(!state(revision, 9).is_at_or_before(Revision(4), &states), "another history");
            assert!(!state(revision, mark).is_at_or_before(Revision(5), &states), "an unknown one");
        }
        let unmarked = PolicyState { mark: None, ..state(4, 4) };
        assert!(!unmarked.is_at_or_before(Revision(4), &states));
    }

    #[test]
    fn a_chain_proves_nothing_after_a_writer_that_knows_no_marks() {
        let head = Head { sequence: 7, hash: EventHash::genesis(chain(), true) };
        let known = KnownState { state: state(7, 7), root: Some(1), head: Some(head) };
        let (later, same) = (Revision(90), Revision(7));
        assert_eq!(known.proof_for(PolicyId::new(1), later, Some(1)), Some(head));
        assert_eq!(known.proof_for(PolicyId::new(1), later, Some(2)), None, "another writer");
        assert_eq!(known.proof_for(PolicyId::new(1), later, None), None);
        assert_eq!(known.proof_for(PolicyId::new(2), later, Some(1)), None, "another policy");
        assert_eq!(known.proof_for(PolicyId::new(1), same, Some(1)), None, "another history");
        let unmarked = KnownState { root: None, ..known };
        assert_eq!(unmarked.proof_for(PolicyId::new(1), later, None), None);
    }

    fn chain() -> Chain {
        Chain::Policy(PolicyId::new(1).unwrap())
    }
}

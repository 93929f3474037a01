//! The conditions of a request on the state that it would change (RFC 9110, section 13).

use crate::error::{Error, Result, ViolationCode};
use crate::mark::{CurrentState, StateTag};

/// A state that a condition names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NamedState {
    /// By a tag of FireFlow's form.
    Tagged(StateTag),
    /// By a weak tag, perhaps of FireFlow's form: a proxy changed the answer that had it.
    Weak(Option<StateTag>),
    /// By a tag that FireFlow never issued.
    Foreign,
}

/// One side of a condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Named {
    /// No condition.
    #[default]
    Nothing,
    /// `*`: every state.
    Any,
    /// The listed states.
    Listed(Vec<NamedState>),
}

/// The conditions of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// The state must be one of these (`If-Match`).
    pub one_of: Named,
    /// The state must be none of these (`If-None-Match` of a change).
    pub none_of: Named,
}

impl Expected {
    /// No condition.
    pub const ANYTHING: Self = Self { one_of: Named::Nothing, none_of: Named::Nothing };

    /// Checks a resource's state.
    ///
    /// # Errors
    /// Returns [`Error::RevisionMismatch`] if the resource has changed, [`Error::WeakTag`] or
    /// [`Error::UnknownTag`] if no tag can be compared with the state, and
    /// [`Error::StateExcluded`] if the condition excludes the state.
    pub fn check(&self, state: impl Into<CurrentState>) -> Result<()> {
        let state = state.into();
        let CurrentState { what, revision: current, .. } = state;
        self.one_of.check(state)?;
        let is_excluded = match &self.none_of {
            Named::Nothing => false,
            Named::Any => true,
            // Weak comparison, as RFC 9110 says for this header.
            Named::Listed(states) => states.iter().any(|named| match named {
                NamedState::Tagged(tag) | NamedState::Weak(Some(tag)) => tag.is(state),
                NamedState::Weak(None) | NamedState::Foreign => false,
            }),
        };
        if is_excluded { Err(Error::StateExcluded { what, current }) } else { Ok(()) }
    }
}

impl Named {
    /// Checks that a state is one of the named states. Every state passes if there is no condition.
    ///
    /// # Errors
    /// See [`Expected::check`].
    pub fn check(&self, state: CurrentState) -> Result<()> {
        let CurrentState { what, id, revision: current, .. } = state;
        let states = match self {
            Self::Nothing | Self::Any => return Ok(()),
            Self::Listed(states) => states,
        };
        let (mut is_own, mut is_weak) = (false, false);
        for named in states {
            match named {
                NamedState::Tagged(tag) if tag.is(state) => return Ok(()),
                NamedState::Tagged(tag) => is_own |= tag.is_of(what, id),
                NamedState::Weak(_) => is_weak = true,
                NamedState::Foreign => {}
            }
        }
        Err(match (is_own, is_weak) {
            (true, _) => Error::RevisionMismatch { what, current },
            (false, true) => Error::WeakTag { what },
            (false, false) => Error::UnknownTag { what },
        })
    }
}

/// Explains why a rule is not in an expected state, as a code and in words.
pub(super) fn why_not(error: &Error) -> (Option<ViolationCode>, String) {
    match error {
        Error::RevisionMismatch { current, .. } => {
            let detail =
                format!("the rule has changed since you read it: its revision is now {current}");
            (Some(ViolationCode::RevisionMismatch), detail)
        }
        Error::WeakTag { .. } => {
            let detail =
                "is a weak tag, which cannot be used for a change; use the `ETag` of the rule";
            (Some(ViolationCode::WeakTag), detail.to_owned())
        }
        Error::UnknownTag { .. } => {
            let detail = "is not a tag of this rule; use the `ETag` of a GET of the rule";
            (Some(ViolationCode::UnknownTag), detail.to_owned())
        }
        other => (None, other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Resource;
    use crate::ids::Revision;
    use crate::mark::Mark;

    const NOW: CurrentState =
        CurrentState { what: Resource::Rule, id: 3, mark: Mark::new(8), revision: Revision(2) };

    fn tag(id: i64, mark: u64) -> StateTag {
        StateTag::of(CurrentState { id, mark: Mark::new(mark), ..NOW })
    }

    fn if_match(states: &[NamedState]) -> Result<()> {
        let one_of = Named::Listed(states.to_vec());
        Expected { one_of, ..Expected::ANYTHING }.check(NOW)
    }

    #[test]
    fn a_condition_says_why_it_does_not_hold() {
        use NamedState::{Foreign, Tagged, Weak};
        assert!(Expected::ANYTHING.check(NOW).is_ok());
        assert!(if_match(&[Foreign, Tagged(tag(3, 7)), Tagged(tag(3, 8))]).is_ok());
        let moved = if_match(&[Foreign, Weak(None), Tagged(tag(3, 7))]);
        assert!(matches!(moved, Err(Error::RevisionMismatch { current: Revision(2), .. })));
        // A weak tag never matches, not even that of the state.
        assert!(matches!(if_match(&[Foreign, Weak(Some(tag(3, 8)))]), Err(Error::WeakTag { .. })));
        for unknown in [Foreign, Tagged(tag(4, 8))] {
            assert!(matches!(if_match(&[unknown]), Err(Error::UnknownTag { .. })));
        }
    }

    #[test]
    fn what_must_not_be_there_is_compared_weakly() {
        let unless = |none_of: Named| Expected { none_of, ..Expected::ANYTHING }.check(NOW);
        assert!(matches!(unless(Named::Any), Err(Error::StateExcluded { .. })));
        for named in [NamedState::Tagged(tag(3, 8)), NamedState::Weak(Some(tag(3, 8)))] {
            let refused = unless(Named::Listed(vec![NamedState::Foreign, named]));
            assert!(matches!(refused, Err(Error::StateExcluded { .. })));
        }
        let other = vec![NamedState::Foreign, NamedState::Tagged(tag(3, 7))];
        assert!(unless(Named::Listed(other)).is_ok());
    }
}

//! Entity tags and conditional requests (RFC 9110, sections 8.8.3 and 13).
//!
//! A tag is `"<state>.<shown>"`. `state` identifies the state of the resource by its random mark,
//! which each write replaces (`fireflow_domain::mark`). So a tag matches no other state, even after
//! a backup was restored or after a failover. `shown` is a hash of everything that the answer
//! shows. This includes what changes without a write of the resource (names of parents, states that
//! depend on the clock), and what the request selects (format, members, page). `If-None-Match`
//! compares the whole tag, `If-Match` only the state.

use std::fmt;

use fireflow_domain::error::{Error, FaultLocation, Violation};
use fireflow_domain::mark::{CurrentState, StateTag};
use fireflow_domain::store::ReadKind;
use fireflow_domain::usecase::{Expected, Named};
use fireflow_formats::entity_tags::{self, Tags};
use poem::http::header::{self, HeaderMap, HeaderName};
use poem::{FromRequest, Request, RequestBody};
use sha2::{Digest, Sha256};

use crate::problem::{Code, Problem, ProblemDetail};

/// A hash of the parts of an answer.
#[derive(Debug, Clone, Default)]
pub struct Shown(Sha256);

impl Shown {
    /// Adds a part.
    #[must_use]
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        // The length of each part is hashed too, so that different lists of parts cannot be
        // concatenated to the same bytes.
        self.0.update(part.len().to_be_bytes());
        self.0.update(part);
        self
    }
}

/// A strong entity tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityTag(String);

impl EntityTag {
    /// The tag of a state, for an answer with these parts.
    #[must_use]
    pub fn new(state: impl Into<CurrentState>, shown: Shown) -> Self {
        let digest: [u8; 32] = shown.0.finalize().into();
        // Half of the hash is enough to distinguish the answers for one state.
        let half = digest.first_chunk().copied().map(u128::from_be_bytes).unwrap_or_default();
        Self(format!("\"{}.{half:032x}\"", StateTag::of(state.into())))
    }

    /// The tag of the state after a change, for an answer that shows only the change. It is valid
    /// for `If-Match`, but matches no `If-None-Match` of a read.
    #[must_use]
    pub fn of_change(state: impl Into<CurrentState>) -> Self {
        Self::new(state, Shown::default().with("a change"))
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The conditions of a request, or the fault of their headers.
#[derive(Debug, Clone)]
pub struct Conditions(Result<Preconditions, Violation>);

impl Conditions {
    /// Returns the conditions.
    ///
    /// # Errors
    /// Returns 400 if a header is not a list of entity tags.
    pub fn read(self) -> Result<Preconditions, Problem> {
        self.0.map_err(|violation| {
            let detail = violation.to_string();
            let parameter = match violation.place {
                FaultLocation::Header(name) => Some(name),
                FaultLocation::Body(_) | FaultLocation::Query(_) => None,
            };
            let fault = ProblemDetail { parameter, ..ProblemDetail::new(violation.detail) };
            Problem { faults: vec![fault], ..Problem::new(Code::MalformedRequest, detail) }
        })
    }
}

impl<'a> FromRequest<'a> for Conditions {
    async fn from_request(request: &'a Request, _body: &mut RequestBody) -> poem::Result<Self> {
        Ok(Self(Preconditions::of(request.headers())))
    }
}

/// The parsed conditions of a request.
#[derive(Debug, Clone, Default)]
pub struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

impl Preconditions {
    fn of(headers: &HeaderMap) -> Result<Self, Violation> {
        let read = |name: HeaderName, shown: &'static str| {
            let lines = headers.get_all(name).iter().map(|line| line.as_bytes());
            entity_tags::read(lines).map_err(|detail| Violation::header(shown, detail))
        };
        Ok(Self {
            if_match: read(header::IF_MATCH, "If-Match")?,
            if_none_match: read(header::IF_NONE_MATCH, "If-None-Match")?,
        })
    }

    /// The requirements on the state before a change.
    #[must_use]
    pub fn expected(&self) -> Expected {
        let named = |tags: &Option<Tags>| tags.as_ref().map_or(Named::Nothing, Tags::named);
        Expected { one_of: named(&self.if_match), none_of: named(&self.if_none_match) }
    }

    /// How a list or a page of it is read. A conditional request compares states, so it needs the
    /// newest data and never uses a replica.
    #[must_use]
    pub const fn list_mode(&self, is_whole: bool) -> ReadKind {
        let is_conditional = self.if_match.is_some() || self.if_none_match.is_some();
        match (is_conditional, is_whole) {
            (false, false) => ReadKind::Page,
            (true, false) => ReadKind::FreshPage,
            (false, true) => ReadKind::Export,
            (true, true) => ReadKind::FreshExport,
        }
    }

    /// Checks the `If-Match` of a read.
    ///
    /// # Errors
    /// Returns the error of `If-Match` if it does not hold.
    pub fn check(&self, state: impl Into<CurrentState>) -> Result<(), Error> {
        self.if_match.as_ref().map_or(Ok(()), |tags| tags.named().check(state.into()))
    }

    /// Whether `If-None-Match` contains the tag of the answer, which is then `304`.
    #[must_use]
    pub fn knows(&self, tag: &EntityTag) -> bool {
        self.if_none_match.as_ref().is_some_and(|tags| tags.has(&tag.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fireflow_domain::error::Resource;
    use fireflow_domain::ids::Revision;
    use fireflow_domain::mark::Mark;

    const STATE: CurrentState = CurrentState {
        what: Resource::Policy,
        id: 4,
        mark: Mark::new(0xfe),
        revision: Revision(9),
    };

    fn known(headers: &[(HeaderName, &str)]) -> Preconditions {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().unwrap());
        }
        Preconditions::of(&map).unwrap()
    }

    #[test]
    fn if_match_compares_the_state_alone() {
        let tag = EntityTag::new(STATE, Shown::default().with("one")).to_string();
        let other = EntityTag::new(STATE, Shown::default().with("other")).to_string();
        assert_ne!(tag, other);
        // The suffix that Apache adds to a tag when it compresses an answer.
        let suffixed = format!("\"{}-gzip\"", tag.trim_matches('"'));
        for value in ["*", &tag, &other, &suffixed, &format!("\"7777\", {tag}")] {
            let known = known(&[(header::IF_MATCH, value)]);
            assert!(known.expected().check(STATE).is_ok(), "{value}");
            assert!(known.check(STATE).is_ok(), "{value}");
        }
        let moved = CurrentState { mark: Mark::new(0xff), ..STATE };
        let refused = known(&[(header::IF_MATCH, &tag)]).check(moved);
        assert!(matches!(refused, Err(Error::RevisionMismatch { .. })));
        let refused = known(&[(header::IF_MATCH, &format!("W/{tag}"))]).check(STATE);
        assert!(matches!(refused, Err(Error::WeakTag { .. })));
        for foreign in ["\"9\"", "\"\"", "\"9.1\"", "\"00000000000000fe00000000.0\""] {
            let refused = known(&[(header::IF_MATCH, foreign)]).check(STATE);
            assert!(matches!(refused, Err(Error::UnknownTag { .. })), "{foreign}");
        }
    }

    #[test]
    fn if_none_match_compares_all_of_a_tag() {
        let tag = EntityTag::new(STATE, Shown::default().with("one"));
        let other = EntityTag::new(STATE, Shown::default().with("other")).to_string();
        let knows = |value: &str| known(&[(header::IF_NONE_MATCH, value)]).knows(&tag);
        assert!(knows(&tag.to_string()));
        assert!(knows(&format!("\"6\", W/{tag}")), "weakly");
        assert!(knows("*"));
        assert!(!knows(&other));
        assert!(!knows("\"7\""));
    }

    #[test]
    fn parts_do_not_run_together() {
        let tag = |parts: &[&str]| {
            let shown = parts.iter().fold(Shown::default(), |shown, part| shown.with(part));
            EntityTag::new(STATE, shown)
        };
        assert_ne!(tag(&["ab", "c"]), tag(&["a", "bc"]));
        assert_ne!(tag(&["a", ""]), tag(&["a"]));
    }
}

//! The one error of the domain, and its parts.
//!
//! Nothing here knows HTTP: the web crate turns an [`Error`] into a status in one place. The
//! variants carry the messages for clients; details for the log only are the `source` of an error.

use std::borrow::Cow;
use std::fmt;

use crate::ids::{PolicyId, Revision};
use crate::time::MICROS_PER_SECOND;

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Any error that can be the source of an internal error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The most violations that one answer lists; the others are only counted.
pub const MAX_VIOLATIONS: usize = 100;

/// The part of a request that a [`Violation`] is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FaultLocation {
    /// A JSON pointer (RFC 6901) into the body: `/sources/0/address`; empty for the whole body.
    Body(String),
    /// A query parameter, by its name.
    Query(String),
    /// A header, by its name.
    Header(String),
}

/// The kind of a [`Violation`] that programs react to. Violations without a code only mean that a
/// value is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViolationCode {
    /// Another resource has the name.
    NameTaken,
    /// Another rule has the same content.
    EqualRule,
    /// The resource has changed since it was read.
    RevisionMismatch,
    /// The condition names a weak tag, which cannot be compared with a state.
    WeakTag,
    /// The condition names no state that the resource ever had.
    UnknownTag,
    /// The resource does not exist.
    NotFound,
}

impl ViolationCode {
    /// The word that answers have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NameTaken => "name_taken",
            Self::EqualRule => "equal_rule",
            Self::RevisionMismatch => "revision_mismatch",
            Self::WeakTag => "weak_tag",
            Self::UnknownTag => "unknown_tag",
            Self::NotFound => "not_found",
        }
    }
}

/// What a part of a request conflicts with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rival {
    /// Another part of the same body, by its JSON pointer.
    Body(String),
    /// A stored resource, by its id.
    Stored(i64),
}

/// One fault of a request: its place, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Violation {
    /// The part of the request.
    pub place: FaultLocation,
    /// What is wrong and what would be right: lower case, no full stop.
    pub detail: String,
    /// Its kind, if programs react to it.
    pub code: Option<ViolationCode>,
    /// What this part conflicts with, if it is a conflict.
    pub rival: Option<Rival>,
}

impl Violation {
    /// A violation at a JSON pointer of the body.
    pub fn body(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            place: FaultLocation::Body(pointer.into()),
            detail: detail.into(),
            code: None,
            rival: None,
        }
    }

    /// A violation in a query parameter.
    pub fn query(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            place: FaultLocation::Query(name.into()),
            detail: detail.into(),
            code: None,
            rival: None,
        }
    }

    /// A violation in a header.
    pub fn header(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            place: FaultLocation::Header(name.into()),
            detail: detail.into(),
            code: None,
            rival: None,
        }
    }

    /// The same violation, with a code that programs react to.
    #[must_use]
    pub fn coded(self, code: ViolationCode) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The same violation, as a conflict with something else.
    #[must_use]
    pub fn against(self, rival: Rival) -> Self {
        Self { rival: Some(rival), ..self }
    }

    /// The same violation below another pointer; query and header violations stay as they are.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        if let FaultLocation::Body(pointer) = &mut self.place {
            pointer.insert_str(0, prefix);
            if let Some(Rival::Body(other)) = &mut self.rival {
                other.insert_str(0, prefix);
            }
        }
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            FaultLocation::Body(pointer) => write!(f, "#{pointer}: {}", self.detail),
            FaultLocation::Query(name) | FaultLocation::Header(name) => {
                write!(f, "{name}: {}", self.detail)
            }
        }
    }
}

/// A collection of violations. It keeps a bounded number of them, but its count is exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations {
    items: Vec<Violation>,
    omitted: usize,
    /// The most that it keeps.
    room: usize,
}

impl Default for Violations {
    fn default() -> Self {
        Self { items: Vec::new(), omitted: 0, room: MAX_VIOLATIONS }
    }
}

impl Violations {
    /// An empty collection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty collection for a part whose violations are added to these afterwards. It keeps only
    /// as many as still fit in this collection. The others are counted, without making their texts.
    #[must_use]
    pub fn nested(&self) -> Self {
        Self { room: self.room.saturating_sub(self.items.len()), ..Self::default() }
    }

    /// Whether the next violation is kept instead of only counted.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.items.len() < self.room
    }

    /// Adds a violation; beyond [`MAX_VIOLATIONS`] it is only counted.
    pub fn push(&mut self, violation: Violation) {
        self.note(|| violation);
    }

    /// Adds a violation that is only made if it is kept. The input decides how many there are, and
    /// making a text, a pointer or a hint for each costs more than finding the fault.
    pub fn note(&mut self, make: impl FnOnce() -> Violation) {
        if self.has_room() {
            self.items.push(make());
        } else {
            self.omitted += 1;
        }
    }

    /// Counts violations that nobody will see, without making them.
    pub fn count(&mut self, more: usize) {
        self.omitted += more;
    }

    /// Adds all of another collection.
    pub fn extend(&mut self, other: Self) {
        self.omitted += other.omitted;
        for violation in other.items {
            self.push(violation);
        }
    }

    /// Adds all of another collection, below a pointer.
    pub fn extend_below(&mut self, prefix: &str, other: Self) {
        self.omitted += other.omitted;
        for violation in other.items {
            self.push(violation.below(prefix));
        }
    }

    /// The same violations, with words before each detail.
    #[must_use]
    pub fn prefixed(mut self, words: &str) -> Self {
        for violation in &mut self.items {
            violation.detail.insert_str(0, words);
        }
        self
    }

    /// Whether there are no violations, kept or counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.omitted == 0
    }

    /// The kept violations, in the order in which they were found.
    #[must_use]
    pub fn items(&self) -> &[Violation] {
        &self.items
    }

    /// How many more there are than [`Self::items`] holds.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// Returns `Ok(value)` if there are no violations.
    ///
    /// # Errors
    /// Returns the violations if there are any.
    pub fn into_result<T>(self, value: impl FnOnce() -> T) -> std::result::Result<T, Self> {
        if self.is_empty() { Ok(value()) } else { Err(self) }
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self { items: vec![violation], ..Self::default() }
    }
}

/// The kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Resource {
    /// A firewall.
    Firewall,
    /// A filtering policy.
    Policy,
    /// A rule.
    Rule,
}

impl Resource {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Firewall, Self::Policy, Self::Rule];
    /// Their words.
    pub const WORDS: [&'static str; 3] = ["firewall", "filtering_policy", "firewall_rule"];

    /// The word for it in the audit trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Policy => "filtering_policy",
            Self::Rule => "firewall_rule",
        }
    }

    /// Reads the word; none if it names no kind.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The words for it in a sentence.
    #[must_use]
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Firewall => "firewall",
            Self::Policy => "filtering policy",
            Self::Rule => "firewall rule",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}

/// Why a resource could not be created or changed: it conflicts with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// A live resource has this name.
    NameTaken {
        /// The kind of that resource.
        what: Resource,
        /// The name.
        name: String,
        /// The id of that resource.
        holder: i64,
    },
    /// A live rule of the policy is equivalent.
    EqualRule {
        /// The id of that rule.
        holder: i64,
        /// Its state, unless it is `active`: a disabled or expired twin is easily overlooked.
        inactive: Option<crate::rule::RuleState>,
    },
}

/// Why a storage serves no requests, or no writes. All but [`Outage::Away`] last until an operator
/// acts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outage {
    /// It is unreachable or overloaded, which may pass by itself.
    Away,
    /// It accepts no writes: its file or its server is read-only.
    ReadOnly,
    /// Its disk or its quota is full.
    Full,
    /// Migrations of this version are not applied.
    NotMigrated,
    /// The stored data is damaged.
    Damaged,
    /// The service's account lacks a permission that it needs.
    Denied,
}

/// The error of a use case. It is matched exhaustively wherever it is translated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is understood but not valid. Lists all its violations at once.
    #[error("the request is not valid")]
    Invalid(Violations),
    /// The resource does not exist, or is not visible to the caller.
    #[error("no such {what}")]
    NotFound {
        /// The kind of the resource.
        what: Resource,
        /// Its id as it was written in the path.
        id: String,
    },
    /// A conflicting resource already exists.
    #[error("it already exists")]
    AlreadyExists(Conflict),
    /// The resource has changed since the client read it.
    #[error("the {what} has changed")]
    RevisionMismatch {
        /// The kind of the resource.
        what: Resource,
        /// Its current revision.
        current: Revision,
    },
    /// The condition names only weak tags, which cannot be compared with a state.
    #[error("a weak tag of the {what}")]
    WeakTag {
        /// The kind of the resource.
        what: Resource,
    },
    /// The condition names no state that the resource is known to have had.
    #[error("no tag of the {what}")]
    UnknownTag {
        /// The kind of the resource.
        what: Resource,
    },
    /// The condition excludes the state that the resource has.
    #[error("the {what} is in a state that it must not be in")]
    StateExcluded {
        /// The kind of the resource.
        what: Resource,
        /// Its current revision.
        current: Revision,
    },
    /// A rule set would delete more rules than it may unless the request allows the number.
    #[error("{count} of {total} rules would be deleted")]
    DeletionCountRequired {
        /// How many rules would be deleted.
        count: u64,
        /// How many rules the policy has.
        total: u64,
        /// The first rules that would be deleted: each a name, or `id=7` if it has none.
        first: Vec<String>,
    },
    /// The caller lacks the role.
    #[error("this requires the role {needs}")]
    Forbidden {
        /// The lowest role that would suffice.
        needs: crate::actor::Role,
    },
    /// The answer or the stored data would exceed a limit.
    #[error("{what} is limited to {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit, in the unit that `what` names.
        limit: u64,
        /// What to do instead.
        hint: Cow<'static, str>,
    },
    /// The list takes longer to compute than is allowed.
    #[error("the list takes too long to compute")]
    TooExpensive(#[source] BoxError),
    /// A newer version wrote rules of the policy that this one cannot read.
    #[error("filtering policy {policy} has rules that this version cannot read")]
    NewerPolicy {
        /// The policy.
        policy: PolicyId,
    },
    /// The storage cannot serve the request now; a later retry may work.
    #[error("the storage is not available")]
    Unavailable {
        /// The reason.
        outage: Outage,
        /// The time to wait before a retry, in microseconds.
        retry_after_micros: i64,
        /// The cause, only for the log.
        #[source]
        source: BoxError,
    },
    /// The storage failed during a commit, so the change may or may not be saved.
    #[error("it is unknown whether the change was saved")]
    Unsettled(#[source] BoxError),
    /// A defect. The client sees only the request's id.
    #[error("internal error")]
    Internal(#[source] BoxError),
}

impl Error {
    /// The same error for a request that is not for a list: [`Error::TooExpensive`] becomes
    /// [`Error::Unavailable`]. Such a request has no filter to narrow, and its statement may have
    /// waited for others.
    #[must_use]
    pub fn unless_list(self) -> Self {
        match self {
            Self::TooExpensive(source) => StoreError::Unavailable(source).into(),
            other => other,
        }
    }

    /// One violation as an error.
    #[must_use]
    pub fn invalid(violation: Violation) -> Self {
        Self::Invalid(violation.into())
    }

    /// A missing resource, by its id.
    pub fn not_found(what: Resource, id: impl fmt::Display) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations)
    }
}

/// The error of a storage. A missing row is never an error here.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It is unreachable, busy beyond its time limit, or gave up on a conflict.
    #[error("the storage is not available")]
    Unavailable(#[source] BoxError),
    /// It serves no requests, or no writes, until an operator acts.
    #[error("the storage refused the operation")]
    Refused(Outage, #[source] BoxError),
    /// A statement took longer than its limit.
    #[error("the storage stopped a statement that took too long")]
    TooExpensive(#[source] BoxError),
    /// It failed during a commit.
    #[error("the storage did not report whether the change was saved")]
    Unsettled(#[source] BoxError),
    /// It was used wrongly, or its data breaks an invariant.
    #[error("the storage failed")]
    Failed(#[source] BoxError),
}

/// The retry delay for a storage that waits for an operator, in seconds.
const REFUSED_RETRY_S: i64 = 10;

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(source) => {
                let (outage, retry_after_micros) = (Outage::Away, MICROS_PER_SECOND);
                Self::Unavailable { outage, retry_after_micros, source }
            }
            StoreError::Refused(outage, source) => {
                let retry_after_micros = REFUSED_RETRY_S * MICROS_PER_SECOND;
                Self::Unavailable { outage, retry_after_micros, source }
            }
            StoreError::TooExpensive(source) => Self::TooExpensive(source),
            StoreError::Unsettled(source) => Self::Unsettled(source),
            StoreError::Failed(source) => Self::Internal(source),
        }
    }
}

/// Prints an error with all its sources, for the log.
#[derive(Debug, Clone, Copy)]
pub struct ErrorChain<'a>(pub &'a (dyn std::error::Error + 'static));

impl fmt::Display for ErrorChain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

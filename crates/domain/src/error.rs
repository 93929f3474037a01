//! The one error of the domain, and its parts.
//!
//! Nothing here knows HTTP: the web crate turns an [`Error`] into a status in one place. Messages
//! for clients stand in the variants; what only the log may see is the `source` of an error.

use std::borrow::Cow;
use std::fmt;

use crate::ids::{PolicyId, Revision};
use crate::time::MICROS_PER_SECOND;

/// The result of a use case.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can lie behind an internal error.
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The most violations that one answer lists; the rest is counted only.
pub const MAX_VIOLATIONS: usize = 100;

/// Where in a request a [`Violation`] lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A JSON pointer (RFC 6901) into the body: `/sources/0/address`; empty for the whole body.
    Body(String),
    /// A query parameter, by its name.
    Query(String),
    /// A header, by its name.
    Header(String),
}

/// Which kind of fault a [`Violation`] is, if it is one that programs react to. The others say only
/// that a value is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ViolationCode {
    /// Another resource has the name.
    NameTaken,
    /// Another rule has the same content.
    EqualRule,
    /// The resource has changed since it was read.
    RevisionMismatch,
    /// The condition names a weak tag, which is compared with no state.
    WeakTag,
    /// The condition names no state that the resource ever had.
    UnknownTag,
    /// There is no such resource.
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

/// One thing that is wrong with a request: where it is, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Violation {
    /// Where it is.
    pub place: Place,
    /// What is wrong and what would be right: lower case, no full stop.
    pub detail: String,
    /// Which kind of fault it is, if programs react to it.
    pub code: Option<ViolationCode>,
    /// The other one, if two things conflict.
    pub rival: Option<Rival>,
}

impl Violation {
    /// A violation at a JSON pointer of the body.
    pub fn body(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: Place::Body(pointer.into()), detail: detail.into(), code: None, rival: None }
    }

    /// A violation in a query parameter.
    pub fn query(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: Place::Query(name.into()), detail: detail.into(), code: None, rival: None }
    }

    /// A violation in a header.
    pub fn header(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { place: Place::Header(name.into()), detail: detail.into(), code: None, rival: None }
    }

    /// The same violation, of a kind that programs react to.
    #[must_use]
    pub fn coded(self, code: ViolationCode) -> Self {
        Self { code: Some(code), ..self }
    }

    /// The same violation, of two things that conflict.
    #[must_use]
    pub fn against(self, rival: Rival) -> Self {
        Self { rival: Some(rival), ..self }
    }

    /// The same violation below another pointer; query and header violations stay as they are.
    #[must_use]
    pub fn below(mut self, prefix: &str) -> Self {
        if let Place::Body(pointer) = &mut self.place {
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
            Place::Body(pointer) => write!(f, "#{pointer}: {}", self.detail),
            Place::Query(name) | Place::Header(name) => write!(f, "{name}: {}", self.detail),
        }
    }
}

/// Violations as they are collected: bounded in what they keep, exact in their count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violations {
    items: Vec<Violation>,
    omitted: usize,
    /// How many it keeps at most.
    room: usize,
}

impl Default for Violations {
    fn default() -> Self {
        Self { items: Vec::new(), omitted: 0, room: MAX_VIOLATIONS }
    }
}

impl Violations {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// None yet, and no more than still fit in this collection: for a part whose violations are
    /// added to these afterwards. Beyond that they are counted, and no text is made of them.
    #[must_use]
    pub fn nested(&self) -> Self {
        Self { room: self.room.saturating_sub(self.items.len()), ..Self::default() }
    }

    /// Whether the next one is kept, not counted only.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.items.len() < self.room
    }

    /// Adds one; beyond [`MAX_VIOLATIONS`] it is counted only.
    pub fn push(&mut self, violation: Violation) {
        self.note(|| violation);
    }

    /// Adds one that is only made if it is kept. Input decides how many there are, and making a
    /// text, a pointer or a hint for each costs more than reading what is wrong.
    pub fn note(&mut self, make: impl FnOnce() -> Violation) {
        if self.has_room() {
            self.items.push(make());
        } else {
            self.omitted += 1;
        }
    }

    /// Counts some that nobody will see, without making them.
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

    /// The same, each detail with words before it.
    #[must_use]
    pub fn prefixed(mut self, words: &str) -> Self {
        for violation in &mut self.items {
            violation.detail.insert_str(0, words);
        }
        self
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty() && self.omitted == 0
    }

    /// Those that were kept, in the order in which they were found.
    #[must_use]
    pub fn items(&self) -> &[Violation] {
        &self.items
    }

    /// How many more there are than [`Self::items`] holds.
    #[must_use]
    pub fn omitted(&self) -> usize {
        self.omitted
    }

    /// `Ok(value)` where there is none.
    ///
    /// # Errors
    /// The violations themselves, where there are any.
    pub fn into_result<T>(self, value: impl FnOnce() -> T) -> std::result::Result<T, Self> {
        if self.is_empty() { Ok(value()) } else { Err(self) }
    }
}

impl From<Violation> for Violations {
    fn from(violation: Violation) -> Self {
        Self { items: vec![violation], ..Self::default() }
    }
}

/// The kinds of things that FireFlow keeps.
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

    /// Reads the word; none where it is no kind.
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

/// Why something could not be created or changed: it is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Conflict {
    /// A live resource has this name.
    NameTaken {
        /// What has it.
        what: Resource,
        /// The name.
        name: String,
        /// Its holder.
        holder: i64,
    },
    /// A live rule of the policy is equal.
    EqualRule {
        /// The rule that is there.
        holder: i64,
        /// Its state, where that is not `active`: a disabled or expired twin is easily overlooked.
        inactive: Option<crate::rule::RuleState>,
    },
}

/// Why a storage serves nothing, or no writes, until somebody does something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outage {
    /// It is away, or overloaded: that may pass by itself.
    Away,
    /// It takes no writes: its file or its server is read-only.
    ReadOnly,
    /// Its disk, or its quota, is full.
    Full,
    /// Migrations of this version are not applied.
    NotMigrated,
    /// What is stored is damaged.
    Damaged,
    /// The service's account may not do what it must.
    Denied,
}

/// What can go wrong in a use case. Matched exhaustively wherever it is translated.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Understood, but not valid: all that is wrong, at once.
    #[error("the request is not valid")]
    Invalid(Violations),
    /// No such live, visible resource.
    #[error("no such {what}")]
    NotFound {
        /// What was asked for.
        what: Resource,
        /// Its id as it was written in the path.
        id: String,
    },
    /// It is there already.
    #[error("it already exists")]
    AlreadyExists(Conflict),
    /// Somebody else was first.
    #[error("the {what} has changed")]
    RevisionMismatch {
        /// What has changed.
        what: Resource,
        /// Its revision now.
        current: Revision,
    },
    /// The condition names weak tags alone, which are compared with no state.
    #[error("a weak tag of the {what}")]
    WeakTag {
        /// What was to be changed.
        what: Resource,
    },
    /// The condition names no state that the resource ever had, as far as can be told.
    #[error("no tag of the {what}")]
    UnknownTag {
        /// What was to be changed.
        what: Resource,
    },
    /// The condition excludes the state that the resource has.
    #[error("the {what} is in a state that it must not be in")]
    StateExcluded {
        /// What was to be changed.
        what: Resource,
        /// Its revision now.
        current: Revision,
    },
    /// A rule set would delete more rules than it may without saying how many.
    #[error("{count} of {total} rules would be deleted")]
    DeletionCountRequired {
        /// How many rules would be deleted.
        count: u64,
        /// Of how many.
        total: u64,
        /// What the first of them are called: a name, or `id=7` where there is none.
        first: Vec<String>,
    },
    /// The caller's roles do not suffice.
    #[error("this requires the role {needs}")]
    Forbidden {
        /// The smallest role that would.
        needs: crate::actor::Role,
    },
    /// More than can be answered or kept.
    #[error("{what} is limited to {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit, in the unit that `what` names.
        limit: u64,
        /// What to do instead.
        hint: Cow<'static, str>,
    },
    /// It takes longer to find than is allowed.
    #[error("the list takes too long to compute")]
    TooExpensive(#[source] BoxError),
    /// A newer version wrote rules of the policy that this one cannot read.
    #[error("filtering policy {policy} has rules that this version cannot read")]
    NewerPolicy {
        /// The policy.
        policy: PolicyId,
    },
    /// The storage is away or overloaded; trying again later may work.
    #[error("the storage is not available")]
    Unavailable {
        /// What is wrong with it.
        outage: Outage,
        /// When to try again, in microseconds.
        retry_after_micros: i64,
        /// Why, for the log alone.
        #[source]
        source: BoxError,
    },
    /// The storage went away while a change was being made to last: it may have, or not.
    #[error("it is unknown whether the change was saved")]
    Unsettled(#[source] BoxError),
    /// A defect. The client sees nothing of it but the request's id.
    #[error("internal error")]
    Internal(#[source] BoxError),
}

impl Error {
    /// The same if it was no list that was asked for: there is no filter to narrow, and what took
    /// too long may have waited for others.
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

/// What a storage says when it fails; absence is never an error there.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached, is busy beyond its time limit, or gave up a conflict.
    #[error("the storage is not available")]
    Unavailable(#[source] BoxError),
    /// It serves nothing, or no writes, until somebody does something about it.
    #[error("the storage refused the operation")]
    Refused(Outage, #[source] BoxError),
    /// A statement took longer than its limit.
    #[error("the storage stopped a statement that took too long")]
    TooExpensive(#[source] BoxError),
    /// It went away while a change was being made to last.
    #[error("the storage did not report whether the change was saved")]
    Unsettled(#[source] BoxError),
    /// It was used wrongly, or holds what it must not hold.
    #[error("the storage failed")]
    Failed(#[source] BoxError),
}

/// When to ask a storage again that waits for somebody, in seconds.
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

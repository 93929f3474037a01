//! The row of an operation: what is stated once about it, next to its method in `api`. The
//! description, the memory for bodies and the tests that walk all operations follow from the rows.

use fireflow_domain::actor::Role;
use fireflow_service::budget::Use;

use crate::params::{self, Param};

/// Headers of an answer, each with its description.
pub type Headers = &'static [(&'static str, &'static str)];

/// Who may call an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everyone, without a token.
    Open,
    /// Everyone who has a token.
    AnyRole,
    /// Those who have this role. The first argument of the method enforces it.
    With(Role),
}

/// What an operation does to what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: it reads or inspects.
    Reads,
    /// It creates a resource, whose path is below that of the operation.
    Creates,
    /// It changes resources that may exist already.
    Changes,
    /// It deletes a resource.
    Deletes,
}

/// The row of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    /// The name in the description.
    pub id: &'static str,
    /// What it does.
    pub effect: Effect,
    /// Who may call it.
    pub access: Access,
    /// Its query parameters in three parts: those of lists come first and last.
    parameters: [&'static [Param]; 3],
    /// Whether it takes `If-Match`, and `If-None-Match` if it reads.
    pub is_conditional: bool,
    /// What the memory for its body is borrowed for, which decides how long the body may be.
    pub body: Use,
    /// The statuses of its errors that do not follow from the rest.
    pub statuses: &'static [u16],
    /// The headers of success that the kind of its answer does not have.
    pub headers: Headers,
}

impl Operation {
    const fn new(id: &'static str, effect: Effect, role: Role) -> Self {
        Self {
            id,
            effect,
            access: Access::With(role),
            parameters: [&[]; 3],
            is_conditional: false,
            body: Use::Body,
            statuses: &[],
            headers: &[],
        }
    }

    /// An operation that changes nothing, for viewers.
    pub const fn reads(id: &'static str) -> Self {
        Self::new(id, Effect::Reads, Role::Viewer)
    }

    /// An operation that creates a resource, for editors. Its name can be taken.
    pub const fn creates(id: &'static str) -> Self {
        Self::new(id, Effect::Creates, Role::Editor).may_answer(&[409])
    }

    /// An operation that changes resources, for editors.
    pub const fn changes(id: &'static str) -> Self {
        Self::new(id, Effect::Changes, Role::Editor)
    }

    /// An operation that deletes a resource, for editors.
    pub const fn deletes(id: &'static str) -> Self {
        Self::new(id, Effect::Deletes, Role::Editor)
    }

    /// Who may call it.
    pub const fn open_to(self, access: Access) -> Self {
        Self { access, ..self }
    }

    /// Its query parameters.
    pub const fn takes(self, parameters: &'static [Param]) -> Self {
        Self { parameters: [&[], parameters, &[]], ..self }
    }

    /// It takes these query parameters too, the last in the description.
    pub const fn and(self, last: &'static [Param]) -> Self {
        let [first, parameters, _] = self.parameters;
        Self { parameters: [first, parameters, last], ..self }
    }

    /// Its query parameters between those that select a page.
    pub const fn lists(self, parameters: &'static [Param], last: &'static [Param]) -> Self {
        Self { parameters: [params::PAGE, parameters, last], ..self }
    }

    /// It takes conditions.
    pub const fn conditional(self) -> Self {
        Self { is_conditional: true, ..self }
    }

    /// Its body can be a whole rule set.
    pub const fn with_rule_set(self) -> Self {
        Self { body: Use::RuleSet, ..self }
    }

    /// The statuses of its errors that do not follow from the rest.
    pub const fn may_answer(self, statuses: &'static [u16]) -> Self {
        Self { statuses, ..self }
    }

    /// The headers of success that the kind of its answer does not have.
    pub const fn with_headers(self, headers: Headers) -> Self {
        Self { headers, ..self }
    }

    /// Its query parameters.
    pub fn parameters(&self) -> impl Iterator<Item = &'static Param> + Clone + use<> {
        self.parameters.into_iter().flatten()
    }

    /// Whether it writes.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.effect != Effect::Reads
    }
}

/// Finds the row of an operation by its id.
pub type FindRow = fn(&str) -> Option<&'static Operation>;

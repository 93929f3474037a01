//! Read-only members in the changes of a batch.

use std::collections::HashMap;

use crate::error::{Error, Result, Violations};
use crate::ids::RuleId;
use crate::read_only::Repeated;
use crate::rule::Rule;
use crate::rule::order::RulePlace;
use crate::time::Instant;

use super::batch::Operation;
use super::read_only;

/// Compares the read-only members that the changes of a batch repeat with their values before the
/// batch.
pub(super) struct RepeatedCheck {
    now: Instant,
    /// The positions of all rules, if some change repeats a position.
    positions: HashMap<RuleId, u64>,
    /// The error for a change that repeats an older revision than its rule has: it was based on an
    /// older state.
    stale: Option<Error>,
}

impl RepeatedCheck {
    /// `order` is the order of the rules before the batch.
    pub(super) fn new(operations: &[Operation], order: &[RulePlace], now: Instant) -> Self {
        let names_position = |operation: &Operation| match operation {
            Operation::Update { patch, .. } => patch.repeated.names_position(),
            Operation::Create { .. }
            | Operation::Delete { .. }
            | Operation::Move { .. }
            | Operation::Restore { .. } => false,
        };
        let positions = match operations.iter().any(names_position) {
            true => order.iter().map(|(id, _)| *id).zip(1..).collect(),
            false => HashMap::new(),
        };
        Self { now, positions, stale: None }
    }

    /// Notes the violations in the members that the change with this index repeats.
    pub(super) fn check(
        &mut self,
        index: usize,
        before: &Rule,
        repeated: &Repeated,
        violations: &mut Violations,
    ) {
        let at = format!("/operations/{index}/patch");
        let position = self.positions.get(&before.id).copied();
        if let Err(stale) =
            read_only::check_rule(repeated, &at, before, position, self.now, violations)
        {
            self.stale = self.stale.take().or(Some(stale));
        }
    }

    /// # Errors
    /// Returns [`Error::RevisionMismatch`] if a change was based on an older state.
    pub(super) fn finish(self) -> Result<()> {
        self.stale.map_or(Ok(()), Err)
    }
}

//! Rules: their content, when they are active, and which of their parts can have no effect.

mod action;
mod changes;
mod check;
pub mod fingerprint;
mod left_out;
mod model;
pub mod order;
mod state;
mod warning;

pub use action::Action;
pub use changes::{Duplicates, RuleChanges};
pub use left_out::LeftOut;
pub(crate) use model::{Criteria, Outcome, Schedule};
pub use model::{
    Endpoint, MAX_ENDPOINTS, MAX_PORTS, MAX_PROTOCOLS, Rule, RuleParts, RulePatch, RuleSpec,
};
pub use state::RuleState;
pub use warning::{Warning, WarningCode};

//! Rules: their content, when they are active, and which of their parts can have no effect.

mod check;
pub mod fingerprint;
mod left_out;
mod model;
pub mod order;

pub use left_out::LeftOut;
pub use model::{
    Action, Endpoint, MAX_ENDPOINTS, MAX_PORTS, MAX_PROTOCOLS, Rule, RuleParts, RulePatch,
    RuleSpec, RuleState, Warning, WarningCode,
};
pub(crate) use model::{Criteria, Schedule};

//! What happens to a packet: one meaning of "matches", and whoever answers by it.
//!
//! [`naive`] is the definition; everything faster is tested against it: [`classifier`]. [`Evaluator`]
//! is whichever of the two the budget allows.

pub mod classifier;
pub mod compiled;
mod evaluator;
pub mod naive;

pub use evaluator::{Evaluator, Limits};

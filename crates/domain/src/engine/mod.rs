//! The evaluation of packets: one definition of "matches", and the engines that implement it.
//!
//! [`naive`] is the definition. Every faster engine is tested against it: [`classifier`].

pub mod classifier;
pub mod compact;
pub mod compiled;
mod evaluator;
pub mod naive;
pub mod port_map;

pub use evaluator::{Evaluator, Limits};

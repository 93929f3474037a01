//! The evaluation of packets: one definition of "matches", and the engines that implement it.
//!
//! [`naive`] is the definition. Every faster engine is tested against it: [`classifier`].

pub mod classifier;
pub mod compiled;
pub mod naive;

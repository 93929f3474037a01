//! What happens to a packet: one meaning of "matches", and whoever answers by it.
//!
//! [`naive`] is the definition; everything faster is tested against it: [`classifier`].

pub mod classifier;
pub mod compiled;
pub mod naive;

//! Data for tests and measurements, made of seeds: the same seed gives the same data everywhere.

pub mod random;
pub mod rule_sets;

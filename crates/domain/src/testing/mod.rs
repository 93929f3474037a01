//! Support for tests, fuzzing and measurements: data that is generated from seeds, and properties
//! that hold for any text. The same seed gives the same data everywhere.

pub mod adversarial;
pub mod analysis_families;
pub mod corpus;
pub mod cuboid_sets;
pub mod fuzz;
pub mod random;
pub mod rule_sets;
pub mod rules;
pub mod unchecked;
pub mod verdicts;

//! For tests, fuzzing and measurements: data that is made of seeds (the same seed gives the same data
//! everywhere), and what holds for any text.

pub mod box_sets;
pub mod corpus;
pub mod fuzz;
pub mod random;
pub mod rule_sets;
pub mod rules;

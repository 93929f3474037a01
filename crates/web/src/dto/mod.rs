//! The wire format: request bodies. The views of answers are in the formats crate, because files
//! have the same ones.

pub mod acceptance;
pub mod analysis;
pub mod batch;
pub mod body;
pub mod firewall;
pub mod inspection;
pub mod lines;
pub mod order;
pub mod policy;
pub mod restore;
pub mod rule;
pub mod rule_set;
pub mod schema;

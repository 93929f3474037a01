//! The wire format: request bodies and views. Neither is a type of the domain, so that each can
//! change without the other.

pub mod acceptance;
pub mod analysis;
pub mod audit;
pub mod batch;
pub mod body;
pub mod expansion;
pub mod firewall;
pub mod inspection;
pub mod left_out;
pub mod lines;
pub mod order;
pub mod policy;
mod port_value;
pub mod restore;
pub mod rule;
pub mod rule_set;
pub mod schema;
pub mod view;

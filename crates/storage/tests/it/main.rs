//! The storage's contract, on both databases.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

mod acceptances;
mod audit_chain;
mod backup;
mod classes;
mod concurrency;
mod contract;
mod file;
mod filter;
mod filter_forms;
#[path = "../../../domain/tests/support/filter_strategies.rs"]
mod filter_strategies;
mod group;
mod inspected;
mod pooler;
#[path = "../../../domain/tests/support/rule_strategies.rs"]
mod rule_strategies;
mod schema;
mod server;
mod statements;
mod support;
mod verify_rows;

//! Tests of the API in process, on both databases, and of the binary.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod acceptances;
mod admission;
mod analyses;
mod analysis_files;
mod audit;
mod backup;
mod bad_input;
mod batch;
mod bystanders;
mod cluster;
mod compilation;
mod conditions;
mod coverage;
mod deleted;
mod description;
mod drain;
mod early_refusals;
mod errors;
mod export;
mod failover;
mod faults;
mod features;
mod filters;
mod firewall_inspections;
mod forwarder;
mod generated_rules;
mod idle_memory;
mod inspection_lines;
mod inspections;
mod key_files;
mod limits;
mod lists;
mod lists_by_clock;
mod logging;
mod memory;
mod metrics;
mod offline;
mod open_files;
mod operations;
mod order;
mod parts;
mod policy_limits;
mod process;
mod public_keys;
mod read_only;
mod receiver;
mod repeated;
mod replica;
mod resources;
mod rule_set;
#[path = "../../../domain/tests/support/rule_spellings.rs"]
mod rule_spellings;
#[path = "../../../domain/tests/support/rule_strategies.rs"]
mod rule_strategies;
mod service;
mod signers;
mod spelling;
mod sqlite_file;
mod standby;
mod support;
mod tags;
mod threads;
mod tls;
mod tokens;
mod totals;
mod traces;
mod unknown_ports;
mod unread;
mod verdict_corpus;
mod verify;

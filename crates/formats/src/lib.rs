//! Rules, packets, flow logs and verdicts as text: JSON, NDJSON, CSV, ClassBench's text, flow logs.
//!
//! This crate only reads and writes text. It prints and stores nothing, and does not depend on how
//! the text arrived. [`open`] opens a file, [`sniff`] detects which of the [`FORMATS`] it has, and a
//! [`FileReader`](format::FileReader) reads its rules or packets. A packet that cannot be read is an
//! error of its line only, and reading continues after it. Memory is bounded for every input.

pub mod analysis;
pub mod assumed_ports;
pub mod benchmark;
mod benchmark_files;
pub mod cursor;
pub mod entity_tags;
mod error;
pub mod fault;
pub mod firewall;
pub mod flow_log;
mod flow_log_files;
pub mod format;
pub mod json;
mod json_files;
pub mod json_values;
mod lines;
pub mod members;
pub mod packet;
pub mod packet_lines;
pub mod pagination;
pub mod patterns;
pub mod policy;
pub mod query;
pub mod read_only;
pub mod restoration;
pub mod rule;
pub mod rule_batch;
pub mod rule_columns;
pub mod rule_export;
mod rule_lines;
pub mod rule_order;
pub mod rule_set;
pub mod selected;
mod sniff;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
pub mod verdict_lines;
pub mod views;

pub use error::LineError;
pub use fault::ReadError;
pub use flow_log::{FlowLog, FlowReader};
pub use lines::{Line, LineReader, LineSplitter};
pub use sniff::{FORMATS, UnknownFormat, listed, sniff};
pub use source::{Source, open};

//! Rules, packets, flow logs and verdicts as text: JSON, NDJSON, CSV, ClassBench's text, flow logs.
//!
//! This crate only reads and writes text. It prints and stores nothing, and does not depend on how
//! the text arrived. [`open`] opens a file, and [`sniff`] detects its format by its content. Lines
//! are then read with [`LineReader`] and [`benchmark`], with [`FlowReader`], or with
//! [`packet_lines`]. A bad line is an error of that line only, and reading continues after it.
//! Memory is bounded for every input.

pub mod assumed_ports;
pub mod benchmark;
pub mod entity_tags;
mod error;
pub mod fault;
pub mod flow_log;
pub mod json;
pub mod json_values;
mod lines;
pub mod members;
pub mod packet;
pub mod packet_lines;
pub mod patterns;
pub mod read_only;
pub mod restoration;
pub mod rule;
pub mod rule_batch;
pub mod rule_columns;
mod rule_lines;
pub mod rule_order;
pub mod rule_set;
pub mod selected;
mod sniff;
mod source;
pub mod verdict_lines;

pub use error::LineError;
pub use fault::ReadError;
pub use flow_log::{FlowLog, FlowReader};
pub use lines::{Line, LineReader, LineSplitter};
pub use sniff::{Kind, UnknownFormat, sniff};
pub use source::{Source, open};

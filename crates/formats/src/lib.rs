//! Rules, packets, flow logs and verdicts as text: JSON, NDJSON, CSV, ClassBench's text, flow logs.
//!
//! Pure reading and writing: nothing is printed, nothing stored, and nothing here knows how the text
//! arrived. A file is opened with [`open`], its format recognized by its content with [`sniff`], and
//! its lines read with [`LineReader`] and [`benchmark`], with [`FlowReader`], or with
//! [`packet_lines`]. A bad line is an error of that line, and reading goes on after it. Memory is
//! bounded, whatever a text holds.

pub mod assumed_ports;
pub mod benchmark;
mod error;
pub mod fault;
pub mod flow_log;
pub mod json;
pub mod json_values;
mod lines;
pub mod members;
pub mod packet;
pub mod packet_lines;
pub mod read_only;
pub mod rule;
pub mod rule_columns;
mod rule_lines;
pub mod rule_set;
mod sniff;
mod source;
pub mod verdict_lines;

pub use error::LineError;
pub use fault::ReadError;
pub use flow_log::{FlowLog, FlowReader};
pub use lines::{Line, LineReader, LineSplitter};
pub use sniff::{Kind, UnknownFormat, sniff};
pub use source::{Source, open};

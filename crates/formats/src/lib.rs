//! Files of rules, packets and flow logs, read for a replay: which format a file has, and what its
//! lines say.
//!
//! Pure reading: nothing is printed and nothing decided. A file is opened with [`open`], told apart
//! by its content with [`sniff`], and read line by line with [`read_line`] and [`benchmark`] or with
//! [`FlowReader`]; JSON is told apart only. A bad line is an error of that line, and reading goes on
//! behind it. Memory is bounded, whatever a file holds.

pub mod benchmark;
mod error;
pub mod flow_log;
mod lines;
mod sniff;
mod source;

pub use error::LineError;
pub use flow_log::{FlowLog, FlowReader};
pub use lines::{LineRead, read_line};
pub use sniff::{Kind, UnknownFormat, sniff};
pub use source::{Source, open};

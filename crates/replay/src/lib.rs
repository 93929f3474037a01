//! Reads files of rules, packets and flow logs for a replay: detects the format of a file and
//! parses its lines.
//!
//! This crate only reads: it prints nothing and decides nothing. [`open`] opens a file and
//! [`sniff`] detects its format by its content. [`read_line`] and [`benchmark`], or [`FlowReader`],
//! then read it line by line. JSON is only detected, not parsed. A bad line is an error of that
//! line alone, and reading continues after it. Memory is bounded, whatever a file contains.

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

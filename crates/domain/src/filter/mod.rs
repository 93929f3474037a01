//! The filter language of lists: its text, its syntax tree and its meaning.
//!
//! A filter is parsed from text against the fields of a [`Level`] ([`parse`]). It becomes a typed
//! tree ([`tree`]), which `Display` writes back in one canonical spelling. [`eval`] defines its
//! meaning for resources in memory. The storage crate turns the same tree into SQL, and a property
//! test compares the two. Every test is true or false, never unknown.

mod clock;
pub mod error;
pub mod eval;
pub mod fields;
mod findings;
mod lexer;
mod moment;
pub mod parse;
mod print;
mod subject;
pub mod tree;

pub use error::FilterError;
pub use fields::{FieldInfo, FieldKind, describe, field_name};
pub use findings::{FindingTest, RuleFindings};
pub use moment::Moment;
pub use tree::{Expression, Filter, Level};

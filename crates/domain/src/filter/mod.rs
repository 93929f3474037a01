//! The filter language of lists: text, tree, meaning.
//!
//! A filter is read from text against the fields of a [`Level`] ([`parse`]), becomes a tree with
//! types ([`tree`]), is written back in one canonical spelling (`Display`), and has its meaning in
//! [`eval`], over things in memory. The storage crate turns the same tree into SQL; a property test
//! holds the two against each other. Every test is true or false, never unknown.

pub mod error;
pub mod eval;
pub mod fields;
mod lexer;
mod moment;
pub mod parse;
mod print;
pub mod tree;

pub use error::FilterError;
pub use fields::{FieldInfo, FieldKind, describe, field_name};
pub use moment::Moment;
pub use tree::{Expression, Filter, Level};

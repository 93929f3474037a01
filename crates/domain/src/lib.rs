//! The domain of FireFlow: the model, its rules and its use cases, without storage or HTTP.
//!
//! The crate is pure: no I/O, no async runtime, no database, no ambient clock. Values are parsed,
//! not validated: a value of one of these types is valid by construction.

pub mod acceptance;
pub mod actor;
pub mod analysis;
pub mod audit;
pub mod audit_chain;
pub mod engine;
pub mod error;
pub mod features;
pub mod filter;
pub mod firewall;
pub mod ids;
pub mod invisible;
pub mod labels;
pub mod letters;
pub mod limits;
mod list_fields;
pub mod mark;
pub mod net;
pub mod packet;
pub mod page;
pub mod patch;
pub mod policy;
pub mod read_only;
pub mod rule;
pub mod sort;
pub mod spelling;
pub mod stamp;
pub mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod text;
pub mod time;
pub mod usecase;
mod worlds;

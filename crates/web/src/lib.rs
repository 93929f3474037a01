//! FireFlow's API over HTTP, and its description. A thin crate: it reads requests, asks the domain's
//! use cases, and writes answers.
//!
//! To add an operation: a view and a body in `dto/`, a method in `api/` (its first argument is the
//! role it needs), its query parameters in `params`, its links in `openapi`, what its members can
//! hold in `openapi::schemas`; the tests in `crates/server/tests/it/coverage.rs` then demand that it
//! refuses whom it must.

pub mod api;
pub mod app;
pub mod auth;
pub mod budget;
pub mod conditions;
pub mod dto;
pub mod entity_tags;
pub mod export;
pub mod idempotency;
pub mod inspected;
pub mod inspection_stream;
pub mod middleware;
pub mod openapi;
pub mod params;
pub mod path_id;
mod pieces;
pub mod problem;
pub mod reply;
pub mod server;
pub mod upload;
pub mod work;
pub mod written;

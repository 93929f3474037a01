//! FireFlow's HTTP API and its description. A thin crate: it reads requests, calls the use cases of
//! the domain, and writes answers.
//!
//! To add an operation, write a body in `dto/`, and in `api/` a method (its first
//! argument is the required role) with its row next to it (`operation`). The description and the
//! limit of its body follow from the row. The tests in `crates/server/tests/it/coverage.rs` then
//! check that row and description agree, and that it refuses callers without the role.

#![expect(
    unreachable_pub,
    reason = "no module is public; `pub` is what a module offers to the others"
)]

mod api;
mod app;
mod auth;
mod conditions;
mod dto;
mod export;
mod idempotency_key;
mod inspection_stream;
mod middleware;
mod openapi;
mod operation;
mod params;
mod path_id;
mod pieces;
mod problem;
mod reply;
mod routes;
mod upload;
mod written;

pub use app::{About, App};
pub use middleware::Gate;
pub use middleware::client::{ForwardedHeader, Proxies};
pub use middleware::cors::Cors;
pub use problem::{Code, Problem, ProblemDetail};
pub use routes::{description, endpoint, metrics_endpoint};
pub use written::WrittenRules;

/// The sources of the description, for tests that compare it with the behavior of the API.
pub mod described {
    pub use crate::operation::{Access, Effect, Operation};
    pub use crate::params::{Param, ParamKind};
    pub use crate::routes::OPERATIONS;
    pub use fireflow_formats::views::{FirewallView, PolicyView, RuleView};
}

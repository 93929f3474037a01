//! FireFlow's API over HTTP, and its description. A thin crate: it reads requests, asks the domain's
//! use cases, and writes answers.
//!
//! To add an operation: a view and a body in `dto/`, a method in `api/` (its first argument is the
//! role it needs), its query parameters in `params`, its links in `openapi`, what its members can
//! hold in `openapi::schemas`; the tests in `crates/server/tests/it/coverage.rs` then demand that it
//! refuses whom it must.

#![expect(
    unreachable_pub,
    reason = "no module is public; `pub` is what a module offers to the others"
)]

mod api;
mod app;
mod auth;
mod conditions;
mod dto;
mod entity_tags;
mod export;
mod idempotency;
mod inspected;
mod inspection_stream;
mod middleware;
mod openapi;
mod pagination;
mod params;
mod path_id;
mod pieces;
mod problem;
mod reply;
mod routes;
mod upload;
mod work;
mod written;

pub use app::{About, App, Readiness};
pub use inspected::{CompilationLimits, CompiledPolicies};
pub use inspection_stream::Streams;
pub use middleware::Gate;
pub use middleware::client::{ForwardedHeader, Proxies};
pub use middleware::cors::Cors;
pub use middleware::rates::{Rate, Rates};
pub use problem::{Code, Fault, Problem};
pub use routes::{description, endpoint, metrics_endpoint};
pub use work::Limits;

/// What the description is made of, for tests that hold it against what the API does.
pub mod described {
    pub use crate::dto::view::{FirewallView, PolicyView, RuleView};
    pub use crate::openapi::parameters_of;
    pub use crate::params::{
        AUDIT_EVENTS, FIREWALLS, INSPECTION, POLICIES, Param, ParamKind, RULES,
    };
}

//! The steps between a request and the domain that do not depend on HTTP. See README.md.

pub mod backend;
pub mod budget;
pub mod error;
pub mod idempotency;
pub mod inspections;
pub mod monitor;
pub mod rates;
pub mod readiness;
pub mod session;
pub mod streams;
pub mod work;

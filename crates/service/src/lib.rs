//! The steps between a request and the domain that do not depend on HTTP. See README.md.

pub mod budget;

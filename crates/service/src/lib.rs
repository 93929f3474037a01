//! What happens between a request and the domain, and is the same without HTTP. See README.md.

pub mod budget;

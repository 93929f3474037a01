//! What surrounds every request, from the outside in: its id, log line and error form; a limit in
//! time and number; who asks; the trailing slash; the body's size.

pub mod auth;
pub mod envelope;
pub mod limits;
pub mod slash;

//! Access control: the token of a request, the role that its operation requires, and the answers if
//! either is missing. `fireflow_auth` decides whether a token is valid.

mod bearer;
mod extract;
mod refusal;

pub use bearer::authenticate;
pub use extract::{Anyone, As, Editor, HealthCheck, Viewer};

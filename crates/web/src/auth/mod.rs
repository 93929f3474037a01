//! Who asks: the token of a request, the role that its operation needs, and what is answered if
//! either is missing. What a token is worth is decided by `fireflow_auth`.

mod bearer;
mod extract;
mod refusal;

pub use bearer::authenticate;
pub use extract::{Anyone, As, Editor, HealthCheck, Viewer};

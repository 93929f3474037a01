//! The layers around every request, from the outermost: its id, log line and error format, CORS;
//! the timeout; the trailing slash; authentication.

pub mod auth;
pub mod client;
pub mod cors;
pub mod envelope;
pub mod host;
pub mod limits;
pub mod open;
pub mod rates;
pub mod slash;

/// The settings that concern the origin and the connection of a request.
#[derive(Debug, Default)]
pub struct Gate {
    /// The trusted proxies.
    pub proxies: client::Proxies,
    /// The rate limits.
    pub rates: rates::Rates,
    /// The allowed origins of pages.
    pub cors: cors::Cors,
    /// Whether the service itself terminates TLS. If so, answers tell browsers to use only HTTPS.
    pub is_tls: bool,
}

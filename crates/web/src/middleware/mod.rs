//! What surrounds every request, from the outside in: its id, log line and error form, who is let in
//! from where; a limit in time; the trailing slash; who asks.

pub mod auth;
pub mod client;
pub mod cors;
pub mod envelope;
pub mod host;
pub mod limits;
pub mod open;
pub mod rate_headers;
pub mod slash;

use fireflow_service::rates::Rates;

/// What is decided of a request by where it comes from.
#[derive(Debug, Default)]
pub struct Gate {
    /// The proxies that are believed.
    pub proxies: client::Proxies,
    /// How many requests are served.
    pub rates: Rates,
    /// The pages that may ask.
    pub cors: cors::Cors,
    /// Whether connections are encrypted here: then browsers are told to insist on it.
    pub is_tls: bool,
}

//! The remaining rate of a subject as headers: the fields of the IETF's draft "RateLimit header
//! fields for HTTP" (draft-ietf-httpapi-ratelimit-headers).

use fireflow_service::rates::RateState;
use poem::http::HeaderMap;

/// Adds the fields to an answer.
pub fn write(state: RateState, headers: &mut HeaderMap) {
    let RateState { rate, remaining, reset_s } = state;
    let window = match rate.per.as_secs() {
        // The draft gives windows in whole seconds, so a shorter one is omitted.
        0 => String::new(),
        seconds => format!(";w={seconds}"),
    };
    let fields = [
        ("ratelimit-policy", format!("\"subject\";q={}{window}", rate.count)),
        ("ratelimit", format!("\"subject\";r={remaining};t={reset_s}")),
    ];
    for (name, value) in fields {
        if let Ok(value) = value.parse() {
            headers.insert(name, value);
        }
    }
}

//! The host of a request. It must be unambiguous, because a proxy could otherwise interpret the
//! request differently (RFC 9112, 3.2; RFC 9113, 8.3.1).

use poem::Request;
use poem::http::{Version, header};

use crate::problem::{Code, Problem};

/// Refuses a request with several hosts, or without a required one.
///
/// # Errors
/// Returns 400.
pub fn check(request: &Request) -> Result<(), Problem> {
    let fault = |detail: &str| Err(Problem::new(Code::MalformedRequest, detail));
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return fault("the request has more than one `Host` header; send one");
    }
    match (host, request.original_uri().authority()) {
        (Some(host), Some(target)) => {
            // A user name in front of the host is not part of it.
            let target = target.as_str();
            let target = target.rsplit_once('@').map_or(target, |(_, host)| host);
            if host.as_bytes().trim_ascii().eq_ignore_ascii_case(target.as_bytes()) {
                Ok(())
            } else {
                fault("`Host` contradicts the request's target; send the same in both")
            }
        }
        // Requests that do not come over a network (in tests) have no meaningful version.
        (None, None)
            if request.version() == Version::HTTP_11
                && request.remote_addr().as_socket_addr().is_some() =>
        {
            fault("the request has no `Host` header; HTTP/1.1 requires one")
        }
        _ => Ok(()),
    }
}

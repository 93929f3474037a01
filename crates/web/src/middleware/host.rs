//! The host that a request names: one, or it could mean one thing to a proxy and another here
//! (RFC 9112, 3.2; RFC 9113, 8.3.1).

use poem::Request;
use poem::http::{Version, header};

use crate::problem::{Code, Problem};

/// Refuses a request that names several hosts, or none where it must.
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
            // The name of a user in front is no part of the host.
            let target = target.as_str();
            let target = target.rsplit_once('@').map_or(target, |(_, host)| host);
            if host.as_bytes().trim_ascii().eq_ignore_ascii_case(target.as_bytes()) {
                Ok(())
            } else {
                fault("`Host` contradicts the request's target; send the same in both")
            }
        }
        // What does not come over a network (tests do not) has no version to speak of.
        (None, None)
            if request.version() == Version::HTTP_11
                && request.remote_addr().as_socket_addr().is_some() =>
        {
            fault("the request has no `Host` header; HTTP/1.1 requires one")
        }
        _ => Ok(()),
    }
}

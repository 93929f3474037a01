//! The token of a request (RFC 6750, 2.1).

use fireflow_auth::{Authenticator, Identity, Refusal};
use fireflow_domain::time::Instant;
use poem::http::{HeaderMap, header};

/// Authenticates a request by its token.
///
/// # Errors
/// Returns why the token is refused.
pub fn authenticate(
    authenticator: &Authenticator,
    headers: &HeaderMap,
    now: Instant,
) -> Result<Identity, Refusal> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(Refusal::Missing)?;
    if values.next().is_some() {
        return Err(Refusal::Invalid);
    }
    let text = value.to_str().map_err(|_| Refusal::Invalid)?.trim();
    if text.is_empty() {
        return Err(Refusal::Missing);
    }
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Refusal::NotBearer);
    }
    match token.trim() {
        "" => Err(Refusal::Missing),
        token => authenticator.verify(token, now),
    }
}

#[cfg(test)]
mod tests {
    use fireflow_auth::{Revocations, Secret, TokenRequest, TokenRules, Trust};
    use fireflow_domain::actor::Role;

    use super::*;
    use crate::problem::Problem;

    #[test]
    fn what_comes_without_bearer_is_told_so() {
        let secrets = vec![Secret::new(b"0123456789abcdef0123456789abcdef".as_slice())];
        let trust = Trust::new(secrets, Vec::new(), TokenRules::default(), Revocations::default());
        let authenticator = Authenticator::new(trust);
        let now = Instant::parse("2026-11-24T12:00:00Z").unwrap();
        let request = TokenRequest {
            subject: "ann".to_owned(),
            roles: vec![Role::Editor],
            tenants: None,
            lifetime_s: 60,
        };
        let token = authenticator.mint(&request, now).unwrap();
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            authenticate(&authenticator, &headers, now)
        };
        for value in [&token, "Basic dGVzdDp0ZXN0", &format!("Token {token}"), "Bearer:x"] {
            let refusal = ask(value).unwrap_err();
            assert_eq!(refusal, Refusal::NotBearer, "{value}");
            let problem = Problem::from(refusal);
            assert!(problem.detail.contains("does not begin with `Bearer `"), "{}", problem.detail);
        }
        for value in ["", " ", "Bearer", "Bearer ", "bearer  "] {
            assert_eq!(ask(value).unwrap_err(), Refusal::Missing, "{value}");
        }
        assert!(ask(&format!("bearer  {token} ")).is_ok());
    }
}

//! Tokens for people.

use anyhow::anyhow;
use fireflow_auth::TokenRequest;
use fireflow_domain::actor::Role;
use fireflow_domain::text::Tenant;
use fireflow_domain::time::Clock;

use super::{Failure, JwtArgs, authenticator, clock, print};
use crate::settings::{Environment, Settings, parse_duration};

/// The defaults of a local token.
const LOCAL_USER: &str = "test";
const LOCAL_TTL: &str = "30d";

/// Prints a token, and nothing else on standard output.
pub(super) fn jwt(settings: &Settings, arguments: &JwtArgs) -> Result<(), Failure> {
    let is_local = settings.environment == Environment::Local;
    let missing = [
        ("--user", arguments.user.is_none()),
        ("--roles", arguments.roles.is_empty()),
        ("--ttl", arguments.ttl.is_none()),
    ];
    if !is_local && let Some((name, _)) = missing.iter().find(|(_, is_missing)| *is_missing) {
        return Err(Failure::usage(anyhow!("{name} must be given outside `local`")));
    }
    let roles = if arguments.roles.is_empty() {
        Role::ALL.to_vec()
    } else {
        arguments.roles.iter().map(|word| role(word)).collect::<Result<_, _>>()?
    };
    let ttl = arguments.ttl.as_deref().unwrap_or(LOCAL_TTL);
    let ttl = parse_duration(ttl).map_err(|why| Failure::usage(anyhow!("--ttl {why}")))?;
    let tenants = match &arguments.tenants {
        None => None,
        Some(words) => Some(words.iter().map(|word| tenant(word)).collect::<Result<Vec<_>, _>>()?),
    };
    let request = TokenRequest {
        subject: arguments.user.clone().unwrap_or_else(|| LOCAL_USER.to_owned()),
        roles,
        tenants,
        lifetime_s: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
    };
    let token = authenticator(settings)?.mint(&request, clock().now()).map_err(Failure::usage)?;
    if !is_local {
        let words: Vec<&str> = request.roles.iter().map(|role| role.as_str()).collect();
        tracing::warn!(
            subject = %request.subject, roles = words.join(","), lifetime_s = request.lifetime_s,
            "a token was issued"
        );
    }
    print(&token)
}

fn role(word: &str) -> Result<Role, Failure> {
    Role::parse(word).ok_or_else(|| {
        let known: Vec<&str> = Role::ALL.iter().map(|role| role.as_str()).collect();
        Failure::usage(anyhow!("--roles: `{word}` is not a role; known are {}", known.join(", ")))
    })
}

fn tenant(word: &str) -> Result<Tenant, Failure> {
    Tenant::parse(word).map_err(|error| Failure::usage(anyhow!("--tenants: the tenant {error}")))
}

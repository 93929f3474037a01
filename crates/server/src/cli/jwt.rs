//! Tokens for people.

use std::io::Write as _;

use anyhow::anyhow;
use fireflow_auth::TokenRequest;
use fireflow_domain::actor::Role;
use fireflow_domain::text::Tenant;
use fireflow_domain::time::Clock;

use super::secret::LocalSecret;
use super::{Failure, JwtArgs, authenticator, clock, local_secret, print};
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
        return Err(Failure::usage(anyhow!("{name} is required outside `local`")));
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
    let local = local_secret(settings)?;
    let authenticator = authenticator(settings, local.as_ref())?;
    let token = authenticator.mint(&request, clock().now()).map_err(Failure::usage)?;
    // On standard error: standard output is the token alone.
    let _noted = writeln!(std::io::stderr(), "fireflow: {}", signed_with(local.as_ref()));
    if !is_local {
        let words: Vec<&str> = request.roles.iter().map(|role| role.as_str()).collect();
        tracing::warn!(
            subject = %request.subject, roles = words.join(","), lifetime_s = request.lifetime_s,
            "a token was issued"
        );
    }
    print(&token)
}

/// Which secret has signed a token, so that a reader sees which services accept it.
fn signed_with(local: Option<&LocalSecret>) -> String {
    let Some(LocalSecret { file, is_new, .. }) = local else {
        return "signed with the (first) secret of FIREFLOW_JWT_SECRET".to_owned();
    };
    let file = file.display();
    if *is_new {
        format!(
            "generated the secret {file} and signed with it; only a service that starts in this \
             folder from now on accepts the token"
        )
    } else {
        format!(
            "signed with the secret {file}; a service that runs in this folder accepts the token"
        )
    }
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

//! The settings of tokens: keys, and the rules that tokens are checked with.

use std::path::PathBuf;
use std::time::Duration;

use fireflow_auth::{
    KeyFiles, LEEWAY_S, ROLES_CLAIM, RoleMap, Secret, TokenRules, UNPROVEN_GRACE, check_secret,
    role_map, secret_lines,
};

use super::parse::{duration_or_none, parse_duration, some_file, some_text, text, truth};
use super::row::DefaultValue::{Nothing, Seconds, Text, Words};
use super::row::Mark::{Protects, SecretLines, Short, Table};
use super::row::{Row, settings};
use super::values::Values;
use super::{SettingError, error};

/// The largest clock difference that can be set.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

settings! {
    /// The settings of tokens, as they were set. What must be set depends on the environment and
    /// on each other: see [`read`].
    struct MemberValue, rows TOKENS: TokenRows;

    TOKENS_SECTION {
        /// HS256 secret; outside `local` a generated secret of 32 bytes or more (`openssl rand -hex
        /// 32`); a file may contain several secrets, one per line: the first signs, all verify;
        /// lines that begin with `#` are comments
        secret: Option<Secret> = "jwt.secret" [SecretLines, Protects, Short("FIREFLOW_JWT_SECRET")] {
            parse: |text| Ok(Some(Secret::new(text))),
            // The command makes it, because it writes a file.
            default: Words("in `local` one is generated in .fireflow/", |_| None),
        }

        /// a file with public keys for RS256, ES256 and Ed25519: a JWKS, or PEM blocks; reloaded
        /// when it changes
        public_keys: Option<PathBuf> = "jwt.public_keys" [Protects] {
            parse: some_file,
            default: Nothing(|| None),
        }

        /// the required `iss` of tokens; must be set outside `local`
        issuer: Option<String> = "jwt.issuer" [Protects] {
            parse: some_text,
            default: Nothing(|| None),
        }

        /// the required `aud` of tokens; must be set outside `local`
        audience: Option<String> = "jwt.audience" [Protects] {
            parse: some_text,
            default: Nothing(|| None),
        }

        /// the maximum lifetime of tokens; tokens with a longer one are refused
        max_lifetime: Option<Duration> = "jwt.max_lifetime" [Protects] {
            parse: |text| parse_duration(text).map(Some),
            default: Words("24h outside `local`, else none", |values| {
                (!values.is_local()).then_some(Duration::from_secs(24 * 3_600))
            }),
        }

        /// the tolerated clock difference for `exp`, `nbf` and `iat` of a token; at most 5m
        leeway: Duration = "jwt.leeway" [Protects] {
            parse: leeway,
            default: Seconds(LEEWAY_S.unsigned_abs()),
        }

        /// the claim with the roles, an array or a text with spaces between them; its name, such as
        /// `scope`, or a dotted path, such as `realm_access.roles`
        roles_claim: String = "jwt.roles_claim" [Protects] {
            parse: text,
            default: Text(ROLES_CLAIM),
        }

        /// maps the identity provider's groups to roles: `fw-admins=admin,fw-operators=editor`; for
        /// names with commas use a JSON object, or a table `[jwt.role_map]` in the file: `"CN=fw,
        /// admins" = "admin"`; if it is set, no other names are roles
        role_map: Option<RoleMap> = "jwt.role_map" [Protects, Table] {
            parse: |text| role_map(text).map(Some),
            default: Nothing(|| None),
        }

        /// whether a token without the claim `tenants` is refused instead of having access to all
        /// tenants; recommended if firewalls have tenants
        require_tenants: bool = "jwt.require_tenants" [Protects] {
            parse: truth,
            default: Text("false"),
        }

        /// a file of revoked tokens, one per line: `jti ID`, or `sub SUBJECT UNTIL` for all tokens
        /// issued to a subject up to an instant; reloaded when it changes
        revoked: Option<PathBuf> = "jwt.revoked_file" [Protects] {
            parse: some_file,
            default: Nothing(|| None),
        }
    }
}

pub(super) fn read(values: &Values, warnings: &mut Vec<String>) -> Result<KeyFiles, SettingError> {
    let MemberValue {
        secret,
        public_keys,
        issuer,
        audience,
        max_lifetime,
        leeway,
        roles_claim,
        role_map,
        require_tenants,
        revoked,
    } = TOKENS.read(values)?;
    let (secrets, secret_file) = secrets(values, secret, public_keys.is_some(), warnings)?;
    let required = |row: &Row<Option<String>>, given: Option<String>| match given {
        None if !values.is_local() => {
            Err(error(row.setting.variable, "must be set outside `local`"))
        }
        given => Ok(given),
    };
    Ok(KeyFiles {
        secrets,
        secret_file,
        public_keys,
        revoked,
        rules: TokenRules {
            issuer: required(&TOKENS.issuer, issuer)?,
            audience: required(&TOKENS.audience, audience)?,
            leeway_s: whole_seconds(leeway),
            max_lifetime_s: max_lifetime.map(whole_seconds),
            roles_claim,
            role_map,
            require_tenants,
        },
        takes_weak_secrets: values.is_local(),
        grace: UNPROVEN_GRACE,
    })
}

fn leeway(text: &str) -> Result<Duration, String> {
    match duration_or_none(text)? {
        leeway if leeway <= MAX_LEEWAY => Ok(leeway),
        _ => Err("must be at most `5m`".to_owned()),
    }
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Checks the secrets. Outside `local` there must be keys, and no secret may be easy to guess.
fn secrets(
    values: &Values,
    secret: Option<Secret>,
    has_public_keys: bool,
    warnings: &mut Vec<String>,
) -> Result<(Vec<Secret>, Option<PathBuf>), SettingError> {
    let (is_local, name) = (values.is_local(), values.name(&TOKENS.secret));
    let Some(secret) = secret else {
        if is_local || has_public_keys {
            return Ok((Vec::new(), None));
        }
        let keys = TOKENS.public_keys.setting.variable;
        let why = format!("must be set outside `local` (32 bytes or more), or {keys}");
        return Err(error(name, why));
    };
    if let Some(file) = values.get(&TOKENS.secret).and_then(|value| value.file.clone()) {
        let lines = secret_lines(secret.reveal(), is_local);
        return match lines.faults.into_iter().next() {
            Some(fault) => Err(error(name, fault)),
            None => Ok((lines.secrets, Some(file))),
        };
    }
    let warning = check_secret(secret.reveal(), is_local).map_err(|why| error(name, why))?;
    warnings.extend(warning.map(|why| format!("{name} {why}")));
    Ok((vec![secret], None))
}

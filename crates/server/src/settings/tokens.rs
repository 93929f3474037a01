//! The settings of tokens: keys, and the rules that tokens are checked with.

use std::path::PathBuf;
use std::time::Duration;

use fireflow_auth::{
    KeyFiles, LEEWAY_S, ROLES_CLAIM, Secret, TokenRules, UNPROVEN_GRACE, check_secret, role_map,
    secret_lines,
};

use super::http::duration_or_none;
use super::{Environment, SettingError, Values, error, parse_duration, truth};

/// The largest clock difference that can be set.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

pub(super) fn read(
    values: &Values,
    environment: Environment,
    warnings: &mut Vec<String>,
) -> Result<KeyFiles, SettingError> {
    let is_local = environment == Environment::Local;
    let public_keys = values.text("jwt.public_keys").map(PathBuf::from);
    let (secrets, secret_file) = secrets(values, is_local, public_keys.is_some(), warnings)?;
    let [issuer, audience] =
        [("jwt.issuer", "FIREFLOW_JWT__ISSUER"), ("jwt.audience", "FIREFLOW_JWT__AUDIENCE")].map(
            |(key, name)| match values.text(key) {
                None if !is_local => Err(error(name, "must be set outside `local`")),
                given => Ok(given),
            },
        );
    let default_lifetime = (!is_local).then_some(Duration::from_secs(24 * 3_600));
    let max_lifetime = values.read(
        "jwt.max_lifetime",
        || default_lifetime,
        |text| parse_duration(text).map(Some),
    )?;
    let leeway = values.read(
        "jwt.leeway",
        || seconds(LEEWAY_S),
        |text| match duration_or_none(text)? {
            leeway if leeway <= MAX_LEEWAY => Ok(leeway),
            _ => Err("must be at most `5m`".to_owned()),
        },
    )?;
    Ok(KeyFiles {
        secrets,
        secret_file,
        public_keys,
        revoked: values.text("jwt.revoked_file").map(PathBuf::from),
        rules: TokenRules {
            issuer: issuer?,
            audience: audience?,
            leeway_s: whole_seconds(leeway),
            max_lifetime_s: max_lifetime.map(whole_seconds),
            roles_claim: values.text("jwt.roles_claim").unwrap_or_else(|| ROLES_CLAIM.to_owned()),
            role_map: values.read("jwt.role_map", || None, |text| role_map(text).map(Some))?,
            require_tenants: values.read("jwt.require_tenants", || false, truth)?,
        },
        takes_weak_secrets: is_local,
        grace: UNPROVEN_GRACE,
    })
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// Reads the secrets. Outside `local` there must be keys, and no secret may be easy to guess.
fn secrets(
    values: &Values,
    is_local: bool,
    has_public_keys: bool,
    warnings: &mut Vec<String>,
) -> Result<(Vec<Secret>, Option<PathBuf>), SettingError> {
    const NAME: &str = "FIREFLOW_JWT_SECRET";
    let Some(value) = values.get("jwt.secret") else {
        return if is_local || has_public_keys {
            Ok((Vec::new(), None))
        } else {
            let why =
                "must be set outside `local` (32 bytes or more), or FIREFLOW_JWT__PUBLIC_KEYS";
            Err(error(NAME, why))
        };
    };
    if value.file.is_some() {
        let lines = secret_lines(value.text.as_bytes(), is_local);
        return match lines.faults.into_iter().next() {
            Some(fault) => Err(error(&value.name, fault)),
            None => Ok((lines.secrets, value.file.clone())),
        };
    }
    let warning = check_secret(value.text.as_bytes(), is_local);
    let warning = warning.map_err(|why| error(&value.name, why))?;
    warnings.extend(warning.map(|why| format!("{} {why}", value.name)));
    Ok((vec![Secret::new(value.text.as_str())], None))
}

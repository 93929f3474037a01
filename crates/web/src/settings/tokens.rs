//! What tokens are checked by.

use std::path::PathBuf;
use std::time::Duration;

use fireflow_domain::actor::Role;
use fireflow_domain::text::excerpt;

use super::http::duration_or_none;
use super::{Environment, Secret, SettingError, Values, error, parse_duration};
use crate::auth::{KeyFiles, LEEWAY_S, ROLES_CLAIM, TokenRules};

/// The shortest secret that is taken outside `local` (RFC 7518, 3.2: as long as the hash).
const MIN_SECRET_BYTES: usize = 32;
/// The fewest different bytes of one: a word that is repeated has less.
const MIN_DIFFERENT_BYTES: usize = 10;
/// The most that clocks may differ.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

pub(super) fn read(values: &Values, environment: Environment) -> Result<KeyFiles, SettingError> {
    let is_local = environment == Environment::Local;
    let public_keys = values.text("jwt.public_keys").map(PathBuf::from);
    let (secrets, secret_file) = secrets(values, is_local, public_keys.is_some())?;
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
            _ => Err("takes at most `5m`".to_owned()),
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
        },
        takes_weak_secrets: is_local,
    })
}

fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(seconds.unsigned_abs())
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// `fw-admins=admin,fw-operators=editor`.
fn role_map(text: &str) -> Result<Vec<(String, Role)>, String> {
    let pair = |word: &str| {
        // A group's name may hold `=`, as those of directories do; a role's does not.
        let (group, role) = word
            .rsplit_once('=')
            .ok_or("takes `GROUP=ROLE`, separated by commas: `fw-admins=admin`")?;
        let role = Role::parse(role.trim())
            .ok_or_else(|| format!("`{}` is not a role of FireFlow", excerpt(role)))?;
        Ok((group.trim().to_owned(), role))
    };
    text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(pair).collect()
}

/// Outside `local` there must be keys, and secrets that cannot be guessed.
fn secrets(
    values: &Values,
    is_local: bool,
    has_public_keys: bool,
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
        let secrets =
            secret_lines(value.text.as_bytes(), is_local).map_err(|why| error(&value.name, why))?;
        return Ok((secrets, value.file.clone()));
    }
    check_secret(value.text.as_bytes(), is_local).map_err(|why| error(&value.name, why))?;
    Ok((vec![Secret::new(value.text.as_str())], None))
}

/// The secrets of a file, one a line: the first signs, all verify.
///
/// # Errors
/// Where there is none, or one that can be guessed; never says the secret.
pub fn secret_lines(text: &[u8], takes_weak: bool) -> Result<Vec<Secret>, String> {
    let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut secrets = Vec::new();
    for line in lines.filter(|line| !line.is_empty()) {
        check_secret(line, takes_weak)?;
        secrets.push(Secret::new(line));
    }
    if secrets.is_empty() { Err("holds no secret".to_owned()) } else { Ok(secrets) }
}

fn check_secret(secret: &[u8], takes_weak: bool) -> Result<(), String> {
    // A public key as a secret is what algorithm confusion makes of one: everybody has it.
    if secret.starts_with(b"-----BEGIN") {
        return Err("is a key in PEM: give public keys as FIREFLOW_JWT__PUBLIC_KEYS".to_owned());
    }
    if takes_weak {
        return Ok(());
    }
    if secret.len() < MIN_SECRET_BYTES {
        return Err("is too short: outside `local` it takes 32 bytes or more".to_owned());
    }
    let mut different: Vec<u8> = secret.to_vec();
    different.sort_unstable();
    different.dedup();
    if different.len() < MIN_DIFFERENT_BYTES {
        return Err("can be guessed: make one with `openssl rand -hex 32`".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_stand_for_roles() {
        let map = role_map("fw-admins=admin, cn=ops,ou=x=editor").unwrap_err();
        assert!(map.contains("`ops` is not a role"), "{map}");
        let map = role_map("fw-admins=admin, cn=ops=editor,").unwrap();
        assert_eq!(map, [("fw-admins".into(), Role::Admin), ("cn=ops".into(), Role::Editor)]);
        assert!(role_map("admin").is_err());
    }

    #[test]
    fn secrets_that_can_be_guessed_are_refused_outside_local() {
        let long = "a".repeat(64);
        for weak in ["short", long.as_str(), "-----BEGIN PUBLIC KEY-----MFkwEwYHKoZIzj0CAQ"] {
            assert!(check_secret(weak.as_bytes(), false).is_err(), "{weak}");
        }
        assert!(check_secret(b"short", true).is_ok());
        assert!(check_secret(b"-----BEGIN PUBLIC KEY-----", true).is_err());
        assert!(secret_lines(b"\n \n", true).is_err());
        let two = secret_lines(b"0123456789abcdef0123456789abcdef\r\n\nshort", true).unwrap();
        assert_eq!(two.len(), 2);
    }
}

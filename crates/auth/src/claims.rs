//! What a token's claims contain, once its signature has been verified.

use std::collections::HashSet;

use fireflow_domain::actor::{Actor, Role, Visibility};
use fireflow_domain::invisible::first_invisible;
use fireflow_domain::text::{Tenant, TextError};
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};
use serde_json::{Map, Value, json};

use super::{Refusal, Revocations, TokenFault, TokenRequest, TokenRules};

/// The longest subject, in characters.
const MAX_SUBJECT_CHARS: usize = 255;
/// The most tenants of a token.
const MAX_TENANTS: usize = 1_000;
/// The most words of the claim with the roles.
const MAX_ROLE_WORDS: usize = 1_000;

/// The times at which a token becomes valid and expires.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) expires_at: Instant,
    pub(super) issued_at: Option<Instant>,
    begins_at: Option<Instant>,
}

/// A token's claims.
pub(super) type Claims = Map<String, Value>;

impl Times {
    fn read(claims: &Claims) -> Result<Self, Refusal> {
        Ok(Self {
            expires_at: instant(claims, "exp")?
                .ok_or_else(|| unfit(TokenFault::Claims, "the token has no exp"))?,
            issued_at: instant(claims, "iat")?,
            begins_at: instant(claims, "nbf")?,
        })
    }

    /// Checks the times against the clock. This runs on every use of the token, since its signature
    /// is verified only once.
    pub(super) fn check(&self, rules: &TokenRules, now: Instant) -> Result<(), Refusal> {
        let leeway = rules.leeway_s.saturating_mul(MICROS_PER_SECOND);
        if self.expires_at.plus_micros(leeway) <= now {
            return Err(unfit(TokenFault::Expired, "the token has expired"));
        }
        let soon = now.plus_micros(leeway);
        if self.begins_at.is_some_and(|begin| begin > soon) {
            return Err(unfit(TokenFault::NotYetValid, "the token is not yet valid"));
        }
        if self.issued_at.is_some_and(|issued| issued > soon) {
            return Err(unfit(TokenFault::NotYetValid, "the token was issued in the future"));
        }
        if let Some(limit) = rules.max_lifetime_s {
            let begin = self.issued_at.unwrap_or(now);
            if self.expires_at > begin.plus_micros(limit.saturating_mul(MICROS_PER_SECOND)) {
                return Err(unfit(
                    TokenFault::Lifetime,
                    &format!("the token's lifetime exceeds {limit} s"),
                ));
            }
        }
        Ok(())
    }
}

/// Reads the identity and the validity period from the claims.
pub(super) fn read(
    claims: &Claims,
    rules: &TokenRules,
    revoked: &Revocations,
    now: Instant,
) -> Result<(Actor, Times), Refusal> {
    let times = Times::read(claims)?;
    times.check(rules, now)?;
    check_issuer_and_audience(claims, rules)?;
    let subject = subject(claims)?;
    // A token whose id cannot be read could not be revoked, so it is refused.
    let id = match claims.get("jti") {
        None => None,
        Some(id) => Some(
            id.as_str()
                .ok_or_else(|| unfit(TokenFault::Claims, "the token's jti is not a text"))?,
        ),
    };
    if revoked.cover(id, &subject, times.issued_at) {
        return Err(unfit(TokenFault::Revoked, "the token was revoked"));
    }
    let roles = roles(claims, rules)?;
    let visibility = tenants(claims, rules)?;
    Ok((Actor { subject, roles, visibility }, times))
}

fn unfit(fault: TokenFault, why: &str) -> Refusal {
    Refusal::Unfit(fault, why.to_owned())
}

fn check_issuer_and_audience(claims: &Claims, rules: &TokenRules) -> Result<(), Refusal> {
    if let Some(issuer) = &rules.issuer
        && claims.get("iss").and_then(Value::as_str) != Some(issuer)
    {
        return Err(unfit(TokenFault::Issuer, "the token has another issuer"));
    }
    if let Some(audience) = &rules.audience {
        let is_meant = match claims.get("aud") {
            Some(Value::String(one)) => one == audience,
            Some(Value::Array(many)) => many.iter().any(|one| one == audience.as_str()),
            _ => false,
        };
        if !is_meant {
            return Err(unfit(TokenFault::Audience, "the token is for another audience"));
        }
    }
    Ok(())
}

/// A NumericDate (RFC 7519): seconds, optionally with a fraction.
fn instant(claims: &Claims, name: &str) -> Result<Option<Instant>, Refusal> {
    let bad = || unfit(TokenFault::Claims, &format!("the token's {name} is not a time"));
    let Some(value) = claims.get(name) else { return Ok(None) };
    let micros = match value.as_i64() {
        Some(seconds) => seconds.checked_mul(MICROS_PER_SECOND).ok_or_else(bad)?,
        None => {
            let seconds = value.as_f64().ok_or_else(bad)?;
            // Within the years 1 to 9999 the seconds fit; microseconds are cut to whole seconds.
            if !(-62_135_596_800.0..253_402_300_800.0).contains(&seconds) {
                return Err(bad());
            }
            #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
            let whole = seconds.floor() as i64;
            whole.checked_mul(MICROS_PER_SECOND).ok_or_else(bad)?
        }
    };
    Instant::from_micros(micros).map(Some).ok_or_else(bad)
}

fn subject(claims: &Claims) -> Result<String, Refusal> {
    let subject = claims
        .get("sub")
        .or_else(|| claims.get("username"))
        .and_then(Value::as_str)
        .ok_or_else(|| unfit(TokenFault::Claims, "the token has no sub"))?;
    let is_plain = !subject.is_empty()
        && subject.trim() == subject
        && subject.chars().count() <= MAX_SUBJECT_CHARS
        && !subject.chars().any(char::is_control);
    if !is_plain {
        return Err(unfit(TokenFault::Claims, "the token's sub is not a plain name"));
    }
    if let Some((character, _)) = first_invisible(subject) {
        let why = format!("the token's sub contains the invisible {character}");
        return Err(unfit(TokenFault::Claims, &why));
    }
    Ok(subject.to_owned())
}

/// The claim at a dotted path. A claim whose own name contains the dots takes precedence, since
/// names that are URLs contain dots.
fn at_path<'a>(claims: &'a Claims, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    let mut steps = path.split('.');
    let mut value = claims.get(steps.next()?)?;
    for step in steps {
        value = value.get(step)?;
    }
    Some(value)
}

/// The known roles among the words of the claim; other words belong to the identity provider. The
/// claim is an array of words, or a string in which spaces separate them, as in `scope` (RFC 8693,
/// 4.2).
fn roles(claims: &Claims, rules: &TokenRules) -> Result<Vec<Role>, Refusal> {
    let words: Vec<&str> = match at_path(claims, &rules.roles_claim) {
        None => return Err(Refusal::NoRole),
        Some(Value::Array(words)) if words.is_empty() => return Err(Refusal::NoRole),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => {
            let words: Vec<&str> = text.split_ascii_whitespace().collect();
            if words.is_empty() {
                return Err(Refusal::NoRole);
            }
            words
        }
        Some(_) => {
            let why = "the token's roles are neither an array nor a text";
            return Err(unfit(TokenFault::Claims, why));
        }
    };
    if words.len() > MAX_ROLE_WORDS {
        let why = format!("the token has more than {MAX_ROLE_WORDS} roles");
        return Err(unfit(TokenFault::Claims, &why));
    }
    let mut roles = Vec::new();
    for word in words {
        for role in rules.roles_of(word) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
    }
    if roles.is_empty() {
        return Err(unfit(TokenFault::Roles, "the token names no role that FireFlow knows"));
    }
    Ok(roles)
}

/// An unreadable claim must not widen what the token can see, so it is refused. So is a name that
/// is not spelled as tenants are: trimmed, it might name another tenant.
fn tenants(claims: &Claims, rules: &TokenRules) -> Result<Visibility, Refusal> {
    let bad = || unfit(TokenFault::Claims, "the token's tenants are not an array of names");
    let Some(value) = claims.get("tenants") else {
        return if rules.require_tenants {
            let why = "the token has no tenants, but FIREFLOW_JWT__REQUIRE_TENANTS requires them";
            Err(unfit(TokenFault::Tenants, why))
        } else {
            Ok(Visibility::All)
        };
    };
    let words = value.as_array().ok_or_else(bad)?;
    if words.len() > MAX_TENANTS {
        let why = format!("the token has more than {MAX_TENANTS} tenants");
        return Err(unfit(TokenFault::Claims, &why));
    }
    let (mut tenants, mut seen) = (Vec::new(), HashSet::new());
    for word in words {
        let word = word.as_str().ok_or_else(bad)?;
        let tenant = Tenant::parse(word).map_err(|error| match error {
            TextError::Invisible { character, .. } => {
                let why = format!("a tenant in the token contains the invisible {character}");
                unfit(TokenFault::Claims, &why)
            }
            TextError::Empty | TextError::TooLong { .. } | TextError::Control { .. } => bad(),
        })?;
        if tenant.as_str() != word {
            let why = "a tenant in the token begins or ends with a space";
            return Err(unfit(TokenFault::Claims, why));
        }
        if seen.insert(word) {
            tenants.push(tenant);
        }
    }
    Ok(Visibility::Tenants(tenants))
}

/// The claims of a new token, in the form that [`read`] accepts.
pub(super) fn made(
    request: &TokenRequest,
    rules: &TokenRules,
    now: Instant,
) -> anyhow::Result<Claims> {
    if let Some(limit) = rules.max_lifetime_s
        && request.lifetime_s > limit
    {
        anyhow::bail!("the service refuses tokens with a lifetime of more than {limit} s");
    }
    if rules.require_tenants && request.tenants.is_none() {
        anyhow::bail!("FIREFLOW_JWT__REQUIRE_TENANTS requires that a token names its tenants");
    }
    let issued_at = now.micros().div_euclid(MICROS_PER_SECOND);
    let mut claims = Claims::new();
    claims.insert("sub".to_owned(), json!(request.subject));
    // Never issue a token that no request could be made with.
    if let Err(Refusal::Unfit(_, why)) = subject(&claims) {
        anyhow::bail!("{why}");
    }
    claims.insert("iat".to_owned(), json!(issued_at));
    claims.insert("exp".to_owned(), json!(issued_at.saturating_add(request.lifetime_s)));
    let words = request.roles.iter().map(|role| rules.word_of(*role));
    let words = words.collect::<anyhow::Result<Vec<&str>>>()?;
    let mut steps = rules.roles_claim.rsplit('.');
    let last = steps.next().unwrap_or("roles");
    let mut name = last.to_owned();
    let mut value = json!(words);
    for step in steps {
        value = json!({ (name): value });
        name = step.to_owned();
    }
    claims.insert(name, value);
    if let Some(tenants) = &request.tenants {
        let words: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
        claims.insert("tenants".to_owned(), json!(words));
    }
    if let Some(issuer) = &rules.issuer {
        claims.insert("iss".to_owned(), json!(issuer));
    }
    if let Some(audience) = &rules.audience {
        claims.insert("aud".to_owned(), json!(audience));
    }
    Ok(claims)
}

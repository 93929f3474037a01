//! Tokens: who asks, and whether the operation's role is held.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use fireflow_domain::actor::{Actor, Role, Visibility};
use fireflow_domain::text::Tenant;
use fireflow_domain::time::{Instant, MICROS_PER_SECOND};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use poem::http::{HeaderMap, header};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaSecurityScheme, Registry};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde_json::{Map, Value, json};

use crate::app::Context;
use crate::problem::{Code, Problem};

/// How far two clocks may differ before a token's beginning counts, in seconds.
const CLOCK_SKEW_S: i64 = 10;
/// The longest token that is looked at, in bytes.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// The longest subject, in characters.
const MAX_SUBJECT_CHARS: usize = 255;
/// The most tenants of a token.
const MAX_TENANTS: usize = 1_000;

/// What a token has to fulfil beside its signature.
#[derive(Debug, Clone, Default)]
pub struct TokenRules {
    /// The issuer that `iss` must name.
    pub issuer: Option<String>,
    /// The audience that `aud` must name.
    pub audience: Option<String>,
    /// The longest life from `iat` to `exp`, in seconds.
    pub max_lifetime_s: Option<i64>,
}

/// Checks tokens, and makes them.
#[derive(Clone)]
pub struct Authenticator {
    secrets: Vec<Vec<u8>>,
    rules: TokenRules,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("rules", &self.rules).finish_non_exhaustive()
    }
}

/// Who a checked token names, and until when.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Who, and what they may do and see.
    pub actor: Actor,
    /// When the token ends.
    pub expires_at: Instant,
}

/// Why a token was refused. Before the signature holds, nothing is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is none.
    Missing,
    /// Not a token, or not one of ours.
    Invalid,
    /// Signed by us, but not good; says why.
    Unfit(String),
    /// Signed and good, but names no role at all.
    NoRole,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (challenge, detail) = match refusal {
            Refusal::Missing => (
                "Bearer realm=\"fireflow\"".to_owned(),
                "send a token: `Authorization: Bearer …`".to_owned(),
            ),
            Refusal::Invalid => (
                "Bearer realm=\"fireflow\", error=\"invalid_token\"".to_owned(),
                "the token is not valid".to_owned(),
            ),
            Refusal::Unfit(why) => (
                format!(
                    "Bearer realm=\"fireflow\", error=\"invalid_token\", \
                     error_description=\"{why}\""
                ),
                why,
            ),
            Refusal::NoRole => {
                return Self::new(Code::Forbidden, "the token names no role");
            }
        };
        Self::new(Code::Unauthenticated, detail).with_header(header::WWW_AUTHENTICATE, challenge)
    }
}

/// A token to be made.
#[derive(Debug, Clone)]
pub struct TokenRequest {
    /// Its subject.
    pub subject: String,
    /// Its roles.
    pub roles: Vec<Role>,
    /// Its tenants; none: all.
    pub tenants: Option<Vec<Tenant>>,
    /// How long it lives, in seconds.
    pub lifetime_s: i64,
}

impl Authenticator {
    /// With HS256 secrets: the first signs, all verify.
    #[must_use]
    pub fn new(secrets: Vec<Vec<u8>>, rules: TokenRules) -> Self {
        Self { secrets, rules }
    }

    /// Who a request comes from.
    ///
    /// # Errors
    /// Why its token is refused.
    pub fn authenticate(&self, headers: &HeaderMap, now: Instant) -> Result<Identity, Refusal> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or(Refusal::Missing)?;
        if values.next().is_some() {
            return Err(Refusal::Invalid);
        }
        let text = value.to_str().map_err(|_| Refusal::Invalid)?;
        let (scheme, token) = text.split_once(' ').ok_or(Refusal::Invalid)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Refusal::Missing);
        }
        self.verify(token.trim(), now)
    }

    /// Whom a token names.
    ///
    /// # Errors
    /// Why it is refused.
    pub fn verify(&self, token: &str, now: Instant) -> Result<Identity, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(Refusal::Invalid);
        }
        // The signature alone: the claims are checked below, by our clock and with our words.
        let mut validation = Validation::new(Algorithm::HS256);
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        let claims = self
            .secrets
            .iter()
            .find_map(|secret| {
                let key = DecodingKey::from_secret(secret);
                jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation).ok()
            })
            .ok_or(Refusal::Invalid)?
            .claims;
        self.identity(&claims, now)
    }

    fn identity(&self, claims: &Map<String, Value>, now: Instant) -> Result<Identity, Refusal> {
        let expires_at = self.check_times(claims, now)?;
        self.check_issuer_and_audience(claims)?;
        let subject = subject(claims)?;
        let roles = roles(claims)?;
        let visibility = tenants(claims)?;
        Ok(Identity { actor: Actor { subject, roles, visibility }, expires_at })
    }

    fn check_times(&self, claims: &Map<String, Value>, now: Instant) -> Result<Instant, Refusal> {
        let unfit = |why: &str| Refusal::Unfit(why.to_owned());
        let expires_at = instant(claims, "exp")?.ok_or_else(|| unfit("the token has no exp"))?;
        if expires_at <= now {
            return Err(unfit("the token has expired"));
        }
        let soon = now.plus_micros(CLOCK_SKEW_S * MICROS_PER_SECOND);
        if instant(claims, "nbf")?.is_some_and(|begin| begin > soon) {
            return Err(unfit("the token is not yet valid"));
        }
        let issued_at = instant(claims, "iat")?;
        if issued_at.is_some_and(|issued| issued > soon) {
            return Err(unfit("the token was issued in the future"));
        }
        if let Some(limit) = self.rules.max_lifetime_s {
            let begin = issued_at.unwrap_or(now);
            if expires_at > begin.plus_micros(limit.saturating_mul(MICROS_PER_SECOND)) {
                return Err(Refusal::Unfit(format!("the token lives longer than {limit} s")));
            }
        }
        Ok(expires_at)
    }

    fn check_issuer_and_audience(&self, claims: &Map<String, Value>) -> Result<(), Refusal> {
        if let Some(issuer) = &self.rules.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(Refusal::Unfit("the token is of another issuer".to_owned()));
        }
        if let Some(audience) = &self.rules.audience {
            let is_meant = match claims.get("aud") {
                Some(Value::String(one)) => one == audience,
                Some(Value::Array(many)) => many.iter().any(|one| one == audience.as_str()),
                _ => false,
            };
            if !is_meant {
                return Err(Refusal::Unfit("the token is for another audience".to_owned()));
            }
        }
        Ok(())
    }

    /// Makes a token, signed with the first secret.
    ///
    /// # Errors
    /// Where there is no secret, or it would live longer than this service accepts.
    pub fn mint(&self, request: &TokenRequest, now: Instant) -> anyhow::Result<String> {
        let secret = self.secrets.first().ok_or_else(|| anyhow::anyhow!("there is no secret"))?;
        if let Some(limit) = self.rules.max_lifetime_s
            && request.lifetime_s > limit
        {
            anyhow::bail!("the service refuses tokens that live longer than {limit} s");
        }
        let issued_at = now.micros().div_euclid(MICROS_PER_SECOND);
        let mut claims = json!({
            "sub": request.subject,
            "roles": request.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>(),
            "iat": issued_at,
            "exp": issued_at.saturating_add(request.lifetime_s),
        });
        if let Some(members) = claims.as_object_mut() {
            if let Some(tenants) = &request.tenants {
                let words: Vec<&str> = tenants.iter().map(Tenant::as_str).collect();
                members.insert("tenants".to_owned(), json!(words));
            }
            if let Some(issuer) = &self.rules.issuer {
                members.insert("iss".to_owned(), json!(issuer));
            }
            if let Some(audience) = &self.rules.audience {
                members.insert("aud".to_owned(), json!(audience));
            }
        }
        let key = EncodingKey::from_secret(secret);
        Ok(jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key)?)
    }
}

/// A NumericDate (RFC 7519): seconds, perhaps with a fraction.
fn instant(claims: &Map<String, Value>, name: &str) -> Result<Option<Instant>, Refusal> {
    let bad = || Refusal::Unfit(format!("the token's {name} is not a time"));
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

fn subject(claims: &Map<String, Value>) -> Result<String, Refusal> {
    let unfit = |why: &str| Refusal::Unfit(why.to_owned());
    let subject = claims
        .get("sub")
        .or_else(|| claims.get("username"))
        .and_then(Value::as_str)
        .ok_or_else(|| unfit("the token has no sub"))?;
    let is_plain = !subject.trim().is_empty()
        && subject.chars().count() <= MAX_SUBJECT_CHARS
        && !subject.chars().any(char::is_control);
    if is_plain {
        Ok(subject.to_owned())
    } else {
        Err(unfit("the token's sub is not a plain name"))
    }
}

/// Known roles; others beside them are the identity provider's own.
fn roles(claims: &Map<String, Value>) -> Result<Vec<Role>, Refusal> {
    let words = match claims.get("roles") {
        None => return Err(Refusal::NoRole),
        Some(Value::Array(words)) => words,
        Some(_) => return Err(Refusal::Unfit("the token's roles are not an array".to_owned())),
    };
    if words.is_empty() {
        return Err(Refusal::NoRole);
    }
    let mut roles = Vec::new();
    for word in words {
        if let Some(role) = word.as_str().and_then(Role::parse)
            && !roles.contains(&role)
        {
            roles.push(role);
        }
    }
    if roles.is_empty() {
        return Err(Refusal::Unfit("the token names no role that FireFlow knows".to_owned()));
    }
    Ok(roles)
}

/// A claim that cannot be read must not widen what is seen: it is refused.
fn tenants(claims: &Map<String, Value>) -> Result<Visibility, Refusal> {
    let bad = || Refusal::Unfit("the token's tenants are not an array of names".to_owned());
    let Some(value) = claims.get("tenants") else { return Ok(Visibility::All) };
    let words = value.as_array().ok_or_else(bad)?;
    if words.len() > MAX_TENANTS {
        return Err(bad());
    }
    let mut tenants = Vec::new();
    for word in words {
        let tenant = Tenant::parse(word.as_str().ok_or_else(bad)?).map_err(|_| bad())?;
        if !tenants.contains(&tenant) {
            tenants.push(tenant);
        }
    }
    Ok(Visibility::Tenants(tenants))
}

/// The role that an operation needs, as a type: it stands first among the operation's arguments,
/// so that a missing role is told before path, query and body are looked at.
pub trait Needs: Send + Sync + 'static {
    /// The role.
    const ROLE: Option<Role>;
}

macro_rules! needs {
    ($($name:ident = $role:expr, $doc:literal;)+) => {
        $(
            #[doc = $doc]
            #[derive(Debug)]
            pub struct $name;

            impl Needs for $name {
                const ROLE: Option<Role> = $role;
            }
        )+
    };
}

needs! {
    Anyone = None, "Any role at all.";
    Viewer = Some(Role::Viewer), "Reads and inspects.";
    Editor = Some(Role::Editor), "Also writes.";
    HealthCheck = Some(Role::HealthCheck), "Reads the detailed health.";
}

/// The name of the security scheme in the description.
pub const SCHEME: &str = "token";

/// A caller who holds a role. The middleware has checked the token; this checks the role.
pub struct As<R> {
    context: Context,
    role: PhantomData<fn() -> R>,
}

impl<R> fmt::Debug for As<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("As").field(&self.context).finish()
    }
}

impl<R> Deref for As<R> {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl<'a, R: Needs> ApiExtractor<'a> for As<R> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        registry.create_security_scheme(
            SCHEME,
            MetaSecurityScheme {
                ty: "http",
                description: Some(
                    "A JSON Web Token, HS256. For a local service `cargo xtask jwt` prints one.",
                ),
                name: None,
                key_in: None,
                scheme: Some("bearer"),
                bearer_format: Some("JWT"),
                flows: None,
                openid_connect_url: None,
            },
        );
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![SCHEME]
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        // Without a context the middleware was left out: nobody gets in.
        let context = request
            .extensions()
            .get::<Context>()
            .cloned()
            .ok_or_else(|| Problem::from(Refusal::Missing))?;
        if let Some(role) = R::ROLE
            && !context.caller.actor.may(role)
        {
            return Err(Problem::forbidden(role).into());
        }
        Ok(Self { context, role: PhantomData })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

    fn now() -> Instant {
        Instant::parse("2026-11-24T12:00:00Z").unwrap()
    }

    fn seconds() -> i64 {
        now().micros() / MICROS_PER_SECOND
    }

    fn authenticator() -> Authenticator {
        Authenticator::new(vec![SECRET.to_vec()], TokenRules::default())
    }

    fn sign(claims: &Value, algorithm: Algorithm, secret: &[u8]) -> String {
        let key = EncodingKey::from_secret(secret);
        jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn verify(claims: &Value) -> Result<Identity, Refusal> {
        authenticator().verify(&sign(claims, Algorithm::HS256, SECRET), now())
    }

    fn good() -> Value {
        json!({"sub": "ann", "roles": ["editor", "offline_access"], "exp": seconds() + 60})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().insert(name.to_owned(), value);
        claims
    }

    #[test]
    fn a_good_token_names_its_subject_and_known_roles() {
        let identity = verify(&good()).unwrap();
        assert_eq!(identity.actor.subject, "ann");
        assert_eq!(identity.actor.roles, [Role::Editor]);
        assert_eq!(identity.actor.visibility, Visibility::All);
    }

    #[test]
    fn odd_claims_are_refused_and_widen_nothing() {
        let cases = [
            with("exp", json!(seconds())),
            with("exp", json!("tomorrow")),
            with("exp", json!(1e300)),
            with("exp", json!(i64::MAX)),
            with("exp", Value::Null),
            with("nbf", json!(seconds() + 60)),
            with("iat", json!(seconds() + 3_600)),
            with("sub", json!(17)),
            with("sub", json!("a\nb")),
            with("sub", json!(" ")),
            with("roles", json!("admin")),
            with("roles", json!(["root"])),
            with("roles", json!([["admin"]])),
            with("roles", json!({"admin": true})),
            with("tenants", json!("blue")),
            with("tenants", Value::Null),
            with("tenants", json!([7])),
        ];
        for claims in cases {
            assert!(matches!(verify(&claims), Err(Refusal::Unfit(_))), "{claims}");
        }
        let mut without = good();
        without.as_object_mut().unwrap().remove("exp");
        assert_eq!(verify(&without).unwrap_err(), Refusal::Unfit("the token has no exp".into()));
        assert_eq!(verify(&with("roles", json!([]))).unwrap_err(), Refusal::NoRole);
        let nothing = verify(&with("tenants", json!([]))).unwrap();
        assert_eq!(nothing.actor.visibility, Visibility::Tenants(vec![]));
    }

    #[test]
    fn before_the_signature_holds_nothing_is_said() {
        let expired = with("exp", json!(1));
        let cases = [
            sign(&expired, Algorithm::HS256, b"another secret, another secret!!"),
            sign(&good(), Algorithm::HS384, SECRET),
            "a.b.c".to_owned(),
            String::new(),
            // alg: none
            "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.".to_owned(),
        ];
        for token in cases {
            assert_eq!(authenticator().verify(&token, now()).unwrap_err(), Refusal::Invalid);
        }
    }

    #[test]
    fn every_secret_verifies_and_the_first_signs() {
        let new = Authenticator::new(vec![b"new".to_vec(), SECRET.to_vec()], TokenRules::default());
        assert!(new.verify(&sign(&good(), Algorithm::HS256, SECRET), now()).is_ok());
        let request = TokenRequest {
            subject: "ann".into(),
            roles: vec![Role::Viewer],
            tenants: Some(vec![Tenant::parse("blue").unwrap()]),
            lifetime_s: 60,
        };
        let token = new.mint(&request, now()).unwrap();
        assert_eq!(authenticator().verify(&token, now()).unwrap_err(), Refusal::Invalid);
        let identity = new.verify(&token, now()).unwrap();
        assert_eq!(identity.actor.roles, [Role::Viewer]);
        assert_eq!(identity.expires_at, now().plus_micros(60 * MICROS_PER_SECOND));
    }

    #[test]
    fn issuer_audience_and_lifetime_are_checked_where_they_are_set() {
        let rules = TokenRules {
            issuer: Some("idp".into()),
            audience: Some("fireflow".into()),
            max_lifetime_s: Some(3_600),
        };
        let strict = Authenticator::new(vec![SECRET.to_vec()], rules);
        let check = |claims: Value| strict.verify(&sign(&claims, Algorithm::HS256, SECRET), now());
        let mut claims = with("iss", json!("idp"));
        assert!(check(claims.clone()).is_err(), "no audience");
        for audience in [json!("fireflow"), json!(["other", "fireflow"])] {
            claims["aud"] = audience;
            assert!(check(claims.clone()).is_ok());
        }
        claims["iss"] = json!("elsewhere");
        assert!(check(claims.clone()).is_err());
        claims["iss"] = json!("idp");
        claims["exp"] = json!(seconds() + 3_601);
        assert!(check(claims).is_err(), "lives too long");
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", authenticator()).contains("0123"));
    }
}

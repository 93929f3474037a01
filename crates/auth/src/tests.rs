use std::time::Duration;

use fireflow_domain::actor::Visibility;
use fireflow_domain::time::MICROS_PER_SECOND;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use super::*;

const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn now() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

fn seconds() -> i64 {
    now().micros() / MICROS_PER_SECOND
}

fn authenticator() -> Authenticator {
    with_secrets(&[SECRET], TokenRules::default())
}

fn with_secrets(secrets: &[&[u8]], rules: TokenRules) -> Authenticator {
    let secrets = secrets.iter().map(|secret| Secret::new(*secret)).collect();
    Authenticator::new(Trust::new(secrets, Vec::new(), rules, Revocations::default()))
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
        with("exp", json!(seconds() - LEEWAY_S)),
        with("exp", json!("tomorrow")),
        with("exp", json!(1e300)),
        with("exp", json!(i64::MAX)),
        with("exp", Value::Null),
        with("nbf", json!(seconds() + 60)),
        with("iat", json!(seconds() + 3_600)),
        with("sub", json!(17)),
        with("sub", json!("a\nb")),
        with("sub", json!(" ")),
        with("sub", json!(" ann")),
        with("sub", json!("ann\u{200B}")),
        with("tenants", json!(["blue\u{202E}"])),
        with("jti", json!(7)),
        with("roles", json!(7)),
        with("roles", json!("root")),
        with("roles", json!("editor,admin")),
        with("roles", json!(vec!["editor"; 1_001])),
        with("roles", json!(["root"])),
        with("roles", json!([["admin"]])),
        with("roles", json!({"admin": true})),
        with("tenants", json!("blue")),
        with("tenants", Value::Null),
        with("tenants", json!([7])),
        with("tenants", json!([" a"])),
        with("tenants", json!(["b", "a "])),
        with("tenants", json!(["\u{a0}a"])),
        with("tenants", json!((0..1_001).map(|it| it.to_string()).collect::<Vec<_>>())),
    ];
    for claims in cases {
        assert!(matches!(verify(&claims), Err(Refusal::Unfit(..))), "{claims}");
    }
    let mut without = good();
    without.as_object_mut().unwrap().remove("exp");
    assert_eq!(
        verify(&without).unwrap_err(),
        Refusal::Unfit(TokenFault::Claims, "the token has no exp".into())
    );
    assert_eq!(verify(&with("roles", json!([]))).unwrap_err(), Refusal::NoRole);
    for blank in [json!(""), json!(" ")] {
        assert_eq!(verify(&with("roles", blank)).unwrap_err(), Refusal::NoRole);
    }
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
    let new = with_secrets(&[b"new", SECRET], TokenRules::default());
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
        ..TokenRules::default()
    };
    let strict = with_secrets(&[SECRET], rules);
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

#[test]
fn roles_may_be_words_of_a_text() {
    let rules = TokenRules { roles_claim: "scope".into(), ..TokenRules::default() };
    let scoped = with_secrets(&[SECRET], rules);
    let check =
        |scope: Value| scoped.verify(&sign(&with("scope", scope), Algorithm::HS256, SECRET), now());
    let found = check(json!("openid viewer  health_check")).unwrap().actor.roles;
    assert_eq!(found, [Role::Viewer, Role::HealthCheck]);
    assert_eq!(check(json!("editor")).unwrap().actor.roles, [Role::Editor]);
    assert_eq!(check(json!(["admin", "openid"])).unwrap().actor.roles, [Role::Admin]);
    assert!(matches!(check(json!("openid Admin")), Err(Refusal::Unfit(TokenFault::Roles, _))));
}

#[test]
fn a_token_without_tenants_is_refused_if_they_are_demanded() {
    let rules = TokenRules { require_tenants: true, ..TokenRules::default() };
    let strict = with_secrets(&[SECRET], rules);
    let check = |claims: &Value| strict.verify(&sign(claims, Algorithm::HS256, SECRET), now());
    let Err(Refusal::Unfit(TokenFault::Tenants, why)) = check(&good()) else {
        panic!("a token without tenants shows all");
    };
    assert!(why.contains("FIREFLOW_JWT__REQUIRE_TENANTS"), "{why}");
    let blue = check(&with("tenants", json!(["blue", "blue"]))).unwrap().actor.visibility;
    assert_eq!(blue, Visibility::Tenants(vec![Tenant::parse("blue").unwrap()]));
    let none = check(&with("tenants", json!([]))).unwrap().actor.visibility;
    assert_eq!(none, Visibility::Tenants(vec![]));
    // No such token is created either.
    let mut request = TokenRequest {
        subject: "ann".into(),
        roles: vec![Role::Viewer],
        tenants: None,
        lifetime_s: 60,
    };
    assert!(strict.mint(&request, now()).unwrap_err().to_string().contains("REQUIRE_TENANTS"));
    request.tenants = Some(Vec::new());
    assert!(strict.verify(&strict.mint(&request, now()).unwrap(), now()).is_ok());
    request.subject = " ann".into();
    assert!(strict.mint(&request, now()).is_err(), "no token that would be refused");
}

#[test]
fn a_token_has_one_spelling() {
    let token = sign(&good(), Algorithm::HS256, SECRET);
    let authenticator = authenticator();
    assert!(authenticator.verify(&token, now()).is_ok());
    let (head, signature) = token.rsplit_once('.').unwrap();
    for odd in [
        format!("{token}="),
        format!("{token}."),
        format!(".{token}"),
        format!("{head}.{signature}.{signature}"),
        format!("{head}. {signature}"),
        head.to_owned(),
    ] {
        assert_eq!(authenticator.verify(&odd, now()).unwrap_err(), Refusal::Invalid, "{odd}");
    }
    // Duplicate members of the header are refused, and `crit` whatever its value.
    for header in [
        r#"{"alg":"HS256","alg":"HS256"}"#,
        r#"{"alg":"HS256","crit":null}"#,
        r#"{"alg":"HS256","kid":7}"#,
        r#"{"typ":"JWT"}"#,
        r#"["HS256"]"#,
    ] {
        use base64::Engine;
        let encode = |text: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        let message =
            format!("{}.{}", encode(header.as_bytes()), encode(good().to_string().as_bytes()));
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
        let signed =
            format!("{message}.{}", encode(ring::hmac::sign(&key, message.as_bytes()).as_ref()));
        assert_eq!(authenticator.verify(&signed, now()).unwrap_err(), Refusal::Invalid, "{header}");
    }
}

#[test]
fn what_is_invisible_in_a_token_is_named_and_no_such_token_is_made() {
    let why = |claims: &Value| match verify(claims) {
        Err(Refusal::Unfit(_, why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(&with("sub", json!("ann\u{200B}"))).contains("U+200B ZERO WIDTH SPACE"));
    assert!(why(&with("tenants", json!(["\u{202E}eulb"]))).contains("U+202E"));
    let request = TokenRequest {
        subject: "ann\u{AD}".to_owned(),
        roles: vec![Role::Viewer],
        tenants: None,
        lifetime_s: 60,
    };
    let refused = authenticator().mint(&request, now()).unwrap_err();
    assert!(refused.to_string().contains("U+00AD SOFT HYPHEN"), "{refused}");
}

/// A watcher that is as fast as can be ends its passes at every possible moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_reload_is_waited_for_in_vain() {
    let reload = ReloadHandle::default();
    let watched = reload.clone();
    let watcher = tokio::spawn(async move {
        loop {
            watched.pass_ended(Duration::from_secs(86_400)).await;
        }
    });
    let waits = async {
        for _ in 0..20_000 {
            reload.reload_and_wait().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), waits).await.unwrap();
    watcher.abort();
}

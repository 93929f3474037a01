//! Tokens, section by section of RFC 8725 (JSON Web Token Best Current Practices).
//! `docs/security.md` lists the test of each section.

use fireflow_auth::{Authenticator, Refusal, RoleMap, TokenFault};
use fireflow_domain::actor::{Actor, Role, Visibility};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::signers::{
    Files, Signer, accepts, authenticator, base64_url, claims, hs256, now, seconds, why, with,
};
use crate::support::SECRET;

const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

#[test]
fn tokens_of_every_algorithm_are_checked_with_keys_in_either_form() {
    let files = Files::new();
    let signers: Vec<Signer> = ALGORITHMS.map(|it| Signer::new(it, None)).into();
    let pem: String = signers.iter().map(Signer::public_pem).collect();
    let jwks = json!({"keys": signers.iter().map(Signer::jwk).collect::<Vec<_>>()}).to_string();
    for keys in [pem, jwks] {
        let authenticator = authenticator(&files.trusting(&keys));
        for signer in &signers {
            assert!(accepts(&authenticator, &signer.sign(&claims())), "{:?}", signer.algorithm);
            let stranger = Signer::new(signer.algorithm, None);
            assert!(!accepts(&authenticator, &stranger.sign(&claims())), "{:?}", signer.algorithm);
        }
        assert!(accepts(&authenticator, &hs256(&claims())), "and those of the secret");
    }
}

#[test]
fn the_kid_chooses_among_several_keys() {
    let files = Files::new();
    let [old, new] = ["2025", "2026"].map(|kid| Signer::new(Algorithm::ES256, Some(kid)));
    let keys = json!({"keys": [old.jwk(), new.jwk()]}).to_string();
    let authenticator = authenticator(&files.trusting(&keys));
    assert!([&old, &new].iter().all(|it| accepts(&authenticator, &it.sign(&claims()))));
    let liar = Signer { kid: Some("2025"), ..new };
    assert!(!accepts(&authenticator, &liar.sign(&claims())), "signed with another than it says");
    let nameless = Signer { kid: None, ..liar };
    assert!(accepts(&authenticator, &nameless.sign(&claims())), "all of them are tried");
    let unknown = Signer { kid: Some("2027"), ..nameless };
    assert!(!accepts(&authenticator, &unknown.sign(&claims())));
}

/// Tests RFC 8725, sections 2.1 and 3.1.
#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens_choice() {
    let files = Files::new();
    let signer = Signer::new(Algorithm::RS256, None);
    let pem = signer.public_pem();
    let authenticator = authenticator(&files.trusting(&pem));
    // The public key, which is no secret, is used as an HMAC secret in each of its encodings.
    let der = signer.pair.public_key_raw().to_vec();
    for secret in [pem.as_bytes(), pem.trim().as_bytes(), &der] {
        let key = EncodingKey::from_secret(secret);
        let forged = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims(), &key).unwrap();
        assert!(!accepts(&authenticator, &forged));
    }
    // Other algorithms with the right keys.
    for algorithm in [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256] {
        let other =
            jsonwebtoken::encode(&Header::new(algorithm), &claims(), &signer.encoding_key());
        assert!(!accepts(&authenticator, &other.unwrap()), "{algorithm:?}");
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let key = EncodingKey::from_secret(SECRET);
        let other = jsonwebtoken::encode(&Header::new(algorithm), &claims(), &key).unwrap();
        assert!(!accepts(&authenticator, &other), "{algorithm:?}");
    }
    // No algorithm at all, in every spelling, with and without a signature.
    let good = hs256(&claims());
    let mut parts = good.split('.');
    let (_, body, signature) = (parts.next(), parts.next().unwrap(), parts.next().unwrap());
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = base64_url(json!({"alg": none, "typ": "JWT"}).to_string().as_bytes());
        for signature in ["", signature] {
            assert!(!accepts(&authenticator, &format!("{header}.{body}.{signature}")), "{none}");
        }
    }
}

/// Tests RFC 8725, sections 3.3, 3.4, 3.10 and 3.11, and RFC 7515, section 4.1.11.
#[test]
fn what_a_header_asks_for_is_neither_followed_nor_overlooked() {
    let files = Files::new();
    let signer = Signer::new(Algorithm::ES256, None);
    let authenticator = authenticator(&files.trusting(&signer.public_pem()));
    let signed = |change: &dyn Fn(&mut Header)| {
        let mut header = Header::new(Algorithm::ES256);
        change(&mut header);
        jsonwebtoken::encode(&header, &claims(), &signer.encoding_key()).unwrap()
    };
    assert!(accepts(&authenticator, &signed(&|_| {})));
    // A key in the token's header, or a link to one, is ignored.
    let stranger = Signer::new(Algorithm::ES256, None);
    let mut header = Header::new(Algorithm::ES256);
    header.jwk = Some(serde_json::from_value(stranger.jwk()).unwrap());
    header.jku = Some("http://127.0.0.1:9/keys".to_owned());
    header.x5u = Some("http://127.0.0.1:9/certificate".to_owned());
    let forged = jsonwebtoken::encode(&header, &claims(), &stranger.encoding_key()).unwrap();
    assert!(!accepts(&authenticator, &forged));
    // A critical header parameter that the service does not know.
    let critical = signed(&|header| header.crit = Some(vec!["b64".to_owned()]));
    assert!(!accepts(&authenticator, &critical));
    for (typ, is_ours) in [
        ("JWT", true),
        ("jwt", true),
        ("at+jwt", true),
        ("application/at+jwt", true),
        ("logout+jwt", false),
        ("dpop+jwt", false),
        ("secevent+jwt", false),
        ("", false),
    ] {
        let token = signed(&|header| header.typ = Some(typ.to_owned()));
        assert_eq!(accepts(&authenticator, &token), is_ours, "{typ}");
    }
    let untyped = signed(&|header| header.typ = None);
    assert!(accepts(&authenticator, &untyped));
    // A signature that was changed or truncated.
    let good = signed(&|_| {});
    let mut cut = good.clone();
    cut.truncate(good.len() - 4);
    for bad in [cut, format!("{good}AAAA"), good.replacen('.', "..", 1)] {
        assert!(!accepts(&authenticator, &bad));
    }
}

/// Tests RFC 8725, sections 3.8 and 3.9, and 2.7 and 2.8 (substitution, cross-JWT confusion).
#[test]
fn issuer_and_audience_have_to_be_ours() {
    let files = Files::new();
    let authenticator =
        authenticator(&files.trusting(&Signer::new(Algorithm::ES256, None).public_pem()));
    assert!(accepts(&authenticator, &hs256(&claims())));
    for iss in [json!("other"), json!(["idp"]), json!(null), json!("idp ")] {
        assert_eq!(why(&authenticator, &hs256(&with("iss", iss))), "the token has another issuer");
    }
    for aud in [json!("other"), json!(["other"]), json!([]), json!(null), json!({"fireflow": 1})] {
        let token = hs256(&with("aud", aud));
        assert_eq!(why(&authenticator, &token), "the token is for another audience");
    }
    assert!(accepts(&authenticator, &hs256(&with("aud", json!(["other", "fireflow"])))));
}

#[test]
fn clocks_may_differ_by_the_leeway_and_no_more() {
    let files = Files::new();
    let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
    trust.rules.leeway_s = 30;
    trust.rules.max_lifetime_s = Some(3_600);
    let authenticator = authenticator(&trust);
    for (name, offset, is_good) in [
        ("exp", -29, true),
        ("exp", -30, false),
        ("nbf", 30, true),
        ("nbf", 31, false),
        ("iat", 30, true),
        ("iat", 31, false),
        ("exp", 3_600, true),
        ("exp", 3_601, false),
    ] {
        let token = hs256(&with(name, json!(seconds() + offset)));
        assert_eq!(accepts(&authenticator, &token), is_good, "{name} {offset}");
    }
    // A verified token is checked again once time has passed.
    let token = hs256(&claims());
    assert!(accepts(&authenticator, &token));
    let later = now().plus_micros(91 * 1_000_000);
    assert_eq!(
        authenticator.verify(&token, later).unwrap_err(),
        Refusal::Unfit(TokenFault::Expired, "the token has expired".to_owned())
    );
}

fn role_map(pairs: &[(&str, Role)]) -> RoleMap {
    pairs.iter().map(|(group, role)| ((*group).to_owned(), *role)).collect()
}

fn actor(authenticator: &Authenticator, claims: &Value) -> Actor {
    authenticator.verify(&hs256(claims), now()).unwrap().actor
}

#[test]
fn roles_come_from_the_claim_and_the_groups_that_are_set() {
    let files = Files::new();
    let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
    trust.rules.roles_claim = "realm_access.roles".to_owned();
    trust.rules.role_map = Some(role_map(&[("fw-admins", Role::Admin), ("fw-ops", Role::Editor)]));
    let authenticator = authenticator(&trust);
    let nested = |words: Value| with("realm_access", json!({"roles": words}));
    let found = actor(&authenticator, &nested(json!(["fw-ops", "offline_access"])));
    assert_eq!(found.roles, [Role::Editor]);
    assert_eq!(found.visibility, Visibility::All);
    // A group that the map lacks gives no role, even if it has the name of a role. Other claims are
    // ignored.
    assert!(why(&authenticator, &hs256(&nested(json!(["admin"])))).contains("no role"));
    assert_eq!(why(&authenticator, &hs256(&claims())), "NoRole");
    let odd = with("realm_access", json!(["fw-admins"]));
    assert_eq!(why(&authenticator, &hs256(&odd)), "NoRole");
    // A claim name that is a URL contains dots.
    trust.rules.roles_claim = "https://example.org/roles".to_owned();
    let named = with("https://example.org/roles", json!(["fw-admins"]));
    let authenticator = Authenticator::new(trust.read().unwrap());
    assert_eq!(actor(&authenticator, &named).roles, [Role::Admin]);
}

#[test]
fn a_token_that_is_minted_is_one_that_is_taken() {
    let files = Files::new();
    let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
    trust.rules.roles_claim = "realm_access.roles".to_owned();
    trust.rules.role_map = Some(role_map(&[("fw-ops", Role::Editor)]));
    let authenticator = authenticator(&trust);
    let mut request = fireflow_auth::TokenRequest {
        subject: "ann".to_owned(),
        roles: vec![Role::Editor],
        tenants: None,
        lifetime_s: 60,
    };
    let token = authenticator.mint(&request, now()).unwrap();
    assert_eq!(authenticator.verify(&token, now()).unwrap().actor.roles, [Role::Editor]);
    request.roles = vec![Role::Admin];
    assert!(authenticator.mint(&request, now()).unwrap_err().to_string().contains("role map"));
    trust.secrets = Vec::new();
    let without = Authenticator::new(trust.read().unwrap());
    assert!(without.mint(&request, now()).unwrap_err().to_string().contains("no secret"));
    assert!(!accepts(&without, &token), "and it takes none of a secret");
}

/// Tests RFC 9864: the algorithm's own name, and the name that it shares with Ed448.
#[test]
fn ed25519_has_two_names() {
    let files = Files::new();
    let signer = Signer::new(Algorithm::EdDSA, Some("a"));
    let signed = |header: Value| {
        let message = [header.to_string(), claims().to_string()];
        let message = message.map(|part| base64_url(part.as_bytes())).join(".");
        let signature = jsonwebtoken::crypto::sign(
            message.as_bytes(),
            &signer.encoding_key(),
            signer.algorithm,
        );
        format!("{message}.{}", signature.unwrap())
    };
    let [mut old, mut new] = [signer.jwk(), signer.jwk()];
    (old["alg"], new["alg"]) = (json!("EdDSA"), json!("Ed25519"));
    for keys in [signer.public_pem(), old.to_string(), new.to_string()] {
        let authenticator = authenticator(&files.trusting(&keys));
        for alg in ["EdDSA", "Ed25519"] {
            assert!(accepts(&authenticator, &signed(json!({"alg": alg, "kid": "a"}))), "{alg}");
        }
        for alg in ["Ed448", "ed25519", "ESP256", "HS256"] {
            assert!(!accepts(&authenticator, &signed(json!({"alg": alg, "kid": "a"}))), "{alg}");
        }
    }
}

#[test]
fn words_of_a_text_are_mapped_one_by_one() {
    let files = Files::new();
    let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
    trust.rules.roles_claim = "scope".to_owned();
    trust.rules.role_map = Some(role_map(&[("fw:write", Role::Editor), ("fw write", Role::Admin)]));
    let authenticator = authenticator(&trust);
    let found = actor(&authenticator, &with("scope", json!("openid fw:write")));
    assert_eq!(found.roles, [Role::Editor]);
    // Two words are never one group.
    assert!(why(&authenticator, &hs256(&with("scope", json!("fw write")))).contains("no role"));
    let found = actor(&authenticator, &with("scope", json!(["fw write"])));
    assert_eq!(found.roles, [Role::Admin]);
}

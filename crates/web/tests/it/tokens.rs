//! Tokens, point by point of RFC 8725 (JSON Web Token Best Current Practices): `docs/security.md`
//! names the test of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use fireflow::auth::{Authenticator, Fault, KeyFiles, Refusal, TokenRules, public_keys, watch};
use fireflow::settings::Secret;
use fireflow_domain::actor::{Actor, Role, Visibility};
use fireflow_domain::time::Instant;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PKCS_RSA_SHA256, SignatureAlgorithm};
use serde_json::{Value, json};

use crate::support::SECRET;

/// An identity provider's key.
struct Signer {
    pair: KeyPair,
    algorithm: Algorithm,
    kid: Option<&'static str>,
}

impl Signer {
    fn new(algorithm: Algorithm, kid: Option<&'static str>) -> Self {
        let of: &SignatureAlgorithm = match algorithm {
            Algorithm::RS256 => &PKCS_RSA_SHA256,
            Algorithm::ES256 => &PKCS_ECDSA_P256_SHA256,
            _ => &PKCS_ED25519,
        };
        Self { pair: KeyPair::generate_for(of).unwrap(), algorithm, kid }
    }

    fn encoding_key(&self) -> EncodingKey {
        let pem = self.pair.serialize_pem();
        let read = match self.algorithm {
            Algorithm::RS256 => EncodingKey::from_rsa_pem,
            Algorithm::ES256 => EncodingKey::from_ec_pem,
            _ => EncodingKey::from_ed_pem,
        };
        read(pem.as_bytes()).unwrap()
    }

    fn sign(&self, claims: &Value) -> String {
        let header = Header { kid: self.kid.map(str::to_owned), ..Header::new(self.algorithm) };
        jsonwebtoken::encode(&header, claims, &self.encoding_key()).unwrap()
    }

    fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    fn jwk(&self) -> Value {
        let pem = self.public_pem();
        let read = match self.algorithm {
            Algorithm::RS256 => DecodingKey::from_rsa_pem,
            Algorithm::ES256 => DecodingKey::from_ec_pem,
            _ => DecodingKey::from_ed_pem,
        };
        let key = read(pem.as_bytes()).unwrap();
        let jwk = jsonwebtoken::jwk::Jwk::from_decoding_key(&key, Some(self.algorithm)).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        if let Some(kid) = self.kid {
            jwk["kid"] = json!(kid);
        }
        jwk
    }
}

fn now() -> Instant {
    Instant::parse("2026-11-24T12:00:00Z").unwrap()
}

fn seconds() -> i64 {
    now().micros() / 1_000_000
}

fn claims() -> Value {
    json!({
        "sub": "ann", "roles": ["editor"], "iss": "idp", "aud": "fireflow",
        "iat": seconds(), "exp": seconds() + 60,
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Writes a file as careful programs do: never half of it.
    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let (draft, path) = (self.folder.path().join("draft"), self.folder.path().join(name));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, &path).unwrap();
        path
    }

    fn trusting(&self, keys: &str) -> KeyFiles {
        KeyFiles {
            secrets: vec![Secret::new(SECRET)],
            secret_file: None,
            public_keys: Some(self.write("keys", keys)),
            revoked: None,
            rules: TokenRules {
                issuer: Some("idp".to_owned()),
                audience: Some("fireflow".to_owned()),
                ..TokenRules::default()
            },
            takes_weak_secrets: false,
        }
    }
}

fn authenticator(files: &KeyFiles) -> Authenticator {
    Authenticator::new(files.read().unwrap())
}

fn accepts(authenticator: &Authenticator, token: &str) -> bool {
    authenticator.verify(token, now()).is_ok()
}

fn hs256(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET);
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

fn why(authenticator: &Authenticator, token: &str) -> String {
    match authenticator.verify(token, now()).unwrap_err() {
        Refusal::Unfit(_, why) => why,
        other => format!("{other:?}"),
    }
}

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

/// RFC 8725, 2.1 and 3.1.
#[test]
fn the_algorithm_is_the_keys_and_never_the_tokens_choice() {
    let files = Files::new();
    let signer = Signer::new(Algorithm::RS256, None);
    let pem = signer.public_pem();
    let authenticator = authenticator(&files.trusting(&pem));
    // The public key, which everybody has, as a secret: in every spelling of it.
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
    // None at all, in every spelling, with and without a signature.
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

fn base64_url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

/// RFC 8725, 3.3 and 3.4; RFC 7515, 4.1.11; RFC 8725, 3.10 and 3.11.
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
    // A key of the token's own, or where to get one, is nothing to us.
    let stranger = Signer::new(Algorithm::ES256, None);
    let mut header = Header::new(Algorithm::ES256);
    header.jwk = Some(serde_json::from_value(stranger.jwk()).unwrap());
    header.jku = Some("http://127.0.0.1:9/keys".to_owned());
    header.x5u = Some("http://127.0.0.1:9/certificate".to_owned());
    let forged = jsonwebtoken::encode(&header, &claims(), &stranger.encoding_key()).unwrap();
    assert!(!accepts(&authenticator, &forged));
    // What must be understood, and is not.
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
    // A signature that was changed, or cut.
    let good = signed(&|_| {});
    let mut cut = good.clone();
    cut.truncate(good.len() - 4);
    for bad in [cut, format!("{good}AAAA"), good.replacen('.', "..", 1)] {
        assert!(!accepts(&authenticator, &bad));
    }
}

/// RFC 8725, 3.5 and 2.2.
#[test]
fn weak_keys_and_those_that_do_not_belong_are_refused_with_a_reason() {
    let files = Files::new();
    let signer = Signer::new(Algorithm::ES256, Some("a"));
    let private = signer.pair.serialize_pem();
    let mut private_jwk = signer.jwk();
    private_jwk["d"] = json!("AAAA");
    for (keys, word) in [
        (include_str!("data/rsa-1024.pub.pem").to_owned(), "less than 2048 bits"),
        (include_str!("data/p-384.pub.pem").to_owned(), "P-256"),
        (private.clone(), "private key"),
        (json!({"keys": [private_jwk]}).to_string(), "the key `a` is a private key"),
        (json!({"kty": "oct", "k": "c2VjcmV0"}).to_string(), "FIREFLOW_JWT_SECRET"),
        (json!({"keys": []}).to_string(), "no public key"),
        (json!({"keys": 7}).to_string(), "not an array"),
        ("{".to_owned(), "is not a JWKS"),
        (String::new(), "no public key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "-pubkey"),
    ] {
        // None of it is trusted, at the start or later.
        assert!(public_keys(&keys).is_err() || public_keys(&keys).is_ok_and(|it| it.0.is_empty()));
        let fault = files.trusting(&keys).read().unwrap_err();
        assert!(fault.starts_with("FIREFLOW_JWT__PUBLIC_KEYS: "), "{fault}");
        assert!(fault.contains(word), "{fault}");
        assert!(!fault.contains("AAAA") && !fault.contains("c2VjcmV0"), "{fault}");
    }
    // An identity provider's set holds more than what we use; that is no fault.
    let mut for_encryption = Signer::new(Algorithm::RS256, Some("enc")).jwk();
    for_encryption["use"] = json!("enc");
    let mut of_512 = Signer::new(Algorithm::RS256, Some("512")).jwk();
    of_512["alg"] = json!("RS512");
    let set = json!({"keys": [for_encryption, of_512, signer.jwk()]}).to_string();
    let (keys, faults) = public_keys(&set).unwrap();
    assert_eq!((keys.len(), faults.len()), (1, 0));
    let too_many: Vec<Value> = (0..65).map(|_| signer.jwk()).collect();
    assert!(
        public_keys(&json!({"keys": too_many}).to_string()).unwrap_err().contains("at most 64")
    );
    let files = KeyFiles {
        secret_file: Some(files.write("secret", "short\n")),
        ..files.trusting(&signer.public_pem())
    };
    assert!(files.read().unwrap_err().contains("too short"));
}

/// RFC 8725, 3.8 and 3.9; 2.7 and 2.8 (substitution, cross-JWT confusion).
#[test]
fn issuer_and_audience_have_to_be_ours() {
    let files = Files::new();
    let authenticator =
        authenticator(&files.trusting(&Signer::new(Algorithm::ES256, None).public_pem()));
    assert!(accepts(&authenticator, &hs256(&claims())));
    for iss in [json!("other"), json!(["idp"]), json!(null), json!("idp ")] {
        assert_eq!(
            why(&authenticator, &hs256(&with("iss", iss))),
            "the token is of another issuer"
        );
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
    // A token that was checked once is looked at again when time has passed.
    let token = hs256(&claims());
    assert!(accepts(&authenticator, &token));
    let later = now().plus_micros(91 * 1_000_000);
    assert_eq!(
        authenticator.verify(&token, later).unwrap_err(),
        Refusal::Unfit(Fault::Expired, "the token has expired".to_owned())
    );
}

fn actor(authenticator: &Authenticator, claims: &Value) -> Actor {
    authenticator.verify(&hs256(claims), now()).unwrap().actor
}

#[test]
fn roles_come_from_the_claim_and_the_groups_that_are_set() {
    let files = Files::new();
    let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
    trust.rules.roles_claim = "realm_access.roles".to_owned();
    trust.rules.role_map =
        Some(vec![("fw-admins".into(), Role::Admin), ("fw-ops".into(), Role::Editor)]);
    let authenticator = authenticator(&trust);
    let nested = |words: Value| with("realm_access", json!({"roles": words}));
    let found = actor(&authenticator, &nested(json!(["fw-ops", "offline_access"])));
    assert_eq!(found.roles, [Role::Editor]);
    assert_eq!(found.visibility, Visibility::All);
    // What the map does not name is nothing, even where it is called like a role; nor does the
    // claim count that is not the one.
    assert!(why(&authenticator, &hs256(&nested(json!(["admin"])))).contains("no role"));
    assert_eq!(why(&authenticator, &hs256(&claims())), "NoRole");
    let odd = with("realm_access", json!(["fw-admins"]));
    assert_eq!(why(&authenticator, &hs256(&odd)), "NoRole");
    // Names that are URLs hold dots.
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
    trust.rules.role_map = Some(vec![("fw-ops".into(), Role::Editor)]);
    let authenticator = authenticator(&trust);
    let mut request = fireflow::auth::TokenRequest {
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

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "{what}: not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_is_withdrawn_under_load_opens_nothing_from_then_on() {
    let files = Files::new();
    let [old, new] = ["2025", "2026"].map(|kid| Signer::new(Algorithm::ES256, Some(kid)));
    let both = json!({"keys": [old.jwk(), new.jwk()]}).to_string();
    let trust = files.trusting(&both);
    let authenticator = authenticator(&trust);
    let [old_token, new_token] = [&old, &new].map(|it| it.sign(&claims()));
    let is_over = Arc::new(AtomicBool::new(false));
    let (checks, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut load = Vec::new();
    for _ in 0..4 {
        let (authenticator, old_token) = (authenticator.clone(), old_token.clone());
        let new_token = new_token.clone();
        let (is_over, checks, refused) =
            (Arc::clone(&is_over), Arc::clone(&checks), Arc::clone(&refused));
        load.push(std::thread::spawn(move || {
            let mut was_refused = false;
            while !is_over.load(Ordering::SeqCst) {
                let is_taken = accepts(&authenticator, &old_token);
                // Never again once it was not, whatever was remembered or under way.
                assert!(!(was_refused && is_taken), "a withdrawn key opened again");
                if !is_taken && !was_refused {
                    refused.fetch_add(1, Ordering::SeqCst);
                }
                was_refused |= !is_taken;
                assert!(accepts(&authenticator, &new_token), "the other key opens all the time");
                checks.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let watcher = tokio::spawn(watch(trust, authenticator.clone(), Duration::from_millis(5)));
    until("the load runs", || checks.load(Ordering::SeqCst) > 2_000).await;
    assert_eq!(refused.load(Ordering::SeqCst), 0);
    // What cannot be read changes nothing.
    files.write("keys", "{\"keys\": [");
    let seen = checks.load(Ordering::SeqCst);
    until("it goes on", || checks.load(Ordering::SeqCst) > seen + 2_000).await;
    assert_eq!(refused.load(Ordering::SeqCst), 0);
    files.write("keys", &json!({"keys": [new.jwk()]}).to_string());
    until("all threads are refused", || refused.load(Ordering::SeqCst) == 4).await;
    is_over.store(true, Ordering::SeqCst);
    for thread in load {
        thread.join().unwrap();
    }
    // The last one goes too, beside one that cannot be used, or alone.
    let mut bad = old.jwk();
    bad["d"] = json!("AAAA");
    files.write("keys", &json!({"keys": [bad]}).to_string());
    until("nobody is let in", || !accepts(&authenticator, &new_token)).await;
    files.write("keys", &json!({"keys": [new.jwk()]}).to_string());
    until("the new one is back", || accepts(&authenticator, &new_token)).await;
    files.write("keys", "{\"keys\": []}");
    until("nobody is let in", || !accepts(&authenticator, &new_token)).await;
    watcher.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_and_revocations_change_without_a_restart() {
    let files = Files::new();
    let secret = |word: &str| format!("{word}-0123456789abcdef0123456789abcdef");
    let mut trust = files.trusting(&Signer::new(Algorithm::ES256, None).public_pem());
    trust.secrets = Vec::new();
    trust.secret_file = Some(files.write("secret", &secret("old")));
    trust.revoked = Some(files.write("revoked", ""));
    let authenticator = authenticator(&trust);
    let of = |word: &str, claims: &Value| {
        let key = EncodingKey::from_secret(secret(word).as_bytes());
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
    };
    let (old, new) = (of("old", &with("jti", json!("7"))), of("new", &claims()));
    let watcher = tokio::spawn(watch(trust, authenticator.clone(), Duration::from_millis(5)));
    assert!(accepts(&authenticator, &old) && !accepts(&authenticator, &new));

    files.write("secret", &format!("{}\n{}\n", secret("new"), secret("old")));
    until("the new one opens too", || accepts(&authenticator, &new)).await;
    assert!(accepts(&authenticator, &old));
    // A file without a secret withdraws none, and keeps no other file from being read; nor does a
    // line that nobody understands.
    files.write("secret", "\n");
    files.write("revoked", "nonsense\njti 7\n");
    until("one token is refused", || !accepts(&authenticator, &old)).await;
    assert_eq!(why(&authenticator, &old), "the token was revoked");
    assert!(accepts(&authenticator, &new));
    files.write("revoked", &format!("jti 7\nsub ann {}\n", now()));
    until("all of a subject are refused", || !accepts(&authenticator, &new)).await;
    // It is read at once where that is asked for.
    authenticator.reload_handle().reload_and_wait().await;
    // A line that is cut takes nothing back.
    files.write("revoked", "jti 7\nsub ann 2026-11\n");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!accepts(&authenticator, &new));
    files.write("revoked", "# nobody\n");
    until("and taken again", || accepts(&authenticator, &new)).await;
    watcher.abort();
}

#[tokio::test]
async fn files_are_read_at_once_when_that_is_asked_for() {
    let files = Files::new();
    let [old, new] = ["2025", "2026"].map(|kid| Signer::new(Algorithm::ES256, Some(kid)));
    let trust = files.trusting(&json!({"keys": [old.jwk()]}).to_string());
    let authenticator = authenticator(&trust);
    let [old_token, new_token] = [&old, &new].map(|it| it.sign(&claims()));
    let reload = authenticator.reload_handle();
    // Without being asked, it would read them again tomorrow.
    let tomorrow = Duration::from_secs(86_400);
    let watcher = tokio::spawn(watch(trust, authenticator.clone(), tomorrow));
    reload.reload_and_wait().await;
    assert!(accepts(&authenticator, &old_token) && !accepts(&authenticator, &new_token));
    files.write("keys", &json!({"keys": [new.jwk()]}).to_string());
    reload.reload_and_wait().await;
    assert!(accepts(&authenticator, &new_token) && !accepts(&authenticator, &old_token));
    watcher.abort();
}

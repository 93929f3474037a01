//! The keys that a file may hold, and the messages about other keys.

use std::fmt::Write;

use fireflow_auth::{KeyFiles, public_keys};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::signers::{Files, Signer, accepts, authenticator, base64_url, claims, cut};

const ALGORITHMS: [Algorithm; 3] = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];

fn with(mut jwk: Value, name: &str, value: Value) -> Value {
    jwk[name] = value;
    jwk
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn from_base64_url(text: &Value) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text.as_str().unwrap()).unwrap()
}

/// Tests RFC 8725, sections 3.5 and 2.2.
#[test]
fn weak_keys_and_those_that_do_not_belong_are_refused_with_a_reason() {
    let files = Files::new();
    let signer = Signer::new(Algorithm::ES256, Some("a"));
    let private = signer.pair.serialize_pem();
    for (keys, word) in [
        (include_str!("data/rsa-1024.pub.pem").to_owned(), "less than 2048 bits"),
        (include_str!("data/rsa-8200.pub.pem").to_owned(), "more than 8192 bits"),
        (include_str!("data/rsa-pss.pub.pem").to_owned(), "for PSS"),
        (include_str!("data/p-384.pub.pem").to_owned(), "P-256"),
        (include_str!("data/p-521.pub.pem").to_owned(), "P-256"),
        (include_str!("data/secp256k1.pub.pem").to_owned(), "another curve than P-256"),
        (include_str!("data/ed448.pub.pem").to_owned(), "not an RSA, P-256 or Ed25519 key"),
        (private.clone(), "private key"),
        (set(&[with(signer.jwk(), "d", json!("AAAA"))]), "the key `a` is a private key"),
        (json!({"kty": "oct", "k": "c2VjcmV0"}).to_string(), "FIREFLOW_JWT_SECRET"),
        (set(&[with(signer.jwk(), "k", json!("c2VjcmV0"))]), "FIREFLOW_JWT_SECRET"),
        (set(&[]), "no usable public key"),
        (json!({"keys": 7}).to_string(), "not an array"),
        (set(&[json!(["RSA"]), json!("x")]), "key 1 is not an object; key 2 is not an object"),
        ("{".to_owned(), "is not a JWKS"),
        (String::new(), "no public key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "-pubkey"),
    ] {
        // The whole file is refused, at the start and later.
        let fault = public_keys(&keys).unwrap_err();
        assert!(fault.contains(word), "{fault}");
        let fault = files.trusting(&keys).read().unwrap_err();
        assert!(fault.starts_with("FIREFLOW_JWT__PUBLIC_KEYS: "), "{fault}");
        assert!(fault.contains(word), "{fault}");
        assert!(!fault.contains("AAAA") && !fault.contains("c2VjcmV0"), "{fault}");
    }
    let too_many = vec![signer.jwk(); 65];
    assert!(public_keys(&set(&too_many)).unwrap_err().contains("at most 64"));
    assert!(public_keys(&set(&vec![json!({}); 1_001])).unwrap_err().contains("at most 64"));
    assert!(public_keys(&private.repeat(1_001)).unwrap_err().contains("at most 64"));
    let files = KeyFiles {
        secret_file: Some(files.write("secret", "short\n")),
        ..files.trusting(&signer.public_pem())
    };
    assert!(files.read().unwrap_err().contains("too short"));
}

/// Tests RFC 8725, section 3.4.
#[test]
fn keys_that_can_never_verify_are_refused_with_a_reason() {
    let files = Files::new();
    let [rsa, ec, ed] = ALGORITHMS.map(|it| Signer::new(it, Some("a")).jwk());
    let good = Signer::new(Algorithm::ES256, Some("good"));
    let zeros = json!(base64_url(&[0; 32]));
    let even = {
        let mut n = from_base64_url(&rsa["n"]);
        *n.last_mut().unwrap() &= 0xfe;
        json!(base64_url(&n))
    };
    for (key, word) in [
        // A point off the curve, a coordinate of another point, and a coordinate that is too long.
        (with(ec.clone(), "x", zeros.clone()), "not a point of the curve P-256"),
        (with(ec.clone(), "y", ec["x"].clone()), "not a point of the curve P-256"),
        (with(ec.clone(), "x", json!(base64_url(&[7; 33]))), "too long"),
        (with(ec.clone(), "x", json!("*")), "`x` is not base64url"),
        (with(ec.clone(), "x", Value::Null), "no `x`"),
        (with(ed.clone(), "x", json!(base64_url(&[7; 31]))), "32 bytes"),
        // A point of low order.
        (with(ed.clone(), "x", zeros), "anyone can forge"),
        (with(rsa.clone(), "n", even), "modulus is even"),
        (with(rsa.clone(), "n", json!(base64_url(&[0xff; 255]))), "less than 2048 bits (2040)"),
        (with(rsa.clone(), "n", json!(base64_url(&[0x7f; 256]))), "less than 2048 bits (2047)"),
        (with(rsa.clone(), "e", json!("AQ")), "exponent"),
        (with(rsa.clone(), "e", json!("AQAA")), "exponent"),
        (with(rsa.clone(), "e", json!(base64_url(&[0xff; 9]))), "exponent"),
        (with(rsa.clone(), "alg", json!("ES256")), "contradicts itself"),
        (with(rsa.clone(), "alg", json!("HS256")), "contradicts itself"),
        (with(ec.clone(), "alg", json!("EdDSA")), "contradicts itself"),
        (with(ed.clone(), "alg", json!("ES256")), "contradicts itself"),
        (with(ec.clone(), "key_ops", json!("verify")), "cannot be read"),
        (with(ec.clone(), "kid", json!(7)), "cannot be read"),
    ] {
        let keys = set(&[key.clone(), good.jwk()]);
        let read = public_keys(&keys).unwrap();
        assert_eq!((read.keys.len(), read.left_out.len()), (1, 0), "{key}");
        assert!(read.faults[0].contains(word), "{}", read.faults[0]);
        assert!(files.trusting(&keys).read().unwrap_err().contains(word), "the start reports it");
    }
}

/// An identity provider's set may contain keys that the service does not use. That is no fault.
#[test]
fn keys_for_something_else_are_left_out() {
    let files = Files::new();
    let [rsa, ec, ed] = ALGORITHMS.map(|it| Signer::new(it, Some("a")).jwk());
    let good = Signer::new(Algorithm::ES256, Some("good"));
    for (key, word) in [
        (with(rsa.clone(), "use", json!("enc")), "for `enc`"),
        (with(rsa.clone(), "key_ops", json!(["encrypt", "wrapKey"])), "without `verify`"),
        (with(ec.clone(), "key_ops", json!(["deriveKey"])), "without `verify`"),
        (with(ec.clone(), "key_ops", json!([])), "without `verify`"),
        (with(rsa.clone(), "alg", json!("RS512")), "for RS512"),
        (with(rsa.clone(), "alg", json!("PS256")), "for PS256"),
        (with(rsa.clone(), "alg", json!("RSA-OAEP")), "for RSA-OAEP"),
        (with(ec.clone(), "alg", json!("ECDH-ES")), "for ECDH-ES"),
        (with(ec.clone(), "crv", json!("secp256k1")), "curve `secp256k1`"),
        (with(ec.clone(), "crv", json!("P-384")), "curve `P-384`"),
        (with(ed.clone(), "crv", json!("X25519")), "curve `X25519`"),
        (with(ed.clone(), "crv", json!("Ed448")), "curve `Ed448`"),
        (with(ec.clone(), "kty", json!("AKP")), "type `AKP`"),
    ] {
        let read = public_keys(&set(&[key.clone(), good.jwk()])).unwrap();
        assert_eq!((read.keys.len(), read.faults.len()), (1, 0), "{key}");
        assert!(read.left_out[0].contains(word), "{}", read.left_out[0]);
        // Such a key without any other is refused at the start, with the reason.
        let fault = files.trusting(&set(&[key])).read().unwrap_err();
        assert!(fault.contains("no usable public key") && fault.contains(word), "{fault}");
    }
    for uses in [json!(["verify"]), json!(["sign", "verify"])] {
        let key = with(with(ec.clone(), "key_ops", uses), "use", json!("sig"));
        assert_eq!(public_keys(&set(&[key])).unwrap().keys.len(), 1);
    }
}

#[test]
fn numbers_with_leading_zeros_or_without_are_the_same_key() {
    let files = Files::new();
    for algorithm in [Algorithm::RS256, Algorithm::ES256] {
        let signer = Signer::new(algorithm, None);
        let token = signer.sign(&claims());
        let names: &[&str] = if algorithm == Algorithm::RS256 { &["n", "e"] } else { &["x", "y"] };
        let mut jwk = signer.jwk();
        for name in names {
            let padded = [&[0], from_base64_url(&jwk[*name]).as_slice()].concat();
            jwk[*name] = json!(base64_url(&padded));
            assert!(accepts(&authenticator(&files.trusting(&jwk.to_string())), &token), "{name}");
        }
    }
    // One of 128 keys has a coordinate that begins with a zero byte.
    let cut = (0..10_000).find_map(|_| {
        let signer = Signer::new(Algorithm::ES256, None);
        let mut jwk = signer.jwk();
        let x = from_base64_url(&jwk["x"]);
        (x[0] == 0).then(|| {
            jwk["x"] = json!(base64_url(&x[1..]));
            (signer, jwk)
        })
    });
    let (signer, jwk) = cut.unwrap();
    let authenticator = authenticator(&files.trusting(&jwk.to_string()));
    assert!(accepts(&authenticator, &signer.sign(&claims())));
}

/// The tokens were signed with OpenSSL. RSA keys of unusual sizes verify them, so such keys are
/// accepted.
#[test]
fn rsa_keys_of_unusual_sizes_verify() {
    let files = Files::new();
    for (keys, token) in [
        (include_str!("data/rsa-2049.pub.pem"), include_str!("data/rsa-2049.jwt")),
        (include_str!("data/rsa-2056.pub.pem"), include_str!("data/rsa-2056.jwt")),
        (include_str!("data/rsa-3000.pub.pem"), include_str!("data/rsa-3000.jwt")),
    ] {
        assert!(accepts(&authenticator(&files.trusting(keys)), token.trim()), "{keys}");
    }
}

#[test]
fn a_block_that_is_cut_is_found_and_the_others_can_be_used() {
    let files = Files::new();
    let pem = |_| Signer::new(Algorithm::ES256, None).public_pem();
    let [one, two, three] = [(); 3].map(pem);
    let cut = cut(&two, 40);
    for (keys, block, usable) in [
        (format!("{one}{cut}"), 2, 1),
        (format!("{one}{cut}\n{three}"), 2, 2),
        (format!("{cut}\n{one}{three}"), 1, 2),
        (format!("{one}{}{three}", two.replace('M', "*")), 2, 2),
    ] {
        let read = public_keys(&keys).unwrap();
        assert_eq!((read.keys.len(), read.faults.len()), (usable, 1), "{keys}");
        assert!(
            read.faults[0].contains(&format!("block {block} is truncated")),
            "{:?}",
            read.faults
        );
        assert!(files.trusting(&keys).read().unwrap_err().contains("is truncated or damaged"));
    }
    // Text between the blocks and a byte order mark are allowed.
    let mut annotated = String::from("\u{feff}# of our identity provider\n");
    for key in [one, two] {
        write!(annotated, "\nBag Attributes\n{key}").unwrap();
    }
    assert_eq!(public_keys(&annotated).unwrap().keys.len(), 2);
    let marked = format!("\u{feff}{}", set(&[Signer::new(Algorithm::EdDSA, None).jwk()]));
    assert_eq!(public_keys(&marked).unwrap().keys.len(), 1);
}

proptest::proptest! {
    /// Whatever a file contains, the worst result is a refusal.
    #[test]
    fn any_text_is_read_to_its_end(
        text in "(-----BEGIN PUBLIC KEY-----\n)?[MA-Za-z0-9+/=\n]{0,200}(-----END PUBLIC KEY-----)?",
        bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
        word in "\\PC{0,60}",
    ) {
        let any = String::from_utf8_lossy(&bytes);
        let der = pem_of("PUBLIC KEY", &bytes);
        let jwk = json!({"kty": "RSA", "n": word, "e": "AQAB", "x": word, "crv": word}).to_string();
        for text in [text.as_str(), &any, &word, &der, &pem_of("RSA PUBLIC KEY", &bytes), &jwk] {
            let _read = public_keys(text).is_ok();
            let _read = fireflow_auth::secret_lines(text.as_bytes(), false).secrets.len();
        }
        let _read = fireflow_auth::secret_lines(&bytes, true).secrets.len();
    }
}

fn pem_of(tag: &str, bytes: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(bytes);
    format!("-----BEGIN {tag}-----\n{body}\n-----END {tag}-----\n")
}

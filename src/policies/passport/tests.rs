//! Passports: what may be written, what they say, and how often they are signed.

use std::sync::{Arc, Barrier};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderValue;
use jiff::{SignedDuration, Timestamp};
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair,
    Ed25519KeyPair, UnparsedPublicKey,
};
use serde_json::{Value, json};
use smallvec::smallvec;

use super::{Passport, PassportSettings, Passports};
use crate::conf::{Load, Read};
use crate::engine::Principal;

/// The key of RFC 8037 appendix A.1, in PKCS #8.
const RFC_8037: &str =
    "302e020100300506032b6570042204209d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";

fn hex(text: &str) -> Vec<u8> {
    let bytes = (0..text.len() / 2).map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap());
    bytes.collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        STANDARD.encode(der)
    )
}

fn ed25519() -> String {
    let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    pem("PRIVATE KEY", der.as_ref())
}

fn p256() -> String {
    let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    pem("PRIVATE KEY", der.as_ref())
}

/// What the section comes to with these key files (`a`, `b`, …) beside it, and the findings.
fn compiled(yaml: &str, keys: &[&str]) -> (Option<Passport>, Vec<String>) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for (name, key) in ["a", "b", "c"].iter().zip(keys) {
        let path = folder.path().join(name);
        std::fs::write(&path, key).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let yaml = yaml.replace("${file:", &format!("${{file:{}/", folder.path().display()));
    let load = Load::new();
    let node = load.text("p.yaml", &yaml).unwrap();
    let settings = PassportSettings::read(&node, &load);
    let passport = settings.map(|settings| Passport::compile(settings, &load));
    let folder = format!("{}/", folder.path().display());
    let findings = load.into_findings(Some(&node)).into_iter();
    (
        passport,
        findings
            .map(|finding| finding.to_string().replace(&folder, ""))
            .collect(),
    )
}

fn passport(yaml: &str, keys: &[&str]) -> Arc<Passport> {
    let (passport, findings) = compiled(yaml, keys);
    assert_eq!(findings, Vec::<String>::new());
    Arc::new(passport.unwrap())
}

fn usual(more: &str, key: &str) -> Arc<Passport> {
    passport(
        &format!("{{ key: \"${{file:a}}\", issuer: https://gate.example{more} }}"),
        &[key],
    )
}

fn noon() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn later(seconds: i64) -> Timestamp {
    noon() + SignedDuration::from_secs(seconds)
}

fn holder(expires: Option<i64>) -> Arc<Principal> {
    Arc::new(Principal {
        authenticator: "customer".into(),
        issuer: "https://id.example".into(),
        subject: "u1".into(),
        scopes: smallvec!["a:read".into(), "b".into()],
        roles: smallvec!["teller".into()],
        claims: json!({"sub": "u1", "secret": "not for upstreams"})
            .as_object()
            .unwrap()
            .clone()
            .into(),
        auth_time: Some(later(-60)),
        acr: Some("otp".into()),
        expires: expires.map(later),
        token_id: Some("t1".into()),
        identity: Principal::frame("customer", "https://id.example", "u1"),
    })
}

/// Header and claims of a passport, once its signature is that of the one key in the set.
fn opened(value: &HeaderValue, passport: &Passport) -> (Value, Value) {
    assert!(value.is_sensitive());
    let token = value.to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap();
    let (message, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let header: Value = serde_json::from_slice(&decode(header)).unwrap();
    let set: Value = serde_json::from_str(&passport.key_set()).unwrap();
    let key = &set["keys"][0];
    assert_eq!((&header["kid"], &header["alg"]), (&key["kid"], &key["alg"]));
    let coordinate = |name: &str| decode(key[name].as_str().unwrap());
    let verified = match header["alg"].as_str().unwrap() {
        "EdDSA" => UnparsedPublicKey::new(&ED25519, coordinate("x")).verify(message.as_bytes(), &decode(signature)),
        _ => {
            let point = [vec![4], coordinate("x"), coordinate("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &decode(signature))
        }
    };
    assert!(verified.is_ok());
    (header, serde_json::from_slice(&decode(claims)).unwrap())
}

fn bearer(passports: &Passports, holder: &Arc<Principal>, upstream: &str, seconds: i64) -> HeaderValue {
    passports.bearer(holder, &upstream.into(), later(seconds)).unwrap()
}

#[test]
fn says_who_calls_to_one_upstream() {
    for key in [ed25519(), p256()] {
        let passport = usual("", &key);
        let value = bearer(&Passports::new(&passport, None), &holder(Some(3600)), "accounts", 0);
        let (header, mut claims) = opened(&value, &passport);
        assert_eq!(header["typ"], "passport+jwt");
        let id = claims.as_object_mut().unwrap().remove("jti").unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(id.as_str().unwrap()).unwrap().len(), 16);
        let now = noon().as_second();
        let expected = json!({
            "iss": "https://gate.example", "aud": "accounts", "iat": now, "exp": now + 60,
            "authenticator": "customer", "idp": "https://id.example", "sub": "u1",
            "scope": "a:read b", "roles": ["teller"], "acr": "otp", "auth_time": now - 60,
        });
        assert_eq!(claims, expected);
    }
}

#[test]
fn leaves_out_what_nobody_said() {
    let passport = usual(", audience: \"all of us\", ttl: 5s", &ed25519());
    let nobody = Arc::new(Principal {
        issuer: "".into(),
        scopes: Default::default(),
        roles: Default::default(),
        auth_time: None,
        acr: None,
        expires: None,
        ..(*holder(None)).clone()
    });
    let (_, claims) = opened(
        &bearer(&Passports::new(&passport, None), &nobody, "accounts", 0),
        &passport,
    );
    let names: Vec<&String> = claims.as_object().unwrap().keys().collect();
    assert_eq!(names, ["aud", "authenticator", "exp", "iat", "iss", "jti", "sub"]);
    assert_eq!(
        (&claims["aud"], &claims["exp"]),
        (&json!("all of us"), &json!(noon().as_second() + 5))
    );
}

#[test]
fn ends_with_the_callers_token_at_the_latest() {
    let passport = usual("", &ed25519());
    let passports = Passports::new(&passport, None);
    for (expires, expected) in [(59, 59), (60, 60), (61, 60), (1, 1), (0, 5), (-20, 5)] {
        let value = bearer(&passports, &holder(Some(expires)), "accounts", 0);
        let ends = opened(&value, &passport).1["exp"].as_i64().unwrap() - noon().as_second();
        assert_eq!(ends, expected, "{expires}");
    }
}

#[test]
fn is_signed_once_for_a_token_and_an_upstream_and_renewed_at_half_time() {
    let passports = Passports::new(&usual("", &ed25519()), None);
    let (one, same_claims) = (holder(Some(3600)), holder(Some(3600)));
    let first = bearer(&passports, &one, "accounts", 0);
    for seconds in [0, 1, 29] {
        assert_eq!(bearer(&passports, &one, "accounts", seconds), first);
    }
    let others = [
        bearer(&passports, &one, "transfers", 0),
        bearer(&passports, &same_claims, "accounts", 0),
        bearer(&passports, &one, "accounts", 30),
        // On a rehearsal clock, back again: one from the future is of no use.
        bearer(&passports, &one, "accounts", 0),
    ];
    for (at, other) in others.iter().enumerate() {
        assert!(*other != first && !others[..at].contains(other), "{at}");
    }
    assert_eq!(passports.len(), 3);
}

#[test]
fn is_signed_once_however_many_ask_at_once() {
    let passports = Passports::new(&usual("", &p256()), None);
    let (one, start) = (holder(Some(3600)), Barrier::new(8));
    let all: Vec<HeaderValue> = std::thread::scope(|scope| {
        let ask = || {
            start.wait();
            bearer(&passports, &one, "accounts", 0)
        };
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(all.iter().all(|value| *value == all[0]));
}

#[test]
fn stays_bounded_and_takes_nobody_for_a_caller_who_is_gone() {
    let passports = Passports::holding(&usual("", &ed25519()), 128 << 10, 16);
    let upstream: Arc<str> = "accounts".into();
    let mut seen = std::collections::HashSet::new();
    // A principal that is dropped leaves its place, but not to the next: each has a passport of its own.
    for subject in 0..300 {
        let holder = Arc::new(Principal {
            subject: subject.to_string().into(),
            scopes: smallvec!["s".repeat(500).into()],
            ..(*holder(None)).clone()
        });
        let value = passports.bearer(&holder, &upstream, noon()).unwrap();
        assert!(seen.insert(value.to_str().unwrap().to_owned()), "{subject}");
    }
    // Of 2 KiB each.
    assert!((8..=64).contains(&passports.len()), "{}", passports.len());
}

#[test]
fn a_reload_keeps_passports_only_where_they_would_be_made_alike() {
    let (a, b) = (ed25519(), p256());
    let one = holder(None);
    let before = Passports::new(&usual("", &a), None);
    let first = bearer(&before, &one, "accounts", 0);
    let kept =
        |passport: &Arc<Passport>| bearer(&Passports::new(passport, Some(&before)), &one, "accounts", 0) == first;
    assert!(kept(&usual("", &a)));
    assert!(!kept(&usual("", &b)));
    assert!(!kept(&usual(", ttl: 61s", &a)));
    assert!(!kept(&usual(", audience: accounts", &a)));
    let two = "{ key: [\"${file:a}\", \"${file:b}\"], issuer: https://gate.example }";
    assert!(!kept(&passport(two, &[&b, &a])));
}

#[test]
fn names_keys_by_their_thumbprint_and_tells_both() {
    let one = usual("", &pem("PRIVATE KEY", &hex(RFC_8037)));
    let set: Value = serde_json::from_str(&one.key_set()).unwrap();
    let expected = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "use": "sig", "alg": "EdDSA",
        "kid": "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
    }]});
    assert_eq!(set, expected);
    let two = "{ key: [\"${file:a}\", \"${file:b}\"], issuer: https://gate.example }";
    let two = passport(two, &[&p256(), &pem("PRIVATE KEY", &hex(RFC_8037))]);
    let told = two.told();
    assert_eq!(told.status, 200);
    let header = |name: &str| {
        told.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
    };
    assert_eq!(header("content-type").unwrap(), "application/jwk-set+json");
    assert_eq!(header("cache-control").unwrap(), "public, max-age=300");
    let set: Value = serde_json::from_slice(&told.body).unwrap();
    assert_eq!(
        (&set["keys"][0]["crv"], &set["keys"][1]),
        (&json!("P-256"), &expected["keys"][0])
    );
    assert!(set["keys"][0].get("d").is_none());
    // The first of them signs.
    opened(&bearer(&Passports::new(&two, None), &holder(None), "accounts", 0), &two);
}

#[test]
fn points_at_what_cannot_be() {
    let p384 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P384_SHA384_FIXED_SIGNING, &SystemRandom::new()).unwrap();
    let p384 = pem("PRIVATE KEY", p384.as_ref());
    let (key, ec, third) = (ed25519(), p256(), ed25519());
    let wrong_kind = "passports are signed by an Ed25519 or a P-256 key in PKCS #8 (`BEGIN PRIVATE KEY`)";
    let no_key = "there is no private key as PEM (PKCS #8, PKCS #1 or SEC 1), or it is encrypted";
    let files = |text: &str| {
        format!("key: {text}\nissuer: x\n")
            .replace("$a", "\"${file:a}\"")
            .replace("$b", "\"${file:b}\"")
    };
    let cases: Vec<(String, Vec<&str>, String)> = vec![
        (files("$a"), vec![&p384], format!("p.yaml:1:6: {wrong_kind} (at `key`)")),
        (
            files("$a"),
            vec!["not a key"],
            format!("p.yaml:1:6: {no_key} (at `key`)"),
        ),
        (
            files("[$a, $b]"),
            vec![&key, &key],
            "the same key a second time (at `key[1]`)".into(),
        ),
        (
            files("[$a, $b, \"${file:c}\"]"),
            vec![&key, &ec, &third],
            "p.yaml:1:6: name one key, or two while they change: the first signs (at `key`)".into(),
        ),
        (
            files("[]"),
            vec![],
            "p.yaml:1:6: name one key, or two while they change".into(),
        ),
        (files("$a"), vec![], "p.yaml:1:6: warning: cannot read `a`".into()),
        (
            files("a.pem"),
            vec![],
            "p.yaml:1:6: a secret is not written here".into(),
        ),
        ("issuer: x\n".into(), vec![], "p.yaml:1:1: missing `key`".into()),
        (
            files("$a").replace("issuer: x\n", ""),
            vec![&key],
            "p.yaml:1:1: missing `issuer`".into(),
        ),
        (
            files("$a") + "ttl: 4s\n",
            vec![&key],
            "p.yaml:3:6: a passport is good for `5s` to `1h`, in whole seconds (at `ttl`)".into(),
        ),
        (
            files("$a") + "ttl: 61m\n",
            vec![&key],
            "p.yaml:3:6: a passport is good for".into(),
        ),
        (
            files("$a") + "ttl: 5500ms\n",
            vec![&key],
            "p.yaml:3:6: a passport is good for".into(),
        ),
        (
            files("$a") + "ttl: 60\n",
            vec![&key],
            "p.yaml:3:6: `60` has no unit".into(),
        ),
        (
            files("$a") + "audience: ''\n",
            vec![&key],
            "p.yaml:3:11: cannot stand in a claim".into(),
        ),
        (
            files("$a").replace("issuer: x", "issuer: \"a\\nb\""),
            vec![&key],
            "p.yaml:2:9: cannot stand in a claim".into(),
        ),
        (
            files("$a") + "audiences: x\n",
            vec![&key],
            "p.yaml:3:1: unknown key `audiences`, did you mean `audience`?".into(),
        ),
    ];
    for (yaml, keys, expected) in cases {
        let (_, findings) = compiled(&yaml, &keys);
        assert!(
            findings.len() == 1 && findings[0].contains(&expected),
            "{yaml}: {findings:?}"
        );
    }
}

#[test]
fn signs_nothing_without_its_key() {
    let (passport, findings) = compiled("{ key: \"${file:a}\", issuer: x }", &[]);
    let passport = Arc::new(passport.unwrap());
    assert_eq!((findings.len(), passport.unfetched_secrets().len()), (1, 1));
    let passports = Passports::new(&passport, None);
    assert_eq!(
        passports.bearer(&holder(None), &"accounts".into(), noon()),
        Err(super::Unsigned)
    );
}

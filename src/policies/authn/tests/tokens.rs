//! Tokens against one authenticator and a set of its keys.

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::Algorithm;

use super::super::jwt::{Token, Verified};
use super::super::keys::KeySet;
use super::super::settings::JwtAuthenticator;
use super::kit::*;
use crate::engine::CredentialRefusal;
use crate::engine::claims::Source;

pub(super) const ALL: &str = "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA";

pub(super) fn judge(
    token: &str,
    authenticator: &JwtAuthenticator,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Verified, CredentialRefusal> {
    Token::parse(token, &mut Source::default())?
        .verify(authenticator, keys, now)
        .map_err(|refused| refused.refusal)
}

/// Judged by an authenticator that takes everything, with one key named `a`.
pub(super) fn judged(signer: &Signer, token: &str) -> Result<Verified, CredentialRefusal> {
    let keys = key_set(&[signer.jwk(r#""kid":"a","#)]);
    judge(token, &authenticator(ALL, "jwks: discover"), &keys, noon())
}

pub(super) fn code(result: Result<Verified, CredentialRefusal>) -> &'static str {
    result.map_or_else(|refusal| refusal.code, |_| "good")
}

#[test]
fn verifies_every_algorithm() {
    use Algorithm::*;
    let mut signers = vec![Signer::ec(ES256), Signer::ec(ES384), Signer::ed()];
    signers.extend([RS256, RS384, RS512, PS256, PS384, PS512].map(|algorithm| Signer::rsa(algorithm, 2048)));
    for signer in &signers {
        let token = signer.usual(&claims(&[]));
        assert_eq!(code(judged(signer, &token)), "good", "{:?}", signer.algorithm);
        let mut bytes = token.into_bytes();
        // Well inside the signature, so that the flipped bit is not one that padding ignores.
        let at = bytes.len() - 20;
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let tampered = String::from_utf8(bytes).unwrap();
        assert_eq!(
            code(judged(signer, &tampered)),
            "token-signature",
            "{:?}",
            signer.algorithm
        );
    }
    for algorithm in [HS256, HS384, HS512] {
        let signer = Signer::secret(algorithm, SECRET);
        let (keys, token) = (KeySet::secret(SECRET), signer.usual(&claims(&[])));
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("key"), SECRET).unwrap();
        let more = format!("secret: \"${{file:{}}}\"", folder.path().join("key").display());
        let authenticator = authenticator_quiet("HS256, HS384, HS512", &more);
        assert_eq!(code(judge(&token, &authenticator, &keys, noon())), "good");
        let other = Signer::secret(algorithm, b"another secret of thirty-two byte").usual(&claims(&[]));
        assert_eq!(code(judge(&other, &authenticator, &keys, noon())), "token-signature");
    }
}

/// As [`authenticator`], with warnings about the file's permissions allowed.
fn authenticator_quiet(algorithms: &str, more: &str) -> std::sync::Arc<JwtAuthenticator> {
    let (all, _) = compile(&format!(
        "main: {{ jwt: {{ issuer: https://id.example, audience: api, algorithms: [{algorithms}], {more} }} }}"
    ));
    main_jwt(&all)
}

#[test]
fn reads_the_principal() {
    let signer = Signer::ed();
    let now = noon().as_second();
    let token = signer.usual(&claims(&[
        ("aud", r#"["web","other"]"#),
        ("scope", r#""transfer:read  transfer:write""#),
        ("roles", r#"["teller", 5, "treasury"]"#),
        ("auth_time", &(now - 60).to_string()),
        ("acr", r#""otp""#),
        ("jti", r#""t-1""#),
        ("address", r#"{"country":"KR"}"#),
    ]));
    let verified = judged(&signer, &token).unwrap();
    let principal = verified.principal;
    assert_eq!(
        (&*principal.authenticator, &*principal.issuer, &*principal.subject),
        ("main", "https://id.example", "u1")
    );
    assert_eq!(*principal.scopes, ["transfer:read", "transfer:write"]);
    assert_eq!(*principal.roles, ["teller", "treasury"]);
    assert_eq!(principal.auth_time, Some(Timestamp::from_second(now - 60).unwrap()));
    assert_eq!(
        (principal.acr.as_deref(), principal.token_id.as_deref()),
        (Some("otp"), Some("t-1"))
    );
    assert_eq!(principal.expires, Some(Timestamp::from_second(now + 600).unwrap()));
    assert_eq!(principal.claim("address.country").unwrap(), "KR");
    let framed = crate::engine::Principal::frame("main", "https://id.example", "u1");
    assert_eq!(principal.identity, framed);
    assert_eq!(verified.until, Timestamp::from_second(now + 600).unwrap());
}

#[test]
fn reads_roles_and_scopes_from_the_named_claims() {
    let signer = Signer::ed();
    let token = signer.usual(&claims(&[
        ("realm_access", r#"{"roles":["a","b"]}"#),
        ("scp", r#"["x","y"]"#),
        ("roles", r#"["not-this"]"#),
    ]));
    let authenticator = authenticator("EdDSA", "jwks: discover, roles: realm_access.roles, scopes: scp");
    let keys = key_set(&[signer.jwk("")]);
    let principal = judge(&token, &authenticator, &keys, noon()).unwrap().principal;
    assert_eq!(
        (&*principal.roles, &*principal.scopes),
        (&["a".into(), "b".into()][..], &["x".into(), "y".into()][..])
    );
}

#[test]
fn knows_ed25519_by_both_of_its_names() {
    let signer = Signer::ed();
    let (listed, others) = (
        authenticator("EdDSA", "jwks: discover"),
        authenticator("ES256", "jwks: discover"),
    );
    for (key, token) in [
        ("Ed25519", "Ed25519"),
        ("Ed25519", "EdDSA"),
        ("EdDSA", "Ed25519"),
        ("", "Ed25519"),
    ] {
        let alg = if key.is_empty() {
            String::new()
        } else {
            format!(r#""alg":"{key}","#)
        };
        let keys = key_set(&[signer.jwk(&alg)]);
        assert_eq!((keys.keys.len(), keys.skipped), (1, 0), "{key}");
        let token = signer.token(format!(r#"{{"alg":"{token}"}}"#), claims(&[]));
        assert_eq!(code(judge(&token, &listed, &keys, noon())), "good", "{key}");
    }
    let token = signer.token(r#"{"alg":"Ed25519"}"#, claims(&[]));
    let keys = key_set(&[signer.jwk("")]);
    assert_eq!(code(judge(&token, &others, &keys, noon())), "token-algorithm");
    let misnamed = key_set(&[Signer::ec(Algorithm::ES256).jwk(r#""alg":"Ed25519","#)]);
    assert_eq!((misnamed.keys.len(), misnamed.skipped), (0, 1));
    assert_eq!(key_set(&[signer.jwk(r#""alg":"Ed448","#)]).skipped, 1);
}

#[test]
fn chooses_keys_by_name_and_kind() {
    let (old, new, other) = (Signer::ed(), Signer::ed(), Signer::ec(Algorithm::ES256));
    let everything = authenticator(ALL, "jwks: discover");
    let refused = |token: &str, keys: &KeySet| {
        let mut source = Source::default();
        match Token::parse(token, &mut source)
            .unwrap()
            .verify(&everything, keys, noon())
        {
            Ok(_) => ("good", false),
            Err(refused) => (refused.refusal.code, refused.newer_keys_may_help),
        }
    };
    let named = r#"{"alg":"EdDSA","kid":"a"}"#;
    let unnamed = r#"{"alg":"EdDSA"}"#;
    let keys = key_set(&[other.jwk(""), old.jwk(r#""kid":"b","#), new.jwk(r#""kid":"a","#)]);
    assert_eq!(refused(&new.token(named, claims(&[])), &keys), ("good", false));
    assert_eq!(refused(&new.token(unnamed, claims(&[])), &keys), ("good", false));
    assert_eq!(refused(&old.token(unnamed, claims(&[])), &keys), ("good", false));
    // Signed by a key of the set, but not by the one it names: no newer set would make that right.
    assert_eq!(
        refused(&old.token(named, claims(&[])), &keys),
        ("token-signature", false)
    );
    assert_eq!(
        refused(&Signer::ed().token(unnamed, claims(&[])), &keys),
        ("token-signature", true)
    );
    // Two keys of one name, and a key without one.
    let twins = key_set(&[
        old.jwk(r#""kid":"a","#),
        other.jwk(r#""kid":"a","#),
        new.jwk(r#""kid":"a","#),
    ]);
    assert_eq!(refused(&new.token(named, claims(&[])), &twins), ("good", false));
    assert_eq!(
        refused(&new.token(named, claims(&[])), &key_set(&[new.jwk("")])),
        ("good", false)
    );
    assert_eq!(
        refused(&new.token(named, claims(&[])), &key_set(&[other.jwk("")])),
        ("token-key-unknown", true)
    );
    assert_eq!(
        refused(&new.token(named, claims(&[])), &KeySet::default()),
        ("token-key-unknown", true)
    );
}

#[test]
fn takes_only_the_configured_type() {
    let signer = Signer::ed();
    let keys = key_set(&[signer.jwk("")]);
    let access = authenticator("EdDSA", "jwks: discover, typ: at+jwt");
    for (typ, expected) in [
        (r#","typ":"at+jwt""#, "good"),
        (r#","typ":"AT+JWT""#, "good"),
        (r#","typ":"application/at+jwt""#, "good"),
        (r#","typ":"JWT""#, "token-type"),
        (r#","typ":"""#, "token-type"),
        ("", "token-type"),
    ] {
        // With a type that says what it is, `nonce` does not make it an ID token.
        let token = signer.token(format!(r#"{{"alg":"EdDSA"{typ}}}"#), claims(&[("nonce", "\"n\"")]));
        assert_eq!(code(judge(&token, &access, &keys, noon())), expected, "{typ}");
    }
}

#[test]
fn tells_detectors_whom_a_refused_token_claims_to_be() {
    let (signer, stranger) = (Signer::ed(), Signer::ed());
    let claimed = |token: &str| judged(&signer, token).unwrap_err().claimed_sub;
    assert_eq!(claimed(&stranger.usual(&claims(&[]))).as_deref(), Some("u1"));
    assert_eq!(
        claimed(&signer.usual(&claims(&[("aud", "\"x\"")]))).as_deref(),
        Some("u1")
    );
    let expired = claims(&[("exp", "1")]);
    assert_eq!(claimed(&stranger.usual(&expired)).as_deref(), Some("u1"));
    assert_eq!(claimed(&signer.usual(&expired)), None);
    assert_eq!(claimed("a.b.c"), None);
    let long = claims(&[("sub", &format!("\"{}\"", "가".repeat(1000)))]);
    assert_eq!(claimed(&stranger.usual(&long)).unwrap().chars().count(), 256);
}

#[test]
fn forgives_clocks_as_far_as_configured() {
    let signer = Signer::ed();
    let keys = key_set(&[signer.jwk("")]);
    let token = signer.usual(&claims(&[("exp", &(noon().as_second() - 90).to_string())]));
    let at = |leeway: &str| {
        let authenticator = authenticator("EdDSA", &format!("jwks: discover, leeway: {leeway}"));
        code(judge(&token, &authenticator, &keys, noon()))
    };
    assert_eq!((at("90s"), at("91s"), at("5m")), ("token-expired", "good", "good"));
    let authenticator = authenticator("EdDSA", "jwks: discover");
    let earlier = noon() - SignedDuration::from_secs(91);
    assert_eq!(code(judge(&token, &authenticator, &keys, earlier)), "good");
}

#[test]
fn refuses_tokens_that_are_good_for_too_long() {
    let signer = Signer::ed();
    let keys = key_set(&[signer.jwk("")]);
    let authenticator = authenticator("EdDSA", "jwks: discover, max_lifetime: 1h");
    let now = noon().as_second();
    let with = |iat: &str, exp: i64| {
        let token = signer.usual(&claims(&[("iat", iat), ("exp", &exp.to_string())]));
        judge(&token, &authenticator, &keys, noon())
    };
    let said = |iat: i64, exp: i64| code(with(&iat.to_string(), exp));
    assert_eq!(said(now - 600, now + 3000), "good");
    assert_eq!(said(now - 600, now + 3001), "token-lifetime");
    assert_eq!(said(now - 86_400, now + 600), "token-lifetime");
    // What it is for ever comes before what time does to it.
    assert_eq!(said(now - 86_400, now - 600), "token-lifetime");
    assert_eq!(said(now - 4000, now - 600), "token-expired");
    // One that says it was issued later than now could outlive a revocation that is forgotten.
    assert_eq!(said(now + 30, now + 3000), "good");
    assert_eq!(said(now + 31, now + 3000), "token-not-yet-valid");
    assert_eq!(code(with(&format!("{}.9", now - 600), now + 3000)), "good");
    assert_eq!(code(with("", now + 600)), "token-claims");
    assert_eq!(code(with("\"1\"", now + 600)), "token-claims");
    assert_eq!(code(with("-1e300", now + 600)), "token-lifetime");
    // It is not remembered for an instant at which it would be refused.
    let verified = with(&now.to_string(), now + 600).unwrap();
    assert_eq!(verified.from, noon() - SignedDuration::from_secs(30));
}

//! Tokens that somebody made to be believed: none of them is.

use std::sync::OnceLock;

use jsonwebtoken::Algorithm;

use super::kit::*;
use super::tokens::{ALL, code, judge, judged};

#[test]
fn refuses_hostile_headers() {
    let (signer, payload) = (Signer::ec(Algorithm::ES256), claims(&[]));
    let jwk = signer.jwk("");
    let cases = [
        (r#"{"alg":"ES256","kid":"a"}"#.to_owned(), "good"),
        (r#"{"alg":"ES256"}"#.to_owned(), "good"),
        (r#"{"alg":"ES256","kid":"a","typ":"JWT"}"#.to_owned(), "good"),
        (r#"{"alg":"ES256","kid":"a","typ":"at+jwt"}"#.to_owned(), "good"),
        (
            r#"{"alg":"ES256","kid":"a","typ":"application/at+jwt"}"#.to_owned(),
            "good",
        ),
        // What it embeds is never looked at: not fetched, not used, no reason to refuse what is signed by a known key.
        (
            format!(
                r#"{{"alg":"ES256","kid":"a","jwk":{jwk},"jku":"https://evil.example/","x5u":"http://169.254.169.254/"}}"#
            ),
            "good",
        ),
        (r#"{"alg":"none","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"None","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"NONE","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"nOnE","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"es256","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"ES256 ","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"ES256K","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"ES512","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"HS256","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"RSA-OAEP","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"RS256","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"ES384","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":"EdDSA","kid":"a"}"#.to_owned(), "token-algorithm"),
        (r#"{"alg":["ES256"],"kid":"a"}"#.to_owned(), "token-malformed"),
        (r#"{"alg":null,"kid":"a"}"#.to_owned(), "token-malformed"),
        (r#"{"alg":1,"kid":"a"}"#.to_owned(), "token-malformed"),
        (r#"{"kid":"a"}"#.to_owned(), "token-malformed"),
        (r#"{"Alg":"ES256","kid":"a"}"#.to_owned(), "token-malformed"),
        (
            r#"{"alg":"ES256","alg":"ES256","kid":"a"}"#.to_owned(),
            "token-malformed",
        ),
        (
            r#"{"alg":"none","kid":"a","alg":"ES256"}"#.to_owned(),
            "token-malformed",
        ),
        (
            r#"{"alg":"ES256","\u0061lg":"none","kid":"a"}"#.to_owned(),
            "token-malformed",
        ),
        (r#"{"alg":"ES256","kid":"a","kid":"b"}"#.to_owned(), "token-malformed"),
        (r#"{"alg":"ES256","kid":["a"]}"#.to_owned(), "token-malformed"),
        (r#"{"alg":"ES256","kid":null}"#.to_owned(), "token-malformed"),
        (r#"{"alg":"ES256","kid":"a","typ":7}"#.to_owned(), "token-malformed"),
        (r#"{"alg":"ES256","kid":"a","crit":["exp"]}"#.to_owned(), "token-crit"),
        (
            r#"{"alg":"ES256","kid":"a","crit":["b64"],"b64":false}"#.to_owned(),
            "token-crit",
        ),
        (r#"{"alg":"ES256","kid":"a","crit":[]}"#.to_owned(), "token-crit"),
        (r#"{"alg":"ES256","kid":"a","crit":null}"#.to_owned(), "token-crit"),
        (r#"{"alg":"ES256","kid":"a","b64":false}"#.to_owned(), "token-crit"),
        (r#"{"alg":"ES256","kid":"a","b64":true}"#.to_owned(), "good"),
        (r#"{"alg":"ES256","kid":"a","cty":"JWT"}"#.to_owned(), "token-malformed"),
        (r#"{"alg":"ES256","kid":"a","cty":"json"}"#.to_owned(), "good"),
        (r#"{"alg":"ES256","kid":"a","zip":"DEF"}"#.to_owned(), "token-malformed"),
        (r#"{"alg":"ES256","kid":"a","enc":null}"#.to_owned(), "token-malformed"),
        (r#"{"alg":"ES256","kid":"a","typ":"x-at+jwt"}"#.to_owned(), "token-type"),
        (
            r#"{"alg":"ES256","kid":"a","typ":"logout+jwt"}"#.to_owned(),
            "token-type",
        ),
        (
            r#"{"alg":"ES256","kid":"a","typ":"secevent+jwt"}"#.to_owned(),
            "token-type",
        ),
        (
            r#"{"alg":"ES256","kid":"a","typ":"application/DPOP+JWT"}"#.to_owned(),
            "token-type",
        ),
        (r#"{"alg":"ES256","kid":"b"}"#.to_owned(), "token-key-unknown"),
        (r#"{"alg":"ES256","kid":""}"#.to_owned(), "token-key-unknown"),
        (r#"{"alg":"ES256","kid":"A"}"#.to_owned(), "token-key-unknown"),
        (
            r#"{"alg":"ES256","kid":"../../dev/null"}"#.to_owned(),
            "token-key-unknown",
        ),
        (
            r#"{"alg":"ES256","kid":"a' OR '1'='1"}"#.to_owned(),
            "token-key-unknown",
        ),
        (r#"{"alg":"ES256","kid":"a\u0000"}"#.to_owned(), "token-key-unknown"),
        (
            format!(r#"{{"alg":"ES256","kid":"{}"}}"#, "a".repeat(4000)),
            "token-key-unknown",
        ),
        ("{}".to_owned(), "token-malformed"),
        ("[]".to_owned(), "token-malformed"),
        ("null".to_owned(), "token-malformed"),
        (String::new(), "token-malformed"),
        (r#"{"alg":"ES256","kid":"a"}}"#.to_owned(), "token-malformed"),
        (r#"{"alg":"ES256","kid":"a",}"#.to_owned(), "token-malformed"),
        (r#"{'alg':'ES256'}"#.to_owned(), "token-malformed"),
        ("\u{feff}{\"alg\":\"ES256\"}".to_owned(), "token-malformed"),
        (
            format!(r#"{{"alg":"ES256","x":{}{}}}"#, "[".repeat(500), "]".repeat(500)),
            "token-malformed",
        ),
    ];
    for (header, expected) in &cases {
        assert_eq!(
            code(judged(&signer, &signer.token(header, &payload))),
            *expected,
            "{header}"
        );
    }
}

#[test]
fn refuses_hostile_claims() {
    let signer = Signer::ec(Algorithm::ES256);
    let now = noon().as_second();
    let at = |seconds: i64| (now + seconds).to_string();
    let cases: Vec<(&str, String, &str)> = vec![
        ("exp", String::new(), "token-claims"),
        ("exp", "null".into(), "token-claims"),
        ("exp", format!("\"{}\"", now + 600), "token-claims"),
        ("exp", format!("[{}]", now + 600), "token-claims"),
        ("exp", "true".into(), "token-claims"),
        ("exp", "{}".into(), "token-claims"),
        ("exp", "0".into(), "token-expired"),
        ("exp", "-1".into(), "token-expired"),
        ("exp", "-9223372036854775808".into(), "token-expired"),
        ("exp", "-1e300".into(), "token-expired"),
        ("exp", at(-31), "token-expired"),
        ("exp", at(-30), "token-expired"),
        ("exp", at(-29), "good"),
        ("exp", format!("{}.9", now - 30), "token-expired"),
        ("exp", at(1), "good"),
        ("exp", format!("{}.5", now + 1), "good"),
        ("exp", "1e300".into(), "good"),
        ("exp", "18446744073709551615".into(), "good"),
        ("exp", "1e400".into(), "token-malformed"),
        ("nbf", at(30), "good"),
        ("nbf", at(31), "token-not-yet-valid"),
        ("nbf", format!("{}.1", now + 30), "token-not-yet-valid"),
        ("nbf", "1e300".into(), "token-not-yet-valid"),
        ("nbf", "-1e300".into(), "good"),
        ("nbf", "\"0\"".into(), "token-claims"),
        ("nbf", "null".into(), "token-claims"),
        ("iss", String::new(), "token-claims"),
        ("iss", "null".into(), "token-claims"),
        ("iss", r#"["https://id.example"]"#.into(), "token-claims"),
        ("iss", r#""https://id.example/""#.into(), "token-issuer"),
        ("iss", r#""HTTPS://id.example""#.into(), "token-issuer"),
        ("iss", r#""https://id.example\u0000""#.into(), "token-issuer"),
        ("iss", r#""https://evil.example""#.into(), "token-issuer"),
        ("iss", r#""""#.into(), "token-issuer"),
        ("aud", String::new(), "token-claims"),
        ("aud", "null".into(), "token-claims"),
        ("aud", "5".into(), "token-claims"),
        ("aud", r#"{"api":true}"#.into(), "token-claims"),
        ("aud", r#"["api",5]"#.into(), "token-claims"),
        ("aud", r#"[["api"]]"#.into(), "token-claims"),
        ("aud", "[]".into(), "token-audience"),
        ("aud", r#""""#.into(), "token-audience"),
        ("aud", r#""API""#.into(), "token-audience"),
        ("aud", r#""api web""#.into(), "token-audience"),
        ("aud", r#"["other"]"#.into(), "token-audience"),
        ("aud", r#"["other","web"]"#.into(), "good"),
        ("sub", String::new(), "token-claims"),
        ("sub", "null".into(), "token-claims"),
        ("sub", r#""""#.into(), "token-claims"),
        ("sub", "1".into(), "token-claims"),
        ("sub", r#"["u1"]"#.into(), "token-claims"),
        (
            "sub",
            r#"{"$serde_json::private::RawValue":"u1"}"#.into(),
            "token-claims",
        ),
        ("sub", "\"사용자 1\"".into(), "good"),
        ("sub", r#""\ud800""#.into(), "token-malformed"),
        ("sub", r#""u1\u0000""#.into(), "token-claims"),
        ("sub", r#""u1\r\n""#.into(), "token-claims"),
        ("iat", "\"1\"".into(), "token-claims"),
        ("iat", "null".into(), "token-claims"),
        ("iat", "1e300".into(), "good"),
        ("nonce", r#""n""#.into(), "token-type"),
        ("at_hash", r#""h""#.into(), "token-type"),
        ("auth_time", r#""yesterday""#.into(), "good"),
        ("roles", "5".into(), "good"),
        ("scope", "{}".into(), "good"),
        ("x", "[".repeat(200) + &"]".repeat(200), "token-malformed"),
    ];
    for (claim, value, expected) in &cases {
        let token = signer.usual(&claims(&[(claim, value)]));
        assert_eq!(code(judged(&signer, &token)), *expected, "{claim}: {value}");
    }
    for (payload, expected) in [
        (r#"{"sub":"admin",#"#.to_owned() + &claims(&[])[1..], "token-malformed"),
        (claims(&[]).replace('}', r#","sub":"admin"}"#), "token-malformed"),
        (claims(&[]).replace('}', r#","\u0073ub":"admin"}"#), "token-malformed"),
        (claims(&[("a", r#"{"b":1,"b":2}"#)]), "token-malformed"),
        (claims(&[]) + "x", "token-malformed"),
        (claims(&[]) + "\n", "good"),
        ("[]".into(), "token-malformed"),
        ("\"a\"".into(), "token-malformed"),
        (String::new(), "token-malformed"),
        (signer.usual(&claims(&[])), "token-malformed"),
    ] {
        assert_eq!(code(judged(&signer, &signer.usual(&payload))), expected, "{payload}");
    }
}

#[test]
fn refuses_hostile_shapes() {
    let signer = Signer::ec(Algorithm::ES256);
    let good = signer.usual(&claims(&[]));
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        unreachable!()
    };
    let raw = decode(signature);
    let (r, s) = raw.split_at(32);
    let with = |signature: Vec<u8>| format!("{header}.{payload}.{}", b64(signature));
    let long = claims(&[("x", &format!("\"{}\"", "y".repeat(13_000)))]);
    let order = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";
    let order: Vec<u8> = (0..32)
        .map(|at| u8::from_str_radix(&order[at * 2..at * 2 + 2], 16).unwrap())
        .collect();
    let cases: Vec<(String, &str)> = vec![
        (good.clone(), "good"),
        (String::new(), "token-malformed"),
        (".".into(), "token-malformed"),
        ("..".into(), "token-malformed"),
        ("...".into(), "token-malformed"),
        ("a.b.c".into(), "token-malformed"),
        (format!("{header}.{payload}"), "token-malformed"),
        (format!("{header}.{payload}."), "token-signature"),
        (format!("{good}."), "token-malformed"),
        (format!(".{good}"), "token-malformed"),
        (format!("{good}.{signature}"), "token-malformed"),
        (format!("{header}.{payload}.a.b.{signature}"), "token-malformed"),
        (format!("{header}..{signature}"), "token-malformed"),
        (format!(".{payload}.{signature}"), "token-malformed"),
        (format!("{good}="), "token-malformed"),
        (format!("{good}=="), "token-malformed"),
        (format!("{good} "), "token-malformed"),
        (format!("{header}=.{payload}.{signature}"), "token-malformed"),
        (format!("{header}.{payload}.{signature}\n"), "token-malformed"),
        (format!("{header}.{payload}.+/{signature}"), "token-malformed"),
        (format!("{header}.{payload}.\u{e9}{signature}"), "token-malformed"),
        // 64 bytes are 86 letters, the last of which has bits to spare.
        (stray_bit(&good), "token-malformed"),
        (with(vec![0; 64]), "token-signature"),
        (with(vec![0xff; 64]), "token-signature"),
        (with([&[0; 32][..], s].concat()), "token-signature"),
        (with([r, &[0; 32][..]].concat()), "token-signature"),
        (with([&order[..], s].concat()), "token-signature"),
        (with([r, &order[..]].concat()), "token-signature"),
        (with([s, r].concat()), "token-signature"),
        (with([&raw[..], &[0]].concat()), "token-signature"),
        (with([&[0], &raw[..]].concat()), "token-signature"),
        (with(raw[..63].to_vec()), "token-signature"),
        (with(asn1(r, s)), "token-signature"),
        (signer.usual(&long), "token-malformed"),
        ("e".repeat(1 << 20), "token-malformed"),
    ];
    for (token, expected) in &cases {
        assert_eq!(
            code(judged(&signer, token)),
            *expected,
            "{}",
            token.chars().take(200).collect::<String>()
        );
    }
}

/// The same signature, its last letter with a bit set that means nothing.
fn stray_bit(token: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = token.as_bytes().to_vec();
    let last = bytes.pop().unwrap();
    let value = LETTERS.iter().position(|letter| *letter == last).unwrap();
    bytes.push(LETTERS[value ^ 1]);
    String::from_utf8(bytes).unwrap()
}

/// The DER form that JWS does not use.
fn asn1(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| [&[2, 33, 0][..], number].concat();
    let both = [integer(r), integer(s)].concat();
    [&[0x30, both.len() as u8][..], &both].concat()
}

#[test]
fn never_takes_a_public_key_for_a_secret() {
    let rsa = Signer::rsa(Algorithm::RS256, 2048);
    let keys = key_set(&[rsa.jwk(r#""kid":"a","#)]);
    for secret in [rsa.public.as_bytes(), rsa.jwk(r#""kid":"a","#).as_bytes()] {
        let forged = Signer::secret(Algorithm::HS256, secret).usual(&claims(&[]));
        assert_eq!(
            code(judge(&forged, &authenticator(ALL, "jwks: discover"), &keys, noon())),
            "token-algorithm"
        );
    }
    // Signed with another padding than the key is for.
    let only = key_set(&[rsa.jwk(r#""kid":"a","alg":"RS256","#)]);
    let pss = Signer::rsa(Algorithm::PS256, 2048).usual(&claims(&[]));
    assert_eq!(
        code(judge(&pss, &authenticator(ALL, "jwks: discover"), &only, noon())),
        "token-algorithm"
    );
    assert_eq!(
        code(judge(&pss, &authenticator("RS256", "jwks: discover"), &keys, noon())),
        "token-algorithm"
    );
    let renamed = pss.replacen(
        &b64(r#"{"alg":"PS256","kid":"a"}"#),
        &b64(r#"{"alg":"RS256","kid":"a"}"#),
        1,
    );
    assert_eq!(
        code(judge(&renamed, &authenticator(ALL, "jwks: discover"), &keys, noon())),
        "token-signature"
    );
}

#[test]
fn no_changed_letter_is_accepted_whatever_the_algorithm() {
    use Algorithm::*;
    let mut signers = vec![Signer::ec(ES256), Signer::ec(ES384), Signer::ed()];
    signers.extend([RS256, PS384].map(|algorithm| Signer::rsa(algorithm, 2048)));
    let everything = authenticator(ALL, "jwks: discover");
    for signer in &signers {
        let keys = key_set(&[signer.jwk(r#""kid":"a","#)]);
        let good = signer.usual(&claims(&[]));
        assert_eq!(code(judge(&good, &everything, &keys, noon())), "good");
        for at in 0..good.len() {
            let letter = good.as_bytes()[at];
            // The neighbour in the alphabet differs in the bits that padding leaves over.
            for other in [letter ^ 1, letter.wrapping_add(1), b'A', b'.', b'='] {
                let mut bytes = good.clone().into_bytes();
                bytes[at] = other;
                let Ok(token) = String::from_utf8(bytes) else { continue };
                let is_good = judge(&token, &everything, &keys, noon()).is_ok();
                assert_eq!(is_good, other == letter, "{:?}: {other} at {at}", signer.algorithm);
            }
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_changed_byte_is_accepted(at in 0_usize..10_000, to in 0_u8..128) {
        static GOOD: OnceLock<(Signer, String)> = OnceLock::new();
        let (signer, good) = GOOD.get_or_init(|| {
            let signer = Signer::ed();
            let token = signer.usual(&claims(&[]));
            (signer, token)
        });
        let mut bytes = good.clone().into_bytes();
        let at = at % bytes.len();
        let same = bytes[at] == to;
        bytes[at] = to;
        let token = String::from_utf8(bytes).unwrap();
        proptest::prop_assert_eq!(judged(signer, &token).is_ok(), same);
    }

    #[test]
    fn nothing_made_of_token_letters_panics(token in "[A-Za-z0-9_.-]{0,300}") {
        proptest::prop_assert!(judged(&Signer::ed(), &token).is_err());
    }

    #[test]
    fn no_signed_payload_panics(payload in "\\{(\"(sub|exp|aud|iss|nbf)\":(null|1e9|\"https://id.example\"|\"api\"|\\[\"api\"\\]|-5|\\{\\}),?){0,6}\\}") {
        let signer = Signer::ed();
        let _ = judged(&signer, &signer.usual(&payload));
    }
}

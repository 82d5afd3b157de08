//! Tokens that are good, however odd.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{Bench, SECRET, claims, claims_of_partner, encode, hex};
use crate::support::Key;

#[test]
fn believes_every_token_that_is_good() {
    let bench = Bench::new();
    let mut cases: Vec<(String, String, Value)> = Vec::new();
    let by = bench.issuer.url();
    let u1 = json!({"user": "u1", "by": by, "roles": "", "scopes": ""});
    let mut good = |name: String, token: String| cases.push((name, format!("Bearer {token}"), u1.clone()));
    for key in &bench.keys {
        let (name, payload) = (key.algorithm(), bench.claims(&[]));
        let named = format!(r#"{{"alg":"{name}","typ":"at+jwt","kid":"{}"}}"#, key.id);
        good(format!("{name} with kid"), key.sign_text(named, &payload));
        good(
            format!("{name} without kid"),
            key.sign_text(format!(r#"{{"alg":"{name}","typ":"at+jwt"}}"#), &payload),
        );
    }
    for (name, value) in [
        ("aud", "\"web\""),
        ("aud", "[\"mobile-bank\"]"),
        ("aud", "[\"elsewhere\",\"web\"]"),
        ("aud", "[\"\",\"mobile-bank\",\"mobile-bank\"]"),
        ("exp", "2051222400.75"),
        ("exp", "2.0512224e9"),
        ("exp", "205122240000E-2"),
        ("exp", "9007199254740993"),
        ("exp", "18446744073709551615"),
        ("exp", "1e300"),
        ("iat", ""),
        ("iat", "1577836800.123"),
        ("iat", "-1"),
        ("iat", "2051222399"),
        ("nbf", "0"),
        ("nbf", "-1e300"),
        ("nbf", "1577836800.5"),
        ("jti", "\"\\ud83d\\udd11\""),
        ("jti", "5"),
        ("auth_time", "\"yesterday\""),
        ("nonce", "\"the type says that it is no ID token\""),
        ("x", "null"),
        ("x", "[1,-2.5,{\"y\":[]},\"\\u0000\"]"),
        ("x", "{\"sub\":\"u2\",\"exp\":0}"),
        ("__proto__", "{\"sub\":\"u2\"}"),
        ("$serde_json::private::RawValue", "\"{}\""),
        ("roles", "5"),
        ("scope", "[]"),
    ] {
        good(format!("{name}: {value}"), bench.claiming(&[(name, value)]));
    }
    let rest = r#""alg":"ES256","kid":"es256""#;
    let jwk = Key::es256("evil").jwk();
    for (name, header) in [
        ("typ in other case", format!(r#"{{{rest},"typ":"AT+JWT"}}"#)),
        ("typ in full", format!(r#"{{{rest},"typ":"application/at+jwt"}}"#)),
        (
            "members of strangers",
            format!(r#"{{{rest},"typ":"at+jwt","x":{{"y":[1]}},"exp":0,"b64":true}}"#),
        ),
        (
            "cty of something else",
            format!(r#"{{{rest},"typ":"at+jwt","cty":"json"}}"#),
        ),
        (
            "keys that nobody looks at",
            format!(r#"{{{rest},"typ":"at+jwt","jwk":{jwk},"jku":"http://169.254.169.254/","x5c":[]}}"#),
        ),
        (
            "white space",
            " {\n\t\"kid\" : \"es256\" , \"typ\":\"at+jwt\",\r\"alg\":\"ES256\"} ".into(),
        ),
        (
            "escapes",
            r#"{"\u0061lg":"\u0045S256","kid":"es\u003256","typ":"at\u002bjwt"}"#.into(),
        ),
    ] {
        good(format!("header: {name}"), bench.headed(&header));
    }
    good(
        "payload: white space".into(),
        bench.over(bench.claims(&[]).replace(',', " ,\r\n\t") + "\n"),
    );
    // Anybody can compute the twin (r, n - s) of an ECDSA signature, and it is as good: nothing may rest on its spelling.
    good("the twin of a signature".into(), twin(&bench.claiming(&[])));
    let token = bench.claiming(&[("iat", "1577836801")]);
    for scheme in ["bearer", "BEARER", "bEaReR", "Bearer  ", "Bearer       "] {
        cases.push((format!("line: {scheme}"), format!("{scheme} {token}"), u1.clone()));
    }
    for value in [
        format!("Bearer {token} "),
        format!("  Bearer {token}\t"),
        format!("Bearer {token}   "),
    ] {
        cases.push((format!("line: {value:.10}"), value, u1.clone()));
    }
    let issued =
        |issuer: &str, roles: &str, scopes: &str| json!({"user": "u1", "by": issuer, "roles": roles, "scopes": scopes});
    for (changes, roles, scopes) in [
        (&[][..], "", ""),
        (
            &[
                ("realm_access", "{\"roles\":[\"teller\",\"vault\"]}"),
                ("scp", "\"a  b\""),
            ],
            "teller vault",
            "a b",
        ),
        (
            &[
                ("realm_access", "{\"roles\":\"teller vault\"}"),
                ("scp", "[\"a\",5,\"b\"]"),
            ],
            "teller vault",
            "a b",
        ),
        (
            &[
                ("realm_access.roles", "[\"teller\"]"),
                ("roles", "[\"not-this\"]"),
                ("scope", "\"nor-this\""),
            ],
            "teller",
            "",
        ),
        (&[("realm_access", "[\"teller\"]"), ("scp", "{}")], "", ""),
    ] {
        let token = bench
            .partner
            .sign_text(r#"{"alg":"ES256","typ":"JWT"}"#, claims_of_partner(changes));
        let expected = issued("https://partner.example", roles, scopes);
        cases.push((
            format!("of the partner: {changes:?}"),
            format!("Bearer {token}"),
            expected,
        ));
    }
    for algorithm in ["HS256", "HS384", "HS512"] {
        let payload = claims("\"https://machine.example\"", &[("permissions", "[\"read:x\"]")]);
        let header = format!(r#"{{"alg":"{algorithm}","kid":"any"}}"#);
        let token = Key::hmac(algorithm, "m", SECRET.as_bytes()).sign_text(header, payload);
        let expected = issued("https://machine.example", "", "read:x");
        cases.push((
            format!("of the machine by {algorithm}"),
            format!("Bearer {token}"),
            expected,
        ));
    }
    assert!(cases.len() >= 40, "{} cases", cases.len());
    for (name, value, expected) in &cases {
        // Twice: verified, and remembered.
        for path in ["/closed", "/open", "/closed"] {
            let response = bench.send(path, &[format!("authorization: {value}").into()]);
            assert_eq!(response.status, 200, "{name} on {path}: {}", response.text());
            assert_eq!(
                serde_json::from_slice::<Value>(&response.body).unwrap(),
                *expected,
                "{name} on {path}"
            );
        }
    }
}

/// The same ES256 token with the other signature that its signature gives away.
fn twin(token: &str) -> String {
    let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let mut borrow = 0;
    for at in (0..32).rev() {
        let difference = i16::from(order[at]) - i16::from(raw[32 + at]) - borrow;
        borrow = i16::from(difference < 0);
        raw[32 + at] = difference.rem_euclid(256) as u8;
    }
    format!("{signed}.{}", encode(raw))
}

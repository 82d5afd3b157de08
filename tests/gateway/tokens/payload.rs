//! Hostile signatures and claims.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::{Bench, Cases, HEADER, claims_of_partner, encode, hex};
use crate::support::Key;

/// Signatures that are none.
pub(super) fn signatures(bench: &Bench, cases: &mut Cases) {
    let order = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    let field = hex("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff");
    let good = bench.claiming(&[]);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = raw.split_at(32);
    let (zero, one) = (vec![0; 32], [vec![0; 31], vec![1]].concat());
    let plus = |a: &[u8], b: &[u8]| -> Vec<u8> {
        let mut carry = 0;
        let mut sum: Vec<u8> = a
            .iter()
            .zip(b)
            .rev()
            .map(|(a, b)| {
                let sum = u16::from(*a) + u16::from(*b) + carry;
                carry = sum >> 8;
                sum as u8
            })
            .collect();
        sum.reverse();
        sum
    };
    for (name, signature) in [
        ("empty", vec![]),
        ("psychic: r = s = 0", [&zero[..], &zero].concat()),
        ("r = 0", [&zero[..], s].concat()),
        ("s = 0", [r, &zero].concat()),
        ("r = s = 1", [&one[..], &one].concat()),
        ("r = s = n", [&order[..], &order].concat()),
        ("r = n, s as it is", [&order[..], s].concat()),
        ("r as it is, s = n", [r, &order].concat()),
        ("r + n", [plus(r, &order), s.to_vec()].concat()),
        ("s + n", [r.to_vec(), plus(s, &order)].concat()),
        ("r = p", [&field[..], s].concat()),
        ("all ones", vec![0xff; 64]),
        ("halves swapped", [s, r].concat()),
        ("DER", der(r, s)),
        ("DER of zeros", der(&zero, &zero)),
        ("a byte short", raw[..63].to_vec()),
        ("a byte long", [&raw[..], &[0]].concat()),
        ("a byte before", [&[0], &raw[..]].concat()),
        ("half", r.to_vec()),
        ("doubled", [&raw[..], &raw].concat()),
        ("reversed", raw.iter().rev().copied().collect()),
        ("of P-384's length", vec![1; 96]),
        ("of something else", bench.key("ES256").signature(b"something else")),
        (
            "of the payload alone",
            bench
                .key("ES256")
                .signature(signed.split('.').nth(1).unwrap().as_bytes()),
        ),
    ] {
        cases.token(
            "token-signature",
            format!("ES256 signature: {name}"),
            &format!("{signed}.{}", encode(signature)),
        );
    }
    for algorithm in ["ES384", "EdDSA", "RS256", "PS256", "RS512", "PS512"] {
        let key = bench.key(algorithm);
        let header = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"{}"}}"#, key.id);
        let good = key.sign_text(header, bench.claims(&[]));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut bad = vec![
            ("empty", vec![]),
            ("zeros", vec![0; raw.len()]),
            ("ones", vec![0xff; raw.len()]),
            ("one", [vec![0; raw.len() - 1], vec![1]].concat()),
            ("a byte short", raw[1..].to_vec()),
            ("a byte long", [&raw[..], &[0]].concat()),
            ("of something else", key.signature(b"something else")),
        ];
        if algorithm == "EdDSA" {
            // The group's order added to S: the same signature to a verifier that does not look.
            let group = hex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
            let mut s: Vec<u8> = raw[32..].iter().rev().copied().collect();
            s = plus(&s, &group.iter().rev().copied().collect::<Vec<u8>>());
            s.reverse();
            bad.push(("S + L", [&raw[..32], &s].concat()));
            // R and A of small order.
            bad.push(("R = 1, S = 0", [vec![1], vec![0; 63]].concat()));
        }
        if algorithm.starts_with('R') {
            let n = URL_SAFE_NO_PAD
                .decode(bench.key("RS256").jwk()["n"].as_str().unwrap())
                .unwrap();
            bad.push(("the modulus", n));
            // Padding with a hole for a forger (Bleichenbacher 2006), unsigned.
            let mut hole = vec![0x00, 0x01, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x00];
            hole.resize(raw.len(), 0);
            bad.push(("bare padding", hole));
        }
        for (name, signature) in bad {
            let token = format!("{signed}.{}", encode(signature));
            cases.token("token-signature", format!("{algorithm} signature: {name}"), &token);
        }
    }
    // Signed by others, or over something else.
    let stranger = Key::es256("es256");
    cases.token(
        "token-signature",
        "signed by a stranger",
        &stranger.sign_text(HEADER, bench.claims(&[])),
    );
    let other = bench.claiming(&[("sub", "\"admin\"")]);
    let other: Vec<&str> = other.split('.').collect();
    cases.token(
        "token-signature",
        "another's signature",
        &format!("{signed}.{}", other[2]),
    );
    let mine: Vec<&str> = good.split('.').collect();
    cases.token(
        "token-signature",
        "another's payload",
        &format!("{}.{}.{}", mine[0], other[1], mine[2]),
    );
}

/// What the claims say.
pub(super) fn payloads(bench: &Bench, cases: &mut Cases) {
    let url = bench.issuer.url();
    let long_list = format!("[{}]", vec!["\"x\""; 2000].join(","));
    let slash = format!("\"{url}/\"");
    let upper = format!("\"{}\"", url.to_uppercase());
    let in_a_list = format!("[\"{url}\"]");
    let with_nul = format!("\"{url}\\u0000\"");
    let with_more = format!("\"{url}.evil.example\"");
    let claims: Vec<(&'static str, &str, &str)> = vec![
        ("token-claims", "exp", ""),
        ("token-claims", "exp", "null"),
        ("token-claims", "exp", "\"2051222400\""),
        ("token-claims", "exp", "\"2035-01-01T00:00:00Z\""),
        ("token-claims", "exp", "[2051222400]"),
        ("token-claims", "exp", "{}"),
        ("token-claims", "exp", "true"),
        (
            "token-claims",
            "exp",
            "{\"$serde_json::private::Number\":\"2051222400\"}",
        ),
        ("token-malformed", "exp", "NaN"),
        ("token-malformed", "exp", "Infinity"),
        ("token-malformed", "exp", "1e400"),
        ("token-malformed", "exp", "0x7fffffff"),
        ("token-malformed", "exp", "02051222400"),
        ("token-malformed", "exp", "+2051222400"),
        ("token-malformed", "exp", "2051222400."),
        ("token-malformed", "exp", ".5e10"),
        ("token-malformed", "exp", "2_051_222_400"),
        ("token-expired", "exp", "0"),
        ("token-expired", "exp", "-0"),
        ("token-expired", "exp", "-1"),
        ("token-expired", "exp", "1"),
        ("token-expired", "exp", "0.5"),
        ("token-expired", "exp", "1577836800"),
        ("token-expired", "exp", "1.5778368e9"),
        ("token-expired", "exp", "-9223372036854775808"),
        ("token-expired", "exp", "-1e300"),
        ("token-expired", "exp", "1e-300"),
        ("token-not-yet-valid", "nbf", "2051222399"),
        ("token-not-yet-valid", "nbf", "1e300"),
        ("token-not-yet-valid", "nbf", "18446744073709551615"),
        ("token-not-yet-valid", "nbf", "9223372036854775807"),
        ("token-claims", "nbf", "\"0\""),
        ("token-claims", "nbf", "null"),
        ("token-claims", "nbf", "[0]"),
        ("token-claims", "nbf", "false"),
        ("token-claims", "iat", "\"1577836800\""),
        ("token-claims", "iat", "null"),
        ("token-claims", "iat", "{}"),
        ("token-claims", "iss", ""),
        ("token-claims", "iss", "null"),
        ("token-claims", "iss", "1"),
        ("token-claims", "iss", &in_a_list),
        ("token-claims", "iss", "{\"https://x\":1}"),
        ("token-issuer", "iss", "\"\""),
        ("token-issuer", "iss", &slash),
        ("token-issuer", "iss", &upper),
        ("token-issuer", "iss", &with_nul),
        ("token-issuer", "iss", &with_more),
        ("token-issuer", "iss", "\"https://evil.example\""),
        ("token-issuer", "iss", "\"customer\""),
        ("token-claims", "aud", ""),
        ("token-claims", "aud", "null"),
        ("token-claims", "aud", "1"),
        ("token-claims", "aud", "true"),
        ("token-claims", "aud", "{\"mobile-bank\":1}"),
        ("token-claims", "aud", "[\"mobile-bank\",1]"),
        ("token-claims", "aud", "[\"mobile-bank\",null]"),
        ("token-claims", "aud", "[[\"mobile-bank\"]]"),
        ("token-audience", "aud", "[]"),
        ("token-audience", "aud", "\"\""),
        ("token-audience", "aud", "\"*\""),
        ("token-audience", "aud", "\"MOBILE-BANK\""),
        ("token-audience", "aud", "\"mobile-bank \""),
        ("token-audience", "aud", "\"mobile-bank web\""),
        ("token-audience", "aud", "\"mobile-bank,web\""),
        ("token-audience", "aud", "\"mobile-bank\\u0000\""),
        ("token-audience", "aud", "\"mobile\\u2010bank\""),
        ("token-audience", "aud", &long_list),
        ("token-claims", "sub", ""),
        ("token-claims", "sub", "null"),
        ("token-claims", "sub", "\"\""),
        ("token-claims", "sub", "1"),
        ("token-claims", "sub", "true"),
        ("token-claims", "sub", "[\"u1\"]"),
        ("token-claims", "sub", "{\"u1\":1}"),
        ("token-claims", "sub", "\"u1\\u0000\""),
        ("token-claims", "sub", "\"u1\\r\\nx-admin: 1\""),
        ("token-claims", "sub", "\"\\t\""),
        ("token-claims", "sub", "\"u1\\u007f\""),
        ("token-claims", "sub", "\"u1\\u0085\""),
        ("token-malformed", "sub", "\"\\ud800\""),
        ("token-malformed", "sub", "\"\\x41\""),
        ("token-malformed", "sub", "'u1'"),
        ("token-malformed", "sub", "\"u1\n\""),
        ("token-malformed", "x", "{\"y\":1,\"y\":2}"),
        ("token-malformed", "x", "[{\"y\":1,\"\\u0079\":2}]"),
    ];
    for (code, name, value) in claims {
        let shown: String = value.chars().take(40).collect();
        cases.token(code, format!("{name}: {shown}"), &bench.claiming(&[(name, value)]));
    }
    let good = bench.claims(&[]);
    let with = |more: &str| format!("{},{more}}}", &good[..good.len() - 1]);
    let deep = with(&format!("\"x\":{}{}", "[".repeat(2000), "]".repeat(2000)));
    for (name, payload) in [
        ("sub twice", with("\"sub\":\"admin\"")),
        ("sub twice, escaped", with("\"\\u0073ub\":\"admin\"")),
        ("exp twice", with("\"exp\":9999999999")),
        ("iss twice", with("\"iss\":\"https://partner.example\"")),
        ("aud twice", with("\"aud\":\"web\"")),
        ("a stranger twice", with("\"x\":1,\"x\":1")),
        ("bytes after the end", format!("{good}x")),
        ("two objects", format!("{good}{good}")),
        ("NUL after the end", format!("{good}\0")),
        ("a byte order mark", format!("\u{feff}{good}")),
        ("not closed", good[..good.len() - 1].to_owned()),
        ("a list", format!("[{good}]")),
        ("text", "\"u1\"".to_owned()),
        ("a number", "1".to_owned()),
        ("null", "null".to_owned()),
        ("empty", String::new()),
        ("white space", " ".to_owned()),
        ("depth", deep),
        ("form encoded", "iss=x&sub=u1".to_owned()),
    ] {
        cases.token("token-malformed", format!("payload: {name}"), &bench.over(payload));
    }
    let broken = [&good.as_bytes()[..good.len() - 2], b"\xff\"}"].concat();
    cases.token("token-malformed", "payload: not UTF-8", &bench.over(broken));
    let utf16: Vec<u8> = good.encode_utf16().flat_map(u16::to_be_bytes).collect();
    cases.token("token-malformed", "payload: UTF-16", &bench.over(utf16));
    // Without a type to go by, an ID token is told by its claims.
    for claim in ["nonce", "at_hash"] {
        let payload = claims_of_partner(&[(claim, "\"x\"")]);
        let token = bench.partner.sign_text(r#"{"alg":"ES256","typ":"JWT"}"#, payload);
        cases.token("token-type", format!("an ID token by its {claim}"), &token);
    }
}

/// The form of a signature that JWS does not use.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| [&[2, 33, 0][..], number].concat();
    let both = [integer(r), integer(s)].concat();
    [&[0x30, both.len() as u8][..], &both].concat()
}

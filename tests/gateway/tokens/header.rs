//! Hostile algorithms, headers, parts and header lines.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use rsa::pkcs1::{EncodeRsaPublicKey, LineEnding};
use rsa::pkcs8::EncodePublicKey;
use serde_json::json;

use super::{Bench, Cases, HEADER, SECRET, claims, encode};
use crate::support::{Key, rsa_public_key};

/// `none`, and one algorithm in the place of another.
pub(super) fn algorithms(bench: &Bench, cases: &mut Cases) {
    let payload = bench.claims(&[]);
    for alg in [
        "none",
        "None",
        "NONE",
        "nOnE",
        "none ",
        "",
        "null",
        "NULL",
        "\\u006eone",
        "0",
        "false",
    ] {
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"es256"}}"#);
        let unsigned = format!("{}.{}.", encode(&header), encode(&payload));
        cases.token("token-algorithm", format!("alg `{alg}`, unsigned"), &unsigned);
        cases.token(
            "token-algorithm",
            format!("alg `{alg}`, signed"),
            &bench.headed(&header),
        );
    }
    for alg in [
        "es256",
        "ES256 ",
        "Es256",
        "ES256K",
        "ES512",
        "EDDSA",
        "Ed448",
        "RS1",
        "RS128",
        "PS1",
        "HS1",
        "ES257",
        "SHA256",
        "RSA-OAEP",
        "RSA1_5",
        "A128KW",
        "dir",
        "ECDH-ES",
        "A256GCM",
        "PBES2-HS256+A128KW",
        "secp256r1",
        "ES256\\u0000",
    ] {
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"es256"}}"#);
        cases.token("token-algorithm", format!("alg `{alg}`"), &bench.headed(&header));
    }
    // A key under another name than its own: signed rightly, said wrongly.
    for (key, alg) in [
        ("RS256", "PS256"),
        ("PS256", "RS256"),
        ("RS256", "RS384"),
        ("RS512", "RS256"),
        ("ES256", "ES384"),
        ("ES384", "ES256"),
        ("EdDSA", "ES256"),
        ("ES256", "EdDSA"),
        ("ES256", "RS256"),
    ] {
        let key = bench.key(key);
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt","kid":"{}"}}"#, key.id);
        cases.token(
            "token-algorithm",
            format!("{} as {alg}", key.algorithm()),
            &key.sign_text(&header, &payload),
        );
        let header = format!(r#"{{"alg":"{alg}","typ":"at+jwt"}}"#);
        cases.token(
            "token-signature",
            format!("{} as {alg}, no kid", key.algorithm()),
            &key.sign_text(&header, &payload),
        );
    }
    // The public key is known to everybody, in every form.
    let rsa = rsa_public_key();
    let spki = rsa.to_public_key_pem(LineEnding::LF).unwrap();
    let known: [(&str, Vec<u8>); 8] = [
        ("SPKI PEM", spki.clone().into_bytes()),
        ("SPKI PEM, trimmed", spki.trim_end().as_bytes().to_vec()),
        ("SPKI PEM, CRLF", spki.replace('\n', "\r\n").into_bytes()),
        ("SPKI DER", rsa.to_public_key_der().unwrap().as_bytes().to_vec()),
        ("PKCS#1 PEM", rsa.to_pkcs1_pem(LineEnding::LF).unwrap().into_bytes()),
        ("PKCS#1 DER", rsa.to_pkcs1_der().unwrap().as_bytes().to_vec()),
        ("JWK", bench.key("RS256").public_bytes()),
        ("nothing", Vec::new()),
    ];
    for (form, secret) in known {
        for algorithm in ["HS256", "HS512"] {
            let forger = Key::hmac(algorithm, "rs256", &secret);
            let header = format!(r#"{{"alg":"{algorithm}","typ":"at+jwt","kid":"rs256"}}"#);
            let name = format!("{algorithm} with the public key as {form}");
            cases.token("token-algorithm", name, &forger.sign_text(header, &payload));
        }
    }
    // The machine's own kind of token, by whoever does not know the secret.
    let payload = claims("\"https://machine.example\"", &[]);
    for secret in [
        "",
        "secret",
        "correct horse battery staple and mor",
        &format!("{SECRET}\n"),
    ] {
        let forger = Key::hs256("m", secret.as_bytes());
        let token = forger.sign_text(r#"{"alg":"HS256"}"#, &payload);
        cases.token("token-signature", format!("HS256 with `{secret:?}`"), &token);
    }
    let token = bench
        .key("ES256")
        .sign_text(r#"{"alg":"ES256","kid":"es256"}"#, &payload);
    cases.token("token-algorithm", "ES256 in the name of the HS issuer", &token);
    let token = bench.machine.sign_text(r#"{"alg":"HS256"}"#, bench.claims(&[]));
    cases.token("token-algorithm", "HS256 in the name of the ES issuer", &token);
    // Good for one issuer is not good for another.
    let token = bench
        .partner
        .sign_text(r#"{"alg":"ES256","typ":"at+jwt"}"#, bench.claims(&[]));
    cases.token("token-signature", "the partner in the name of the issuer", &token);
    let token = bench
        .key("ES256")
        .sign_text(r#"{"alg":"ES256"}"#, claims("\"https://partner.example\"", &[]));
    cases.token("token-signature", "the issuer in the name of the partner", &token);
}

/// What the header says besides.
pub(super) fn headers(bench: &Bench, cases: &mut Cases) {
    let evil = Key::es256("evil");
    let jwk = evil.jwk();
    let url = format!("{}/jwks", bench.issuer.url());
    for (name, member) in [
        ("jwk", format!(r#""jwk":{jwk}"#)),
        ("jku", format!(r#""jku":"{url}""#)),
        ("jku to metadata", r#""jku":"http://169.254.169.254/""#.to_owned()),
        ("jku to a file", r#""jku":"file:///etc/passwd""#.to_owned()),
        ("x5u", format!(r#""x5u":"{url}""#)),
        ("x5c", r#""x5c":["MIIB"]"#.to_owned()),
        ("x5t", r#""x5t":"AAAA","x5t#S256":"AAAA""#.to_owned()),
    ] {
        for (kid, code) in [("es256", "token-signature"), ("evil", "token-key-unknown")] {
            let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{kid}",{member}}}"#);
            let token = evil.sign_text(&header, bench.claims(&[]));
            cases.token(code, format!("embedded {name}, kid {kid}"), &token);
        }
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt",{member}}}"#);
        let token = evil.sign_text(&header, bench.claims(&[]));
        cases.token("token-signature", format!("embedded {name}, no kid"), &token);
    }
    let long = "k".repeat(4000);
    for kid in [
        "",
        " ",
        "ES256",
        "es256 ",
        "es256\\u0000",
        "es256\\n",
        "../../../../dev/null",
        "/dev/null",
        "C:\\\\nul",
        "a' OR '1'='1",
        "'; DROP TABLE keys; --",
        "' UNION SELECT 'key' --",
        "${env:TOKENS_SECRET}",
        "$(id)",
        "`id`",
        "| id",
        "{{7*7}}",
        "%00",
        "*",
        "es256,rs256",
        "\\u0435s256",
        "es\\u200b256",
        "\u{1f511}",
        "\\ud83d\\udd11",
        "__proto__",
        "0",
        "http://169.254.169.254/",
        &long,
    ] {
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":"{kid}"}}"#);
        let shown: String = kid.chars().take(30).collect();
        cases.token("token-key-unknown", format!("kid `{shown}`"), &bench.headed(&header));
    }
    for kid in ["null", "0", "[\"es256\"]", "{\"es256\":1}", "true"] {
        let header = format!(r#"{{"alg":"ES256","typ":"at+jwt","kid":{kid}}}"#);
        cases.token("token-malformed", format!("kid {kid}"), &bench.headed(&header));
    }
    let rest = r#""typ":"at+jwt","kid":"es256""#;
    for (code, name, header) in [
        (
            "token-crit",
            "crit of exp",
            format!(r#"{{"alg":"ES256",{rest},"crit":["exp"]}}"#),
        ),
        (
            "token-crit",
            "crit of a stranger",
            format!(r#"{{"alg":"ES256",{rest},"crit":["x"],"x":1}}"#),
        ),
        (
            "token-crit",
            "crit of nothing",
            format!(r#"{{"alg":"ES256",{rest},"crit":[]}}"#),
        ),
        (
            "token-crit",
            "crit null",
            format!(r#"{{"alg":"ES256",{rest},"crit":null}}"#),
        ),
        (
            "token-crit",
            "crit as text",
            format!(r#"{{"alg":"ES256",{rest},"crit":"exp"}}"#),
        ),
        (
            "token-crit",
            "crit of b64",
            format!(r#"{{"alg":"ES256",{rest},"crit":["b64"],"b64":true}}"#),
        ),
        (
            "token-crit",
            "unencoded",
            format!(r#"{{"alg":"ES256",{rest},"crit":["b64"],"b64":false}}"#),
        ),
        (
            "token-crit",
            "unencoded, not critical",
            format!(r#"{{"alg":"ES256",{rest},"b64":false}}"#),
        ),
        (
            "token-crit",
            "b64 as text",
            format!(r#"{{"alg":"ES256",{rest},"b64":"true"}}"#),
        ),
        (
            "token-malformed",
            "nested",
            format!(r#"{{"alg":"ES256",{rest},"cty":"JWT"}}"#),
        ),
        (
            "token-malformed",
            "nested, long",
            format!(r#"{{"alg":"ES256",{rest},"cty":"application/jwt"}}"#),
        ),
        (
            "token-malformed",
            "cty of a number",
            format!(r#"{{"alg":"ES256",{rest},"cty":1}}"#),
        ),
        (
            "token-malformed",
            "compressed",
            format!(r#"{{"alg":"ES256",{rest},"zip":"DEF"}}"#),
        ),
        (
            "token-malformed",
            "encrypted",
            format!(r#"{{"alg":"ES256",{rest},"enc":"A128GCM"}}"#),
        ),
        (
            "token-type",
            "an ID token",
            r#"{"alg":"ES256","typ":"JWT","kid":"es256"}"#.into(),
        ),
        ("token-type", "no type", r#"{"alg":"ES256","kid":"es256"}"#.into()),
        (
            "token-type",
            "a logout token",
            r#"{"alg":"ES256","typ":"logout+jwt","kid":"es256"}"#.into(),
        ),
        (
            "token-type",
            "nearly the type",
            r#"{"alg":"ES256","typ":"x-at+jwt","kid":"es256"}"#.into(),
        ),
        (
            "token-malformed",
            "typ null",
            r#"{"alg":"ES256","typ":null,"kid":"es256"}"#.into(),
        ),
        ("token-malformed", "no alg", format!("{{{rest}}}")),
        ("token-malformed", "alg null", format!(r#"{{"alg":null,{rest}}}"#)),
        (
            "token-malformed",
            "alg a list",
            format!(r#"{{"alg":["ES256"],{rest}}}"#),
        ),
        (
            "token-malformed",
            "alg an object",
            format!(r#"{{"alg":{{"ES256":1}},{rest}}}"#),
        ),
        ("token-malformed", "alg a number", format!(r#"{{"alg":256,{rest}}}"#)),
        ("token-malformed", "Alg", format!(r#"{{"Alg":"ES256",{rest}}}"#)),
        (
            "token-malformed",
            "alg twice",
            format!(r#"{{"alg":"none","alg":"ES256",{rest}}}"#),
        ),
        (
            "token-malformed",
            "alg twice, the other way",
            format!(r#"{{"alg":"ES256","alg":"none",{rest}}}"#),
        ),
        (
            "token-malformed",
            "alg twice, escaped",
            format!(r#"{{"alg":"ES256","\u0061lg":"none",{rest}}}"#),
        ),
        (
            "token-malformed",
            "kid twice",
            format!(r#"{{"alg":"ES256",{rest},"kid":"rs256"}}"#),
        ),
        (
            "token-malformed",
            "a stranger twice",
            format!(r#"{{"alg":"ES256",{rest},"x":1,"x":1}}"#),
        ),
        (
            "token-malformed",
            "a stranger twice, deep",
            format!(r#"{{"alg":"ES256",{rest},"x":{{"y":1,"y":1}}}}"#),
        ),
        (
            "token-malformed",
            "a comment",
            format!(r#"{{"alg":"ES256",/**/{rest}}}"#),
        ),
        (
            "token-malformed",
            "a trailing comma",
            format!(r#"{{"alg":"ES256",{rest},}}"#),
        ),
        (
            "token-malformed",
            "bytes after the end",
            format!(r#"{{"alg":"ES256",{rest}}}x"#),
        ),
        (
            "token-malformed",
            "two objects",
            format!(r#"{{"alg":"ES256",{rest}}}{{}}"#),
        ),
        (
            "token-malformed",
            "NUL after the end",
            format!("{{\"alg\":\"ES256\",{rest}}}\0"),
        ),
        (
            "token-malformed",
            "a byte order mark",
            format!("\u{feff}{{\"alg\":\"ES256\",{rest}}}"),
        ),
        ("token-malformed", "a list", format!(r#"[{{"alg":"ES256",{rest}}}]"#)),
        ("token-malformed", "text", r#""ES256""#.into()),
        ("token-malformed", "null", "null".into()),
        ("token-malformed", "empty", String::new()),
        ("token-malformed", "an empty object", "{}".into()),
        ("token-malformed", "single quotes", "{'alg':'ES256'}".into()),
        (
            "token-malformed",
            "a lone surrogate",
            format!(r#"{{"alg":"ES256",{rest},"x":"\ud800"}}"#),
        ),
        (
            "token-malformed",
            "depth",
            format!(r#"{{"alg":"ES256",{rest},"x":{}{}}}"#, "[".repeat(400), "]".repeat(400)),
        ),
    ] {
        cases.token(code, format!("header: {name}"), &bench.headed(&header));
    }
    let utf16: Vec<u8> = HEADER.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let odd = [
        utf16,
        [HEADER.as_bytes(), b"\xff"].concat(),
        HEADER
            .replace("es256", "\u{e9}")
            .encode_utf16()
            .map(|unit| unit as u8)
            .collect(),
    ];
    for (at, header) in odd.iter().enumerate() {
        let token = bench.key("ES256").sign_text(header, bench.claims(&[]));
        cases.token("token-malformed", format!("header of odd bytes {at}"), &token);
    }
}

/// The parts and their letters.
pub(super) fn shapes(bench: &Bench, cases: &mut Cases) {
    let good = bench.claiming(&[]);
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        unreachable!()
    };
    let padded = |text: &str| URL_SAFE.encode(URL_SAFE_NO_PAD.decode(text).unwrap());
    let payload_off_by = |length: usize| {
        // Claims whose length leaves bits over in the last letter.
        let spaces = (0..3).map(|n| bench.claims(&[]) + &" ".repeat(n));
        spaces.into_iter().find(|text| text.len() % 3 == length).unwrap()
    };
    for (name, token) in [
        ("one dot", ".".to_owned()),
        ("two dots", "..".to_owned()),
        ("three dots", "...".to_owned()),
        ("no dots", "token".to_owned()),
        ("no signature part", format!("{header}.{payload}")),
        ("no header", format!(".{payload}.{signature}")),
        ("no payload: detached", format!("{header}..{signature}")),
        ("four parts", format!("{good}.{signature}")),
        (
            "five parts, as JWE",
            format!("{header}.{payload}.{signature}.AAAA.AAAA"),
        ),
        ("a dot before", format!(".{good}")),
        ("a dot after", format!("{good}.")),
        ("padding after", format!("{good}=")),
        ("double padding after", format!("{good}==")),
        (
            "padding in the signature",
            format!("{header}.{payload}.{}", padded(signature)),
        ),
        ("padding in the header", format!("{header}=.{payload}.{signature}")),
        ("plus and slash", format!("{header}.{payload}.+/{}", &signature[2..])),
        ("tilde", format!("{header}.{payload}.~{}", &signature[1..])),
        ("standard letters", {
            let standard = STANDARD.encode(URL_SAFE_NO_PAD.decode(signature).unwrap());
            format!("{header}.{payload}.{}", standard.replace(['-', '_'], "/"))
        }),
        ("stray bits in the signature", stray_bit(&good)),
        ("stray bits in the payload", {
            let token = bench.over(payload_off_by(1));
            let (signed, _) = token.rsplit_once('.').unwrap();
            let signed = stray_bit(signed);
            let signature = encode(bench.key("ES256").signature(signed.as_bytes()));
            format!("{signed}.{signature}")
        }),
        ("hexadecimal", "7b7d.7b7d.00".to_owned()),
        ("huge", "e".repeat(20_000)),
        ("many dots", ".".repeat(10_000)),
        (
            "a huge payload",
            bench.claiming(&[("x", &json!("y".repeat(13_000)).to_string())]),
        ),
        ("a huge signature", format!("{header}.{payload}.{}", "A".repeat(17_000))),
        (
            "JSON serialisation, flat",
            encode(json!({"payload": payload, "protected": header, "signature": signature}).to_string()),
        ),
        ("the token encoded once more", encode(&good)),
    ] {
        cases.token("token-malformed", format!("shape: {name}"), &token);
    }
    cases.token("token-malformed", "a token in a token", &bench.over(&good));
    cases.token(
        "token-malformed",
        "a quoted token in a token",
        &bench.over(json!(good).to_string()),
    );
}

/// The header line itself.
pub(super) fn lines(bench: &Bench, cases: &mut Cases) {
    let token = bench.claiming(&[]);
    let unreadable = "credential-unreadable";
    for (name, value) in [
        ("empty", String::new()),
        ("the scheme alone", "Bearer".into()),
        ("the scheme and a space", "Bearer ".into()),
        ("a tab between", format!("Bearer\t{token}")),
        ("a tab among spaces", format!("Bearer \t{token}")),
        ("nothing between", format!("Bearer{token}")),
        ("a colon", format!("Bearer: {token}")),
        ("an equals sign", format!("Bearer={token}")),
        ("quotes", format!("Bearer \"{token}\"")),
        ("angle brackets", format!("Bearer <{token}>")),
        ("a comma after", format!("Bearer {token},")),
        ("two in a list", format!("Bearer {token}, Bearer {token}")),
        ("two words", format!("Bearer {token} {token}")),
        ("the scheme twice", format!("Bearer Bearer {token}")),
        ("a parameter after", format!("Bearer {token};x=1")),
        ("a parameter before", format!("Bearer realm=x, {token}")),
        ("no scheme", token.clone()),
        ("the scheme of a stranger", format!("JWT {token}")),
        ("Token", format!("Token {token}")),
        ("DPoP", format!("DPoP {token}")),
        ("Basic", "Basic dTE6cGFzc3dvcmQ=".into()),
        ("Digest", "Digest username=\"u1\"".into()),
        ("Negotiate", "Negotiate YII=".into()),
        ("unicode space", format!("Bearer\u{a0}{token}")),
        ("unicode letters", format!("Bearer {token}\u{e9}")),
        ("a full-width dot", format!("Bearer {}", token.replace('.', "\u{ff0e}"))),
        ("percent encoding", format!("Bearer {}", token.replace('.', "%2E"))),
        ("a Cyrillic scheme", format!("B\u{435}arer {token}")),
    ] {
        cases.line(unreadable, format!("line: {name}"), format!("authorization: {value}"));
    }
    cases.line("token-malformed", "line: a token68", "authorization: Bearer a/b+c==");
    cases.line(
        "token-malformed",
        "line: an opaque token",
        "authorization: Bearer 2YotnFZFEjr1zCsicMWpAA",
    );
    cases.line("token-malformed", "line: undefined", "authorization: Bearer undefined");
    let line = |value: &str| format!("authorization: {value}").into_bytes();
    let good = line(&format!("Bearer {token}"));
    cases.lines(unreadable, "the same line twice", vec![good.clone(), good.clone()]);
    cases.lines(unreadable, "Basic beside", vec![good.clone(), line("Basic dTE6cA==")]);
    cases.lines(unreadable, "Basic before", vec![line("Basic dTE6cA=="), good.clone()]);
    cases.lines(unreadable, "an empty one beside", vec![good.clone(), line("")]);
    let upper = [b"AUTHORIZATION".as_slice(), &good[13..]].concat();
    cases.lines(unreadable, "another case beside", vec![good, upper]);
}

/// The same bytes, the last letter with a bit set that means nothing.
fn stray_bit(token: &str) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bytes = token.as_bytes().to_vec();
    let last = bytes.pop().unwrap();
    let value = LETTERS.iter().position(|letter| *letter == last).unwrap();
    bytes.push(LETTERS[value ^ 1]);
    String::from_utf8(bytes).unwrap()
}

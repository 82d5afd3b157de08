//! Tokens from hostile hands, and odd ones that are good: the whole way from the header line to who calls.
//!
//! Each is sent to a route that needs a token and to one that does not: a bad one is refused on both.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use rsa::pkcs1::{EncodeRsaPublicKey, LineEnding};
use rsa::pkcs8::EncodePublicKey;
use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Key, Reply, Upstream, fill, rsa_public_key};

const SECRET: &str = "correct horse battery staple and more";
const PUBLISHED: [&str; 9] = [
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
];

const THREE: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
authenticators:
  customer:
    jwt:
      issuer: $issuer
      audience: [mobile-bank, web]
      algorithms: [RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]
      jwks: discover
      typ: at+jwt
  partner:
    jwt:
      issuer: https://partner.example
      audience: mobile-bank
      algorithms: [ES256]
      jwks: keys.json
      roles: realm_access.roles
      scopes: scp
  machine:
    jwt:
      issuer: https://machine.example
      audience: mobile-bank
      algorithms: [HS256, HS384, HS512]
      secret: '${env:TOKENS_SECRET}'
      scopes: permissions
routes:
  closed:
    match: GET /closed
    auth: [customer, partner, machine]
    forward: { x-user: principal.sub, x-by: principal.issuer, x-roles: principal.roles, x-scopes: principal.scopes }
    upstream: origin
  open:
    match: GET /open
    auth: [customer, partner, machine, none]
    forward: { x-user: principal.sub, x-by: principal.issuer, x-roles: principal.roles, x-scopes: principal.scopes }
    upstream: origin
";

/// An issuer with a key for every algorithm, one more whose keys are in a file, one that shares a secret, and a gateway that
/// believes all three.
struct Bench {
    issuer: Issuer,
    keys: Vec<Key>,
    partner: Key,
    machine: Key,
    upstream: Upstream,
    gateway: Gateway,
}

impl Bench {
    fn new() -> Self {
        let keys: Vec<Key> = PUBLISHED
            .iter()
            .map(|name| Key::of(name, &name.to_lowercase()))
            .collect();
        let (issuer, partner) = (Issuer::new(), Key::es256("partner"));
        issuer.publish(keys.iter().map(Key::jwk).collect());
        let upstream = Upstream::http1(|seen| {
            let said = |name: &str| seen.header(name).unwrap_or_default().to_owned();
            Reply::json(&json!({
                "user": said("x-user"), "by": said("x-by"), "roles": said("x-roles"), "scopes": said("x-scopes"),
            }))
        });
        let yaml = fill(
            &THREE.replace("${env", "$env"),
            &[
                ("upstream", &upstream.address()),
                ("issuer", &issuer.url()),
                ("env", &"${env"),
            ],
        );
        let file = json!({"keys": [partner.jwk()]}).to_string();
        let gateway = Gateway::with(&yaml)
            .file("keys.json", &file)
            .environment("TOKENS_SECRET", SECRET)
            .start();
        Self {
            issuer,
            keys,
            partner,
            machine: Key::hs256("m", SECRET.as_bytes()),
            upstream,
            gateway,
        }
    }

    fn key(&self, algorithm: &str) -> &Key {
        self.keys.iter().find(|key| key.algorithm() == algorithm).unwrap()
    }

    /// Good claims with these set instead or besides; an empty value leaves the claim out.
    fn claims(&self, changes: &[(&str, &str)]) -> String {
        let issuer = json!(self.issuer.url()).to_string();
        claims(&issuer, changes)
    }

    /// A token by the ES256 key over this header.
    fn headed(&self, header: &str) -> String {
        self.key("ES256").sign_text(header, self.claims(&[]))
    }

    /// A token by the ES256 key over these claims.
    fn claiming(&self, changes: &[(&str, &str)]) -> String {
        self.over(&self.claims(changes))
    }

    /// A token by the ES256 key over this payload.
    fn over(&self, payload: impl AsRef<[u8]>) -> String {
        self.key("ES256").sign_text(HEADER, payload)
    }

    fn send(&self, path: &str, lines: &[Vec<u8>]) -> crate::support::Response {
        let mut bytes = format!("GET {path} HTTP/1.1\r\nhost: gate.example\r\n").into_bytes();
        for line in lines {
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
        let mut connection = self.gateway.connect();
        connection.send(&bytes);
        connection.response()
    }
}

const HEADER: &str = r#"{"alg":"ES256","typ":"at+jwt","kid":"es256"}"#;

fn claims(issuer: &str, changes: &[(&str, &str)]) -> String {
    let good = [
        ("iss", issuer),
        ("aud", "\"mobile-bank\""),
        ("sub", "\"u1\""),
        ("iat", "1577836800"),
        ("exp", "2051222400"),
    ];
    let kept = good
        .iter()
        .filter(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
    let set = changes.iter().filter(|(_, value)| !value.is_empty());
    let members: Vec<String> = kept
        .chain(set)
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// What is sent, and the code of the refusal.
struct Case {
    name: String,
    lines: Vec<Vec<u8>>,
    code: &'static str,
}

#[derive(Default)]
struct Cases(Vec<Case>);

impl Cases {
    fn token(&mut self, code: &'static str, name: impl Into<String>, token: &str) {
        self.line(code, name, format!("authorization: Bearer {token}"));
    }

    fn line(&mut self, code: &'static str, name: impl Into<String>, line: impl Into<Vec<u8>>) {
        self.lines(code, name, vec![line.into()]);
    }

    fn lines(&mut self, code: &'static str, name: impl Into<String>, lines: Vec<Vec<u8>>) {
        let name = name.into();
        self.0.push(Case { name, lines, code });
    }
}

#[test]
fn refuses_every_token_that_proves_nobody() {
    let bench = Bench::new();
    let mut cases = Cases::default();
    algorithms(&bench, &mut cases);
    headers(&bench, &mut cases);
    shapes(&bench, &mut cases);
    signatures(&bench, &mut cases);
    payloads(&bench, &mut cases);
    lines(&bench, &mut cases);
    assert!(cases.0.len() >= 150, "{} cases", cases.0.len());
    let mut wrong = Vec::new();
    for Case { name, lines, code } in &cases.0 {
        for path in ["/closed", "/open"] {
            let response = bench.send(path, lines);
            let challenge = response.header("www-authenticate").map(str::to_owned);
            let told = response.problem(&[401], &[code]);
            let challenged = match challenge.as_deref() {
                Some("Bearer error=\"invalid_token\"") => Ok(()),
                other => Err(format!("challenged by {other:?}")),
            };
            if let Err(why) = told.and(challenged) {
                wrong.push(format!("{name} on {path}: {why}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(bench.upstream.count(), 0);
    // Nothing that was refused was learned from, and no token is in the log.
    let good = bench.claiming(&[]);
    let response = bench.send("/closed", &[format!("authorization: Bearer {good}").into()]);
    response.expect(200);
    let log = bench.gateway.log();
    assert!(!log.contains("eyJ") && !log.contains(SECRET), "{log}");
}

/// `none`, and one algorithm in the place of another.
fn algorithms(bench: &Bench, cases: &mut Cases) {
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
fn headers(bench: &Bench, cases: &mut Cases) {
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
fn shapes(bench: &Bench, cases: &mut Cases) {
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

/// Signatures that are none.
fn signatures(bench: &Bench, cases: &mut Cases) {
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
fn payloads(bench: &Bench, cases: &mut Cases) {
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

fn claims_of_partner(changes: &[(&str, &str)]) -> String {
    claims("\"https://partner.example\"", changes)
}

/// The header line itself.
fn lines(bench: &Bench, cases: &mut Cases) {
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

#[test]
fn says_nothing_of_errors_where_nothing_was_sent() {
    let bench = Bench::new();
    let response = bench.send("/closed", &[]);
    response.expect_problem(401, "token-missing");
    assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"gwanmun\""));
    bench.send("/open", &[]).expect(200);
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).unwrap())
        .collect()
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

/// The form of a signature that JWS does not use.
fn der(r: &[u8], s: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| [&[2, 33, 0][..], number].concat();
    let both = [integer(r), integer(s)].concat();
    [&[0x30, both.len() as u8][..], &both].concat()
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

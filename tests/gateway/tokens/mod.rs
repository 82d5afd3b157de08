//! Tokens from hostile hands, and odd ones that are good: the whole way from the header line to who calls.
//!
//! Each is sent to a route that needs a token and to one that does not: a bad one is refused on both.

mod good;
mod header;
mod payload;
mod scheme;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::{Gateway, Issuer, Key, Reply, Upstream, fill};

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
        self.over(self.claims(changes))
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
    header::algorithms(&bench, &mut cases);
    header::headers(&bench, &mut cases);
    header::shapes(&bench, &mut cases);
    payload::signatures(&bench, &mut cases);
    scheme::paddings(&bench, &mut cases);
    scheme::tags(&bench, &mut cases);
    payload::payloads(&bench, &mut cases);
    header::lines(&bench, &mut cases);
    assert!(cases.0.len() >= 150, "{} cases", cases.0.len());
    let mut wrong = Vec::new();
    for Case { name, lines, code } in &cases.0 {
        for path in ["/closed", "/open"] {
            let response = bench.send(path, lines);
            let challenge = response.header("www-authenticate").map(str::to_owned);
            let told = response.problem(&[401], &[code]);
            let challenged = match challenge.as_deref() {
                Some(said) if said == challenge_for(lines) => Ok(()),
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

/// RFC 6750 §3.1: another scheme is no error of the caller's, two credentials are one of the request, all else is one of the
/// token.
fn challenge_for(lines: &[Vec<u8>]) -> String {
    let plain = "Bearer realm=\"gwanmun\"";
    let value = lines[0].split(|byte| *byte == b':').nth(1).unwrap_or_default();
    let scheme: Vec<u8> = value
        .trim_ascii()
        .iter()
        .copied()
        .take_while(u8::is_ascii_alphanumeric)
        .collect();
    match (lines.len(), scheme.eq_ignore_ascii_case(b"bearer")) {
        (1, false) => plain.to_owned(),
        (1, true) => format!("{plain}, error=\"invalid_token\""),
        _ => format!("{plain}, error=\"invalid_request\""),
    }
}

fn claims_of_partner(changes: &[(&str, &str)]) -> String {
    claims("\"https://partner.example\"", changes)
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

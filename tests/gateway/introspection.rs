//! Tokens that say nothing: their issuer is asked whose they are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Gate, Gateway, Issuer, Provider, Reply, Request, Seen, Upstream, eventually, fill};

const ADMIN: &str = "0123456789abcdef0123456789abcdef-not-a-secret";
/// Letters that a form and a `Basic` header would each read otherwise.
const SECRET: &str = "s:e c+r%e&t=ü";
const NOON: &str = "2026-11-24T12:00:00+09:00";
/// Noon, in seconds.
const NOW: i64 = 1_795_489_200;

const BANK: &str = "
admin: { address: 127.0.0.1:0, token: '%{env:GWANMUN_ADMIN_TOKEN}' }
state: state
upstreams:
  origin: { endpoints: [$upstream] }
authenticators:
  asked:
    introspection:
      endpoint: http://$endpoint/introspect
      issuer: https://id.bank.example
      client_id: gate keeper
      client_secret: '%{env:GATE_SECRET}'
      audience: mobile-bank
      cache: { active: 1h, inactive: 1m }
      timeout: 20s
  posted:
    introspection: { endpoint: http://$endpoint/introspect, client_id: gate keeper, client_secret: '%{env:GATE_SECRET}', client_auth: client_secret_post, timeout: 20s }
  hasty:
    introspection: { endpoint: http://$endpoint/introspect, client_id: gate, client_secret: '%{env:GATE_SECRET}', timeout: 100ms }
  own:
    jwt: { issuer: $issuer, audience: mobile-bank, algorithms: ES256, jwks: discover, typ: at+jwt }
routes:
  read: { match: GET /read, auth: asked, scopes: [read], forward: { x-user: principal.sub }, upstream: origin }
  either: { match: GET /either, auth: [own, asked, none], forward: { x-user: principal.sub, x-issuer: principal.issuer }, upstream: origin }
  posted: { match: GET /posted, auth: posted, forward: { x-user: principal.sub }, upstream: origin }
  hasty: { match: GET /hasty, auth: hasty, upstream: origin }
  stored: { match: GET /stored, auth: asked, cache: { ttl: 1h, share: principal }, forward: { x-user: principal.sub }, upstream: origin }
";

/// What the endpoint says of each token.
type Tokens = Arc<Mutex<HashMap<String, Value>>>;

struct Bank {
    gateway: Gateway,
    endpoint: Upstream,
    issuer: Issuer,
    upstream: Upstream,
    tokens: Tokens,
}

impl Bank {
    fn open() -> Self {
        let upstream = Upstream::http1(|seen| Reply::text(seen.header("x-user").unwrap_or("nobody")));
        let tokens = Tokens::default();
        let known = tokens.clone();
        let endpoint = Upstream::http1(move |seen| told(seen, &known));
        let issuer = Issuer::new();
        let yaml = fill(
            BANK,
            &[
                ("upstream", &upstream.address()),
                ("endpoint", &endpoint.address()),
                ("issuer", &issuer.url()),
            ],
        );
        let gateway = Gateway::with(&yaml.replace("%{", "${"))
            .environment("GWANMUN_ADMIN_TOKEN", ADMIN)
            .environment("GATE_SECRET", SECRET)
            .rehearse_at(NOON)
            .start();
        Self {
            gateway,
            endpoint,
            issuer,
            upstream,
            tokens,
        }
    }

    /// Makes the endpoint know a token.
    fn knows(&self, token: &str, claims: &Value) {
        let mut said = json!({"active": true, "sub": "u1", "scope": "read", "aud": "mobile-bank", "exp": NOW + 600});
        for (name, value) in claims.as_object().unwrap() {
            said[name] = value.clone();
        }
        self.tokens.lock().unwrap().insert(token.to_owned(), said);
    }

    fn ask(&self, path: &str, token: &str) -> Request {
        self.gateway.get(path).bearer(token)
    }
}

/// What a form says under a name.
fn field(body: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(body).unwrap();
    text.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        let decoded = percent_encoding::percent_decode_str(value)
            .decode_utf8()
            .unwrap()
            .into_owned();
        (key == name).then_some(decoded)
    })
}

fn told(seen: &Seen, tokens: &Tokens) -> Reply {
    let token = field(&seen.body, "token").unwrap();
    let known = tokens.lock().unwrap().get(&token).cloned();
    Reply::json(&known.unwrap_or_else(|| json!({"active": false})))
}

#[test]
fn believes_what_the_issuer_says_of_a_token_and_asks_once() {
    let bank = Bank::open();
    bank.knows("good/token+1==", &json!({}));
    for _ in 0..20 {
        assert_eq!(bank.ask("/read", "good/token+1==").send().expect(200).text(), "u1");
    }
    let asked = bank.endpoint.only();
    assert_eq!((&*asked.method, asked.path()), ("POST", "/introspect"));
    assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(asked.header("accept"), Some("application/json"));
    assert_eq!(field(&asked.body, "token").as_deref(), Some("good/token+1=="));
    assert_eq!(field(&asked.body, "token_type_hint").as_deref(), Some("access_token"));
    // RFC 6749 §2.3.1: both are encoded as in a form before they are put together.
    let basic = STANDARD.encode("gate%20keeper:s%3Ae%20c%2Br%25e%26t%3D%C3%BC");
    assert_eq!(asked.header("authorization"), Some(&*format!("Basic {basic}")));
    assert_eq!(field(&asked.body, "client_secret"), None);

    bank.knows("posted", &json!({"iss": "https://whoever.example", "aud": "else"}));
    assert_eq!(bank.ask("/posted", "posted").send().expect(200).text(), "u1");
    let asked = bank.endpoint.last();
    assert_eq!(asked.header("authorization"), None);
    assert_eq!(field(&asked.body, "client_id").as_deref(), Some("gate keeper"));
    assert_eq!(field(&asked.body, "client_secret").as_deref(), Some(SECRET));

    for (token, claims, code) in [
        ("other-audience", json!({"aud": "else"}), "token-audience"),
        ("other-issuer", json!({"iss": "https://evil.example"}), "token-issuer"),
        ("ended", json!({"exp": NOW - 31}), "token-expired"),
        ("early", json!({"nbf": NOW + 40}), "token-not-yet-valid"),
        ("nobodys", json!({"sub": null}), "token-claims"),
        ("bound", json!({"cnf": {"jkt": "x"}}), "token-type"),
        ("inactive", json!({"active": false}), "token-inactive"),
    ] {
        bank.knows(token, &claims);
        let response = bank.ask("/read", token).send();
        response.expect_problem(401, code);
        let challenge = response.header("www-authenticate").unwrap();
        assert!(
            challenge.starts_with("Bearer ") && challenge.contains("error=\"invalid_token\""),
            "{challenge}"
        );
    }
    bank.knows("unscoped", &json!({"scope": "write"}));
    bank.ask("/read", "unscoped")
        .send()
        .expect_problem(403, "scope-missing");
    bank.gateway.get("/read").send().expect_problem(401, "token-missing");
    let log = bank.gateway.log();
    let records: Vec<String> = bank.gateway.stop().iter().map(ToString::to_string).collect();
    for secret in ["good/token", "s:e c", SECRET, &basic] {
        assert!(
            !log.contains(secret) && records.iter().all(|record| !record.contains(secret)),
            "{secret}"
        );
    }
}

#[test]
fn a_failing_endpoint_lets_nobody_in_and_logs_nobody_out() {
    let bank = Bank::open();
    bank.knows("known", &json!({}));
    bank.ask("/read", "known").send().expect(200);
    let good = json!({"active": true, "sub": "u1", "scope": "read", "aud": "mobile-bank"});
    let elsewhere = format!("http://{}/good", bank.endpoint.address());
    let mut quoted = good.clone();
    quoted["active"] = json!("true");
    let mut huge = good.clone();
    huge["x"] = json!("x".repeat(1 << 20));
    let body = good.to_string();
    let twice = body.replace("{", "{\"active\":false,");
    let cases: Vec<(&str, Reply)> = vec![
        ("500", Reply::status(500)),
        ("a client that is not known", Reply::json(&good).with_status(401)),
        ("204", Reply::status(204)),
        ("redirect", Reply::status(307).header("location", &elsewhere)),
        (
            "redirect with an answer",
            Reply::json(&good).with_status(302).header("location", &elsewhere),
        ),
        ("garbage", Reply::typed("application/json", "{\"active\": tru")),
        ("a page", Reply::typed("text/html", body.clone())),
        ("no type", Reply::status(200).body(body.clone())),
        (
            "a signed answer",
            Reply::typed("application/token-introspection+jwt", body.clone()),
        ),
        ("huge", Reply::json(&huge)),
        ("quoted", Reply::json(&quoted)),
        ("twice", Reply::typed("application/json", twice)),
        ("a list", Reply::json(&json!([good]))),
        ("cut short", Reply::json(&good).cut_short()),
    ];
    for (name, reply) in cases {
        let reply = Mutex::new(reply);
        bank.endpoint.answer_with(move |seen| match seen.path() {
            "/introspect" => reply.lock().unwrap().clone(),
            _ => panic!("a redirect was followed"),
        });
        let response = bank.ask("/read", "new").send();
        response.expect_problem(503, "introspection-unavailable");
        assert_eq!(response.header("www-authenticate"), None, "{name}");
        // Nor is it fine to bring nothing but a token that nobody can judge.
        bank.ask("/either", "new")
            .send()
            .expect_problem(503, "introspection-unavailable");
        bank.ask("/read", "known").send().expect(200);
    }
    let never = Gate::closed();
    let held = never.clone();
    bank.endpoint
        .answer_with(move |_| Reply::json(&json!({"active": true, "sub": "u1"})).held_by(&held));
    bank.ask("/hasty", "slow")
        .send()
        .expect_problem(503, "introspection-unavailable");
    never.open();
    let metrics = bank.gateway.metrics();
    let shown = |name: &str, authenticator: &str| metrics.value(name, &[("authenticator", authenticator)]);
    assert!(shown("gwanmun_introspection_failures_total", "asked") >= Some(14.0));
    assert_eq!(shown("gwanmun_introspection_failures_total", "hasty"), Some(1.0));
    assert_eq!(shown("gwanmun_introspection_remembered", "asked"), Some(1.0));
    assert!(shown("gwanmun_introspection_age_seconds", "asked").is_some());
    assert_eq!(shown("gwanmun_introspection_age_seconds", "hasty"), None);
    assert!(
        bank.gateway
            .log()
            .contains("authenticator `asked`: nobody says whose tokens are: the endpoint answered 500")
    );
    // Nothing of that was remembered.
    bank.endpoint.answer_with(move |_| Reply::json(&good));
    bank.ask("/read", "new").send().expect(200);
    eventually("the recovery is in the log", || {
        bank.gateway.log().contains("tokens are told again").then_some(())
    });
    assert_eq!(bank.gateway.admin("GET", "/readyz").send().status, 200);
}

#[test]
fn many_requests_with_one_token_are_one_question() {
    let bank = Bank::open();
    let gate = Gate::closed();
    let held = gate.clone();
    let said = json!({"active": true, "sub": "u1", "scope": "read", "aud": "mobile-bank"});
    bank.endpoint.answer_with(move |_| Reply::json(&said).held_by(&held));
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..16)
            .map(|_| scope.spawn(|| bank.ask("/read", "one").send().status))
            .collect();
        bank.endpoint.wait_for("/introspect", 1);
        gate.open();
        for asked in asking {
            assert_eq!(asked.join().unwrap(), 200);
        }
    });
    assert_eq!(bank.endpoint.count(), 1);
}

#[test]
fn stands_beside_tokens_that_speak_for_themselves() {
    let bank = Bank::open();
    bank.knows("opaque", &json!({"sub": "asked"}));
    let token = bank.issuer.token(&json!({"sub": "own", "exp": NOW + 600}));
    assert_eq!(bank.ask("/either", &token).send().expect(200).text(), "own");
    assert_eq!(bank.upstream.last().header("x-issuer"), Some(&*bank.issuer.url()));
    assert_eq!(bank.endpoint.count(), 0);
    assert_eq!(bank.ask("/either", "opaque").send().expect(200).text(), "asked");
    assert_eq!(bank.upstream.last().header("x-issuer"), Some("https://id.bank.example"));
    assert_eq!(bank.gateway.get("/either").send().expect(200).text(), "nobody");
    // A JWT of somebody else is asked about; one of an issuer that is known here never is, however wrong.
    let others = bank.issuer.token(&json!({"iss": "https://other.example"}));
    bank.ask("/either", &others)
        .send()
        .expect_problem(401, "token-inactive");
    assert_eq!(bank.endpoint.count(), 2);
    let ended = bank.issuer.token(&json!({"exp": NOW - 600}));
    bank.ask("/either", &ended).send().expect_problem(401, "token-expired");
    assert_eq!(bank.endpoint.count(), 2);
}

#[test]
fn one_callers_token_is_not_anothers() {
    let bank = Bank::open();
    for user in ["u1", "u2"] {
        bank.knows(&format!("of-{user}"), &json!({"sub": user}));
    }
    for _ in 0..2 {
        for user in ["u1", "u2"] {
            assert_eq!(
                bank.ask("/stored", &format!("of-{user}")).send().expect(200).text(),
                user
            );
        }
    }
    assert_eq!((bank.endpoint.count(), bank.upstream.count()), (2, 2));
    // What one authenticator was told says nothing to another.
    bank.ask("/posted", "of-u1").send().expect(200);
    assert_eq!(bank.endpoint.count(), 3);
    for other in ["of-u", "of-u11", "OF-U1", "of-u3"] {
        bank.ask("/stored", other).send().expect_problem(401, "token-inactive");
    }
    // Revoked here, whatever the issuer says.
    let order = json!({"subject": "u1", "authenticator": "asked"});
    let revoked = bank.gateway.admin("POST", "/revocations").bearer(ADMIN);
    revoked.body(order.to_string()).send().expect(200);
    bank.ask("/stored", "of-u1").send().expect_problem(401, "token-revoked");
    bank.ask("/stored", "of-u2").send().expect(200);
}

const PROVIDER: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
authenticators:
  robots:
    introspection:
      issuer: $issuer
      client_id: robot
      client_secret: '%{env:ROBOT_SECRET}'
      audience: mobile-bank
      subject: client_id
      cache: { active: 0s, inactive: 0s }
      timeout: 30s
  signed:
    jwt: { issuer: $issuer, audience: mobile-bank, algorithms: RS256, jwks: discover, typ: at+jwt }
routes:
  read: { match: GET /read, auth: [signed, robots], scopes: [transfer:read], forward: { x-user: principal.sub }, upstream: origin }
  write: { match: GET /write, auth: robots, scopes: [transfer:write], upstream: origin }
";

#[test]
fn understands_what_a_certified_provider_says() {
    let provider = Provider::start();
    let upstream = Upstream::http1(|seen| Reply::text(seen.header("x-user").unwrap_or_default()));
    let yaml = fill(
        PROVIDER,
        &[("upstream", &upstream.address()), ("issuer", &provider.issuer())],
    );
    let gateway = Gateway::with(&yaml.replace("%{", "${"))
        .environment("ROBOT_SECRET", "robot-secret-of-the-tests")
        .start();
    let get = |path: &str, token: &str| gateway.get(path).bearer(token).send();
    let (opaque, signed) = (provider.token("urn:opaque"), provider.token("urn:jwt:RS256"));
    assert_eq!(get("/read", &opaque).expect(200).text(), "robot");
    assert_eq!(get("/read", &signed).expect(200).text(), "robot");
    get("/write", &opaque).expect_problem(403, "scope-missing");
    get("/read", "no-such-token").expect_problem(401, "token-inactive");
    let mut changed = opaque.clone();
    changed.pop();
    get("/read", &changed).expect_problem(401, "token-inactive");
    // Its issuer takes it back.
    provider
        .ask("/token/revocation", &format!("token={opaque}"))
        .expect(200);
    get("/read", &opaque).expect_problem(401, "token-inactive");
    let asked = gateway
        .metrics()
        .value("gwanmun_introspection_requests_total", &[("authenticator", "robots")]);
    assert!(asked >= Some(5.0), "{asked:?}");
    // A provider that is gone says nothing of anybody.
    drop(provider);
    get("/read", &opaque).expect_problem(503, "introspection-unavailable");
}

//! Parts that go through routes of the gateway's own: those routes' rules stand for them.

use serde_json::json;

use super::partial;
use crate::support::{Gateway, Issuer, Reply, Response, Upstream, guarded, refused_start};

const SHOP: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
limits:
  outer: { key: ip, rate: 1/h, burst: 1000 }
  inner: { key: principal.sub, rate: 1/h, burst: 3 }
policies:
  staff: { require: { roles: [staff] } }
shapes:
  short: { keep: [id, price] }
defaults: { limits: [outer] }
routes:
  page:
    match: GET /page
    auth: customer
    forward: { x-outer: principal.sub }
    aggregate:
      product: { get: '/products/{query.id}', required: true }
      secret:  { get: /secret, default: hidden }
      fixed:   { get: /fixed }
      direct:  { get: 'origin:/direct' }
  product:
    match: GET /products/{id}
    auth: [customer, none]
    limits: [inner]
    forward: { x-user: principal.sub }
    shape: short
    upstream: origin
  secret:
    match: GET /secret
    auth: customer
    policies: [staff]
    upstream: origin
  fixed:
    match: GET /fixed
    auth: none
    reply: { status: 200, json: { n: 1 } }
";

fn shop() -> (Gateway, Issuer, Upstream) {
    let upstream = Upstream::http1(|seen| Reply::json(&json!({"id": seen.path(), "price": 1, "cost": 0})));
    let issuer = Issuer::new();
    let gateway = Gateway::start(&guarded(SHOP, &upstream, &issuer));
    (gateway, issuer, upstream)
}

fn page(gateway: &Gateway, issuer: &Issuer, claims: &serde_json::Value) -> Response {
    gateway.get("/page?id=7").bearer(&issuer.token(claims)).send()
}

#[test]
fn asks_by_way_of_its_own_routes() {
    let (gateway, issuer, upstream) = shop();
    let response = page(&gateway, &issuer, &json!({"sub": "u1", "roles": ["staff"]}));
    assert!(partial(&response).is_empty(), "{}", response.summary());
    let answer = response.expect(200).json();
    assert_eq!(
        answer["product"],
        json!({"id": "/products/7", "price": 1}),
        "cut as its route says"
    );
    assert_eq!(answer["secret"]["cost"], 0);
    assert_eq!(answer["fixed"], json!({"n": 1}));
    let of = |path: &str| upstream.seen().into_iter().find(|seen| seen.path() == path).unwrap();
    // Each is told what its own route says, and nothing else.
    let product = of("/products/7");
    assert_eq!(
        (product.header("x-user"), product.header("x-outer")),
        (Some("u1"), None)
    );
    let direct = of("/direct");
    assert_eq!((direct.header("x-user"), direct.header("x-outer")), (None, Some("u1")));
    let records = gateway.stop();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(records[0]["parts"].as_array().map(Vec::len), Some(4), "{}", records[0]);
}

#[test]
fn takes_a_refusal_for_a_part_that_is_denied() {
    let (gateway, issuer, upstream) = shop();
    let response = page(&gateway, &issuer, &json!({"sub": "u1", "roles": ["customer"]}));
    assert_eq!(partial(&response), [("secret".to_owned(), "denied".to_owned())]);
    assert_eq!(response.expect(200).json()["secret"], "hidden");
    assert_eq!(upstream.count_of("/secret"), 0);
}

#[test]
fn charges_limits_once() {
    let (gateway, issuer, _upstream) = shop();
    let claims = json!({"sub": "u1", "roles": ["staff"]});
    for _ in 0..3 {
        page(&gateway, &issuer, &claims).expect(200);
    }
    // `inner` stands on the part's route alone, and is spent; the part is required.
    page(&gateway, &issuer, &claims).expect_problem(502, "part-failed");
    page(&gateway, &issuer, &json!({"sub": "u2", "roles": ["staff"]})).expect(200);
    // `outer` stands on all of them and was charged for each request once: five, of a thousand.
    let response = gateway.get("/fixed").send();
    let left = response.headers("ratelimit").join(",");
    assert!(left.contains("r=994"), "{left}");
}

#[test]
fn freezes_the_parts_of_a_frozen_route() {
    let upstream = Upstream::http1(|_| Reply::json(&json!({"id": 1, "price": 1})));
    let issuer = Issuer::new();
    let yaml = guarded(SHOP, &upstream, &issuer)
        + "admin: { address: 127.0.0.1:0, token: '${env:GWANMUN_ADMIN_TOKEN}' }\nstate: state\n";
    let token = "0123456789abcdef0123456789abcdef-not-a-secret";
    let gateway = Gateway::with(&yaml).environment("GWANMUN_ADMIN_TOKEN", token).start();
    let frozen = gateway.admin("PUT", "/freezes/secret").bearer(token).send();
    assert!(frozen.status < 300, "{}", frozen.summary());
    let response = page(&gateway, &issuer, &json!({"sub": "u1", "roles": ["staff"]}));
    assert_eq!(partial(&response), [("secret".to_owned(), "denied".to_owned())]);
    assert_eq!(upstream.count_of("/secret"), 0);
}

#[test]
fn keeps_what_the_routes_cache_says() {
    let upstream = Upstream::http1(|_| Reply::json(&json!(1)));
    let issuer = Issuer::new();
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
routes:
  page:
    match: GET /page
    auth: customer
    aggregate:
      hot:  { get: /hot }
      mine: { get: /mine }
  hot:
    match: GET /hot
    auth: none
    cache: { ttl: 1h, share: public }
    upstream: origin
  mine:
    match: GET /mine
    auth: customer
    cache: { ttl: 1h, share: principal }
    upstream: origin
";
    let gateway = Gateway::start(&guarded(yaml, &upstream, &issuer));
    for subject in ["u1", "u2", "u1", "u2"] {
        let token = issuer.token(&json!({"sub": subject}));
        gateway.get("/page").bearer(&token).send().expect(200);
    }
    assert_eq!((upstream.count_of("/hot"), upstream.count_of("/mine")), (1, 2));
}

#[test]
fn refuses_circles_and_paths_that_lead_nowhere() {
    let yaml = "listen: [{ address: 127.0.0.1:0 }]
routes:
  a: { match: GET /a, auth: none, aggregate: { x: { get: /b/1 } } }
  b: { match: 'GET /b/{id}', auth: none, aggregate: { y: { get: '/c?x={path.id}' } } }
  c: { match: GET /c, auth: none, aggregate: { z: { get: /a } } }
  d: { match: GET /d, auth: none, aggregate: { z: { get: /nowhere }, y: { post: /fixed } } }
  e: { match: GET /e, auth: none, cache: { ttl: 1s, share: public }, aggregate: { z: { get: /fixed } } }
  f: { match: GET /fixed, auth: none, reply: { status: 200, json: 1 } }
";
    let output = refused_start(yaml, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    for expected in [
        ":3:58: route `a` asks itself: by way of `b`, `c`, `a`",
        ":6:58: no route of this configuration answers `GET /nowhere`",
        ":6:81: no route of this configuration answers `POST /fixed`",
        ":7:42: an aggregate is not kept as a whole",
    ] {
        assert!(said.contains(expected), "{expected}\nin\n{said}");
    }
    assert_eq!(said.matches("asks itself").count(), 1, "{said}");
}

#[test]
fn ends_what_only_a_value_leads_round() {
    let yaml = "
routes:
  round: { match: 'GET /{name}', auth: none, aggregate: { next: { get: '/{query.to}?to={query.to}' } } }
  x:     { match: GET /x, auth: none, reply: { status: 200, json: 1 } }
";
    let gateway = Gateway::start(yaml);
    assert_eq!(gateway.get("/a?to=x").send().expect(200).json(), json!({"next": 1}));
    let response = gateway.get("/a?to=a").send();
    // Each inner one lacks its own part, down to the one that was not asked any more.
    response.expect(200);
    assert_eq!(response.text().matches("next").count(), 5, "{}", response.text());
}

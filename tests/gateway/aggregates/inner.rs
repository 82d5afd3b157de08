//! Parts that go through routes of the gateway's own: those routes' rules stand for them.

use serde_json::json;

use super::partial;
use crate::support::{Gateway, Issuer, Reply, Response, Upstream, fill, guarded, refused_start};

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
    let [u1, u2] = ["u1", "u2"].map(|subject| issuer.token(&json!({"sub": subject})));
    for token in [&u1, &u2, &u1, &u2] {
        gateway.get("/page").bearer(token).send().expect(200);
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

#[test]
fn changes_requests_as_the_inner_route_says() {
    let upstream = Upstream::http1(|seen| Reply::json(&json!(seen.target)));
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
      orders: { get: '/orders?state=open&debug=1&owner=someone' }
      kept:   { get: /kept }
      made:   { post: /made, body: { qty: 1, internal: x } }
  orders:
    match: GET /orders
    auth: customer
    upstream: origin
    request:
      headers: { drop: [accept-language], rename: { x-lang: x-locale }, set: { x-tenant: 't-{claims.tenant}' } }
      query:   { drop: [debug], rename: { state: status }, set: { owner: '{principal.sub}' } }
  kept:
    match: GET /kept
    auth: customer
    upstream: origin
    forward: { authorization: drop }
    cache: { ttl: 1h, share: principal }
    request: { query: { set: { tenant: '{claims.tenant}' } }, headers: { set: { x-tenant: '{claims.tenant}' } } }
  made:
    match: POST /made
    auth: customer
    upstream: origin
    request: { body: { drop: [internal], rename: { qty: quantity }, set: { by: '{principal.sub}' } } }
";
    let gateway = Gateway::start(&guarded(yaml, &upstream, &issuer));
    let ask = |tenant: &str| {
        let token = issuer.token(&json!({"sub": "u1", "tenant": tenant}));
        let request = gateway.get("/page").bearer(&token).header("x-lang", "ko");
        request.header("accept-language", "en").send().expect(200).json()
    };
    let first = ask("a");
    assert_eq!(first["orders"], "/orders?status=open&owner=u1");
    assert_eq!(
        (&first["kept"], &ask("b")["kept"]),
        (&json!("/kept?tenant=a"), &json!("/kept?tenant=b"))
    );
    assert_eq!(ask("a")["kept"], first["kept"]);
    assert_eq!(upstream.count_of("/kept"), 2);
    let of = |path: &str| upstream.seen().into_iter().find(|seen| seen.path() == path).unwrap();
    let orders = of("/orders");
    let told = ["x-locale", "x-tenant", "x-lang", "accept-language"].map(|name| orders.header(name));
    assert_eq!(told, [Some("ko"), Some("t-a"), None, None]);
    let made: serde_json::Value = serde_json::from_slice(&of("/made").body).unwrap();
    assert_eq!(made, json!({"quantity": 1, "by": "u1"}));
}

#[test]
fn names_what_an_inner_aggregate_goes_without() {
    let upstream = Upstream::http1(|seen| match seen.path() {
        "/gone" => Reply::status(404),
        "/broken" => Reply::text("no JSON"),
        _ => Reply::json(&json!(1)),
    });
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
shapes: { told: { envelope: true } }
routes:
  page:
    match: GET /page
    auth: none
    shape: told
    aggregate:
      lacking: { get: /lacking, required: true }
      gone:    { get: /gone-whole, pass_status: [404], default: none }
  gone: { match: GET /of-one, auth: none, aggregate: { gone: { get: /gone-whole, required: true, pass_status: [404] } } }
  lacking: { match: GET /lacking, auth: none, aggregate: { good: { get: 'origin:/good' }, bad: { get: 'origin:/broken' } } }
  gone-whole: { match: GET /gone-whole, auth: none, aggregate: { x: { get: 'origin:/gone', required: true, pass_status: [404] } } }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    let response = gateway.get("/page").send();
    assert_eq!(partial(&response), [("lacking".to_owned(), "unreadable".to_owned())]);
    let answer = response.expect(200).json();
    assert_eq!(
        answer["data"],
        json!({"lacking": {"good": 1, "bad": null}, "gone": "none"})
    );
    assert_eq!(
        answer["meta"]["partial"],
        json!([{"part": "lacking", "reason": "unreadable"}])
    );
    gateway.get("/of-one").send().expect_problem(404, "part-failed");
}

#[test]
fn finds_a_credential_where_the_caller_put_it() {
    let upstream = Upstream::http1(|seen| Reply::json(&json!([seen.target, seen.header("authorization")])));
    let issuer = Issuer::new();
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators      from: { query: access_token, header: x-token }
routes:
  page: { match: GET /page, auth: customer, aggregate: { mine: { get: '/mine?a=1' }, bare: { get: /mine } } }
  mine: { match: GET /mine, auth: customer, upstream: origin }
";
    let gateway = Gateway::start(&guarded(yaml, &upstream, &issuer));
    let token = issuer.token(&json!({"sub": "u1"}));
    let bearer = format!("Bearer {token}");
    for request in [
        gateway.get(&format!("/page?access_token={token}&b=2")),
        gateway.get("/page").header("x-token", &token),
    ] {
        let response = request.send();
        assert!(partial(&response).is_empty(), "{}", response.summary());
        let expected = json!({"mine": ["/mine?a=1", bearer], "bare": ["/mine", bearer]});
        assert_eq!(response.expect(200).json(), expected);
    }
}

#[test]
fn reads_parts_that_come_coded() {
    let upstream = Upstream::http1(|seen| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let text = match seen.path() {
            "/bomb" => format!("\"{}\"", "x".repeat(3 << 20)),
            path => json!({"of": path, "more": 1}).to_string(),
        };
        std::io::Write::write_all(&mut encoder, text.as_bytes()).unwrap();
        let coding = if seen.path() == "/odd" { "odd" } else { "gzip" };
        Reply::typed("application/json", encoder.finish().unwrap()).header("content-encoding", coding)
    });
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
shapes: { short: { keep: [of] } }
routes:
  page:
    match: GET /page
    auth: none
    aggregate:
      direct: { get: 'origin:/direct' }
      routed: { get: /routed }
      bomb:   { get: 'origin:/bomb' }
      odd:    { get: 'origin:/odd' }
  routed: { match: GET /routed, auth: none, upstream: origin, shape: short }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    let response = gateway.get("/page").send();
    let lacking = |name: &str| (name.to_owned(), "unreadable".to_owned());
    assert_eq!(partial(&response), [lacking("bomb"), lacking("odd")]);
    let answer = response.expect(200).json();
    assert_eq!(
        (&answer["direct"], &answer["routed"]),
        (&json!({"of": "/direct", "more": 1}), &json!({"of": "/routed"}))
    );
}

#[test]
fn posts_no_more_than_the_route_takes() {
    let upstream = Upstream::http1(|_| Reply::json(&json!(1)));
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  page:
    match: GET /page
    auth: none
    aggregate:
      small: { post: /small, body: { text: '{query.text}' } }
      large: { post: /large, body: { text: '{query.text}' } }
  small: { match: POST /small, auth: none, body: { max: 20B }, limits: [], upstream: origin }
  large: { match: POST /large, auth: none, body: { max: 1KiB }, limits: [], upstream: origin }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    let lacks = |text: &str| partial(&gateway.get(&format!("/page?text={text}")).send());
    assert_eq!(lacks("short"), []);
    assert_eq!(
        lacks("as-long-as-it-can-get"),
        [("small".to_owned(), "denied".to_owned())]
    );
    assert_eq!(upstream.count(), 3);
}

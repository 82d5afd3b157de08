//! What browsers are told about pages of other origins.

use serde_json::json;

use crate::support::{Gateway, Issuer, Reply, Request, Response, Upstream, guarded};

const SHOP: &str = "
upstreams:
  shop: { endpoints: [$upstream] }
$authenticators
defaults:
  cors: { origins: [https://shop.example, https://m.shop.example], credentials: true }
routes:
  product: { match: 'GET /products/{id}', auth: none, upstream: shop, cache: { ttl: 30s, share: public } }
  order:   { match: POST /orders, auth: customer, scopes: [order:write], upstream: shop }
  orders:  { match: GET /orders, auth: customer, upstream: shop }
";

struct Shop {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

impl Shop {
    fn open() -> Self {
        let upstream = Upstream::http1(|_| Reply::text("something to buy"));
        let issuer = Issuer::new();
        let yaml = guarded(SHOP, &upstream, &issuer);
        Self {
            gateway: Gateway::start(&yaml),
            issuer,
            upstream,
        }
    }

    fn preflight(&self, origin: &str, method: &str, target: &str) -> Response {
        self.gateway
            .request("OPTIONS", target)
            .header("origin", origin)
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "authorization, content-type")
            .send()
    }
}

fn from_origin(request: Request, origin: &str) -> Response {
    request.header("origin", origin).send()
}

#[track_caller]
fn allows(response: &Response, origin: &str) {
    assert_eq!(
        response.header("access-control-allow-origin"),
        Some(origin),
        "{}",
        response.summary()
    );
    assert_eq!(
        response.header("access-control-allow-credentials"),
        Some("true"),
        "{}",
        response.summary()
    );
    assert!(
        response.list("vary").contains(&"origin".to_owned()),
        "{}",
        response.summary()
    );
}

#[track_caller]
fn allows_nobody(response: &Response) {
    let allowed = response
        .headers
        .iter()
        .find(|(name, _)| name.starts_with("access-control-allow-"));
    assert_eq!(allowed, None, "{}", response.summary());
}

#[test]
fn answers_a_preflight_itself() {
    let shop = Shop::open();
    let response = shop.preflight("https://shop.example", "POST", "/orders");
    allows(response.expect(204), "https://shop.example");
    assert!(
        response
            .list("access-control-allow-methods")
            .contains(&"post".to_owned()),
        "{}",
        response.summary()
    );
    for name in ["authorization", "content-type"] {
        assert!(
            response.list("access-control-allow-headers").contains(&name.to_owned()),
            "{}",
            response.summary()
        );
    }
    assert!(response.body.is_empty());
    assert_eq!(shop.upstream.count(), 0);
}

#[test]
fn answers_a_preflight_it_allows_nothing_without_saying_why() {
    let shop = Shop::open();
    for (origin, method, target) in [
        ("https://shop.example", "GET", "/nowhere"),
        ("https://shop.example", "DELETE", "/orders"),
        ("https://evil.example", "POST", "/orders"),
        ("https://shop.example.evil.example", "POST", "/orders"),
        ("http://shop.example", "POST", "/orders"),
        ("https://shop.example:8443", "POST", "/orders"),
        ("null", "POST", "/orders"),
    ] {
        let response = shop.preflight(origin, method, target);
        assert_eq!(
            response.status,
            204,
            "{origin} {method} {target}: {}",
            response.summary()
        );
        allows_nobody(&response);
    }
    assert_eq!(shop.upstream.count(), 0);
}

#[test]
fn tells_listed_origins_that_they_may_read() {
    let shop = Shop::open();
    for origin in ["https://shop.example", "https://m.shop.example"] {
        let response = from_origin(shop.gateway.get("/products/1"), origin);
        allows(response.expect(200), origin);
    }
    for origin in ["https://evil.example", "null", "*"] {
        let response = from_origin(shop.gateway.get("/products/1"), origin);
        allows_nobody(response.expect(200));
    }
    allows_nobody(shop.gateway.get("/products/1").send().expect(200));
}

#[test]
fn says_that_answers_differ_by_origin_to_everybody() {
    let shop = Shop::open();
    for request in [
        shop.gateway.get("/products/1"),
        shop.gateway.get("/products/1").header("origin", "https://evil.example"),
    ] {
        let response = request.send();
        assert!(
            response.list("vary").contains(&"origin".to_owned()),
            "{}",
            response.summary()
        );
    }
}

#[test]
fn serves_what_is_stored_to_each_origin_as_its_own() {
    let shop = Shop::open();
    for origin in ["https://shop.example", "https://m.shop.example", "https://shop.example"] {
        allows(&from_origin(shop.gateway.get("/products/1"), origin), origin);
    }
    assert_eq!(shop.upstream.count(), 1);
}

#[test]
fn lets_scripts_read_refusals() {
    let shop = Shop::open();
    let origin = "https://shop.example";
    let missing = from_origin(shop.gateway.get("/orders"), origin);
    missing.expect_problem(401, "token-missing");
    allows(&missing, origin);
    let scopeless = from_origin(
        shop.gateway.post("/orders").bearer(&shop.issuer.token(&json!({}))),
        origin,
    );
    scopeless.expect_problem(403, "scope-missing");
    allows(&scopeless, origin);
    for (request, status) in [
        (shop.gateway.get("/nowhere"), 404),
        (shop.gateway.request("DELETE", "/orders"), 405),
    ] {
        let response = from_origin(request, origin);
        assert_eq!(response.status, status);
        allows(&response, origin);
    }
    let stranger = from_origin(shop.gateway.get("/orders"), "https://evil.example");
    stranger.expect_problem(401, "token-missing");
    allows_nobody(&stranger);
}

#[test]
fn replaces_what_the_upstream_says() {
    let shop = Shop::open();
    shop.upstream.answer_with(|_| {
        Reply::text("open to all")
            .header("access-control-allow-origin", "*")
            .header("access-control-allow-credentials", "true")
    });
    let origin = "https://shop.example";
    allows(&from_origin(shop.gateway.get("/products/2"), origin), origin);
    allows_nobody(&from_origin(shop.gateway.get("/products/3"), "https://evil.example"));
}

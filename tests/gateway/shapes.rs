//! The same data cut differently for each kind of client.

use serde_json::{Value, json};

use crate::support::{Gateway, Reply, Response, Upstream, decoded, fill};

const SHOP: &str = "
upstreams:
  shop: { endpoints: [$upstream] }
clients:
  android: { header: { x-client: android } }
  ios:     { header: { x-client: ios } }
  web:     { default: true }
shapes:
  compact:
    keep: [id, name, price.amount, price.currency, thumbnail, items.id]
    rename: { thumbnail: image }
  short:
    drop: [reviews, price.net, items.secret]
    rename: { name: title, price.amount: sum }
routes:
  product:
    match: GET /products/{id}
    auth: none
    upstream: shop
    shape: { ios: compact, android: short }
  stored:
    match: GET /stored/{id}
    auth: none
    upstream: shop
    cache: { ttl: 30s, share: public }
    shape: { ios: compact, android: short }
defaults:
  compress: { min_size: 1KiB }
";

const PRODUCT: &str = r#"{"name":"Kettle","id":7,"price":{"currency":"KRW","amount":90071992547409931.10,"net":1E2},"thumbnail":"k.jpg","reviews":[{"id":1}],"items":[{"id":1,"secret":"s"},{"id":-0,"secret":"t"}]}"#;

struct Shop {
    gateway: Gateway,
    upstream: Upstream,
}

impl Shop {
    fn open() -> Self {
        Self::selling(Reply::typed("application/json", PRODUCT))
    }

    fn selling(reply: Reply) -> Self {
        let upstream = Upstream::http1(move |_| reply.clone());
        let gateway = Gateway::start(&fill(SHOP, &[("upstream", &upstream.address())]));
        Self { gateway, upstream }
    }

    fn product(&self, client: &str) -> Response {
        self.gateway.get("/products/7").header("x-client", client).send()
    }
}

#[test]
fn keeps_what_a_client_needs_and_renames_it() {
    let shop = Shop::open();
    assert_eq!(
        shop.product("ios").expect(200).text(),
        r#"{"name":"Kettle","id":7,"price":{"currency":"KRW","amount":90071992547409931.10},"image":"k.jpg","items":[{"id":1},{"id":-0}]}"#
    );
}

#[test]
fn drops_what_a_client_does_not_need() {
    let shop = Shop::open();
    assert_eq!(
        shop.product("android").expect(200).text(),
        r#"{"title":"Kettle","id":7,"price":{"currency":"KRW","sum":90071992547409931.10},"thumbnail":"k.jpg","items":[{"id":1},{"id":-0}]}"#
    );
}

#[test]
fn leaves_the_answer_alone_for_clients_without_a_shape() {
    let shop = Shop::open();
    for client in ["web", "fridge"] {
        assert_eq!(shop.product(client).expect(200).text(), PRODUCT);
    }
    assert_eq!(shop.gateway.get("/products/7").send().expect(200).text(), PRODUCT);
}

#[test]
fn says_that_answers_differ_by_client() {
    let shop = Shop::open();
    for client in ["ios", "web"] {
        let response = shop.product(client);
        assert!(
            response.list("vary").contains(&"x-client".to_owned()),
            "{}",
            response.summary()
        );
    }
}

#[test]
fn walks_lists_at_any_depth() {
    let shop = Shop::selling(Reply::json(
        &json!([[{"id": 1, "cost": 2}], {"id": 3, "items": [[{"id": 4, "x": 5}]]}]),
    ));
    assert_eq!(
        shop.product("ios").expect(200).json(),
        json!([[{"id": 1}], {"id": 3, "items": [[{"id": 4}]]}])
    );
}

#[test]
fn leaves_out_a_scalar_where_a_path_goes_deeper() {
    let shop = Shop::selling(Reply::json(&json!({"id": 1, "price": 5, "items": {}})));
    assert_eq!(shop.product("ios").expect(200).json(), json!({"id": 1, "items": {}}));
}

#[test]
fn leaves_other_bodies_alone() {
    for reply in [
        Reply::text("{\"cost\": 1}"),
        Reply::typed("text/html", "<p>hello</p>"),
        Reply::status(204),
        Reply::status(304).header("etag", "\"v1\""),
    ] {
        let shop = Shop::selling(reply);
        let (shaped, plain) = (shop.product("ios"), shop.product("web"));
        assert_eq!((shaped.status, &shaped.body), (plain.status, &plain.body));
    }
}

#[test]
fn never_passes_off_the_uncut_body_as_cut() {
    // Readers disagree about which of two like-named members counts; so neither goes out.
    for body in [r#"{"id":1,"id":2}"#, r#"{"id":"\ud800"}"#, r#"{"id":1"#, "{\"id\":01}"] {
        let shop = Shop::selling(Reply::typed("application/json", body));
        let response = shop.product("ios");
        assert_eq!(response.status, 502, "{body}: {}", response.summary());
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
    }
}

#[test]
fn describes_the_body_it_sends_not_the_one_it_got() {
    let shop = Shop::selling(
        Reply::typed("application/json; charset=utf-8", PRODUCT)
            .header("etag", "\"v1\"")
            .header("accept-ranges", "bytes")
            .header("digest", "sha-256=xxxx"),
    );
    let response = shop.product("ios");
    assert_eq!(
        response.expect(200).header("content-type"),
        Some("application/json; charset=utf-8")
    );
    assert_ne!(response.header("etag"), Some("\"v1\""), "{}", response.summary());
    assert_eq!(response.header("accept-ranges"), None);
    assert_eq!(response.header("digest"), None);
    let length: Option<usize> = response.header("content-length").map(|value| value.parse().unwrap());
    assert!(length.is_none_or(|length| length == response.body.len()));
}

#[test]
fn cuts_what_comes_in_pieces_and_what_is_compressed_after() {
    let items: Vec<Value> = (0..2000).map(|n| json!({"id": n, "secret": "s"})).collect();
    let shop = Shop::selling(Reply::json(&json!({"items": items})).chunked());
    let request = shop
        .gateway
        .get("/products/7")
        .header("x-client", "ios")
        .header("accept-encoding", "gzip");
    let response = request.send();
    assert_eq!(response.expect(200).header("content-encoding"), Some("gzip"));
    let body = String::from_utf8(decoded(&response)).unwrap();
    let cut: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(cut["items"].as_array().map(Vec::len), Some(2000));
    assert!(!body.contains("secret"));
}

#[test]
fn cuts_even_if_the_upstream_would_compress() {
    let shop = Shop::open();
    shop.upstream.answer_with(|seen| {
        let accepts = seen.headers("accept-encoding").join(",");
        match accepts.contains("gzip") {
            false => Reply::typed("application/json", PRODUCT),
            true => {
                use std::io::Write;
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(PRODUCT.as_bytes()).unwrap();
                Reply::typed("application/json", encoder.finish().unwrap()).header("content-encoding", "gzip")
            }
        }
    });
    let request = shop
        .gateway
        .get("/products/7")
        .header("x-client", "ios")
        .header("accept-encoding", "gzip");
    let response = request.send();
    let body = String::from_utf8(decoded(response.expect(200))).unwrap();
    assert!(body.contains("\"image\"") && !body.contains("reviews"), "{body}");
}

#[test]
fn cuts_what_is_stored_for_each_client_anew() {
    let shop = Shop::open();
    let ask = |client: &str| {
        shop.gateway
            .get("/stored/7")
            .header("x-client", client)
            .send()
            .expect(200)
            .text()
    };
    let (web, ios, android) = (ask("web"), ask("ios"), ask("android"));
    assert_eq!(web, PRODUCT);
    assert!(
        ios.contains("\"image\"") && android.contains("\"title\""),
        "{ios} {android}"
    );
    assert_eq!((ask("web"), ask("ios"), ask("android")), (web, ios, android));
    // Stored once for all, or once for each of them.
    assert!(shop.upstream.count() <= 3, "{}", shop.upstream.count());
}

#[test]
fn cuts_the_whole_of_an_aggregate() {
    let upstream = Upstream::http1(|_| {
        Reply::typed(
            "application/json",
            r#"{"opened":2001,"available":90071992547409931.10}"#,
        )
    });
    let yaml = "
upstreams:
  accounts: { endpoints: [$upstream] }
clients:
  ios: { header: { x-client: ios } }
  web: { default: true }
shapes:
  compact: { drop: [balance.opened], rename: { balance.available: free } }
routes:
  dashboard:
    match: GET /dashboard
    auth: none
    aggregate:
      balance: { get: 'accounts:/balance', required: true }
    shape: { ios: compact }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    let ios = gateway.get("/dashboard").header("x-client", "ios").send();
    assert_eq!(ios.expect(200).text(), r#"{"balance":{"free":90071992547409931.10}}"#);
    let web = gateway.get("/dashboard").send();
    assert_eq!(
        web.expect(200).text(),
        r#"{"balance":{"opened":2001,"available":90071992547409931.10}}"#
    );
}

#[test]
fn shows_nothing_it_takes_away_to_those_who_ask_for_parts() {
    let shop = Shop::open();
    for path in ["/products/7", "/stored/7", "/stored/7"] {
        for range in ["bytes=0-0,1-", "bytes=1-400", "bytes=-300"] {
            let response = shop
                .gateway
                .get(path)
                .header("x-client", "android")
                .header("range", range)
                .send();
            let text = response.text();
            assert!(
                !text.contains("reviews") && !text.contains("secret"),
                "{path} {range}: {text}"
            );
        }
    }
}

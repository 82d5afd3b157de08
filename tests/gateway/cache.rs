//! What is stored and served again, and above all what is not. The upstream numbers its answers: a number seen twice was stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use crate::sockets::kit::Endpoint;
use crate::support::http2::{Http2, request};
use crate::support::{Gateway, Issuer, Reply, Request, Seen, Upstream, decoded, fill, guarded};

const SHOP: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
routes:
  product:
    match: GET,POST /products/{id}
    auth: none
    upstream: origin
    cache: { ttl: 30s, share: public }
  plain:
    match: GET /plain/{id}
    auth: none
    upstream: origin
    cache: {}
  card:
    match: GET /cards
    auth: customer
    forward: { x-user: principal.sub, authorization: drop }
    upstream: origin
    cache: { ttl: 30s, share: principal }
  new-card:
    match: POST /cards
    auth: none
    upstream: origin
";

struct Shop {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

impl Shop {
    /// A shop whose origin answers the number of the request, in a reply changed by `dress`.
    fn open(dress: impl Fn(&Seen, Reply) -> Reply + Send + Sync + 'static) -> Self {
        let asked = AtomicUsize::new(0);
        let upstream = Upstream::http1(move |seen| {
            let number = asked.fetch_add(1, Ordering::Relaxed) + 1;
            dress(seen, Reply::text(format!("answer {number}")))
        });
        let issuer = Issuer::new();
        let yaml = guarded(SHOP, &upstream, &issuer);
        Self {
            gateway: Gateway::start(&yaml),
            issuer,
            upstream,
        }
    }

    fn with_header(name: &'static str, value: &'static str) -> Self {
        Self::open(move |_, reply| reply.header(name, value))
    }

    fn card(&self, subject: &str) -> Request {
        self.gateway
            .get("/cards")
            .bearer(&self.issuer.token(&json!({"sub": subject})))
    }
}

#[track_caller]
fn text(request: Request) -> String {
    request.send().expect(200).text()
}

#[test]
fn serves_again_what_it_has_stored() {
    let shop = Shop::open(|_, reply| reply.header("x-origin", "1").header("etag", "\"1\""));
    let first = shop.gateway.get("/products/1").send();
    let second = shop.gateway.get("/products/1").send();
    assert_eq!(first.expect(200).text(), second.expect(200).text());
    assert_eq!(second.header("x-origin"), Some("1"));
    assert_eq!(second.header("etag"), Some("\"1\""));
    assert!(second.header("age").is_some(), "{}", second.summary());
    assert_eq!(shop.upstream.count(), 1);
}

#[test]
fn tells_targets_and_hosts_apart() {
    let shop = Shop::open(|_, reply| reply);
    let requests = || {
        [
            shop.gateway.get("/products/1"),
            shop.gateway.get("/products/2"),
            shop.gateway.get("/products/1?a=1"),
            shop.gateway.get("/products/1?a=2"),
            shop.gateway.get("/products/1").host("other.example"),
        ]
    };
    let answers: Vec<String> = requests().into_iter().map(text).collect();
    assert_eq!(shop.upstream.count(), 5, "{answers:?}");
    assert_eq!(requests().into_iter().map(text).collect::<Vec<_>>(), answers);
    assert_eq!(shop.upstream.count(), 5);
}

#[test]
fn stores_nothing_that_is_for_one_caller_only() {
    for (name, value) in [
        ("set-cookie", "session=1"),
        ("cache-control", "private"),
        ("cache-control", "max-age=60, private"),
        ("cache-control", "no-store"),
        ("cache-control", "public, no-store"),
        ("vary", "*"),
        ("vary", "accept-encoding, *"),
    ] {
        let shop = Shop::with_header(name, value);
        let (first, second) = (
            text(shop.gateway.get("/products/1")),
            text(shop.gateway.get("/products/1")),
        );
        assert_ne!(first, second, "{name}: {value}");
    }
}

#[test]
fn asks_again_where_the_origin_wants_to_be_asked() {
    for (name, value) in [
        ("cache-control", "no-cache"),
        ("cache-control", "max-age=0"),
        ("cache-control", "s-maxage=0, max-age=60"),
    ] {
        let shop = Shop::with_header(name, value);
        let (first, second) = (
            text(shop.gateway.get("/products/1")),
            text(shop.gateway.get("/products/1")),
        );
        assert_ne!(first, second, "{name}: {value}");
    }
}

#[test]
fn counts_the_time_an_answer_spent_elsewhere() {
    let shop = Shop::open(|_, reply| reply.header("cache-control", "max-age=60").header("age", "120"));
    let (first, second) = (
        text(shop.gateway.get("/products/1")),
        text(shop.gateway.get("/products/1")),
    );
    assert_ne!(first, second);
}

#[test]
fn follows_the_origin_alone_where_no_ttl_is_written() {
    let silent = Shop::open(|_, reply| reply);
    assert_ne!(
        text(silent.gateway.get("/plain/1")),
        text(silent.gateway.get("/plain/1"))
    );
    let explicit = Shop::with_header("cache-control", "max-age=60");
    assert_eq!(
        text(explicit.gateway.get("/plain/1")),
        text(explicit.gateway.get("/plain/1"))
    );
}

#[test]
fn shares_nothing_that_was_asked_for_with_a_credential() {
    let shop = Shop::open(|seen, reply| match seen.headers("authorization").first() {
        Some(credential) => reply.header("x-secret", credential),
        None => reply,
    });
    let own = shop.gateway.get("/products/1").bearer("abc").send();
    let others = shop.gateway.get("/products/1").send();
    assert_eq!(others.expect(200).header("x-secret"), None);
    // Either the credential was refused, or it never left the gate, or the answer stayed with its owner.
    if own.status == 200 && own.header("x-secret").is_some() {
        assert_ne!(own.text(), others.text());
    }
}

#[test]
fn stores_no_part_for_a_whole() {
    let shop = Shop::open(|seen, reply| match seen.header("range") {
        Some(_) => reply.with_status(206).header("content-range", "bytes 0-3/8"),
        None => reply,
    });
    let part = shop.gateway.get("/products/1").header("range", "bytes=0-3").send();
    assert!(matches!(part.status, 200 | 206), "{}", part.summary());
    let whole = shop.gateway.get("/products/1").send();
    assert_eq!(whole.expect(200).header("content-range"), None);
    assert!(whole.text().starts_with("answer "), "{}", whole.summary());

    let shop = Shop::open(|_, reply| reply.with_status(206).header("content-range", "bytes 0-7/100"));
    shop.gateway.get("/products/1").send();
    shop.gateway.get("/products/1").send();
    assert_eq!(shop.upstream.count(), 2, "an unasked 206 was stored");
}

#[test]
fn stores_no_failure() {
    for status in [500, 502, 503] {
        let shop = Shop::open(move |_, reply| reply.with_status(status));
        shop.gateway.get("/products/1").send();
        shop.gateway.get("/products/1").send();
        assert_eq!(shop.upstream.count(), 2, "{status}");
    }
}

#[test]
fn stores_no_half_answer() {
    let shop = Shop::open(|_, reply| reply.body("x".repeat(50_000)).cut_short());
    for _ in 0..2 {
        let response = shop.gateway.get("/products/1").send();
        assert!(!response.whole || response.status == 502, "{}", response.summary());
    }
    shop.upstream.answer_with(|_| Reply::text("whole"));
    assert_eq!(text(shop.gateway.get("/products/1")), "whole");
}

#[test]
fn serves_each_variant_to_those_who_asked_for_it() {
    let shop = Shop::open(|seen, reply| {
        let shade = seen.header("x-shade").unwrap_or("none").to_owned();
        reply.header("vary", "x-shade").header("x-shade-served", &shade)
    });
    let ask = |shade: &str| {
        let response = shop.gateway.get("/products/1").header("x-shade", shade).send();
        assert_eq!(response.expect(200).header("x-shade-served"), Some(shade));
        response.text()
    };
    let (red, blue) = (ask("red"), ask("blue"));
    assert_ne!(red, blue);
    assert_eq!(ask("blue"), blue);
    ask("red");
}

#[test]
fn keeps_what_is_stored_for_a_principal_with_that_principal() {
    let shop = Shop::open(|seen, reply| reply.header("x-owner", seen.header("x-user").unwrap_or_default()));
    let ask = |subject: &str| {
        let response = shop.card(subject).send();
        assert_eq!(response.expect(200).header("x-owner"), Some(subject));
        response.text()
    };
    let (first, second) = (ask("u1"), ask("u2"));
    assert_ne!(first, second);
    assert_eq!((ask("u1"), ask("u2")), (first, second));
    assert_eq!(shop.upstream.count(), 2);
    // Stored or not, without a token there is nothing.
    shop.gateway.get("/cards").send().expect_problem(401, "token-missing");
}

#[test]
fn may_store_private_answers_for_their_principal() {
    let shop = Shop::with_header("cache-control", "private, max-age=60");
    let first = text(shop.card("u1"));
    assert_eq!(text(shop.card("u1")), first);
    assert_ne!(text(shop.card("u2")), first);

    let shop = Shop::open(|_, reply| {
        reply
            .header("cache-control", "private")
            .header("set-cookie", "session=1")
    });
    assert_ne!(text(shop.card("u1")), text(shop.card("u1")));
}

#[test]
fn answers_head_from_what_it_has_stored() {
    let shop = Shop::open(|_, reply| reply);
    let get = shop.gateway.get("/products/1").send();
    let head = shop.gateway.request("HEAD", "/products/1").send();
    assert!(head.expect(200).body.is_empty());
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(shop.upstream.count(), 1);
}

#[test]
fn never_serves_an_answer_without_its_body_after_a_head() {
    let shop = Shop::open(|_, reply| reply);
    shop.gateway.request("HEAD", "/products/1").send().expect(200);
    assert!(text(shop.gateway.get("/products/1")).starts_with("answer "));
}

#[test]
fn stores_no_answer_to_a_write() {
    let shop = Shop::open(|_, reply| reply.header("cache-control", "max-age=60"));
    let post = || text(shop.gateway.post("/products/1").body("x"));
    let (first, second) = (post(), post());
    assert_ne!(first, second);
    let read = text(shop.gateway.get("/products/1"));
    assert!(read != first && read != second);
}

/// RFC 9111 §4.4: another route, another caller, another variant of the address; but no other address.
#[test]
fn ends_what_is_stored_of_an_address_that_was_written_to() {
    let shop = Shop::open(|seen, reply| match seen.header("x-fail") {
        Some(_) => reply.with_status(500),
        None => reply,
    });
    let read = |path: &str| text(shop.gateway.get(path));
    let (product, other) = (read("/products/1"), read("/products/1?a"));
    let (first, second) = (text(shop.card("u1")), text(shop.card("u2")));
    shop.gateway
        .post("/products/1")
        .header("x-fail", "yes")
        .send()
        .expect(500);
    assert_eq!(
        (read("/products/1"), text(shop.card("u1"))),
        (product.clone(), first.clone())
    );
    text(shop.gateway.post("/products/1"));
    text(shop.gateway.post("/cards"));
    let again = read("/products/1");
    assert_ne!(again, product);
    assert_eq!((read("/products/1"), read("/products/1?a")), (again, other));
    assert!(text(shop.card("u1")) != first && text(shop.card("u2")) != second);
}

#[test]
fn spells_its_keys_so_that_no_target_can_pass_for_another() {
    let shop = Shop::open(|seen, reply| reply.header("x-target", &seen.target));
    for target in [
        "/products/1",
        "/products/1%3Fa=1",
        "/products/1?a=1",
        "/products/1%20",
        "/products/1?",
        "/products/a%26b",
    ] {
        let response = shop.gateway.get(target).send();
        let served = response.expect(200).header("x-target").unwrap_or_default();
        assert_eq!(served.trim_end_matches('?'), target.trim_end_matches('?'));
    }
}

#[test]
fn answers_a_caller_who_has_it_already_with_304_and_others_in_full() {
    let shop = Shop::with_header("etag", "\"v1\"");
    text(shop.gateway.get("/products/1"));
    let unchanged = shop.gateway.get("/products/1").header("if-none-match", "\"v1\"").send();
    assert_eq!(unchanged.status, 304, "{}", unchanged.summary());
    assert_eq!(unchanged.header("etag"), Some("\"v1\""));
    assert!(text(shop.gateway.get("/products/1").header("if-none-match", "\"v0\"")).starts_with("answer "));
    assert!(text(shop.gateway.get("/products/1")).starts_with("answer "));
}

#[test]
fn compresses_what_it_serves_again_for_each_caller() {
    let origin = Upstream::http1(|_| Reply::json(&json!({"text": "again and ".repeat(500)})));
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
defaults:
  compress: { min_size: 1KiB }
routes:
  product: { match: GET /products, auth: none, upstream: origin, cache: { ttl: 30s, share: public } }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &origin.address())]));
    let mut bodies = Vec::new();
    for coding in ["gzip", "identity", "br", "zstd", "gzip"] {
        let response = gateway.get("/products").header("accept-encoding", coding).send();
        let expected = (coding != "identity").then_some(coding);
        assert_eq!(response.expect(200).header("content-encoding"), expected);
        bodies.push(decoded(&response));
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(origin.count(), 1);
}

#[test]
fn shows_the_origin_of_a_shared_answer_nothing_of_whoever_asked_first() {
    let shop = Shop::open(|_, reply| reply);
    for (name, value) in [
        ("x-original-url", "/evil"),
        ("x-api-key", "k"),
        ("x-http-method-override", "DELETE"),
        ("cookie", "a=b"),
    ] {
        let path = format!("/products/{name}");
        shop.gateway.get(&path).header(name, value).send().expect(200);
        assert_eq!(shop.upstream.last().header(name), None);
    }
}

#[test]
fn does_not_store_what_depends_on_the_address_it_tells_the_origin() {
    let shop = Shop::with_header("vary", "X-Forwarded-For");
    let (first, second) = (
        text(shop.gateway.get("/products/1")),
        text(shop.gateway.get("/products/1")),
    );
    assert_ne!(first, second);
}

#[test]
fn keeps_what_is_stored_with_all_that_the_origin_was_told_of_its_caller() {
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::http1(move |_| Reply::json(&json!(asked.fetch_add(1, Ordering::Relaxed))));
    let issuer = Issuer::new();
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
clients: { ios: { header: { x-client: ios } }, web: { default: true } }
routes:
  whole: { match: GET /whole, auth: customer, upstream: origin, cache: { ttl: 1h, share: principal } }
  roles:
    match: GET /roles
    auth: customer
    forward: { authorization: drop, x-roles: principal.roles }
    upstream: origin
    cache: { ttl: 1h, share: principal }
  client:
    match: GET /client
    auth: customer
    forward: { authorization: drop, x-app: client }
    upstream: origin
    cache: { ttl: 1h, share: principal }
  query:
    match: GET /query
    auth: customer
    forward: { authorization: drop }
    request: { query: { set: { as: '{principal.roles}' } } }
    upstream: origin
    cache: { ttl: 1h, share: principal }
  header:
    match: GET /header
    auth: customer
    forward: { authorization: drop }
    request: { headers: { set: { x-as: '{principal.roles}' } } }
    upstream: origin
    cache: { ttl: 1h, share: principal }
";
    let gateway = Gateway::start(&guarded(yaml, &upstream, &issuer));
    let [teller, guest] = ["teller", "guest"].map(|role| issuer.token(&json!({"sub": "u1", "roles": [role]})));
    for path in ["/whole", "/roles", "/query", "/header"] {
        let ask = |token: &str| text(gateway.get(path).bearer(token));
        let (first, other) = (ask(&teller), ask(&guest));
        assert_ne!(first, other, "{path}");
        assert_eq!((ask(&teller), ask(&guest)), (first, other), "{path}");
    }
    let ask = |client: &str| text(gateway.get("/client").bearer(&teller).header("x-client", client));
    let (ios, web) = (ask("ios"), ask("web"));
    assert_ne!(ios, web);
    assert_eq!((ask("ios"), ask("web")), (ios, web));
}

#[test]
fn what_was_kept_stands_in_for_an_answer_whose_header_is_overdue() {
    // The first is whole; of the others comes half a header.
    let asked = Arc::new(AtomicUsize::new(0));
    let endpoint = Endpoint::start(move |mut wire, _| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => {
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n");
            wire.send(b"Cache-Control: max-age=1, stale-if-error=600\r\n\r\nkept");
        }
        _ => {
            wire.send(b"HTTP/1.1 200 OK\r\nConte");
            wire.head();
        }
    });
    let yaml = "
upstreams: { origin: { endpoints: [$origin], timeout: { response: 200ms } } }
routes: { kept: { match: GET /x, auth: none, upstream: origin, cache: { share: public } } }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &endpoint.address)]));
    gateway.get("/x").send().expect(200);
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(gateway.get("/x").send().expect(200).text(), "kept");
    let mut client = Http2::plain(gateway.address());
    assert_eq!(client.exchange(1, &request("GET", "/x")).status, 200);
    for record in gateway.stop().iter().skip(1) {
        assert_eq!(record["upstream"]["fault"], "response-timeout", "{record}");
    }
}

//! What is changed of a request before it is forwarded, and what stays as it came.

use serde_json::json;

use crate::support::{Connection, Gateway, Issuer, Reply, Request, Seen, Upstream, eventually, guarded};

const SHOP: &str = "
upstreams:
  shop: { endpoints: [$upstream] }
$authenticators
clients:
  ios: { header: { x-client: ios } }
  web: { default: true }
limits:
  by-user: { key: header.x-old, rate: 1000/s }
routes:
  search:
    match: GET,POST /{tenant}/search
    auth: customer
    limits: [by-user]
    upstream: shop
    request:
      headers: { drop: [x-debug], rename: { x-old: x-new }, set: { x-tenant: '{path.tenant}', x-user: 'u:{principal.sub}', x-gone: '{query.gone}' } }
      query:   { drop: [debug], rename: { q: search }, set: { user: '{principal.sub}' } }
  write:
    match: POST,PUT /{tenant}/write
    auth: none
    upstream: shop
    body: { max: 1MiB }
    request:
      body: { drop: [internal], rename: { qty: quantity }, set: { channel: '{client}', tenant: '{path.tenant}', v: 1 } }
  stored:
    match: GET /stored/{id}
    auth: none
    upstream: shop
    cache: { ttl: 60s, share: public }
    request:
      headers: { set: { x-api: v2 } }
      query: { drop: [utm], set: { id: '{path.id}' } }
";

struct Shop {
    gateway: Gateway,
    upstream: Upstream,
    issuer: Issuer,
}

impl Shop {
    fn open() -> Self {
        let upstream = Upstream::http1(|seen| Reply::text(format!("{} {}", seen.target, seen.body.len())));
        let issuer = Issuer::new();
        let gateway = Gateway::start(&guarded(SHOP, &upstream, &issuer));
        Self {
            gateway,
            upstream,
            issuer,
        }
    }

    fn search(&self, target: &str, subject: &str) -> Request {
        self.gateway
            .get(target)
            .bearer(&self.issuer.token(&json!({ "sub": subject })))
    }

    fn write(&self, body: impl Into<Vec<u8>>) -> Request {
        self.gateway
            .post("/acme/write")
            .header("content-type", "application/json")
            .body(body)
    }

    #[track_caller]
    fn sent(&self, request: &Request) -> Seen {
        request.send().expect(200);
        self.upstream.last()
    }
}

#[test]
fn changes_headers_and_query_on_their_way() {
    let shop = Shop::open();
    let request = shop
        .search("/acme/search?q=a%20b&debug=1&user=forged&k=v", "u1/&=\u{e9}")
        .header("x-debug", "1")
        .header("x-old", "kept")
        .header("x-new", "forged")
        .header("x-tenant", "forged")
        .header("x-gone", "forged");
    let seen = shop.sent(&request);
    assert_eq!(seen.target, "/acme/search?search=a%20b&k=v&user=u1%2F%26%3D%C3%A9");
    assert_eq!(seen.header("x-tenant"), Some("acme"));
    assert_eq!(seen.header("x-new"), Some("kept"));
    for name in ["x-debug", "x-old", "x-gone"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let seen = shop.sent(&shop.search("/acme/search", "\u{e9}").header("x-user", "forged"));
    assert_eq!(seen.header("x-user"), Some("u:\u{e9}"));
    let seen = shop.sent(&shop.search("/acme/search", "u1").header("x-user", "forged"));
    assert_eq!(
        (seen.header("x-user"), seen.target.as_str()),
        (Some("u:u1"), "/acme/search?user=u1")
    );
}

#[test]
fn lets_no_value_end_a_line_a_parameter_or_the_path() {
    let shop = Shop::open();
    for subject in ["a&admin=1#x", "../../x?y", "a b%0d%0a"] {
        let seen = shop.sent(&shop.search("/acme/search", subject));
        assert_eq!(seen.header("x-evil"), None);
        let (path, query) = seen.target.split_once('?').unwrap();
        assert_eq!(path, "/acme/search");
        assert!(
            query.starts_with("user=") && !query.contains(['&', '#', ' ', '/', '?']),
            "{query}"
        );
    }
    // What cannot stand in a header is not said, and not the caller's to say.
    let request = shop.search("/acme/search?gone=a%0D%0Ax-evil:%201", "u1");
    let seen = shop.sent(&request.header("x-gone", "forged"));
    assert_eq!((seen.header("x-gone"), seen.header("x-evil")), (None, None));
}

#[test]
fn judges_stores_and_records_what_came() {
    let shop = Shop::open();
    // Found by its own address, whatever the upstream is asked.
    for (target, count) in [
        ("/stored/1?utm=a", 1),
        ("/stored/1?utm=a", 1),
        ("/stored/1?utm=b", 2),
        ("/stored/1", 3),
    ] {
        let response = shop.gateway.get(target).send();
        assert_eq!(response.expect(200).text(), "/stored/1?id=1 0", "{target}");
        assert_eq!(shop.upstream.count(), count, "{target}");
    }
    assert_eq!(shop.upstream.last().header("x-api"), Some("v2"));
    let records = eventually("records", || {
        let records = shop.gateway.records(4);
        (records.len() >= 4).then_some(records)
    });
    assert!(records.iter().all(|record| record["route"] == "stored"));
}

const SENT: &str = r#"{"z":1e400,"qty":90071992547409931.10,"internal":{"a":1},"channel":"forged"}"#;
const CHANGED: &str = r#"{"z":1e400,"quantity":90071992547409931.10,"channel":"web","tenant":"acme","v":1}"#;

#[test]
fn changes_bodies_and_says_how_long_they_are() {
    let shop = Shop::open();
    for request in [
        shop.write(SENT),
        shop.write(SENT).chunked(),
        shop.write(format!(" {SENT}\n")),
    ] {
        let seen = shop.sent(&request);
        assert_eq!(String::from_utf8(seen.body.clone()).unwrap(), CHANGED);
        assert_eq!(seen.header("content-length"), Some(CHANGED.len().to_string().as_str()));
        assert_eq!(seen.header("transfer-encoding"), None);
    }
    // As large as is allowed, and larger than Pingora keeps.
    for size in [60_000, 65_536, 65_537, 200_000, 1_000_000] {
        let mut body = format!(r#"{{"qty":1,"text":"{}"}}"#, "x".repeat(size - 22));
        let seen = shop.sent(&shop.write(body.clone()));
        body = body.replace("\"qty\"", "\"quantity\"");
        body.truncate(body.len() - 1);
        body.push_str(r#","channel":"web","tenant":"acme","v":1}"#);
        assert!(
            seen.body == body.as_bytes(),
            "{size}: {} of {}",
            seen.body.len(),
            body.len()
        );
    }
}

#[test]
fn leaves_requests_without_a_body_without_one() {
    let shop = Shop::open();
    for request in [
        shop.gateway.post("/acme/write"),
        shop.gateway
            .request("PUT", "/acme/write")
            .header("content-type", "application/json"),
    ] {
        let seen = shop.sent(&request);
        assert!(seen.body.is_empty());
    }
}

#[test]
fn refuses_bodies_that_it_cannot_change() {
    let shop = Shop::open();
    for body in [
        "{",
        "<p>",
        r#"{"a":1,"a":2}"#,
        r#"{"a":"\ud800"}"#,
        "5",
        r#"{"qty":1,"quantity":2}"#,
        "\u{feff}{}",
    ] {
        shop.write(body).send().expect_problem(400, "body-unreadable");
    }
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    shop.write(deep).send().expect_problem(413, "body-too-large");
    let plain = shop.gateway.post("/acme/write").body(SENT);
    plain.send().expect_problem(415, "body-not-json");
    plain
        .header("content-type", "text/plain")
        .send()
        .expect_problem(415, "body-not-json");
    let coded = shop.write(SENT).header("content-encoding", "gzip");
    coded.send().expect_problem(415, "body-not-json");
    let large = format!("[\"{}\"]", "x".repeat(1 << 20));
    shop.write(large.clone()).send().expect_problem(413, "body-too-large");
    shop.write(large[..200_000].to_owned())
        .chunked()
        .send()
        .expect_problem(411, "length-required");
    assert_eq!(shop.upstream.count(), 0);
}

#[test]
fn goes_on_with_the_next_request_on_the_same_connection() {
    let shop = Shop::open();
    let mut connection = Connection::open(shop.gateway.address());
    let large = format!(r#"{{"text":"{}"}}"#, "x".repeat(200_000));
    for body in [SENT.to_owned(), large, SENT.to_owned()] {
        connection.send(&shop.write(body.clone()).bytes());
        let response = connection.response();
        response.expect(200);
        assert_eq!(
            response.text(),
            format!("/acme/write {}", shop.upstream.last().body.len())
        );
    }
    // A client that waits to be told to go on is told.
    let head = format!(
        "POST /acme/write HTTP/1.1\r\nhost: gate.example\r\ncontent-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        SENT.len()
    );
    connection.send(head.as_bytes());
    eventually("the word to go on", || connection.has_something_to_say().then_some(()));
    connection.send(SENT.as_bytes());
    connection.response().expect(200);
    assert_eq!(shop.upstream.last().header("expect"), None);
    assert_eq!(shop.upstream.last().body, CHANGED.as_bytes());
}

#[test]
fn sends_the_changed_body_again_where_it_tries_again() {
    let (first, second) = (
        Upstream::http1(|_| Reply::status(503)),
        Upstream::http1(|_| Reply::status(503)),
    );
    let yaml = format!(
        "
upstreams:
  shop: {{ endpoints: ['{}', '{}'], retry: {{ attempts: 1, after: [503] }} }}
routes:
  write:
    match: PUT /write
    auth: none
    upstream: shop
    request: {{ body: {{ set: {{ a: 1 }} }} }}
",
        first.address(),
        second.address()
    );
    let gateway = Gateway::start(&yaml);
    let body = format!(r#"{{"text":"{}"}}"#, "x".repeat(100_000));
    let request = gateway
        .request("PUT", "/write")
        .header("content-type", "application/json")
        .body(body.clone());
    request.send().expect(503);
    for upstream in [first, second] {
        let seen = upstream.only();
        assert_eq!(seen.body.len(), body.len() + ",\"a\":1".len());
    }
}

//! Which route takes a request, and what is answered where none does.

use serde_json::json;

use crate::support::{Gateway, Reply, Upstream, fill};

/// A route that answers its own name.
fn named(name: &str, matching: &str) -> String {
    format!(
        "  {name}:\n    match: {matching}\n    auth: none\n    reply: {{ status: 200, json: {{ route: {name} }} }}\n"
    )
}

fn gateway(routes: &[(&str, &str)]) -> Gateway {
    let routes: String = routes.iter().map(|(name, matching)| named(name, matching)).collect();
    Gateway::start(&format!("routes:\n{routes}"))
}

#[track_caller]
fn goes_to(request: &crate::support::Request, route: &str) {
    let response = request.send();
    assert_eq!(response.expect(200).json()["route"], route);
}

#[test]
fn takes_a_literal_before_a_parameter_before_a_wildcard() {
    let gateway = gateway(&[
        ("rest", "GET /a/{rest...}"),
        ("parameter", "GET /a/{one}"),
        ("literal", "GET /a/b"),
        ("late-literal", "GET /a/{one}/c"),
        ("early-literal", "GET /a/b/{two}"),
    ]);
    goes_to(&gateway.get("/a/b"), "literal");
    goes_to(&gateway.get("/a/x"), "parameter");
    goes_to(&gateway.get("/a/x/y"), "rest");
    goes_to(&gateway.get("/a/x/y/z"), "rest");
    // Segments compare left to right: the earlier literal wins.
    goes_to(&gateway.get("/a/b/c"), "early-literal");
    goes_to(&gateway.get("/a/x/c"), "late-literal");
}

#[test]
fn goes_back_to_a_wildcard_where_the_literal_leads_nowhere() {
    let gateway = gateway(&[("deep", "GET /a/b/c/d"), ("rest", "GET /a/{rest...}")]);
    goes_to(&gateway.get("/a/b/c/d"), "deep");
    goes_to(&gateway.get("/a/b/c/x"), "rest");
    goes_to(&gateway.get("/a/b"), "rest");
}

#[test]
fn looks_at_the_host() {
    let gateway = gateway(&[
        ("any", "{ path: /x, methods: [GET] }"),
        ("api", "{ host: api.example, path: /x, methods: [GET] }"),
        ("api-only", "{ host: api.example, path: /y, methods: [GET] }"),
    ]);
    goes_to(&gateway.get("/x"), "any");
    goes_to(&gateway.get("/x").host("api.example"), "api");
    goes_to(&gateway.get("/x").host("API.Example:8080"), "api");
    goes_to(&gateway.get("/x").host("api.example."), "api");
    goes_to(&gateway.get("/x").host("other.api.example"), "any");
    gateway.get("/y").send().expect_problem(404, "route-not-found");
}

#[test]
fn prefers_the_route_with_more_header_conditions() {
    let gateway = gateway(&[
        ("plain", "{ path: /x, methods: [GET] }"),
        ("beta", "{ path: /x, methods: [GET], headers: { x-stage: beta } }"),
        (
            "beta-team",
            "{ path: /x, methods: [GET], headers: { x-stage: beta, x-team: red } }",
        ),
    ]);
    goes_to(&gateway.get("/x"), "plain");
    goes_to(&gateway.get("/x").header("x-stage", "beta"), "beta");
    goes_to(
        &gateway.get("/x").header("X-Stage", "beta").header("x-team", "red"),
        "beta-team",
    );
    goes_to(&gateway.get("/x").header("x-team", "red"), "plain");
    goes_to(&gateway.get("/x").header("x-stage", "betamax"), "plain");
}

#[test]
fn says_which_headers_chose_the_route() {
    let upstream = Upstream::http1(|_| Reply::json(&json!({"n": 1})).header("cache-control", "public, max-age=60"));
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  beta: { match: { path: '/x/{rest...}', methods: [GET], headers: { x-stage: beta } }, auth: none, upstream: origin }
  plain: { match: 'GET /x/{rest...}', auth: none, upstream: origin }
  write: { match: { path: '/y', methods: [POST], headers: { x-team: red } }, auth: none, reply: { status: 204 } }
  read: { match: GET /y, auth: none, upstream: origin }
  whole: { match: GET /whole, auth: none, aggregate: { a: { get: '/x/{query.of}' } } }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    for of in ["/x/1", "/whole?of=1"] {
        for stage in ["beta", "none"] {
            let response = gateway.get(of).header("x-stage", stage).send();
            assert!(
                response.expect(200).list("vary").contains(&"x-stage".to_owned()),
                "{of} {stage}"
            );
        }
    }
    let read = gateway.get("/y").send();
    assert_eq!(
        read.expect(200).header("vary"),
        None,
        "no header has it answered otherwise"
    );
}

#[test]
fn answers_head_as_get_without_a_body() {
    let gateway = gateway(&[("status", "GET /status")]);
    let get = gateway.get("/status").send();
    let head = gateway.request("HEAD", "/status").send();
    head.expect(200);
    assert_eq!(head.header("content-length"), get.header("content-length"));
    assert_eq!(head.header("content-type"), Some("application/json"));
    assert!(head.body.is_empty());
}

#[test]
fn sends_head_on_as_head() {
    let upstream = Upstream::http1(|_| Reply::text("hello"));
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  page: { match: GET /page, auth: none, upstream: origin }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    let head = gateway.request("HEAD", "/page").send();
    assert_eq!(head.expect(200).header("content-length"), Some("5"));
    assert_eq!(upstream.only().method, "HEAD");
}

#[test]
fn names_the_methods_a_path_knows() {
    let gateway = gateway(&[
        ("read", "GET /x"),
        ("write", "POST,PUT /x"),
        ("other", "DELETE /{any}/z"),
    ]);
    let refused = gateway.request("DELETE", "/x").send();
    refused.expect_problem(405, "method-not-allowed");
    let mut allowed = refused.list("allow");
    allowed.retain(|method| method != "options");
    allowed.sort();
    assert_eq!(allowed, ["get", "head", "post", "put"]);
    goes_to(&gateway.request("PUT", "/x"), "write");
}

#[test]
fn says_not_found_rather_than_wrong_method_where_more_than_the_method_fails() {
    let gateway = gateway(&[("api", "{ host: api.example, path: /x, methods: [GET] }")]);
    gateway.post("/x").send().expect_problem(404, "route-not-found");
    gateway
        .post("/x")
        .host("api.example")
        .send()
        .expect_problem(405, "method-not-allowed");
}

#[test]
fn redirects_and_replies() {
    let gateway = Gateway::start(
        "
routes:
  old:
    match: GET /basket
    auth: none
    redirect: { status: 308, to: /orders }
  gone:
    match: GET /gone
    auth: none
    reply: { status: 410, json: { sorry: true, since: 2019 } }
",
    );
    let moved = gateway.get("/basket").send();
    assert_eq!(moved.expect(308).header("location"), Some("/orders"));
    let gone = gateway.get("/gone").send();
    assert_eq!(gone.expect(410).json(), json!({"sorry": true, "since": 2019}));
    assert_eq!(gone.header("content-type"), Some("application/json"));
}

#[test]
fn reads_a_path_one_way_for_itself_and_the_upstream() {
    let upstream = Upstream::http1(|_| Reply::text("here"));
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  item:  { match: 'GET /items/{id}', auth: none, upstream: origin }
  files: { match: 'GET /files/{rest...}', auth: none, upstream: origin }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    for (sent, arrives) in [
        ("/items/7", "/items/7"),
        ("/items/a%20b", "/items/a%20b"),
        ("/%69tems/%7Eme", "/items/~me"),
        ("/items/%e2%82%ac", "/items/%E2%82%AC"),
        ("//items///7", "/items/7"),
        ("/files/a/b.txt", "/files/a/b.txt"),
        ("/files/a//b", "/files/a/b"),
        ("/items/7?a=1&b=%2F&c=..%2f&&d", "/items/7?a=1&b=%2F&c=..%2f&&d"),
        ("/items/7?", "/items/7?"),
        ("/items/...", "/items/..."),
    ] {
        gateway.get(sent).send().expect(200);
        let seen = upstream.last().target;
        assert_eq!(seen.trim_end_matches('?'), arrives.trim_end_matches('?'), "{sent}");
    }
}

#[test]
fn keeps_the_host_the_caller_asked_for_out_of_other_hosts_hands() {
    let upstream = Upstream::http1(|_| Reply::text("here"));
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  item: { match: GET /item, auth: none, upstream: origin }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    gateway.get("/item").host("shop.example").send().expect(200);
    let seen = upstream.only();
    assert_eq!(seen.header("x-forwarded-host"), Some("shop.example"));
    assert_eq!(seen.headers("host").len(), 1);
}

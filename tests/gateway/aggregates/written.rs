//! What the file can say of a part, on the wire: arrays, conditions, members and headers.

use serde_json::json;

use super::partial;
use crate::support::{Gateway, Reply, RestServer, Upstream, fill};

const PAGE: &str = "
upstreams:
  origin: { endpoints: [$origin] }
clients: { ios: { header: { x-client: ios } }, web: { default: true } }
routes:
  page:
    match: GET /page
    auth: none
    aggregate:
      orders:   { get: 'origin:/orders', pick: data, headers: [x-total] }
      products: { get: 'origin:/products?ids={orders.items[*].product}', group: catalogue }
      stock:    { get: 'origin:/stock/{each.product}', each: orders.items, group: catalogue }
      prices:   { post: 'origin:/prices', body: { of: '{orders.items[*].product}', lang: '{header.accept-language}' } }
      profile:  { get: 'origin:/profile', spread: [name] }
      banner:   { get: 'origin:/banner', when: { clients: [web] }, default: none }
      vouchers: { get: 'origin:/vouchers', pass_status: [404], default: [] }
";

fn origin() -> Upstream {
    Upstream::http1(|seen| match seen.path() {
        "/orders" => Reply::typed(
            "application/hal+json; charset=utf-8",
            r#"{"data":{"items":[{"product":"b/1"},{"product":2.50}],"sum":90071992547409931.10}}"#,
        )
        .header("x-total", "2")
        .header("x-secret", "1"),
        "/products" => Reply::json(&json!(seen.target)),
        "/prices" => Reply::typed("application/json", seen.body.clone()),
        "/profile" => Reply::json(&json!({"name": "Kim", "hash": "x"})),
        "/vouchers" => Reply::text("no such thing").with_status(404),
        path if path.starts_with("/stock/") => Reply::json(&json!(path)),
        _ => Reply::json(&json!("a banner")),
    })
}

#[test]
fn does_what_the_file_says_of_each_part() {
    let origin = origin();
    let gateway = Gateway::start(&fill(PAGE, &[("origin", &origin.address())]));
    let response = gateway.get("/page").header("accept-language", "ko").send();
    assert!(partial(&response).is_empty(), "{}", response.summary());
    let expected = concat!(
        r#"{"orders":{"items":[{"product":"b/1"},{"product":2.50}],"sum":90071992547409931.10},"#,
        r#""catalogue":{"products":"/products?ids=b%2F1,2.50","stock":["/stock/b%2F1","/stock/2.50"]},"#,
        r#""prices":{"of":["b/1",2.50],"lang":"ko"},"name":"Kim","banner":"a banner","vouchers":[]}"#
    );
    assert_eq!(response.expect(200).text(), expected);
    assert_eq!(response.header("x-total"), Some("2"));
    assert_eq!(response.header("x-secret"), None);
    let varies = response.list("vary").join(",").to_lowercase();
    assert!(
        varies.contains("accept-language") && varies.contains("x-client"),
        "{varies}"
    );
    let posted = origin.seen().into_iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!(posted.header("content-type"), Some("application/json"));

    let ios = gateway
        .get("/page")
        .header("accept-language", "ko")
        .header("x-client", "ios")
        .send();
    assert_eq!(ios.expect(200).json()["banner"], "none");
    assert!(partial(&ios).is_empty());
    assert_eq!(origin.count_of("/banner"), 1);
}

#[test]
fn answers_with_the_status_of_a_required_part_where_that_is_listed() {
    let origin = Upstream::http1(|seen| match seen.path() {
        "/orders/1" => Reply::json(&json!({"id": 1})),
        "/orders/2" => Reply::text("select * from orders").with_status(404),
        _ => Reply::status(410),
    });
    let yaml = "
upstreams: { origin: { endpoints: [$origin] } }
routes:
  order:
    match: GET /orders/{id}
    auth: none
    aggregate:
      order: { get: 'origin:/orders/{path.id}', required: true, pass_status: [404] }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    gateway.get("/orders/1").send().expect(200);
    let missing = gateway.get("/orders/2").send();
    let problem = missing.expect_problem(404, "part-failed").to_string();
    assert!(!problem.contains("select"), "{problem}");
    gateway.get("/orders/3").send().expect_problem(502, "part-failed");
}

#[test]
fn never_lets_a_value_leave_its_place() {
    let origin = Upstream::http1(|seen| Reply::json(&json!(seen.target)));
    let yaml = "
upstreams: { origin: { endpoints: [$origin] } }
routes:
  page:
    match: GET /page
    auth: none
    aggregate:
      along: { get: 'origin:/p/{query.v}/end' }
      asked: { get: 'origin:/q?v={query.v}&end=1' }
      head:  { get: 'origin:/h/{header.x-v}' }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    for (sent, path, query) in [
        ("..%2Fadmin", Some("/p/..%2Fadmin/end"), "/q?v=..%2Fadmin&end=1"),
        (
            "a%0D%0AX-Evil:%201",
            Some("/p/a%0D%0AX-Evil%3A%201/end"),
            "/q?v=a%0D%0AX-Evil%3A%201&end=1",
        ),
        ("a%3Fb%23c", Some("/p/a%3Fb%23c/end"), "/q?v=a%3Fb%23c&end=1"),
        ("%252f", Some("/p/%252f/end"), "/q?v=%252f&end=1"),
        ("a%26end%3D2", Some("/p/a%26end%3D2/end"), "/q?v=a%26end%3D2&end=1"),
        ("", None, "/q?v=&end=1"),
        (".", None, "/q?v=.&end=1"),
        ("..", None, "/q?v=..&end=1"),
    ] {
        let response = gateway.get(&format!("/page?v={sent}")).header("x-v", "a/b").send();
        let answer = response.expect(200).json();
        assert_eq!(answer["along"].as_str(), path, "{sent}");
        assert_eq!(answer["asked"], query, "{sent}");
        assert_eq!(answer["head"], "/h/a%2Fb");
    }
    assert!(origin.seen().iter().all(|seen| seen.header("x-evil").is_none()));
}

#[test]
fn passes_every_number_through_every_way_of_putting_it_together() {
    const NUMBERS: [&str; 7] = [
        "90071992547409931.10",
        "1e400",
        "-0",
        "1.0",
        "9223372036854775808",
        "-9223372036854775809",
        "1E-400",
    ];
    let yaml = "
upstreams: { origin: { endpoints: [$origin] } }
routes:
  page:
    match: GET /page
    auth: none
    aggregate:
      whole:  { get: 'origin:/x' }
      picked: { get: 'origin:/x', pick: n, group: inside }
      spread: { get: 'origin:/x', spread: [n], group: other }
      each:   { get: 'origin:/x', pick: n }
      posted: { post: 'origin:/echo', body: { n: '{whole.n}', text: 'n={whole.n}' } }
      asked:  { get: 'origin:/asked?n={whole.n}' }
"
    .replace("each:   {", "again:  {");
    for number in NUMBERS {
        let body = format!("{{\"n\":{number}}}");
        let origin = Upstream::http1(move |seen| match seen.path() {
            "/echo" => Reply::typed("application/json", seen.body.clone()),
            "/asked" => Reply::json(&json!(seen.target)),
            _ => Reply::typed("application/json", body.clone()),
        });
        let gateway = Gateway::start(&fill(&yaml, &[("origin", &origin.address())]));
        let response = gateway.get("/page").send();
        let expected = format!(
            r#"{{"whole":{{"n":{number}}},"inside":{{"picked":{number}}},"other":{{"n":{number}}},"again":{number},"posted":{{"n":{number},"text":"n={number}"}},"asked":"/asked?n={number}"}}"#
        );
        assert_eq!(response.expect(200).text(), expected);
    }
}

#[test]
fn puts_together_what_a_server_of_others_answers() {
    let server = RestServer::start();
    let yaml = "
upstreams: { rest: { endpoints: [$rest] } }
routes:
  dashboard:
    match: GET /dashboards/{customer}
    auth: none
    deadline: 30s
    aggregate:
      customer:  { get: 'rest:/customers/{path.customer}', required: true, pass_status: [404] }
      transfers: { get: 'rest:/transfers?account={customer.account}&_sort=id&_order=desc' }
      quotes:    { get: 'rest:/quotes/{each.id}', each: transfers, pass_status: [404] }
      written:   { post: 'rest:/quotes', body: { id: 9, price: '{transfers[*].amount}' } }
";
    let gateway = Gateway::start(&fill(yaml, &[("rest", &server.address())]));
    let response = gateway.get("/dashboards/u1").send();
    assert!(partial(&response).is_empty(), "{}", response.summary());
    let expected = json!({
        "customer": {"id": "u1", "name": "Kim", "account": "a1"},
        "transfers": [{"id": 3, "account": "a1", "amount": 30}, {"id": 1, "account": "a1", "amount": 10.5}],
        "quotes": [{"id": 3, "price": 9}, {"id": 1, "price": 7}],
        "written": {"id": 9, "price": [30, 10.5]},
    });
    assert_eq!(response.expect(200).json(), expected);
    gateway
        .get("/dashboards/nobody")
        .send()
        .expect_problem(404, "part-failed");
}

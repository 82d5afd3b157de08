use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::MAX_BODY;
use super::*;

#[tokio::test]
async fn a_token_verifies_with_the_key_found_by_discovery() {
    for which in [Which::Bank, Which::Shop] {
        let demo = demo(which).await;
        let issuer = demo.issuer().to_owned();
        let discovery = get(&format!("{issuer}/.well-known/openid-configuration"), &[])
            .await
            .json();
        assert_eq!(discovery["issuer"], issuer.as_str());
        let keys = get(discovery["jwks_uri"].as_str().unwrap(), &[]).await.json();
        let key = &keys["keys"][0];
        let mut point = vec![4];
        point.extend(decode(key["x"].as_str().unwrap()));
        point.extend(decode(key["y"].as_str().unwrap()));
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point);

        assert_eq!(demo.users().len(), 3);
        for user in demo.users() {
            let (signed, signature) = user.token.rsplit_once('.').unwrap();
            public.verify(signed.as_bytes(), &decode(signature)).unwrap();
            let forged = signed.replacen('.', ".A", 1);
            assert!(public.verify(forged.as_bytes(), &decode(signature)).is_err());

            let (header, claims) = signed.split_once('.').unwrap();
            let header: Value = serde_json::from_slice(&decode(header)).unwrap();
            assert_eq!(header["typ"], "at+jwt");
            assert_eq!(header["alg"], "ES256");
            assert_eq!(header["kid"], key["kid"]);
            let claims: Value = serde_json::from_slice(&decode(claims)).unwrap();
            assert_eq!(claims, user.claims);
            assert_eq!(claims["iss"], issuer.as_str());
            assert_eq!(claims["exp"].as_i64().unwrap() - now().as_second(), 24 * 60 * 60);
        }
        demo.stop().await;
    }
}

#[tokio::test]
async fn users_carry_the_roles_and_scopes_their_examples_need() {
    let rights = async |which| {
        let demo = demo(which).await;
        let rights = |user: &User| {
            let claims = &user.claims;
            (
                user.name,
                claims["aud"].clone(),
                claims["roles"][0].clone(),
                claims.get("scope").cloned(),
            )
        };
        demo.users().iter().map(rights).collect::<Vec<_>>()
    };
    let bank = |role: &'static str, scope: &str| (role, "mobile-bank".into(), role.into(), Some(scope.into()));
    assert_eq!(
        rights(Which::Bank).await,
        [
            bank("customer", "transfer:read transfer:write invest:write"),
            bank("teller", "transfer:read transfer:write"),
            bank("treasury", "transfer:read transfer:write"),
        ]
    );
    let shop = |role: &'static str, scope: Option<&str>| (role, "shop".into(), role.into(), scope.map(Value::from));
    assert_eq!(
        rights(Which::Shop).await,
        [
            shop("shopper", Some("order:read order:write payment:write")),
            shop("staff", Some("order:read")),
            shop("guest", None),
        ]
    );
}

#[test]
fn the_ports_are_those_of_the_configuration_files() {
    for (which, file) in [(Which::Bank, "bank.yaml"), (Which::Shop, "shop.yaml")] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(file);
        let conf: serde_yaml::Value = serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let ports = Ports::configured(which);
        let mut named = Vec::new();
        for (name, upstream) in conf["upstreams"].as_mapping().unwrap() {
            for endpoint in upstream["endpoints"].as_sequence().unwrap() {
                named.push((
                    name.as_str().unwrap(),
                    endpoint.as_str().unwrap().parse::<SocketAddr>().unwrap(),
                ));
            }
        }
        let ours: Vec<_> = ports
            .services
            .iter()
            .map(|(service, port)| (service.name(), loopback(*port)))
            .collect();
        assert_eq!(ours, named);
        let (_, authenticator) = conf["authenticators"].as_mapping().unwrap().iter().next().unwrap();
        let issuer = format!("http://{}", loopback(ports.issuer));
        assert_eq!(authenticator["jwt"]["issuer"].as_str(), Some(issuer.as_str()));
    }
}

#[tokio::test]
async fn both_account_endpoints_tell_the_same_balance_digit_by_digit() {
    let demo = demo(Which::Bank).await;
    let mut answers = Vec::new();
    for address in demo.ports().of(Service::Accounts) {
        answers.push(get(&format!("http://{address}/customers/u1001/balance"), &[]).await);
    }
    let [first, second] = answers.as_slice() else {
        panic!("two endpoints")
    };
    assert_eq!(
        (first.status, first.header("cache-control")),
        (200, Some("private, no-cache"))
    );
    assert_eq!(first.body, second.body);
    assert_ne!(first.header("x-served-by"), second.header("x-served-by"));
    let balance = first.json();
    assert!(balance["account_id"].as_u64().unwrap() > 1 << 53);
    assert!(first.body.contains(".00,\"currency\":\"KRW\",\"opened\":\""));
    demo.stop().await;
}

#[tokio::test]
async fn bank_services_answer() {
    let demo = demo(Which::Bank).await;
    let user = &[("x-user", "u1001")];
    let transfers = format!("{}/transfers", url(&demo, Service::Transfers));
    let five = get(&format!("{transfers}?account=11000000000000042&limit=5"), &[])
        .await
        .json();
    let three = get(&format!("{transfers}?limit=3&account=11000000000000042"), &[])
        .await
        .json();
    assert_eq!(five.as_array().unwrap().len(), 5);
    assert_eq!(five.as_array().unwrap()[..3], three.as_array().unwrap()[..]);
    assert_eq!(get(&format!("{transfers}?limit=5"), &[]).await.status, 400);
    assert_eq!(get(&format!("{transfers}?limit=0"), user).await.status, 400);
    assert_eq!(get(&transfers, user).await.json().as_array().unwrap().len(), 20);

    let order = r#"{"to": 11022334455667788, "amount": 50000.10, "memo": "월세"}"#;
    let receipt = post(&transfers, user, order).await;
    assert_eq!(
        (receipt.status, receipt.header("cache-control")),
        (201, Some("no-store"))
    );
    assert!(receipt.body.contains("\"amount\":50000.10,"), "{}", receipt.body);
    assert!(
        receipt.body.contains("\"booked_at\":\"2026-11-24T12:00:"),
        "{}",
        receipt.body
    );
    assert_eq!(receipt.json()["user"], "u1001");
    assert_eq!(receipt.json()["to"], 11_022_334_455_667_788_u64);
    let again = post(&transfers, user, order).await;
    assert_ne!(receipt.json()["transfer_id"], again.json()["transfer_id"]);
    for bad in [
        "",
        "{}",
        r#"{"to":1,"amount":-5}"#,
        r#"{"to":1,"amount":0.00}"#,
        r#"{"to":1,"amount":"5"}"#,
    ] {
        assert_eq!(post(&transfers, user, bad).await.status, 400, "{bad}");
    }
    assert_eq!(post(&transfers, &[], order).await.status, 401);

    let invest = url(&demo, Service::Invest);
    let summary = get(&format!("{invest}/summary/u1001"), &[]).await.json();
    assert_eq!(summary["holdings"].as_array().unwrap().len(), 4);
    let order = r#"{"symbol":"005930","side":"buy","quantity":3,"price":71500.50}"#;
    let accepted = post(&format!("{invest}/orders"), user, order).await;
    assert_eq!(accepted.status, 201);
    assert!(accepted.body.contains("\"price\":71500.50,"), "{}", accepted.body);

    let cards = format!("{}/cards", url(&demo, Service::Cards));
    assert_eq!(get(&cards, user).await.json().as_array().unwrap().len(), 2);
    assert_eq!(get(&cards, &[]).await.status, 401);
    let support = url(&demo, Service::Support);
    assert_eq!(
        get(&format!("{support}/support/tickets/77"), &[]).await.json()["id"],
        77
    );
    assert_eq!(get(&format!("{support}/support/tickets/x"), &[]).await.status, 404);
    demo.stop().await;
}

#[tokio::test]
async fn shop_services_answer() {
    let demo = demo(Which::Shop).await;
    let user = &[("x-user", "u5001")];
    let products = url(&demo, Service::Products);
    let product = get(&format!("{products}/products/42"), &[]).await;
    assert_eq!(product.header("cache-control"), Some("public, max-age=60"));
    assert_eq!(product.json()["id"], 42);
    assert!(product.body.len() > 1024, "large enough to be compressed");
    assert!(product.body.contains("\"price\":{\"amount\":") && product.body.contains(".00,\"currency\":\"KRW\"}"));
    let etag = product.header("etag").unwrap();
    let same = get(&format!("{products}/products/42"), &[("if-none-match", etag)]).await;
    assert_eq!(
        (same.status, same.body.as_str(), same.header("etag")),
        (304, "", Some(etag))
    );
    assert_eq!(get(&format!("{products}/products/121"), &[]).await.status, 404);
    let page = get(&format!("{products}/products?limit=7&offset=118"), &[])
        .await
        .json();
    assert_eq!(
        (page["products"].as_array().unwrap().len(), &page["total"]),
        (2, &120.into())
    );
    let reviews = get(&format!("{products}/reviews?product=42&limit=3"), &[]).await.json();
    assert_eq!(
        (reviews.as_array().unwrap().len(), &reviews[0]["product_id"]),
        (3, &42.into())
    );
    assert_eq!(get(&format!("{products}/reviews?product=999"), &[]).await.body, "[]");

    let me = format!("{}/me", url(&demo, Service::Users));
    assert_eq!(get(&me, user).await.json()["id"], "u5001");
    assert_eq!(get(&me, &[]).await.status, 401);

    let orders = format!("{}/orders", url(&demo, Service::Orders));
    assert_eq!(get(&orders, user).await.json()[0]["user"], "u5001");
    let placed = post(
        &orders,
        user,
        r#"{"items":[{"product":42,"quantity":2},{"product":7,"quantity":1}]}"#,
    )
    .await;
    assert_eq!(
        (placed.status, placed.json()["lines"].as_array().unwrap().len()),
        (201, 2)
    );
    assert_eq!(
        post(&orders, user, r#"{"items":[{"product":0,"quantity":2}]}"#)
            .await
            .status,
        400
    );
    assert_eq!(post(&orders, user, r#"{"items":[]}"#).await.status, 400);

    let payments = format!("{}/payments", url(&demo, Service::Payments));
    let number = placed.json()["order_id"].as_u64().unwrap();
    let paid = post(&payments, user, &format!(r#"{{"order":{number},"amount":1e3}}"#)).await;
    assert_eq!((paid.status, &paid.json()["order"]), (201, &number.into()));
    assert!(paid.body.contains("\"amount\":1e3,"), "{}", paid.body);
    demo.stop().await;
}

#[tokio::test]
async fn every_service_knows_health_and_refuses_what_it_has_not() {
    for which in [Which::Bank, Which::Shop] {
        let demo = demo(which).await;
        let ports = demo.ports();
        for port in ports.services.iter().map(|(_, port)| *port).chain([ports.issuer]) {
            let base = format!("http://{}", loopback(port));
            assert_eq!(get(&format!("{base}/healthz"), &[]).await.body, r#"{"status":"ok"}"#);
            let missing = get(&format!("{base}/nothing/here"), &[]).await;
            assert_eq!(
                (missing.status, missing.json()["error"].as_str()),
                (404, Some("not_found"))
            );
        }
        demo.stop().await;
    }
}

#[tokio::test]
async fn answers_405_with_allow_to_a_wrong_method() {
    let demo = demo(Which::Bank).await;
    let cases = [
        (Service::Accounts, "POST", "/customers/u1/balance", "GET, HEAD"),
        (Service::Transfers, "DELETE", "/transfers", "GET, HEAD, POST"),
        (Service::Invest, "GET", "/orders", "POST"),
        (Service::Cards, "PUT", "/cards", "GET, HEAD"),
    ];
    for (service, method, path, allow) in cases {
        let answer = request(method, &format!("{}{path}", url(&demo, service)), &[], "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some(allow)),
            "{method} {path}"
        );
    }
    demo.stop().await;
}

#[tokio::test]
async fn head_is_get_without_its_body() {
    let demo = demo(Which::Shop).await;
    let product = format!("{}/products/1", url(&demo, Service::Products));
    let (get, head) = (get(&product, &[]).await, request("HEAD", &product, &[], "").await);
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()));
    assert_eq!(head.header("etag"), get.header("etag"));
    demo.stop().await;
}

#[tokio::test]
async fn refuses_a_body_beyond_64_kib_announced_or_not() {
    let demo = demo(Which::Bank).await;
    let transfers = format!("{}/transfers", url(&demo, Service::Transfers));
    let user = &[("x-user", "u1001")];
    let announced = exchange(
        &transfers,
        "POST /transfers HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n",
    )
    .await;
    assert_eq!((announced.status, announced.header("connection")), (413, Some("close")));

    let chunk = format!("400\r\n{}\r\n", " ".repeat(1024));
    let chunks = chunk.repeat(MAX_BODY / 1024 + 1);
    let head = "POST /transfers HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
    let chunked = exchange(&transfers, &format!("{head}{chunks}0\r\n\r\n")).await;
    assert_eq!((chunked.status, chunked.header("connection")), (413, Some("close")));

    let order = r#"{"to":1,"amount":5}"#;
    let fits = format!("{order}{}", " ".repeat(MAX_BODY - order.len()));
    assert_eq!(post(&transfers, user, &fits).await.status, 201);
    demo.stop().await;
}

#[tokio::test]
async fn names_the_address_that_is_taken_and_keeps_none() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let mut ports = Ports::free(Which::Shop);
    ports.services.last_mut().unwrap().1 = taken.local_addr().unwrap().port();
    let error = start(Which::Shop, &ports, now()).await.err().unwrap().to_string();
    let address = taken.local_addr().unwrap();
    assert!(
        error.starts_with(&format!("cannot listen on `{address}`: Address already in use")),
        "{error}"
    );
}

#[tokio::test]
async fn stop_closes_idle_connections_and_frees_the_ports() {
    let demo = demo(Which::Bank).await;
    let ports = demo.ports().clone();
    let mut idle = TcpStream::connect(loopback(ports.issuer)).await.unwrap();
    idle.write_all(b"GET /jwks HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0];
    idle.read_exact(&mut first).await.unwrap();
    let silent = TcpStream::connect(loopback(ports.issuer)).await.unwrap();
    demo.stop().await;

    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    drop((idle, silent));
    let mut again = Ports::free(Which::Bank);
    again.issuer = ports.issuer;
    start(Which::Bank, &again, now()).await.unwrap().stop().await;
}

#[tokio::test]
async fn services_are_stopped_and_started_one_by_one() {
    let demo = demo(Which::Bank).await;
    let (accounts, invest) = (url(&demo, Service::Accounts), url(&demo, Service::Invest));
    let reached = async |url: &str| TcpStream::connect(url.strip_prefix("http://").unwrap()).await.is_ok();
    let switch = demo.switch(Service::Invest);
    // Its listener closes when its task next runs.
    let turn = async |order: &str, runs: bool| {
        let answer = post(&format!("{switch}/{order}"), &[], "").await.json();
        assert_eq!(answer["runs"], runs);
        while reached(&invest).await != runs {
            tokio::task::yield_now().await;
        }
    };
    turn("stop", false).await;
    turn("stop", false).await;
    assert!(reached(&accounts).await);
    turn("start", true).await;
    let summary = get(&format!("{invest}/summary/u1001"), &[]).await.json();
    assert_eq!(summary["holdings"].as_array().unwrap().len(), 4);
    turn("stop", false).await;
    let status = async |method: &str, path: &str| {
        let url = format!("{}/services/{path}", demo.issuer());
        request(method, &url, &[], "").await.status
    };
    assert_eq!(status("GET", "invest/stop").await, 405);
    assert_eq!(status("POST", "invest/halt").await, 404);
    assert_eq!(status("POST", "nobody/stop").await, 404);
    demo.stop().await;
}

async fn demo(which: Which) -> Running {
    start(which, &Ports::free(which), now()).await.unwrap()
}

fn now() -> Timestamp {
    "2026-11-24T12:00:00+09:00".parse().unwrap()
}

fn url(demo: &Running, service: Service) -> String {
    format!("http://{}", demo.ports().of(service).next().unwrap())
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn get(url: &str, headers: &[(&str, &str)]) -> Response {
    request("GET", url, headers, "").await
}

async fn post(url: &str, headers: &[(&str, &str)], body: &str) -> Response {
    request("POST", url, headers, body).await
}

async fn request(method: &str, url: &str, headers: &[(&str, &str)], body: &str) -> Response {
    let (_, target) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let headers: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let length = body.len();
    let head = format!("{method} /{target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n");
    exchange(url, &format!("{head}{headers}\r\n{body}")).await
}

async fn exchange(url: &str, request: &str) -> Response {
    let (address, _) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    let headers = headers
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Response {
        status,
        headers,
        body: body.to_owned(),
    }
}

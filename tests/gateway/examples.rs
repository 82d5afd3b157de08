//! The files in `conf/`, served as they are but for the addresses.

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Key, Reply, Request, Seen, Upstream};

const NOON: &str = "2026-11-24T12:00:00+09:00";
const NIGHT: &str = "2026-11-24T23:45:00+09:00";

struct Example {
    gateway: Gateway,
    issuer: Issuer,
    audience: &'static str,
    upstreams: Vec<Upstream>,
}

impl Example {
    /// The example with an upstream behind each of the endpoints it names.
    fn start(
        name: &str,
        audience: &'static str,
        endpoints: &[&str],
        answer: impl Fn(&Seen) -> Reply + Clone + Send + Sync + 'static,
    ) -> Self {
        let issuer = Issuer::signing_with(Key::rs256("key-1"));
        let mut yaml = conf(&format!("{name}.yaml"));
        let mut put = |old: &str, new: &str| {
            assert!(yaml.contains(old), "{name}.yaml no longer says {old}");
            yaml = yaml.replace(old, new);
        };
        put("127.0.0.1:8080", "127.0.0.1:0");
        put("127.0.0.1:9900", "127.0.0.1:0");
        put("http://127.0.0.1:9800", &issuer.url());
        put(&format!("../var/{name}/"), "var/");
        let upstreams: Vec<Upstream> = endpoints
            .iter()
            .map(|endpoint| {
                let upstream = Upstream::http1(answer.clone());
                put(endpoint, &upstream.address().to_string());
                upstream
            })
            .collect();
        let gateway = Gateway::with(&yaml)
            .file("holidays-kr.yaml", &conf("holidays-kr.yaml"))
            .rehearse_at(NOON);
        Self {
            gateway: gateway.start(),
            issuer,
            audience,
            upstreams,
        }
    }

    fn ask(&self, method: &str, target: &str, claims: Value) -> Request {
        self.ask_from(NOON, method, target, claims)
    }

    /// By a token that is good from then on for a day, as the bank takes none that lives longer.
    fn ask_from(&self, instant: &str, method: &str, target: &str, claims: Value) -> Request {
        let mut claims = claims;
        claims["aud"] = json!([self.audience]);
        let issued = instant.parse::<jiff::Timestamp>().unwrap().as_second();
        claims["iat"] = json!(issued);
        claims["exp"] = json!(issued + 86_400);
        self.gateway.request(method, target).bearer(&self.issuer.token(&claims))
    }

    fn asked(&self, path: &str) -> usize {
        self.upstreams.iter().map(|upstream| upstream.count_of(path)).sum()
    }
}

fn conf(name: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("conf").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn bank(seen: &Seen) -> Reply {
    match seen.path() {
        "/transfers" if seen.method == "GET" => Reply::json(&json!([])),
        "/summary/u1" => Reply::json(&json!({"worth": 1})),
        _ => Reply::json(&json!({"account_id": "a1", "available": 5, "opened": 2001, "branch": "Mapo"})),
    }
}

#[test]
fn the_bank_answers_by_day_and_by_night() {
    let endpoints = [
        "127.0.0.1:7001",
        "127.0.0.1:7002",
        "127.0.0.1:7003",
        "127.0.0.1:7004",
        "127.0.0.1:7005",
        "127.0.0.1:7006",
    ];
    let bank = Example::start("bank", "mobile-bank", &endpoints, bank);
    let transfer = |claims| bank.ask("POST", "/transfers", claims).body("{}");

    let login = |instant: &str| instant.parse::<jiff::Timestamp>().unwrap().as_second() - 60;
    let customer = json!({"scope": "transfer:write", "acr": "otp", "auth_time": login(NOON)});
    transfer(customer.clone()).at(NOON).send().expect(200);
    let later = transfer(customer).at("2026-11-24T12:05:00+09:00").send();
    later.expect_problem(401, "step-up-required");
    let refused = transfer(json!({"scope": "transfer:write"}))
        .at(NIGHT)
        .header("accept-language", "en")
        .send();
    let problem = refused.expect_problem(403, "TRANSFER_CLOSED");
    assert_eq!(problem["detail"], "Transfers are closed at night");
    assert_eq!(problem["reopens_at"], "2026-11-25T05:00:00+09:00");
    let treasury = json!({"scope": "transfer:write", "roles": ["treasury"], "acr": "otp", "auth_time": login(NIGHT)});
    transfer(treasury).at(NIGHT).send().expect(200);
    transfer(json!({})).at(NOON).send().expect_problem(403, "scope-missing");
    assert_eq!(bank.upstreams[2].last().header("x-user"), Some("u1"));

    let order = |instant| {
        bank.ask_from(instant, "POST", "/orders", json!({"scope": "invest:write"}))
            .at(instant)
            .send()
    };
    order(NOON).expect(200);
    order("2026-09-25T10:00:00+09:00").expect_problem(403, "MARKET_CLOSED");

    bank.ask("GET", "/support/tickets/7", json!({"roles": ["teller"]}))
        .send()
        .expect(200);
    bank.ask("GET", "/support/tickets/7", json!({}))
        .send()
        .expect_problem(403, "denied");
    for _ in 0..2 {
        bank.ask("GET", "/cards", json!({})).send().expect(200);
    }
    assert_eq!(bank.asked("/cards"), 1);

    let balance = bank
        .ask("GET", "/customers/u1/balance", json!({}))
        .header("x-client", "ios")
        .send();
    assert_eq!(balance.expect(200).json(), json!({"account_id": "a1", "free": 5}));
    let other = |claims| bank.ask("GET", "/customers/u2/balance", claims).send();
    other(json!({})).expect_problem(403, "denied");
    other(json!({"roles": ["teller"]})).expect(200);
    let dashboard = bank.ask("GET", "/dashboard", json!({})).send();
    let members: Vec<String> = dashboard
        .expect(200)
        .json()
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert_eq!(members, ["balance", "investments", "recent"]);
    assert_eq!(
        bank.gateway.get("/status").send().expect(200).json(),
        json!({"service": "bank", "open": true})
    );
    bank.gateway
        .get("/status")
        .at("2026-11-15T01:00:00+09:00")
        .send()
        .expect_problem(403, "UPKEEP");
    let page = bank
        .gateway
        .get("/status")
        .header("origin", "https://bank.example")
        .send();
    assert_eq!(page.header("access-control-allow-origin"), Some("https://bank.example"));
}

fn shop(seen: &Seen) -> Reply {
    let price = json!({"amount": 10, "currency": "KRW", "net": 9});
    match seen.path() {
        "/reviews" => Reply::json(&json!([{"stars": 5}])),
        path => {
            Reply::json(&json!({"id": path, "name": "Kettle", "price": price, "thumbnail": "k.jpg", "text": "long"}))
        }
    }
}

#[test]
fn the_shop_sells() {
    let endpoints = [
        "127.0.0.1:7101",
        "127.0.0.1:7102",
        "127.0.0.1:7103",
        "127.0.0.1:7104",
        "127.0.0.1:7105",
    ];
    let shop = Example::start("shop", "shop", &endpoints, shop);

    let web = shop.gateway.get("/products/7").send();
    assert_eq!(web.expect(200).json()["text"], "long");
    let ios = shop.gateway.get("/products/7").header("x-client", "ios").send();
    let cut =
        json!({"id": "/products/7", "name": "Kettle", "price": {"amount": 10, "currency": "KRW"}, "image": "k.jpg"});
    assert_eq!(ios.expect(200).json(), cut);

    shop.ask("GET", "/me", json!({})).send().expect(200);
    shop.gateway.get("/me").send().expect_problem(401, "token-missing");
    shop.ask("GET", "/orders", json!({"scope": "order:read", "roles": "shopper"}))
        .send()
        .expect(200);
    shop.ask("GET", "/orders", json!({"scope": "order:read"}))
        .send()
        .expect_problem(403, "denied");
    let pay = |instant| {
        shop.ask("POST", "/payments", json!({"scope": "payment:write"}))
            .body("{}")
            .at(instant)
            .send()
    };
    pay(NOON).expect(200);
    let problem = pay("2026-11-24T23:55:00+09:00").expect_problem(403, "SETTLEMENT");
    assert_eq!(problem["reopens_at"], "2026-11-25T00:10:00+09:00");
    let large = shop
        .ask("POST", "/payments", json!({"scope": "payment:write"}))
        .body("x".repeat(17 * 1024));
    large.at(NOON).send().expect_problem(413, "body-too-large");

    let page = shop.gateway.get("/pages/product/7").send();
    assert_eq!(page.expect(200).json()["reviews"], json!([{"stars": 5}]));
    assert_eq!(
        shop.gateway.get("/basket").send().expect(308).header("location"),
        Some("/orders")
    );
}

/// The claims, the request and the hours that `README.md` shows.
#[test]
fn the_readme_says_what_explain_does() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let shown = readme.split('`').find(|shown| shown.starts_with("{ \"sub\""));
    let folder = tempfile::tempdir().unwrap();
    let claims = folder.path().join("teller.json");
    std::fs::write(&claims, shown.expect("claims in the README")).unwrap();
    let explain = |at: &str| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_gwanmun"));
        let request = ["explain", "conf/bank.yaml", "POST /transfers", "--no-state", "--at", at];
        let told = command.current_dir(root).args(request).arg("--as").arg(&claims);
        let told = told.output().unwrap();
        (told.status.code(), String::from_utf8(told.stdout).unwrap())
    };
    let (code, told) = explain(NIGHT);
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("TRANSFER_CLOSED"), "{told}");
    let passes = "changes at 2026-11-25T05:00:00+09:00: allowed";
    assert!(told.contains(passes), "{told}");
    let (code, told) = explain(NOON);
    assert_eq!(code, Some(0), "{told}");
}

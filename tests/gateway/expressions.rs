//! `if:` in CEL on a running gateway: what it reads of a request, and what counts against the caller. Every record that is
//! left is decided again when a gateway stops, so these tests also show that records hold what expressions read.

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Reply, Request, Upstream, guarded};

const NOON: &str = "2026-11-24T12:00:00+09:00";

const BANK: &str = r#"
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
clients:
  ios: { header: { x-client: ios } }
  web: { default: true }
calendars:
  seoul:
    timezone: Asia/Seoul
    windows: { night: [{ days: daily, hours: 23:30-05:00 }] }
  london:
    timezone: Europe/London
    windows: { lunch: [{ days: daily, hours: 12:00-13:00 }] }
policies:
  own-account:
    require: { if: 'claims.sub == path.customer' }
    unless:  { roles: [teller] }
    reply:   { code: NOT_YOURS, message: Only the owner sees this }
  holder:
    require:
      if: |
        claims.accounts.exists(account,
          account.id == path.account && "owner" in account.roles)
  within-limit:
    require: { if: 'int(query.amount) <= claims.profile.limit && !has(query.dry)' }
  known-device:
    deny: { if: '!request.headers["x-device"].matches("^[0-9a-f]{4}$") && client == "ios"' }
  no-outsiders-at-night:
    deny: { during: seoul.night, if: '!inNetwork(ip, "127.0.0.0/8") || has(claims.guest)' }
  office-hours:
    calendar: london
    require: { if: 'now.getHours() >= 9 && now.getHours() < 17' }
  debug-only-inside:
    deny: { if: 'has(query.debug) || "x-debug" in request.headers' }
  would-refuse:
    mode: shadow
    deny: { if: 'claims.missing > 1' }
routes:
  balance:
    match: GET /customers/{customer}/balance
    auth: customer
    policies: [own-account]
    upstream: bank
  account:
    match: GET /accounts/{account}
    auth: customer
    policies: [holder, would-refuse]
    upstream: bank
  pay:
    match: POST /payments
    auth: customer
    policies: [within-limit]
    upstream: bank
  note:
    match: GET,POST /notes
    auth: [customer, none]
    policies: [known-device, no-outsiders-at-night]
    upstream: bank
  office:
    match: GET /office
    auth: none
    policies: [office-hours]
    upstream: bank
  page:
    match: GET /page
    auth: none
    policies: [debug-only-inside]
    upstream: bank
"#;

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

impl Bank {
    fn open() -> Self {
        let upstream = Upstream::http1(|_| Reply::text("done"));
        let issuer = Issuer::new();
        let gateway = Gateway::with(&guarded(BANK, &upstream, &issuer))
            .rehearse_at(NOON)
            .start();
        Self {
            gateway,
            issuer,
            upstream,
        }
    }

    fn get(&self, path: &str, claims: Value) -> Request {
        self.gateway.get(path).bearer(&self.issuer.token(&claims))
    }
}

#[test]
fn lets_everybody_see_their_own_account_only() {
    let bank = Bank::open();
    let balance = |path: &str, claims| bank.get(path, claims).send();
    balance("/customers/u1/balance", json!({"sub": "u1"})).expect(200);
    balance("/customers/u%31/balance", json!({"sub": "u1"})).expect(200);
    balance("/customers/%ED%95%9C/balance", json!({"sub": "한"})).expect(200);
    balance("/customers/u2/balance", json!({"sub": "t1", "roles": ["teller"]})).expect(200);
    for (path, sub) in [
        ("/customers/u2/balance", "u1"),
        ("/customers/U1/balance", "u1"),
        ("/customers/u1%20/balance", "u1"),
        ("/customers/%FF/balance", "%FF"),
        ("/customers/u1%2C/balance", "u1"),
    ] {
        let refused = balance(path, json!({"sub": sub}));
        let problem = refused.expect_problem(403, "NOT_YOURS");
        assert_eq!(problem["detail"], "Only the owner sees this");
    }
    let nobody = bank.gateway.get("/customers/u1/balance").send();
    nobody.expect_problem(401, "token-missing");
    assert_eq!(bank.upstream.count(), 4);
}

#[test]
fn looks_into_lists_and_objects_of_a_token() {
    let bank = Bank::open();
    let account = |accounts: Value| bank.get("/accounts/a1", json!({"accounts": accounts})).send();
    account(json!([{"id": "a0", "roles": []}, {"id": "a1", "roles": ["reader", "owner"]}])).expect(200);
    for refused in [
        json!([]),
        json!([{"id": "a1", "roles": ["reader"]}]),
        json!([{"id": "a2", "roles": ["owner"]}]),
        json!([{"id": "a1"}]),
        json!([{"id": ["a1"], "roles": ["owner"]}]),
        json!("a1"),
        json!(null),
        json!({"id": "a1", "roles": ["owner"]}),
        json!([{"id": "a1", "roles": vec!["owner"; 101]}]),
        json!([{"id": "a1", "roles": {"$serde_json::private::RawValue": "[\"owner\"]"}}]),
        json!(vec![json!({"id": "a1", "roles": ["owner"]}); 101]),
    ] {
        account(refused).expect_problem(403, "denied");
    }
    bank.get("/accounts/a1", json!({})).send().expect_problem(403, "denied");
    let records = bank.gateway.stop();
    let allowed: Vec<&Value> = records.iter().filter(|record| record["status"] == 200).collect();
    // The claim that the shadow rule needs is absent, so it would have refused.
    assert_eq!(allowed[0]["shadow"], json!(["would-refuse"]));
    assert_eq!(allowed[0]["principal"]["claims"]["accounts"][1]["roles"][1], "owner");
    assert!(allowed[0]["principal"]["claims"].get("sub").is_some());
    assert_eq!(allowed[0]["principal"]["claims"].get("iss"), None);
}

#[test]
fn counts_a_value_it_cannot_read_against_the_caller() {
    let bank = Bank::open();
    let pay = |query: &str, limit: Value| {
        let token = bank
            .issuer
            .token(&json!({"profile": {"limit": limit, "secret": "not-read"}}));
        bank.gateway.post(&format!("/payments{query}")).bearer(&token).send()
    };
    pay("?amount=10", json!(10)).expect(200);
    pay("?x=1&amount=%31%30&amoun=99", json!(10.5)).expect(200);
    for (query, limit) in [
        ("?amount=11", json!(10)),
        ("?amount=10", json!(9.5)),
        ("", json!(10)),
        ("?amount=", json!(10)),
        ("?amount=ten", json!(10)),
        ("?amount=1&amount=1", json!(10)),
        ("?amount=%FF", json!(10)),
        ("?amount=99999999999999999999", json!(10)),
        ("?amount=1", json!("10")),
        ("?amount=1", json!(1e300)),
        ("?amount=1", json!([10])),
        ("?amount=1", json!(null)),
        ("?amount=1&dry", json!(10)),
        ("?amount=1&dry=%FF", json!(10)),
    ] {
        pay(query, limit.clone()).expect_problem(403, "denied");
    }
    for record in bank.gateway.stop() {
        let claims = &record["principal"]["claims"];
        assert!(!claims.as_object().unwrap().contains_key("profile"), "{claims}");
        assert!(!record.to_string().contains("not-read"), "{record}");
    }
}

#[test]
fn reads_headers_addresses_clients_and_clocks() {
    let bank = Bank::open();
    let note = || bank.gateway.get("/notes");
    note().send().expect(200);
    note()
        .header("x-client", "ios")
        .header("x-device", "00ff")
        .send()
        .expect(200);
    note()
        .header("x-client", "ios")
        .header("x-device", "00FF")
        .send()
        .expect_problem(403, "denied");
    note().header("x-client", "ios").send().expect_problem(403, "denied");
    // The device cannot be told, but the client can.
    note()
        .header("x-device", "1")
        .header("x-device", "2")
        .send()
        .expect(200);
    note()
        .header("x-client", "ios")
        .header("x-device", "00ff")
        .header("x-device", "00ff")
        .send()
        .expect_problem(403, "denied");

    let night = "2026-11-24T23:45:00+09:00";
    note().at(night).send().expect(200);
    let guest = bank.get("/notes", json!({"guest": false})).at(night).send();
    let problem = guest.expect_problem(403, "denied");
    assert_eq!(problem["reopens_at"], "2026-11-25T05:00:00+09:00");

    let office = |instant: &str| bank.gateway.get("/office").at(instant).send().status;
    assert_eq!(office("2026-11-24T09:00:00Z"), 200);
    assert_eq!(office("2026-11-24T08:59:59.999Z"), 403);
    assert_eq!(office("2026-11-24T17:00:00Z"), 403);
    // In summer the clocks of London are an hour ahead.
    assert_eq!(office("2026-07-24T08:00:00Z"), 200);
    assert_eq!(office("2026-07-24T16:00:00Z"), 403);
    let refused = bank.gateway.get("/office").at("2026-11-24T17:00:00Z").send();
    assert_eq!(refused.expect_problem(403, "denied").get("reopens_at"), None);
}

#[test]
fn sees_a_parameter_or_header_that_is_there_whatever_it_holds() {
    let bank = Bank::open();
    bank.gateway.get("/page").send().expect(200);
    bank.gateway.get("/page?debugged=1&x=debug").send().expect(200);
    for query in ["debug", "debug=", "debug=%FF", "d%65bug=1", "a=1&debug=1&debug=2"] {
        let answer = bank.gateway.get(&format!("/page?{query}")).send();
        answer.expect_problem(403, "denied");
    }
    for value in ["", "1"] {
        let answer = bank.gateway.get("/page").header("X-Debug", value).send();
        answer.expect_problem(403, "denied");
    }
}

//! Rules on windows, roles, claims and methods: who is refused when, with which words, and until when.

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Reply, Request, Upstream, fill, guarded};

const NOON: &str = "2026-11-24T12:00:00+09:00";
const NIGHT: &str = "2026-11-24T23:45:00+09:00";

const HOLIDAYS: &str = "
through: 2028-12-31
dates:
  2026-09-24: Chuseok
  2026-09-25: Chuseok
  2026-09-26: Chuseok
";

const BANK: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
calendars:
  seoul:
    timezone: Asia/Seoul
    holidays: holidays.yaml
    windows:
      night:   [{ days: daily, hours: 23:30-05:00 }]
      trading: [{ days: mon-fri, hours: 09:00-15:30, except: holidays }]
      upkeep:  [{ days: 3rd sun, hours: 00:00-06:00 }, { from: 2026-12-31T23:50, to: 2027-01-01T00:30 }]
  new-york:
    timezone: America/New_York
    windows:
      early: [{ days: daily, hours: 01:30-03:30 }]
policies:
  no-night-transfer:
    deny:   { during: seoul.night }
    unless: { roles: [treasury] }
    reply:
      code: TRANSFER_CLOSED
      message: { ko: 심야 시간에는 송금할 수 없습니다, en: Transfers are closed at night }
  trading-hours:
    require: { during: seoul.trading }
    reply:
      code: MARKET_CLOSED
      message: { ko: 장이 열려 있지 않습니다, en: The market is closed }
  not-during-upkeep:
    deny: { during: seoul.upkeep }
    reply:
      code: UPKEEP
      message: { ko: 정기 점검 중입니다, en: We are doing maintenance }
  staff-only:
    require: { roles: [teller, treasury] }
  no-early-writing:
    deny: { during: new-york.early, methods: [POST] }
defaults:
  policies: [not-during-upkeep]
routes:
  transfer:
    match: POST /transfers
    auth: customer
    scopes: [transfer:write]
    policies: [no-night-transfer]
    upstream: bank
  order:
    match: POST /orders
    auth: customer
    policies: [trading-hours]
    upstream: bank
  ticket:
    match: GET /tickets/{ticket}
    auth: customer
    policies: [staff-only]
    upstream: bank
  note:
    match: GET,POST /notes
    auth: none
    policies: [no-early-writing]
    upstream: bank
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

impl Bank {
    fn open() -> Self {
        let upstream = Upstream::http1(|_| Reply::text("done"));
        let issuer = Issuer::new();
        let yaml = guarded(BANK, &upstream, &issuer);
        let gateway = Gateway::with(&yaml)
            .file("holidays.yaml", HOLIDAYS)
            .rehearse_at(NOON)
            .start();
        Self {
            gateway,
            issuer,
            upstream,
        }
    }

    fn transfer(&self, claims: &Value) -> Request {
        let mut claims = claims.clone();
        if claims.get("scope").is_none() {
            claims["scope"] = json!("transfer:write");
        }
        self.gateway.post("/transfers").bearer(&self.issuer.token(&claims))
    }

    fn order(&self) -> Request {
        self.gateway.post("/orders").bearer(&self.issuer.token(&json!({})))
    }
}

#[test]
fn opens_and_closes_a_window_to_the_second() {
    let bank = Bank::open();
    for (instant, open) in [
        ("2026-11-24T23:29:59+09:00", true),
        ("2026-11-24T23:30:00+09:00", false),
        ("2026-11-25T00:00:00+09:00", false),
        ("2026-11-25T04:59:59+09:00", false),
        ("2026-11-25T05:00:00+09:00", true),
        // The same instants in other words.
        ("2026-11-24T14:29:59Z", true),
        ("2026-11-24T14:30:00Z", false),
    ] {
        let response = bank.transfer(&json!({})).at(instant).send();
        match open {
            true => drop(response.expect(200).clone()),
            false => drop(response.expect_problem(403, "TRANSFER_CLOSED")),
        }
    }
    assert_eq!(bank.upstream.count(), 3);
}

#[test]
fn says_when_it_opens_again_to_the_second() {
    let bank = Bank::open();
    let refused = bank.transfer(&json!({})).at(NIGHT).send();
    let problem = refused.expect_problem(403, "TRANSFER_CLOSED");
    assert_eq!(problem["reopens_at"], "2026-11-25T05:00:00+09:00");
    assert_eq!(problem["retry_after"], 18_900);
    assert_eq!(refused.header("retry-after"), Some("18900"));

    let refused = bank.order().at("2026-09-25T10:00:00+09:00").send();
    let problem = refused.expect_problem(403, "MARKET_CLOSED");
    // After the holidays comes a weekend.
    assert_eq!(problem["reopens_at"], "2026-09-28T09:00:00+09:00");
    assert_eq!(refused.header("retry-after"), Some("255600"));
}

#[test]
fn rounds_the_wait_up() {
    let bank = Bank::open();
    let refused = bank.transfer(&json!({})).at("2026-11-25T04:59:58.400+09:00").send();
    refused.expect_problem(403, "TRANSFER_CLOSED");
    assert_eq!(refused.header("retry-after"), Some("2"));
}

#[test]
fn reopens_only_when_all_refusing_windows_have() {
    let bank = Bank::open();
    // Third Sunday of November, in the night: upkeep stands first, and ends later.
    let refused = bank.transfer(&json!({})).at("2026-11-15T01:00:00+09:00").send();
    let problem = refused.expect_problem(403, "UPKEEP");
    assert_eq!(problem["reopens_at"], "2026-11-15T06:00:00+09:00");
    // The dated span ends within the night, so that the night decides.
    let refused = bank.transfer(&json!({})).at("2026-12-31T23:55:00+09:00").send();
    let problem = refused.expect_problem(403, "UPKEEP");
    assert_eq!(problem["reopens_at"], "2027-01-01T05:00:00+09:00");
}

#[test]
fn promises_no_opening_that_would_not_help() {
    let bank = Bank::open();
    let refused = bank.transfer(&json!({"scope": "transfer:read"})).at(NIGHT).send();
    let problem = refused.expect_problem(403, "scope-missing");
    assert!(problem.get("reopens_at").is_none(), "{problem}");
    assert_eq!(refused.header("retry-after"), None);
}

#[test]
fn exempts_whom_the_policy_exempts() {
    let bank = Bank::open();
    bank.transfer(&json!({"roles": ["treasury"]}))
        .at(NIGHT)
        .send()
        .expect(200);
    bank.transfer(&json!({"roles": ["teller"]}))
        .at(NIGHT)
        .send()
        .expect_problem(403, "TRANSFER_CLOSED");
    // From the upkeep nobody is exempt.
    let upkeep = "2026-11-15T01:00:00+09:00";
    bank.transfer(&json!({"roles": ["treasury"]}))
        .at(upkeep)
        .send()
        .expect_problem(403, "UPKEEP");
}

#[test]
fn reads_roles_as_a_list_or_as_words() {
    let bank = Bank::open();
    let ticket = |roles: Value| {
        let token = bank.issuer.token(&json!({"roles": roles}));
        bank.gateway.get("/tickets/7").bearer(&token).send()
    };
    for roles in [
        json!(["teller"]),
        json!(["customer", "treasury"]),
        json!("teller"),
        json!("customer teller"),
    ] {
        ticket(roles).expect(200);
    }
    for roles in [
        json!(null),
        json!([]),
        json!("tellers"),
        json!("tell er"),
        json!(["teller treasury"]),
    ] {
        ticket(roles).expect_problem(403, "denied");
    }
    for odd in [json!(7), json!({"teller": true}), json!([["teller"]]), json!([true])] {
        let status = ticket(odd.clone()).status;
        assert!(matches!(status, 401 | 403), "{odd} gave {status}");
    }
}

#[test]
fn speaks_the_callers_language() {
    let bank = Bank::open();
    let (korean, english) = ("심야 시간에는 송금할 수 없습니다", "Transfers are closed at night");
    for (languages, detail) in [
        (Some("en"), english),
        (Some("ko"), korean),
        (Some("ko-KR,ko;q=0.9,en;q=0.8"), korean),
        (Some("en-GB;q=0.9, ko;q=0.1"), english),
        (Some("ko;q=0, en;q=0.5"), english),
        (Some("fr, en;q=0.3"), english),
        // Nothing that suits: the first in the file.
        (Some("fr"), korean),
        (None, korean),
    ] {
        let request = bank.transfer(&json!({})).at(NIGHT);
        let request = match languages {
            Some(languages) => request.header("accept-language", languages),
            None => request,
        };
        let problem = request.send().expect_problem(403, "TRANSFER_CLOSED");
        assert_eq!(problem["detail"], detail, "{languages:?}");
    }
}

#[test]
fn counts_what_it_cannot_know_against_the_caller() {
    let bank = Bank::open();
    // Past the list of holidays a weekday may be one.
    bank.order().at("2028-12-27T10:00:00+09:00").send().expect(200);
    bank.order()
        .at("2029-01-03T10:00:00+09:00")
        .send()
        .expect_problem(403, "MARKET_CLOSED");
}

#[test]
fn keeps_a_window_whole_where_an_hour_is_missing_or_comes_twice() {
    let bank = Bank::open();
    let write = |instant: &str| bank.gateway.post("/notes").at(instant).send().status;
    // 2026-03-08: 02:00 to 03:00 does not exist in New York.
    assert_eq!(write("2026-03-08T01:29:59-05:00"), 200);
    assert_eq!(write("2026-03-08T01:30:00-05:00"), 403);
    assert_eq!(write("2026-03-08T03:29:59-04:00"), 403);
    assert_eq!(write("2026-03-08T03:30:00-04:00"), 200);
    // 2026-11-01: 01:00 to 02:00 comes twice; the first 01:30 begins it.
    assert_eq!(write("2026-11-01T01:29:59-04:00"), 200);
    assert_eq!(write("2026-11-01T01:30:00-04:00"), 403);
    assert_eq!(write("2026-11-01T01:15:00-05:00"), 403);
    assert_eq!(write("2026-11-01T03:30:00-05:00"), 200);
    // All conditions of a deny must hold, the method among them.
    bank.gateway
        .get("/notes")
        .at("2026-11-01T01:30:00-04:00")
        .send()
        .expect(200);
}

#[test]
fn says_that_it_rehearses() {
    let bank = Bank::open();
    let allowed = bank.transfer(&json!({})).send();
    assert!(
        allowed.expect(200).header("gwanmun-rehearsal").is_some(),
        "{}",
        allowed.summary()
    );
    let refused = bank.gateway.get("/nowhere").send();
    refused.expect_problem(404, "route-not-found");
    assert!(refused.header("gwanmun-rehearsal").is_some(), "{}", refused.summary());
    for record in bank.gateway.stop() {
        assert_eq!(record["rehearsal"], true, "{record}");
    }
}

#[test]
fn does_not_rehearse_an_instant_it_cannot_read() {
    let bank = Bank::open();
    for instant in ["tomorrow", "2026-13-01T00:00:00Z", "2026-11-24T12:00:00", ""] {
        let response = bank.transfer(&json!({})).at(instant).send();
        assert_eq!(response.status, 400, "{instant}: {}", response.summary());
    }
    assert_eq!(bank.upstream.count(), 0);
}

#[test]
fn listens_to_no_rehearsed_instant_in_the_present() {
    let upstream = Upstream::http1(|_| Reply::text("done"));
    let yaml = "
upstreams:
  bank: { endpoints: [$upstream] }
calendars:
  seoul:
    timezone: Asia/Seoul
    windows:
      once: [{ from: 2020-01-01T00:00, to: 2020-01-02T00:00 }]
policies:
  closed-then: { deny: { during: seoul.once } }
routes:
  note: { match: GET /notes, auth: none, policies: [closed-then], upstream: bank }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    let response = gateway.get("/notes").at("2020-01-01T12:00:00+09:00").send();
    assert_eq!(response.expect(200).header("gwanmun-rehearsal"), None);
}

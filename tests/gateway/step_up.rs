//! Policies that ask for a stronger or more recent login: RFC 9470 over sockets, and what records keep of it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Reply, Request, Upstream, guarded, is_request};

const NOON: &str = "2026-11-24T12:00:00+09:00";
const NIGHT: &str = "2026-11-24T23:45:00+09:00";

const BANK: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
calendars:
  seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: 23:30-05:00 }] } }
policies:
  no-night-transfer: { deny: { during: seoul.night } }
  strong-login:
    step_up: { acr: [hwk, otp], max_age: 5m }
    unless:  { roles: robot }
    reply:   { code: LOG_IN_AGAIN, message: { ko: 다시 로그인하세요, en: Log in again } }
  recent-login:
    step_up: { acr: [otp, hwk, pwd], max_age: 1m }
    when:    { query: { large: true } }
  hardware-only:
    mode: shadow
    step_up: { acr: hwk }
limits:
  once: { key: principal.sub, rate: 1/h, burst: 1 }
routes:
  transfer:
    match: POST /transfers
    auth: customer
    scopes: [transfer:write]
    policies: [strong-login, no-night-transfer, recent-login, hardware-only]
    limits: [once]
    upstream: bank
  shop:
    match: POST /orders
    auth: [customer, none]
    policies: [strong-login]
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
        let gateway = Gateway::with(&guarded(BANK, &upstream, &issuer))
            .rehearse_at(NOON)
            .start();
        Self {
            gateway,
            issuer,
            upstream,
        }
    }

    /// A transfer by somebody who logged in so many seconds before `instant`.
    fn transfer(&self, target: &str, instant: &str, acr: &str, age: i64, more: &Value) -> Request {
        let at: Timestamp = instant.parse().expect("an instant");
        let mut claims = json!({"scope": "transfer:write", "acr": acr, "auth_time": at.as_second() - age});
        for (name, value) in more.as_object().expect("claims") {
            claims[name] = value.clone();
        }
        self.gateway
            .post(target)
            .bearer(&self.issuer.token(&claims))
            .at(instant)
    }
}

fn challenge(acr: &str, max_age: u32) -> String {
    format!(
        "Bearer realm=\"gwanmun\", error=\"insufficient_user_authentication\", \
         error_description=\"a stronger or more recent login is needed\", acr_values=\"{acr}\", max_age=\"{max_age}\""
    )
}

#[test]
fn a_weak_or_old_login_is_challenged_and_a_good_one_passes() {
    let bank = Bank::open();
    let ask = |acr, age| bank.transfer("/transfers", NOON, acr, age, &json!({}));
    for (acr, age) in [("pwd", 1), ("otp", 301), ("otp", -31), ("", 1)] {
        let refused = ask(acr, age).header("accept-language", "en").send();
        let problem = refused.expect_problem(401, "LOG_IN_AGAIN");
        assert_eq!(problem["detail"], "Log in again", "{acr} {age}");
        assert_eq!(
            refused.header("www-authenticate"),
            Some(challenge("hwk otp", 300).as_str())
        );
        assert!(refused.header("retry-after").is_none() && problem.get("reopens_at").is_none());
    }
    let unsaid = bank.transfer("/transfers", NOON, "otp", 1, &json!({"auth_time": null}));
    unsaid.send().expect_problem(401, "LOG_IN_AGAIN");
    // A caller who is challenged has not used up anything.
    ask("otp", 300).send().expect(200);
    ask("hwk", 1).send().expect_problem(429, "limit-exceeded");
    assert_eq!(bank.upstream.count(), 1);
    let anonymous = bank.gateway.post("/transfers").send();
    anonymous.expect_problem(401, "token-missing");
    assert!(
        !anonymous
            .header("www-authenticate")
            .expect("a challenge")
            .contains("error=")
    );
    // Who need not say who calls has to here.
    bank.gateway.post("/orders").send().expect_problem(401, "token-missing");
}

#[test]
fn any_other_refusal_comes_first() {
    let bank = Bank::open();
    let at_night = bank.transfer("/transfers", NIGHT, "pwd", 999, &json!({})).send();
    let problem = at_night.expect_problem(403, "denied");
    assert_eq!(problem["reopens_at"], "2026-11-25T05:00:00+09:00");
    bank.transfer("/transfers", NOON, "pwd", 999, &json!({"scope": "a"}))
        .send()
        .expect_problem(403, "scope-missing");
    bank.transfer("/transfers", NOON, "pwd", 999, &json!({"roles": ["robot"]}))
        .send()
        .expect(200);
}

#[test]
fn one_challenge_asks_for_what_satisfies_all_and_records_decide_again() {
    let bank = Bank::open();
    let large = |acr, age| bank.transfer("/transfers?large=true", NOON, acr, age, &json!({}));
    let both = large("sms", 600).send();
    both.expect_problem(401, "LOG_IN_AGAIN");
    assert_eq!(both.header("www-authenticate"), Some(challenge("hwk otp", 60).as_str()));
    let older = large("otp", 61).send();
    older.expect_problem(401, "step-up-required");
    assert_eq!(
        older.header("www-authenticate"),
        Some(challenge("otp hwk pwd", 60).as_str())
    );
    large("otp", 60).send().expect(200);

    // Dropping the gateway decides each record again; what a login was has to be in it.
    let records = bank.gateway.stop();
    let told: Vec<_> = records
        .iter()
        .filter(|record| is_request(record))
        .map(|record| {
            let who = &record["principal"];
            (
                record["decision"].clone(),
                who["acr"].clone(),
                who["auth_time"].clone(),
                record["shadow"].clone(),
            )
        })
        .collect();
    let refused = |code, rule| json!({"effect": "challenge", "status": 401, "code": code, "rule": rule});
    let expected = [
        (
            refused("LOG_IN_AGAIN", "strong-login"),
            json!("sms"),
            json!("2026-11-24T02:50:00Z"),
            Value::Null,
        ),
        (
            refused("step-up-required", "recent-login"),
            json!("otp"),
            json!("2026-11-24T02:58:59Z"),
            Value::Null,
        ),
        (
            json!({"effect": "allow"}),
            json!("otp"),
            json!("2026-11-24T02:59:00Z"),
            json!(["hardware-only"]),
        ),
    ];
    assert_eq!(told, expected);
}

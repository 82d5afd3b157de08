//! What an operator closes is closed at once, stays closed over a restart, and is told to those who have to know.

mod api;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Launch, Reply, Request, Upstream, eventually, guarded, refused_start, said};

const TOKEN: &str = "0123456789abcdef0123456789abcdef-not-a-secret";
const NOON: &str = "2026-11-24T12:00:00+09:00";

const BANK: &str = "
admin: { address: 127.0.0.1:0, token: '${env:GWANMUN_ADMIN_TOKEN}' }
state: state
upstreams:
  accounts:  { endpoints: [$upstream] }
  transfers: { endpoints: [$upstream] }
$authenticators
calendars:
  seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: 23:30-05:00 }] } }
policies:
  no-night-transfer: { deny: { during: seoul.night }, reply: { code: TRANSFER_CLOSED } }
limits:
  freeze: { key: header.x-shop, rate: 1000/s }
routes:
  transfer: { match: POST /transfers, auth: customer, policies: [no-night-transfer], upstream: transfers }
  transfers: { match: GET /transfers, auth: none, limits: [freeze], upstream: transfers }
  balance: { match: GET /balance, auth: none, upstream: accounts, cache: { ttl: 30s, share: public } }
  status: { match: GET /status, auth: none, reply: { status: 200, json: { open: true } } }
  dashboard:
    match: GET /dashboard
    auth: none
    aggregate:
      balance: { get: 'accounts:/balance', required: true }
      recent:  { get: 'transfers:/recent', default: [] }
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

impl Bank {
    fn open() -> Self {
        Self::opened(|gateway| gateway.rehearse_at(NOON))
    }

    /// A bank that keeps what is frozen, as no rehearsal does.
    fn that_keeps() -> Self {
        Self::opened(|gateway| gateway)
    }

    fn opened(set: impl Fn(Launch) -> Launch) -> Self {
        let upstream = Upstream::http1(|_| Reply::json(&json!({"account": "a1"})));
        let issuer = Issuer::new();
        let gateway = set(Gateway::with(&guarded(BANK, &upstream, &issuer)));
        Self {
            gateway: gateway.environment("GWANMUN_ADMIN_TOKEN", TOKEN).start(),
            issuer,
            upstream,
        }
    }

    fn api(&self, method: &str, target: &str) -> Request {
        self.gateway.admin(method, target).bearer(TOKEN)
    }

    #[track_caller]
    fn freeze(&self, name: &str, order: &Value) -> Value {
        let frozen = self
            .api("PUT", &format!("/freezes/{name}"))
            .body(order.to_string())
            .send();
        frozen.expect(200).json()["frozen"].clone()
    }

    #[track_caller]
    fn thaw(&self, name: &str) -> Value {
        let thawed = self.api("DELETE", &format!("/freezes/{name}")).send();
        thawed.expect(200).json()["thawed"].clone()
    }

    fn transfer(&self) -> Request {
        self.gateway.post("/transfers").bearer(&self.issuer.token(&json!({})))
    }

    /// What the command says to this gateway.
    fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
        command.arg("ctl").args(arguments).env("GWANMUN_ADMIN_TOKEN", TOKEN);
        command.env("GWANMUN_ADMIN", self.gateway.admin_address().to_string());
        command.stdin(Stdio::null()).output().expect("the binary runs")
    }
}

#[test]
fn closes_a_route_and_nothing_else() {
    let bank = Bank::open();
    bank.gateway.get("/balance").send().expect(200);
    bank.transfer().send().expect(200);
    let frozen = bank.freeze("transfer", &json!({"until": "06:00", "reason": "a wave of fraud"}));
    assert_eq!(
        frozen,
        json!([{"kind": "route", "name": "transfer", "until": "2026-11-25T06:00:00+09:00", "reason": "a wave of fraud"}])
    );
    let problem = bank.transfer().at(NOON).send();
    assert_eq!(problem.header("retry-after"), Some("64800"));
    assert!(!problem.text().contains("fraud"), "the reason is for operators");
    let problem = problem.expect_problem(503, "frozen");
    assert_eq!(problem["reopens_at"], "2026-11-25T06:00:00+09:00");
    // Who calls is asked first: a freeze is told to nobody who may not know of the route.
    bank.gateway
        .post("/transfers")
        .send()
        .expect_problem(401, "token-missing");
    for open in ["/transfers", "/balance", "/status", "/dashboard"] {
        bank.gateway.get(open).send().expect(200);
    }
    // It ends by itself.
    bank.transfer().at("2026-11-25T06:00:00+09:00").send().expect(200);
    bank.thaw("transfer");
    bank.transfer().at(NOON).send().expect(200);
}

#[test]
fn reopens_when_the_window_does_too() {
    let bank = Bank::open();
    let reopens = |until: &str| {
        bank.freeze("transfer", &json!({ "until": until }));
        let problem = bank.transfer().at("2026-11-24T23:45:00+09:00").send();
        problem.expect_problem(503, "frozen")["reopens_at"].clone()
    };
    assert_eq!(reopens("2026-11-25T02:00:00+09:00"), "2026-11-25T05:00:00+09:00");
    assert_eq!(reopens("2026-11-24T23:50:00+09:00"), "2026-11-25T05:00:00+09:00");
    assert_eq!(reopens("2026-11-25T08:00:00+09:00"), "2026-11-25T08:00:00+09:00");
    assert_eq!(reopens("2026-11-26T02:00:00+09:00"), "2026-11-26T05:00:00+09:00");
    bank.freeze("transfer", &json!({}));
    let problem = bank.transfer().at(NOON).send();
    assert_eq!(problem.header("retry-after"), None);
    assert!(problem.expect_problem(503, "frozen")["reopens_at"].is_null());
}

#[test]
fn closes_all_that_calls_an_upstream() {
    let bank = Bank::open();
    let frozen = bank.freeze("transfers", &json!({"for": "2h"}));
    let until = frozen[0]["until"].as_str().unwrap_or_default();
    assert!(
        until.starts_with("2026-11-24T14:0") && until.len() == NOON.len(),
        "{frozen}"
    );
    let frozen = bank.api("GET", "/freezes").send().json()["freezes"].clone();
    let kinds: Vec<_> = frozen
        .as_array()
        .unwrap()
        .iter()
        .map(|freeze| &freeze["kind"])
        .collect();
    assert_eq!(kinds, ["route", "upstream"], "a name that both have means both");
    bank.transfer().send().expect_problem(503, "frozen");
    bank.gateway.get("/transfers").send().expect_problem(503, "frozen");
    let dashboard = bank.gateway.get("/dashboard").send();
    assert_eq!(dashboard.header("gwanmun-partial"), Some("recent;reason=denied"));
    assert_eq!(
        dashboard.expect(200).json(),
        json!({"balance": {"account": "a1"}, "recent": []})
    );
    assert_eq!(bank.upstream.count_of("/recent"), 0);

    let thawed = bank.api("DELETE", "/freezes/transfers?kind=upstream").send();
    assert_eq!(thawed.expect(200).json()["thawed"][0]["kind"], "upstream");
    bank.transfer().send().expect(200);
    bank.gateway.get("/transfers").send().expect_problem(503, "frozen");
    bank.thaw("transfers");

    // A part that is required makes the whole wait, and what is stored is no way around.
    bank.gateway.get("/balance").send().expect(200);
    bank.freeze("accounts", &json!({"until": "13:00"}));
    let dashboard = bank.gateway.get("/dashboard").at(NOON).send();
    assert_eq!(dashboard.header("retry-after"), Some("3600"));
    dashboard.expect_problem(503, "frozen");
    bank.gateway.get("/balance").send().expect_problem(503, "frozen");
}

#[test]
fn survives_a_restart() {
    let upstream = Upstream::http1(|_| Reply::json(&json!({})));
    let issuer = Issuer::new();
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("gate");
    let yaml = guarded(BANK, &upstream, &issuer).replace("state: state", &format!("state: {}", path.display()));
    let start = |yaml: &str| Gateway::with(yaml).environment("GWANMUN_ADMIN_TOKEN", TOKEN).start();
    let api = |gateway: &Gateway, method, target| gateway.admin(method, target).bearer(TOKEN);
    let first = start(&yaml);
    api(&first, "PUT", "/freezes/balance").send().expect(200);
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(&path.join("freezes.json"))), (0o700, 0o600));
    first.stop();

    let second = start(&yaml);
    second.get("/balance").send().expect_problem(503, "frozen");
    second.get("/status").send().expect(200);
    assert!(second.log().contains("`balance` is still frozen"), "{}", second.log());
    second.stop();

    // A restart never takes the gate down: what is frozen and gone is kept, and told.
    let gone = yaml.replace("  balance: {", "  saldo: {");
    let third = start(&gone);
    third.get("/balance").send().expect(200);
    let shown = third
        .metrics()
        .value("gwanmun_freezes", &[("kind", "route"), ("name", "balance")]);
    assert_eq!(shown, Some(0.0));
    assert!(third.reload(&gone.replace("saldo", "konto")));
    assert!(third.reload(&yaml));
    third.get("/balance").send().expect_problem(503, "frozen");
    api(&third, "DELETE", "/freezes/balance").send().expect(200);
    third.get("/balance").send().expect(200);
    third.stop();

    std::fs::write(path.join("freezes.json"), "{\"v\":1,").unwrap();
    let open = with_listener(&yaml).replace(", token: '${env:GWANMUN_ADMIN_TOKEN}'", "");
    let (code, _, errors) = said(&refused_start(&open, &[]));
    assert_eq!(code, Some(2), "{errors}");
    assert!(
        errors.contains("freezes.json") && !errors.contains("panicked"),
        "{errors}"
    );
}

fn with_listener(yaml: &str) -> String {
    format!("listen:\n  - address: 127.0.0.1:0\n{yaml}")
}

#[test]
fn is_used_by_one_gateway_alone() {
    let bank = Bank::that_keeps();
    let state = bank.gateway.folder().join("state");
    let other = format!("listen: [{{ address: 127.0.0.1:0 }}]\nstate: {}\n", state.display());
    let (code, _, errors) = said(&refused_start(&other, &[]));
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("another gateway"), "{errors}");
}

#[test]
fn stays_as_it_is_whatever_a_rehearsal_does() {
    let upstream = Upstream::http1(|_| Reply::json(&json!({})));
    let issuer = Issuer::new();
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("gate");
    let yaml = guarded(BANK, &upstream, &issuer).replace("state: state", &format!("state: {}", path.display()));
    let launch = || Gateway::with(&yaml).environment("GWANMUN_ADMIN_TOKEN", TOKEN);
    let api = |gateway: &Gateway, method, target: &str| gateway.admin(method, target).bearer(TOKEN);
    let revoke = |gateway: &Gateway, id: &str| {
        let order = json!({ "jti": id }).to_string();
        api(gateway, "POST", "/revocations").body(order).send().expect(200);
    };
    let gateway = launch().start();
    let until = json!({"until": "2999-01-01T00:00:00Z"}).to_string();
    api(&gateway, "PUT", "/freezes/balance").body(until).send().expect(200);
    revoke(&gateway, "t1");
    let kept = || ["freezes.json", "revocations.jsonl"].map(|file| std::fs::read(path.join(file)).unwrap());
    let before = kept();

    // It may run beside the gateway, and long after the freeze.
    let rehearsal = launch().rehearse_at("3001-01-01T12:00:00Z").start();
    rehearsal.get("/balance").send().expect(200);
    let frozen = rehearsal.get("/balance").at("2998-01-01T12:00:00Z").send();
    frozen.expect_problem(503, "frozen");
    api(&rehearsal, "PUT", "/freezes/status").send().expect(200);
    rehearsal.get("/status").send().expect_problem(503, "frozen");
    api(&rehearsal, "DELETE", "/freezes/status").send().expect(200);
    rehearsal.get("/status").send().expect(200);
    revoke(&rehearsal, "t2");
    api(&rehearsal, "DELETE", "/revocations?jti=t1").send().expect(200);
    rehearsal.stop();
    assert_eq!(kept(), before);
    gateway.stop();
    let gateway = launch().start();
    gateway.get("/balance").send().expect_problem(503, "frozen");
    gateway.get("/status").send().expect(200);
}

#[test]
fn keeps_a_frozen_name_from_being_dropped() {
    let bank = Bank::open();
    let without = guarded(BANK, &bank.upstream, &bank.issuer).replace("  transfer: {", "  move: {");
    bank.freeze("transfer", &json!({"for": "1h"}));
    assert!(!bank.gateway.reload(&without));
    assert!(
        bank.gateway.log().contains("route `transfer` is frozen"),
        "{}",
        bank.gateway.log()
    );
    let status = bank.api("GET", "/status").send().expect(200).json();
    assert_eq!(status["reloads"]["failed"], 1, "{status}");
    assert!(
        status["reloads"]["errors"][0]
            .as_str()
            .unwrap()
            .contains("thaw transfer"),
        "{status}"
    );
    bank.transfer().send().expect_problem(503, "frozen");
    bank.thaw("transfer");
    assert!(bank.gateway.hang_up());
    bank.transfer().send().expect(200);
}

#[test]
fn tells_who_froze_what_and_why() {
    let bank = Bank::open();
    bank.freeze("transfer", &json!({"until": "13:00", "reason": "a \"wave\""}));
    bank.transfer().at(NOON).send().expect_problem(503, "frozen");
    let metrics = bank.gateway.metrics();
    let frozen = metrics.value("gwanmun_freezes", &[("kind", "route"), ("name", "transfer")]);
    assert_eq!(frozen, Some(1.0), "{}", metrics.text);
    let refusals = [("route", "transfer"), ("rule", "freeze"), ("effect", "deny")];
    eventually("the refusal is counted", || {
        let counted = bank.gateway.metrics().value("gwanmun_decisions_total", &refusals);
        (counted == Some(1.0)).then_some(())
    });
    bank.gateway.get("/transfers").header("x-shop", "s1").send().expect(200);
    bank.thaw("transfer");
    assert_eq!(bank.gateway.metrics().value("gwanmun_freezes", &[]), None);

    // Each record is decided again when the gateway ends.
    let records = bank.gateway.stop();
    let kinds: Vec<_> = records
        .iter()
        .map(|record| record["kind"].as_str().unwrap_or("request"))
        .collect();
    assert_eq!(kinds, ["freeze", "request", "request", "thaw"]);
    let freeze = &records[0];
    for (member, expected) in [
        ("route", "transfer"),
        ("until", "2026-11-24T04:00:00Z"),
        ("reason", "a \"wave\""),
        ("address", "127.0.0.1"),
    ] {
        assert_eq!(freeze[member], expected, "{freeze}");
    }
    let decision = &records[1]["decision"];
    assert_eq!(
        (&decision["effect"], &decision["rule"]),
        (&json!("deny"), &json!("freeze"))
    );
    assert_eq!(decision["reopens_at"], "2026-11-24T04:00:00Z");
    let answers = records[1]["answers"].as_array().unwrap();
    let answer = json!({"rule": "freeze", "freezes": [
        {"route": "transfer", "until": "2026-11-24T04:00:00Z", "reason": "a \"wave\""}
    ]});
    assert!(answers.contains(&answer), "{answers:?}");
    // What is not frozen costs a record nothing, and a limit may bear the name of the rule.
    let answers = records[2]["answers"].as_array().unwrap();
    assert!(answers.len() == 1 && answers[0]["limit"].is_object(), "{answers:?}");
}

#[test]
fn is_seen_by_explain() {
    let bank = Bank::that_keeps();
    let file = bank.gateway.folder().join("gwanmun.yaml");
    let explain = |request: &str, more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
        command
            .arg("explain")
            .arg(&file)
            .args([request, "--at", NOON, "--json"])
            .args(more);
        let (code, out, errors) = said(&command.output().unwrap());
        let told: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{errors}"));
        (code, told)
    };
    assert_eq!(explain("GET /balance", &[]).0, Some(0));
    let until = "2999-11-24T13:00:00+09:00";
    bank.freeze("accounts", &json!({"until": until, "reason": "a wave of fraud"}));
    let (code, told) = explain("GET /balance", &[]);
    assert_eq!(code, Some(1));
    let decision = json!({
        "effect": "deny", "status": 503, "policy": "freeze", "code": "frozen", "reopens_at": until,
    });
    assert_eq!(told["decision"], decision);
    assert!(told["rules"].to_string().contains("a wave of fraud"), "{told}");
    assert_eq!(explain("GET /balance", &["--no-state"]).0, Some(0));
    assert_eq!(
        explain("GET /status", &["--no-state", "--frozen", "status=14:00"]).0,
        Some(1)
    );
    assert_eq!(explain("GET /status", &["--frozen", "accounts"]).0, Some(0));
    let (_, told) = explain("GET /dashboard", &["--no-state", "--frozen", "transfers"]);
    assert!(told["rules"].to_string().contains("parts are denied"), "{told}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command
        .arg("explain")
        .arg(&file)
        .args(["GET /status", "--frozen", "statsu"]);
    let (code, _, errors) = said(&command.output().unwrap());
    assert!(code == Some(2) && errors.contains("did you mean `status`?"), "{errors}");
}

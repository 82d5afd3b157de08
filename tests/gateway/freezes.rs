//! What an operator closes is closed at once, stays closed over a restart, and is told to those who have to know.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::support::{
    Connection, Gateway, Issuer, Reply, Request, Response, Upstream, eventually, fill, refused_start,
};

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
        let upstream = Upstream::http1(|_| Reply::json(&json!({"account": "a1"})));
        let issuer = Issuer::new();
        let gateway = Gateway::with(&yaml(&upstream, &issuer)).rehearse_at(NOON);
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

fn yaml(upstream: &Upstream, issuer: &Issuer) -> String {
    fill(
        &BANK.replace("${env", "%{env"),
        &[
            ("upstream", &upstream.address()),
            ("authenticators", &issuer.authenticator()),
        ],
    )
    .replace("%{env", "${env")
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn refused(response: &Response, status: u16, code: &str) -> String {
    response.expect(status);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    let problem = response.json();
    assert_eq!(problem["code"], code, "{problem}");
    problem["detail"].as_str().unwrap_or_default().to_owned()
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
    let yaml = yaml(&upstream, &issuer).replace("state: state", &format!("state: {}", path.display()));
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
    let bank = Bank::open();
    let state = bank.gateway.folder().join("state");
    let other = format!("listen: [{{ address: 127.0.0.1:0 }}]\nstate: {}\n", state.display());
    let (code, _, errors) = said(&refused_start(&other, &[]));
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("another gateway"), "{errors}");
}

#[test]
fn keeps_a_frozen_name_from_being_dropped() {
    let bank = Bank::open();
    let without = yaml(&bank.upstream, &bank.issuer).replace("  transfer: {", "  move: {");
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
    let bank = Bank::open();
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
    bank.freeze("accounts", &json!({"until": "13:00", "reason": "a wave of fraud"}));
    let (code, told) = explain("GET /balance", &[]);
    assert_eq!(code, Some(1));
    let decision = json!({
        "effect": "deny", "status": 503, "policy": "freeze", "code": "frozen", "reopens_at": "2026-11-24T13:00:00+09:00",
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

#[test]
fn can_be_told_by_command() {
    let bank = Bank::open();
    let (code, out, errors) = said(&bank.ctl(&["freeze", "transfer", "--until", "06:00", "--reason", "a wave"]));
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(out, "froze route `transfer` until 2026-11-25T06:00:00+09:00 (a wave)\n");
    bank.transfer().at(NOON).send().expect_problem(503, "frozen");
    let (code, out, _) = said(&bank.ctl(&["status"]));
    assert_eq!(code, Some(0));
    for part in [
        "version    ",
        "frozen     route `transfer` until 2026-11-25T06",
        " by 127.0.0.1",
        "0 refused",
        "(a rehearsal)",
    ] {
        assert!(out.contains(part), "no {part} in\n{out}");
    }
    let (_, out, _) = said(&bank.ctl(&["status", "--json"]));
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (
            status["freezes"].as_array().unwrap().len(),
            status["config"].as_str().unwrap().len()
        ),
        (1, 64)
    );

    for (arguments, code, part) in [
        (&["freeze", "transfre"][..], 1, "did you mean `transfer`?"),
        (&["thaw", "balance"], 1, "nothing named `balance` is frozen"),
        (
            &["freeze", "transfer", "--until", "yesterday"],
            1,
            "`yesterday` is not an instant",
        ),
        (&["freeze", "transfer", "--for", "2"], 1, "not a duration"),
        (&["freeze", "transfer", "--for", "2h", "--until", "06:00"], 2, "--until"),
        (&["freeze", "a/../b"], 2, "no name"),
        (&["--admin", "http://127.0.0.1:1", "status"], 2, "no gateway answers"),
        (&["--admin", "http://gate.example", "status"], 2, "no gateway answers"),
    ] {
        let (found, _, errors) = said(&bank.ctl(arguments));
        assert_eq!(found, Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "no {part} in {errors}");
        assert!(!errors.contains(TOKEN) && !errors.contains("panicked"), "{errors}");
    }
    let (code, out, _) = said(&bank.ctl(&["thaw", "transfer"]));
    assert_eq!((code, out.as_str()), (Some(0), "thawed route `transfer`\n"));
    bank.transfer().at(NOON).send().expect(200);

    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command.args(["ctl", "status"]).env_remove("GWANMUN_ADMIN_TOKEN");
    let (code, _, errors) = said(&command.output().unwrap());
    assert!(code == Some(2) && errors.contains("GWANMUN_ADMIN_TOKEN"), "{errors}");
}

#[test]
fn obeys_nobody_without_the_token() {
    let bank = Bank::open();
    let asks = |request: Request| refused(&request.send(), 401, "token-missing");
    for (method, target) in [
        ("GET", "/status"),
        ("GET", "/freezes"),
        ("PUT", "/freezes/transfer"),
        ("DELETE", "/freezes/x"),
    ] {
        asks(bank.gateway.admin(method, target));
        let half = TOKEN.get(..32).unwrap();
        for wrong in [
            half,
            "",
            "x",
            &TOKEN.to_uppercase(),
            &format!("{TOKEN}x"),
            &"x".repeat(8000),
        ] {
            let response = bank.gateway.admin(method, target).bearer(wrong).send();
            assert_eq!(
                response.header("www-authenticate"),
                Some("Bearer realm=\"gwanmun admin\"")
            );
            assert!(!response.text().contains(TOKEN));
            refused(&response, 401, "token-invalid");
        }
    }
    let basic = bank
        .gateway
        .admin("GET", "/status")
        .header("authorization", &format!("Basic {TOKEN}"));
    refused(&basic.send(), 401, "token-invalid");
    asks(bank.gateway.admin("GET", "/status").bearer("x").bearer(TOKEN));
    asks(bank.gateway.admin("GET", &format!("/status?token={TOKEN}")));
    // A page of another name, resolved to this machine.
    let rebound = bank.api("PUT", "/freezes/transfer").host("evil.example").send();
    refused(&rebound, 421, "host-unknown");
    bank.transfer().at(NOON).send().expect(200);
    bank.api("GET", "/status").send().expect(200);
    for open in ["/healthz", "/readyz", "/metrics"] {
        bank.gateway.admin("GET", open).send().expect(200);
    }
    assert!(!bank.gateway.log().contains(TOKEN));
}

#[test]
fn is_not_hurt_by_hostile_orders() {
    let bank = Bank::open();
    let put = |target: &str, body: &[u8]| bank.api("PUT", target).body(body).send();
    for (body, status, code) in [
        (&b"{"[..], 400, "body-unreadable"),
        (b"[]", 400, "body-unreadable"),
        (b"null", 400, "body-unreadable"),
        (b"\xff\xfe", 400, "body-unreadable"),
        (b"{\"until\": 6}", 400, "body-unreadable"),
        (b"{\"untl\": \"06:00\"}", 400, "body-unreadable"),
        (b"{\"until\": \"06:00\", \"until\": \"07:00\"}", 400, "body-unreadable"),
        (b"{\"until\": \"2020-01-01T00:00:00Z\"}", 422, "until-invalid"),
        (b"{\"until\": \"\"}", 422, "until-invalid"),
        (b"{\"for\": \"0s\"}", 422, "until-invalid"),
        (b"{\"for\": \"-1h\"}", 422, "until-invalid"),
        (b"{\"for\": \"&a [*a]\"}", 422, "until-invalid"),
        (b"{\"for\": \"1h\", \"until\": \"06:00\"}", 422, "until-invalid"),
        (b"{\"reason\": \"one\\nERROR another line\"}", 422, "reason-invalid"),
    ] {
        refused(&put("/freezes/transfer", body), status, code);
    }
    refused(
        &put(
            "/freezes/transfer",
            json!({"reason": "x".repeat(501)}).to_string().as_bytes(),
        ),
        422,
        "reason-invalid",
    );
    refused(&put("/freezes/transfer", &vec![b' '; 17 << 10]), 413, "body-too-large");
    let chunked = bank
        .api("PUT", "/freezes/transfer")
        .body(vec![b' '; 17 << 10])
        .chunked()
        .send();
    refused(&chunked, 413, "body-too-large");
    refused(&put("/freezes/transfer?kind=both", b""), 422, "kind-invalid");
    assert!(refused(&put("/freezes/transfre", b""), 404, "name-unknown").contains("did you mean `transfer`?"));
    refused(&put("/freezes/transfer?kind=upstream", b""), 404, "name-unknown");
    refused(
        &put(&format!("/freezes/{}", "x".repeat(5000)), b""),
        404,
        "name-unknown",
    );
    refused(&put("/freezes/a%00b", b""), 404, "name-unknown");
    refused(
        &bank.api("PATCH", "/freezes/transfer").send(),
        405,
        "method-not-allowed",
    );
    refused(&bank.api("DELETE", "/freezes").send(), 405, "method-not-allowed");
    // Somebody who promises a body and never sends it holds up nobody else.
    let mut slow = Connection::open(bank.gateway.admin_address());
    let head = format!(
        "PUT /freezes/transfer HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Length: 10\r\n\r\n{{"
    );
    assert!(slow.send(head.as_bytes()));
    bank.transfer().at(NOON).send().expect(200);
    bank.freeze("transfer", &json!({}));
    bank.thaw("transfer");
    refused(&slow.response(), 400, "body-unreadable");
}

#[test]
fn asks_for_a_folder_to_keep_a_freeze_in() {
    let yaml = "admin: { address: 127.0.0.1:0, token: '${file:token}' }\nroutes:\n  status: { match: GET /status, auth: none, reply: { status: 200, json: {} } }\n";
    let gateway = Gateway::with(yaml).file("token", &format!("{TOKEN}\n")).start();
    let response = gateway.admin("PUT", "/freezes/status").bearer(TOKEN).send();
    assert!(refused(&response, 409, "state-missing").contains("`state:`"));
    gateway.get("/status").send().expect(200);

    // The folder that systemd makes for a service.
    let folder = tempfile::tempdir().unwrap();
    let listed = format!("{}:/nowhere", folder.path().display());
    let gateway = Gateway::with(yaml)
        .file("token", TOKEN)
        .environment("STATE_DIRECTORY", &listed)
        .start();
    gateway
        .admin("POST", "/freezes/status")
        .bearer(TOKEN)
        .send()
        .expect(200);
    gateway.get("/status").send().expect_problem(503, "frozen");
    assert!(folder.path().join("freezes.json").is_file());
}

#[test]
fn follows_a_token_that_changes() {
    let yaml = "admin: { address: 127.0.0.1:0, token: '${file:token}' }\nroutes:\n  status: { match: GET /status, auth: none, reply: { status: 200, json: {} } }\n";
    let gateway = Gateway::with(yaml).file("token", TOKEN).start();
    let other = TOKEN.replace('0', "9");
    std::fs::File::create(gateway.folder().join("token"))
        .unwrap()
        .write_all(other.as_bytes())
        .unwrap();
    gateway.hang_up();
    refused(
        &gateway.admin("GET", "/status").bearer(TOKEN).send(),
        401,
        "token-invalid",
    );
    gateway.admin("GET", "/status").bearer(&other).send().expect(200);
}

#[test]
fn starts_with_no_token_that_can_be_guessed() {
    let yaml = |token: &str| {
        format!("listen: [{{ address: 127.0.0.1:0 }}]\nadmin:\n  address: 127.0.0.1:0\n  token: {token}\n")
    };
    for (token, part) in [
        ("'${env:GWANMUN_NO_SUCH_TOKEN}'", "GWANMUN_NO_SUCH_TOKEN"),
        ("'${file:gwanmun.yaml}'", "visible ASCII"),
        ("0123456789abcdef0123456789abcdef", "not written here"),
    ] {
        let (code, _, errors) = said(&refused_start(&yaml(token), &[]));
        assert_eq!(code, Some(1), "{errors}");
        assert!(
            errors.contains("gwanmun.yaml:4:10") && errors.contains(part),
            "{errors}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("short"), "only-thirty-one-characters-here").unwrap();
    let short = format!("'${{file:{}}}'", folder.path().join("short").display());
    let (code, _, errors) = said(&refused_start(&yaml(&short), &[]));
    assert!(code == Some(1) && errors.contains("shorter than 32"), "{errors}");
    assert!(!errors.contains("only-thirty"), "{errors}");
}

//! Whom an operator shuts out is out from the next request on, also after a restart, and is told to those who have to know.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{
    Gateway, Issuer, Reply, Request, Response, Upstream, eventually, guarded, refused, refused_start, said,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef-not-a-secret";
const NOON: &str = "2026-11-24T12:00:00+09:00";
/// Noon, in seconds.
const NOW: i64 = 1_795_489_200;

const BANK: &str = "
admin: { address: 127.0.0.1:0, token: '${env:GWANMUN_ADMIN_TOKEN}' }
state: state
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
calendars:
  seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: 23:30-05:00 }] } }
limits:
  revocation: { key: header.x-shop, rate: 1000/s }
routes:
  balance: { match: GET /balance, auth: customer, upstream: origin, cache: { ttl: 30s, share: principal } }
  transfer: { match: POST /transfers, auth: customer, limits: [revocation], upstream: origin }
  offers: { match: GET /offers, auth: [customer, none], upstream: origin }
  status: { match: GET /status, auth: none, reply: { status: 200, json: { open: true } } }
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

impl Bank {
    fn open() -> Self {
        Self::opened(|yaml| yaml)
    }

    fn opened(change: impl Fn(String) -> String) -> Self {
        let upstream = Upstream::http1(|_| Reply::json(&json!({"account": "a1"})));
        let issuer = Issuer::new();
        let yaml = change(guarded(BANK, &upstream, &issuer));
        let gateway = Gateway::with(&yaml).rehearse_at(NOON);
        Self {
            gateway: gateway.environment("GWANMUN_ADMIN_TOKEN", TOKEN).start(),
            issuer,
            upstream,
        }
    }

    /// A bank that keeps what is revoked, as no rehearsal does.
    fn that_keeps() -> Self {
        let upstream = Upstream::http1(|_| Reply::json(&json!({"account": "a1"})));
        let issuer = Issuer::new();
        let gateway = Gateway::with(&guarded(BANK, &upstream, &issuer));
        Self {
            gateway: gateway.environment("GWANMUN_ADMIN_TOKEN", TOKEN).start(),
            issuer,
            upstream,
        }
    }

    fn api(&self, method: &str, target: &str) -> Request {
        self.gateway.admin(method, target).bearer(TOKEN)
    }

    fn order(&self, order: &Value) -> Response {
        self.api("POST", "/revocations").body(order.to_string()).send()
    }

    #[track_caller]
    fn revoke(&self, order: &Value) -> Value {
        self.order(order).expect(200).json()["revoked"].clone()
    }

    #[track_caller]
    fn lift(&self, whom: &str) -> Value {
        let lifted = self.api("DELETE", &format!("/revocations?{whom}")).send();
        lifted.expect(200).json()["lifted"].clone()
    }

    fn token(&self, sub: &str, jti: &str) -> String {
        self.issuer.token(&json!({"sub": sub, "jti": jti, "iat": NOW - 60}))
    }

    fn balance(&self, token: &str) -> Response {
        self.gateway.get("/balance").bearer(token).send()
    }

    fn ctl(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
        command.arg("ctl").args(arguments).env("GWANMUN_ADMIN_TOKEN", TOKEN);
        command.env("GWANMUN_ADMIN", self.gateway.admin_address().to_string());
        said(&command.stdin(Stdio::null()).output().expect("the binary runs"))
    }
}

#[track_caller]
fn is_revoked(response: &Response) {
    response.expect_problem(401, "token-revoked");
    assert_eq!(
        response.header("www-authenticate"),
        Some("Bearer realm=\"gwanmun\", error=\"invalid_token\"")
    );
    assert!(!response.text().contains("stolen"), "the reason is for operators");
}

#[test]
fn shuts_out_a_caller_and_nobody_else() {
    let bank = Bank::open();
    let (one, other) = (bank.token("u1", "t1"), bank.token("u2", "t2"));
    for token in [&one, &other] {
        bank.balance(token).expect(200);
    }
    let remembered = || {
        bank.gateway
            .metrics()
            .value("gwanmun_tokens_remembered", &[("authenticator", "customer")])
    };
    assert_eq!(remembered(), Some(2.0));
    let revoked = bank.revoke(&json!({"subject": "u1", "authenticator": "customer", "reason": "stolen phone"}));
    let issuer = bank.issuer.url();
    assert_eq!(
        revoked,
        json!([{"whom": "identity", "authenticator": "customer", "issuer": issuer, "subject": "u1", "until": null}])
    );
    // What was remembered of it is forgotten, and what is stored for it is no way around.
    assert_eq!(remembered(), Some(1.0));
    let seen = bank.upstream.seen().len();
    is_revoked(&bank.balance(&one));
    is_revoked(&bank.gateway.post("/transfers").bearer(&one).send());
    // A bad token is refused where none would be fine.
    is_revoked(&bank.gateway.get("/offers").bearer(&one).send());
    // Who logs in again is still out.
    let later = bank.issuer.token(&json!({"sub": "u1", "jti": "t9", "iat": NOW + 5}));
    is_revoked(&bank.balance(&later));
    assert_eq!(bank.upstream.seen().len(), seen);
    bank.balance(&other).expect(200);
    bank.gateway.get("/offers").send().expect(200);
    bank.gateway.get("/status").bearer(&one).send().expect(200);
    // It is known before the route is: a freeze is told to nobody who may not call.
    bank.api("PUT", "/freezes/transfer").send().expect(200);
    is_revoked(&bank.gateway.post("/transfers").bearer(&one).send());

    bank.lift("subject=u1&authenticator=customer");
    bank.balance(&one).expect(200);
    let gone = bank.api("DELETE", "/revocations?subject=u1").send();
    refused(&gone, 404, "not-revoked");
}

#[test]
fn lets_in_who_logs_in_again() {
    let bank = Bank::open();
    let with = |iat: Value| bank.issuer.token(&json!({"sub": "u1", "iat": iat}));
    let (before, after) = (with(json!(NOW - 60)), with(json!(NOW + 3600)));
    let silent = with(Value::Null);
    for token in [&before, &after, &silent] {
        bank.balance(token).expect(200);
    }
    let revoked = bank.revoke(&json!({"subject": "u1", "issued_before": "now"}));
    let instant = revoked[0]["issued_before"].as_str().unwrap_or_default();
    assert!(
        instant.starts_with("2026-11-24T12:0") && instant.ends_with("+09:00"),
        "{revoked}"
    );
    is_revoked(&bank.balance(&before));
    bank.balance(&after).expect(200);
    is_revoked(&bank.balance(&silent));
    bank.balance(&bank.issuer.token(&json!({"sub": "u2"}))).expect(200);
}

#[test]
fn ends_when_it_was_told_to() {
    let bank = Bank::open();
    let token = bank.token("u1", "t1");
    bank.revoke(&json!({"subject": "u1", "until": "13:00"}));
    bank.revoke(&json!({"subject": "u1", "for": "1s"}));
    let at = |instant: &str| bank.gateway.get("/balance").bearer(&token).at(instant).send();
    is_revoked(&at(NOON));
    is_revoked(&at("2026-11-24T12:59:59+09:00"));
    at("2026-11-24T13:00:00+09:00").expect(200);
}

#[test]
fn revokes_one_token_of_several() {
    let bank = Bank::open();
    let (one, other) = (bank.token("u1", "t1"), bank.token("u1", "t2"));
    let expires = NOW + 600;
    let revoked = bank.revoke(&json!({"jti": "t1", "expires": expires}));
    // Five minutes longer, as clocks differ.
    assert_eq!(revoked[0]["until"], "2026-11-24T12:15:00+09:00");
    is_revoked(&bank.balance(&one));
    bank.balance(&other).expect(200);
    bank.lift("jti=t1");
    bank.balance(&one).expect(200);
}

#[test]
fn revokes_a_subject_whoever_vouches_for_it() {
    let (upstream, one, other) = (
        Upstream::http1(|_| Reply::json(&json!({}))),
        Issuer::new(),
        Issuer::new(),
    );
    let second = other
        .authenticator()
        .replace("authenticators:\n", "")
        .replace("customer", "partner");
    let both = format!("{}{second}", one.authenticator());
    let yaml = guarded(BANK, &upstream, &one)
        .replace(&one.authenticator(), &both)
        .replace("auth: customer", "auth: [customer, partner]")
        .replace("auth: [customer, none]", "auth: partner");
    let gateway = Gateway::with(&yaml)
        .environment("GWANMUN_ADMIN_TOKEN", TOKEN)
        .rehearse_at(NOON)
        .start();
    let bank = Bank {
        gateway,
        issuer: one,
        upstream,
    };
    let tokens = [&bank.issuer, &other].map(|issuer| issuer.token(&json!({"iat": NOW - 60})));
    let answers = || tokens.each_ref().map(|token| bank.balance(token).status);
    // The subject alone is nobody in particular.
    let detail = refused(&bank.order(&json!({"subject": "u1"})), 422, "whom-invalid");
    assert!(detail.contains("authenticator"), "{detail}");
    bank.revoke(&json!({"subject": "u1", "authenticator": "partner"}));
    assert_eq!(answers(), [200, 401]);
    bank.lift("subject=u1&authenticator=partner");
    bank.revoke(&json!({"subject": "u1", "anywhere": true}));
    assert_eq!(answers(), [401, 401]);
    bank.lift("subject=u1&anywhere=true");
    bank.revoke(&json!({"authenticator": "customer", "issued_before": "now"}));
    assert_eq!(answers(), [401, 200]);
    bank.lift("authenticator=customer");
    bank.revoke(&json!({"issuer": other.url(), "issued_before": NOON}));
    assert_eq!(answers(), [200, 401]);
    bank.lift(&format!("issuer={}", other.url()));
    bank.revoke(&json!({"everybody": true, "issued_before": "now"}));
    assert_eq!(answers(), [401, 401]);
    bank.lift("everybody=true");
    assert_eq!(answers(), [200, 200]);
}

#[test]
fn survives_a_restart() {
    let upstream = Upstream::http1(|_| Reply::json(&json!({})));
    let issuer = Issuer::new();
    let state = tempfile::tempdir().unwrap();
    let path = state.path().join("gate");
    let yaml = guarded(BANK, &upstream, &issuer).replace("state: state", &format!("state: {}", path.display()));
    let start = || Gateway::with(&yaml).environment("GWANMUN_ADMIN_TOKEN", TOKEN).start();
    let order = |gateway: &Gateway, order: &Value| {
        let sent = gateway
            .admin("POST", "/revocations")
            .bearer(TOKEN)
            .body(order.to_string());
        sent.send().expect(200);
    };
    let tokens = ["u1", "u2", "u3"].map(|sub| issuer.token(&json!({"sub": sub, "jti": sub})));
    let answers = |gateway: &Gateway| {
        tokens
            .each_ref()
            .map(|token| gateway.get("/balance").bearer(token).send().status)
    };
    let first = start();
    assert_eq!(answers(&first), [200, 200, 200]);
    order(&first, &json!({"subject": "u1", "issued_before": "now"}));
    order(&first, &json!({"jti": "u2"}));
    assert_eq!(answers(&first), [401, 401, 200]);
    use std::os::unix::fs::PermissionsExt;
    let file = path.join("revocations.jsonl");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    first.stop();

    let second = start();
    assert_eq!(answers(&second), [401, 401, 200]);
    let lifted = second.admin("DELETE", "/revocations?jti=u2").bearer(TOKEN).send();
    lifted.expect(200);
    // A reload changes nothing about it.
    assert!(second.reload(&yaml.replace("open: true", "open: yes")));
    assert_eq!(answers(&second), [401, 200, 200]);
    second.stop();

    let third = start();
    assert_eq!(answers(&third), [401, 200, 200]);
    third.stop();

    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"sub\":\"u3\",\n");
    std::fs::write(&file, text).unwrap();
    let open =
        format!("listen:\n  - address: 127.0.0.1:0\n{yaml}").replace(", token: '${env:GWANMUN_ADMIN_TOKEN}'", "");
    let (code, _, errors) = said(&refused_start(&open, &[]));
    assert_eq!(code, Some(2), "{errors}");
    assert!(
        errors.contains("revocations.jsonl") && !errors.contains("panicked"),
        "{errors}"
    );
}

#[test]
fn is_forgotten_with_the_last_token_it_could_hit() {
    let state = tempfile::tempdir().unwrap();
    let file = state.path().join("revocations.jsonl");
    let (upstream, issuer) = (Upstream::http1(|_| Reply::json(&json!({}))), Issuer::new());
    let line = |sub: &str, before: &str| {
        let url = issuer.url();
        format!(
            "{{\"authenticator\":\"customer\",\"issuer\":\"{url}\",\"sub\":\"{sub}\",\"issued_before\":\"{before}\"}}\n"
        )
    };
    let (long_ago, not_yet) = ("2026-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    let text = format!("{{\"v\":1}}\n{}{}", line("u1", long_ago), line("u2", not_yet));
    std::fs::write(&file, text).unwrap();
    let limited = issuer.authenticator() + "      max_lifetime: 1h\n";
    let yaml = guarded(BANK, &upstream, &issuer)
        .replace("state: state", &format!("state: {}", state.path().display()))
        .replace(&issuer.authenticator(), &limited);
    let start = |at: Option<&str>| {
        let gateway = Gateway::with(&yaml).environment("GWANMUN_ADMIN_TOKEN", TOKEN);
        match at {
            Some(at) => gateway.rehearse_at(at).start(),
            None => gateway.start(),
        }
    };
    let held = |gateway: &Gateway| {
        let told = gateway
            .admin("GET", "/revocations")
            .bearer(TOKEN)
            .send()
            .expect(200)
            .json();
        (
            told["revocations"]["held"].clone(),
            told["revocations"]["floors"].clone(),
        )
    };
    // A rehearsal is no reason to forget anything.
    let rehearsal = start(Some("2036-11-24T12:00:00Z"));
    assert_eq!(held(&rehearsal), (json!(2), json!(0)));
    rehearsal.stop();
    let gateway = start(None);
    eventually("one is forgotten", || {
        (held(&gateway) == (json!(1), json!(1))).then_some(())
    });
    // Tokens that live longer are not taken meanwhile.
    let now = jiff::Timestamp::now().as_second();
    let ask = |gateway: &Gateway, iat: i64, exp: i64| {
        let token = issuer.token(&json!({"iat": iat, "exp": exp}));
        gateway.get("/balance").bearer(&token).send()
    };
    ask(&gateway, now - 60, now + 3000).expect(200);
    ask(&gateway, now - 60, now + 3600).expect_problem(401, "token-lifetime");
    let old = 1_767_225_000;
    ask(&gateway, old, now + 600).expect_problem(401, "token-lifetime");
    // Were they to be taken from now on, those from before what was forgotten would stay out.
    assert!(gateway.reload(&yaml.replace("max_lifetime: 1h", "max_lifetime: 87600h")));
    is_revoked(&ask(&gateway, old, now + 600));
    ask(&gateway, old + 600, now + 600).expect(200);
}

#[test]
fn tells_who_revoked_what_and_why() {
    let bank = Bank::open();
    let token = bank.token("u1", "t1");
    bank.revoke(&json!({"subject": "u1", "until": "13:00", "reason": "a \"stolen\" phone"}));
    is_revoked(&bank.gateway.get("/balance").bearer(&token).at(NOON).send());
    bank.gateway
        .post("/transfers")
        .bearer(&bank.token("u2", "t2"))
        .header("x-shop", "s1")
        .send()
        .expect(200);
    bank.revoke(&json!({"authenticator": "customer", "issued_before": NOON}));
    let metrics = bank.gateway.metrics();
    let count = |whom: &str| metrics.value("gwanmun_revocations", &[("whom", whom)]);
    assert_eq!(
        (count("identity"), count("authenticator"), count("token")),
        (Some(1.0), Some(1.0), Some(0.0))
    );
    assert!(
        metrics
            .value("gwanmun_revocations_bytes", &[])
            .is_some_and(|bytes| bytes > 0.0)
    );
    let refusals = [("route", "balance"), ("rule", "revocation"), ("effect", "challenge")];
    eventually("the refusal is counted", || {
        let counted = bank.gateway.metrics().value("gwanmun_decisions_total", &refusals);
        (counted == Some(1.0)).then_some(())
    });
    let status = bank.api("GET", "/status").send().expect(200).json();
    assert_eq!(
        (&status["revocations"]["held"], &status["revocations"]["identity"]),
        (&json!(2), &json!(1))
    );
    bank.lift("subject=u1");
    let log = bank.gateway.log();
    assert!(
        log.contains("revoked a caller of `customer` until 2026-11-24T13:00:00+09:00"),
        "{log}"
    );
    assert!(!log.contains("u1"), "the log names nobody: {log}");

    // Each record is decided again when the gateway ends.
    let issuer = bank.issuer.url();
    let records = bank.gateway.stop();
    let kinds: Vec<_> = records
        .iter()
        .map(|record| record["kind"].as_str().unwrap_or("request"))
        .collect();
    assert_eq!(kinds, ["revoke", "request", "request", "revoke", "unrevoke"]);
    for (member, expected) in [
        ("whom", "identity"),
        ("authenticator", "customer"),
        ("issuer", &issuer),
        ("sub", "u1"),
        ("until", "2026-11-24T04:00:00Z"),
        ("reason", "a \"stolen\" phone"),
        ("address", "127.0.0.1"),
    ] {
        assert_eq!(records[0][member], expected, "{}", records[0]);
    }
    let decision = &records[1]["decision"];
    assert_eq!(
        (&decision["effect"], &decision["rule"]),
        (&json!("challenge"), &json!("revocation"))
    );
    assert_eq!(records[1]["principal"]["sub"], "u1");
    assert_eq!(records[1]["claimed_sub"], Value::Null);
    let answer = json!({"rule": "revocation", "revoked": {"whom": "identity", "until": "2026-11-24T04:00:00Z"}});
    assert!(
        records[1]["answers"].as_array().unwrap().contains(&answer),
        "{}",
        records[1]
    );
    // What is not revoked costs a record nothing, and a limit may bear the name of the rule.
    let answers = records[2]["answers"].as_array().unwrap();
    assert!(answers.len() == 2 && answers[1]["limit"].is_object(), "{answers:?}");
    assert_eq!(records[3]["issued_before"], "2026-11-24T03:00:00Z");
    assert_eq!(
        (&records[4]["sub"], &records[4]["until"]),
        (&json!("u1"), &json!("2026-11-24T04:00:00Z"))
    );
}

#[test]
fn can_be_told_by_command() {
    let bank = Bank::open();
    let token = bank.token("u1&a=b+c", "t1");
    let (code, out, _) = bank.ctl(&["revocations"]);
    assert_eq!(code, Some(0));
    assert!(out.starts_with("nothing; 0 of 1048576 at most, "), "{out}");
    let who = ["--subject", "u1&a=b+c", "--authenticator", "customer"];
    let (code, out, errors) = bank.ctl(&[&["revoke"], &who[..], &["--for", "1h", "--reason", "stolen"]].concat());
    assert_eq!(code, Some(0), "{errors}");
    let expected = format!(
        "revoked `u1&a=b+c` of `customer` ({}) until 2026-11-24T13:0",
        bank.issuer.url()
    );
    assert!(out.starts_with(&expected), "{out}");
    is_revoked(&bank.balance(&token));
    let (_, out, _) = bank.ctl(&["revoke", "--jti", "t7", "--expires", "1795500000"]);
    assert!(out.starts_with("revoked token `t7` of `customer`"), "{out}");
    let (_, out, _) = bank.ctl(&["revoke", "--everybody", "--issued-before", "2020-01-01T00:00:00Z"]);
    assert_eq!(out, "revoked everything, issued before 2020-01-01T09:00:00+09:00\n");
    let (_, out, _) = bank.ctl(&["status"]);
    assert!(
        out.contains("\nrevoked    1 callers, 1 tokens, 1 everybody up to an instant; 3 of 1048576"),
        "{out}"
    );
    let (_, out, _) = bank.ctl(&["revocations", "--json"]);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["revocations"]["held"], 3);
    let (code, out, _) = bank.ctl(&[&["unrevoke"], &who[..]].concat());
    assert!(
        code == Some(0) && out.starts_with("lifted: `u1&a=b+c` of `customer`"),
        "{out}"
    );
    bank.balance(&token).expect(200);

    for (arguments, code, part) in [
        (&["unrevoke", "--subject", "u1"][..], 1, "nothing is revoked"),
        (
            &["revoke", "--subject", "u1", "--authenticator", "custmer"],
            1,
            "did you mean `customer`?",
        ),
        (
            &["revoke", "--subject", "u1", "--issuer", "https://evil.example"],
            1,
            "the issuer of `customer` is",
        ),
        (&["revoke", "--authenticator", "customer"], 1, "`issued_before`"),
        (&["revoke"], 1, "say whose"),
        (&["revoke", "--subject", "u1", "--jti", "t1"], 2, "--jti"),
        (
            &["revoke", "--subject", "u1", "--anywhere", "--issuer", "i"],
            2,
            "--issuer",
        ),
        (&["revoke", "--everybody", "--subject", "u1"], 2, "--subject"),
        (
            &["revoke", "--subject", "u1", "--for", "1h", "--until", "06:00"],
            2,
            "--until",
        ),
        (
            &["revoke", "--subject", "u1", "--issued-before", "tomorrow"],
            1,
            "not an instant",
        ),
    ] {
        let (found, _, errors) = bank.ctl(arguments);
        assert_eq!(found, Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(part), "no {part} in {errors}");
        assert!(!errors.contains(TOKEN) && !errors.contains("panicked"), "{errors}");
    }
}

#[test]
fn is_not_hurt_by_hostile_orders() {
    let bank = Bank::open();
    for (method, target) in [
        ("GET", "/revocations"),
        ("POST", "/revocations"),
        ("DELETE", "/revocations?subject=u1"),
    ] {
        refused(&bank.gateway.admin(method, target).send(), 401, "token-missing");
        refused(
            &bank.gateway.admin(method, target).bearer("x").send(),
            401,
            "token-invalid",
        );
        let rebound = bank.api(method, target).host("evil.example").send();
        refused(&rebound, 421, "host-unknown");
    }
    refused(&bank.api("PUT", "/revocations").send(), 405, "method-not-allowed");
    refused(&bank.api("POST", "/revocations/u1").send(), 404, "page-unknown");
    let body = |body: &[u8]| bank.api("POST", "/revocations").body(body).send();
    for unreadable in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"{\"subject\": 1}",
        b"{\"sub\": \"u1\"}",
        b"{\"subject\": \"u1\", \"subject\": \"u2\"}",
        b"{\"subject\": \"u1\", \"anywhere\": \"true\"}",
    ] {
        refused(&body(unreadable), 400, "body-unreadable");
    }
    refused(&body(&vec![b' '; 17 << 10]), 413, "body-too-large");
    let far = "2026-11-24T12:06:00+09:00";
    for (order, status, code) in [
        (json!({}), 422, "whom-invalid"),
        (json!({"subject": ""}), 422, "whom-invalid"),
        (json!({"subject": "a\nb"}), 422, "whom-invalid"),
        (json!({"subject": "u1", "jti": "t1"}), 422, "whom-invalid"),
        (json!({"subject": "u1", "everybody": true}), 422, "whom-invalid"),
        (json!({"jti": "t1", "anywhere": true}), 422, "whom-invalid"),
        (
            json!({"authenticator": "customer", "issuer": bank.issuer.url(), "issued_before": "now"}),
            422,
            "whom-invalid",
        ),
        (
            json!({"issuer": "https://evil.example", "issued_before": "now"}),
            404,
            "name-unknown",
        ),
        (
            json!({"authenticator": "x".repeat(5000), "issued_before": "now"}),
            404,
            "name-unknown",
        ),
        (json!({"everybody": true}), 422, "issued-before-invalid"),
        (
            json!({"everybody": true, "issued_before": ""}),
            422,
            "issued-before-invalid",
        ),
        // A slip of the pen must not lock everybody out for years.
        (
            json!({"everybody": true, "issued_before": far}),
            422,
            "issued-before-invalid",
        ),
        (
            json!({"subject": "u1", "issued_before": "+010000-01-01T00:00:00Z"}),
            422,
            "issued-before-invalid",
        ),
        (
            json!({"jti": "t1", "issued_before": "now"}),
            422,
            "issued-before-invalid",
        ),
        (json!({"jti": "t1", "for": "1h"}), 422, "until-invalid"),
        (
            json!({"subject": "u1", "issued_before": "now", "for": "1h"}),
            422,
            "until-invalid",
        ),
        (
            json!({"subject": "u1", "until": "2020-01-01T00:00:00Z"}),
            422,
            "until-invalid",
        ),
        (json!({"subject": "u1", "expires": 1}), 422, "expires-invalid"),
        (json!({"jti": "t1", "expires": 1}), 422, "expires-invalid"),
        (json!({"jti": "t1", "expires": u64::MAX}), 422, "expires-invalid"),
        (json!({"jti": "t1", "expires": [1]}), 422, "expires-invalid"),
        (
            json!({"subject": "u1", "reason": "one\nERROR another line"}),
            422,
            "reason-invalid",
        ),
    ] {
        refused(&bank.order(&order), status, code);
    }
    for query in [
        "",
        "subject=%FF",
        "subject=a&subject=b",
        "sub=a",
        "anywhere=yes&subject=a",
        "subject",
        "&&=&",
    ] {
        let response = bank.api("DELETE", &format!("/revocations?{query}")).send();
        refused(&response, 422, "whom-invalid");
    }
    refused(
        &bank
            .api("DELETE", "/revocations?authenticator=nobody&issuer=i&subject=u")
            .send(),
        404,
        "not-revoked",
    );
    let held = bank.api("GET", "/revocations").send().expect(200).json();
    assert_eq!(held["revocations"]["held"], 0);
    bank.balance(&bank.token("u1", "t1")).expect(200);
    assert!(!bank.gateway.folder().join("state/revocations.jsonl").exists());
}

#[test]
fn asks_for_a_folder_to_keep_a_revocation_in() {
    let bank = Bank::opened(|yaml| yaml.replace("state: state\n", ""));
    let detail = refused(&bank.order(&json!({"subject": "u1"})), 409, "state-missing");
    assert!(detail.contains("`state:`"), "{detail}");
    bank.balance(&bank.token("u1", "t1")).expect(200);
}

#[test]
fn is_seen_by_explain() {
    let bank = Bank::that_keeps();
    let file = bank.gateway.folder().join("gwanmun.yaml");
    let claims = bank.gateway.folder().join("u1.json");
    std::fs::write(&claims, json!({"sub": "u1", "iat": NOW - 60}).to_string()).unwrap();
    let explain = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
        command.env("GWANMUN_ADMIN_TOKEN", TOKEN).arg("explain").arg(&file);
        command
            .args(["GET /balance", "--at", NOON, "--json", "--as"])
            .arg(&claims);
        let (code, out, errors) = said(&command.args(more).output().unwrap());
        let told: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{errors}"));
        (code, told)
    };
    assert_eq!(explain(&[]).0, Some(0));
    bank.revoke(&json!({"subject": "u1", "issued_before": "2026-11-24T12:00:05+09:00"}));
    let (code, told) = explain(&[]);
    assert_eq!(code, Some(1));
    let decision = &told["decision"];
    assert_eq!(
        (
            &decision["effect"],
            &decision["status"],
            &decision["policy"],
            &decision["code"]
        ),
        (
            &json!("challenge"),
            &json!(401),
            &json!("revocation"),
            &json!("token-revoked")
        )
    );
    assert!(
        told["rules"]
            .to_string()
            .contains("the caller issued before 2026-11-24T03:0"),
        "{told}"
    );
    assert_eq!(explain(&["--no-state"]).0, Some(0));
    let (code, told) = explain(&["--no-state", "--revoked"]);
    assert_eq!(code, Some(1));
    assert!(
        told["rules"]
            .to_string()
            .contains("everything is revoked until that is lifted"),
        "{told}"
    );
}

//! One answer made from several: all at once, under one deadline, and honest about what is missing.

mod faults;
mod inner;
mod rights;
mod shared;
mod spending;
mod written;

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use crate::support::{Gate, Gateway, Issuer, RefusingPort, Reply, Response, Seen, Upstream, fill};

const BANK: &str = "
upstreams:
  accounts:  { endpoints: [$accounts] }
  transfers: { endpoints: [$transfers] }
  invest:    { endpoints: [$invest] }
$authenticators
routes:
  dashboard:
    match: GET /dashboard
    auth: customer
    deadline: 50s
    aggregate:
      balance:     { get: 'accounts:/customers/{principal.sub}/balance', required: true, timeout: 40s }
      recent:      { get: 'transfers:/transfers?account={balance.account_id}&limit=5', default: [], timeout: 40s }
      investments: { get: 'invest:/summary/{principal.sub}', timeout: $patience }
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    accounts: Upstream,
    transfers: Upstream,
    invest: Upstream,
}

fn balance(_: &Seen) -> Reply {
    Reply::json(&json!({"account_id": "a1", "available": 100}))
}

fn recent(_: &Seen) -> Reply {
    Reply::json(&json!([{"id": 1}]))
}

fn investments(_: &Seen) -> Reply {
    Reply::json(&json!({"worth": 7}))
}

impl Bank {
    fn open() -> Self {
        Self::with_patience("40s")
    }

    /// A bank that waits that long for investments.
    fn with_patience(patience: &str) -> Self {
        let (accounts, transfers, invest) = (
            Upstream::http1(balance),
            Upstream::http1(recent),
            Upstream::http1(investments),
        );
        let issuer = Issuer::new();
        let yaml = fill(
            BANK,
            &[
                ("accounts", &accounts.address()),
                ("transfers", &transfers.address()),
                ("invest", &invest.address()),
                ("authenticators", &issuer.authenticator()),
                ("patience", &patience),
            ],
        );
        Self {
            gateway: Gateway::start(&yaml),
            issuer,
            accounts,
            transfers,
            invest,
        }
    }

    fn dashboard_of(&self, subject: &str) -> Response {
        let token = self.issuer.token(&json!({"sub": subject}));
        self.gateway.get("/dashboard").bearer(&token).send()
    }

    fn dashboard(&self) -> Response {
        self.dashboard_of("u1")
    }
}

/// The parts named in `Gwanmun-Partial`, each with its reason.
fn partial(response: &Response) -> Vec<(String, String)> {
    let members = response.list("gwanmun-partial");
    let split = |member: &String| {
        let (name, reason) = member.split_once(";").unwrap_or((member, ""));
        let reason = reason.trim().trim_start_matches("reason=").trim_matches('"');
        (name.trim().to_owned(), reason.to_owned())
    };
    members.iter().map(split).collect()
}

#[track_caller]
fn lacks(response: &Response, part: &str, reason: &str) -> Value {
    let answer = response.expect(200).json();
    assert_eq!(
        partial(response),
        [(part.to_owned(), reason.to_owned())],
        "{}",
        response.summary()
    );
    // An answer that lacks something is not to be kept.
    assert_eq!(response.header("cache-control"), Some("no-store"));
    answer
}

#[test]
fn puts_the_parts_together_in_the_order_of_the_file() {
    let bank = Bank::open();
    let response = bank.dashboard();
    assert_eq!(response.expect(200).header("content-type"), Some("application/json"));
    let expected = json!({
        "balance": {"account_id": "a1", "available": 100},
        "recent": [{"id": 1}],
        "investments": {"worth": 7},
    });
    assert_eq!(response.json(), expected);
    let text = response.text();
    let place = |name: &str| text.find(&format!("\"{name}\"")).unwrap();
    assert!(
        place("balance") < place("recent") && place("recent") < place("investments"),
        "{text}"
    );
    assert_eq!(response.header("gwanmun-partial"), None);
    assert_eq!(bank.accounts.only().target, "/customers/u1/balance");
    assert_eq!(bank.transfers.only().target, "/transfers?account=a1&limit=5");
    assert_eq!(bank.invest.only().target, "/summary/u1");
}

#[test]
fn asks_for_parts_at_once() {
    // Neither answers before both were asked: one after the other, it would time out.
    let gate = Gate::closed();
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let bank = Bank::open();
    for (upstream, reply) in [
        (&bank.accounts, balance as fn(&Seen) -> Reply),
        (&bank.invest, investments),
    ] {
        let (gate, asked) = (gate.clone(), std::sync::Arc::clone(&asked));
        upstream.answer_with(move |seen| {
            if asked.fetch_add(1, Ordering::SeqCst) == 1 {
                gate.open();
            }
            reply(seen).held_by(&gate)
        });
    }
    assert_eq!(bank.dashboard().expect(200).header("gwanmun-partial"), None);
}

#[test]
fn fails_as_a_whole_where_a_required_part_fails() {
    for (what, reply, status) in [
        (
            "a failure",
            Reply::text("stack trace of the core").with_status(500),
            502,
        ),
        (
            "a refusal",
            Reply::text("stack trace of the core").with_status(404),
            502,
        ),
        ("a redirect", Reply::status(302).header("location", "/elsewhere"), 502),
        ("a part of a part", Reply::json(&json!({})).with_status(206), 502),
        ("no JSON", Reply::text("stack trace of the core"), 502),
        (
            "broken JSON",
            Reply::typed("application/json", "{\"stack trace\":"),
            502,
        ),
        (
            "half an answer",
            Reply::json(&json!({"a": "x".repeat(5000)})).cut_short(),
            502,
        ),
    ] {
        let bank = Bank::open();
        bank.accounts.answer_with(move |_| reply.clone());
        let response = bank.dashboard();
        let problem = response.problem(&[status], &["part-failed"]);
        let problem = problem.unwrap_or_else(|why| panic!("{what}: {why}: {}", response.summary()));
        assert!(!problem.to_string().contains("stack trace"), "{what}: {problem}");
    }
}

#[test]
fn fails_as_too_slow_where_a_required_part_is() {
    let upstream = Upstream::http1(|_| Reply::never());
    let yaml = "
upstreams:
  slow: { endpoints: [$slow] }
routes:
  page:
    match: GET /page
    auth: none
    aggregate:
      part: { get: 'slow:/part', required: true, timeout: 200ms }
";
    let gateway = Gateway::start(&fill(yaml, &[("slow", &upstream.address())]));
    gateway.get("/page").send().expect_problem(504, "part-failed");
}

#[test]
fn ends_at_its_deadline() {
    let upstream = Upstream::http1(|seen| match seen.path() {
        "/fast" => Reply::json(&json!(1)),
        _ => Reply::never(),
    });
    let yaml = "
upstreams:
  origin: { endpoints: [$origin], timeout: { response: 50s } }
routes:
  page:
    match: GET /page
    auth: none
    deadline: 1s
    aggregate:
      fast: { get: 'origin:/fast', required: true }
      slow: { get: 'origin:/slow', default: later }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &upstream.address())]));
    let answer = lacks(&gateway.get("/page").send(), "slow", "timeout");
    assert_eq!(answer, json!({"fast": 1, "slow": "later"}));
}

#[test]
fn fills_in_for_a_part_that_fails() {
    let bank = Bank::open();
    bank.transfers
        .answer_with(|_| Reply::text("stack trace").with_status(500));
    let response = bank.dashboard();
    let answer = lacks(&response, "recent", "status");
    assert_eq!(
        (&answer["recent"], &answer["investments"]),
        (&json!([]), &json!({"worth": 7}))
    );
    assert!(!response.text().contains("stack trace"));
}

#[test]
fn says_why_a_part_is_missing() {
    for (reply, reason) in [
        (Reply::status(500), "status"),
        (Reply::status(302).header("location", "http://127.0.0.1/"), "status"),
        (Reply::text("{}"), "unreadable"),
        (Reply::typed("application/json", "{\"a\":"), "unreadable"),
        (Reply::typed("application/json", "{}{}"), "unreadable"),
        (Reply::never(), "timeout"),
    ] {
        let bank = Bank::with_patience("500ms");
        bank.invest.answer_with(move |_| reply.clone());
        let answer = lacks(&bank.dashboard(), "investments", reason);
        assert_eq!(answer["investments"], Value::Null);
    }
}

#[test]
fn says_that_a_part_cannot_be_reached() {
    let (alive, dead) = (Upstream::http1(|_| Reply::json(&json!(1))), RefusingPort::new());
    let yaml = "
upstreams:
  alive: { endpoints: [$alive] }
  dead:  { endpoints: [$dead] }
routes:
  page:
    match: GET /pages/{id}
    auth: none
    aggregate:
      here:  { get: 'alive:/things/{path.id}', required: true }
      there: { get: 'dead:/things/{path.id}', default: { away: true } }
";
    let gateway = Gateway::start(&fill(yaml, &[("alive", &alive.address()), ("dead", &dead.address())]));
    let answer = lacks(&gateway.get("/pages/7").send(), "there", "unreachable");
    assert_eq!(answer, json!({"here": 1, "there": {"away": true}}));
    assert_eq!(alive.only().target, "/things/7");
    // Which endpoint it was is for the operator.
    let record = gateway.records(1).remove(0);
    let (asked, address) = (&record["parts"][1]["upstream"], dead.address().to_string());
    assert_eq!(
        (&asked["endpoint"], &asked["fault"]),
        (&json!(address), &json!("refused")),
        "{record}"
    );
    let labels = [("upstream", "dead"), ("endpoint", &*address), ("class", "failed")];
    let failed = gateway.metrics().value("gwanmun_upstream_requests_total", &labels);
    assert_eq!(failed, Some(1.0));
}

#[test]
fn takes_no_content_for_null() {
    let bank = Bank::open();
    bank.invest.answer_with(|_| Reply::status(204));
    let response = bank.dashboard();
    assert_eq!(response.expect(200).json()["investments"], Value::Null);
    assert_eq!(response.header("gwanmun-partial"), None);
}

#[test]
fn passes_every_digit() {
    let bank = Bank::open();
    let number = "90071992547409931.10";
    let text = format!("{{\"account_id\":\"a1\",\"available\":{number},\"tiny\":1e-400,\"zero\":-0,\"huge\":1E400}}");
    bank.accounts
        .answer_with(move |_| Reply::typed("application/json", text.clone()));
    let response = bank.dashboard();
    let text = response.expect(200).text();
    for number in [number, "1e-400", "-0", "1E400"] {
        assert!(text.contains(&format!(":{number}")), "{number} in {text}");
    }
}

#[test]
fn spells_references_so_that_they_stay_in_their_place() {
    let bank = Bank::open();
    bank.accounts
        .answer_with(|_| Reply::json(&json!({"account_id": "a/b c&limit=999#x"})));
    bank.dashboard_of("u/../1").expect(200);
    assert_eq!(bank.accounts.only().target, "/customers/u%2F..%2F1/balance");
    assert_eq!(
        bank.transfers.only().target,
        "/transfers?account=a%2Fb%20c%26limit%3D999%23x&limit=5"
    );
}

#[test]
fn asks_nothing_that_its_references_cannot_say() {
    for odd in [
        json!({"account_id": null}),
        json!({}),
        json!({"account_id": {"a": 1}}),
        json!([1]),
    ] {
        let bank = Bank::open();
        let reply = Reply::json(&odd);
        bank.accounts.answer_with(move |_| reply.clone());
        let answer = lacks(&bank.dashboard(), "recent", "skipped");
        assert_eq!(answer["recent"], json!([]));
        assert_eq!(bank.transfers.count(), 0, "{odd}");
    }
    for subject in ["..", "."] {
        let bank = Bank::open();
        bank.dashboard_of(subject).expect_problem(502, "part-failed");
        assert_eq!(bank.accounts.count(), 0);
    }
}

#[test]
fn takes_a_number_as_reference_as_it_is_written() {
    let bank = Bank::open();
    bank.accounts
        .answer_with(|_| Reply::typed("application/json", "{\"account_id\":9007199254740993}"));
    bank.dashboard().expect(200);
    assert_eq!(
        bank.transfers.only().target,
        "/transfers?account=9007199254740993&limit=5"
    );
}

#[test]
fn tells_parts_nothing_of_the_client_but_its_language() {
    let bank = Bank::open();
    let token = bank.issuer.token(&json!({}));
    let response = bank
        .gateway
        .get("/dashboard")
        .bearer(&token)
        .header("cookie", "session=1")
        .header("x-evil", "1")
        .header("range", "bytes=0-3")
        .header("if-none-match", "\"v1\"")
        .header("accept-encoding", "gzip")
        .header("accept-language", "ko")
        .send();
    assert_eq!(response.expect(200).header("gwanmun-partial"), None);
    for upstream in [&bank.accounts, &bank.transfers, &bank.invest] {
        let seen = upstream.only();
        assert_eq!(seen.header("accept-language"), Some("ko"));
        for name in ["cookie", "x-evil", "range", "if-none-match", "x-user"] {
            assert_eq!(seen.header(name), None, "{name}");
        }
    }
}

#[test]
fn passes_no_header_of_a_part_to_the_caller() {
    let bank = Bank::open();
    bank.invest.answer_with(|seen| {
        investments(seen)
            .header("set-cookie", "session=1")
            .header("x-core", "1")
    });
    let response = bank.dashboard();
    assert!(response.expect(200).headers("set-cookie").is_empty() && response.headers("x-core").is_empty());
}

#[test]
fn stands_under_its_routes_rules() {
    let bank = Bank::open();
    bank.gateway
        .get("/dashboard")
        .send()
        .expect_problem(401, "token-missing");
    assert_eq!(bank.accounts.count() + bank.transfers.count() + bank.invest.count(), 0);
}

#[test]
fn leaves_one_record_for_the_whole() {
    let bank = Bank::open();
    bank.transfers.answer_with(|_| Reply::status(500));
    bank.dashboard().expect(200);
    let records = bank.gateway.stop();
    assert_eq!(records.len(), 1, "{records:?}");
    assert_eq!(
        (&records[0]["route"], &records[0]["status"]),
        (&json!("dashboard"), &json!(200))
    );
    let parts = records[0]["parts"].as_array().expect("its parts");
    assert_eq!(parts.len(), 3, "{}", records[0]);
    assert!(
        parts
            .iter()
            .any(|part| part["name"] == "recent" && part["reason"] == "status"),
        "{}",
        records[0]
    );
}

#[test]
fn answers_head_without_a_body() {
    let bank = Bank::open();
    let token = bank.issuer.token(&json!({}));
    let head = bank.gateway.request("HEAD", "/dashboard").bearer(&token).send();
    assert!(head.expect(200).body.is_empty());
}

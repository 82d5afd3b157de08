//! gRPC: calls of every kind with their trailers, refusals as gRPC tells them. Client and server are `@grpc/grpc-js` of npm.

use std::io::{BufRead, BufReader, Lines};
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Authority, Gateway, Issuer, RefusingPort, fill, installed};

const SCRIPTS: [&str; 3] = ["server.js", "client.js", "service.js"];
const NOON: &str = "2026-11-24T12:00:00+09:00";

/// Behind it every call goes through.
const OPEN: &str = "
listen: [{ address: 127.0.0.1:0, tls: { certificate: a.pem, key: a.key } }]
upstreams: { teller: { endpoints: [$server], protocol: http2, timeout: { response: 10s, idle: $idle } } }
$authenticators
calendars: { seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: 23:30-05:00 }] } } }
shapes: { small: { keep: [id] } }
policies:
  never: { deny: { methods: [POST] }, reply: { code: NEVER, message: { ko: '안 됩니다: 100%' } } }
  no-night: { deny: { during: seoul.night }, reply: { code: NIGHT } }
limits: { few: { key: ip, rate: 1/h } }
routes:
  call: { match: 'POST /bank.Teller/{method}', auth: none, compress: { min_size: 1B }, errors: problem, shape: small, upstream: teller }
";
/// Behind it none does.
const CLOSED: &str = "
  ask: { match: POST /bank.Teller/Ask, auth: customer, upstream: teller }
  watch: { match: POST /bank.Teller/Watch, auth: none, limits: [few], upstream: teller }
  collect: { match: POST /bank.Teller/Collect, auth: none, body: { max: 1KiB }, upstream: teller }
  talk: { match: POST /bank.Teller/Talk, auth: none, policies: [never], upstream: teller }
";

/// A process of node; it ends with this.
struct Node {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Node {
    fn start(arguments: &[&str]) -> Self {
        Self::start_at(arguments, "")
    }

    /// A client whose requests are of that instant.
    fn start_at(arguments: &[&str], at: &str) -> Self {
        let mut command = Command::new("node");
        command.arg("--no-warnings").args(arguments).env("AT", at);
        command.current_dir(installed("grpc", &SCRIPTS)).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("node runs; `make test` installs it");
        let lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        Self { child, lines }
    }

    fn line(&mut self) -> String {
        self.lines.next().expect("a line").expect("text")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    authorities: String,
    _server: Option<Node>,
}

impl Bank {
    fn open() -> Self {
        Self::with(OPEN, "5m")
    }

    fn with(template: &str, idle: &str) -> Self {
        let mut server = Node::start(&["server.js"]);
        let address = server.line();
        Self::before(template, &address, idle, Some(server))
    }

    fn before(template: &str, server: &dyn std::fmt::Display, idle: &str, node: Option<Node>) -> Self {
        let (authority, issuer) = (Authority::new(), Issuer::new());
        let own = authority.server(&["gate.example"]);
        let yaml = fill(
            template,
            &[
                ("server", server),
                ("idle", &idle),
                ("authenticators", &issuer.authenticator()),
            ],
        );
        let gateway = Gateway::with(&yaml)
            .file("a.pem", &own.chain)
            .file("a.key", &own.key)
            .file("authorities.pem", &authority.pem())
            .rehearse_at(NOON)
            .start();
        let authorities = match template.contains("tls:") {
            true => gateway.folder().join("authorities.pem").display().to_string(),
            false => "-".to_owned(),
        };
        Self {
            gateway,
            issuer,
            authorities,
            _server: node,
        }
    }

    fn client(&self, what: &str, argument: &str, token: &str) -> Node {
        let address = self.gateway.address().to_string();
        Node::start(&["client.js", what, &address, &self.authorities, argument, token])
    }

    /// What came of a call.
    fn call(&self, what: &str, argument: &str) -> Value {
        let mut client = self.client(what, argument, "");
        loop {
            let line = client.line();
            if line != "open" {
                return serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            }
        }
    }
}

#[test]
fn calls_of_every_kind_come_through_with_their_trailers() {
    let bank = Bank::open();
    let asked = bank.call("ask", "잔액?");
    assert_eq!((&asked["code"], &asked["got"]), (&json!(0), &json!("잔액?")), "{asked}");
    assert_eq!(asked["trailers"]["x-last"], "word");
    let watched = bank.call("watch", "50 20000");
    assert_eq!(
        (&watched["code"], &watched["pieces"], &watched["bytes"]),
        (&json!(0), &json!(50), &json!(1_000_000)),
        "{watched}"
    );
    assert_eq!(watched["trailers"]["x-last"], "word");
    let collected = bank.call("collect", "100 30000");
    assert_eq!(
        (&collected["code"], &collected["got"]),
        (&json!(0), &json!("3000000")),
        "{collected}"
    );
    // Each word is said only when the one before came back.
    let talked = bank.call("talk", "20");
    assert_eq!((&talked["code"], &talked["said"]), (&json!(0), &json!(20)), "{talked}");
    assert_eq!(talked["trailers"]["x-last"], "word");
    // An error of the service's own: its status, its words and its trailers.
    let failed = bank.call("ask", "fail");
    assert_eq!(
        (&failed["code"], &failed["details"], &failed["trailers"]["x-why"]),
        (&json!(9), &json!("잔액 부족: 100%"), &json!("balance")),
        "{failed}"
    );
    let headers: Value = serde_json::from_str(bank.call("ask", "headers")["got"].as_str().unwrap()).unwrap();
    assert_eq!(headers["x-forwarded-proto"], "https", "{headers}");
    let late = bank.call("deadline", "");
    assert_eq!(late["code"], 4, "{late}");
    let records = bank.gateway.stop();
    assert!(
        records.iter().all(|record| record["decision"]["effect"] == "allow"),
        "{records:#?}"
    );
}

#[test]
fn calls_need_no_tls() {
    let plain = OPEN.replace(
        "listen: [{ address: 127.0.0.1:0, tls: { certificate: a.pem, key: a.key } }]\n",
        "",
    );
    let bank = Bank::with(&plain, "5m");
    let talked = bank.call("talk", "5");
    assert_eq!((&talked["code"], &talked["said"]), (&json!(0), &json!(5)), "{talked}");
    assert_eq!(talked["trailers"]["x-last"], "word");
    let missing = bank.call("ask", "fail");
    assert_eq!(missing["code"], 9, "{missing}");
}

#[test]
fn refusals_are_told_as_grpc_tells_them() {
    let routes = OPEN.split_once("\n  call:").unwrap().0.to_owned() + CLOSED;
    let bank = Bank::with(&routes, "5m");
    bank.call("watch", "1 1");
    for (what, argument, code, words, name) in [
        ("ask", "x", 16, "", "token-missing"),
        ("nobody", "", 12, "There is nothing at this address.", "route-not-found"),
        ("watch", "1 1", 8, "", "limit-exceeded"),
        (
            "collect",
            "10 1000",
            8,
            "the request body is larger than allowed here",
            "body-too-large",
        ),
        ("talk", "1", 7, "안 됩니다: 100%", "NEVER"),
    ] {
        let refused = bank.call(what, argument);
        assert_eq!(refused["code"], code, "{what} {refused}");
        assert!(words.is_empty() || refused["details"] == words, "{what} {refused}");
        assert_eq!(refused["trailers"]["gwanmun-code"], name, "{what} {refused}");
        assert_eq!(
            refused["trailers"].get("grpc-retry-pushback-ms").is_some(),
            what == "watch",
            "{refused}"
        );
    }
    let records = bank.gateway.stop();
    let mut statuses: Vec<u64> = records
        .iter()
        .map(|record| record["status"].as_u64().unwrap())
        .collect();
    statuses.sort_unstable();
    // What detectors and people look for, whatever status a refusal is told under.
    assert_eq!(statuses, [200, 401, 403, 404, 413, 429]);
}

#[test]
fn failures_behind_the_gate_are_told_the_same_way() {
    let refusing = RefusingPort::new();
    let nobody = Bank::before(OPEN, &refusing.address(), "5m", None);
    let failed = nobody.call("ask", "x");
    assert_eq!(
        (&failed["code"], &failed["trailers"]["gwanmun-code"]),
        (&json!(14), &json!("upstream-unreachable")),
        "{failed}"
    );
    let slow = Bank::with(OPEN, "1s");
    let failed = slow.call("ask", "deadline");
    assert_eq!(
        (&failed["code"], &failed["trailers"]["gwanmun-code"]),
        (&json!(4), &json!("upstream-timeout")),
        "{failed}"
    );
}

#[test]
fn a_call_that_is_open_is_judged_again() {
    let routes = OPEN.split_once("\n  call:").unwrap().0.to_owned()
        + "\n  watch: { match: POST /bank.Teller/Watch, auth: customer, policies: [no-night], upstream: teller }\n";
    let bank = Bank::with(&routes, "5m");
    let address = bank.gateway.address().to_string();
    let token = bank.issuer.token(&json!({}));
    let watch = |at: &str| {
        let arguments = ["client.js", "watch", &address, &bank.authorities, "0 0", &token];
        let mut client = Node::start_at(&arguments, at);
        assert_eq!(client.line(), "open");
        client
    };
    let (mut by_day, mut late) = (watch(NOON), watch("2026-11-24T23:29:57+09:00"));
    let ended: Value = serde_json::from_str(&late.line()).unwrap();
    assert_ne!(ended["code"], 0, "{ended}");
    let records = bank.gateway.records(1);
    let night = json!({ "by": "refusal", "code": "NIGHT", "rule": "no-night" });
    assert_eq!((records.len(), &records[0]["ended"]), (1, &night), "{records:#?}");
    assert!(by_day.child.try_wait().unwrap().is_none(), "the other goes on");
}

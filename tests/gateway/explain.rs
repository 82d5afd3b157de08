//! `explain` shows the answer that the gateway sends, and decides recorded requests again.

use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use gwanmun::rehearse::explain;
use gwanmun::snapshot::{Asked, Occasion, load};
use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Reply, Upstream, guarded};

const NOON: &str = "2026-11-24T12:00:00+09:00";
const NIGHT: &str = "2026-11-24T23:45:00+09:00";

const BANK: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
calendars:
  seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: 23:30-05:00 }] } }
policies:
  night:
    deny: { during: seoul.night }
    reply: { code: CLOSED, message: { ko: 닫혔습니다, en: 'It is closed' } }
  login: { step_up: { acr: otp } }
limits:
  shop: { key: header.x-shop, rate: 5/s }
  one:  { key: header.x-one, rate: 1/h, burst: 1 }
defaults:
  cors: { origins: [https://bank.example], credentials: true, expose: [x-request-id] }
  compress: { min_size: 16B }
routes:
  transfer: { match: POST /transfers, auth: customer, scopes: [pay], policies: [night, login], limits: [shop], upstream: bank }
  single: { match: POST /single, auth: none, limits: [one], reply: { status: 202 } }
  status: { match: GET /status, auth: none, limits: [shop], reply: { status: 200, json: { bank: open for all of you }, headers: { etag: '\"v1\"', cache-control: max-age=60 } } }
  old: { match: GET /old, auth: none, redirect: { to: https://bank.example/new } }
  empty: { match: GET /empty, auth: none, cors: off, reply: { status: 204 } }
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    _upstream: Upstream,
}

impl Bank {
    fn open() -> Self {
        let upstream = Upstream::http1(|_| Reply::text("done"));
        let issuer = Issuer::new();
        let gateway = Gateway::with(&guarded(BANK, &upstream, &issuer)).rehearse_at(NOON);
        Self {
            gateway: gateway.start(),
            issuer,
            _upstream: upstream,
        }
    }
}

/// Status, headers and body, but for what is another each time or the connection's own.
type Shown = (u16, Vec<(String, String)>, String);

fn shown(status: u16, headers: &[(String, String)], body: &str, id: &str) -> Shown {
    let own = [
        "date",
        "connection",
        "keep-alive",
        "x-request-id",
        "gwanmun-rehearsal",
        "transfer-encoding",
    ];
    let mut headers: Vec<(String, String)> = headers.to_vec();
    headers.retain(|(name, _)| !own.contains(&name.as_str()));
    headers.sort();
    (status, headers, body.replace(id, "ID"))
}

/// A request: its method and path, when it comes, who sends it, and its headers.
type Case<'a> = (&'a str, &'a str, &'a str, Option<Value>, &'a [(&'a str, &'a str)]);

#[test]
fn shows_what_the_gateway_sends() {
    let bank = Bank::open();
    let file = bank.gateway.folder().join("gwanmun.yaml");
    let now = NOON.parse().unwrap();
    let snapshot = load(&file, Occasion { now, at_start: true }).0.unwrap();
    let page = ("origin", "https://bank.example");
    let all = json!({"scope": "pay", "acr": "otp"});
    let nothing: [(&str, &str); 0] = [];
    let cases: [Case<'_>; 19] = [
        ("POST", "/transfers", NOON, None, &[page]),
        ("POST", "/transfers", NOON, Some(json!({})), &[page]),
        ("POST", "/transfers", NOON, Some(json!({"scope": "pay"})), &nothing),
        (
            "POST",
            "/transfers",
            NIGHT,
            Some(all.clone()),
            &[("accept-language", "en-GB, ko;q=0.5")],
        ),
        (
            "POST",
            "/transfers",
            NIGHT,
            Some(all.clone()),
            &[page, ("accept-language", "fr")],
        ),
        ("GET", "/status", NOON, None, &[page, ("x-shop", "a")]),
        (
            "GET",
            "/status",
            NOON,
            None,
            &[("x-shop", "b"), ("accept-encoding", "br")],
        ),
        ("HEAD", "/status", NOON, None, &[("x-shop", "c")]),
        (
            "HEAD",
            "/status",
            NOON,
            None,
            &[("x-shop", "d"), ("accept-encoding", "gzip")],
        ),
        ("GET", "/old", NOON, None, &[("accept-encoding", "gzip")]),
        ("GET", "/empty", NOON, None, &[page]),
        ("GET", "/nowhere", NOON, None, &[page, ("accept-encoding", "gzip")]),
        ("PUT", "/status", NOON, None, &[page]),
        ("HEAD", "/nowhere", NOON, None, &nothing),
        (
            "OPTIONS",
            "/status",
            NOON,
            None,
            &[page, ("access-control-request-method", "GET")],
        ),
        (
            "OPTIONS",
            "/status",
            NOON,
            None,
            &[page, ("access-control-request-method", "PUT")],
        ),
        (
            "OPTIONS",
            "/empty",
            NOON,
            None,
            &[
                ("origin", "https://a.example"),
                ("access-control-request-method", "GET"),
            ],
        ),
        ("OPTIONS", "/status", NOON, None, &nothing),
        ("POST", "/single", NOON, None, &[("x-one", "a"), page]),
    ];
    for (method, target, at, claims, headers) in cases {
        let mut request = bank.gateway.request(method, target).at(at);
        let address = IpAddr::from([127, 0, 0, 1]);
        let mut asked = Asked::new(
            &format!("{method} http://gate.example{target}"),
            address,
            at.parse().unwrap(),
        )
        .unwrap();
        for (name, value) in headers {
            request = request.header(name, value);
            asked.add_header(&format!("{name}: {value}")).unwrap();
        }
        if let Some(claims) = &claims {
            request = request.bearer(&bank.issuer.token(claims));
            asked
                .hold(bank.issuer.claims(claims).as_object().unwrap().clone())
                .unwrap();
        }
        let live = request.send();
        let id = live.header("x-request-id").unwrap();
        let told = explain(&snapshot, &asked).unwrap().answer;
        let body = String::from_utf8_lossy(&crate::support::decoded(&live)).into_owned();
        assert_eq!(
            shown(
                told.status.unwrap(),
                &told.headers,
                told.body.as_deref().unwrap_or_default(),
                &"0".repeat(32)
            ),
            shown(live.status, &live.headers, &body, id),
            "{method} {target} {headers:?}"
        );
        let status = u16::try_from(
            explain(&snapshot, &asked).unwrap().json()["answer"]["status"]
                .as_u64()
                .unwrap(),
        );
        assert_eq!(status.unwrap(), live.status);
    }
    // The second time there is no room.
    let refused = bank.gateway.post("/single").header("x-one", "a").at(NOON).send();
    let mut asked = Asked::new("POST http://gate.example/single", IpAddr::from([127, 0, 0, 1]), now).unwrap();
    asked.add_header("x-one: a").unwrap();
    asked.exhausted.push(snapshot.defined.limits.get("one").unwrap().0);
    let told = explain(&snapshot, &asked).unwrap().answer;
    let names = |headers: &[(String, String)]| {
        shown(429, headers, "", "-")
            .1
            .into_iter()
            .map(|(name, _)| name)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (refused.status, names(&refused.headers)),
        (told.status.unwrap(), names(&told.headers))
    );
}

fn explained(file: &Path, log: &Path, id: &str) -> (Option<i32>, Value, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command
        .arg("explain")
        .arg(file)
        .arg("--record")
        .arg(log)
        .args(["--id", id]);
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let output = command.arg("--json").output().unwrap();
    let told =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| json!(String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), told, text)
}

#[test]
fn decides_a_recorded_request_again() {
    let bank = Bank::open();
    let id = |response: &crate::support::Response| response.header("x-request-id").unwrap().to_owned();
    let token = bank.issuer.token(&json!({"scope": "pay", "acr": "otp"}));
    let transfer = |at: &str| {
        bank.gateway
            .post("/transfers")
            .bearer(&token)
            .header("x-shop", "a")
            .at(at)
            .send()
    };
    // A record is written after its answer: each is waited for, so that they stand in this order.
    let allowed = transfer(NOON);
    allowed.expect(200);
    bank.gateway.records(1);
    let closed = transfer(NIGHT);
    closed.expect_problem(403, "CLOSED");
    bank.gateway.records(2);
    let unread = bank.gateway.get("/a/../b").send();
    unread.expect_problem(400, "path-invalid");
    bank.gateway.records(3);
    let file = bank.gateway.folder().join("gwanmun.yaml");
    let log = bank.gateway.records_folder().join("audit.jsonl");

    let (code, told, text) = explained(&file, &log, &id(&closed));
    assert_eq!(
        (code, &told["record"]["differences"], &told["record"]["is_same_config"]),
        (Some(1), &json!([]), &json!(true))
    );
    assert_eq!(told["decision"]["reopens_at"], "2026-11-25T05:00:00+09:00");
    assert_eq!(told["answer"]["headers"]["x-request-id"], json!(id(&closed)));
    assert!(text.contains("  the decision is the recorded one\n"), "{text}");
    assert!(
        text.starts_with("record 2 of 2026-11-24T23:45:00+09:00: POST gate.example/transfers, answered 403\n"),
        "{text}"
    );

    let (code, told, text) = explained(&file, &log, &id(&allowed));
    assert_eq!((code, &told["decision"]["effect"]), (Some(0), &json!("allow")));
    assert_eq!(told["limits"][0]["admitted"], true);
    assert_eq!(told["next"]["at"], "2026-11-24T23:30:00+09:00");
    // What was answered then, not what is assumed.
    assert!(text.contains("4 left, full again in"), "{text}");

    // Under other rules it comes out otherwise.
    let other = bank.gateway.folder().join("other.yaml");
    let yaml = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&other, yaml.replace("23:30-05:00", "23:50-05:00")).unwrap();
    let (code, told, text) = explained(&other, &log, &id(&closed));
    assert_eq!((code, &told["record"]["is_same_config"]), (Some(0), &json!(false)));
    let differences = told["record"]["differences"].as_array().unwrap();
    assert_eq!(
        differences[0],
        json!({"what": "effect", "then": "deny", "now": "allow"})
    );
    assert!(text.contains("  decided under another configuration: "), "{text}");
    assert!(text.contains("    code: CLOSED then, none now\n"), "{text}");
    assert_eq!(
        told["record"]["lacking"],
        json!(["`shop` was not asked then, and is taken to have room"])
    );
    assert!(text.contains("  not recorded: `shop` was not asked then"), "{text}");

    let (code, told, _) = explained(&file, &log, "0000");
    assert!(
        code == Some(2) && told.as_str().unwrap().contains("no record of a request `0000`"),
        "{told}"
    );
    let (code, told, _) = explained(&file, &log, &id(&unread));
    assert!(
        code == Some(2) && told.as_str().unwrap().contains("nothing was decided"),
        "{told}"
    );
}

#[test]
fn takes_a_request_or_a_record() {
    let gwanmun = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
        let output = command
            .arg("explain")
            .arg("conf/bank.yaml")
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    for (arguments, part) in [
        (&[][..], "required arguments were not provided"),
        (&["--record", "x"], "--id"),
        (&["--id", "x"], "--record"),
        (&["GET /", "--record", "x", "--id", "y"], "cannot be used with"),
        (
            &["--record", "x", "--id", "y", "--ip", "10.0.0.1"],
            "cannot be used with",
        ),
        (&["--record", "no such log", "--id", "y"], "cannot read `no such log`"),
        (&["GET /", "--via", "customer"], "--as"),
        (
            &["GET /", "--exhausted", "floood"],
            "there is no limit `floood`, did you mean `flood`?",
        ),
    ] {
        let (code, errors) = gwanmun(arguments);
        assert!(code == Some(2) && errors.contains(part), "{arguments:?}: {errors}");
    }
}

const SHOP: &str = "
listen: [{ address: 127.0.0.1:0 }]
upstreams:
  shop: { endpoints: [127.0.0.1:1] }
clients:
  ios: { header: { x-client: ios } }
  old: { header: { x-client: old } }
  web: { default: true }
shapes:
  compact: { keep: [id, price.amount] }
  partner: { jq: '{n: (.items | length)}', uncut: pass }
routes:
  product:  { match: 'GET /products/{id}', auth: none, upstream: shop, shape: { ios: compact, old: compact } }
  partners: { match: GET /partners, auth: none, upstream: shop, shape: { old: partner } }
  search:
    match: GET /search/{what}
    auth: none
    upstream: shop
    request: { headers: { set: { x-what: '{path.what}' } }, query: { drop: [debug], rename: { q: s } }, body: { set: { by: '{client}' } } }
";

/// Runs `explain` on the shop with an answer on stdin: its exit code, stdout and stderr.
fn cut(arguments: &[&str], sample: &str) -> (Option<i32>, String, String) {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.yaml");
    std::fs::write(&file, SHOP).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_gwanmun"))
        .arg("explain")
        .arg(&file)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Whoever does not read it is not interested.
    let _ = child.stdin.take().unwrap().write_all(sample.as_bytes());
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn shows_what_a_shape_makes_of_an_answer_and_what_it_saves() {
    let sample = r#"{"id":90071992547409931.10,"price":{"amount":1.0,"tax":2},"x":"yyyyyyyyyy"}"#;
    let result = r#"{"id":90071992547409931.10,"price":{"amount":1.0}}"#;
    let saved = sample.len() - result.len();
    for arguments in [
        &["--shape", "compact"][..],
        &["--shape", "ios"],
        &["GET /products/7", "--shape", "ios"],
        &["GET /products/7", "--shape", "old"],
    ] {
        let (code, out, _) = cut(arguments, sample);
        assert_eq!(code, Some(0), "{arguments:?}: {out}");
        assert!(out.starts_with(&format!("{result}\n")), "{out}");
        let told = format!(
            "shape `compact`: {} bytes become {}, {saved} saved (",
            sample.len(),
            result.len()
        );
        assert!(out.contains(&told), "{out}");
    }
    let (_, out, _) = cut(&["--shape", "compact", "--json"], sample);
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["body"], result);
    assert_eq!(told["bytes_saved"], saved);
    assert_eq!(
        cut(&["--shape", "partner"], r#"{"items":[1,2]}"#).1.lines().next(),
        Some(r#"{"n":2}"#)
    );
}

#[test]
fn says_when_an_answer_cannot_be_cut_or_nothing_cuts_it() {
    let (code, out, _) = cut(&["--shape", "compact"], "{");
    assert!(
        code == Some(1) && out.contains("502 upstream-unreadable"),
        "{code:?} {out}"
    );
    let (code, out, _) = cut(&["--shape", "partner"], "[1]");
    assert!(code == Some(0) && out.contains("goes out as it is"), "{code:?} {out}");
    for (arguments, told) in [
        (&["--shape", "compct"][..], "did you mean `compact`"),
        (&["--shape", "web"], "no route has a shape for client `web`"),
        (&["--shape", "old"], "client `old` gets `compact`, `partner`"),
        (&["GET /partners", "--shape", "ios"], "no shape cuts the answer"),
        (&[], "required"),
    ] {
        let (code, _, error) = cut(arguments, "{}");
        assert!(
            code == Some(2) && error.contains(told),
            "{arguments:?}: {code:?} {error}"
        );
    }
}

#[test]
fn shows_what_is_changed_of_a_request() {
    let (_, out, error) = cut(&["GET /search/cups?q=1", "--client", "ios"], "");
    for line in [
        "header `x-what` is set to `cups`",
        "parameter `debug` goes",
        "parameter `q` becomes `s`",
        "member `by` of the body is set to `\"ios\"`",
    ] {
        assert!(out.contains(line), "{line}: {out}{error}");
    }
    let (_, out, _) = cut(&["GET /products/7", "--client", "ios"], "");
    assert!(
        out.contains("JSON answers are cut by `compact` for client `ios`"),
        "{out}"
    );
}

//! Each part slow, dead, hostile or missing, in turn and together: the answer is right by its contract.

use serde_json::{Value, json};

use super::{Bank, partial};
use crate::support::{Gate, Gateway, RefusingPort, Reply, Upstream, eventually, fill};

/// What a service must not make the gate do or say, with the reason it is missing for.
fn hostile() -> Vec<(&'static str, Reply, &'static str)> {
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let large = format!("\"{}\"", "x".repeat(10 << 20));
    // Ten megabytes of zeros in a coding that nobody asked for.
    let bomb = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b'0'; 10 << 20]).unwrap();
        encoder.finish().unwrap()
    };
    let typed = |body: Vec<u8>| Reply::typed("application/json", body);
    let text = |body: &str| typed(body.as_bytes().to_vec());
    vec![
        ("no JSON", text("stack trace"), "unreadable"),
        ("10 MB", typed(large.clone().into_bytes()), "unreadable"),
        (
            "10 MB without a length",
            typed(large.into_bytes()).chunked(),
            "unreadable",
        ),
        ("10 000 deep", text(&deep), "unreadable"),
        ("another type", Reply::typed("text/html", "{}"), "unreadable"),
        ("no type", Reply::status(200).body("{}"), "unreadable"),
        ("a bomb", typed(bomb).header("content-encoding", "gzip"), "unreadable"),
        ("a coding", text("{}").header("content-encoding", "br"), "unreadable"),
        (
            "a cut",
            text(&json!("x".repeat(5_000)).to_string()).cut_short(),
            "unreadable",
        ),
        ("two values", text("{}{}"), "unreadable"),
        ("a name twice", text(r#"{"a":1,"\u0061":2}"#), "unreadable"),
        ("half a character", text(r#"{"a":"\ud800"}"#), "unreadable"),
        ("nothing", text(""), "unreadable"),
        (
            "a redirect",
            text("{}").with_status(307).header("location", "/elsewhere"),
            "status",
        ),
        ("a part", text("{}").with_status(206), "status"),
        ("a failure", text("{\"stack trace\":1}").with_status(500), "status"),
        ("a refusal", text("{\"stack trace\":1}").with_status(403), "status"),
    ]
}

/// An answer, and the reason it is missing for; nothing where it is good.
type Fault = (fn() -> Reply, &'static str);

#[test]
fn survives_whatever_an_optional_part_answers() {
    let bank = Bank::open();
    for (what, reply, reason) in hostile() {
        bank.invest.answer_with(move |_| reply.clone());
        let response = bank.dashboard();
        assert_eq!(
            partial(&response),
            [("investments".to_owned(), reason.to_owned())],
            "{what}: {}",
            response.summary()
        );
        assert_eq!(response.expect(200).json()["investments"], Value::Null, "{what}");
        assert!(!response.text().contains("stack trace"), "{what}");
    }
    // And goes on as if nothing had been.
    bank.invest.answer_with(super::investments);
    assert_eq!(bank.dashboard().expect(200).header("gwanmun-partial"), None);
}

#[test]
fn tells_nothing_of_what_a_required_part_answers() {
    let bank = Bank::open();
    for (what, reply, _) in hostile() {
        bank.accounts.answer_with(move |_| reply.clone());
        let response = bank.dashboard();
        let problem = response.problem(&[502], &["part-failed"]);
        let problem = problem.unwrap_or_else(|why| panic!("{what}: {why}"));
        assert!(!problem.to_string().contains("stack trace"), "{what}: {problem}");
    }
}

#[test]
fn answers_by_its_contract_whichever_parts_fail() {
    let yaml = "
upstreams:
  one:   { endpoints: [$one] }
  two:   { endpoints: [$two] }
  three: { endpoints: [$three] }
routes:
  page:
    match: GET /page
    auth: none
    deadline: 20s
    aggregate:
      one:   { get: 'one:/x', timeout: 10s }
      two:   { get: 'two:/x', default: { n: 1.10 }, timeout: 10s }
      three: { get: 'three:/x', default: [], timeout: 10s }
";
    let services = [(); 3].map(|()| Upstream::http1(|_| Reply::json(&json!(1))));
    let [one, two, three] = &services;
    let addresses = [
        ("one", &one.address() as &dyn std::fmt::Display),
        ("two", &two.address()),
        ("three", &three.address()),
    ];
    let gateway = Gateway::start(&fill(yaml, &addresses));
    let defaults = ["null", "{\"n\":1.10}", "[]"];
    let faults: [Fault; 3] = [
        (|| Reply::json(&json!(1)), ""),
        (|| Reply::text("garbage"), "unreadable"),
        (|| Reply::status(404), "status"),
    ];
    for case in 0..27_usize {
        let chosen = [case % 3, case / 3 % 3, case / 9];
        for (service, fault) in services.iter().zip(chosen) {
            service.answer_with(move |_| faults[fault].0());
        }
        let response = gateway.get("/page").send();
        let mut missing = Vec::new();
        let mut members = Vec::new();
        for ((name, fault), default) in ["one", "two", "three"].into_iter().zip(chosen).zip(defaults) {
            let is_there = faults[fault].1.is_empty();
            members.push(format!("\"{name}\":{}", if is_there { "1" } else { default }));
            missing.extend((!is_there).then(|| (name.to_owned(), faults[fault].1.to_owned())));
        }
        assert_eq!(response.expect(200).text(), format!("{{{}}}", members.join(",")));
        assert_eq!(partial(&response), missing);
        let whole = response.header("cache-control") != Some("no-store") && response.header("etag").is_some();
        assert_eq!(whole, missing.is_empty(), "{}", response.summary());
    }
}

#[test]
fn names_each_kind_of_absence_at_once() {
    let yaml = "
upstreams:
  good: { endpoints: [$good], timeout: { response: 50s } }
  dead: { endpoints: [$dead] }
  reset: { endpoints: [$reset] }
  broken: { endpoints: [$good], breaker: { min_requests: 1, open_for: 1h } }
routes:
  page:
    match: GET /page
    auth: none
    deadline: 30s
    aggregate:
      here:   { get: 'good:/here' }
      slow:   { get: 'good:/slow', timeout: 200ms }
      dead:   { get: 'dead:/x' }
      reset:  { get: 'reset:/x' }
      open:   { get: 'broken:/fails' }
      after:  { get: 'good:/after/{here.none}' }
";
    let good = Upstream::http1(|seen| match seen.path() {
        "/slow" => Reply::never(),
        "/fails" => Reply::status(500),
        _ => Reply::json(&json!({"id": 1})),
    });
    let (dead, reset) = (RefusingPort::new(), Upstream::raw(b"HTTP/1.1 200 OK\r\ncontent-le"));
    let gateway = Gateway::start(&fill(
        yaml,
        &[
            ("good", &good.address()),
            ("dead", &dead.address()),
            ("reset", &reset.address()),
        ],
    ));
    let first = gateway.get("/page").send();
    assert!(partial(&first).contains(&("open".into(), "status".into())));
    let second = gateway.get("/page").send();
    let expected = [
        ("slow", "timeout"),
        ("dead", "unreachable"),
        ("reset", "unreadable"),
        // Its breaker is open by now: nobody is asked.
        ("open", "unreachable"),
        ("after", "skipped"),
    ];
    let expected: Vec<(String, String)> = expected.map(|(name, why)| (name.to_owned(), why.to_owned())).into();
    assert_eq!(partial(&second), expected);
    assert_eq!(good.count_of("/fails"), 1);
    // What was given up is not left running.
    eventually("the slow calls to be given up", || {
        (good.abandoned() == 2).then_some(())
    });
}

#[test]
fn ends_every_call_when_the_caller_leaves() {
    let bank = Bank::open();
    bank.accounts.answer_with(|_| Reply::never());
    bank.invest.answer_with(|_| Reply::never());
    let token = bank.issuer.token(&json!({"sub": "u1"}));
    let mut caller = bank.gateway.connect();
    caller.send(&bank.gateway.get("/dashboard").bearer(&token).bytes());
    bank.accounts.wait_for("/customers/u1/balance", 1);
    bank.invest.wait_for("/summary/u1", 1);
    drop(caller);
    // Long before any timeout: nobody waits for them any more.
    eventually("both calls to be given up", || {
        (bank.accounts.abandoned() + bank.invest.abandoned() == 2).then_some(())
    });
    let record = bank.gateway.stop().remove(0);
    assert_eq!(
        (&record["status"], &record["route"]),
        (&json!(499), &json!("dashboard")),
        "{record}"
    );
}

#[test]
fn asks_another_endpoint_as_its_upstream_says() {
    let (broken, well) = (
        Upstream::http1(|_| Reply::status(503)),
        Upstream::http1(|_| Reply::json(&json!(1))),
    );
    let yaml = "
upstreams:
  pool: { endpoints: [$broken, $well], retry: { attempts: 1, after: [503] } }
routes:
  page:
    match: GET /page
    auth: none
    aggregate:
      again: { get: 'pool:/again' }
  once:
    match: GET /once
    auth: none
    aggregate:
      once: { get: 'pool:/once', retry: { attempts: 0 } }
  posted:
    match: GET /posted
    auth: none
    aggregate:
      posted: { post: 'pool:/posted', body: { a: 1 } }
";
    let gateway = Gateway::start(&fill(yaml, &[("broken", &broken.address()), ("well", &well.address())]));
    for _ in 0..6 {
        assert!(partial(&gateway.get("/page").send()).is_empty());
    }
    assert_eq!(well.count_of("/again"), 6);
    let lacking = |path: &str| {
        let lacks = |_| usize::from(!partial(&gateway.get(path).send()).is_empty());
        (0..6).map(lacks).sum::<usize>()
    };
    assert_eq!(lacking("/once"), 3);
    // What was posted is not posted again.
    assert_eq!(lacking("/posted"), 3);
    assert_eq!((broken.count_of("/posted"), well.count_of("/posted")), (3, 3));
    assert_eq!(well.last().body, b"{\"a\":1}");
}

#[test]
fn leaves_alone_who_is_always_too_slow_for_a_part() {
    let gate = Gate::closed();
    let held = gate.clone();
    let slow = Upstream::http1(move |_| Reply::json(&json!(1)).held_by(&held));
    let yaml = "
upstreams:
  slow: { endpoints: [$slow], timeout: { response: 60s }, breaker: { min_requests: 3, open_for: 1h } }
routes:
  page: { match: GET /page, auth: none, aggregate: { part: { get: 'slow:/', timeout: 50ms } } }
";
    let gateway = Gateway::start(&fill(yaml, &[("slow", &slow.address())]));
    let reasons: Vec<String> = (0..6)
        .flat_map(|_| partial(&gateway.get("/page").send()))
        .map(|(_, reason)| reason)
        .collect();
    assert_eq!(reasons[..3], ["timeout"; 3]);
    assert_eq!(reasons[3..], ["unreachable"; 3], "its breaker is open");
    assert_eq!(slow.count(), 3);
    gate.open();
}

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use jiff::Timestamp;

use crate::conf::Load;
use crate::snapshot::{Occasion, Snapshot, compile};

const REST: &str = "
listen: [{ address: 127.0.0.1:0 }]
upstreams: { one: { endpoints: [127.0.0.1:1] } }
authenticators:
  customer: { jwt: { issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover } }
clients: { ios: { header: { x-client: ios } }, web: { default: true } }
calendars: { seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: 23:30-05:00 }] } } }
policies: { closed: { deny: { during: seoul.night, clients: ios } } }
limits: { few: { key: ip, rate: 5/s } }
routes:
  pay: { match: POST /pay, auth: customer, policies: [closed], limits: [few], upstream: one }
";

fn load(tests: &str) -> (Option<Snapshot>, Vec<String>) {
    let load = Load::new();
    let document = load.text("t.yaml", &format!("{}{REST}", tests.trim_start())).unwrap();
    let now = "2026-11-24T12:00:00+09:00".parse::<Timestamp>().unwrap();
    let snapshot = compile(&document, Occasion { now, at_start: false }, &load).filter(|_| !load.has_errors());
    let findings = load.into_findings(Some(&document));
    (snapshot, findings.iter().map(ToString::to_string).collect())
}

fn at() -> &'static str {
    "at: 2026-11-24T12:00+09:00, request: POST /pay"
}

#[test]
fn reads_the_example_of_the_module() {
    let lines = include_str!("mod.rs")
        .lines()
        .skip_while(|line| *line != "//! ```yaml")
        .skip(1);
    let lines: Vec<&str> = lines
        .take_while(|line| *line != "//! ```")
        .map(|line| line.trim_start_matches("//! "))
        .collect();
    assert!(lines.len() > 12);
    let names = [
        ("accounts", "one"),
        ("per-customer", "few"),
        ("no-night-transfer", "closed"),
    ];
    let example = names
        .iter()
        .fold(lines.join("\n"), |text, (theirs, ours)| text.replace(theirs, ours));
    let (snapshot, findings) = load(&format!("{example}\n"));
    assert!(findings.is_empty(), "{findings:?}");
    let tests = snapshot.unwrap().tests;
    let asked = &tests[0].asked;
    assert_eq!(tests.len(), 2);
    assert_eq!(tests[0].name.as_deref(), Some("no transfers late on Chuseok"));
    assert_eq!(
        (asked.exhausted.len(), asked.via.is_some(), asked.headers.map().len()),
        (1, true, 5)
    );
    assert_eq!(asked.frozen.in_force(asked.at).len(), 1);
    assert_eq!(
        tests[0].expect.to_string(),
        "403 TRANSFER_CLOSED by closed until 2026-09-26T05:00:00+09:00"
    );
    assert_eq!(
        (tests[1].path.as_str(), tests[1].expect.to_string().as_str()),
        ("tests[1]", "allow")
    );
}

#[test]
fn reports_every_mistake_in_one_run() {
    let tests = "
tests:
  - { request: POST /pay, expect: allow }
  - { at: 2026-11-24T12:00, request: POST /pay, expect: allow }
  - { at: 2026-11-24T12:00+09:00, request: /pay, expect: deny }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay/../x, expect: {} }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay, expect: { stats: 403 }, clint: ios }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay, expect: { status: 99, policy: clsed, reopens: soon } }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay, client: iso, via: custmer, exhausted: fw, frozen: payy, expect: allow }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay, as: { role: x }, via: custmer, ip: here, expect: allow }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay, as: [u1], headers: { authorization: Bearer x, 'a b': c }, expect: allow }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay, frozen: { pay: 2026-11-24T11:00+09:00 }, expect: allow }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay, client: web, headers: { x-client: ios }, expect: allow }
  - { at: 0001-01-01T00:00Z, request: POST /pay, expect: allow }
";
    let (_, found) = load(tests);
    let expected = [
        "t.yaml:2:5: missing `at` (at `tests[0]`)",
        "t.yaml:3:11: `2026-11-24T12:00` has no offset: write `2026-11-24T12:00+09:00`, or `2026-11-24T12:00Z` for UTC (at `tests[1].at`)",
        "t.yaml:4:44: `/pay` is not a request such as `POST /transfers` (at `tests[2].request`)",
        "t.yaml:4:58: `deny` is not expected: write `allow`, or what is told: `{ status: 403, policy: …, code: …, reopens: … }` (at `tests[2].expect`)",
        "t.yaml:5:44: `/pay/../x` would be answered 400: the path has a dot segment (at `tests[3].request`)",
        "t.yaml:5:68: nothing is expected: write `allow`, or what is told: `{ status: 403, policy: …, code: …, reopens: … }` (at `tests[3].expect`)",
        "t.yaml:6:65: unknown key `stats`, did you mean `status`? (at `tests[4].expect.stats`)",
        "t.yaml:6:79: unknown key `clint`, did you mean `client`? (at `tests[4].clint`)",
        "t.yaml:7:73: `99` is not a status code from 200 to 599 (at `tests[5].expect.status`)",
        "t.yaml:7:101: `soon` is not an instant such as `2026-09-25T23:45+09:00`, nor `never` (at `tests[5].expect.reopens`)",
        "t.yaml:8:63: unknown client `iso`, did you mean `ios`? (at `tests[6].client`)",
        "t.yaml:8:73: `via` says who maps the claims of `as`, and there are none (at `tests[6].via`)",
        "t.yaml:8:93: unknown limit `fw`, did you mean `few`? (at `tests[6].exhausted`)",
        "t.yaml:8:105: unknown route or upstream `payy`, did you mean `pay`? (at `tests[6].frozen`)",
        "t.yaml:9:59: the claims have no `sub`: no authenticator would accept them (at `tests[7].as`)",
        "t.yaml:9:77: unknown authenticator `custmer`, did you mean `customer`? (at `tests[7].via`)",
        "t.yaml:9:90: `here` is not an address such as `192.0.2.7` (at `tests[7].ip`)",
        "t.yaml:10:59: expected a map, found a list (at `tests[8].as`)",
        "t.yaml:10:91: no token can be verified here: say what it proves by the claims of the caller (at `tests[8].headers.authorization`)",
        "t.yaml:10:101: `a b` is not a header name (at `tests[8].headers.a b`)",
        "t.yaml:11:70: `2026-11-24T11:00+09:00` is not in the future: it is 2026-11-24T03:00:00Z now (at `tests[9].frozen.pay`)",
        "t.yaml:12:63: with these headers the caller is taken for `ios`, not for `web` (at `tests[10].client`)",
        "t.yaml:13:11: `0001-01-01T00:00:00+00:00` is not of a year from 1970 to 2199 (at `tests[11].at`)",
    ];
    assert_eq!(found, expected, "{found:#?}");
}

#[test]
fn knows_the_names_it_may_expect() {
    let (_, found) = load(&format!("tests: [{{ {}, expect: {{ policy: clsed }} }}]\n", at()));
    assert_eq!(
        found,
        ["t.yaml:1:77: unknown policy `clsed`, did you mean `closed`? (at `tests[0].expect.policy`)"]
    );
    for policy in ["auth", "freeze", "few", "closed"] {
        let (_, found) = load(&format!("tests: [{{ {}, expect: {{ policy: {policy} }} }}]\n", at()));
        assert!(found.is_empty(), "{found:?}");
    }
}

#[test]
fn a_name_that_only_a_test_uses_is_still_unused() {
    let tests = format!(
        "limits: {{ other: {{ key: ip, rate: 1/s }} }}\ntests: [{{ {}, exhausted: other, expect: allow }}]\n",
        at()
    );
    let rest = REST
        .replace("limits: { few: { key: ip, rate: 5/s } }", "")
        .replace("limits: [few], ", "");
    let load = Load::new();
    let document = load.text("t.yaml", &format!("{tests}{rest}")).unwrap();
    let now = Timestamp::UNIX_EPOCH;
    compile(&document, Occasion { now, at_start: false }, &load).unwrap();
    let found: Vec<String> = load
        .into_findings(Some(&document))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        ["t.yaml:1:11: warning: nothing refers to the limit `other` (at `limits.other`)"]
    );
}

#[test]
fn refuses_more_than_can_be_tried_before_a_reload() {
    let one = format!("  - {{ {}, expect: allow }}\n", at());
    let (snapshot, found) = load(&format!("tests:\n{}", one.repeat(10_001)));
    assert!(snapshot.is_none());
    assert_eq!(found, ["t.yaml:10002:5: more than 10000 tests (at `tests[10000]`)"]);
}

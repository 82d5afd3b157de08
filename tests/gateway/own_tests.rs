//! A configuration that says what has to stay true comes into force only where it does.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{Gateway, Reply, Upstream, eventually, fill};

const NOON: &str = "2026-11-24T12:00:00+09:00";
const TOKEN: &str = "0123456789abcdef0123456789abcdef-not-a-secret";

const BANK: &str = "
admin: { address: 127.0.0.1:0, token: '${env:GWANMUN_ADMIN_TOKEN}' }
state: state
upstreams:
  bank: { endpoints: [$upstream] }
calendars:
  seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: $night }] } }
policies:
  night: { deny: { during: seoul.night } }
routes:
  note: { match: POST /notes, auth: none, policies: [night], upstream: bank }
tests:
  - name: closed late
    at: 2026-11-24T23:45+09:00
    request: POST /notes
    expect: { status: 403, policy: night, reopens: 2026-11-25T05:00+09:00 }
  - { at: 2026-11-24T12:00+09:00, request: POST /notes, expect: allow }
";
/// The tests that stand in it do not hold any more.
const LATER: &str = "23:50-05:00";

struct Bank {
    gateway: Gateway,
    upstream: Upstream,
}

impl Bank {
    fn open(night: &str) -> Self {
        let upstream = Upstream::http1(|_| Reply::text("done"));
        let gateway = Gateway::with(&yaml(&upstream, night)).rehearse_at(NOON);
        Self {
            gateway: gateway.environment("GWANMUN_ADMIN_TOKEN", TOKEN).start(),
            upstream,
        }
    }

    fn late(&self) -> u16 {
        self.gateway
            .post("/notes")
            .at("2026-11-24T23:45:00+09:00")
            .send()
            .status
    }

    fn metric(&self, name: &str) -> f64 {
        self.gateway.metrics().value(name, &[]).unwrap()
    }
}

fn yaml(upstream: &Upstream, night: &str) -> String {
    fill(BANK, &[("upstream", &upstream.address()), ("night", &night)])
}

fn gwanmun(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
    command.current_dir(folder).args(arguments);
    command.output().expect("the gateway's binary runs")
}

#[test]
fn a_reload_that_breaks_a_test_is_refused() {
    let bank = Bank::open("23:30-05:00");
    assert_eq!((bank.late(), bank.metric("gwanmun_config_tests_failed")), (403, 0.0));
    assert!(!bank.gateway.reload(&yaml(&bank.upstream, LATER)));
    assert_eq!((bank.late(), bank.metric("gwanmun_config_reload_failed")), (403, 1.0));
    let line = "the test `closed late` fails: expected 403 by night until 2026-11-25T05:00:00+09:00, \
                got allow, answered by upstream `bank` (at `tests[0]`)";
    eventually("the line in the log", || {
        bank.gateway.log().contains(line).then_some(())
    });
    let status = bank.gateway.admin("GET", "/status").bearer(TOKEN).send();
    assert!(
        status.expect(200).text().contains("the test `closed late` fails"),
        "{}",
        status.summary()
    );

    // With the tests as they are meant now it is taken.
    let meant = yaml(&bank.upstream, LATER).replace("T23:45+09:00", "T23:55+09:00");
    assert!(bank.gateway.reload(&meant));
    assert_eq!((bank.late(), bank.metric("gwanmun_config_reload_failed")), (200, 0.0));
}

#[test]
fn a_start_goes_on_and_says_what_fails() {
    let bank = Bank::open(LATER);
    assert_eq!((bank.late(), bank.metric("gwanmun_config_tests_failed")), (200, 1.0));
    assert!(
        bank.gateway.log().contains("the test `closed late` fails"),
        "{}",
        bank.gateway.log()
    );
    // Asked to reload what it runs on, it would refuse that.
    assert!(!bank.gateway.hang_up());
    assert!(bank.gateway.reload(&yaml(&bank.upstream, "23:30-05:00")));
    assert_eq!(bank.metric("gwanmun_config_tests_failed"), 0.0);
}

#[test]
fn tests_see_nothing_of_what_is_frozen_and_revoked_here() {
    let bank = Bank::open("23:30-05:00");
    let freeze = bank.gateway.admin("PUT", "/freezes/note").bearer(TOKEN);
    freeze.body(json!({"for": "1h"}).to_string()).send().expect(200);
    bank.gateway
        .post("/notes")
        .at(NOON)
        .send()
        .expect_problem(503, "frozen");
    assert!(bank.gateway.hang_up());
    let check = gwanmun(
        bank.gateway.folder(),
        &["check", "gwanmun.yaml", "--at", NOON, "--json"],
    );
    let told: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(
        (&told["tests"], check.status.code()),
        (&json!({"tried": 2, "failed": 0}), Some(0))
    );
}

#[test]
fn the_tests_of_all_files_count() {
    let upstream = Upstream::http1(|_| Reply::text("done"));
    let more = "tests:\n  - { at: 2026-11-24T12:00+09:00, request: GET /nowhere, expect: { code: $code } }\n";
    let with = |code: &str| fill(more, &[("code", &code)]);
    let gateway = Gateway::with(&yaml(&upstream, "23:30-05:00"))
        .file("more.yaml", &with("route-not-found"))
        .environment("GWANMUN_ADMIN_TOKEN", TOKEN)
        .rehearse_at(NOON)
        .directory()
        .start();
    assert!(!gateway.reload_beside("more.yaml", &with("no-route")));
    eventually("the line in the log", || {
        gateway.log().contains("more.yaml:2:5: the test fails").then_some(())
    });
    let check = gwanmun(gateway.folder(), &["check", ".", "--at", NOON, "--json"]);
    let told: Value = serde_json::from_slice(&check.stdout).unwrap();
    assert_eq!(
        (&told["tests"], &told["errors"], check.status.code()),
        (&json!({"tried": 3, "failed": 1}), &json!(1), Some(1))
    );
    let mut findings = told["findings"].as_array().unwrap().iter();
    let failing = findings.find(|finding| finding["severity"] == "error").unwrap();
    assert_eq!(
        (
            &failing["file"],
            &failing["path"],
            &failing["expected"],
            &failing["got"]
        ),
        (
            &json!("./more.yaml"),
            &json!("tests[0]"),
            &json!("no-route"),
            &json!("404 route-not-found")
        )
    );
    assert_eq!(failing["explanation"]["decision"]["status"], 404);
    assert!(gateway.reload_beside("more.yaml", &format!("{}# again\n", with("route-not-found"))));
}

//! The address for those who run the gate: health, readiness, metrics.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::support::{Connection, Gateway, Issuer, Reply, Upstream, guarded, request_to};

const BANK: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
limits:
  once: { key: principal.sub, rate: 1/m, burst: 1 }
policies:
  staff-only: { require: { roles: [teller] } }
routes:
  balance: { match: GET /balance, auth: customer, limits: [once], upstream: bank }
  ticket:  { match: GET /ticket, auth: customer, policies: [staff-only], upstream: bank }
  product: { match: GET /product, auth: none, upstream: bank, cache: { ttl: 30s, share: public } }
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
        let yaml = guarded(BANK, &upstream, &issuer);
        Self {
            gateway: Gateway::start(&yaml),
            issuer,
            _upstream: upstream,
        }
    }

    /// Some traffic of every kind, so that all metrics have samples.
    fn see_traffic(&self) {
        let token = self.issuer.token(&json!({}));
        for (target, status) in [
            ("/balance", 200),
            ("/balance", 429),
            ("/ticket", 403),
            ("/product", 200),
            ("/product", 200),
            ("/nowhere", 404),
        ] {
            let response = self.gateway.get(target).bearer(&token).send();
            // On a route without `auth` a credential may be refused; it is not what this is about.
            if target != "/product" {
                assert_eq!(response.status, status, "{target}: {}", response.summary());
            }
        }
        for _ in 0..2 {
            self.gateway.get("/product").send().expect(200);
        }
    }
}

#[test]
fn says_that_it_is_alive_and_ready() {
    let bank = Bank::open();
    for target in ["/healthz", "/readyz"] {
        bank.gateway.admin("GET", target).send().expect(200);
        let head = bank.gateway.admin("HEAD", target).send();
        assert_eq!((head.status, head.body.len()), (200, 0));
    }
}

#[test]
fn knows_no_other_pages() {
    let bank = Bank::open();
    for target in ["/", "/nowhere", "/metrics/", "/admin", "/healthz/../metrics"] {
        let status = bank.gateway.admin("GET", target).send().status;
        assert!(matches!(status, 400 | 404), "{target}: {status}");
    }
    assert_eq!(bank.gateway.admin("POST", "/metrics").send().status, 405);
}

#[test]
fn answers_nobody_who_came_for_another_host() {
    let bank = Bank::open();
    // A page of that name, resolved to this machine, must not read the metrics.
    let status = bank.gateway.admin("GET", "/metrics").host("evil.example").send().status;
    assert!((400..500).contains(&status), "{status}");
}

#[test]
fn serves_its_pages_nowhere_else() {
    let bank = Bank::open();
    for target in ["/healthz", "/readyz", "/metrics"] {
        bank.gateway.get(target).send().expect_problem(404, "route-not-found");
    }
    let admin = bank.gateway.admin_address();
    assert_eq!(
        request_to(admin, "GET", "/product")
            .host(&admin.to_string())
            .send()
            .status,
        404
    );
}

#[test]
fn counts_what_it_does() {
    let bank = Bank::open();
    bank.see_traffic();
    let metrics = bank.gateway.metrics();
    let balance = metrics.value("gwanmun_requests_total", &[("route", "balance")]);
    assert_eq!(balance, Some(2.0), "{}", metrics.text);
    assert_eq!(metrics.value("gwanmun_config_reload_failed", &[]), Some(0.0));
    assert!(
        metrics.value("gwanmun_config_info", &[]) == Some(1.0),
        "{}",
        metrics.text
    );
    for part in [
        "gwanmun_build_info",
        "limit",
        "cache",
        "upstream",
        "record",
        "decision",
        "_bucket{",
        "staff-only",
    ] {
        assert!(metrics.text.contains(part), "no {part} in\n{}", metrics.text);
    }
}

#[test]
fn keeps_what_callers_spell_out_of_its_metrics() {
    let bank = Bank::open();
    for n in 0..50 {
        bank.gateway
            .get(&format!("/made-up-{n}"))
            .host(&format!("host-{n}.example"))
            .send();
        bank.gateway.request(&format!("BREW{n}"), "/product").send();
    }
    let text = bank.gateway.metrics().text;
    for spelled in ["made-up", "host-1", "BREW", "brew"] {
        assert!(!text.contains(spelled), "{text}");
    }
}

#[test]
fn writes_metrics_that_prometheus_reads() {
    let bank = Bank::open();
    bank.see_traffic();
    let response = bank.gateway.admin("GET", "/metrics").send();
    let content_type = response.expect(200).header("content-type").unwrap_or_default();
    assert!(
        content_type.starts_with("text/plain") && content_type.contains("version=0.0.4"),
        "{content_type}"
    );

    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) if std::env::var_os("CI").is_some() => panic!("promtool (Debian: prometheus) is missing: {error}"),
        Err(_) => return eprintln!("not checked: promtool (Debian: prometheus) is not installed"),
    };
    promtool.stdin.take().unwrap().write_all(&response.body).unwrap();
    let verdict = promtool.wait_with_output().unwrap();
    let said = [verdict.stdout, verdict.stderr].concat();
    assert!(
        verdict.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&said),
        response.text()
    );
}

#[test]
fn is_not_hurt_by_nonsense() {
    let bank = Bank::open();
    for nonsense in [
        &b"\x16\x03\x01\x02\x00"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
    ] {
        let mut connection = Connection::open(bank.gateway.admin_address());
        connection.send(nonsense);
        connection.finish_sending();
        if let Some(response) = connection.response_or_close("GET") {
            assert!(response.status >= 400, "{}", response.summary());
        }
    }
    bank.gateway.admin("GET", "/healthz").send().expect(200);
}

//! Limits that count exactly, each caller for itself.

use serde_json::json;

use crate::support::{Gateway, Issuer, Reply, Response, Upstream, guarded};

/// One request a minute comes back: nothing does while a test runs.
const LIMITED: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
limits:
  slow:  { key: principal.sub, rate: 1/m, burst: 5 }
  other: { key: principal.sub, rate: 1/m, burst: 2 }
routes:
  read:   { match: GET /x, auth: customer, limits: [slow], upstream: origin }
  write:  { match: POST /x, auth: customer, limits: [slow, other], upstream: origin }
  status: { match: GET /status, auth: none, reply: { status: 200, json: { revision: 1 } } }
";

struct Door {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
    yaml: String,
}

impl Door {
    fn open() -> Self {
        let upstream = Upstream::http1(|_| Reply::text("served"));
        let issuer = Issuer::new();
        let yaml = guarded(LIMITED, &upstream, &issuer);
        Self {
            gateway: Gateway::start(&yaml),
            issuer,
            upstream,
            yaml,
        }
    }

    fn ask(&self, method: &str, subject: &str) -> Response {
        let token = self.issuer.token(&json!({"sub": subject}));
        self.gateway.request(method, "/x").bearer(&token).send()
    }

    fn exhaust(&self, subject: &str) {
        let refused = (0..20).any(|_| self.ask("GET", subject).status == 429);
        assert!(refused, "no limit in twenty requests");
    }
}

#[test]
fn admits_exactly_the_burst() {
    let door = Door::open();
    let statuses: Vec<u16> = (0..8).map(|_| door.ask("GET", "u1").status).collect();
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429, 429]);
    assert_eq!(door.upstream.count(), 5);
}

#[test]
fn admits_exactly_the_burst_of_callers_at_once() {
    let door = Door::open();
    let tokens: Vec<String> = (0..20)
        .map(|n| door.issuer.token(&json!({"jti": n.to_string()})))
        .collect();
    let admitted = std::thread::scope(|scope| {
        let callers: Vec<_> = tokens
            .iter()
            .map(|token| scope.spawn(|| door.gateway.get("/x").bearer(token).send().status))
            .collect();
        callers
            .into_iter()
            .map(|caller| caller.join().unwrap())
            .filter(|status| *status == 200)
            .count()
    });
    assert_eq!(admitted, 5);
}

#[test]
fn lets_nobody_suffer_for_another() {
    let door = Door::open();
    door.exhaust("greedy");
    for _ in 0..5 {
        door.ask("GET", "modest").expect(200);
    }
    door.ask("GET", "modest").expect_problem(429, "limit-exceeded");
}

#[test]
fn says_how_long_to_wait() {
    let door = Door::open();
    door.exhaust("u1");
    let refused = door.ask("GET", "u1");
    let problem = refused.expect_problem(429, "limit-exceeded");
    let wait: u64 = refused
        .header("retry-after")
        .and_then(|value| value.parse().ok())
        .expect("seconds to wait");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(problem["retry_after"], wait);
}

#[test]
fn charges_all_limits_or_none() {
    let door = Door::open();
    assert_eq!((0..4).filter(|_| door.ask("POST", "u1").status == 200).count(), 2);
    // What the second limit refused was not taken from the first: three of five are left.
    assert_eq!((0..6).filter(|_| door.ask("GET", "u1").status == 200).count(), 3);
}

#[test]
fn charges_nothing_for_what_is_refused_before() {
    let door = Door::open();
    for _ in 0..10 {
        let token = door.issuer.token(&json!({"exp": 1_700_000_000}));
        door.gateway
            .get("/x")
            .bearer(&token)
            .send()
            .expect_problem(401, "token-expired");
    }
    assert_eq!((0..8).filter(|_| door.ask("GET", "u1").status == 200).count(), 5);
}

#[test]
fn remembers_across_a_reload() {
    let door = Door::open();
    door.exhaust("u1");
    assert!(door.gateway.reload(&door.yaml.replace("revision: 1", "revision: 2")));
    assert_eq!(door.gateway.get("/status").send().json()["revision"], 2);
    door.ask("GET", "u1").expect_problem(429, "limit-exceeded");
}

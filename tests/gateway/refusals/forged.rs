//! What callers write into headers that are not theirs to write, and what the upstream sees of it.

use serde_json::json;

use crate::support::{Gateway, Issuer, Reply, Upstream, guarded};

const OPEN: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
routes:
  transfer:
    match: POST /transfers
    auth: customer
    forward: { x-user: principal.sub }
    upstream: bank
  news:
    match: GET /news
    auth: none
    upstream: bank
";

/// Sends one good transfer with these headers on top, and returns what the upstream saw.
fn forged(headers: &[(&str, &str)]) -> Vec<(String, String)> {
    let reply = Reply::text("done")
        .header("gwanmun-partial", "forged")
        .header("gwanmun-rehearsal", "forged");
    let upstream = Upstream::http1(move |_| reply.clone());
    let issuer = Issuer::new();
    let gateway = Gateway::start(&guarded(OPEN, &upstream, &issuer));
    let request = gateway.post("/transfers").bearer(&issuer.token(&json!({})));
    let response = headers
        .iter()
        .fold(request, |request, (name, value)| request.header(name, value))
        .send();
    response.expect(200);
    assert!(
        response.headers.iter().all(|(name, _)| !name.starts_with("gwanmun-")),
        "{}",
        response.summary()
    );
    upstream.only().headers
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers
        .iter()
        .filter(|(found, _)| found == name)
        .map(|(_, value)| value.as_str())
        .collect()
}

#[test]
fn tells_the_upstream_who_calls_whatever_the_caller_says() {
    let seen = forged(&[("x-user", "admin"), ("X-User", "root"), ("connection", "x-user")]);
    assert_eq!(values(&seen, "x-user"), ["u1"]);
}

#[test]
fn tells_the_upstream_where_the_caller_is_whatever_the_caller_says() {
    let seen = forged(&[
        ("x-forwarded-for", "203.0.113.7"),
        ("x-forwarded-for", "203.0.113.8"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=203.0.113.7"),
        ("x-real-ip", "203.0.113.7"),
    ]);
    assert_eq!(values(&seen, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(values(&seen, "x-forwarded-proto"), ["http"]);
    assert_eq!(values(&seen, "x-forwarded-host"), ["gate.example"]);
    for (name, value) in &seen {
        assert!(
            !value.contains("203.0.113") && !value.contains("evil"),
            "{name}: {value}"
        );
    }
}

#[test]
fn keeps_its_own_headers_to_itself() {
    let seen = forged(&[
        ("gwanmun-at", "2026-11-24T23:45:00+09:00"),
        ("gwanmun-partial", "x"),
        ("Gwanmun-Anything", "x"),
    ]);
    assert!(seen.iter().all(|(name, _)| !name.starts_with("gwanmun-")), "{seen:?}");
}

#[test]
fn strips_identity_headers_on_routes_that_forward_none() {
    let upstream = Upstream::http1(|_| Reply::text("news"));
    let issuer = Issuer::new();
    let gateway = Gateway::start(&guarded(OPEN, &upstream, &issuer));
    gateway.get("/news").header("x-user", "admin").send().expect(200);
    assert_eq!(upstream.only().header("x-user"), None);
}

#[test]
fn strips_hop_by_hop_headers() {
    let seen = forged(&[
        ("connection", "close, x-hop"),
        ("x-hop", "1"),
        ("te", "trailers"),
        ("proxy-authorization", "Basic dTpw"),
        ("keep-alive", "timeout=5"),
    ]);
    for name in ["x-hop", "proxy-authorization", "keep-alive"] {
        assert!(values(&seen, name).is_empty(), "{name} went through");
    }
}

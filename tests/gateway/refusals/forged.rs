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
fn passes_no_word_of_a_caller_on_who_it_is_or_what_it_asks_for() {
    let names = [
        "x-forwarded-user",
        "x-forwarded-email",
        "x-forwarded-groups",
        "x-forwarded-preferred-username",
        "x-forwarded-access-token",
        "x-forwarded-client-cert",
        "x-forwarded-uri",
        "x-forwarded-method",
        "x-forwarded-scheme",
        "x-forwarded-path",
        "remote-user",
        "x-remote-user",
        "x-auth-request-user",
        "x-auth-request-groups",
        "client-cert",
        "client-cert-chain",
        "x-original-url",
        "x-original-host",
        "x-original-forwarded-for",
        "x-rewrite-url",
        "x-cluster-client-ip",
        "cf-connecting-ip",
        "fastly-client-ip",
        "x-ssl-client-verify",
    ];
    let claims: Vec<(&str, &str)> = names.iter().map(|name| (*name, "forged")).collect();
    let seen = forged(&[claims.as_slice(), &[("x-mine", "kept")]].concat());
    assert!(seen.iter().all(|(_, value)| value != "forged"), "{seen:?}");
    assert_eq!(values(&seen, "x-mine"), ["kept"]);
}

#[test]
fn reads_the_caller_from_a_trusted_proxy_and_tells_the_upstream_itself() {
    let upstream = Upstream::http1(|_| Reply::text("news"));
    let issuer = Issuer::new();
    let behind = |from: &str| {
        let yaml = format!("trusted_proxies: {{ from: [{from}], header: cf-connecting-ip }}{OPEN}");
        let gateway = Gateway::start(&guarded(&yaml, &upstream, &issuer));
        let request = gateway.get("/news").header("cf-connecting-ip", "203.0.113.7");
        request.header("x-real-ip", "203.0.113.8").send().expect(200);
        let seen = upstream.last();
        assert_eq!(
            (seen.header("cf-connecting-ip"), seen.header("x-real-ip")),
            (None, None)
        );
        seen.header("x-forwarded-for").map(str::to_owned)
    };
    assert_eq!(behind("127.0.0.0/8").as_deref(), Some("203.0.113.7, 127.0.0.1"));
    assert_eq!(behind("192.0.2.0/24").as_deref(), Some("127.0.0.1"));
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

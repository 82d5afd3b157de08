//! What a request carries to the upstream besides what the client meant for it.

use serde_json::json;

use super::Open;
use crate::support::wire::Message;
use crate::support::{Gateway, Reply, Upstream, fill};

impl Open {
    /// What the upstream got of a request with these header lines.
    #[track_caller]
    fn sends_on(&self, headers: &str) -> Message {
        let mut connection = self.gateway.connect();
        connection.send(format!("GET /x HTTP/1.1\r\n{headers}\r\n").as_bytes());
        connection.response().expect(200);
        let mut came = self.recorder.requests();
        assert_eq!(came.len(), 1, "{came:?}");
        came.remove(0)
    }
}

fn text<'a>(message: &'a Message, name: &str) -> Vec<&'a str> {
    let values = message.values(name).into_iter();
    values.map(|value| std::str::from_utf8(value).expect("text")).collect()
}

#[test]
fn the_host_that_was_judged_is_the_one_sent_on() {
    let open = Open::start();
    for (sent, came) in [
        ("a.example", "a.example"),
        ("A.Example", "a.example"),
        ("a.example.", "a.example"),
        ("a.example:", "a.example"),
        ("A.example.:8080", "a.example:8080"),
        ("[2001:DB8:0::1]", "[2001:db8::1]"),
        ("[2001:db8::1]:8080", "[2001:db8::1]:8080"),
    ] {
        let message = open.sends_on(&format!("Host: {sent}\r\n"));
        assert_eq!(text(&message, "host"), [came], "{sent}");
        assert!(came.starts_with(text(&message, "x-forwarded-host")[0]));
    }
}

#[test]
fn what_concerns_the_connection_ends_here() {
    let open = Open::start();
    let message = open.sends_on(concat!(
        "Host: a\r\nConnection: keep-alive, X-Mine, TE\r\nX-Mine: 1\r\nX-Yours: 2\r\nKeep-Alive: timeout=5\r\n",
        "Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nTE: trailers\r\nTrailer: X-Sum\r\n",
        "Upgrade: h2c\r\nHTTP2-Settings: x\r\nX_Yours: 3\r\n"
    ));
    let names: Vec<&str> = message.headers.iter().map(|(name, _)| name.as_str()).collect();
    for gone in [
        "connection",
        "x-mine",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "te",
        "trailer",
        "upgrade",
        "http2-settings",
        "x_yours",
    ] {
        assert!(!names.contains(&gone), "{names:?}");
    }
    assert_eq!(text(&message, "x-yours"), ["2"]);
}

#[test]
fn what_the_gate_says_of_itself_cannot_be_taken_away() {
    let open = Open::start();
    let message = open.sends_on(concat!(
        "Host: a\r\nConnection: x-real-user\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n",
        "X-Request-Id: mine\r\nVia: 1.0 mine\r\n"
    ));
    assert_eq!(text(&message, "x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(text(&message, "x-forwarded-proto"), ["http"]);
    assert_eq!(text(&message, "via"), ["1.0 mine", "1.1 gwanmun"]);
    assert_ne!(text(&message, "x-request-id"), ["mine"]);
    let mut connection = open.gateway.connect();
    connection.send(b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n");
    connection.response().expect(200);
    assert_eq!(text(&open.recorder.requests()[0], "via"), ["1.0 gwanmun"]);
}

#[test]
fn a_trace_goes_on_and_nothing_else_passes_for_one() {
    let open = Open::start();
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let message = open.sends_on(&format!(
        "Host: a\r\ntraceparent: {parent}\r\ntracestate: a=1\r\ntracestate: b=2\r\n"
    ));
    assert_eq!(text(&message, "traceparent"), [parent]);
    assert_eq!(text(&message, "tracestate"), ["a=1,b=2"]);
    let message = open.sends_on("Host: a\r\ntracestate: a=1\r\n");
    assert!(message.values("traceparent").is_empty() && message.values("tracestate").is_empty());
    for bad in [
        "traceparent: nonsense\r\n".to_owned(),
        format!("traceparent: {parent}\r\ntraceparent: {parent}\r\n"),
    ] {
        let message = open.sends_on(&format!("Host: a\r\n{bad}tracestate: a=1\r\n"));
        let id = text(&message, "x-request-id")[0];
        let traces = text(&message, "traceparent");
        assert_eq!(traces.len(), 1, "{bad}");
        assert!(traces[0].starts_with(&format!("00-{id}-")) && traces[0].len() == parent.len());
        assert!(message.values("tracestate").is_empty());
    }
}

/// RFC 9110 §7.6.1: what a rule reads is what is sent on; a name that `Connection` takes away is not there for either.
#[test]
fn nothing_is_judged_by_what_is_not_sent_on() {
    let upstream = Upstream::http1(|seen| Reply::json(&json!({"client": seen.header("x-client")})));
    let gateway = Gateway::start(&fill(
        "
upstreams:
  origin: { endpoints: [$upstream] }
clients:
  app: { header: { x-client: app } }
  web: { default: true }
policies:
  apps: { require: { clients: [app] } }
routes:
  apps: { match: GET /apps, auth: none, policies: [apps], upstream: origin }
",
        &[("upstream", &upstream.address())],
    ));
    let ask = || gateway.get("/apps").header("x-client", "app");
    assert_eq!(ask().send().expect(200).json()["client"], "app");
    ask()
        .header("connection", "x-client")
        .send()
        .expect_problem(403, "denied");
}

#[test]
fn what_the_upstream_says_of_its_connection_ends_here() {
    let upstream = Upstream::http1(|_| {
        Reply::text("x")
            .header("connection", "x-mine")
            .header("x-mine", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-authenticate", "Basic")
            .header("x-yours", "2")
    });
    let gateway = Gateway::start(&fill(super::OPEN, &[("upstream", &upstream.address())]));
    let response = gateway.get("/x").send();
    response.expect(200);
    for gone in ["x-mine", "keep-alive", "proxy-authenticate"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    assert_eq!(response.header("x-yours"), Some("2"));
}

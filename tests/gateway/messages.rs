//! What of HTTP's odds and ends a gate has to get right: expectations, older clients, answers without a body, and events that
//! must not wait for one another.

use std::process::Command;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use crate::sockets::kit::{Endpoint, Wire, header};
use crate::support::{Connection, Gateway, RefusingPort, Reply, Response, Upstream, eventually};

fn gateway(upstream: &Upstream) -> Gateway {
    Gateway::start(&format!(
        "\
upstreams: {{ all: {{ endpoints: [{}] }}, dead: {{ endpoints: [{}] }} }}
shapes: {{ small: {{ keep: [id] }} }}
authenticators: {{ keys: {{ api_key: {{ keys: [] }} }} }}
routes:
  any: {{ match: 'GET,POST /up/{{rest...}}', auth: none, limits: [many], upstream: all }}
  kept: {{ match: 'GET /kept/{{rest...}}', auth: none, cache: {{ ttl: 1h, share: public }}, upstream: all }}
  small: {{ match: 'GET /small/{{rest...}}', auth: none, compress: {{ min_size: 1B }}, upstream: all }}
  cut: {{ match: 'GET /cut/{{rest...}}', auth: none, shape: small, upstream: all }}
  whole: {{ match: GET /whole, auth: none, aggregate: {{ a: {{ get: 'all:/json' }} }} }}
  said: {{ match: 'GET,POST /said', auth: none, limits: [many], reply: {{ status: 200, json: {{ a: 1 }} }} }}
  nothing: {{ match: GET /nothing, auth: none, reply: {{ status: 204 }} }}
  moved: {{ match: GET /moved, auth: none, redirect: {{ status: 302, to: /said }} }}
  closed: {{ match: 'GET,POST /closed', auth: keys, upstream: all }}
  dead: {{ match: POST /dead, auth: none, limits: [many], upstream: dead }}
limits: {{ many: {{ key: ip, rate: 1000/s }} }}
",
        upstream.address(),
        RefusingPort::new().address()
    ))
}

fn upstream() -> Upstream {
    Upstream::http1(|seen| match seen.path() {
        "/up/chunked" | "/small/chunked" => Reply::typed("application/json", "{\"id\":1,\"more\":2}").chunked(),
        "/up/nothing" | "/kept/nothing" | "/small/nothing" | "/cut/nothing" => Reply::status(204),
        "/up/same" | "/small/same" | "/cut/same" => Reply::status(304).header("etag", "\"a\""),
        _ => Reply::typed("application/json", "{\"id\":1,\"more\":2}")
            .header("etag", "\"a\"")
            .header("cache-control", "max-age=3600"),
    })
}

#[test]
fn a_refused_request_is_not_waited_for() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    for (target, lines, status, code) in [
        ("/closed", "Content-Length: 1000000", 401, "key-missing"),
        ("/closed", "Transfer-Encoding: chunked", 401, "key-missing"),
        ("/nowhere", "Content-Length: 5", 404, "route-not-found"),
        ("/up/x", "Content-Length: 100000000", 413, "body-too-large"),
    ] {
        let mut client = Connection::open(gateway.address());
        client.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n{lines}\r\n\r\n").as_bytes());
        // No body was sent, and none will be.
        let refused = client.response();
        refused.expect_problem(status, code);
        assert_eq!(refused.list("connection"), ["close"], "{target}");
        assert!(client.response_or_close("POST").is_none());
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn a_client_that_is_still_sending_can_read_why_it_is_refused() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    for (target, lines, status, code) in [
        ("/nowhere", "Transfer-Encoding: chunked", 404, "route-not-found"),
        ("/up/x", "Content-Length: 100000000", 413, "body-too-large"),
        // What is refused on its way, too.
        ("/dead", "Content-Length: 8000000", 502, "upstream-unreachable"),
    ] {
        let mut client = Connection::open(gateway.address());
        client.send(format!("POST {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n").as_bytes());
        eventually("an answer", || client.has_something_to_say().then_some(()));
        // More than what can lie between the two without being read.
        let piece = [&b"10000\r\n"[..], &[b'x'; 0x10000], b"\r\n"].concat();
        for _ in 0..80 {
            assert!(client.send(&piece), "{target}: not heard out");
        }
        client.response().expect_problem(status, code);
    }
    assert_eq!(upstream.count(), 0);
}

#[test]
fn an_allowed_request_is_told_to_go_on() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let mut client = Wire::open(gateway.address());
    client.send(b"POST /up/x HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 5\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 100 "));
    client.send(b"hello");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200 "));
    assert_eq!(upstream.only().body, b"hello");
    // An interim answer ends nothing: the connection serves on.
    let mut client = Connection::open(gateway.address());
    for _ in 0..3 {
        client.send(b"POST /up/x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        eventually("the word to go on", || client.has_something_to_say().then_some(()));
        client.send(b"hello");
        let answer = client.response();
        assert_eq!(answer.expect(200).list("connection"), ["keep-alive"]);
    }
    // curl waits a second for it; a body it sends without having been told has cost that second.
    let body = "x".repeat(2 << 20);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("body"), &body).unwrap();
    let output = curl(&[
        "-s",
        "-v",
        "-H",
        "Expect: 100-continue",
        "--expect100-timeout",
        "60",
        "--data-binary",
    ])
    .arg(format!("@{}", folder.path().join("body").display()))
    .arg(format!("http://{}/up/large", gateway.address()))
    .output()
    .expect("curl runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("< HTTP/1.1 100 Continue") && said.contains("< HTTP/1.1 200 OK"),
        "{said}"
    );
    assert_eq!(upstream.last().body.len(), body.len());
}

#[test]
fn knows_no_other_expectation() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    for expectation in ["tea", "100-continue, tea", "", "200-ok"] {
        let answer = gateway.post("/up/x").header("expect", expectation).body("a").send();
        answer.expect_problem(417, "expectation-failed");
    }
    assert_eq!(upstream.count(), 0);
    // HTTP/1.0 knows none at all (RFC 9110 §10.1.1).
    let mut client = Connection::open(gateway.address());
    client.send(b"POST /up/x HTTP/1.0\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\na");
    client.response().expect(200);
    assert_eq!(upstream.only().header("expect"), None);
}

#[test]
fn older_clients_get_no_chunks() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    let ask = |target: &str, lines: &str| -> (Response, Connection) {
        let mut client = Connection::open(gateway.address());
        client.send(format!("GET {target} HTTP/1.0\r\nHost: a\r\n{lines}\r\n").as_bytes());
        (client.response(), client)
    };
    for (target, lines) in [
        ("/up/chunked", ""),
        ("/up/chunked", "Connection: keep-alive\r\n"),
        ("/small/chunked", ""),
        ("/small/chunked", "Accept-Encoding: gzip\r\n"),
        ("/small/plain", "Accept-Encoding: gzip\r\nConnection: keep-alive\r\n"),
        ("/cut/chunked", ""),
    ] {
        let (answer, mut client) = ask(target, lines);
        answer.expect(200);
        assert_eq!(
            answer.header("transfer-encoding"),
            None,
            "{target} {}",
            answer.summary()
        );
        let json: serde_json::Value = serde_json::from_slice(&crate::support::decoded(&answer)).unwrap();
        assert_eq!(json["id"], 1);
        if answer.header("content-length").is_none() {
            assert_eq!(answer.list("connection"), ["close"]);
        }
        if !lines.contains("keep-alive") || answer.header("content-length").is_none() {
            assert!(client.response_or_close("GET").is_none());
        }
    }
    // One that asks for it keeps its connection, as far as the end of an answer can be told.
    let (answer, mut client) = ask("/up/x", "Connection: keep-alive\r\n");
    assert_eq!(answer.list("connection"), ["keep-alive"]);
    client.send(b"GET /said HTTP/1.0\r\nHost: a\r\n\r\n");
    assert_eq!(client.response().expect(200).list("connection"), ["close"]);
    assert!(client.response_or_close("GET").is_none());
    let url = format!("http://{}/up/chunked", gateway.address());
    let output = curl(&["-s", "-f", "--http1.0", &url]).output().expect("curl runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "{\"id\":1,\"more\":2}");
}

#[test]
fn older_clients_get_no_interim_answers() {
    for interim in ["100 Continue\r\n", "103 Early Hints\r\nLink: </a>\r\n"] {
        let answer = format!("HTTP/1.1 {interim}\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast");
        let upstream = Upstream::raw(answer.leak().as_bytes());
        let gateway = gateway(&upstream);
        let mut client = Wire::open(gateway.address());
        client.send(b"GET /up/x HTTP/1.0\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
        let head = client.head().unwrap();
        assert!(head.contains(" 200 "), "{head}");
        assert_eq!(client.rest(), b"last");
    }
}

fn curl(arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["--max-time", "60", "--noproxy", "*"]).args(arguments);
    command
}

#[test]
fn answers_to_head_are_those_to_get_without_the_body() {
    let upstream = upstream();
    let gateway = gateway(&upstream);
    for (target, lines) in [
        ("/up/x", &[][..]),
        ("/kept/x", &[]),
        ("/kept/x", &[("if-none-match", "\"a\"")]),
        ("/small/x", &[]),
        ("/small/x", &[("accept-encoding", "gzip")]),
        ("/cut/x", &[]),
        ("/whole", &[]),
        ("/said", &[]),
        ("/nothing", &[]),
        ("/moved", &[]),
        ("/closed", &[]),
        ("/nowhere", &[]),
        ("/up/nothing", &[]),
        ("/up/same", &[("if-none-match", "\"a\"")]),
        ("/small/nothing", &[("accept-encoding", "gzip")]),
        (
            "/small/same",
            &[("accept-encoding", "gzip"), ("if-none-match", "\"a\"")],
        ),
        ("/cut/nothing", &[]),
        ("/kept/nothing", &[]),
    ] {
        // On one connection: a body that is there too much, or missing, would be found by the next answer.
        let mut client = Connection::open(gateway.address());
        let mut ask = |method: &str| {
            let request = lines
                .iter()
                .fold(gateway.request(method, target), |request, (name, value)| {
                    request.header(name, value)
                });
            client.send(&request.bytes());
            client.response_to(method)
        };
        let (get, head, again) = (ask("GET"), ask("HEAD"), ask("GET"));
        assert_eq!((get.status, again.status), (head.status, head.status), "{target}");
        assert!(head.body.is_empty());
        if matches!(get.status, 204 | 304) {
            assert!(get.body.is_empty());
            assert_eq!(get.header("transfer-encoding"), None);
            assert!(
                get.status == 304 || get.header("content-length").is_none(),
                "{}",
                get.summary()
            );
        }
        // What is not known without the body may be left out (RFC 9110 §9.3.2), but nothing else may be said.
        if let Some(length) = head.header("content-length") {
            assert_eq!(
                Some(length),
                get.header("content-length"),
                "{target} {}",
                head.summary()
            );
        }
        assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
    }
    for target in ["/up/x", "/said", "/closed"] {
        let url = format!("http://{}{target}", gateway.address());
        let output = curl(&["-s", "-I", &url]).output().expect("curl runs");
        let said = String::from_utf8_lossy(&output.stdout).to_lowercase();
        assert!(output.status.success() && said.contains("content-length: "), "{said}");
    }
}

#[test]
fn an_event_is_there_before_the_next_is_sent() {
    let (go_on, waiting) = mpsc::channel::<()>();
    let waiting = Arc::new(Mutex::new(waiting));
    let endpoint = Endpoint::start(move |mut wire, head| {
        let kind = header(&head, "x-kind").unwrap_or_default();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
        for number in 0..3 {
            let event = format!("data: {number}\n\n");
            wire.send(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
            if waiting.lock().unwrap().recv().is_err() {
                return;
            }
        }
        wire.send(b"0\r\n\r\n");
    });
    let gateway = Gateway::start(&format!(
        "\
upstreams: {{ all: {{ endpoints: [{}] }} }}
routes:
  plain: {{ match: GET /plain, auth: none, upstream: all }}
  small: {{ match: GET /small, auth: none, compress: {{ min_size: 1B }}, cache: {{ ttl: 1h, share: public }}, upstream: all }}
",
        endpoint.address
    ));
    for (target, kind) in [
        ("/plain", "text/event-stream"),
        ("/small", "text/event-stream; charset=utf-8"),
        ("/plain", "application/octet-stream"),
    ] {
        let mut client = Wire::open(gateway.address());
        client.send(
            format!(
                "GET {target} HTTP/1.1\r\nHost: a\r\nAccept: text/event-stream\r\nAccept-Encoding: gzip, br\r\nX-Kind: {kind}\r\n\r\n"
            )
            .as_bytes(),
        );
        let head = client.head().unwrap();
        assert_eq!(header(&head, "content-encoding"), None, "{head}");
        for number in 0..3 {
            let size = usize::from_str_radix(&client.line().unwrap(), 16).unwrap();
            let chunk = client.take(size + 2).unwrap();
            assert_eq!(chunk[..size], *format!("data: {number}\n\n").as_bytes());
            go_on.send(()).unwrap();
        }
        assert_eq!(client.line().unwrap(), "0");
    }
}

//! Pools of endpoints: whose turn it is, who is left out, and what is answered when nobody can.

use serde_json::json;

use crate::sockets::kit::{Endpoint, Wire, handshake, header};
use crate::support::http2::{DATA, END_STREAM, Http2, frame, request};
use crate::support::{Connection, Gate, Gateway, RefusingPort, Reply, Upstream, eventually, fill};

/// One route each for reading and writing `/x`, and one for a socket where there can be one, on an upstream described by the
/// rest of its YAML.
fn gateway(upstream: &str) -> Gateway {
    let yaml = "
upstreams:
  origin:
$upstream
routes:
  read:  { match: GET /x, auth: none, upstream: origin }
  write: { match: POST /x, auth: none, upstream: origin }
$socket
";
    let socket = match upstream.contains("protocol: http2") {
        true => "",
        false => "  socket: { match: GET /socket, auth: none, websocket: true, upstream: origin }",
    };
    let upstream: String = upstream.lines().map(|line| format!("    {}\n", line.trim())).collect();
    Gateway::start(&fill(yaml, &[("upstream", &upstream), ("socket", &socket)]))
}

fn named(name: &'static str) -> Upstream {
    Upstream::http1(move |_| Reply::text(name))
}

#[test]
fn takes_endpoints_in_turn() {
    let (a, b) = (named("a"), named("b"));
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nbalance: round_robin",
        a.address(),
        b.address()
    ));
    for _ in 0..10 {
        gateway.get("/x").send().expect(200);
    }
    assert_eq!((a.count(), b.count()), (5, 5));
}

#[test]
fn tries_another_endpoint_when_one_refuses_connections() {
    let (dead, alive) = (RefusingPort::new(), named("alive"));
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nretry: {{ attempts: 1, after: [connect] }}",
        dead.address(),
        alive.address()
    ));
    for _ in 0..6 {
        gateway.get("/x").send().expect(200);
    }
    // Nothing was sent to the dead one, so writing may be tried again as well.
    for _ in 0..6 {
        gateway.post("/x").body("six times").send().expect(200);
    }
    assert_eq!(alive.count(), 12);
    assert!(alive.seen().iter().skip(6).all(|seen| seen.body == b"six times"));
}

#[test]
fn tries_another_endpoint_after_a_listed_status() {
    let (broken, alive) = (Upstream::http1(|_| Reply::status(503)), named("alive"));
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nretry: {{ attempts: 1, after: [connect, 502, 503] }}",
        broken.address(),
        alive.address()
    ));
    for _ in 0..4 {
        assert_eq!(gateway.get("/x").send().expect(200).text(), "alive");
    }
    assert_eq!(alive.count(), 4);
    assert!(broken.count() >= 1);
}

#[test]
fn never_repeats_a_write_that_was_sent() {
    let (a, b) = (
        Upstream::http1(|_| Reply::status(503)),
        Upstream::http1(|_| Reply::status(503)),
    );
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nretry: {{ attempts: 1, after: [connect, 502, 503] }}",
        a.address(),
        b.address()
    ));
    for _ in 0..4 {
        assert_eq!(gateway.post("/x").body("once").send().status, 503);
    }
    assert_eq!(a.count() + b.count(), 4);
}

#[test]
fn passes_the_last_failure_on_when_tries_run_out() {
    let reply = |_: &_| Reply::text("closed for today").with_status(503);
    let (a, b) = (Upstream::http1(reply), Upstream::http1(reply));
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nretry: {{ attempts: 1, after: [502, 503] }}",
        a.address(),
        b.address()
    ));
    let response = gateway.get("/x").send();
    assert_eq!(response.expect(503).text(), "closed for today");
    assert_eq!((a.count(), b.count()), (1, 1));
}

#[test]
fn says_that_an_upstream_cannot_be_reached_and_no_more() {
    let dead = RefusingPort::new();
    let gateway = gateway(&format!("endpoints: [{}]", dead.address()));
    let problem = gateway
        .get("/x")
        .send()
        .expect_problem(502, "upstream-unreachable")
        .to_string();
    assert!(
        !problem.contains("refused") && !problem.contains("127.0.0.1"),
        "{problem}"
    );
    let record = gateway.stop().remove(0);
    assert_eq!(record["status"], 502, "{record}");
}

#[test]
fn says_that_an_upstream_is_too_slow() {
    let slow = Upstream::http1(|_| Reply::never());
    let gateway = gateway(&format!(
        "endpoints: [{}]\ntimeout: {{ connect: 1s, response: 200ms }}",
        slow.address()
    ));
    gateway.get("/x").send().expect_problem(504, "upstream-timeout");
    // The next request is served as if nothing had been.
    slow.answer_with(|_| Reply::text("awake"));
    gateway.get("/x").send().expect(200);
}

#[test]
fn no_caller_hurries_an_endpoint_into_its_breaker() {
    let hurried = |gateway: &Gateway| {
        let call = gateway.post("/x").header("content-type", "application/grpc");
        call.header("grpc-timeout", "1n").body("x").send()
    };
    let settings = "breaker: { window: 60s, open_for: 1h, min_requests: 2 }\ntimeout: { response: 30s }";
    // It is no gRPC: nobody's word counts.
    let upstream = named("a");
    let plain = gateway(&format!("endpoints: [{}]\n{settings}", upstream.address()));
    for _ in 0..4 {
        assert_eq!(hurried(&plain).expect(200).text(), "a");
    }
    // It is: the caller may give up early, and that is not the endpoint's failure.
    let upstream = Upstream::http2(|seen| match seen.header("grpc-timeout") {
        Some(_) => Reply::never(),
        None => Reply::text("b"),
    });
    let calls = gateway(&format!(
        "endpoints: [{}]\nprotocol: http2\n{settings}",
        upstream.address()
    ));
    for _ in 0..4 {
        hurried(&calls).expect_problem(504, "upstream-timeout");
    }
    assert_eq!(calls.get("/x").send().expect(200).text(), "b");
}

#[test]
fn who_takes_events_waits_no_longer_for_a_header() {
    let events = "timeout: { response: 200ms, idle: 1h }";
    let http1 = Upstream::http1(|_| Reply::never());
    let http2 = Upstream::http2(|_| Reply::never());
    for (upstream, protocol) in [(&http1, "http1"), (&http2, "http2")] {
        let gateway = gateway(&format!(
            "endpoints: [{}]\nprotocol: {protocol}\n{events}",
            upstream.address()
        ));
        let asked = gateway.get("/x").header("accept", "text/event-stream").send();
        asked.expect_problem(504, "upstream-timeout");
        let mut client = Http2::plain(gateway.address());
        let lines = [request("GET", "/x"), vec![("accept", "text/event-stream")]].concat();
        assert_eq!(client.exchange(1, &lines).status, 504, "{protocol}");
        for record in gateway.stop() {
            assert_eq!(
                (&record["status"], &record["upstream"]["fault"]),
                (&json!(504), &json!("response-timeout")),
                "{record}"
            );
        }
    }
    // Between events there may be more time.
    let endpoint = Endpoint::start(|mut wire, _| {
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        std::thread::sleep(std::time::Duration::from_secs(1));
        wire.send(b"data: late\n\n");
    });
    let gateway = gateway(&format!("endpoints: [{}]\n{events}", endpoint.address));
    // Whoever asked for them or not: they are known by their header.
    for accepted in ["text/event-stream", "*/*"] {
        let answer = gateway.get("/x").header("accept", accepted).send();
        assert_eq!(answer.expect(200).text(), "data: late\n\n", "{accepted}");
    }
}

#[test]
fn between_the_pieces_of_an_answer_there_is_no_more_time_than_before_its_header() {
    let endpoint = Endpoint::start(|mut wire, _| {
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na");
        wire.head();
    });
    let gateway = gateway(&format!(
        "endpoints: [{}]\ntimeout: {{ response: 200ms, idle: 1h }}",
        endpoint.address
    ));
    let answer = gateway.get("/x").send();
    assert!(!answer.whole, "{}", answer.summary());
    let record = gateway.stop().remove(0);
    assert_eq!(record["upstream"]["fault"], "response-timeout", "{record}");
}

#[test]
fn what_has_no_body_does_not_wait_for_the_end_of_one() {
    let endpoint = Endpoint::start(|mut wire, _| {
        wire.send(b"HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n");
        wire.head();
    });
    let gateway = gateway(&format!(
        "endpoints: [{}]\ntimeout: {{ response: 200ms, idle: 1h }}",
        endpoint.address
    ));
    let mut client = Wire::open(gateway.address());
    client.send(b"GET /x HTTP/1.1\r\nHost: gate.example\r\n\r\n");
    assert!(client.head().unwrap().starts_with("HTTP/1.1 205 "));
    // The endpoint sends no more, and is not waited for.
    assert_eq!(client.rest(), b"");
    let record = gateway.stop().remove(0);
    assert_eq!(record["upstream"]["fault"], "response-timeout", "{record}");
}

#[test]
fn no_caller_that_dawdles_is_an_endpoint_s_failure() {
    let settings = "timeout: { response: 500ms }\nbreaker: { window: 60s, open_for: 1h, min_requests: 2 }";
    let pause = || std::thread::sleep(std::time::Duration::from_secs(2));
    for (upstream, protocol) in [(named("a"), "http1"), (Upstream::http2(|_| Reply::text("a")), "http2")] {
        let gateway = gateway(&format!(
            "endpoints: [{}]\nprotocol: {protocol}\n{settings}",
            upstream.address()
        ));
        for _ in 0..2 {
            let mut client = Connection::open(gateway.address());
            client.send(b"POST /x HTTP/1.1\r\nHost: gate.example\r\nContent-Length: 10\r\n\r\n12345");
            let mut other = Http2::plain(gateway.address());
            other.open(1, &request("POST", "/x"));
            other.send(&frame(DATA, 0, 1, b"12345"));
            pause();
            client.send(b"67890");
            client.response().expect(200);
            other.send(&frame(DATA, END_STREAM, 1, b"67890"));
            assert_eq!(other.answer(1).status, 200, "{protocol}");
        }
        // From then on the endpoint is waited for.
        upstream.answer_with(|_| Reply::never());
        let asked = gateway.post("/x").body("all of it").send();
        asked.expect_problem(504, "upstream-timeout");
    }
}

#[test]
fn who_is_silent_in_a_call_waits_for_the_other() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::http2(move |_| Reply::typed("application/grpc", "hi").held_by(&held));
    let yaml = "
bounds: { body: { grace: 200ms } }
upstreams: { origin: { endpoints: [$origin], protocol: http2, timeout: { response: 200ms, idle: 1h } } }
routes: { call: { match: POST /x, auth: none, upstream: origin } }
";
    let gateway = Gateway::start(&fill(yaml, &[("origin", &upstream.address())]));
    let call = [request("POST", "/x"), vec![("content-type", "application/grpc")]].concat();
    let mut client = Http2::plain(gateway.address());
    client.open(1, &call);
    client.send(&frame(DATA, 0, 1, b"\0\0\0\0\x02yo"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    client.send(&frame(DATA, END_STREAM, 1, &[]));
    upstream.wait_for("/x", 1);
    gate.open();
    assert_eq!(client.answer(1).body, b"hi");
}

#[test]
fn a_header_has_one_deadline_however_it_comes() {
    // A byte at a time, without end.
    let endpoint = Endpoint::start(|mut wire, _| {
        wire.send(b"HTTP/1.1 200 OK\r\nX: ");
        while wire.send(b"x") {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    });
    let gateway = gateway(&format!(
        "endpoints: [{}]\ntimeout: {{ response: 1s }}",
        endpoint.address
    ));
    gateway.get("/x").send().expect_problem(504, "upstream-timeout");
    let mut client = Http2::plain(gateway.address());
    assert_eq!(client.exchange(1, &request("GET", "/x")).status, 504);
    let mut client = Connection::open(gateway.address());
    client.send(handshake("/socket", "").as_bytes());
    client.response().expect_problem(504, "upstream-timeout");
    for record in gateway.stop() {
        assert_eq!(record["upstream"]["fault"], "response-timeout", "{record}");
    }
}

#[test]
fn says_nothing_of_a_body_where_there_is_none() {
    for (answer, status, length) in [
        (
            &b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"[..],
            "204",
            None,
        ),
        (
            b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
            "204",
            None,
        ),
        (
            b"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok",
            "205",
            Some("0"),
        ),
        (
            b"HTTP/1.1 205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "205",
            Some("0"),
        ),
        (
            b"HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            "103",
            None,
        ),
    ] {
        let upstream = Upstream::raw(answer);
        let gateway = gateway(&format!("endpoints: [{}]", upstream.address()));
        let mut client = Wire::open(gateway.address());
        client.send(b"GET /x HTTP/1.1\r\nHost: gate.example\r\nConnection: close\r\n\r\n");
        let head = client.head().unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(header(&head, "content-length"), length, "{head}");
        assert_eq!(header(&head, "transfer-encoding"), None, "{head}");
        match status {
            "103" => assert!(client.head().unwrap().starts_with("HTTP/1.1 204 ")),
            _ => assert_eq!(client.rest(), b"", "{head}"),
        }
    }
}

#[test]
fn answers_for_an_upstream_that_does_not_speak_http() {
    for garbage in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"",
        b"HTTP/1.1 200 OK\r\nconte",
        b"HTTP/1.1 99999 What\r\n\r\n",
    ] {
        let upstream = Upstream::raw(garbage);
        let gateway = gateway(&format!(
            "endpoints: [{}]\ntimeout: {{ response: 2s }}",
            upstream.address()
        ));
        let response = gateway.get("/x").send();
        assert_eq!(response.status, 502, "{}", response.summary());
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert!(!response.text().contains("SSH"));
    }
}

#[test]
fn never_makes_half_an_answer_look_whole() {
    let body = "x".repeat(100_000);
    for reply in [
        Reply::text(body.clone()).cut_short(),
        Reply::text(body.clone()).chunked().cut_short(),
    ] {
        let upstream = Upstream::http1(move |_| reply.clone());
        let gateway = gateway(&format!("endpoints: [{}]", upstream.address()));
        let response = gateway.get("/x").send();
        assert!(!response.whole || response.status == 502, "{}", response.summary());
    }
}

#[test]
fn takes_an_unhealthy_endpoint_out_and_back_in() {
    let (a, b) = (named("a"), named("b"));
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nhealth: {{ path: /healthz, every: 100ms }}",
        a.address(),
        b.address()
    ));
    // Probes come one after another, so that after five more of one kind the verdict has been reached.
    let probed = |upstream: &Upstream| upstream.wait_for("/healthz", upstream.count_of("/healthz") + 5);
    let ask = || {
        let before = (a.count_of("/x"), b.count_of("/x"));
        for _ in 0..10 {
            gateway.get("/x").send().expect(200);
        }
        (a.count_of("/x") - before.0, b.count_of("/x") - before.1)
    };
    probed(&a);
    assert_eq!(ask(), (5, 5));

    a.answer_with(|seen| match seen.path() {
        "/healthz" => Reply::status(503),
        _ => Reply::text("a"),
    });
    probed(&a);
    assert_eq!(ask(), (0, 10));

    a.answer_with(|_| Reply::text("a"));
    probed(&a);
    assert_eq!(ask(), (5, 5));
}

#[test]
fn says_when_no_endpoint_is_healthy_until_one_comes_up() {
    let dead = RefusingPort::new();
    let gateway = gateway(&format!(
        "endpoints: [{}]\nhealth: {{ path: /healthz, every: 100ms }}",
        dead.address()
    ));
    eventually("the endpoint is taken out", || {
        let response = gateway.get("/x").send();
        (response.status == 503).then(|| response.expect_problem(503, "no-healthy-endpoint"))
    });
    let _alive = dead.come_up(|_| Reply::text("up"));
    eventually("the endpoint is taken back", || {
        (gateway.get("/x").send().status == 200).then_some(())
    });
}

#[test]
fn speaks_http2_where_told_to() {
    let upstream = Upstream::http2(|seen| {
        Reply::text(format!("{} {}", seen.method, seen.body.len()))
            .header("x-from", "h2")
            .header("x-from", "twice")
    });
    let gateway = gateway(&format!("endpoints: [{}]\nprotocol: http2", upstream.address()));
    let read = gateway.get("/x?q=1").header("x-asked", "1").send();
    assert_eq!(read.expect(200).text(), "GET 0");
    assert_eq!(read.headers("x-from"), ["h2", "twice"]);
    let body = "z".repeat(200_000);
    assert_eq!(
        gateway.post("/x").body(body.clone()).send().expect(200).text(),
        "POST 200000"
    );
    assert_eq!(
        gateway.post("/x").body(body).chunked().send().expect(200).text(),
        "POST 200000"
    );
    for seen in upstream.seen() {
        assert_eq!(seen.version, http::Version::HTTP_2);
        assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    }
    assert_eq!(upstream.seen()[0].target, "/x?q=1");
    assert_eq!(upstream.seen()[0].header("x-asked"), Some("1"));
}

#[test]
fn answers_many_callers_over_http2_at_once() {
    // All must have arrived before one is answered: nobody waits behind another.
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::http2(move |_| Reply::text("together").held_by(&held));
    let gateway = gateway(&format!(
        "endpoints: [{}]\nprotocol: http2\ntimeout: {{ response: 30s }}",
        upstream.address()
    ));
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..10).map(|_| scope.spawn(|| gateway.get("/x").send())).collect();
        upstream.wait_for("/x", 10);
        gate.open();
        for caller in callers {
            assert_eq!(caller.join().unwrap().expect(200).text(), "together");
        }
    });
}

#[test]
fn passes_an_answer_through_as_it_is() {
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
    let sent = body.clone();
    let upstream = Upstream::http1(move |_| {
        Reply::typed("application/x-binary", sent.clone())
            .with_status(203)
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
            .header("etag", "\"v1\"")
            .chunked()
    });
    let gateway = gateway(&format!("endpoints: [{}]", upstream.address()));
    let response = gateway.get("/x").send();
    assert!(response.expect(203).body == body, "{} bytes came", response.body.len());
    assert_eq!(response.headers("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.header("etag"), Some("\"v1\""));
}

#[test]
fn passes_a_body_through_as_it_is() {
    let upstream = Upstream::http1(|seen| Reply::json(&json!(seen.body.len())));
    let gateway = gateway(&format!("endpoints: [{}]", upstream.address()));
    let body: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    for request in [
        gateway.post("/x").body(body.clone()),
        gateway.post("/x").body(body.clone()).chunked(),
    ] {
        assert_eq!(request.send().expect(200).json(), 300_000);
        assert!(upstream.last().body == body);
    }
}

#[test]
fn lets_go_of_the_upstream_when_the_caller_leaves() {
    let gate = Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::http1(move |_| Reply::text("late").held_by(&held));
    let gateway = gateway(&format!(
        "endpoints: [{}]\ntimeout: {{ response: 30s }}",
        upstream.address()
    ));
    let mut caller = gateway.connect();
    caller.send(&gateway.get("/x").bytes());
    upstream.wait_for("/x", 1);
    drop(caller);
    // Recorded while the upstream still has not answered.
    let record = gateway.records(1).remove(0);
    assert_eq!(record["status"], 499, "{record}");
    gate.open();
}

#[test]
fn leaves_an_endpoint_alone_that_fails_too_often() {
    let (a, b) = (named("a"), named("b"));
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nbreaker: {{ error_ratio: 50%, window: 60s, open_for: 1h, min_requests: 4 }}",
        a.address(),
        b.address()
    ));
    let opened = |endpoint: &Upstream| {
        let endpoint = endpoint.address().to_string();
        let labels = [("upstream", "origin"), ("endpoint", endpoint.as_str())];
        let metrics = gateway.metrics();
        (
            metrics.value("gwanmun_upstream_breaker_open", &labels),
            metrics.value("gwanmun_upstream_breaker_opened_total", &labels),
        )
    };
    assert_eq!(opened(&a), (Some(0.0), Some(0.0)));
    a.answer_with(|_| Reply::status(500));
    for _ in 0..20 {
        gateway.get("/x").send();
    }
    assert_eq!((a.count(), b.count()), (4, 16));
    assert_eq!(
        (opened(&a), opened(&b)),
        ((Some(1.0), Some(1.0)), (Some(0.0), Some(0.0)))
    );

    // Where the others are left alone, too, nobody is asked any more.
    b.answer_with(|_| Reply::status(503));
    for _ in 0..40 {
        gateway.get("/x").send();
    }
    let asked = (a.count(), b.count());
    let response = gateway.get("/x").send();
    response.expect_problem(503, "breaker-open");
    let wait: u64 = response.header("retry-after").unwrap().parse().unwrap();
    assert!((3_000..=3_600).contains(&wait), "{wait}");
    assert_eq!((a.count(), b.count()), asked);
    let record = gateway.stop().pop().unwrap();
    assert_eq!(
        (&record["status"], &record["failure"]),
        (&json!(503), &json!("breaker-open")),
        "{record}"
    );
}

#[test]
fn comes_back_to_an_endpoint_by_one_probe() {
    let gate = Gate::closed();
    let upstream = Upstream::http1(|_| Reply::status(503));
    let gateway = gateway(&format!(
        "endpoints: [{}]\ntimeout: {{ response: 50s }}\nbreaker: {{ window: 60s, open_for: 100ms, min_requests: 2 }}",
        upstream.address()
    ));
    for _ in 0..2 {
        gateway.get("/x").send().expect(503);
    }
    let held = gate.clone();
    upstream.answer_with(move |_| Reply::text("well again").held_by(&held));
    std::thread::scope(|scope| {
        // Refused until the time is over; then one of these reaches the upstream.
        let probe = scope.spawn(|| {
            eventually("a probe", || {
                let response = gateway.get("/x").send();
                (response.status == 200).then_some(())
            });
        });
        upstream.wait_for("/x", 3);
        // While it is under way nobody else is let through.
        for _ in 0..5 {
            gateway.get("/x").send().expect_problem(503, "breaker-open");
        }
        assert_eq!(upstream.count(), 3);
        gate.open();
        probe.join().unwrap();
    });
    for _ in 0..5 {
        gateway.get("/x").send().expect(200);
    }
}

#[test]
fn gives_the_probe_back_when_its_caller_leaves() {
    let gate = Gate::closed();
    let upstream = Upstream::http1(|_| Reply::status(503));
    let gateway = gateway(&format!(
        "endpoints: [{}]\ntimeout: {{ response: 50s }}\nbreaker: {{ window: 60s, open_for: 100ms, min_requests: 2 }}",
        upstream.address()
    ));
    for _ in 0..2 {
        gateway.get("/x").send().expect(503);
    }
    let held = gate.clone();
    upstream.answer_with(move |_| Reply::text("late").held_by(&held));
    let mut leaving = gateway.connect();
    eventually("a probe", || {
        leaving = gateway.connect();
        leaving.send(&gateway.get("/x").bytes());
        (!leaving.has_something_to_say() && upstream.count() == 3).then_some(())
    });
    drop(leaving);
    upstream.answer_with(|_| Reply::text("well again"));
    eventually("another probe", || {
        (gateway.get("/x").send().status == 200).then_some(())
    });
    gate.open();
}

#[test]
fn opens_for_endpoints_that_are_dead_or_mute() {
    let dead = RefusingPort::new();
    let mute = Upstream::http1(|_| Reply::never());
    for (endpoint, status) in [(dead.address(), 502), (mute.address(), 504)] {
        let gateway = gateway(&format!(
            "endpoints: [{endpoint}]\ntimeout: {{ response: 100ms }}\nretry: {{ attempts: 0 }}\nbreaker: {{ open_for: 1h, min_requests: 2 }}"
        ));
        for _ in 0..2 {
            assert_eq!(gateway.get("/x").send().status, status);
        }
        gateway.get("/x").send().expect_problem(503, "breaker-open");
    }
}

#[test]
fn keeps_a_breaker_open_over_a_reload() {
    let upstream = Upstream::http1(|_| Reply::status(500));
    let yaml = |timeout: &str| {
        let template = "
upstreams:
  origin: { endpoints: [$origin], timeout: { response: $timeout }, breaker: { open_for: 1h, min_requests: 2 } }
routes:
  read: { match: GET /x, auth: none, upstream: origin }
";
        fill(template, &[("origin", &upstream.address()), ("timeout", &timeout)])
    };
    let gateway = Gateway::start(&yaml("20s"));
    for _ in 0..2 {
        gateway.get("/x").send().expect(500);
    }
    assert!(gateway.reload(&yaml("30s")));
    gateway.get("/x").send().expect_problem(503, "breaker-open");
    assert_eq!(upstream.count(), 2);
}

#[test]
fn bounds_extra_tries_by_their_budget() {
    let (a, b) = (
        Upstream::http1(|_| Reply::status(503)),
        Upstream::http1(|_| Reply::status(503)),
    );
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nretry: {{ attempts: 3, after: [503], budget: 20% }}",
        a.address(),
        b.address()
    ));
    for _ in 0..50 {
        assert_eq!(gateway.get("/x").send().status, 503);
    }
    let asked = a.count() + b.count();
    // Three in any case; and, however slow this machine is, never more than the share of all that were ever made.
    assert!((53..=60).contains(&asked), "{asked}");
    let metrics = gateway.metrics();
    let of = |result| {
        let labels = [("upstream", "origin"), ("result", result)];
        metrics.value("gwanmun_upstream_retries_total", &labels)
    };
    assert_eq!(of("made"), Some((asked - 50) as f64));
    assert!(of("refused").unwrap() > 0.0);
}

#[test]
fn sends_the_next_request_where_less_is_going_on() {
    let gate = Gate::closed();
    let held = gate.clone();
    let busy = move |_: &_| Reply::text("held").held_by(&held);
    let (a, b) = (Upstream::http1(busy.clone()), Upstream::http1(busy));
    let gateway = gateway(&format!(
        "endpoints: [{}, {}]\nbalance: least_loaded\ntimeout: {{ response: 50s }}",
        a.address(),
        b.address()
    ));
    std::thread::scope(|scope| {
        let first = scope.spawn(|| gateway.get("/x").send().expect(200).text());
        let (busy, idle) = eventually("one of them is busy", || match (a.count(), b.count()) {
            (1, 0) => Some((&a, &b)),
            (0, 1) => Some((&b, &a)),
            _ => None,
        });
        let busy_address = busy.address().to_string();
        assert_eq!(
            gateway.metrics().value(
                "gwanmun_upstream_in_flight_requests",
                &[("upstream", "origin"), ("endpoint", &busy_address)]
            ),
            Some(1.0)
        );
        idle.answer_with(|_| Reply::text("idle"));
        let idle_address = idle.address().to_string();
        for _ in 0..10 {
            // An answer is there a moment before its request is no longer counted.
            eventually("nothing to be going on there", || {
                let labels = [("upstream", "origin"), ("endpoint", idle_address.as_str())];
                let going_on = gateway.metrics().value("gwanmun_upstream_in_flight_requests", &labels);
                (going_on == Some(0.0)).then_some(())
            });
            assert_eq!(gateway.get("/x").send().expect(200).text(), "idle");
        }
        gate.open();
        assert_eq!(first.join().unwrap(), "held");
    });
}

#[test]
fn sends_one_key_to_one_endpoint() {
    let upstreams: Vec<Upstream> = vec![named("a"), named("b"), named("c")];
    let addresses = |upstreams: &[Upstream]| {
        let addresses: Vec<String> = upstreams.iter().map(|one| one.address().to_string()).collect();
        addresses.join(", ")
    };
    let yaml = |endpoints: &str| {
        let template = "
upstreams:
  origin: { endpoints: [$endpoints], balance: { consistent_hash: header.x-tenant } }
routes:
  read: { match: GET /x, auth: none, upstream: origin }
";
        fill(template, &[("endpoints", &endpoints)])
    };
    let gateway = Gateway::start(&yaml(&addresses(&upstreams)));
    let ask = |tenant: usize| {
        let tenant = format!("tenant-{tenant}");
        gateway.get("/x").header("x-tenant", &tenant).send().expect(200).text()
    };
    let before: Vec<String> = (0..40).map(ask).collect();
    assert_eq!(before, (0..40).map(ask).collect::<Vec<_>>());
    assert!(
        ["a", "b", "c"]
            .iter()
            .all(|name| before.iter().any(|asked| asked == name))
    );
    // One leaves: the keys of the others stay where they are.
    assert!(gateway.reload(&yaml(&addresses(&upstreams[..2]))));
    for (tenant, name) in before.iter().enumerate() {
        assert!(name == "c" || ask(tenant) == *name);
    }
}

#[test]
fn points_at_what_is_wrong_with_an_upstream() {
    let yaml = "listen: [{ address: 127.0.0.1:0 }]
upstreams:
  a: { endpoints: [127.0.0.1:1], balance: consistent_hash }
  b: { endpoints: [127.0.0.1:1], balance: { consistent_hash: claims.x } }
  c: { endpoints: [127.0.0.1:1], balance: least_busy }
  d: { endpoints: [127.0.0.1:1], breaker: { error_ratio: 0.5, open_for: 5 } }
  e: { endpoints: [127.0.0.1:1], breaker: { error_ratio: 0%, min_request: 3 } }
  f: { endpoints: [127.0.0.1:1], retry: { budget: 120% } }
routes: { x: { match: GET /x, auth: none, upstream: a } }
";
    let output = crate::support::refused_start(yaml, &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    for expected in [
        ":3:43: by which key? write `{ consistent_hash: principal.sub }`",
        ":4:62: `claims.x` is not a key: `principal.sub`, `ip` or `header.NAME`",
        ":5:43: unknown word `least_busy`, expected one of `round_robin`, `least_loaded`",
        ":6:58: `0.5` has a fraction; write a whole number",
        ":6:73: `5` has no unit",
        ":7:58: a share above 0% is needed",
        ":7:62: unknown key `min_request`, did you mean `min_requests`?",
        ":8:51: `120%` is more than the whole",
    ] {
        assert!(said.contains(expected), "{expected}\nin\n{said}");
    }
}

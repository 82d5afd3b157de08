//! What one client may cost, as `bounds` says.

use crate::support::{Connection, Gateway, Recorder, Reply, Upstream, eventually, fill, refused_start};

const BOUND: &str = "
bounds: { $bounds }
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  all: { match: { path: '/{rest...}' }, auth: none, upstream: origin }
";

fn bound(bounds: &str, upstream: &impl std::fmt::Display) -> Gateway {
    Gateway::start(&fill(BOUND, &[("bounds", &bounds), ("upstream", upstream)]))
}

fn refused(gateway: &Gateway, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    gateway
        .metrics()
        .value("gwanmun_connections_refused_total", &labels)
        .unwrap_or_default()
}

#[test]
fn headers_are_bounded_as_said() {
    let recorder = Recorder::start();
    let gateway = bound("header: { size: 2KiB, lines: 10, target: 100B }", &recorder.address());
    let with = |lines: usize| {
        let mut request = gateway.get("/x");
        // `Host` is one of them.
        for at in 1..lines {
            request = request.header(&format!("x-{at}"), "y");
        }
        request.send()
    };
    with(10).expect(200);
    with(11).expect_problem(431, "header-too-large");
    gateway.get(&format!("/{}", "x".repeat(99))).send().expect(200);
    gateway
        .get(&format!("/{}", "x".repeat(100)))
        .send()
        .expect_problem(414, "uri-too-long");
    let large = "y".repeat(2048);
    gateway
        .get("/x")
        .header("x", &large)
        .send()
        .expect_problem(431, "header-too-large");
    assert_eq!(recorder.requests().len(), 2);
}

#[test]
fn a_connection_ends_after_its_last_request() {
    let recorder = Recorder::start();
    let gateway = bound("connections: { requests: 3 }", &recorder.address());
    let mut connection = gateway.connect();
    for turn in 1..=3 {
        connection.send(&gateway.get("/x").bytes());
        let response = connection.response();
        response.expect(200);
        assert_eq!(response.list("connection").contains(&"close".to_owned()), turn == 3);
    }
    assert!(connection.response_or_close("GET").is_none());
}

#[test]
fn connections_are_bounded_in_all_and_from_one_address() {
    let recorder = Recorder::start();
    let gateway = bound("connections: { open: 3, per_address: 2 }", &recorder.address());
    let hold = || {
        let mut connection = gateway.connect();
        connection.send(&gateway.get("/x").bytes());
        connection.response_or_close("GET").map(|_| connection)
    };
    let (first, second) = (hold().expect("a connection"), hold().expect("another"));
    assert!(hold().is_none(), "a third from the same address");
    assert_eq!(refused(&gateway, "address"), 1.0);
    let elsewhere = gateway.get("/x").from("127.0.0.2").header("connection", "close");
    elsewhere.send().expect(200);
    drop(first);
    eventually("there is room again", || hold().map(drop));
    drop(second);
}

#[test]
fn more_connections_than_there_may_be_are_closed() {
    let recorder = Recorder::start();
    let gateway = bound("connections: { open: 1 }", &recorder.address());
    let mut held = gateway.connect();
    held.send(&gateway.get("/x").bytes());
    held.response().expect(200);
    let mut more = gateway.connect();
    more.send(&gateway.get("/x").bytes());
    assert!(more.response_or_close("GET").is_none());
    assert_eq!(refused(&gateway, "total"), 1.0);
    held.send(&gateway.get("/x").bytes());
    held.response().expect(200);
}

#[test]
fn a_slow_header_is_cut_off() {
    let recorder = Recorder::start();
    let gateway = bound("header: { within: 300ms }", &recorder.address());
    let mut connection = gateway.connect();
    connection.send(b"GET /x HTTP/1.1\r\nHost: a\r\nX: ");
    drip(&mut connection);
    connection.response().expect_problem(408, "header-timeout");
    assert!(recorder.take().is_empty());
}

#[test]
fn an_idle_connection_is_closed() {
    let recorder = Recorder::start();
    let gateway = bound("connections: { idle: 300ms }", &recorder.address());
    let mut connection = gateway.connect();
    connection.send(&gateway.get("/x").bytes());
    connection.response().expect(200);
    assert!(connection.response_or_close("GET").is_none());
    assert!(
        gateway.connect().response_or_close("GET").is_none(),
        "one that never said anything"
    );
}

/// Sends single bytes for as long as they are taken and nothing comes back.
fn drip(connection: &mut Connection) {
    let begun = std::time::Instant::now();
    while begun.elapsed() < crate::support::WATCHDOG && connection.send(b"x") {
        if connection.has_something_to_say() {
            return;
        }
    }
}

#[test]
fn a_slow_body_is_cut_off_whatever_its_framing() {
    let recorder = Recorder::start();
    let gateway = bound("body: { per_second: 100KiB, grace: 300ms }", &recorder.address());
    for framing in [
        "content-length: 100000\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n10000\r\n",
    ] {
        let mut connection = gateway.connect();
        connection.send(format!("POST /x HTTP/1.1\r\nHost: a\r\n{framing}").as_bytes());
        drip(&mut connection);
        connection.response().expect_problem(408, "request-timeout");
        assert!(connection.response_or_close("POST").is_none());
    }
    assert!(recorder.take().iter().all(|read| read.requests.is_empty()));
    let records = gateway.records(2);
    assert!(records.iter().all(|record| record["status"] == 408), "{records:?}");
}

#[test]
fn a_request_has_to_come_whole_in_its_time() {
    let recorder = Recorder::start();
    // However much it is ahead of the pace.
    let gateway = bound("body: { within: 1s, per_second: 1B, grace: 60s }", &recorder.address());
    let mut connection = gateway.connect();
    connection.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n");
    connection.send(&[b'x'; 10_000]);
    drip(&mut connection);
    connection.response().expect_problem(408, "request-timeout");
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let upstream = Upstream::http1(|_| Reply::typed("text/plain", vec![b'x'; 64 << 20]));
    let gateway = bound("answer: { per_second: 1MiB, grace: 300ms }", &upstream.address());
    let mut connection = gateway.connect();
    connection.send(&gateway.get("/x").bytes());
    // It reads nothing until the gateway has given it up.
    let record = gateway.records(1).remove(0);
    assert!(record["response_bytes"].as_u64() < Some(64 << 20), "{record}");
    let response = connection.response();
    assert!(!response.whole && response.body.len() < 64 << 20);
    gateway.get("/x").send().expect(200);
}

#[test]
fn bounds_change_with_a_reload() {
    let recorder = Recorder::start();
    let gateway = bound("header: { lines: 10 }", &recorder.address());
    let many = || {
        let mut request = gateway.get("/x");
        for at in 0..8 {
            request = request.header(&format!("x-{at}"), "y");
        }
        request.send()
    };
    many().expect(200);
    let next = fill(
        BOUND,
        &[("bounds", &"header: { lines: 5 }"), ("upstream", &recorder.address())],
    );
    assert!(gateway.reload(&next));
    many().expect_problem(431, "header-too-large");
}

#[test]
fn bounds_that_cannot_be_kept_are_refused() {
    let yaml = fill(
        BOUND,
        &[
            (
                "bounds",
                &"header: { lines: 1000 }, body: { per_second: 5 }, conections: {}",
            ),
            ("upstream", &"127.0.0.1:1"),
        ],
    );
    let output = refused_start(&format!("listen: [{{ address: 127.0.0.1:0 }}]\n{yaml}"), &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in ["at most 256 header lines", "has no unit", "`connections`"] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

const PROXIED: &str = "
trusted_proxies: { from: [127.0.0.1/32], proxy_protocol: required }
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  all: { match: { path: '/{rest...}' }, auth: none, upstream: origin }
";

#[test]
fn a_proxy_that_forwards_bytes_says_whose_they_are() {
    let recorder = Recorder::start();
    let gateway = Gateway::start(&fill(PROXIED, &[("upstream", &recorder.address())]));
    let request = gateway.get("/x").bytes();
    let v2 = |command: u8| {
        [
            b"\r\n\r\n\0\r\nQUIT\n",
            &[command, 0x11, 0, 12, 192, 0, 2, 9, 10, 0, 0, 1, 1, 1, 0, 80][..],
        ]
        .concat()
    };
    for (header, address) in [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::7 ::1 4711 80\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (v2(0x21), "192.0.2.9"),
        (v2(0x20), "127.0.0.1"),
    ] {
        let mut connection = gateway.connect();
        connection.send(&[&header[..], &request].concat());
        connection.response().expect(200);
        // It holds for every request of the connection, and no header says otherwise.
        connection.send(&gateway.get("/x").header("x-forwarded-for", "6.6.6.6").bytes());
        connection.response().expect(200);
        for message in recorder.requests() {
            assert_eq!(message.values("x-forwarded-for"), [address.as_bytes()]);
        }
    }
    // Whoever does not say it, or says it wrongly, or may not say it.
    for bytes in [
        &request[..],
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711\r\n",
        &[&v2(0x31)[..], &request].concat(),
    ] {
        let mut connection = gateway.connect();
        connection.send(bytes);
        assert!(connection.response_or_close("GET").is_none());
    }
    assert_eq!(refused(&gateway, "proxy_protocol"), 3.0);
    assert!(recorder.take().is_empty());
}

#[test]
fn nobody_else_says_whose_the_bytes_are() {
    let recorder = Recorder::start();
    let yaml = fill(PROXIED, &[("upstream", &recorder.address())]).replace("127.0.0.1/32", "10.0.0.0/8");
    let gateway = Gateway::start(&yaml);
    let mut connection = gateway.connect();
    let request = [
        &b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"[..],
        &gateway.get("/x").bytes(),
    ]
    .concat();
    connection.send(&request);
    assert!(connection.response_or_close("GET").is_none());
    assert_eq!(refused(&gateway, "proxy_protocol"), 1.0);
    assert!(recorder.take().is_empty());
    let both = yaml.replace(
        "proxy_protocol: required",
        "proxy_protocol: required, header: x-forwarded-for",
    );
    let output = refused_start(&format!("listen: [{{ address: 127.0.0.1:0 }}]\n{both}"), &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.code() == Some(1) && said.contains("one of the two is needed"),
        "{said}"
    );
}

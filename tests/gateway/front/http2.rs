//! HTTP/2 as clients speak it, and what one of them may cost.

use std::io::{Read, Write};

use crate::support::http2::{self, DATA, END_STREAM, Http2, PING, PREFACE, frame, request};
use crate::support::{Authority, Connection, Gateway, Recorder, Reply, TlsClient, Upstream, eventually, fill, runtime};

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

fn echo() -> Upstream {
    Upstream::http1(|seen| Reply::text(format!("{} {} {}", seen.method, seen.target, seen.body.len())))
}

#[test]
fn serves_many_requests_at_once_without_tls() {
    let upstream = echo();
    let gateway = bound("", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    for stream in [1, 3, 5, 7] {
        client.open(stream, &request("POST", "/x"));
    }
    for stream in [7, 1, 5, 3] {
        client.send(&frame(DATA, 0, stream, &[b'x'; 1000]));
        client.send(&frame(DATA, END_STREAM, stream, &[b'y'; 24]));
        let answer = client.answer(stream);
        assert_eq!((answer.status, &answer.body[..]), (200, &b"POST /x 1024"[..]));
        assert!(answer.header("x-request-id").is_some() && answer.header("connection").is_none());
    }
    let head = client.exchange(9, &request("HEAD", "/x"));
    assert_eq!((head.status, head.is_whole, head.body.len()), (200, true, 0));
    let get = client.exchange(11, &request("GET", "/x"));
    assert_eq!(get.body, b"GET /x 0");
    for seen in upstream.seen() {
        assert_eq!(
            (
                seen.header("host"),
                seen.header("via"),
                seen.header("x-forwarded-proto")
            ),
            (Some("gate.example"), Some("2 gwanmun"), Some("http"))
        );
    }
    assert_eq!(gateway.records(6).len(), 6);
}

#[test]
fn serves_whoever_agreed_on_it_with_tls() {
    let (authority, upstream) = (Authority::new(), echo());
    let own = authority.server(&["gate.example"]);
    let listen = "listen: [{ address: 127.0.0.1:0, tls: { certificate: a.pem, key: a.key } }]";
    let yaml = fill(BOUND, &[("bounds", &""), ("upstream", &upstream.address())]);
    let gateway = Gateway::with(&format!("{listen}\n{yaml}"))
        .file("a.pem", &own.chain)
        .file("a.key", &own.key)
        .start();
    let client = TlsClient::new(gateway.address(), &authority, None).offering(&["h2"]);
    let mut client = Http2::encrypted(client.connect("gate.example").unwrap());
    client.open(1, &request("POST", "/x"));
    client.send(&frame(DATA, END_STREAM, 1, &[b'x'; 10]));
    assert_eq!(client.answer(1).body, b"POST /x 10");
    assert_eq!(upstream.only().header("x-forwarded-proto"), Some("https"));
}

#[test]
fn tells_upstreams_of_clients_that_understand_trailers() {
    let upstream = Upstream::http2(|seen| Reply::text(seen.header("te").unwrap_or("none")));
    let yaml = fill(BOUND, &[("bounds", &""), ("upstream", &upstream.address())]);
    let gateway = Gateway::start(&yaml.replace("] }\nroutes", "], protocol: http2 }\nroutes"));
    let mut client = Http2::plain(gateway.address());
    let mut named = request("GET", "/x");
    assert_eq!(client.exchange(1, &named).body, b"none");
    named.push(("te", "trailers"));
    assert_eq!(client.exchange(3, &named).body, b"trailers");
}

/// What comes back for these bytes, sent one by one.
fn told(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(gateway.address()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(crate::support::WATCHDOG)).unwrap();
    for byte in bytes {
        let _ = stream.write_all(&[*byte]);
    }
    let mut answer = [0; 4096];
    let count = stream.read(&mut answer).unwrap_or_default();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

#[test]
fn tells_requests_of_http_1_from_the_preface() {
    let recorder = Recorder::start();
    let gateway = bound("header: { within: 500ms }", &recorder.address());
    for request in [
        "GET /x HTTP/1.1\r\nHost: a\r\n\r\n",
        "P /x HTTP/1.0\r\nHost:a\r\n\r\n",
        "PRI / HTTP/1.1\r\nHost:a\r\n\r\n",
    ] {
        assert!(
            told(&gateway, request.as_bytes()).starts_with("HTTP/1.1 200 "),
            "{request}"
        );
    }
    recorder.requests();
    for (bytes, status) in [
        // Shorter than the preface, and without the host that it must name here.
        ("GET / HTTP/1.0\r\n\r\n", "400"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r?", "400"),
        ("PRI * HTTP/2.0\r\n\r\nGET", "400"),
        ("PRI * HTTP/2.0\r\nHost: a\r\n\r\n", "505"),
        ("PRI * HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
        ("\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "505"),
        ("PRI * HTTP/2.0\r\n\r\nSM", "408"),
        ("P", "408"),
    ] {
        let answer = told(&gateway, bytes.as_bytes());
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{bytes:?}: {answer}"
        );
    }
    assert!(recorder.take().is_empty());
    // Single bytes make the preface as well; the first that comes back are settings.
    assert!(told(&gateway, PREFACE).as_bytes().get(3) == Some(&4));
}

#[test]
fn speaks_http_2_only_where_it_may() {
    let recorder = Recorder::start();
    let yaml = fill(BOUND, &[("bounds", &""), ("upstream", &recorder.address())]);
    let off = Gateway::start(&format!("listen: [{{ address: 127.0.0.1:0, http2: false }}]\n{yaml}"));
    assert!(told(&off, PREFACE).starts_with("HTTP/1.1 505 "));
    // Nobody changes over.
    let on = Gateway::start(&yaml);
    let answer = on
        .get("/x")
        .header("connection", "upgrade, http2-settings")
        .header("upgrade", "h2c")
        .header("http2-settings", "AAMAAABkAAQAAP__")
        .send();
    answer.expect(200);
}

#[test]
fn a_connection_is_told_to_end_after_its_last_request() {
    let upstream = echo();
    let gateway = bound("connections: { requests: 3 }", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    for stream in [1, 3, 5] {
        assert_eq!(client.exchange(stream, &request("GET", "/x")).status, 200);
    }
    assert_eq!(client.end(), Some(0));
}

#[test]
fn an_idle_connection_is_closed() {
    let upstream = echo();
    let gateway = bound("connections: { idle: 500ms }", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    assert_eq!(client.exchange(1, &request("GET", "/x")).status, 200);
    // Pings are no requests.
    for _ in 0..5 {
        client.send(&frame(PING, 0, 0, &[0; 8]));
    }
    assert_eq!(client.end(), Some(0));
    assert_eq!(Http2::plain(gateway.address()).end(), Some(0));
    assert_eq!(Http2::silent(gateway.address()).end(), None);
}

/// Sends the body of a request by single bytes, until an answer comes.
fn drip(client: &mut Http2, stream: u32) -> http2::Answer {
    client.drip(&frame(DATA, 0, stream, b"x"));
    client.answer(stream)
}

#[test]
fn a_slow_body_is_cut_off() {
    let recorder = Recorder::start();
    let gateway = bound("body: { per_second: 100KiB, grace: 300ms }", &recorder.address());
    for length in [Some("100000"), None] {
        let mut client = Http2::plain(gateway.address());
        let mut named = request("POST", "/x");
        named.extend(length.map(|length| ("content-length", length)));
        client.open(1, &named);
        let answer = drip(&mut client, 1);
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (408, &"request-timeout".into())
        );
        // It is the request that ends, not the connection.
        assert_eq!(client.exchange(3, &request("GET", "/y")).status, 200);
    }
    let records = gateway.records(4);
    let of = |status: u16| records.iter().filter(|record| record["status"] == status).count();
    assert_eq!((of(408), of(200)), (2, 2), "{records:?}");
}

#[test]
fn a_request_has_to_come_whole_in_its_time() {
    let recorder = Recorder::start();
    // However much it is ahead of the pace.
    let gateway = bound("body: { within: 1s, per_second: 1B, grace: 60s }", &recorder.address());
    let mut client = Http2::plain(gateway.address());
    client.open(1, &request("POST", "/x"));
    client.send(&frame(DATA, 0, 1, &[b'x'; 10_000]));
    assert_eq!(drip(&mut client, 1).status, 408);
}

#[test]
fn a_client_that_takes_nothing_is_cut_off() {
    let upstream = Upstream::http1(|seen| match seen.path() {
        "/large" => Reply::typed("text/plain", vec![b'x'; 64 << 20]),
        _ => Reply::text("small"),
    });
    let gateway = bound("answer: { per_second: 1MiB, grace: 300ms }", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    // Its window is never opened again.
    let large = client.exchange(1, &request("GET", "/large"));
    assert!(large.reset.is_some() && large.body.len() == 65_535, "{large:?}");
    let record = gateway.records(1).remove(0);
    assert!(record["response_bytes"].as_u64() < Some(1 << 20), "{record}");
    eventually("the upstream is let go", || {
        (upstream.count_of("/large") == 1).then_some(())
    });
    // Neither is that of the connection.
    assert_eq!(client.exchange(3, &request("HEAD", "/small")).status, 200);
}

#[test]
fn a_client_that_leaves_is_noted() {
    let upstream = Upstream::http1(|_| Reply::never());
    let gateway = bound("", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    client.ask(1, &request("GET", "/one"));
    upstream.wait_for("/one", 1);
    client.send(&frame(http2::RST_STREAM, 0, 1, &8u32.to_be_bytes()));
    assert_eq!(gateway.records(1).remove(0)["status"], 499);
    client.ask(3, &request("GET", "/two"));
    upstream.wait_for("/two", 1);
    drop(client);
    assert_eq!(gateway.records(2).remove(1)["status"], 499);
}

#[test]
fn requests_under_way_are_finished_when_the_gateway_stops() {
    let gate = crate::support::Gate::closed();
    let held = gate.clone();
    let upstream = Upstream::http1(move |_| Reply::text("finished").held_by(&held));
    let gateway = bound("", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    client.ask(1, &request("GET", "/x"));
    upstream.wait_for("/x", 1);
    let mut older = Connection::open(gateway.address());
    older.send(b"GET /older HTTP/1.1\r\nHost: a\r\n\r\n");
    upstream.wait_for("/older", 1);
    let stopping = std::thread::spawn(move || gateway.stop());
    let mut goaway = client.next();
    while goaway.as_ref().is_some_and(|frame| frame.kind != http2::GOAWAY) {
        goaway = client.next();
    }
    assert!(goaway.is_some());
    gate.open();
    assert_eq!(client.answer(1).body, b"finished");
    // RFC 9112 §9.6: the client is told that it has to come again by another connection.
    let answer = older.response();
    assert_eq!(answer.expect(200).list("connection"), ["close"]);
    assert!(older.response_or_close("GET").is_none());
    assert_eq!(stopping.join().unwrap().len(), 2);
}

#[test]
fn interim_answers_are_passed_on() {
    let upstream = Upstream::raw(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast",
    );
    let gateway = bound("", &upstream.address());
    let answer = Http2::plain(gateway.address()).exchange(1, &request("GET", "/x"));
    assert_eq!((answer.status, &answer.interim[..]), (200, &[103][..]));
    assert_eq!(answer.body, b"last");
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_none() {
    let recorder = Recorder::start();
    let gateway = bound("", &recorder.address());
    for (length, sent) in [("5", 4), ("5", 6)] {
        let mut client = Http2::plain(gateway.address());
        let mut named = request("POST", "/x");
        named.push(("content-length", length));
        client.open(1, &named);
        client.send(&frame(DATA, END_STREAM, 1, &[b'x'; 6][..sent]));
        let answer = client.answer(1);
        assert_eq!(
            (answer.status, answer.reset),
            (0, Some(http2::PROTOCOL_ERROR)),
            "{answer:?}"
        );
        assert_eq!(client.exchange(3, &request("GET", "/y")).status, 200);
    }
    let came = recorder.take();
    let whole: Vec<String> = came
        .iter()
        .flat_map(|read| &read.requests)
        .map(|message| message.line())
        .collect();
    assert_eq!(whole, ["GET /y", "GET /y"]);
}

#[test]
fn answers_are_sent_to_their_end_before_a_connection_ends() {
    const LENGTH: usize = 60_000;
    let upstream = Upstream::http1(|_| Reply::typed("text/plain", vec![b'x'; LENGTH]));
    for bounds in ["connections: { idle: 300ms }", "connections: { requests: 100 }", ""] {
        let gateway = bound(bounds, &upstream.address());
        let before = upstream.count();
        let mut client = Http2::open_wide(gateway.address());
        for at in 0..100 {
            client.ask(2 * at + 1, &request("GET", "/x"));
        }
        upstream.wait_for("/x", before + 100);
        let mut gateway = Some(gateway);
        let stopping = gateway.take_if(|_| bounds.is_empty());
        let stopping = stopping.map(|gateway| std::thread::spawn(move || gateway.stop()));
        // Longer than an idle connection has, and one that was told to end.
        std::thread::sleep(std::time::Duration::from_secs(2));
        if let Some(gateway) = &gateway {
            // None is over before the client has it, and there is no room for all of them on the way.
            let under_way = gateway.metrics().value("gwanmun_in_flight_requests", &[]);
            assert!(under_way > Some(10.0), "{bounds} {under_way:?}");
        }
        for at in 0..100 {
            let answer = client.answer(2 * at + 1);
            assert_eq!(
                (answer.status, answer.body.len(), answer.reset),
                (200, LENGTH, None),
                "{bounds} {at}"
            );
        }
        let records = match (&gateway, stopping) {
            (Some(gateway), _) => gateway.records(100),
            (None, stopping) => stopping.unwrap().join().unwrap(),
        };
        assert!(records.len() == 100 && records.iter().all(|record| record["status"] == 200));
    }
}

#[test]
fn an_answer_that_has_no_body_gets_none() {
    let upstream = spoken(|path| {
        let status = path.trim_start_matches('/').parse().unwrap_or(200);
        let mut trailers = http::HeaderMap::new();
        for (name, value) in [
            ("x-sum", "1"),
            ("content-length", "7"),
            ("set-cookie", "a=b"),
            ("gwanmun-code", "x"),
            ("access-control-allow-origin", "*"),
            ("location", "/y"),
        ] {
            trailers.insert(name, value.parse().unwrap());
        }
        (status, trailers)
    });
    let yaml = fill(BOUND, &[("bounds", &""), ("upstream", &upstream)]);
    let gateway = Gateway::start(&yaml.replace("] }\nroutes", "], protocol: http2 }\nroutes"));
    let mut client = Http2::plain(gateway.address());
    for (stream, (method, path)) in [(1, ("GET", "/204")), (3, ("GET", "/304")), (5, ("HEAD", "/200"))] {
        let answer = client.exchange(stream, &request(method, path));
        assert!(answer.is_whole && answer.body.is_empty(), "{path}: {answer:?}");
    }
    // Nor do trailers say what only a header may.
    let answer = client.exchange(7, &request("GET", "/200"));
    assert_eq!((answer.status, &answer.body[..]), (200, &b"body"[..]));
    assert_eq!(answer.trailers, [("x-sum".to_owned(), "1".to_owned())]);
    let said = gateway.get("/200").send();
    assert_eq!(said.expect(200).text(), "body");
    // What is refused before there is a route.
    let refused = client.exchange(9, &request("HEAD", "*"));
    assert!(
        refused.status == 400 && refused.is_whole && refused.body.is_empty(),
        "{refused:?}"
    );
    let told = told(&gateway, b"HEAD /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert!(
        told.starts_with("HTTP/1.1 400 ") && told.ends_with("\r\n\r\n"),
        "{told}"
    );
}

#[test]
fn a_tunnel_is_told_which_methods_there_are() {
    let recorder = Recorder::start();
    let gateway = bound("", &recorder.address());
    let named = [(":method", "CONNECT"), (":authority", "gate.example:1")];
    let answer = Http2::plain(gateway.address()).exchange(1, &named);
    assert_eq!(
        (answer.status, &answer.json()["code"]),
        (405, &"connect-not-allowed".into())
    );
    assert!(answer.header("allow").is_some_and(|methods| methods.contains("GET")));
}

/// An upstream in HTTP/2 that has a body follow whatever status and trailers it says for a path.
fn spoken(say: fn(&str) -> (u16, http::HeaderMap)) -> std::net::SocketAddr {
    let listener = runtime()
        .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
        .unwrap();
    let address = listener.local_addr().unwrap();
    runtime().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                while let Some(Ok((request, mut reply))) = connection.accept().await {
                    let (status, trailers) = say(request.uri().path());
                    let head = http::Response::builder().status(status).body(()).unwrap();
                    let mut body = reply.send_response(head, false).unwrap();
                    let _ = body.send_data(bytes::Bytes::from_static(b"body"), false);
                    let _ = body.send_trailers(trailers);
                }
            });
        }
    });
    address
}

/// An upstream that begins to answer with that header at once, and ends when the request has.
fn early(head: &'static str) -> std::net::SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let (mut read, mut piece) = (Vec::new(), [0; 4096]);
                let mut ends_with = |read: &mut Vec<u8>, stream: &mut std::net::TcpStream, end: &[u8]| {
                    while !read.ends_with(end) {
                        let count = stream.read(&mut piece)?;
                        if count == 0 {
                            return Err(std::io::ErrorKind::UnexpectedEof.into());
                        }
                        read.extend_from_slice(&piece[..count]);
                    }
                    std::io::Result::Ok(())
                };
                ends_with(&mut read, &mut stream, b"\r\n\r\n")?;
                stream.write_all(head.as_bytes())?;
                ends_with(&mut read, &mut stream, b"0\r\n\r\n")?;
                stream.write_all(b"0\r\n\r\n")
            });
        }
    });
    address
}

#[test]
fn a_body_has_its_time_also_after_the_answer_has_begun() {
    let bounds = "body: { within: 1s, per_second: 1B, grace: 60s }";
    let plain = early("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
    let gateway = bound(bounds, &plain);
    let mut client = Http2::plain(gateway.address());
    client.open(1, &request("POST", "/x"));
    let answer = client.answer(1);
    assert!(
        answer.status == 200 && !answer.is_whole && answer.reset.is_some(),
        "{answer:?}"
    );
    // Messages that are sent and taken as they come have all the time there is.
    let events =
        early("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n");
    let gateway = bound(bounds, &events);
    let mut client = Http2::plain(gateway.address());
    client.open(1, &request("POST", "/x"));
    std::thread::sleep(std::time::Duration::from_secs(2));
    client.send(&frame(DATA, END_STREAM, 1, b"x"));
    let answer = client.answer(1);
    assert!(answer.is_whole && answer.body == b"hi", "{answer:?}");
}

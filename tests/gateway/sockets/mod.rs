//! WebSocket (RFC 6455): opened like any request is let through, or not at all.

pub mod kit;
mod peers;

use std::io::Write;

use serde_json::json;

use kit::{Endpoint, KEY, Wire, frame, handshake, header, switch};

use crate::support::{Connection, Gateway, RefusingPort, Reply, Response, Upstream};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;

fn yaml(endpoint: impl std::fmt::Display, more: &str) -> String {
    format!(
        "\
upstreams:
  live: {{ endpoints: [{endpoint}] }}
routes:
  live: {{ match: 'GET,POST /live/{{room}}', auth: none, websocket: true, upstream: live{more} }}
  plain: {{ match: GET /plain, auth: none, upstream: live }}
"
    )
}

#[test]
fn carries_frames_both_ways_and_records_what_passed() {
    let endpoint = Endpoint::echo();
    let gateway = Gateway::start(&yaml(endpoint.address, ""));
    let (mut socket, head) = Wire::ask(gateway.address(), "/live/1", "Sec-WebSocket-Protocol: chat\r\n");
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(
        header(&head, "sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    assert_eq!(header(&head, "upgrade"), Some("websocket"));
    assert!(header(&head, "x-request-id").is_some(), "{head}");
    for (opcode, length) in [(TEXT, 5), (BINARY, 70_000), (9, 3), (BINARY, 0)] {
        let payload = vec![b'a'; length];
        socket.send(&frame(opcode, &payload, true));
        let answered = if opcode == 9 { 10 } else { opcode };
        assert_eq!(socket.frame().unwrap(), (answered, payload));
    }
    socket.send(&frame(CLOSE, &[3, 0xe8], true));
    assert_eq!(socket.frame().unwrap(), (CLOSE, vec![3, 0xe8]));
    assert_eq!(socket.rest(), b"");
    drop(socket);
    let records = gateway.stop();
    assert_eq!(records.len(), 1);
    let record = &records[0];
    assert_eq!(record["status"], 101);
    assert_eq!(record["upstream"]["status"], 101);
    assert_eq!(record["ended"], json!({ "by": "upstream" }));
    let sent =
        |masked: usize| (2 + masked + 5) + (10 + masked + 70_000) + (2 + masked + 3) + (2 + masked) + (2 + masked + 2);
    assert_eq!(record["request_bytes"], sent(4), "{record}");
    assert_eq!(record["response_bytes"], sent(0), "{record}");
}

#[test]
fn passes_frames_that_stand_right_behind_the_answer() {
    let endpoint = Endpoint::start(|mut wire, head| {
        let greeting = [switch(&head).into_bytes(), frame(TEXT, b"hello", false)].concat();
        wire.send(&greeting);
        while let Some((opcode, payload)) = wire.frame() {
            wire.send(&frame(opcode, &payload, false));
        }
    });
    let gateway = Gateway::start(&yaml(endpoint.address, ""));
    for _ in 0..200 {
        let mut socket = Wire::connect(gateway.address(), "/live/1", "");
        assert_eq!(socket.frame().unwrap(), (TEXT, b"hello".to_vec()));
        // It is still open.
        socket.send(&frame(TEXT, b"there", true));
        assert_eq!(socket.frame().unwrap(), (TEXT, b"there".to_vec()));
    }
    // A client that does not wait for the answer, either.
    let mut socket = Wire::open(gateway.address());
    let early = [handshake("/live/1", "").into_bytes(), frame(TEXT, b"early", true)].concat();
    socket.send(&early);
    assert!(socket.head().unwrap().starts_with("HTTP/1.1 101 "));
    assert_eq!(socket.frame().unwrap(), (TEXT, b"hello".to_vec()));
    assert_eq!(socket.frame().unwrap(), (TEXT, b"early".to_vec()));
}

#[test]
fn opens_no_socket_where_none_is_meant() {
    let upstream = Upstream::http1(|_| Reply::text("plain"));
    let gateway = Gateway::start(&yaml(upstream.address(), ""));
    let mut client = Connection::open(gateway.address());
    client.send(handshake("/plain", "").as_bytes());
    client.response().expect(200);
    assert_eq!(upstream.last().header("upgrade"), None);
    // HTTP/1.0 knows no upgrade (RFC 9110 §7.8); another protocol than this one is asked of nobody.
    for (from, to) in [("HTTP/1.1", "HTTP/1.0"), ("Upgrade: websocket", "Upgrade: h2c")] {
        let mut client = Connection::open(gateway.address());
        client.send(handshake("/live/1", "").replace(from, to).as_bytes());
        client.response().expect(200);
        assert_eq!(upstream.last().header("upgrade"), None, "{to}");
    }
    gateway.get("/live/1").send().expect(200);
}

#[test]
fn takes_only_a_whole_handshake() {
    let endpoint = Endpoint::echo();
    let gateway = Gateway::start(&yaml(endpoint.address, ""));
    let key = format!("Sec-WebSocket-Key: {KEY}");
    for (from, to, status, code) in [
        ("GET ", "POST ", 400, "websocket-invalid"),
        ("Connection: Upgrade", "Connection: close", 400, "websocket-invalid"),
        ("Connection: Upgrade\r\n", "", 400, "websocket-invalid"),
        ("\r\n\r\n", "\r\nContent-Length: 3\r\n\r\nabc", 400, "websocket-invalid"),
        (
            "\r\n\r\n",
            "\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "websocket-invalid",
        ),
        (&*key, "Sec-WebSocket-Key: c2hvcnQ=", 400, "websocket-invalid"),
        (&*key, "X: y", 400, "websocket-invalid"),
        ("Version: 13", "Version: 8", 426, "websocket-version"),
        ("Sec-WebSocket-Version: 13\r\n", "", 426, "websocket-version"),
    ] {
        let mut client = Connection::open(gateway.address());
        client.send(handshake("/live/1", "").replacen(from, to, 1).as_bytes());
        let answer = client.response();
        answer.expect_problem(status, code);
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
            assert_eq!(answer.header("upgrade"), Some("websocket"));
        }
    }
}

#[test]
fn carries_nothing_where_the_endpoint_did_not_read_the_key() {
    let answers: [fn(&str) -> String; 8] = [
        |head| switch(head).replace("Accept: ", "Accept: x"),
        |head| switch(head).replace("Sec-WebSocket-Accept", "X-Accept"),
        |head| switch(head).replace("Upgrade: websocket\r\n", ""),
        |head| switch(head).replace("Upgrade: websocket", "Upgrade: h2c"),
        |head| switch(head).replace("Connection: Upgrade\r\n", ""),
        |head| switch(head).replace("\r\n\r\n", "\r\nContent-Length: 6\r\n\r\n"),
        |head| switch(head).replace("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n"),
        |head| switch(head).replace("HTTP/1.1", "HTTP/1.0"),
    ];
    for answer in answers {
        let endpoint = Endpoint::start(move |mut wire, head| {
            wire.send(format!("{}POISON", answer(&head)).as_bytes());
            wire.rest();
        });
        let gateway = Gateway::start(&yaml(endpoint.address, ""));
        let mut client = Connection::open(gateway.address());
        client.send(handshake("/live/1", "").as_bytes());
        let refused = client.response();
        refused.expect_problem(502, "upstream-broken");
        assert!(!refused.text().contains("POISON"));
        assert!(client.response_or_close("GET").is_none(), "it is closed");
    }
}

#[test]
fn passes_other_answers_on_as_they_are() {
    let endpoint = Endpoint::start(|mut wire, head| {
        let answer = match header(&head, "x-case") {
            Some("refused") => "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: x\r\nContent-Length: 2\r\n\r\nno",
            Some("chunked") => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nyes\r\n0\r\n\r\n",
            Some("empty") => "HTTP/1.1 204 No Content\r\n\r\n",
            Some("hinted") => "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes",
            Some("open") => "HTTP/1.1 200 OK\r\n\r\nuntil the end",
            Some("cut") => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nyes",
            _ => "HTTP/1.1 599 Never\r\n\r\n",
        };
        wire.send(answer.as_bytes());
    });
    let gateway = Gateway::start(&yaml(endpoint.address, ""));
    let mut client = Connection::open(gateway.address());
    let mut asked = |case: &str| -> Response {
        client.send(handshake("/live/1", &format!("X-Case: {case}\r\n")).as_bytes());
        client.response()
    };
    let refused = asked("refused");
    assert_eq!(refused.expect(401).text(), "no");
    assert_eq!(refused.header("www-authenticate"), Some("x"));
    assert_eq!(asked("chunked").expect(200).text(), "yes");
    assert_eq!(asked("empty").expect(204).text(), "");
    assert_eq!(asked("hinted").expect(200).text(), "yes");
    assert_eq!(asked("open").expect(200).text(), "until the end");
    let cut = asked("cut");
    assert!(cut.status == 200 && !cut.whole, "{}", cut.summary());
}

#[test]
fn lets_only_pages_of_named_origins_open_sockets() {
    let endpoint = Endpoint::echo();
    let cors = ", cors: { origins: [https://app.example, 'http://localhost:3000'] }";
    let gateway = Gateway::start(&yaml(endpoint.address, cors));
    for origin in [
        "https://gate.example",
        "http://gate.example",
        "https://app.example",
        "http://localhost:3000",
    ] {
        Wire::connect(gateway.address(), "/live/1", &format!("Origin: {origin}\r\n"));
    }
    for lines in [
        "Origin: https://evil.example\r\n",
        "Origin: https://gate.example.evil.example\r\n",
        "Origin: https://gate.example:8443\r\n",
        "Origin: http://app.example\r\n",
        "Origin: null\r\n",
        "Origin: \r\n",
        "Origin: https://gate.example\r\nOrigin: https://evil.example\r\n",
    ] {
        let mut client = Connection::open(gateway.address());
        client.send(handshake("/live/1", lines).as_bytes());
        client.response().expect_problem(403, "origin-not-allowed");
    }
    // What is no handshake is what CORS is for.
    gateway
        .get("/live/1")
        .header("origin", "https://evil.example")
        .send()
        .expect(200);
    let records = gateway.stop();
    let refused = records
        .iter()
        .filter(|record| record["decision"]["rule"] == "websocket");
    assert_eq!(refused.count(), 7);
}

#[test]
fn counts_every_origin_only_where_nobody_is_asked_who_calls() {
    let endpoint = Endpoint::echo();
    let yaml = |auth: &str| {
        yaml(endpoint.address, ", cors: { origins: '*' }").replace("auth: none, web", &format!("auth: {auth}, web"))
            + "authenticators: { keys: { api_key: { keys: [] } } }\n"
    };
    let origin = "Origin: https://evil.example\r\n";
    let open = Gateway::start(&yaml("none"));
    Wire::connect(open.address(), "/live/1", origin);
    let known = Gateway::start(&yaml("[keys, none]"));
    let mut client = Connection::open(known.address());
    client.send(handshake("/live/1", origin).as_bytes());
    client.response().expect_problem(403, "origin-not-allowed");
}

#[test]
fn refuses_a_socket_like_any_request() {
    let endpoint = Endpoint::echo();
    let more = ", limits: [few] }\n  closed: { match: GET /closed, auth: keys, websocket: true, upstream: live";
    let yaml = yaml(endpoint.address, more)
        + "limits: { few: { key: ip, rate: 1/m } }\nauthenticators: { keys: { api_key: { keys: [] } } }\n";
    let gateway = Gateway::start(&yaml);
    Wire::connect(gateway.address(), "/live/1", "");
    for (target, status, code) in [
        ("/live/1", 429, "limit-exceeded"),
        ("/closed", 401, "credential-missing"),
        ("/nowhere", 404, "route-not-found"),
    ] {
        let mut client = Connection::open(gateway.address());
        client.send(handshake(target, "").as_bytes());
        let refused = client.response();
        assert_eq!(refused.status, status, "{}", refused.summary());
        assert_eq!(refused.json()["status"], status, "{code}");
    }
}

#[test]
fn tries_another_endpoint_where_one_cannot_be_reached() {
    let refusing = RefusingPort::new();
    let endpoint = Endpoint::echo();
    let both = format!("{}, {}", refusing.address(), endpoint.address);
    let gateway = Gateway::start(&yaml(both, ""));
    for _ in 0..4 {
        Wire::connect(gateway.address(), "/live/1", "");
    }
    let nobody = Gateway::start(&yaml(refusing.address(), ""));
    let mut client = Connection::open(nobody.address());
    client.send(handshake("/live/1", "").as_bytes());
    client.response().expect_problem(502, "upstream-unreachable");
}

#[test]
fn moves_both_directions_by_themselves() {
    const LARGE: usize = 8 << 20;
    // It reads on only when all it has written was taken.
    let endpoint = Endpoint::echo();
    let gateway = Gateway::start(&yaml(endpoint.address, ""));
    let mut socket = Wire::connect(gateway.address(), "/live/1", "");
    let mut sender = socket.sender();
    let sending = std::thread::spawn(move || {
        for byte in 0..4 {
            sender.write_all(&frame(BINARY, &vec![byte; LARGE], true)).unwrap();
        }
    });
    for byte in 0..4 {
        let (opcode, payload) = socket.frame().unwrap();
        assert!(opcode == BINARY && payload == vec![byte; LARGE]);
    }
    sending.join().unwrap();
}

#[test]
fn closes_a_socket_in_which_nothing_moves() {
    let endpoint = Endpoint::echo();
    let yaml = yaml(endpoint.address, "").replace("] }\nroutes", "], timeout: { idle: 1s } }\nroutes");
    let gateway = Gateway::start(&yaml);
    let mut socket = Wire::connect(gateway.address(), "/live/1", "");
    // What moves keeps it open for longer than that.
    for _ in 0..15 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        socket.send(&frame(TEXT, b"a", true));
        assert_eq!(socket.frame().unwrap().0, TEXT);
    }
    assert_eq!(socket.closed(), (1001, "idle".to_owned()));
    drop(socket);
    assert_eq!(gateway.records(1)[0]["ended"], json!({ "by": "idle" }));
}

#[test]
fn who_leaves_before_there_is_an_answer_is_not_waited_for() {
    let (asked, was_asked) = std::sync::mpsc::channel();
    let endpoint = Endpoint::start(move |mut wire, _| {
        asked.send(()).unwrap();
        wire.rest();
    });
    let gateway = Gateway::start(&yaml(endpoint.address, ""));
    let mut client = Wire::open(gateway.address());
    client.send(handshake("/live/1", "").as_bytes());
    was_asked.recv().unwrap();
    drop(client);
    // Recorded while the endpoint still has not answered.
    let record = gateway.records(1).remove(0);
    assert_eq!(record["status"], 499, "{record}");
    assert!(record["upstream"].get("fault").is_none(), "{record}");
}

#[test]
fn tells_who_left() {
    let endpoint = Endpoint::echo();
    let gateway = Gateway::start(&yaml(endpoint.address, ""));
    let mut socket = Wire::connect(gateway.address(), "/live/1", "");
    socket.send(&frame(TEXT, b"a", true));
    socket.frame().unwrap();
    drop(socket);
    assert_eq!(gateway.records(1)[0]["ended"], json!({ "by": "client" }));
}

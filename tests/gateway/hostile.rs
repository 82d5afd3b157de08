//! Bytes meant to do harm: each is refused or cut off, none hangs or stops the gate, and nobody else notices.

use serde_json::json;

use crate::support::{Connection, Gate, Gateway, Reply, Upstream, fill};

const OPEN: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  read:  { match: 'GET /read/{rest...}', auth: none, upstream: origin }
  write: { match: POST /write, auth: none, body: { max: 64KiB }, upstream: origin }
  small: { match: GET /status, auth: none, reply: { status: 200, json: { open: true } } }
";

struct Door {
    gateway: Gateway,
    upstream: Upstream,
}

impl Door {
    fn open() -> Self {
        let upstream = Upstream::http1(|seen| Reply::json(&json!({"target": seen.target, "bytes": seen.body.len()})));
        Self {
            gateway: Gateway::start(&fill(OPEN, &[("upstream", &upstream.address())])),
            upstream,
        }
    }

    /// The bytes on a connection of their own; the status answered, 0 for none.
    fn say(&self, bytes: &[u8]) -> u16 {
        let mut connection = self.gateway.connect();
        connection.send(bytes);
        connection.finish_sending();
        connection
            .response_or_close("GET")
            .map_or(0, |response| response.status)
    }

    #[track_caller]
    fn is_unharmed(&self) {
        self.gateway.get("/status").send().expect(200);
        self.gateway.get("/read/on").send().expect(200);
    }
}

#[test]
fn survives_what_is_not_http() {
    let door = Door::open();
    let mut noise = vec![0_u8; 100_000];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut noise).unwrap();
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"PRI * HTTP/2.0\r\n\r\nno preface",
        b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /status HTTP/1.1\r\nhost: a\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\r\n\r\n\r\n\r\n",
        b"\0\0\0\0",
        b"GET\r\n\r\n",
        b"GET /status\r\n\r\n",
        b"GET  /status HTTP/1.1\r\nhost: a\r\n\r\n",
        b" GET /status HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /status HTTP/1.1\nhost: a\n\n",
        b"GET /status HTTP/1.1\r\nhost: a\r\n: no name\r\n\r\n",
        b"GET status HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: a\r\n\r\n",
        &noise,
    ] {
        let status = door.say(bytes);
        let shown: String = String::from_utf8_lossy(bytes).chars().take(60).collect();
        assert!(status == 0 || (400..=505).contains(&status), "{shown:?} gave {status}");
        door.is_unharmed();
    }
}

#[test]
fn survives_requests_that_stop_in_the_middle() {
    let door = Door::open();
    let whole = b"POST /write HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n0123456789";
    for end in (1..whole.len()).step_by(7) {
        let mut connection = door.gateway.connect();
        connection.send(&whole[..end]);
        drop(connection);
        let mut connection = door.gateway.connect();
        connection.send(&whole[..end]);
        connection.finish_sending();
        if let Some(response) = connection.response_or_close("POST") {
            assert!((400..=502).contains(&response.status), "{end}: {}", response.summary());
        }
    }
    assert_eq!(door.upstream.count_of("/write"), 0);
    door.is_unharmed();
}

#[test]
fn cuts_off_who_never_ends_a_header() {
    let door = Door::open();
    // One byte now and then keeps any timeout between bytes from firing: only a deadline for the whole header ends this.
    let mut connection = door.gateway.connect();
    connection.send(b"GET /status HTTP/1.1\r\nhost: a\r\nx-slow: ");
    let dripping = std::time::Instant::now();
    while connection.send(b"a") && dripping.elapsed() < crate::support::WATCHDOG {
        if connection.has_something_to_say() {
            break;
        }
    }
    if let Some(response) = connection.response_or_close("GET") {
        assert_eq!(response.status, 408, "{}", response.summary());
    }
    door.is_unharmed();
}

#[test]
fn cuts_off_who_never_says_anything() {
    let door = Door::open();
    let mut connection = door.gateway.connect();
    if let Some(response) = connection.response_or_close("GET") {
        assert_eq!(response.status, 408, "{}", response.summary());
    }
    door.is_unharmed();
}

#[test]
fn answers_pipelined_requests_in_order() {
    let door = Door::open();
    let mut connection = door.gateway.connect();
    let requests: Vec<u8> = (0..10)
        .flat_map(|n| format!("GET /read/{n} HTTP/1.1\r\nhost: a\r\n\r\n").into_bytes())
        .collect();
    connection.send(&requests);
    for n in 0..10 {
        assert_eq!(connection.response().expect(200).json()["target"], format!("/read/{n}"));
    }
}

/// RFC 9112 §9.3.2: what comes while an upstream is still being asked is answered afterwards.
#[test]
fn answers_requests_that_come_while_another_is_under_way() {
    let door = Door::open();
    let gate = Gate::closed();
    let held = gate.clone();
    door.upstream.answer_with(move |seen| match seen.path() {
        "/read/slow" => Reply::text("slow").held_by(&held),
        _ => Reply::json(&json!({"bytes": seen.body.len()})),
    });
    let mut connection = door.gateway.connect();
    connection.send(b"GET /read/slow HTTP/1.1\r\nhost: a\r\n\r\n");
    door.upstream.wait_for("/read/slow", 1);
    connection.send(b"POST /write HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\nabc");
    connection.send(b"defGET /status HTTP/1.1\r\nhost: a\r\n\r\n");
    // Another connection's requests go through meanwhile, so that the early bytes have arrived.
    door.is_unharmed();
    gate.open();
    assert_eq!(connection.response().expect(200).body, b"slow"[..]);
    assert_eq!(connection.response().expect(200).json()["bytes"], 6);
    assert_eq!(connection.response().expect(200).json()["open"], true);
}

#[test]
fn lets_no_body_be_taken_for_a_request() {
    let door = Door::open();
    let smuggled = "GET /read/smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let length = smuggled.len();
    for head in [
        format!("content-length: {length}"),
        format!("content-length: {length}\r\nx-a: 1"),
        format!("content-length: {length}\r\ncontent-length: {length}"),
    ] {
        for line in [
            "POST /write",
            "POST /nowhere",
            "GET /status",
            "DELETE /status",
            "GET /a/../b",
        ] {
            let mut connection = door.gateway.connect();
            connection.send(format!("{line} HTTP/1.1\r\nhost: a\r\n{head}\r\n\r\n{smuggled}").as_bytes());
            connection.send(b"GET /read/next HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
            connection.finish_sending();
            while connection.response_or_close("GET").is_some() {}
        }
    }
    assert_eq!(door.upstream.count_of("/read/smuggled"), 0);
    door.is_unharmed();
}

#[test]
fn reads_a_length_and_a_coding_one_way_or_not_at_all() {
    let door = Door::open();
    for framing in [
        "content-length: 4\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "transfer-encoding: xchunked",
        "transfer-encoding : chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity",
        "transfer-encoding:\x0bchunked",
        "content-length: 4, 5",
        "content-length: 0x4",
        "content-length: -4",
        "content-length: 99999999999999999999999",
        "content-length: 4 4",
    ] {
        let request = format!(
            "POST /write HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n0\r\n\r\nGET /read/smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let mut connection = door.gateway.connect();
        connection.send(request.as_bytes());
        connection.finish_sending();
        let first = connection
            .response_or_close("POST")
            .map_or(0, |response| response.status);
        assert!(first == 0 || (400..=501).contains(&first), "{framing:?} gave {first}");
        while connection.response_or_close("GET").is_some() {}
    }
    assert_eq!(door.upstream.count_of("/read/smuggled"), 0);
    assert_eq!(door.upstream.count_of("/write"), 0);
    door.is_unharmed();
}

#[test]
fn takes_no_malformed_chunk() {
    let door = Door::open();
    for chunks in [
        "zz\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello world\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5hello\r\n0\r\n\r\n",
        "\r\n\r\n",
    ] {
        let request = format!("POST /write HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        let status = door.say(request.as_bytes());
        assert!(status == 0 || (400..=502).contains(&status), "{chunks:?} gave {status}");
    }
    assert_eq!(door.upstream.count_of("/write"), 0);
    door.is_unharmed();
}

#[test]
fn stops_reading_a_body_without_end() {
    let door = Door::open();
    let mut connection = door.gateway.connect();
    connection.send(b"POST /write HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [&b"2000\r\n"[..], &[b'a'; 0x2000], b"\r\n"].concat();
    // 64 MiB, a thousand times what is allowed.
    let taken = (0..8192).take_while(|_| connection.send(&chunk)).count();
    if taken == 8192 {
        connection.send(b"0\r\n\r\n");
    }
    if let Some(response) = connection.response_or_close("POST") {
        response.expect_problem(413, "body-too-large");
    }
    assert_eq!(door.upstream.count_of("/write"), 0);
    door.is_unharmed();
}

#[test]
fn stops_reading_a_chunk_line_or_trailer_without_end() {
    let door = Door::open();
    for body in [
        format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(1_000_000)),
        format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(1_000_000)),
        format!("5\r\nhello\r\n0\r\nx-trailer: {}\r\n\r\n", "x".repeat(1_000_000)),
    ] {
        let request = format!("POST /write HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{body}");
        let mut connection = door.gateway.connect();
        connection.send(request.as_bytes());
        connection.finish_sending();
        if let Some(response) = connection.response_or_close("POST") {
            let bytes = response.header("content-length").is_some().then_some(response.status);
            assert!(
                bytes.is_some_and(|status| status == 200 || status >= 400),
                "{}",
                response.summary()
            );
        }
    }
    door.is_unharmed();
}

#[test]
fn serves_others_while_many_keep_it_waiting() {
    let door = Door::open();
    let _waiting: Vec<Connection> = (0..200)
        .map(|n| {
            let mut connection = door.gateway.connect();
            connection.send(match n % 3 {
                0 => b"GET /status HT",
                1 => b"POST /write HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf",
                _ => b"",
            });
            connection
        })
        .collect();
    for _ in 0..20 {
        door.is_unharmed();
    }
}

#[test]
fn serves_others_while_an_upstream_hangs() {
    let door = Door::open();
    let gate = Gate::closed();
    let held = gate.clone();
    door.upstream.answer_with(move |seen| match seen.path() {
        "/read/slow" => Reply::text("slow").held_by(&held),
        _ => Reply::text("fast"),
    });
    let mut waiting: Vec<Connection> = (0..50)
        .map(|_| {
            let mut connection = door.gateway.connect();
            connection.send(&door.gateway.get("/read/slow").bytes());
            connection
        })
        .collect();
    door.upstream.wait_for("/read/slow", 50);
    door.is_unharmed();
    gate.open();
    for connection in &mut waiting {
        assert_eq!(connection.response().expect(200).text(), "slow");
    }
}

#[test]
fn keeps_a_connection_for_the_next_request_after_a_refusal() {
    let door = Door::open();
    let mut connection = door.gateway.connect();
    for (target, status) in [("/status", 200), ("/nowhere", 404), ("/read/1", 200), ("/status", 200)] {
        assert!(connection.send(&door.gateway.get(target).bytes()));
        assert_eq!(connection.response().status, status);
    }
}

//! Floods of frames: the connection is ended, and nobody else notices.

use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, Http2, PING, PREFACE, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, fields, frame, request,
};
use crate::support::{Gateway, Recorder, Reply, Upstream, eventually, fill};

const OPEN: &str = "
bounds: { $bounds }
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  all: { match: { path: '/{rest...}' }, auth: none, upstream: origin }
";

fn open(bounds: &str, upstream: &impl std::fmt::Display) -> Gateway {
    Gateway::start(&fill(OPEN, &[("bounds", &bounds), ("upstream", upstream)]))
}

fn cut(gateway: &Gateway, reason: &str) -> f64 {
    let labels = [("reason", reason)];
    let metrics = gateway.metrics();
    metrics
        .value("gwanmun_connections_cut_total", &labels)
        .unwrap_or_default()
}

/// Sends that on a connection of its own: it is ended for that reason, while another is served.
#[track_caller]
fn floods(gateway: &Gateway, reason: &str, what: &str, bytes: &[u8]) {
    let mut other = Http2::plain(gateway.address());
    assert_eq!(other.exchange(1, &request("GET", "/x")).status, 200);
    let before = cut(gateway, reason);
    let mut client = Http2::plain(gateway.address());
    for piece in bytes.chunks(8 << 10) {
        if !client.send(piece) {
            break;
        }
    }
    client.end();
    eventually(&format!("{what} is counted under {reason}"), || {
        (cut(gateway, reason) > before).then_some(())
    });
    assert_eq!(other.exchange(3, &request("GET", "/x")).status, 200, "{what}");
}

/// A request on each of so many streams, and what follows it there.
fn each(count: u32, flags: u8, then: impl Fn(u32) -> Vec<u8>) -> Vec<u8> {
    let block = fields(&request("POST", "/x"));
    let streams = (0..count).map(|at| 2 * at + 1);
    streams
        .flat_map(|stream| [frame(HEADERS, END_HEADERS | flags, stream, &block), then(stream)].concat())
        .collect()
}

#[test]
fn frames_that_ask_for_nothing_are_bounded() {
    let recorder = Recorder::start();
    let gateway = open("", &recorder.address());
    for (what, idle) in [
        ("PING", frame(PING, 0, 0, &[0; 8])),
        ("PING with ACK", frame(PING, 1, 0, &[0; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[])),
        (
            "large SETTINGS",
            frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100].repeat(100)),
        ),
        ("PRIORITY", frame(PRIORITY, 0, 99, &[0, 0, 0, 1, 9])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown frames", frame(77, 0, 0, b"whatever")),
    ] {
        floods(&gateway, "frames", what, &idle.repeat(3000));
        // What some clients do say is no flood.
        let mut client = Http2::plain(gateway.address());
        client.send(&idle.repeat(100));
        assert_eq!(client.exchange(1, &request("GET", "/x")).status, 200, "{what}");
    }
}

#[test]
fn requests_that_come_to_nothing_are_bounded() {
    let upstream = Upstream::http1(|seen| match seen.method.as_str() {
        "GET" => Reply::text("served"),
        _ => Reply::never(),
    });
    let gateway = open("", &upstream.address());
    let reset = |code: u32| move |stream| frame(RST_STREAM, 0, stream, &code.to_be_bytes());
    // A page that is left takes back all it has asked for.
    let mut client = Http2::plain(gateway.address());
    client.send(&each(90, END_STREAM, reset(8)));
    assert_eq!(client.exchange(1001, &request("GET", "/x")).status, 200);
    let all = |gateway: &Gateway| {
        let reasons = ["resets", "frames", "malformed"];
        reasons.map(|reason| cut(gateway, reason)).iter().sum::<f64>()
    };
    for (what, bytes) in [
        ("rapid reset", each(1000, END_STREAM, reset(8))),
        // CVE-2025-8671: the client has the gateway reset them.
        (
            "too much room",
            each(1000, END_STREAM, |stream| {
                frame(WINDOW_UPDATE, 0, stream, &[127, 255, 255, 255])
            }),
        ),
        (
            "a body after its end",
            each(1000, END_STREAM, |stream| frame(DATA, 0, stream, b"x")),
        ),
        ("requests that are none", {
            let block = fields(&[&request("GET", "/x")[..], &[("connection", "close")]].concat());
            (0..1000)
                .flat_map(|at| frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &block))
                .collect()
        }),
        ("more than there may be", each(1000, END_STREAM, |_| Vec::new())),
    ] {
        let before = all(&gateway);
        let mut client = Http2::plain(gateway.address());
        for piece in bytes.chunks(8 << 10) {
            client.send(piece);
        }
        client.end();
        eventually(what, || (all(&gateway) > before).then_some(()));
        let mut other = Http2::plain(gateway.address());
        assert_eq!(other.exchange(1, &request("GET", "/x")).status, 200, "{what}");
    }
    // None of it is left behind at the upstream or here.
    eventually("all requests have ended", || {
        (gateway.metrics().value("gwanmun_in_flight_requests", &[]) == Some(0.0)).then_some(())
    });
}

#[test]
fn headers_are_bounded_however_they_are_sent() {
    let recorder = Recorder::start();
    let gateway = open("", &recorder.address());
    let begun = frame(HEADERS, END_STREAM, 1, &fields(&request("GET", "/x")));
    let empty = frame(CONTINUATION, 0, 1, &[]);
    floods(
        &gateway,
        "frames",
        "empty CONTINUATION",
        &[begun.clone(), empty.repeat(100)].concat(),
    );
    let some = frame(CONTINUATION, 0, 1, &fields(&[("x", "y")]));
    floods(
        &gateway,
        "frames",
        "small CONTINUATION",
        &[begun.clone(), some.repeat(100)].concat(),
    );
    // RFC 7541 §7.3: one large field in the table, and then a byte for each time it is meant.
    let mut bomb = fields(&request("GET", "/x"));
    bomb.extend([0x40, 1, b'x', 127, 0xa1, 0x1e]);
    bomb.extend([b'y'; 4000]);
    bomb.extend([0xbe; 10_000]);
    floods(
        &gateway,
        "frames",
        "compression",
        &frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb),
    );
    let empty = frame(DATA, 0, 1, &[]);
    floods(
        &gateway,
        "frames",
        "empty DATA",
        &[each(1, 0, |_| Vec::new()), empty.repeat(1000)].concat(),
    );
    let refused: Vec<u8> = (0..40)
        .flat_map(|at| {
            let block = fields(&request("GET", "*"));
            frame(HEADERS, END_HEADERS | END_STREAM, 2 * at + 1, &block)
        })
        .collect();
    floods(&gateway, "malformed", "requests that are refused", &refused);
}

#[test]
fn a_frame_has_to_come_whole_in_its_time() {
    let upstream = Upstream::http1(|seen| match seen.path() {
        "/never" => Reply::never(),
        _ => Reply::text("served"),
    });
    let gateway = open("header: { within: 400ms }", &upstream.address());
    let whole = frame(HEADERS, END_HEADERS | END_STREAM, 5, &fields(&request("GET", "/x")));
    for (what, bytes) in [
        ("half a frame", &whole[..20]),
        ("half the head of a frame", &whole[..5]),
        (
            "half a header",
            &frame(HEADERS, END_STREAM, 5, &fields(&request("GET", "/x")))[..],
        ),
    ] {
        let before = cut(&gateway, "slow");
        let mut client = Http2::plain(gateway.address());
        // Something is under way, so that the connection is not idle.
        assert_eq!(client.exchange(1, &request("GET", "/x")).status, 200);
        client.ask(3, &request("GET", "/never"));
        client.send(bytes);
        client.end();
        assert_eq!(cut(&gateway, "slow"), before + 1.0, "{what}");
    }
}

#[test]
fn no_more_requests_than_there_may_be_are_under_way() {
    let upstream = Upstream::http1(|_| Reply::never());
    let gateway = open("", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    client.send(&each(110, END_STREAM, |_| Vec::new()));
    for at in 100..110 {
        assert_eq!(client.answer(2 * at + 1).reset, Some(7), "REFUSED_STREAM");
    }
    upstream.wait_for("/x", 100);
    assert_eq!(upstream.count(), 100);
}

#[test]
fn many_small_pieces_of_a_body_are_no_flood() {
    let upstream = Upstream::http1(|seen| Reply::text(seen.body.len().to_string()));
    let gateway = open("", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    client.open(1, &request("POST", "/x"));
    // All that the window of a stream has room for, in messages of gRPC with nothing in them.
    let count = 65_535 / 5;
    client.send(
        &[
            frame(DATA, 0, 1, b"\0\0\0\0\0").repeat(count),
            frame(DATA, END_STREAM, 1, b""),
        ]
        .concat(),
    );
    assert_eq!(client.answer(1).body, (5 * count).to_string().as_bytes());
}

#[test]
fn uploads_that_are_answered_early_end_no_connection() {
    let yaml = "routes: { fixed: { match: { path: /x }, auth: none, reply: { status: 403, json: { a: 1 } } } }";
    let gateway = Gateway::start(yaml);
    let mut client = Http2::plain(gateway.address());
    for at in 0..400 {
        let stream = 2 * at + 1;
        client.open(stream, &request("POST", "/x"));
        client.send(&frame(DATA, 0, stream, &[b'x'; 300]));
        assert_eq!(client.answer(stream).status, 403, "{at}");
        // It was on its way.
        client.send(&frame(DATA, 0, stream, &[b'x'; 300]));
    }
    assert_eq!(client.exchange(1001, &request("GET", "/x")).status, 403);
}

#[test]
fn requests_before_a_flood_leave_their_records() {
    let recorder = Recorder::start();
    let gateway = open("", &recorder.address());
    let mut client = Http2::plain(gateway.address());
    let ping = frame(PING, 0, 0, &[0; 8]);
    client.send(&[each(20, END_STREAM, |_| Vec::new()), ping.repeat(1500)].concat());
    client.end();
    assert_eq!(gateway.records(20).len(), 20);
}

#[test]
fn a_client_begins_with_its_settings() {
    let recorder = Recorder::start();
    let gateway = open("", &recorder.address());
    let block = fields(&request("GET", "/x"));
    for first in [
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block),
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 1, 0, &[]),
    ] {
        let mut client = Http2::silent(gateway.address());
        client.send(&[PREFACE, &first].concat());
        assert_eq!(client.end(), Some(1), "PROTOCOL_ERROR");
    }
    assert!(recorder.take().is_empty());
}

#[test]
fn an_answer_that_is_taken_excuses_no_other() {
    let upstream = Upstream::http1(|_| Reply::typed("text/plain", vec![b'x'; 10_000_000]));
    let gateway = open("answer: { per_second: 20KiB, grace: 300ms }", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    let room = |stream: u32, bytes: u32| frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    client.send(&room(0, 1 << 30));
    for stream in [1, 3] {
        client.ask(stream, &request("GET", "/large"));
    }
    eventually("the one that is not taken is given up", || {
        client.drip(&room(3, 5000));
        let [first, second] = [1, 3].map(|stream| client.so_far(stream));
        assert!(second.reset.is_none() && !second.is_whole);
        first.reset.map(|_| assert_eq!(first.body.len(), 65_535))
    });
}

#[test]
fn answers_that_wait_for_one_another_are_not_too_slow() {
    const LENGTH: usize = 200_000;
    let upstream = Upstream::http1(|_| Reply::typed("text/plain", vec![b'x'; LENGTH]));
    let gateway = open("answer: { per_second: 10KiB, grace: 500ms }", &upstream.address());
    let mut client = Http2::plain(gateway.address());
    client.ask(1, &request("GET", "/one"));
    client.ask(3, &request("GET", "/other"));
    // For longer than the grace the client has room for one of them alone.
    let room = |stream: u32, bytes: u32| frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    for _ in 0..25 {
        client.send(&[room(0, 8_000), room(1, 8_000)].concat());
        std::thread::sleep(std::time::Duration::from_millis(60));
    }
    client.send(&[room(0, 400_000), room(1, 200_000), room(3, 200_000)].concat());
    for stream in [1, 3] {
        let answer = client.answer(stream);
        assert_eq!((answer.status, answer.body.len(), answer.reset), (200, LENGTH, None));
    }
}

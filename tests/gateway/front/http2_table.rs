//! What becomes of requests in HTTP/2, by the section of the RFC that says so: the same reading as in HTTP/1, or none.

use super::Open;
use crate::support::eventually;
use crate::support::http2::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, Http2, PING, PRIORITY, RST_STREAM, SETTINGS,
    WINDOW_UPDATE, fields, frame, raw_fields, request,
};

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Sent on with this method and target.
    To(&'static str),
    /// Refused with this status; the connection goes on.
    No(u16),
    /// No request to anybody who reads HTTP/2: its stream is reset with this code, and the connection goes on.
    Reset(u32),
    /// No HTTP/2: the connection ends with this code.
    Away(u32),
}

use Verdict::{Away, No, Reset, To};

const PROTOCOL: u32 = 1;
const FLOW_CONTROL: u32 = 3;
const FRAME_SIZE: u32 = 6;

/// One request, on stream 1 of a connection of its own.
struct Row {
    section: &'static str,
    verdict: Verdict,
    bytes: Vec<u8>,
}

fn row(section: &'static str, verdict: Verdict, bytes: Vec<u8>) -> Row {
    Row {
        section,
        verdict,
        bytes,
    }
}

fn whole(block: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, block)
}

/// A request of these fields and nothing else.
fn of(named: &[(&str, &str)]) -> Vec<u8> {
    whole(&fields(named))
}

/// A request with these fields besides the usual.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    of(&[&request("GET", "/x")[..], more].concat())
}

/// The same with bytes of any kind.
fn raw(name: &[u8], value: &[u8]) -> Vec<u8> {
    whole(&[fields(&request("GET", "/x")), raw_fields(&[(name, value)])].concat())
}

fn path(path: &str) -> Vec<u8> {
    of(&request("GET", path))
}

/// A request with these bytes after its header, which does not end its stream.
fn body(more: &[(&str, &str)], rest: &[Vec<u8>]) -> Vec<u8> {
    let block = fields(&[&request("POST", "/x")[..], more].concat());
    [frame(HEADERS, END_HEADERS, 1, &block), rest.concat()].concat()
}

/// These frames, and then a request that is fine.
fn first(bytes: &[Vec<u8>]) -> Vec<u8> {
    [bytes.concat(), path("/x")].concat()
}

#[test]
fn reads_each_request_one_way_or_not_at_all() {
    let rows = rows();
    assert!(rows.len() >= 100, "{} rows", rows.len());
    let open = Open::start();
    let (mut wrong, mut refused, mut sent_on) = (Vec::new(), 0, 0);
    for Row {
        section,
        verdict,
        bytes,
    } in rows
    {
        let mut client = Http2::plain(open.gateway.address());
        client.send(&bytes);
        let answer = client.answer(1);
        // Of a body that turns out to be none, the upstream gets half a request.
        let came = open.recorder.take();
        let came: Vec<String> = came
            .iter()
            .flat_map(|read| &read.requests)
            .map(|message| message.line())
            .collect();
        let found = match (answer.status, answer.reset) {
            (200, _) => None,
            (0, Some(code)) => Some(Reset(code)),
            (0, None) => Some(Away(client.end().unwrap_or(u32::MAX))),
            (status, _) => Some(No(status)),
        };
        let mut is_right = match (&verdict, &found) {
            (To(line), None) => came == [*line],
            (verdict, Some(found)) => verdict == found && came.is_empty(),
            _ => false,
        };
        if matches!(verdict, No(_) | Reset(_)) {
            is_right &= client.exchange(101, &request("GET", "/next")).status == 200;
            sent_on += 1;
            open.recorder.take();
        }
        refused += usize::from(matches!(verdict, No(_)));
        sent_on += usize::from(matches!(verdict, To(_)));
        if !is_right {
            wrong.push(format!(
                "§{section} {verdict:?}, but {found:?} and {came:?}: {answer:?}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
    // Each that was read leaves its record; so may one whose body turned out to be none.
    eventually("each to be recorded", || {
        let records = open.gateway.records(refused + sent_on);
        let failed = records.iter().filter(|record| record["status"] != 200).count();
        (records.len() - failed == sent_on && failed >= refused).then_some(())
    });
}

fn rows() -> Vec<Row> {
    let mut rows = pseudo_fields();
    rows.extend(hosts());
    rows.extend(targets());
    rows.extend(other_fields());
    rows.extend(bodies());
    rows.extend(frames());
    rows
}

fn pseudo_fields() -> Vec<Row> {
    let all = request("GET", "/x");
    let without = |name: &str| -> Vec<u8> {
        let left: Vec<_> = all.iter().filter(|(known, _)| *known != name).copied().collect();
        of(&left)
    };
    let long = "A".repeat(33);
    vec![
        row("9113 §8.3.1", To("GET /x"), of(&all)),
        row("9113 §8.3", Reset(PROTOCOL), without(":method")),
        row("9113 §8.3", Reset(PROTOCOL), without(":scheme")),
        row("9113 §8.3", Reset(PROTOCOL), without(":path")),
        row("9113 §8.3.1", No(400), without(":authority")),
        row("9113 §8.3", Reset(PROTOCOL), with(&[(":path", "/y")])),
        row(
            "9113 §8.3",
            Reset(PROTOCOL),
            of(&[&all[..], &[(":method", "PUT")]].concat()),
        ),
        row("9113 §8.3", Reset(PROTOCOL), of(&[&[("a", "b")], &all[..]].concat())),
        row(
            "9113 §8.3",
            Reset(PROTOCOL),
            of(&[&[(":status", "200")], &all[..]].concat()),
        ),
        row("9113 §8.3", Away(PROTOCOL), of(&[&[(":x", "y")], &all[..]].concat())),
        row(
            "9113 §8.3.1",
            No(400),
            of(&[(":method", "GET"), (":scheme", "ftp"), all[2], all[3]]),
        ),
        row(
            "9113 §8.3.1",
            To("GET /x"),
            of(&[(":method", "GET"), (":scheme", "https"), all[2], all[3]]),
        ),
        row("9110 §9.1", To("get /x"), of(&request("get", "/x"))),
        row("9110 §9.1", To("PURGE /x"), of(&request("PURGE", "/x"))),
        row("9110 §9.1", No(501), of(&request(&long, "/x"))),
        row("9110 §5.6.2", Away(PROTOCOL), of(&request("G T", "/x"))),
        row("9110 §5.6.2", Away(PROTOCOL), of(&request("", "/x"))),
        row(
            "9113 §8.5",
            No(405),
            of(&[(":method", "CONNECT"), (":authority", "a:1")]),
        ),
        row("9113 §8.5", Reset(PROTOCOL), of(&request("CONNECT", "/x"))),
        row(
            "8441 §4",
            Reset(PROTOCOL),
            of(&[&request("CONNECT", "/x")[..], &[(":protocol", "websocket")]].concat()),
        ),
        row(
            "8441 §4",
            Reset(PROTOCOL),
            of(&[&all[..], &[(":protocol", "websocket")]].concat()),
        ),
    ]
}

fn hosts() -> Vec<Row> {
    let authority = |authority: &str, host: &[&str]| {
        let mut named = vec![(":method", "GET"), (":scheme", "http"), (":path", "/x")];
        named.extend((!authority.is_empty()).then_some((":authority", authority)));
        named.extend(host.iter().map(|host| ("host", *host)));
        of(&named)
    };
    let mut rows = vec![
        row("9113 §8.3.1", To("GET /x"), authority("", &["a"])),
        row("9113 §8.3.1", To("GET /x"), authority("a", &["a"])),
        row("9113 §8.3.1", To("GET /x"), authority("a:8080", &["A:8080"])),
        row("9113 §8.3.1", No(400), authority("a", &["b"])),
        row("9113 §8.3.1", No(400), authority("a:80", &["a:81"])),
        row("9113 §8.3.1", No(400), authority("a", &["a:81"])),
        row("9112 §3.2", No(400), authority("a", &["a", "a"])),
        row("9112 §3.2", No(400), authority("", &["a", "a"])),
        row("9112 §3.2", No(400), authority("", &[""])),
    ];
    for bad in ["u@a", "u:p@a", "a:x", "a..b", "[::1", "a:1:2", "a:99999"] {
        rows.push(row("9110 §4.2.4", No(400), authority("", &[bad])));
    }
    for bad in ["u@a", "u:p@a"] {
        rows.push(row("9113 §8.3.1", No(400), authority(bad, &[])));
        rows.push(row("9113 §8.3.1", No(400), authority(bad, &[bad])));
    }
    rows
}

fn targets() -> Vec<Row> {
    let long = format!("/{}", "x".repeat(9000));
    let mut rows = vec![
        row("9113 §8.3.1", To("GET /x?y=z"), path("/x?y=z")),
        row("3986 §6.2", To("GET /x"), path("/%78")),
        row("3986 §6.2", No(400), path("/a/../x")),
        row("9112 §3.2", No(400), path("*")),
        row("9112 §3.2", Reset(PROTOCOL), path("x")),
        row("9112 §3.2", No(400), path("?x")),
        row("9112 §3.2", Reset(PROTOCOL), path("http://gate.example/x")),
        row("9112 §3.2", Reset(PROTOCOL), path("gate.example:80")),
        row("9113 §8.3.1", Reset(PROTOCOL), path("")),
        row("3986 §2", No(400), path("/a\\b")),
        row("3986 §2", No(400), path("/?a\\b")),
        row("3986 §2", No(400), path("/a%00")),
        row("3986 §2", No(400), path("/a%2fb%5c")),
        row("3986 §2.1", No(400), path("/\u{e9}")),
        row("9110 §4.1", No(414), path(&long)),
    ];
    for bad in ["/a b", "/a\tb", "/a\rb", "/a\nb", "/a\0b", "/a\r\nHost: b"] {
        rows.push(row("9113 §8.3.1", Reset(PROTOCOL), path(bad)));
    }
    rows
}

fn other_fields() -> Vec<Row> {
    let many: Vec<(&str, &str)> = vec![("x", "y"); 130];
    let large = "y".repeat(16_000);
    let mut rows = vec![
        row("9113 §8.2.2", To("GET /x"), with(&[("te", "trailers")])),
        row("9113 §8.2.2", Reset(PROTOCOL), with(&[("te", "gzip")])),
        row("9113 §8.2.2", Reset(PROTOCOL), with(&[("te", "trailers, gzip")])),
        row("9113 §8.2.1", No(400), with(&[("x", " y")])),
        row("9113 §8.2.1", No(400), with(&[("x", "y\t")])),
        row("9113 §8.2.1", To("GET /x"), with(&[("x", "")])),
        row("9113 §8.2.1", To("GET /x"), raw(b"x", b"\xe9")),
        row("9113 §8.2.1", Away(PROTOCOL), raw(b"X", b"y")),
        row("9113 §8.2.1", Away(PROTOCOL), raw(b"a b", b"y")),
        row("9113 §8.2.1", Away(PROTOCOL), raw(b"a:b", b"y")),
        row("9113 §8.2.1", Away(PROTOCOL), raw(b"a\0", b"y")),
        row("9113 §8.2.1", Away(PROTOCOL), raw(b"\xe9", b"y")),
        row("9113 §8.2.1", Away(PROTOCOL), raw(b"", b"y")),
        row("9110 §5.4", No(431), with(&many)),
        row("9110 §8.6", To("GET /x"), with(&[("content-length", "0")])),
        row(
            "9110 §8.6",
            No(400),
            with(&[("content-length", "0"), ("content-length", "0")]),
        ),
        row(
            "9113 §8.2.3",
            To("GET /x"),
            with(&[("cookie", "a=1"), ("cookie", "b=2")]),
        ),
    ];
    for name in [
        "connection",
        "keep-alive",
        "proxy-connection",
        "transfer-encoding",
        "upgrade",
    ] {
        rows.push(row("9113 §8.2.2", Reset(PROTOCOL), with(&[(name, "close")])));
    }
    for value in [&b"a\0b"[..], b"a\rb", b"a\nb", b"a\r\nHost: b", b"a\x7fb", b"\x01"] {
        rows.push(row("9113 §8.2.1", Away(PROTOCOL), raw(b"x", value)));
    }
    for length in ["1", "+0", "-0", "0,0", "a", "99999999999999999999"] {
        rows.push(row("9113 §8.1.1", Reset(PROTOCOL), with(&[("content-length", length)])));
    }
    rows.push(row("9110 §8.6", No(400), with(&[("content-length", "")])));
    let pieces = |count: usize| {
        let mut bytes = frame(HEADERS, END_STREAM, 1, &fields(&request("GET", "/x")));
        for _ in 0..count {
            bytes.extend(frame(CONTINUATION, 0, 1, &fields(&[("x", &large)])));
        }
        bytes.extend(frame(CONTINUATION, END_HEADERS, 1, &[]));
        bytes
    };
    rows.push(row("9113 §6.10", To("GET /x"), pieces(3)));
    rows.push(row("6585 §5", No(431), pieces(5)));
    rows
}

fn bodies() -> Vec<Row> {
    let data = |flags: u8, bytes: &[u8]| frame(DATA, flags, 1, bytes);
    let trailers = |flags: u8, named: &[(&str, &str)]| frame(HEADERS, END_HEADERS | flags, 1, &fields(named));
    let forbidden = |named: &[(&str, &str)]| {
        let bytes = body(&[], &[data(0, b"abc"), trailers(END_STREAM, named)]);
        row("9110 §6.5.1", No(400), bytes)
    };
    vec![
        row("9113 §8.1", To("POST /x"), body(&[], &[data(END_STREAM, b"abc")])),
        row(
            "9113 §8.1",
            To("POST /x"),
            body(&[("content-length", "3")], &[data(0, b"abc"), data(END_STREAM, b"")]),
        ),
        row(
            "9113 §6.1",
            To("POST /x"),
            body(&[], &[data(END_STREAM | 8, b"\x02abc\0\0")]),
        ),
        row(
            "9113 §6.1",
            Away(PROTOCOL),
            body(&[], &[data(END_STREAM | 8, b"\x09abc")]),
        ),
        row(
            "9113 §8.1",
            To("POST /x"),
            body(&[], &[data(0, b"abc"), trailers(END_STREAM, &[("x", "y")])]),
        ),
        forbidden(&[("host", "b")]),
        forbidden(&[("authorization", "Bearer x")]),
        forbidden(&[("x", "y"), ("content-length", "3")]),
        forbidden(&[("x-forwarded-for", "192.0.2.1")]),
        row("9113 §8.1", Reset(PROTOCOL), body(&[], &[trailers(0, &[("x", "y")])])),
        row("9113 §5.1", Away(PROTOCOL), frame(DATA, END_STREAM, 1, b"abc")),
        row("9113 §5.1", Away(PROTOCOL), frame(RST_STREAM, 0, 1, &[0; 4])),
        row("9113 §5.1", Away(PROTOCOL), frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1])),
    ]
}

fn frames() -> Vec<Row> {
    let all = fields(&request("GET", "/x"));
    let headers = |flags: u8, stream: u32, block: &[u8]| frame(HEADERS, flags, stream, block);
    vec![
        row("9113 §4.1", To("GET /x"), first(&[frame(99, 255, 77, b"whatever")])),
        row(
            "9113 §6.3",
            To("GET /x"),
            first(&[frame(PRIORITY, 0, 7, &[0, 0, 0, 1, 9])]),
        ),
        row("9113 §6.7", To("GET /x"), first(&[frame(PING, 0, 0, &[7; 8])])),
        row("9113 §6.7", Away(PROTOCOL), first(&[frame(PING, 0, 0, &[7; 7])])),
        row("9113 §6.7", Away(PROTOCOL), first(&[frame(PING, 0, 1, &[7; 8])])),
        row("9113 §6.5", Away(PROTOCOL), first(&[frame(SETTINGS, 0, 1, &[])])),
        row("9113 §6.5", Away(PROTOCOL), first(&[frame(SETTINGS, 1, 0, &[0; 6])])),
        row("9113 §6.5", Away(PROTOCOL), first(&[frame(SETTINGS, 0, 0, &[0; 5])])),
        row(
            "9113 §6.5.2",
            Away(PROTOCOL),
            first(&[frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2])]),
        ),
        row(
            "9113 §6.5.2",
            Away(PROTOCOL),
            first(&[frame(SETTINGS, 0, 0, &[0, 4, 255, 255, 255, 255])]),
        ),
        row(
            "9113 §6.9",
            Away(PROTOCOL),
            first(&[frame(WINDOW_UPDATE, 0, 0, &[0; 4])]),
        ),
        row(
            "9113 §6.9.1",
            Away(FLOW_CONTROL),
            first(&[frame(WINDOW_UPDATE, 0, 0, &[127, 255, 255, 255])]),
        ),
        row(
            "9113 §6.10",
            Away(PROTOCOL),
            first(&[frame(CONTINUATION, END_HEADERS, 1, &all)]),
        ),
        row(
            "9113 §6.2",
            Away(PROTOCOL),
            [headers(END_STREAM, 1, &all), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        row(
            "9113 §6.10",
            Away(PROTOCOL),
            [headers(END_STREAM, 1, &all), frame(CONTINUATION, 4, 3, &[])].concat(),
        ),
        row("9113 §6.2", Away(PROTOCOL), headers(END_STREAM | END_HEADERS, 0, &all)),
        row(
            "9113 §5.1.1",
            Away(PROTOCOL),
            headers(END_STREAM | END_HEADERS, 2, &all),
        ),
        row(
            "9113 §6.6",
            Away(PROTOCOL),
            frame(5, END_HEADERS, 1, &[&[0, 0, 0, 2][..], &all].concat()),
        ),
        row("9113 §4.2", Away(FRAME_SIZE), frame(DATA, 0, 1, &[0; 16_385])),
        row(
            "9113 §6.3",
            Reset(PROTOCOL),
            headers(END_STREAM | END_HEADERS | 32, 1, &[&[0, 0, 0, 1, 9][..], &all].concat()),
        ),
        row("7541 §2.3.3", Away(PROTOCOL), whole(&[0xff, 0x7f])),
        row(
            "7541 §5.2",
            Away(PROTOCOL),
            whole(&[0x40, 0x83, 0xff, 0xff, 0xff, 1, b'x']),
        ),
        row("7541 §4.2", Away(PROTOCOL), whole(&[0x3f, 0xff, 0xff, 0xff, 0x0f])),
        row("9113 §5.1", Away(PROTOCOL), [path("/x"), path("/x")].concat()),
        row("9113 §3.4", Away(PROTOCOL), frame(GOAWAY, 0, 1, &[0; 8])),
    ]
}

#[test]
fn nobody_behind_the_gateway_knows_of_split_cookies() {
    let open = Open::start();
    let mut client = Http2::plain(open.gateway.address());
    let mut named = request("GET", "/x");
    named.extend([("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]);
    assert_eq!(client.exchange(1, &named).status, 200);
    let message = open.recorder.requests().remove(0);
    assert_eq!(message.values("cookie"), [b"a=1; b=2; c=3"]);
    assert_eq!(message.values("host"), [b"gate.example"]);
}

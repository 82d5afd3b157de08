//! Bodies in pieces, and what stands behind them on the connection.

use super::Open;
use crate::support::http2::{DATA, END_HEADERS, END_STREAM, HEADERS, Http2, fields, frame, request};
use crate::support::{Gateway, Recorder, Reply, Upstream, fill};

/// What the upstream has of requests, whole or not, may only be the beginning of one.
impl Open {
    fn whole_requests(&self) -> usize {
        self.recorder.take().iter().map(|read| read.requests.len()).sum()
    }
}

#[test]
fn a_body_in_pieces_arrives_in_one_form() {
    let open = Open::start();
    let request = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n003;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n";
    let next = b"GET /y HTTP/1.1\r\nHost: a\r\n\r\n";
    for cut in 1..request.len() {
        let mut connection = open.gateway.connect();
        connection.send(&request[..cut]);
        // Another request goes all the way meanwhile, so that the pieces come apart.
        if cut % 7 == 0 {
            open.gateway.get("/z").send().expect(200);
        }
        connection.send(&[&request[cut..], next].concat());
        assert_eq!(connection.response().expect(200).text(), "POST /x 5", "{cut}");
        assert_eq!(connection.response().expect(200).text(), "GET /y 0", "{cut}");
    }
    for message in open.recorder.requests() {
        let body: &[u8] = if message.method == "POST" { b"abcde" } else { b"" };
        assert_eq!(message.body, body);
        assert!(message.values("x-sum").is_empty());
    }
}

#[test]
fn chunks_that_go_wrong_later_never_make_a_request() {
    let open = Open::start();
    let head = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for bad in [
        "5\nhello\r\n0\r\n\r\n",
        "zz\r\n",
        "0\r\nHost: b\r\n\r\n",
        "0\r\nContent-Length: 40\r\n\r\n",
        "0\n\n",
        "-1\r\n",
    ] {
        let mut connection = open.gateway.connect();
        connection.send(head.as_bytes());
        // The header and the first chunk are on their way before the rest is there.
        open.gateway.get("/z").send().expect(200);
        open.recorder.take();
        connection.send(format!("{bad}{smuggled}").as_bytes());
        connection.response().expect_problem(400, "request-invalid");
        assert!(connection.response_or_close("GET").is_none(), "{bad:?}");
        assert_eq!(open.whole_requests(), 0, "{bad:?}");
    }
}

#[test]
fn a_body_that_breaks_off_makes_no_request() {
    let open = Open::start();
    for request in [
        "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhello",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ] {
        let mut connection = open.gateway.connect();
        connection.send(request.as_bytes());
        connection.finish_sending();
        assert!(
            connection
                .response_or_close("POST")
                .is_none_or(|response| response.status >= 400)
        );
    }
    assert_eq!(open.whole_requests(), 0);
}

#[test]
fn pipelined_requests_stay_apart() {
    let open = Open::start();
    let mut connection = open.gateway.connect();
    let mut all = String::new();
    for n in 0..20 {
        all.push_str(&match n % 4 {
            0 => format!("GET /{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /{n} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"),
            2 => {
                format!("POST /{n} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\n")
            }
            // An empty line between them is forgiven.
            _ => format!("\r\nGET http://a/{n} HTTP/1.1\r\nHost: a\r\n\r\n"),
        });
    }
    connection.send(all.as_bytes());
    for n in 0..20 {
        let told = connection.response().expect(200).text();
        let expected = if matches!(n % 4, 1 | 2) {
            format!("POST /{n} 5")
        } else {
            format!("GET /{n} 0")
        };
        assert_eq!(told, expected);
    }
    assert_eq!(open.recorder.requests().len(), 20);
}

#[test]
fn a_bad_request_behind_good_ones_ends_the_connection() {
    let open = Open::start();
    let mut connection = open.gateway.connect();
    connection.send(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(connection.response().expect(200).text(), "GET /1 0");
    connection.response().expect_problem(400, "request-invalid");
    assert!(connection.response_or_close("GET").is_none());
    assert_eq!(open.recorder.requests().len(), 1);
}

#[test]
fn a_header_that_breaks_off_leaves_its_record() {
    let open = Open::start();
    for (begun, status) in [
        ("GET /x HTTP/1.1\r\nHost: a\r\n", 400),
        ("POST /x HTTP/1.1\r\nHos", 400),
    ] {
        let mut connection = open.gateway.connect();
        connection.send(begun.as_bytes());
        connection.finish_sending();
        assert_eq!(connection.response().status, status);
    }
    let records = open.gateway.records(2);
    assert!(records.iter().all(|record| record["status"] == 400), "{records:?}");
}

const ENDS: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
  shaky: { endpoints: [$busy, $upstream], retry: { attempts: 1, after: [503], budget: 100% } }
routes:
  plain: { match: { path: /plain }, auth: none, upstream: origin }
  changed:
    match: { path: /changed }
    auth: none
    upstream: origin
    request: { body: { set: { b: 2 } } }
  again: { match: { path: /again }, auth: none, upstream: shaky }
";

/// Whatever a body ends with, nothing of it is left on the upstream's connection, where the next caller would get its answer.
#[test]
fn a_body_ends_once_for_the_upstream() {
    let (recorder, busy) = (Recorder::start(), Upstream::http1(|_| Reply::status(503)));
    let yaml = fill(ENDS, &[("upstream", &recorder.address()), ("busy", &busy.address())]);
    let gateway = Gateway::start(&yaml);
    let data = |flags, piece: &[u8]| frame(DATA, flags, 1, piece);
    let trailers = || frame(HEADERS, END_HEADERS | END_STREAM, 1, &fields(&[("x", "y")]));
    let endings: [(&str, Vec<Vec<u8>>); 7] = [
        ("an empty piece alone", vec![data(END_STREAM, b"")]),
        ("a last piece", vec![data(END_STREAM, br#"{"a":1}"#)]),
        (
            "an empty last piece",
            vec![data(0, br#"{"a":1}"#), data(END_STREAM, b"")],
        ),
        (
            "empty pieces in between",
            vec![
                data(0, b""),
                data(0, br#"{"a":"#),
                data(0, b""),
                data(0, b"1}"),
                data(0, b""),
                data(END_STREAM, b""),
            ],
        ),
        ("trailers", vec![data(0, br#"{"a":1}"#), trailers()]),
        (
            "an empty piece and trailers",
            vec![data(0, br#"{"a":1}"#), data(0, b""), trailers()],
        ),
        ("trailers alone", vec![trailers()]),
    ];
    for (what, pieces) in endings {
        for path in ["/plain", "/changed", "/again"] {
            // At once, and piece by piece.
            for is_slow in [false, true] {
                let mut client = Http2::plain(gateway.address());
                let mut named = request("PUT", path);
                named.push(("content-type", "application/json"));
                client.open(1, &named);
                for piece in &pieces {
                    if is_slow {
                        gateway.get("/plain").send().expect(200);
                    }
                    client.send(piece);
                }
                let told = client.answer(1);
                assert_eq!(told.status, 200, "{what} to {path}: {told:?}");
                let length = match what.contains("alone") {
                    true => 0,
                    false if path == "/changed" => r#"{"a":1,"b":2}"#.len(),
                    false => r#"{"a":1}"#.len(),
                };
                assert_eq!(told.body, format!("PUT {path} {length}").as_bytes(), "{what}");
                let next = client.exchange(3, &request("GET", "/plain"));
                assert_eq!(next.body, b"GET /plain 0", "after {what} to {path}");
            }
        }
    }
    // The same in HTTP/1.1.
    for path in ["/plain", "/changed", "/again"] {
        let mut connection = gateway.connect();
        let head = format!(
            "PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        for pieces in [&["7\r\n{\"a\":1}\r\n", "0\r\n\r\n"][..], &["0\r\n", "\r\n"]] {
            connection.send(head.as_bytes());
            for piece in pieces {
                gateway.get("/plain").send().expect(200);
                connection.send(piece.as_bytes());
            }
            connection.response().expect(200);
            connection.send(b"GET /plain HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(
                connection.response().expect(200).text(),
                "GET /plain 0",
                "{path} {pieces:?}"
            );
        }
    }
    // Whatever the strict reader of the recorder does not take for requests, it does not forgive.
    assert!(recorder.requests().len() > 100);
    assert!(busy.count() > 0);
}

//! Raw requests with what becomes of each, by the section of the RFC that says so. What is let through reaches the upstream
//! as exactly one well-formed request; of what is not, the upstream gets no byte.

use super::Open;

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    /// Sent on with this method and target.
    To(&'static str),
    /// Refused with this status, and the connection closed.
    No(u16),
}

use Verdict::{No, To};

/// One request on a connection of its own.
struct Row {
    section: &'static str,
    verdict: Verdict,
    bytes: Vec<u8>,
}

fn row(section: &'static str, verdict: Verdict, bytes: impl Into<Vec<u8>>) -> Row {
    Row {
        section,
        verdict,
        bytes: bytes.into(),
    }
}

/// A request that ends with its header, by its request line.
fn line(line: &str) -> Vec<u8> {
    format!("{line}\r\nHost: a\r\n\r\n").into_bytes()
}

/// A request by one more header line.
fn with(header: impl AsRef<[u8]>) -> Vec<u8> {
    [b"GET /x HTTP/1.1\r\nHost: a\r\n", header.as_ref(), b"\r\n\r\n"].concat()
}

/// A request by its `Host` lines.
fn host(lines: &str) -> Vec<u8> {
    format!("GET /x HTTP/1.1\r\n{lines}\r\n").into_bytes()
}

/// A request that posts, by its framing and its body.
fn post(framing: &str, body: &str) -> Vec<u8> {
    format!("POST /x HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}").into_bytes()
}

fn chunked(body: &str) -> Vec<u8> {
    post("Transfer-Encoding: chunked", body)
}

#[test]
fn reads_each_request_one_way_or_not_at_all() {
    let rows = rows();
    assert!(rows.len() >= 200, "{} rows", rows.len());
    let open = Open::start();
    let mut wrong = Vec::new();
    let all = rows.len();
    for Row {
        section,
        verdict,
        bytes,
    } in rows
    {
        let mut connection = open.gateway.connect();
        connection.send(&bytes);
        let method = if bytes.starts_with(b"HEAD ") { "HEAD" } else { "GET" };
        let status = connection
            .response_or_close(method)
            .map_or(0, |response| response.status);
        let came: Vec<String> = open.recorder.requests().iter().map(|request| request.line()).collect();
        let is_right = match verdict {
            To(line) => status == 200 && came == [line],
            No(expected) => {
                // After a refusal nothing on the connection is read any more.
                status == expected && came.is_empty() && connection.response_or_close("GET").is_none()
            }
        };
        if !is_right {
            let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
            wrong.push(format!("§{section} {shown:?}: {verdict:?}, but {status} and {came:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}\n{} wrong", wrong.join("\n"), wrong.len());
    // Each leaves its record, and is counted.
    let records = open.gateway.records(all);
    assert_eq!(records.len(), all);
    let of = |status: u16| records.iter().filter(|record| record["status"] == status).count();
    assert!(
        of(400) > 150 && of(505) >= 5 && of(501) >= 3,
        "{} {} {}",
        of(400),
        of(505),
        of(501)
    );
    let counted = open
        .gateway
        .metrics()
        .value("gwanmun_requests_total", &[("route", ""), ("class", "4xx")]);
    assert_eq!(counted, Some((of(400) + of(405) + of(414) + of(431)) as f64));
}

fn rows() -> Vec<Row> {
    let mut rows = request_lines();
    rows.extend(targets());
    rows.extend(hosts());
    rows.extend(fields());
    rows.extend(framings());
    rows.extend(chunks());
    rows
}

fn request_lines() -> Vec<Row> {
    let mut rows = vec![
        row("9112 §3", To("GET /x"), line("GET /x HTTP/1.1")),
        row("9112 §3", To("HEAD /x"), line("HEAD /x HTTP/1.1")),
        row("9110 §9.1", To("PURGE /x"), line("PURGE /x HTTP/1.1")),
        row("9110 §9.1", To("get /x"), line("get /x HTTP/1.1")),
        row(
            "9110 §5.6.2",
            To("!#$%&'*+-.^_`|~ /x"),
            line("!#$%&'*+-.^_`|~ /x HTTP/1.1"),
        ),
        row(
            "9112 §2.2",
            To("GET /x"),
            [b"\r\n", &line("GET /x HTTP/1.1")[..]].concat(),
        ),
        row(
            "9112 §2.2",
            No(400),
            [b"\r\n\r\n", &line("GET /x HTTP/1.1")[..]].concat(),
        ),
        row("9112 §2.2", No(400), [b"\n", &line("GET /x HTTP/1.1")[..]].concat()),
        row("9112 §2.2", No(400), "GET /x HTTP/1.1\nHost: a\n\n"),
        row("9112 §2.2", No(400), "GET /x HTTP/1.1\nHost: a\r\n\r\n"),
        row("9112 §2.2", No(400), "GET /x HTTP/1.1\rHost: a\r\n\r\n"),
        row("9112 §2.2", No(400), "GET /x HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        row("9112 §2.2", No(400), "GET /x HTTP/1.1\r\nHost: a\r\n\n"),
        row("9112 §2.2", No(400), "GET /x HTTP/1.1\r\n Host: a\r\n\r\n"),
        row("9112 §2.2", No(400), "GET /x HTTP/1.1\r\n\tX: y\r\nHost: a\r\n\r\n"),
        row("9112 §3", No(400), line("GET  /x HTTP/1.1")),
        row("9112 §3", No(400), line("GET /x  HTTP/1.1")),
        row("9112 §3", No(400), line("GET\t/x HTTP/1.1")),
        row("9112 §3", No(400), line("GET /x\tHTTP/1.1")),
        row("9112 §3", No(400), line("GET /x HTTP/1.1 ")),
        row("9112 §3", No(400), line(" GET /x HTTP/1.1")),
        row("9112 §3", No(400), line("GET /x y HTTP/1.1")),
        row("9112 §3", No(400), line("GET /x")),
        row("9112 §3", No(400), line("GET")),
        row("9112 §3", No(400), line("/x HTTP/1.1")),
        row("9112 §3", No(400), "GET /x\r\n"),
        row("9110 §9.1", No(400), line("G@T /x HTTP/1.1")),
        row("9110 §9.1", No(400), line("GE(T /x HTTP/1.1")),
        row("9110 §9.1", No(400), line("\"GET\" /x HTTP/1.1")),
        row("9110 §9.1", No(400), b"G\x00T /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        row("9110 §9.1", No(400), b"G\xc3\x89T /x HTTP/1.1\r\nHost: a\r\n\r\n"),
        row("9112 §3", No(501), line(&format!("{} /x HTTP/1.1", "A".repeat(40)))),
        row("9110 §9.3.6", No(405), line("CONNECT a:443 HTTP/1.1")),
        row("9110 §9.3.6", No(405), line("CONNECT /x HTTP/1.1")),
        row("9112 §2.3", To("GET /x"), line("GET /x HTTP/1.0")),
        row("9112 §2.3", No(505), line("GET /x HTTP/1.2")),
        row("9112 §2.3", No(505), line("GET /x HTTP/1.9")),
        row("9112 §2.3", No(505), line("GET /x HTTP/2.0")),
        row("9112 §2.3", No(505), line("GET /x HTTP/3.0")),
        row("9112 §2.3", No(505), line("GET /x HTTP/0.9")),
        row("9112 §2.3", No(400), line("GET /x HTTP/1")),
        row("9112 §2.3", No(400), line("GET /x HTTP/1.")),
        row("9112 §2.3", No(400), line("GET /x HTTP/11")),
        row("9112 §2.3", No(400), line("GET /x HTTP/1.1.1")),
        row("9112 §2.3", No(400), line("GET /x HTTP/01.1")),
        row("9112 §2.3", No(400), line("GET /x HTTP/1.10")),
        row("9112 §2.3", No(400), line("GET /x http/1.1")),
        row("9112 §2.3", No(400), line("GET /x HTTP 1.1")),
        row("9112 §2.3", No(400), line("GET /x HTTPS/1.1")),
        row("9112 §2.3", No(400), line("GET /x FTP/1.1")),
        row("9112 §2.3", No(400), line("GET /x HTTP/1.1x")),
        row("9112 §2.3", No(400), line("GET /x HTTP/-1.1")),
        row(
            "9112 §3",
            No(400),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        ),
        row("9112 §3", No(400), b"\x00\x00\x00\x00\r\n\r\n"),
        row("9112 §3", No(400), line("SSH-2.0-OpenSSH_9.9")),
        row("9112 §3", No(400), line("PROXY TCP4 10.0.0.1 10.0.0.2 1 2")),
        row("9110 §5.4", No(431), with(format!("X: {}", "y".repeat(70_000)))),
        row("9110 §5.4", No(431), with(["X: y"; 200].join("\r\n"))),
    ];
    for byte in [1, 8, 11, 12, 27, 31, 127] {
        let bytes = [b"GE", &[byte][..], b"T /x HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        rows.push(row("9110 §9.1", No(400), bytes));
    }
    rows
}

fn targets() -> Vec<Row> {
    let get = |target: &str| line(&format!("GET {target} HTTP/1.1"));
    let mut rows = vec![
        row("9112 §3.2.1", To("GET /"), get("/")),
        row("9112 §3.2.1", To("GET /x?"), get("/x?")),
        row(
            "9112 §3.2.1",
            To("GET /x?a=/../b&c=%2e%2e?"),
            get("/x?a=/../b&c=%2e%2e?"),
        ),
        row("3986 §6.2.2", To("GET /~x/A-"), get("/%7ex/%41%2D")),
        row("3986 §6.2.2", To("GET /%ED%95%9C"), get("/%ed%95%9c")),
        row("3986 §6.2.2", To("GET /a/b"), get("//a///b")),
        row("9112 §3.2.2", To("GET /x"), get("http://a/x")),
        row("9112 §3.2.2", To("GET /x"), get("HTTP://A/x")),
        row("9112 §3.2.2", To("GET /x?y"), get("https://a/x?y")),
        row("9112 §3.2.2", To("GET /"), get("http://a")),
        row("9112 §3.2.2", To("GET /?y"), get("http://a?y")),
        row(
            "9112 §3.2.2",
            To("GET /x"),
            "GET http://a:8080/x HTTP/1.1\r\nHost: A.:8080\r\n\r\n",
        ),
        row("9112 §3.2.2", To("GET /x"), "GET http://a/x HTTP/1.0\r\n\r\n"),
        row("9112 §3.2.2", No(400), "GET http://a/x HTTP/1.1\r\n\r\n"),
        row("9112 §3.2.2", No(400), get("http://b/x")),
        row("9112 §3.2.2", No(400), get("http://a:81/x")),
        row("9112 §3.2.2", No(400), "GET http://a/x HTTP/1.1\r\nHost: a:81\r\n\r\n"),
        row("9110 §4.2.4", No(400), get("http://user@a/x")),
        row("9110 §4.2.4", No(400), get("http://user:pass@a/x")),
        row("9110 §4.2.1", No(400), get("http:///x")),
        row("9110 §4.2.1", No(400), get("http://")),
        row("9112 §3.2.2", No(400), get("http:/x")),
        row("9112 §3.2.2", No(400), get("http:x")),
        row("9112 §3.2.2", No(400), get("ftp://a/x")),
        row("9112 §3.2.2", No(400), get("file:///etc/passwd")),
        row("9112 §3.2.2", No(400), get("javascript:alert(1)")),
        row("9112 §3.2.2", No(400), get("http://a\\@b/x")),
        row("9112 §3.2.2", No(400), get("http://a/../x")),
        row("9112 §3.2.3", No(400), get("a:80")),
        row("9112 §3.2.3", No(400), line("POST a:80 HTTP/1.1")),
        row("9112 §3.2.4", No(400), get("*")),
        row("9112 §3.2.4", No(400), line("OPTIONS ** HTTP/1.1")),
        row("9112 §3.2.4", No(400), get("*/x")),
        row("9112 §3.2", No(400), get("x")),
        row("9112 §3.2", No(400), get("?x")),
        row("9112 §3.2", No(400), get("./x")),
        row("9112 §3.2", No(400), get("../x")),
        row("9110 §7.1", No(400), get("/x#y")),
        row("9110 §7.1", No(400), get("/x?y#z")),
        row("9110 §7.1", No(400), get("/#")),
        row("3986 §2.1", No(400), get("/x%")),
        row("3986 §2.1", No(400), get("/x%2")),
        row("3986 §2.1", No(400), get("/x%zz")),
        row("3986 §2.1", No(400), get("/%u0041")),
        row("3986 §3.3", No(400), get("/x\\y")),
        row("3986 §3.4", No(400), get("/x?y\\z")),
        row("3986 §3.3", No(400), get("/x%5cy")),
        row("3986 §3.3", No(400), get("/x%2fy")),
        row("3986 §3.3", No(400), get("/x%00")),
        row("3986 §3.3", No(400), get("/x%0d%0aSet-Cookie:a=b")),
        row("3986 §5.2.4", No(400), get("/x/../y")),
        row("3986 §5.2.4", No(400), get("/x/..")),
        row("3986 §5.2.4", No(400), get("/./x")),
        row("3986 §5.2.4", No(400), get("/x/%2e%2E/y")),
        row("3986 §5.2.4", No(400), get("/x/.%2e/y")),
        row("3986 §5.2.4", No(400), get("/x/..;a=b/y")),
        row("3986 §5.2.4", No(400), get("/x/%252e%252e/y")),
        row("3986 §2", No(400), get("/x\"y")),
        row("3986 §2", No(400), get("/x<y>")),
        row("3986 §2", No(400), get("/x?<script>")),
        row("9112 §3", No(414), get(&format!("/{}", "x".repeat(9000)))),
        row("9112 §3", No(414), get(&format!("/?{}", "x".repeat(9000)))),
        row("9112 §3", No(414), format!("GET /{}", "x".repeat(9000))),
    ];
    for byte in [0, 1, 7, 8, 9, 11, 12, 27, 31, 127, 128, 0xa0, 0xc3, 0xff] {
        for place in ["/x", "/x?y="] {
            let bytes = [b"GET ", place.as_bytes(), &[byte], b" HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
            rows.push(row("3986 §2", No(400), bytes));
        }
    }
    rows
}

fn hosts() -> Vec<Row> {
    let mut rows = vec![
        row("9112 §3.2", To("GET /x"), host("Host: a\r\n")),
        row("9112 §3.2", To("GET /x"), host("HOST:a\r\n")),
        row("9112 §3.2", To("GET /x"), host("host: \t a.example:8080 \t\r\n")),
        row("9112 §3.2", To("GET /x"), host("Host: a.\r\n")),
        row("3986 §3.2.2", To("GET /x"), host("Host: 127.0.0.1:80\r\n")),
        row("3986 §3.2.2", To("GET /x"), host("Host: [2001:db8::1]:80\r\n")),
        row("9112 §3.2", No(400), host("")),
        row("9112 §3.2", No(400), "GET /x HTTP/1.0\r\n\r\n"),
        row("9112 §3.2", No(400), host("Host: a\r\nHost: a\r\n")),
        row("9112 §3.2", No(400), host("Host: a\r\nhost: b\r\n")),
        row("9112 §3.2", No(400), host("Host: a\r\nX: y\r\nHost: a\r\n")),
        row("9112 §3.2", No(400), "GET /x HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n"),
    ];
    for bad in [
        "",
        " ",
        ".",
        "..",
        "a..b",
        ":80",
        "a:b",
        "a:80:80",
        "a:99999",
        "a:-1",
        "a:+80",
        "a:80a",
        "u@a",
        "u:p@a",
        "a/b",
        "/a",
        "a?b",
        "a#b",
        "a\\b",
        "a b",
        "a,b",
        "a, a",
        "a;b",
        "a%41",
        "a%00",
        "[::1",
        "::1",
        "[::1]x",
        "[::1]:x",
        "[::g]",
        "[fe80::1%25eth0]",
        "<a>",
        "\"a\"",
        "a\u{e9}",
        "http://a",
        "a\tb",
        "*",
    ] {
        rows.push(row("3986 §3.2.2", No(400), host(&format!("Host: {bad}\r\n"))));
    }
    let label = "a".repeat(64);
    rows.push(row("1035 §2.3.4", No(400), host(&format!("Host: {label}\r\n"))));
    rows.push(row(
        "1035 §2.3.4",
        No(400),
        host(&format!("Host: {}\r\n", ["abcdef"; 40].join("."))),
    ));
    rows
}

fn fields() -> Vec<Row> {
    let mut rows = vec![
        row("9112 §5", To("GET /x"), with("X:")),
        row("9112 §5", To("GET /x"), with("X:\t y\tz \t")),
        row("9110 §5.5", To("GET /x"), with(b"X: \x80\xff")),
        row("9112 §5.1", No(400), with("X : y")),
        row("9112 §5.1", No(400), with("X\t: y")),
        row("9112 §5.1", No(400), with("Content-Length : 5")),
        row("9112 §5", No(400), with(": y")),
        row("9112 §5", No(400), with(" : y")),
        row("9112 §5", No(400), with("X")),
        row("9112 §5", No(400), with("X y: z")),
        row("9112 §5.2", No(400), with("X: y\r\n z")),
        row("9112 §5.2", No(400), with("X: y\r\n\tz")),
        row("9112 §5.2", No(400), with("X: y\r\n \r\n z")),
        row("9112 §5.2", No(400), with("Transfer-Encoding:\r\n chunked")),
        row("9112 §2.2", No(400), with("X: y\nZ: z")),
        row("9112 §2.2", No(400), with("X: y\rZ: z")),
        row("9112 §2.2", No(400), with("X: y\r")),
        row("9110 §7.6.1", To("GET /x"), with("Connection: keep-alive")),
        row("9110 §7.6.1", To("GET /x"), with("Connection: close")),
        row(
            "9110 §7.6.1",
            To("GET /x"),
            with("Connection: x-mine, ,close\r\nX-Mine: 1"),
        ),
        row("9110 §7.6.1", To("GET /x"), with("TE: trailers\r\nConnection: TE")),
        row("9110 §7.6.1", No(400), with("Connection: Host")),
        row("9110 §7.6.1", No(400), with("Connection: close, authorization")),
        row("9110 §7.6.1", No(400), with("Connection: X-Forwarded-For")),
        row("9110 §7.6.1", No(400), with("Connection: cookie")),
        row("9110 §7.6.1", No(400), with("Connection: content-length")),
        row("9110 §7.6.1", No(400), with("Connection: cache-control")),
        row("9110 §7.6.1", No(400), with("Connection: \"x\"")),
        row("9110 §7.6.1", No(400), with("Connection: a b")),
        row(
            "9110 §7.8",
            To("GET /x"),
            with("Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: x"),
        ),
    ];
    for byte in [0, 1, 8, 11, 12, 14, 27, 31, 127] {
        rows.push(row("9110 §5.5", No(400), with([b"X: y", &[byte][..], b"z"].concat())));
    }
    for byte in *b"\0\x01\x08\t\x7f \"(),/;<=>?@[\\]{}\x80\xff" {
        rows.push(row("9110 §5.1", No(400), with([b"X", &[byte][..], b"y: z"].concat())));
    }
    rows
}

fn framings() -> Vec<Row> {
    let mut rows = vec![
        row("9112 §6.2", To("POST /x"), post("Content-Length: 5", "hello")),
        row("9112 §6.2", To("POST /x"), post("Content-Length: 0", "")),
        row("9112 §6.2", To("POST /x"), post("Content-Length:005", "hello")),
        row("9112 §6.3", To("POST /x"), post("X: y", "")),
        row(
            "9110 §9.3.1",
            To("GET /x"),
            "GET /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        ),
        row(
            "9110 §9.3.5",
            To("DELETE /x"),
            "DELETE /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi",
        ),
        row(
            "9112 §6.1",
            To("POST /x"),
            post("Transfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        row(
            "9112 §6.1",
            To("POST /x"),
            post("TRANSFER-ENCODING:\tChunked", "5\r\nhello\r\n0\r\n\r\n"),
        ),
        row(
            "9112 §6.1",
            No(400),
            post("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        row(
            "9112 §6.1",
            No(400),
            post("Transfer-Encoding: chunked\r\nContent-Length: 5", "0\r\n\r\n"),
        ),
        row(
            "9112 §6.1",
            No(400),
            post("Transfer-Encoding: chunked\r\nContent-Length: 0", "0\r\n\r\n"),
        ),
        row(
            "9112 §6.1",
            No(400),
            post("Transfer-Encoding: x\r\nContent-Length: 0", ""),
        ),
        row(
            "9112 §6.1",
            No(400),
            "POST /x HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        row(
            "9112 §6.3",
            No(400),
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        row(
            "9112 §6.3",
            No(400),
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "0\r\n\r\n"),
        ),
        row(
            "9112 §6.3",
            No(400),
            post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", "0\r\n\r\n"),
        ),
        row(
            "9112 §6.3",
            No(400),
            post("Content-Length: 5\r\nContent-Length: 5", "hello"),
        ),
        row(
            "9112 §6.3",
            No(400),
            post("Content-Length: 5\r\nContent-Length: 6", "hello"),
        ),
        row(
            "9112 §6.1",
            No(501),
            post("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"),
        ),
        row(
            "9112 §6.1",
            No(501),
            post("Transfer-Encoding: deflate , chunked", "0\r\n\r\n"),
        ),
    ];
    for coding in [
        "",
        "identity",
        "xchunked",
        "chunkedx",
        "chunked,",
        ",chunked",
        "chunked, chunked",
        "chunked, gzip",
        "gzip",
        "chunk",
        "chunked;q=1",
        "\"chunked\"",
        "chunked identity",
        "cow",
        "cow, chunked",
        "chunked, identity",
        "c hunked",
        "identity, chunked",
    ] {
        rows.push(row(
            "9112 §6.3",
            No(400),
            post(&format!("Transfer-Encoding: {coding}"), "0\r\n\r\n"),
        ));
    }
    for byte in [0x0b, 0x0c, 0, 0xa0, 0x85] {
        let head = b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:";
        rows.push(row(
            "9112 §6.3",
            No(400),
            [head, &[byte][..], b"chunked\r\n\r\n0\r\n\r\n"].concat(),
        ));
    }
    for length in [
        "",
        "+5",
        "-5",
        "0x5",
        "5a",
        "5.0",
        "5e0",
        "5,5",
        "5, 6",
        "5 5",
        "five",
        "\u{665}",
        "99999999999999999999",
        "18446744073709551616",
        "9223372036854775808",
        "5;",
        "\"5\"",
        "_5",
        "5_0",
    ] {
        rows.push(row(
            "9112 §6.2",
            No(400),
            post(&format!("Content-Length: {length}"), "hello"),
        ));
    }
    rows
}

fn chunks() -> Vec<Row> {
    let mut rows = vec![
        row("9112 §7.1", To("POST /x"), chunked("005\r\nhello\r\n00\r\n\r\n")),
        row(
            "9112 §7.1",
            To("POST /x"),
            chunked("A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n"),
        ),
        row(
            "9112 §7.1.1",
            To("POST /x"),
            chunked("5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n"),
        ),
        row("9112 §7.1.1", To("POST /x"), chunked("5 ; a\r\nhello\r\n0\r\n\r\n")),
        row(
            "9112 §7.1.2",
            To("POST /x"),
            chunked("5\r\nhello\r\n0\r\nX-Sum: 1\r\nY:\r\n\r\n"),
        ),
    ];
    for bad in [
        "\r\n\r\n",
        "g\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000000\r\n",
        "7fffffffffffffffff\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "5_0\r\n",
        "5,5\r\n",
        "\u{665}\r\n",
    ] {
        rows.push(row("9112 §7.1", No(400), chunked(bad)));
    }
    for bad in [
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
    ] {
        rows.push(row("9112 §7.1.1", No(400), chunked(bad)));
    }
    for name in [
        "Content-Length",
        "Transfer-Encoding",
        "Host",
        "Authorization",
        "Cookie",
        "Connection",
        "Trailer",
        "Content-Type",
        "X-Forwarded-For",
        "Cache-Control",
    ] {
        rows.push(row("9110 §6.5.1", No(400), chunked(&format!("0\r\n{name}: 1\r\n\r\n"))));
    }
    for bad in [
        "0\r\nx : 1\r\n\r\n",
        "0\r\nx\r\n\r\n",
        "0\r\n: 1\r\n\r\n",
        "0\r\nx: 1\n\r\n",
        "0\r\nx: 1\r\n y\r\n\r\n",
        "0\r\n\n",
        "0\r\nx: \0\r\n\r\n",
    ] {
        rows.push(row("9112 §7.1.2", No(400), chunked(bad)));
    }
    rows
}

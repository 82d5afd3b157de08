//! Requests that lead nowhere, or that two readers would read in two ways.

use super::{Row, raw, row};
use crate::support::Gateway;

pub fn rows(gateway: &Gateway) -> Vec<Row> {
    let mut rows = paths(gateway);
    rows.extend(heads());
    rows.extend(framings());
    rows
}

fn paths(gateway: &Gateway) -> Vec<Row> {
    let nowhere = |what, target| row(what, gateway.get(target), "404", "route-not-found");
    let invalid = |what, target| row(what, gateway.get(target), "400", "path-invalid");
    let method = |what, method, target, allow| {
        row(what, gateway.request(method, target), "405", "method-not-allowed").header("allow", allow)
    };
    vec![
        nowhere("no route", "/nowhere"),
        nowhere("the root", "/"),
        nowhere("a trailing slash", "/news/"),
        nowhere("another case", "/News"),
        nowhere("a parameter left empty", "/support/tickets/"),
        method("another method", "DELETE", "/transfers", "POST"),
        method("a method nobody knows", "BREW", "/news", "GET"),
        method("OPTIONS that is no preflight", "OPTIONS", "/news", "GET"),
        invalid("a dot segment", "/a/../news"),
        invalid("a single dot", "/./news"),
        invalid("a dot segment at the end", "/news/.."),
        invalid("an encoded dot segment", "/a/%2e%2E/news"),
        invalid("a half encoded dot segment", "/a/.%2e/news"),
        invalid("a dot segment with parameters", "/a/..;x=1/news"),
        invalid("an encoded slash", "/support%2ftickets/7"),
        invalid("an encoded backslash", "/support%5Ctickets/7"),
        invalid("an encoded NUL", "/news%00"),
        invalid("half an escape", "/news%2"),
        invalid("an escape that is none", "/news%zz"),
    ]
}

fn heads() -> Vec<Row> {
    let bad = |what, head: &str| raw(what, format!("{head}\r\n\r\n"), "400", "request-invalid|path-invalid");
    vec![
        raw(
            "a byte beyond ASCII",
            b"GET /news\xff HTTP/1.1\r\nhost: a\r\n\r\n",
            "400",
            "request-invalid|path-invalid",
        ),
        raw(
            "a backslash",
            "GET /support\\tickets/7 HTTP/1.1\r\nhost: a\r\n\r\n",
            "400",
            "request-invalid",
        ),
        raw(
            "another version",
            "GET /news HTTP/3.7\r\nhost: a\r\n\r\n",
            "505",
            "version-not-supported",
        ),
        raw(
            "CONNECT",
            "CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n",
            "400|405",
            "connect-not-allowed|request-invalid",
        ),
        bad("a NUL in the target", "GET /news\0 HTTP/1.1\r\nhost: a"),
        bad("a space in the target", "GET /news x HTTP/1.1\r\nhost: a"),
        bad("a target naming another host", "GET http://b/news HTTP/1.1\r\nhost: a"),
        bad("no host", "GET /news HTTP/1.1"),
        bad("an empty host", "GET /news HTTP/1.1\r\nhost:"),
        bad("two hosts", "GET /news HTTP/1.1\r\nhost: a\r\nhost: b"),
        bad("a host that is a path", "GET /news HTTP/1.1\r\nhost: a/b"),
        bad("a host with a user", "GET /news HTTP/1.1\r\nhost: u@a"),
        bad("a folded header", "GET /news HTTP/1.1\r\nhost: a\r\nx-a: 1\r\n 2"),
        bad("a space before the colon", "GET /news HTTP/1.1\r\nhost: a\r\nx-a : 1"),
        bad("a header without a colon", "GET /news HTTP/1.1\r\nhost: a\r\nx-a"),
        bad("a NUL in a header", "GET /news HTTP/1.1\r\nhost: a\r\nx-a: 1\0"),
        bad(
            "a lone carriage return in a header",
            "GET /news HTTP/1.1\r\nhost: a\r\nx-a: 1\rx-b: 2",
        ),
    ]
}

fn framings() -> Vec<Row> {
    let bad = |what, framing: &str| {
        let request = format!("POST /transfers HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n0\r\n\r\n");
        raw(what, request, "400|501", "request-invalid")
    };
    vec![
        bad(
            "a length and a transfer coding",
            "content-length: 5\r\ntransfer-encoding: chunked",
        ),
        bad("two lengths", "content-length: 5\r\ncontent-length: 6"),
        bad("a list of lengths", "content-length: 5, 6"),
        bad("a signed length", "content-length: +5"),
        bad("a length beyond counting", "content-length: 99999999999999999999999"),
        bad("a transfer coding nobody knows", "transfer-encoding: cow"),
        bad("chunked not last", "transfer-encoding: chunked, identity"),
        bad("chunked twice", "transfer-encoding: chunked, chunked"),
    ]
}

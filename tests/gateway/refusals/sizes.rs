//! Too much of anything.

use serde_json::json;

use super::{Row, raw, row};
use crate::support::{Gateway, Issuer};

pub fn rows(gateway: &Gateway, issuer: &Issuer) -> Vec<Row> {
    let writer = issuer.token(&json!({"scope": "transfer:write"}));
    let body = |what, length| {
        let request = gateway.post("/transfers").bearer(&writer).body("a".repeat(length));
        (what, request)
    };
    let too_large = |(what, request)| row(what, request, "413", "body-too-large");
    let (chunked, request) = body("a body too large without its length", 100_000);
    let announced = format!(
        "POST /transfers HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {writer}\r\ncontent-length: 99999999\r\n\r\n"
    );
    let long = gateway.get(&format!("/news?{}", "a".repeat(200_000)));
    let large = gateway.get("/news").header("x-a", &"a".repeat(200_000));
    let many = (0..2000).fold(gateway.get("/news"), |request, n| {
        request.header(&format!("x-{n}"), "1")
    });
    vec![
        row("a target too long", long, "414", "uri-too-long"),
        row("a header too large", large, "431", "header-too-large"),
        row("too many headers", many, "431", "header-too-large"),
        too_large(body("a body too large", 2000)),
        too_large(body("a body one byte too large", 1025)),
        too_large((chunked, request.chunked())),
        raw("a body announced too large", announced, "413", "body-too-large"),
    ]
}

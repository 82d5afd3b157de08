//! Which answers are compressed, for whom, and how the answer says so.

use crate::support::{Gateway, Reply, Response, Upstream, decoded, fill};

const YAML: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
defaults:
  compress: { min_size: 1KiB }
routes:
  text:  { match: 'GET /{any...}', auth: none, upstream: origin }
";

fn long_text() -> String {
    "All work and no play makes a gate a dull gate.\n".repeat(200)
}

fn gateway(reply: Reply) -> (Gateway, Upstream) {
    let upstream = Upstream::http1(move |_| reply.clone());
    (
        Gateway::start(&fill(YAML, &[("upstream", &upstream.address())])),
        upstream,
    )
}

fn accepting(gateway: &Gateway, codings: &str) -> Response {
    gateway.get("/text").header("accept-encoding", codings).send()
}

#[test]
fn speaks_the_coding_the_caller_wants_most() {
    let (gateway, _upstream) = gateway(Reply::text(long_text()));
    for (accepted, coding) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("zstd", Some("zstd")),
        ("GZIP", Some("gzip")),
        ("gzip;q=0.5, br;q=0.9", Some("br")),
        ("br;q=0.1, zstd;q=0.2, gzip;q=0.3", Some("gzip")),
        ("gzip;q=0", None),
        ("gzip;q=0.000, br;q=0", None),
        ("identity, gzip;q=0.1", None),
        ("identity;q=0.9, gzip;q=0.8", None),
        ("identity;q=0.1, gzip;q=0.8", Some("gzip")),
        ("identity", None),
        ("", None),
        ("deflate, compress", None),
        ("dcb, gzip", Some("gzip")),
        ("*;q=0, gzip", Some("gzip")),
        ("gzip;q=0, *", Some("not gzip")),
    ] {
        let response = accepting(&gateway, accepted);
        let found = response.expect(200).header("content-encoding");
        match coding {
            Some("not gzip") => assert!(!matches!(found, Some("gzip")), "{accepted}: {found:?}"),
            coding => assert_eq!(found, coding, "{accepted}"),
        }
        assert_eq!(decoded(&response), long_text().as_bytes(), "{accepted}");
    }
}

#[test]
fn leaves_the_answer_alone_for_those_who_ask_for_nothing() {
    let (gateway, _upstream) = gateway(Reply::text(long_text()));
    let response = gateway.get("/text").send();
    assert_eq!(response.expect(200).header("content-encoding"), None);
    assert_eq!(response.text(), long_text());
}

#[test]
fn says_that_answers_differ() {
    let (gateway, _upstream) = gateway(
        Reply::text(long_text())
            .header("vary", "x-shade")
            .header("etag", "\"v1\""),
    );
    let packed = accepting(&gateway, "gzip");
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    for member in ["accept-encoding", "x-shade"] {
        assert!(packed.list("vary").contains(&member.to_owned()), "{}", packed.summary());
    }
    assert_eq!(packed.header("etag"), Some("W/\"v1\""));
    let plain = accepting(&gateway, "identity");
    assert!(
        plain.list("vary").contains(&"accept-encoding".to_owned()),
        "{}",
        plain.summary()
    );
    assert_eq!(plain.header("etag"), Some("\"v1\""));
}

#[test]
fn lets_a_caller_come_back_with_the_etag_it_was_given() {
    let upstream = Upstream::http1(|seen| match seen.header("if-none-match") {
        Some(tag) if tag.contains("\"v1\"") => Reply::status(304).header("etag", "\"v1\""),
        _ => Reply::text(long_text()).header("etag", "\"v1\""),
    });
    let gateway = Gateway::start(&fill(YAML, &[("upstream", &upstream.address())]));
    let tag = accepting(&gateway, "gzip").header("etag").expect("an etag").to_owned();
    let again = gateway
        .get("/text")
        .header("accept-encoding", "gzip")
        .header("if-none-match", &tag)
        .send();
    assert_eq!(again.status, 304, "{}", again.summary());
}

#[test]
fn leaves_alone_what_compression_would_not_help_or_would_break() {
    let long = long_text();
    for (what, reply) in [
        ("a short body", Reply::text("short")),
        ("one byte below the size", Reply::text("x".repeat(1023))),
        ("a picture", Reply::typed("image/png", long.clone())),
        (
            "a part",
            Reply::text(long.clone())
                .with_status(206)
                .header("content-range", "bytes 0-9399/20000"),
        ),
        (
            "what must not be transformed",
            Reply::text(long.clone()).header("cache-control", "no-transform"),
        ),
        (
            "a stream of events",
            Reply::typed("text/event-stream", long.clone()).chunked(),
        ),
    ] {
        let (gateway, _upstream) = gateway(reply);
        let response = accepting(&gateway, "gzip, br, zstd");
        assert_eq!(
            response.header("content-encoding"),
            None,
            "{what}: {}",
            response.summary()
        );
    }
}

#[test]
fn does_not_compress_twice() {
    let packed = {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(long_text().as_bytes()).unwrap();
        encoder.finish().unwrap()
    };
    // Large enough for its length not to be what spares it.
    let packed = packed.repeat(20);
    assert!(packed.len() > 1024);
    let (gateway, _upstream) = gateway(Reply::typed("text/plain", packed.clone()).header("content-encoding", "gzip"));
    let response = accepting(&gateway, "br, gzip");
    assert_eq!(response.expect(200).header("content-encoding"), Some("gzip"));
    assert_eq!(response.body, packed);
}

#[test]
fn compresses_what_comes_in_pieces() {
    let (gateway, _upstream) = gateway(Reply::text(long_text().repeat(20)).chunked());
    let response = accepting(&gateway, "br");
    assert_eq!(response.expect(200).header("content-encoding"), Some("br"));
    assert_eq!(decoded(&response), long_text().repeat(20).as_bytes());
}

#[test]
fn says_nothing_false_about_the_length() {
    let (gateway, _upstream) = gateway(Reply::text(long_text()));
    let head = gateway
        .request("HEAD", "/text")
        .header("accept-encoding", "gzip")
        .send();
    let length: Option<usize> = head
        .expect(200)
        .header("content-length")
        .and_then(|value| value.parse().ok());
    if head.header("content-encoding").is_some() {
        assert_ne!(length, Some(long_text().len()), "{}", head.summary());
    }
}

//! Answers that change as a whole: nothing of them is sent before the change is done, whatever the upstream does.

use std::io::Write;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{Authority, Connection, Gateway, Reply, Request, Response, TlsClient, Upstream, decoded, fill};

const SHOP: &str = "
upstreams:
  shop: { endpoints: [$upstream]$protocol }
clients:
  ios: { header: { x-client: ios } }
  old: { header: { x-client: old } }
  web: { default: true }
shapes:
  public: { drop: secret, rename: { id: number } }
  loose:  { drop: secret, rename: { id: number }, uncut: pass }
routes:
  plain:
    match: GET /plain/{rest...}
    auth: none
    upstream: shop
    shape: { ios: public, old: loose }
  stored:
    match: GET /stored/{rest...}
    auth: none
    upstream: shop
    cache: { ttl: 60s, share: public }
    shape: { ios: public, old: loose }
  told:
    match: GET,POST /told/{rest...}
    auth: none
    upstream: shop
    errors: problem
  told-stored:
    match: GET /told-stored/{rest...}
    auth: none
    upstream: shop
    cache: { ttl: 60s, share: public }
    errors: problem
defaults:
  compress: { min_size: 1KiB }
";

const BODY: &str = r#"{"id":90071992547409931.10,"secret":"hunter2","list":[1e400,-0,1.0,9223372036854775808]}"#;
const CUT: &str = r#"{"number":90071992547409931.10,"list":[1e400,-0,1.0,9223372036854775808]}"#;

struct Shop {
    gateway: Gateway,
    upstream: Upstream,
}

impl Shop {
    fn selling(reply: Reply) -> Self {
        let upstream = Upstream::http1(move |_| reply.clone());
        let yaml = fill(SHOP, &[("upstream", &upstream.address()), ("protocol", &"")]);
        Self {
            gateway: Gateway::start(&yaml),
            upstream,
        }
    }

    fn sell(&self, reply: Reply) {
        self.upstream.answer_with(move |_| reply.clone());
    }

    fn ask(&self, client: &str, path: &str) -> Request {
        self.gateway.get(path).header("x-client", client)
    }

    fn get(&self, client: &str, path: &str) -> Response {
        self.ask(client, path).send()
    }
}

fn typed(body: impl Into<Bytes>) -> Reply {
    Reply::typed("application/json", body)
}

fn encoded(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "deflate" => {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(body).unwrap();
            encoder.finish().unwrap()
        }
        "br" => {
            let mut whole = Vec::new();
            let mut encoder = brotli::CompressorWriter::new(&mut whole, 4096, 4, 20);
            encoder.write_all(body).unwrap();
            drop(encoder);
            whole
        }
        "zstd" => zstd::stream::encode_all(body, 1).unwrap(),
        other => panic!("{other}"),
    }
}

const CODINGS: [&str; 4] = ["gzip", "br", "zstd", "deflate"];

/// A good answer up to its last bytes, where two members have one name.
fn bad_at_its_end(items: usize) -> String {
    let items: Vec<String> = (0..items)
        .map(|n| format!(r#"{{"id":{n},"secret":"hunter2"}}"#))
        .collect();
    format!(r#"{{"list":[{}],"x":1,"x":2}}"#, items.join(","))
}

#[test]
fn sends_nothing_before_the_whole_is_known_to_be_good() {
    let shop = Shop::selling(typed(bad_at_its_end(100_000)).chunked());
    for path in ["/plain/1", "/stored/1", "/stored/1"] {
        shop.get("ios", path).expect_problem(502, "upstream-unreadable");
    }
    // Cut short in the middle of what is good so far.
    for reply in [typed(bad_at_its_end(100_000)), typed(BODY)] {
        shop.sell(reply.cut_short());
        for path in ["/plain/2", "/stored/2"] {
            let response = shop.get("ios", path);
            assert_eq!(response.status, 502, "{}", response.summary());
            assert!(!response.text().contains("hunter2"));
        }
    }
}

#[test]
fn goes_on_with_the_next_request_on_the_same_connection() {
    let shop = Shop::selling(typed(BODY));
    let mut connection = Connection::open(shop.gateway.address());
    let mut ask = |path: &str| {
        connection.send(&shop.ask("ios", path).bytes());
        connection.response()
    };
    for path in ["/plain/1", "/stored/1", "/stored/1", "/plain/2"] {
        assert_eq!(ask(path).expect(200).text(), CUT, "{path}");
    }
    shop.sell(typed("{"));
    ask("/plain/3").expect_problem(502, "upstream-unreadable");
    ask("/stored/3").expect_problem(502, "upstream-unreadable");
    ask("/stored/3").expect_problem(502, "upstream-unreadable");
    assert_eq!(ask("/stored/1").expect(200).text(), CUT);
    // What was held back did not cost the upstream its connection either.
    assert!(shop.upstream.count() >= 5);
}

#[test]
fn refuses_or_passes_what_is_too_large_or_too_deep() {
    let large = format!(r#"{{"secret":"{}"}}"#, "x".repeat(10 << 20));
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let shop = Shop::selling(typed(""));
    for body in [large, deep] {
        for reply in [typed(body.clone()), typed(body.clone()).chunked()] {
            shop.sell(reply);
            for path in ["/plain/1", "/stored/1", "/stored/1"] {
                shop.get("ios", path).expect_problem(502, "upstream-unreadable");
                let passed = shop.get("old", path);
                assert!(passed.expect(200).body == body.as_bytes(), "{path}");
            }
        }
    }
}

#[test]
fn undoes_the_codings_of_the_upstream_first() {
    let large: Vec<Value> = (0..2000).map(|n| json!({"id": n, "secret": "hunter2"})).collect();
    let large = Value::from(large).to_string();
    for coding in CODINGS {
        for body in [BODY, &large] {
            let coded = encoded(coding, body.as_bytes());
            let reply = typed(coded.clone())
                .header("content-encoding", coding)
                .header("etag", "\"v1\"")
                .header("content-md5", "xxxx")
                .header("repr-digest", "sha-256=:x:");
            let shop = Shop::selling(reply.clone());
            for reply in [reply.clone(), reply.chunked()] {
                shop.sell(reply);
                for path in ["/plain/1", "/stored/1", "/stored/1"] {
                    for client in ["ios", "old"] {
                        let response = shop.ask(client, path).header("accept-encoding", "zstd").send();
                        let text = String::from_utf8(decoded(response.expect(200))).unwrap();
                        assert!(
                            text.contains("number") && !text.contains("hunter2"),
                            "{coding} {path}: {text}"
                        );
                        let large = text.len() > 1024;
                        assert_eq!(response.header("content-encoding"), large.then_some("zstd"), "{coding}");
                        assert_eq!(response.header("content-md5"), None);
                        assert_eq!(response.header("repr-digest"), None);
                        assert_ne!(response.header("etag"), Some("\"v1\""));
                    }
                }
            }
            assert_eq!(shop.upstream.count_of("/stored/1"), 1, "{coding}");
        }
    }
}

#[test]
fn refuses_or_passes_what_is_not_coded_as_it_says() {
    let body = BODY.as_bytes();
    let cut = |coding: &str| {
        let mut whole = encoded(coding, body);
        whole.truncate(whole.len() - 3);
        whole
    };
    let mut bad: Vec<(String, Vec<u8>)> = CODINGS
        .iter()
        .map(|coding| ((*coding).to_owned(), cut(coding)))
        .collect();
    bad.extend(CODINGS.iter().map(|coding| ((*coding).to_owned(), body.to_vec())));
    bad.push(("compress".to_owned(), body.to_vec()));
    bad.push(("gzip".to_owned(), encoded("gzip", b"{\"id\":1")));
    bad.push(("gzip, br".to_owned(), encoded("gzip", body)));
    let shop = Shop::selling(typed(""));
    for (coding, bytes) in bad {
        let reply = typed(bytes.clone())
            .header("content-encoding", &coding)
            .header("etag", "\"v1\"");
        for (at, reply) in [reply.clone(), reply.chunked()].into_iter().enumerate() {
            shop.sell(reply);
            for path in ["plain", "stored"] {
                let path = format!("/{path}/{}-{}-{at}", coding.replace(", ", "-"), bytes.len());
                shop.get("ios", &path).expect_problem(502, "upstream-unreadable");
                let passed = shop.get("old", &path);
                assert!(passed.expect(200).body == bytes, "{coding} {path}");
                assert_eq!(passed.header("content-encoding"), Some(&*coding));
                assert_eq!(passed.header("etag"), Some("\"v1\""));
            }
        }
    }
}

#[test]
fn is_not_blown_up_by_bombs() {
    let spaces = vec![b' '; 32 << 20];
    let shop = Shop::selling(typed(""));
    for coding in ["gzip", "zstd", "deflate"] {
        let bomb = encoded(coding, &spaces);
        let reply = typed(bomb.clone()).header("content-encoding", coding);
        shop.sell(reply);
        for path in [format!("/plain/{coding}"), format!("/stored/{coding}")] {
            shop.get("ios", &path).expect_problem(502, "upstream-unreadable");
            let passed = shop.get("old", &path);
            assert!(passed.expect(200).body == bomb);
        }
        // A bomb in a bomb.
        shop.sell(typed(encoded("gzip", &bomb)).header("content-encoding", &format!("{coding}, gzip")));
        shop.get("ios", "/plain/twice")
            .expect_problem(502, "upstream-unreadable");
    }
}

#[test]
fn tells_what_each_client_has_by_tags_of_its_own() {
    let upstream = Upstream::http1(|seen| {
        let known = seen.headers("if-none-match").join(",");
        let reply = typed(BODY)
            .header("etag", "\"v1\"")
            .header("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
        match known.contains("\"v1\"") {
            true => Reply::status(304).header("etag", "\"v1\""),
            false => reply,
        }
    });
    let gateway = Gateway::start(&fill(SHOP, &[("upstream", &upstream.address()), ("protocol", &"")]));
    let ask = |client: &str, path: &str, tag: &str| {
        let request = gateway.get(path).header("x-client", client);
        request.header("if-none-match", tag).send()
    };
    for path in ["/plain/1", "/stored/1"] {
        let mut tags = Vec::new();
        for client in ["web", "ios"] {
            let first = gateway.get(path).header("x-client", client).send();
            tags.push(first.expect(200).header("etag").unwrap().to_owned());
        }
        assert_eq!(tags[0], "\"v1\"");
        assert!(tags[1].starts_with("W/\"v1~s"), "{tags:?}");
        for (client, own, other) in [("web", &tags[0], &tags[1]), ("ios", &tags[1], &tags[0])] {
            let unchanged = ask(client, path, own);
            assert_eq!(unchanged.status, 304, "{client} {path}: {}", unchanged.summary());
            assert_eq!(unchanged.header("etag"), Some(own.as_str()));
            assert!(unchanged.list("vary").contains(&"x-client".to_owned()));
            let changed = ask(client, path, other);
            assert_eq!(changed.status, 200, "{client} {path}: {}", changed.summary());
        }
        // When the source was changed says nothing of the shape.
        let dated = gateway.get(path).header("x-client", "ios");
        let dated = dated
            .header("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")
            .send();
        dated.expect(200);
    }
}

#[test]
fn answers_head_without_the_length_of_another_body() {
    let shop = Shop::selling(
        typed(encoded("gzip", BODY.as_bytes()))
            .header("content-encoding", "gzip")
            .header("etag", "\"v1\""),
    );
    for path in ["/plain/1", "/stored/1", "/stored/1"] {
        let head = shop.gateway.request("HEAD", path).header("x-client", "ios").send();
        let get = shop.get("ios", path);
        assert_eq!(head.expect(200).header("content-encoding"), None);
        assert_eq!(head.header("etag"), get.expect(200).header("etag"));
        let length = head
            .header("content-length")
            .map(|length| length.parse::<usize>().unwrap());
        assert!(
            length.is_none_or(|length| length == get.body.len()),
            "{}",
            head.summary()
        );
    }
}

#[test]
fn refuses_or_passes_a_part_that_nobody_asked_for() {
    let part = typed(&BODY[..20])
        .with_status(206)
        .header("content-range", "bytes 0-19/88");
    let shop = Shop::selling(part);
    shop.get("ios", "/plain/1").expect_problem(502, "upstream-unreadable");
    let passed = shop.get("old", "/plain/1");
    assert_eq!((passed.status, passed.body.as_slice()), (206, &BODY.as_bytes()[..20]));
    // Nor does it ask for one.
    shop.sell(typed(BODY));
    let response = shop.ask("ios", "/plain/1").header("range", "bytes=0-19").send();
    assert_eq!(response.expect(200).text(), CUT);
    assert!(shop.upstream.last().header("range").is_none());
}

#[test]
fn lets_streams_flow() {
    let events = "data: {\"secret\":1}\n\n";
    let shop = Shop::selling(Reply::typed("text/event-stream", events).chunked());
    for client in ["ios", "old"] {
        assert_eq!(shop.get(client, "/plain/1").expect(200).text(), events);
    }
}

#[test]
fn does_the_same_over_http2_on_either_side() {
    let authority = Authority::new();
    let own = authority.server(&["gate.example"]);
    for protocol in ["", ", protocol: http2"] {
        let answer = |seen: &crate::support::Seen| match seen.path() {
            path if path.contains("bad") => typed("{"),
            path if path.contains("told") => typed("hunter2").with_status(418),
            _ => typed(encoded("gzip", BODY.as_bytes())).header("content-encoding", "gzip"),
        };
        let upstream = match protocol {
            "" => Upstream::http1(answer),
            _ => Upstream::http2(answer),
        };
        let yaml = fill(SHOP, &[("upstream", &upstream.address()), ("protocol", &protocol)]);
        let listen = "listen: [{ address: 127.0.0.1:0, tls: { certificate: a.pem, key: a.key } }]\n";
        let gateway = Gateway::with(&format!("{listen}{yaml}"))
            .file("a.pem", &own.chain)
            .file("a.key", &own.key)
            .start();
        let client = TlsClient::new(gateway.address(), &authority, None).offering(&["h2"]);
        let ask = |path: &str| {
            let request = http::Request::get(format!("https://gate.example{path}"));
            let request = request.header("x-client", "ios").body(Bytes::new()).unwrap();
            let response = client.send("gate.example", request).unwrap();
            let text = String::from_utf8(response.body().to_vec()).unwrap();
            (response.status().as_u16(), text)
        };
        for path in ["/plain/1", "/stored/1", "/stored/1"] {
            assert_eq!(ask(path), (200, CUT.to_owned()), "{path}");
        }
        for path in ["/plain/bad", "/stored/bad", "/stored/bad"] {
            let (status, text) = ask(path);
            assert!(
                status == 502 && text.contains("upstream-unreadable"),
                "{path}: {status} {text}"
            );
        }
        for path in ["/told/1", "/told-stored/1"] {
            let (status, text) = ask(path);
            assert!(
                status == 418 && text.contains("upstream-refused"),
                "{path}: {status} {text}"
            );
            assert!(!text.contains("hunter2"));
        }
    }
}

#[test]
fn tells_errors_of_the_upstream_as_its_own() {
    let secret = "stack trace: hunter2";
    let shop = Shop::selling(typed(""));
    for (status, code) in [
        (400, "upstream-refused"),
        (404, "upstream-refused"),
        (500, "upstream-failed"),
        (503, "upstream-failed"),
    ] {
        let reply = Reply::text(secret)
            .with_status(status)
            .header("x-debug", secret)
            .header("etag", "\"v1\"")
            .header("retry-after", "7");
        let bodies = [
            reply.clone(),
            reply.clone().chunked(),
            reply.body(secret.repeat(1 << 16)),
            Reply::status(status).header("retry-after", "7"),
        ];
        for (at, reply) in bodies.into_iter().enumerate() {
            shop.sell(reply.header("cache-control", "max-age=60"));
            for path in [format!("/told/{status}-{at}"), format!("/told-stored/{status}-{at}")] {
                for _ in 0..2 {
                    let response = shop.get("web", &path);
                    response.expect_problem(status, code);
                    assert!(!response.summary().contains("hunter2"), "{}", response.summary());
                    assert_eq!(response.header("etag"), None);
                }
            }
            if at < 2 {
                assert_eq!(shop.get("web", "/told/1").header("retry-after"), Some("7"));
            }
            let head = shop.gateway.request("HEAD", "/told/1").send();
            assert_eq!((head.status, head.body.len()), (status, 0));
        }
        shop.sell(Reply::text(secret).with_status(status));
        assert_eq!(shop.get("web", "/plain/1").expect(status).text(), secret);
    }
    // A challenge and the methods that would do are for the client.
    shop.sell(
        Reply::text(secret)
            .with_status(401)
            .header("www-authenticate", "Basic realm=\"x\""),
    );
    assert_eq!(
        shop.get("web", "/told/1").header("www-authenticate"),
        Some("Basic realm=\"x\"")
    );
    shop.sell(Reply::text(secret).with_status(405).header("allow", "PUT"));
    assert_eq!(shop.get("web", "/told/1").header("allow"), Some("PUT"));
    // What is no error goes through.
    shop.sell(Reply::text("fine").with_status(201));
    assert_eq!(
        shop.gateway.request("POST", "/told/1").send().expect(201).text(),
        "fine"
    );
}

#[test]
fn changes_what_the_origin_has_confirmed() {
    let large: Vec<Value> = (0..2000).map(|n| json!({"id": n, "secret": "hunter2"})).collect();
    let large = Value::from(large).to_string();
    let body = large.clone();
    let upstream = Upstream::http1(move |seen| match seen.headers("if-none-match").is_empty() {
        true => typed(body.clone()).header("etag", "\"v1\""),
        false => Reply::status(304).header("etag", "\"v1\""),
    });
    let gateway = Gateway::start(&fill(SHOP, &[("upstream", &upstream.address()), ("protocol", &"")]));
    for (at, client) in ["ios", "old", "web", "ios", "old"].into_iter().enumerate() {
        let request = gateway.get("/stored/1").header("x-client", client);
        let request = request
            .header("accept-encoding", "gzip")
            .header("cache-control", "no-cache");
        let response = request.send();
        let text = String::from_utf8(decoded(response.expect(200))).unwrap();
        match client {
            "web" => assert!(text == large),
            _ => assert!(
                text.starts_with(r#"[{"number":0},"#) && !text.contains("hunter2"),
                "{client}"
            ),
        }
        assert_eq!(upstream.count(), at + 1);
    }
    let confirmed = upstream.seen();
    assert!(
        confirmed[1..]
            .iter()
            .all(|seen| !seen.headers("if-none-match").is_empty())
    );
}

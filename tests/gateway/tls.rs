//! Encrypted listeners: which certificate is shown, who may come in, and what a change does.

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::HandshakeKind;
use serde_json::json;

use crate::support::http2::{Http2, request};
use crate::support::{
    Authority, Certificate, Gateway, Reply, TlsClient, Upstream, eventually, fill, names_shown, talk,
};

const ROUTES: &str = "
upstreams:
  all: { endpoints: [$upstream] }
routes:
  hello: { match: GET /hello, auth: none, reply: { status: 200, json: { hello: true } } }
  rest:  { match: 'GET,POST /up/{rest...}', auth: none, upstream: all }
";

fn listening(tls: &str, upstream: &Upstream) -> String {
    let routes = fill(ROUTES, &[("upstream", &upstream.address())]);
    format!("listen: [{{ address: 127.0.0.1:0, tls: {tls} }}]\n{routes}")
}

fn upstream() -> Upstream {
    Upstream::http1(|seen| {
        Reply::json(
            &json!({ "proto": seen.header("x-forwarded-proto"), "host": seen.header("host"), "bytes": seen.body.len() }),
        )
    })
}

fn start(tls: &str, files: &[(&str, &str)], upstream: &Upstream) -> Gateway {
    let launch = Gateway::with(&listening(tls, upstream));
    files
        .iter()
        .fold(launch, |launch, (name, text)| launch.file(name, text))
        .start()
}

fn json_of(response: &http::Response<Bytes>) -> serde_json::Value {
    serde_json::from_slice(response.body()).unwrap()
}

const PLAIN: &str = "{ certificate: a.pem, key: a.key }";

#[test]
fn speaks_both_versions_of_http_and_says_how_it_was_reached() {
    let (authority, upstream) = (Authority::new(), upstream());
    let own = authority.server(&["gate.example"]);
    let gateway = start(PLAIN, &[("a.pem", &own.chain), ("a.key", &own.key)], &upstream);
    for (protocols, version) in [
        (&["h2", "http/1.1"][..], http::Version::HTTP_2),
        (&["http/1.1"], http::Version::HTTP_11),
        (&[], http::Version::HTTP_11),
    ] {
        let client = TlsClient::new(gateway.address(), &authority, None).offering(protocols);
        let response = client.get("gate.example", "/hello").unwrap();
        assert_eq!((response.status().as_u16(), response.version()), (200, version));
        let post = http::Request::post("https://gate.example/up/x?y=1")
            .body(Bytes::from(vec![b'x'; 100_000]))
            .unwrap();
        let response = client.send("gate.example", post).unwrap();
        assert_eq!(response.status(), 200);
        let seen = json_of(&response);
        assert_eq!(
            (&seen["proto"], &seen["bytes"]),
            (&json!("https"), &json!(100_000)),
            "{version:?}"
        );
        let missing = client.get("gate.example", "/nowhere").unwrap();
        assert_eq!(missing.status(), 404);
        assert_eq!(json_of(&missing)["code"], "route-not-found");
    }
}

#[test]
fn shows_the_certificate_that_the_client_asks_for() {
    let (authority, upstream) = (Authority::new(), upstream());
    let (bank, shop) = (
        authority.server(&["bank.example"]),
        authority.server(&["shop.example", "*.shop.example"]),
    );
    let gateway = start(
        "{ certificate: a.pem, key: a.key, also: [{ certificate: b.pem, key: b.key }] }",
        &[
            ("a.pem", &bank.chain),
            ("a.key", &bank.key),
            ("b.pem", &shop.chain),
            ("b.key", &shop.key),
        ],
        &upstream,
    );
    let client = TlsClient::new(gateway.address(), &authority, None);
    for (name, shown) in [
        ("bank.example", "bank.example"),
        ("shop.example", "shop.example"),
        ("a.shop.example", "*.shop.example"),
    ] {
        let stream = client.connect(name).unwrap();
        assert!(names_shown(&stream).contains(&format!("\"{shown}\"")), "{name}");
    }
    for name in ["other.example", "a.b.shop.example", "127.0.0.1"] {
        let error = client.connect(name).unwrap_err().to_string();
        assert!(error.contains("invalid peer certificate"), "{name}: {error}");
    }
}

#[test]
fn sends_a_request_back_that_belongs_on_another_connection() {
    let (authority, upstream) = (Authority::new(), upstream());
    let bank = authority.server(&["bank.example"]);
    let shop = authority.server(&["*.shop.example"]);
    let gateway = start(
        "{ certificate: a.pem, key: a.key, also: [{ certificate: b.pem, key: b.key }] }",
        &[
            ("a.pem", &bank.chain),
            ("a.key", &bank.key),
            ("b.pem", &shop.chain),
            ("b.key", &shop.key),
        ],
        &upstream,
    );
    for protocol in ["h2", "http/1.1"] {
        let client = TlsClient::new(gateway.address(), &authority, None).offering(&[protocol]);
        let ask = |name: &str, host: &str| {
            let request = http::Request::get(format!("https://{host}/hello")).body(Bytes::new());
            let response = client.send(name, request.unwrap()).unwrap();
            (response.status().as_u16(), json_of(&response)["code"].clone())
        };
        let misdirected = (421, json!("misdirected"));
        assert_eq!(ask("bank.example", "a.shop.example:443"), misdirected);
        assert_eq!(ask("a.shop.example", "bank.example"), misdirected);
        for (name, host) in [
            ("bank.example", "bank.example"),
            ("a.shop.example", "b.shop.example"),
            ("bank.example", "nobody.example"),
            ("a.shop.example", "127.0.0.1"),
        ] {
            assert_eq!(ask(name, host).0, 200, "{name} {host}");
        }
    }
    let records = gateway.records(12);
    let misdirected = records.iter().filter(|record| record["status"] == 421);
    assert_eq!(misdirected.count(), 4);
}

#[test]
fn lets_in_clients_with_a_certificate_alone() {
    let (authority, partners, upstream) = (Authority::new(), Authority::new(), upstream());
    let own = authority.server(&["gate.example"]);
    let (good, foreign) = (partners.client("partner"), authority.client("stranger"));
    let files = [
        ("a.pem", own.chain.as_str()),
        ("a.key", &own.key),
        ("partners.pem", &partners.pem()),
    ];
    let with = |required: bool| {
        let clients = format!("clients: {{ authorities: partners.pem, required: {required} }}");
        start(
            &format!("{{ certificate: a.pem, key: a.key, {clients} }}"),
            &files,
            &upstream,
        )
    };
    let status = |gateway: &Gateway, own: Option<&Certificate>| {
        let client = TlsClient::new(gateway.address(), &authority, own);
        client
            .get("gate.example", "/hello")
            .map(|response| response.status().as_u16())
    };
    let strict = with(true);
    assert_eq!(status(&strict, Some(&good)), Ok(200));
    assert!(status(&strict, None).is_err());
    assert!(status(&strict, Some(&foreign)).is_err());
    let lenient = with(false);
    assert_eq!(status(&lenient, Some(&good)), Ok(200));
    assert_eq!(status(&lenient, None), Ok(200));
    assert!(status(&lenient, Some(&foreign)).is_err());
}

#[test]
fn a_ticket_does_not_outlive_who_may_come_in() {
    let (authority, old, new, upstream) = (Authority::new(), Authority::new(), Authority::new(), upstream());
    let own = authority.server(&["gate.example"]);
    let gateway = start(
        "{ certificate: a.pem, key: a.key, clients: { authorities: partners.pem } }",
        &[("a.pem", &own.chain), ("a.key", &own.key), ("partners.pem", &old.pem())],
        &upstream,
    );
    // The same client throughout: it keeps the tickets it is given.
    let client = TlsClient::new(gateway.address(), &authority, Some(&old.client("partner")));
    for _ in 0..3 {
        assert_eq!(client.get("gate.example", "/hello").unwrap().status(), 200);
    }
    assert!(gateway.reload_beside("partners.pem", &new.pem()));
    assert!(client.get("gate.example", "/hello").is_err());
}

#[test]
fn a_certificate_that_has_run_out_opens_nothing_any_more() {
    const HELLO: &[u8] = b"GET /hello HTTP/1.1\r\nHost: gate.example\r\n\r\n";
    const LAST: &[u8] = b"true}";
    let (authority, partners, upstream) = (Authority::new(), Authority::new(), upstream());
    let own = authority.server(&["gate.example"]);
    let gateway = start(
        "{ certificate: a.pem, key: a.key, clients: { authorities: partners.pem } }",
        &[
            ("a.pem", &own.chain),
            ("a.key", &own.key),
            ("partners.pem", &partners.pem()),
        ],
        &upstream,
    );
    let end = SystemTime::now() + Duration::from_secs(6);
    let short = partners.sign(&[], |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.not_after = end.into();
    });
    // The same clients throughout: they keep the tickets they are given.
    let client = |protocol| TlsClient::new(gateway.address(), &authority, Some(&short)).offering(&[protocol]);
    let (one, two) = (client("http/1.1"), client("h2"));
    let mut kept = one.connect("gate.example").unwrap();
    let mut kept_streams = Http2::encrypted(two.connect("gate.example").unwrap());
    let ask = request("GET", "/hello");
    assert!(talk(&mut kept, HELLO, LAST).starts_with(b"HTTP/1.1 200 "));
    assert_eq!(kept_streams.exchange(1, &ask).status, 200);
    let mut resumed = one.connect("gate.example").unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(talk(&mut resumed, HELLO, LAST).starts_with(b"HTTP/1.1 200 "));

    let left = end.duration_since(SystemTime::now()).expect("so far it is good");
    std::thread::sleep(left + Duration::from_secs(1));
    assert_eq!(talk(&mut kept, HELLO, LAST), b"");
    assert_eq!(kept_streams.exchange(3, &ask).status, 0);
    assert_eq!(kept_streams.end(), Some(0));
    let mut resumed = one.connect("gate.example").unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(talk(&mut resumed, HELLO, LAST), b"");
    let resumed = two.connect("gate.example").unwrap();
    assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
    assert_eq!(Http2::encrypted(resumed).exchange(1, &ask).status, 0);
    assert_eq!(gateway.records(3).len(), 3);
}

#[test]
fn what_runs_out_beside_the_chain_that_counts_closes_nothing() {
    let (authority, partners, upstream) = (Authority::new(), Authority::new(), upstream());
    let own = authority.server(&["gate.example"]);
    let gateway = start(
        "{ certificate: a.pem, key: a.key, clients: { authorities: partners.pem } }",
        &[
            ("a.pem", &own.chain),
            ("a.key", &own.key),
            ("partners.pem", &partners.pem()),
        ],
        &upstream,
    );
    let old = partners.between(|params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let mut shown = partners.client("partner");
    shown.chain.push_str(&old.pem());
    let client = TlsClient::new(gateway.address(), &authority, Some(&shown));
    for _ in 0..2 {
        assert_eq!(client.get("gate.example", "/hello").unwrap().status(), 200);
    }
}

#[test]
fn follows_certificates_under_load_without_a_failed_handshake() {
    let (authority, upstream) = (Authority::new(), upstream());
    let first = authority.server(&["gate.example", "one.example"]);
    let gateway = start(PLAIN, &[("a.pem", &first.chain), ("a.key", &first.key)], &upstream);
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let shake_hands = || {
            while !stop.load(Ordering::Relaxed) {
                // A client of its own each time: a whole handshake.
                let client = TlsClient::new(gateway.address(), &authority, None);
                assert_eq!(client.get("gate.example", "/hello").unwrap().status(), 200);
                made.fetch_add(1, Ordering::Relaxed);
            }
        };
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(shake_hands)).collect();
        for turn in 0..10 {
            let next = authority.server(&["gate.example", &format!("turn-{turn}.example")]);
            // Both files change before either is looked at, or the pair does not fit and the old one stays.
            let taken = gateway.reload_folder(|folder| {
                std::fs::write(folder.join("next.key"), &next.key).unwrap();
                std::fs::write(folder.join("next.pem"), &next.chain).unwrap();
                std::fs::rename(folder.join("next.key"), folder.join("a.key")).unwrap();
                std::fs::rename(folder.join("next.pem"), folder.join("a.pem")).unwrap();
            });
            assert!(taken, "turn {turn}");
            let before = made.load(Ordering::Relaxed);
            while made.load(Ordering::Relaxed) < before + 8 {
                // One that failed has panicked, and makes no more.
                if clients.iter().any(|client| client.is_finished()) {
                    stop.store(true, Ordering::Relaxed);
                    panic!("a handshake failed in turn {turn}");
                }
                std::thread::yield_now();
            }
            let client = TlsClient::new(gateway.address(), &authority, None);
            assert!(names_shown(&client.connect("gate.example").unwrap()).contains(&format!("turn-{turn}.example")));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn keeps_the_old_certificate_where_the_new_one_does_not_fit_its_key() {
    let (authority, upstream) = (Authority::new(), upstream());
    let (own, other) = (authority.server(&["gate.example"]), authority.server(&["gate.example"]));
    let gateway = start(PLAIN, &[("a.pem", &own.chain), ("a.key", &own.key)], &upstream);
    assert!(!gateway.reload_beside("a.pem", &other.chain));
    eventually("a word on why", || {
        let is_told = gateway.log().contains("the key is not that of the certificate");
        is_told.then_some(())
    });
    let client = TlsClient::new(gateway.address(), &authority, None);
    assert_eq!(client.get("gate.example", "/hello").unwrap().status(), 200);
    assert!(gateway.reload_beside("a.key", &other.key));
    assert_eq!(client.get("gate.example", "/hello").unwrap().status(), 200);
}

#[test]
fn is_not_disturbed_by_what_is_no_handshake() {
    let (authority, upstream) = (Authority::new(), upstream());
    let own = authority.server(&["gate.example"]);
    let gateway = start(PLAIN, &[("a.pem", &own.chain), ("a.key", &own.key)], &upstream);
    for bytes in [
        &b"GET /hello HTTP/1.1\r\nHost: gate.example\r\n\r\n"[..],
        &[0x16, 3, 1, 255, 255, 1],
        &[0; 300],
    ] {
        let mut stream = std::net::TcpStream::connect(gateway.address()).unwrap();
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP"), "an answer in the clear");
    }
    let client = TlsClient::new(gateway.address(), &authority, None);
    assert_eq!(client.get("gate.example", "/hello").unwrap().status(), 200);
}

#[test]
fn speaks_no_older_version_than_it_may() {
    let (authority, upstream) = (Authority::new(), upstream());
    let own = authority.server(&["gate.example"]);
    let files = [("a.pem", own.chain.as_str()), ("a.key", &own.key)];
    for (tls, version, may) in [
        (PLAIN, &rustls::version::TLS12, true),
        (PLAIN, &rustls::version::TLS13, true),
        (
            "{ certificate: a.pem, key: a.key, min_version: tls1.3 }",
            &rustls::version::TLS12,
            false,
        ),
        (
            "{ certificate: a.pem, key: a.key, min_version: tls1.3 }",
            &rustls::version::TLS13,
            true,
        ),
    ] {
        let gateway = start(tls, &files, &upstream);
        let client = TlsClient::new(gateway.address(), &authority, None).speaking(version);
        assert_eq!(client.get("gate.example", "/hello").is_ok(), may, "{tls} {version:?}");
    }
}

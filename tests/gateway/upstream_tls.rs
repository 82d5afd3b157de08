//! Encrypted connections to upstreams: who is trusted, what is sent to nobody else, and what a change does.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rcgen::date_time_ymd;
use serde_json::{Value, json};

use crate::support::{Authority, Certificate, Gateway, Reply, TlsServer, Upstream, eventually, fill};

const YAML: &str = "
upstreams:
  origin: { endpoints: [$endpoints], tls: { server_name: accounts.internal, $tls }, $more }
routes:
  read:  { match: GET /x, auth: none, upstream: origin }
  write: { match: POST /x, auth: none, upstream: origin }
  whole: { match: GET /whole, auth: none, aggregate: { part: { get: 'origin:/part', required: true } } }
";
const NAME: &str = "accounts.internal";

fn yaml(endpoints: &str, tls: &str, more: &str) -> String {
    fill(YAML, &[("endpoints", &endpoints), ("tls", &tls), ("more", &more)])
}

/// A gateway that trusts `authority` alone.
fn trusting(authority: &Authority, upstream: &Upstream, more: &str) -> Gateway {
    let yaml = yaml(&upstream.address().to_string(), "authorities: ca.pem", more);
    Gateway::with(&yaml).file("ca.pem", &authority.pem()).start()
}

fn hello(seen: &crate::support::Seen) -> Reply {
    Reply::json(&json!({ "host": seen.header("host"), "version": format!("{:?}", seen.version) }))
}

fn origin(own: &Certificate) -> Upstream {
    Upstream::http1_over(&TlsServer::new(own), hello)
}

/// The one record's word on what was wrong with the upstream.
fn fault(gateway: &Gateway) -> Value {
    gateway.records(1).pop().unwrap()["upstream"]["fault"].clone()
}

#[test]
fn asks_an_endpoint_that_is_who_it_should_be() {
    let authority = Authority::new();
    let own = authority.server(&[NAME]);
    for (upstream, protocol, version) in [
        (Upstream::http1_over(&TlsServer::new(&own), hello), "http1", "HTTP/1.1"),
        (Upstream::http2_over(&TlsServer::new(&own), hello), "http2", "HTTP/2.0"),
    ] {
        let gateway = trusting(&authority, &upstream, &format!("protocol: {protocol}"));
        for _ in 0..3 {
            let seen = gateway.get("/x").send().expect(200).json();
            assert_eq!(seen["version"], version);
            gateway.post("/x").body("a body").send().expect(200);
            gateway.get("/whole").send().expect(200);
        }
        assert_eq!(upstream.last().path(), "/part");
        assert_eq!(upstream.count(), 9);
        assert!(upstream.handshakes() < 9, "no connection is kept, {protocol}");
    }
}

#[test]
fn speaks_both_versions_of_tls() {
    let authority = Authority::new();
    let own = authority.server(&[NAME]);
    for version in rustls::ALL_VERSIONS {
        let upstream = Upstream::http1_over(&TlsServer::new(&own).speaking(version), hello);
        let gateway = trusting(&authority, &upstream, "");
        gateway.get("/x").send().expect(200);
    }
}

#[test]
fn sends_nothing_to_an_endpoint_that_cannot_be_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let expired = authority.sign(&[NAME], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    });
    let early = authority.sign(&[NAME], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2120, 1, 1), date_time_ymd(2121, 1, 1));
    });
    let nobody = authority.sign(&[], |_| {});
    for (own, word) in [
        (expired, "certificate-expired"),
        (early, "certificate-not-yet-valid"),
        (authority.server(&["payments.internal"]), "certificate-of-another"),
        (authority.server(&["127.0.0.1"]), "certificate-of-another"),
        (nobody, "certificate-of-another"),
        (other.server(&[NAME]), "certificate-untrusted"),
        (Certificate::self_signed(&[NAME]), "certificate-untrusted"),
        (authority.client(NAME), "certificate-invalid"),
    ] {
        for (upstream, protocol) in [
            (Upstream::http1_over(&TlsServer::new(&own), hello), "http1"),
            (Upstream::http2_over(&TlsServer::new(&own), hello), "http2"),
        ] {
            let gateway = trusting(&authority, &upstream, &format!("protocol: {protocol}"));
            let refused = gateway.post("/x").body("a secret").send();
            refused.expect_problem(502, "upstream-unreachable");
            let told = refused.text().to_lowercase();
            assert!(!told.contains("certificate") && !told.contains("internal"), "{told}");
            assert_eq!(fault(&gateway), word);
            gateway.get("/whole").send().expect(502);
            assert_eq!((upstream.count(), upstream.handshakes()), (0, 0), "{word}");
        }
    }
}

#[test]
fn speaks_to_no_server_in_the_clear() {
    let authority = Authority::new();
    let plain = Upstream::http1(hello);
    let gateway = trusting(&authority, &plain, "");
    gateway.get("/x").send().expect_problem(502, "upstream-unreachable");
    assert_eq!(fault(&gateway), "handshake");
    assert_eq!(plain.count(), 0);
}

#[test]
fn shows_its_own_certificate_to_those_who_ask() {
    let (authority, partners) = (Authority::new(), Authority::new());
    let (own, gate, stranger) = (
        authority.server(&[NAME]),
        partners.client("gate"),
        authority.client("stranger"),
    );
    for version in rustls::ALL_VERSIONS {
        let server = TlsServer::new(&own).for_clients_of(&partners).speaking(version);
        let upstream = Upstream::http1_over(&server, hello);
        let with = |tls: &str, shown: &Certificate| {
            let address = upstream.address().to_string();
            Gateway::with(&yaml(&address, tls, ""))
                .file("ca.pem", &authority.pem())
                .file("gate.pem", &shown.chain)
                .file("gate.key", &shown.key)
                .start()
        };
        let showing = "authorities: ca.pem, certificate: gate.pem, key: gate.key";
        let gateway = with(showing, &gate);
        gateway.get("/x").send().expect(200);
        gateway.get("/whole").send().expect(200);
        assert_eq!(upstream.count(), 2);
        for (tls, shown) in [("authorities: ca.pem", &gate), (showing, &stranger)] {
            let gateway = with(tls, shown);
            gateway.get("/x").send().expect(502);
            // TLS 1.2 has one alert for everything (RFC 5246 §7.2.2).
            let word = fault(&gateway);
            assert!(
                word == "certificate-refused" || word == "handshake",
                "{version:?}: {word}"
            );
        }
        assert_eq!(upstream.count(), 2, "{version:?}");
    }
}

#[test]
fn follows_changed_files_and_leaves_connections_made_before() {
    let (old, new) = (Authority::new(), Authority::new());
    for is_http2 in [false, true] {
        let server = TlsServer::new(&old.server(&[NAME]));
        let (upstream, protocol) = match is_http2 {
            false => (Upstream::http1_over(&server, hello), "http1"),
            true => (Upstream::http2_over(&server, hello), "http2"),
        };
        let gateway = trusting(&old, &upstream, &format!("protocol: {protocol}"));
        for path in ["/x", "/whole"] {
            gateway.get(path).send().expect(200);
        }
        assert!(gateway.reload_beside("ca.pem", &new.pem()));
        for path in ["/x", "/whole"] {
            gateway.get(path).send().expect(502);
        }
        assert_eq!(upstream.count(), 2, "a connection that was made before is used");
        assert!(gateway.reload_beside("ca.pem", &format!("{}{}", new.pem(), old.pem())));
        for path in ["/x", "/whole"] {
            gateway.get(path).send().expect(200);
        }
    }
}

#[test]
fn follows_its_own_certificate_and_keeps_the_old_one_until_the_key_fits() {
    let (authority, old, new) = (Authority::new(), Authority::new(), Authority::new());
    let server = |partners: &Authority| TlsServer::new(&authority.server(&[NAME])).for_clients_of(partners);
    let (first, second) = (
        Upstream::http1_over(&server(&old), hello),
        Upstream::http1_over(&server(&new), hello),
    );
    let (before, after) = (old.client("gate"), new.client("gate"));
    let text = "
upstreams:
  a: { endpoints: [$first], tls: { server_name: accounts.internal, authorities: ca.pem, certificate: g.pem, key: g.key } }
  b: { endpoints: [$second], tls: { server_name: accounts.internal, authorities: ca.pem, certificate: g.pem, key: g.key } }
routes:
  a: { match: GET /a, auth: none, upstream: a }
  b: { match: GET /b, auth: none, upstream: b }
";
    let yaml = fill(text, &[("first", &first.address()), ("second", &second.address())]);
    let gateway = Gateway::with(&yaml)
        .file("ca.pem", &authority.pem())
        .file("g.pem", &before.chain)
        .file("g.key", &before.key)
        .start();
    let status = |path: &str| gateway.get(path).send().status;
    assert_eq!((status("/a"), status("/b")), (200, 502));
    assert!(!gateway.reload_beside("g.pem", &after.chain));
    eventually("a word on why", || {
        let is_told = gateway.log().contains("the key is not that of the certificate");
        is_told.then_some(())
    });
    assert_eq!((status("/a"), status("/b")), (200, 502));
    assert!(gateway.reload_beside("g.key", &after.key));
    assert_eq!((status("/a"), status("/b")), (502, 200));
}

#[test]
fn tries_another_endpoint_and_leaves_a_bad_one_alone() {
    let authority = Authority::new();
    let (bad, good) = (
        origin(&Certificate::self_signed(&[NAME])),
        origin(&authority.server(&[NAME])),
    );
    let endpoints = format!("{}, {}", bad.address(), good.address());
    let gateway = Gateway::with(&yaml(&endpoints, "authorities: ca.pem", "retry: { attempts: 1 }"))
        .file("ca.pem", &authority.pem())
        .start();
    for _ in 0..4 {
        gateway.post("/x").body("once").send().expect(200);
    }
    assert_eq!((bad.count(), good.count()), (0, 4));

    let breaking = "retry: { attempts: 0 }, breaker: { min_requests: 3, open_for: 1h }";
    let gateway = trusting(&authority, &bad, breaking);
    let codes: Vec<Value> = (0..4)
        .map(|_| gateway.get("/x").send().json()["code"].clone())
        .collect();
    let unreachable = "upstream-unreachable";
    assert_eq!(codes, [unreachable, unreachable, unreachable, "breaker-open"]);
}

#[test]
fn checks_the_health_of_endpoints_over_the_same_tls() {
    let authority = Authority::new();
    let (bad, good) = (
        origin(&Certificate::self_signed(&[NAME])),
        origin(&authority.server(&[NAME])),
    );
    let health = "health: { path: /healthz, every: 100ms }";
    let gateway = trusting(&authority, &bad, health);
    eventually("an endpoint that is out", || {
        (gateway.get("/x").send().json()["code"] == "no-healthy-endpoint").then_some(())
    });
    eventually("a word on why", || {
        gateway
            .log()
            .contains("cannot be trusted: certificate-untrusted")
            .then_some(())
    });
    assert_eq!(bad.count(), 0);

    let gateway = trusting(&authority, &good, health);
    good.wait_for("/healthz", 3);
    gateway.get("/x").send().expect(200);
    let checked = good.seen().into_iter().find(|seen| seen.path() == "/healthz").unwrap();
    let host = format!("{NAME}:{}", good.address().port());
    assert_eq!(checked.header("host"), Some(host.as_str()));
}

#[test]
fn trusts_the_systems_authorities_where_none_are_named() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, authority.pem()).unwrap();
    let (good, bad) = (origin(&authority.server(&[NAME])), origin(&other.server(&[NAME])));
    for (upstream, status) in [(&good, 200), (&bad, 502)] {
        let text = yaml(&upstream.address().to_string(), "", "").replace(", }", " }");
        let gateway = Gateway::with(&text)
            .environment("SSL_CERT_FILE", roots.to_str().unwrap())
            .start();
        gateway.get("/x").send().expect(status);
    }
    assert_eq!((good.count(), bad.count()), (1, 0));
    // A system that trusts nobody.
    std::fs::write(&roots, "").unwrap();
    let text = yaml(&good.address().to_string(), "", "").replace(", }", " }");
    let gateway = Gateway::with(&text)
        .environment("SSL_CERT_FILE", roots.to_str().unwrap())
        .start();
    gateway.get("/x").send().expect(502);
    assert_eq!(good.count(), 1);
}

#[test]
fn an_address_can_be_the_name() {
    let authority = Authority::new();
    for (name, status) in [("127.0.0.1", 200), ("127.0.0.2", 502)] {
        let upstream = origin(&authority.server(&[name]));
        let text = yaml(&upstream.address().to_string(), "authorities: ca.pem", "").replace(NAME, "127.0.0.1");
        let gateway = Gateway::with(&text).file("ca.pem", &authority.pem()).start();
        gateway.get("/x").send().expect(status);
    }
}

#[test]
fn is_understood_by_openssl() {
    let (authority, partners) = (Authority::new(), Authority::new());
    let (own, gate) = (authority.server(&[NAME]), partners.client("gate"));
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let mut server = Command::new("openssl")
            .args([
                "s_server",
                "-accept",
                "127.0.0.1:0",
                "-www",
                "-Verify",
                "2",
                "-verify_return_error",
                version,
            ])
            .arg("-cert")
            .arg(file("own.pem", &own.chain))
            .arg("-key")
            .arg(file("own.key", &own.key))
            .arg("-CAfile")
            .arg(file("partners.pem", &partners.pem()))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(server.stdout.take().unwrap());
        let address = said
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("ACCEPT ").map(str::to_owned))
            .unwrap();
        let with = |tls: &str| {
            Gateway::with(&yaml(&address, tls, ""))
                .file("ca.pem", &authority.pem())
                .file("gate.pem", &gate.chain)
                .file("gate.key", &gate.key)
                .start()
        };
        let gateway = with("authorities: ca.pem, certificate: gate.pem, key: gate.key");
        let page = gateway.get("/x").send().expect(200).text();
        assert!(page.contains("s_server"), "{page}");
        let gateway = with("authorities: ca.pem");
        gateway.get("/x").send().expect(502);
        server.kill().unwrap();
        server.wait().unwrap();
    }
}

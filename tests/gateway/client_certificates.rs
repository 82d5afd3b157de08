//! Callers known by the certificate of their connection: who they are, what they may, and what does not pass for one.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use rcgen::{CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use serde_json::{Value, json};

use crate::sockets::kit::{Endpoint, KEY};
use crate::support::{Authority, Certificate, Gateway, Issuer, Launch, Reply, Seen, TlsClient, Upstream, fill, talk};

const NAME: &str = "gate.example";
const ACME: &str = "spiffe://acme.example/orders";

const YAML: &str = "
listen:
  - address: 127.0.0.1:0
    tls: { certificate: own.pem, key: own.key, clients: { authorities: clients.pem, required: false } }
upstreams:
  origin: { endpoints: [$upstream] }
authenticators:
  machines: { client_certificate: { authorities: machines.pem } }
  partners:
    client_certificate:
      authorities: partners.pem
      subject: uri
      callers:
        - { subject: 'spiffe://acme.example/orders', roles: [partner], scopes: [order:read] }
        - { subject: 'spiffe://idle.example/nothing' }
  customer:
    jwt: { issuer: $issuer, audience: mobile-bank, algorithms: ES256, jwks: discover, typ: at+jwt }
  key: { api_key: { keys: [] } }
policies:
  by-role: { require: { roles: [partner] } }
  by-claim: { require: { claims: { cert.sans: 'URI:spiffe://acme.example/orders' } } }
  by-expression: { require: { if: 'claims.cert.subject.endsWith(\"CN=acme\") && claims.cert.serial != \"\"' } }
routes:
  partners: { match: 'GET,POST /partners', auth: partners, forward: { x-user: principal.sub }, upstream: origin }
  ruled: { match: GET /ruled, auth: partners, policies: [by-role, by-claim, by-expression], upstream: origin }
  scoped: { match: GET /scoped, auth: partners, scopes: [order:read], upstream: origin }
  barred: { match: GET /barred, auth: partners, scopes: [order:write], upstream: origin }
  machines: { match: GET /machines, auth: machines, forward: { x-user: principal.sub }, upstream: origin }
  either: { match: GET /either, auth: [machines, partners], forward: { x-user: principal.sub }, upstream: origin }
  first: { match: GET /first, auth: [partners, customer, none], forward: { x-user: principal.sub }, upstream: origin }
  last: { match: GET /last, auth: [customer, partners, none], forward: { x-user: principal.sub }, upstream: origin }
  any: { match: GET /any, auth: [key, customer, partners], upstream: origin }
  customer: { match: GET /customer, auth: customer, forward: { x-user: principal.sub }, upstream: origin }
  whole:
    match: GET /whole
    auth: none
    aggregate: { part: { get: /partners, default: nobody } }
tests:
  - { at: 2026-11-24T12:00+09:00, as: { sub: 'spiffe://acme.example/orders', roles: [partner], scope: 'order:read' }, request: GET /scoped, expect: allow }
  - { at: 2026-11-24T12:00+09:00, request: GET /partners, expect: { status: 401, code: certificate-missing } }
";

struct Gate {
    gateway: Gateway,
    upstream: Upstream,
    issuer: Issuer,
    own: Authority,
    machines: Authority,
    partners: Authority,
}

fn origin(seen: &Seen) -> Reply {
    Reply::json(&json!({ "user": seen.header("x-user"), "authorization": seen.header("authorization") }))
}

/// A certificate of a machine whose names are these URIs.
fn machine(authority: &Authority, name: &str, uris: &[&str], more: impl FnOnce(&mut CertificateParams)) -> Certificate {
    authority.sign(&[], |params| {
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, "Acme, Inc.");
        let uri = |uri: &&str| SanType::URI((*uri).try_into().unwrap());
        params.subject_alt_names.extend(uris.iter().map(uri));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        more(params);
    })
}

impl Gate {
    fn open() -> Self {
        Self::with(|launch| launch)
    }

    fn with(more: impl FnOnce(Launch) -> Launch) -> Self {
        let (own, machines, partners) = (Authority::new(), Authority::new(), Authority::new());
        let (upstream, issuer) = (Upstream::http1(origin), Issuer::new());
        let certificate = own.server(&[NAME]);
        let yaml = fill(YAML, &[("upstream", &upstream.address()), ("issuer", &issuer.url())]);
        let launch = Gateway::with(&yaml)
            .file("own.pem", &certificate.chain)
            .file("own.key", &certificate.key)
            .file("clients.pem", &format!("{}{}", machines.pem(), partners.pem()))
            .file("machines.pem", &machines.pem())
            .file("partners.pem", &partners.pem());
        Self {
            gateway: more(launch).start(),
            upstream,
            issuer,
            own,
            machines,
            partners,
        }
    }

    fn client(&self, shown: Option<&Certificate>) -> TlsClient {
        TlsClient::new(self.gateway.address(), &self.own, shown)
    }

    fn acme(&self) -> Certificate {
        machine(&self.partners, "acme", &[ACME], |_| {})
    }
}

fn ask(client: &TlsClient, path: &str, headers: &[(&str, &str)]) -> (u16, Value, String) {
    send(client, "GET", path, headers)
}

/// The status, the body, and the challenge.
fn send(client: &TlsClient, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, Value, String) {
    let mut request = http::Request::builder()
        .method(method)
        .uri(format!("https://{NAME}{path}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = client.send(NAME, request.body(Bytes::new()).unwrap()).unwrap();
    let challenge = response.headers().get("www-authenticate");
    let challenge = challenge.map_or("", |value| value.to_str().unwrap()).to_owned();
    let body = serde_json::from_slice(response.body()).unwrap();
    (response.status().as_u16(), body, challenge)
}

fn code(client: &TlsClient, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
    let (status, body, _) = ask(client, path, headers);
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

const CHALLENGE: &str = "ClientCertificate realm=\"gwanmun\"";

#[test]
fn knows_callers_by_their_certificates_in_both_versions_of_http() {
    let gate = Gate::open();
    let acme = gate.acme();
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let client = gate.client(Some(&acme)).offering(protocols);
        assert_eq!(ask(&client, "/partners", &[]).1["user"], ACME);
        for path in ["/ruled", "/scoped"] {
            assert_eq!(ask(&client, path, &[]).0, 200, "{path}");
        }
        assert_eq!(code(&client, "/barred", &[]), (403, "scope-missing".into()));
    }
    let robot = machine(&gate.machines, "robot", &[], |_| {});
    let client = gate.client(Some(&robot));
    for path in ["/machines", "/either"] {
        assert_eq!(ask(&client, path, &[]).1["user"], r"O=Acme\, Inc.,CN=robot", "{path}");
    }
    assert_eq!(ask(&gate.client(Some(&acme)), "/either", &[]).1["user"], ACME);
    let records = gate.gateway.records(1);
    let principal = &records[0]["principal"];
    assert_eq!(principal["authenticator"], "partners");
    assert_eq!(records[0]["credential"], "certificate");
}

#[test]
fn refuses_whom_the_certificate_does_not_prove() {
    let gate = Gate::open();
    let nothing = gate.client(None);
    assert_eq!(ask(&nothing, "/partners", &[]).2, CHALLENGE);
    assert_eq!(code(&nothing, "/partners", &[]), (401, "certificate-missing".into()));
    for (shown, path, expected) in [
        // Each authenticator has authorities of its own, whoever may come in.
        (
            machine(&gate.machines, "acme", &[ACME], |_| {}),
            "/partners",
            "certificate-untrusted",
        ),
        (gate.acme(), "/machines", "certificate-untrusted"),
        (
            machine(&gate.partners, "x", &["spiffe://other.example/x"], |_| {}),
            "/partners",
            "certificate-unknown",
        ),
        (
            machine(&gate.partners, "x", &[], |_| {}),
            "/partners",
            "certificate-unknown",
        ),
        (
            machine(&gate.partners, ACME, &[], |_| {}),
            "/partners",
            "certificate-unknown",
        ),
        (
            gate.partners.client("spiffe.acme.example"),
            "/partners",
            "certificate-unknown",
        ),
        // Which of the two is meant nobody could say.
        (
            machine(&gate.partners, "x", &[ACME, "spiffe://idle.example/nothing"], |_| {}),
            "/partners",
            "certificate-unknown",
        ),
    ] {
        let client = gate.client(Some(&shown));
        let (status, body, challenge) = ask(&client, path, &[]);
        assert_eq!(
            (status, &body["code"], challenge.as_str()),
            (401, &json!(expected), CHALLENGE)
        );
    }
    assert_eq!(gate.upstream.count(), 0);
}

#[test]
fn what_was_shown_and_cannot_be_read_is_nobody_and_not_anybody() {
    let gate = Gate::open();
    let odd = machine(&gate.partners, "acme", &[], |params| {
        let names = vec![0x30, 0x04, 0x82, 0x02, 0xff, 0xfe];
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], names)];
    });
    let client = gate.client(Some(&odd));
    for path in ["/partners", "/machines", "/first", "/last"] {
        assert_eq!(
            code(&client, path, &[]),
            (401, "certificate-unreadable".into()),
            "{path}"
        );
    }
    assert_eq!(gate.upstream.count(), 0);
    let bound = gate.issuer.token(&json!({ "cnf": { "x5t#S256": thumbprint(&odd) } }));
    let with = [("authorization", format!("Bearer {bound}"))];
    let with = with.each_ref().map(|(name, value)| (*name, value.as_str()));
    assert_eq!(ask(&client, "/customer", &with).1["user"], "u1");
}

#[test]
fn knows_callers_whose_certificates_never_end() {
    let gate = Gate::open();
    let device = machine(&gate.partners, "acme", &[ACME], |params| {
        params.not_after = date_time_ymd(9999, 12, 31);
    });
    assert_eq!(ask(&gate.client(Some(&device)), "/partners", &[]).1["user"], ACME);
}

#[test]
fn a_socket_ends_with_the_first_of_the_chain() {
    const LIVE: &str = "
listen:
  - address: 127.0.0.1:0
    tls: { certificate: own.pem, key: own.key, clients: { authorities: partners.pem } }
upstreams:
  live: { endpoints: [$endpoint] }
authenticators:
  partners: { client_certificate: { authorities: partners.pem } }
routes:
  live: { match: GET /live, auth: partners, websocket: true, upstream: live }
";
    let (own, partners) = (Authority::new(), Authority::new());
    let between = partners.between(|params| params.not_after = date_time_ymd(2035, 1, 1));
    let mut shown = between.client("partner");
    shown.chain.push_str(&between.pem());
    let server = own.server(&[NAME]);
    let gateway = Gateway::with(&fill(LIVE, &[("endpoint", &Endpoint::echo().address)]))
        .file("own.pem", &server.chain)
        .file("own.key", &server.key)
        .file("partners.pem", &partners.pem())
        .rehearse_at("2026-11-24T12:00:00+09:00")
        .start();
    let client = TlsClient::new(gateway.address(), &own, Some(&shown)).offering(&["http/1.1"]);
    let open = format!(
        "GET /live HTTP/1.1\r\nHost: {NAME}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: {KEY}\r\nGwanmun-At: 2034-12-31T23:59:58Z\r\n\r\n"
    );
    let mut socket = client.connect(NAME).unwrap();
    let heard = talk(&mut socket, open.as_bytes(), b"certificate-expired");
    let heard = String::from_utf8_lossy(&heard);
    assert!(heard.starts_with("HTTP/1.1 101 "), "{heard}");
    assert!(heard.ends_with("certificate-expired"), "{heard}");
}

#[test]
fn believes_no_header() {
    let gate = Gate::open();
    let acme = gate.acme();
    let pem = acme.chain.replace('\n', "%0A");
    let by = format!("By=x;Hash=y;URI={ACME}");
    for header in [
        "x-client-cert",
        "x-forwarded-client-cert",
        "client-cert",
        "x-ssl-client-cert",
        "ssl-client-cert",
    ] {
        for value in [&pem, &by] {
            let client = gate.client(None);
            assert_eq!(code(&client, "/partners", &[(header, value)]).1, "certificate-missing");
        }
    }
    assert_eq!(gate.upstream.count(), 0);
}

#[test]
fn a_certificate_that_has_run_out_proves_nobody_on_an_open_connection() {
    let gate = Gate::with(|launch| launch.rehearse_at("2026-11-24T12:00:00+09:00"));
    let short = machine(&gate.partners, "acme", &[ACME], |params| {
        (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2035, 1, 1));
    });
    let client = gate.client(Some(&short));
    let at = |instant: &str| code(&client, "/partners", &[("gwanmun-at", instant)]);
    assert_eq!(at("2034-12-31T23:59:59Z").0, 200);
    assert_eq!(at("2035-01-01T00:00:00Z").0, 200);
    assert_eq!(at("2035-01-01T00:00:01Z"), (401, "certificate-expired".into()));
    assert_eq!(at("2025-01-01T00:00:00Z").0, 200);
    assert_eq!(at("2024-12-31T23:59:59Z"), (401, "certificate-not-yet-valid".into()));
}

#[test]
fn a_resumed_connection_is_still_the_callers() {
    let gate = Gate::open();
    // The same client throughout: it keeps the tickets it is given.
    let client = gate.client(Some(&gate.acme()));
    for _ in 0..4 {
        assert_eq!(ask(&client, "/partners", &[]).1["user"], ACME);
    }
}

#[test]
fn counts_by_the_order_of_the_route() {
    let gate = Gate::open();
    let acme = gate.acme();
    let bearer = format!("Bearer {}", gate.issuer.token(&json!({})));
    let with = [("authorization", bearer.as_str())];
    let bad = [("authorization", "Bearer a.b.c")];
    let (shown, hidden) = (gate.client(Some(&acme)), gate.client(None));
    let user = |client: &TlsClient, path: &str, headers: &[(&str, &str)]| ask(client, path, headers).1["user"].clone();
    assert_eq!(user(&shown, "/first", &[]), ACME);
    assert_eq!(user(&shown, "/first", &with), ACME);
    assert_eq!(user(&shown, "/first", &bad), ACME);
    assert_eq!(user(&hidden, "/first", &with), "u1");
    assert_eq!(user(&hidden, "/first", &[]), Value::Null);
    assert_eq!(user(&shown, "/last", &[]), ACME);
    assert_eq!(user(&shown, "/last", &with), "u1");
    assert_eq!(code(&shown, "/last", &bad), (401, "token-malformed".into()));
    // A token that nobody looked at goes nowhere; one that counted does.
    assert_eq!(ask(&shown, "/first", &with).1["authorization"], Value::Null);
    assert_eq!(ask(&shown, "/last", &with).1["authorization"], bearer.as_str());
    // A certificate of somebody else's is refused, whoever else might be taken.
    let stranger = gate.client(Some(&machine(&gate.partners, "x", &[], |_| {})));
    assert_eq!(code(&stranger, "/first", &[]), (401, "certificate-unknown".into()));
    assert_eq!(code(&stranger, "/customer", &with).0, 200);
    // What is asked for where nothing is there.
    let three = "Bearer realm=\"gwanmun\", ApiKey realm=\"gwanmun\", ClientCertificate realm=\"gwanmun\"";
    assert_eq!(ask(&hidden, "/any", &[]).2, three);
    // Nobody reads it there.
    assert_eq!(code(&shown, "/partners", &with), (401, "credential-unreadable".into()));
}

#[test]
fn a_browser_that_another_site_makes_send_something_proves_nothing() {
    let gate = Gate::open();
    let client = gate.client(Some(&gate.acme()));
    let from = |site: &str| send(&client, "POST", "/partners", &[("sec-fetch-site", site)]);
    assert_eq!(from("cross-site").1["code"], "cross-site");
    assert_eq!((from("cross-site").0, from("same-origin").0), (403, 200));
    assert_eq!(send(&client, "POST", "/partners", &[]).0, 200);
    assert_eq!(ask(&client, "/partners", &[("sec-fetch-site", "cross-site")]).0, 200);
}

fn thumbprint(certificate: &Certificate) -> String {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;
    let der = CertificateDer::from_pem_slice(certificate.chain.as_bytes()).unwrap();
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, &der))
}

#[test]
fn a_bound_token_is_good_over_its_own_connection_alone() {
    let gate = Gate::open();
    let (acme, other) = (gate.acme(), gate.acme());
    let token = |cnf: Value| format!("Bearer {}", gate.issuer.token(&json!({ "cnf": cnf })));
    let bound = token(json!({ "x5t#S256": thumbprint(&acme) }));
    let challenge = "Bearer realm=\"gwanmun\", error=\"invalid_token\"";
    // Verified, then remembered.
    for _ in 0..2 {
        let with = [("authorization", bound.as_str())];
        assert_eq!(ask(&gate.client(Some(&acme)), "/customer", &with).1["user"], "u1");
        for client in [gate.client(None), gate.client(Some(&other))] {
            let (status, body, said) = ask(&client, "/customer", &with);
            assert_eq!(
                (status, &body["code"], said.as_str()),
                (401, &json!("token-bound"), challenge)
            );
        }
    }
    for cnf in [
        json!({ "jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I" }),
        json!({ "x5t#S256": thumbprint(&acme), "jkt": "x" }),
        json!({ "x5t#S256": null }),
        json!({ "x5t": thumbprint(&acme) }),
        json!({}),
        json!(thumbprint(&acme)),
    ] {
        let with = token(cnf.clone());
        let found = code(&gate.client(Some(&acme)), "/customer", &[("authorization", &with)]);
        assert_eq!(found, (401, "token-type".into()), "{cnf}");
    }
}

#[test]
fn inner_routes_know_the_caller_too_and_share_nothing() {
    let gate = Gate::open();
    for _ in 0..3 {
        let (shown, hidden) = (gate.client(Some(&gate.acme())), gate.client(None));
        assert_eq!(ask(&shown, "/whole", &[]).1["part"]["user"], ACME);
        assert_eq!(ask(&hidden, "/whole", &[]).1["part"], "nobody");
    }
}

#[test]
fn follows_who_signs_on_open_connections() {
    let gate = Gate::open();
    let acme = gate.acme();
    let client = gate.client(Some(&acme));
    assert_eq!(ask(&client, "/partners", &[]).0, 200);
    // The listener still lets them in.
    assert!(gate.gateway.reload_beside("partners.pem", &Authority::new().pem()));
    assert_eq!(code(&client, "/partners", &[]), (401, "certificate-untrusted".into()));
}

#[test]
fn curl_is_known_by_its_certificate() {
    let gate = Gate::open();
    let acme = gate.acme();
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("ca.pem", gate.own.pem()),
        ("acme.pem", acme.chain),
        ("acme.key", acme.key),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let address = gate.gateway.address();
    let curl = |more: &[&str]| {
        let output = Command::new("curl")
            .current_dir(folder.path())
            .args([
                "--silent",
                "--cacert",
                "ca.pem",
                "--write-out",
                " %{http_code} %{http_version}",
            ])
            .args(["--connect-to", &format!("{NAME}:443:{address}")])
            .args(more)
            .arg(format!("https://{NAME}/partners"))
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let known = curl(&["--cert", "acme.pem", "--key", "acme.key"]);
    assert!(known.contains(ACME) && known.ends_with(" 200 2"), "{known}");
    let known = curl(&[
        "--http1.1",
        "--tls-max",
        "1.2",
        "--cert",
        "acme.pem",
        "--key",
        "acme.key",
    ]);
    assert!(known.contains(ACME) && known.ends_with(" 200 1.1"), "{known}");
    let unknown = curl(&[]);
    assert!(
        unknown.contains("certificate-missing") && unknown.ends_with(" 401 2"),
        "{unknown}"
    );
}

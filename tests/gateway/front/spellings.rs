//! No spelling of a protected path reaches the upstream without a credential, however the upstream may read it.

use serde_json::json;

use crate::support::{Gateway, Issuer, Recorder, fill};

const GUARDED: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
routes:
  admin:  { match: 'GET /admin/{rest...}', auth: customer, upstream: origin }
  root:   { match: 'GET /admin', auth: customer, upstream: origin }
  public: { match: 'GET /public/{rest...}', auth: none, upstream: origin }
  other:  { match: { host: other.example, path: '/{rest...}' }, auth: none, upstream: origin }
";

/// The target after the method, and header lines besides `Host: gate.example`.
const SPELLINGS: &[&str] = &[
    "/admin/keys",
    "/admin/",
    "/admin",
    "/admin?",
    "/admin?x=/public/",
    "/admin/keys?public",
    "//admin/keys",
    "///admin//keys",
    "/admin//keys",
    "/%61dmin/keys",
    "/%61%64%6d%69%6e/keys",
    "/%61%64%6D%69%6E/%6b%65%79%73",
    "/adm%69n/keys",
    "/%2561dmin/keys",
    "/%252561dmin/keys",
    "/ADMIN/keys",
    "/Admin/keys",
    "/%41DMIN/keys",
    "/admin;x=y/keys",
    "/admin;/keys",
    "/admin/keys;x",
    "/;x/admin/keys",
    "/admin%3b/keys",
    "/admin%2fkeys",
    "/admin%2Fkeys",
    "/admin%252fkeys",
    "/%2fadmin/keys",
    "/admin%5ckeys",
    "/admin\\keys",
    "\\admin\\keys",
    "/\\admin/keys",
    "/public/../admin/keys",
    "/public/%2e%2e/admin/keys",
    "/public/%2E%2E/admin/keys",
    "/public/.%2e/admin/keys",
    "/public/%2e./admin/keys",
    "/public/%252e%252e/admin/keys",
    "/public/%25252e%25252e/admin/keys",
    "/public/%252e./admin/keys",
    "/public/..;/admin/keys",
    "/public/..;x=y/admin/keys",
    "/public/..%3b/admin/keys",
    "/public/%2e%2e;/admin/keys",
    "/public/..%2fadmin/keys",
    "/public/%2e%2e%2fadmin%2fkeys",
    "/public/..%252fadmin/keys",
    "/public%2f..%2fadmin/keys",
    "/public/..%5cadmin/keys",
    "/public/..\\admin\\keys",
    "/public\\..\\admin\\keys",
    "/public/./../admin/keys",
    "/public/x/../../admin/keys",
    "/public//../admin/keys",
    "/public/..//admin/keys",
    "/./admin/keys",
    "/%2e/admin/keys",
    "/../admin/keys",
    "/..;/admin/keys",
    "/public/%c0%ae%c0%ae/admin/keys",
    "/public/%c0%ae%c0%ae%c0%afadmin/keys",
    "/public/%e0%80%ae%e0%80%ae/admin/keys",
    "/public/%uff0e%uff0e/admin/keys",
    "/public/%u002e%u002e/admin/keys",
    "/public/\u{ff0e}\u{ff0e}/admin/keys",
    "/admin%00/keys",
    "/admin/keys%00.html",
    "/public/x%00/../../admin/keys",
    "/admin%20/keys",
    "/admin%09/keys",
    "/admin%0a/keys",
    "/admin./keys",
    "/admin%2e/keys",
    "/public#/admin/keys",
    "/admin/keys#/public/",
    "/admin/keys%23/public",
    "/admin/keys%3f/public",
    "http://gate.example/admin/keys",
    "http://gate.example//admin/keys",
    "http://gate.example:80/admin/keys",
    "http://GATE.example./admin/keys",
    "https://gate.example/admin/keys",
    "http://gate.example/public/../admin/keys",
    "http://other.example/admin/keys",
    "http://public@gate.example/admin/keys",
    "http://gate.example?/admin/keys",
    "http:/admin/keys",
    "//gate.example/admin/keys",
    "//other.example/admin/keys",
    "admin/keys",
    "*/admin/keys",
    "/admin/keys HTTP/1.1\r\nHost: other.example",
    "/admin/keys HTTP/1.1\r\nX-Forwarded-Host: other.example",
    "/admin/keys HTTP/1.1\r\nX-Original-URL: /public/x",
    "/admin/keys HTTP/1.1\r\nX-HTTP-Method-Override: GET",
    "/public/x HTTP/1.1\r\nX-Original-URL: /admin/keys\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
];

/// Where the most lenient of servers would say that a target leads: whatever can be cut off or decoded, is.
fn leads_to(target: &str) -> String {
    let mut path = target.split(['?', '#']).next().unwrap_or_default().to_lowercase();
    loop {
        let decoded: String = percent_decode(&path);
        let decoded = decoded.replace('\\', "/");
        if decoded == path {
            break;
        }
        path = decoded;
    }
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment
            .split([';', '\0'])
            .next()
            .unwrap_or_default()
            .trim()
            .trim_end_matches(' ')
        {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let escaped = bytes
            .get(at + 1..at + 3)
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                out.push(byte);
                at += 3;
            }
            _ => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    // The overlong forms of a dot and a slash, which broken decoders take for these.
    let text: String = out.iter().map(|byte| char::from(*byte)).collect();
    let text = text
        .replace("\u{c0}\u{ae}", ".")
        .replace("\u{c0}\u{af}", "/")
        .replace("\u{e0}\u{80}\u{ae}", ".");
    text.to_lowercase()
}

#[test]
fn no_spelling_of_a_protected_path_gets_by_without_a_credential() {
    assert!(SPELLINGS.len() >= 60);
    let (recorder, issuer) = (Recorder::start(), Issuer::new());
    let yaml = fill(
        GUARDED,
        &[
            ("upstream", &recorder.address()),
            ("authenticators", &issuer.authenticator()),
        ],
    );
    let gateway = Gateway::start(&yaml);
    let mut through = Vec::new();
    for spelling in SPELLINGS {
        for host in [
            "gate.example",
            "GATE.EXAMPLE.",
            "gate.example:80",
            "u@other.example",
            "other.example, gate.example",
        ] {
            let request = match spelling.split_once(" HTTP/1.1\r\n") {
                None => format!("GET {spelling} HTTP/1.1\r\nHost: {host}\r\n\r\n"),
                Some((target, more)) => format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n\r\n"),
            };
            let mut connection = gateway.connect();
            connection.send(request.as_bytes());
            let status = connection
                .response_or_close("GET")
                .map_or(0, |response| response.status);
            assert!(
                status == 200 || (400..500).contains(&status),
                "{request:?} gave {status}"
            );
            for came in recorder.requests() {
                if leads_to(&came.target).starts_with("/admin") {
                    through.push(format!("{request:?} came through as {:?}", came.line()));
                }
            }
        }
    }
    assert!(through.is_empty(), "{}", through.join("\n"));
    // The door is no wall: with a credential it opens, and the upstream sees the one spelling.
    let token = issuer.token(&json!({}));
    for spelling in ["/admin/keys", "//%61dmin///k%65ys", "http://gate.example/admin/keys"] {
        gateway.get(spelling).bearer(&token).send().expect(200);
        let came = recorder.requests();
        assert_eq!(came.len(), 1);
        assert_eq!(came[0].target, "/admin/keys", "{spelling}");
    }
    gateway.get("/public/x").send().expect(200);
}

#[test]
fn knows_where_lenient_servers_would_go() {
    for (target, place) in [
        ("/public/%252e%252e/Admin;x/keys?y", "/admin/keys"),
        ("/public/%c0%ae%c0%ae%c0%afadmin", "/admin"),
        ("/public/..%5cadmin", "/admin"),
        ("/admin%20/x", "/admin/x"),
        ("/public/x", "/public/x"),
    ] {
        assert_eq!(leads_to(target), place);
    }
}

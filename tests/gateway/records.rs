//! One record for each request, with what was decided and nothing that is secret.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Reply, Upstream, eventually, guarded};

const BANK: &str = "
upstreams:
  bank: { endpoints: [$upstream] }
$authenticators
clients:
  ios: { header: { x-client: ios } }
  web: { default: true }
policies:
  staff-only: { require: { roles: [teller] } }
limits:
  once: { key: principal.sub, rate: 1/m, burst: 1 }
routes:
  balance:
    match: GET /customers/{customer}/balance
    auth: customer
    scopes: [read]
    limits: [once]
    upstream: bank
  ticket:
    match: GET /tickets/{ticket}
    auth: customer
    policies: [staff-only]
    upstream: bank
  status:
    match: GET /status
    auth: none
    reply: { status: 200, json: { open: true } }
  product:
    match: GET /products/{id}
    auth: none
    upstream: bank
    cache: { ttl: 30s, share: public }
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

impl Bank {
    fn open(more: &str) -> Self {
        let upstream = Upstream::http1(|_| Reply::text("done"));
        let issuer = Issuer::new();
        let yaml = guarded(BANK, &upstream, &issuer);
        Self {
            gateway: Gateway::start(&format!("{yaml}{more}")),
            issuer,
            upstream,
        }
    }
}

#[test]
fn says_who_asked_for_what_and_what_was_decided() {
    let bank = Bank::open("");
    let token = bank
        .issuer
        .token(&json!({"scope": "read write", "roles": ["teller"], "jti": "t-1"}));
    bank.gateway
        .get("/customers/c%201/balance?secret=1")
        .bearer(&token)
        .header("x-client", "ios")
        .send()
        .expect(200);
    let upstream = bank.upstream.address().to_string();
    let issuer = bank.issuer.url();
    let record = bank.gateway.stop().remove(0);

    for (member, expected) in [
        ("v", json!(1)),
        ("route", json!("balance")),
        ("method", json!("GET")),
        ("host", json!("gate.example")),
        ("template", json!("/customers/{customer}/balance")),
        ("params", json!({"customer": "c%201"})),
        ("address", json!("127.0.0.1")),
        ("client", json!("ios")),
        ("status", json!(200)),
    ] {
        assert_eq!(record[member], expected, "{member} in {record}");
    }
    assert!(record["path"].is_null(), "{record}");
    assert!(record["n"].is_u64() && record["duration_ms"].is_number(), "{record}");
    assert!(record["id"].as_str().is_some_and(|id| id.len() >= 16), "{record}");
    assert_eq!(record["config"].as_str().map(str::is_empty), Some(false), "{record}");
    record["at"]
        .as_str()
        .and_then(|at| at.parse::<jiff::Timestamp>().ok())
        .expect("an instant in RFC 3339");
    assert!(
        matches!(&record["rehearsal"], Value::Null | Value::Bool(false)),
        "{record}"
    );

    assert_eq!(record["decision"]["effect"], "allow");
    let principal = &record["principal"];
    for (member, expected) in [
        ("authenticator", json!("customer")),
        ("issuer", json!(issuer)),
        ("sub", json!("u1")),
        ("scopes", json!(["read", "write"])),
        ("roles", json!(["teller"])),
        ("jti", json!("t-1")),
    ] {
        assert_eq!(principal[member], expected, "{member} in {principal}");
    }
    assert_eq!(
        (&record["upstream"]["name"], &record["upstream"]["endpoint"]),
        (&json!("bank"), &json!(upstream))
    );
    assert!(
        record["upstream"]["ms"].is_number() && record["upstream"]["tries"] == 1,
        "{record}"
    );
    assert!(record["answers"].to_string().contains("once"), "{record}");
}

#[test]
fn keeps_no_credential_and_no_raw_query() {
    let bank = Bank::open("");
    let token = bank
        .issuer
        .token(&json!({"scope": "read", "email": "kim@bank.example"}));
    bank.gateway
        .get("/customers/c1/balance?card=4111111111111111")
        .bearer(&token)
        .header("cookie", "session=hunter2")
        .send()
        .expect(200);
    bank.gateway
        .get("/status")
        .header("authorization", "Basic aHVudGVyMg==")
        .send();
    bank.gateway
        .get("/customers/c1/balance")
        .bearer(&format!("{token}x"))
        .send();
    let folder = bank.gateway.records_folder();
    bank.gateway.records(3);
    let written: String = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let signature = token.rsplit('.').next().unwrap();
    for secret in [signature, "411111111111", "hunter2", "aHVudGVyMg", "kim@bank.example"] {
        assert!(!written.contains(secret), "{secret} is in the records");
        assert!(!bank.gateway.log().contains(secret), "{secret} is in the log");
    }
}

#[test]
fn leaves_one_record_for_each_request_whatever_became_of_it() {
    let bank = Bank::open("");
    let (good, scopeless) = (
        bank.issuer.token(&json!({"scope": "read"})),
        bank.issuer.token(&json!({})),
    );
    let expired = bank.issuer.token(&json!({"exp": 1_700_000_000}));
    let get = |target: &str| bank.gateway.get(target);
    let requests = [
        (get("/status"), 200, "allow", Value::Null),
        (get("/customers/c1/balance"), 401, "challenge", json!("token-missing")),
        (
            get("/customers/c1/balance").bearer(&expired),
            401,
            "challenge",
            json!("token-expired"),
        ),
        (
            get("/customers/c1/balance").bearer(&scopeless),
            403,
            "deny",
            json!("scope-missing"),
        ),
        (get("/tickets/7").bearer(&good), 403, "deny", json!("denied")),
        (get("/customers/c1/balance").bearer(&good), 200, "allow", Value::Null),
        (
            get("/customers/c1/balance").bearer(&good),
            429,
            "throttle",
            json!("limit-exceeded"),
        ),
        (get("/nowhere"), 404, "deny", json!("route-not-found")),
        (
            bank.gateway.request("DELETE", "/status"),
            405,
            "deny",
            json!("method-not-allowed"),
        ),
        (get("/a/../status"), 400, "deny", json!("path-invalid")),
        (get("/products/1"), 200, "allow", Value::Null),
        (get("/products/1"), 200, "allow", Value::Null),
        (bank.gateway.request("HEAD", "/status"), 200, "allow", Value::Null),
    ];
    let mut ids = Vec::new();
    for (request, status, ..) in &requests {
        let response = request.send();
        assert_eq!(response.status, *status, "{}", response.summary());
        ids.push((*status >= 400).then(|| response.json()["request_id"].as_str().unwrap_or_default().to_owned()));
    }
    let mut records = bank.gateway.stop();
    assert_eq!(records.len(), requests.len());
    // A record is written when its request is done, which the next one need not wait for.
    records.sort_by_key(|record| record["at"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok()));
    for ((record, (_, status, effect, code)), id) in records.iter().zip(&requests).zip(&ids) {
        assert_eq!(record["status"], *status, "{record}");
        assert_eq!(record["decision"]["effect"], *effect, "{record}");
        assert_eq!(record["decision"].get("code").unwrap_or(&Value::Null), code, "{record}");
        if let Some(id) = id {
            assert_eq!(record["id"], *id, "{record}");
        }
    }
    let by_path: Vec<&Value> = records.iter().filter(|record| record["route"].is_null()).collect();
    assert!(by_path.iter().any(|record| record["path"] == "/nowhere"), "{by_path:?}");
    assert_eq!(records[4]["decision"]["rule"], "staff-only", "{}", records[4]);
    assert!(
        !records[2]["principal"].is_object(),
        "an expired token proves nobody: {}",
        records[2]
    );
    assert_eq!(
        (&records[10]["cache"], &records[11]["cache"]),
        (&json!("miss"), &json!("hit"))
    );
    let mut numbers: Vec<u64> = records.iter().filter_map(|record| record["n"].as_u64()).collect();
    numbers.dedup();
    assert_eq!(numbers.len(), requests.len());
}

#[test]
fn gives_the_upstream_the_id_it_records() {
    let bank = Bank::open("");
    bank.gateway
        .get("/products/1")
        .header("x-request-id", "forged")
        .send()
        .expect(200);
    let seen = bank.upstream.only();
    let record = bank.gateway.stop().remove(0);
    assert_eq!(seen.header("x-request-id"), record["id"].as_str());
    assert_ne!(seen.header("x-request-id"), Some("forged"));
}

#[test]
fn writes_where_only_its_user_reads() {
    let bank = Bank::open("");
    bank.gateway.get("/status").send().expect(200);
    bank.gateway.records(1);
    for entry in std::fs::read_dir(bank.gateway.records_folder()).unwrap().flatten() {
        let mode = entry.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.path());
    }
}

#[test]
fn loses_no_record_between_files() {
    let bank = Bank::open("audit: { file: var/audit.jsonl, rotate: { size: 8KiB } }\n");
    for _ in 0..200 {
        bank.gateway.get("/status").send().expect(200);
    }
    let files = || {
        std::fs::read_dir(bank.gateway.records_folder())
            .unwrap()
            .flatten()
            .collect::<Vec<_>>()
    };
    bank.gateway.records(200);
    assert!(files().len() >= 3, "{:?}", files());
    for file in files() {
        // One record may be longer than what was left.
        assert!(file.metadata().unwrap().len() <= 16 * 1024, "{file:?}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(bank.gateway.stop().len(), 200);
}

#[test]
fn begins_a_new_file_when_the_old_one_was_moved_away() {
    let bank = Bank::open("");
    bank.gateway.get("/status").send().expect(200);
    bank.gateway.records(1);
    let file = bank.gateway.records_folder().join("audit.jsonl");
    std::fs::rename(&file, file.with_extension("old")).unwrap();
    bank.gateway.hang_up();
    eventually("a new file has begun", || {
        bank.gateway.get("/status").send().expect(200);
        file.exists().then_some(())
    });
}

#[test]
fn goes_on_where_it_ended_before() {
    let yaml = "
routes:
  status: { match: GET /status, auth: none, reply: { status: 200, json: { open: true } } }
";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    let yaml = format!("{yaml}audit: {{ file: '{}' }}\n", file.display());
    for _ in 0..2 {
        let gateway = Gateway::start(&yaml);
        gateway.get("/status").send().expect(200);
        gateway.stop();
    }
    let lines = std::fs::read_to_string(&file).unwrap();
    assert_eq!(lines.lines().count(), 2, "{lines}");
    for line in lines.lines() {
        serde_json::from_str::<Value>(line).expect("a whole record");
    }
}

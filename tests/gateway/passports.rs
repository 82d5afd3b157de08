//! What upstreams are shown instead of the caller's credential: believed by a library of others, renewed in time, and signed by
//! keys that change.

use std::collections::HashSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use jiff::Timestamp;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, SignatureAlgorithm};
use serde_json::{Value, json};

use crate::support::{Gateway, Issuer, Reply, Seen, Upstream, Verifier, fill, passport_in, refused_start};

const NOON: &str = "2026-11-24T12:00:00Z";

const BANK: &str = "
upstreams:
  accounts:  { endpoints: [$accounts] }
  transfers: { endpoints: [$transfers], protocol: http2 }
$authenticators
passport: { key: $key, issuer: https://gate.example }
routes:
  keys: { match: GET /.well-known/gwanmun-jwks.json, auth: none, reply: passport_keys }
  accounts:
    match: GET /accounts
    auth: customer
    forward: { authorization: passport, x-user: principal.sub }
    upstream: accounts
  transfer: { match: POST /transfers, auth: [customer, none], forward: { authorization: passport }, upstream: transfers }
  kept: { match: GET /kept, auth: customer, upstream: accounts }
  dashboard:
    match: GET /dashboard
    auth: customer
    forward: { authorization: passport }
    aggregate:
      balance: { get: 'accounts:/balance', required: true }
      recent:  { get: 'transfers:/recent', required: true }
";

fn pem(algorithm: &'static SignatureAlgorithm) -> String {
    KeyPair::generate_for(algorithm).expect("a key").serialize_pem()
}

struct Bank {
    accounts: Upstream,
    transfers: Upstream,
    issuer: Issuer,
}

impl Bank {
    fn new() -> Self {
        let answer = |_: &Seen| Reply::json(&json!({"done": true}));
        Self {
            accounts: Upstream::http1(answer),
            transfers: Upstream::http2(answer),
            issuer: Issuer::new(),
        }
    }

    /// With keys from these files, one or several.
    fn yaml(&self, files: &[&str]) -> String {
        let keys: Vec<String> = files.iter().map(|file| format!("'${{file:{file}}}'")).collect();
        let from = "      from: { header: authorization, cookie: t, query: access_token }\n";
        fill(
            BANK,
            &[
                ("accounts", &self.accounts.address()),
                ("transfers", &self.transfers.address()),
                ("authenticators", &(self.issuer.authenticator() + from)),
                ("key", &format!("[{}]", keys.join(", "))),
            ],
        )
    }
}

fn noon() -> Timestamp {
    NOON.parse().expect("an instant")
}

#[test]
fn an_upstream_learns_who_calls_and_never_sees_the_callers_credential() {
    let mut verifier = Verifier::start();
    for algorithm in [&PKCS_ED25519, &PKCS_ECDSA_P256_SHA256] {
        let bank = Bank::new();
        let gateway = Gateway::with(&bank.yaml(&["a.pem"]))
            .file("a.pem", &pem(algorithm))
            .rehearse_at(NOON)
            .start();
        let claims = json!({
            "sub": "u1", "scope": "accounts:read", "roles": ["teller"], "acr": "otp", "auth_time": noon().as_second() - 9,
        });
        let token = bank.issuer.token(&claims);
        gateway.get("/accounts").bearer(&token).at(NOON).send().expect(200);
        gateway
            .get("/accounts")
            .header("cookie", &format!("t={token}; u=1"))
            .at(NOON)
            .send()
            .expect(200);
        gateway
            .get(&format!("/accounts?access_token={token}&x=1"))
            .at(NOON)
            .send()
            .expect(200);
        gateway
            .post("/transfers")
            .bearer(&token)
            .at(NOON)
            .body("{}")
            .send()
            .expect(200);
        gateway.get("/dashboard").bearer(&token).at(NOON).send().expect(200);

        let (accounts, transfers) = (bank.accounts.seen(), bank.transfers.seen());
        assert_eq!((accounts.len(), transfers.len()), (4, 2));
        for seen in accounts.iter().chain(&transfers) {
            let shown = format!("{seen:?}");
            assert!(!shown.contains(&token), "{shown}");
        }
        for (audience, all) in [("accounts", &accounts), ("transfers", &transfers)] {
            // One for the token and the upstream, wherever the token stood.
            let passports: HashSet<String> = all.iter().map(passport_in).collect();
            assert_eq!(passports.len(), 1, "{audience}");
            let passport = passports.iter().next().unwrap();
            let (header, mut claims) = verifier
                .believe(passport, audience, &gateway, noon())
                .expect("a good passport");
            assert!(["EdDSA", "ES256"].iter().any(|known| header["alg"] == **known));
            assert!(claims.as_object_mut().unwrap().remove("jti").is_some());
            let now = noon().as_second();
            let expected = json!({
                "iss": "https://gate.example", "aud": audience, "iat": now, "exp": now + 60,
                "authenticator": "customer", "idp": bank.issuer.url(), "sub": "u1", "scope": "accounts:read",
                "roles": ["teller"], "acr": "otp", "auth_time": now - 9,
            });
            assert_eq!(claims, expected);
            let other = if audience == "accounts" {
                "transfers"
            } else {
                "accounts"
            };
            let refused = verifier.believe(passport, other, &gateway, noon()).unwrap_err();
            assert_eq!(refused, "ERR_JWT_CLAIM_VALIDATION_FAILED");
            let late = noon() + jiff::SignedDuration::from_secs(60);
            assert_eq!(
                verifier.believe(passport, audience, &gateway, late).unwrap_err(),
                "ERR_JWT_EXPIRED"
            );
        }
        // Nobody is known, and what somebody claims to be is not passed on.
        gateway.post("/transfers").at(NOON).body("{}").send().expect(200);
        assert_eq!(bank.transfers.last().header("authorization"), None);
        gateway
            .post("/transfers")
            .bearer("a.b.c")
            .at(NOON)
            .send()
            .expect_problem(401, "token-malformed");
        // Elsewhere the upstream sees what it saw before.
        gateway.get("/kept").bearer(&token).at(NOON).send().expect(200);
        assert_eq!(passport_in(&bank.accounts.last()), token);

        let log = gateway.log();
        assert!(!log.contains("eyJ") && !log.contains("PRIVATE"), "{log}");
        for record in gateway.stop() {
            assert!(!record.to_string().contains("eyJ"), "a token in a record");
        }
    }
}

#[test]
fn is_renewed_when_half_of_its_time_is_over_and_ends_with_the_token() {
    let bank = Bank::new();
    let gateway = Gateway::with(&bank.yaml(&["a.pem"]))
        .file("a.pem", &pem(&PKCS_ED25519))
        .rehearse_at(NOON)
        .start();
    let mut verifier = Verifier::start();
    let mut shown = |token: &str, seconds: i64| {
        let at = noon() + jiff::SignedDuration::from_secs(seconds);
        gateway
            .get("/accounts")
            .bearer(token)
            .at(&at.to_string())
            .send()
            .expect(200);
        let passport = passport_in(&bank.accounts.last());
        let (_, claims) = verifier
            .believe(&passport, "accounts", &gateway, at)
            .expect("a good passport");
        (passport, claims["exp"].as_i64().unwrap() - noon().as_second())
    };
    let token = bank.issuer.token(&json!({}));
    let first = shown(&token, 0);
    assert_eq!(first.1, 60);
    assert_eq!(shown(&token, 29), first);
    let second = shown(&token, 30);
    assert_eq!((second.0 == first.0, second.1), (false, 90));
    assert_eq!(shown(&token, 59), second);
    // However long it is good for itself.
    let short = bank.issuer.token(&json!({"exp": noon().as_second() + 40}));
    assert_eq!((shown(&short, 0).1, shown(&short, 39).1), (40, 40));
}

#[test]
fn keys_change_without_a_passport_that_nobody_believes() {
    let bank = Bank::new();
    let gateway = Gateway::with(&bank.yaml(&["a.pem"]))
        .file("a.pem", &pem(&PKCS_ED25519))
        .file("b.pem", &pem(&PKCS_ECDSA_P256_SHA256))
        .start();
    let mut verifier = Verifier::start();
    let held = bank.issuer.token(&json!({"sub": "held"}));
    let (done, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let flow = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let number = sent.fetch_add(1, Ordering::Relaxed);
                let token = bank.issuer.token(&json!({"sub": format!("u{number}")}));
                gateway.get("/accounts").bearer(&token).send().expect(200);
            }
        });
        // What was shown since the last look, with the key that signed each.
        let mut looked = 0;
        let mut look = |known: &[&str]| -> Vec<String> {
            let from = sent.load(Ordering::Relaxed);
            crate::support::eventually("requests go on", || {
                (sent.load(Ordering::Relaxed) > from + 3).then_some(())
            });
            gateway.get("/accounts").bearer(&held).send().expect(200);
            let seen = bank.accounts.seen();
            let passports: Vec<String> = seen[looked..].iter().map(passport_in).collect();
            looked = seen.len();
            let mut kids = Vec::new();
            for passport in &passports {
                // Those of a moment ago too: what verifies them is told for longer than it signs.
                match verifier.believe(passport, "accounts", &gateway, Timestamp::now()) {
                    Ok((header, _)) => kids.push(header["kid"].as_str().unwrap().to_owned()),
                    Err(why) => panic!("{why} under {known:?}"),
                }
            }
            kids.dedup();
            kids
        };
        let first = look(&["a"]);
        assert_eq!(first.len(), 1);
        assert!(gateway.reload(&bank.yaml(&["a.pem", "b.pem"])));
        assert_eq!(look(&["a", "b"]), first);
        assert!(gateway.reload(&bank.yaml(&["b.pem", "a.pem"])));
        let turned = look(&["b", "a"]);
        // Some by the old key until the change, then none.
        let second = turned.last().unwrap().clone();
        assert!(second != first[0] && turned.len() <= 2, "{turned:?}");
        let old = passport_in(&bank.accounts.seen()[0]);
        assert!(verifier_accepts(&gateway, &old));
        assert!(gateway.reload(&bank.yaml(&["b.pem"])));
        assert_eq!(look(&["b"]), std::slice::from_ref(&second));
        assert!(!verifier_accepts(&gateway, &old));
        // A key that changes in its file is another key, though nothing else of the configuration has changed.
        assert!(gateway.reload(&bank.yaml(&["b.pem", "a.pem"])));
        assert!(gateway.reload_beside("a.pem", &pem(&PKCS_ED25519)));
        assert_eq!(key_ids(&gateway).len(), 2);
        assert!(!key_ids(&gateway).contains(&first[0]));
        // What is no key changes nothing, and neither does one that is gone.
        assert!(!gateway.reload_beside("a.pem", "no key"));
        std::fs::remove_file(gateway.folder().join("a.pem")).unwrap();
        assert!(!gateway.hang_up());
        assert_eq!(key_ids(&gateway).len(), 2);
        gateway.get("/accounts").bearer(&held).send().expect(200);
        done.store(true, Ordering::Relaxed);
        flow.join().expect("every request was let through");
    });
}

fn verifier_accepts(gateway: &Gateway, passport: &str) -> bool {
    let told = Verifier::start().believe(passport, "accounts", gateway, Timestamp::now());
    match told.as_ref().map_err(String::as_str) {
        Ok(_) => true,
        Err("ERR_JWKS_NO_MATCHING_KEY") => false,
        Err(why) => panic!("{why}"),
    }
}

fn key_ids(gateway: &Gateway) -> Vec<String> {
    let response = gateway.get("/.well-known/gwanmun-jwks.json").send();
    assert_eq!(
        response.expect(200).header("content-type"),
        Some("application/jwk-set+json")
    );
    assert_eq!(response.header("cache-control"), Some("public, max-age=300"));
    let set: Value = serde_json::from_slice(&response.body).expect("JSON");
    let keys = set["keys"].as_array().expect("keys").iter();
    keys.map(|key| {
        assert!(key.get("d").is_none(), "a private key is told");
        key["kid"].as_str().expect("a name").to_owned()
    })
    .collect()
}

#[test]
fn does_not_start_without_its_key() {
    let bank = Bank::new();
    let yaml = format!("listen: [{{ address: 127.0.0.1:0 }}]\n{}", bank.yaml(&["a.pem"]));
    let output = refused_start(&yaml, &[]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot read") && said.contains("a.pem"), "{said}");
}

#[test]
fn explain_says_that_there_is_a_passport() {
    let bank = Bank::new();
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!("listen: [{{ address: 127.0.0.1:0 }}]\n{}", bank.yaml(&["a.pem"]));
    std::fs::write(folder.path().join("gwanmun.yaml"), yaml).unwrap();
    std::fs::write(folder.path().join("a.pem"), pem(&PKCS_ED25519)).unwrap();
    std::fs::write(folder.path().join("who.json"), r#"{"sub": "u1"}"#).unwrap();
    let explain = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gwanmun"));
        let output = command
            .current_dir(folder.path())
            .args(["explain", "gwanmun.yaml"])
            .args(arguments)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let said = explain(&["GET /accounts", "--as", "who.json"]);
    let line = "authorization: a passport of `u1` for the upstream, by `https://gate.example`, good for 60s";
    assert!(said.contains(line), "{said}");
    let said = explain(&["POST /transfers"]);
    assert!(
        said.contains("authorization: nothing, as nobody is known who could have a passport"),
        "{said}"
    );
}

//! Whose answers are whose: tokens of one subject with other rights, callers without a name, passports.

use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{KeyPair, PKCS_ED25519};
use serde_json::{Value, json};

use crate::support::{Gate, Gateway, Issuer, Reply, Upstream, guarded};

const RIGHTS: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
passport: { key: '%{file:a.pem}', issuer: https://gate.example }
routes:
  direct:
    match: GET /direct
    auth: customer
    aggregate: { part: { get: 'origin:/kept', cache: 1h } }
  dropped:
    match: GET /dropped
    auth: customer
    forward: { authorization: drop }
    aggregate: { part: { get: 'origin:/kept', cache: 1h } }
  told:
    match: GET /told
    auth: customer
    forward: { authorization: drop, x-roles: principal.roles }
    aggregate: { part: { get: 'origin:/kept', cache: 1h } }
  shown:
    match: GET /shown
    auth: customer
    forward: { authorization: passport }
    aggregate: { part: { get: 'origin:/kept', cache: 1h } }
  anybody:
    match: GET /anybody
    auth: none
    forward: { authorization: keep }
    aggregate: { part: { get: 'origin:/kept', cache: 1h } }
  outer:
    match: GET /outer
    auth: customer
    aggregate: { part: { get: /inner } }
  inner:
    match: GET /inner
    auth: customer
    cache: { ttl: 1h, share: principal }
    upstream: origin
  varying:
    match: GET /varying/{on}
    auth: customer
    aggregate: { part: { get: 'origin:/vary/{path.on}', cache: 1h } }
  now:
    match: GET /now
    auth: customer
    forward: { authorization: passport }
    aggregate: { part: { get: 'origin:/now' } }
";

struct Bank {
    gateway: Gateway,
    issuer: Issuer,
    upstream: Upstream,
}

/// A bank whose upstream numbers its answers.
fn open() -> Bank {
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::http1(move |seen| {
        let reply = Reply::json(&json!(asked.fetch_add(1, Ordering::SeqCst)));
        match seen.path().strip_prefix("/vary/") {
            Some("anything") => reply.header("vary", "*"),
            Some(name) => reply.header("vary", name),
            None => reply,
        }
    });
    let issuer = Issuer::new();
    let key = KeyPair::generate_for(&PKCS_ED25519).expect("a key").serialize_pem();
    let yaml = guarded(&RIGHTS.replace('%', "$"), &upstream, &issuer);
    let gateway = Gateway::with(&yaml).file("a.pem", &key).start();
    Bank {
        gateway,
        issuer,
        upstream,
    }
}

impl Bank {
    fn tokens(&self) -> [String; 2] {
        ["teller", "guest"].map(|role| self.issuer.token(&json!({"sub": "u1", "roles": [role], "scope": role})))
    }

    fn ask(&self, path: &str, token: &str) -> Value {
        let response = self.gateway.get(path).bearer(token).send();
        response.expect(200).json()["part"].clone()
    }
}

#[test]
fn gives_no_answer_of_one_token_to_another_of_the_same_subject() {
    let bank = open();
    let [teller, guest] = bank.tokens();
    for path in ["/direct", "/told", "/shown", "/outer"] {
        let (first, other) = (bank.ask(path, &teller), bank.ask(path, &guest));
        assert_ne!(first, other, "{path}");
        assert_eq!(
            (bank.ask(path, &teller), bank.ask(path, &guest)),
            (first, other),
            "{path}"
        );
    }
    // What was asked for without a word of either is the same for both, and was not asked for with a token.
    let first = bank.ask("/dropped", &teller);
    assert_eq!(bank.ask("/dropped", &guest), first);
    assert_eq!(bank.upstream.count(), 9);
}

#[test]
fn gives_what_was_asked_for_with_a_credential_to_nobody_without_it() {
    let bank = open();
    let ask = |token: Option<&str>| {
        let request = bank.gateway.get("/anybody");
        let response = match token {
            Some(token) => request.bearer(token).send(),
            None => request.send(),
        };
        let whose = response.expect(200).header("cache-control").unwrap_or_default();
        let whose = whose.split(',').next().unwrap_or_default().to_owned();
        (response.json()["part"].clone(), whose)
    };
    let (alice, bob, nobody) = (ask(Some("alice")), ask(Some("bob")), ask(None));
    assert!(alice.0 != bob.0 && bob.0 != nobody.0 && alice.0 != nobody.0);
    assert_eq!([&*alice.1, &*bob.1, &*nobody.1], ["private", "private", "public"]);
    assert_eq!((ask(Some("alice")).0, ask(None).0), (alice.0, nobody.0));
}

#[test]
fn shares_no_call_under_way_between_two_passports() {
    let bank = open();
    let (gate, tokens) = (Gate::closed(), bank.tokens());
    let held = gate.clone();
    bank.upstream
        .answer_with(move |_| Reply::json(&json!(1)).held_by(&held));
    std::thread::scope(|scope| {
        let callers = tokens.each_ref().map(|token| scope.spawn(|| bank.ask("/now", token)));
        bank.upstream.wait_for("/now", 2);
        gate.open();
        for caller in callers {
            caller.join().unwrap();
        }
    });
    assert_eq!(bank.upstream.count(), 2);
}

#[test]
fn keeps_nothing_that_varies_on_what_no_key_holds() {
    let bank = open();
    let [token, _] = bank.tokens();
    for (on, is_kept) in [
        ("authorization", true),
        ("accept-language", true),
        ("x-never-sent", true),
        ("x-request-id", false),
        ("traceparent", false),
        ("anything", false),
    ] {
        let path = format!("/varying/{on}");
        assert_eq!(bank.ask(&path, &token) == bank.ask(&path, &token), is_kept, "{on}");
    }
}

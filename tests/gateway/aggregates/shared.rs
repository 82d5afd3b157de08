//! Asked at one moment, asked before, asked again: who shares an answer with whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::json;

use super::{Bank, partial};
use crate::support::{Gate, Gateway, Issuer, Reply, Upstream, eventually, fill, guarded};

/// Waits until so many parts wait for an answer.
fn all_wait(bank: &Bank, parts: usize) {
    eventually(&format!("{parts} parts to wait"), || {
        let waiting = bank.gateway.metrics().value("gwanmun_part_calls_waiting", &[]);
        (waiting == Some(parts as f64)).then_some(())
    });
}

#[test]
fn asks_once_for_fifty_calls_of_one_caller() {
    let bank = Bank::open();
    let (first, last) = (Gate::closed(), Gate::closed());
    for (upstream, gate) in [
        (&bank.accounts, &first),
        (&bank.invest, &last),
        (&bank.transfers, &last),
    ] {
        let held = gate.clone();
        upstream.answer_with(move |_| Reply::json(&json!({"account_id": "a1"})).held_by(&held));
    }
    let token = bank.issuer.token(&json!({"sub": "u1"}));
    let request = bank.gateway.get("/dashboard").bearer(&token);
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..50).map(|_| scope.spawn(|| request.send())).collect();
        all_wait(&bank, 100);
        first.open();
        bank.transfers.wait_for("/transfers", 1);
        all_wait(&bank, 100);
        last.open();
        for caller in callers {
            assert_eq!(caller.join().unwrap().expect(200).header("gwanmun-partial"), None);
        }
    });
    assert_eq!(
        (bank.accounts.count(), bank.transfers.count(), bank.invest.count()),
        (1, 1, 1)
    );
}

#[test]
fn shares_nothing_between_two_callers() {
    let bank = Bank::open();
    let gate = Gate::closed();
    // Both come to the same account, whose transfers have the same address.
    let held = gate.clone();
    bank.accounts
        .answer_with(|_| Reply::json(&json!({"account_id": "same"})));
    bank.transfers
        .answer_with(move |_| Reply::json(&json!([])).held_by(&held));
    std::thread::scope(|scope| {
        let callers = ["u1", "u2"].map(|subject| scope.spawn(|| bank.dashboard_of(subject)));
        bank.transfers.wait_for("/transfers", 2);
        gate.open();
        for caller in callers {
            caller.join().unwrap().expect(200);
        }
    });
    assert_eq!(bank.transfers.count(), 2);
}

#[test]
fn goes_on_for_those_who_stay() {
    let bank = Bank::open();
    let gate = Gate::closed();
    let held = gate.clone();
    bank.accounts
        .answer_with(move |_| Reply::json(&json!({"account_id": "a1"})).held_by(&held));
    bank.invest.answer_with(|_| Reply::status(204));
    let token = bank.issuer.token(&json!({"sub": "u1"}));
    let request = bank.gateway.get("/dashboard").bearer(&token);
    let mut first = bank.gateway.connect();
    first.send(&request.bytes());
    bank.accounts.wait_for("/customers/u1/balance", 1);
    // For its investments it waits no more: the next to wait is the other caller.
    all_wait(&bank, 1);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| request.send());
        all_wait(&bank, 2);
        drop(first);
        // It is recorded when it is over.
        bank.gateway.records(1);
        gate.open();
        assert_eq!(second.join().unwrap().expect(200).header("gwanmun-partial"), None);
    });
    assert_eq!((bank.accounts.count(), bank.accounts.abandoned()), (1, 0));
}

#[test]
fn remembers_no_failure() {
    let bank = Bank::open();
    bank.invest.answer_with(|_| Reply::status(503));
    assert_eq!(partial(&bank.dashboard()).len(), 1);
    bank.invest.answer_with(super::investments);
    assert!(partial(&bank.dashboard()).is_empty());
}

const KEEPING: &str = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
routes:
  page:
    match: GET /page
    auth: customer
    aggregate:
      mine: { get: 'origin:/mine', cache: 1h }
      all:  { get: 'origin:/all?lang={query.lang}', cache: { ttl: 1h, share: public } }
      none: { get: 'origin:/none', cache: 1h }
";

#[test]
fn keeps_answers_for_the_same_caller_or_for_everybody() {
    let count = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    let upstream = Upstream::http1(move |seen| {
        let reply = Reply::json(&json!(counts.fetch_add(1, Ordering::SeqCst)));
        match seen.path() {
            "/none" => reply.header("cache-control", "no-store"),
            _ => reply,
        }
    });
    let issuer = Issuer::new();
    let gateway = Gateway::start(&guarded(KEEPING, &upstream, &issuer));
    let [u1, u2] = ["u1", "u2"].map(|subject| issuer.token(&json!({"sub": subject})));
    let ask = |token: &str, lang: &str| {
        let response = gateway.get(&format!("/page?lang={lang}")).bearer(token).send();
        response.expect(200).json()
    };
    let first = ask(&u1, "ko");
    let again = ask(&u1, "ko");
    assert_eq!((&first["mine"], &first["all"]), (&again["mine"], &again["all"]));
    assert_ne!(first["none"], again["none"], "the origin forbids it");
    let other = ask(&u2, "ko");
    assert_eq!(other["all"], first["all"]);
    assert_ne!(other["mine"], first["mine"]);
    assert_ne!(ask(&u1, "en")["all"], first["all"]);
    // What everybody is given was asked for without a word of who asked.
    for seen in upstream.seen() {
        assert_eq!(
            seen.path() == "/all",
            seen.header("authorization").is_none(),
            "{seen:?}"
        );
    }
}

#[test]
fn keeps_no_failure() {
    let upstream = Upstream::http1(|_| Reply::text("no JSON"));
    let issuer = Issuer::new();
    let gateway = Gateway::start(&guarded(KEEPING, &upstream, &issuer));
    let token = issuer.token(&json!({"sub": "u1"}));
    let ask = || gateway.get("/page?lang=ko").bearer(&token).send();
    assert_eq!(partial(&ask()).len(), 3);
    upstream.answer_with(|_| Reply::json(&json!(1)));
    assert!(partial(&ask()).is_empty());
}

#[test]
fn answers_304_while_nothing_has_changed() {
    let bank = Bank::open();
    let first = bank.dashboard();
    let tag = first.expect(200).header("etag").expect("a validator").to_owned();
    let again = |tag: &str| {
        let token = bank.issuer.token(&json!({"sub": "u1"}));
        bank.gateway
            .get("/dashboard")
            .bearer(&token)
            .header("if-none-match", tag)
            .send()
    };
    for known in [tag.clone(), format!("W/{tag}"), format!("\"x\", {tag}")] {
        let response = again(&known);
        assert_eq!(response.expect(304).header("etag"), Some(&*tag));
        assert!(response.body.is_empty());
        assert_eq!(response.header("cache-control"), Some("private, no-cache"));
    }
    bank.invest.answer_with(|_| Reply::json(&json!({"worth": 8})));
    let changed = again(&tag);
    assert_ne!(changed.expect(200).header("etag"), Some(&*tag));
    // What lacks something has no validator, and is never "not changed".
    bank.invest.answer_with(|_| Reply::status(500));
    let partial = again(&tag);
    assert_eq!(partial.expect(200).header("etag"), None);
    assert_eq!(again("*").status, 200);
}

#[test]
fn says_how_long_the_whole_is_good() {
    let yaml = "
upstreams:
  origin: { endpoints: [$origin] }
routes:
  page:
    match: GET /pages/{kind}
    auth: none
    aggregate:
      long: { get: 'origin:/long' }
      kind: { get: 'origin:/{path.kind}' }
";
    let origin = Upstream::http1(|seen| {
        let reply = Reply::json(&json!(1));
        match seen.path() {
            "/long" => reply.header("cache-control", "max-age=600"),
            "/short" => reply.header("cache-control", "public, max-age=60"),
            "/private" => reply.header("cache-control", "private, max-age=60"),
            "/never" => reply.header("cache-control", "no-store"),
            _ => reply,
        }
    });
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    for (kind, good) in [
        ("short", "public, max-age="),
        ("private", "private, max-age="),
        ("never", "no-store"),
        ("silent", "public, no-cache"),
    ] {
        let response = gateway.get(&format!("/pages/{kind}")).send();
        let said = response.expect(200).header("cache-control").unwrap_or_default();
        let left = said.strip_prefix(good).unwrap_or_else(|| panic!("{kind}: {said}"));
        // The shorter of the two, less the time since the origin sent it.
        assert!(left.is_empty() || left.parse::<u64>().unwrap() <= 60, "{kind}: {said}");
    }
}

#[test]
fn keeps_from_other_caches_what_depends_on_the_caller_or_the_moment() {
    let yaml = "
upstreams:
  origin: { endpoints: [$origin] }
calendars:
  seoul: { timezone: Asia/Seoul, windows: { day: [{ days: daily, hours: 00:00-12:00 }] } }
routes:
  plain:   { match: GET /plain, auth: none, aggregate: { a: { get: 'origin:/a' } } }
  address: { match: GET /address, auth: none, aggregate: { a: { get: 'origin:/a' }, b: { get: 'origin:/b', when: { ip: [127.0.0.1] } } } }
  network: { match: GET /network, auth: none, aggregate: { a: { get: 'origin:/a', when: { if: 'inNetwork(ip, \"127.0.0.0/8\")' } } } }
  window:  { match: GET /window, auth: none, aggregate: { a: { get: 'origin:/a' }, b: { get: 'origin:/b', when: { during: seoul.day } } } }
  clock:   { match: GET /clock, auth: none, aggregate: { a: { get: 'origin:/a' }, b: { get: 'origin:/b', when: { if: 'now < timestamp(\"2020-01-01T00:00:00Z\")' } } } }
";
    let origin = Upstream::http1(|_| Reply::json(&json!(1)).header("cache-control", "public, max-age=600"));
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    for (path, good) in [
        ("/plain", "public, max-age="),
        ("/address", "private, max-age="),
        ("/network", "private, max-age="),
        ("/window", "public, no-cache"),
        ("/clock", "public, no-cache"),
    ] {
        let response = gateway.get(path).send();
        let said = response.expect(200).header("cache-control").unwrap_or_default();
        assert!(said.starts_with(good), "{path}: {said}");
    }
}

#[test]
fn gives_nothing_that_was_kept_of_an_upstream_that_is_frozen() {
    let yaml = "
admin: { address: 127.0.0.1:0, token: '%{env:GWANMUN_ADMIN_TOKEN}' }
state: state
upstreams:
  origin: { endpoints: [$origin] }
routes:
  page: { match: GET /page, auth: none, aggregate: { part: { get: 'origin:/part', cache: 1h } } }
";
    let origin = Upstream::http1(|_| Reply::json(&json!(1)));
    let token = "0123456789abcdef0123456789abcdef-not-a-secret";
    let yaml = fill(yaml, &[("origin", &origin.address())]).replace('%', "$");
    let gateway = Gateway::with(&yaml).environment("GWANMUN_ADMIN_TOKEN", token).start();
    assert!(partial(&gateway.get("/page").send()).is_empty());
    let frozen = gateway.admin("PUT", "/freezes/origin").bearer(token).send();
    assert!(frozen.status < 300, "{}", frozen.summary());
    let response = gateway.get("/page").send();
    assert_eq!(partial(&response), [("part".to_owned(), "denied".to_owned())]);
}

#[test]
fn has_a_weak_validator_where_the_request_is_told_in_the_answer() {
    let yaml = "
upstreams:
  origin: { endpoints: [$origin] }
shapes: { told: { envelope: true } }
routes:
  page: { match: GET /page, auth: none, shape: told, aggregate: { part: { get: 'origin:/part' } } }
";
    let origin = Upstream::http1(|_| Reply::json(&json!(1)));
    let gateway = Gateway::start(&fill(yaml, &[("origin", &origin.address())]));
    let (first, second) = (gateway.get("/page").send(), gateway.get("/page").send());
    assert_ne!(first.text(), second.text());
    let tag = first.expect(200).header("etag").expect("a validator");
    assert!(tag.starts_with("W/\""), "{tag}");
    assert_eq!(second.header("etag"), Some(tag));
    gateway.get("/page").header("if-none-match", tag).send().expect(304);
}

#[test]
fn keeps_answers_as_long_as_each_part_says() {
    let count = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    let upstream = Upstream::http1(move |_| Reply::json(&json!(counts.fetch_add(1, Ordering::SeqCst))));
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
routes:
  long:  { match: GET /long, auth: none, aggregate: { n: { get: 'origin:/n', cache: { ttl: 1h, share: public } } } }
  short: { match: GET /short, auth: none, aggregate: { n: { get: 'origin:/n', cache: { ttl: 60s, share: public } } } }
";
    let gateway = Gateway::start(&fill(yaml, &[("upstream", &upstream.address())]));
    let ask = |path: &str| {
        let response = gateway.get(path).send();
        let control = response
            .expect(200)
            .header("cache-control")
            .unwrap_or_default()
            .to_owned();
        (response.json()["n"].clone(), control)
    };
    assert_eq!(ask("/long").0, 0);
    assert_eq!(ask("/long").0, 0);
    let (kept, control) = ask("/short");
    assert_eq!(kept, 1, "what another keeps for an hour is nothing to go by");
    assert!(!control.contains("max-age=35"), "{control}");
}

#[test]
fn forgets_what_was_kept_of_a_place_that_was_written_to() {
    let count = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&count);
    let upstream = Upstream::http1(move |_| Reply::json(&json!(counts.fetch_add(1, Ordering::SeqCst))));
    let yaml = "
upstreams:
  origin: { endpoints: [$upstream] }
$authenticators
routes:
  page: { match: GET /page, auth: customer, aggregate: { it: { get: /it }, other: { get: /other } } }
  it:
    match: { path: '/{which}', methods: [GET, POST] }
    auth: customer
    cache: { ttl: 1h, share: principal }
    upstream: origin
";
    let issuer = Issuer::new();
    let gateway = Gateway::start(&guarded(yaml, &upstream, &issuer));
    let token = issuer.token(&json!({"sub": "u1"}));
    let page = || gateway.get("/page").bearer(&token).send().expect(200).json();
    let first = page();
    assert_eq!(page(), first);
    gateway.post("/it").bearer(&token).send().expect(200);
    let second = page();
    assert_ne!(second["it"], first["it"]);
    assert_eq!(second["other"], first["other"]);
    assert_eq!(page(), second);
}

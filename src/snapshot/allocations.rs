//! What judging costs in memory: rules that do not apply to a request allocate nothing besides the decision. Counted by an
//! allocator that only the tests have.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

use futures::FutureExt;
use http::Method;
use jiff::Timestamp;
use serde_json::json;
use smallvec::smallvec;

use super::{Occasion, Snapshot, compile};
use crate::conf::Load;
use crate::engine::{
    Answer, Answers, Client, Decision, Effect, Facts, Lookup, NoHeaders, Params, Principal, Question, RequestView,
    decide,
};

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
}

fn count() {
    // A thread that ends may free and allocate when its counter is gone.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

fn hold(more: usize, less: usize) {
    let _ = HELD.try_with(|held| held.set(held.get() + more.cast_signed() - less.cast_signed()));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        hold(layout.size(), 0);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(0, layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        hold(size, layout.size());
        // SAFETY: the caller keeps the contract.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// How often `run` allocates, and what comes of it.
fn allocations<T>(run: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.get();
    let outcome = run();
    (COUNT.get() - before, outcome)
}

/// The bytes that `make` leaves allocated on this thread, and what it makes.
pub(crate) fn bytes_held<T>(make: impl FnOnce() -> T) -> (usize, T) {
    let before = HELD.get();
    let made = make();
    ((HELD.get() - before).max(0).cast_unsigned(), made)
}

const RULES: &str = "
listen: [{ address: 127.0.0.1:0 }]
clients: { ios: { header: { x-client: ios } }, web: { default: true } }
calendars:
  seoul:
    timezone: Asia/Seoul
    windows: { night: [{ days: daily, hours: 23:30-05:00 }], day: [{ days: daily, hours: 05:00-23:30 }] }
policies:
  night:    { deny: { during: seoul.night } }
  day:      { require: { during: seoul.day, roles: [customer], scopes: 'transfer:write' } }
  outsider: { deny: { ip: 10.0.0.0/8, methods: POST } }
  frozen:   { deny: { claims: { frozen: true } } }
  client:   { deny: { clients: ios, headers: { x-beta: 'on' }, query: { dry_run: true } } }
  reading:  { deny: { methods: DELETE, if: 'claims.sub == path.customer' } }
  own:      { require: { if: 'claims.sub == path.customer' } }
routes:
  transfer:
    match: POST /customers/{customer}/transfers
    auth: none
    policies: [night, day, outsider, frozen, client, reading]
    reply: { status: 200, json: {} }
  own:
    match: GET /customers/{customer}/balance
    auth: none
    policies: [night, day, outsider, frozen, client, reading, own]
    reply: { status: 200, json: {} }
";

const NOON: &str = "2026-11-24T12:00:00+09:00";

/// Nothing is frozen, and nothing else is asked.
struct Unfrozen;

impl Lookup for Unfrozen {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        asked.iter().map(|_| Answer::Freezes(Vec::new())).collect()
    }
}

fn snapshot() -> Snapshot {
    let load = Load::new();
    let document = load.text("t.yaml", RULES).unwrap();
    let occasion = Occasion {
        now: NOON.parse().unwrap(),
        at_start: false,
    };
    let snapshot = compile(&document, occasion, &load);
    assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&document)));
    snapshot.unwrap()
}

/// What deciding a request of customer `c1` allocates on a route, once everything that is made once is there.
fn deciding(route: &str) -> (usize, Box<Decision>) {
    let snapshot = snapshot();
    let claims = json!({"sub": "c1", "frozen": false});
    let principal = Principal {
        authenticator: "a".into(),
        issuer: "i".into(),
        subject: "c1".into(),
        scopes: smallvec!["transfer:write".into()],
        roles: smallvec!["customer".into()],
        claims: claims.as_object().cloned().unwrap().into(),
        auth_time: None,
        acr: None,
        expires: None,
        token_id: None,
        identity: Principal::frame("a", "i", "c1"),
    };
    let principal = Arc::new(principal);
    let client = Client {
        name: "web".into(),
        index: 1,
    };
    let names = [Arc::from("customer")];
    let now: Timestamp = NOON.parse().unwrap();
    let rules = &snapshot.route(route).unwrap().rules;
    let once = || {
        let mut facts = Facts {
            now,
            window_at: now,
            address: [192, 0, 2, 1].into(),
            client: &client,
            request: RequestView {
                method: &Method::POST,
                host: "bank.example",
                path: "/customers/c1/transfers",
                query: "dry_run=false",
                headers: &NoHeaders,
            },
            params: Params {
                names: &names,
                values: ["c1"].into_iter().collect(),
            },
            principal: Some(principal.clone()),
        };
        decide(rules, &mut facts, &Unfrozen).now_or_never().unwrap()
    };
    once();
    allocations(once)
}

#[test]
fn rules_that_do_not_apply_allocate_nothing() {
    let (count, decision) = deciding("transfer");
    assert!(matches!(decision.effect, Effect::Forward));
    // The decision itself.
    assert_eq!(count, 1);
}

#[test]
fn an_expression_allocates_little() {
    let (count, decision) = deciding("own");
    assert!(matches!(decision.effect, Effect::Forward));
    assert!((1..=16).contains(&count), "{count} allocations");
}

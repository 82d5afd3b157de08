//! What judging rules costs: six rules without CEL, and what an expression adds.
//!
//! The rules are compiled from YAML as the gateway does it and judged by its own `decide`, as for a request whose caller is
//! known by then. Every case is first shown to come to the decision it is meant to come to.

#![allow(clippy::expect_used, reason = "a benchmark that cannot go on says why")]

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use criterion::{Criterion, criterion_group, criterion_main};
use gwanmun::conf::Load;
use gwanmun::engine::{
    Answer, Answers, Client, Decision, Facts, Headers, Lookup, Params, Principal, Question, RequestView, Rule, decide,
};
use gwanmun::snapshot::{Occasion, Snapshot, compile};
use http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::json;

/// The gateway's.
#[global_allocator]
static ALLOCATOR: gwanmun::server::Allocator = gwanmun::server::Allocator;

const RULES: &str = r#"
listen: [{ address: 127.0.0.1:0 }]
clients: { ios: { header: { x-client: ios } }, web: { default: true } }
calendars:
  seoul:
    timezone: Asia/Seoul
    windows:
      night:   [{ days: daily, hours: 23:30-05:00 }]
      trading: [{ days: mon-fri, hours: 09:00-15:30 }]
      upkeep:  [{ days: 3rd sun, hours: 00:00-06:00 }, { from: 2026-12-31T23:50, to: 2027-01-01T00:30 }]
policies:
  no-night:    { deny: { during: seoul.night }, unless: { roles: [treasury] } }
  trading:     { require: { during: seoul.trading } }
  upkeep:      { deny: { during: seoul.upkeep } }
  staff:       { require: { roles: [teller, treasury], scopes: 'transfer:write' } }
  outsider:    { deny: { ip: [10.0.0.0/8, '2001:db8::/32'], methods: POST } }
  tier:        { require: { claims: { tier: [gold, platinum], age: { at_least: 18 } } } }
  own:         { require: { if: 'claims.sub == path.customer' } }
  elsewhere:   { deny: { methods: DELETE, if: 'claims.sub == path.customer' } }
  holder:      { require: { if: 'claims.accounts.exists(a, a.id == path.customer && "owner" in a.roles)' } }
  office:      { require: { if: 'now.getHours() >= 9 && now.getHours() < 17' } }
  device:      { require: { if: 'request.headers["x-device"].matches("^[0-9a-f]{16}$")' } }
  limit:       { require: { if: 'has(claims.limit) && int(query.amount) <= claims.limit' } }
  heavy:       { require: { if: 'claims.long.all(x, claims.long.all(y, x + y >= 0))' } }
routes:
  nothing: { match: GET /nothing, auth: none, reply: { status: 200, json: {} } }
  six:
    match: GET /six/{customer}
    auth: none
    policies: [no-night, trading, upkeep, staff, outsider, tier]
    reply: { status: 200, json: {} }
  own:       { match: 'GET /own/{customer}', auth: none, policies: [own], reply: { status: 200, json: {} } }
  elsewhere: { match: 'GET /elsewhere/{customer}', auth: none, policies: [elsewhere], reply: { status: 200, json: {} } }
  holder:    { match: 'GET /holder/{customer}', auth: none, policies: [holder], reply: { status: 200, json: {} } }
  office:    { match: 'GET /office/{customer}', auth: none, policies: [office], reply: { status: 200, json: {} } }
  device:    { match: 'GET /device/{customer}', auth: none, policies: [device], reply: { status: 200, json: {} } }
  limit:     { match: 'GET /limit/{customer}', auth: none, policies: [limit], reply: { status: 200, json: {} } }
  heavy:     { match: 'GET /heavy/{customer}', auth: none, policies: [heavy], reply: { status: 200, json: {} } }
  seven:
    match: GET /seven/{customer}
    auth: none
    policies: [no-night, trading, upkeep, staff, outsider, tier, own]
    reply: { status: 200, json: {} }
"#;

/// Each case, and the route with its rules.
const CASES: [(&str, &str); 10] = [
    ("no rule", "nothing"),
    ("six rules without CEL", "six"),
    ("the six, and claims.sub == path.customer", "seven"),
    ("claims.sub == path.customer", "own"),
    ("the same behind another method", "elsewhere"),
    ("a list of objects, exists", "holder"),
    ("hours of now", "office"),
    ("a header matches", "device"),
    ("a number of the query", "limit"),
    ("two loops over a hundred items", "heavy"),
];

fn rules(criterion: &mut Criterion) {
    let snapshot = snapshot();
    let bench = Request::new();
    for (name, route) in CASES {
        let rules = &snapshot.route(route).expect("the route of the case").rules;
        let decision = bench.decide(rules);
        assert!(decision.is_forwarded(), "{name}: {:?}", decision.effect);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| black_box(bench.decide(black_box(rules))))
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50);
    targets = rules
}
criterion_main!(benches);

fn noon() -> Timestamp {
    "2026-11-24T12:00:00+09:00".parse().expect("an instant")
}

fn snapshot() -> Snapshot {
    let load = Load::new();
    let document = load.text("rules.yaml", RULES).expect("YAML");
    let occasion = Occasion {
        now: noon(),
        at_start: false,
    };
    let snapshot = compile(&document, occasion, &load);
    assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&document)));
    snapshot.expect("a snapshot")
}

/// A request to `/…/c1001` by `c1001`.
struct Request {
    now: Timestamp,
    client: Client,
    names: [Arc<str>; 1],
    principal: Arc<Principal>,
}

impl Request {
    fn new() -> Self {
        let claims = json!({
            "iss": "https://id.bank.example", "sub": "c1001", "tier": "gold", "age": 42, "limit": 500,
            "accounts": [{"id": "c7", "roles": ["reader"]}, {"id": "c1001", "roles": ["reader", "owner"]}],
            "long": vec![1; 100],
        });
        let principal = Principal {
            authenticator: "customer".into(),
            issuer: "https://id.bank.example".into(),
            subject: "c1001".into(),
            scopes: ["transfer:read".into(), "transfer:write".into()].into_iter().collect(),
            roles: ["customer".into(), "teller".into()].into_iter().collect(),
            claims: claims.as_object().cloned().unwrap_or_default().into(),
            auth_time: None,
            acr: None,
            expires: None,
            token_id: None,
            identity: Principal::frame("customer", "https://id.bank.example", "c1001"),
        };
        Self {
            now: noon(),
            client: Client {
                name: "web".into(),
                index: 1,
            },
            names: ["customer".into()],
            principal: Arc::new(principal),
        }
    }

    fn decide(&self, rules: &[Rule]) -> Box<Decision> {
        let mut facts = Facts {
            now: self.now,
            window_at: self.now,
            address: [192, 0, 2, 1].into(),
            client: &self.client,
            request: RequestView {
                method: &Method::GET,
                host: "bank.example",
                path: "/customers/c1001",
                query: "page=2&amount=120",
                headers: &Device,
            },
            params: Params {
                names: &self.names,
                values: ["c1001"].into_iter().collect(),
            },
            principal: Some(self.principal.clone()),
        };
        let deciding = pin!(decide(rules, &mut facts, &Unfrozen));
        match deciding.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(decision) => decision,
            Poll::Pending => unreachable!("nothing is looked up"),
        }
    }
}

struct Device;

impl Headers for Device {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        (name.as_str() == "x-device").then_some(b"0123456789abcdef")
    }

    fn is_repeated(&self, _: &HeaderName) -> bool {
        false
    }
}

/// Nothing is frozen, and nothing else is asked.
struct Unfrozen;

impl Lookup for Unfrozen {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        asked.iter().map(|_| Answer::Freezes(Vec::new())).collect()
    }
}

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use serde_json::json;

use super::*;
use crate::conf::Load;
use crate::engine::{Answer, Denial, DenialKind, Facts, Policy, Rule, Stage, Verdict, Why};
use crate::routing::Router;
use crate::snapshot::{self, Occasion, Route};
use crate::targets::{Target, UpstreamIndex};

mod holds;
mod misses;
mod samples;

const NOT_COMPARED: &str = "not compared, as these rules cannot be tried in every way\n";
const FROM: Date = Date::constant(2026, 11, 24); // a Tuesday

const BASE: &str = "
listen: [{ address: 127.0.0.1:0 }]
upstreams: { one: { endpoints: [127.0.0.1:1] }, two: { endpoints: [127.0.0.1:2] } }
authenticators:
  customer: { jwt: { issuer: https://id.example, audience: x, algorithms: RS256, jwks: discover } }
  staff:    { jwt: { issuer: https://staff.example, audience: x, algorithms: RS256, jwks: discover } }
clients: { ios: { header: { x-client: ios } }, android: { header: { x-client: android } }, web: { default: true } }
calendars:
  seoul:
    timezone: Asia/Seoul
    windows:
      night: [{ days: daily, hours: 23:30-05:00 }]
      work:  [{ days: mon-fri, hours: 09:00-18:00 }]
      rest:  [{ days: sun, hours: 02:00-04:00 }]
      yule:  [{ days: 2026-12-25, hours: 10:00-12:00 }]
      third: [{ days: 3rd wed, hours: 01:00-02:00 }]
      shutdown: [{ from: 2027-03-06T10:00, to: 2027-03-08T10:00 }]
";

fn compiled(yaml: &str) -> Snapshot {
    text(&format!("{BASE}{yaml}"))
}

fn text(yaml: &str) -> Snapshot {
    let load = Load::new();
    let document = load.text("t.yaml", yaml).unwrap();
    let occasion = Occasion {
        now: midnight(&TimeZone::UTC, FROM),
        at_start: true,
    };
    let snapshot = snapshot::compile(&document, occasion, &load);
    let errors = load.has_errors();
    let findings = load.into_findings(Some(&document));
    snapshot
        .filter(|_| !errors)
        .unwrap_or_else(|| panic!("{yaml}\n{findings:#?}"))
}

fn report(now: &str, next: &str) -> Report {
    compare(&compiled(now), &compiled(next), Some(FROM), 7)
}

fn diff(now: &str, next: &str) -> String {
    report(now, next).text(Paint::plain())
}

/// One route under a policy.
fn whole(policy: &str) -> String {
    format!(
        "policies: {{ p: {{ {policy} }} }}\n\
         routes: {{ pay: {{ match: POST /pay, auth: customer, scopes: [pay], policies: [p], upstream: one }} }}\n"
    )
}

/// The same route under another policy.
fn policies(now: &str, next: &str) -> String {
    diff(&whole(now), &whole(next))
}

/// What is said of `POST /pay`, section by section.
fn said(now: &str, next: &str) -> String {
    policies(now, next).replace("  POST /pay (pay): ", "")
}

#[test]
fn tells_for_whom_and_when_something_closes() {
    let closing = |next: &str| {
        let next = format!("deny: {{ during: {next} }}, unless: {{ roles: treasury }}, reply: {{ code: CLOSED }}");
        said(
            "deny: { during: seoul.rest }, unless: { roles: [ops, treasury] }, reply: { code: CLOSED }",
            &next,
        )
    };
    // Who held `ops` alone may not any more, even when nothing changes for the others.
    assert_eq!(
        closing("seoul.rest"),
        "closed\nnow denied 403 CLOSED (p) for callers with role ops but not treasury, 02:00–04:00 on Sun 2026-11-29 (Asia/Seoul)\n"
    );
    assert_eq!(
        closing("[seoul.rest, seoul.work]"),
        "closed\nnow denied 403 CLOSED (p) for everybody but those with role ops or treasury, mon–fri 09:00–18:00 (Asia/Seoul)\n\
         now denied 403 CLOSED (p) for callers with role ops but not treasury, mon–fri 09:00–18:00; 02:00–04:00 on Sun 2026-11-29 (Asia/Seoul)\n"
    );
    assert_eq!(
        said("deny: { during: seoul.rest }", "deny: { during: seoul.night }"),
        "closed\nnow denied 403 denied (p) for everybody, daily 23:30–05:00 (Asia/Seoul)\n"
    );
    assert_eq!(
        said("require: { during: seoul.work }", "require: { outside: seoul.work }"),
        "closed\nnow denied 403 denied (p) for everybody, mon–fri 09:00–18:00 (Asia/Seoul)\n\
         opened\nnow allowed, was denied 403 denied (p) for callers with scope pay, at all times but mon–fri 09:00–18:00 (Asia/Seoul)\n"
    );
}

#[test]
fn looks_beyond_the_days_at_what_is_dated() {
    assert_eq!(
        said("deny: { methods: GET }", "deny: { during: seoul.yule }"),
        "closed\nnow denied 403 denied (p) for everybody, 10:00–12:00 on Fri 2026-12-25 (Asia/Seoul)\n"
    );
    assert_eq!(
        said(
            "deny: { during: seoul.work }",
            "deny: { during: [seoul.work, seoul.yule] }"
        ),
        "no change\n"
    );
    assert_eq!(
        said(
            "deny: { methods: GET }",
            "deny: { during: [seoul.third, seoul.shutdown] }"
        ),
        "closed\nnow denied 403 denied (p) for everybody, 01:00–02:00 on Wed 2026-12-16, Wed 2027-01-20, Wed 2027-02-17; \
         Sat 2027-03-06 10:00 to Mon 2027-03-08 10:00 (Asia/Seoul)\n"
    );
}

#[test]
fn tries_what_conditions_name_and_what_they_do_not() {
    for (now, next, told) in [
        (
            "deny: { ip: 10.0.0.0/8 }",
            "deny: { ip: [10.0.0.0/8, 10.9.0.0/16] }",
            "no change\n",
        ),
        (
            "deny: { ip: 10.0.0.0/8 }",
            "deny: { ip: ['2001:db8::/32', 10.0.0.0/8] }",
            "closed\nnow denied 403 denied (p) for everybody from addresses in 2001:db8::/32\n",
        ),
        (
            "deny: { ip: 10.0.0.0/8 }",
            "deny: { ip: 10.9.0.0/16 }",
            "opened\nnow allowed, was denied 403 denied (p) for callers from addresses in 10.0.0.0/8 without 10.9.0.0/16 and with scope pay\n",
        ),
        (
            "deny: { clients: ios }",
            "deny: { clients: [ios, android] }",
            "closed\nnow denied 403 denied (p) for everybody from client android\n",
        ),
        (
            "deny: { headers: { x-beta: [on, yes] } }",
            "deny: { headers: { x-beta: on } }",
            "opened\nnow allowed, was denied 403 denied (p) for callers with header x-beta yes and with scope pay\n",
        ),
        (
            "deny: { query: { dry: 'a b&c' } }",
            "require: { query: { dry: 'a b&c' } }",
            "closed\nnow denied 403 denied (p) for everybody but those with query dry a b&c\n\
             opened\nnow allowed, was denied 403 denied (p) for callers with query dry a b&c and with scope pay\n",
        ),
        (
            "require: { roles: [a, b] }",
            "require: { roles: [b, c] }",
            "closed\nnow denied 403 denied (p) for everybody but those with role b or c\n\
             opened\nnow allowed, was denied 403 denied (p) for callers with scope pay and with role c but not a or b\n",
        ),
        (
            "require: { claims: { age: { at_least: 18 } } }",
            "require: { claims: { age: { over: 21 } } }",
            "closed\nnow denied 403 denied (p) for everybody but those with claims.age above 21\n",
        ),
        (
            "require: { claims: { tier: { absent: true } } }",
            "require: { claims: { tier: [gold, true] } }",
            "closed\nnow denied 403 denied (p) for callers with no claims.tier\n\
             opened\nnow allowed, was denied 403 denied (p) for callers with claims.tier gold or true and with scope pay\n",
        ),
        (
            "require: { roles: a }",
            "require: { roles: a }, reply: { status: 451, code: NO }",
            "refused in another way\nnow denied 451 NO (p), was denied 403 denied (p) for everybody but those with role a\n",
        ),
        (
            "deny: { methods: POST }, mode: shadow",
            "deny: { methods: POST }",
            "closed\nnow denied 403 denied (p) for everybody\n",
        ),
        (
            "step_up: { acr: otp, max_age: 5m }",
            "step_up: { acr: [otp, hwk], max_age: 5m }",
            "opened\nnow allowed, was challenged 401 step-up-required (p) for callers with claims.acr hwk, logged in at most \
             5m ago and with scope pay\n",
        ),
        (
            "step_up: { max_age: 5m }",
            "step_up: { max_age: 1m }",
            "closed\nnow challenged 401 step-up-required (p) for callers logged in 1m to 5m ago\n",
        ),
        (
            "step_up: { max_age: 1m }",
            "step_up: { max_age: 1m }, when: { methods: GET }",
            "opened\nnow allowed, was challenged 401 step-up-required (p) for callers with scope pay, but not those logged in at most \
             1m ago\n",
        ),
        (
            "deny: { methods: GET }",
            "step_up: { acr: otp }",
            "closed\nnow challenged 401 step-up-required (p) for everybody but those with claims.acr otp\n",
        ),
        (
            "step_up: { acr: otp }, mode: shadow",
            "step_up: { acr: hwk }, mode: shadow",
            "no change\n",
        ),
        // A rule that another one hides.
        (
            "deny: { methods: POST }",
            "deny: { methods: [POST, PUT] }",
            "no change\n",
        ),
    ] {
        assert_eq!(said(now, next), told, "{now} → {next}");
    }
}

#[test]
fn says_what_was_not_tried() {
    let many = |names: &str| format!("require: {{ roles: [{names}] }}");
    let told = said(&many("a, b, c, d, e, f, g"), &many("a, b, c, d, e, f"));
    assert_eq!(
        told,
        "closed\nnow denied 403 denied (p) for everybody but those with role a or b or c or d or e or f\nnot all was tried\n  route `pay`: of 7 roles: tried each alone, and all together\n"
    );
    let values = |what: &str| -> String {
        let value = |at: u32| format!("{what}{at}");
        (0..60).map(value).collect::<Vec<_>>().join(", ")
    };
    let rule = format!(
        "require: {{ headers: {{ x-a: [{}] }}, query: {{ b: [{}] }}, claims: {{ c: [{}] }} }}",
        values("a"),
        values("b"),
        values("c")
    );
    let told = report(&whole(&rule), &whole(&rule.replace("a7,", "")));
    assert!(told.closes() && !told.opens());
    assert_eq!(told.cut.len(), 3, "{:?}", told.cut);
    assert!(
        told.cut.iter().all(|cut| cut.starts_with("route `pay`: tried ")),
        "{:?}",
        told.cut
    );
}

/// The difference between routes, besides one that stays.
fn routes(now: &str, next: &str) -> String {
    let whole = |route: &str| {
        format!(
            "limits: {{ l: {{ key: ip, rate: 5/s }} }}\n\
             routes: {{ {route}, z: {{ match: GET /z, auth: none, limits: [l], upstream: one }} }}\n"
        )
    };
    diff(&whole(now), &whole(next))
}

#[test]
fn compares_routes_by_the_requests_they_take() {
    let now = "a: { match: 'GET /a/{x}', auth: customer, scopes: [s], upstream: one }";
    for (next, told) in [
        (
            "b: { match: 'GET /a/{y}', auth: customer, scopes: [s], upstream: one }",
            "taken by another route\n  `a` → `b`\nno change\n",
        ),
        (
            "a: { match: 'GET /a/{x}', auth: customer, scopes: [s], upstream: two }",
            "answered by another\n  GET /a/{x} (a): now answered by upstream `two`, was upstream `one` for everybody\n",
        ),
        (
            "a: { match: 'GET /a/{x}', auth: customer, scopes: [s, t], upstream: one }",
            "closed\n  GET /a/{x} (a): now denied 403 scope-missing (scopes) for everybody but those with scope t\n",
        ),
        (
            "a: { match: 'GET /a/{x}', auth: [customer, none], upstream: one }",
            "opened\n  GET /a/{x} (a): now allowed, was challenged 401 token-missing (auth) for anonymous callers\n  \
             GET /a/{x} (a): now allowed, was denied 403 scope-missing (scopes) for callers by `customer`, but not those \
             with scope s\n",
        ),
        (
            "a: { match: 'GET,POST /a/{x}', auth: customer, scopes: [s], limits: [l], upstream: one }",
            "opened\n  POST /a/{x} (a): now allowed, was denied 405 method-not-allowed for callers with scope s\n\
             limits\n  limit `l` (5/s by ip, 5 at once) is new on a\n",
        ),
        (
            "a: { match: 'GET /a/{x...}', auth: customer, scopes: [s], upstream: one, body: { max: 1KiB } }",
            "opened\n  GET /a/{x...} (a): now allowed, was denied 404 route-not-found for callers with scope s\n\
             handled in another way\n  `body` is another on a\n",
        ),
        (
            "a: { match: { path: '/a/{x}', methods: GET, host: '*.a.example' }, auth: customer, scopes: [s], upstream: one }",
            "closed\n  GET /a/{x} (a): now denied 404 route-not-found for everybody\n",
        ),
        (
            "a: { match: { path: '/a/{x}', methods: GET, headers: { x-v: ['1', '2'] } }, auth: customer, scopes: [s], \
             upstream: one }",
            "closed\n  GET /a/{x} (a): now denied 404 route-not-found for everybody\n",
        ),
        (
            "a: { match: 'GET /a/{x}', auth: customer, scopes: [s], upstream: one }, n: { match: GET /a/any, auth: none, \
             redirect: { to: /z } }",
            "opened\n  GET /a/any (n): now allowed, was challenged 401 token-missing (auth) for anonymous callers\n  \
             GET /a/any (n): now allowed, was denied 403 scope-missing (scopes) for callers by `customer`, but not those \
             with scope s\n\
             answered by another\n  GET /a/any (n): now answered by a fixed 308, was upstream `one` for callers with scope s\n\
             taken by another route\n  `a` → `n`\n",
        ),
        (
            "b: { match: 'GET /a/{x}', auth: customer, scopes: [s], upstream: two }, a: { match: GET /y, auth: none, \
             upstream: one }",
            "opened\n  GET /y (a): now allowed, was denied 404 route-not-found for everybody\n\
             answered by another\n  GET /a/{x} (b): now answered by upstream `two`, was upstream `one` for callers with scope s\n\
             taken by another route\n  `a` → `b`\n",
        ),
        (
            "c: { match: GET /c, auth: none, upstream: two }",
            "closed\n  GET /a/{x} (a): now denied 404 route-not-found for everybody\n\
             opened\n  GET /c (c): now allowed, was denied 404 route-not-found for everybody\n",
        ),
    ] {
        assert_eq!(routes(now, next), told, "{next}");
    }
    let staff = now.replace("customer", "staff");
    assert_eq!(
        routes(now, &staff),
        "closed\n  GET /a/{x} (a): now challenged 401 token-issuer (auth) for callers by `customer`\n\
         opened\n  GET /a/{x} (a): now allowed, was challenged 401 token-issuer (auth) for callers by `staff` with \
         scope s\n\
         refused in another way\n  GET /a/{x} (a): now challenged 401 token-issuer (auth), was denied 403 scope-missing (scopes) \
         for callers by `customer`, but not those with scope s\n  \
         GET /a/{x} (a): now denied 403 scope-missing (scopes), was challenged 401 token-issuer (auth) for callers by \
         `staff`, but not those with scope s\n"
    );
}

#[test]
fn a_key_that_a_route_does_not_look_for_makes_nobody_known() {
    let keyed = |auth: &str| {
        let base = BASE.replace("clients: {", "  partner: { api_key: { keys: [] } }\nclients: {");
        text(&format!(
            "{base}routes: {{ a: {{ match: GET /a, auth: {auth}, upstream: one }} }}\n"
        ))
    };
    let told = |now: &str, next: &str| compare(&keyed(now), &keyed(next), Some(FROM), 7);
    let closed = told("[partner, customer]", "customer").text(Paint::plain());
    let line = "closed\n  GET /a (a): now challenged 401 token-missing (auth) for callers by `partner`\n";
    assert!(closed.starts_with(line), "{closed}");
    let closed = told("[partner, customer, none]", "[customer, none]");
    assert!(!closed.closes() && !closed.opens(), "{}", closed.text(Paint::plain()));
    let opened = told("customer", "[customer, partner]");
    assert!(opened.opens() && !opened.closes(), "{}", opened.text(Paint::plain()));
}

#[test]
fn names_other_limits_upstreams_and_tokens() {
    let now = format!(
        "{BASE}limits: {{ l: {{ key: ip, rate: 5/s }} }}\ndefaults: {{ limits: [l] }}\nroutes: {{ z: {{ match: GET /z, auth: customer, upstream: one }} }}\n"
    );
    let next = now
        .replace("rate: 5/s", "rate: 600/m, burst: 7")
        .replace("127.0.0.1:1]", "127.0.0.1:9]")
        .replace("audience: x", "audience: y");
    let told = compare(&text(&now), &text(&next), Some(FROM), 7);
    assert_eq!(
        told.text(Paint::plain()),
        "limits\n  limit `l`: 5/s by ip, 5 at once → 600/m by ip, 7 at once\n\
         handled in another way\n  upstream `one`: 127.0.0.1:1 → 127.0.0.1:9\n\
         changed, but not compared\n  authenticator `customer` judges credentials by other settings\n  \
         authenticator `staff` judges credentials by other settings\n"
    );
    assert!(told.is_change() && !told.opens() && !told.closes());
}

#[test]
fn the_examples_do_not_differ_from_themselves_nor_from_their_text_moved() {
    for name in ["bank", "shop"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
        let path = folder.join(name).with_extension("yaml");
        let yaml = std::fs::read_to_string(&path).unwrap();
        let moved = tempfile::Builder::new().suffix(".yaml").tempfile_in(&folder).unwrap();
        std::fs::write(moved.path(), yaml.replace("\n  ", "\n\n\n  ")).unwrap();
        let open = |path: &Path| {
            let occasion = Occasion {
                now: midnight(&TimeZone::UTC, FROM),
                at_start: true,
            };
            snapshot::load(path, occasion).0.unwrap()
        };
        let told = compare(&open(&path), &open(moved.path()), Some(FROM), 7);
        // What stands in an expression is listed, and nothing else.
        let text = told.text(Paint::plain());
        let listed = text.strip_suffix("no change\n").unwrap();
        assert!(listed.is_empty() || listed.starts_with(NOT_COMPARED), "{text}");
        assert!(!told.is_change());
    }
}

#[test]
fn tells_programs_the_same() {
    let told = report(
        &whole("deny: { during: seoul.rest }"),
        &whole("deny: { during: seoul.rest }, unless: { roles: ops }"),
    );
    assert_eq!(
        told.json(),
        json!({
            "opens": true, "closes": false, "changed": true, "complete": true,
            "changes": [{
                "kind": "opened", "route": "pay", "requests": ["POST /pay"], "who": "callers with scope pay and with role ops",
                "when": "02:00–04:00 on Sun 2026-11-29",
                "times": [{ "from": "2026-11-29T02:00:00+09:00", "to": "2026-11-29T04:00:00+09:00" }],
                "before": { "effect": "deny", "status": 403, "code": "denied", "policy": "p" },
                "after": { "effect": "allow" },
                "as_far_as": [],
            }],
            "limits": [], "handling": [], "renamed": [], "changed_not_compared": [], "not_compared": [], "not_tried": [],
        })
    );
}

/// Refuses everybody, and does not say why.
#[derive(Debug)]
struct Riddle;

impl Policy for Riddle {
    fn judge(&self, _: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        let denial = Denial::new(DenialKind::Refuse, StatusCode::FORBIDDEN, "riddle", "");
        Verdict::deny(denial, Why::Lacking)
    }
}

/// The snapshot with a riddle before the policies of its routes.
fn riddled(mut snapshot: Snapshot) -> Snapshot {
    let riddle = |route: &Arc<Route>| {
        let mut rules = route.rules.clone();
        let at = rules.iter().position(|rule| rule.stage == Stage::Authorize).unwrap();
        let riddle = Rule {
            name: "riddle".into(),
            policy: Arc::new(Riddle),
            ..rules[at].clone()
        };
        rules.insert(at, riddle);
        Arc::new(Route {
            name: route.name.clone(),
            template: route.template.clone(),
            place: route.place.clone(),
            rule_names: rules.iter().map(|rule| rule.name.clone()).collect(),
            rules,
            target: Target::Upstream(UpstreamIndex(0)),
            token_sources: Box::default(),
            keeps_authorization: route.keeps_authorization,
            deadline: route.deadline,
        })
    };
    let routes = snapshot
        .router
        .iter()
        .map(|(matched, route)| (matched.clone(), riddle(route)));
    snapshot.router = Router::new(routes.collect(), &Load::new());
    snapshot
}

#[test]
fn leaves_out_what_cannot_be_taken_apart_and_says_so() {
    let (now, next) = (whole("require: { roles: a }"), whole("require: { roles: [a, b] }"));
    let told = compare(&riddled(compiled(&now)), &riddled(compiled(&now)), Some(FROM), 7);
    let riddle = "`riddle` (a check that cannot be taken apart) on pay\n";
    assert_eq!(
        told.text(Paint::plain()),
        format!("{NOT_COMPARED}  {riddle}no change\n")
    );
    assert!(!told.is_change());
    // It does not hide what another rule does.
    let told = compare(&riddled(compiled(&now)), &riddled(compiled(&next)), Some(FROM), 7);
    let opened = "opened\n  POST /pay (pay): now allowed, was denied 403 denied (p) for callers with scope pay and with role b but not a, as far as `riddle` lets them\n";
    assert_eq!(told.text(Paint::plain()), format!("{opened}{NOT_COMPARED}  {riddle}"));
    let told = compare(&compiled(&now), &riddled(compiled(&now)), Some(FROM), 7);
    assert_eq!(
        told.text(Paint::plain()),
        format!("changed, but not compared\n  new: {riddle}")
    );
    assert!(told.is_change());
}

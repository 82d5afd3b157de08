#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::net::IpAddr;
use std::path::Path;

use jiff::Timestamp;

use super::*;
use crate::conf::Load;
use crate::snapshot::{Occasion, compile, load};

fn open(file: &Path, now: Timestamp) -> Snapshot {
    load(file, Occasion { now, at_start: true }).0.unwrap()
}

fn bank(at: &str, request: &str, claims: &str) -> Explanation {
    let at: Timestamp = at.parse().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bank.yaml");
    let snapshot = open(&file, at);
    let mut asked = Asked::new(request, IpAddr::from([127, 0, 0, 1]), at).unwrap();
    if !claims.is_empty() {
        asked.hold(read_claims(claims).unwrap()).unwrap();
    }
    explain(&snapshot, &asked).unwrap()
}

/// `file:line` of the first line of `conf/bank.yaml` that holds `text`.
fn line_of(text: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bank.yaml");
    let content = std::fs::read_to_string(&file).unwrap();
    let at = content.lines().position(|line| line.contains(text)).unwrap();
    format!("{}:{}:", file.display(), at + 1)
}

const NOON: &str = "2026-11-24T12:00+09:00";
const NIGHT: &str = "2026-11-24T23:45+09:00";
const TELLER: &str = "{ sub: t2001, roles: [teller], scope: 'transfer:read transfer:write', acr: otp, auth_age: 1m }";

#[test]
fn names_the_rule_that_closes_transfers_at_night() {
    let told = bank(NIGHT, "POST /transfers", TELLER);
    let decision = &told.decision;
    assert!(told.is_refusal());
    assert_eq!(
        (decision.effect, decision.status, decision.policy.as_deref()),
        ("deny", Some(403), Some("no-night-transfer"))
    );
    assert_eq!(told.in_short(), "403 TRANSFER_CLOSED until 2026-11-25T05:00:00+09:00");
    let place = decision.place.as_ref().unwrap();
    assert!(place.starts_with(&line_of("no-night-transfer:")), "{place}");
    let verdicts: Vec<_> = told
        .rules
        .iter()
        .map(|rule| (rule.name.as_str(), rule.verdict))
        .collect();
    assert!(verdicts.contains(&("no-night-transfer", "refuses")), "{verdicts:?}");
    assert!(verdicts.contains(&("per-customer", "not reached")), "{verdicts:?}");
    let text = told.text(Paint::plain());
    for part in [
        "route      transfer (",
        "`t2001` by `customer`",
        "TRANSFER_CLOSED",
        "reopens    2026-11-25T05",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn allows_what_is_open() {
    assert_eq!(
        bank(NOON, "POST /transfers", TELLER).in_short(),
        "allowed, answered by upstream `transfers`"
    );
    let treasury = "{ sub: r3001, roles: [treasury], scope: transfer:write, acr: otp, auth_age: 5m }";
    assert!(!bank(NIGHT, "POST /transfers", treasury).is_refusal());
    assert_eq!(bank(NIGHT, "GET /status", "").in_short(), "200");
}

#[test]
fn tells_of_a_login_that_will_not_do() {
    let older = TELLER.replace("1m", "301s");
    let told = bank(NOON, "POST /transfers", &older);
    assert_eq!(
        (
            told.decision.effect,
            told.in_short().as_str(),
            told.decision.policy.as_deref()
        ),
        ("challenge", "401 step-up-required", Some("strong-login"))
    );
    let text = told.text(Paint::plain());
    for part in [
        "  challenges     policies strong-login (",
        "acr otp: true (otp)\n",
        "max_age 5m: false (the login was 301s ago)\n",
        "not reached    limits per-customer",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
    // It is no answer to what is refused anyway, and does not keep it from opening again.
    let told = bank(NIGHT, "POST /transfers", &older);
    assert_eq!(told.in_short(), "403 TRANSFER_CLOSED until 2026-11-25T05:00:00+09:00");
    let strong_login = told.rules.iter().find(|rule| rule.name == "strong-login").unwrap();
    assert_eq!(strong_login.verdict, "challenges");
    assert_eq!(bank(NOON, "POST /transfers", "").in_short(), "401 token-missing");
}

#[test]
fn knows_holidays_and_missing_rights() {
    let customer = "{ sub: u1001, roles: customer, scope: invest:write }";
    let told = bank("2026-09-25T10:00+09:00", "POST /orders", customer);
    assert_eq!(told.decision.code.as_deref(), Some("MARKET_CLOSED"));
    assert_eq!(told.decision.reopens_at.as_deref(), Some("2026-09-28T09:00:00+09:00"));
    assert_eq!(bank(NOON, "POST /transfers", customer).in_short(), "403 scope-missing");
    // A missing credential does not come with the morning.
    assert_eq!(bank(NIGHT, "POST /transfers", "").in_short(), "401 token-missing");
}

#[test]
fn tells_what_is_not_there() {
    assert_eq!(bank(NOON, "GET /nowhere", "").in_short(), "404 route-not-found");
    let told = bank(NOON, "PUT /transfers", "");
    assert_eq!(told.in_short(), "405 method-not-allowed");
    assert_eq!(told.decision.allow.as_deref(), Some("GET, HEAD, POST"));
    assert!(told.json()["route"].is_null());
}

#[test]
fn tells_clients_by_their_headers() {
    let at: Timestamp = NOON.parse().unwrap();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/bank.yaml");
    let snapshot = open(&file, at);
    let asked = |client: &str| {
        let mut asked = Asked::new("GET /status", IpAddr::from([127, 0, 0, 1]), at).unwrap();
        asked.come_from(client, &snapshot.clients)?;
        Ok::<_, anyhow::Error>(explain(&snapshot, &asked)?.client)
    };
    assert_eq!(
        (asked("ios").unwrap(), asked("web").unwrap()),
        ("ios".into(), "web".into())
    );
    assert!(asked("toaster").is_err());
}

#[test]
fn has_the_documented_json_form() {
    let told = bank(NIGHT, "POST /transfers", TELLER).json();
    let decision = serde_json::json!({
        "effect": "deny", "status": 403, "policy": "no-night-transfer", "code": "TRANSFER_CLOSED",
        "reopens_at": "2026-11-25T05:00:00+09:00",
    });
    assert_eq!((&told["route"], &told["decision"]), (&"transfer".into(), &decision));
}

/// The configuration in `yaml`, with a listener.
fn compiled(yaml: &str) -> Snapshot {
    let load = Load::new();
    let yaml = format!("listen: [{{ address: 127.0.0.1:0 }}]\n{}", yaml.trim_start());
    let document = load.text("t.yaml", &yaml).unwrap();
    let now = NOON.parse().unwrap();
    let snapshot = compile(&document, Occasion { now, at_start: false }, &load);
    assert!(!load.has_errors(), "{:?}", load.into_findings(Some(&document)));
    snapshot.unwrap()
}

const SHOP: &str = "
upstreams: { one: { endpoints: [127.0.0.1:1] } }
authenticators:
  customer: { jwt: { issuer: https://a.example, audience: x, algorithms: RS256, jwks: discover } }
  jar: { jwt: { issuer: https://b.example, audience: x, algorithms: RS256, jwks: discover, from: { cookie: t } } }
calendars:
  seoul:
    timezone: Asia/Seoul
    windows:
      night: [{ days: daily, hours: 23:30-05:00 }]
      dawn: [{ days: daily, hours: 05:00-06:00 }]
policies:
  never: { deny: { roles: blocked } }
  night: { deny: { during: seoul.night } }
  dawn: { deny: { during: seoul.dawn }, reply: { status: 503, code: DAWN } }
  staff-by-day: { require: { outside: seoul.night, roles: staff } }
  odd: { deny: { during: seoul.night, outside: seoul.night } }
  watched: { mode: shadow, deny: { during: seoul.night } }
limits:
  few: { key: ip, rate: 5/s }
  own: { key: principal.sub, rate: 20/s, burst: 40 }
defaults:
  limits: [few]
  cors: { origins: https://shop.example, credentials: true, expose: [x-a] }
  compress: { min_size: 10B }
routes:
  pay:
    match: POST /pay/{n}
    auth: customer
    scopes: pay
    policies: [never, night, dawn, watched]
    limits: [own]
    upstream: one
  new: { match: POST /pay/new, auth: [jar, none], reply: { status: 201, json: { made: by hand } } }
  any: { match: { path: '/{rest...}', host: '*.example' }, auth: none, redirect: { to: /pay } }
  odd: { match: GET /odd, auth: none, policies: [odd], upstream: one }
  staff: { match: GET /staff, auth: [customer, none], policies: [staff-by-day], upstream: one }
";

fn told(snapshot: &Snapshot, at: &str, request: &str, change: impl Fn(&mut Asked)) -> Explanation {
    let mut asked = Asked::new(request, IpAddr::from([127, 0, 0, 1]), at.parse().unwrap()).unwrap();
    change(&mut asked);
    explain(snapshot, &asked).unwrap()
}

fn by(claims: &str) -> impl Fn(&mut Asked) {
    let claims = read_claims(claims).unwrap();
    move |asked| asked.hold(claims.clone()).unwrap()
}

fn next(told: &Explanation) -> String {
    match &told.next {
        Next::Never => "never".to_owned(),
        Next::At { at, decision } => format!("{at} {}", decision.in_short()),
        Next::NotBefore(at) => format!("not before {at}"),
    }
}

const PAYER: &str = "{ sub: u1, scope: pay }";

#[test]
fn tells_when_the_effect_changes() {
    let shop = compiled(SHOP);
    let of = |at: &str, change: &dyn Fn(&mut Asked)| next(&told(&shop, at, "POST /pay/1", change));
    assert_eq!(
        of(NOON, &by(PAYER)),
        "2026-11-24T23:30:00+09:00 403 denied until 2026-11-25T06:00:00+09:00"
    );
    // From one refusal to the next, which also ends.
    assert_eq!(
        of(NIGHT, &by(PAYER)),
        "2026-11-25T05:00:00+09:00 503 DAWN until 2026-11-25T06:00:00+09:00"
    );
    assert_eq!(
        of("2026-11-25T05:30+09:00", &by(PAYER)),
        "2026-11-25T06:00:00+09:00 allowed, answered by upstream `one`"
    );
    // What does not come with the hour.
    assert_eq!(of(NIGHT, &|_| {}), "never");
    assert_eq!(of(NIGHT, &by("{ sub: u1 }")), "never");
    assert_eq!(next(&told(&shop, NIGHT, "GET /nowhere", |_| {})), "never");
    assert_eq!(of(NOON, &by("{ sub: u1, scope: pay, roles: blocked }")), "never");
    // A window that opens and closes to no effect is followed for a while.
    assert_eq!(
        next(&told(&shop, NOON, "GET /odd", |_| {})),
        "not before 2026-12-26T05:00:00+09:00"
    );
    let frozen = |asked: &mut Asked| {
        by(PAYER)(asked);
        let test = "tests: [{ at: 2026-11-24T12:00+09:00, request: GET /, frozen: { one: 13:00 }, expect: allow }]\n";
        asked.frozen = compiled(&format!("{test}{SHOP}")).tests[0].asked.frozen.clone();
    };
    assert_eq!(
        of(NOON, &frozen),
        "2026-11-24T13:00:00+09:00 allowed, answered by upstream `one`"
    );
    // Whom a token would help depends on the hour.
    let stranger = told(&shop, NOON, "GET /staff", |_| {});
    assert_eq!(
        (stranger.in_short().as_str(), next(&stranger).as_str()),
        ("401 token-missing", "2026-11-24T23:30:00+09:00 403 denied")
    );
}

#[test]
fn shows_the_answer_as_it_is_sent() {
    let shop = compiled(SHOP);
    let answer = |request: &str, lines: &[&str], change: &dyn Fn(&mut Asked)| {
        let told = told(&shop, NIGHT, request, |asked| {
            lines.iter().for_each(|line| asked.add_header(line).unwrap());
            change(asked);
        });
        told.answer
    };
    let header = |answer: &ToldAnswer, name: &str| {
        let found: Vec<String> = answer
            .headers
            .iter()
            .filter(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
            .collect();
        found.join(" | ")
    };
    let refused = answer("POST /pay/1", &["origin: https://shop.example"], &|_| {});
    assert_eq!(refused.status, Some(401));
    assert_eq!(header(&refused, "www-authenticate"), "Bearer realm=\"gwanmun\"");
    assert_eq!(header(&refused, "access-control-allow-origin"), "https://shop.example");
    assert_eq!(header(&refused, "ratelimit"), "\"few\";r=4;t=1");
    let body = refused.body.unwrap();
    assert_eq!(
        header(&answer("POST /pay/1", &[], &|_| {}), "content-length"),
        body.len().to_string()
    );
    assert!(body.contains("\"code\":\"token-missing\""), "{body}");

    let closed = answer("POST /pay/1", &[], &by(PAYER));
    assert_eq!(
        (closed.status, header(&closed, "retry-after").as_str()),
        (Some(403), "22500")
    );
    let allowed = told(&shop, NOON, "POST /pay/1", by(PAYER)).answer;
    assert_eq!((allowed.status, allowed.body.is_none()), (None, true));
    assert_eq!(header(&allowed, "ratelimit"), "\"few\";r=4;t=1, \"own\";r=39;t=1");

    // An answer of the route's own, plain, coded, and to a token that caches do not know.
    let own = answer("POST /pay/new", &[], &|_| {});
    assert_eq!(own.body.as_deref(), Some("{\"made\":\"by hand\"}"));
    assert_eq!(
        (header(&own, "vary").as_str(), header(&own, "cache-control").as_str()),
        ("Origin | Accept-Encoding", "")
    );
    let coded = answer("POST /pay/new", &["accept-encoding: gzip"], &by("{ sub: u1 }"));
    assert_eq!(
        (
            header(&coded, "content-encoding").as_str(),
            header(&coded, "cache-control").as_str()
        ),
        ("gzip", "private")
    );
    let length: usize = header(&coded, "content-length").parse().unwrap();
    assert!(length > 20 && length != 18, "{length}");
    let head = answer("HEAD https://a.example/x", &[], &|_| {});
    assert_eq!((head.status, head.body), (Some(308), None));

    let preflight = ["origin: https://shop.example", "access-control-request-method: POST"];
    let preflight = answer("OPTIONS /pay/1", &preflight, &|_| {});
    assert_eq!(
        (
            preflight.status,
            header(&preflight, "access-control-allow-methods").as_str()
        ),
        (Some(204), "POST")
    );
}

#[test]
fn says_why_this_route_and_not_the_next() {
    let shop = compiled(SHOP);
    let rivals = |request: &str| {
        let told = told(&shop, NOON, request, |_| {});
        let rivals = told
            .rivals
            .iter()
            .map(|rival| format!("{} {}: {}", rival.name, rival.fits, rival.because));
        rivals.collect::<Vec<_>>()
    };
    assert_eq!(
        rivals("POST https://a.example/pay/new"),
        [
            "pay true: segment 2: `new` comes before `{n}`",
            "any true: segment 1: `pay` comes before `{rest...}`",
        ]
    );
    assert_eq!(rivals("GET https://a.example/pay/1"), ["pay false: it takes POST"]);
    assert_eq!(
        rivals("GET /pay/1"),
        ["pay false: it takes POST", "any false: it is for hosts `*.example`"]
    );
    // A preflight is routed by what it asks about.
    let asks = told(&shop, NOON, "OPTIONS https://a.example/pay/new", |asked| {
        asked.add_header("origin: https://shop.example").unwrap();
        asked.add_header("access-control-request-method: POST").unwrap();
    });
    assert_eq!((asks.route.unwrap().name.as_str(), asks.rivals[0].fits), ("new", true));
    let text = told(&shop, NOON, "POST https://a.example/pay/new", |_| {}).text(Paint::plain());
    assert!(text.contains("  beside it  pay (t.yaml:"), "{text}");
    assert!(
        text.contains("next best: segment 2: `new` comes before `{n}`"),
        "{text}"
    );
}

#[test]
fn names_shadows_and_the_limits_that_would_be_asked() {
    let shop = compiled(SHOP);
    let told = told(&shop, NIGHT, "POST /pay/1", |asked| {
        by(PAYER)(asked);
        asked.exhausted.push(shop.defined.limits.get("own").unwrap().0);
    });
    let watched = told.rules.iter().find(|rule| rule.name == "watched").unwrap();
    assert_eq!((watched.verdict, watched.shadow), ("would refuse", true));
    let limits: Vec<_> = told
        .limits
        .iter()
        .map(|limit| {
            (
                limit.name.as_str(),
                limit.key.as_str(),
                limit.rate.as_str(),
                limit.asked,
                limit.admitted,
            )
        })
        .collect();
    // What is refused before is not counted.
    assert_eq!(
        limits,
        [
            ("few", "ip", "5/s", true, Some(true)),
            ("own", "principal.sub", "20/s", false, None)
        ]
    );
    assert!(told.text(Paint::plain()).contains(", in shadow: it changes no answer"));
    let json = told.json();
    assert_eq!(json["limits"][0]["burst"], 5);
    assert_eq!(json["next"]["decision"]["code"], "DAWN");
}

#[test]
fn assumes_a_limit_to_be_exhausted() {
    let shop = compiled(SHOP);
    let limit = |name: &str| shop.defined.limits.get(name).unwrap().0;
    let refused = told(&shop, NOON, "POST /pay/1", |asked| {
        by(PAYER)(asked);
        asked.exhausted.push(limit("own"));
    });
    assert_eq!(
        (refused.in_short().as_str(), refused.decision.policy.as_deref()),
        ("429 limit-exceeded", Some("own"))
    );
    // As if the night came, whatever was counted.
    assert_eq!(
        next(&refused),
        "2026-11-24T23:30:00+09:00 403 denied until 2026-11-25T06:00:00+09:00"
    );
    let flooded = told(&shop, NIGHT, "POST /pay/1", |asked| asked.exhausted.push(limit("few")));
    assert_eq!(
        (flooded.decision.effect, next(&flooded).as_str()),
        ("throttle", "never")
    );
}

#[test]
fn takes_the_claims_for_those_of_the_authenticator_that_is_named() {
    let shop = compiled(SHOP);
    let via = |name: &str, request: &str| {
        let told = told(&shop, NOON, request, |asked| {
            by(PAYER)(asked);
            asked.via = shop.defined.authenticators.get(name).map(|(id, _)| id);
        });
        (
            told.in_short(),
            told.principal.map(|principal| principal.authenticator.to_string()),
        )
    };
    assert_eq!(via("customer", "POST /pay/1").1.as_deref(), Some("customer"));
    assert_eq!(via("jar", "POST /pay/new").1.as_deref(), Some("jar"));
    // A token where the route does not look for one is none.
    assert_eq!(via("jar", "POST /pay/1"), ("401 token-missing".into(), None));
    // Another's token is refused.
    assert_eq!(
        via("customer", "POST /pay/new"),
        ("401 credential-unreadable".into(), None)
    );
}

#[test]
fn tries_what_a_configuration_says_of_itself() {
    let tests = "
tests:
  - { name: fine, at: 2026-11-24T23:45+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: { status: 403, policy: night, code: denied, reopens: 2026-11-25T06:00+09:00 } }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: allow }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay/1, expect: { reopens: never } }
  - { at: 2026-11-24T12:00+09:00, request: GET https://a.example/, expect: { status: 308 } }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay/new, expect: { status: 201 } }
  - { name: of a refusal, at: 2026-11-24T12:00+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: { reopens: never } }
  - { at: 2026-11-24T12:00+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: { status: 200 } }
  - { at: 2026-11-24T23:45+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: allow }
  - { at: 2026-11-24T23:45+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: { code: denied, reopens: 2026-11-25T05:00+09:00 } }
  - { at: 2026-11-24T23:45+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, headers: { content-length: 5 }, expect: allow }
";
    let shop = compiled(&format!("{}{}", tests.trim_start(), SHOP.trim_start()));
    let failures = failures(&shop);
    let found: Vec<String> = failures.iter().map(|failure| failure.finding().headline()).collect();
    assert_eq!(
        found,
        [
            "t.yaml:8:5: the test `of a refusal` fails: expected that no window ends, got allow, answered by upstream `one` (at `tests[5]`)",
            "t.yaml:9:5: the test fails: expected 200, got allow, answered by upstream `one` (at `tests[6]`)",
            "t.yaml:10:5: the test fails: expected allow, got 403 denied by night until 2026-11-25T06:00:00+09:00 (at `tests[7]`)",
            "t.yaml:11:5: the test fails: expected denied until 2026-11-25T05:00:00+09:00, got 403 denied by night until 2026-11-25T06:00:00+09:00 (at `tests[8]`)",
            "t.yaml:12:5: the test fails: expected allow, got nothing: `content-length` speaks of a body, and nothing here has one (at `tests[9]`)",
        ]
    );
    assert_eq!(
        failures[2].explain(&shop).unwrap().in_short(),
        "403 denied until 2026-11-25T06:00:00+09:00"
    );
    assert!(failures[4].explain(&shop).is_none());
}

#[test]
fn answers_for_any_year() {
    let tests = "
tests:
  - { at: 1999-12-31T23:45+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: { reopens: 2000-01-01T06:00+09:00 } }
  - { at: 2099-06-01T23:45+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: { reopens: 2099-06-02T06:00+09:00 } }
  - { at: 2199-06-01T12:00+09:00, request: POST /pay/1, as: { sub: u1, scope: pay }, expect: allow }
";
    assert!(failures(&compiled(&format!("{}{}", tests.trim_start(), SHOP.trim_start()))).is_empty());
}

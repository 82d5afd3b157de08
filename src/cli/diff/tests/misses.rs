//! What must not be missed, and what must not be said.

use super::{BASE, FROM, Paint, Report, compare, diff, report, said, text, whole};

/// Routes, and what else there is.
fn told(now: &str, next: &str) -> Report {
    compare(&text(now), &text(next), Some(FROM), 7)
}

fn plain(now: &str, next: &str) -> String {
    told(now, next).text(Paint::plain())
}

#[test]
fn tries_what_differs_before_what_stands_the_same() {
    let names = |what: &str, count: usize| -> String {
        let names: Vec<String> = (0..count).map(|at| format!("{what}{at}")).collect();
        names.join(", ")
    };
    let yaml = format!(
        "{BASE}policies:
  countries: {{ deny: {{ claims: {{ country: [{}] }} }} }}
  tiers:     {{ deny: {{ claims: {{ tier: [{}] }} }} }}
  branches:  {{ deny: {{ claims: {{ branch: [{}] }} }} }}
  devices:   {{ deny: {{ headers: {{ x-device: [{}] }} }} }}
  channels:  {{ deny: {{ query: {{ channel: [{}] }} }} }}
routes: {{ r: {{ match: GET /x, auth: customer, policies: [countries, tiers, branches, devices, channels], upstream: one }} }}\n",
        names("c", 12),
        names("t", 6),
        names("b", 12),
        names("d", 10),
        names("q", 8)
    );
    let found = told(&yaml, &yaml.replace(", q7", ""));
    let words = found.text(Paint::plain());
    assert!(found.opens() && !found.is_complete(), "{words}");
    assert!(words.contains("with query channel q7"), "{words}");
    assert!(words.contains("not all was tried\n  route `r`: tried "), "{words}");
    assert_eq!(found.json()["complete"], false);
    // Where nothing differs, nothing has to be tried.
    let found = told(&yaml, &yaml);
    assert!(!found.is_change() && found.is_complete());
}

#[test]
fn what_was_not_tried_is_not_no_change() {
    let roles = |names: &str| whole(&format!("require: {{ roles: [{names}] }}"));
    let found = report(&roles("a, b, c, d, e"), &roles("e, d, c, b, a"));
    assert!(!found.is_change() && !found.is_complete());
    let words = found.text(Paint::plain());
    assert!(words.ends_with("no change among what was tried\n"), "{words}");
}

#[test]
fn sees_what_opens_where_routes_overlap() {
    let routes = |admin: &str| {
        format!(
            "{BASE}policies: {{ closed: {{ deny: {{ methods: GET }} }} }}\nroutes:
  pub:  {{ match: 'GET /{{lang}}/docs/index', auth: none, upstream: one }}
  rest: {{ match: 'GET /{{rest...}}', auth: none, policies: [closed], upstream: one }}
{admin}"
        )
    };
    for (admin, request) in [
        ("'GET /admin/{x}/{y}'", "GET /admin/docs/index"),
        (
            "{ path: '/admin/{x}/{y}', host: x.a.example }",
            "GET x.a.example/admin/docs/index",
        ),
        (
            "{ path: '/admin/{x}/{y...}', headers: { x-v: '1' } }",
            "GET /admin/docs/index with x-v: 1",
        ),
    ] {
        let admin = format!("  admin: {{ match: {admin}, auth: none, policies: [closed], upstream: one }}\n");
        let found = told(&routes(&admin), &routes(""));
        let words = found.text(Paint::plain());
        let opened = format!("{request} (pub): now allowed, was denied 403 denied (closed) for everybody\n");
        assert!(found.opens() && words.contains(&opened), "{words}");
        let found = told(&routes(&admin), &routes(&admin.replace("admin: {", "other: {")));
        assert!(!found.is_change(), "{}", found.text(Paint::plain()));
    }
    // What does not take the other's requests away opens nothing.
    let beside = "  admin: { match: { path: '/{x}/docs/{y...}' }, auth: none, policies: [closed], upstream: one }\n";
    let found = told(&routes(beside), &routes(""));
    assert!(!found.opens(), "{}", found.text(Paint::plain()));
}

#[test]
fn names_nobody_whom_another_rule_refuses_anyway() {
    let policies = |more: &str, named: &str| {
        format!(
            "{BASE}policies:
  night: {{ deny: {{ during: seoul.night }}, unless: {{ roles: treasury }} }}
  rest:  {{ deny: {{ during: seoul.rest }}, unless: {{ roles: ops }}, reply: {{ code: REST }} }}
{more}routes: {{ pay: {{ match: POST /pay, auth: customer, policies: [night{named}], upstream: one }} }}\n"
        )
    };
    let words = plain(&policies("", ""), &policies("", ", rest"));
    assert_eq!(
        words,
        "closed\n  POST /pay (pay): now denied 403 REST (rest) for callers with role treasury but not ops, \
         02:00–04:00 on Sun 2026-11-29 (Asia/Seoul)\n"
    );
}

#[test]
fn does_not_open_for_strangers_what_an_expression_keeps_shut() {
    let routes = |auth: &str, rule: &str| {
        format!(
            "{BASE}policies: {{ own: {{ require: {{ if: '{rule}' }} }} }}\n\
             routes: {{ a: {{ match: 'GET /a/{{x}}', auth: {auth}, policies: [own], upstream: one }} }}\n"
        )
    };
    for rule in [
        "claims.sub == path.x",
        "path.x == \"b\" && !(claims.sub in [\"a\"])",
        "has(claims.sub)",
    ] {
        let found = told(&routes("customer", rule), &routes("[customer, none]", rule));
        assert!(!found.opens(), "{rule}: {}", found.text(Paint::plain()));
    }
    // Whom it may let pass it is told of, with the rule's name.
    let rule = "path.x == \"b\" || claims.sub == path.x";
    let found = told(&routes("customer", rule), &routes("[customer, none]", rule));
    let words = found.text(Paint::plain());
    let opened =
        "now allowed, was challenged 401 token-missing (auth) for anonymous callers, as far as `own` lets them\n";
    assert!(words.contains(opened), "{words}");
    assert_eq!(found.json()["changes"][0]["as_far_as"][0], "own");
}

#[test]
fn sees_clients_that_are_told_otherwise() {
    let clients = |clients: &str, rest: &str| {
        let (head, tail) = BASE.split_once("clients: {").unwrap();
        let (_, tail) = tail.split_once("web: { default: true } }").unwrap();
        format!("{head}clients: {{ {clients}, web: {{ default: true }} }}{tail}{rest}")
    };
    let (ios, app) = ("ios: { header: { x-os: ios } }", "app: { header: { x-app: '1' } }");
    let [one, other] = [format!("{ios}, {app}"), format!("{app}, {ios}")];
    let rule = |rule: &str| {
        format!(
            "policies: {{ p: {{ {rule} }} }}\n\
             routes: {{ pay: {{ match: POST /pay, auth: none, policies: [p], upstream: one }} }}\n"
        )
    };
    // A request with both headers.
    let denied = rule("deny: { clients: ios }");
    let found = told(&clients(&one, &denied), &clients(&other, &denied));
    assert!(found.opens() && !found.closes(), "{}", found.text(Paint::plain()));
    let by_expression = rule("deny: { if: 'client == \"ios\"' }");
    let renamed = one.replace("x-os", "x-platform");
    for next in [&other, &renamed] {
        let found = told(&clients(&one, &by_expression), &clients(next, &by_expression));
        let words = found.text(Paint::plain());
        let line = "changed, but not compared\n  with other windows, clients or clocks: `p` (deny if client == \"ios\"";
        assert!(found.is_change() && words.contains(line), "{words}");
    }
    let shaped = "shapes: { compact: { drop: [a] } }\n\
                  routes: { pay: { match: POST /pay, auth: none, upstream: one, shape: { ios: compact } } }\n";
    let words = plain(&clients(&one, shaped), &clients(&renamed, shaped));
    assert_eq!(
        words,
        "handled in another way\n  `shape` is another on pay\n  client `ios` is told in another way: `shape` may be another for it on pay\n"
    );
    // Who cannot be two at once may stand in any order.
    let (one, other) = ("ios: { header: { x-c: ios } }", "app: { header: { x-c: app } }");
    let [one, other] = [format!("{one}, {other}"), format!("{other}, {one}")];
    let found = told(&clients(&one, &by_expression), &clients(&other, &by_expression));
    assert!(!found.is_change(), "{}", found.text(Paint::plain()));
}

#[test]
fn sees_that_an_expression_stands_on_other_clocks_or_beside_another_window() {
    let rule = "policies: { p: { require: { during: seoul.work, if: 'now.getHours() < 12' } } }\n\
                routes: { pay: { match: POST /pay, auth: none, policies: [p], upstream: one } }\n";
    let now = format!("{BASE}{rule}");
    for (old, new) in [("Asia/Seoul", "Asia/Dubai"), ("09:00-18:00", "09:00-17:00")] {
        let words = plain(&now, &now.replace(old, new));
        let line = "changed, but not compared\n  with other windows, clients or clocks: `p` (require during seoul.work";
        assert!(words.contains(line), "{new}: {words}");
    }
    let words = plain(&now, &now.replace("23:30-05:00", "22:30-05:00"));
    assert!(words.ends_with("no change\n"), "{words}");
}

#[test]
fn looks_at_dates_however_far_ahead() {
    let dated = BASE.replace("2026-12-25, hours", "2031-12-25, hours");
    let yaml = |rule: &str| format!("{dated}{}", whole(rule));
    let words = plain(&yaml("deny: { methods: GET }"), &yaml("deny: { during: seoul.yule }"));
    assert!(words.contains("10:00–12:00 on Thu 2031-12-25 (Asia/Seoul)"), "{words}");
    // What is the same for whom it is about is not told.
    assert_eq!(
        said("deny: { during: seoul.yule }", "deny: { during: seoul.yule }"),
        "no change\n"
    );
    assert_eq!(
        diff(&whole("deny: { methods: GET }"), &whole("deny: { methods: GET }")),
        "no change\n"
    );
}

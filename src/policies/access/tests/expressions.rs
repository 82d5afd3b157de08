//! Policies with an `if:` among their conditions.

use super::*;

#[test]
fn judges_an_expression_beside_other_conditions() {
    let compiled = compile(&format!(
        "{NIGHT}policies:\n  p:\n    deny: {{ during: seoul.night, if: 'int(query.amount) > claims.limit && now.getHours() == 23' }}\n    \
         unless: {{ if: '\"x-a\" in request.headers && claims.vip' }}\n    calendar: seoul\n"
    ));
    let policy = compiled.policy();
    let asked = |query, claims| Asked {
        query,
        ..Asked::by(&[], &[], claims).at("2026-11-24T23:45:00+09:00")
    };
    let large = asked("amount=11", json!({"limit": 10}));
    assert_eq!(large.status(&policy), 403);
    assert_eq!(asked("amount=10", json!({"limit": 10})).status(&policy), 200);
    for unknown in [
        asked("amount=much", json!({"limit": 10})),
        asked("amount=1", json!({})),
        asked("", json!({"limit": 10})),
    ] {
        assert_eq!(unknown.status(&policy), 403);
    }
    let mut exempt = asked("amount=11", json!({"limit": 10, "vip": true}));
    assert_eq!(exempt.status(&policy), 403);
    exempt.headers.0 = vec![("x-a", b"1")];
    assert_eq!(exempt.status(&policy), 200);
    // What is unknown exempts nobody.
    exempt.principal = asked("", json!({"limit": 10, "vip": "yes"})).principal;
    assert_eq!(exempt.status(&policy), 403);
    assert_eq!(large.at("2026-11-24T23:15:00+09:00").status(&policy), 200);

    assert_eq!(policy.reads_headers(), ["x-a"]);
    assert_eq!(policy.reads_query(), ["amount"]);
    assert_eq!(policy.reads_claims(), ["limit", "vip"]);
    let unreadable = asked("amount=much", json!({"limit": 10}));
    assert_eq!(
        policy.describe(&unreadable.facts(), None),
        [
            "during seoul.night: true (23:30–05:00, until 2026-11-25T05:00+09:00)",
            "if int(query.amount) > claims.limit && now.getHours() == 23: unknown (`int` cannot read its argument)",
            "unless if \"x-a\" in request.headers && claims.vip: false",
        ]
    );
    // The expression is held as it is, although `now` will have moved by then.
    assert!(policy.follows_windows());
    let reopens = "2026-11-25T05:00+09:00".parse().unwrap();
    let large = asked("amount=11", json!({"limit": 10}));
    assert_eq!(policy.next_change(&large.facts()), Some(reopens));
    let mut facts = large.facts();
    facts.window_at = reopens;
    assert!(matches!(policy.judge(&facts, None).outcome, Outcome::Continue));
    facts.window_at = "2026-11-25T23:45+09:00".parse().unwrap();
    assert!(matches!(policy.judge(&facts, None).outcome, Outcome::Deny(_)));
}

#[test]
fn points_into_expressions() {
    let two = "calendars:\n  a: { timezone: Asia/Seoul }\n  b: { timezone: Europe/London }\npolicies:\n";
    let compiled = compile(&format!(
        "{two}  p:\n    deny: {{ if: 'claim.sub == \"x\"' }}\n    unless: {{ if: \"claims.sub == 5\" }}\n  \
         q:\n    require:\n      if: |\n        claims.sub == path.customer\n          && foo(ip)\n  \
         r: {{ deny: {{ if: now.getHours() == 1 }} }}\n  s: {{ deny: {{ if: now.getHours() == 1 }}, calendar: c }}\n  \
         t: {{ deny: {{ if: 'has(claims.a)' }}, calendar: a }}\n  u: {{ deny: {{ if: [a] }} }}\n  v: {{ deny: {{ if: 'true' }} }}\n  \
         w: {{ require: {{ if: 1 == 2 }} }}\n"
    ));
    assert_eq!(
        compiled.findings,
        [
            "t.yaml:6:18: unknown variable `claim`, did you mean `claims`?",
            "t.yaml:7:20: a text never equals a number",
            "t.yaml:12:14: unknown function `foo`, expected one of `size`, `contains`, `startsWith`, `endsWith`, `matches`, \
             `int`, `string`, `timestamp`, `duration`, `inNetwork`, `has`, `all`, `exists`, `exists_one`, `existsOne`, `map`, `filter`",
            "t.yaml:13:20: `now` stands on a calendar's clocks: say which with the policy's `calendar:`",
            "t.yaml:14:53: unknown calendar `c`, did you mean `a`?",
            "t.yaml:15:49: warning: no `if:` of this policy reads `now`, so `calendar` says nothing",
            "t.yaml:16:20: expected an expression such as `claims.sub == path.customer`, found a list",
            "t.yaml:17:14: warning: this `deny` refuses every request",
            "t.yaml:18:17: warning: this `require` can never hold, so it refuses every request: `if 1 == 2` is never true from now on",
        ]
    );
}

#[test]
fn wants_a_route_to_have_the_parameters_that_are_read() {
    let compiled = compile(
        "policies:\n  own: { require: { if: 'claims.sub == path.customer' } }\n  \
         either: { require: { if: '!has(path.customer) || claims.sub == path.customer' } }\n",
    );
    assert_eq!(compiled.findings, [""; 0]);
    let findings = |params: Option<&[Arc<str>]>| {
        let load = Load::new();
        let node = load.text("r.yaml", "[own, either]").unwrap();
        let scope = Scope {
            load: &load,
            route: "balance".into(),
            has_auth: true,
            params,
            cors: None,
            defined: &compiled.defined,
        };
        assert_eq!((POLICIES.compile)(&node, &scope).len(), 2);
        let found: Vec<String> = load.into_findings(None).iter().map(ToString::to_string).collect();
        found
    };
    assert_eq!(findings(None), [""; 0]);
    assert_eq!(findings(Some(&["customer".into()])), [""; 0]);
    assert_eq!(
        findings(Some(&["customr".into()])),
        [
            "r.yaml:1:2: the path of route `balance` has no `{customer}`, which `own` reads, did you mean `customr`?\n  \
             t.yaml:2:40: read here"
        ]
    );
}

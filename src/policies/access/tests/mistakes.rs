//! What is wrong with policies and with the lists of routes, and where.

use super::*;

#[test]
fn points_at_every_mistake_in_policies() {
    let findings = compile(&format!(
        "{NIGHT}clients: {{ ios: {{ header: {{ x-client: ios }} }} }}\npolicies:\n  \
         a: {{ deny: {{ during: seoul.nigth }} }}\n  \
         b: {{ deny: {{ during: soul.night }} }}\n  \
         c: {{ deny: {{ during: night }} }}\n  \
         d: {{ deny: {{ methods: POST }}, require: {{ roles: a }} }}\n  \
         e: {{ unless: {{ roles: a }} }}\n  \
         f: {{ deni: {{ methods: POST }} }}\n  \
         g: {{ deny: {{}} }}\n  \
         h: {{ deny: {{ roles: [] }} }}\n  \
         i: {{ deny: {{ role: a }} }}\n  \
         j: {{ deny: {{ clients: iso }} }}\n  \
         k: {{ deny: {{ ip: [10.0.0.1/8, '::ffff:10.0.0.0/104'] }} }}\n  \
         l: {{ deny: {{ methods: post }}, mode: shadwo }}\n  \
         m: {{ deny: {{ methods: POST }}, reply: {{ status: 200 }} }}\n  \
         n: {{ deny: {{ methods: POST }}, reply: {{ status: 401 }} }}\n  \
         o: {{ deny: {{ methods: POST }}, reply: {{ code: no way, message: {{ ko_KR: x }} }} }}\n  \
         p: {{ deny: {{ headers: {{ authorization: x }} }} }}\n  \
         q: {{ stepup: {{ acr: [otp] }} }}\n  \
         r: {{ deny: {{ methods: POST }}, unless: {{ scopes: 'a b' }} }}\n"
    ))
    .findings;
    assert_eq!(
        findings,
        [
            "t.yaml:4:24: calendar `seoul` has no window `nigth`, did you mean `night`?",
            "t.yaml:5:24: unknown calendar `soul`, did you mean `seoul`?",
            "t.yaml:6:24: `night` is not a window, did you mean `seoul.night`?",
            "t.yaml:7:42: a policy either denies, requires or steps up; make two of it\n  t.yaml:7:14: `deny` stands here",
            "t.yaml:8:6: missing `deny`, `require` or `step_up`",
            "t.yaml:9:8: unknown key `deni`, did you mean `deny`?",
            "t.yaml:10:14: a block without conditions: name at least one",
            "t.yaml:11:23: an empty list matches nothing",
            "t.yaml:12:16: unknown key `role`, did you mean `roles`?",
            "t.yaml:13:25: unknown client `iso`, did you mean `ios`?",
            "t.yaml:14:21: `10.0.0.1/8` has bits outside its mask; write `10.0.0.0/8`",
            "t.yaml:14:33: `::ffff:10.0.0.0/104` is an IPv4 network; write `10.0.0.0/8`",
            "t.yaml:15:25: `post` is not a method: capital letters such as `GET`",
            "t.yaml:15:39: unknown word `shadwo`, did you mean `shadow`?",
            "t.yaml:16:50: `200` is not a refusal: use 400 to 599",
            "t.yaml:17:50: `401` is for callers without a credential, who get it by themselves",
            "t.yaml:18:48: `no way` is not a code: letters, digits, `-`, `_`, `.`, at most 64",
            "t.yaml:18:67: `ko_KR` is not a language tag such as `ko` or `pt-BR`",
            "t.yaml:19:27: `authorization` carries credentials and cannot be matched",
            "t.yaml:20:8: unknown key `stepup`, did you mean `step_up`?",
            "t.yaml:21:51: `a b` is not a scope: visible ASCII without spaces, quotes and backslashes",
        ]
    );
}

#[test]
fn points_at_every_mistake_in_a_routes_list() {
    let compiled = compile("policies: { good: { deny: { methods: POST } }, bad: { deny: { methods: post } } }");
    let (drafts, findings) = compiled.drafts(&POLICIES, "[good, gold, bad, good]", true);
    assert_eq!(drafts.len(), 1);
    // What is wrong with `bad` itself is said where it stands.
    assert_eq!(
        findings,
        [
            "r.yaml:1:8: unknown policy `gold`, did you mean `good`?",
            "r.yaml:1:19: `good` stands on route `pay` a second time\n  r.yaml:1:2: first here",
        ]
    );
    assert_eq!(
        compiled.drafts(&POLICIES, "good", true).1,
        ["r.yaml:1:1: expected a list, found a single value"]
    );
}

#[test]
fn warns_of_policies_that_always_come_out_the_same() {
    let compiled = compile(
        "calendars: { c: { timezone: UTC, windows: { past: [{ from: 2020-01-01T00:00, to: 2020-01-02T00:00 }], none: [], \
         always: [{ days: daily }] } } }\npolicies:\n  \
         a: { deny: { during: c.past } }\n  \
         b: { require: { roles: x, during: [c.none, c.past] } }\n  \
         c: { deny: { methods: POST }, unless: { outside: c.always } }\n  \
         d: { deny: { outside: c.past } }\n  \
         e: { require: { roles: x } }\n  \
         f: { deny: { roles: x } }\n  \
         g: { deny: { claims: { a: b } } }\n  \
         h: { require: { claims: { a: { absent: true } } } }\n  \
         i: { deny: { claims: { a: b } }, unless: { methods: GET } }\n",
    );
    assert_eq!(
        compiled.findings,
        [
            "t.yaml:3:14: warning: this `deny` can never refuse: `during c.past` is never true from now on",
            "t.yaml:4:17: warning: this `require` can never hold, so it refuses every request: `during c.none, c.past` is \
             never true from now on",
            "t.yaml:5:41: warning: this `unless` can never exempt anybody: `outside c.always` is never true from now on",
            "t.yaml:6:14: warning: this `deny` refuses every request",
        ]
    );
    assert_eq!(
        compiled.drafts(&POLICIES, "[a, b, c, d, e, f, g, h, i]", true).1,
        [""; 0]
    );
    assert_eq!(
        compiled.drafts(&POLICIES, "[a, b, c, d, e, f, g, h, i]", false).1,
        [
            "r.yaml:1:14: warning: `e` can never hold, so it refuses every request on route `pay`, which has `auth: none`",
            "r.yaml:1:17: warning: `f` can never refuse on route `pay`, which has `auth: none`",
            "r.yaml:1:20: warning: `g` refuses every request on route `pay`, which has `auth: none`",
        ]
    );
}

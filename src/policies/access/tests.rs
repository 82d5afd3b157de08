#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use http::{HeaderName, Method};
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::conf::{Load, Named, Node, Read};
use crate::engine::{
    Client, Decision, Denial, DenialKind, Effect, Facts, Headers, Outcome, Params, Policy, Principal, RequestView,
    Rule, Why,
};
use crate::policies::clients::Clients;
use crate::policies::{Defined, Draft, Kind, Scope};

mod expressions;
mod mistakes;

pub(super) const NOW: &str = "2026-11-24T12:00:00+09:00";

/// The calendars and policies of one text, and what was found wrong with it.
pub(super) struct Compiled {
    pub calendars: Calendars,
    defined: Defined,
    pub findings: Vec<String>,
}

pub(super) fn compile_at(yaml: &str, now: &str, at_start: bool) -> Compiled {
    let load = Load::new();
    let document = load.text("t.yaml", yaml).unwrap();
    let section = |key: &str| -> Named<Node> {
        let node = document.get(key);
        node.map_or_else(Named::default, |node| Named::read(node, &load).unwrap())
    };
    let calendars = Calendars::compile(&section("calendars"), now.parse().unwrap(), at_start, &load);
    let clients = Clients::compile(&section("clients"), &load);
    let policies = Policies::compile(&section("policies"), &calendars, &clients, &load);
    let findings = load.into_findings(None).iter().map(ToString::to_string).collect();
    Compiled {
        calendars,
        defined: Defined {
            policies,
            ..Defined::default()
        },
        findings,
    }
}

pub(super) fn compile(yaml: &str) -> Compiled {
    compile_at(yaml, NOW, false)
}

impl Compiled {
    /// What `kind` makes of `value` on a route, and what it finds wrong.
    pub fn drafts(&self, kind: &Kind, value: &str, has_auth: bool) -> (Vec<Draft>, Vec<String>) {
        let load = Load::new();
        let node = load.text("r.yaml", value).unwrap();
        let scope = Scope {
            load: &load,
            route: "pay".into(),
            has_auth,
            params: None,
            cors: None,
            defined: &self.defined,
        };
        let drafts = (kind.compile)(&node, &scope);
        (
            drafts,
            load.into_findings(None).iter().map(ToString::to_string).collect(),
        )
    }

    /// The one policy of the text.
    pub fn policy(&self) -> Arc<dyn Policy> {
        assert_eq!(self.findings, [""; 0]);
        let name = self.defined.policies.names().next().unwrap();
        self.drafts(&POLICIES, &format!("[{name}]"), true).0[0].policy.clone()
    }

    pub fn window(&self, name: &str) -> WindowRef {
        let load = Load::new();
        let node = load.text("w.yaml", name).unwrap();
        self.calendars.window(name, &node.place, &load).unwrap()
    }
}

struct Lines(Vec<(&'static str, &'static [u8])>);

impl Headers for Lines {
    fn first(&self, name: &HeaderName) -> Option<&[u8]> {
        let found = self.0.iter().find(|(known, _)| *known == name.as_str());
        found.map(|(_, value)| *value)
    }

    fn is_repeated(&self, name: &HeaderName) -> bool {
        self.0.iter().filter(|(known, _)| *known == name.as_str()).count() > 1
    }
}

/// A request, with what a test wants to say of it.
pub(super) struct Asked {
    at: &'static str,
    address: &'static str,
    client: Client,
    pub method: Method,
    query: &'static str,
    headers: Lines,
    pub principal: Option<Arc<Principal>>,
}

impl Asked {
    pub fn anonymous() -> Self {
        Self {
            at: NOW,
            address: "192.0.2.1",
            client: Client::unnamed(),
            method: Method::POST,
            query: "",
            headers: Lines(Vec::new()),
            principal: None,
        }
    }

    pub fn by(roles: &[&str], scopes: &[&str], claims: serde_json::Value) -> Self {
        let list = |items: &[&str]| items.iter().copied().map(Into::into).collect();
        let serde_json::Value::Object(claims) = claims else {
            panic!()
        };
        let principal = Principal {
            authenticator: "customer".into(),
            issuer: "i".into(),
            subject: "s".into(),
            scopes: list(scopes),
            roles: list(roles),
            claims: claims.into(),
            auth_time: None,
            acr: None,
            expires: None,
            token_id: None,
            identity: Principal::frame("customer", "i", "s"),
        };
        Self {
            principal: Some(Arc::new(principal)),
            ..Self::anonymous()
        }
    }

    pub fn at(self, at: &'static str) -> Self {
        Self { at, ..self }
    }

    pub fn facts(&self) -> Facts<'_> {
        let now: Timestamp = self.at.parse().unwrap();
        Facts {
            now,
            window_at: now,
            address: self.address.parse().unwrap(),
            client: &self.client,
            request: RequestView {
                method: &self.method,
                host: "h",
                path: "/",
                query: self.query,
                headers: &self.headers,
            },
            params: Params::default(),
            principal: self.principal.clone(),
        }
    }

    pub fn denial(&self, policy: &Arc<dyn Policy>) -> Option<Box<Denial>> {
        match policy.judge(&self.facts(), None).outcome {
            Outcome::Continue => None,
            Outcome::Deny(denial) => Some(denial),
            other => panic!("{other:?}"),
        }
    }

    pub fn status(&self, policy: &Arc<dyn Policy>) -> u16 {
        self.denial(policy).map_or(200, |denial| denial.status.as_u16())
    }
}

pub(super) const NIGHT: &str =
    "calendars: { seoul: { timezone: Asia/Seoul, windows: { night: [{ days: daily, hours: 23:30-05:00 }] } } }\n";

#[test]
fn denies_during_a_window_and_says_when_it_reopens() {
    let compiled = compile(&format!(
        "{NIGHT}policies:\n  closed:\n    deny: {{ during: seoul.night }}\n    unless: {{ roles: [treasury] }}\n    \
         reply: {{ code: TRANSFER_CLOSED, message: {{ ko: 밤, en: night }} }}\n"
    ));
    let policy = compiled.policy();
    let teller = || Asked::by(&["teller"], &[], json!({}));
    assert_eq!(teller().status(&policy), 200);
    let night = teller().at("2026-11-24T23:45:00+09:00");
    let denial = night.denial(&policy).unwrap();
    assert_eq!(
        (&*denial.code, denial.status.as_u16(), denial.kind),
        ("TRANSFER_CLOSED", 403, DenialKind::Refuse)
    );
    assert_eq!(denial.messages.as_ref().unwrap().0[0].1, "밤");
    assert_eq!(denial.zone.as_ref().unwrap().iana_name(), Some("Asia/Seoul"));
    let treasury = Asked::by(&["treasury"], &[], json!({})).at("2026-11-24T23:45:00+09:00");
    let verdict = policy.judge(&treasury.facts(), None);
    assert!(matches!(verdict.outcome, Outcome::Continue));
    assert_eq!(verdict.why, Why::Exempt);

    // Nothing but the window moves, so somebody who is exempt sees no change coming.
    assert!(policy.follows_windows());
    let next = policy.next_change(&night.facts()).unwrap();
    assert_eq!(next, "2026-11-25T05:00+09:00".parse().unwrap());
    assert_eq!(policy.next_change(&treasury.facts()), None);
    assert_eq!(
        policy.describe(&night.facts(), None),
        [
            "during seoul.night: true (23:30–05:00, until 2026-11-25T05:00+09:00)",
            "unless roles treasury: false (the caller holds teller)",
        ]
    );
    assert_eq!(
        policy.describe(&teller().facts(), None)[0],
        "during seoul.night: false (opens 2026-11-24T23:30+09:00)"
    );

    let rule = Rule {
        name: "closed".into(),
        kind: "policies",
        stage: crate::engine::Stage::Authorize,
        shadow: false,
        origin: "t.yaml:1:1".into(),
        policy,
    };
    let rules = [rule];
    let mut facts = night.facts();
    let decision = Decision {
        effect: Effect::Deny(denial),
        acts: Default::default(),
        principal: None,
        limits: Default::default(),
        answers: Default::default(),
        trail: Default::default(),
    };
    let (at, zone) = crate::engine::reopens_at(&rules, &mut facts, &decision).unwrap();
    assert_eq!((at, zone.iana_name()), (next, Some("Asia/Seoul")));
}

#[test]
fn requires_what_is_known_to_be_true() {
    let policy = compile("policies: { p: { require: { claims: { tier: [gold] }, roles: [vip, staff] } } }").policy();
    assert_eq!(Asked::by(&["vip"], &[], json!({"tier": "gold"})).status(&policy), 200);
    assert_eq!(Asked::by(&["vip"], &[], json!({"tier": "tin"})).status(&policy), 403);
    assert_eq!(Asked::by(&["vip"], &[], json!({})).status(&policy), 403);
    assert_eq!(Asked::by(&[], &[], json!({"tier": "gold"})).status(&policy), 403);
    assert_eq!(policy.reads_claims(), ["tier"]);
}

#[test]
fn denies_what_is_unknown_and_exempts_only_what_is_true() {
    let policy =
        compile("policies: { p: { deny: { claims: { frozen: true } }, unless: { claims: { vip: true } } } }").policy();
    assert_eq!(Asked::by(&[], &[], json!({"frozen": false})).status(&policy), 200);
    assert_eq!(Asked::by(&[], &[], json!({"frozen": true})).status(&policy), 403);
    assert_eq!(Asked::by(&[], &[], json!({})).status(&policy), 403);
    assert_eq!(
        Asked::by(&[], &[], json!({"frozen": true, "vip": true})).status(&policy),
        200
    );
    let verdict = policy.judge(&Asked::by(&[], &[], json!({})).facts(), None);
    assert_eq!(verdict.why.words(), "condition is unknown");
    assert_eq!(
        policy.describe(&Asked::by(&[], &[], json!({"vip": 1})).facts(), None),
        [
            "claims.frozen is true: unknown (the claim is absent)",
            "unless claims.vip is true: false"
        ]
    );
}

#[test]
fn asks_an_unknown_caller_for_a_credential_only_where_that_could_help() {
    let at_night = || Asked::anonymous().at("2026-11-24T23:45:00+09:00");
    for (block, by_day, by_night) in [
        ("deny: { during: seoul.night }", 200, 403),
        ("deny: { during: seoul.night }, unless: { roles: a }", 200, 403),
        ("deny: { during: seoul.night, claims: { a: b } }", 200, 401),
        ("require: { roles: a }", 401, 401),
        ("require: { outside: seoul.night, scopes: a }", 401, 403),
        ("require: { claims: { a: { absent: true } } }", 200, 200),
        ("require: { methods: GET }", 403, 403),
        ("require: { if: 'claims.a == \"b\"' }", 401, 401),
        ("require: { if: 'has(claims.a)' }", 401, 401),
        ("require: { if: '!has(claims.a)' }", 200, 200),
        ("require: { if: 'query.a == \"b\"' }", 403, 403),
        ("require: { if: 'query.a == \"b\" && claims.a == \"b\"' }", 401, 401),
        (
            "require: { if: 'request.method == \"GET\" && claims.a == \"b\"' }",
            403,
            403,
        ),
        ("require: { if: 'claims.a == \"b\"', outside: seoul.night }", 401, 403),
        ("deny: { if: 'has(claims.a) || request.method == \"POST\"' }", 403, 403),
        ("deny: { if: '!has(claims.a)' }", 401, 401),
        ("deny: { during: seoul.night, if: 'claims.a != \"b\"' }", 200, 401),
    ] {
        let policy = compile(&format!("{NIGHT}policies: {{ p: {{ {block} }} }}\n")).policy();
        assert_eq!(
            (Asked::anonymous().status(&policy), at_night().status(&policy)),
            (by_day, by_night),
            "{block}"
        );
    }
    let policy = compile("policies: { p: { require: { roles: a } } }").policy();
    let denial = Asked::anonymous().denial(&policy).unwrap();
    assert_eq!((&*denial.code, denial.kind), ("token-missing", DenialKind::Challenge));
    assert_eq!(denial.challenge.as_ref().unwrap(), "Bearer realm=\"gwanmun\"");
}

#[test]
fn scopes_are_all_required() {
    let compiled = compile("");
    let (drafts, findings) = compiled.drafts(&SCOPES, "[a, 'b:c']", true);
    assert_eq!(
        (findings, &*drafts[0].name, drafts[0].place.to_string()),
        (vec![], "scopes", "r.yaml:1:1".into())
    );
    let policy = &drafts[0].policy;
    assert_eq!(Asked::by(&[], &["b:c", "a"], json!({})).status(policy), 200);
    let denial = Asked::by(&[], &["a"], json!({})).denial(policy).unwrap();
    assert_eq!((&*denial.code, denial.status.as_u16()), ("scope-missing", 403));
    assert_eq!(
        denial.challenge.as_ref().unwrap(),
        "Bearer realm=\"gwanmun\", error=\"insufficient_scope\", scope=\"a b:c\""
    );
    assert_eq!(Asked::anonymous().status(policy), 401);
    assert!(!policy.follows_windows());
    assert_eq!(
        policy.describe(&Asked::by(&[], &["a"], json!({})).facts(), None),
        ["scope a: true", "scope b:c: false"]
    );
    assert_eq!(
        compiled.drafts(&SCOPES, "[a b, 'c\"', '']", true).1,
        [
            "r.yaml:1:2: `a b` is not a scope: visible ASCII without spaces, quotes and backslashes",
            "r.yaml:1:7: `c\"` is not a scope: visible ASCII without spaces, quotes and backslashes",
            "r.yaml:1:13: `` is not a scope: visible ASCII without spaces, quotes and backslashes",
        ]
    );
    assert_eq!(
        compiled.drafts(&SCOPES, "[]", true).1,
        ["r.yaml:1:1: an empty list matches nothing"]
    );
    assert_eq!(
        compiled.drafts(&SCOPES, "[a]", false).1,
        ["r.yaml:1:1: warning: no caller can hold a scope here: the route has `auth: none`"]
    );
}

#[test]
fn judges_every_kind_of_condition() {
    let yaml = "clients: { ios: { header: { x-client: ios } }, web: { default: true } }\n\
                policies: { p: { require: { BLOCK } } }";
    let asked = |change: fn(&mut Asked)| {
        let mut asked = Asked::by(&["r"], &["s"], json!({"a": {"b": [1, 2]}, "u:n/x": "y"}));
        change(&mut asked);
        asked
    };
    for (block, asked, expected) in [
        ("roles: [q, r]", asked(|_| ()), "true"),
        ("roles: q", asked(|_| ()), "false"),
        ("scopes: [s]", asked(|_| ()), "true"),
        ("claims: { a.b: 2, 'u:n/x': y }", asked(|_| ()), "true"),
        ("claims: { a.b: 3 }", asked(|_| ()), "false"),
        ("claims: { a.c: 3 }", asked(|_| ()), "unknown"),
        ("claims: { a.c: 3 }, roles: q", asked(|_| ()), "false"),
        ("ip: [10.0.0.0/8, 192.0.2.1]", asked(|_| ()), "true"),
        ("ip: 10.0.0.0/8", asked(|_| ()), "false"),
        (
            "ip: 192.0.2.0/24",
            asked(|asked| asked.address = "::ffff:192.0.2.9"),
            "true",
        ),
        ("clients: ios", asked(|_| ()), "false"),
        ("clients: [ios, web]", asked(|asked| asked.client.index = 0), "true"),
        ("methods: [POST]", asked(|_| ()), "true"),
        ("methods: GET", asked(|asked| asked.method = Method::HEAD), "true"),
        ("methods: HEAD", asked(|asked| asked.method = Method::GET), "false"),
        ("headers: { X-A: [b, c] }", asked(|_| ()), "false"),
        (
            "headers: { X-A: [b, c] }",
            asked(|asked| asked.headers.0 = vec![("x-a", b"c")]),
            "true",
        ),
        (
            "headers: { X-A: b }",
            asked(|asked| asked.headers.0 = vec![("x-a", b"\xff")]),
            "unknown",
        ),
        (
            "headers: { X-A: b }",
            asked(|asked| asked.headers.0 = vec![("x-a", b"b"), ("x-a", b"b")]),
            "unknown",
        ),
        ("query: { dry: true }", asked(|_| ()), "false"),
        (
            "query: { dry: true }",
            asked(|asked| asked.query = "a=b&dr%79=tr%75e"),
            "true",
        ),
        (
            "query: { dry: [true, 'yes'] }",
            asked(|asked| asked.query = "dry=yes&dry=true"),
            "true",
        ),
        (
            "query: { dry: true }",
            asked(|asked| asked.query = "dry=true&dry=false"),
            "unknown",
        ),
        (
            "query: { dry: true }",
            asked(|asked| asked.query = "dry=false&dry=no"),
            "false",
        ),
        // An upstream may take the one that cannot be read, and read it as it likes.
        (
            "query: { dry: true }",
            asked(|asked| asked.query = "dry=true&dry=%FFfalse"),
            "unknown",
        ),
        (
            "query: { dry: true }",
            asked(|asked| asked.query = "dry=%FFtrue"),
            "unknown",
        ),
    ] {
        let policy = compile(&yaml.replace("BLOCK", block)).policy();
        let verdict = policy.judge(&asked.facts(), None);
        let truth = match verdict.why {
            Why::Held => "true",
            Why::Lacking => "false",
            Why::Condition(truth) => truth.word(),
            other => panic!("{other:?}"),
        };
        assert_eq!(truth, expected, "{block}");
        assert_eq!(matches!(verdict.outcome, Outcome::Continue), expected == "true");
        let lines = policy.describe(&asked.facts(), None);
        assert!(
            lines.iter().any(|line| line.contains(&format!(": {expected}"))),
            "{lines:?}"
        );
    }
}

#[test]
fn says_what_it_reads() {
    let policy = compile(
        "policies: { p: { deny: { headers: { x-a: b }, query: { q: r }, claims: { c: d } }, unless: { headers: { x-a: c, x-b: d } } } }",
    )
    .policy();
    assert_eq!(policy.reads_headers(), ["x-a", "x-b"]);
    assert_eq!(
        (policy.reads_query(), policy.reads_claims()),
        (vec!["q".into()], vec!["c".into()])
    );
    assert!(!policy.follows_windows());
    assert_eq!(policy.next_change(&Asked::anonymous().facts()), None);
}

#[test]
fn shows_the_zone_of_the_window_that_ends_the_refusal() {
    let policy = compile(
        "calendars:\n  a: { timezone: Asia/Seoul, windows: { w: [{ days: daily, hours: 09:00-18:00 }] } }\n  \
         b: { timezone: Europe/London, windows: { w: [{ days: daily, hours: 08:00-20:00 }] } }\n\
         policies: { p: { deny: { during: [a.w, b.w] } } }\n",
    )
    .policy();
    let zone = |at: &'static str| {
        let denial = Asked::anonymous().at(at).denial(&policy).unwrap();
        denial.zone.unwrap().iana_name().unwrap().to_owned()
    };
    assert_eq!(zone("2026-11-24T17:30:00+09:00"), "Asia/Seoul");
    assert_eq!(zone("2026-11-24T19:30:00Z"), "Europe/London");
}

#[test]
fn a_shadow_policy_is_drafted_as_one() {
    let compiled = compile("policies: { p: { mode: shadow, deny: { methods: POST } }, q: { deny: { methods: GET } } }");
    let (drafts, findings) = compiled.drafts(&POLICIES, "[q, p]", true);
    let drafted: Vec<_> = drafts
        .iter()
        .map(|draft| (&*draft.name, draft.shadow, draft.place.to_string()))
        .collect();
    assert_eq!(
        drafted,
        [
            ("q", false, "t.yaml:1:59".to_owned()),
            ("p", true, "t.yaml:1:13".to_owned())
        ]
    );
    assert_eq!(findings, [""; 0]);
}

#[test]
fn a_status_and_a_code_of_ones_own() {
    let policy = compile(
        "policies: { p: { deny: { methods: POST }, reply: { status: 451, code: GONE.1, message: Not here. } } }",
    )
    .policy();
    let denial = Asked::anonymous().denial(&policy).unwrap();
    assert_eq!(
        (denial.status.as_u16(), &*denial.code, &*denial.detail),
        (451, "GONE.1", "Not here.")
    );
    assert!(denial.messages.is_none() && denial.zone.is_none());
}

/// The YAML at the head of a module, each line behind `indent`.
fn example(source: &str, indent: &str) -> String {
    let lines = source.lines().skip_while(|line| *line != "//! ```yaml").skip(1);
    let lines = lines.take_while(|line| *line != "//! ```");
    let lines = lines.map(|line| {
        format!(
            "{indent}{}\n",
            line.trim_start_matches("//!").strip_prefix(' ').unwrap_or("")
        )
    });
    lines.collect()
}

#[test]
fn the_examples_in_the_modules_compile() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("h.yaml");
    std::fs::write(&path, example(include_str!("holidays.rs"), "")).unwrap();
    let calendars = example(include_str!("calendar.rs"), "").replace("holidays-kr.yaml", &path.display().to_string());
    let clients = format!(
        "clients:\n{}",
        example(include_str!("../clients.rs"), "").replace("clients:\n", "")
    );
    let policies = example(include_str!("policy.rs"), "");
    let login = example(include_str!("login.rs"), "    ");
    let (policies, route) = policies.split_once("routes:\n").unwrap();
    assert!(route.contains("policies: [no-night-transfer]"));
    let condition = example(include_str!("condition.rs"), "      ");
    let reply = example(include_str!("reply.rs"), "    ");
    let compiled = compile(&format!(
        "{calendars}{clients}{policies}  all:\n    require:\n{condition}{reply}  login:\n{login}"
    ));
    assert_eq!(compiled.findings, [""; 0]);
    assert_eq!(
        compiled
            .drafts(&POLICIES, "[no-night-transfer, all, login]", true)
            .0
            .len(),
        3
    );
    let scopes = example(include_str!("scopes.rs"), "").replace("scopes: ", "");
    assert_eq!(compiled.drafts(&SCOPES, &scopes, true).0.len(), 1);
}

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
use crate::policies::{Draft, Kind, Scope};

const NOW: &str = "2026-11-24T12:00:00+09:00";

/// The calendars, clients and policies of one text, and what was found wrong with it.
struct Compiled {
    calendars: Calendars,
    clients: Clients,
    policies: Policies,
    findings: Vec<String>,
}

fn compile_at(yaml: &str, now: &str, at_start: bool) -> Compiled {
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
        clients,
        policies,
        findings,
    }
}

fn compile(yaml: &str) -> Compiled {
    compile_at(yaml, NOW, false)
}

impl Compiled {
    /// What `kind` makes of `value` on a route, and what it finds wrong.
    fn drafts(&self, kind: &Kind, value: &str, has_auth: bool) -> (Vec<Draft>, Vec<String>) {
        let load = Load::new();
        let node = load.text("r.yaml", value).unwrap();
        let scope = Scope {
            load: &load,
            route: "pay".into(),
            has_auth,
            policies: &self.policies,
        };
        let drafts = (kind.compile)(&node, &scope);
        (
            drafts,
            load.into_findings(None).iter().map(ToString::to_string).collect(),
        )
    }

    /// The one policy of the text.
    fn policy(&self) -> Arc<dyn Policy> {
        assert_eq!(self.findings, [""; 0]);
        let name = self.policies.names().next().unwrap();
        self.drafts(&POLICIES, &format!("[{name}]"), true).0[0].policy.clone()
    }

    fn window(&self, name: &str) -> WindowRef {
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
struct Asked {
    at: &'static str,
    address: &'static str,
    client: Client,
    method: Method,
    query: &'static str,
    headers: Lines,
    principal: Option<Arc<Principal>>,
}

impl Asked {
    fn anonymous() -> Self {
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

    fn by(roles: &[&str], scopes: &[&str], claims: serde_json::Value) -> Self {
        let list = |items: &[&str]| items.iter().map(|item| Box::from(*item)).collect();
        let serde_json::Value::Object(claims) = claims else {
            panic!()
        };
        let principal = Principal {
            authenticator: "customer".into(),
            issuer: "i".into(),
            subject: "s".into(),
            scopes: list(scopes),
            roles: list(roles),
            claims,
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

    fn at(self, at: &'static str) -> Self {
        Self { at, ..self }
    }

    fn facts(&self) -> Facts<'_> {
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

    fn denial(&self, policy: &Arc<dyn Policy>) -> Option<Box<Denial>> {
        match policy.judge(&self.facts(), None).outcome {
            Outcome::Continue => None,
            Outcome::Deny(denial) => Some(denial),
            other => panic!("{other:?}"),
        }
    }

    fn status(&self, policy: &Arc<dyn Policy>) -> u16 {
        self.denial(policy).map_or(200, |denial| denial.status.as_u16())
    }
}

const NIGHT: &str =
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
    assert_eq!(denial.challenge.as_ref().unwrap(), "Bearer");
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
        "Bearer error=\"insufficient_scope\", scope=\"a b:c\""
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

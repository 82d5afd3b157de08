#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;
use serde_json::json;

use super::tests::{Asked, NIGHT, NOW, compile};
use super::{POLICIES, condition};
use crate::conf::{Describe, Schemas};
use crate::engine::{
    Answers, Decision, DenialKind, Effect, Lookup, Mentions, Policy, Question, Rule, Stage, Trail, Truth, Why, decide,
    reopens_at,
};

/// A caller with roles, whose login was in that context and so many seconds before [`NOW`].
fn login(roles: &[&str], acr: Option<&str>, age: Option<i64>) -> Asked {
    let mut asked = Asked::by(roles, &[], json!({}));
    let principal = Arc::get_mut(asked.principal.as_mut().unwrap()).unwrap();
    principal.acr = acr.map(Into::into);
    let now: Timestamp = NOW.parse().unwrap();
    principal.auth_time = age.map(|age| Timestamp::from_second(now.as_second() - age).unwrap());
    asked
}

fn truth(policy: &Arc<dyn Policy>, asked: &Asked) -> Truth {
    match policy.judge(&asked.facts(), None).why {
        Why::Held => Truth::True,
        Why::Login(truth) => truth,
        why => panic!("{why:?}"),
    }
}

#[test]
fn asks_whose_login_is_too_weak_or_too_old_to_log_in_again() {
    let policy = compile("policies: { p: { step_up: { acr: [otp, hwk], max_age: 5m } } }").policy();
    let judged = |acr, age| truth(&policy, &login(&[], acr, age));
    assert_eq!(judged(Some("otp"), Some(300)), Truth::True);
    assert_eq!(judged(Some("hwk"), Some(0)), Truth::True);
    assert_eq!(judged(Some("pwd"), Some(1)), Truth::False);
    assert_eq!(judged(Some("OTP"), Some(1)), Truth::False);
    assert_eq!(judged(Some("otp"), Some(301)), Truth::False);
    // What the issuer does not say counts against the caller, and so does what cannot be.
    assert_eq!(judged(None, Some(1)), Truth::Unknown);
    assert_eq!(judged(Some("otp"), None), Truth::Unknown);
    assert_eq!(judged(None, Some(301)), Truth::False);
    assert_eq!(judged(Some("otp"), Some(-30)), Truth::True);
    assert_eq!(judged(Some("otp"), Some(-31)), Truth::Unknown);

    let denial = login(&[], Some("pwd"), None).denial(&policy).unwrap();
    assert_eq!(
        (denial.kind, denial.status.as_u16(), &*denial.code),
        (DenialKind::Challenge, 401, "step-up-required")
    );
    assert_eq!(
        denial.challenge.as_ref().unwrap(),
        "Bearer realm=\"gwanmun\", error=\"insufficient_user_authentication\", \
         error_description=\"a stronger or more recent login is needed\", acr_values=\"otp hwk\", max_age=\"300\""
    );
    // Nobody in particular is asked who it is, in the first place.
    let denial = Asked::anonymous().denial(&policy).unwrap();
    assert_eq!((&*denial.code, denial.step_up.is_none()), ("token-missing", true));
    assert!(policy.restricts_callers() && !policy.follows_windows());
}

#[test]
fn asks_for_the_context_or_the_age_alone() {
    let context = compile("policies: { p: { step_up: { acr: otp } } }").policy();
    assert_eq!(truth(&context, &login(&[], Some("otp"), None)), Truth::True);
    assert_eq!(truth(&context, &login(&[], None, Some(1))), Truth::Unknown);
    let age = compile("policies: { p: { step_up: { max_age: 90s } } }").policy();
    assert_eq!(truth(&age, &login(&[], None, Some(90))), Truth::True);
    assert_eq!(truth(&age, &login(&[], Some("otp"), Some(91))), Truth::False);
    assert_eq!(
        age.describe(&login(&[], None, Some(91)).facts(), None),
        ["max_age 90s: false (the login was 91s ago)"]
    );
    assert_eq!(
        age.describe(&login(&[], None, Some(-60)).facts(), None),
        ["max_age 90s: unknown (the login is in the future)"]
    );
    assert_eq!(
        context.describe(&login(&[], None, None).facts(), None),
        ["acr otp: unknown (the issuer does not say)"]
    );
    assert_eq!(
        context.describe(&Asked::anonymous().facts(), None),
        ["acr otp: unknown (the caller is not known)"]
    );
}

#[test]
fn asks_only_when_it_is_to_and_nobody_who_is_exempt() {
    let yaml = format!(
        "{NIGHT}policies: {{ p: {{ step_up: {{ acr: otp }}, when: {{ during: seoul.night, methods: POST, claims: {{ big: true }} }}, \
         unless: {{ roles: ops }} }} }}"
    );
    let policy = compile(&yaml).policy();
    let night = "2026-11-24T23:45:00+09:00";
    let weak = |claims| Asked::by(&[], &[], claims);
    let why = |asked: &Asked| policy.judge(&asked.facts(), None).why;
    assert_eq!(why(&weak(json!({"big": true}))), Why::NotConcerned);
    assert_eq!(why(&weak(json!({"big": true})).at(night)), Why::Login(Truth::Unknown));
    assert_eq!(why(&weak(json!({"big": false})).at(night)), Why::NotConcerned);
    // Whether it is to be asked cannot be known: it is asked.
    assert_eq!(why(&weak(json!({})).at(night)), Why::Login(Truth::Unknown));
    let mut get = weak(json!({"big": true})).at(night);
    get.method = Method::GET;
    assert_eq!(why(&get), Why::NotConcerned);
    assert_eq!(
        why(&Asked::by(&["ops"], &[], json!({"big": true})).at(night)),
        Why::Exempt
    );
    assert_eq!(why(&Asked::anonymous()), Why::NotConcerned);
    assert_eq!(Asked::anonymous().at(night).status(&policy), 401);
    assert_eq!(
        policy.describe(&weak(json!({"big": true})).facts(), None),
        [
            "acr otp: unknown (the issuer does not say)",
            "when during seoul.night: false (opens 2026-11-24T23:30+09:00)",
            "when claims.big is true: true",
            "when methods POST: true (POST)",
            "unless roles ops: false (the caller holds no role)",
        ]
    );
    assert_eq!(policy.reads_claims(), ["big"]);
    // By day the window alone stands between the caller and the question; at night it may take it away again.
    let changes = |asked: Asked| policy.next_change(&asked.facts()).map(|at| at.to_string());
    assert_eq!(changes(weak(json!({"big": true}))).unwrap(), "2026-11-24T14:30:00Z");
    assert_eq!(
        changes(weak(json!({"big": true})).at(night)).unwrap(),
        "2026-11-24T20:00:00Z"
    );
    assert_eq!(changes(weak(json!({"big": false}))), None);
    assert_eq!(changes(login(&[], Some("otp"), None)), None);
}

#[test]
fn limits_a_require_to_when_it_is_meant() {
    let policy = compile("policies: { p: { require: { ip: 10.0.0.0/8 }, when: { claims: { tier: gold } } } }").policy();
    let status = |claims| Asked::by(&[], &[], claims).status(&policy);
    assert_eq!(status(json!({"tier": "gold"})), 403);
    assert_eq!(status(json!({"tier": "tin"})), 200);
    assert_eq!(status(json!({})), 403);
    // Another caller would not be concerned.
    assert_eq!(Asked::anonymous().status(&policy), 401);
}

struct Silent;

impl Lookup for Silent {
    async fn answer(&self, _: &[(u16, Question<'_>)]) -> Answers {
        Answers::new()
    }
}

/// What the policies of `yaml`, in their order, decide about a request, and when it will be otherwise.
fn decided(yaml: &str, names: &str, asked: &Asked) -> (Decision, Trail, Option<Timestamp>) {
    let compiled = compile(&format!("{NIGHT}{yaml}"));
    assert_eq!(compiled.findings, [""; 0]);
    let (drafts, findings) = compiled.drafts(&POLICIES, names, true);
    assert_eq!(findings, [""; 0]);
    let rule = |draft: crate::policies::Draft| Rule {
        name: draft.name,
        kind: "policies",
        stage: draft.stage,
        shadow: draft.shadow,
        origin: "t.yaml:1:1".into(),
        policy: draft.policy,
    };
    let mut rules: Vec<Rule> = drafts.into_iter().map(rule).collect();
    rules.sort_by_key(|rule| rule.stage);
    let mut facts = asked.facts();
    let decision = *futures::executor::block_on(decide(&rules, &mut facts, &Silent));
    let trail = decision.trail.clone();
    // `decide` learns who calls from a rule that asks; here it is known beforehand.
    let reopens = reopens_at(&rules, &mut facts, &decision).map(|(at, _)| at);
    (decision, trail, reopens)
}

const SEVERAL: &str = "policies:\n  \
    strong: { step_up: { acr: [hwk, otp] } }\n  \
    recent: { step_up: { acr: [otp, hwk, pwd], max_age: 5m }, reply: { code: LOGIN } }\n  \
    fresh: { step_up: { max_age: 1m }, when: { methods: GET } }\n  \
    shadow: { step_up: { acr: fido }, mode: shadow }\n  \
    closed: { deny: { during: seoul.night } }\n";

#[test]
fn challenges_only_what_everything_else_allows_and_for_what_satisfies_all() {
    let of = |decision: &Decision| match &decision.effect {
        Effect::Deny(denial) => (
            denial.code.to_string(),
            denial.rule,
            denial
                .challenge
                .as_ref()
                .map(|value| value.to_str().unwrap().to_owned()),
        ),
        other => panic!("{other:?}"),
    };
    let names = "[recent, strong, fresh, shadow, closed]";
    let weak = login(&[], Some("pwd"), Some(400));
    let (decision, trail, reopens) = decided(SEVERAL, names, &weak);
    let (code, rule, challenge) = of(&decision);
    assert_eq!((code.as_str(), rule, trail.len(), reopens), ("LOGIN", Some(1), 5, None));
    assert!(challenge.unwrap().ends_with("acr_values=\"otp hwk\", max_age=\"300\""));
    let (decision, ..) = decided(SEVERAL, names, &login(&[], Some("pwd"), Some(1)));
    let (code, _, challenge) = of(&decision);
    assert_eq!(code, "step-up-required");
    assert!(challenge.unwrap().ends_with("acr_values=\"hwk otp\""));

    // At night the door is closed whatever the login: that is the answer, and when it opens does not depend on the login.
    let (decision, trail, reopens) = decided(SEVERAL, names, &weak.at("2026-11-24T23:45:00+09:00"));
    assert_eq!(
        (of(&decision).0.as_str(), of(&decision).1, trail.len()),
        ("denied", Some(0), 5)
    );
    assert_eq!(reopens.unwrap(), "2026-11-25T05:00+09:00".parse().unwrap());

    let (decision, trail, _) = decided(SEVERAL, names, &login(&[], Some("otp"), Some(1)));
    assert!(decision.is_forwarded() && trail.iter().any(|mark| mark.shadow && mark.refused));
    let (decision, ..) = decided(SEVERAL, names, &Asked::anonymous());
    assert_eq!(of(&decision).0, "token-missing");
}

#[test]
fn mentions_what_a_login_may_be() {
    let policy = compile("policies: { p: { step_up: { acr: [otp], max_age: 5m }, when: { methods: POST } } }").policy();
    let mut mentions = Mentions::default();
    policy.mention(&mut mentions);
    let expected = Mentions {
        claims: vec![("acr".to_owned(), vec![json!("otp")])],
        login_ages: vec![std::time::Duration::from_secs(300)],
        methods: vec![Method::POST],
        ..Mentions::default()
    };
    assert_eq!(mentions, expected);
    let opaque = "policies: { p: { step_up: { acr: otp, max_age: 5m }, when: { if: 'query.a == \"1\"' } } }";
    let mut mentions = Mentions::default();
    compile(opaque).policy().mention(&mut mentions);
    assert_eq!(
        mentions.opaque,
        ["step_up acr otp, max_age 5m, when if query.a == \"1\": 401 step-up-required"]
    );
}

#[test]
fn points_at_every_mistake_in_a_step_up() {
    let findings = compile(&format!(
        "{NIGHT}policies:\n  \
         a: {{ step_up: {{}} }}\n  \
         b: {{ step_up: {{ acr: [] }} }}\n  \
         c: {{ step_up: {{ acr: 'a b', max_age: 0s }} }}\n  \
         d: {{ step_up: {{ max_age: 500ms }} }}\n  \
         e: {{ step_up: {{ max_age: 300 }} }}\n  \
         f: {{ step_up: {{ acr: otp, during: seoul.night, metods: POST }} }}\n  \
         g: {{ step_up: {{ acr: otp }}, reply: {{ status: 403 }} }}\n  \
         h: {{ step_up: {{ acr: otp }}, require: {{ roles: a }} }}\n  \
         i: {{ deny: {{ methods: POST }}, when: {{ roles: a }} }}\n  \
         j: {{ step_up: {{ maxage: 5m }}, when: {{ }} }}\n  \
         k: {{ step_up: [otp] }}\n"
    ))
    .findings;
    assert_eq!(
        findings,
        [
            "t.yaml:3:17: say what a login must be: `acr`, `max_age`, or both",
            "t.yaml:4:24: an empty list matches nothing",
            "t.yaml:5:24: `a b` is not an `acr`: visible ASCII without spaces, quotes and backslashes",
            "t.yaml:5:40: no login was so short ago: write a time such as `5m`",
            "t.yaml:6:28: a challenge says it in whole seconds: write a time such as `5s`",
            "t.yaml:7:28: `300` has no unit; write `300s` or `300ms`",
            "t.yaml:8:29: `during` says when, not what a login must be: put it into a `when:` beside `step_up:`",
            "t.yaml:8:50: unknown key `metods`, expected one of `acr`, `max_age`",
            "t.yaml:9:48: a `step_up` is answered 401: leave `status` out",
            "t.yaml:10:17: a policy either denies, requires or steps up; make two of it\n  t.yaml:10:40: `require` stands here",
            "t.yaml:11:39: `when` stands with `require` and `step_up`; a `deny` has its conditions in itself\n  \
             t.yaml:11:14: `deny` stands here",
            "t.yaml:12:19: unknown key `maxage`, did you mean `max_age`?",
            "t.yaml:12:39: a block without conditions: name at least one",
            "t.yaml:13:17: expected a map, found a list",
        ]
    );
}

#[test]
fn warns_of_what_nobody_is_ever_asked_or_can_ever_meet() {
    let compiled = compile(
        "calendars: { c: { timezone: UTC, windows: { past: [{ from: 2020-01-01T00:00, to: 2020-01-02T00:00 }] } } }\n\
         policies:\n  \
         a: { step_up: { acr: otp }, when: { during: c.past } }\n  \
         b: { step_up: { acr: otp } }\n  \
         c: { step_up: { acr: [hwk, fido] } }\n  \
         d: { step_up: { acr: hwk }, when: { methods: POST } }\n",
    );
    assert_eq!(
        compiled.findings,
        [
            "t.yaml:3:37: warning: this `when` is never true, so the policy never applies: `during c.past` is never true \
             from now on"
        ]
    );
    assert_eq!(
        compiled.drafts(&POLICIES, "[b, c, d]", true).1,
        [
            "r.yaml:1:5: warning: no login satisfies both `b` and `c` on route `pay`: they have no `acr` in common\n  \
          r.yaml:1:2: the other"
        ]
    );
    assert_eq!(
        compiled.drafts(&POLICIES, "[b]", false).1,
        ["r.yaml:1:2: warning: `b` refuses every request on route `pay`, which has `auth: none`"]
    );
}

#[test]
fn is_judged_after_everything_else() {
    let compiled = compile("policies: { a: { step_up: { acr: otp } }, b: { deny: { methods: GET } } }");
    let stages: Vec<Stage> = compiled
        .drafts(&POLICIES, "[a, b]", true)
        .0
        .iter()
        .map(|draft| draft.stage)
        .collect();
    assert_eq!(stages, [Stage::StepUp, Stage::Authorize]);
    assert!(Stage::Authorize < Stage::StepUp && Stage::StepUp < Stage::Limit);
}

#[test]
fn knows_the_keys_of_conditions() {
    let mut schemas = Schemas::default();
    let condition = condition::Condition::schema(&mut schemas);
    let document = schemas.into_document(condition);
    let described = document["definitions"]["Condition"]["properties"].as_object().unwrap();
    let mut known = condition::KEYS.to_vec();
    known.sort_unstable();
    assert!(described.keys().eq(known));
}

//! What the rule says of a caller.

use super::super::held::Item;
use super::super::marks::{EVER, Marks, NEVER};
use super::*;
use crate::engine::{Client, NoHeaders, Outcome, Params, RequestView};

fn judged(principal: Option<Principal>, answer: Option<&Answer>) -> (Option<u16>, &'static str, Vec<String>) {
    let rule = RevocationRule::default();
    let client = Client::unnamed();
    let facts = Facts {
        now: at(100),
        window_at: at(100),
        address: "192.0.2.1".parse().unwrap(),
        client: &client,
        request: RequestView {
            method: &http::Method::GET,
            host: "h",
            path: "/",
            query: "",
            headers: &NoHeaders,
        },
        params: Params::default(),
        principal: principal.map(Arc::new),
    };
    assert_eq!(rule.ask(&facts).is_some(), facts.principal.is_some());
    let told = rule.describe(&facts, answer);
    let verdict = rule.judge(&facts, answer);
    let code = match verdict.why {
        Why::Credential(code) | Why::Unavailable(code) => code,
        _ => "",
    };
    match verdict.outcome {
        Outcome::Deny(denial) => {
            assert_eq!(&*denial.code, code);
            let challenge = denial.challenge.as_ref().map(|value| value.to_str().unwrap());
            let expected =
                (denial.status.as_u16() == 401).then_some("Bearer realm=\"gwanmun\", error=\"invalid_token\"");
            assert_eq!(challenge, expected);
            (Some(denial.status.as_u16()), code, told)
        }
        _ => (None, code, told),
    }
}

#[test]
fn refuses_whoever_is_hit_and_nobody_else() {
    let who = || Some(caller("a", "i", "u1"));
    let revoked = |reach, extent| Answer::Revoked(Some(Revoked { reach, extent }));
    assert_eq!(judged(None, None).0, None);
    assert_eq!(judged(who(), Some(&Answer::Revoked(None))).0, None);
    assert!(Answer::Revoked(None).is_silent() && !revoked(Reach::Token, EVERY).is_silent());
    for (reach, extent, words) in [
        (Reach::Token, EVERY, "the token is revoked until that is lifted"),
        (
            Reach::Identity,
            until(300),
            "the caller is revoked until 1970-01-01T00:05:00+00:00",
        ),
        (
            Reach::Everybody,
            before(300),
            "everything issued before 1970-01-01T00:05:00+00:00 is revoked",
        ),
    ] {
        let told = judged(who(), Some(&revoked(reach, extent)));
        assert_eq!(told, (Some(401), "token-revoked", vec![words.to_owned()]));
    }
    let mut silent = caller("a", "i", "u1");
    silent.claims = [].into_iter().collect();
    let told = judged(Some(silent), Some(&revoked(Reach::Identity, before(300)))).2;
    assert!(told[1].contains("does not say when it was issued"), "{told:?}");
}

#[test]
fn counts_a_wrong_answer_against_the_caller() {
    for wrong in [
        Answer::Unavailable { code: "not-answered" },
        Answer::Freezes(Vec::new()),
    ] {
        let (status, code, _) = judged(Some(caller("a", "i", "u1")), Some(&wrong));
        assert_eq!((status, code), (Some(503), "revocations-unavailable"));
    }
}

#[test]
fn a_revocation_assumed_of_everybody_hits_everybody() {
    let held = Held::of_everybody();
    assert_eq!(
        held.hit(&caller("a", "i", "u1"), at(0)).map(|hit| hit.reach),
        Some(Reach::Everybody)
    );
    let mut items = Vec::new();
    held.each(|item| {
        items.push(item);
        Ok::<_, ()>(())
    })
    .unwrap();
    let marks = Marks {
        until: EVER,
        before: NEVER,
    };
    assert_eq!(items, [Item::Marked(Whom::Everybody, marks)]);
}

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;

/// A rule whose verdict is a function of the window instant.
struct Windowed {
    refuses: fn(i64) -> bool,
    changes: &'static [i64],
    follows: bool,
}

impl std::fmt::Debug for Windowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Windowed")
    }
}

impl Policy for Windowed {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        if (self.refuses)(facts.window_at.as_second()) {
            let mut denial = Denial::new(DenialKind::Refuse, StatusCode::FORBIDDEN, "closed", "closed");
            denial.zone = Some(TimeZone::UTC);
            return Verdict::deny(denial, Why::Condition(Truth::True));
        }
        Verdict::pass(Why::Condition(Truth::False))
    }

    fn next_change(&self, facts: &Facts<'_>) -> Option<Timestamp> {
        let now = facts.window_at.as_second();
        let next = self.changes.iter().find(|change| **change > now)?;
        Timestamp::from_second(*next).ok()
    }

    fn follows_windows(&self) -> bool {
        self.follows
    }
}

#[derive(Debug)]
struct AsksLimit(Duration);

impl Policy for AsksLimit {
    fn ask<'a>(&'a self, facts: &'a Facts<'_>) -> Option<Question<'a>> {
        Some(Question::Limit {
            limit: LimitId(0),
            key: LimitKey::Address(facts.address),
        })
    }

    fn judge(&self, _: &Facts<'_>, answer: Option<&Answer>) -> Verdict {
        let Some(Answer::Limit(limit)) = answer else {
            return Verdict::deny(Denial::unavailable("limits-unavailable", ""), Why::Unavailable("x"));
        };
        if limit.admitted {
            return Verdict::pass(Why::Admitted);
        }
        let mut denial = Denial::new(
            DenialKind::Throttle,
            StatusCode::TOO_MANY_REQUESTS,
            "limit-exceeded",
            "",
        );
        denial.retry_after = Some(self.0);
        Verdict::deny(denial, Why::Exhausted)
    }
}

struct Refuses;

impl Lookup for Refuses {
    async fn answer(&self, asked: &[(u16, Question<'_>)]) -> Answers {
        let limit = LimitAnswer {
            admitted: false,
            remaining: 0,
            reset: Duration::ZERO,
            retry_after: Duration::ZERO,
        };
        asked.iter().map(|_| Answer::Limit(limit)).collect()
    }
}

struct Silent;

impl Lookup for Silent {
    async fn answer(&self, _: &[(u16, Question<'_>)]) -> Answers {
        Answers::new()
    }
}

fn rule(name: &str, stage: Stage, policy: impl Policy + 'static) -> Rule {
    Rule {
        name: name.into(),
        kind: "test",
        stage,
        shadow: false,
        origin: "t:1:1".into(),
        policy: Arc::new(policy),
    }
}

fn facts<'a>(client: &'a Client, at: i64) -> Facts<'a> {
    let now = Timestamp::from_second(at).unwrap();
    Facts {
        now,
        window_at: now,
        address: "192.0.2.1".parse().unwrap(),
        client,
        request: RequestView {
            method: &Method::GET,
            host: "h",
            path: "/",
            query: "",
            headers: &NoHeaders,
        },
        params: Params::default(),
        principal: None,
    }
}

fn decide_now(rules: &[Rule], at: i64, lookup: &impl Lookup) -> (Decision, Trail, Option<i64>) {
    let client = Client::unnamed();
    let mut facts = facts(&client, at);
    let decision = *futures::executor::block_on(decide(rules, &mut facts, lookup));
    let trail = decision.trail.clone();
    let reopens = reopens_at(rules, &mut facts, &decision).map(|(at, _)| at.as_second());
    assert_eq!(facts.window_at, facts.now);
    (decision, trail, reopens)
}

fn code(decision: &Decision) -> String {
    match &decision.effect {
        Effect::Deny(denial) => denial.code.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn reopens_when_every_window_lets_the_request_pass() {
    let rules = [
        rule(
            "a",
            Stage::Authorize,
            Windowed {
                refuses: |t| t < 100,
                changes: &[50, 100],
                follows: true,
            },
        ),
        rule(
            "b",
            Stage::Authorize,
            Windowed {
                refuses: |t| (80..120).contains(&t),
                changes: &[80, 120],
                follows: true,
            },
        ),
    ];
    let (decision, trail, reopens) = decide_now(&rules, 10, &Silent);
    assert_eq!(
        (code(&decision).as_str(), trail.len(), reopens),
        ("closed", 2, Some(120))
    );
}

#[test]
fn never_reopens_where_a_refusal_does_not_follow_windows() {
    let rules = [
        rule(
            "a",
            Stage::Authorize,
            Windowed {
                refuses: |t| t < 100,
                changes: &[100],
                follows: true,
            },
        ),
        rule(
            "b",
            Stage::Authorize,
            Windowed {
                refuses: |_| true,
                changes: &[],
                follows: false,
            },
        ),
    ];
    assert_eq!(decide_now(&rules, 10, &Silent).2, None);
}

#[test]
fn gives_up_rather_than_guess_beyond_sixty_four_instants() {
    const CHANGES: &[i64] = &{
        let mut all = [0; 200];
        let mut at = 0;
        while at < 200 {
            all[at] = at as i64;
            at += 1;
        }
        all
    };
    let within = [rule(
        "a",
        Stage::Authorize,
        Windowed {
            refuses: |t| t < 64,
            changes: CHANGES,
            follows: true,
        },
    )];
    let beyond = [rule(
        "a",
        Stage::Authorize,
        Windowed {
            refuses: |t| t < 65,
            changes: CHANGES,
            follows: true,
        },
    )];
    assert_eq!(decide_now(&within, 0, &Silent).2, Some(64));
    assert_eq!(decide_now(&beyond, 0, &Silent).2, None);
}

#[test]
fn names_the_limit_with_the_longest_wait() {
    let rules = [
        rule("short", Stage::Limit, AsksLimit(Duration::from_secs(1))),
        rule("long", Stage::Limit, AsksLimit(Duration::from_secs(9))),
        rule("middle", Stage::Limit, AsksLimit(Duration::from_secs(3))),
    ];
    let (decision, ..) = decide_now(&rules, 0, &Refuses);
    let Effect::Deny(denial) = &decision.effect else {
        panic!()
    };
    assert_eq!(
        (denial.rule, denial.retry_after),
        (Some(1), Some(Duration::from_secs(9)))
    );
}

#[test]
fn counts_an_unanswered_question_against_the_caller() {
    let rules = [rule("limit", Stage::Limit, AsksLimit(Duration::ZERO))];
    assert_eq!(code(&decide_now(&rules, 0, &Silent).0), "limits-unavailable");
}

#[test]
fn stops_before_the_next_stage_and_ignores_shadow_refusals() {
    let mut shadow = rule(
        "s",
        Stage::Authorize,
        Windowed {
            refuses: |_| true,
            changes: &[],
            follows: false,
        },
    );
    shadow.shadow = true;
    let (decision, trail, _) = decide_now(&[shadow], 0, &Silent);
    assert!(decision.is_forwarded() && trail[0].refused);

    let rules = [
        rule(
            "a",
            Stage::Authorize,
            Windowed {
                refuses: |_| true,
                changes: &[],
                follows: false,
            },
        ),
        rule("limit", Stage::Limit, AsksLimit(Duration::ZERO)),
    ];
    let (decision, trail, _) = decide_now(&rules, 0, &Refuses);
    assert_eq!(
        (code(&decision).as_str(), trail.len(), decision.limits.len()),
        ("closed", 1, 0)
    );
}

#[test]
fn truth_follows_kleene() {
    use Truth::{False, True, Unknown};
    assert_eq!(
        (
            False.and(Unknown),
            True.and(Unknown),
            True.or(Unknown),
            False.or(Unknown)
        ),
        (False, Unknown, True, Unknown)
    );
    assert_eq!((!True, !Unknown, !False), (False, Unknown, True));
}

#[test]
fn identities_cannot_spell_each_other() {
    assert_ne!(Principal::frame("a", "b", "c"), Principal::frame("a", "bc", ""));
    assert_ne!(Principal::frame("ab", "", "c"), Principal::frame("a", "b", "c"));
}

//! From a decision to what is told of it.

use http::{HeaderName, HeaderValue, Method, Response, header};

use super::told::{ToldAnswer, ToldDecision, ToldLimit, ToldRival, ToldRoute, ToldRule};
use super::{Case, Explanation, Next};
use crate::engine::{Act, Answer, Effect, Mark, Reply, Rule, Stage, rfc3339};
use crate::policies::authn::{Credential, Source};
use crate::policies::compress::accept::Coding;
use crate::policies::compress::encode::Encoder;
use crate::policies::rate_limit;
use crate::routing::{HostPattern, Match, Methods};
use crate::snapshot::{Carried, Judged, Route, Snapshot, decorate, is_bodyless, private, refusal, write_own};
use crate::targets::Target;

/// Everything there is to tell.
pub(super) fn tell(case: &Case<'_>, judged: &Judged<'_>, next: Next) -> Explanation {
    let snapshot = case.snapshot;
    Explanation {
        route: judged.route.map(|route| ToldRoute {
            name: route.name.to_string(),
            place: route.place.to_string(),
            matches: match_of(snapshot, route),
            target: target(snapshot, &route.target),
            parts: match &route.target {
                Target::Aggregate(aggregate) => aggregate
                    .describe()
                    .map(|(name, words)| (name.to_owned(), words))
                    .collect(),
                Target::Upstream(_) | Target::Fixed(_) => Vec::new(),
            },
        }),
        rivals: rivals(case, judged),
        client: judged.client.name.to_string(),
        address: case.address,
        principal: judged.decision.principal.clone(),
        rules: rules(case, judged),
        limits: limits(case, judged),
        decision: decision(snapshot, judged),
        answer: answer(case, judged),
        next,
        record: None,
    }
}

fn match_of(snapshot: &Snapshot, route: &Route) -> String {
    let mut routes = snapshot.router.iter();
    let found = routes.find(|(_, known)| known.name == route.name);
    found.map(|(matches, _)| matching(matches)).unwrap_or_default()
}

fn rivals(case: &Case<'_>, judged: &Judged<'_>) -> Vec<ToldRival> {
    let rivals = case.snapshot.rivals(&case.request, judged.route);
    let told = rivals.into_iter().map(|rival| ToldRival {
        name: rival.value.name.to_string(),
        place: rival.value.place.to_string(),
        matches: matching(rival.matched),
        fits: rival.fits,
        because: rival.because,
    });
    told.collect()
}

fn target(snapshot: &Snapshot, target: &Target) -> String {
    let name = |at: usize| snapshot.upstreams.get(at).map_or("?", |upstream| &*upstream.name);
    match target {
        Target::Upstream(index) => format!("upstream `{}`", name(usize::from(index.0))),
        Target::Aggregate(aggregate) => {
            let upstreams = aggregate.upstreams();
            let names: Vec<String> = upstreams
                .iter()
                .map(|index| format!("`{}`", name(usize::from(index.0))))
                .collect();
            match names.is_empty() {
                true => "an aggregate".to_owned(),
                false => format!("an aggregate of {}", names.join(", ")),
            }
        }
        Target::Fixed(reply) => format!("{}, as it stands in the file", reply.status.as_u16()),
    }
}

fn rules(case: &Case<'_>, judged: &Judged<'_>) -> Vec<ToldRule> {
    let facts = case.facts(judged, case.at);
    let numbered = judged.rules.iter().enumerate();
    numbered
        .map(|(at, rule)| {
            let mark = judged.decision.trail.iter().find(|mark| usize::from(mark.rule) == at);
            let because = match mark {
                Some(_) => match answer_to(judged, at) {
                    // The figures of an assumed answer would only mislead.
                    Some(Answer::Limit(answer)) if case.is_assumed => {
                        let mut lines = rule.policy.describe(&facts, None);
                        let room = if answer.admitted {
                            "unused until now"
                        } else {
                            "exhausted"
                        };
                        lines.push(format!("assumed to be {room}"));
                        lines
                    }
                    answer => rule.policy.describe(&facts, answer),
                },
                // What it would say is known, whom it would count may not be.
                None if is_limit(rule) => rule.policy.describe(&facts, None).into_iter().take(1).collect(),
                None => Vec::new(),
            };
            ToldRule {
                name: rule.name.to_string(),
                kind: rule.kind,
                place: rule.origin.to_string(),
                shadow: rule.shadow,
                verdict: mark.map_or("not reached", |mark| verdict(mark, rule.stage)),
                why: mark.map(|mark| mark.why.words()),
                because,
            }
        })
        .collect()
}

fn is_limit(rule: &Rule) -> bool {
    rule.kind == rate_limit::KIND.name
}

fn answer_to<'j>(judged: &'j Judged<'_>, rule: usize) -> Option<&'j Answer> {
    let mut answers = judged.decision.answers.iter();
    answers
        .find(|(number, _)| usize::from(*number) == rule)
        .map(|(_, answer)| answer)
}

fn verdict(mark: &Mark, stage: Stage) -> &'static str {
    match (mark.refused, mark.shadow, mark.why.is_concerned()) {
        (true, true, _) => "would refuse",
        (true, false, _) if stage == Stage::StepUp => "challenges",
        (true, false, _) => "refuses",
        (false, _, true) => "passes",
        (false, _, false) => "not concerned",
    }
}

fn limits(case: &Case<'_>, judged: &Judged<'_>) -> Vec<ToldLimit> {
    let limits = judged.rules.iter().enumerate().filter(|(_, rule)| is_limit(rule));
    let told = limits.filter_map(|(at, rule)| {
        let (_, limit) = case.snapshot.defined.limits.get(&rule.name)?;
        let answer = answer_to(judged, at);
        Some(ToldLimit {
            name: rule.name.to_string(),
            place: rule.origin.to_string(),
            key: limit.bounds.key.to_string(),
            rate: limit.settings.rate.to_string(),
            burst: limit.bounds.burst.get(),
            approximate: limit.bounds.approximate,
            asked: answer.is_some(),
            admitted: match answer {
                Some(Answer::Limit(answer)) => Some(answer.admitted),
                _ => None,
            },
        })
    });
    told.collect()
}

/// What happens.
pub(super) fn decision(snapshot: &Snapshot, judged: &Judged<'_>) -> ToldDecision {
    let effected = judged.effected();
    let mut told = ToldDecision {
        effect: "allow",
        status: judged.status().map(|status| status.as_u16()),
        ..ToldDecision::default()
    };
    match &judged.decision.effect {
        Effect::Forward => {
            let served = judged.route.filter(|_| told.status.is_none());
            told.target = served.map(|route| target(snapshot, &route.target));
        }
        Effect::Reply(_) => {}
        Effect::Deny(denial) => {
            let refusing = denial.rule.and_then(|rule| judged.rules.get(usize::from(rule)));
            told.effect = denial.kind.word();
            told.policy = effected.rule.as_ref().map(ToString::to_string);
            told.code = Some(denial.code.to_string());
            told.reopens_at = denial.reopens_at.as_ref().map(|(at, zone)| rfc3339(*at, zone));
            told.place = refusing.map(|rule| rule.origin.to_string());
            told.details = match &denial.messages {
                Some(messages) => messages.0.iter().map(|(_, text)| text.clone()).collect(),
                None => vec![denial.detail.to_string()],
            };
            told.allow = judged.allow.as_ref().map(ToString::to_string);
        }
    }
    told
}

/// What happens, in the words in which tests say what they expect.
pub(super) fn outcome(decision: &ToldDecision) -> String {
    let policy = decision.policy.as_ref().map(|policy| format!(" by {policy}"));
    let until = decision.reopens_at.as_ref().map(|at| format!(" until {at}"));
    let status = decision.status.map(|status| format!("{status} ")).unwrap_or_default();
    match (&decision.code, decision.status) {
        (Some(code), _) => format!(
            "{status}{code}{}{}",
            policy.unwrap_or_default(),
            until.unwrap_or_default()
        ),
        (None, Some(status)) => format!("allow, answered {status} by the gateway itself"),
        (None, None) => format!("allow, answered by {}", decision.target.as_deref().unwrap_or("nobody")),
    }
}

/// The answer as it is sent, as far as it is the gate's own.
fn answer(case: &Case<'_>, judged: &Judged<'_>) -> ToldAnswer {
    let asker = case.asker();
    let mut decision = judged.decision.clone();
    let (own, compress) = match (
        &judged.decision.effect,
        judged.route.map(|route| (route, &route.target)),
    ) {
        (Effect::Deny(denial), _) => (Some(refusal(denial, &asker, case.id, case.at)), None),
        (Effect::Reply(reply), _) => (Some(reply.clone()), None),
        (Effect::Forward, Some((route, target))) => {
            if has_token_elsewhere(case, route) {
                decision.acts.push(private());
            }
            let compress = decision.acts.iter().find_map(|act| match act {
                Act::Compress(rule) => Some(rule.clone()),
                _ => None,
            });
            match target {
                Target::Fixed(reply) => (Some(reply.clone()), compress),
                Target::Upstream(_) | Target::Aggregate(_) => (None, None),
            }
        }
        (Effect::Forward, None) => (None, None),
    };
    let carried = Carried {
        snapshot: case.snapshot,
        rules: judged.rules,
        decision: Some(&decision),
        id: case.id,
        rehearsed: None,
    };
    let mut head = Response::new(());
    let Some(reply) = own else {
        let Ok(()) = decorate(&mut head, &carried);
        return ToldAnswer {
            status: None,
            headers: lines(&head),
            body: None,
        };
    };
    *head.status_mut() = reply.status;
    let Ok(coding) = write_own(&mut head, &reply, &carried, compress.as_deref(), &asker);
    if let Some(length) = coding.and_then(|coding| coded_length(coding, &reply)) {
        head.headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let is_sent = !is_bodyless(&reply) && asker.method != Method::HEAD;
    ToldAnswer {
        status: Some(reply.status.as_u16()),
        headers: lines(&head),
        body: is_sent.then(|| String::from_utf8_lossy(&reply.body).into_owned()),
    }
}

fn has_token_elsewhere(case: &Case<'_>, route: &Route) -> bool {
    match Credential::of(&case.request, &route.token_sources) {
        Credential::Token { source, .. } => route.token_sources.get(source) != Some(&Source::Authorization),
        _ => false,
    }
}

fn coded_length(coding: Coding, reply: &Reply) -> Option<usize> {
    let mut encoder = Encoder::new(coding).ok()?;
    let ready = encoder.push(&reply.body).ok()?;
    Some(ready.len() + encoder.finish().ok()?.len())
}

fn lines(head: &Response<()>) -> Vec<(String, String)> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    head.headers().iter().map(line).collect()
}

/// A match as one would write it.
fn matching(matches: &Match) -> String {
    let host = match &matches.host {
        HostPattern::Any => String::new(),
        HostPattern::Exact(host) => format!("{host} "),
        HostPattern::Under(suffix) => format!("*.{} ", suffix.trim_start_matches('.')),
    };
    let methods = match &matches.methods {
        Methods::Any => "any method".to_owned(),
        Methods::Listed(listed) => listed.iter().map(Method::as_str).collect::<Vec<_>>().join(","),
    };
    let headers: Vec<String> = matches
        .headers
        .iter()
        .map(|condition| format!(", with `{}`", condition.name))
        .collect();
    format!("{methods} {host}{}{}", matches.path, headers.concat())
}

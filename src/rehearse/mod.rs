//! Deciding from assumptions, as `explain` and the demo do: the gateway's own code decides, and only the questions are
//! answered otherwise. The caller is who one says, and no limit is reached.

mod asked;
mod assumed;
mod findings;
mod paint;
mod told;

use anyhow::Context;
use futures::FutureExt;
use serde_json::Map;

use self::assumed::Closing;
use crate::engine::{Answer, Effect, Facts, Mark, Params, Stage, rfc3339};
use crate::snapshot::{Judged, Snapshot, judge};
use crate::targets::Target;

pub use asked::{Asked, Sent, read_claims};
pub use assumed::Assumed;
pub use findings::show_findings;
pub use paint::Paint;
pub use told::{Explanation, ToldDecision, ToldRoute, ToldRule};

/// Decides and says why.
pub fn explain(snapshot: &Snapshot, asked: &Asked) -> anyhow::Result<Explanation> {
    let nothing = Map::new();
    let lookup = Assumed {
        authenticators: &snapshot.defined.authenticators,
        claims: asked.claims.as_ref().unwrap_or(&nothing),
        issuer: None,
    };
    let lookup = Closing {
        frozen: &asked.frozen,
        revoked: &asked.revoked,
        at: asked.at,
        others: lookup,
    };
    let judged = judge(snapshot, asked.view(), asked.address, asked.at, &lookup);
    // An assumption is at hand: there is nothing to wait for.
    let judged = judged.now_or_never().context("an assumption was waited for")?;
    Ok(Explanation {
        route: judged.route.map(|route| ToldRoute {
            name: route.name.to_string(),
            place: route.place.to_string(),
            matches: snapshot
                .router
                .iter()
                .find(|(_, known)| known.name == route.name)
                .map(|(matches, _)| told::matching(matches))
                .unwrap_or_default(),
            target: target(snapshot, &route.target),
        }),
        client: judged.client.name.to_string(),
        address: asked.address,
        principal: judged.decision.principal.clone(),
        rules: rules(&judged, asked),
        decision: decision(&judged),
    })
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
            format!("an aggregate of {}", names.join(", "))
        }
        Target::Fixed(reply) => format!("{}, as it stands in the file", reply.status.as_u16()),
    }
}

fn rules(judged: &Judged<'_>, asked: &Asked) -> Vec<ToldRule> {
    let facts = Facts {
        now: asked.at,
        window_at: asked.at,
        address: asked.address,
        client: judged.client,
        request: asked.view(),
        params: Params {
            names: judged.params.names,
            values: judged.params.values.iter().copied().collect(),
        },
        principal: judged.decision.principal.clone(),
    };
    let numbered = judged.rules.iter().enumerate();
    numbered
        .map(|(at, rule)| {
            let mark = judged.trail.iter().find(|mark| usize::from(mark.rule) == at);
            let mut answers = judged.decision.answers.iter();
            let answer = answers.find(|(number, _)| usize::from(*number) == at);
            ToldRule {
                name: rule.name.to_string(),
                kind: rule.kind,
                place: rule.origin.to_string(),
                verdict: mark.map_or("not reached", |mark| verdict(mark, rule.stage)),
                why: mark.map(|mark| mark.why.words()),
                because: match (mark, answer) {
                    (None, _) => Vec::new(),
                    // The figures of an assumed answer would only mislead.
                    (Some(_), Some((_, Answer::Limit(_)))) => {
                        let mut lines = rule.policy.describe(&facts, None);
                        lines.push("assumed to have room".to_owned());
                        lines
                    }
                    (Some(_), answer) => rule.policy.describe(&facts, answer.map(|(_, answer)| answer)),
                },
            }
        })
        .collect()
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

fn decision(judged: &Judged<'_>) -> ToldDecision {
    let rule = |number: u16| judged.rules.get(usize::from(number));
    match &judged.decision.effect {
        Effect::Forward => ToldDecision {
            effect: "allow",
            status: judged.route.and_then(|route| match &route.target {
                Target::Fixed(reply) => Some(reply.status.as_u16()),
                Target::Upstream(_) | Target::Aggregate(_) => None,
            }),
            ..ToldDecision::default()
        },
        Effect::Reply(reply) => ToldDecision {
            effect: "allow",
            status: Some(reply.status.as_u16()),
            ..ToldDecision::default()
        },
        Effect::Deny(denial) => {
            let refusing = denial.rule.and_then(rule);
            let details = match &denial.messages {
                Some(messages) => messages.0.iter().map(|(_, text)| text.clone()).collect(),
                None => vec![denial.detail.to_string()],
            };
            ToldDecision {
                effect: denial.kind.word(),
                status: Some(denial.status.as_u16()),
                policy: refusing.map(|rule| rule.name.to_string()),
                code: Some(denial.code.to_string()),
                reopens_at: denial.reopens_at.as_ref().map(|(at, zone)| rfc3339(*at, zone)),
                place: refusing.map(|rule| rule.origin.to_string()),
                details,
                allow: judged.allow.as_ref().map(ToString::to_string),
            }
        }
    }
}

#[cfg(test)]
mod tests;

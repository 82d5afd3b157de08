//! Judging a route's rules stage by stage.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{
    Act, Acts, Answer, Asked, Decision, Denial, DenialKind, Effect, Effected, Facts, Lookup, Mark, Outcome, Reply,
    Rule, Stage, Trail, Verdict, Why,
};
use http::StatusCode;

/// At most so many instants are tried to find when a refusal ends.
const MAX_INSTANTS: usize = 64;

/// Decides one request. `rules` stand in the order of their stages; `facts.principal` is filled in on the way. The decision is
/// large and goes far, so it stays where it was made.
///
/// All rules of a stage are judged; the first refusal in order is the answer (among limits, the one with the longest
/// wait), and later stages are not reached. Where another login is asked for by several rules, the first of them is the answer
/// and its challenge asks for what satisfies all.
pub async fn decide(rules: &[Rule], facts: &mut Facts<'_>, lookup: &impl Lookup) -> Box<Decision> {
    let place = Box::new_uninit();
    let decision = Decision {
        effect: Effect::Forward,
        acts: Acts::new(),
        principal: None,
        limits: Default::default(),
        answers: Default::default(),
        trail: Trail::new(),
    };
    let mut decision = Box::write(place, decision);
    let mut first = 0;
    for stage in rules.chunk_by(|a, b| a.stage.judged_with() == b.stage.judged_with()) {
        let known = decision.answers.len();
        {
            let asked = questions(stage, first, facts);
            if !asked.is_empty() {
                let mut answers = lookup.answer(&asked).await.into_iter();
                let answer = || answers.next().unwrap_or(Answer::Unavailable { code: "not-answered" });
                let rules = asked.iter().map(|(rule, _)| *rule);
                decision.answers.extend(rules.zip(std::iter::repeat_with(answer)));
            }
        }
        let verdict = judge_stage(stage, first, facts, known, &mut decision);
        first += stage.len();
        if let Some(effect) = verdict {
            // What every answer carries was added by earlier stages; what concerns forwarding was not reached.
            decision.effect = effect;
            break;
        }
    }
    decision.principal = facts.principal.clone();
    decision
}

/// What one stage asks, each with the index of its rule.
fn questions<'f>(stage: &'f [Rule], first: usize, facts: &'f Facts<'_>) -> Asked<'f> {
    let asked = stage.iter().enumerate();
    asked
        .filter_map(|(at, rule)| Some((index(first + at), rule.policy.ask(facts)?)))
        .collect()
}

/// `known` answers are those of earlier stages.
fn judge_stage(
    stage: &[Rule],
    first: usize,
    facts: &mut Facts<'_>,
    known: usize,
    decision: &mut Decision,
) -> Option<Effect> {
    let mut refusal: Option<Box<Denial>> = None;
    let mut reply: Option<Box<Reply>> = None;
    let answers = decision.answers.get(known..).unwrap_or_default();
    for (at, rule) in stage.iter().enumerate() {
        let number = index(first + at);
        let answer = answers
            .iter()
            .find(|(asked, _)| *asked == number)
            .map(|(_, answer)| answer);
        let Verdict { outcome, why } = rule.policy.judge(facts, answer);
        decision.trail.push(Mark {
            rule: number,
            refused: matches!(outcome, Outcome::Deny(_)),
            shadow: rule.shadow,
            why,
        });
        if rule.shadow {
            continue;
        }
        match outcome {
            Outcome::Continue => {}
            Outcome::Add(act) => decision.acts.push(act),
            Outcome::Identify(principal) => facts.principal = Some(principal),
            Outcome::Reply(answered) => {
                reply.get_or_insert(answered);
            }
            Outcome::Deny(mut denial) => {
                denial.rule = Some(number);
                match &mut refusal {
                    Some(standing) if matches!(rule.stage, Stage::Limit | Stage::Screen) => {
                        if standing.retry_after < denial.retry_after {
                            *standing = denial;
                        }
                    }
                    Some(standing) => standing.ask_also(&denial),
                    None => refusal = Some(denial),
                }
            }
        }
    }
    for (_, answer) in answers {
        if let Answer::Limit(limit) = answer {
            decision.limits.push(*limit);
        }
    }
    decision.answers.retain(|(_, answer)| !answer.is_silent());
    match (refusal, reply) {
        (Some(denial), _) => Some(Effect::Deny(denial)),
        (None, Some(reply)) => Some(Effect::Reply(*reply)),
        (None, None) => None,
    }
}

fn index(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// When windows and the ends of freezes alone will let a refused request pass, and the zone of the calendar whose rule opens
/// last.
///
/// Credentials, limits and answers are held as they were, and what asks for another login is left out: a login does not come
/// with the hour. `None` where a refusing rule does not follow windows, where a freeze has no end, or where none of the next 64
/// instants at which a rule may change its mind lets the request pass: the instant is left out rather than guessed.
pub fn reopens_at(rules: &[Rule], facts: &mut Facts<'_>, decision: &Decision) -> Option<(Timestamp, TimeZone)> {
    let held = facts.window_at;
    let found = search(rules, facts, decision);
    facts.window_at = held;
    found
}

fn search(rules: &[Rule], facts: &mut Facts<'_>, decision: &Decision) -> Option<(Timestamp, TimeZone)> {
    let authorize = |rule: &&(u16, &Rule)| rule.1.stage == Stage::Authorize && !rule.1.shadow;
    let numbered: Vec<(u16, &Rule)> = rules.iter().enumerate().map(|(at, rule)| (index(at), rule)).collect();
    let mut opens_last = None;
    for _ in 0..=MAX_INSTANTS {
        let mut refused = false;
        let mut zone = None;
        let mut next: Option<Timestamp> = None;
        for (number, rule) in numbered.iter().filter(authorize) {
            let answer = decision
                .answers
                .iter()
                .find(|(asked, _)| asked == number)
                .map(|(_, answer)| answer);
            if let Outcome::Deny(denial) = rule.policy.judge(facts, answer).outcome {
                let never_ends = denial.kind == DenialKind::Freeze && denial.ends_at.is_none();
                if !rule.policy.follows_windows() || never_ends {
                    return None;
                }
                refused = true;
                next = [next, denial.ends_at].into_iter().flatten().min();
                zone = zone.or(denial.zone);
            }
            let change = rule.policy.next_change(facts);
            next = [next, change].into_iter().flatten().min();
        }
        if !refused {
            return opens_last.map(|zone| (facts.window_at, zone));
        }
        opens_last = Some(zone.unwrap_or(TimeZone::UTC));
        facts.window_at = next.filter(|next| *next > facts.window_at)?;
    }
    None
}

impl Decision {
    /// The decision for a request that no route matches, `denial` being the 404 or 405.
    pub fn refuse(&mut self, denial: Denial) {
        self.effect = Effect::Deny(Box::new(denial));
    }

    /// Whether the request goes to the route's target.
    pub fn is_forwarded(&self) -> bool {
        matches!(self.effect, Effect::Forward)
    }

    /// In short, as records keep it; `rule_names` are those of the rules that were judged, in order.
    pub fn effected(&self, rule_names: &[Arc<str>]) -> Effected {
        match &self.effect {
            Effect::Forward => Effected::ALLOW,
            Effect::Reply(reply) => Effected {
                effect: "reply",
                status: Some(reply.status.as_u16()),
                ..Effected::ALLOW
            },
            Effect::Deny(denial) => denial.effected(rule_names),
        }
    }

    /// The header edits of every answer.
    pub fn response_edits(&self) -> impl Iterator<Item = &Arc<super::HeaderEdits>> {
        self.acts.iter().filter_map(|act| match act {
            Act::ResponseHeaders(edits) => Some(edits),
            _ => None,
        })
    }
}

impl Denial {
    /// In short; `rule_names` are those of the rules that were judged, in order.
    pub fn effected(&self, rule_names: &[Arc<str>]) -> Effected {
        Effected {
            effect: self.kind.word(),
            status: Some(self.status.as_u16()),
            code: Some(self.code.clone()),
            rule: self.rule.and_then(|at| rule_names.get(usize::from(at)).cloned()),
            reopens_at: self.reopens_at.as_ref().map(|(at, _)| *at),
        }
    }
}

/// A lookup that failed where the request cannot go on without it: 503.
impl Denial {
    /// Nobody could say whether the caller may: the request is refused, and may be tried again.
    pub fn unavailable(code: &'static str, detail: &str) -> Self {
        Self::new(DenialKind::Refuse, StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }
}

impl Why {
    /// Whether the rule looked at the request at all.
    pub fn is_concerned(self) -> bool {
        self != Self::NotConcerned
    }
}

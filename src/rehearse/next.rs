//! When the effect on a request changes.
//!
//! As for `reopens_at`, windows and the ends of freezes are all that moves: credentials, limits and what an `if:` makes of
//! `now` are held as they are, and only instants at which some rule may change its mind are tried.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Case, Next, telling};
use crate::engine::{Answer, Effect, Effected, Lookup, Mentions, Rule, Stage, rfc3339};
use crate::policies::access::WindowRef;
use crate::snapshot::Judged;

/// At most so many instants are tried.
const MAX_INSTANTS: usize = 64;

/// Searches from the instant of the case on.
pub(super) fn search(case: &Case<'_>, judged: &Judged<'_>, lookup: &impl Lookup) -> anyhow::Result<Next> {
    let first = judged.effected();
    let mut at = case.at;
    let mut change = next_change(case, judged, at);
    for _ in 0..MAX_INSTANTS {
        let Some(then) = change else {
            return Ok(Next::Never);
        };
        at = then;
        let later = case.judged_alone(at, lookup)?;
        if !is_same(&first, &later.effected()) {
            let later = case.judged(at, lookup)?;
            return Ok(Next::At {
                at: shown(case, judged, &later, at),
                decision: telling::decision(case.snapshot, &later),
            });
        }
        change = next_change(case, &later, at);
    }
    Ok(Next::NotBefore(shown(case, judged, judged, at)))
}

fn is_same(one: &Effected, other: &Effected) -> bool {
    (one.effect, one.status, &one.code, &one.rule) == (other.effect, other.status, &other.code, &other.rule)
}

/// In the zone of the calendars where they are all in one, else of those that refuse before or after.
fn shown(case: &Case<'_>, judged: &Judged<'_>, later: &Judged<'_>, at: Timestamp) -> String {
    let of_refusal = |judged: &Judged<'_>| match &judged.decision.effect {
        Effect::Deny(denial) => denial.zone.clone(),
        Effect::Forward | Effect::Reply(_) => None,
    };
    let zone = case.snapshot.calendars.zone().cloned();
    let zone = zone.or_else(|| of_refusal(judged)).or_else(|| of_refusal(later));
    rfc3339(at, &zone.unwrap_or(TimeZone::UTC))
}

/// The next instant after `at` at which something may judge otherwise.
fn next_change(case: &Case<'_>, judged: &Judged<'_>, at: Timestamp) -> Option<Timestamp> {
    let mut standing = judged.rules;
    if let Effect::Deny(denial) = &judged.decision.effect {
        // What is refused before windows are looked at is refused at every hour.
        let number = usize::from(denial.rule?);
        let refusing = judged.rules.get(number).filter(|rule| rule.stage >= Stage::Authorize)?;
        // The first refusal is the answer: what stands behind it changes nothing.
        if refusing.stage == Stage::Authorize {
            standing = judged.rules.get(..=number)?;
        }
    }
    let facts = case.facts(judged, at);
    let enforced = standing
        .iter()
        .filter(|rule| matches!(rule.stage, Stage::Authorize | Stage::StepUp) && !rule.shadow);
    // What a rule tells strangers may depend on windows that cannot turn its verdict.
    let of_rule = |rule: &Rule| match facts.principal {
        Some(_) => rule.policy.next_change(&facts),
        None => windows_of(case, rule).filter_map(|window| window.next_change(at)).min(),
    };
    let windows = enforced.filter_map(of_rule);
    let freezes = judged.decision.answers.iter().flat_map(|(_, answer)| match answer {
        Answer::Freezes(freezes) => freezes.as_slice(),
        _ => &[],
    });
    let thaws = freezes.filter_map(|freeze| freeze.until).filter(|until| *until > at);
    windows.chain(thaws).min()
}

/// The windows that a rule looks at.
fn windows_of<'a>(case: &Case<'a>, rule: &Rule) -> impl Iterator<Item = &'a WindowRef> {
    let mut mentions = Mentions::default();
    rule.policy.mention(&mut mentions);
    let all = case.snapshot.calendars.windows();
    all.filter(move |window| mentions.windows.contains(window.name()))
}

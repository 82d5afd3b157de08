//! Freezes: an operator closes a route, or an upstream with all that calls it, until an instant or until it is thawed.
//!
//! Nothing in the configuration asks for this rule: it stands first among those that authorise, on every route. Refuses
//! with 503 `frozen`; `Retry-After` and `reopens_at` tell the first instant at which the freeze has ended and everything
//! else lets the request pass. Of an aggregate, parts on a frozen upstream are denied; the whole is refused only where a
//! `required` part would call it, or refers to one that would.
//!
//! `gwanmun ctl freeze` and `thaw` come in by the admin API; [`Freezes`] keeps what they say in the folder of `state:`.

mod held;
mod store;

use std::sync::Arc;

use http::StatusCode;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::engine::{
    Act, Answer, Denial, DenialKind, Facts, Freezable, Freeze, Mentions, Policy, Question, Verdict, Why,
};

pub use held::{Held, HeldFreeze};
pub use store::{FreezeFailure, Freezes, Turn, read_held};

/// The name of the rule in trails, records and metrics.
pub const NAME: &str = "freeze";
/// The code of its refusals.
pub const CODE: &str = "frozen";

/// The rule on one route.
#[derive(Debug)]
pub struct FreezeRule {
    route: Arc<str>,
    /// Those that the route cannot do without, then the others.
    upstreams: Box<[Arc<str>]>,
    /// How many of them it cannot do without.
    needed: usize,
    refusal: Denial,
}

impl FreezeRule {
    /// The rule of a route that cannot do without `needed` upstreams, and calls `others` too. Instants are shown in `zone`.
    pub fn new(route: Arc<str>, needed: Vec<Arc<str>>, others: Vec<Arc<str>>, zone: Option<TimeZone>) -> Self {
        let mut refusal = Denial::new(
            DenialKind::Freeze,
            StatusCode::SERVICE_UNAVAILABLE,
            CODE,
            "This is closed for the time being.",
        );
        refusal.zone = zone;
        Self {
            route,
            needed: needed.len(),
            upstreams: needed.into_iter().chain(others).collect(),
            refusal,
        }
    }

    /// Whether the freeze closes the whole route.
    fn closes(&self, freeze: &Freeze) -> bool {
        match freeze.kind {
            Freezable::Route => freeze.name == self.route,
            Freezable::Upstream => self.upstreams.iter().take(self.needed).any(|name| *name == freeze.name),
        }
    }
}

impl Policy for FreezeRule {
    fn ask<'a>(&'a self, _: &'a Facts<'_>) -> Option<Question<'a>> {
        Some(Question::Freezes {
            route: &self.route,
            upstreams: &self.upstreams,
        })
    }

    /// Nothing of the request: what is frozen is answered.
    fn mention(&self, _: &mut Mentions) {}

    fn judge(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Verdict {
        let freezes = match answer {
            // A silent answer is not kept for later looks at the same request.
            None => return Verdict::pass(Why::NotConcerned),
            Some(answer) if answer.is_silent() => return Verdict::pass(Why::NotConcerned),
            Some(Answer::Freezes(freezes)) => freezes,
            Some(_) => {
                let detail = "Whether this is open cannot be said just now.";
                let why = Why::Unavailable("freezes-unavailable");
                return Verdict::deny(Denial::unavailable("freezes-unavailable", detail), why);
            }
        };
        let in_force = || freezes.iter().filter(|freeze| freeze.is_in_force(facts.window_at));
        let ends: Vec<Option<Timestamp>> = in_force()
            .filter(|freeze| self.closes(freeze))
            .map(|freeze| freeze.until)
            .collect();
        if !ends.is_empty() {
            let last: Option<Vec<Timestamp>> = ends.into_iter().collect();
            let mut denial = self.refusal.clone();
            denial.ends_at = last.and_then(|ends| ends.into_iter().max());
            return Verdict::deny(denial, Why::Frozen);
        }
        let names: Arc<[Arc<str>]> = in_force().map(|freeze| freeze.name.clone()).collect();
        if names.is_empty() {
            return Verdict::pass(Why::NotConcerned);
        }
        let mut verdict = Verdict::add(Act::Without(names));
        verdict.why = Why::Frozen;
        verdict
    }

    fn describe(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Vec<String> {
        let Some(Answer::Freezes(freezes)) = answer else {
            return Vec::new();
        };
        let line = |freeze: &Arc<Freeze>| {
            let zone = self.refusal.zone.clone().unwrap_or(TimeZone::UTC);
            let mut line = format!("{} `{}` is frozen", freeze.kind.word(), freeze.name);
            match freeze.until {
                Some(until) => line.push_str(&format!(" until {}", crate::engine::rfc3339(until, &zone))),
                None => line.push_str(" until it is thawed"),
            }
            if !self.closes(freeze) {
                line.push_str(", and its parts are denied");
            }
            if !freeze.reason.is_empty() {
                line.push_str(&format!(": {}", freeze.reason));
            }
            line
        };
        let in_force = freezes.iter().filter(|freeze| freeze.is_in_force(facts.window_at));
        in_force.map(line).collect()
    }

    /// A freeze ends by itself, as a window closes; when, its denial says.
    fn follows_windows(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests;

//! One policy, compiled: whom it refuses.

use http::{HeaderName, Method};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::calendar::Calendars;
use super::condition::{Bounds, Clause, Condition};
use super::expression::Expression;
use super::login::Login;
use super::window::WindowRef;
use crate::engine::{Answer, Denial, Facts, Mentions, Policy, Stage, Truth, Verdict, Why};

/// A compiled policy.
#[derive(Debug)]
pub(super) struct Check {
    pub effect: Effect,
    /// Whom it concerns; everybody where nothing is said.
    pub when: Option<Condition>,
    /// Whom it exempts.
    pub unless: Option<Condition>,
    /// The refusal.
    pub denial: Denial,
    /// The refusal of a caller who could be another if known.
    pub anonymous: Denial,
    /// The windows of all blocks.
    windows: Vec<WindowRef>,
}

/// What a policy does.
#[derive(Debug)]
pub(super) enum Effect {
    /// Refuses where the condition is true or unknown.
    Deny(Condition),
    /// Refuses where the condition is not true.
    Require(Condition),
    /// Asks for another login where this one is not so.
    StepUp(Login),
}

impl Check {
    pub fn new(effect: Effect, [when, unless]: [Option<Condition>; 2], [denial, anonymous]: [Denial; 2]) -> Self {
        let mut check = Self {
            effect,
            when,
            unless,
            denial,
            anonymous,
            windows: Vec::new(),
        };
        check.windows = check.clauses().flat_map(Clause::windows).cloned().collect();
        check
    }

    /// When it is judged.
    pub fn stage(&self) -> Stage {
        match self.effect {
            Effect::Deny(_) | Effect::Require(_) => Stage::Authorize,
            Effect::StepUp(_) => Stage::StepUp,
        }
    }

    /// The login that it asks for of everybody.
    pub fn login_of_all(&self) -> Option<&Login> {
        match &self.effect {
            Effect::StepUp(login) if self.when.is_none() && self.unless.is_none() => Some(login),
            _ => None,
        }
    }

    /// What the policy comes to if that is the same for every request from now on.
    pub fn outlook(&self, calendars: &Calendars, anonymous: bool) -> Option<&'static str> {
        let login = if anonymous {
            Bounds::exactly(Truth::False)
        } else {
            Bounds::ANY
        };
        let (may_refuse, must_refuse) = self.refusal(|clause| clause.possible(calendars, anonymous), login);
        match self.effect {
            Effect::Deny(_) if !may_refuse => Some("can never refuse"),
            Effect::Deny(_) | Effect::StepUp(_) if must_refuse => Some("refuses every request"),
            Effect::Require(_) if must_refuse => Some("can never hold, so it refuses every request"),
            _ => None,
        }
    }

    /// What the policy comes to on a route that takes the methods of which `takes` is true, where these alone settle it.
    pub fn outlook_for(&self, takes: impl Fn(&Method) -> bool) -> Option<&'static str> {
        let meets = |listed: &Method| takes(listed) || (*listed == Method::GET && takes(&Method::HEAD));
        let each = |clause: &Clause| match clause {
            Clause::Methods(listed) if !listed.iter().any(meets) => Bounds::exactly(Truth::False),
            _ => Bounds::ANY,
        };
        match self.refusal(each, Bounds::ANY) {
            (false, _) => Some("can never refuse"),
            (_, true) => Some("refuses every request"),
            _ => None,
        }
    }

    /// Whether the policy may refuse, and whether it must, where each clause comes out within `each` and the login within
    /// `login`.
    fn refusal(&self, each: impl Fn(&Clause) -> Bounds, login: Bounds) -> (bool, bool) {
        let held = |bounds: Bounds| (bounds.least != Truth::True, bounds.most != Truth::True);
        let (may, must) = match &self.effect {
            Effect::Deny(block) => {
                let bounds = block.bounds(&each);
                (bounds.most != Truth::False, bounds.least != Truth::False)
            }
            Effect::Require(block) => held(block.bounds(&each)),
            Effect::StepUp(_) => held(login),
        };
        let (mut may, mut must) = (may, must);
        if let Some(when) = &self.when {
            let when = when.bounds(&each);
            may &= when.most != Truth::False;
            must &= when.least != Truth::False;
        }
        if let Some(unless) = &self.unless {
            let unless = unless.bounds(&each);
            may &= unless.least != Truth::True;
            must &= unless.most != Truth::True;
        }
        (may, must)
    }

    /// `deny during seoul.night, methods POST, unless roles treasury: 403 TRANSFER_CLOSED`.
    fn words(&self) -> String {
        let block = |block: &Condition| -> String {
            let clauses = block.clauses().iter().map(Clause::words);
            clauses.collect::<Vec<_>>().join(", ")
        };
        let part = |word: &str, condition: &Option<Condition>| {
            let words = condition
                .as_ref()
                .map(|condition| format!(", {word} {}", block(condition)));
            words.unwrap_or_default()
        };
        let says = match &self.effect {
            Effect::Deny(condition) | Effect::Require(condition) => block(condition),
            Effect::StepUp(login) => login.words().into_iter().flatten().collect::<Vec<_>>().join(", "),
        };
        let (when, unless) = (part("when", &self.when), part("unless", &self.unless));
        let (status, code) = (self.denial.status.as_u16(), &self.denial.code);
        format!("{} {says}{when}{unless}: {status} {code}", self.effect.word())
    }

    fn refuse(&self, facts: &Facts<'_>) -> Denial {
        if facts.principal.is_none() && self.asks_who_calls(facts) {
            return self.anonymous.clone();
        }
        let mut denial = self.denial.clone();
        denial.zone = self.zone(facts).cloned();
        denial
    }

    /// Whether it would come out otherwise for somebody else, just now.
    fn asks_who_calls(&self, facts: &Facts<'_>) -> bool {
        let anyone = |block: &Condition| block.bounds(|clause| clause.for_anyone(facts));
        let is_decisive = match &self.effect {
            Effect::Deny(block) => anyone(block).least == Truth::False,
            Effect::Require(block) => anyone(block).most == Truth::True,
            Effect::StepUp(_) => true,
        };
        is_decisive
            || self
                .when
                .as_ref()
                .is_some_and(|when| anyone(when).least == Truth::False)
    }

    /// The zone of the window that changes next, as its opening will be what ends the refusal.
    fn zone(&self, facts: &Facts<'_>) -> Option<&TimeZone> {
        let change = |window: &&WindowRef| {
            let next = window.next_change(facts.window_at);
            (next.is_none(), next)
        };
        match self.windows.as_slice() {
            [] => None,
            [window] => Some(window.zone()),
            windows => windows.iter().min_by_key(change).map(WindowRef::zone),
        }
    }

    fn clauses(&self) -> impl Iterator<Item = &Clause> {
        let blocks = [self.effect.block(), self.when.as_ref(), self.unless.as_ref()];
        blocks.into_iter().flatten().flat_map(Condition::clauses)
    }

    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.clauses().filter_map(Clause::expression)
    }

    fn collect<T: PartialEq>(&self, read: impl Fn(&Clause) -> Vec<T>) -> Vec<T> {
        let mut found = Vec::new();
        for one in self.clauses().flat_map(read) {
            if !found.contains(&one) {
                found.push(one);
            }
        }
        found
    }
}

/// The condition for which a block can never hold, in words.
pub(super) fn culprit(block: &Condition, calendars: &Calendars) -> String {
    let never = |clause: &&Clause| clause.possible(calendars, false).most != Truth::True;
    let found = block.clauses().iter().find(never);
    found.map_or_else(String::new, |clause| {
        format!(": `{}` is never true from now on", clause.words())
    })
}

impl Effect {
    /// Its key.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Deny(_) => "deny",
            Self::Require(_) => "require",
            Self::StepUp(_) => "step_up",
        }
    }

    /// Its conditions.
    pub fn block(&self) -> Option<&Condition> {
        match self {
            Self::Deny(block) | Self::Require(block) => Some(block),
            Self::StepUp(_) => None,
        }
    }
}

impl Policy for Check {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        if self.when.as_ref().is_some_and(|when| when.judge(facts) == Truth::False) {
            return Verdict::pass(Why::NotConcerned);
        }
        let (passes, why) = match &self.effect {
            Effect::Deny(block) => {
                let truth = block.judge(facts);
                (truth == Truth::False, Why::Condition(truth))
            }
            Effect::Require(block) => match block.judge(facts) {
                Truth::True => (true, Why::Held),
                Truth::False => (false, Why::Lacking),
                Truth::Unknown => (false, Why::Condition(Truth::Unknown)),
            },
            Effect::StepUp(_) if facts.principal.is_none() => (false, Why::Lacking),
            Effect::StepUp(login) => match login.judge(facts) {
                Truth::True => (true, Why::Held),
                truth => (false, Why::Login(truth)),
            },
        };
        if passes {
            return Verdict::pass(why);
        }
        let unless = self.unless.as_ref().map(|unless| unless.judge(facts));
        if unless == Some(Truth::True) {
            return Verdict::pass(Why::Exempt);
        }
        Verdict::deny(self.refuse(facts), why)
    }

    fn describe(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Vec<String> {
        let block = |word: &'static str, condition: &Condition| -> Vec<String> {
            let line = |clause: &Clause| format!("{word}{}", clause.describe(facts));
            condition.clauses().iter().map(line).collect()
        };
        let mut lines = match &self.effect {
            Effect::Deny(condition) | Effect::Require(condition) => block("", condition),
            Effect::StepUp(login) => login.describe(facts),
        };
        lines.extend(self.when.iter().flat_map(|when| block("when ", when)));
        lines.extend(self.unless.iter().flat_map(|unless| block("unless ", unless)));
        lines
    }

    fn reads_headers(&self) -> Vec<HeaderName> {
        self.collect(|clause| match clause {
            Clause::Header(name, _) => vec![name.clone()],
            Clause::If(expression) => expression.headers().cloned().collect(),
            _ => Vec::new(),
        })
    }

    fn reads_query(&self) -> Vec<String> {
        self.collect(|clause| match clause {
            Clause::Query(name, _) => vec![name.clone()],
            Clause::If(expression) => expression.query().map(str::to_owned).collect(),
            _ => Vec::new(),
        })
    }

    fn reads_claims(&self) -> Vec<String> {
        self.collect(|clause| match clause {
            Clause::Claim(path, _) => vec![path.clone()],
            Clause::If(expression) => expression.claims().map(str::to_owned).collect(),
            _ => Vec::new(),
        })
    }

    fn mention(&self, mentions: &mut Mentions) {
        let known = mentions.opaque.len();
        for clause in self.clauses() {
            clause.mention(mentions);
        }
        if let Effect::StepUp(login) = &self.effect {
            let asked = login.step_up();
            if !asked.acr.is_empty() {
                let contexts = asked.acr.iter().map(|context| (**context).into()).collect();
                mentions.claims.push(("acr".to_owned(), contexts));
            }
            mentions.login_ages.extend(asked.max_age);
        }
        // A policy is opaque as a whole, and another one where anything in it is another.
        if mentions.opaque.len() > known {
            mentions.opaque.truncate(known);
            mentions.opaque.push(self.words());
            let (_, must_refuse) = self.refusal(Clause::for_strangers, Bounds::exactly(Truth::False));
            mentions.refuses_strangers |= must_refuse;
        }
    }

    fn next_change(&self, facts: &Facts<'_>) -> Option<Timestamp> {
        let moving = |clause: &Clause| match clause.windows() {
            [] => Bounds::exactly(clause.judge(facts)),
            _ => Bounds::ANY,
        };
        let login = match &self.effect {
            Effect::StepUp(login) => Bounds::exactly(login.judge(facts)),
            Effect::Deny(_) | Effect::Require(_) => Bounds::ANY,
        };
        // Where windows cannot turn the verdict, it does not change with them.
        match self.refusal(moving, login) {
            (true, false) => {}
            _ => return None,
        }
        let changes = self
            .windows
            .iter()
            .filter_map(|window| window.next_change(facts.window_at));
        changes.min()
    }

    fn restricts_callers(&self) -> bool {
        let asks = |clause: &Clause| match self.effect {
            // What is absent is unknown, and a `deny` refuses then too.
            Effect::Deny(_) => matches!(clause, Clause::Claim(..)),
            _ => clause.windows().is_empty() && !matches!(clause, Clause::Methods(_)),
        };
        match &self.effect {
            Effect::Deny(block) | Effect::Require(block) => block.clauses().iter().any(asks),
            Effect::StepUp(_) => true,
        }
    }

    fn follows_windows(&self) -> bool {
        !self.windows.is_empty()
    }
}

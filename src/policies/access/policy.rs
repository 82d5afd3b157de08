//! `policies:` — named checks, and the route's list of them.
//!
//! ```yaml
//! policies:
//!   no-night-transfer:
//!     deny:   { during: seoul.night }           # or `require:`; the conditions stand in `condition.rs`
//!     unless: { roles: [treasury] }
//!     mode: enforce                             # or `shadow`: judged and counted, not enforced
//!     reply: { code: TRANSFER_CLOSED, message: Transfers are closed at night }
//! routes:
//!   transfer:
//!     policies: [no-night-transfer]
//! ```
//!
//! `deny` refuses where its conditions are true or unknown, `require` where they are not true, and `unless` exempts where
//! its own are true: what cannot be judged counts against the caller. The refusal is 403 `denied` unless `reply` says
//! otherwise, and 401 `token-missing` for a caller without a credential where roles, scopes or claims decided.

use std::sync::Arc;

use http::HeaderName;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::calendar::Calendars;
use super::condition::{Bounds, Clause, Condition, Names};
use super::reply;
use super::window::WindowRef;
use crate::conf::{Describe, Load, Named, Node, Place, Read, Schema, Schemas, Spanned};
use crate::engine::{Answer, Denial, Facts, Mentions, Policy, Stage, Truth, Verdict, Why};
use crate::policies::clients::Clients;
use crate::policies::{Draft, Inherit, Kind, Scope};

/// Policies by name on a route.
pub const KIND: Kind = Kind {
    name: "policies",
    inherit: Inherit::List,
    compile,
    schema: |schemas| {
        Vec::<String>::schema(schemas).about("The policies that apply, by name; those of `defaults` come first.")
    },
};

crate::settings! {
    /// A named check on who calls, how and when; routes name it in `policies`.
    struct PolicySettings {
        /// Refuses where these conditions are true, or cannot be judged.
        deny: Option<Node> as Condition,
        /// Refuses where these conditions are not true.
        require: Option<Node> as Condition,
        /// Exempts where these conditions are true.
        unless: Option<Node> as Condition,
        /// Whether it is enforced; `enforce` where it is left out.
        mode: Option<Node> as Mode,
        /// What a refused caller is told.
        reply: Option<Node> as reply::RefusalSettings,
    }
}

crate::words! {
    /// Whether a refusal is the answer.
    enum Mode {
        /// The refusal is the answer.
        Enforce = "enforce",
        /// It is judged and counted, and changes no answer.
        Shadow = "shadow",
    }
}

/// The policies of a configuration, each compiled once.
#[derive(Debug, Default)]
pub struct Policies {
    named: Vec<Compiled>,
    /// Policies with a mistake in them; a reference to one is no second mistake.
    broken: Vec<String>,
}

impl Describe for Policies {
    fn schema(schemas: &mut Schemas) -> Schema {
        let named = Named::<PolicySettings>::schema(schemas);
        schemas.refine::<PolicySettings>(|policy| policy.with_one_of(&["deny", "require"]));
        named
    }
}

#[derive(Debug)]
struct Compiled {
    name: Arc<str>,
    place: Place,
    shadow: bool,
    /// What it comes to on a route that never knows its callers, where that differs from elsewhere.
    anonymous: Option<&'static str>,
    check: Arc<Check>,
}

impl Policies {
    /// Compiles `policies:`. A policy that can never refuse, or never let anything pass, is a warning.
    pub fn compile(named: &Named<Node>, calendars: &Calendars, clients: &Clients, load: &Load) -> Self {
        let names = Names {
            load,
            calendars,
            clients,
        };
        let mut policies = Self::default();
        for (name, node) in &named.0 {
            match Check::compile(node, names) {
                Some((check, mode)) => policies.named.push(Compiled {
                    name: name.value.as_str().into(),
                    place: name.place.clone(),
                    shadow: mode == Mode::Shadow,
                    anonymous: check
                        .outlook(calendars, true)
                        .filter(|_| check.outlook(calendars, false).is_none()),
                    check: Arc::new(check),
                }),
                None => policies.broken.push(name.value.clone()),
            }
        }
        policies
    }

    /// Their names, in the order of the file.
    pub fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.named.iter().map(|policy| &policy.name)
    }

    fn find(&self, name: &Spanned<String>, load: &Load) -> Option<&Compiled> {
        load.names.refer("policy", &name.value);
        let found = self.named.iter().find(|policy| *policy.name == *name.value);
        if found.is_none() && !self.broken.contains(&name.value) {
            load.unknown_name("policy", &name.value, &name.place, self.names().map(|known| &**known));
        }
        found
    }
}

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let load = scope.load;
    let Some(names) = Vec::<Spanned<String>>::read(node, load) else {
        return Vec::new();
    };
    let mut drafts = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        if let Some(first) = names.iter().take(at).find(|earlier| earlier.value == name.value) {
            let message = format!("`{}` stands on route `{}` a second time", name.value, scope.route);
            load.error_with(&name.place, message, &first.place, "first here");
            continue;
        }
        let Some(policy) = scope.defined.policies.find(name, load) else {
            continue;
        };
        if let Some(outlook) = policy.anonymous.filter(|_| !scope.has_auth) {
            let message = format!(
                "`{}` {outlook} on route `{}`, which has `auth: none`",
                name.value, scope.route
            );
            load.warn(&name.place, message);
        }
        drafts.push(Draft {
            name: policy.name.clone(),
            stage: Stage::Authorize,
            shadow: policy.shadow,
            place: policy.place.clone(),
            policy: policy.check.clone(),
        });
    }
    drafts
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Deny,
    Require,
}

/// A compiled policy.
#[derive(Debug)]
struct Check {
    effect: Effect,
    when: Condition,
    unless: Option<Condition>,
    denial: Denial,
    anonymous: Denial,
    /// The windows of both blocks.
    windows: Vec<WindowRef>,
}

impl Check {
    fn compile(node: &Node, names: Names<'_>) -> Option<(Self, Mode)> {
        let load = names.load;
        let settings = PolicySettings::read(node, load)?;
        let unless_block = settings.unless.as_ref();
        // Every part is read before one is given up, so that every mistake is reported.
        let unless = unless_block.map(|block| Condition::compile(block, names));
        let mode = settings
            .mode
            .map_or(Some(Mode::Enforce), |mode| Mode::read(&mode, load));
        let denial = reply::denial(settings.reply.as_ref(), load);
        let (effect, block) = match (&settings.deny, &settings.require) {
            (Some(block), None) => (Effect::Deny, block),
            (None, Some(block)) => (Effect::Require, block),
            (Some(deny), Some(require)) => {
                Condition::compile(deny, names);
                Condition::compile(require, names);
                let message = "a policy either denies or requires; make two of it";
                load.error_with(&require.place, message, &deny.place, "`deny` stands here");
                return None;
            }
            (None, None) => {
                let known = ["deny", "require", "unless", "mode", "reply"];
                let misspelt = |key: &str| !known.contains(&key);
                if !node.entries(load)?.iter().any(|entry| misspelt(&entry.key)) {
                    load.error(&node.place, "missing `deny` or `require`");
                }
                return None;
            }
        };
        let when = Condition::compile(block, names)?;
        let unless = match unless {
            Some(unless) => Some(unless?),
            None => None,
        };
        let clauses = when.clauses().iter().chain(unless.iter().flat_map(Condition::clauses));
        let check = Self {
            windows: clauses.flat_map(Clause::windows).cloned().collect(),
            effect,
            denial: denial?,
            anonymous: reply::token_missing(),
            when,
            unless,
        };
        if let Some(outlook) = check.outlook(names.calendars, false) {
            let culprit = culprit(&check.when, names.calendars);
            load.warn(&block.place, format!("this `{}` {outlook}{culprit}", effect.word()));
        }
        if let (Some(unless), Some(block)) = (&check.unless, unless_block) {
            let bounds = unless.bounds(|clause| clause.possible(names.calendars, false));
            if bounds.most != Truth::True {
                let culprit = culprit(unless, names.calendars);
                load.warn(&block.place, format!("this `unless` can never exempt anybody{culprit}"));
            }
        }
        Some((check, mode?))
    }

    /// What the policy comes to if that is the same for every request from now on.
    fn outlook(&self, calendars: &Calendars, anonymous: bool) -> Option<&'static str> {
        let (may_refuse, must_refuse) = self.refusal(|clause| clause.possible(calendars, anonymous));
        match self.effect {
            Effect::Deny if !may_refuse => Some("can never refuse"),
            Effect::Deny if must_refuse => Some("refuses every request"),
            Effect::Require if must_refuse => Some("can never hold, so it refuses every request"),
            _ => None,
        }
    }

    /// Whether the policy may refuse, and whether it must, where each clause comes out within `each`.
    fn refusal(&self, each: impl Fn(&Clause) -> Bounds) -> (bool, bool) {
        let when = self.when.bounds(&each);
        let (may, must) = match self.effect {
            Effect::Deny => (when.most != Truth::False, when.least != Truth::False),
            Effect::Require => (when.least != Truth::True, when.most != Truth::True),
        };
        match &self.unless {
            None => (may, must),
            Some(unless) => {
                let unless = unless.bounds(&each);
                (may && unless.least != Truth::True, must && unless.most != Truth::True)
            }
        }
    }

    /// `deny during seoul.night, methods POST, unless roles treasury: 403 TRANSFER_CLOSED`.
    fn words(&self) -> String {
        let block = |block: &Condition| -> String {
            let clauses = block.clauses().iter().map(Clause::words);
            clauses.collect::<Vec<_>>().join(", ")
        };
        let unless = self.unless.as_ref().map(|unless| format!(", unless {}", block(unless)));
        let (effect, when, unless) = (self.effect.word(), block(&self.when), unless.unwrap_or_default());
        format!(
            "{effect} {when}{unless}: {} {}",
            self.denial.status.as_u16(),
            self.denial.code
        )
    }

    fn refuse(&self, facts: &Facts<'_>) -> Denial {
        let known = |clause: &Clause| Bounds::exactly(clause.judge(facts));
        if facts.principal.is_none() {
            // Would the block come out otherwise for somebody else, just now?
            let anyone = self.when.bounds(|clause| match clause.is_about_caller() {
                true => Bounds::ANY,
                false => known(clause),
            });
            let caller_decides = match self.effect {
                Effect::Deny => anyone.least == Truth::False,
                Effect::Require => anyone.most == Truth::True,
            };
            if caller_decides {
                return self.anonymous.clone();
            }
        }
        let mut denial = self.denial.clone();
        denial.zone = self.zone(facts).cloned();
        denial
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

    fn collect<T: PartialEq>(&self, read: impl Fn(&Clause) -> Option<T>) -> Vec<T> {
        let clauses = self.when.clauses().iter();
        let clauses = clauses.chain(self.unless.iter().flat_map(Condition::clauses));
        let mut found = Vec::new();
        for one in clauses.filter_map(read) {
            if !found.contains(&one) {
                found.push(one);
            }
        }
        found
    }
}

/// The condition for which a block can never hold, in words.
fn culprit(block: &Condition, calendars: &Calendars) -> String {
    let never = |clause: &&Clause| clause.possible(calendars, false).most != Truth::True;
    let found = block.clauses().iter().find(never);
    found.map_or_else(String::new, |clause| {
        format!(": `{}` is never true from now on", clause.words())
    })
}

impl Effect {
    fn word(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::Require => "require",
        }
    }
}

impl Policy for Check {
    fn judge(&self, facts: &Facts<'_>, _: Option<&Answer>) -> Verdict {
        let truth = self.when.judge(facts);
        let (passes, why) = match (self.effect, truth) {
            (Effect::Deny, truth) => (truth == Truth::False, Why::Condition(truth)),
            (Effect::Require, Truth::True) => (true, Why::Held),
            (Effect::Require, Truth::False) => (false, Why::Lacking),
            (Effect::Require, Truth::Unknown) => (false, Why::Condition(Truth::Unknown)),
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
        let mut lines = block("", &self.when);
        lines.extend(self.unless.iter().flat_map(|unless| block("unless ", unless)));
        lines
    }

    fn reads_headers(&self) -> Vec<HeaderName> {
        self.collect(|clause| match clause {
            Clause::Header(name, _) => Some(name.clone()),
            _ => None,
        })
    }

    fn reads_query(&self) -> Vec<String> {
        self.collect(|clause| match clause {
            Clause::Query(name, _) => Some(name.clone()),
            _ => None,
        })
    }

    fn reads_claims(&self) -> Vec<String> {
        self.collect(|clause| match clause {
            Clause::Claim(path, _) => Some(path.clone()),
            _ => None,
        })
    }

    fn mention(&self, mentions: &mut Mentions) {
        let known = mentions.opaque.len();
        let clauses = self.when.clauses().iter();
        for clause in clauses.chain(self.unless.iter().flat_map(Condition::clauses)) {
            clause.mention(mentions);
        }
        // A policy is opaque as a whole, and another one where anything in it is another.
        if mentions.opaque.len() > known {
            mentions.opaque.truncate(known);
            mentions.opaque.push(self.words());
        }
    }

    fn next_change(&self, facts: &Facts<'_>) -> Option<Timestamp> {
        let moving = |clause: &Clause| match clause.windows() {
            [] => Bounds::exactly(clause.judge(facts)),
            _ => Bounds::ANY,
        };
        // Where windows cannot turn the verdict, it does not change with them.
        match self.refusal(moving) {
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
            Effect::Require => clause.windows().is_empty() && !matches!(clause, Clause::Methods(_)),
            // What is absent is unknown, and a `deny` refuses then too.
            Effect::Deny => matches!(clause, Clause::Claim(..)),
        };
        self.when.clauses().iter().any(asks)
    }

    fn follows_windows(&self) -> bool {
        !self.windows.is_empty()
    }
}

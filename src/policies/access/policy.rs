//! `policies:` — named checks, and the route's list of them.
//!
//! ```yaml
//! policies:
//!   no-night-transfer:
//!     deny:   { during: seoul.night }           # or `require:`, `step_up:`; the conditions stand in `condition.rs`
//!     unless: { roles: [treasury] }
//!     mode: enforce                             # or `shadow`: judged and counted, not enforced
//!     reply: { code: TRANSFER_CLOSED, message: Transfers are closed at night }
//!   not-at-dawn:
//!     deny: { if: 'now.getHours() < 6' }
//!     calendar: seoul                           # whose clocks `now` shows: the only one there is by default, else UTC
//!   strong-login:
//!     step_up: { acr: [otp], max_age: 5m }      # what a login must be; see `login.rs`
//!     when:    { methods: POST }                # only then; also with `require:`
//! routes:
//!   transfer:
//!     policies: [no-night-transfer]
//! ```
//!
//! `deny` refuses where its conditions are true or unknown, `require` where they are not true, `step_up` where the caller's
//! login is not known to be so. `when` limits the latter two to requests for which its conditions are true or unknown, and
//! `unless` exempts where its own are true: what cannot be judged counts against the caller.
//!
//! The refusal is 403 `denied` unless `reply` says otherwise, and 401 `token-missing` for a caller without a credential where
//! roles, scopes, claims or the login decided. `step_up` challenges only what everything else allows: 401 `step-up-required`
//! with `error="insufficient_user_authentication"` (RFC 9470 §3) and the login that is needed. Where several ask, that is one
//! that satisfies all: the contexts that all name, in the order of the first, and the shortest age; `code` and message are the
//! first one's. A challenged request charges no limit, and no `reopens_at` tells when it will pass: a login does not come with
//! the hour.

use std::sync::Arc;

use http::Method;
use serde_json::json;

use super::calendar::{Calendars, Clock, did_you_mean};
use super::check::{Check, Effect, culprit};
use super::condition::{Condition, Names};
use super::expression::Expression;
use super::login::{Login, LoginSettings};
use super::reply;
use crate::conf::{Describe, Load, Named, Node, Place, Read, Schema, Schemas, Spanned};
use crate::engine::Truth;
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

/// The keys that say what a policy does.
const EFFECTS: [&str; 3] = ["deny", "require", "step_up"];

crate::settings! {
    /// A named check on who calls, how and when; routes name it in `policies`.
    struct PolicySettings {
        /// Refuses where these conditions are true, or cannot be judged.
        deny: Option<Node> as Condition,
        /// Refuses where these conditions are not true.
        require: Option<Node> as Condition,
        /// Asks callers whose login is not so to log in again.
        step_up: Option<Node> as LoginSettings,
        /// Limits `require` or `step_up` to requests for which these conditions are true, or cannot be judged.
        when: Option<Node> as Condition,
        /// Exempts where these conditions are true.
        unless: Option<Node> as Condition,
        /// Whether it is enforced; `enforce` where it is left out.
        mode: Option<Node> as Mode,
        /// On whose clocks `now` stands in an `if:`; left out, on those of the only calendar, or of UTC where there is none.
        calendar: Option<Spanned<String>>,
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
        // A `deny` has its conditions in itself.
        let no_when = json!({ "deny": { "not": { "required": ["when"] } } });
        schemas.refine::<PolicySettings>(|policy| policy.with_one_of(&EFFECTS).with("dependencies", no_when));
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
            clock: Clock::Several,
        };
        let mut policies = Self::default();
        for (name, node) in &named.0 {
            match read(node, names) {
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

    /// What the policy of that name comes to on a route that takes the methods of which `takes` is true, where these alone
    /// settle it.
    pub fn outlook_for(&self, name: &str, takes: impl Fn(&Method) -> bool) -> Option<&'static str> {
        let policy = self.named.iter().find(|policy| *policy.name == *name)?;
        policy.check.outlook_for(takes)
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
        policy.check_params(name, scope);
        check_logins(name, policy, names.iter().take(at), scope);
        drafts.push(Draft {
            name: policy.name.clone(),
            stage: policy.check.stage(),
            shadow: policy.shadow,
            place: policy.place.clone(),
            policy: policy.check.clone(),
        });
    }
    drafts
}

/// Warns where no login does for two policies of a route.
fn check_logins<'n>(
    name: &Spanned<String>,
    policy: &Compiled,
    earlier: impl Iterator<Item = &'n Spanned<String>>,
    scope: &Scope<'_>,
) {
    let login = |policy: &Compiled| {
        policy
            .check
            .login_of_all()
            .filter(|_| !policy.shadow)
            .map(Login::step_up)
            .cloned()
    };
    let Some(asked) = login(policy) else { return };
    for other in earlier {
        let mut named = scope.defined.policies.named.iter();
        let before = named.find(|known| *known.name == *other.value).and_then(login);
        if before.is_some_and(|before| !before.agrees_with(&asked)) {
            let message = format!(
                "no login satisfies both `{}` and `{}` on route `{}`: they have no `acr` in common",
                other.value, name.value, scope.route
            );
            scope.load.warn_with(&name.place, message, &other.place, "the other");
        }
    }
}

impl Compiled {
    /// Reports what the policy reads of a path that does not have it.
    fn check_params(&self, name: &Spanned<String>, scope: &Scope<'_>) {
        let Some(params) = scope.params else {
            return;
        };
        let mut missing: Vec<&str> = Vec::new();
        for (param, read_at) in self.check.expressions().flat_map(Expression::params) {
            if missing.contains(&&**param) || params.iter().any(|known| **known == **param) {
                continue;
            }
            missing.push(param);
            let hint = did_you_mean(param, params.iter().map(|known| &**known));
            let message = format!(
                "the path of route `{}` has no `{{{param}}}`, which `{}` reads{hint}",
                scope.route, self.name
            );
            scope.load.error_with(&name.place, message, read_at, "read here");
        }
    }
}

/// The policy that `node` describes, and whether it is enforced; `None` where it has mistakes.
fn read(node: &Node, names: Names<'_>) -> Option<(Check, Mode)> {
    let load = names.load;
    let settings = PolicySettings::read(node, load)?;
    let names = Names {
        clock: names.calendars.clock(settings.calendar.as_ref(), load),
        ..names
    };
    // Every part is read before one is given up, so that every mistake is reported.
    let block = |block: &Option<Node>| match block {
        Some(block) => Condition::compile(block, names).map(Some),
        None => Some(None),
    };
    let (when, unless) = (block(&settings.when), block(&settings.unless));
    let mode = settings
        .mode
        .as_ref()
        .map_or(Some(Mode::Enforce), |mode| Mode::read(mode, load));
    let denial = match settings.step_up {
        Some(_) => reply::step_up_required(),
        None => reply::denied(),
    };
    let denial = reply::denial(settings.reply.as_ref(), denial, load);
    if let (Some(when), Some(deny)) = (&settings.when, &settings.deny) {
        let message = "`when` stands with `require` and `step_up`; a `deny` has its conditions in itself";
        load.error_with(&when.place, message, &deny.place, "`deny` stands here");
    }
    let effect = effect(&settings, node, names)?;
    let mut denial = denial?;
    if let Effect::StepUp(login) = &effect {
        denial.challenge = Some(login.step_up().challenge());
        denial.step_up = Some(login.step_up().clone());
    }
    let check = Check::new(effect, [when?, unless?], [denial, reply::token_missing()]);
    warn(&check, &settings, names);
    Some((check, mode?))
}

/// What the policy does.
fn effect(settings: &PolicySettings, node: &Node, names: Names<'_>) -> Option<Effect> {
    let load = names.load;
    let nodes = [&settings.deny, &settings.require, &settings.step_up];
    let written: Vec<(&str, &Node)> = EFFECTS
        .into_iter()
        .zip(nodes)
        .filter_map(|(key, node)| Some((key, node.as_ref()?)))
        .collect();
    let read = |key: &str, node: &Node| match key {
        "deny" => Condition::compile(node, names).map(Effect::Deny),
        "require" => Condition::compile(node, names).map(Effect::Require),
        _ => Login::compile(node, load).map(Effect::StepUp),
    };
    match written.as_slice() {
        [(key, block)] => read(key, block),
        [] => {
            let known = ["unless", "when", "mode", "calendar", "reply"];
            let misspelt = |key: &str| !known.contains(&key);
            if !node.entries(load)?.iter().any(|entry| misspelt(&entry.key)) {
                load.error(&node.place, "missing `deny`, `require` or `step_up`");
            }
            None
        }
        [(first, first_block), (_, second_block), ..] => {
            for (key, block) in &written {
                read(key, block);
            }
            let message = "a policy either denies, requires or steps up; make two of it";
            let note = format!("`{first}` stands here");
            load.error_with(&second_block.place, message, &first_block.place, note);
            None
        }
    }
}

/// Warns of what says nothing, or always the same.
fn warn(check: &Check, settings: &PolicySettings, names: Names<'_>) {
    let (load, calendars) = (names.load, names.calendars);
    match (&settings.calendar, check.expressions().any(Expression::reads_now)) {
        (Some(calendar), false) => {
            let message = "no `if:` of this policy reads `now`, so `calendar` says nothing";
            load.warn(&calendar.place, message);
        }
        (None, true) => calendars.refer_to_only(load),
        (Some(_), true) | (None, false) => {}
    }
    if let (Some(outlook), Some(block)) = (check.outlook(calendars, false), check.effect.block()) {
        let written = settings.deny.as_ref().or(settings.require.as_ref());
        let culprit = culprit(block, calendars);
        if let Some(written) = written {
            load.warn(
                &written.place,
                format!("this `{}` {outlook}{culprit}", check.effect.word()),
            );
        }
    }
    let blocks = [
        (
            check.effect.word(),
            check.effect.block(),
            settings.deny.as_ref().or(settings.require.as_ref()),
        ),
        ("when", check.when.as_ref(), settings.when.as_ref()),
        ("unless", check.unless.as_ref(), settings.unless.as_ref()),
    ];
    for (word, block, written) in blocks {
        if let (Some(why), Some(written)) = (block.and_then(Condition::contradiction), written) {
            load.warn(&written.place, format!("this `{word}` can never hold: {why}"));
        }
    }
    let bounds = |block: &Condition| block.bounds(|clause| clause.possible(calendars, false));
    if let (Some(when), Some(block)) = (&check.when, &settings.when)
        && bounds(when).most == Truth::False
    {
        let culprit = culprit(when, calendars);
        load.warn(
            &block.place,
            format!("this `when` is never true, so the policy never applies{culprit}"),
        );
    }
    if let (Some(unless), Some(block)) = (&check.unless, &settings.unless)
        && bounds(unless).most != Truth::True
    {
        let culprit = culprit(unless, calendars);
        load.warn(&block.place, format!("this `unless` can never exempt anybody{culprit}"));
    }
}

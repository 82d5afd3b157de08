//! `step_up:` of a policy — what a login must be; who was logged in otherwise is asked to log in again (RFC 9470).
//!
//! ```yaml
//! step_up: { acr: [otp, hwk], max_age: 5m }     # either, or both
//! ```
//!
//! `acr`: the issuer says that one of these contexts of authentication was used. `max_age`: it says that the login
//! (`auth_time`) was no longer ago than this. What it does not say is unknown, which counts against the caller, and so does a
//! login that is more in the future than clocks may differ, 30 seconds.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::condition::KEYS;
use crate::conf::{Describe, Load, Node, Read, Schema, Schemas, Value};
use crate::engine::{Facts, Principal, StepUp, Truth};
use crate::policies::clients::Listed;

/// How far the clock of an issuer may be ahead.
const LEEWAY: SignedDuration = SignedDuration::from_secs(30);

crate::settings! {
    /// What a login must be: all that is said. Who was logged in otherwise is asked to log in again (RFC 9470).
    pub(super) struct LoginSettings {
        /// The issuer says that it was one of these contexts of authentication (`acr`); the preferred one stands first.
        acr: Option<Listed<Context>>,
        /// How long ago it may have been.
        max_age: Option<MaxAge>,
    }
}

/// What a login must be.
#[derive(Debug)]
pub(super) struct Login(Arc<StepUp>);

impl Login {
    /// Reads `step_up:`.
    pub fn compile(node: &Node, load: &Load) -> Option<Self> {
        let entries = node.entries(load)?;
        if entries.is_empty() {
            load.error(&node.place, "say what a login must be: `acr`, `max_age`, or both");
            return None;
        }
        let (conditions, own): (Vec<_>, Vec<_>) = entries
            .iter()
            .cloned()
            .partition(|entry| KEYS.contains(&entry.key.as_str()));
        for condition in &conditions {
            let message = format!(
                "`{}` says when, not what a login must be: put it into a `when:` beside `step_up:`",
                condition.key
            );
            load.error(&condition.key_place, message);
        }
        let own = Node {
            place: node.place.clone(),
            value: Value::Map(own),
        };
        let LoginSettings { acr, max_age } = LoginSettings::read(&own, load)?;
        let acr = acr.map_or_else(Vec::new, |listed| listed.0);
        conditions.is_empty().then(|| {
            Self(Arc::new(StepUp {
                acr: acr.into_iter().map(|context| context.0).collect(),
                max_age: max_age.map(|age| age.0),
            }))
        })
    }

    /// What is asked for where it is not so.
    pub fn step_up(&self) -> &Arc<StepUp> {
        &self.0
    }

    /// Whether the caller's login is so.
    pub fn judge(&self, facts: &Facts<'_>) -> Truth {
        let principal = facts.principal.as_deref();
        self.context(principal).and(self.age(principal, facts.now))
    }

    fn context(&self, principal: Option<&Principal>) -> Truth {
        match principal.and_then(|principal| principal.acr.as_deref()) {
            _ if self.0.acr.is_empty() => Truth::True,
            Some(used) => self.0.acr.iter().any(|context| **context == *used).into(),
            None => Truth::Unknown,
        }
    }

    fn age(&self, principal: Option<&Principal>, now: Timestamp) -> Truth {
        match (self.0.max_age, age(principal, now)) {
            (None, _) => Truth::True,
            (Some(_), None) => Truth::Unknown,
            // It cannot have been then: the clocks are wrong, or the token is.
            (Some(_), Some(age)) if age < -LEEWAY => Truth::Unknown,
            (Some(most), Some(age)) => (age <= SignedDuration::try_from(most).unwrap_or(SignedDuration::ZERO)).into(),
        }
    }

    /// What it says, what came out, and why, one line each: `max_age 5m: false (754s ago)`.
    pub fn describe(&self, facts: &Facts<'_>) -> Vec<String> {
        let principal = facts.principal.as_deref();
        let used = match principal {
            None => "the caller is not known",
            Some(principal) => principal.acr.as_deref().unwrap_or("the issuer does not say"),
        };
        let since = match (principal, age(principal, facts.now)) {
            (None, _) => "the caller is not known".to_owned(),
            (Some(_), None) => "the issuer does not say when the login was".to_owned(),
            (Some(_), Some(age)) if age < -LEEWAY => "the login is in the future".to_owned(),
            (Some(_), Some(age)) => format!("the login was {}s ago", age.as_secs().max(0)),
        };
        let [context, age] = self.words();
        let context = context.map(|words| format!("{words}: {} ({used})", self.context(principal).word()));
        let age = age.map(|words| format!("{words}: {} ({since})", self.age(principal, facts.now).word()));
        context.into_iter().chain(age).collect()
    }

    /// What it says of the context and of the age, where it says something: `acr otp, hwk`, `max_age 5m`.
    pub fn words(&self) -> [Option<String>; 2] {
        let named = !self.0.acr.is_empty();
        [
            named.then(|| format!("acr {}", self.0.acr.join(", "))),
            self.0.max_age.map(|age| {
                let written = MaxAge(age).written();
                format!(
                    "max_age {}",
                    written.as_ref().and_then(|text| text.as_str()).unwrap_or_default()
                )
            }),
        ]
    }
}

/// How long ago the login was; less than nothing where it is to come.
fn age(principal: Option<&Principal>, now: Timestamp) -> Option<SignedDuration> {
    Some(now.duration_since(principal?.auth_time?))
}

/// An `acr` that can stand in a list with spaces between, in a quoted challenge.
#[derive(Debug, Clone)]
struct Context(Box<str>);

impl Describe for Context {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::scalar_like(r"^[!#-\[\]-~]+$").examples(["otp", "phr", "urn:example:silver"])
    }
}

impl Read for Context {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        node.parse("an `acr` such as `otp`", load, |text| {
            let letters = |byte: u8| matches!(byte, b'!' | b'#'..=b'[' | b']'..=b'~');
            match !text.is_empty() && text.bytes().all(letters) {
                true => Ok(Self(text.into())),
                false => Err("is not an `acr`: visible ASCII without spaces, quotes and backslashes".into()),
            }
        })
    }
}

/// A time as challenges say it: in whole seconds.
#[derive(Debug, Clone)]
struct MaxAge(Duration);

impl Describe for MaxAge {
    fn schema(_: &mut Schemas) -> Schema {
        Schema::text("^0*[1-9][0-9]*(ms|s|m|h|d)$").examples(["5m", "30s"])
    }

    fn written(&self) -> Option<crate::conf::Json> {
        self.0.written()
    }
}

impl Read for MaxAge {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let age = Duration::read(node, load)?;
        let problem = match (age.is_zero(), age.subsec_nanos()) {
            (true, _) => "no login was so short ago: write a time such as `5m`",
            (false, 0) => return Some(Self(age)),
            (false, _) => "a challenge says it in whole seconds: write a time such as `5s`",
        };
        load.error(&node.place, problem);
        None
    }
}

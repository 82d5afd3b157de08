//! `limits`: how many requests a key may make. Refuses with 429 `limit-exceeded` and `Retry-After`, or with 503
//! `limits-unavailable` where nobody could count.
//!
//! ```yaml
//! limits:
//!   per-customer: { key: principal.sub, rate: 20/s, burst: 40 }
//!   per-partner:  { key: header.x-partner, rate: 600/m }
//!   per-tenant:   { key: claims.tenant, rate: 1000/h, burst: 100 }
//!   flood:        { key: ip, rate: 1000/s, approximate: true }
//! ```
//!
//! Counted by GCRA: after idleness `burst` at once, then one more whenever `rate` gives one back. `approximate` limits take
//! constant memory, and may count too much but never too little. A request without the key (no credential, no such
//! claim or one that is a list or an object, an absent, repeated or empty header) is counted by its address, apart
//! from limits by `ip`.
//!
//! Limits by `ip` are asked at [`Stage::Screen`], before anything is known of the caller, wherever they are named: a flood
//! then costs no signature check, and guessing credentials is counted too. The others are asked at [`Stage::Limit`].
//! Limits asked at one stage are charged all or none.

mod counter;
mod fields;
mod settings;
mod sketch;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use http::{HeaderName, StatusCode};
use serde_json::Value;

use super::{Draft, Inherit, Kind, Scope};
use crate::conf::{Describe, Node};
use crate::engine::{Answer, Denial, DenialKind, Facts, LimitId, LimitKey, Policy, Question, Stage, Verdict, Why};

pub use counter::{LimitTable, LimitTables, check};
pub use fields::{LimitFields, limit_fields};
pub use settings::{Bounds, KeySource, LimitRule, LimitSettings, Limits};

/// A route's `limits: [name, …]`.
pub const KIND: Kind = Kind {
    name: "limits",
    inherit: Inherit::List,
    compile,
    schema: |schemas| {
        Vec::<String>::schema(schemas).about("The limits that apply, by name; those of `defaults` come first.")
    },
};

fn compile(node: &Node, scope: &Scope<'_>) -> Vec<Draft> {
    let mut drafts: Vec<Draft> = Vec::new();
    for item in node.items(scope.load).unwrap_or_default() {
        let Some(name) = item.text("the name of a limit", scope.load) else {
            continue;
        };
        scope.load.names.refer("limit", name);
        let Some((id, rule)) = scope.defined.limits.get(name) else {
            if !scope.defined.limits.is_broken(name) {
                let known = scope.defined.limits.iter().map(|(_, rule)| &*rule.name);
                scope.load.unknown_name("limit", name, &item.place, known);
            }
            continue;
        };
        // Named by the defaults and by the route.
        if drafts.iter().any(|draft| draft.name == rule.name) {
            continue;
        }
        let stage = match rule.bounds.key {
            KeySource::Address => Stage::Screen,
            _ => Stage::Limit,
        };
        drafts.push(Draft {
            name: rule.name.clone(),
            stage,
            shadow: false,
            place: rule.place.clone(),
            policy: Arc::new(Limited::new(id, rule)),
        });
    }
    drafts
}

/// One limit on a route.
#[derive(Debug)]
struct Limited {
    id: LimitId,
    key: KeySource,
    words: String,
    refusal: Denial,
}

impl Limited {
    fn new(id: LimitId, rule: &LimitRule) -> Self {
        let LimitSettings { key, rate, .. } = &rule.settings;
        let (count, period) = (rate.count, rate.period.as_secs());
        let about = if rule.bounds.approximate { "about " } else { "" };
        let refusal = Denial::new(
            DenialKind::Throttle,
            StatusCode::TOO_MANY_REQUESTS,
            "limit-exceeded",
            "Too many requests; wait before the next one.",
        );
        Self {
            id,
            key: key.clone(),
            words: format!(
                "{about}{count} in {period} s, {} at once, by `{key}`",
                rule.bounds.burst
            ),
            refusal,
        }
    }

    fn key<'a>(&self, facts: &'a Facts<'_>) -> LimitKey<'a> {
        let keyless = LimitKey::Keyless(facts.address);
        let principal = facts.principal.as_deref();
        match &self.key {
            KeySource::Address => LimitKey::Address(facts.address),
            KeySource::Identity => principal.map_or(keyless, |principal| LimitKey::Identity(&principal.identity)),
            KeySource::Header(name) => match facts.request.header(name) {
                Some(text) if !text.is_empty() => LimitKey::Text(text),
                _ => keyless,
            },
            KeySource::Claim(path) => {
                let claim = principal.and_then(|principal| Some((principal, principal.claim(path)?)));
                match claim {
                    Some((_, Value::Null | Value::Array(_) | Value::Object(_))) | None => keyless,
                    Some((_, Value::String(text))) if text.is_empty() => keyless,
                    Some((principal, value)) => LimitKey::Claim {
                        authenticator: &principal.authenticator,
                        issuer: &principal.issuer,
                        value,
                    },
                }
            }
        }
    }
}

impl Limited {
    /// Whom it counts, in words. No value of a header or claim: those may be private.
    fn counted(&self, facts: &Facts<'_>) -> String {
        let address = facts.address;
        match (self.key(facts), facts.principal.as_deref()) {
            (LimitKey::Keyless(_), _) => format!("the request has no `{}`: counted by its address {address}", self.key),
            (LimitKey::Address(IpAddr::V6(_)), _) => format!("counted by the /64 of the address {address}"),
            (LimitKey::Address(_), _) => format!("counted by the address {address}"),
            (LimitKey::Identity(_), Some(principal)) => {
                format!("counted by `{}` of `{}`", principal.subject, principal.authenticator)
            }
            (LimitKey::Identity(_) | LimitKey::Text(_) | LimitKey::Claim { .. }, _) => {
                format!("counted by the value of `{}`", self.key)
            }
        }
    }
}

impl Policy for Limited {
    fn ask<'a>(&'a self, facts: &'a Facts<'_>) -> Option<Question<'a>> {
        let (limit, key) = (self.id, self.key(facts));
        Some(Question::Limit { limit, key })
    }

    fn judge(&self, _: &Facts<'_>, answer: Option<&Answer>) -> Verdict {
        let code = match answer {
            Some(Answer::Limit(limit)) if limit.admitted => return Verdict::pass(Why::Admitted),
            Some(Answer::Limit(limit)) => {
                let mut denial = self.refusal.clone();
                denial.retry_after = Some(limit.retry_after);
                return Verdict::deny(denial, Why::Exhausted);
            }
            Some(Answer::Unavailable { code }) => code,
            _ => "not-answered",
        };
        let detail = "The request could not be counted; try again.";
        Verdict::deny(
            Denial::unavailable("limits-unavailable", detail),
            Why::Unavailable(code),
        )
    }

    fn describe(&self, facts: &Facts<'_>, answer: Option<&Answer>) -> Vec<String> {
        let mut lines = vec![self.words.clone(), self.counted(facts)];
        if let Some(Answer::Limit(limit)) = answer {
            lines.push(format!("{} left, full again in {:?}", limit.remaining, limit.reset));
        }
        lines
    }

    fn reads_headers(&self) -> Vec<HeaderName> {
        match &self.key {
            KeySource::Header(name) => vec![name.clone()],
            _ => Vec::new(),
        }
    }

    fn reads_claims(&self) -> Vec<String> {
        match &self.key {
            KeySource::Claim(path) => vec![path.to_string()],
            _ => Vec::new(),
        }
    }
}

//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10), prepared as far as the configuration goes.

use std::fmt::Write;
use std::time::Duration;

use http::HeaderValue;

use super::Bounds;
use crate::engine::LimitAnswer;

/// What a limit contributes to the response fields.
#[derive(Debug, Clone)]
pub struct LimitFields {
    /// `"name";q=40;w=2`: the burst, and the seconds it takes to come back, rounded up.
    policy: HeaderValue,
    /// `"name"`.
    name: Box<str>,
}

impl LimitFields {
    /// Prepares the fields of a limit; names are letters, digits, `-` and `_`, which need no escape in a String item.
    pub(super) fn of(name: &str, bounds: &Bounds) -> Self {
        let window = whole_seconds(Duration::from_nanos(bounds.window())).max(1);
        let policy = format!("\"{name}\";q={};w={window}", bounds.burst);
        Self {
            policy: HeaderValue::try_from(policy).unwrap_or_else(|_| HeaderValue::from_static("")),
            name: format!("\"{name}\"").into_boxed_str(),
        }
    }
}

/// The values of `RateLimit-Policy` and `RateLimit` for the limits that were asked; `None` where none was.
pub fn limit_fields<'a>(
    asked: impl Iterator<Item = (&'a LimitFields, &'a LimitAnswer)> + Clone,
) -> Option<(HeaderValue, HeaderValue)> {
    let mut rest = asked.clone();
    let (first, _) = rest.next()?;
    let policy = if rest.clone().next().is_none() {
        first.policy.clone()
    } else {
        let mut policies = Vec::with_capacity(96);
        for (fields, _) in asked.clone() {
            if !policies.is_empty() {
                policies.extend_from_slice(b", ");
            }
            policies.extend_from_slice(fields.policy.as_bytes());
        }
        HeaderValue::try_from(policies).ok()?
    };
    let mut limits = String::with_capacity(96);
    for (fields, answer) in asked {
        let comma = if limits.is_empty() { "" } else { ", " };
        let (remaining, reset) = (answer.remaining, whole_seconds(answer.reset));
        // Writing to a String does not fail.
        let _ = write!(limits, "{comma}{};r={remaining};t={reset}", fields.name);
    }
    Some((policy, HeaderValue::try_from(limits).ok()?))
}

/// Rounded up, so that nobody comes back too early.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

//! What is marked under a name, and for how long that matters.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

/// Authenticators forgive as much between clocks (`leeway`), and so is the clock of whoever revokes forgiven.
pub const SKEW: Duration = Duration::from_secs(300);
/// No instant: before all.
pub(super) const NEVER: i64 = i64::MIN;
/// No end: after all.
pub(super) const EVER: i64 = i64::MAX;

/// What is marked, in whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Marks {
    /// Every token is revoked until then; [`NEVER`] where that was not said, [`EVER`] where there is no end.
    pub until: i64,
    /// Tokens issued before are revoked; [`NEVER`] where that was not said. Of a single token: when it was issued at the
    /// latest.
    pub before: i64,
}

impl Marks {
    pub const NONE: Self = Self {
        until: NEVER,
        before: NEVER,
    };

    pub fn is_none(self) -> bool {
        self == Self::NONE
    }

    /// Both: of two ends the later, of two instants the later.
    pub fn and(self, other: Self) -> Self {
        Self {
            until: self.until.max(other.until),
            before: self.before.max(other.before),
        }
    }

    /// What hits nothing any more is taken out: an end that has come, and `before` where the tokens issued before live no
    /// longer than `life` seconds, which is known of some.
    pub fn living(self, now: i64, life: Option<i64>) -> Self {
        let has_ended = |until: i64| until <= now;
        let is_outlived = |before: i64| life.is_some_and(|life| before.saturating_add(life) <= now);
        Self {
            until: if has_ended(self.until) { NEVER } else { self.until },
            before: if is_outlived(self.before) { NEVER } else { self.before },
        }
    }
}

/// How long credentials are good for at most, by authenticator; what is not known of one has no bound.
#[derive(Debug, Clone, Default)]
pub struct Lifetimes(pub Vec<(Arc<str>, Option<Duration>)>);

impl Lifetimes {
    /// In seconds, all that clocks are forgiven counted.
    pub(super) fn of(&self, authenticator: &str) -> Option<i64> {
        let (_, life) = self.0.iter().find(|(name, _)| **name == *authenticator)?;
        life.and_then(bounded)
    }

    /// That of whatever authenticator.
    pub(super) fn longest(&self) -> Option<i64> {
        let lives = self.0.iter().map(|(_, life)| life.and_then(bounded));
        lives.collect::<Option<Vec<i64>>>()?.into_iter().max()
    }
}

fn bounded(life: Duration) -> Option<i64> {
    i64::try_from(life.saturating_add(SKEW).as_secs().checked_add(1)?).ok()
}

/// Whole seconds, a fraction counted as one; as far as can be written.
pub(super) fn seconds(at: Timestamp) -> i64 {
    at.as_second().saturating_add(i64::from(at.subsec_nanosecond() > 0))
}

/// The end that marks tell; `None` where there is none.
pub(super) fn end(until: i64) -> Option<Timestamp> {
    (until != EVER).then(|| instant(until))
}

/// The instant that marks tell; the last one where it lies beyond all.
pub(super) fn instant(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap_or(Timestamp::MAX)
}

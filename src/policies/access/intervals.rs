//! A window compiled to the instants at which it changes, so that judging is a search among numbers.
//!
//! The table covers some two years around the instant it was compiled at. It decides nothing that the schedule would not
//! decide the same: outside of it the schedule is asked, which takes microseconds instead of nanoseconds.

use super::window::Schedule;
use crate::engine::Truth;

const DAY: i64 = 86_400;
/// Clocks may be set back, and a request may have begun under an earlier snapshot.
const BEFORE: i64 = 8 * DAY;
/// Two years without a restart or reload are rare.
const AFTER: i64 = 800 * DAY;

/// The changes of a window between two instants, in seconds.
#[derive(Debug)]
pub(super) struct Intervals {
    /// The seconds of the changes; the first one is the beginning of the table.
    changes: Box<[i64]>,
    /// The state from each change on.
    states: Box<[Truth]>,
    /// The end of the table, excluded.
    until: i64,
    /// The first change at or after the end.
    beyond: Option<i64>,
}

impl Intervals {
    /// Compiles what `schedule` says around `now`.
    pub fn around(schedule: &Schedule, now: i64) -> Self {
        let until = now.saturating_add(AFTER);
        let changes = schedule.changes(now.saturating_sub(BEFORE), until);
        let (changes, states): (Vec<i64>, Vec<Truth>) = changes.into_iter().unzip();
        Self {
            changes: changes.into(),
            states: states.into(),
            until,
            beyond: schedule.next_change(until.saturating_sub(1)),
        }
    }

    /// The state at `second`; `None` where the table does not reach.
    pub fn state(&self, second: i64) -> Option<Truth> {
        self.states.get(self.position(second)?).copied()
    }

    /// The first change after `second`, if there is one; `None` where the table does not reach.
    pub fn next_change(&self, second: i64) -> Option<Option<i64>> {
        let next = self.position(second)?.saturating_add(1);
        Some(self.changes.get(next).copied().or(self.beyond))
    }

    /// The change that `second` follows.
    fn position(&self, second: i64) -> Option<usize> {
        if second >= self.until {
            return None;
        }
        self.changes.partition_point(|change| *change <= second).checked_sub(1)
    }
}

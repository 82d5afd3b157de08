//! The wall clock, which a rehearsal starts elsewhere.

use std::time::Instant;

use jiff::{SignedDuration, Timestamp};

/// Tells the time. Copies tell the same time.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    rehearsal: Option<Rehearsal>,
}

/// Where a rehearsal began, on the rehearsed wall clock and on the monotonic one.
#[derive(Debug, Clone, Copy)]
struct Rehearsal {
    at: Timestamp,
    began: Instant,
}

impl Clock {
    /// The system's wall clock.
    pub fn system() -> Self {
        Self { rehearsal: None }
    }

    /// A clock that shows `at` now and goes on from there. It follows the monotonic clock: setting the system's clock does
    /// not move a rehearsal.
    pub fn starting_at(at: Timestamp) -> Self {
        Self {
            rehearsal: Some(Rehearsal {
                at,
                began: Instant::now(),
            }),
        }
    }

    /// The instant it shows; stops at the last one that can be written.
    pub fn now(&self) -> Timestamp {
        match self.rehearsal {
            None => Timestamp::now(),
            Some(Rehearsal { at, began }) => SignedDuration::try_from(began.elapsed())
                .ok()
                .and_then(|passed| at.checked_add(passed).ok())
                .unwrap_or(Timestamp::MAX),
        }
    }

    /// Whether it was started elsewhere than now.
    pub fn is_rehearsal(&self) -> bool {
        self.rehearsal.is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn goes_on_from_the_rehearsed_instant() {
        let night: Timestamp = "2026-09-25T14:45:00Z".parse().unwrap();
        let clock = Clock::starting_at(night);
        let (first, second) = (clock.now(), clock.now());
        assert!(clock.is_rehearsal() && night <= first && first <= second);
        assert!(second < night + SignedDuration::from_hours(1));
    }

    #[test]
    fn stops_at_the_end_of_time() {
        assert_eq!(Clock::starting_at(Timestamp::MAX).now(), Timestamp::MAX);
        assert!(!Clock::system().is_rehearsal());
    }
}

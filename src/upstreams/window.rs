//! What happened in the last so many seconds: counts in ten steps, of which the oldest is dropped as time goes on.

use std::time::{Duration, Instant};

const STEPS: usize = 10;

/// A sliding window. Its length is said with every use, so that a reload may change it: it then begins anew.
#[derive(Debug)]
pub(super) struct Window {
    epoch: Instant,
    /// The length of a step in nanoseconds; 0 before the first use.
    step: u64,
    /// The number of the newest step since the epoch.
    newest: u64,
    counts: [Count; STEPS],
}

/// How many there were, and how many of them were marked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub all: u64,
    pub marked: u64,
}

impl Window {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            step: 0,
            newest: 0,
            counts: [Count::default(); STEPS],
        }
    }

    pub(super) fn add(&mut self, length: Duration, now: Instant, count: Count) {
        self.move_on(length, now);
        let at = usize::try_from(self.newest % STEPS as u64).unwrap_or_default();
        if let Some(step) = self.counts.get_mut(at) {
            step.all += count.all;
            step.marked += count.marked;
        }
    }

    pub(super) fn sum(&mut self, length: Duration, now: Instant) -> Count {
        self.move_on(length, now);
        self.counts.iter().fold(Count::default(), |sum, step| Count {
            all: sum.all + step.all,
            marked: sum.marked + step.marked,
        })
    }

    pub(super) fn clear(&mut self) {
        self.counts = [Count::default(); STEPS];
    }

    fn move_on(&mut self, length: Duration, now: Instant) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let step = (nanos(length) / STEPS as u64).max(1);
        let number = nanos(now.saturating_duration_since(self.epoch)) / step;
        if step != self.step {
            (self.step, self.newest) = (step, number);
            self.clear();
            return;
        }
        // An instant taken before another thread's counts with the newest.
        let gone = number.saturating_sub(self.newest).min(STEPS as u64);
        for passed in 1..=gone {
            let at = usize::try_from((self.newest + passed) % STEPS as u64).unwrap_or_default();
            self.counts
                .iter_mut()
                .skip(at)
                .take(1)
                .for_each(|step| *step = Count::default());
        }
        // After a long pause all steps are empty, wherever the newest stands.
        self.newest = self.newest.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(10);
    const ONE: Count = Count { all: 1, marked: 1 };

    #[test]
    fn forgets_what_is_older_than_its_length() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut window = Window::new(start);
        window.add(LENGTH, at(0), ONE);
        window.add(LENGTH, at(5_500), Count { all: 2, marked: 0 });
        assert_eq!(window.sum(LENGTH, at(9_900)), Count { all: 3, marked: 1 });
        assert_eq!(window.sum(LENGTH, at(10_100)), Count { all: 2, marked: 0 });
        assert_eq!(window.sum(LENGTH, at(15_100)), Count::default());
        window.add(LENGTH, at(1_000_000), ONE);
        assert_eq!(window.sum(LENGTH, at(1_000_000)), ONE);
        // Another thread's instant may be a little older.
        assert_eq!(window.sum(LENGTH, at(999_000)), ONE);
    }

    #[test]
    fn begins_anew_where_its_length_changes() {
        let start = Instant::now();
        let mut window = Window::new(start);
        window.add(LENGTH, start, ONE);
        assert_eq!(window.sum(Duration::from_secs(5), start), Count::default());
    }
}

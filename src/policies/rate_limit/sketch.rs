//! Counting without remembering keys: two count-min sketches of `pingora-limits`, one window each.
//!
//! An estimate is the count of this window and so much of the last one's as a window reaching back from now still covers,
//! which keeps the promise of an exact limit, at most `quota` at once and `quota` a window after that. A sketch counts too
//! much where keys share all four counters, never too little: with E requests in a window the expected surplus is below
//! E / columns, about 6 at 100 000 requests and 16 384 columns. Time is passed in; `pingora_limits::rate::Rate`, which
//! reads a clock of its own and may panic where threads race to reset it, is not used.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use pingora_limits::estimator::Estimator;

use super::counter::{Fingerprint, Standing};

const ROWS: usize = 4;

/// Counts of all keys in the current and the last window.
pub(super) struct Sketch {
    /// By the window's parity.
    windows: [Estimator; 2],
    /// The number of the current window, counted from time zero.
    current: AtomicU64,
    turning: Mutex<()>,
    /// In nanoseconds.
    window: u64,
    quota: u64,
}

/// What the sketch knows of one key.
#[derive(Debug, Clone, Copy)]
struct Counts {
    last: u64,
    this: u64,
    /// How far into the window now is, in nanoseconds.
    elapsed: u64,
}

impl Sketch {
    /// A sketch for `quota` requests in a `window` of nanoseconds, with so many columns (8 bytes in each of 2 × 4 rows).
    pub(super) fn new(quota: u64, window: u64, columns: usize) -> Self {
        Self {
            windows: [Estimator::new(ROWS, columns), Estimator::new(ROWS, columns)],
            current: AtomicU64::new(0),
            turning: Mutex::new(()),
            window: window.max(1),
            quota: quota.max(1),
        }
    }

    /// What the key has used and whether one more fits; nothing is counted.
    pub(super) fn standing(&self, key: Fingerprint, now: u64) -> Standing {
        self.counts(key, now).standing(self.quota, self.window)
    }

    /// The same of a key that was counted so often in this window, which has just begun.
    pub(super) fn standing_after(count: u64, quota: u64, window: u64) -> Standing {
        let counts = Counts {
            last: 0,
            this: count,
            elapsed: 0,
        };
        counts.standing(quota.max(1), window.max(1))
    }

    /// Counts one request.
    pub(super) fn charge(&self, key: Fingerprint, now: u64) -> Standing {
        let (window, _) = self.turn(now);
        self.of(window).incr(key, 1);
        let standing = self.standing(key, now);
        Standing {
            admitted: true,
            retry_after: 0,
            ..standing
        }
    }

    /// How many requests of the key count now.
    pub(super) fn used(&self, key: Fingerprint, now: u64) -> u64 {
        self.counts(key, now).estimate(self.window)
    }

    fn counts(&self, key: Fingerprint, now: u64) -> Counts {
        let (window, elapsed) = self.turn(now);
        let count = |window: u64| u64::try_from(self.of(window).get(key)).unwrap_or(0);
        Counts {
            // Before the first window there was none.
            last: if window == 0 { 0 } else { count(window - 1) },
            this: count(window),
            elapsed,
        }
    }

    fn of(&self, window: u64) -> &Estimator {
        let [even, odd] = &self.windows;
        if window.is_multiple_of(2) { even } else { odd }
    }

    /// The current window and how far into it `now` is. The first to reach a new window clears what is out of sight; the
    /// others wait for it, some 30 µs. A caller whose `now` is a little old counts in the current window.
    fn turn(&self, now: u64) -> (u64, u64) {
        let reached = now / self.window;
        let current = self.current.load(Ordering::Acquire);
        if reached <= current {
            return (current, now.saturating_sub(current.saturating_mul(self.window)));
        }
        let _turning = self.turning.lock();
        let current = self.current.load(Ordering::Acquire);
        if reached > current {
            self.of(reached).reset();
            if reached > current + 1 {
                self.of(reached - 1).reset();
            }
            self.current.store(reached, Ordering::Release);
        }
        let current = reached.max(current);
        (current, now.saturating_sub(current.saturating_mul(self.window)))
    }
}

impl Counts {
    fn standing(self, quota: u64, window: u64) -> Standing {
        let used = self.estimate(window);
        let admitted = used < quota;
        Standing {
            admitted,
            remaining: quota.saturating_sub(used),
            reset: self.forgotten_after(window),
            retry_after: if admitted { 0 } else { self.wait(quota, window) },
        }
    }

    fn estimate(&self, window: u64) -> u64 {
        let left = u128::from(window.saturating_sub(self.elapsed));
        let last = (u128::from(self.last) * left).div_ceil(u128::from(window));
        u64::try_from(last).unwrap_or(u64::MAX).saturating_add(self.this)
    }

    /// Nanoseconds until nothing of the key is in sight.
    fn forgotten_after(&self, window: u64) -> u64 {
        let left = window.saturating_sub(self.elapsed);
        match (self.last, self.this) {
            (0, 0) => 0,
            (_, 0) => left,
            _ => left.saturating_add(window),
        }
    }

    /// Nanoseconds until one more fits, for a key over its quota.
    fn wait(&self, quota: u64, window: u64) -> u64 {
        if self.this < quota {
            return fades_at(self.last, quota - self.this - 1, window).saturating_sub(self.elapsed);
        }
        let left = window.saturating_sub(self.elapsed);
        left.saturating_add(fades_at(self.this, quota - 1, window))
    }
}

/// How far into the next window no more than `room` of `count` requests are in sight.
fn fades_at(count: u64, room: u64, window: u64) -> u64 {
    if count <= room {
        return 0;
    }
    let covered = u128::from(room) * u128::from(window) / u128::from(count);
    window.saturating_sub(u64::try_from(covered).unwrap_or(window))
}

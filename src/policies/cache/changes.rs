//! When the answers of an address stopped to be usable, because a request with an unsafe method succeeded there
//! (RFC 9111 §4.4).
//!
//! A fixed table of instants by a keyed hash of host, path and query: routes, principals and variants of one address are
//! all meant at once, and memory does not grow with what callers write to. Two addresses that share a slot cost a fetch.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Half a megabyte; a power of two.
const SLOTS: usize = 1 << 16;

/// When addresses were last changed.
pub struct Changes {
    seed: RandomState,
    /// Microseconds since 1970; 0 for never.
    slots: Box<[AtomicU64]>,
}

impl Default for Changes {
    fn default() -> Self {
        Self {
            seed: RandomState::new(),
            slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(),
        }
    }
}

impl Changes {
    /// What was stored of this address by `now` is not to be used again.
    pub fn note(&self, host: &str, path: &str, query: &str, now: SystemTime) {
        if let Some(slot) = self.slot(host, path, query) {
            slot.fetch_max(micros(now), Ordering::AcqRel);
        }
    }

    /// Whether the address was changed at `instant` or later.
    pub fn any_since(&self, host: &str, path: &str, query: &str, instant: SystemTime) -> bool {
        let noted = self.slot(host, path, query).map(|slot| slot.load(Ordering::Acquire));
        noted.is_some_and(|noted| noted != 0 && noted >= micros(instant))
    }

    /// Which change of the address was the last: a number that is another after each.
    pub fn last(&self, host: &str, path: &str, query: &str) -> u64 {
        let noted = self.slot(host, path, query);
        noted.map_or(0, |slot| slot.load(Ordering::Acquire))
    }

    fn slot(&self, host: &str, path: &str, query: &str) -> Option<&AtomicU64> {
        // Tuples of strings are framed by `Hash` itself.
        let hash = self.seed.hash_one((host, path, query));
        usize::try_from(hash % SLOTS as u64)
            .ok()
            .and_then(|at| self.slots.get(at))
    }
}

fn micros(instant: SystemTime) -> u64 {
    let since = instant.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn knows_what_was_changed_since() {
        let changes = Changes::default();
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(!changes.any_since("h", "/a", "", at(0)));
        changes.note("h", "/a", "", at(10));
        changes.note("h", "/a", "", at(5));
        let known = [9, 10, 11].map(|seconds| changes.any_since("h", "/a", "", at(seconds)));
        assert_eq!(known, [true, true, false]);
        assert!(!changes.any_since("h", "/a", "b", at(0)));
    }
}

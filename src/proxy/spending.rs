//! What one request from outside may cost: how many calls, how many at once and how many bytes of answers, over all levels of
//! aggregates within aggregates.
//!
//! Each aggregate holds the answers of its parts until it is written; an inner one's are given back then, and what it wrote
//! counts among the parts of the outer one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::targets::aggregate::MAX_TOTAL;

/// More calls are not made: a part that goes through a hundred items may lead to an aggregate that does so again.
const MAX_CALLS: usize = 512;
/// So many services are asked at once; their answers, of a mebibyte each, are not counted before they are whole.
const AT_ONCE: usize = 16;

/// What one request from outside has spent.
#[derive(Debug)]
struct Spending {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    turns: Semaphore,
}

/// What one aggregate holds of it; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    of: Arc<Spending>,
    bytes: AtomicUsize,
}

impl Default for Held {
    fn default() -> Self {
        Self {
            of: Arc::new(Spending {
                calls: AtomicUsize::new(0),
                bytes: AtomicUsize::new(0),
                turns: Semaphore::new(AT_ONCE),
            }),
            bytes: AtomicUsize::new(0),
        }
    }
}

impl Held {
    /// What an aggregate holds that is a part of this one.
    pub fn within(&self) -> Self {
        Self {
            of: self.of.clone(),
            bytes: AtomicUsize::new(0),
        }
    }

    /// Whether one more call may be made.
    pub fn begin(&self) -> bool {
        self.has_room() && self.of.calls.fetch_add(1, Ordering::Relaxed) < MAX_CALLS
    }

    /// Waits for the turn to ask a service; `None` where what came meanwhile is too much already.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        let turn = self.of.turns.acquire().await.ok()?;
        self.has_room().then_some(turn)
    }

    fn has_room(&self) -> bool {
        self.of.bytes.load(Ordering::Relaxed) <= MAX_TOTAL
    }

    /// Counts an answer of so many bytes; false where it is too much.
    pub fn take(&self, bytes: usize) -> bool {
        let before = self.of.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        before.saturating_add(bytes) <= MAX_TOTAL
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_calls_over_all_levels() {
        let outer = Held::default();
        let inner = outer.within();
        assert!((0..MAX_CALLS / 2).all(|_| outer.begin() && inner.begin()));
        assert!(!outer.begin() && !inner.within().begin());
    }

    #[test]
    fn counts_what_is_held_and_what_was_given_back_no_more() {
        let outer = Held::default();
        assert!(outer.take(MAX_TOTAL / 2));
        let inner = outer.within();
        assert!(inner.take(MAX_TOTAL / 2) && !inner.take(1));
        assert!(!outer.begin(), "nothing more is asked for");
        drop(inner);
        assert!(outer.begin() && outer.take(MAX_TOTAL / 2) && !outer.take(1));
    }
}

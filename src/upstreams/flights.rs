//! Requests from inside that are under way, and answers that are kept: whoever wants the same does not ask again.
//!
//! Both are found by a key that says everything an answer may depend on; what it is made of is up to the caller.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use foldhash::quality::RandomState;
use futures::future::{BoxFuture, FutureExt, Shared, WeakShared};
use parking_lot::Mutex;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{CallError, CallFailure, Called};

/// What a call comes to.
pub type Outcome = Result<Called, CallFailure>;
type Flight = Shared<BoxFuture<'static, Outcome>>;
type Table = Mutex<HashMap<Arc<[u8]>, WeakShared<BoxFuture<'static, Outcome>>, RandomState>>;

/// Answers that are kept, in bytes over all callers; what was used least goes first.
const MAX_BYTES: u64 = 64 << 20;
const USUAL_ANSWERS: usize = 16_384;

/// The calls that are under way.
#[derive(Default)]
pub struct Flights {
    under_way: Table,
    waiting: AtomicUsize,
}

impl Flights {
    /// The outcome of the call of that key that is under way, or of the one that `begin` makes. It ends when the last who waits
    /// for it has left. Once it has an outcome nobody joins it any more.
    pub fn join<B>(&self, key: Vec<u8>, begin: B) -> impl Future<Output = Outcome> + Send + use<'_, B>
    where
        B: FnOnce() -> BoxFuture<'static, Outcome>,
    {
        let key: Arc<[u8]> = key.into();
        let mut is_ours = false;
        let flight = {
            let mut under_way = self.under_way.lock();
            let standing = under_way.get(&key).and_then(WeakShared::upgrade);
            match standing.filter(|flight| flight.peek().is_none()) {
                Some(flight) => flight,
                None => {
                    is_ours = true;
                    let flight = begin().shared();
                    if let Some(weak) = flight.downgrade() {
                        under_way.insert(key.clone(), weak);
                    }
                    flight
                }
            }
        };
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waiting = Waiting {
            flights: self,
            key,
            flight: Some(flight),
        };
        async move {
            let mut waiting = waiting;
            let mut outcome = match &mut waiting.flight {
                Some(flight) => flight.await,
                None => Err(CallError::Broken.into()),
            };
            drop(waiting);
            if !is_ours {
                // Told once, by whoever made the call.
                match &mut outcome {
                    Ok(called) => called.upstream = None,
                    Err(failure) => failure.upstream = None,
                }
            }
            outcome
        }
    }

    /// How many wait for an answer; those that share a call count each.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many are under way.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.under_way.lock().len()
    }
}

/// Somebody who waits. Who leaves last takes the entry away.
struct Waiting<'f> {
    flights: &'f Flights,
    key: Arc<[u8]>,
    flight: Option<Flight>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.flights.waiting.fetch_sub(1, Ordering::Relaxed);
        drop(self.flight.take());
        let mut under_way = self.flights.under_way.lock();
        let is_over = |flight: Option<Flight>| flight.is_none_or(|flight| flight.peek().is_some());
        if under_way.get(&self.key).is_some_and(|weak| is_over(weak.upgrade())) {
            under_way.remove(&self.key);
        }
    }
}

/// Answers that are kept for a while.
pub struct Kept(Cache<Box<[u8]>, Stored, Weight, RandomState>);

#[derive(Clone)]
struct Stored {
    called: Called,
    until: Instant,
}

#[derive(Clone)]
struct Weight;

impl Weighter<Box<[u8]>, Stored> for Weight {
    fn weight(&self, key: &Box<[u8]>, stored: &Stored) -> u64 {
        512 + (key.len() + stored.called.size()) as u64
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self(Cache::with(
            USUAL_ANSWERS,
            MAX_BYTES,
            Weight,
            RandomState::default(),
            quick_cache::sync::DefaultLifecycle::default(),
        ))
    }
}

impl Kept {
    /// The answer of that key, while it is good; it says for how long.
    pub fn find(&self, key: &[u8], now: Instant) -> Option<Called> {
        let Stored { mut called, until } = self.0.get(key)?;
        let left = until.checked_duration_since(now).filter(|left| !left.is_zero());
        if left.is_none() {
            self.0.remove(key);
        }
        called.kept = Some(left?);
        called.upstream = None;
        Some(called)
    }

    /// Keeps an answer for so long.
    pub fn keep(&self, key: &[u8], called: Called, ttl: Duration, now: Instant) {
        if let Some(until) = now.checked_add(ttl) {
            self.0.insert(key.into(), Stored { called, until });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::StatusCode;
    use tokio::sync::Notify;

    use super::*;

    fn called() -> Called {
        Called {
            status: StatusCode::OK,
            headers: Arc::default(),
            body: "1".into(),
            kept: None,
            lacks: None,
            upstream: None,
        }
    }

    /// Counts when it is dropped.
    struct Counts(Arc<AtomicUsize>);

    impl Drop for Counts {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
    }

    #[test]
    fn asks_once_however_many_wait() {
        runtime().block_on(async {
            let (flights, begun, open) = (Flights::default(), AtomicUsize::new(0), Arc::new(Notify::new()));
            let one = || {
                flights.join(b"key".to_vec(), || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    let open = open.clone();
                    async move {
                        open.notified().await;
                        Ok(called())
                    }
                    .boxed()
                })
            };
            let all = futures::future::join_all((0..50).map(|_| one()));
            assert_eq!((flights.waiting(), flights.len()), (50, 1));
            let (all, ()) = futures::join!(all, async { open.notify_one() });
            assert!(all.iter().all(|outcome| outcome.as_ref().unwrap().body == "1"));
            assert_eq!((begun.load(Ordering::SeqCst), flights.len()), (1, 0));
            // What is over is over: the next one asks anew, and another key shares nothing.
            open.notify_one();
            one().await.unwrap();
            assert_eq!(begun.load(Ordering::SeqCst), 2);
            let other = flights.join(b"other".to_vec(), || async { Err(CallError::Connect.into()) }.boxed());
            assert_eq!(other.await.unwrap_err().error, CallError::Connect);
            assert_eq!(flights.len(), 0);
        });
    }

    #[test]
    fn ends_when_the_last_who_waits_has_left() {
        runtime().block_on(async {
            let (flights, dropped) = (Flights::default(), Arc::new(AtomicUsize::new(0)));
            let one = || {
                let counts = Counts(dropped.clone());
                let hangs = async move {
                    let _counts = counts;
                    std::future::pending().await
                };
                flights.join(b"key".to_vec(), || hangs.boxed())
            };
            let (mut first, mut second) = (Box::pin(one()), Box::pin(one()));
            assert!(futures::poll!(&mut first).is_pending() && futures::poll!(&mut second).is_pending());
            // What the second would have begun was never needed.
            assert_eq!(dropped.load(Ordering::SeqCst), 1);
            drop(first);
            assert!(futures::poll!(&mut second).is_pending());
            assert_eq!((dropped.load(Ordering::SeqCst), flights.len()), (1, 1));
            drop(second);
            assert_eq!((dropped.load(Ordering::SeqCst), flights.len()), (2, 0));
        });
    }

    #[test]
    fn keeps_an_answer_for_its_time() {
        let (kept, now) = (Kept::default(), Instant::now());
        kept.keep(b"key", called(), Duration::from_secs(10), now);
        let found = kept.find(b"key", now + Duration::from_secs(4)).unwrap();
        assert_eq!(found.kept, Some(Duration::from_secs(6)));
        assert!(kept.find(b"other", now).is_none());
        assert!(kept.find(b"key", now + Duration::from_secs(10)).is_none());
        assert!(kept.find(b"key", now).is_none(), "what is over is taken away");
    }
}

//! `breaker`: an endpoint that fails too often is left alone for a while.
//!
//! ```yaml
//! upstreams:
//!   accounts:
//!     endpoints: [127.0.0.1:7001]
//!     breaker: { error_ratio: 50%, window: 10s, open_for: 5s, min_requests: 5 }
//! ```
//!
//! Each endpoint has its own. It opens where, of at least `min_requests` within `window`, so large a share failed: no
//! connection, no answer in time, an exchange that broke off, or a 5xx. While it is open nothing is sent there; where no other
//! endpoint is left, requests are answered `503 breaker-open` with `Retry-After`. After `open_for` one request is let through
//! as a probe: if that goes well the breaker closes and has forgotten everything, else it opens again.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::Patience;
use super::window::{Count, Window};
use crate::conf::{Describe, Json, Load, Node, Percent, Read, Schema, Schemas};

crate::settings! {
    /// When an endpoint that fails is left alone.
    #[derive(PartialEq)]
    pub struct BreakerSettings {
        /// The share of requests that must have failed, at least `1%`.
        pub error_ratio: ErrorRatio = ErrorRatio(Percent(50)),
        /// The time that is looked back on.
        pub window: Patience = Patience(Duration::from_secs(10)),
        /// How long nothing is sent to it; then one request is let through as a probe.
        pub open_for: Patience = Patience(Duration::from_secs(5)),
        /// With fewer requests in the window nothing is concluded.
        pub min_requests: std::num::NonZeroU32 = DEFAULT_MIN,
    }
}

const DEFAULT_MIN: std::num::NonZeroU32 = std::num::NonZeroU32::MIN.saturating_add(4);
/// The longest wait that is named while a probe is under way: it may be over at any moment.
const PROBING: Duration = Duration::from_secs(1);

/// A share above 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRatio(pub Percent);

impl Describe for ErrorRatio {
    fn schema(schemas: &mut Schemas) -> Schema {
        Percent::schema(schemas)
    }

    fn written(&self) -> Option<Json> {
        self.0.written()
    }
}

impl Read for ErrorRatio {
    fn read(node: &Node, load: &Load) -> Option<Self> {
        let ratio = Percent::read(node, load)?;
        if ratio.0 == 0 {
            load.error(&node.place, "a share above 0% is needed");
        }
        Some(Self(ratio))
    }
}

/// The breaker of one endpoint.
#[derive(Debug)]
pub(super) struct Breaker(Mutex<State>);

#[derive(Debug)]
struct State {
    phase: Phase,
    window: Window,
    opened: u64,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    Closed,
    Open {
        until: Instant,
    },
    /// One request is under way, and its outcome decides.
    Probing,
}

/// A request that was let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admitted {
    /// As any other.
    Plainly,
    /// Its outcome closes or opens the breaker; who gets this must [report](Breaker::report) or [give up](Breaker::give_up).
    AsProbe,
}

/// How a breaker stands, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerFigures {
    /// Whether requests are held back, but for a probe.
    pub is_open: bool,
    /// How often it opened.
    pub opened: u64,
}

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State {
            phase: Phase::Closed,
            window: Window::new(now),
            opened: 0,
        }))
    }

    /// Lets a request through, or says how long it may be until one is.
    pub(super) fn admit(&self, now: Instant) -> Result<Admitted, Duration> {
        let mut state = self.0.lock();
        match state.phase {
            Phase::Closed => Ok(Admitted::Plainly),
            Phase::Open { until } if until <= now => {
                state.phase = Phase::Probing;
                Ok(Admitted::AsProbe)
            }
            Phase::Open { until } => Err(until.saturating_duration_since(now)),
            Phase::Probing => Err(PROBING),
        }
    }

    /// Takes note of how a request went.
    pub(super) fn report(&self, settings: &BreakerSettings, now: Instant, admitted: Admitted, failed: bool) {
        let mut state = self.0.lock();
        match (admitted, failed) {
            (Admitted::AsProbe, false) => {
                state.phase = Phase::Closed;
                state.window.clear();
            }
            (Admitted::AsProbe, true) => state.open(settings, now),
            (Admitted::Plainly, failed) => {
                let count = Count {
                    all: 1,
                    marked: u64::from(failed),
                };
                state.count(settings, now, count);
            }
        }
    }

    /// Takes note that a request whose answer had begun well broke off.
    pub(super) fn report_broken(&self, settings: &BreakerSettings, now: Instant) {
        self.0.lock().count(settings, now, Count { all: 0, marked: 1 });
    }

    /// A probe whose outcome nobody will know, because its caller left: the next request is one.
    pub(super) fn give_up(&self, now: Instant) {
        self.0.lock().phase = Phase::Open { until: now };
    }

    pub(super) fn figures(&self) -> BreakerFigures {
        let state = self.0.lock();
        BreakerFigures {
            is_open: !matches!(state.phase, Phase::Closed),
            opened: state.opened,
        }
    }
}

impl State {
    /// Late reports of requests from before it opened change nothing.
    fn count(&mut self, settings: &BreakerSettings, now: Instant, count: Count) {
        if !matches!(self.phase, Phase::Closed) {
            return;
        }
        self.window.add(settings.window.0, now, count);
        if count.marked == 0 {
            return;
        }
        let sum = self.window.sum(settings.window.0, now);
        let is_enough = sum.all >= u64::from(settings.min_requests.get());
        if is_enough && sum.marked * 100 >= sum.all * u64::from(settings.error_ratio.0.0) {
            self.open(settings, now);
        }
    }

    fn open(&mut self, settings: &BreakerSettings, now: Instant) {
        self.phase = Phase::Open {
            until: now + settings.open_for.0,
        };
        self.window.clear();
        self.opened += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> BreakerSettings {
        BreakerSettings {
            error_ratio: ErrorRatio(Percent(50)),
            window: Patience(Duration::from_secs(10)),
            open_for: Patience(Duration::from_secs(5)),
            min_requests: DEFAULT_MIN,
        }
    }

    fn failing(breaker: &Breaker, now: Instant, times: usize) {
        for _ in 0..times {
            breaker.report(&settings(), now, Admitted::Plainly, true);
        }
    }

    #[test]
    fn opens_at_its_ratio_and_not_before_enough_were_seen() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        failing(&breaker, now, 4);
        assert_eq!(breaker.admit(now), Ok(Admitted::Plainly));
        failing(&breaker, now, 1);
        assert_eq!(breaker.admit(now), Err(Duration::from_secs(5)));

        let breaker = Breaker::new(now);
        for _ in 0..6 {
            breaker.report(&settings(), now, Admitted::Plainly, false);
        }
        failing(&breaker, now, 5);
        assert_eq!(breaker.admit(now), Ok(Admitted::Plainly), "five of eleven");
        failing(&breaker, now, 1);
        assert!(breaker.admit(now).is_err(), "six of twelve");
        assert_eq!(
            breaker.figures(),
            BreakerFigures {
                is_open: true,
                opened: 1
            }
        );
    }

    #[test]
    fn forgets_failures_that_are_older_than_its_window() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        failing(&breaker, now, 4);
        failing(&breaker, now + Duration::from_secs(12), 4);
        assert_eq!(breaker.admit(now + Duration::from_secs(12)), Ok(Admitted::Plainly));
    }

    #[test]
    fn lets_one_probe_through_whose_outcome_decides() {
        let now = Instant::now();
        let breaker = Breaker::new(now);
        failing(&breaker, now, 5);
        assert!(breaker.admit(now + Duration::from_millis(4_999)).is_err());
        let later = now + Duration::from_secs(5);
        assert_eq!(breaker.admit(later), Ok(Admitted::AsProbe));
        assert_eq!(breaker.admit(later), Err(PROBING), "one only");
        // Late news of an earlier request decides nothing.
        breaker.report(&settings(), later, Admitted::Plainly, false);
        assert!(breaker.admit(later).is_err());
        breaker.report(&settings(), later, Admitted::AsProbe, true);
        assert_eq!(breaker.admit(later), Err(Duration::from_secs(5)));
        let again = later + Duration::from_secs(5);
        assert_eq!(breaker.admit(again), Ok(Admitted::AsProbe));
        breaker.give_up(again);
        assert_eq!(breaker.admit(again), Ok(Admitted::AsProbe), "its caller left");
        breaker.report(&settings(), again, Admitted::AsProbe, false);
        failing(&breaker, again, 4);
        assert_eq!(
            breaker.admit(again),
            Ok(Admitted::Plainly),
            "what was before is forgotten"
        );
    }
}

//! How slowly a client may send or take bytes: a while to begin with, then a least rate.
//!
//! A deadline for each piece lets a client drip one byte within each; a deadline for the whole cuts long downloads off. So
//! only the time is counted that the gateway waits for the client, against what was moved meanwhile.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// The least that is expected of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Bytes in each second.
    pub rate: u64,
    /// How far it may be behind that.
    pub grace: Duration,
}

/// Watches over one direction of one request.
#[derive(Debug)]
pub(super) struct Watch {
    pace: Pace,
    /// When all must have been moved.
    until: Option<Instant>,
    moved: u64,
    /// What the client had taken when it was first waited for, where it says so itself.
    before: Option<u64>,
    waited: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Watch {
    pub fn new(pace: Pace, until: Option<Instant>) -> Self {
        Self {
            pace,
            until,
            moved: 0,
            before: None,
            waited: Duration::ZERO,
            since: None,
            timer: None,
        }
    }

    /// So many bytes were moved.
    pub fn moved(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes as u64);
        self.pause();
    }

    /// It is not the client's turn any more.
    pub fn pause(&mut self) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
    }

    /// How long the client was waited for, in all.
    pub fn waited(&self) -> Duration {
        self.waited + self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// It is the client's turn. Ready once it has taken too long; wakes the task then.
    pub fn poll_wait(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.poll_while(self.moved, context)
    }

    /// The same where what was moved may not have come to the client: it has taken so many bytes since it came.
    pub fn poll_taken(&mut self, taken: u64, context: &mut Context<'_>) -> Poll<()> {
        let before = *self.before.get_or_insert(taken);
        self.poll_while(taken.saturating_sub(before), context)
    }

    fn poll_while(&mut self, moved: u64, context: &mut Context<'_>) -> Poll<()> {
        let since = *self.since.get_or_insert_with(Instant::now);
        let earned = Duration::from_millis(moved.saturating_mul(1000) / self.pace.rate.max(1));
        let allowed = (self.pace.grace + earned).saturating_sub(self.waited);
        let deadline = since + allowed;
        let deadline = self.until.map_or(deadline, |until| until.min(deadline));
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() != deadline {
            timer.as_mut().reset(deadline);
        }
        timer.as_mut().poll(context)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn is_too_slow(watch: &mut Watch) -> bool {
        poll_fn(|context| watch.poll_wait(context)).now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn counts_only_the_time_that_the_client_takes() {
        let mut watch = Watch::new(
            Pace {
                rate: 100,
                grace: 10 * SECOND,
            },
            None,
        );
        for _ in 0..50 {
            assert!(!is_too_slow(&mut watch));
            advance(SECOND).await;
            watch.moved(100);
            // Nobody waits for the client now.
            advance(60 * SECOND).await;
        }
        assert!(!is_too_slow(&mut watch));
        advance(9 * SECOND).await;
        assert!(!is_too_slow(&mut watch));
        advance(2 * SECOND).await;
        assert!(is_too_slow(&mut watch));
    }

    #[tokio::test(start_paused = true)]
    async fn is_not_held_by_single_bytes() {
        let mut watch = Watch::new(
            Pace {
                rate: 100,
                grace: 10 * SECOND,
            },
            None,
        );
        let mut moved = 0;
        while !is_too_slow(&mut watch) {
            advance(SECOND).await;
            watch.moved(1);
            moved += 1;
            assert!(moved < 20);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn counts_for_nothing_what_was_not_taken() {
        let mut watch = Watch::new(
            Pace {
                rate: 100,
                grace: 10 * SECOND,
            },
            None,
        );
        watch.moved(1_000_000);
        let is_too_slow = |watch: &mut Watch, taken| {
            let polled = poll_fn(|context| watch.poll_taken(taken, context));
            polled.now_or_never().is_some()
        };
        assert!(!is_too_slow(&mut watch, 7_000));
        advance(11 * SECOND).await;
        // Meanwhile as much as buys five seconds was taken, and then no more.
        assert!(!is_too_slow(&mut watch, 7_500));
        advance(5 * SECOND).await;
        assert!(is_too_slow(&mut watch, 7_500));
    }

    #[tokio::test(start_paused = true)]
    async fn ends_at_the_deadline_of_the_whole() {
        let until = Instant::now() + 3 * SECOND;
        let mut watch = Watch::new(
            Pace {
                rate: 1,
                grace: 10 * SECOND,
            },
            Some(until),
        );
        watch.moved(1_000_000);
        assert!(!is_too_slow(&mut watch));
        advance(4 * SECOND).await;
        assert!(is_too_slow(&mut watch));
    }
}

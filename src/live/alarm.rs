//! One timer for all that a connection waits for, one after the other.
//!
//! Nearly everything has a deadline, and nearly nothing misses it: to set a timer and to take it away again with every request
//! costs more than all that it is there for. A timer that is set already, and rings before it is needed, is put off when it rings.

use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

/// Rings for whoever asks last.
#[derive(Default)]
pub struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready once `due` has passed.
    pub fn poll_until(&mut self, due: Instant, context: &mut Context<'_>) -> Poll<()> {
        let timer = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if timer.deadline() > due {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(context));
            if timer.deadline() >= due {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }

    /// Whether it rang, and nobody has asked for it since.
    pub fn has_rung(&self) -> bool {
        self.0.as_ref().is_some_and(|timer| timer.is_elapsed())
    }

    /// What `future` comes to, unless `due` passes before.
    pub async fn before<F: Future>(&mut self, due: Instant, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        std::future::poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => self.poll_until(due, context).map(|()| None),
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use super::*;

    fn after(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn it_rings_when_what_is_waited_for_last_is_due() {
        let mut alarm = Alarm::default();
        for (set_for, due) in [(60, 60), (60, 90), (60, 30), (60, 0), (30, 30)] {
            let began = Instant::now();
            let set = alarm.before(after(set_for), tokio::task::yield_now());
            assert_eq!(set.await, Some(()));
            assert_eq!(alarm.before(after(due), pending::<()>()).await, None);
            assert_eq!(began.elapsed(), Duration::from_secs(due));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_in_time_leaves_it_set_and_the_next_is_not_cut_short() {
        let mut alarm = Alarm::default();
        let began = Instant::now();
        for _ in 0..20 {
            let sleep = tokio::time::sleep(Duration::from_secs(7));
            assert_eq!(alarm.before(after(10), sleep).await, Some(()));
        }
        assert_eq!(began.elapsed(), Duration::from_secs(140));
        assert_eq!(alarm.before(after(10), pending::<()>()).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(150));
    }
}

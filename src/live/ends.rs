//! What a task is busy with may have to end before its end: because it is told to ([`Cut`]), or because an endpoint owes the
//! header of its answer, or what follows it, for too long.
//!
//! Pingora's own patience begins anew with every byte, from the first of the request on, and is the same for a header as for the
//! rest: one that is dripped would be awaited for hours, a client that dawdles would be the endpoint's fault, and a stream, which
//! is known by its header, could be as silent as any header. So what an endpoint owes has its deadline here. When it has passed,
//! whoever reads from the client is told ([`is_header_overdue`]): Pingora does that while it waits for an endpoint, gives the
//! endpoint up as if the client had failed, and the gate can still answer. Where nobody reads, the exchange is dropped. Nobody
//! reads either while the client is written to: its own slowness is no silence of the endpoint.

use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Instant;

use super::alarm::Alarm;
use super::lasting::Cut;
use super::waking::{Polling, is_anyone_idle};

tokio::task_local! {
    static ENDS: Ends;
}

/// What ends the exchange that this task is busy with.
#[derive(Default)]
struct Ends {
    cut: OnceCell<Arc<Cut>>,
    owed: Cell<Owed>,
    /// Whether somebody reads from the client: the task waits for the endpoint.
    is_read: Cell<bool>,
    /// Whether something of the answer has come.
    has_moved: Cell<bool>,
    /// Whether a call is under way that may be as silent as its answer.
    is_call: Cell<bool>,
}

/// What an endpoint owes of its answer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Owed {
    #[default]
    Nothing,
    Until(Deadline),
    /// Whoever reads from the client has to give it up.
    Overdue,
}

/// How long an endpoint is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// When it has to be there, however it comes: a header has such an end. Until then, whatever happens ends a silence: there
    /// may be something to send.
    pub at: Option<Instant>,
    /// How long nothing may come.
    pub silence: Duration,
}

/// Runs an exchange to its end; `None` where it had to end before. Whatever is waited for is waited for with `alarm`.
pub async fn until_cut<F: Future + Unpin>(exchange: F, alarm: &mut Alarm) -> Option<F::Output> {
    let ending = UntilCut {
        exchange,
        polling: Polling::default(),
        seen: None,
        silent_until: None,
        alarm,
    };
    ENDS.scope(Ends::default(), ending).await
}

/// Has the exchange of this task dropped when it has to end ([`until_cut`]).
pub(super) fn drop_when_told(cut: &Arc<Cut>) {
    let _ = ENDS.try_with(|ends| ends.cut.set(cut.clone()));
}

/// From now on an endpoint owes this task its answer: the header of it, or what follows.
pub fn owe_answer(deadline: Deadline) {
    let _ = ENDS.try_with(|ends| ends.owed.set(Owed::Until(deadline)));
}

/// What was owed is there, or not waited for any more. Whether it was overdue.
pub fn settle_answer() -> bool {
    let settle = |ends: &Ends| {
        ends.is_call.set(false);
        ends.owed.take() == Owed::Overdue
    };
    ENDS.try_with(settle).unwrap_or_default()
}

/// Something of the answer has come, and goes to the client.
pub fn note_piece() {
    let _ = ENDS.try_with(|ends| {
        ends.is_read.set(false);
        ends.has_moved.set(true);
    });
}

/// Whether the endpoint that this task waits for has to be given up. Asked by whoever reads from the client.
pub fn is_header_overdue() -> bool {
    let is_overdue = |ends: &Ends| {
        ends.is_read.set(true);
        ends.owed.get() == Owed::Overdue
    };
    ENDS.try_with(is_overdue).unwrap_or_default()
}

/// A call begins: client and endpoint send messages as they come, and who is silent waits for the other.
pub fn begin_call() {
    let _ = ENDS.try_with(|ends| ends.is_call.set(true));
}

/// Whether a call is under way that has not been answered yet.
pub fn is_call() -> bool {
    ENDS.try_with(|ends| ends.is_call.get()).unwrap_or_default()
}

struct UntilCut<'a, F> {
    exchange: F,
    polling: Polling,
    /// The deadline that was there when the task last had to wait.
    seen: Option<Deadline>,
    /// When the silence of that time will have been too long.
    silent_until: Option<Instant>,
    alarm: &'a mut Alarm,
}

impl<F: Future + Unpin> Future for UntilCut<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            let this = &mut *self;
            let polled = this.polling.poll(context, is_anyone_idle(), |context| {
                let _ = ENDS.try_with(|ends| ends.is_read.set(false));
                Pin::new(&mut this.exchange).poll(context)
            });
            if let Poll::Ready(done) = polled {
                return Poll::Ready(Some(done));
            }
            let ends = ENDS.try_with(|ends| {
                let is_cut = ends.cut.get().is_some_and(|cut| cut.poll(context).is_ready());
                (is_cut, ends.owed.get(), ends.has_moved.take(), ends.is_read.get())
            });
            match ends {
                // What is overdue was told, and nobody minded.
                Ok((true, ..) | (_, Owed::Overdue, ..)) => return Poll::Ready(None),
                Ok((_, Owed::Until(deadline), has_moved, is_read)) => {
                    ready!(self.poll_due(deadline, has_moved, is_read, context));
                    let _ = ENDS.try_with(|ends| ends.owed.set(Owed::Overdue));
                }
                Ok((_, Owed::Nothing, ..)) | Err(_) => return Poll::Pending,
            }
        }
    }
}

impl<F> UntilCut<'_, F> {
    /// Ready once the deadline has passed.
    fn poll_due(&mut self, deadline: Deadline, has_moved: bool, is_read: bool, context: &mut Context<'_>) -> Poll<()> {
        let now = Instant::now();
        let is_new = self.seen.replace(deadline) != Some(deadline) || has_moved;
        // The alarm may have been set for something else: that it rang is nothing that happened.
        let has_rung = self.alarm.has_rung();
        self.silent_until = match self.silent_until {
            _ if !is_read => None,
            Some(until) if !is_new && (has_rung || until <= now || deadline.at.is_none()) => Some(until),
            _ => now.checked_add(deadline.silence),
        };
        let Some(due) = [deadline.at, self.silent_until].into_iter().flatten().min() else {
            return Poll::Pending;
        };
        if due <= now {
            return Poll::Ready(());
        }
        self.alarm.poll_until(due, context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::engine::EndedBy;

    #[tokio::test]
    async fn what_is_not_told_to_end_comes_to_its_end() {
        let exchange = Box::pin(async {
            tokio::task::yield_now().await;
            7
        });
        assert_eq!(until_cut(exchange, &mut Alarm::default()).await, Some(7));
    }

    #[tokio::test]
    async fn what_is_told_to_end_is_dropped_and_nothing_else() {
        let cut = Arc::<Cut>::default();
        let told = cut.clone();
        let exchange = |cut: Option<Arc<Cut>>| {
            Box::pin(async move {
                if let Some(cut) = cut {
                    drop_when_told(&cut);
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            })
        };
        let told_to_end = Box::pin(async move {
            exchange(Some(cut)).await;
            std::future::pending::<()>().await;
        });
        let ended = tokio::spawn(async { until_cut(told_to_end, &mut Alarm::default()).await });
        let not_told = exchange(None);
        let other = tokio::spawn(async { until_cut(not_told, &mut Alarm::default()).await });
        tokio::task::yield_now().await;
        told.end(EndedBy::Expiry.into());
        told.end(EndedBy::Shutdown.into());
        assert_eq!(ended.await.unwrap(), None);
        assert_eq!(other.await.unwrap(), Some(()));
        // The first word counts.
        assert_eq!(told.told().await.by, EndedBy::Expiry);
    }

    fn owe() {
        let silence = Duration::from_secs(1);
        let at = Some(Instant::now() + silence);
        owe_answer(Deadline { at, silence });
    }

    /// Waits as Pingora does: with an eye on the client.
    async fn wait() {
        std::future::poll_fn(|_| match is_header_overdue() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_from_the_client_is_told_of_a_header_that_is_overdue() {
        let began = Instant::now();
        let exchange = Box::pin(async {
            owe();
            wait().await;
            assert!(settle_answer());
            // There is time to answer.
            tokio::time::sleep(Duration::from_secs(5)).await;
            is_header_overdue()
        });
        assert_eq!(until_cut(exchange, &mut Alarm::default()).await, Some(false));
        assert_eq!(began.elapsed(), Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn an_alarm_that_was_set_for_something_else_ends_no_silence() {
        let (began, mut alarm) = (Instant::now(), Alarm::default());
        // As by the request before.
        let set = alarm.before(began + Duration::from_millis(600), tokio::task::yield_now());
        assert_eq!(set.await, Some(()));
        let exchange = Box::pin(async {
            let silence = Duration::from_secs(1);
            let at = Some(began + silence * 10);
            owe_answer(Deadline { at, silence });
            tokio::select! {
                () = wait() => return,
                () = tokio::time::sleep(Duration::from_millis(300)) => {}
            }
            wait().await;
        });
        assert_eq!(until_cut(exchange, &mut alarm).await, Some(()));
        assert_eq!(began.elapsed(), Duration::from_millis(1300));
    }

    /// As if there were workers that sleep, while it is there.
    struct OthersAsleep;

    impl OthersAsleep {
        fn begin() -> Self {
            crate::live::park();
            Self
        }
    }

    impl Drop for OthersAsleep {
        fn drop(&mut self) {
            crate::live::unpark();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_wakes_itself_is_told_and_cut_all_the_same() {
        for sleeps in [false, true] {
            let _asleep = sleeps.then(OthersAsleep::begin);
            let (began, cut) = (Instant::now(), Arc::<Cut>::default());
            let told = cut.clone();
            let exchange = Box::pin(async move {
                owe();
                tokio::task::yield_now().await;
                wait().await;
                assert!(settle_answer());
                drop_when_told(&cut);
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_secs(5)).await;
                    told.end(EndedBy::Shutdown.into());
                });
                loop {
                    tokio::task::yield_now().await;
                    tokio::time::sleep(Duration::from_secs(3)).await;
                }
            });
            let ended = until_cut::<Pin<Box<dyn Future<Output = ()>>>>(exchange, &mut Alarm::default()).await;
            assert_eq!((ended, began.elapsed()), (None, Duration::from_secs(6)));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_with_its_header_overdue_is_dropped() {
        let began = Instant::now();
        let exchange = Box::pin(async {
            owe();
            // Drop by drop.
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        assert_eq!(
            until_cut::<Pin<Box<dyn Future<Output = ()>>>>(exchange, &mut Alarm::default()).await,
            None
        );
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_came_is_owed_no_more() {
        let exchange = Box::pin(async {
            owe();
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(!settle_answer());
            tokio::time::sleep(Duration::from_secs(5)).await;
            // Of another try the deadline is another.
            owe();
            tokio::time::sleep(Duration::from_millis(500)).await;
            settle_answer()
        });
        assert_eq!(until_cut(exchange, &mut Alarm::default()).await, Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silence_ends_with_a_piece_and_is_none_while_the_client_is_written_to() {
        let began = Instant::now();
        let exchange = Box::pin(async {
            owe_answer(Deadline {
                at: None,
                silence: Duration::from_secs(1),
            });
            for _ in 0..3 {
                tokio::select! {
                    () = wait() => return false,
                    () = tokio::time::sleep(Duration::from_millis(700)) => note_piece(),
                }
            }
            // Nobody reads from the client.
            tokio::time::sleep(Duration::from_secs(60)).await;
            note_piece();
            wait().await;
            settle_answer()
        });
        assert_eq!(until_cut(exchange, &mut Alarm::default()).await, Some(true));
        assert_eq!(began.elapsed(), Duration::from_millis(63_100));
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_wakes_the_task_ends_no_silence_after_the_header() {
        let began = Instant::now();
        let exchange = Box::pin(async {
            owe_answer(Deadline {
                at: None,
                silence: Duration::from_secs(1),
            });
            loop {
                tokio::select! {
                    () = wait() => return settle_answer(),
                    () = tokio::time::sleep(Duration::from_millis(300)) => {}
                }
            }
        });
        assert_eq!(until_cut(exchange, &mut Alarm::default()).await, Some(true));
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }
}

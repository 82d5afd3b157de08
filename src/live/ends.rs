//! What a task is busy with may have to end before its end: because it is told to ([`Cut`]), or because an endpoint owes the
//! header of its answer for too long.
//!
//! Pingora waits anew with every byte, and for a header as long as for the rest: one that is dripped would be awaited for hours,
//! and whoever says that it takes a stream would wait for the header as long as for the next event. So the header has a deadline
//! of its own here. When it has passed, whoever reads from the client is told ([`is_header_overdue`]): Pingora does that while it
//! waits for an endpoint, gives the endpoint up as if the client had failed, and the gate can still answer. Where nobody reads,
//! the exchange is dropped.

use std::cell::{Cell, OnceCell};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep, sleep_until};

use super::lasting::Cut;

tokio::task_local! {
    static ENDS: Ends;
}

/// What ends the exchange that this task is busy with.
#[derive(Default)]
struct Ends {
    cut: OnceCell<Arc<Cut>>,
    header: Cell<Header>,
}

/// The header of an answer.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Header {
    #[default]
    NotOwed,
    Owed(Deadline),
    /// Whoever reads from the client has to give it up.
    Overdue,
}

/// When the header of an answer has to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// The instant.
    pub at: Instant,
    /// Whether nobody else would wake the task around then.
    pub is_alone: bool,
}

/// Runs an exchange to its end; `None` where it had to end before.
pub async fn until_cut<F: Future + Unpin>(exchange: F) -> Option<F::Output> {
    let ending = UntilCut {
        exchange,
        seen: None,
        timer: None,
    };
    ENDS.scope(Ends::default(), ending).await
}

/// Has the exchange of this task dropped when it has to end ([`until_cut`]).
pub(super) fn drop_when_told(cut: &Arc<Cut>) {
    let _ = ENDS.try_with(|ends| ends.cut.set(cut.clone()));
}

/// From now on an endpoint owes this task the header of its answer.
pub fn owe_header(deadline: Deadline) {
    let _ = ENDS.try_with(|ends| ends.header.set(Header::Owed(deadline)));
}

/// The header is there, or not waited for any more. Whether it was overdue.
pub fn settle_header() -> bool {
    ENDS.try_with(|ends| ends.header.take() == Header::Overdue)
        .unwrap_or_default()
}

/// Whether the endpoint that this task waits for has to be given up.
pub fn is_header_overdue() -> bool {
    ENDS.try_with(|ends| ends.header.get() == Header::Overdue)
        .unwrap_or_default()
}

struct UntilCut<F> {
    exchange: F,
    /// The deadline that was there when the task last had to wait.
    seen: Option<Deadline>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl<F: Future + Unpin> Future for UntilCut<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            if let Poll::Ready(done) = Pin::new(&mut self.exchange).poll(context) {
                return Poll::Ready(Some(done));
            }
            let ends = ENDS.try_with(|ends| {
                let is_cut = ends.cut.get().is_some_and(|cut| cut.poll(context).is_ready());
                (is_cut, ends.header.get())
            });
            match ends {
                // What is overdue was told, and nobody minded.
                Ok((true, _) | (false, Header::Overdue)) => return Poll::Ready(None),
                Ok((false, Header::Owed(deadline))) => {
                    std::task::ready!(self.poll_due(deadline, context));
                    let _ = ENDS.try_with(|ends| ends.header.set(Header::Overdue));
                }
                Ok((false, Header::NotOwed)) | Err(_) => return Poll::Pending,
            }
        }
    }
}

impl<F> UntilCut<F> {
    /// Ready once the deadline has passed. There is a timer only where the task comes back and the header is not there yet: mostly
    /// it is, and Pingora's own clock runs for an endpoint that says nothing at all.
    fn poll_due(&mut self, deadline: Deadline, context: &mut Context<'_>) -> Poll<()> {
        let has_come_back = self.seen.replace(deadline) == Some(deadline);
        if !deadline.is_alone && !has_come_back {
            return Poll::Pending;
        }
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline.at)));
        if timer.deadline() != deadline.at {
            timer.as_mut().reset(deadline.at);
        }
        timer.as_mut().poll(context)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::EndedBy;

    #[tokio::test]
    async fn what_is_not_told_to_end_comes_to_its_end() {
        let exchange = Box::pin(async {
            tokio::task::yield_now().await;
            7
        });
        assert_eq!(until_cut(exchange).await, Some(7));
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
        let ended = tokio::spawn(until_cut(Box::pin(async move {
            exchange(Some(cut)).await;
            std::future::pending::<()>().await;
        })));
        let other = tokio::spawn(until_cut(exchange(None)));
        tokio::task::yield_now().await;
        told.end(EndedBy::Expiry.into());
        told.end(EndedBy::Shutdown.into());
        assert_eq!(ended.await.unwrap(), None);
        assert_eq!(other.await.unwrap(), Some(()));
        // The first word counts.
        assert_eq!(told.told().await.by, EndedBy::Expiry);
    }

    fn owe(is_alone: bool) {
        let at = Instant::now() + Duration::from_secs(1);
        owe_header(Deadline { at, is_alone });
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
            owe(true);
            wait().await;
            assert!(settle_header());
            // There is time to answer.
            tokio::time::sleep(Duration::from_secs(5)).await;
            is_header_overdue()
        });
        assert_eq!(until_cut(exchange).await, Some(false));
        assert_eq!(began.elapsed(), Duration::from_secs(6));
    }

    #[tokio::test(start_paused = true)]
    async fn what_goes_on_with_its_header_overdue_is_dropped() {
        let began = Instant::now();
        let exchange = Box::pin(async {
            owe(false);
            // Drop by drop.
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        assert_eq!(until_cut::<Pin<Box<dyn Future<Output = ()>>>>(exchange).await, None);
        assert_eq!(began.elapsed(), Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_came_is_owed_no_more() {
        let exchange = Box::pin(async {
            owe(true);
            tokio::time::sleep(Duration::from_millis(500)).await;
            assert!(!settle_header());
            tokio::time::sleep(Duration::from_secs(5)).await;
            // Of another try the deadline is another.
            owe(true);
            tokio::time::sleep(Duration::from_millis(500)).await;
            settle_header()
        });
        assert_eq!(until_cut(exchange).await, Some(false));
    }
}

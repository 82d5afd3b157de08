//! A task that wakes itself while it is polled is polled again at once.
//!
//! To the scheduler it would be one more task that is ready: it wakes a worker that sleeps, on another core, which finds nothing
//! left to do. Futures that several wait for, and sets of futures, wake the task they are in with nearly every answer.
//!
//! Where no worker sleeps, the scheduler is the better choice: tasks that are at the same point then follow one another, and find
//! the code of it in the caches.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Being polled.
const POLLED: u8 = 1;
/// Woken since the last time the polling began.
const WOKEN: u8 = 2;
/// Who wakes itself more often has to let others have their turn.
const MOST: usize = 2;

/// Workers that sleep.
static ASLEEP: AtomicUsize = AtomicUsize::new(0);

/// A worker has nothing to do: to be called before it sleeps.
pub fn park() {
    ASLEEP.fetch_add(1, Ordering::Relaxed);
}

/// A worker is back.
pub fn unpark() {
    ASLEEP.fetch_sub(1, Ordering::Relaxed);
}

/// Whether there is a worker that would be woken.
pub(super) fn is_anyone_idle() -> bool {
    ASLEEP.load(Ordering::Relaxed) > 0
}

/// Polls on behalf of one task at a time. That has to poll it at every turn, and not only beside others: who was woken is not woken
/// again before.
#[derive(Default)]
pub(super) struct Polling(Option<(Arc<Bell>, Waker)>);

/// What is told of a wake: the task, unless it is being polled.
struct Bell {
    task: Waker,
    state: AtomicU8,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Who was woken already and is not polled yet has a turn to come.
        if self.state.fetch_or(WOKEN, Ordering::AcqRel) == 0 {
            self.task.wake_by_ref();
        }
    }
}

impl Polling {
    /// Polls by `poll`; and, if the task `is_to_stay`, a few times more while that wakes its own task.
    pub fn poll<T>(
        &mut self,
        context: &mut Context<'_>,
        is_to_stay: bool,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        if !is_to_stay && self.0.is_none() {
            return poll(context);
        }
        let known = self.0.take().filter(|(bell, _)| bell.task.will_wake(context.waker()));
        let (bell, waker) = self.0.insert(known.unwrap_or_else(|| bell(context.waker())));
        if !is_to_stay {
            // There are wakers about that ring it.
            bell.state.swap(0, Ordering::AcqRel);
            return poll(&mut Context::from_waker(waker));
        }
        for _ in 0..=MOST {
            bell.state.swap(POLLED, Ordering::AcqRel);
            let polled = poll(&mut Context::from_waker(waker));
            let is_woken = bell.state.fetch_and(!POLLED, Ordering::AcqRel) & WOKEN != 0;
            if polled.is_ready() || !is_woken {
                return polled;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

fn bell(task: &Waker) -> (Arc<Bell>, Waker) {
    let bell = Arc::new(Bell {
        task: task.clone(),
        state: AtomicU8::new(0),
    });
    let waker = Waker::from(bell.clone());
    (bell, waker)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls once for a task; says how often the task was woken, and how often `poll` was called, which wakes itself `wakes` times.
    fn polled(polling: &mut Polling, wakes: usize, ready_after: usize) -> (Poll<()>, usize, usize) {
        polled_while(true, polling, wakes, ready_after)
    }

    fn polled_while(
        is_to_stay: bool,
        polling: &mut Polling,
        wakes: usize,
        ready_after: usize,
    ) -> (Poll<()>, usize, usize) {
        let task = Arc::<Counted>::default();
        let (waker, mut calls) = (Waker::from(task.clone()), 0);
        let poll = polling.poll(&mut Context::from_waker(&waker), is_to_stay, |context| {
            calls += 1;
            if calls <= wakes {
                context.waker().wake_by_ref();
                let owned = context.waker().clone();
                owned.wake();
            }
            match calls > ready_after {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        (poll, task.0.load(Ordering::SeqCst), calls)
    }

    #[test]
    fn who_wakes_itself_is_polled_again_without_a_word_to_the_task() {
        let mut polling = Polling::default();
        assert_eq!(polled(&mut polling, 0, 9), (Poll::Pending, 0, 1));
        assert_eq!(polled(&mut polling, 1, 9), (Poll::Pending, 0, 2));
        assert_eq!(polled(&mut polling, 1, 1), (Poll::Ready(()), 0, 2));
        assert_eq!(polled(&mut polling, 1, 0), (Poll::Ready(()), 0, 1));
    }

    #[test]
    fn who_goes_on_waking_itself_lets_others_have_their_turn() {
        assert_eq!(polled(&mut Polling::default(), 100, 100), (Poll::Pending, 1, MOST + 1));
    }

    #[test]
    fn where_no_worker_sleeps_the_scheduler_has_the_task_back() {
        let mut polling = Polling::default();
        // Each wake is the task's own: a waker that it has.
        assert_eq!(polled_while(false, &mut polling, 1, 9), (Poll::Pending, 2, 1));
        assert_eq!(polled(&mut polling, 1, 9), (Poll::Pending, 0, 2));
        // With a bell about, one word is enough.
        assert_eq!(polled_while(false, &mut polling, 1, 9), (Poll::Pending, 1, 1));
        assert_eq!(polled_while(false, &mut polling, 0, 9), (Poll::Pending, 0, 1));
    }

    #[test]
    fn a_wake_between_two_polls_wakes_the_task_once_for_each_turn() {
        let task = Arc::<Counted>::default();
        let waker = Waker::from(task.clone());
        let (mut polling, mut inner) = (Polling::default(), None);
        for (turn, is_to_stay) in (1..).zip([true, false, true]) {
            let poll = polling.poll(&mut Context::from_waker(&waker), is_to_stay, |context| {
                inner = Some(context.waker().clone());
                Poll::<()>::Pending
            });
            assert!(poll.is_pending());
            inner.as_ref().unwrap().wake_by_ref();
            inner.take().unwrap().wake();
            assert_eq!(task.0.load(Ordering::SeqCst), turn);
        }
    }

    #[test]
    fn what_moved_to_another_task_wakes_that_one() {
        let (first, second) = (Arc::<Counted>::default(), Arc::<Counted>::default());
        let (mut polling, mut inner) = (Polling::default(), None);
        for (task, is_to_stay) in [(&first, true), (&second, false)] {
            let waker = Waker::from(task.clone());
            let _ = polling.poll(&mut Context::from_waker(&waker), is_to_stay, |context| {
                inner = Some(context.waker().clone());
                Poll::<()>::Pending
            });
        }
        inner.unwrap().wake();
        let woken = [&first, &second].map(|task| task.0.load(Ordering::SeqCst));
        assert_eq!(woken, [0, 1]);
    }
}

//! Connections to one endpoint that wait for their next request from inside.
//!
//! A connection that waits has no task of its own, which would cost more than many a request: that an endpoint has closed one
//! shows when it is taken, and a sweep closes those that nobody took.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::FutureExt;
use parking_lot::Mutex;
use pingora::protocols::Stream;
use tokio::io::AsyncReadExt;

/// More do not wait at one endpoint; who came first is closed.
const MOST: usize = 128;
const SWEEP: Duration = Duration::from_secs(5);

/// The connections to one endpoint, each of nobody at the moment.
#[derive(Default)]
pub(super) struct Idle(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Until when each may wait; who came last is last.
    all: VecDeque<(Stream, Instant)>,
    is_swept: bool,
}

impl std::fmt::Debug for Idle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Idle").field(&self.len()).finish()
    }
}

impl Idle {
    /// The one that was used last: the others may end in peace.
    pub fn take(&self) -> Option<Stream> {
        loop {
            let (mut stream, until) = self.0.lock().all.pop_back()?;
            if Instant::now() < until && is_quiet(&mut stream) {
                return Some(stream);
            }
        }
    }

    /// Keeps a connection, whose last answer is whole, for so long. Needs a tokio runtime.
    pub fn keep(self: &Arc<Self>, mut stream: Stream, patience: Duration) {
        if !is_quiet(&mut stream) {
            return;
        }
        let until = Instant::now() + patience;
        let (oldest, is_swept) = {
            let mut waiting = self.0.lock();
            let oldest = (waiting.all.len() >= MOST).then(|| waiting.all.pop_front());
            waiting.all.push_back((stream, until));
            (oldest, std::mem::replace(&mut waiting.is_swept, true))
        };
        drop(oldest);
        if !is_swept {
            tokio::spawn(sweep(Arc::downgrade(self)));
        }
    }

    pub fn len(&self) -> usize {
        self.0.lock().all.len()
    }
}

/// Goes on while any connection waits.
async fn sweep(idle: Weak<Idle>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(idle) = idle.upgrade() else { return };
        let now = Instant::now();
        let mut waiting = idle.0.lock();
        waiting
            .all
            .retain_mut(|(stream, until)| now < *until && is_quiet(stream));
        if waiting.all.is_empty() {
            waiting.is_swept = false;
            return;
        }
    }
}

/// Whether the endpoint has neither closed the connection nor said what nobody asked for.
fn is_quiet(stream: &mut Stream) -> bool {
    let mut byte = [0];
    tokio::task::unconstrained(stream.read(&mut byte))
        .now_or_never()
        .is_none()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use pingora::protocols::l4::stream::Stream as L4Stream;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const LONG: Duration = Duration::from_secs(600);

    struct Pairs(TcpListener);

    impl Pairs {
        /// Our end and the endpoint's.
        async fn next(&self) -> (Stream, TcpStream) {
            let address = self.0.local_addr().unwrap();
            let (ours, theirs) = tokio::join!(TcpStream::connect(address), self.0.accept());
            (Box::new(L4Stream::from(ours.unwrap())), theirs.unwrap().0)
        }
    }

    async fn pairs() -> Pairs {
        Pairs(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    #[tokio::test]
    async fn gives_back_who_came_last() {
        let (idle, pairs) = (Arc::new(Idle::default()), pairs().await);
        let (first, mut its) = pairs.next().await;
        let (second, mut others) = pairs.next().await;
        idle.keep(first, LONG);
        idle.keep(second, LONG);
        for theirs in [&mut others, &mut its] {
            let mut taken = idle.take().unwrap();
            taken.write_all(b"x").await.unwrap();
            taken.flush().await.unwrap();
            assert_eq!(theirs.read_u8().await.unwrap(), b'x');
        }
        assert!(idle.take().is_none());
    }

    #[tokio::test]
    async fn gives_back_nobody_who_is_not_quiet() {
        let (idle, pairs) = (Arc::new(Idle::default()), pairs().await);
        let (ours, theirs) = pairs.next().await;
        idle.keep(ours, LONG);
        drop(theirs);
        // A second one, closed at the same time, tells when the first has noticed.
        let (mut closed, theirs) = pairs.next().await;
        drop(theirs);
        assert_eq!(closed.read(&mut [0]).await.unwrap(), 0);
        assert!(idle.take().is_none(), "closed");
        let (mut spoken, mut theirs) = pairs.next().await;
        theirs.write_all(b"xy").await.unwrap();
        assert_eq!(spoken.read(&mut [0]).await.unwrap(), 1);
        idle.keep(spoken, LONG);
        assert_eq!(idle.len(), 0, "speaks unasked");
        let (ours, _theirs) = pairs.next().await;
        idle.keep(ours, Duration::ZERO);
        assert!(idle.take().is_none(), "waited too long");
    }

    #[tokio::test]
    async fn holds_so_many_and_lets_the_first_go() {
        let (idle, pairs) = (Arc::new(Idle::default()), pairs().await);
        let mut others = Vec::new();
        for _ in 0..=MOST {
            let (ours, theirs) = pairs.next().await;
            idle.keep(ours, LONG);
            others.push(theirs);
        }
        assert_eq!(idle.len(), MOST);
        assert_eq!(others.first_mut().unwrap().read(&mut [0]).await.unwrap(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn sweeps_those_nobody_takes() {
        let (idle, pairs) = (Arc::new(Idle::default()), pairs().await);
        let (ours, mut theirs) = pairs.next().await;
        idle.keep(ours, Duration::ZERO);
        assert_eq!(theirs.read(&mut [0]).await.unwrap(), 0, "closed by the sweep alone");
        assert_eq!(idle.len(), 0);
        let (ours, _theirs) = pairs.next().await;
        idle.keep(ours, LONG);
        tokio::time::sleep(10 * SWEEP).await;
        assert_eq!(idle.len(), 1);
    }
}

//! What the wire of a connection, the one who drives it and the requests on it know of one another.
//!
//! The `h2` crate takes an answer as soon as there are windows for it, and tells nobody when it goes out. So the frames that pass
//! are counted here by stream: how much of all answers still waits for the client is bounded, and a request is not over before the
//! end of its stream has passed.

use std::collections::HashMap;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use pingora::protocols::UniqueIDType;

use super::super::connections::Cut;
use super::super::kernel;

/// Bytes of all answers of one connection that wait for it. Windows are the client's to open as far as it likes.
const HELD: usize = 256 << 10;
/// Nobody waits for room for less, unless it is all there is to send.
const PIECE: usize = 16 << 10;
/// Requests that have begun and that nobody has taken on; more are known once they are.
const UNACCEPTED: usize = 256;
/// What a client that says nothing of it takes of each answer (RFC 9113 §6.9.2).
const WINDOW: i64 = 65_535;

#[derive(Debug)]
pub(super) struct Gauge {
    socket: UniqueIDType,
    cut: OnceLock<Cut>,
    streams: Mutex<Streams>,
}

#[derive(Debug)]
struct Streams {
    known: HashMap<u32, Known>,
    unaccepted: usize,
    /// The last one that the client has begun.
    last: u32,
    /// Of all answers, bytes that were given to `h2` and have not gone out.
    held: usize,
    /// Those who wait until that is less.
    waiting: Vec<Waker>,
    /// What a client takes of each answer to begin with.
    window: i64,
    is_over: bool,
}

/// A stream whose end has not gone out, or whose request still asks for it.
#[derive(Debug, Default)]
struct Known {
    is_accepted: bool,
    held: usize,
    /// What the client takes besides what has gone out; below zero where it has changed its mind.
    window: i64,
    end: Option<End>,
    waker: Option<Waker>,
}

/// How a stream came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Its last frame has gone to the client.
    Sent,
    /// It was given up by either side.
    Reset,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            known: HashMap::new(),
            unaccepted: 0,
            last: 0,
            held: 0,
            waiting: Vec::new(),
            window: WINDOW,
            is_over: false,
        }
    }
}

#[cfg(test)]
impl Default for Gauge {
    /// Of no connection.
    fn default() -> Self {
        Self::new(-1)
    }
}

impl Gauge {
    /// Of a connection over that socket.
    pub fn new(socket: UniqueIDType) -> Self {
        Self {
            socket,
            cut: OnceLock::new(),
            streams: Mutex::default(),
        }
    }

    /// Bytes that the client has taken, of all that it was sent.
    pub fn taken(&self) -> u64 {
        kernel::acknowledged(self.socket)
    }

    /// Why the connection is to end, where it is.
    pub fn cut(&self) -> Option<Cut> {
        self.cut.get().copied()
    }

    pub fn stop(&self, why: Cut) {
        let _ = self.cut.set(why);
    }

    /// The client has begun a request, or sends trailers.
    pub fn begun(&self, stream: u32) {
        let mut streams = self.streams.lock();
        if stream > streams.last && streams.unaccepted < UNACCEPTED {
            streams.last = stream;
            streams.unaccepted += 1;
            let window = streams.window;
            streams.known.insert(
                stream,
                Known {
                    window,
                    ..Known::default()
                },
            );
        }
    }

    /// Somebody answers a request, and will [leave](Self::leave) it.
    pub fn enter(&self, stream: u32) {
        let streams = &mut *self.streams.lock();
        let window = streams.window;
        let known = streams.known.entry(stream).or_insert_with(|| {
            streams.unaccepted += 1;
            Known {
                window,
                ..Known::default()
            }
        });
        known.is_accepted = true;
        streams.unaccepted = streams.unaccepted.saturating_sub(1);
    }

    /// Nobody asks for a stream any more. What `h2` still holds of it counts until it has gone.
    pub fn leave(&self, stream: u32) {
        let streams = &mut *self.streams.lock();
        if let Some(known) = streams.known.get_mut(&stream) {
            match known.end.is_some() || known.held == 0 {
                true => drop(streams.known.remove(&stream)),
                false => {
                    known.is_accepted = false;
                    streams.unaccepted += 1;
                }
            }
        }
    }

    /// Ready once there is room for some of so many bytes.
    pub fn poll_room(&self, wanted: usize, context: &mut Context<'_>) -> Poll<()> {
        let mut streams = self.streams.lock();
        if streams.is_over || streams.held + wanted.min(PIECE) <= HELD {
            return Poll::Ready(());
        }
        if !streams.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            streams.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Takes so much room for a stream, or as much as there is.
    pub fn hold(&self, stream: u32, bytes: usize) -> usize {
        let streams = &mut *self.streams.lock();
        match streams.known.get_mut(&stream).filter(|known| known.end.is_none()) {
            Some(known) => {
                let room = HELD.saturating_sub(streams.held).min(bytes);
                known.held += room;
                streams.held += room;
                room
            }
            // `h2` keeps nothing of what is said on a stream that has ended.
            None => bytes,
        }
    }

    /// Bytes of an answer have gone to the client.
    pub fn sent(&self, stream: u32, bytes: usize) {
        let streams = &mut *self.streams.lock();
        if let Some(known) = streams.known.get_mut(&stream) {
            let held = known.held.min(bytes);
            known.held -= held;
            known.window -= i64::try_from(bytes).unwrap_or(i64::MAX);
            streams.free(held);
        }
    }

    /// The end of a stream has passed.
    pub fn ended(&self, stream: u32, end: End) {
        let streams = &mut *self.streams.lock();
        let Some(known) = streams.known.get_mut(&stream) else {
            return;
        };
        let held = std::mem::take(&mut known.held);
        known.end.get_or_insert(end);
        if let Some(waker) = known.waker.take() {
            waker.wake();
        }
        if !known.is_accepted {
            streams.known.remove(&stream);
            streams.unaccepted = streams.unaccepted.saturating_sub(1);
        }
        streams.free(held);
    }

    /// Ready once the end of a stream has passed, or never will.
    pub fn poll_end(&self, stream: u32, context: &mut Context<'_>) -> Poll<End> {
        let streams = &mut *self.streams.lock();
        match streams.known.get_mut(&stream) {
            Some(Known { end: Some(end), .. }) => Poll::Ready(*end),
            Some(known) if !streams.is_over => {
                known.waker = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(End::Reset),
        }
    }

    /// The client takes so much more of an answer.
    pub fn opened(&self, stream: u32, bytes: u32) {
        if let Some(known) = self.streams.lock().known.get_mut(&stream) {
            known.window += i64::from(bytes);
        }
    }

    /// The client takes so much of each answer to begin with (RFC 9113 §6.9.2).
    pub fn opens(&self, bytes: u32) {
        let streams = &mut *self.streams.lock();
        let more = i64::from(bytes) - streams.window;
        streams.window += more;
        for known in streams.known.values_mut() {
            known.window += more;
        }
    }

    /// Whether the client would take more of this answer, if the connection had room for it.
    pub fn is_open(&self, stream: u32) -> bool {
        let streams = self.streams.lock();
        streams.known.get(&stream).is_none_or(|known| known.window > 0)
    }

    /// The connection is gone: nobody needs to wait for anything.
    pub fn over(&self) {
        let streams = &mut *self.streams.lock();
        streams.is_over = true;
        let wakers = streams.known.values_mut().filter_map(|known| known.waker.take());
        wakers.chain(streams.waiting.drain(..)).for_each(Waker::wake);
    }
}

impl Streams {
    /// So much less is held.
    fn free(&mut self, bytes: usize) {
        self.held -= bytes.min(self.held);
        // Not for each piece: all that wait would come for it.
        if self.held <= HELD / 2 {
            self.waiting.drain(..).for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::FutureExt;

    use super::*;

    fn has_room(gauge: &Gauge) -> bool {
        let room = poll_fn(|context| gauge.poll_room(PIECE, context));
        room.now_or_never().is_some()
    }

    fn end(gauge: &Gauge, stream: u32) -> Option<End> {
        poll_fn(|context| gauge.poll_end(stream, context)).now_or_never()
    }

    #[test]
    fn bounds_what_is_held_of_all_answers() {
        let gauge = Gauge::default();
        for stream in [1, 3] {
            gauge.begun(stream);
            gauge.enter(stream);
        }
        assert_eq!(gauge.hold(1, HELD - PIECE), HELD - PIECE);
        assert!(has_room(&gauge));
        assert_eq!(gauge.hold(3, 2 * PIECE), PIECE);
        assert!(!has_room(&gauge));
        gauge.sent(3, PIECE);
        assert!(has_room(&gauge));
        // What a stream that is reset has had goes with it, whoever still asks for it.
        gauge.hold(3, PIECE);
        gauge.ended(1, End::Reset);
        assert!(has_room(&gauge));
        assert_eq!(gauge.hold(1, HELD * 2), HELD * 2);
        gauge.leave(1);
        gauge.leave(3);
        assert_eq!(gauge.streams.lock().held, PIECE, "`h2` has it");
        gauge.ended(3, End::Reset);
        let streams = gauge.streams.lock();
        assert_eq!((streams.held, streams.unaccepted, streams.known.len()), (0, 0, 0));
    }

    #[test]
    fn knows_how_a_stream_has_ended() {
        let gauge = Gauge::default();
        gauge.enter(1);
        gauge.enter(3);
        assert_eq!(end(&gauge, 1), None);
        gauge.ended(1, End::Sent);
        gauge.ended(1, End::Reset);
        assert_eq!(end(&gauge, 1), Some(End::Sent));
        assert_eq!(end(&gauge, 3), None);
        gauge.over();
        assert_eq!(end(&gauge, 3), Some(End::Reset));
        assert!(has_room(&gauge));
    }

    #[test]
    fn knows_what_the_client_takes_of_each() {
        let gauge = Gauge::default();
        gauge.begun(1);
        gauge.opened(1, 10);
        gauge.enter(1);
        gauge.sent(1, 65_535);
        assert!(gauge.is_open(1));
        gauge.sent(1, 10);
        assert!(!gauge.is_open(1));
        gauge.opens(65_536);
        assert!(gauge.is_open(1));
        gauge.opens(0);
        assert!(!gauge.is_open(1));
        gauge.enter(3);
        assert!(!gauge.is_open(3));
    }

    #[test]
    fn keeps_little_of_requests_that_nobody_took_on() {
        let gauge = Gauge::default();
        for stream in 0..10_000 {
            gauge.begun(2 * stream + 1);
        }
        assert_eq!(gauge.streams.lock().known.len(), UNACCEPTED);
        for stream in 0..10_000 {
            gauge.ended(2 * stream + 1, End::Reset);
        }
        assert!(gauge.streams.lock().known.is_empty());
        gauge.begun(1);
        assert!(gauge.streams.lock().known.is_empty(), "trailers");
    }
}

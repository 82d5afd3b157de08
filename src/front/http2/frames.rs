//! The frames of a connection as they pass, counted: what a client may send that costs it nothing and the gateway something.
//!
//! Of the `h2` crate are the bounds on CONTINUATION (by the size of a header), on small and empty DATA, on fields after their
//! compression and on streams that the client resets before anybody looked at them (CVE-2024-27316, CVE-2023-44487). It has none
//! on PING, SETTINGS, PRIORITY, WINDOW_UPDATE and frames that it does not know, nor on requests that were begun and taken back
//! (RFC 9113 §10.5). On those that a client has the gateway reset (CVE-2025-8671) it has one for the life of a connection, which
//! ends clients that have more of an upload on the way than is wanted: here they count against what was answered.

use tokio::time::Instant;

use super::super::connections::Cut;
use super::gauge::{End, Gauge};

/// Frames that ask for nothing, in a row.
const IDLE: u64 = 1000;
/// More of them in each second.
const IDLE_PER_SECOND: u64 = 100;
/// More for each request: some clients tell its priority.
const IDLE_PER_REQUEST: u64 = 8;
/// More for each piece of an answer: who has taken it says so for the stream and for the connection.
const IDLE_PER_PIECE: u64 = 4;
/// Requests that come to nothing, in a row: a page that is left takes back all it has asked for.
const RESETS: u64 = 200;
/// More of them in each second; and one for each that was answered.
const RESETS_PER_SECOND: u64 = 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// A setting: what the client takes of each answer to begin with (RFC 9113 §6.5.2).
const INITIAL_WINDOW_SIZE: u16 = 4;

/// What passed on one connection.
#[derive(Debug)]
pub(super) struct Meter {
    incoming: Heads,
    outgoing: Heads,
    /// Bytes of the preface that have not passed yet.
    preface: usize,
    idle: Budget,
    resets: Budget,
    is_in_header: bool,
    is_data: bool,
    begun: u64,
}

impl Meter {
    pub fn new(preface: usize, now: Instant) -> Self {
        Self {
            incoming: Heads::default(),
            outgoing: Heads::default(),
            preface,
            idle: Budget::new(IDLE, IDLE_PER_SECOND, now),
            resets: Budget::new(RESETS, RESETS_PER_SECOND, now),
            is_in_header: false,
            is_data: false,
            begun: 0,
        }
    }

    /// Counts what comes from the client.
    pub fn came(&mut self, bytes: &[u8], now: Instant, gauge: &Gauge) -> Option<Cut> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        let mut flood = None;
        self.incoming
            .pass(bytes.get(skipped..).unwrap_or_default(), |head, part| {
                let Part::Head = part else {
                    return tell(head, part, gauge);
                };
                self.is_data = head.kind == DATA;
                if self.begun == 0 && (head.kind != SETTINGS || head.flags & ACK != 0) {
                    // RFC 9113 §3.4.
                    flood = Some(Cut::Malformed);
                }
                if !self.is_in_header {
                    self.begun += 1;
                }
                flood = flood.or(match head.kind {
                    DATA => None,
                    HEADERS => {
                        self.is_in_header = head.flags & END_HEADERS == 0;
                        self.idle.earn(IDLE_PER_REQUEST);
                        gauge.begun(head.stream);
                        None
                    }
                    RST_STREAM => (!self.resets.spend(now)).then_some(Cut::Resets),
                    _ => {
                        self.is_in_header &= head.kind != CONTINUATION || head.flags & END_HEADERS == 0;
                        (!self.idle.spend(now)).then_some(Cut::Frames)
                    }
                });
            });
        flood
    }

    /// Counts what goes to the client.
    pub fn went(&mut self, bytes: &[u8], now: Instant, gauge: &Gauge) -> Option<Cut> {
        let mut flood = None;
        self.outgoing.pass(bytes, |head, part| match (head.kind, part) {
            (DATA, Part::Head) => self.idle.earn(IDLE_PER_PIECE),
            (DATA, Part::Bytes(bytes)) => gauge.sent(head.stream, bytes),
            (DATA | HEADERS, Part::End) if head.flags & END_STREAM != 0 => {
                self.resets.earn(1);
                gauge.ended(head.stream, End::Sent);
            }
            (RST_STREAM, Part::Word([0, 0, 0, 0, ..])) => {
                // The rest of a body that nobody wants, once its request is answered (RFC 9113 §8.1).
                gauge.ended(head.stream, End::Reset);
            }
            (RST_STREAM, Part::Word(_)) => {
                // Some faults of a client cost it no frame of its own to end a request.
                if !self.resets.spend(now) {
                    flood = Some(Cut::Resets);
                }
                gauge.ended(head.stream, End::Reset);
            }
            _ => {}
        });
        flood
    }

    /// The frame or header that has begun and is not whole, by its number; bodies have a pace of their own.
    pub fn unfinished(&self) -> Option<u64> {
        let is_waited_for = self.is_in_header || self.incoming.have > 0 || self.incoming.left > 0 && !self.is_data;
        is_waited_for.then_some(self.begun)
    }
}

/// Tells what the client says of its windows, and what it takes back.
fn tell(head: Head, part: Part, gauge: &Gauge) {
    match (head.kind, part) {
        (RST_STREAM, Part::Word(_)) => gauge.ended(head.stream, End::Reset),
        (WINDOW_UPDATE, Part::Word([a, b, c, d, ..])) => {
            gauge.opened(head.stream, u32::from_be_bytes([a & 0x7f, b, c, d]));
        }
        (SETTINGS, Part::Word([high, low, a, b, c, d])) if u16::from_be_bytes([high, low]) == INITIAL_WINDOW_SIZE => {
            gauge.opens(u32::from_be_bytes([a, b, c, d]));
        }
        _ => {}
    }
}

/// The heads of frames within a stream of bytes (RFC 9113 §4.1), and the little that is read of what follows them.
#[derive(Debug, Default)]
struct Heads {
    bytes: [u8; 9],
    have: usize,
    head: Head,
    /// Bytes of the frame's payload that are still to come.
    left: usize,
    word: [u8; 6],
    in_word: usize,
}

/// What a frame is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// A part of a frame that has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    /// So many bytes of its payload.
    Bytes(usize),
    /// One setting, or the four bytes that other frames consist of.
    Word([u8; 6]),
    /// All of it.
    End,
}

impl Heads {
    /// Looks at bytes that pass, and tells of each part of a frame that ends within them.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(Head, Part)) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (piece, rest) = bytes.split_at_checked(self.left).unwrap_or((bytes, &[]));
                self.left -= piece.len();
                bytes = rest;
                self.read(piece, &mut each);
                each(self.head, Part::Bytes(piece.len()));
                if self.left == 0 {
                    each(self.head, Part::End);
                }
                continue;
            }
            let room = self.bytes.get_mut(self.have..).unwrap_or_default();
            let taken = room.len().min(bytes.len());
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
            bytes = bytes.get(taken..).unwrap_or_default();
            self.have += taken;
            if self.have == self.bytes.len() {
                let [high, middle, low, kind, flags, a, b, c, d] = self.bytes;
                (self.have, self.in_word) = (0, 0);
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                self.head = Head {
                    kind,
                    flags,
                    stream: u32::from_be_bytes([a & 0x7f, b, c, d]),
                };
                each(self.head, Part::Head);
                if self.left == 0 {
                    each(self.head, Part::End);
                }
            }
        }
    }

    fn read(&mut self, piece: &[u8], each: &mut impl FnMut(Head, Part)) {
        let length = match self.head.kind {
            SETTINGS => 6,
            RST_STREAM | WINDOW_UPDATE => 4,
            _ => return,
        };
        for byte in piece {
            if let Some(place) = self.word.get_mut(self.in_word) {
                *place = *byte;
            }
            self.in_word += 1;
            if self.in_word == length {
                self.in_word = 0;
                each(self.head, Part::Word(self.word));
            }
        }
    }
}

/// So many at once, and more with time.
#[derive(Debug)]
struct Budget {
    /// In thousandths.
    left: u64,
    most: u64,
    per_second: u64,
    at: Instant,
}

impl Budget {
    fn new(most: u64, per_second: u64, now: Instant) -> Self {
        Self {
            left: most * 1000,
            most: most * 1000,
            per_second,
            at: now,
        }
    }

    fn earn(&mut self, count: u64) {
        self.left = self.most.min(self.left + count * 1000);
    }

    /// Whether there was one left.
    fn spend(&mut self, now: Instant) -> bool {
        let passed = now.duration_since(self.at).as_millis();
        if passed > 0 {
            let earned = u64::try_from(passed)
                .unwrap_or(u64::MAX)
                .saturating_mul(self.per_second);
            self.left = self.most.min(self.left.saturating_add(earned));
            self.at = now;
        }
        let spent = self.left.checked_sub(1000);
        self.left = spent.unwrap_or(self.left);
        spent.is_some()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use futures::FutureExt;

    use super::*;

    const PING: u8 = 6;

    /// Of a client that has begun as it should.
    fn usual(now: Instant) -> Meter {
        let mut meter = Meter::new(0, now);
        assert_eq!(came(&mut meter, &frame(SETTINGS, 0, &[]), now), None);
        meter.idle = Budget::new(IDLE, IDLE_PER_SECOND, now);
        meter
    }

    fn came(meter: &mut Meter, bytes: &[u8], now: Instant) -> Option<Cut> {
        meter.came(bytes, now, &Gauge::default())
    }

    fn went(meter: &mut Meter, bytes: &[u8], now: Instant) -> Option<Cut> {
        meter.went(bytes, now, &Gauge::default())
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// How many of these frames pass until it is too much, at most 10,000.
    fn passed(meter: &mut Meter, now: Instant, bytes: &[u8]) -> (usize, Option<Cut>) {
        for count in 0..10_000 {
            if let Some(flood) = came(meter, bytes, now) {
                return (count, Some(flood));
            }
        }
        (10_000, None)
    }

    #[test]
    fn finds_frames_however_the_bytes_are_cut() {
        let bytes = [
            frame(HEADERS, END_HEADERS, b"abc"),
            frame(DATA, END_STREAM, &[7; 300]),
            frame(PING, 0, &[]),
        ]
        .concat();
        for size in 1..bytes.len() {
            let (mut heads, mut found, mut payload) = (Heads::default(), Vec::new(), 0);
            for piece in bytes.chunks(size) {
                heads.pass(piece, |head, part| match part {
                    Part::Bytes(bytes) => payload += bytes,
                    part => found.push((head.kind, head.flags, part)),
                });
            }
            let frames = [(HEADERS, END_HEADERS), (DATA, END_STREAM), (PING, 0)];
            let told = frames.map(|(kind, flags)| [(kind, flags, Part::Head), (kind, flags, Part::End)]);
            assert_eq!((&found[..], payload), (told.as_flattened(), 303), "{size}");
            assert_eq!((heads.have, heads.left), (0, 0));
        }
    }

    #[test]
    fn bounds_frames_that_ask_for_nothing() {
        let now = Instant::now();
        for kind in [2, 4, PING, 7, 8, CONTINUATION, 99] {
            let mut meter = usual(now);
            let idle = frame(kind, END_HEADERS, &[0; 8]);
            assert_eq!(passed(&mut meter, now, &idle), (1000, Some(Cut::Frames)), "{kind}");
            let later = now + Duration::from_secs(1);
            assert_eq!(passed(&mut meter, later, &idle), (100, Some(Cut::Frames)));
            assert_eq!(came(&mut meter, &frame(HEADERS, END_HEADERS, &[]), later), None);
            assert_eq!(passed(&mut meter, later, &idle).0, 8);
            assert_eq!(went(&mut meter, &frame(DATA, 0, &[1]), later), None);
            assert_eq!(passed(&mut meter, later, &idle).0, 4);
        }
        let body = frame(DATA, 0, &[1]);
        assert_eq!(passed(&mut usual(now), now, &body), (10_000, None));
    }

    #[test]
    fn bounds_requests_that_come_to_nothing() {
        let now = Instant::now();
        let taken_back = [frame(HEADERS, END_HEADERS, &[]), frame(RST_STREAM, 0, &[0; 4])].concat();
        let mut meter = usual(now);
        assert_eq!(passed(&mut meter, now, &taken_back), (200, Some(Cut::Resets)));
        // Of those that were answered, another may be taken back.
        let mut meter = usual(now);
        for _ in 0..1000 {
            assert_eq!(came(&mut meter, &taken_back, now), None);
            assert_eq!(
                went(&mut meter, &frame(HEADERS, END_HEADERS | END_STREAM, &[]), now),
                None
            );
        }
        // What the gateway has to reset counts as well.
        let mut meter = usual(now);
        let reset = frame(RST_STREAM, 0, &[0, 0, 0, 8]);
        assert_eq!((0..201).filter_map(|_| went(&mut meter, &reset, now)).count(), 1);
        // But not that it wants no more of a body, having answered.
        let enough = frame(RST_STREAM, 0, &[0; 4]);
        assert_eq!(went(&mut meter, &enough, now), None);
    }

    #[test]
    fn tells_of_streams_and_their_windows() {
        let (now, gauge) = (Instant::now(), Gauge::default());
        let mut meter = Meter::new(0, now);
        let told = [
            frame(SETTINGS, 0, &[0, 3, 0, 0, 0, 9, 0, 4, 0, 0, 0, 2]),
            frame(HEADERS, END_HEADERS, b"abc"),
            frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]),
        ]
        .concat();
        for byte in told {
            assert_eq!(meter.came(&[byte], now, &gauge), None);
        }
        gauge.enter(1);
        assert_eq!(gauge.hold(1, 10), 10);
        let answer = frame(DATA, END_STREAM, &[7; 3]);
        let end = |gauge: &Gauge| poll_fn(|context| gauge.poll_end(1, context)).now_or_never();
        let (last, others) = answer.split_last().unwrap();
        meter.went(others, now, &gauge);
        assert!(gauge.is_open(1) && end(&gauge).is_none());
        meter.went(&[*last], now, &gauge);
        assert!(!gauge.is_open(1) && end(&gauge) == Some(End::Sent));
        gauge.enter(3);
        let mut reset = frame(RST_STREAM, 0, &[0, 0, 0, 8]);
        reset[8] = 3;
        meter.came(&reset, now, &gauge);
        assert!(poll_fn(|context| gauge.poll_end(3, context)).now_or_never() == Some(End::Reset));
    }

    #[test]
    fn takes_nothing_but_settings_for_a_beginning() {
        let now = Instant::now();
        for (kind, flags) in [(HEADERS, END_HEADERS), (PING, 0), (SETTINGS, ACK)] {
            let mut meter = Meter::new(0, now);
            assert_eq!(came(&mut meter, &frame(kind, flags, &[]), now), Some(Cut::Malformed));
        }
    }

    #[test]
    fn knows_what_is_not_whole() {
        let now = Instant::now();
        let mut meter = Meter::new(24, now);
        came(&mut meter, &[b'x'; 24], now);
        assert_eq!(meter.unfinished(), None);
        came(&mut meter, &frame(HEADERS, 0, b"abc"), now);
        let begun = meter.unfinished();
        assert!(begun.is_some());
        came(&mut meter, &frame(CONTINUATION, 0, b"abc"), now);
        assert_eq!(meter.unfinished(), begun);
        came(&mut meter, &frame(CONTINUATION, END_HEADERS, b"abc"), now);
        assert_eq!(meter.unfinished(), None);
        came(&mut meter, &frame(PING, 0, &[0; 8])[..12], now);
        assert!(meter.unfinished() > begun);
        came(&mut meter, &[0; 5], now);
        came(&mut meter, &frame(DATA, 0, &[0; 8])[..12], now);
        assert_eq!(meter.unfinished(), None, "a body has a pace of its own");
    }
}

//! The frames of a connection as they pass, counted: what a client may send that costs it nothing and the gateway something.
//!
//! Of the `h2` crate are the bounds on CONTINUATION (by the size of a header), on small and empty DATA, on fields after their
//! compression, on streams that the client resets before anybody looked at them, and on those it has the gateway reset
//! (CVE-2024-27316, CVE-2023-44487, CVE-2025-8671). It has none on PING, SETTINGS, PRIORITY, WINDOW_UPDATE and frames that it
//! does not know, nor on requests that were begun and taken back (RFC 9113 §10.5).

use tokio::time::Instant;

use super::super::connections::Cut;

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
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

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
    sent: u64,
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
            sent: 0,
        }
    }

    /// Counts what comes from the client.
    pub fn came(&mut self, bytes: &[u8], now: Instant) -> Option<Cut> {
        let skipped = self.preface.min(bytes.len());
        self.preface -= skipped;
        let mut flood = None;
        self.incoming
            .pass(bytes.get(skipped..).unwrap_or_default(), |kind, flags, _| {
                self.is_data = kind == DATA;
                if !self.is_in_header {
                    self.begun += 1;
                }
                flood = flood.or(match kind {
                    DATA => None,
                    HEADERS => {
                        self.is_in_header = flags & END_HEADERS == 0;
                        self.idle.earn(IDLE_PER_REQUEST);
                        None
                    }
                    RST_STREAM => (!self.resets.spend(now)).then_some(Cut::Resets),
                    _ => {
                        self.is_in_header &= kind != CONTINUATION || flags & END_HEADERS == 0;
                        (!self.idle.spend(now)).then_some(Cut::Frames)
                    }
                });
            });
        flood
    }

    /// Counts what goes to the client.
    pub fn went(&mut self, bytes: &[u8], now: Instant) -> Option<Cut> {
        let mut flood = None;
        self.outgoing.pass(bytes, |kind, flags, length| {
            if kind == DATA {
                self.idle.earn(IDLE_PER_PIECE);
                self.sent += length as u64;
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                self.resets.earn(1);
            }
            // Some faults of a client cost it no frame of its own to end a request.
            if kind == RST_STREAM && !self.resets.spend(now) {
                flood = Some(Cut::Resets);
            }
        });
        flood
    }

    /// Bytes of answers that were sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// The frame or header that has begun and is not whole, by its number; bodies have a pace of their own.
    pub fn unfinished(&self) -> Option<u64> {
        let is_waited_for = self.is_in_header || self.incoming.have > 0 || self.incoming.left > 0 && !self.is_data;
        is_waited_for.then_some(self.begun)
    }
}

/// The heads of frames within a stream of bytes (RFC 9113 §4.1).
#[derive(Debug, Default)]
struct Heads {
    head: [u8; 9],
    have: usize,
    /// Bytes of the frame's payload that are still to come.
    left: usize,
}

impl Heads {
    /// Looks at bytes that pass, and tells kind, flags and length of each frame whose head ends within them.
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(u8, u8, usize)) {
        while !bytes.is_empty() {
            let skipped = self.left.min(bytes.len());
            self.left -= skipped;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let room = self.head.get_mut(self.have..).unwrap_or_default();
            let taken = room.len().min(bytes.len());
            for (to, from) in room.iter_mut().zip(bytes) {
                *to = *from;
            }
            bytes = bytes.get(taken..).unwrap_or_default();
            self.have += taken;
            if self.have == self.head.len() {
                let [high, middle, low, kind, flags, ..] = self.head;
                self.have = 0;
                self.left = u32::from_be_bytes([0, high, middle, low]) as usize;
                each(kind, flags, self.left);
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
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// How many of these frames pass until it is too much, at most 10,000.
    fn passed(meter: &mut Meter, now: Instant, bytes: &[u8]) -> (usize, Option<Cut>) {
        for count in 0..10_000 {
            if let Some(flood) = meter.came(bytes, now) {
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
            let (mut heads, mut found) = (Heads::default(), Vec::new());
            for piece in bytes.chunks(size) {
                heads.pass(piece, |kind, flags, _| found.push((kind, flags)));
            }
            assert_eq!(found, [(HEADERS, END_HEADERS), (DATA, END_STREAM), (PING, 0)], "{size}");
            assert_eq!((heads.have, heads.left), (0, 0));
        }
    }

    #[test]
    fn bounds_frames_that_ask_for_nothing() {
        let now = Instant::now();
        for kind in [2, 4, PING, 7, 8, CONTINUATION, 99] {
            let mut meter = Meter::new(0, now);
            let idle = frame(kind, END_HEADERS, &[0; 8]);
            assert_eq!(passed(&mut meter, now, &idle), (1000, Some(Cut::Frames)), "{kind}");
            let later = now + Duration::from_secs(1);
            assert_eq!(passed(&mut meter, later, &idle), (100, Some(Cut::Frames)));
            assert_eq!(meter.came(&frame(HEADERS, END_HEADERS, &[]), later), None);
            assert_eq!(passed(&mut meter, later, &idle).0, 8);
            assert_eq!(meter.went(&frame(DATA, 0, &[1]), later), None);
            assert_eq!(passed(&mut meter, later, &idle).0, 4);
        }
        let body = frame(DATA, 0, &[1]);
        assert_eq!(passed(&mut Meter::new(0, now), now, &body), (10_000, None));
    }

    #[test]
    fn bounds_requests_that_come_to_nothing() {
        let now = Instant::now();
        let taken_back = [frame(HEADERS, END_HEADERS, &[]), frame(RST_STREAM, 0, &[0; 4])].concat();
        let mut meter = Meter::new(0, now);
        assert_eq!(passed(&mut meter, now, &taken_back), (200, Some(Cut::Resets)));
        // Of those that were answered, another may be taken back.
        let mut meter = Meter::new(0, now);
        for _ in 0..1000 {
            assert_eq!(meter.came(&taken_back, now), None);
            assert_eq!(meter.went(&frame(HEADERS, END_HEADERS | END_STREAM, &[]), now), None);
        }
        // What the gateway has to reset counts as well.
        let mut meter = Meter::new(0, now);
        let reset = frame(RST_STREAM, 0, &[0; 4]);
        assert_eq!((0..201).filter_map(|_| meter.went(&reset, now)).count(), 1);
    }

    #[test]
    fn knows_what_is_not_whole() {
        let now = Instant::now();
        let mut meter = Meter::new(24, now);
        meter.came(&[b'x'; 24], now);
        assert_eq!(meter.unfinished(), None);
        meter.came(&frame(HEADERS, 0, b"abc"), now);
        let begun = meter.unfinished();
        assert!(begun.is_some());
        meter.came(&frame(CONTINUATION, 0, b"abc"), now);
        assert_eq!(meter.unfinished(), begun);
        meter.came(&frame(CONTINUATION, END_HEADERS, b"abc"), now);
        assert_eq!(meter.unfinished(), None);
        meter.came(&frame(PING, 0, &[0; 8])[..12], now);
        assert!(meter.unfinished() > begun);
        meter.came(&[0; 5], now);
        meter.came(&frame(DATA, 0, &[0; 8])[..12], now);
        assert_eq!(meter.unfinished(), None, "a body has a pace of its own");
    }
}

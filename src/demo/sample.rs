//! What the sample data is made of: choices that depend on nothing but an id, amounts that keep their digits, and the
//! ledger that dates and numbers what is new.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

const SEOUL: Offset = Offset::constant(9);

/// A sequence of choices fixed by a topic and an id, the same in every run (FNV-1a seeds SplitMix64).
pub(super) struct Draw(u64);

impl Draw {
    pub(super) fn of(topic: &str, id: &str) -> Self {
        let bytes = topic.bytes().chain([0]).chain(id.bytes());
        Draw(bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }))
    }

    /// A number from `low` up to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        let span = high.saturating_sub(low).saturating_add(1);
        low + self.next() % span
    }

    pub(super) fn pick(&mut self, list: &[&'static str]) -> &'static str {
        let place = self.between(1, list.len() as u64) as usize - 1;
        list.get(place).copied().unwrap_or_default()
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// A decimal number counted in hundredths and always written with both of its decimals: `12840500.00`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hundredths(pub(super) i64);

impl Hundredths {
    pub(super) fn whole(units: u64) -> Self {
        Hundredths(i64::try_from(units).unwrap_or(i64::MAX).saturating_mul(100))
    }
}

impl Serialize for Hundredths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let sign = if self.0 < 0 { "-" } else { "" };
        let size = self.0.unsigned_abs();
        let text = format!("{sign}{}.{:02}", size / 100, size % 100);
        RawValue::from_string(text)
            .map_err(S::Error::custom)?
            .serialize(serializer)
    }
}

/// An amount as a caller wrote it, every digit kept. Only positive JSON numbers can be read as one.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Amount(Box<RawValue>);

impl<'de> serde::Deserialize<'de> for Amount {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let mantissa = raw.get().split(['e', 'E']).next().unwrap_or_default();
        let positive = mantissa.starts_with(|first: char| first.is_ascii_digit())
            && mantissa.contains(|digit| matches!(digit, '1'..='9'));
        if positive && raw.get().len() <= 40 {
            Ok(Amount(raw))
        } else {
            Err(serde::de::Error::custom("an amount is a number above 0"))
        }
    }
}

/// Dates and numbers what is booked, ordered or paid while the demo runs.
pub(super) struct Ledger {
    opened: Timestamp,
    since: Instant,
    next: AtomicU64,
}

impl Ledger {
    /// A ledger whose clock starts at `now`.
    pub(super) fn new(now: Timestamp) -> Self {
        let day = SEOUL.to_datetime(now).date();
        let day = day.year().unsigned_abs() as u64 * 10_000 + day.month() as u64 * 100 + day.day() as u64;
        Ledger {
            opened: now,
            since: Instant::now(),
            next: AtomicU64::new(day * 1_000_000_000 + 1),
        }
    }

    /// A number given once: the opening day and nine digits. It exceeds 2^53, so floating point does not hold it.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The instant on its clock.
    pub(super) fn instant(&self) -> Timestamp {
        self.opened.checked_add(self.since.elapsed()).unwrap_or(self.opened)
    }

    /// Now, in RFC 3339 with Seoul's offset and whole seconds.
    pub(super) fn now(&self) -> String {
        written(self.instant())
    }

    /// As many hours before the opening of the ledger, written like [`Ledger::now`].
    pub(super) fn hours_ago(&self, hours: u64) -> String {
        let ago = SignedDuration::from_hours(hours.min(1_000_000) as i64);
        written(self.opened.checked_sub(ago).unwrap_or(self.opened))
    }
}

fn written(instant: Timestamp) -> String {
    let instant = Timestamp::from_second(instant.as_second()).unwrap_or(instant);
    instant.display_with_offset(SEOUL).to_string()
}

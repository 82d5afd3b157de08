//! The live half of limits: counts that outlive requests and reloads.
//!
//! A key's state is one instant, its *theoretical arrival time* (GCRA, ITU-T I.371): when it will be as good as new. A key
//! whose instant has passed equals one never seen, so that forgetting it changes nothing; no key is forgotten before. At
//! the cap, new keys are counted in a [`Sketch`] until there is room again.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;
use smallvec::SmallVec;

use super::sketch::Sketch;
use super::{Bounds, Limits};
use crate::engine::{LimitAnswer, LimitId, LimitKey};

/// Keys held exactly, for each limit; some 40 MiB.
const DEFAULT_CAP: usize = 1 << 20;
const SHARDS: usize = 64;
/// Below this a shard is not swept: there is nothing to win.
const MIN_SWEEP: usize = 64;
const APPROXIMATE_COLUMNS: usize = 16_384;
const OVERFLOW_COLUMNS: usize = 65_536;
/// Clearing a sketch has its price, so an overflow's windows are not shorter. In nanoseconds.
const MIN_OVERFLOW_WINDOW: u64 = 100_000_000;

/// The counts of one limit.
pub struct LimitTable {
    bounds: Bounds,
    shards: Box<[Mutex<Shard>]>,
    /// Keys one shard holds exactly.
    shard_cap: usize,
    sketch: OnceLock<Sketch>,
    seeds: [RandomState; 2],
    overflowed: AtomicU64,
}

#[derive(Default)]
struct Shard {
    /// Theoretical arrival times in nanoseconds.
    arrivals: HashMap<Fingerprint, u64, BuildHasherDefault<Taken>>,
    /// Swept when it holds so many keys.
    sweep_at: usize,
    /// At the cap, not swept again before this instant, so that a flood of new keys does not sweep each time.
    sweep_after: u64,
}

/// A key as 128 bits of keyed hash: callers cannot make two keys meet, and none is kept readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint(u64, u64);

impl Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Takes a hash that is one already.
#[derive(Default)]
struct Taken(u64);

impl Hasher for Taken {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What a key may do now; times in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    pub(super) admitted: bool,
    pub(super) remaining: u64,
    pub(super) reset: u64,
    pub(super) retry_after: u64,
}

/// Where a key is counted.
#[derive(Clone, Copy)]
enum Slot {
    Exact { arrival: u64 },
    Sketched,
}

/// Asks several limits about one request at `now` (nanoseconds of a monotonic clock that all calls share), and charges all
/// of them or none. Exact under concurrency: every key's shard is held, taken in one order by all, until all are charged.
///
/// The answers stand in the order asked. A limit that admitted while another refused is not charged and says what it
/// would have left. A limit asked twice in one call is asked once.
pub fn check(asked: &[(&LimitTable, LimitKey<'_>)], now: u64) -> SmallVec<[LimitAnswer; 4]> {
    let mut held: SmallVec<[Held<'_>; 4]> = SmallVec::new();
    let mut order: SmallVec<[&(&LimitTable, LimitKey<'_>); 4]> = asked.iter().collect();
    order.sort_unstable_by_key(|(table, _)| table.address());
    order.dedup_by_key(|(table, _)| table.address());
    let limits = order.len();
    for (table, key) in order {
        held.extend(table.hold(key, now));
    }
    let admitted = held.len() == limits && held.iter().all(|held| held.standing.admitted);
    if admitted {
        for held in &mut held {
            held.charge(now);
        }
    }
    let answer = |table: &LimitTable| {
        let held = held.iter().find(|held| std::ptr::eq(held.table, table));
        held.map_or(REFUSED, |held| held.standing.answer())
    };
    asked.iter().map(|(table, _)| answer(table)).collect()
}

/// For a limit that could not be held, which does not happen while there are shards.
const REFUSED: LimitAnswer = LimitAnswer {
    admitted: false,
    remaining: 0,
    reset: Duration::ZERO,
    retry_after: Duration::from_secs(1),
};

/// One limit while a request is checked.
struct Held<'a> {
    table: &'a LimitTable,
    shard: MutexGuard<'a, Shard>,
    key: Fingerprint,
    slot: Slot,
    standing: Standing,
}

impl Held<'_> {
    fn charge(&mut self, now: u64) {
        self.standing = match self.slot {
            Slot::Exact { arrival } => {
                let arrival = arrival.max(now).saturating_add(self.table.bounds.interval);
                self.shard.arrivals.insert(self.key, arrival);
                let after = self.table.bounds.standing(arrival, now);
                Standing {
                    admitted: true,
                    retry_after: 0,
                    ..after
                }
            }
            Slot::Sketched => self.table.sketch().charge(self.key, now),
        };
    }
}

impl LimitTable {
    /// An empty table that holds a million keys exactly.
    pub fn new(bounds: Bounds) -> Self {
        Self::with_cap(bounds, DEFAULT_CAP)
    }

    /// An empty table that holds about `cap` keys exactly.
    pub fn with_cap(bounds: Bounds, cap: usize) -> Self {
        Self {
            bounds,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            shard_cap: cap.div_ceil(SHARDS),
            sketch: OnceLock::new(),
            seeds: [RandomState::new(), RandomState::new()],
            overflowed: AtomicU64::new(0),
        }
    }

    /// The numbers it counts by.
    pub fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// How many keys are held exactly; those that are as good as new may be among them.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().arrivals.len()).sum()
    }

    /// How many requests were counted in the sketch because the table was full, since it was made.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    fn hold(&self, key: &LimitKey<'_>, now: u64) -> Option<Held<'_>> {
        let key = self.fingerprint(key);
        // The map takes its buckets from the other half.
        let [low, ..] = key.1.to_le_bytes();
        let mut shard = self.shards.get(usize::from(low) % SHARDS)?.lock();
        let slot = self.slot(&mut shard, key, now);
        let standing = match slot {
            Slot::Exact { arrival } => self.bounds.standing(arrival, now),
            Slot::Sketched => self.sketch().standing(key, now),
        };
        Some(Held {
            table: self,
            shard,
            key,
            slot,
            standing,
        })
    }

    fn slot(&self, shard: &mut Shard, key: Fingerprint, now: u64) -> Slot {
        if self.bounds.approximate {
            return Slot::Sketched;
        }
        if let Some(arrival) = shard.arrivals.get(&key) {
            return Slot::Exact { arrival: *arrival };
        }
        if !shard.has_room(self.shard_cap, self.bounds.window(), now) {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            return Slot::Sketched;
        }
        // A key that comes back from the sketch brings along what it has used.
        let used = self.sketch.get().map_or(0, |sketch| sketch.used(key, now));
        let owed = self.bounds.interval.saturating_mul(used).min(self.bounds.window());
        Slot::Exact {
            arrival: now.saturating_add(owed),
        }
    }

    fn sketch(&self) -> &Sketch {
        self.sketch.get_or_init(|| {
            let burst = u64::from(self.bounds.burst.get());
            if self.bounds.approximate {
                return Sketch::new(burst, self.bounds.window(), APPROXIMATE_COLUMNS);
            }
            let window = self.bounds.window().max(MIN_OVERFLOW_WINDOW);
            let quota = burst.max(window / self.bounds.interval.max(1));
            Sketch::new(quota, window, OVERFLOW_COLUMNS)
        })
    }

    /// Every kind of key is tagged and framed by its length, so that none can spell another.
    fn fingerprint(&self, key: &LimitKey<'_>) -> Fingerprint {
        let [one, two] = &self.seeds;
        let hash = |seed: &RandomState| {
            let mut hasher = seed.build_hasher();
            match key {
                LimitKey::Address(address) => write_address(&mut hasher, 0, *address),
                LimitKey::Keyless(address) => write_address(&mut hasher, 2, *address),
                LimitKey::Identity(identity) => write_framed(&mut hasher, 4, identity),
                LimitKey::Text(text) => write_framed(&mut hasher, 5, text.as_bytes()),
                LimitKey::Claim {
                    authenticator,
                    issuer,
                    value,
                } => {
                    write_framed(&mut hasher, 6, authenticator.as_bytes());
                    write_framed(&mut hasher, 6, issuer.as_bytes());
                    match value {
                        Value::String(text) => write_framed(&mut hasher, 7, text.as_bytes()),
                        other => write_framed(&mut hasher, 8, other.to_string().as_bytes()),
                    }
                }
            }
            hasher.finish()
        };
        Fingerprint(hash(one), hash(two))
    }
}

/// Writes an address under `tag` (IPv4) or `tag + 1` (IPv6). An IPv4 address mapped into IPv6 is itself: its /64 would be
/// everybody's.
fn write_address(hasher: &mut impl Hasher, tag: u8, address: IpAddr) {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            hasher.write_u8(tag);
            hasher.write_u32(address.to_bits());
        }
        IpAddr::V6(address) => {
            hasher.write_u8(tag + 1);
            hasher.write_u128(address.to_bits() >> 64);
        }
    }
}

fn write_framed(hasher: &mut impl Hasher, tag: u8, bytes: &[u8]) {
    hasher.write_u8(tag);
    hasher.write_usize(bytes.len());
    hasher.write(bytes);
}

impl Shard {
    /// Whether a new key can be held; forgets keys that are as good as new where the shard is about to grow or is full.
    fn has_room(&mut self, cap: usize, window: u64, now: u64) -> bool {
        let full = self.arrivals.len() >= cap;
        let due = self.arrivals.len() >= self.sweep_at.max(MIN_SWEEP);
        if (full && now >= self.sweep_after) || (due && !full) {
            self.arrivals.retain(|_, arrival| *arrival > now);
            let live = self.arrivals.len();
            if live < self.arrivals.capacity() / 8 {
                self.arrivals.shrink_to(live * 2);
            }
            self.sweep_at = (live * 2).min(cap);
            self.sweep_after = now.saturating_add((window / 16).clamp(1_000_000, 1_000_000_000));
        }
        self.arrivals.len() < cap
    }
}

impl Bounds {
    fn standing(&self, arrival: u64, now: u64) -> Standing {
        let owed = arrival.saturating_sub(now);
        let over = owed.saturating_add(self.interval).saturating_sub(self.window());
        Standing {
            admitted: over == 0,
            remaining: self.window().saturating_sub(owed) / self.interval.max(1),
            reset: owed,
            retry_after: over,
        }
    }

    /// What the limit says of a key that so many requests have just used, up to the burst.
    fn after(&self, count: u32) -> Standing {
        let (count, burst) = (u64::from(count), u64::from(self.burst.get()));
        match self.approximate {
            true => Sketch::standing_after(count, burst, self.window()),
            false => self.standing(self.interval.saturating_mul(count), 0),
        }
    }

    /// The answer to the first request of a key; `charged` unless another limit refuses it.
    pub fn first(&self, charged: bool) -> LimitAnswer {
        let standing = Standing {
            admitted: true,
            retry_after: 0,
            ..self.after(u32::from(charged))
        };
        standing.answer()
    }

    /// The answer where nothing is left.
    pub fn exhausted(&self) -> LimitAnswer {
        self.after(self.burst.get()).answer()
    }
}

impl Standing {
    fn answer(self) -> LimitAnswer {
        LimitAnswer {
            admitted: self.admitted,
            remaining: u32::try_from(self.remaining).unwrap_or(u32::MAX),
            reset: Duration::from_nanos(self.reset),
            retry_after: Duration::from_nanos(self.retry_after),
        }
    }
}

impl fmt::Debug for LimitTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitTable")
            .field("bounds", &self.bounds)
            .finish_non_exhaustive()
    }
}

/// The tables of one configuration's limits.
#[derive(Debug, Clone, Default)]
pub struct LimitTables(Vec<(Arc<str>, Arc<LimitTable>)>);

impl LimitTables {
    /// Tables for `limits`; of the configuration before, a table is kept where a limit of the same name counts the same
    /// key by the same numbers.
    pub fn following(limits: &Limits, before: &Self) -> Self {
        let table = |rule: &super::LimitRule| {
            let known = before
                .0
                .iter()
                .find(|(name, table)| *name == rule.name && table.bounds == rule.bounds);
            let kept = known.map(|(_, table)| table.clone());
            kept.unwrap_or_else(|| Arc::new(LimitTable::new(rule.bounds.clone())))
        };
        Self(
            limits
                .iter()
                .map(|(_, rule)| (rule.name.clone(), table(rule)))
                .collect(),
        )
    }

    /// The table of a limit of the configuration these tables were made for.
    pub fn get(&self, id: LimitId) -> Option<&LimitTable> {
        self.0.get(usize::from(id.0)).map(|(_, table)| &**table)
    }

    /// All tables with the names of their limits.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &LimitTable)> {
        self.0.iter().map(|(name, table)| (&**name, &**table))
    }
}

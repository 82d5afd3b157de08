//! Where answers are kept: `pingora-cache`'s [`Storage`] over a bounded map in memory.
//!
//! Bounded twice: an entry by [`MAX_ENTRY`], all of them together by weight, which counts headers and overhead too. An entry
//! appears when its body is whole and has the length that its header declares; a fill that is dropped leaves nothing.
//! Partial bodies are never readable: `pingora-cache` would cut an answer that outgrows its bound in the middle.

use std::any::Any;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, header};
use pingora_cache::eviction::CacheEntryKey;
use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget, PurgeType, Storage,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta, VarianceBuilder};
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use crate::engine::{CacheRule, Share};

/// The largest body kept, in bytes. Tell `pingora-cache` too (`set_max_file_size_bytes`), so that it stops waiting early.
pub const MAX_ENTRY: usize = 1 << 20;
/// What all entries together may weigh unless said otherwise, in bytes.
pub const DEFAULT_CAPACITY: u64 = 64 << 20;

/// Bodies are handed over in pieces, so that a compressor never holds a worker for long.
const PIECE: usize = 64 << 10;
/// Key, map slot, reference counts and allocator slack of one entry, roughly.
const OVERHEAD: usize = 256;
/// How often an entry that changes meanwhile is tried again.
const MAX_EXPIRE: usize = 3;
/// Capacity is per shard and an entry must fit into one: few shards, large ones.
const SHARDS: usize = 4;

/// Answers in memory. One per process: `pingora-cache` wants it to live for ever.
pub struct Store {
    entries: Cache<u128, Arc<Entry>, Weigh, foldhash::fast::RandomState, DefaultLifecycle<u128, Arc<Entry>>>,
}

/// One stored answer.
struct Entry {
    /// Freshness and header, as `CacheMeta` writes them.
    meta: (Vec<u8>, Vec<u8>),
    body: Bytes,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<u128, Arc<Entry>> for Weigh {
    fn weight(&self, _: &u128, entry: &Arc<Entry>) -> u64 {
        entry.weight() as u64
    }
}

impl Entry {
    fn weight(&self) -> usize {
        self.meta.0.len() + self.meta.1.len() + self.body.len() + OVERHEAD
    }
}

impl Store {
    /// A store that keeps up to `capacity` bytes, and lives as long as the process.
    pub fn leak(capacity: u64) -> &'static Self {
        let items = usize::try_from(capacity / 4096)
            .unwrap_or(usize::MAX)
            .clamp(64, 1 << 20);
        let mut options = OptionsBuilder::new();
        options
            .shards(SHARDS)
            .estimated_items_capacity(items)
            .weight_capacity(capacity);
        let options = options.build();
        let entries = match options {
            Ok(options) => Cache::with_options(options, Weigh, Default::default(), Default::default()),
            Err(_) => Cache::with(items, capacity, Weigh, Default::default(), Default::default()),
        };
        Box::leak(Box::new(Self { entries }))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What they weigh, in bytes.
    pub fn weight(&self) -> u64 {
        self.entries.weight()
    }

    fn get(&self, key: u128) -> Option<Arc<Entry>> {
        self.entries.get(&key)
    }

    /// Gives the entry under `key` another meta; false where it is gone, or was replaced meanwhile by a new answer.
    fn replace_meta(&self, key: u128, standing: &Arc<Entry>, meta: &CacheMeta) -> pingora::Result<bool> {
        let entry = Arc::new(Entry {
            meta: meta.serialize()?,
            body: standing.body.clone(),
        });
        match self.entries.peek(&key) {
            Some(there) if Arc::ptr_eq(&there, standing) => Ok(self.entries.replace(key, entry, true).is_ok()),
            _ => Ok(false),
        }
    }
}

/// The key of a request. Every part is framed by its length, so that none can spell another; routes never share.
/// `identity` is [`Principal::identity`](crate::engine::Principal), and counts where entries are kept apart by it.
pub fn key(rule: &CacheRule, scheme: &str, host: &str, path: &str, query: &str, identity: &[u8]) -> CacheKey {
    let (kind, identity): (&[u8], &[u8]) = match rule.share {
        Share::Public => (b"public", b""),
        Share::Principal => (b"principal", identity),
    };
    let parts = [
        kind,
        rule.route.as_bytes(),
        identity,
        scheme.as_bytes(),
        host.as_bytes(),
        path.as_bytes(),
        query.as_bytes(),
    ];
    let mut framed = Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum());
    for part in parts {
        framed.extend_from_slice(&(part.len() as u64).to_le_bytes());
        framed.extend_from_slice(part);
    }
    CacheKey::new(framed, "")
}

/// Which of the variants of one URL a request asks for, `varies_on` being what the stored answer says
/// ([`storable::varies_on`](super::storable::varies_on)). Values are compared byte by byte, all lines of a header together.
/// `Authorization` and `Cookie` count only where the fill request carried them.
pub fn variance(rule: &CacheRule, varies_on: &[HeaderName], request: &HeaderMap) -> Option<HashBinary> {
    let mut variance = VarianceBuilder::new();
    for name in varies_on {
        if rule.share == Share::Public && matches!(*name, header::AUTHORIZATION | header::COOKIE) {
            continue;
        }
        let mut value = Vec::new();
        for line in request.get_all(name) {
            value.extend_from_slice(&(line.len() as u64).to_le_bytes());
            value.extend_from_slice(line.as_bytes());
        }
        variance.add_owned_value(name.as_str(), value);
    }
    variance.finalize()
}

fn slot(key: &impl CacheHashKey) -> u128 {
    u128::from_le_bytes(key.combined_bin())
}

#[async_trait]
impl Storage for Store {
    async fn lookup(&'static self, key: &CacheKey, _: &SpanHandle) -> pingora::Result<Option<(CacheMeta, HitHandler)>> {
        let Some(entry) = self.get(slot(key)) else {
            return Ok(None);
        };
        let meta = CacheMeta::deserialize(&entry.meta.0, &entry.meta.1)?;
        let hit = Hit {
            rest: entry.body.clone(),
            entry,
        };
        Ok(Some((meta, Box::new(hit))))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _: &SpanHandle,
    ) -> pingora::Result<MissHandler> {
        let declared = meta.headers().get(header::CONTENT_LENGTH);
        let declared: Option<usize> = declared.and_then(|length| length.to_str().ok()?.parse().ok());
        Ok(Box::new(Miss {
            store: self,
            slot: slot(key),
            meta: meta.serialize()?,
            body: Vec::with_capacity(declared.unwrap_or(0).min(MAX_ENTRY)),
            declared,
            too_large: false,
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _: PurgeType,
        _: &SpanHandle,
    ) -> pingora::Result<PurgeOutcome> {
        if is_foreign(target) {
            return Ok(PurgeOutcome::NotFound);
        }
        Ok(match self.entries.remove(&slot(target.key())) {
            Some(_) => PurgeOutcome::Purged(None),
            None => PurgeOutcome::NotFound,
        })
    }

    async fn expire(&'static self, target: PurgeTarget<'_>, _: &SpanHandle) -> pingora::Result<PurgeOutcome> {
        let slot = slot(target.key());
        for _ in 0..MAX_EXPIRE {
            let Some(entry) = self.get(slot).filter(|_| !is_foreign(target)) else {
                return Ok(PurgeOutcome::NotFound);
            };
            let mut meta = CacheMeta::deserialize(&entry.meta.0, &entry.meta.1)?;
            meta.expire_at(SystemTime::now());
            if self.replace_meta(slot, &entry, &meta)? {
                return Ok(PurgeOutcome::Expired);
            }
        }
        // New answers keep coming in between: gone is as good as stale.
        self.entries.remove(&slot);
        Ok(PurgeOutcome::Purged(None))
    }

    async fn update_meta(&'static self, key: &CacheKey, meta: &CacheMeta, _: &SpanHandle) -> pingora::Result<bool> {
        let Some(entry) = self.get(slot(key)) else {
            return Ok(false);
        };
        // The answer that was confirmed may have been replaced by another; its header must not describe that one's body.
        let standing = CacheMeta::deserialize(&entry.meta.0, &entry.meta.1)?;
        let same = |name: HeaderName| standing.headers().get(&name) == meta.headers().get(&name);
        if standing.created() != meta.created() || !same(header::CONTENT_LENGTH) || !same(header::CONTENT_ENCODING) {
            return Ok(false);
        }
        self.replace_meta(slot(key), &entry, meta)
    }

    fn support_streaming_partial_write(&self) -> bool {
        false
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

/// No entry here has an id, so that one with an id is not ours.
fn is_foreign(target: PurgeTarget<'_>) -> bool {
    matches!(target, PurgeTarget::Exact(CacheEntryKey::Identified { .. }))
}

/// Reads a stored body; it stays readable when the entry is evicted.
struct Hit {
    entry: Arc<Entry>,
    rest: Bytes,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> pingora::Result<Option<Bytes>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.rest.split_to(PIECE.min(self.rest.len()))))
    }

    async fn finish(
        self: Box<Self>,
        _: &'static (dyn Storage + Sync),
        _: &CacheKey,
        _: &SpanHandle,
    ) -> pingora::Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> pingora::Result<()> {
        let body = &self.entry.body;
        let end = end.unwrap_or(body.len()).min(body.len());
        if start >= end {
            return pingora::Error::e_explain(pingora::ErrorType::InternalError, "a range outside the stored body");
        }
        self.rest = body.slice(start..end);
        Ok(())
    }

    fn get_eviction_weight(&self) -> usize {
        self.entry.weight()
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// Gathers a body; dropped, it leaves nothing.
struct Miss {
    store: &'static Store,
    slot: u128,
    meta: (Vec<u8>, Vec<u8>),
    body: Vec<u8>,
    declared: Option<usize>,
    too_large: bool,
}

#[async_trait]
impl HandleMiss for Miss {
    async fn write_body(&mut self, data: Bytes, _: bool) -> pingora::Result<()> {
        if self.too_large || self.body.len() + data.len() > MAX_ENTRY {
            // An error here would break the answer for the client, who may have bodies of any size.
            self.too_large = true;
            self.body = Vec::new();
        } else {
            // Copied: a piece of a read buffer would keep all of that buffer alive.
            self.body.extend_from_slice(&data);
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> pingora::Result<MissFinishType> {
        if self.too_large {
            return Ok(MissFinishType::Created(0));
        }
        if self.declared.is_some_and(|declared| declared != self.body.len()) {
            let message = "the body has not the length that its header declares";
            return pingora::Error::e_explain(pingora::ErrorType::InternalError, message);
        }
        let entry = Arc::new(Entry {
            meta: self.meta,
            body: Bytes::from(self.body.into_boxed_slice()),
        });
        let weight = entry.weight();
        self.store.entries.insert(self.slot, entry);
        Ok(MissFinishType::Created(weight))
    }
}

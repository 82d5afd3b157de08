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

use super::changes::Changes;
use crate::engine::{CacheRule, Share};

/// The largest body kept, in bytes. Tell `pingora-cache` too (`set_max_file_size_bytes`), so that it stops waiting early.
pub const MAX_ENTRY: usize = 1 << 20;
/// What all entries together may weigh unless said otherwise, in bytes.
pub const DEFAULT_CAPACITY: u64 = 64 << 20;

/// Bodies are handed over in pieces, so that a compressor never holds a worker for long.
const PIECE: usize = 64 << 10;
/// Key, map slot, reference counts and allocator slack of one entry, roughly.
const OVERHEAD: usize = 256;
/// What stored headers look like: `pingora-cache` compresses them against it, and warns where there is nothing.
const DICTIONARY: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: \r\n\
cache-control: public, max-age=\r\netag: \"\"\r\nvary: accept-encoding\r\nlast-modified: , GMT\r\ndate: , GMT\r\n";
/// How often an entry that changes meanwhile is tried again.
const MAX_EXPIRE: usize = 3;
/// Capacity is per shard and an entry must fit into one: few shards, large ones.
const SHARDS: usize = 4;

/// Answers in memory. One per process: `pingora-cache` wants it to live for ever.
pub struct Store {
    entries: Cache<u128, Arc<Entry>, Weigh, foldhash::fast::RandomState, DefaultLifecycle<u128, Arc<Entry>>>,
    /// Which addresses were written to, and when.
    pub changes: Changes,
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
        // False where an earlier store has set it.
        pingora_cache::set_compression_dict_content(DICTIONARY.into());
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
        Box::leak(Box::new(Self {
            entries,
            changes: Changes::default(),
        }))
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
/// `whose` says who calls and what the upstream is told of that caller, and counts where entries are kept apart by it.
pub fn key(rule: &CacheRule, scheme: &str, host: &str, path: &str, query: &str, whose: &[u8]) -> CacheKey {
    let (kind, whose): (&[u8], &[u8]) = match rule.share {
        Share::Public => (b"public", b""),
        Share::Principal => (b"principal", whose),
    };
    let parts = [
        kind,
        rule.route.as_bytes(),
        whose,
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use futures::executor::block_on;
    use pingora::http::ResponseHeader;
    use pingora_cache::eviction::CacheEntryId;
    use pingora_cache::trace::Span;

    use super::*;

    fn trace() -> SpanHandle {
        Span::inactive().handle()
    }

    fn rule(share: Share) -> CacheRule {
        CacheRule {
            route: "r".into(),
            ttl: None,
            share,
        }
    }

    fn url(path: &str) -> CacheKey {
        key(&rule(Share::Public), "https", "h", path, "", b"")
    }

    fn meta(headers: &[(&'static str, &str)]) -> CacheMeta {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, value) in headers {
            header.append_header(*name, *value).unwrap();
        }
        let now = SystemTime::now();
        CacheMeta::new(now + Duration::from_secs(60), now, 1, 2, header)
    }

    fn fill(store: &'static Store, key: &CacheKey, meta: &CacheMeta, body: &[&'static [u8]]) -> pingora::Result<()> {
        block_on(async {
            let mut miss = store.get_miss_handler(key, meta, &trace()).await?;
            for (at, piece) in body.iter().enumerate() {
                miss.write_body(Bytes::from_static(piece), at + 1 == body.len()).await?;
            }
            miss.finish().await.map(|_| ())
        })
    }

    fn lookup(store: &'static Store, key: &CacheKey) -> Option<(CacheMeta, HitHandler)> {
        block_on(store.lookup(key, &trace())).unwrap()
    }

    fn read(hit: &mut HitHandler) -> Vec<u8> {
        let mut body = Vec::new();
        while let Some(piece) = block_on(hit.read_body()).unwrap() {
            assert!(!piece.is_empty() && piece.len() <= PIECE);
            body.extend_from_slice(&piece);
        }
        body
    }

    fn purge(store: &'static Store, key: &CacheKey) -> PurgeOutcome {
        let key = key.to_compact();
        block_on(store.purge(PurgeTarget::Active(&key), PurgeType::Invalidation, &trace())).unwrap()
    }

    #[test]
    fn gives_back_what_was_stored() {
        let store = Store::leak(DEFAULT_CAPACITY);
        let written = meta(&[("content-type", "text/plain"), ("content-length", "6")]);
        fill(store, &url("/a"), &written, &[b"abc", b"", b"def"]).unwrap();
        let (found, mut hit) = lookup(store, &url("/a")).unwrap();
        assert_eq!(read(&mut hit), b"abcdef");
        assert_eq!(
            (found.fresh_until(), found.created()),
            (written.fresh_until(), written.created())
        );
        assert_eq!(found.headers(), written.headers());
        assert!(lookup(store, &url("/b")).is_none());
        assert!(store.weight() > 6 + OVERHEAD as u64);
        assert!(!store.support_streaming_partial_write());
    }

    #[test]
    fn reads_large_bodies_in_pieces_and_ranges_of_them() {
        let store = Store::leak(DEFAULT_CAPACITY);
        let body: &'static [u8] = Vec::leak((0..MAX_ENTRY).map(|at| (at % 251) as u8).collect());
        fill(store, &url("/a"), &meta(&[]), &[body]).unwrap();
        let (_, mut hit) = lookup(store, &url("/a")).unwrap();
        assert!(hit.can_seek() && hit.can_seek_multipart());
        assert_eq!(read(&mut hit), body);
        for (start, end) in [
            (0, Some(1)),
            (7, Some(200_000)),
            (MAX_ENTRY - 1, None),
            (5, Some(usize::MAX)),
        ] {
            hit.seek(start, end).unwrap();
            assert_eq!(
                read(&mut hit),
                body.get(start..end.unwrap_or(MAX_ENTRY).min(MAX_ENTRY)).unwrap()
            );
        }
        for (start, end) in [(MAX_ENTRY, None), (usize::MAX, None), (9, Some(9)), (9, Some(3))] {
            assert!(hit.seek(start, end).is_err());
        }
    }

    #[test]
    fn keeps_nothing_of_a_fill_that_did_not_end_well() {
        let store = Store::leak(DEFAULT_CAPACITY);
        // Dropped.
        let mut miss = block_on(store.get_miss_handler(&url("/a"), &meta(&[]), &trace())).unwrap();
        block_on(miss.write_body(Bytes::from_static(b"abc"), false)).unwrap();
        assert!(lookup(store, &url("/a")).is_none());
        drop(miss);
        // Cut.
        assert!(fill(store, &url("/a"), &meta(&[("content-length", "9")]), &[b"abc"]).is_err());
        // Too large: the client's answer goes on, nothing is kept.
        let large: &'static [u8] = Vec::leak(vec![0; MAX_ENTRY]);
        fill(store, &url("/a"), &meta(&[]), &[large, b"x", b"y"]).unwrap();
        assert!(lookup(store, &url("/a")).is_none() && store.is_empty());
    }

    #[test]
    fn stays_within_its_capacity() {
        let store = Store::leak(8 << 20);
        let body: &'static [u8] = Vec::leak(vec![0; MAX_ENTRY / 2]);
        for at in 0..100 {
            fill(store, &url(&format!("/{at}")), &meta(&[]), &[body]).unwrap();
            assert!(store.weight() <= 8 << 20);
        }
        assert!(store.len() > 4);
        let small = Store::leak(64 << 10);
        for at in 0..1000 {
            fill(small, &url(&format!("/{at}")), &meta(&[]), &[b""]).unwrap();
        }
        assert!(small.weight() <= 64 << 10 && small.len() < 250);
    }

    #[test]
    fn goes_on_reading_what_is_evicted_meanwhile() {
        let store = Store::leak(DEFAULT_CAPACITY);
        fill(store, &url("/a"), &meta(&[]), &[b"abc"]).unwrap();
        let (found, mut hit) = lookup(store, &url("/a")).unwrap();
        assert_eq!(purge(store, &url("/a")), PurgeOutcome::Purged(None));
        assert_eq!(purge(store, &url("/a")), PurgeOutcome::NotFound);
        assert_eq!(read(&mut hit), b"abc");
        assert!(!block_on(store.update_meta(&url("/a"), &found, &trace())).unwrap());
        assert!(lookup(store, &url("/a")).is_none());
    }

    #[test]
    fn updates_the_header_of_the_same_answer_only() {
        let store = Store::leak(DEFAULT_CAPACITY);
        fill(store, &url("/a"), &meta(&[("etag", "\"1\"")]), &[b"abc"]).unwrap();
        let (mut confirmed, _) = lookup(store, &url("/a")).unwrap();
        let later = SystemTime::now() + Duration::from_secs(900);
        confirmed.update_freshness(later, 0, 0);
        assert!(block_on(store.update_meta(&url("/a"), &confirmed, &trace())).unwrap());
        let (found, mut hit) = lookup(store, &url("/a")).unwrap();
        assert_eq!((found.fresh_until(), read(&mut hit)), (later, b"abc".to_vec()));
        // Another answer has come in between.
        fill(store, &url("/a"), &meta(&[("etag", "\"2\"")]), &[b"other"]).unwrap();
        assert!(!block_on(store.update_meta(&url("/a"), &confirmed, &trace())).unwrap());
        let (found, _) = lookup(store, &url("/a")).unwrap();
        assert_eq!(found.headers().get("etag").unwrap(), "\"2\"");
    }

    #[test]
    fn expires_without_forgetting_the_body() {
        let store = Store::leak(DEFAULT_CAPACITY);
        fill(store, &url("/a"), &meta(&[]), &[b"abc"]).unwrap();
        let key = url("/a").to_compact();
        let expire = |target| block_on(store.expire(target, &trace())).unwrap();
        assert_eq!(expire(PurgeTarget::Active(&key)), PurgeOutcome::Expired);
        let (found, mut hit) = lookup(store, &url("/a")).unwrap();
        assert!(!found.is_fresh(SystemTime::now()));
        assert_eq!(read(&mut hit), b"abc");
        let foreign = CacheEntryKey::identified(key.clone(), CacheEntryId::new(1));
        assert_eq!(expire(PurgeTarget::Exact(&foreign)), PurgeOutcome::NotFound);
        let purged = block_on(store.purge(PurgeTarget::Exact(&foreign), PurgeType::Eviction, &trace())).unwrap();
        assert_eq!(purged, PurgeOutcome::NotFound);
        assert_eq!(store.len(), 1);
    }

    #[test]
    fn survives_fills_and_purges_of_the_same_key_at_once() {
        let store = Store::leak(1 << 20);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for at in 0..300 {
                        let key = url(&format!("/{}", at % 3));
                        fill(store, &key, &meta(&[]), &[b"abc"]).unwrap();
                        if let Some((mut found, mut hit)) = lookup(store, &key) {
                            found.update_freshness(SystemTime::now(), 0, 0);
                            block_on(store.update_meta(&key, &found, &trace())).unwrap();
                            assert_eq!(read(&mut hit), b"abc");
                        }
                        block_on(store.expire(PurgeTarget::Active(&key.to_compact()), &trace())).unwrap();
                        purge(store, &key);
                    }
                });
            }
        });
    }

    #[test]
    fn keys_cannot_spell_each_other() {
        let hash = |share, host: &str, path: &str, query: &str, identity: &[u8]| {
            key(&rule(share), "https", host, path, query, identity).primary_bin()
        };
        let one = hash(Share::Public, "h", "/a", "b", b"");
        assert_ne!(one, hash(Share::Public, "h", "/ab", "", b""));
        assert_ne!(one, hash(Share::Public, "h/", "a", "b", b""));
        assert_ne!(one, hash(Share::Principal, "h", "/a", "b", b""));
        assert_eq!(one, hash(Share::Public, "h", "/a", "b", b"u1"));
        let own = |identity: &[u8]| hash(Share::Principal, "h", "/a", "b", identity);
        assert_ne!(own(b"u1"), own(b"u2"));
    }

    #[test]
    fn tells_variants_apart_by_the_values_of_the_request() {
        let names = [header::ACCEPT_LANGUAGE, header::COOKIE];
        let with = |name: HeaderName, value: &'static str| {
            let mut request = HeaderMap::new();
            request.append(name, http::HeaderValue::from_static(value));
            request
        };
        let public = |request: &HeaderMap| variance(&rule(Share::Public), &names, request);
        let own = |request: &HeaderMap| variance(&rule(Share::Principal), &names, request);
        let (ko, en) = (with(header::ACCEPT_LANGUAGE, "ko"), with(header::ACCEPT_LANGUAGE, "en"));
        assert_ne!(public(&ko), public(&en));
        assert_ne!(public(&ko), public(&HeaderMap::new()));
        let cookie = with(header::COOKIE, "a=b");
        assert_eq!(public(&cookie), public(&HeaderMap::new()));
        assert_ne!(own(&cookie), own(&HeaderMap::new()));
        assert_eq!(variance(&rule(Share::Public), &[], &ko), None);
    }
}

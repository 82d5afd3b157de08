//! Tokens that were verified, so that a hot one costs a hash and a comparison instead of a signature.
//!
//! Found by a randomly keyed hash, believed only where every byte is the same. Bounded by weight; what was used least goes.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::{Arc, LazyLock};

use foldhash::quality::RandomState;
use jiff::Timestamp;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{Equivalent, OptionsBuilder, Weighter};

use super::jwt::Verified;
use super::keys::{KeyId, KeySet};
use crate::engine::Principal;

/// About forty thousand tokens of common size.
const MAX_BYTES: u64 = 128 << 20;
const USUAL_TOKENS: usize = 32_768;

/// Verified tokens of one authenticator.
#[derive(Debug)]
pub(super) struct Memory {
    tokens: Cache<Known, Remembered, Weight, RandomState>,
}

/// A token and its hash, which is taken once for all memories.
#[derive(Clone, Copy)]
pub(super) struct Hashed<'t> {
    pub token: &'t str,
    hash: u64,
}

#[derive(Clone)]
struct Known {
    token: Arc<str>,
    hash: u64,
}

impl<'t> Hashed<'t> {
    pub fn new(token: &'t str) -> Self {
        static KEYED: LazyLock<RandomState> = LazyLock::new(RandomState::default);
        let hash = KEYED.hash_one(token);
        Self { token, hash }
    }
}

impl Hash for Hashed<'_> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

impl Hash for Known {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.hash);
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.token == other.token
    }
}

impl Eq for Known {}

impl Equivalent<Known> for Hashed<'_> {
    fn equivalent(&self, known: &Known) -> bool {
        *self.token == *known.token
    }
}

#[derive(Debug, Clone)]
struct Remembered {
    principal: Arc<Principal>,
    key: KeyId,
    from: Timestamp,
    until: Timestamp,
    /// What the entry takes, once all claims were read.
    bytes: u64,
}

impl Memory {
    pub fn new() -> Self {
        Self::holding(MAX_BYTES, USUAL_TOKENS)
    }

    pub(super) fn holding(bytes: u64, usual: usize) -> Self {
        let mut options = OptionsBuilder::new();
        options.estimated_items_capacity(usual).weight_capacity(bytes);
        let tokens = match options.build() {
            Ok(options) => Cache::with_options(options, Weight, RandomState::default(), DefaultLifecycle::default()),
            Err(_) => Cache::with(
                usual,
                bytes,
                Weight,
                RandomState::default(),
                DefaultLifecycle::default(),
            ),
        };
        Self { tokens }
    }

    /// Whom the token proved, while it is within its time and the key that verified it is among `keys`.
    pub fn find(&self, token: Hashed<'_>, keys: &KeySet, now: Timestamp) -> Option<Arc<Principal>> {
        let found = self.tokens.get(&token)?;
        if !keys.has(found.key) {
            self.tokens.remove(&token);
            return None;
        }
        // Both ends: on a rehearsal clock time may stand anywhere.
        (found.from <= now && now < found.until).then_some(found.principal)
    }

    /// Remembers a token until its `exp`.
    pub fn keep(&self, token: Hashed<'_>, verified: Verified) -> Arc<Principal> {
        debug_assert!(*token.token == *verified.token, "another was verified");
        let bytes = Principal::SIZE + token.token.len() + verified.tree + verified.principal.granted_size();
        let known = Known {
            token: verified.token,
            hash: token.hash,
        };
        let remembered = Remembered {
            principal: verified.principal.clone(),
            key: verified.key,
            from: verified.from,
            until: verified.until,
            bytes: bytes as u64,
        };
        self.tokens.insert(known, remembered);
        verified.principal
    }

    /// Forgets the tokens of those that `whom` names.
    pub fn forget(&self, whom: impl Fn(&Principal) -> bool) {
        self.tokens.retain(|_, remembered| !whom(&remembered.principal));
    }

    /// How many tokens are remembered.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Known, Remembered> for Weight {
    fn weight(&self, _: &Known, remembered: &Remembered) -> u64 {
        remembered.bytes
    }
}

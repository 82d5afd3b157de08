//! A JSON Web Key Set (RFC 7517) → the keys that may verify tokens, each bound to what it is for.
//!
//! A key is skipped, and counted, unless its `kty`, `crv`, `alg`, `use` and `key_ops` agree that it is a public key for one
//! of our algorithms: RSA of 2048 to 8192 bits with an odd exponent from 3 to 2^33, P-256, P-384, Ed25519 of full order.
//! Symmetric keys and private keys in a set are skipped: they were published.

use std::fmt;

use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use ring::digest::{self, SHA256};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::engine::claims::base64url;

/// Larger sets are refused.
pub(super) const MAX_SET: usize = 256 << 10;
const MAX_KEYS: usize = 64;

/// Verification keys, in the order of the set.
#[derive(Debug, Clone, Default)]
pub(super) struct KeySet {
    pub keys: Vec<Key>,
    /// How many keys of the set cannot be used.
    pub skipped: usize,
}

/// One key.
#[derive(Debug, Clone)]
pub(super) struct Key {
    /// The identifier in the set.
    pub kid: Option<Box<str>>,
    /// A hash of everything that matters about the key: equal keys of two sets are the same key.
    pub id: KeyId,
    key: DecodingKey,
    curve: Curve,
    only: Option<Algorithm>,
}

/// The algorithm of that name. `Ed25519` (RFC 9864) says which of those that `EdDSA` stands for; of these it is the only one here.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    match name {
        "Ed25519" => Some(Algorithm::EdDSA),
        _ => name.parse().ok(),
    }
}

/// Names a key by what it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyId([u8; 32]);

/// The hash of a secret is not shown either: short of guessing it, nothing else tells secrets apart.
impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyId")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Curve {
    Secret,
    Rsa,
    P256,
    P384,
    Ed25519,
}

/// Why a whole set is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SetUnusable {
    #[error("the key set has more than {} KiB", MAX_SET >> 10)]
    TooLarge,
    #[error("the key set has more than {MAX_KEYS} keys")]
    TooMany,
    #[error("not a JSON Web Key Set")]
    NotASet,
}

/// Sets are equal when their keys are the same ones in the same order.
impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.keys
            .iter()
            .map(|key| key.id)
            .eq(other.keys.iter().map(|key| key.id))
    }
}

impl KeySet {
    /// Reads a set. A key that cannot be used does not spoil the others.
    pub fn parse(bytes: &[u8]) -> Result<Self, SetUnusable> {
        #[derive(Deserialize)]
        struct Set<'a> {
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        if bytes.len() > MAX_SET {
            return Err(SetUnusable::TooLarge);
        }
        let set: Set<'_> = serde_json::from_slice(bytes).map_err(|_| SetUnusable::NotASet)?;
        if set.keys.len() > MAX_KEYS {
            return Err(SetUnusable::TooMany);
        }
        let keys: Vec<Key> = set.keys.iter().filter_map(|key| Key::parse(key.get())).collect();
        Ok(Self {
            skipped: set.keys.len() - keys.len(),
            keys,
        })
    }

    /// The one shared secret of the HS algorithms.
    pub fn secret(secret: &[u8]) -> Self {
        let key = Key {
            kid: None,
            id: KeyId::of(&[b"secret", secret]),
            key: DecodingKey::from_secret(secret),
            curve: Curve::Secret,
            only: None,
        };
        Self {
            keys: vec![key],
            skipped: 0,
        }
    }

    /// Whether the key is in the set.
    pub fn has(&self, id: KeyId) -> bool {
        self.keys.iter().any(|key| key.id == id)
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        let jwk: Jwk = serde_json::from_str(text).ok()?;
        let signs = jwk.r#use.as_deref().is_none_or(|purpose| purpose == "sig")
            && jwk
                .key_ops
                .as_deref()
                .is_none_or(|all| all.iter().any(|operation| operation == "verify"));
        if !signs || jwk.d.is_some() {
            return None;
        }
        let (curve, key) = jwk.public()?;
        let only = match &jwk.alg {
            None => None,
            Some(name) => Some(algorithm(name).filter(|only| curve.fits(*only))?),
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let parts = [&jwk.kid, &jwk.alg, &jwk.crv, &jwk.n, &jwk.e, &jwk.x, &jwk.y].map(text);
        Some(Self {
            id: KeyId::of(&parts.each_ref().map(String::as_bytes)),
            kid: jwk.kid.map(Into::into),
            key,
            curve,
            only,
        })
    }

    /// Whether the key is one for `algorithm`.
    pub fn fits(&self, algorithm: Algorithm) -> bool {
        self.curve.fits(algorithm) && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm) && super::crypto::verifies(algorithm, &self.key, message, signature)
    }
}

impl KeyId {
    fn of(parts: &[&[u8]]) -> Self {
        let mut hash = digest::Context::new(&SHA256);
        for part in parts {
            hash.update(&(part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut id = [0; 32];
        id.copy_from_slice(hash.finish().as_ref());
        Self(id)
    }
}

impl Curve {
    fn fits(self, algorithm: Algorithm) -> bool {
        match self {
            Self::Secret => algorithm.family() == AlgorithmFamily::Hmac,
            Self::Rsa => algorithm.family() == AlgorithmFamily::Rsa,
            Self::P256 => algorithm == Algorithm::ES256,
            Self::P384 => algorithm == Algorithm::ES384,
            Self::Ed25519 => algorithm == Algorithm::EdDSA,
        }
    }
}

/// The members of a JWK that are read (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Private>,
}

/// A private part is noticed, and not kept.
struct Private;

impl<'de> Deserialize<'de> for Private {
    fn deserialize<D: serde::Deserializer<'de>>(reader: D) -> Result<Self, D::Error> {
        serde::de::IgnoredAny::deserialize(reader).map(|_| Self)
    }
}

impl Jwk {
    fn public(&self) -> Option<(Curve, DecodingKey)> {
        match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => {
                let (n, e) = (number(self.n.as_deref()?)?, number(self.e.as_deref()?)?);
                let usable =
                    (2048..=8192).contains(&bits(&n)) && is_odd(&n) && bits(&e) <= 33 && is_odd(&e) && e != [1];
                usable.then(|| (Curve::Rsa, DecodingKey::from_rsa_raw_components(&n, &e)))
            }
            ("EC", Some("P-256")) => Some((Curve::P256, self.point(32)?)),
            ("EC", Some("P-384")) => Some((Curve::P384, self.point(48)?)),
            ("OKP", Some("Ed25519")) => {
                let x = base64url(self.x.as_deref()?)?;
                let usable = x.len() == 32 && !has_small_order(&x);
                usable.then(|| (Curve::Ed25519, DecodingKey::from_ed_der(&x)))
            }
            _ => None,
        }
    }

    /// Uncompressed, both coordinates at full length (RFC 7518 §6.2.1.2). Whether it is on the curve is checked when it is
    /// used: a point that is not verifies nothing.
    fn point(&self, length: usize) -> Option<DecodingKey> {
        let (x, y) = (base64url(self.x.as_deref()?)?, base64url(self.y.as_deref()?)?);
        if x.len() != length || y.len() != length {
            return None;
        }
        let mut point = vec![4];
        point.extend_from_slice(&x);
        point.extend_from_slice(&y);
        Some(DecodingKey::from_ec_der(&point))
    }
}

/// Whether an Ed25519 key is one of the eight points that sign anything, in any spelling of them: for such a key a signature
/// can be made without knowing a secret.
fn has_small_order(key: &[u8]) -> bool {
    const HALF: [[u8; 32]; 2] = [
        [
            0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
            0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
        ],
        [
            0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
            0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
        ],
    ];
    // The highest bit is the sign of x, which does not matter.
    let mut y = key.to_vec();
    if let Some(last) = y.last_mut() {
        *last &= 0x7f;
    }
    match y.as_slice() {
        // 0 and 1.
        [0 | 1, middle @ .., 0] if middle.iter().all(|byte| *byte == 0) => true,
        // The field's p - 1, and p and p + 1, which spell 0 and 1.
        [0xec..=0xee, middle @ .., 0x7f] if middle.iter().all(|byte| *byte == 0xff) => true,
        y => HALF.iter().any(|half| half == y),
    }
}

/// A big-endian number without leading zeros, which some issuers add.
fn number(text: &str) -> Option<Vec<u8>> {
    let bytes = base64url(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.get(zeros..).map(<[u8]>::to_vec)
}

fn bits(number: &[u8]) -> usize {
    number
        .first()
        .map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn is_odd(number: &[u8]) -> bool {
    number.last().is_some_and(|last| last & 1 == 1)
}
